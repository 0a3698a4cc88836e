"""The files of a batch: named, below folders, or by patterns; each once, and none that the service may not look at."""

import fnmatch
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tasktrail.batches import files
from tasktrail.batches.files import HungUp, Patience, Search
from tasktrail.events.errors import InvalidPath, InvalidValue, TooCostly
from tasktrail.intake.paths import PathRules


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.jpg", "sub/c.jpg", "sub/deep/d.jpg", ".hidden/e.jpg", ".f.jpg", "out/g.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def found(*inputs: Path | str, rules: PathRules | None = None, avoid: tuple[str, ...] = ()) -> dict[str, str]:
    rules = rules or PathRules()
    return {
        Path(one.path).name: one.folder if one.error is None else f"! {one.error.message}"
        for one in Search(rules.check_looked_at, avoid=avoid, protected=rules.protected).find(list(map(str, inputs)))
    }


def test_a_folder_gives_all_below_it_in_order_and_nothing_hidden(tree: Path) -> None:
    assert found(tree) == {"a.jpg": "", "b.jpg": "", "g.jpg": "out", "c.jpg": "sub", "d.jpg": "sub/deep"}
    assert list(found(tree)) == ["a.jpg", "b.jpg", "g.jpg", "c.jpg", "d.jpg"]
    assert found(tree / ".f.jpg") == {".f.jpg": ""}, "what is named is meant"


def test_patterns(tree: Path) -> None:
    assert found(tree / "*.jpg") == {"a.jpg": "", "b.jpg": ""}
    assert found(tree / "**" / "[cd].jpg") == {"c.jpg": "sub", "d.jpg": "sub/deep"}
    assert found(tree / "*.png") == {"*.png": f"! No file fits the pattern '{tree}/*.png'"}
    (tree / "x[1].jpg").write_bytes(b"x")
    assert found(tree / "x[1].jpg") == {"x[1].jpg": ""}, "a file of that very name"


def test_brackets_of_a_folder_stand_for_themselves(tree: Path) -> None:
    for folder in ("Movie [1080p]", "sub/Movie [1080p]/cd[1]"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "m.jpg").write_bytes(b"x")
    assert found(tree / "Movie [1080p]" / "*.jpg") == {"m.jpg": ""}
    assert found(tree / "s*" / "Movie [1080p]" / "cd[1]" / "[mn].jpg") == {"m.jpg": "sub/Movie [1080p]/cd[1]"}
    assert found(tree / "Movie [[]*" / "*.jpg") == {"m.jpg": "Movie [1080p]"}


def test_what_systems_keep_for_themselves_is_found_only_if_it_is_named(tree: Path) -> None:
    odd = ("Thumbs.db", "Desktop.ini", "~$report.docx", "@eaDir/a.jpg/SYNO.jpg", ".DS_Store")
    for name in odd:
        (tree / "sub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "sub" / name).write_bytes(b"x")
    assert set(found(tree, tree / "sub" / "*")) == {"a.jpg", "b.jpg", "c.jpg", "d.jpg", "g.jpg"}
    named = [tree / "sub" / name for name in odd[:2]]
    assert found(*named, tree / "s*" / "~$*.docx", tree / "**" / "@eaDir" / "*" / "*.jpg") == {
        "Thumbs.db": "",
        "Desktop.ini": "",
        "~$report.docx": "sub",
        "SYNO.jpg": "sub/@eaDir/a.jpg",
    }


def test_each_file_comes_once(tree: Path) -> None:
    assert list(found(tree / "b.jpg", tree, tree / "*.jpg"))[:2] == ["b.jpg", "a.jpg"]


def test_the_folder_of_the_outputs_is_left_out_where_it_is_inside(tree: Path) -> None:
    assert "g.jpg" not in found(tree, avoid=(str(tree / "out"),))
    assert found(tree / "out", avoid=(str(tree / "out"),)) == {"g.jpg": ""}, "unless it is itself named"


def test_what_is_not_there_is_told(tree: Path) -> None:
    assert found(tree / "none.jpg") == {"none.jpg": f"! '{tree}/none.jpg' cannot be read: No such file or directory"}
    assert "contains `..`" in found(f"{tree}/../in/a.jpg")["a.jpg"]


def test_a_name_that_is_no_text_is_refused_alone(tree: Path) -> None:
    name = os.fsdecode(b"gr\xfcn.jpg")
    (tree / name).write_bytes(b"x")
    (tree / os.fsdecode(b"\xe9")).mkdir()
    (tree / os.fsdecode(b"\xe9") / "z.jpg").write_bytes(b"x")
    told = {one.path: one.error and one.error.message for one in Search(lambda _: None).find([str(tree)])}
    msgspec.json.encode(told)
    assert str(told.pop(f"{tree}/gr\\xfcn.jpg")).endswith("has a name that is not UTF-8")
    assert str(told.pop(f"{tree}/\\xe9/z.jpg")).endswith("not UTF-8")
    assert set(told.values()) == {None}


def test_nobody_learns_what_is_outside_of_the_roots(tree: Path, tmp_path: Path) -> None:
    rules = PathRules([tree])
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tree / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tree / "way").symlink_to(tmp_path)
    assert "outside of input_roots" in found(tmp_path, rules=rules)[tmp_path.name]
    assert "outside of input_roots" in found(tmp_path / "*.jpg", rules=rules)["*.jpg"]
    listed = found(tree, tree / "way" / "*.jpg", rules=rules)
    assert "outside of input_roots" in listed.pop("link.jpg")
    assert "secret.jpg" not in listed


def test_the_data_folder_is_no_input(tree: Path) -> None:
    rules = PathRules(protected=[os.path.realpath(tree / "sub")])
    assert {"c.jpg", "d.jpg"}.isdisjoint(found(tree, rules=rules))
    assert {"c.jpg", "d.jpg"}.isdisjoint(found(tree / "**" / "*.jpg", rules=rules))


def test_too_many_are_refused_as_a_whole(tree: Path) -> None:
    with pytest.raises(InvalidValue, match="more than 2 files"):
        Search(PathRules().check_looked_at, most=2).find([str(tree)])


def test_a_folder_that_may_not_be_read_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refused)
    assert found(tree) == {"in": f"! '{tree}' cannot be read: Permission denied"}


def test_a_broken_link_is_told(tree: Path) -> None:
    (tree / "gone.jpg").symlink_to(tree / "nowhere")
    assert found(tree)["gone.jpg"] == ""  # the probe finds that out
    with pytest.raises(InvalidPath):
        PathRules().check_looked_at("relative")


def test_no_link_to_a_folder_is_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "topsecret.jpg").write_bytes(b"x")
    (tree / "link").symlink_to(tmp_path / "secret")
    (tree / "round").symlink_to(tree)
    (tree / "about").symlink_to(tree)
    rules = PathRules([tree])
    for pattern in ("l*/*", "**/*.jpg", "*/**", "**/**/**/*.jpg"):
        assert not any("topsecret" in name for name in found(tree / pattern, rules=rules)), pattern
    assert set(found(tree / "**" / "*.jpg")) == {"a.jpg", "b.jpg", "c.jpg", "d.jpg", "g.jpg"}


def test_patterns_that_would_take_for_ever_are_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValue, match="more than 2"):
        found(tree / "**" / "x" / "**" / "y" / "**" / "*.jpg")
    monkeypatch.setattr(files, "MOST_LOOKED_AT", 5)
    with pytest.raises(InvalidValue, match="to look at"):
        found(tree)


def test_a_nul_asks_for_nothing(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "topsecret.jpg").write_bytes(b"x")
    assert "NUL" in str(found(f"{tmp_path}/secret/[!\0]*", rules=PathRules([tree])))


def test_folders_that_begin_with_a_dot_keep_it(tree: Path) -> None:
    assert found(tree / ".*" / "*.jpg") == {"e.jpg": ".hidden"}


def test_a_link_to_where_nobody_may_look_is_one_file_more(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a.lnk").symlink_to(tree / "a.jpg")
    real = os.scandir

    class Closed:
        """An entry whose target cannot be inspected."""

        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def is_dir(self, *, follow_symlinks: bool = True) -> bool:
            if follow_symlinks and self._entry.is_symlink():
                raise PermissionError(13, "Permission denied", self.path)
            return self._entry.is_dir(follow_symlinks=follow_symlinks)

        def is_symlink(self) -> bool:
            return self._entry.is_symlink()

    @contextmanager
    def scan(folder: str) -> Iterator[list[Closed]]:
        with real(folder) as entries:
            yield [Closed(entry) for entry in entries]

    monkeypatch.setattr("tasktrail.batches.files.os.scandir", scan)
    assert "a.lnk" in found(tree)


def test_who_waits_has_his_files_within_some_seconds(tree: Path) -> None:
    ticks = itertools.count()
    patience = Patience(3.0, clock=lambda: float(next(ticks)))
    with pytest.raises(TooCostly, match="within 3 s") as told:
        Search(lambda _: None, stopped=patience.begin()).find([str(tree / "**" / "*.none")])
    assert (told.value.code, told.value.field) == ("too_costly", "inputs")
    assert "Narrow the pattern" in told.value.advice
    assert next(ticks) == 5, "it ended at the first look that was too late"
    assert Search(lambda _: None, stopped=Patience(clock=lambda: float(next(ticks))).begin()).find([str(tree)])


def test_a_large_folder_is_left_when_nobody_waits_any_more(tmp_path: Path) -> None:
    for number in range(3 * files._LOOK_EVERY):
        (tmp_path / f"{number}").touch()
    looks = itertools.count()
    search = Search(lambda _: None, stopped=Patience(hung_up=lambda: next(looks) == 3).begin())
    with pytest.raises(HungUp):
        search.find([str(tmp_path)])
    assert next(looks) == 4


def test_each_file_that_is_named_is_a_step(tree: Path) -> None:
    looks = itertools.count()
    search = Search(lambda _: None, stopped=Patience(hung_up=lambda: next(looks) == 2).begin())
    with pytest.raises(HungUp):
        search.find([str(tree / f"{number}") for number in range(1_000)])
    assert next(looks) == 3


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("*" + "a" * 255, "more than 255 bytes"),
        ("é" * 128 + "*", "more than 255 bytes"),
        ("*a" * 21, "more than 20 of"),
    ],
)
def test_a_pattern_that_takes_long_to_compare_is_refused(tree: Path, part: str, said: str) -> None:
    for pattern in (tree / part, tree / part / "*.jpg", tree / "**" / part):
        with pytest.raises(InvalidValue, match=said) as told:
            found(pattern)
        assert (told.value.status, told.value.field) == (413, "inputs")
    assert "No file fits" in str(found(tree / ("*a" * 20)))
    assert "No file fits" in str(found(tree / ("*" + "a" * 254)))


def test_a_search_has_few_patterns_and_many_names(tree: Path) -> None:
    names = [tree / f"x[{number}].jpg" for number in range(101)]
    for name in names:
        name.touch()
    patterns = [tree / f"*{number}.none" for number in range(101)]
    assert len(found(*names, *patterns[:100])) == 201
    with pytest.raises(InvalidValue, match="more than 100 patterns"):
        found(*patterns)


def test_a_pattern_is_compiled_once_and_kept_nowhere(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def note(part: str) -> str:
        compiled.append(part)
        return fnmatch.translate(part)

    monkeypatch.setattr(files, "translate", note)
    before = fnmatch._compile_pattern.cache_info().currsize  # type: ignore[attr-defined]  # what must not grow
    assert set(found(tree / "**" / "[cd].jp?")) == {"c.jpg", "d.jpg"}
    assert compiled == ["[cd].jp?"]
    assert fnmatch._compile_pattern.cache_info().currsize == before  # type: ignore[attr-defined]
