"""A partly archived log is read like one without archives."""

import hashlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from archiving import archive, forget, written
from forgery import forging
from histories import BEGIN, Journal, random_history
from log_questions import questions

from tasktrail.events import EventLog, Fact, Recorded
from tasktrail.events.errors import ConcurrencyError, DiskFailed, LogCorrupt
from tasktrail.events.log import archive_file, integrity, sqlite
from tasktrail.events.log.archive_faults import archive_faults
from tasktrail.events.log.archive_file import FRAME, ArchiveFile, file_name, write_archive
from tasktrail.events.log.archives import Archives, folder_of
from tasktrail.events.log.chain import GENESIS
from tasktrail.events.log.event_log import Part
from tasktrail.events.log.schema import APPLIED, epoch_sum
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.log.stubs import digest_of, read_drops
from tasktrail.events.system_events import ServiceStarted, ServiceStopped
from tasktrail.events.task_events import Cancelled, Created, Failed, Progressed, Retried, Started
from tasktrail.projections.verification import verify

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEPS = 900


class Both:
    """The same history twice: as it is, and with its first records archived, in two files."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.plain, self.path = folder / "plain" / "log.db", folder / "archived" / "log.db"
        for path in (self.plain, self.path):
            path.parent.mkdir()
        log = SqliteEventLog(self.path, now=BEGIN)
        self.journal = Journal(log)
        random_history(self.journal, STEPS, seed=seed)
        chance = Random(seed)
        half = chance.randrange(FRAME, len(self.journal.records) - 20)
        self.edges = (half // 2, half)
        if over := [one for one in self.journal.over() if self.journal.states[one].id % 3 == 0]:
            self.journal.forget(*over[:3])
        for last in self.edges:
            self.journal.record(0, written(self.path, last))
        log.close()
        shutil.copytree(self.path.parent, self.plain.parent, dirs_exist_ok=True)
        log = SqliteEventLog(self.path, now=BEGIN)
        assert log.delete_archived(10) == half - 10
        assert log.delete_archived(half) == 0
        log.close()
        with forging(self.plain) as conn:
            conn.execute("DELETE FROM archives")


@pytest.fixture(scope="module", params=range(2))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("both"), request.param)


@pytest.fixture
def readers(both: Both) -> Iterator[tuple[SqliteLogReader, SqliteLogReader]]:
    with closing(SqliteLogReader(both.plain)) as plain, closing(SqliteLogReader(both.path)) as archived:
        yield plain, archived


Readers = tuple[SqliteLogReader, SqliteLogReader]


@pytest.mark.slow
def test_all_that_is_asked_of_records_is_answered_alike(both: Both, readers: Readers) -> None:
    asked = [questions(log, both.edges, sorted(both.journal.states)) for log in readers]
    for number, (one, other) in enumerate(zip(*asked, strict=True)):
        assert one == other, number


def test_verify_finds_nothing(readers: Readers) -> None:
    found = verify(readers[1])
    assert found.findings == ()
    assert found.records == len(list(readers[0].read()))
    assert list(readers[1].faults()) == []


def test_a_row_that_stayed_behind_and_is_another_than_in_its_archive_is_found(tmp_path: Path) -> None:
    """A crash leaves such rows, and the history of a task is read from them."""
    path = tmp_path / "log.db"
    log = SqliteEventLog(path, now=BEGIN)
    journal = Journal(log)
    random_history(journal, 300, seed=1)
    journal.forget(journal.over()[0])
    journal.record(0, written(path, 40))
    assert log.delete_archived(5) == 35
    with closing(SqliteLogReader(path)) as reader:
        assert verify(reader).findings == ()
        assert list(reader.faults()) == []
        with forging(path) as conn:
            conn.execute("UPDATE events SET actor = 'mallory' WHERE position IN (12, 30)")
        assert [(one.position, one.code) for one in verify(reader).findings] == [(12, "chain"), (30, "chain")]
        assert [(one.position, one.code) for one in reader.faults()] == [(12, "chain"), (30, "chain")]
    log.close()


def test_a_row_that_goes_while_it_is_compared_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    log = SqliteEventLog(path, now=BEGIN)
    journal = Journal(log)
    random_history(journal, 300, seed=1)
    journal.record(0, written(path, 40))
    real = Archives.within

    def deleted_meanwhile(archives: Archives, spans: Any) -> Iterator[tuple[Any, ...]]:
        log.delete_archived(40)
        return (("another",) if row[0] == 3 else row for row in real(archives, spans))

    with closing(SqliteLogReader(path)) as reader:
        monkeypatch.setattr(Archives, "within", deleted_meanwhile)
        assert [*integrity.stray_faults(reader._conn)] == []
    log.close()


def test_what_is_read_while_it_is_archived_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.events.log.reading._PAGE", 10)
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, STEPS, seed=9)
    reading = log.read()
    before = [next(reading) for _ in range(10)]
    archive(journal, 100)
    assert [*before, *reading] == journal.records
    log.close()


def test_what_is_read_while_another_file_takes_the_place_of_an_archive_is_read_on(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, STEPS, seed=9)
    event = archive(journal, FRAME + 20)
    before = list(log.read())
    reading = log.read()
    found = [next(reading) for _ in range(10)]
    (path,) = folder_of(log._path).iterdir()
    path.rename(path.with_name(file_name(1, FRAME + 20, "b" * 64)))  # as if something in it had been dropped
    journal.record(0, msgspec.structs.replace(event, sha256="b" * 64, replaces=event.sha256))
    assert [*found, *reading] == [*before, journal.records[-1]]
    log.close()


def test_no_row_goes_before_it_is_archived(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 300, seed=1)
    with pytest.raises(Exception, match="append-only"):
        log._conn.execute("DELETE FROM events WHERE position = 1")
    assert log.delete_archived(10) == 0
    journal.record(0, written(log._path, 20))
    with pytest.raises(Exception, match="append-only"):
        log._conn.execute("DELETE FROM events WHERE position = 21")
    assert log.delete_archived(15) == 5
    assert [record.position for record in log.read()] == list(range(1, len(journal.records) + 1))
    log.close()


@pytest.mark.slow
def test_a_start_gives_back_the_room_of_what_is_archived(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(journal.log, SqliteEventLog)
    path = journal.log._path
    archive(journal, len(journal.records) - 9)
    journal.log.close()
    before = path.stat().st_size
    SqliteEventLog(path, now=BEGIN).close()
    assert path.stat().st_size >= before  # it is not worth it
    monkeypatch.setattr(sqlite, "_WORTH_GIVING", 4096)
    with closing(SqliteLogReader(path)) as reader:
        reader._conn.execute("BEGIN")
        there = list(reader.raw_rows())
        log = SqliteEventLog(path, now=BEGIN)  # although somebody reads
        assert list(reader.raw_rows()) == there
    log.close()
    assert path.stat().st_size < before / 2
    small = path.stat().st_size
    SqliteEventLog(path, now=BEGIN).close()
    assert path.stat().st_size == small
    with closing(SqliteLogReader(path)) as reader:
        assert list(reader.raw_rows()) == there
        assert [one for one in reader.faults() if one.code != "epoch"] == []


def test_versions_and_ends_of_archived_records_are_taken(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    one, other = journal.create(), journal.create()
    journal.start(one)
    journal.record(one, Cancelled())
    journal.record(0, ServiceStopped())
    archive(journal, 5)
    head = log.head().position
    for fact in (
        Fact(one, 1, Progressed(progress=1.0), BEGIN, life=1),
        Fact(one, 3, Progressed(progress=1.0), BEGIN, life=1),
        Fact(one, 4, Cancelled(), BEGIN, life=1),
        Fact(other, 3, Progressed(progress=1.0), BEGIN, life=1),
        Fact(0, 1, ServiceStopped(), BEGIN),
    ):
        with pytest.raises(ConcurrencyError):
            log.append([fact], expected=head)
    log.append([Fact(other, 2, Cancelled(), BEGIN, life=1), Fact(one, 4, Cancelled(), BEGIN, life=2)], expected=head)
    log.close()


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Journal]:
    """A history in many archives, in the last of which a task of the first one continues."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    chance = Random(5)
    first = journal.create(held=True)
    for _ in range(25):
        random_history(journal, 40, seed=chance.randrange(1000))
        archive(journal, log.head().position - chance.randrange(1, 9))
    if not journal.states[first].finished:
        journal.record(first, Cancelled())
    archive(journal, log.head().position)
    yield journal
    log.close()


def holding(path: Path, wanted: Callable[[ArchiveFile], object]) -> set[int]:
    """Return the archives for which a condition holds, by their first positions; each is looked into."""
    with closing(SqliteLogReader(path)) as log:
        archives = Archives(log._conn)
        return {one.first for one in log.segments() if wanted(archives.file(one))}


@pytest.mark.slow
def test_only_the_archives_that_hold_a_task_or_a_kind_are_looked_into(many: Journal, tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(SqliteLogReader(path)) as log:
        archives = Archives(log._conn)
        for task_id in many.states:
            there = holding(path, partial(ArchiveFile.of_task, task_id=task_id))
            assert {one.first for one in archives.with_task(task_id)} == there
            assert log.read_task(task_id) == [one for one in many.records if one.task_id == task_id]
        for kind in {one.name for one in many.records}:
            there = holding(path, partial(ArchiveFile.with_tag, tag=kind))
            assert {one.first for one in archives.with_kind(kind)} == there
        assert any(1 < len(archives.with_task(task_id)) < len(log.segments()) for task_id in many.states)
        assert archives.with_kind("tasks_forgotten") == archives.with_task(len(many.states) + 1) == []


@pytest.mark.parametrize(("table", "column"), [("archived_kinds", "event"), ("archived_tasks", "task_id")])
def test_what_is_noted_of_archives_is_held_against_them_and_made_anew(
    many: Journal, tmp_path: Path, table: str, column: str
) -> None:
    many.log.close()
    path = tmp_path / "log.db"

    def noted(conn: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return conn.execute(f"SELECT {column}, first FROM {table} ORDER BY first DESC, {column} DESC").fetchall()

    def faults(conn: sqlite3.Connection) -> list[tuple[int, str]]:
        return [(one.position, one.code) for one in archive_faults(conn)]

    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        before = noted(conn)
        value, first = before[0]
        conn.execute(f"DELETE FROM {table} WHERE {column} = ? AND first = ?", (value, first))
        assert faults(conn) == [(first, "index")]
        conn.execute(f"INSERT INTO {table} VALUES (?, ?), (?, ?)", (value, first, 10**6, first))
        assert faults(conn) == [(first, "index")]
        for every in ("archived_kinds", "archived_tasks"):
            conn.execute(f"DELETE FROM {every} WHERE first = ?", (first,))
        assert faults(conn) == []
        conn.execute(f"INSERT INTO {table} VALUES (?, ?)", (value, 10**6))
        assert faults(conn) == [(0, "index")]
        conn.execute(f"DELETE FROM {table} WHERE first = ?", (10**6,))
    with closing(SqliteLogReader(path)) as log:
        for task_id in many.states:
            assert log.read_task(task_id) == [one for one in many.records if one.task_id == task_id]
    SqliteEventLog(path, now=BEGIN).close()
    with closing(sqlite3.connect(path)) as conn:
        assert noted(conn) == before


def test_a_log_of_before_is_noted_at_the_next_start(many: Journal, tmp_path: Path) -> None:
    many.log.close()
    path = tmp_path / "log.db"
    with forging(path) as conn:
        conn.execute("DROP TABLE archived_kinds")
        conn.execute("DROP TABLE archived_tasks")
        conn.execute("DELETE FROM _sqlite_migrations WHERE name = 'find_in_archives'")
        applied = conn.execute(APPLIED).fetchall()
        for row in conn.execute("SELECT epoch, pid, host, started_at FROM epochs").fetchall():
            conn.execute("UPDATE epochs SET sum = ? WHERE epoch = ?", (epoch_sum(row, applied), row[0]))
    with closing(SqliteLogReader(path)) as reader:
        assert list(reader.faults()) == []
        for task_id in many.states:
            assert reader.read_task(task_id) == [one for one in many.records if one.task_id == task_id]
    log = SqliteEventLog(path, now=BEGIN)
    assert log._archives.without_index() == []
    log.close()


def test_an_archive_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 300, seed=1)
    event = written(log._path, 20)
    archive(journal, 20)
    later = written(log._path, 40)
    for wrong in (
        msgspec.structs.replace(event, sha256="0" * 64),
        msgspec.structs.replace(later, first=22),
        msgspec.structs.replace(later, replaces=event.sha256),
    ):
        with pytest.raises(LogCorrupt, match="does not follow"):
            journal.record(0, wrong)
    journal.record(0, event)  # a repetition is harmless
    journal.record(0, later)
    assert [one.last for one in log._archives.segments()] == [20, 40]
    log.close()


def test_records_in_archives_are_dropped_only_with_another_archive(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 300, seed=4)
    archive(journal, 50)
    before = list(log.read())
    with pytest.raises(LogCorrupt, match="but no event replaces it"):
        journal.forget(journal.over()[0])
    assert list(log.read()) == before
    gone = [one for one in log.read() if one.task_id == journal.over()[0]]
    assert digest_of((one.position, 0, 0, "", b"") for one in gone)
    log.close()


def test_stray_files_are_removed_at_a_start_and_rows_that_are_left_are_deleted(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 300, seed=1)
    event = written(log._path, 20)
    journal.record(0, event)
    folder = folder_of(log._path)
    stray = folder / file_name(21, 40, "a" * 64)
    for path in (stray, folder / "000000000021.part"):
        path.write_bytes(b"not finished")
    (folder / "notes.txt").write_text("somebody's own")
    log.close()
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    assert sorted(path.name for path in folder.iterdir()) == [file_name(1, 20, event.sha256), "notes.txt"]
    assert log.delete_archived(100) == 0
    log.close()


# --- the files ---


def rows_of(both: Both) -> list[tuple[Any, ...]]:
    with closing(SqliteLogReader(both.plain)) as log:
        return list(log.rows(0, log.head().position))


def test_a_file_gives_back_what_was_written(both: Both, tmp_path: Path) -> None:
    rows = rows_of(both)
    made = write_archive(tmp_path / "a", rows, GENESIS)
    file = ArchiveFile(tmp_path / "a", 1, len(rows))
    assert list(file.rows()) == rows
    assert list(file.rows(FRAME - 1)) == rows[FRAME - 1 :]
    assert made.size == (tmp_path / "a").stat().st_size
    assert write_archive(tmp_path / "b", rows, GENESIS) == made


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ("missing", 1),
        ("cut", 1),
        ("empty", 1),
        ("a bit of the first frame", 1),
        ("a bit of the index", 1),
        ("the other one", 1),
        ("longer", 1),
    ],
)
def test_a_file_that_was_changed_is_found(both: Both, tmp_path: Path, change: str, position: int) -> None:
    shutil.copytree(both.path.parent, tmp_path / "data")
    first, second = sorted((tmp_path / "data" / "archive").iterdir())
    content = bytearray(first.read_bytes())
    match change:
        case "missing":
            first.unlink()
        case "cut":
            first.write_bytes(content[:-1])
        case "empty":
            first.write_bytes(b"")
        case "a bit of the first frame":
            content[len(content) // 4] ^= 1
            first.write_bytes(content)
        case "a bit of the index":
            content[-30] ^= 1
            first.write_bytes(content)
        case "the other one":
            shutil.copy(second, first)
        case "longer":
            first.write_bytes(content + b"x")
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        found = verify(log)
        assert found.findings
        assert [(one.position, one.code) for one in found.findings] == [(position, "archive")]
        with pytest.raises(LogCorrupt, match="osition 1"):
            list(log.read())
        assert next(log.read(both.edges[1])).position == both.edges[1] + 1


def _as_folder(path: Path) -> None:
    path.mkdir()


def _as_circle(path: Path) -> None:
    path.symlink_to(path.name)


def _as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


IN_ITS_PLACE = [
    pytest.param(_as_folder, "is a folder", id="folder"),
    pytest.param(_as_circle, "is a link that leads back to itself", id="circle"),
    pytest.param(os.mkfifo, "is a pipe or a device, not a file", id="pipe"),
    pytest.param(_as_device, "is a pipe or a device, not a file", id="device"),
]


@pytest.mark.parametrize(("put", "what"), IN_ITS_PLACE)
def test_what_is_no_file_in_the_place_of_an_archive_is_damage_and_no_failing_disk(
    journal: Journal, tmp_path: Path, put: Callable[[Path], None], what: str
) -> None:
    archive(journal, 300)
    (path,) = folder_of(tmp_path / "log.db").iterdir()
    path.unlink()
    put(path)
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        (found,) = verify(log).findings
        assert (found.code, found.position, found.message) == ("archive", 1, f"the archive {path} {what}")
        assert found.remedy.startswith("Keep what is there as evidence, and replace it by that archive from a backup")
        with pytest.raises(LogCorrupt, match=f"Position 1: the archive {path} {what}") as refused:
            list(log.read())
        assert refused.value.advice == found.remedy


def test_a_file_in_the_place_of_all_archives_is_damage_and_no_failing_disk(journal: Journal, tmp_path: Path) -> None:
    archive(journal, 300)
    archive(journal, 400)
    folder = folder_of(tmp_path / "log.db")
    shutil.rmtree(folder)
    folder.touch()
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        found = verify(log).findings
        assert [(one.code, one.position) for one in found] == [("archive", 1), ("archive", 301)]
        assert all(one.message.endswith("is missing: its folder is a file") for one in found)
        with pytest.raises(LogCorrupt, match="is missing: its folder is a file"):
            list(log.read())


def records_or_advice(reader: SqliteLogReader) -> list[Recorded] | str:
    try:
        return list(reader.read())
    except LogCorrupt as error:
        return error.advice


@pytest.mark.parametrize("seed", range(8))
def test_an_archive_that_cannot_be_read_is_one_finding(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    for _ in range(4):
        random_history(journal, 60, seed=chance.randrange(1 << 30))
        over = [task_id for task_id in journal.over() if task_id not in journal.forgotten]
        if gone := over[: chance.randrange(5)]:
            forget(journal, *gone)
        archive(journal, log.head().position - chance.randrange(1, 9))
    log.close()
    for file in sorted((tmp_path / "archive").iterdir()):
        content = file.read_bytes()
        with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
            assert verify(reader).ok
            whole = list(reader.read())
            file.unlink()
            (missing,) = verify(reader).findings
            assert (missing.code, missing.position) == ("archive", int(file.name.split("-")[0]))
            assert "replace it by that archive from a backup. If no backup has it" in missing.remedy
            with pytest.raises(LogCorrupt) as refused:
                list(reader.read())
            assert refused.value.advice == missing.remedy
            place = chance.randrange(len(content))
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert [one.code for one in verify(reader).findings] == ["archive"]
            assert records_or_advice(reader) == missing.remedy  # also where zstd ignores the bit
            file.write_bytes(content)
            assert records_or_advice(reader) == whole


def rebuilt(path: Path, frames: list[bytes], index: bytes) -> None:
    """Replace an archive by one with other frames; `index` is the content of its decompressed index."""
    index = zstd.compress(index)
    begin = (0x184D2A50).to_bytes(4, "little") + (len(index) + 8).to_bytes(4, "little")
    path.write_bytes(b"".join(frames) + begin + index + sum(map(len, frames)).to_bytes(8, "little"))


@pytest.mark.parametrize("kind", ["bomb", "deep", "second frame", "bomb in the index", "sparse"])
def test_an_archive_that_would_fill_the_memory_is_one_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A few kilobytes may claim to hold any number of bytes."""
    monkeypatch.setattr(archive_file, "_LARGEST_FRAME", 1 << 20)
    monkeypatch.setattr(archive_file, "_LARGEST_INDEX", 1 << 17)
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 60, seed=3)
    event = archive(journal, log.head().position - 3)
    log.close()
    (path,) = (tmp_path / "archive").iterdir()
    content = path.read_bytes()
    index, edges = archive_file._index(path, archive_file._seen(path.stat()))
    frame, told = content[: edges[1]], msgspec.json.encode(index)
    match kind:
        case "bomb":
            rebuilt(path, [zstd.compress(bytes(1 << 26))], told)
        case "deep":
            lines = zstd.decompress(frame).splitlines(keepends=True)
            lines[0] = lines[0].replace(b'"data":{', b'"data":' + b"[" * 100_000 + b"]" * 100_000 + b',"x":{')
            rebuilt(path, [zstd.compress(b"".join(lines))], told)
        case "second frame":
            rebuilt(path, [frame + zstd.compress(b"")], told)
        case "bomb in the index":
            rebuilt(path, [frame], told[:-1] + b" " * (1 << 26) + b"]")
        case "sparse":
            with path.open("wb") as file:
                file.truncate(1 << 40)
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        found = verify(reader).findings
    assert [(one.position, one.code) for one in found] == [(event.first, "archive")]
    assert ("larger than tasktrail writes" in found[0].message) == ("bomb" in kind)


def test_the_first_record_that_was_changed_is_named(both: Both, tmp_path: Path) -> None:
    shutil.copytree(both.path.parent, tmp_path / "data")
    first, _second = sorted((tmp_path / "data" / "archive").iterdir())
    place = both.edges[0] // 2
    rows = rows_of(both)[: both.edges[0]]
    rows[place] = (*rows[place][:5], "somebody else", *rows[place][6:])
    write_archive(first, rows, GENESIS)
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        assert min(one.position for one in verify(log).findings if one.position) == place + 1


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_record_that_cannot_be_read_had_to_say_is_not_missed_in_front_of_it(
    tmp_path: Path, *, gone: bool
) -> None:
    path = tmp_path / "log.db"
    log = SqliteEventLog(path, now=BEGIN)
    journal = Journal(log)
    journal.record(1, Created(type="noop"))
    journal.record(1, Started())
    journal.record(1, Failed(outcome="failed", error="no", error_type="OSError", final=False))
    journal.record(1, Retried(cause="rule"))
    if gone:
        journal.record(0, ServiceStopped())
        log.close()
        with forging(path) as conn:
            conn.execute("DELETE FROM events WHERE position = 4")
        with closing(SqliteLogReader(path)) as reader:
            assert min(one.position for one in verify(reader).findings if one.position) == 4
        return
    journal.record(0, written(path, 4))
    log.close()
    (archive,) = (tmp_path / "archive").iterdir()
    with closing(SqliteLogReader(path)) as reader:
        rows = list(reader.rows(0, 4))
    write_archive(archive, [*rows[:3], (*rows[3][:5], "somebody else", *rows[3][6:])], GENESIS)
    with closing(SqliteLogReader(path)) as reader:
        assert [one.position for one in verify(reader).findings if one.position] == [4]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A history without archives yet; its first record is that of a start."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    journal.record(0, ServiceStarted(version="0", epoch=1, pid=1, host="here"))
    random_history(journal, STEPS, seed=7)
    yield journal
    with suppress(sqlite3.Error):
        log.close()


def test_what_is_archived_while_rows_are_read_is_read_all_the_same(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "_PAGE", 50)
    path = tmp_path / "log.db"
    with closing(SqliteLogReader(path)) as log:
        before = list(log.raw_rows())
        reading = log.raw_rows()
        read = [next(reading) for _ in range(120)]
        archive(journal, 400)
        read += reading
    assert read[: len(before)] == before
    assert [row[0] for row in read if isinstance(row, tuple)] == list(range(1, len(before) + 2))


@pytest.fixture
def three_archives(tmp_path: Path) -> Iterator[Journal]:
    """A sound log, of which 300 records are archived."""
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        random_history(journal, 900, seed=7)
        for last in (100, 200, 300):
            archive(journal, last)
        yield journal


def test_a_check_takes_nothing_for_damage_of_archives_that_are_written_again_one_after_another(
    three_archives: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a drop recorded meanwhile, some archives were read before they were replaced, and some after."""
    path = tmp_path / "log.db"
    old = max(folder_of(path).iterdir())
    content = old.read_bytes()
    with closing(SqliteLogReader(path)) as log:
        rows = log.raw_rows()

        def raw_rows() -> Iterator[object]:
            yield next(rows)
            forget(three_archives, *three_archives.over())
            for replaced in [one for one in folder_of(path).iterdir() if one.name not in named(log)]:
                replaced.unlink()
            old.write_bytes(content)  # it goes last
            yield from rows

        monkeypatch.setattr(log, "raw_rows", raw_rows)
        found = verify(log)
    assert found.findings == ()
    assert found.stubs


def named(log: SqliteLogReader) -> set[str]:
    return {segment.name for segment in log.segments()}


def test_a_check_of_answers_is_made_again_where_archives_were_replaced_meanwhile(
    three_archives: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:

        def unanswered() -> Iterator[tuple[int, str]]:
            monkeypatch.undo()
            forget(three_archives, *three_archives.over())
            yield 2, "of what has just been dropped"

        monkeypatch.setattr(log, "unanswered", unanswered)
        assert verify(log).findings == ()
        monkeypatch.setattr(log, "unanswered", lambda: iter([(2, "of what is there")]))
        assert [finding.code for finding in verify(log).findings] == ["answer"]


def test_drops_are_all_told_though_an_archive_that_has_one_is_replaced_meanwhile(
    three_archives: Journal, tmp_path: Path
) -> None:
    journal, path = three_archives, tmp_path / "log.db"
    for _ in range(2):
        forget(journal, next(one for one in journal.over() if one not in journal.forgotten))
        journal.create()
        last = len(journal.states)
        journal.play("cancel", last - 1, 0)
        archive(journal, journal.log.head().position)
    forget(journal, next(one for one in journal.over() if one not in (*journal.forgotten, last)))
    dropped = [one.position for one in journal.records if one.name == "tasks_forgotten"]
    with closing(sqlite3.connect(path)) as conn:
        drops = read_drops(conn, lenient=True)
        found = [next(drops).position]
        forget(journal, last)
        with closing(SqliteLogReader(path)) as log:
            for replaced in [one for one in folder_of(path).iterdir() if one.name not in named(log)]:
                replaced.unlink()
        found += [drop.position for drop in drops]
    assert found[:3] == dropped
    assert len(dropped) == 3


def test_an_archive_whose_record_was_cut_off_is_a_finding_at_the_end(three_archives: Journal, tmp_path: Path) -> None:
    """What is in the archive is as it was: the first record that may differ is the one that the log lacks."""
    three_archives.log.close()
    (cut,) = [one.position for one in three_archives.records if one.name == "segment_archived"][-1:]
    with forging(tmp_path / "log.db") as conn:
        for table in ("events", "answers"):
            conn.execute(f"DELETE FROM {table} WHERE position >= ?", (cut,))
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        assert [(one.position, one.code) for one in verify(reader).findings] == [(cut, "gap")]


OF_ARCHIVES: dict[str, Callable[[EventLog, int], object]] = {
    "all records": lambda log, _task: list(log.read()),
    "all to fold": lambda log, _task: list(log.read_to_fold()),
    "a task": lambda log, task: log.read_task(task),
    "a task and what adjusts it": lambda log, task: log.read_task(task, adjusted=True),
    "a part of a task": lambda log, task: log.read_parts([Part(task, 0, 9, 0)], 300),
    "the newest of a kind": lambda log, _task: log.newest_of("created", 0, 300, 300),
    "what may concern": lambda log, _task: list(log.read_what_may_concern(["x"], 300)),
}
"""What every log can be asked, and is in archives."""
OF_READERS: dict[str, Callable[[SqliteLogReader, int], object]] = {
    "hashes": lambda log, _task: list(log.hashes()),
    "rows": lambda log, _task: list(log.rows(0, 300)),
    "rows of a task": lambda log, task: log.rows_of(task, 300),
    "the next of a task": lambda log, task: log.read_task_after(task, 0, 9),
    "the last of a task": lambda log, task: log.last_of(task),
    "its version": lambda log, task: log.version_at(task),
    "since when": lambda log, task: log.status_since(task),
    "whose child": lambda log, task: log.line_of(task),
    "results": lambda log, _task: log.with_result("0" * 64),
    "what a drop would leave": lambda log, task: log.to_drop([task]),
}


@pytest.fixture
def put_back(three_archives: Journal, tmp_path: Path) -> int:
    """A forgotten task. Instead of all archives with its records there are those of before."""
    journal, folder = three_archives, folder_of(tmp_path / "log.db")
    gone = next(one for one in journal.over() if one not in journal.forgotten)
    before = {path.name[:25]: path.read_bytes() for path in folder.iterdir()}
    forget(journal, gone)
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        assert {row.name for row in log.read_task(gone)} == {"stub"}
        changed = [name for name in named(log) if (folder / name).read_bytes() != before[name[:25]]]
    assert changed
    for name in changed:
        (folder / name).write_bytes(before[name[:25]])
    return gone


@pytest.mark.parametrize("question", OF_ARCHIVES)
@pytest.mark.parametrize("of_writer", [False, True])
def test_no_question_is_answered_from_an_older_archive(
    three_archives: Journal, put_back: int, tmp_path: Path, question: str, *, of_writer: bool
) -> None:
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        log: Any = three_archives.log if of_writer else reader
        with pytest.raises(LogCorrupt, match=r"Position \d+: the archive .* was changed or replaced") as refused:
            OF_ARCHIVES[question](log, put_back)
    assert "replace it by that archive from a backup" in refused.value.advice


@pytest.mark.parametrize("question", OF_READERS)
def test_no_reader_answers_from_an_older_archive(put_back: int, tmp_path: Path, question: str) -> None:
    with (
        closing(SqliteLogReader(tmp_path / "log.db")) as reader,
        pytest.raises(LogCorrupt, match="was changed or repl"),
    ):
        OF_READERS[question](reader, put_back)


@pytest.mark.usefixtures("put_back")
def test_a_start_names_the_archive_that_is_an_older_one(three_archives: Journal, tmp_path: Path) -> None:
    assert isinstance(three_archives.log, SqliteEventLog)
    three_archives.log.close()
    with pytest.raises(LogCorrupt, match="was changed or replaced") as refused:
        SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    assert "replace it by that archive from a backup" in refused.value.advice


def test_an_older_archive_is_a_finding_and_so_is_what_it_still_has(put_back: int, tmp_path: Path) -> None:
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        found = verify(reader).findings
        there = [row[0] for row in reader.raw_rows() if isinstance(row, tuple) and row[1] == put_back]
    assert {one.code for one in found} == {"archive", "stub"}
    assert there[0] in [one.position for one in found if one.code == "stub"]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed from now on."""
    names: list[str] = []
    digest = hashlib.file_digest

    def noting(file: Any, name: str) -> Any:
        names.append(Path(file.name).name)
        return digest(file, name)

    archive_file._digest.cache_clear()
    monkeypatch.setattr(hashlib, "file_digest", noting)
    return names


def test_an_archive_is_hashed_once_as_long_as_it_stays_the_same_file(
    three_archives: Journal, tmp_path: Path, hashed: list[str]
) -> None:
    (first, *_) = sorted(folder_of(tmp_path / "log.db").iterdir())
    one = three_archives.records[1].task_id
    for _ in range(3):
        with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
            told = reader.last_of(one), reader.read_task(one), next(reader.read())
    assert hashed.count(first.name) == 1
    first.touch()
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        assert (reader.last_of(one), reader.read_task(one), next(reader.read())) == told
    assert hashed.count(first.name) == 2


@pytest.mark.parametrize("in_place", [False, True])
def test_an_archive_that_is_replaced_or_written_to_under_its_old_time_is_noticed(
    three_archives: Journal, tmp_path: Path, *, in_place: bool
) -> None:
    (first, *_) = sorted(folder_of(tmp_path / "log.db").iterdir())
    content, seen = first.read_bytes(), first.stat()
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        whole = list(reader.read())
        for bit in (2, 4, 6):  # of the checksum of the first frame, or of what is in it
            changed = bytearray(content)
            changed[len(changed) // 3] ^= bit
            target = first if in_place else tmp_path / "other"
            target.write_bytes(changed)
            os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))
            target.replace(first)
            with pytest.raises(LogCorrupt, match="Position 1: "):
                list(reader.read())
        first.write_bytes(content)
        assert list(reader.read()) == whole
    assert three_archives.records == whole


@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_is_touched_while_it_is_read_is_read_on_and_an_older_one_in_its_place_is_not(
    journal: Journal, tmp_path: Path, *, older: bool
) -> None:
    archive(journal, 400)
    (replaced,) = folder_of(tmp_path / "log.db").iterdir()
    before = replaced.read_bytes()
    forget(journal, *[one for one in journal.over() if one not in journal.forgotten][:9])
    (path,) = [path for path in folder_of(tmp_path / "log.db").iterdir() if path.read_bytes() != before]
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        whole = list(reader.read())
        archive_file._frame.cache_clear()
        reading = reader.read()
        assert next(reading) == whole[0]
        if older:
            path.write_bytes(before)
            with pytest.raises(LogCorrupt, match="was changed or replaced"):
                list(reading)
        else:
            path.touch()
            assert list(reading) == whole[1:]


@pytest.mark.parametrize("times", [1, 100])
def test_an_archive_whose_mode_is_changed_while_it_is_opened_is_not_missing(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A commit may look into an archive, and a service ends when the log is damaged."""
    archive(journal, 400)
    (path,) = folder_of(tmp_path / "log.db").iterdir()
    changes = iter(range(times))
    look = archive_file._index

    def change(*asked: Any) -> Any:
        found = look(*asked)
        if next(changes, None) is not None:
            time_before = path.stat().st_ctime_ns
            while path.stat().st_ctime_ns == time_before:  # the clock of a file system has ticks
                path.chmod(0o640)
        return found

    monkeypatch.setattr(archive_file, "_index", change)
    archive_file._digest.cache_clear()
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        if times == 1:
            assert list(reader.read()) == journal.records
        else:
            with pytest.raises(DiskFailed):
                list(reader.read())


def test_a_table_of_archives_with_a_gap_is_damage(journal: Journal, tmp_path: Path) -> None:
    archive(journal, 300)
    archive(journal, 400)
    journal.log.close()
    with forging(tmp_path / "log.db") as conn:
        conn.execute("DELETE FROM archives WHERE first = 1")
    with closing(SqliteLogReader(tmp_path / "log.db")) as log, pytest.raises(LogCorrupt, match="Position 1:"):
        list(log.read(0))


def test_an_altered_entry_of_the_table_is_found_at_its_archive_and_not_at_the_first(
    journal: Journal, tmp_path: Path
) -> None:
    archive(journal, 300)
    archive(journal, 400)
    journal.log.close()
    with forging(tmp_path / "log.db") as conn:
        conn.execute("UPDATE archives SET size = size + 1 WHERE first = 301")
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        found = verify(log).findings
        assert [one.position for one in found if one.code == "archive"] == [301], found


def test_rows_whose_archive_is_gone_are_not_deleted(journal: Journal, tmp_path: Path) -> None:
    journal.record(0, written(tmp_path / "log.db", 300))
    for path in folder_of(tmp_path / "log.db").iterdir():
        path.unlink()
    assert isinstance(journal.log, SqliteEventLog)
    with pytest.raises(LogCorrupt, match="is missing"):
        journal.log.delete_archived(1000)
    journal.record(0, ServiceStopped())  # no transaction was left open
    with closing(sqlite3.connect(tmp_path / "log.db")) as conn:
        assert conn.execute("SELECT min(position) FROM events").fetchone() == (1,)


def test_an_epoch_is_missed_also_where_its_start_is_archived(journal: Journal, tmp_path: Path) -> None:
    archive(journal, 300)
    journal.log.close()
    with forging(tmp_path / "log.db") as conn:
        conn.execute("DELETE FROM epochs")
    with closing(sqlite3.connect(tmp_path / "log.db")) as conn:
        assert [fault.code for fault in integrity.epoch_faults(conn)] == ["epoch"]


def test_damage_of_the_table_of_archives_is_told_as_damage(journal: Journal, tmp_path: Path) -> None:
    journal.log.close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as conn:
        (page,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'archives'").fetchone()
    with (tmp_path / "log.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        with pytest.raises(LogCorrupt):
            list(log.read(0))
        with pytest.raises(LogCorrupt):
            log.segments()
