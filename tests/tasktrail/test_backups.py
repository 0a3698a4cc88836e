"""Backups hold what was acknowledged, are checked before they get their name, and come back as they were."""

import hashlib
import os
import re
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.backups import backup, check
from tasktrail.backups.backup import back_up, copy_log
from tasktrail.backups.check import check_chain, check_copy
from tasktrail.backups.restore import restore
from tasktrail.events import Checkpointed, Created, Fact, Started
from tasktrail.events.errors import BackupFailed, DataInUse, DataNotEmpty, InvalidPath, LogCorrupt
from tasktrail.events.log.chain import link
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.sqlite import LogReader, SqliteEventLog
from tasktrail.events.system_events import ServiceStarted
from tasktrail.projections import TaskViews, catch_up
from tasktrail.projections.verification import verify


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a log in which something has happened, and no service."""
    folder = tmp_path / "data"
    folder.mkdir()
    log = SqliteEventLog(folder / "log.db", now=BEGIN)
    random_history(Journal(log), 120, seed=5)
    log.close()
    return folder


def head_of(log: Path) -> tuple[int, str]:
    with closing(LogReader(log)) as reader:
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
    with closing(LogReader(tmp_path / "copy.db")) as log:
        assert verify(log).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"], "it needs no file beside it"


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


def test_a_name_that_is_taken_meanwhile_stays_taken(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"

    def somebody_else(reached: int, goal: int) -> None:
        if reached == goal:
            target.write_text("precious")

    with pytest.raises(InvalidPath, match="exists already"):
        back_up(data, target, somebody_else)
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"]


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


def test_a_full_disk_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(BackupFailed, match=r"cannot be copied"):
            back_up(data, tmp_path / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


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
    """What an intruder would do who has changed or removed a record: the hashes of all later ones fit again."""
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


def test_a_chain_that_ends_too_soon_or_has_a_gap_is_found(data: Path) -> None:
    last = head_of(data / "log.db")[0]
    with pytest.raises(LogCorrupt, match=f"nothing behind position {last}"):
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
            with closing(LogReader(Path(taken.path))) as log:
                found = verify(log)
            assert found.ok
            assert found.tasks >= acknowledged
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
    with closing(LogReader(data / "log.db")) as reader, closing(TaskViews(data / "views.db")) as views:
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
    with closing(LogReader(Path(restored.kept) / "log.db")) as old:
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
    """Refused, or of no effect on any record, answer or index: a page has room that nothing is stored in."""
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
        with closing(LogReader(folder / "log.db")) as log:
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
