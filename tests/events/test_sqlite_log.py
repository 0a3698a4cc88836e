"""Faults that only a log on disk can have: owners, disks, changes to the file, versions."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail.events import Answer, Checkpoint, Checkpointed, Created, Event, Fact, Progressed, Started
from tasktrail.events.errors import (
    ConcurrencyError,
    DiskFailed,
    Fenced,
    LogCorrupt,
    LogFull,
    LogGone,
    LogLocked,
    LogNotWritable,
    LogTooNew,
    OutcomeUnknown,
    TasktrailError,
)
from tasktrail.events.log.faults import Damage
from tasktrail.events.log.reading import _WITH_ADJUSTMENTS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_errors import OPENING, explained
from tasktrail.events.log.sqlite_reader import SqliteLogReader

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    log = SqliteEventLog(path, now=NOW)
    yield log
    log.close()


def created(task_id: int, text: str = "") -> Fact:
    return Fact(task_id, 1, Created(type="noop", input_file=text), NOW, life=1)


def by_hand(path: Path, *statements: str) -> None:
    """Change the log as somebody with a SQLite shell does."""
    conn = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        conn.execute(statement)
    conn.close()


def test_every_commit_is_synced_to_disk(log: SqliteEventLog) -> None:
    assert log._conn.execute("PRAGMA synchronous").fetchone() == (2,)
    assert log._conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_log_that_cannot_be_synced_is_not_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.events.log.sqlite._FULL", 3)
    with pytest.raises(LogCorrupt, match="synchronous 2"):
        SqliteEventLog(path, now=NOW)


def test_what_was_appended_is_there_after_opening_again(path: Path, log: SqliteEventLog) -> None:
    records = log.append([replace(created(1), command_id="c1")], [Answer("c1", b"d", 1, 1)], expected=0)
    log.close()
    again = SqliteEventLog(path, now=NOW)
    assert list(again.read()) == records
    assert again.head().hash == records[-1].hash
    assert again.answer("c1") == Answer("c1", b"d", 1, 1)
    again.close()


def test_an_epoch_that_nothing_can_follow_is_a_damaged_log(path: Path) -> None:
    SqliteEventLog(path, now=NOW).close()
    by_hand(path, "INSERT INTO epochs VALUES (9223372036854775807, 1, 'here', '2026-01-01T00:00:00Z', x'00')")
    with pytest.raises(LogCorrupt, match="epoch 2 is missing"):
        SqliteEventLog(path, now=NOW)


def test_each_owner_has_an_epoch_of_its_own(path: Path, log: SqliteEventLog) -> None:
    assert log.epoch == 1
    second = SqliteEventLog(path, now=NOW)
    assert second.epoch == 2
    second.close()


def test_an_owner_is_fenced_once_a_newer_one_has_come(path: Path, log: SqliteEventLog) -> None:
    log.append([created(1)], expected=0)
    newer = SqliteEventLog(path, now=NOW)
    with pytest.raises(Fenced):
        log.append([created(2)], expected=1)
    newer.append([created(2)], expected=1)
    with pytest.raises((Fenced, ConcurrencyError)):
        log.append([created(3)], expected=2)
    assert [record.task_id for record in newer.read()] == [1, 2]
    newer.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'mallory' WHERE position = 1",
        "DELETE FROM events WHERE position = 1",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 1",
    ],
)
def test_the_database_itself_refuses_to_change_the_past(log: SqliteEventLog, statement: str) -> None:
    log.append([created(1)], expected=0)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        log._conn.execute(statement)


@pytest.mark.parametrize("column", ["position", "task_id", "version", "recorded_at", "terminal", "data", "hash"])
def test_the_database_refuses_a_value_of_the_wrong_type(log: SqliteEventLog, column: str) -> None:
    log.append([created(1)], expected=0)
    columns = "position, task_id, version, event, recorded_at, actor, reason, command_id, correlation_id, causation_id"
    names = [*columns.split(", "), "attempt", "life", "terminal", "data", "hash"]
    selected = ["X'00ff'" if name == column and name != "hash" else name for name in names]
    selected = ["'text'" if name == "hash" and column == "hash" else name for name in selected]
    with pytest.raises(sqlite3.Error):
        log._conn.execute(f"INSERT INTO events SELECT {', '.join(selected)} FROM events")


def test_a_full_disk_is_told_and_leaves_nothing_half_written(log: SqliteEventLog) -> None:
    log.append([created(1)], expected=0)
    used = log._conn.execute("PRAGMA page_count").fetchone()[0]
    log._conn.execute(f"PRAGMA max_page_count = {used + 2}")
    batch = [created(task_id, "x" * 3000) for task_id in range(2, 40)]
    with pytest.raises(LogFull):
        log.append(batch, [Answer("c", b"d", 2, 2)], expected=1)
    assert [record.task_id for record in log.read()] == [1]
    assert log.answer("c") is None
    assert log.head().position == 1


def test_a_log_works_again_once_there_is_room(log: SqliteEventLog) -> None:
    log._conn.execute(f"PRAGMA max_page_count = {log._conn.execute('PRAGMA page_count').fetchone()[0]}")
    batch = [created(task_id, "x" * 3000) for task_id in range(1, 40)]
    with pytest.raises(LogFull):
        log.append(batch, expected=0)
    log._conn.execute("PRAGMA max_page_count = 1000000")
    assert len(log.append(batch, expected=0)) == 39
    assert [record.position for record in log.read()] == list(range(1, 40))


def test_a_file_that_was_replaced_is_noticed_before_anything_is_written(path: Path, log: SqliteEventLog) -> None:
    log.append([created(1)], expected=0)
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    with pytest.raises(LogGone, match="replaced"):
        log.append([created(2)], expected=1)


def test_a_file_that_was_deleted_is_noticed(path: Path, log: SqliteEventLog) -> None:
    path.unlink()
    with pytest.raises(LogGone):
        log.append([created(1)], expected=0)


def test_an_event_of_a_later_version_stops_the_reader(path: Path, log: SqliteEventLog) -> None:
    log.append([created(1)], expected=0)
    log.close()
    by_hand(path, "DROP TRIGGER events_are_not_changed", "UPDATE events SET event = 'paused'")
    with closing(SqliteLogReader(path)) as reader, pytest.raises(LogTooNew, match="paused"):
        list(reader.read())


@pytest.mark.parametrize(("column", "value"), [("data", "'{'"), ("data", "'{}'"), ("recorded_at", "'yesterday'")])
def test_a_damaged_record_is_told_with_its_position(path: Path, log: SqliteEventLog, column: str, value: str) -> None:
    log.append([created(1), created(2)], expected=0)
    log.close()
    by_hand(path, "DROP TRIGGER events_are_not_changed", f"UPDATE events SET {column} = {value} WHERE position = 2")
    reader = SqliteLogReader(path)
    with pytest.raises(LogCorrupt, match="Position 2"):
        list(reader.read())
    reader.close()


def test_a_file_that_is_no_database_is_a_typed_error(path: Path) -> None:
    path.write_bytes(b"this is not a database, but long enough to be looked at" * 100)
    with pytest.raises(LogCorrupt):
        SqliteLogReader(path)
    with pytest.raises(LogCorrupt):
        SqliteEventLog(path, now=NOW)


def test_pages_of_the_file_that_were_overwritten_are_a_typed_error(path: Path, log: SqliteEventLog) -> None:
    log.append([created(task_id, "x" * 500) for task_id in range(1, 200)], expected=0)
    log.close()
    content = bytearray(path.read_bytes())
    content[60_000:100_000] = b"\xff" * 40_000
    path.write_bytes(content)
    reader = SqliteLogReader(path)
    with pytest.raises(LogCorrupt):
        list(reader.read())
    assert any(isinstance(row, Damage) for row in reader.raw_rows())
    assert "file" in {fault.code for fault in reader.file_faults()}
    reader.close()


def test_text_that_is_no_text_is_a_typed_error(path: Path, log: SqliteEventLog) -> None:
    log.append([created(1)], expected=0)
    log.close()
    by_hand(path, "DROP TRIGGER events_are_not_changed", "UPDATE events SET actor = CAST(X'ff80' AS TEXT)")
    reader = SqliteLogReader(path)
    with pytest.raises(LogCorrupt):
        list(reader.read())
    reader.close()


def test_a_disk_that_is_full_when_the_log_is_opened_is_a_typed_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(path: Path) -> sqlite3.Connection:
        conn = sqlite3.connect(path, isolation_level=None)
        conn.execute("PRAGMA max_page_count = 3")
        return conn

    monkeypatch.setattr("tasktrail.events.log.sqlite._connect", small)
    with pytest.raises(LogFull):
        SqliteEventLog(path, now=NOW)


def test_a_reader_of_nothing_is_a_typed_error_and_makes_no_file(path: Path) -> None:
    with pytest.raises(LogGone):
        SqliteLogReader(path)
    assert not path.exists()


def test_a_reader_sees_what_is_committed_and_cannot_write(log: SqliteEventLog) -> None:
    reader = log.reader()
    records = log.append([created(1), created(2)], expected=0)
    assert list(reader.read()) == records
    assert reader.head() == log.head()
    assert reader.read_task(2) == records[1:]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._conn.execute("DELETE FROM events")
    reader.close()


def test_a_reader_finds_where_a_task_got_the_status_it_has(log: SqliteEventLog) -> None:
    """Progress is not a change of the status, however much of it is recorded."""
    events: tuple[Event, ...] = (Started(), Progressed(progress=1), Checkpointed(checkpoint=Checkpoint()))
    facts = [Fact(1, version, event, NOW, attempt=1, life=1) for version, event in enumerate(events, 2)]
    log.append([created(1), *facts, created(2)], expected=0)
    reader = log.reader()
    assert [reader.status_since(task_id) for task_id in (1, 2, 3)] == [2, 5, 0]
    reader.close()


def test_a_reader_in_the_middle_of_the_log_does_not_hold_up_the_writer(log: SqliteEventLog) -> None:
    log.append([created(task_id) for task_id in range(1, 10)], expected=0)
    reader = log.reader()
    reading = reader.read()
    next(reading)
    log.append([created(10)], expected=9)
    assert log._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    reader.close()


def test_pages_join_without_gap_or_repetition(log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.events.log.reading._PAGE", 3)
    log.append([created(task_id) for task_id in range(1, 11)], expected=0)
    for after, limit, last in ((0, None, 10), (0, 7, 7), (2, 6, 8), (0, 3, 3)):
        assert [record.position for record in log.read(after, limit)] == list(range(after + 1, last + 1))


def test_adjustments_are_found_without_reading_all_that_the_service_has_recorded(log: SqliteEventLog) -> None:
    plan = log._conn.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM events WHERE {_WITH_ADJUSTMENTS}", {"task_id": 1})
    steps = [step for *_, step in plan.fetchall()]
    assert [step for step in steps if step.startswith("SCAN")] == []
    assert any("adjustments" in step for step in steps)


def test_raw_rows_and_answers_come_undecoded(log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.events.log.sqlite_reader._PAGE", 1)
    monkeypatch.setattr("tasktrail.events.log.integrity._PAGE", 1)
    facts = [Fact(task_id, 1, Created(type="noop"), NOW, command_id=f"c{task_id}", life=1) for task_id in (1, 2)]
    log.append(facts, [Answer("c1", b"d", 1, 1), Answer("c2", b"d", 2, 2)], expected=0)
    reader = log.reader()
    rows = [row for row in reader.raw_rows() if not isinstance(row, Damage)]
    assert [(row[0], row[3], len(row[14])) for row in rows] == [(1, "created", 32), (2, "created", 32)]
    assert [row[:5] for row in reader.answered()] == [("c1", 1, 1, "c1", 1), ("c2", 2, 2, "c2", 2)]
    reader.close()


def test_the_log_belongs_to_one_thread(log: SqliteEventLog) -> None:
    caught: list[BaseException] = []

    def append() -> None:
        try:
            log.append([created(1)], expected=0)
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            caught.append(error)

    thread = threading.Thread(target=append)
    thread.start()
    thread.join()
    assert isinstance(caught[0], OutcomeUnknown | sqlite3.ProgrammingError)
    assert log.head().position == 0


class _Complaint(sqlite3.OperationalError):
    """An error of SQLite."""

    def __init__(self, name: str) -> None:
        super().__init__("something is the matter")
        self.sqlite_errorname = name


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (_Complaint("SQLITE_FULL"), LogFull),
        (OSError(errno.ENOSPC, "No space left on device"), LogFull),
        (_Complaint("SQLITE_IOERR_FSYNC"), DiskFailed),
        (_Complaint("SQLITE_IOERR_READ"), DiskFailed),
        (OSError(errno.EIO, "Input/output error"), DiskFailed),
        (_Complaint("SQLITE_BUSY"), LogLocked),
        (_Complaint("SQLITE_BUSY_RECOVERY"), LogLocked),
        (_Complaint("SQLITE_READONLY"), LogNotWritable),
        (_Complaint("SQLITE_READONLY_DIRECTORY"), LogNotWritable),
        (_Complaint("SQLITE_CANTOPEN"), LogNotWritable),
        (PermissionError(errno.EACCES, "Permission denied"), LogNotWritable),
        (FileNotFoundError(errno.ENOENT, "No such file"), LogGone),
        (_Complaint("SQLITE_READONLY_DBMOVED"), LogGone),
        (_Complaint("SQLITE_CORRUPT_INDEX"), LogCorrupt),
        (_Complaint("SQLITE_NOTADB"), LogCorrupt),
        (_Complaint("SQLITE_NOMEM"), OutcomeUnknown),
    ],
    ids=str,
)
def test_only_what_says_that_the_content_is_wrong_is_called_damage(
    path: Path, log: SqliteEventLog, error: sqlite3.Error | OSError, meaning: type[TasktrailError]
) -> None:
    assert path.exists()
    assert log.epoch
    told = explained(error, path, "failed")
    assert type(told) is meaning
    assert ("backup" in told.advice) is (meaning is LogCorrupt)


@pytest.mark.parametrize("ask", [lambda log: log.head(), lambda log: list(log.segments())], ids=["records", "archives"])
def test_what_sqlite_calls_damage_on_a_disk_that_fails_is_the_disks(
    path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[SqliteLogReader], object]
) -> None:
    def broken(**_: object) -> object:
        raise OSError(errno.EIO, "Input/output error")

    SqliteEventLog(path, now=NOW).close()
    with closing(SqliteLogReader(path)) as reader:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        with pytest.raises(LogCorrupt):
            ask(reader)
        monkeypatch.setattr(tempfile, "TemporaryFile", broken)
        with pytest.raises(DiskFailed):
            ask(reader)
        assert type(explained(_Complaint("SQLITE_CORRUPT"), path, "failed")) is DiskFailed
        assert type(explained(_Complaint("SQLITE_CANTOPEN"), path, OPENING)) is DiskFailed


def test_sqlites_word_for_a_disk_without_room_for_its_index_file_is_told_as_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    monkeypatch.setattr("tasktrail.events.log.sqlite_errors.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    assert type(explained(_Complaint("SQLITE_IOERR_SHMSIZE"), path, "failed")) is LogFull


def test_a_disk_that_can_take_no_more_files_is_told_as_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite then says only that it cannot open the file, as it does for a missing permission."""
    path.touch()
    roomy = {"f_frsize": 4096, "f_blocks": 1 << 30, "f_bfree": 1 << 20, "f_bavail": 1 << 20, "f_favail": 0}
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_files=40, **roomy))
    full = explained(_Complaint("SQLITE_CANTOPEN"), path, OPENING)
    assert type(full) is LogFull
    assert ("df -i" in str(full), "Delete files" in full.advice) == (True, True)
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_files=0, **roomy))  # Btrfs counts none
    assert type(explained(_Complaint("SQLITE_CANTOPEN"), path, OPENING)) is LogNotWritable


def test_a_foreign_lock_is_told_as_one_and_waited_for_less_while_it_lasts(path: Path, log: SqliteEventLog) -> None:
    log.append([created(1)], expected=0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(LogLocked):
                log.append([created(2)], expected=1)
            assert log._conn.execute("PRAGMA busy_timeout").fetchone()[0] == 50
        other.execute("ROLLBACK")
    log.append([created(2)], expected=1)
    assert log._conn.execute("PRAGMA busy_timeout").fetchone()[0] == 1000


def test_a_log_is_read_as_it_stands_where_sqlite_can_make_no_index_file_and_followed_when_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteEventLog(path, now=NOW)) as log:
        log.append([created(1)], expected=0)
    connect = sqlite3.connect

    def without_room(address: str, **how: Any) -> sqlite3.Connection:
        if "immutable" not in address:
            raise _Complaint("SQLITE_IOERR_SHMSIZE")
        frozen: sqlite3.Connection = connect(address, **how)
        return frozen

    monkeypatch.setattr("tasktrail.events.log.sqlite.sqlite3.connect", without_room)
    with closing(SqliteLogReader(path)) as reader:
        assert [record.position for record in reader.read()] == [1]
        monkeypatch.undo()
        with closing(SqliteEventLog(path, now=NOW)) as log:
            log.append([created(2)], expected=1)
            assert [record.position for record in reader.read()] == [1, 2]
            assert reader.head() == log.head()


def test_what_a_commit_keeps_to_undo_itself_lies_in_no_file_elsewhere(log: SqliteEventLog) -> None:
    """It holds pages of the log, and also of forgotten tasks."""

    def commit(first: int) -> None:
        tasks = range(first, first + 1000)
        answers = [Answer(sha256(b"%d" % task_id).hexdigest(), b"", task_id, task_id) for task_id in tasks]
        log.append([created(task_id) for task_id in tasks], expected=first - 1, answers=answers)

    def look(statement: str) -> None:
        if statement == "COMMIT":
            seen.extend(map(os.path.realpath, Path("/proc/self/fd").iterdir()))

    seen: list[str] = []
    commit(1)
    log._conn.set_trace_callback(look)
    commit(1001)
    log._conn.set_trace_callback(None)
    assert any(name.endswith("log.db") for name in seen)
    assert [name for name in seen if "etilqs" in name] == []


def test_a_start_waits_for_who_writes_to_the_log_for_a_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that a killed service had begun may still be finishing."""
    SqliteEventLog(path, now=NOW).close()
    asked = threading.Event()

    def connect(at: Path) -> sqlite3.Connection:
        conn = sqlite3.connect(at, isolation_level=None)
        conn.set_trace_callback(lambda statement: asked.set() if statement == "BEGIN IMMEDIATE" else None)
        return conn

    def let_go() -> None:
        asked.wait(30)
        other.execute("ROLLBACK")

    monkeypatch.setattr("tasktrail.events.log.sqlite._connect", connect)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=let_go)
        thread.start()
        try:
            with closing(SqliteEventLog(path, now=NOW)) as log:
                assert log.epoch == 2
        finally:
            asked.set()
            thread.join()


OTHER = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print(flush=True)
sys.stdin.readline()
conn.close()
"""


@pytest.mark.parametrize("error", [_Complaint("SQLITE_READONLY"), _Complaint("SQLITE_BUSY")], ids=str)
def test_whoever_looks_why_the_log_cannot_be_opened_leaves_this_process_its_locks(
    path: Path, log: SqliteEventLog, error: sqlite3.Error
) -> None:
    """Otherwise another program with the log open takes itself for the last one, and deletes the write-ahead log."""
    command = [sys.executable, "-c", OTHER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        assert not isinstance(explained(error, path, OPENING), LogCorrupt)
        other.stdin.write(b"\n")
    assert other.returncode == 0
    log.append([created(1)], expected=0)
