"""Backups hold everything acknowledged, are checked before they get their name, and restore the same state."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from forgery import put_endless_view
from histories import BEGIN, Journal, random_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.backups import backup, check, incremental
from tasktrail.backups.backup import back_up, copy_log
from tasktrail.backups.check import check_chain, check_copy
from tasktrail.backups.incremental import add_since
from tasktrail.backups.restore import restore
from tasktrail.events import Checkpointed, Created, CreateTask, Fact, Started
from tasktrail.events.errors import BackupFailed, BaseUnfit, DataInUse, DataNotEmpty, InvalidPath, LogCorrupt
from tasktrail.events.log.chain import link
from tasktrail.events.log.event_log import Head
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.migrations import migrations
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import EndpointEnabled, ServiceStarted
from tasktrail.projections import TaskViews, catch_up
from tasktrail.projections.verification import verify


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a folder with a log in which something has happened, and no service."""
    folder = tmp_path / "data"
    folder.mkdir()
    log = SqliteEventLog(folder / "log.db", now=BEGIN)
    random_history(Journal(log), 120, seed=5)
    log.close()
    return folder


@pytest.fixture
def data_in(tmp_path: Path) -> Path:
    """Return the folder of that log."""
    return tmp_path / "data"


def head_of(log: Path) -> tuple[int, str]:
    with closing(SqliteLogReader(log)) as reader:
        head = reader.head()
    return head.position, head.hash.hex()


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- taking ----------------------------------------------------------------------------------------------------------


def test_a_backup_is_one_file_that_ends_where_the_log_ends(data: Path, tmp_path: Path) -> None:
    taken = back_up(data, tmp_path / "copy.db")
    assert (taken.position, taken.head) == head_of(data / "log.db")
    assert taken.size == (tmp_path / "copy.db").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"]
    with closing(SqliteLogReader(tmp_path / "copy.db")) as log:
        assert verify(log).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"], "it needs no file beside it"


_ON_A_READ_ONLY_MOUNT = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"
"$2" -m tasktrail --data "$1" backup "$3" --base "$4"
"$2" -m tasktrail --data "$1" backup "$5"
"""


def test_a_log_on_a_file_system_that_has_become_read_only_is_backed_up(data: Path, tmp_path: Path) -> None:
    """After a fault of the disk the kernel mounts it so, and then a backup is wanted most."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("not allowed to mount")
    earlier = back_up(data, tmp_path / "earlier.db")
    files = [str(tmp_path / name) for name in ("later.db", "earlier.db", "whole.db")]
    script = ["unshare", "--mount", "sh", "-euc", _ON_A_READ_ONLY_MOUNT, "sh", str(data), sys.executable, *files]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("later.db", "whole.db"):
        assert restore(tmp_path / name, tmp_path / f"of-{name}").head == earlier.head


def test_a_log_that_is_written_to_while_it_was_copied_as_it_stood_is_copied_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen because its file system was read-only, and somebody has mounted it for writing meanwhile."""
    opened = check.open_log_as_it_is
    monkeypatch.setattr("tasktrail.backups.backup.open_log_as_it_is", lambda path: (opened(path)[0], True))
    with closing(SqliteEventLog(data / "log.db", now=BEGIN)), pytest.raises(BackupFailed, match="begun to write"):
        back_up(data, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_log_that_may_not_be_read_is_told_as_such(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The obstacle is not the folder of the backup."""

    def refuse(*_arguments: object) -> None:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorname = "SQLITE_CANTOPEN"
        raise error

    monkeypatch.setattr(check, "connect_read_only", refuse)
    with pytest.raises(BackupFailed, match=r"log\.db cannot be read: unable to open") as told:
        back_up(data, tmp_path / "copy.db")
    assert "belong to the user of the service" in told.value.advice


def test_only_the_owner_can_read_a_backup(data: Path, tmp_path: Path) -> None:
    assert Path(back_up(data, tmp_path / "copy.db").path).stat().st_mode & 0o777 == 0o600


def test_into_a_folder_each_backup_gets_a_name_of_its_own(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    taken = back_up(data, tmp_path / "backups")
    assert Path(taken.path).parent == tmp_path / "backups"
    assert Path(taken.path).name.endswith(f"Z-{taken.position}.db")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [Path(taken.path).name]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(data: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "copy.db"
    if kind == "file":
        target.write_text("precious")
    else:
        target.symlink_to(tmp_path / "nowhere")

    def now() -> str:
        return str(target.readlink()) if kind == "link" else target.read_text()

    before = now()
    with pytest.raises(InvalidPath, match="exists already"):
        back_up(data, target)
    assert now() == before


@pytest.mark.parametrize("ending", ["/", "/."])
def test_a_folder_that_is_not_there_becomes_no_file_of_its_name(data: Path, tmp_path: Path, ending: str) -> None:
    with pytest.raises(InvalidPath, match="There is no folder"):
        back_up(data, f"{tmp_path}/backups{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_name_that_is_taken_meanwhile_stays_taken(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"

    def somebody_else(reached: int, goal: int) -> None:
        if reached == goal:
            target.write_text("precious")

    with pytest.raises(InvalidPath, match="exists already"):
        back_up(data, target, somebody_else)
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"]


@pytest.mark.parametrize("name", ["x" * 300, f"{'y' * 300}/a.db", f"{'z' * 300}/"])
def test_a_name_that_is_too_long_is_refused_as_such(data: Path, tmp_path: Path, name: str) -> None:
    """From Python it was an OSError, which only the command line put into words."""
    with pytest.raises(InvalidPath, match="File name too long") as caught:
        back_up(data, f"{tmp_path}/{name}")
    assert caught.value.field == "destination"


@pytest.mark.parametrize("missing", ["log", "folder"])
def test_without_a_log_or_a_folder_there_is_no_backup(data: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "empty" if missing == "log" else data
    with pytest.raises(InvalidPath, match="There is no"):
        back_up(folder, tmp_path / ("copy.db" if missing == "log" else "no/copy.db"))
    assert not (tmp_path / "empty").exists()


def test_a_damaged_log_gives_no_backup_and_the_position_is_told(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / "log.db")) as log:
        log.execute("DROP TRIGGER events_are_not_changed")
        log.execute("UPDATE events SET actor = 'nobody' WHERE position = 7")
        log.commit()
    with pytest.raises(LogCorrupt, match="position 7"):
        back_up(data, tmp_path / "copy.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_of_a_log_whose_schema_is_no_text_there_is_no_backup_and_it_can_be_replaced(data: Path, tmp_path: Path) -> None:
    """SQLite quotes in its error the text that it cannot read, so the error cannot be read either."""
    taken = back_up(data, tmp_path / "copy.db")
    shutil.copytree(data, tmp_path / "changed")
    shutil.copyfile(tmp_path / "copy.db", tmp_path / "base.db")
    for changed in (tmp_path / "changed" / "log.db", tmp_path / "base.db"):
        with closing(sqlite3.connect(changed, isolation_level=None)) as log:
            log.execute("PRAGMA writable_schema = ON")
            log.execute("UPDATE sqlite_schema SET name = CAST(x'ff' AS TEXT), sql = 'CREATE x' WHERE name = 'answers'")
    with pytest.raises(BaseUnfit, match="no UTF-8"):
        back_up(data, tmp_path / "no.db", base=tmp_path / "base.db")
    with pytest.raises(LogCorrupt, match="no UTF-8"):
        back_up(tmp_path / "changed", tmp_path / "no.db")
    with pytest.raises(LogCorrupt, match="no UTF-8"):
        restore(tmp_path / "changed", tmp_path / "new")
    assert restore(tmp_path / "copy.db", tmp_path / "changed", force=True).head == taken.head


def test_an_earlier_backup_with_a_view_without_end_is_none_to_go_on_from(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "earlier.db")
    put_endless_view(tmp_path / "earlier.db", "epochs")
    with pytest.raises(BaseUnfit):
        back_up(data, tmp_path / "later.db", base=tmp_path / "earlier.db")


@pytest.mark.parametrize("table", ["events", "answers", "epochs", "_sqlite_migrations"])
def test_of_a_log_with_a_view_without_end_there_is_no_backup_and_it_can_be_replaced(
    data: Path, tmp_path: Path, table: str
) -> None:
    taken = back_up(data, tmp_path / "copy.db")
    shutil.copytree(data, tmp_path / "changed")
    put_endless_view(tmp_path / "changed" / "log.db", table)
    with pytest.raises(LogCorrupt):
        back_up(tmp_path / "changed", tmp_path / "no.db")
    with pytest.raises(LogCorrupt):
        restore(tmp_path / "changed", tmp_path / "new")
    assert restore(tmp_path / "copy.db", tmp_path / "changed", force=True).head == taken.head
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed", "copy.db", "data"]


def test_what_is_no_log_is_not_backed_up(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.db").write_bytes(b"no database at all" * 500)
    with pytest.raises(LogCorrupt):
        back_up(tmp_path / "data", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_part_that_a_killed_backup_left_is_overwritten_and_one_being_written_is_not(
    data: Path, tmp_path: Path
) -> None:
    part = tmp_path / ".copy.db.part"
    part.write_bytes(b"half of a backup" * 10_000)
    with backup.part_file(tmp_path / "copy.db"), pytest.raises(BackupFailed, match="being written"):
        back_up(data, tmp_path / "copy.db")
    part.write_bytes(b"half of a backup" * 10_000)
    assert back_up(data, tmp_path / "copy.db").position == head_of(data / "log.db")[0]
    assert not part.exists()


@pytest.mark.parametrize("planted", ["link", "hard link", "pipe", "file for all"])
def test_what_somebody_has_planted_beside_a_backup_is_not_written_to(data: Path, tmp_path: Path, planted: str) -> None:
    folder, precious = tmp_path / "shared", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("of somebody else")
    part = folder / ".copy.db.part"
    match planted:
        case "link":
            part.symlink_to(precious)
        case "hard link":
            part.hardlink_to(precious)
        case "pipe":
            os.mkfifo(part)
        case _:
            part.touch()
            part.chmod(0o666)

    taken = back_up(data, folder / "copy.db")
    found = Path(taken.path).lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_nlink) == (0o600, 1)
    assert precious.read_text() == "of somebody else"
    assert list(folder.iterdir()) == [folder / "copy.db"]


def test_a_folder_in_the_way_of_a_backup_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".copy.db.part").mkdir()
    with pytest.raises(BackupFailed, match="Nothing can be written beside"):
        back_up(data, tmp_path / "copy.db")


@pytest.mark.parametrize("room", [50_000, 0])
@pytest.mark.parametrize("incremental", [False, True])
def test_a_full_disk_leaves_nothing_behind(
    journal: Journal, data_in: Path, tmp_path: Path, room: int, *, incremental: bool
) -> None:
    resource = pytest.importorskip("resource")
    first = back_up(data_in, tmp_path / "first.db")
    random_history(journal, 200, seed=9)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # None for new records, or for most of the copy.
    resource.setrlimit(resource.RLIMIT_FSIZE, (room or first.size, before[1]))
    try:
        with pytest.raises(BackupFailed, match=r"cannot be (copied|added)"):
            back_up(data_in, tmp_path / "copy.db", base=first.path if incremental else None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "first.db"]


def test_several_processes_check_a_large_copy_and_each_part_is_looked_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_SHARE", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    copy = tmp_path / "copy.db"
    copy.touch()
    head = copy_log(data / "log.db", copy)
    check_copy(copy, head)
    with closing(sqlite3.connect(copy)) as log:
        log.execute("DROP TRIGGER events_are_not_changed")
        log.execute("UPDATE events SET reason = 'none' WHERE position = ?", (head.position - 3,))
        log.commit()
    with pytest.raises(LogCorrupt, match=f"position {head.position - 3}"):
        check_copy(copy, head)


def test_the_structure_of_a_large_copy_is_checked_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_SHARE", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    copy = tmp_path / "copy.db"
    copy.touch()
    head = copy_log(data / "log.db", copy)
    with closing(sqlite3.connect(copy)) as log:
        root, size = log.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema "
            "WHERE name = 'one_version_once'"
        ).fetchone()
    with copy.open("r+b") as file:
        file.seek((root - 1) * size + size - 40)
        file.write(b"\x07")
    with pytest.raises(LogCorrupt, match="one_version_once"):
        check_copy(copy, head)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    texts=st.lists(TEXTS, min_size=3, max_size=3),
    numbers=st.lists(st.sampled_from([1, 9, 10, 1_000_000]), min_size=2, max_size=2),
)
def test_the_quick_way_over_the_chain_takes_every_text_and_number(
    texts: list[str], numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("texts") / "log.db"
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        held = Created(type="quick", held=True, input_file=texts[0])
        attempt, life = numbers
        facts = [
            Fact(number, life, held, BEGIN, texts[1], texts[2], attempt=attempt, life=life) for number in (1, 2, 10)
        ]
        log.append(facts, expected=0)
    check_chain(path, 0, 3)


def test_a_process_that_was_killed_while_it_checked_says_nothing_about_the_log(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(killed))
    monkeypatch.setattr(check, "_SHARE", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(BackupFailed, match=r"copy\.db could not be read back: SIGKILL"):
        back_up(data, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def make_chain_anew(path: Path, after: int) -> None:
    """Recompute the hashes of all later records, as an intruder who changed or removed a record would."""
    with closing(sqlite3.connect(path)) as log:
        log.execute("DROP TRIGGER IF EXISTS events_are_not_changed")
        [[before]] = log.execute("SELECT hash FROM events WHERE position <= ? ORDER BY position DESC LIMIT 1", (after,))
        for *row, _old in log.execute("SELECT * FROM events WHERE position > ? ORDER BY position", (after,)).fetchall():
            before = link(before, row)
            log.execute("UPDATE events SET hash = ? WHERE position = ?", (before, row[0]))
        log.commit()


@pytest.mark.parametrize("page", [1, 4, 250])
def test_a_gap_is_found_although_the_chain_was_made_anew(
    data: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_PAGE", page)
    last = head_of(data / "log.db")[0]
    with closing(sqlite3.connect(data / "log.db")) as log:
        log.execute("DROP TRIGGER events_are_not_deleted")
        log.execute("DELETE FROM events WHERE position = 9")
        log.commit()
    make_chain_anew(data / "log.db", 8)
    with pytest.raises(LogCorrupt, match=r"position (8|9)\b"):
        check_chain(data / "log.db", 0, last)


@pytest.mark.parametrize("value", [b"short", 7, "text"])
def test_a_hash_of_another_kind_is_damage_like_any_other(data: Path, value: object) -> None:
    with closing(sqlite3.connect(data / "log.db")) as log:
        log.execute("DROP TRIGGER events_are_not_changed")
        log.execute("PRAGMA writable_schema = ON")
        log.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'events'")
        log.commit()
    with closing(sqlite3.connect(data / "log.db")) as log:
        log.execute("UPDATE events SET hash = ? WHERE position = 5", (value,))
        log.commit()
    with pytest.raises(LogCorrupt, match="position 5"):
        check_chain(data / "log.db", 0, 9)


@pytest.mark.parametrize("name", ["drops", "archives"])
def test_what_is_damaged_beside_the_records_is_told_as_damage(data: Path, name: str) -> None:
    last = head_of(data / "log.db")[0]
    with closing(sqlite3.connect(data / "log.db")) as log:
        [[page]] = log.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
        [[size]] = log.execute("PRAGMA page_size")
    with (data / "log.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    with pytest.raises(LogCorrupt, match="is damaged"):
        check_chain(data / "log.db", 0, last)
    with pytest.raises(LogCorrupt, match="is damaged"):
        check_copy(data / "log.db", Head(last, b""))


def test_a_chain_that_ends_too_soon_or_has_a_gap_is_found(data: Path) -> None:
    last = head_of(data / "log.db")[0]
    with pytest.raises(LogCorrupt, match=f"nothing after position {last}"):
        check_chain(data / "log.db", 0, last + 1)
    with closing(sqlite3.connect(data / "log.db")) as log:
        log.execute("DROP TRIGGER events_are_not_deleted")
        log.execute("DELETE FROM events WHERE position = 9")
        log.commit()
    with pytest.raises(LogCorrupt, match="position 9"):
        check_chain(data / "log.db", 0, last)


def test_while_the_service_works_all_that_was_acknowledged_before_is_in_it(
    service: TaskService, tmp_path: Path
) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            service.create_task(type="quick")

    sender = threading.Thread(target=load)
    sender.start()
    try:
        for number in range(3):
            acknowledged = service.create_task(type="quick")
            taken = service.backup(tmp_path / f"{number}.db")
            with closing(SqliteLogReader(Path(taken.path))) as log:
                found = verify(log)
            assert found.ok
            assert found.tasks >= acknowledged
            assert (found.position, found.head) == (taken.position, taken.head)
    finally:
        stop.set()
        sender.join()


# --- from an earlier one -----------------------------------------------------------------------------------------


def rows_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a log, table by table, without their place in the file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as log:
        log.text_factory = bytes
        tables = ("events", "answers", "epochs", "_sqlite_migrations")
        rows = {name: log.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}
        return {
            **rows,
            "schema": log.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 2").fetchall(),
        }


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    steps=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    at_once=st.sampled_from([1, 7, 50_000]),
)
def test_a_backup_from_an_earlier_one_is_row_for_row_a_whole_one(
    seed: int, steps: list[int], at_once: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "data").mkdir()
    base: Path | None = None
    with pytest.MonkeyPatch.context() as patch, closing(SqliteEventLog(folder / "data" / "log.db", now=BEGIN)) as log:
        patch.setattr(incremental, "_STEP", at_once)
        journal = Journal(log)
        for number, more in enumerate(steps):
            random_history(journal, more, seed + number)
            journal.record(0, EndpointEnabled(target="x"), command_id=f"{seed * number % 7}-{number}")
            whole = back_up(folder / "data", folder / f"whole-{number}.db")
            taken = back_up(folder / "data", folder / f"{number}.db", base=base)
            assert rows_of(folder / f"{number}.db") == rows_of(folder / f"whole-{number}.db")
            assert (taken.position, taken.head) == (whole.position, whole.head)
            with closing(SqliteLogReader(folder / f"{number}.db")) as copy:
                assert verify(copy).ok
            base = folder / f"{number}.db"


def test_what_was_added_is_told_and_the_earlier_one_stays_as_it_was(
    journal: Journal, data_in: Path, tmp_path: Path
) -> None:
    first = back_up(data_in, tmp_path / "first.db")
    before = contents(tmp_path)["first.db"]
    random_history(journal, 200, seed=9)
    second = back_up(data_in, tmp_path / "second.db", base=tmp_path / "first.db")
    assert (second.base, second.checked_from) == (str(tmp_path / "first.db"), first.position + 1)
    assert second.records_added == second.position - first.position > 50
    assert second.bytes_added == second.size - first.size > 0
    assert (first.base, first.records_added, first.bytes_added) == ("", first.position, first.size)
    assert contents(tmp_path)["first.db"] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "first.db", "second.db"]
    (tmp_path / "first.db").unlink()
    assert restore(tmp_path / "second.db", tmp_path / "new").head == second.head


def test_nothing_new_gives_a_backup_too(data: Path, tmp_path: Path) -> None:
    first = back_up(data, tmp_path / "first.db")
    second = back_up(data, tmp_path / "second.db", base=tmp_path / "first.db")
    assert (second.head, second.records_added, second.bytes_added) == (first.head, 0, 0)


def test_of_a_folder_the_newest_backup_that_fits_is_taken(journal: Journal, data_in: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    first = back_up(data_in, folder, base=folder)
    assert (first.base, first.note) == ("", f"No file in {folder} has the name of a backup, tasktrail-TIME-POSITION.db")
    fits = folder / "tasktrail-20260101T000000Z-9.db"
    Path(first.path).rename(fits)
    shutil.copy(fits, folder / "tasktrail-20251231T235959Z-10.db")
    shutil.copy(fits, folder / "zzz.db")
    (folder / "tasktrail-20260102T000000Z-9.db").write_bytes(fits.read_bytes()[:-4096])
    random_history(journal, 5, seed=9)
    second = back_up(data_in, tmp_path / "second.db", base=folder)
    assert second.base == str(fits)
    assert "was cut short" in second.note
    assert "tasktrail-20260102T000000Z-9.db" in second.note


def backups_in(folder: Path) -> dict[str, str]:
    """Return the files in a folder, with the content of each."""
    return {name: digest for name, digest in contents(folder).items() if "/" not in name}


def another_log(folder: Path, seed: int) -> None:
    folder.mkdir()
    with closing(SqliteEventLog(folder / "log.db", now=BEGIN)) as log:
        random_history(Journal(log), 30, seed)


def test_a_backup_of_another_log_is_refused(data: Path, tmp_path: Path) -> None:
    another_log(tmp_path / "other", seed=6)
    back_up(tmp_path / "other", tmp_path / "other.db")
    before = backups_in(tmp_path)
    with pytest.raises(BaseUnfit, match=r"other\.db is of another history") as refused:
        back_up(data, tmp_path / "copy.db", base=tmp_path / "other.db")
    assert refused.value.advice == "Name another backup of this log, or take a full one, without --base."
    assert backups_in(tmp_path) == before
    (tmp_path / "backups").mkdir()
    shutil.copy(tmp_path / "other.db", tmp_path / "backups" / "tasktrail-20260101T000000Z-9.db")
    taken = back_up(data, tmp_path / "copy.db", base=tmp_path / "backups")
    assert (taken.base, "another history" in taken.note) == ("", True)


def test_a_backup_of_a_later_time_is_refused(journal: Journal, data_in: Path, tmp_path: Path) -> None:
    back_up(data_in, tmp_path / "first.db")
    random_history(journal, 20, seed=9)
    later = back_up(data_in, tmp_path / "later.db")
    restored = restore(tmp_path / "first.db", tmp_path / "older")
    with pytest.raises(BaseUnfit, match=f"ends at position {later.position}.* at {restored.position}") as refused:
        back_up(tmp_path / "older", tmp_path / "copy.db", base=tmp_path / "later.db")
    assert "restore that backup" in refused.value.advice


def test_where_two_histories_part_is_told(journal: Journal, data_in: Path, tmp_path: Path) -> None:
    shared = back_up(data_in, tmp_path / "first.db").position
    restore(tmp_path / "first.db", tmp_path / "older")
    random_history(journal, 20, seed=9)
    back_up(data_in, tmp_path / "left.db")
    with closing(SqliteEventLog(tmp_path / "older" / "log.db", now=BEGIN)) as log:
        held = Created(type="quick", held=True)
        log.append([Fact(900 + number, 1, held, BEGIN, life=1) for number in range(200)], expected=shared)
    with pytest.raises(BaseUnfit, match=f"up to position {shared} only"):
        back_up(tmp_path / "older", tmp_path / "copy.db", base=tmp_path / "left.db")


def test_a_service_that_has_recorded_nothing_makes_another_history_too(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "first.db")
    restore(tmp_path / "first.db", tmp_path / "other")
    for folder in (data, tmp_path / "other"):
        SqliteEventLog(folder / "log.db", now=BEGIN + timedelta(days=len(folder.name))).close()
    back_up(data, tmp_path / "second.db", base=tmp_path / "first.db")
    with pytest.raises(BaseUnfit, match="other services"):
        back_up(tmp_path / "other", tmp_path / "third.db", base=tmp_path / "second.db")


def test_after_an_upgrade_the_whole_log_is_copied(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = Database(tmp_path / "old" / "log.db")
    migrations.apply(old, stop_before="sum_rows")
    old.close()
    first = back_up(tmp_path / "old", tmp_path / "first.db")
    assert back_up(tmp_path / "old", tmp_path / "second.db", base=tmp_path / "first.db").base == first.path
    SqliteEventLog(tmp_path / "old" / "log.db", now=BEGIN).close()
    taken = back_up(tmp_path / "old", tmp_path / "third.db", base=tmp_path / "first.db")
    assert taken.base == ""
    assert "first.db has the tables of another version" in taken.note
    assert rows_of(tmp_path / "third.db") == rows_of(tmp_path / "old" / "log.db")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("cut", "was cut short"),
        ("grown", "was cut short, or is damaged"),
        ("text", "is no backup"),
        ("empty", "is no backup"),
        ("in use", "is in use"),
        ("opened", "another program has opened it to write"),
        ("no log", "is no log of tasktrail"),
        ("the log", "is the log itself"),
    ],
)
def test_a_file_that_is_not_as_a_backup_was_written_is_refused(
    data: Path, tmp_path: Path, harm: str, told: str
) -> None:
    base = tmp_path / "base.db"
    back_up(data, base)
    match harm:
        case "cut":
            os.truncate(base, base.stat().st_size - 4096)
        case "grown":
            os.truncate(base, base.stat().st_size + 4096)
        case "text" | "empty":
            base.write_text("Dear all" if harm == "text" else "")
        case "in use":
            (tmp_path / "base.db-wal").touch()
        case "opened":
            with closing(sqlite3.connect(base)) as log:
                log.execute("PRAGMA journal_mode = WAL")
        case "no log":
            base.unlink()
            with closing(sqlite3.connect(base)) as log:
                log.execute("CREATE TABLE letters (text)")
        case "the log":
            base = data / "log.db"
    before = backups_in(tmp_path)
    with pytest.raises(BaseUnfit, match=told):
        back_up(data, tmp_path / "copy.db", base=base)
    assert backups_in(tmp_path) == before


def test_an_earlier_backup_that_is_not_there_is_no_base(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidPath, match="There is no backup at") as refused:
        back_up(data, tmp_path / "copy.db", base=tmp_path / "gone.db")
    assert refused.value.field == "base"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_damage_that_adding_meets_is_told_and_a_folder_has_a_whole_backup_all_the_same(
    journal: Journal, data_in: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    base = Path(back_up(data_in, folder).path)
    with closing(sqlite3.connect(base)) as log:
        root, size = log.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema "
            "WHERE name = 'one_version_once'"
        ).fetchone()
    with base.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\x99" * 100)
    random_history(journal, 20, seed=9)
    if kind == "file":
        with pytest.raises(BaseUnfit, match=f"{base} is damaged"):
            back_up(data_in, tmp_path / "copy.db", base=base)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "data"]
        return
    taken = back_up(data_in, tmp_path / "copy.db", base=folder)
    assert (taken.base, f"{base} is damaged" in taken.note) == ("", True)
    assert rows_of(tmp_path / "copy.db") == rows_of(data_in / "log.db")


def test_a_log_that_is_damaged_behind_the_earlier_backup_gives_none(
    journal: Journal, data_in: Path, tmp_path: Path
) -> None:
    first = back_up(data_in, tmp_path / "first.db")
    random_history(journal, 20, seed=9)
    with closing(sqlite3.connect(data_in / "log.db")) as log:
        log.execute("DROP TRIGGER events_are_not_changed")
        [[trigger]] = log.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_are_not_deleted'")
        log.execute("UPDATE events SET actor = 'nobody' WHERE position = ?", (first.position + 3,))
        log.execute(trigger.replace("deleted", "changed").replace("DELETE", "UPDATE"))
        log.commit()
    with pytest.raises(LogCorrupt, match=f"position {first.position + 3}"):
        back_up(data_in, tmp_path / "copy.db", base=tmp_path / "first.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "first.db"]


def test_what_is_in_the_earlier_one_is_read_again_only_when_asked_for(
    journal: Journal, data_in: Path, tmp_path: Path
) -> None:
    """A bit that flips in an earlier backup is in every later one made from it, until somebody reads it."""
    back_up(data_in, tmp_path / "first.db")
    with closing(sqlite3.connect(tmp_path / "first.db")) as log:
        [[trigger]] = log.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_are_not_changed'")
        log.execute("DROP TRIGGER events_are_not_changed")
        log.execute("UPDATE events SET actor = 'nobody' WHERE position = 7")
        log.execute(trigger)
        log.commit()
    random_history(journal, 20, seed=9)
    back_up(data_in, tmp_path / "second.db", base=tmp_path / "first.db")
    with pytest.raises(LogCorrupt, match="position 7"):
        back_up(data_in, tmp_path / "third.db", base=tmp_path / "first.db", check=True)
    assert not (tmp_path / "third.db").exists()
    with pytest.raises(LogCorrupt, match="position 7"):
        restore(tmp_path / "second.db", tmp_path / "new", only_check=True)


def test_a_backup_that_fails_half_way_leaves_the_earlier_one_and_no_other(
    journal: Journal, data_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(data_in, tmp_path / "first.db")
    before = contents(tmp_path)["first.db"]
    random_history(journal, 20, seed=9)

    def fails(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup, "check_copy", fails)
    with pytest.raises(KeyboardInterrupt):
        back_up(data_in, tmp_path / "second.db", base=tmp_path / "first.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "first.db"]
    assert contents(tmp_path)["first.db"] == before


def refuses(*_arguments: object) -> int:
    """Raise an error in place of a system call."""
    raise OSError(errno.EXDEV, "two file systems")


def test_where_the_kernel_does_not_copy_files_it_is_done_by_hand(
    journal: Journal, data_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", refuses)
    monkeypatch.setattr(os, "copy_file_range", refuses, raising=False)
    back_up(data_in, tmp_path / "first.db")
    random_history(journal, 20, seed=9)
    taken = back_up(data_in, tmp_path / "second.db", base=tmp_path / "first.db", check=True)
    assert taken.base
    assert rows_of(tmp_path / "second.db") == rows_of(data_in / "log.db")


def test_a_copy_gets_to_the_disk_piece_by_piece(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits of a service on the same disk wait for one piece at most, not for the whole copy."""
    unsynced: list[int] = []
    reached, sync = [0], os.fsync

    def note(now: int, _goal: int) -> None:
        reached[0] = now

    def fsync(descriptor: int) -> None:
        unsynced.append(os.fstat(descriptor).st_size - reached[0])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(fcntl, "ioctl", refuses)
    monkeypatch.setattr(backup, "_PAGES", 4)
    monkeypatch.setattr(incremental, "_PIECE", 4 * 4096)
    copied = [tmp_path / "whole.db", tmp_path / "incremental.db"]
    for path in copied:
        path.touch()
    copy_log(data / "log.db", copied[0], note)
    reached[0] = 0
    incremental._copy_file(copied[0], copied[1], note)
    pieces = copied[0].stat().st_size // (4 * 4096)
    assert pieces >= 3
    assert len(unsynced) >= 2 * pieces
    assert max(unsynced) <= 2 * 4 * 4096


def test_several_processes_check_what_is_new_if_it_is_much(
    journal: Journal, data_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = back_up(data_in, tmp_path / "first.db")
    random_history(journal, 100, seed=9)
    monkeypatch.setattr(check, "_SHARE", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    copy = tmp_path / "copy.db"
    copy.touch()
    _before, head = add_since(data_in / "log.db", tmp_path / "first.db", copy)
    check_copy(copy, head, after=first.position)
    with closing(sqlite3.connect(copy)) as log:
        log.execute("DROP TRIGGER events_are_not_changed")
        log.execute("UPDATE events SET reason = 'none' WHERE position = ?", (head.position - 3,))
        log.commit()
    with pytest.raises(LogCorrupt, match=f"position {head.position - 3}"):
        check_copy(copy, head, after=first.position)


def test_under_load_each_backup_may_come_from_the_one_before(service: TaskService, tmp_path: Path) -> None:
    stop = threading.Event()

    def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            service.create_task(type="quick", unique="one", held=number > 1)
            service.set_limits(max_concurrent=1 + number % 3)

    sender = threading.Thread(target=load)
    sender.start()
    base: Path | None = None
    try:
        for number in range(4):
            acknowledged = service.send(CreateTask(type="quick", command_id=f"mine-{number}"))
            taken = service.backup(tmp_path / f"{number}.db", base=base)
            assert taken.base == str(base or "")
            base = tmp_path / f"{number}.db"
            with closing(SqliteLogReader(base)) as log:
                found = verify(log)
                assert log.read_task(acknowledged.task_id)
            assert found.ok
            assert (found.position, found.head) == (taken.position, taken.head)
    finally:
        stop.set()
        sender.join()


# --- restoring -------------------------------------------------------------------------------------------------------


def test_a_backup_comes_back_as_it_was(data: Path, tmp_path: Path) -> None:
    taken = back_up(data, tmp_path / "copy.db")
    restored = restore(tmp_path / "copy.db", tmp_path / "new")
    assert (restored.position, restored.head) == (taken.position, taken.head)
    assert (restored.replaced_position, restored.kept) == (0, "")
    with Reader(data) as old, Reader(tmp_path / "new") as new:
        assert list(old.log()) == list(new.log())
        assert restored.recorded_at == list(old.log())[-1].recorded_at
        assert new.verify().ok


def test_the_next_service_takes_a_new_epoch(open_service: Callable[..., TaskService], tmp_path: Path) -> None:
    service = open_service()
    service.wait(service.create_task(type="quick"), 30)
    service.backup(tmp_path / "copy.db")
    service.close()
    shutil.rmtree(tmp_path / "data")
    restore(tmp_path / "copy.db", tmp_path / "data")
    again = open_service()
    assert again.wait(again.create_task(type="quick"), 30).id == 2
    epochs = [record.event.epoch for record in again.log() if isinstance(record.event, ServiceStarted)]
    assert epochs == [1, 2]
    assert again.verify().ok


def test_a_folder_with_a_log_is_refused_and_left_as_it_is(data: Path, tmp_path: Path) -> None:
    taken = back_up(data, tmp_path / "copy.db")
    before = contents(data)
    with pytest.raises(DataNotEmpty, match=f"ends at position {taken.position}"):
        restore(tmp_path / "copy.db", data)
    after = contents(data)
    after.pop("lock")
    assert {name: digest for name, digest in after.items() if not name.startswith("log.db-")} == {
        name: digest for name, digest in before.items() if not name.startswith("log.db-")
    }


def test_by_force_the_old_log_is_kept_with_all_that_belongs_to_it(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "copy.db")
    log = SqliteEventLog(data / "log.db", now=BEGIN)
    started = ServiceStarted(version="1", epoch=99, pid=1, host="here")
    fact = Fact(0, 1_000, started, BEGIN, "test", "", "", "", "", 0, 0)
    log.append([fact], expected=log.head().position)
    with closing(SqliteLogReader(data / "log.db")) as reader, closing(TaskViews(data / "views.db")) as views:
        catch_up(reader, views)
    (data / "snapshots").mkdir()
    (data / "snapshots" / "scheduler").write_text("one")
    (data / "tmp" / "3").mkdir(parents=True)
    (data / "tmp" / "3" / "segment").write_text("half of a film")
    before = head_of(data / "log.db")
    log.close()

    restored = restore(tmp_path / "copy.db", data, force=True)

    kept = Path(restored.kept)
    assert restored.replaced_position == before[0]
    assert kept.parent == data
    assert head_of(kept / "log.db") == before
    assert (kept / "snapshots" / "scheduler").read_text() == "one"
    assert (kept / "tmp" / "3" / "segment").read_text() == "half of a film"
    assert (kept / "views.db").exists()
    assert not (data / "views.db").exists()
    assert list((data / "tmp").iterdir()) == []
    assert head_of(data / "log.db") == (restored.position, restored.head)


def test_a_write_ahead_log_never_meets_the_restored_log(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    service = open_service()
    service.create_task(type="quick", held=True)
    service.backup(tmp_path / "copy.db")
    late = service.create_task(type="quick")
    # As after a kill: the folder with a write-ahead log that was not folded in.
    shutil.copytree(tmp_path / "data", tmp_path / "killed", ignore=shutil.ignore_patterns("*.sock"))
    assert (tmp_path / "killed" / "log.db-wal").stat().st_size > 0

    restored = restore(tmp_path / "copy.db", tmp_path / "killed", force=True)

    assert not (tmp_path / "killed" / "log.db-wal").exists()
    with Reader(tmp_path / "killed") as reader:
        assert reader.verify().ok
        assert [record.position for record in reader.log()][-1] == restored.position
    with closing(SqliteLogReader(Path(restored.kept) / "log.db")) as old:
        assert old.read_task(late), "what was only in the write-ahead log is kept"


def test_a_log_that_cannot_be_read_is_put_aside_too(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "copy.db")
    (data / "log.db").write_bytes(b"no database at all" * 500)
    (data / "log.db-wal").write_bytes(b"nor this")
    restored = restore(tmp_path / "copy.db", data, force=True)
    assert restored.replaced_position == 0
    assert (Path(restored.kept) / "log.db").read_bytes() == b"no database at all" * 500
    assert (Path(restored.kept) / "log.db-wal").read_bytes() == b"nor this"
    with Reader(data) as reader:
        assert reader.verify().ok


@pytest.mark.parametrize("another", [False, True])
def test_what_a_service_saved_of_its_log_counts_as_one(
    open_service: Callable[..., TaskService], tmp_path: Path, *, another: bool
) -> None:
    """The log was deleted under it, or `another` is in its place. With force both are moved aside, and it starts."""
    data = tmp_path / "data"
    service = open_service()
    service.create_task(type="quick", held=True)
    service.backup(tmp_path / "copy.db")
    service.create_task(type="quick", held=True)
    service.close()
    rescued = data / "log.db.rescued"
    (data / "log.db").rename(rescued)
    if another:
        shutil.copy(tmp_path / "copy.db", data / "log.db")
    before = head_of(rescued)

    with pytest.raises(DataNotEmpty, match=f"ends at position {before[0]}"):
        restore(tmp_path / "copy.db", data)
    restored = restore(tmp_path / "copy.db", data, force=True)

    assert restored.replaced_position == before[0]
    assert head_of(Path(restored.kept) / "log.db.rescued") == before
    *_, accepted = [record.event for record in open_service().log() if isinstance(record.event, ServiceStarted)]
    assert accepted.accepted_loss is not None
    assert accepted.accepted_loss.known_position == before[0]


def test_a_write_ahead_log_alone_counts_as_a_log(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "copy.db")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "log.db-wal").write_bytes(b"of some other log")
    with pytest.raises(DataNotEmpty):
        restore(tmp_path / "copy.db", tmp_path / "other")
    restored = restore(tmp_path / "copy.db", tmp_path / "other", force=True)
    assert (Path(restored.kept) / "log.db-wal").read_bytes() == b"of some other log"


def test_while_a_service_runs_nothing_is_restored(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "copy.db")
    with DataLock(data / "lock"), pytest.raises(DataInUse):
        restore(tmp_path / "copy.db", data, force=True)


@pytest.mark.parametrize("only_check", [False, True])
def test_a_damaged_backup_changes_nothing(data: Path, tmp_path: Path, *, only_check: bool) -> None:
    copy = tmp_path / "copy.db"
    back_up(data, copy)
    with closing(sqlite3.connect(copy)) as log:
        [[trigger]] = log.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_are_not_changed'")
        log.execute("DROP TRIGGER events_are_not_changed")
        log.execute("UPDATE events SET actor = 'nobody' WHERE position = 7")
        log.execute(trigger)
        log.commit()
    before = head_of(data / "log.db")
    with pytest.raises(LogCorrupt, match="position 7"):
        restore(copy, data, force=True, only_check=only_check)
    assert head_of(data / "log.db") == before
    assert not list(data.glob("replaced-*"))


def test_no_flipped_bit_of_a_backup_is_restored(data: Path, tmp_path: Path) -> None:
    """It is refused, or affects no record, answer or index: a page has unused space."""
    whole = tmp_path / "copy.db"
    back_up(data, whole)
    with Reader(data) as reader:
        due = list(reader.log())
    refused = 0
    for number, at in enumerate(range(0, whole.stat().st_size, 4_093)):
        bad = tmp_path / "bad.db"
        shutil.copyfile(whole, bad)
        flip(bad, at)
        folder = tmp_path / f"new-{number}"
        try:
            restore(bad, folder)
        except LogCorrupt:
            refused += 1
            assert not (folder / "log.db").exists()
            continue
        with closing(SqliteLogReader(folder / "log.db")) as log:
            assert list(log.read()) == due
            assert verify(log).ok
    assert refused > 10


@pytest.mark.parametrize("cut", [0, 10, 99, 100, 4096, 0.5, -5000])
def test_a_backup_that_was_cut_is_told_as_that_by_its_own_name_and_leaves_no_folder(
    data: Path, tmp_path: Path, cut: float
) -> None:
    whole, short, new = tmp_path / "whole.db", tmp_path / "short.db", tmp_path / "far" / "new"
    back_up(data, whole)
    content = whole.read_bytes()
    short.write_bytes(content[: int(cut * len(content)) if 0 < cut < 1 else int(cut)])
    with pytest.raises(LogCorrupt) as refused:
        restore(short, new)
    assert str(short) in refused.value.message
    assert ".part" not in str(refused.value)
    assert re.search("is empty|is no log of tasktrail|damaged|cut short", refused.value.message)
    assert refused.value.advice == "Use another backup. Nothing was changed."
    assert not (tmp_path / "far").exists()


def test_damage_that_only_a_copy_shows_is_told_by_the_name_of_the_backup(data: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    back_up(data, whole)
    told: set[str] = set()
    for at in range(100, whole.stat().st_size, 1_021):
        bad = tmp_path / "bad.db"
        shutil.copyfile(whole, bad)
        flip(bad, at)
        try:
            restore(bad, tmp_path / "new", only_check=False)
        except LogCorrupt as error:
            told.add(str(error))
            assert not (tmp_path / "new").exists()
        else:
            shutil.rmtree(tmp_path / "new")
    assert len(told) > 5
    assert not [said for said in told if ".part" in said]


@pytest.mark.parametrize("there", [True, False])
def test_what_was_there_before_a_restore_that_failed_is_all_that_is_there_after_it(
    tmp_path: Path, *, there: bool
) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE letters (text)")
    if there:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "letter.txt").write_text("Dear all")
    with pytest.raises(LogCorrupt, match=r"other\.db is no log of tasktrail"):
        restore(other, tmp_path / "new")
    assert (tmp_path / "new").exists() == there
    assert [path.name for path in (tmp_path / "new").glob("*")] == ["letter.txt"] * there


@pytest.mark.parametrize("source", ["nothing", "itself", "no log"])
def test_only_a_log_from_elsewhere_is_a_backup(data: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "text").write_text("no database at all")
    where = {"nothing": tmp_path / "gone", "itself": data / "log.db", "no log": tmp_path / "text"}[source]
    with pytest.raises((InvalidPath, LogCorrupt)):
        restore(where, data, force=True)
    assert head_of(data / "log.db")[0]


def test_another_data_folder_may_be_restored_from(data: Path, tmp_path: Path) -> None:
    assert restore(data, tmp_path / "new").position == head_of(data / "log.db")[0]


def test_of_a_folder_of_backups_one_has_to_be_named(data: Path, tmp_path: Path) -> None:
    """`backup` accepts such a folder, also for `--base`."""
    folder = tmp_path / "backups"
    folder.mkdir()
    with pytest.raises(InvalidPath, match="is a folder without a log") as refused:
        restore(folder, tmp_path / "new")
    assert refused.value.advice == "Name the file of a backup, or a data folder."
    made = Path(back_up(data, folder).path)
    with pytest.raises(InvalidPath) as refused:
        restore(folder, tmp_path / "new")
    assert refused.value.advice == f"Name the file of a backup; the newest there is {made}."


@pytest.mark.slow
def test_a_task_whose_temp_files_were_not_in_the_backup_begins_at_0_and_completes(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    service = open_service(grace_period=0.2)
    task_id = service.create_task(type="pieces", options={"number": 6, "seconds": 0.2})
    for record in service.follow():
        if type(record.event) is Checkpointed:
            break
    service.backup(tmp_path / "copy.db")
    service.close()
    restored = restore(tmp_path / "copy.db", tmp_path / "data", force=True)
    assert (Path(restored.kept) / "tmp" / str(task_id)).exists()

    again = open_service()

    task = again.wait(task_id, 30)
    events: list[Any] = [record.event for record in again.events(task_id)]
    assert (task.status, task.result) == ("completed", {"found": 0, "made": 6})
    assert len([event for event in events if isinstance(event, Started)]) == 2
