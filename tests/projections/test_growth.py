"""A proof of growth shows that a log has kept everything that an earlier seal had seen, or it shows nothing."""

import json
import runpy
import shutil
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st
from sealed_logs import Sealed, chained_anew

from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.errors import SealUnfit
from tasktrail.projections.proof.merkle import Tree, leaf_hash
from tasktrail.projections.proof.notes import LogCheckpoint, PrivateKey
from tasktrail.projections.proof.trees import Trees

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))
try:
    CHECKER = runpy.run_path(str(EXAMPLES / "check_growth.py"))
finally:
    sys.path.remove(str(EXAMPLES))
NAMED = "tasktrail/0123456789ab"
KEY = PrivateKey.made(NAMED)


def told(growth: Any, kept: str, key: str) -> Any:
    """Return what the checker finds proven, or nothing."""
    try:
        return CHECKER["check"](growth, kept, key)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None


def note(size: int, root: bytes) -> str:
    return KEY.signed(LogCheckpoint(NAMED, size, root, 1, bytes(32), "2026-01-31T12:00:00Z"))


def proven(old: int, old_root: bytes, size: int, root: bytes, path: list[bytes]) -> bool:
    try:
        CHECKER["need_growth"](old, old_root, size, root, path)
    except (IndexError, ValueError):
        return False
    return True


# --- the tree ---


def test_every_size_up_to_40_is_shown_to_be_the_beginning_of_every_larger_one() -> None:
    tree = Tree(leaf_hash(b"%d" % number) for number in range(40))
    for size in range(1, 41):
        assert tree.consistency(0, size) == []
        for old in range(1, size + 1):
            assert proven(old, tree.root(old), size, tree.root(size), tree.consistency(old, size))
    for old, size in ((-1, 5), (6, 5), (1, 41)):
        with pytest.raises(IndexError):
            tree.consistency(old, size)


@given(st.data())
def test_no_other_path_and_no_other_root_is_taken(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 300))
    old = data.draw(st.integers(1, size - 1))
    tree = Tree(leaf_hash(b"%d" % number) for number in range(size))
    old_root, root, path = tree.root(old), tree.root(), tree.consistency(old)
    assert proven(old, old_root, size, root, path)
    place = data.draw(st.integers(0, len(path) - 1))
    for wrong in (path[:place] + path[place + 1 :], [*path[:place], path[place], *path[place:]], path[::-1], []):
        assert wrong == path or not proven(old, old_root, size, root, wrong)
    assert not proven(old, old_root, size, root, [*path[:place], leaf_hash(path[place]), *path[place + 1 :]])
    tree.put(data.draw(st.integers(0, old - 1)), leaf_hash(b"another"))
    assert not proven(old, old_root, size, tree.root(), tree.consistency(old))


# --- a log ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    house = Sealed(tmp_path_factory.mktemp("grown"))
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    sizes = []
    for seed in range(4):
        random_history(journal, 30, seed=seed)
        sizes.append(house.seal(seed).size)
    log.close()
    return house.path.parent, sizes


@pytest.fixture
def grown(made: tuple[Path, list[int]], tmp_path: Path) -> Sealed:
    """A copy that a test may damage."""
    return Sealed(Path(shutil.copytree(made[0], tmp_path / "copy")))


def test_each_seal_has_grown_out_of_those_before_it(grown: Sealed, made: tuple[Path, list[int]]) -> None:
    _, sizes = made
    for place, old in enumerate(sizes):
        kept = (grown.seals / f"{old}.note").read_text()
        assert told(grown.growth(old), kept, grown.key)[1][1] == sizes[-1]
        for new in sizes[place:]:
            growth = grown.growth(grown.seals / f"{old}.note", grown.seals / f"{new}.note")
            assert growth == grown.growth(old, new)
            found = told(growth, kept, grown.key)
            assert [seal[1] for seal in found] == [old, new]
            for other in sizes:
                if other != old:
                    assert told(growth, (grown.seals / f"{other}.note").read_text(), grown.key) is None


def test_a_proof_of_growth_is_written_in_one_way_only(grown: Sealed, made: tuple[Path, list[int]]) -> None:
    size = made[1][-1]
    growth, kept = grown.growth(size), (grown.seals / f"{size}.note").read_text()
    assert growth["path"] == []
    assert told(growth, kept, grown.key)
    for forged in ({"path": ""}, {"old": float(size)}):
        assert told(growth | forged, kept, grown.key) is None, forged


def test_a_log_that_was_changed_has_not_grown_out_of_its_seals(grown: Sealed, made: tuple[Path, list[int]]) -> None:
    _, sizes = made
    kept = grown.seals / f"{sizes[0]}.note"
    aside = shutil.move(kept, grown.path.parent / "kept.note")
    chained_anew(grown.path, lambda rows: rows[3].__setitem__(COLUMNS.index("reason"), "another"))
    with pytest.raises(SealUnfit, match="The log is not as"):
        grown.growth(Path(aside))
    for file in grown.seals.glob("*.note"):
        file.unlink()
    grown.seal()  # as an insider with the key does
    with pytest.raises(SealUnfit, match=r"kept\.note says"):
        grown.growth(Path(aside))
    newest = grown.seal().size
    growth = grown.growth(newest) | {"old": sizes[0]}
    assert told(growth, Path(aside).read_text(), grown.key) is None


def test_a_seal_that_is_not_there_or_the_wrong_way_round_is_told(grown: Sealed, made: tuple[Path, list[int]]) -> None:
    _, sizes = made
    with pytest.raises(SealUnfit, match="no seal of 1 record") as found:
        grown.growth(1)
    assert str(sizes[0]) in found.value.advice
    with pytest.raises(SealUnfit, match="cannot be read"):
        grown.growth(grown.seals / "1.note")
    with pytest.raises(SealUnfit, match="only"):
        grown.growth(sizes[1], sizes[0])
    for file in grown.seals.glob("*.note"):
        file.unlink()
    with pytest.raises(SealUnfit, match="no seal of 1 record"):
        grown.growth(1)


def test_seals_of_two_logs_prove_nothing(grown: Sealed, made: tuple[Path, list[int]]) -> None:
    _, sizes = made
    growth = grown.growth(sizes[0])
    assert told(growth, note(sizes[0], bytes(32)), grown.key) is None
    assert told(growth, (grown.seals / f"{sizes[0]}.note").read_text(), KEY.public.text) is None
    same_key = PrivateKey((grown.key_file).read_text())
    said = same_key.public.opened((grown.seals / f"{sizes[0]}.note").read_text())
    renamed = same_key.signed(said._replace(origin="tasktrail/another"))
    assert told(growth, renamed, grown.key) is None


def test_the_program_for_auditors_prints_what_is_proven(
    grown: Sealed,
    made: tuple[Path, list[int]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    _, sizes = made
    file = tmp_path / "growth.json"
    file.write_text(json.dumps(grown.growth(sizes[1])))
    for kept, code in ((sizes[1], 0), (sizes[0], 4)):
        monkeypatch.setattr("sys.argv", ["check_growth.py", str(file), str(grown.seals / f"{kept}.note"), grown.key])
        assert CHECKER["main"]() == code
    said = capsys.readouterr()
    assert f"proven: the {sizes[1]} records of " in said.out
    assert "NOT PROVEN" in said.err
    assert f"it begins with a seal of {sizes[1]} records, and that of {sizes[0]} was named" in said.err
    changed = tmp_path / "changed.note"
    changed.write_bytes((grown.seals / f"{sizes[1]}.note").read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr("sys.argv", ["check_growth.py", str(file), str(changed), grown.key])
    assert CHECKER["main"]() == 4
    for added in ('"old": 1, "old"', '"said": "approved", "old"'):
        file.write_text(json.dumps(grown.growth(sizes[1])).replace('"old"', added, 1))
        monkeypatch.setattr(
            "sys.argv", ["check_growth.py", str(file), str(grown.seals / f"{sizes[1]}.note"), grown.key]
        )
        assert CHECKER["main"]() == 4
    lines = [(EXAMPLES / name).read_text().splitlines() for name in ("check_proof.py", "check_growth.py")]
    assert sum(map(len, lines)) <= 220, "an auditor reads both"


def test_the_program_for_auditors_reads_no_file_without_end(
    grown: Sealed,
    made: tuple[Path, list[int]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "growth.json"
    file.write_text(json.dumps(grown.growth(made[1][0])))
    for growth, kept in (("/dev/zero", str(grown.seals / f"{made[1][0]}.note")), (str(file), "/dev/zero")):
        monkeypatch.setattr("sys.argv", ["check_growth.py", growth, kept, grown.key])
        assert CHECKER["main"]() == 4
        assert "NOT PROVEN" in capsys.readouterr().err


# --- an implementation that was not written here ---


@pytest.mark.skipif(sys.version_info < (3, 12), reason="aics-tlog is for Python 3.12 and newer")
def test_seals_and_proofs_of_1000_sizes_open_with_another_implementation(tmp_path: Path) -> None:
    tlog = import_module("aics_tlog")
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    random_history(Journal(log), 3000, seed=5)
    log.close()
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        rows = list(reader.hashes())
    chance = Random(7)
    sizes = sorted(chance.sample(range(1, len(rows) + 1), 1000))
    vkey = tlog.parse_vkey(KEY.public.text)
    records = Tree(leaf_hash(digest) for *_, digest in rows)
    trees = Trees()
    for size in sizes:
        for row in rows[trees.records.size : size]:
            trees.apply(*row)
        root, tasks_root = trees.records.root(), trees.tasks.root()
        seal = KEY.signed(LogCheckpoint(NAMED, size, root, trees.tasks.size, tasks_root, "2026-01-31T12:00:00Z"))
        note = tlog.parse_note(seal)
        assert tlog.verify_note(note, [vkey])
        opened = tlog.parse_checkpoint(note.text)
        assert (opened.origin, opened.size, opened.root) == (NAMED, size, root)
        index = chance.randrange(size)
        assert tlog.verify_leaf_inclusion(rows[index][3], index, size, records.inclusion(index, size), root)
        task = chance.randrange(trees.tasks.size)
        last = max(row for row in rows[:size] if row[1] == task + 1)
        leaf = f"{task + 1} {last[2]} {last[3].hex()}".encode()
        path = trees.tasks.inclusion(task)
        assert tlog.verify_leaf_inclusion(leaf, task, trees.tasks.size, path, tasks_root)
        old = chance.randint(0, size)
        path = records.consistency(old, size)
        assert tlog.verify_consistency(old, size, records.root(old), root, path)
        assert old in (0, size) or not tlog.verify_consistency(old, size, root, root, path)
