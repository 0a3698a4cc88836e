"""Old records are moved into archives, and everything answers as before."""

import errno
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from forgery import forging
from owner import secret_file

from tasktrail import Client, TaskFilters, TaskService
from tasktrail.actors import archiver, retention
from tasktrail.actors.archiver import Archiver, discard_archive
from tasktrail.actors.core.messages import Archive, Forget
from tasktrail.actors.retention import Forgetter
from tasktrail.backups.restore import _put_archives_aside, restore
from tasktrail.cli.app import run
from tasktrail.events.errors import (
    BackupFailed,
    DiskFailed,
    InvalidPath,
    InvalidValue,
    LogCorrupt,
    LogFull,
    LogLocked,
    LogNotWritable,
    TaskForgotten,
    TasktrailError,
)
from tasktrail.events.log import archive_file
from tasktrail.events.log.archive_file import ArchiveFile
from tasktrail.events.log.archives import PUT_BACK
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.ranges import numbers_of
from tasktrail.events.system_events import RetentionConfigured, SegmentArchived, TasksForgotten
from tasktrail.http.server import HttpServer
from tasktrail.projections.proof.bundle import prove
from tasktrail.projections.proof.growth import prove_growth
from tasktrail.projections.proof.seals import SealCheck, make_seal, public_key
from tasktrail.projections.verification import verify

Opener = Callable[..., TaskService]

SIZE = 16
CANARY = "qzxcanary"


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Archiver, "size", SIZE)


def done(service: TaskService, number: int, **fields: Any) -> list[int]:
    """Return a number of tasks that have completed."""
    ids = [service.create_task(type="echo", **fields) for _ in range(number)]
    for task_id in ids:
        service.wait(task_id, 60)
    return ids


def answers(service: TaskService, until: int) -> list[Any]:
    """Ask about past and present, up to a position."""
    ids = range(1, 10)
    return [
        [service.events(task_id) for task_id in ids],
        list(service.log(0, until)),
        list(service.log(SIZE - 2, 5)),
        [service.attempts(task_id) for task_id in ids],
        [service.list_tasks(TaskFilters(as_of=position, sort="id")) for position in range(0, until, 3)],
        [service.stats(as_of=position).counts for position in range(0, until, 3)],
        service.list_tasks(TaskFilters(sort="id")),
    ]


def stored(service: TaskService) -> int:
    """Return the first position in the table of the log."""
    with closing(SqliteLogReader(service.paths.log)) as log:
        return int(log._conn.execute("SELECT min(position) FROM events").fetchone()[0])


def test_everything_answers_as_before(open_service: Opener) -> None:
    with open_service() as service:
        cancelled = service.create_task(type="echo", held=True, label="of the past")
        service.cancel_task(cancelled)
        done(service, 10, label="of the past", user_id=3)
        until = service.stats().position
        before = answers(service, until)
        would = service.archive(dry_run=True)
        found = service.archive(reason="house rule", actor="ann")
        assert (would.archives, would.until) == (found.archives, found.until)
        assert found.archives == (until - 1) // SIZE
        assert stored(service) == found.until + 1
        assert answers(service, until) == before
        assert service.verify().findings == ()
        assert service.rebuild().differences == ()
        record = next(iter(service.log(found.position - 1, 1)))
        assert (record.name, record.actor, record.reason) == ("segment_archived", "ann", "house rule")
        assert service.archive().archives == 0
    shutil.rmtree(service.paths.snapshots, ignore_errors=True)
    service.paths.views.unlink()
    service = open_service()
    assert answers(service, until) == before
    assert service.verify().findings == ()
    again = service.retry_task(cancelled)
    assert service.wait(cancelled, 60).status == "completed"
    assert service.events(cancelled)[-1].position > again.position
    assert service.verify().findings == ()


def test_what_belongs_to_an_unfinished_task_stays_and_all_behind_it(open_service: Opener) -> None:
    service = open_service()
    done(service, 5)
    held = service.create_task(type="echo", held=True)
    created = service.events(held)[0].position
    done(service, 10)
    assert service.archive().until == (created - 1) // SIZE * SIZE
    service.cancel_task(held)
    assert service.archive().until > created


def test_only_what_was_recorded_before_a_point_is_archived(service: TaskService) -> None:
    done(service, 15)
    assert service.archive(SIZE).until == 0
    assert service.archive(SIZE + 1).until == SIZE
    at = next(iter(service.log(2 * SIZE - 1, 1))).recorded_at
    assert service.archive(at - timedelta(microseconds=1)).until == SIZE
    assert service.archive(at.isoformat()).until == 2 * SIZE
    for wrong in ("soon", -1, datetime(2026, 1, 1)):  # noqa: DTZ001 - without a zone on purpose
        with pytest.raises(InvalidValue) as refused:
            service.archive(wrong)
        assert refused.value.field == "before"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, LogFull),
        (errno.EDQUOT, LogFull),
        (errno.EACCES, LogNotWritable),
        (errno.EROFS, LogNotWritable),
        (errno.ENOENT, DiskFailed),
        (errno.EIO, DiskFailed),
    ],
)
def test_an_archive_for_which_there_is_no_room_says_so(
    service: TaskService, monkeypatch: pytest.MonkeyPatch, number: int, told: type[Exception]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    done(service, 15)
    with monkeypatch.context() as full:
        full.setattr(archiver, "write_archive", fails)
        with pytest.raises(told, match="cannot be written"):
            service.archive(SIZE + 1)
    assert service.archive(SIZE + 1).until == SIZE


@pytest.mark.parametrize(("number", "told"), [(errno.EACCES, LogNotWritable), (errno.EIO, DiskFailed)])
def test_an_archive_that_cannot_be_read_says_so(
    service: TaskService, monkeypatch: pytest.MonkeyPatch, number: int, told: type[TasktrailError]
) -> None:
    done(service, 15)
    service.archive(SIZE + 1)
    opens = Path.open

    def fails(path: Path, *mode: Any, **more: Any) -> Any:
        if path.suffix == ".zst":
            raise OSError(number, os.strerror(number))
        return opens(path, *mode, **more)

    archive_file._index.cache_clear()
    archive_file._frame.cache_clear()
    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(told, match="An archive cannot be read"):
        list(service.log())
    (found,) = service.verify().findings
    assert (found.code, found.remedy) == ("archive", told.remedy)
    service.close()
    with pytest.raises(told, match="An archive cannot be read"):
        TaskService.open(service.paths.data)


@pytest.mark.parametrize(("refused", "told"), [(0, LogNotWritable), (1, BackupFailed)])
def test_a_backup_tells_an_archive_that_may_not_be_read_from_a_folder_that_may_not_be_written(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int, told: type[Exception]
) -> None:
    done(service, 15)
    service.archive(SIZE + 1)

    def copyfile(*paths: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(paths[refused]))

    monkeypatch.setattr("tasktrail.backups.archives.shutil.copyfile", copyfile)
    with pytest.raises(told):
        service.backup(tmp_path / "copy.db")


def test_the_service_archives_by_its_policy(open_service: Opener) -> None:
    with open_service() as service:
        done(service, 10)
    service = open_service(archive_after="0s")
    deadline = monotonic() + 30
    while stored(service) == 1:
        assert monotonic() < deadline
        threading.Event().wait(0.02)
    records = list(service.log())
    configured = next(one for one in records if isinstance(one.event, RetentionConfigured))
    archived = next(one for one in records if isinstance(one.event, SegmentArchived))
    assert configured.event == RetentionConfigured(archive_after=0.0)
    assert (archived.actor, archived.causation_id) == ("retention", f"event:{configured.position}")


@pytest.mark.slow
def test_what_is_forgotten_is_in_no_archive_and_in_no_file(open_service: Opener) -> None:
    service = open_service()
    gone = done(service, 4, label=CANARY, options={"value": CANARY})
    kept = done(service, 12, user_id=7)
    before = {task_id: service.events(task_id) for task_id in kept}
    until = service.archive().until
    assert until > max(service.events(task_id)[-1].position for task_id in gone)
    forgotten = service.forget(0, user_id=0)
    assert forgotten.tasks == len(gone)
    assert {task_id: service.events(task_id) for task_id in kept} == before
    with pytest.raises(TaskForgotten):
        service.get_task(gone[0])
    found = service.verify()
    assert (found.findings, found.stubs) == ((), forgotten.records)
    again = [one.event for one in service.log(forgotten.position) if isinstance(one.event, SegmentArchived)]
    assert again
    assert all(event.replaces for event in again)
    service.close()
    texts = [path for path in service.paths.data.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert texts == []
    for path in service.paths.archive.iterdir():
        first, last = map(int, path.name.split("-")[:2])
        assert not any(CANARY in row[13] for row in ArchiveFile(path, first, last).rows())
    service = open_service()
    assert service.verify().findings == ()
    assert service.rebuild().differences == ()


def test_an_older_archive_that_is_put_back_shows_nobody_what_was_forgotten(
    open_service: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = open_service()
    gone = done(service, 4, label=CANARY, options={"value": CANARY})
    done(service, 6, user_id=7)
    service.archive()
    older = {path.name[:25]: path.read_bytes() for path in service.paths.archive.iterdir()}
    at = service.forget(0, user_id=0).position
    sound = {path: path.read_bytes() for path in service.paths.archive.iterdir()}
    stubs = service.events(gone[0])
    for path in sound:
        path.write_bytes(older[path.name[:25]])
    with pytest.raises(LogCorrupt, match="was changed") as refused:
        service.backup(tmp_path / "copy.db")
    assert "replace it by that archive from a backup" in refused.value.advice
    command = ["--data", str(service.paths.data)]
    capsys.readouterr()
    server = HttpServer(service, socket_path=service.paths.socket, secret_file=secret_file(service.paths.data))
    server.start()
    with Client.connect(service.paths.data) as client:
        for tasks in (service, client):
            for ask in (lambda tasks: tasks.events(gone[0]), lambda tasks: list(tasks.log())):
                with pytest.raises(LogCorrupt, match="was changed or replaced") as refused:
                    ask(tasks)
                assert "replace it by that archive from a backup" in refused.value.advice
            assert next(iter(tasks.log(at - 1))).name == "tasks_forgotten"  # the rest is answered
    assert server.stop()
    for more in (["history", str(gone[0]), "--json"], ["log"], ["log", "export"], ["diff", "--from", "1"]):
        assert run([*command, *more]) == 1
    told = capsys.readouterr()
    assert (told.out, CANARY in told.err) == ("", False)
    for path, content in sound.items():
        path.write_bytes(content)
    assert service.events(gone[0]) == stubs
    assert service.verify().findings == ()


def test_more_archived_tasks_are_forgotten_at_once_for_each_time_their_archive_is_written_anew(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    monkeypatch.setattr(retention, "ARCHIVED_AT_ONCE", 5)
    done(service, 10)
    service.archive()
    done(service, 6)
    with closing(SqliteLogReader(service.paths.log)) as log:
        archived = max(one.newest_task for one in log.segments())
    forgotten = service.forget(0)
    events = [record.event for record in service.log() if isinstance(record.event, TasksForgotten)]
    parts = [list(numbers_of(event.tasks)) for event in events]
    assert sorted(task_id for part in parts for task_id in part) == list(range(1, 17))
    assert forgotten.tasks == 16
    assert max(sum(task_id > archived for task_id in part) for part in parts) == 2
    assert max(map(len, parts)) == 5
    assert sum(any(task_id <= archived for task_id in part) for part in parts) <= archived // 5 + 2


@pytest.mark.slow
def test_what_is_forgotten_beside_an_archive_that_waits_for_the_disk_ends_no_service(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan comes from a log without the archive, and is recorded in a log that has it."""
    service = open_service()
    gone = done(service, 8)
    record, send = Archiver._record, Forgetter._send
    with closing(sqlite3.connect(service.paths.log, isolation_level=None)) as other:

        def in_vain(archiver: Archiver, message: Archive) -> int:
            other.execute("BEGIN IMMEDIATE")
            return record(archiver, message)

        monkeypatch.setattr(Archiver, "_record", in_vain)
        with pytest.raises(LogLocked):
            service.archive()

        def later(forgetter: Forgetter, message: Forget) -> int:
            if other.in_transaction:
                assert not message.archives
                other.execute("ROLLBACK")
                deadline = monotonic() + 30
                while not service.ready:
                    assert monotonic() < deadline
                    threading.Event().wait(0.02)
            return send(forgetter, message)

        monkeypatch.setattr(Forgetter, "_send", later)
        assert service.forget(0).tasks == len(gone)
    assert service.fatal is None
    assert any(isinstance(record.event, SegmentArchived) and record.event.replaces for record in service.log())
    assert service.verify().findings == ()
    assert service.wait(service.create_task(type="echo"), 60).status == "completed"


def test_seals_and_proofs_hold_across_the_boundary(open_service: Opener) -> None:
    service = open_service()
    done(service, 6)
    seals, key = service.paths.seals, service.paths.seal_key
    with closing(SqliteLogReader(service.paths.log)) as log:
        first = make_seal(log, seals, key, datetime.now(UTC))[0]
        done(service, 4)
        second = make_seal(log, seals, key, datetime.now(UTC))[0]
        before = [prove(log, seals, task_id) for task_id in (1, 5, 9)], prove_growth(log, seals, str(first.path))
        assert service.archive().archives
        assert before == (
            [prove(log, seals, task_id) for task_id in (1, 5, 9)],
            prove_growth(log, seals, str(first.path), str(second.path)),
        )
        make_seal(log, seals, key, datetime.now(UTC))
        found = verify(log, seals=SealCheck(seals, public_key(seals)))
        assert (found.findings, found.sealed) == ((), found.position)


def test_what_is_personal_is_gone_from_archives_with_the_key(open_service: Opener) -> None:
    service = open_service(personal_data="encrypted")
    erased = done(service, 6, label=CANARY, user_id=3)
    done(service, 6, label="another", user_id=4)
    assert service.archive().until > service.events(erased[-1])[-1].position
    assert service.get_task(erased[0]).label == CANARY
    service.erase_user(3)
    deadline = monotonic() + 30
    while not any(one.name == "erasure_finished" for one in service.log()):
        assert monotonic() < deadline
        threading.Event().wait(0.02)
    assert service.get_task(erased[0]).label != CANARY
    assert service.verify().findings == ()
    service.close()
    for path in service.paths.archive.iterdir():
        first, last = map(int, path.name.split("-")[:2])
        assert not any(CANARY in str(row) for row in ArchiveFile(path, first, last).rows())


def test_a_restore_that_ends_half_way_leaves_the_old_log_whole(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    done(service, 6)
    made = service.backup(tmp_path / "before.db")
    assert service.archive().archives
    service.close()
    monkeypatch.setattr("tasktrail.backups.restore._put_archives_aside", _then_no_room)
    with pytest.raises(BackupFailed):
        restore(made.path, service.paths.data, force=True)
    with closing(SqliteLogReader(service.paths.log)) as log:
        assert verify(log).findings == ()


def _then_no_room(*arguments: Any) -> None:
    _put_archives_aside(*arguments)
    _no_room()


def _no_room(*_arguments: Any, **_more: Any) -> None:
    raise OSError(28, "No space left on device")


def test_an_archive_that_is_recorded_is_not_discarded(open_service: Opener) -> None:
    service = open_service()
    done(service, 6)
    assert service.archive().archives
    with closing(SqliteLogReader(service.paths.log)) as log:
        events = [record.event for record in log.read(0) if isinstance(record.event, SegmentArchived)]
    for event in events:
        discard_archive(service.paths.log, event)
    assert service.verify().findings == ()


def test_no_ancestors_are_looked_for_of_a_task_that_was_cancelled_itself(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an archive would have to be searched for each cancelled task."""
    service = open_service()
    for _ in range(10):
        service.cancel_task(service.create_task(type="echo", held=True))
    assert service.archive().archives
    monkeypatch.setattr(SqliteLogReader, "line_of", None)
    assert service.verify().findings == ()


def test_archives_belong_to_the_backup(open_service: Opener, tmp_path: Path) -> None:
    service = open_service()
    (tmp_path / "backups").mkdir()
    done(service, 6)
    old = service.archive().archives
    first = service.backup(tmp_path / "backups" / "first.db")
    assert (first.archives, first.archives_added) == (old, old)
    done(service, 6)
    second = service.backup(tmp_path / "backups" / "second.db", base=first.path)
    assert (second.base, second.archives, second.archives_added) == (first.path, old, 0)
    new = service.archive().archives
    done(service, 1)
    third = service.backup(tmp_path / "backups" / "third.db", base=second.path, check=True)
    assert (third.base, third.archives, third.archives_added) == (second.path, old + new, new)
    before = answers(service, service.stats().position)
    service.close()
    for made in (first, second, third):
        found = restore(made.path, tmp_path / f"again-{made.position}")
        assert found.position == made.position
    with TaskService.open(tmp_path / f"again-{third.position}", config=service._system.config) as again:
        assert again.verify().findings == ()
        assert again.events(1) == before[0][0]
    put_back = restore(second.path, service.paths.data, force=True)
    kept = Path(put_back.kept)
    assert len(list((kept / "archive").iterdir())) == old + new
    with closing(SqliteLogReader(kept / "log.db")) as log:
        assert verify(log).findings == ()
    open_service().close()
    assert len(list(service.paths.archive.iterdir())) == old
    gone = next((tmp_path / "backups" / "archive").iterdir())
    gone.unlink()
    for only_check in (False, True):
        with pytest.raises(InvalidPath, match=f"1 is missing in .*archive: {gone.name}") as refused:
            restore(third.path, tmp_path / "nowhere", only_check=only_check)
        assert "Bring the folder `archive`" in refused.value.advice
    assert not (tmp_path / "nowhere").exists()


def test_two_backups_with_archives_are_not_made_in_one_folder_at_once(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed backup removes the archives that it has copied, and another one would have relied on them."""
    (tmp_path / "backups").mkdir()
    done(service, 6)
    assert service.archive().archives
    copied, go_on = threading.Event(), threading.Event()

    def then_fails(copy: Path) -> None:
        copied.set()
        assert go_on.wait(60)
        raise BackupFailed(f"no room for {copy}")

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as pool:
        patched.setattr("tasktrail.backups.backup.check_archives", then_fails)
        first = pool.submit(service.backup, tmp_path / "backups" / "first.db")
        assert copied.wait(60)
        with pytest.raises(BackupFailed, match="archive is being written by another process"):
            service.backup(tmp_path / "backups" / "second.db")
        go_on.set()
        with pytest.raises(BackupFailed, match="no room"):
            first.result(60)
    assert list((tmp_path / "backups").iterdir()) == []
    second = service.backup(tmp_path / "backups" / "second.db")
    assert second.archives == second.archives_added > 0
    assert restore(second.path, tmp_path / "again").position == second.position


def test_a_damaged_archive_makes_no_backup(service: TaskService, tmp_path: Path) -> None:
    done(service, 6)
    service.archive()
    path = next(service.paths.archive.iterdir())
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(LogCorrupt, match="Position 1: the archive"):
        service.backup(tmp_path / "backup.db")
    assert [found.name for found in tmp_path.iterdir()] == ["data"]


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("put", "what"),
    [
        (Path.mkdir, "is a folder"),
        (_circle, "is a link that leads back to itself"),
        (os.mkfifo, "is a pipe or a device, not a file"),
        (_endless, "is a pipe or a device, not a file"),
    ],
    ids=["folder", "circle", "pipe", "endless"],
)
def test_a_backup_waits_for_no_pipe_and_copies_no_device_in_the_place_of_an_archive(
    service: TaskService, tmp_path: Path, put: Callable[[Path], None], what: str
) -> None:
    done(service, 6)
    service.archive()
    path = next(service.paths.archive.iterdir())
    kept = path.read_bytes()
    path.unlink()
    put(path)
    with pytest.raises(LogCorrupt, match=f"the archive {path} {what}") as refused:
        service.backup(tmp_path / "copy.db")
    assert refused.value.advice == PUT_BACK
    assert [found.name for found in tmp_path.iterdir()] == ["data"]
    path.rmdir() if what == "is a folder" else path.unlink()
    path.write_bytes(kept)


def _spoilt(path: Path) -> bytes:
    whole = path.read_bytes()
    spoilt = whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]
    path.write_bytes(spoilt)
    return spoilt


def _backed_up(service: TaskService, folder: Path) -> Path:
    folder.mkdir()
    done(service, 6)
    service.archive()
    return Path(service.backup(folder / "a.db").path)


@pytest.mark.parametrize("put", [_circle, os.mkfifo, _endless])
def test_a_backup_replaces_what_is_no_archive_among_its_own(
    service: TaskService, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    _backed_up(service, tmp_path / "backups")
    path = next((tmp_path / "backups" / "archive").iterdir())
    kept = path.read_bytes()
    path.unlink()
    put(path)
    assert service.backup(tmp_path / "backups" / "second.db").archives_added == 1
    assert path.read_bytes() == kept
    assert os.path.lexists(path.with_name(f"{path.name}.replaced"))


def test_a_restore_keeps_a_damaged_archive_whose_place_another_takes(open_service: Opener, tmp_path: Path) -> None:
    service = open_service()
    made = _backed_up(service, tmp_path / "backups")
    service.close()
    path = min(service.paths.archive.iterdir())
    whole = path.read_bytes()
    damaged = _spoilt(path)
    shutil.copy(made, tmp_path / "backups" / "b.db")
    with forging(tmp_path / "backups" / "b.db") as conn:
        conn.execute("UPDATE events SET reason = 'another' WHERE position = (SELECT max(position) FROM events)")
    with pytest.raises(LogCorrupt, match="The backup is damaged") as refused:
        restore(tmp_path / "backups" / "b.db", service.paths.data, force=True)
    assert "Nothing was changed" in refused.value.advice
    assert path.read_bytes() == damaged
    put_back = restore(made, service.paths.data, force=True)
    assert path.read_bytes() == whole
    assert Path(put_back.kept, "archive", path.name).read_bytes() == damaged
    assert not [one for one in service.paths.archive.iterdir() if one.suffix != ".zst"]


def test_a_damaged_archive_is_kept_on_another_disk_as_well(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    made = _backed_up(service, tmp_path / "backups")
    service.close()
    spoilt = _spoilt(path := min(service.paths.archive.iterdir()))

    def link(_path: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    put_back = restore(made, service.paths.data, force=True)
    assert Path(put_back.kept, "archive", path.name).read_bytes() == spoilt


def test_a_damaged_archive_is_kept_though_a_restore_was_killed(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    made = _backed_up(service, tmp_path / "backups")
    service.close()
    spoilt = _spoilt(min(service.paths.archive.iterdir()))
    with monkeypatch.context() as killed:
        killed.setattr("tasktrail.backups.restore._checked", _no_room)
        killed.setattr("tasktrail.backups.restore.remove", lambda _added, _folder: None)  # nothing is undone by a kill
        with pytest.raises(BackupFailed):
            restore(made, service.paths.data, force=True)
    put_back = restore(made, service.paths.data, force=True)
    assert spoilt in [file.read_bytes() for file in Path(put_back.kept, "archive").iterdir()]


def test_a_restore_that_fails_at_its_end_leaves_the_old_log_with_its_archives(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    made = _backed_up(service, tmp_path / "backups")
    service.close()
    spoilt = _spoilt(path := min(service.paths.archive.iterdir()))
    monkeypatch.setattr("tasktrail.backups.restore._put_archives_aside", _then_no_room)
    with pytest.raises(BackupFailed):
        restore(made, service.paths.data, force=True)
    assert path.read_bytes() == spoilt


def test_backups_keep_each_thing_that_they_find_in_an_archives_place(service: TaskService, tmp_path: Path) -> None:
    _backed_up(service, tmp_path / "backups")
    path = min((tmp_path / "backups" / "archive").iterdir())
    for name in ("second", "third"):
        path.write_text(name)
        service.backup(tmp_path / "backups" / f"{name}.db")
    path.unlink()
    path.mkdir()
    (path / "mine").touch()
    service.backup(tmp_path / "backups" / "fourth.db")
    others = [one for one in path.parent.iterdir() if one != path]
    assert sorted(one.read_text() for one in others if one.is_file()) == ["second", "third"]
    (folder,) = filter(Path.is_dir, others)
    assert (folder / "mine").exists()


def test_a_backup_that_fails_puts_nothing_of_an_earlier_one_in_an_archives_place(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _backed_up(service, tmp_path / "backups")
    path = min((tmp_path / "backups" / "archive").iterdir())
    path.write_text("evidence")
    service.backup(tmp_path / "backups" / "second.db")
    path.unlink()
    monkeypatch.setattr("tasktrail.backups.backup.check_copy", _no_room)
    with pytest.raises(OSError, match="No space left"):
        service.backup(tmp_path / "backups" / "third.db")
    assert not path.exists()
    assert path.with_name(f"{path.name}.replaced").read_text() == "evidence"


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, _circle])
def test_a_restore_and_the_next_start_pass_by_what_is_no_archive(
    open_service: Opener, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    service = open_service()
    done(service, 6)
    earlier = service.backup(tmp_path / "before.db")
    service.archive()
    service.close()
    path = min(service.paths.archive.iterdir())
    path.unlink()
    put(path)
    (path.parent / "lost+found").mkdir()
    restore(earlier.path, service.paths.data, force=True)
    assert len(open_service().list_tasks()[0]) == 6


def test_a_client_has_the_service_do_it(service: TaskService) -> None:
    done(service, 6)
    server = HttpServer(service, socket_path=service.paths.socket, secret_file=secret_file(service.paths.data))
    server.start()
    with Client.connect(service.paths.data) as client:
        would = client.archive(dry_run=True)
        assert would.archives
        assert client.archive(datetime(2020, 1, 1, tzinfo=UTC)).archives == 0
        done_now = client.archive(reason="old", actor="ann")
        assert done_now.until == would.until
        with pytest.raises(InvalidValue):
            client.archive("soon")
    assert server.stop()


def test_on_the_command_line_no_service_is_needed(
    open_service: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_service() as service:
        done(service, 10)
        history = service.events(1)
    (tmp_path / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\nworkers = 1\n')
    called = ["--data", str(tmp_path / "data"), "archive"]
    capsys.readouterr()
    assert run([*called, "--before", "2020-01-01"]) == 0
    assert run([*called, "--before", str(SIZE + 1), "--dry-run"]) == 0
    assert run([*called, "--reason", "house rule", "--json"]) == 0
    nothing, why, would, told = capsys.readouterr().out.splitlines()
    assert why.startswith(f"Only whole ranges of {SIZE} records are archived. The next one ends at position {SIZE}: ")
    assert nothing == "nothing to archive; already archived: 0 records"
    assert would == f"would be archived: {SIZE} records, up to position {SIZE}"
    assert json.loads(told)["until"] >= 2 * SIZE
    assert run(["--data", str(tmp_path / "data"), "verify"]) == 0
    assert run(["--data", str(tmp_path / "data"), "history", "1", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["hash"] for line in lines[-len(history) :]] == [record.hash.hex() for record in history]


def test_a_dry_run_without_a_service_records_nothing(
    open_service: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_service() as service:
        done(service, 6)
        held = service.events(service.create_task(type="echo", held=True))[0].position
    (tmp_path / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\narchive_after = "90d"\n')
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        head = log.head()
    until = (held - 1) // SIZE * SIZE
    capsys.readouterr()
    assert run(["--data", str(tmp_path / "data"), "archive", "--dry-run"]) == 0
    assert capsys.readouterr() == (f"would be archived: {until} records, up to position {until}\n", "")
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        assert log.head() == head
