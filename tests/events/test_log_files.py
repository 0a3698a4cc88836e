"""Interference with the files of an open log: nothing is acknowledged into a lost file, and the rest is saved."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasktrail.events import Answer, Created, Fact
from tasktrail.events.errors import ConcurrencyError, LogCorrupt, LogGone
from tasktrail.events.log.address import NAME, write_address
from tasktrail.events.log.archive_file import write_archive
from tasktrail.events.log.chain import GENESIS
from tasktrail.events.log.event_log import Head
from tasktrail.events.log.files import LogFiles, mark_of, read_mark, refuse_rescued
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BEFORE = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    """A log with acknowledged records, all of which are only in the write-ahead log."""
    log = SqliteEventLog(path, now=NOW)
    for task_id in range(1, BEFORE + 1):
        append(log, task_id)
    yield log
    log.close()


def append(log: SqliteEventLog, task_id: int) -> None:
    fact = Fact(task_id, 1, Created(type="noop"), NOW, command_id=f"c{task_id}", life=1)
    log.append([fact], [Answer(f"c{task_id}", b"d", task_id, task_id)], expected=task_id - 1)


def tasks_in(path: Path) -> list[int]:
    with closing(SqliteLogReader(path)) as reader:
        assert list(reader.file_faults()) == []
        return [record.task_id for record in reader.read()]


def copied(path: Path, folder: Path) -> Path:
    """Copy the file as the next start would find it after a kill: without the present write-ahead log."""
    folder.mkdir()
    return Path(shutil.copy(path, folder / "log.db"))


def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def deleted(path: Path) -> None:
    wal(path).unlink()


def renamed(path: Path) -> None:
    wal(path).rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    shutil.copy(wal(path), path.with_name("copy"))
    path.with_name("copy").replace(wal(path))


def without_index(path: Path) -> None:
    Path(f"{path}-shm").unlink()


ON_THE_WRITE_AHEAD_LOG = [deleted, renamed, replaced, without_index]


@pytest.mark.parametrize("attack", ON_THE_WRITE_AHEAD_LOG)
def test_a_write_ahead_log_that_is_gone_costs_no_record(
    log: SqliteEventLog, path: Path, tmp_path: Path, attack: Callable[[Path], None]
) -> None:
    attack(path)
    with pytest.raises(LogGone, match=r"while the service ran\. The whole write-ahead log was saved"):
        append(log, BEFORE + 1)
    assert tasks_in(copied(path, tmp_path / "killed")) == list(range(1, BEFORE + 1))
    with pytest.raises(LogGone):  # for good
        append(log, BEFORE + 1)
    with pytest.raises(LogGone):
        log.maintain()


@pytest.mark.parametrize("attack", ON_THE_WRITE_AHEAD_LOG)
def test_what_happens_during_a_commit_is_seen_before_it_is_acknowledged(
    log: SqliteEventLog, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Path], None]
) -> None:
    fault = LogFiles.fault

    def attacked(files: LogFiles, *, written: bool = False) -> str:
        if written:
            monkeypatch.setattr(LogFiles, "fault", fault)
            attack(path)
        return fault(files, written=written)

    monkeypatch.setattr(LogFiles, "fault", attacked)
    with pytest.raises(LogGone):
        append(log, BEFORE + 1)
    assert tasks_in(copied(path, tmp_path / "killed")) == list(range(1, BEFORE + 2))


@pytest.mark.parametrize("attack", ON_THE_WRITE_AHEAD_LOG)
def test_it_is_seen_while_nothing_is_appended(
    log: SqliteEventLog, path: Path, tmp_path: Path, attack: Callable[[Path], None]
) -> None:
    attack(path)
    with pytest.raises(LogGone):
        log.maintain()
    assert tasks_in(copied(path, tmp_path / "killed")) == list(range(1, BEFORE + 1))


def test_a_foreign_write_ahead_log_is_put_aside_and_not_applied(log: SqliteEventLog, path: Path) -> None:
    older = wal(path).read_bytes()
    append(log, BEFORE + 1)
    wal(path).unlink()
    wal(path).write_bytes(older)
    with pytest.raises(LogGone):
        append(log, BEFORE + 2)
    log.close()
    assert not wal(path).exists()
    assert tasks_in(path) == list(range(1, BEFORE + 2))


@pytest.mark.parametrize("part", ["", "-wal"])
def test_a_file_that_was_cut_is_told_and_nothing_is_mixed_into_it(log: SqliteEventLog, path: Path, part: str) -> None:
    log.maintain()
    append(log, BEFORE + 1)
    file = Path(f"{path}{part}")
    content = file.read_bytes()
    with file.open("r+b") as opened:
        opened.truncate(4096)
    with pytest.raises(LogGone, match=r"was cut while the service ran\. Nothing could be saved"):
        append(log, BEFORE + 2)
    assert file.read_bytes() == content[:4096]


@pytest.mark.parametrize("part", ["", "-wal"])
def test_bytes_that_another_program_wrote_are_seen(log: SqliteEventLog, path: Path, part: str) -> None:
    log.maintain()
    file = Path(f"{path}{part}")
    with file.open("r+b") as opened:
        opened.seek(5000)
        opened.write(b"rubbish")
    with pytest.raises(LogGone, match="was written to by another program"):
        log.maintain()
    with pytest.raises(LogGone, match="was written to by another program"):
        append(log, BEFORE + 1)


def test_another_writer_that_uses_sqlite_is_no_ghost(log: SqliteEventLog, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("INSERT INTO events SELECT position + 1, 99, 1, event, recorded_at, actor, reason, '', '', '', "
                     "attempt, life, terminal, data, hash FROM events ORDER BY position DESC LIMIT 1")  # fmt: skip
    with pytest.raises(ConcurrencyError):
        append(log, BEFORE + 1)
    assert log.head().position == BEFORE + 1
    append(log, BEFORE + 2)


def gone(path: Path) -> None:
    path.unlink()


def another(path: Path) -> None:
    SqliteEventLog(path.with_name("other"), now=NOW).close()
    path.with_name("other").replace(path)


def no_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def another_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.mkdir()
    SqliteEventLog(path, now=NOW).close()


@pytest.mark.parametrize("attack", [gone, another, no_folder, another_folder])
def test_a_log_that_is_gone_is_saved_under_another_name(
    log: SqliteEventLog, path: Path, attack: Callable[[Path], None]
) -> None:
    attack(path)
    rescued = path.with_name("log.db.rescued")
    with pytest.raises(LogGone, match=f"All of it was saved as {rescued}"):
        append(log, BEFORE + 1)
    assert tasks_in(rescued) == list(range(1, BEFORE + 1))
    with pytest.raises(LogGone, match="holds what a service saved"):
        refuse_rescued(path)
    rescued.unlink()
    refuse_rescued(path)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_log_that_was_moved_is_told_with_its_new_place_and_whole(
    log: SqliteEventLog, path: Path, tmp_path: Path, what: str
) -> None:
    if what == "file":
        moved = path.rename(tmp_path / "elsewhere.db")
    else:
        moved = path.parent.rename(tmp_path / "elsewhere") / "log.db"
    with pytest.raises(LogGone, match=f"It was moved.*saved into {moved}"):
        append(log, BEFORE + 1)
    log.close()
    assert tasks_in(moved) == list(range(1, BEFORE + 1))
    refuse_rescued(path)


def test_closing_a_log_that_is_gone_leaves_the_files_of_another_alone(log: SqliteEventLog, path: Path) -> None:
    another(path)
    wal(path).unlink()
    wal(path).write_bytes(b"of the other log")
    log.close()
    assert wal(path).read_bytes() == b"of the other log"


def test_what_is_recorded_does_not_stay_in_the_write_ahead_log(log: SqliteEventLog, path: Path, tmp_path: Path) -> None:
    log.maintain()
    assert tasks_in(copied(path, tmp_path / "once")) == list(range(1, BEFORE + 1))
    size = wal(path).stat().st_size
    for task_id in range(BEFORE + 1, 2 * BEFORE):
        append(log, task_id)
        log.maintain()
    assert tasks_in(copied(path, tmp_path / "twice")) == list(range(1, 2 * BEFORE))
    assert wal(path).stat().st_size == size


def test_a_reader_in_the_middle_of_a_transaction_does_not_hold_up_maintenance(log: SqliteEventLog, path: Path) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT count(*) FROM events").fetchone()
        append(log, BEFORE + 1)
        log.maintain()
        append(log, BEFORE + 2)


def test_the_end_of_the_log_is_marked_after_each_commit_and_at_each_start(log: SqliteEventLog, path: Path) -> None:
    assert read_mark(path) == log.head()
    append(log, BEFORE + 1)
    assert read_mark(path) == log.head() != Head(BEFORE, log.head().hash)
    log.close()
    mark_of(path).unlink()
    again = SqliteEventLog(path, now=NOW)
    assert read_mark(path) == again.head()
    again.close()


def test_a_mark_in_which_a_byte_has_changed_tells_nothing(log: SqliteEventLog, path: Path) -> None:
    """It would tell of a loss of records that there never were, and no service would start."""
    log.close()
    content = mark_of(path).read_bytes()
    for place in range(len(content)):
        mark_of(path).write_bytes(content[:place])
        assert read_mark(path) is None
        for bit in range(8):
            mark_of(path).write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            assert read_mark(path) is None
    mark_of(path).write_bytes(content)
    assert read_mark(path) is not None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["", "-wal", "-shm"])
@pytest.mark.parametrize(("put", "what"), [(os.mkdir, "a folder"), (os.mkfifo, "a pipe or a device")])
def test_what_is_no_file_in_the_place_of_the_log_is_damage_and_no_failing_disk(
    log: SqliteEventLog, path: Path, part: str, put: Callable[[str], None], what: str
) -> None:
    log.close()
    with suppress(FileNotFoundError):
        Path(f"{path}{part}").unlink()
    put(f"{path}{part}")
    with pytest.raises(LogCorrupt, match=f"{path.name}{part} is {what}, not a file"):
        SqliteLogReader(path)
    with pytest.raises(LogCorrupt, match=f"{path.name}{part} is {what}, not a file"):
        SqliteEventLog(path, now=NOW)


def test_nothing_is_written_through_links_in_place_of_our_files(path: Path, tmp_path: Path) -> None:
    """Root may work in the folder of a user, who can lay links there to any file."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    part = path.with_name(f".{NAME}.part")
    for link in (mark_of(path), part):
        link.unlink(missing_ok=True)
        link.symlink_to(precious)

    log = SqliteEventLog(path, now=NOW)
    append(log, 1)
    log.close()
    with pytest.raises(OSError, match="symbolic links"):
        write_address(path.with_name(NAME), "postgresql://tasks@db/tasks")
    with pytest.raises(OSError, match="symbolic links"):
        write_archive(part, [], GENESIS)
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 86, b"7", b"x y", b"7 zz", b"\xff \xff", b"9" * 20 + b" 0a", b"-1 0a"]
)
def test_a_mark_that_cannot_be_read_tells_nothing(path: Path, content: bytes) -> None:
    mark_of(path).write_bytes(content)
    assert read_mark(path) is None
