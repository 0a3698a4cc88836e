"""Sealed records cannot be changed unnoticed, and a proof shows the whole history of a task or nothing."""

import json
import os
import random
import runpy
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from archiving import archive
from forgery import forging
from histories import BEGIN, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st
from sealed_logs import Sealed, chained_anew

from tasktrail.events.errors import LogCorrupt, UnknownTask
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.task_events import Cancelled, Created
from tasktrail.projections.errors import NotAsSealed, SealUnfit
from tasktrail.projections.proof.bundle import prove
from tasktrail.projections.proof.merkle import EMPTY, GrowingRoot, Tree, leaf_hash, node_hash
from tasktrail.projections.proof.notes import LogCheckpoint, PrivateKey, PublicKey
from tasktrail.projections.proof.seals import SealCheck, make_seal, public_key, read_key, read_seal

CHECKER = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "check_proof.py"))
"""The program for auditors: it shares no line with the code that it checks."""


# --- the tree ---


def root_by_definition(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY
    middle = 1
    while 2 * middle < len(leaves):
        middle *= 2
    return node_hash(root_by_definition(leaves[:middle]), root_by_definition(leaves[middle:]))


@given(st.lists(st.binary(max_size=3), max_size=40), st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=3))))
def test_a_root_is_that_of_the_definition_whatever_is_added_and_changed(
    first: list[bytes], puts: list[tuple[int, bytes]]
) -> None:
    leaves = [leaf_hash(content) for content in first]
    tree = Tree(leaves)
    assert tree.root() == root_by_definition(leaves)
    for place, content in puts:
        place = min(place, len(leaves))  # noqa: PLW2901 - the next one, where there is none
        leaves[place : place + 1] = [leaf_hash(content)]
        tree.put(place, leaves[place])
        if place % 3:
            assert tree.root() == root_by_definition(leaves)
    growing = GrowingRoot()
    for number, leaf in enumerate(leaves):
        assert growing.root() == root_by_definition(leaves[:number]) == tree.root(number)
        growing.append(leaf)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33, 100])
def test_what_proves_that_a_leaf_is_in_it_proves_nothing_of_another(size: int) -> None:
    contents = [b"%d" % number for number in range(size)]
    tree = Tree(leaf_hash(content) for content in contents)
    root_of: Callable[..., bytes] = CHECKER["root_of"]
    for index, content in enumerate(contents):
        path = tree.inclusion(index)
        assert root_of(content, index, size, path) == tree.root()
        assert size == 1 or root_of(b"other", index, size, path) != tree.root()
        for wrong in (path[:-1], [*path, path[-1] if path else EMPTY]) if size > 1 else ([EMPTY],):
            with pytest.raises(ValueError, match="too"):
                root_of(content, index, size, wrong)
    with pytest.raises(IndexError):
        tree.inclusion(size)
    with pytest.raises(IndexError):
        tree.put(size + 1, EMPTY)


# --- the note ---

NAMED = "tasktrail/0123456789ab"
SAID = LogCheckpoint(NAMED, 9, sha256(b"a").digest(), 3, sha256(b"b").digest(), "2026-01-31T12:00:00Z")


def test_a_note_opens_with_its_key_and_says_what_was_signed() -> None:
    key = PrivateKey.made(NAMED)
    note = key.signed(SAID)
    assert PublicKey(key.public.text).opened(note) == SAID
    assert CHECKER["opened"](note, key.public.text) == SAID
    assert PrivateKey(key.text + "\n").public.text == key.public.text
    with pytest.raises(SealUnfit, match="no signature of the key"):
        PrivateKey.made(NAMED).public.opened(note)
    for changed in (note.replace("\n9\n", "\n10\n"), note.replace("tasks 3", "tasks 2"), note.replace("12:", "13:")):
        with pytest.raises(SealUnfit, match="does not match this text"):
            key.public.opened(changed)
    cosigned = note + "— witness.example/1 AAAAAGZvcmVpZ24=\n"
    assert key.public.opened(cosigned) == CHECKER["opened"](cosigned, key.public.text) == SAID, "others may sign, too"


@pytest.mark.parametrize("origin", ["tasktrail/ba9876543210", f"{NAMED}\x1b[1A", f"{NAMED}\u202e"])
def test_a_key_seals_no_log_but_the_one_that_it_is_named_after(origin: str) -> None:
    """Witnesses know a log by this name: under another one they would sign another history, too."""
    key = PrivateKey.made(NAMED)
    note = key.signed(SAID._replace(origin=origin))
    with pytest.raises(SealUnfit, match="seal of another log"):
        key.public.opened(note)
    with pytest.raises(ValueError, match="seal of another log"):
        CHECKER["opened"](note, key.public.text)


@pytest.mark.parametrize("behind", ["", "— witness.example/1 AAAAAGZvcmVpZ24=\n"])
def test_a_note_is_written_in_one_way_only(behind: str) -> None:
    """Other verifiers of such notes require it, and a comparison of bytes then finds every difference."""
    key = PrivateKey.made(NAMED)
    note = key.signed(SAID) + behind
    begin = note.index("— ")
    lines = note[begin:].splitlines(keepends=True)
    own = lines[0].rstrip("=\n")
    others = {
        note[:-1],
        f"{note}\n",
        f"{note} ",
        f"{note}nobody",
        f"{note}nobody\n",
        f"{note}— \n",
        f"{note}— witness.example/1\n",
        f"{note}— witness.example/1 \n",
        f"{note}— witness.example/1 AAA\n",
        f"{note}— witness.example/1 AAAAAB==\n",
        f"{note}— witness.example/1 AAAA\n",
        f"{note[:begin]} {note[begin:]}",
        f"{note[:begin]}-{note[begin + 1 :]}",
        f"{note[:begin]}{lines[0][:-1]} \n{behind}",
        f"{note[:begin]}{own}\n{behind}",
        f"{note[:begin]}{own[:-1]}{chr(ord(own[-1]) + 1)}=\n{behind}",  # the bits that stand for nothing
        note.replace("\n", "\r\n"),
        f"{note[:-1]}\r\n",
        f"{note[:-1]}\u2028",
    }
    for other in others:
        with pytest.raises(SealUnfit):
            key.public.opened(other)
        with pytest.raises(ValueError):  # noqa: PT011 - whatever its words are, it says NOT PROVEN
            CHECKER["opened"](other, key.public.text)


GO_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"


def test_a_note_that_go_has_signed_is_read() -> None:
    """The example in the documentation of golang.org/x/mod/sumdb/note."""
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert PrivateKey(f"PRIVATE+KEY+PeterNeumann+c74f20a3+{GO_PRIVATE}").public.text == key
    note = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    with pytest.raises(SealUnfit, match="signed, but it is no seal"):
        PublicKey(key).opened(note)
    with pytest.raises(SealUnfit, match="does not match this text"):
        PublicKey(key).opened(note.replace("answer", "Answer"))
    with pytest.raises(AttributeError, match="groups"):  # it is signed; it is no seal
        CHECKER["opened"](note, key)


@pytest.mark.parametrize("text", ["", "a", "a+b", "a+b+c", "a+é+=", f"PeterNeumann+c74f20a4+{GO_PRIVATE[:-1]}"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(SealUnfit):
        PublicKey(text)
    with pytest.raises(SealUnfit):
        PrivateKey(f"PRIVATE+KEY+{text}")


# --- seals of a log ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], int]:
    """Seals after some hundred records each, and a few records after the last."""
    house = Sealed(tmp_path_factory.mktemp("sealed"))
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    sizes = []
    for seed in range(4):
        random_history(journal, 70, seed=seed)
        sizes.append(house.seal(seed).size)
    random_history(journal, 20, seed=9)
    log.close()
    return house.path.parent, sizes, len(journal.records)


@pytest.fixture
def sealed(made: tuple[Path, list[int], int], tmp_path: Path) -> Sealed:
    """A copy that a test may damage."""
    return Sealed(Path(shutil.copytree(made[0], tmp_path / "copy")))


def test_a_log_is_as_all_its_seals_say(sealed: Sealed, made: tuple[Path, list[int], int]) -> None:
    found = sealed.checked()
    assert (found.ok, found.sealed) == (True, made[1][-1])
    again = sealed.seal(50)
    assert again.size == made[2]
    assert sealed.seal(60) == again, "what is sealed up to its end is not sealed again"
    assert sealed.checked().sealed == again.size
    assert (sealed.key_file.stat().st_mode & 0o777, sealed.seals.stat().st_mode & 0o777) == (0o600, 0o700)


def test_several_who_seal_at_once_make_one_key_and_one_seal(sealed: Sealed, made: tuple[Path, list[int], int]) -> None:
    shutil.rmtree(sealed.seals)
    sealed.key_file.unlink()
    sealers = 8
    together = threading.Barrier(sealers)

    def seal(minutes: int) -> LogCheckpoint:
        together.wait()
        return sealed.seal(minutes)

    with ThreadPoolExecutor(sealers) as pool:
        signed = set(pool.map(seal, range(sealers)))
    assert [checkpoint.size for checkpoint in signed] == [made[2]]
    assert sorted(path.name for path in sealed.seals.iterdir()) == [f"{made[2]}.note", "key"]
    assert not list(sealed.path.parent.glob(".*.part"))
    found = sealed.checked()
    assert (found.ok, found.sealed) == (True, made[2])


@pytest.mark.parametrize("place", ["in the first part", "in the third part"])
@pytest.mark.parametrize("what", ["a reason", "a record removed", "a task's records removed"])
def test_whoever_makes_the_whole_chain_anew_is_found_by_the_seals(
    what: str, place: str, sealed: Sealed, made: tuple[Path, list[int], int]
) -> None:
    sizes = [0, *made[1]]
    part = 0 if "first" in place else 2
    at = sizes[part] + 20

    def change(rows: list[list[Any]]) -> None:
        if what == "a reason":
            rows[at - 1][COLUMNS.index("reason")] = "another"
        elif what == "a record removed":
            del rows[at - 1]
        else:
            gone = rows[at - 1][1]
            rows[:] = [row for row in rows if row[1] != gone or row[0] < at]

    chained_anew(sealed.path, change)
    found = [one for one in sealed.checked().findings if one.code == "seal"]
    assert len(found) == 4 - part
    assert {one.position for one in found} == {sizes[part] + 1}
    with pytest.raises(SealUnfit):
        sealed.seal()


def test_a_tail_that_is_cut_and_an_older_copy_are_found(sealed: Sealed, made: tuple[Path, list[int], int]) -> None:
    _, sizes, _ = made
    chained_anew(sealed.path, lambda rows: rows.__delitem__(slice(sizes[2], None)))
    found = [one for one in sealed.checked().findings if one.code == "seal"]
    assert [one.position for one in found] == [sizes[2] + 1]
    assert f"the log ends at {sizes[2]}, and the seal of" in found[0].message
    with pytest.raises(NotAsSealed, match="is not sealed again") as refused:
        sealed.seal()
    assert f"`tasktrail verify --seals {sealed.seals}`" in refused.value.advice


def test_a_log_that_was_rewritten_and_is_shorter_is_told_from_where_it_may_differ(
    sealed: Sealed, made: tuple[Path, list[int], int]
) -> None:
    """The place where it ends says nothing about earlier records."""
    _, sizes, _ = made

    def change(rows: list[list[Any]]) -> None:
        rows[sizes[0]][COLUMNS.index("reason")] = "another"
        del rows[sizes[1] - 2 :]

    chained_anew(sealed.path, change)
    found = [one for one in sealed.checked().findings if one.code == "seal"]
    assert {one.position for one in found} == {sizes[0] + 1}
    assert f"the log ends at {sizes[1] - 2}, and the seal of" in found[0].message


def test_seals_that_were_changed_or_made_with_another_key_are_told(
    sealed: Sealed, made: tuple[Path, list[int], int]
) -> None:
    _, sizes, _ = made
    first, second, *_ = (sealed.seals / f"{size}.note" for size in sizes)
    first.write_text(first.read_text().replace("12:00", "12:59"))
    other = PrivateKey.made(public_key(sealed.seals).name)
    second.write_text(other.signed(public_key(sealed.seals).opened(second.read_text())))
    found = sealed.checked()
    assert sorted(one.message.split(": ")[1].split(" ")[1] for one in found.findings) == ["note", "signature"]
    (sealed.seals / "key").write_text("nonsense")
    with pytest.raises(SealUnfit):
        sealed.checked()


def test_a_seal_whose_line_ends_were_changed_is_told(sealed: Sealed, made: tuple[Path, list[int], int]) -> None:
    path = sealed.seals / f"{made[1][0]}.note"
    note = path.read_bytes()
    for place in (place for place, byte in enumerate(note) if byte == ord("\n")):
        path.write_bytes(note[:place] + b"\r" + note[place:])
        (found,) = sealed.checked().findings
        assert (found.code, "ends of its lines" in found.message) == ("seal", True)


def test_an_older_seal_under_a_newer_number_is_not_taken_for_the_newest(
    sealed: Sealed, made: tuple[Path, list[int], int]
) -> None:
    """Otherwise the log could be changed after the older seal, and be sealed and proven all the same."""
    _, sizes, end = made
    older = sealed.seals / f"{sizes[0]}.note"
    for number in (sizes[-1], end, end + 50):
        false = sealed.seals / f"{number}.note"
        before = false.read_bytes() if false.exists() else None
        shutil.copy(older, false)
        (found,) = sealed.checked().findings
        what = f"{false} is the seal of {sizes[0]} records, not of {number}"
        assert (found.position, found.code, found.message) == (0, "seal", what)
        assert "copy that was kept elsewhere" in found.remedy
        for ask in (lambda: sealed.proof(1), sealed.seal, lambda: sealed.growth(older, number)):  # noqa: B023 - at once
            with pytest.raises(SealUnfit, match=f"not of {number}") as refused:
                ask()
            assert "copy that was kept elsewhere" in refused.value.advice
        if before is None:
            false.unlink()
        else:
            false.write_bytes(before)
    assert sealed.checked().ok


def test_a_copy_of_a_seal_whose_name_is_no_number_is_compared_and_never_the_newest(
    sealed: Sealed, made: tuple[Path, list[int], int]
) -> None:
    """A witness's copy has such a name."""
    _, sizes, _ = made
    shutil.copy(sealed.seals / f"{sizes[0]}.note", sealed.seals / "checkpoint-of-the-witness.note")
    assert sealed.checked().ok
    with closing(SqliteLogReader(sealed.path)) as log:
        assert prove(log, sealed.seals, 1).seal == (sealed.seals / f"{sizes[-1]}.note").read_text()


def test_a_file_that_holds_no_key_is_named(sealed: Sealed) -> None:
    (sealed.seals / "key").write_text("nonsense")
    with pytest.raises(SealUnfit, match=str(sealed.seals / "key")):
        sealed.checked()
    sealed.key_file.write_text("nonsense")
    with pytest.raises(SealUnfit, match=r"seal-key of the data folder"):
        sealed.seal()


def test_a_file_in_the_place_of_the_seals_is_told_with_what_to_do(sealed: Sealed) -> None:
    shutil.rmtree(sealed.seals)
    sealed.seals.write_text("")
    for ask in (sealed.seal, lambda: sealed.proof(1)):
        with pytest.raises(SealUnfit, match=str(sealed.seals)) as refused:
            ask()
        assert "`seals_dir`" in refused.value.advice
    assert sealed.seals.read_text() == ""


def test_a_folder_without_any_seal_shows_nothing(sealed: Sealed) -> None:
    """A folder that does not exist yet, or no longer exists, must not look like a log that fits its seals."""
    for seal in sealed.seals.glob("*.note"):
        seal.unlink()
    found = sealed.checked()
    (one,) = found.findings
    assert (one.position, one.code, one.message) == (0, "seal", f"there is no seal in {sealed.seals}")
    assert (found.ok, found.sealed) == (False, 0)


def test_a_record_that_is_damaged_takes_the_seals_behind_it_with_it(sealed: Sealed) -> None:
    with forging(sealed.path) as conn:
        conn.execute("DELETE FROM events WHERE position = 5")
    found = sealed.checked()
    (one,) = (one for one in found.findings if one.code == "seal")
    assert (one.position, found.sealed) == (1, 0)
    assert one.message.startswith("the 4 seals of ")
    assert one.message.endswith("at 5; no seal shows that those at 1 to 4 are unchanged")
    assert "gap" in {one.code for one in found.findings}


def test_a_record_that_was_changed_is_not_as_it_was_sealed_though_all_hashes_are(
    sealed: Sealed, made: tuple[Path, list[int], int]
) -> None:
    at = made[1][0] + 20
    with forging(sealed.path) as conn:
        conn.execute("UPDATE events SET actor = 'carl' WHERE position = ?", (at,))
    found = sealed.checked()
    assert [(one.position, one.code) for one in found.findings] == [(at, "chain")]
    assert found.sealed == at - 1


@pytest.mark.parametrize(
    "row", [(1, 1, 1, None), (1, "x", 1, b""), (1, 1, 1, "x"), (None, 1, 1, b""), (1, 10**30, 1, b"")]
)
def test_a_row_may_hold_anything_and_is_no_record_then(sealed: Sealed, row: Any) -> None:
    check = SealCheck(sealed.seals, public_key(sealed.seals))
    check.see(*row)
    (fault,) = check.faults(10**6)
    assert fault.position == 1


def test_a_log_with_a_damaged_hash_is_neither_sealed_nor_proven(sealed: Sealed) -> None:
    with forging(sealed.path) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'events'")
    with forging(sealed.path) as conn:
        conn.execute("UPDATE events SET hash = 'text' WHERE position = 3")
    (newest, *_) = (path.stem for path in sealed.seals.glob("*.note"))
    for attempt in (sealed.seal, lambda: sealed.proof(1), lambda: sealed.growth(int(newest))):
        with pytest.raises(LogCorrupt, match="Position 3"):
            attempt()


def test_a_record_that_does_not_match_its_hash_is_not_given_out_as_proven(sealed: Sealed) -> None:
    """All hashes are those that were sealed; anyone who checks the proof would find it false."""
    with forging(sealed.path) as conn:
        conn.execute("UPDATE events SET actor = 'carl' WHERE position = 2")
        ((task_id,),) = conn.execute("SELECT task_id FROM events WHERE position = 2")
    with pytest.raises(NotAsSealed, match="Position 2"):
        sealed.proof(task_id)


def test_a_history_whose_end_is_not_found_is_not_given_out_as_proven(tmp_path: Path) -> None:
    """All records and hashes are there, and the note which archive has more of the task is gone."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    for event in (Created(type="noop"), Cancelled()):
        journal.record(1, event)
        archive(journal, log.head().position)
    log.close()
    sealed = Sealed(tmp_path)
    sealed.seal()
    assert len(sealed.proof(1)["records"]) == 2
    with forging(sealed.path) as conn:
        assert conn.execute("DELETE FROM archived_tasks WHERE task_id = 1").rowcount == 1
    with pytest.raises(NotAsSealed, match="1 of the 2 records of task 1"):
        sealed.proof(1)


def test_a_log_that_lacks_a_whole_task_is_told_as_damaged(sealed: Sealed) -> None:
    chained_anew(sealed.path, lambda rows: rows.__setitem__(slice(None), [row for row in rows if row[1] != 2]))
    with pytest.raises(SealUnfit, match="damaged"):
        sealed.seal()
    with pytest.raises(SealUnfit, match="damaged"):
        sealed.proof(1)


def test_a_seal_that_cannot_be_read_is_called_neither_lost_nor_forged(sealed: Sealed) -> None:
    path = sealed.seals / f"{sealed.seal().size}.note"
    path.unlink()
    path.mkdir()
    with pytest.raises(SealUnfit, match=r"cannot be read.*Make it a file again that this user may read"):
        read_seal(path, public_key(sealed.seals))


def test_a_log_without_records_or_seals_says_what_to_do(tmp_path: Path) -> None:
    SqliteEventLog(tmp_path / "log.db", now=BEGIN).close()
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        with pytest.raises(SealUnfit, match="nothing to seal"):
            make_seal(log, tmp_path / "seals", tmp_path / "seal-key", BEGIN)
        with pytest.raises(SealUnfit, match=r"cannot be read.*`tasktrail seal`"):
            prove(log, tmp_path / "seals", 1)
        (tmp_path / "seals").mkdir(exist_ok=True)
        with pytest.raises(SealUnfit, match="no seal in"):
            prove(log, tmp_path / "seals", 1)


def test_a_log_whose_key_is_lost_is_not_sealed_with_another_beside_its_seals(tmp_path: Path, sealed: Sealed) -> None:
    """A restored backup has no key. With a new one, holders of the public key could not check another seal."""
    sealed.key_file.unlink()
    with pytest.raises(SealUnfit, match=r"signed with is missing.*seal-key") as told_so:
        sealed.seal()
    assert "seals_dir" in told_so.value.advice
    assert not sealed.key_file.exists()
    with closing(SqliteLogReader(sealed.path)) as log:
        make_seal(log, tmp_path / "other", sealed.key_file, BEGIN)
    with pytest.raises(SealUnfit, match=r"other than that in .*seal-key"):
        sealed.seal()


# --- proofs of a task ---


def told(proof: Any, key: str) -> Any:
    """Return what the checker finds proven, or nothing."""
    try:
        return CHECKER["check"](proof, key)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None


def test_the_proof_of_every_task_has_all_its_records(sealed: Sealed, made: tuple[Path, list[int], int]) -> None:
    _, sizes, _ = made
    proven = 0
    with closing(SqliteLogReader(sealed.path)) as log:
        for task_id in range(1, 10**6):
            records = [record for record in log.read_task(task_id) if record.position <= sizes[-1]]
            if not records:
                break
            origin, time, rows = told(sealed.proof(task_id), sealed.key)
            assert [row[0] for row in rows] == [record.position for record in records]
            assert (origin, time) == (public_key(sealed.seals).name, "2026-01-31T12:03:00Z")
            proven += 1
        with pytest.raises(UnknownTask):
            prove(log, sealed.seals, task_id)
    assert proven >= 20


def test_paths_share_their_hashes(sealed: Sealed) -> None:
    proofs = [sealed.proof(task_id) for task_id in range(1, 20)]
    assert max(len(proof["records"]) for proof in proofs) >= 5
    for proof in proofs:
        paths = [*(record["path"] for record in proof["records"]), proof["task"]["path"]]
        assert len(proof["hashes"]) == len(set(proof["hashes"]))
        assert len(paths) == 2 or len(proof["hashes"]) < sum(map(len, paths))


def left_out(proof: Any, number: int) -> Any:
    """Leave out one of its records, with the later versions as they are, and as they would have to be."""
    return proof | {"records": proof["records"][:number] + proof["records"][number + 1 :]}


def test_no_record_can_be_left_out_not_even_the_last(sealed: Sealed) -> None:
    for task_id in range(1, 20):
        proof = sealed.proof(task_id)
        for number in range(len(proof["records"])):
            assert told(left_out(proof, number), sealed.key) is None
        assert told(proof | {"records": []}, sealed.key) is None


def test_another_task_log_or_key_proves_nothing(sealed: Sealed, tmp_path: Path) -> None:
    one, other = sealed.proof(1), sealed.proof(2)
    for part in ("task", "records", "hashes"):
        assert told(one | {part: other[part]}, sealed.key) is None
    assert told(one | {"task": other["task"], "records": other["records"]}, sealed.key) is None
    assert told(one, PrivateKey.made(public_key(sealed.seals).name).public.text) is None
    elsewhere = Sealed(tmp_path)
    log = SqliteEventLog(elsewhere.path, now=BEGIN + timedelta(days=1))
    random_history(Journal(log), 50, seed=1)
    log.close()
    elsewhere.seal()
    assert told(elsewhere.proof(1), elsewhere.key)
    assert told(elsewhere.proof(1), sealed.key) is None
    assert told(one | {"seal": elsewhere.proof(1)["seal"]}, sealed.key) is None


def test_a_proof_by_an_older_seal_says_so(sealed: Sealed, made: tuple[Path, list[int], int]) -> None:
    """Later records are not in it, and nothing makes it look newer than its seal."""
    proof = sealed.proof(1)
    for size in made[1][1:]:
        (sealed.seals / f"{size}.note").unlink()
    older = sealed.proof(1)
    assert told(older, sealed.key)[1] == "2026-01-31T12:00:00Z"
    assert told(older | {"seal": proof["seal"]}, sealed.key) is None


@pytest.mark.parametrize("seed", range(4))
def test_of_many_forged_proofs_none_says_anything_else(sealed: Sealed, seed: int) -> None:
    chance = random.Random(seed)
    genuine = sealed.proof(chance.randrange(1, 20))
    truth = told(genuine, sealed.key)
    text = json.dumps(genuine)
    accepted = 0
    for _ in range(600):
        forged = list(text)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            place = chance.randrange(len(forged))
            forged[place] = chance.choice(
                ("", "0", "1", "A", "/", "\\n", '"', ",", chance.choice(text), forged[place] * 2)
            )
        try:
            proof = json.loads("".join(forged))
        except ValueError:
            continue
        found = told(proof, sealed.key)
        assert found in (None, truth)
        accepted += found is not None
    assert accepted < 60, "only what means the same"


def test_text_of_users_is_only_text(tmp_path: Path) -> None:
    """A reason or a message may hold any text that a proof is made of."""
    house = Sealed(tmp_path)
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    evil = 'x", "seal": "\n— tasktrail/1 AAAA\n\n31:\x1b[2J{"records": []}'
    journal.create("image_thumbnail", input_file=evil)
    log.close()
    house.seal()
    origin, _, rows = told(house.proof(1), house.key)
    assert len(rows) == 1
    assert json.loads(rows[0][13])["input_file"] == evil
    assert origin == public_key(house.seals).name


def covered(row: Sequence[str | int]) -> bytes:
    """Return the bytes of a row that a hash covers, besides the hash before it."""
    values = [str(value).encode() for value in row]
    return b"".join(b"%d:%b" % (len(value), value) for value in values)


def test_bytes_that_a_user_has_chosen_are_no_record_of_their_own(tmp_path: Path) -> None:
    """Each hash covers one string of bytes; the part before the row has a fixed length."""
    house = Sealed(tmp_path)
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    journal.create("image_thumbnail", input_file="HERE")
    house.seal()
    # Anyone can learn this about their own task.
    behind = house.proof(1)["records"][0]["row"][13].partition("HERE")[2]
    said = [2, 2, 1, "completed", "2026-11-27T12:00:00.000000Z", "root", "paid", *[""] * 3, *[1] * 3, "all" + behind]
    crafted = covered(said).removesuffix(behind.encode()).decode()
    journal.create("image_thumbnail", input_file=crafted)
    log.close()
    house.seal(1)
    proof = house.proof(2)
    (record,) = proof["records"]
    assert told(proof, house.key)[2] == [record["row"]]
    whole = bytes.fromhex(record["after"]) + covered(record["row"])
    forged = {**record, "after": whole.removesuffix(covered(said)).hex(), "row": said}
    assert bytes.fromhex(forged["after"]) + covered(said) == whole
    assert told(proof | {"records": [forged]}, house.key) is None


def test_a_proof_is_written_in_one_way_only(sealed: Sealed) -> None:
    """So a comparison of the bytes of two proofs finds every difference."""
    proof = max(map(sealed.proof, range(1, 20)), key=lambda proof: len(proof["records"]))
    first, *others = proof["records"]
    hashes, path = proof["hashes"], first["path"]
    number = proof["task"]["id"]
    last_bits = hashes[0][:-2] + chr(ord(hashes[0][-2]) + 1) + "="  # they have no meaning
    for forged in (
        {"hashes": [last_bits, *hashes[1:]]},
        {"hashes": [*hashes, hashes[0]]},
        {"records": [{**first, "after": first["after"].upper()}, *others]},
        {"records": [{**first, "path": [place - len(hashes) for place in path]}, *others]},
        {"records": [{**first, "path": [float(place) for place in path]}, *others]},
        {"task": proof["task"] | {"id": float(number)}},
        {"seal": proof["seal"].rstrip("=\n") + "==\n"},
    ):
        assert told(proof | forged, sealed.key) is None, forged


def test_an_empty_text_is_no_empty_list(tmp_path: Path) -> None:
    """A log of one record needs no hashes, so that only the form of their list can be forged."""
    house = Sealed(tmp_path)
    with closing(SqliteEventLog(house.path, now=BEGIN)) as log:
        Journal(log).create("image_thumbnail")
    house.seal()
    proof = house.proof(1)
    (record,) = proof["records"]
    assert proof["hashes"] == record["path"] == proof["task"]["path"] == []
    assert told(proof, house.key)
    forged: dict[str, Any]
    for forged in ({"hashes": ""}, {"records": [{**record, "path": ""}]}, {"task": {**proof["task"], "path": ""}}):
        assert told(proof | forged, house.key) is None, forged


@pytest.mark.parametrize(
    ("there", "added"),
    [
        ('{"format"', '{"records": [], "format"'),
        ('{"row"', '{"row": [], "row"'),
        ('{"row"', '{"said": "approved", "row"'),
        ('{"id"', '{"id": 1, "id"'),
        ('{"format"', '{"said": "approved", "format"'),
    ],
)
def test_a_proof_with_a_name_twice_or_a_name_of_its_own_proves_nothing(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, added: str
) -> None:
    """Of two equal names, another reader may take the other; and unproven content has no place in a proof."""
    file, text = tmp_path / "proof.json", json.dumps(sealed.proof(3))
    monkeypatch.setattr("sys.argv", ["check_proof.py", str(file), sealed.key])
    file.write_text(text)
    assert CHECKER["main"]() == 0
    file.write_text(text.replace(there, added, 1))
    assert file.read_text() != text
    assert CHECKER["main"]() == 4


def test_a_text_of_digits_is_no_number(sealed: Sealed) -> None:
    """Both have the same hash, but are shown differently."""
    proof = sealed.proof(1)
    first = proof["records"][0]
    for column, value in enumerate(first["row"]):
        other = str(value) if type(value) is int else int(value) if value.isdigit() else bool(value)
        row = [*first["row"][:column], other, *first["row"][column + 1 :]]
        assert told(proof | {"records": [{**first, "row": row}, *proof["records"][1:]]}, sealed.key) is None


def test_the_program_for_auditors_is_short_and_prints_what_is_proven(
    sealed: Sealed, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(__file__).parents[2] / "docs" / "examples" / "check_proof.py"
    assert len(program.read_text(encoding="utf-8").splitlines()) <= 150
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(sealed.proof(3)))
    of_the_seal = "2026-01-31T12:03:00Z"
    others = ("2026-01-31T12:03:01Z", "2026-01-31 23:59:59", "2026-01-31T07:04:00-05:00", "2026-01-31T12:03:00.5Z")
    for more, code in (((), 0), (("--since", of_the_seal), 0), *((("--since", other), 4) for other in others)):
        monkeypatch.setattr("sys.argv", ["check_proof.py", str(file), sealed.key, *more])
        assert CHECKER["main"]() == code
    said = capsys.readouterr()
    assert "proven: these are all" in said.out
    assert "NOT PROVEN" in said.err


def test_the_program_for_auditors_reads_no_file_without_end(
    sealed: Sealed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["check_proof.py", "/dev/zero", sealed.key])
    assert CHECKER["main"]() == 4
    assert "NOT PROVEN" in capsys.readouterr().err


def test_the_program_for_auditors_says_that_its_memory_does_not_suffice(
    sealed: Sealed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    (file := tmp_path / "proof.json").write_text("[]")
    monkeypatch.setattr("sys.argv", ["check_proof.py", str(file), sealed.key])
    monkeypatch.setattr(json, "loads", no_room)
    assert CHECKER["main"]() == 4
    assert capsys.readouterr().err == "NOT PROVEN: MemoryError()\n"


@pytest.mark.parametrize("no_key", ["seals/key", "", "a+b"])
def test_the_program_for_auditors_says_what_a_key_is(sealed: Sealed, no_key: str) -> None:
    with pytest.raises(ValueError, match=r"give NAME\+HASH\+KEY itself"):
        CHECKER["check"](sealed.proof(3), no_key)


def test_a_pipe_among_the_seals_is_not_waited_for(sealed: Sealed) -> None:
    for name in ("99.note", "other-key"):
        os.mkfifo(sealed.seals / name)
    check = SealCheck(sealed.seals, public_key(sealed.seals))
    assert [fault for fault in check.faults(0) if "no file" in fault.message]
    with pytest.raises(SealUnfit, match="no file"):
        read_key(sealed.seals / "other-key")
