"""Structs keep annotations that msgspec can read, and tests have the same names in every process."""

import ast
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("actors", "events", "handlers", "projections", "tasktrail")


def sources(root: Path, *folders: str) -> Iterator[Path]:
    """Return Python files below the folders; the links inside tasktrail/ are not followed."""
    for folder in folders:
        for where, _, files in os.walk(root / folder):
            yield from (Path(where, file) for file in sorted(files) if file.endswith(".py"))


def parsed(path: Path, word: str) -> Iterator[ast.AST]:
    """Return the nodes of a file; none, without the work of parsing it, if a word is nowhere in it."""
    text = path.read_text(encoding="utf-8")
    if word in text:
        yield from ast.walk(ast.parse(text))


CLASS = re.compile(r"^ *class (\w+)\(([^)]*)", re.MULTILINE)


def structs_with_text_annotations(paths: list[Path]) -> list[str]:
    """Return files that define a Struct, directly or through a base in another file, and postpone their annotations."""
    classes = {path: CLASS.findall(path.read_text(encoding="utf-8")) for path in paths}
    bases = {
        name: {base.strip().split(".")[-1].split("[")[0] for base in above.split(",")}
        for found in classes.values()
        for name, above in found
    }
    structs = {"Struct"}
    while more := {name for name, above in bases.items() if above & structs} - structs:
        structs |= more
    return [
        str(path)
        for path, found in classes.items()
        if any(name in structs for name, _above in found)
        and any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in parsed(path, "__future__"))
    ]


def test_no_file_with_structs_postpones_its_annotations() -> None:
    assert structs_with_text_annotations(list(sources(ROOT, *ROOMS, "tests"))) == []


def test_postponed_annotations_are_found_through_a_base_in_another_file(tmp_path: Path) -> None:
    base, derived, free = tmp_path / "base.py", tmp_path / "derived.py", tmp_path / "free.py"
    base.write_text("import msgspec\nclass Base(msgspec.Struct): ...")
    derived.write_text("from __future__ import annotations\nfrom base import Base\nclass Derived(Base, tag='x'): ...")
    free.write_text("from __future__ import annotations\nclass Plain: ...")
    assert structs_with_text_annotations([base, derived, free]) == [str(derived)]


def ids_of_their_own(path: Path) -> list[str]:
    """Return parametrized tests whose names differ between processes; two that share the work then find no test."""
    return [
        f"{path}:{node.lineno}: {called}"
        for node in parsed(path, "parametrize")
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        for part in ast.walk(decorator)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
        if (called := part.func.attr) in {"getpid", "getppid", "mkdtemp", "now", "random", "time", "uuid4"}
    ]


@pytest.mark.slow
def test_a_test_has_the_same_name_in_every_process() -> None:
    assert [line for path in sources(ROOT, "tests") for line in ids_of_their_own(path)] == []


def test_a_name_that_differs_is_found(tmp_path: Path) -> None:
    source = tmp_path / "test_it.py"
    source.write_text("@pytest.mark.parametrize('line', [f'pid {os.getpid()}'])\ndef test_it(line): ...\n")
    assert ids_of_their_own(source) == [f"{source}:2: getpid"]


def clocks_of_everybody(path: Path) -> list[str]:
    """Return tests that change the whole process's time. A service that a session of tests shares would believe it."""
    return [
        f"{path}:{node.lineno}: {ast.unparse(node.args[0])}"
        for node in parsed(path, "setattr")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
        if node.args and re.match(r"['\"]?(time|datetime)\b", ast.unparse(node.args[0]))
    ]


@pytest.mark.slow
def test_no_test_gives_the_whole_process_another_time() -> None:
    assert [line for path in sources(ROOT, "tests") for line in clocks_of_everybody(path)] == []


def test_another_time_for_everybody_is_found(tmp_path: Path) -> None:
    source = tmp_path / "test_it.py"
    source.write_text(
        "def test_it(monkeypatch):\n"
        "    monkeypatch.setattr(module, 'time', fake)\n"
        "    monkeypatch.setattr(time, 'sleep', fake)\n"
        "    monkeypatch.setattr('time.monotonic', fake)\n"
    )
    assert clocks_of_everybody(source) == [f"{source}:3: time", f"{source}:4: 'time.monotonic'"]


STUMBLING = re.compile(r"\b(?:of (?:then|now)|but for|dear(?:er|est)?|of which that|as many as there may)\b")
"""Phrases that have to be read twice."""


def turns_of_phrase(path: Path) -> list[str]:
    return [
        f"{path}:{number}: {found[0]}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := STUMBLING.search(line))
    ]


def test_sentences_are_plain() -> None:
    assert [found for path in sources(ROOT, *ROOMS) for found in turns_of_phrase(path)] == []


def test_a_sentence_to_stumble_over_is_found(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text('"""The files, but for those of then."""\n')
    assert turns_of_phrase(source) == [f"{source}:1: but for"]


COUNTED = re.compile(
    r" (?:(?:more|new|older|other|sound|subtitle) )?(?:archives|attempts|chapters|characters|checkpoints|commands|"
    r"crashes|faces|files|findings|frames|keys|lines|nodes|packets|pages|parts|pictures|records|retries|seals|segments|"
    r"services|tasks|times|tracks|vertices|workers)\b"
)
NEVER_ONE = {
    "actors/supervisor.py": {"len(child.deaths)"},
    "handlers/audio/convert/source.py": {"self.good + self.bad"},
    "handlers/document/archive.py": {"len(entries)"},
    "handlers/image/convert/run.py": {"header.frames", "source.frames"},
    "handlers/model/counting.py": {"counted.faces"},
    "handlers/model/gltf.py": {"len(nodes)"},
    "handlers/model/preview/options.py": {"self.frames"},
    "handlers/process/report_limits.py": {"len(text)"},
    "handlers/video/convert/sound.py": {"len(tracks)"},
    "projections/proof/seals.py": {"len(missed)"},
    "tasktrail/batches/files.py": {"self._most"},
    "tasktrail/cli/archive.py": {"done.next_until - done.until"},
    "tasktrail/demo/story.py": {"made.frames", "source.frames"},
    "tasktrail/doctor/rules.py": {"config.workers", "facts.open_files"},
    "tasktrail/http/requests.py": {"len(raws)"},
    "tasktrail/whatif/ask.py": {"recording.peak"},
}
"""Numbers that are known from elsewhere to be more than 1."""


def always_many(path: Path, never_one: set[str]) -> list[str]:
    """Return numbers before a plural, whatever their value, except where the word is chosen by the number."""
    tree = ast.parse(path.read_bytes())
    chosen = {inner for node in ast.walk(tree) if isinstance(node, ast.IfExp) for inner in ast.walk(node)}
    return [
        f"{path}:{number.lineno}: {ast.unparse(number.value)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and node not in chosen
        for number, word in pairwise(node.values)
        if isinstance(number, ast.FormattedValue) and isinstance(word, ast.Constant) and COUNTED.match(str(word.value))
        if not (isinstance(number.value, ast.Name) and number.value.id.isupper())
        if ast.unparse(number.value) not in never_one
    ]


@pytest.mark.slow
def test_nothing_says_1_tasks() -> None:
    rooms = [(path, str(path.relative_to(ROOT))) for path in sources(ROOT, *ROOMS)]
    assert [line for path, name in rooms for line in always_many(path, NEVER_ONE.get(name, set()))] == []


def test_a_plural_that_does_not_look_at_its_number_is_found(tmp_path: Path) -> None:
    source = tmp_path / "said.py"
    source.write_text(
        "def said(n, few):\n"
        "    many = f'{n} tasks' if n > 1 else 'one'\n"
        "    return f'{MOST} files, {few} pages', f'{n:,} tasks', f'{counted(n, \"task\")} of {n} more records'\n"
    )
    assert always_many(source, {"few"}) == [f"{source}:3: n", f"{source}:3: n"]


def joinable(path: Path) -> list[str]:
    """Return EXISTS terms of their own: from 3.51 on SQLite joins them, and begins with what should be tried last.

    A list of a label took 25 times as long. `+EXISTS` is left as it is.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    return [f"{path}:{at}" for at, line in enumerate(lines, 1) if re.search(r"(WHERE|AND|ON|[\"'])\s*EXISTS \(", line)]


def test_sqlite_makes_no_join_of_what_is_to_be_tried_on_each_row() -> None:
    paths = [path for path in sources(ROOT, "events", "projections") if path.parent.name != "postgresql"]
    assert [line for path in paths for line in joinable(path)] == []


def test_an_exists_that_sqlite_may_join_is_found(tmp_path: Path) -> None:
    source = tmp_path / "asked.py"
    source.write_text(
        'term = "EXISTS (SELECT 1)"\n'
        'tried = "+EXISTS (SELECT 1)", "CASE WHEN EXISTS (SELECT 1) THEN 1 END", "WHERE NOT EXISTS (SELECT 1)"\n'
        'where = """\n  WHERE EXISTS (SELECT 1)\n"""\n'
    )
    assert joinable(source) == [f"{source}:1", f"{source}:4"]


ASKED = frozenset({"exists", "is_file", "is_dir"})


def paths_that_say_no_for_unknown(paths: list[Path]) -> list[str]:
    """Return places that ask a `Path` whether it is there; an entry of `os.scandir` raises what it does not know."""
    return [
        f"{path}:{node.lineno}"
        for path in paths
        for word in sorted(ASKED)
        for node in parsed(path, f".{word}()")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == word
        if not node.args and not node.keywords
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "entry")
    ]


def test_a_file_that_nobody_may_look_for_does_not_count_as_missing() -> None:
    """`events/existence.py` says why; Python up to 3.13 would not show it."""
    assert paths_that_say_no_for_unknown(list(sources(ROOT, *ROOMS))) == []


def test_a_path_that_is_asked_itself_is_found(tmp_path: Path) -> None:
    asks = tmp_path / "asks.py"
    asks.write_text("from pathlib import Path\nhere = Path('log.db').exists()\nfolder = here.parent.is_dir()\n")
    (tmp_path / "fine.py").write_text("import os\nfor entry in os.scandir('.'):\n    print(entry.is_dir())\n")
    assert paths_that_say_no_for_unknown([asks, tmp_path / "fine.py"]) == [f"{asks}:2", f"{asks}:3"]
