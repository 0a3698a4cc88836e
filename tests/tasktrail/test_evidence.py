"""An older log beside newer views or snapshots is refused; continuing without the rest is accepted and recorded."""

import shutil
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from forgery import forging, put_endless_view
from full_disks import leave_unbegun
from histories import BEGIN, Journal, random_history
from sealed_logs import Sealed

from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.api.source import check_folder
from tasktrail.backups.backup import back_up
from tasktrail.backups.evidence import missing_record, refuse_older_log
from tasktrail.backups.restore import restore
from tasktrail.cli.session import Environment, Session
from tasktrail.config.settings import Config
from tasktrail.doctor.rules import examine
from tasktrail.events.errors import HistoryMissing
from tasktrail.events.log.files import mark_of
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import AcceptedLoss, ServiceStarted
from tasktrail.paths import DataPaths
from tasktrail.projections import rebuild_views
from tasktrail.projections.proof.seals import SealCheck, public_key

HANDLERS = ("sample_handlers", "crash_handlers")
SUPPORT = str(Path(__file__).parent.parent / "support")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with `data`, whose log was restored to an earlier state; views and snapshots have seen more."""
    folder = tmp_path_factory.mktemp("older")
    data = folder / "data"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", SUPPORT)
        monkeypatch.setattr(sys, "path", [*sys.path, SUPPORT])
        with TaskService.open(data, config=Config(workers=2, handlers=HANDLERS, snapshot_every=5)) as service:
            service.wait(service.create_task(type="quick"), 30)
            service.backup(folder / "earlier.db")
            for _ in range(10):
                service.wait(service.create_task(type="quick"), 30)
            while not (data / "snapshots" / "outbox").exists():
                service.wait(service.create_task(type="quick"), 30)
    shutil.copyfile(folder / "earlier.db", data / "log.db")
    mark_of(data / "log.db").unlink()  # it alone would reveal the loss
    return folder


@pytest.fixture
def older(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the data folder of `made`, for one test."""
    monkeypatch.setenv("PYTHONPATH", SUPPORT)
    monkeypatch.setattr(sys, "path", [*sys.path, SUPPORT])
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data"


def head_of(log: Path) -> tuple[int, str]:
    with closing(SqliteLogReader(log)) as reader:
        head = reader.head()
    return head.position, head.hash.hex()


def seen_by_views(data: Path) -> tuple[int, str]:
    with closing(sqlite3.connect(data / "views.db")) as views:
        position, digest = views.execute("SELECT position, hash FROM progress").fetchone()
    return position, digest.hex()


def test_views_with_a_view_without_end_say_nothing(older: Path) -> None:
    put_endless_view(older / "views.db", "progress")
    missing = missing_record(DataPaths(older))
    assert missing is not None
    assert missing[0].file != str(older / "views.db")


def starts(service: TaskService) -> list[tuple[Any, str, str]]:
    return [
        (record.event.accepted_loss, record.actor, record.reason)
        for record in service.log()
        if isinstance(record.event, ServiceStarted)
    ]


def reopen(data: Path, **how: Any) -> TaskService:
    return TaskService.open(data, config=Config(workers=1, handlers=HANDLERS), **how)


def without(data: Path, *, views: bool = False, snapshots: bool = False) -> None:
    """Delete some of the files that know more than the log."""
    if views:
        (data / "views.db").unlink()
    if snapshots:
        shutil.rmtree(data / "snapshots")


def test_the_doctor_tells_of_it(older: Path) -> None:
    (finding,) = [one for one in examine(older) if one.name == "history"]
    assert finding.level == "fail"
    assert f"{older / 'log.db'} ends at position" in finding.message
    assert "--accept-loss" in finding.remedy
    (older / "log.db").unlink()
    (finding,) = [one for one in examine(older) if one.name == "history"]
    assert (finding.level, "log.db is not there" in finding.message) == ("fail", True)
    without(older, views=True, snapshots=True)
    (finding,) = [one for one in examine(older) if one.name == "history"]
    assert finding.level == "ok"


def test_the_doctor_tells_of_a_log_that_a_service_has_saved(older: Path) -> None:
    """Another log stands in its place, which lacks nothing ever seen; a start refuses all the same."""
    without(older, views=True, snapshots=True)
    shutil.copy(older / "log.db", older / "log.db.rescued")
    (finding,) = [one for one in examine(older) if one.name == "history"]
    assert finding.level == "fail"
    assert "log.db.rescued holds what a service saved" in finding.message


def test_who_looks_for_a_log_that_was_deleted_hears_of_what_a_service_has_saved(older: Path) -> None:
    (older / "log.db").rename(older / "log.db.rescued")
    with pytest.raises(HistoryMissing, match=r"log\.db\.rescued holds what a service saved"):
        refuse_older_log(DataPaths(older))


@pytest.mark.parametrize("gone", [{}, {"views": True}, {"snapshots": True}])
def test_an_older_log_is_refused_and_both_positions_are_told(older: Path, gone: dict[str, bool]) -> None:
    seen, ends = seen_by_views(older), head_of(older / "log.db")
    without(older, **gone)
    with pytest.raises(HistoryMissing) as refused:
        reopen(older)
    assert f"ends at position {ends[0]}, recorded at 20" in refused.value.message
    if not gone.get("views"):
        assert f"has seen position {seen[0]}, recorded at 20" in refused.value.message
        assert seen_by_views(older) == seen, "the evidence is still there"
    assert "--accept-loss" in refused.value.advice
    assert head_of(older / "log.db") == ends, "nothing was recorded"


def test_without_views_and_snapshots_nothing_knows_of_it_and_they_may_be_deleted(older: Path) -> None:
    without(older, views=True, snapshots=True)
    with reopen(older) as service:
        assert starts(service)[-1][0] is None
        assert service.verify().ok


@pytest.mark.parametrize("left", ["", "no byte", "no table", "no entry"])
def test_a_log_that_is_gone_is_not_begun_anew_beside_views(older: Path, left: str) -> None:
    (older / "log.db").unlink()
    if left:
        leave_unbegun(older / "log.db", left)
    assert missing_record(DataPaths(older)) is not None
    with pytest.raises(HistoryMissing, match="holds no record" if left else "is not there"):
        reopen(older)
    assert (older / "log.db").exists() == bool(left)


def test_views_of_another_log_are_to_be_deleted_and_nothing_is_given_up_for_them(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    """The advice was to restore a backup, or to accept a loss which there was not."""
    with open_service() as service:
        for _ in range(3):
            service.wait(service.create_task(type="quick"), 30)
    with reopen(tmp_path / "other") as other:
        other.wait(other.create_task(type="quick"), 30)
    views = tmp_path / "data" / "views.db"
    shutil.copyfile(tmp_path / "other" / "views.db", views)
    with pytest.raises(HistoryMissing, match=r"views\.db has seen another record at position") as refused:
        reopen(tmp_path / "data")
    assert refused.value.advice.startswith(f"If {views} is of another log, delete it:")
    for file in (tmp_path / "data").glob("views.db*"):
        file.unlink()
    with reopen(tmp_path / "data") as service:
        assert starts(service)[-1][0] is None
        assert service.verify().ok


def test_another_history_of_the_same_length_is_refused(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    open_service().close()
    with reopen(tmp_path / "other") as other:
        for _ in range(3):
            other.wait(other.create_task(type="quick"), 30)
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "other" / "log.db", tmp_path / "data" / "log.db")
    with pytest.raises(HistoryMissing, match="has seen another record at position"):
        reopen(tmp_path / "data")


def test_an_accepted_loss_is_recorded_with_who_and_why_and_the_views_are_made_anew(older: Path) -> None:
    seen, ends = seen_by_views(older), head_of(older / "log.db")
    with reopen(older, accept_loss="the disk died", actor="anna") as service:
        loss = AcceptedLoss(known_position=seen[0], known_hash=seen[1], log_position=ends[0])
        assert starts(service)[-1] == (loss, "anna", "the disk died")
        assert service.list_tasks()[1] == 1
        assert service.wait(service.create_task(type="quick"), 30).id == 2
        assert service.verify().ok
    with reopen(older) as service:
        assert [one[0] for one in starts(service)] == [None, loss, None], "recorded once"


def test_a_start_that_was_cut_short_after_recording_the_loss_does_not_ask_again(older: Path, tmp_path: Path) -> None:
    shutil.copytree(older, tmp_path / "before", ignore=shutil.ignore_patterns("*.sock"))
    reopen(older, accept_loss="the disk died").close()
    # The files that existed at that time:
    for path in (*older.glob("views.db*"), *older.glob("snapshots/*")):
        path.unlink()
    shutil.copytree(tmp_path / "before" / "snapshots", older / "snapshots", dirs_exist_ok=True)
    for path in (tmp_path / "before").glob("views.db*"):
        shutil.copyfile(path, older / path.name)
    with reopen(older) as service:
        assert len([one for one in starts(service) if one[0]]) == 1
        assert service.verify().ok


def test_who_accepts_a_loss_that_is_none_changes_nothing(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    open_service().close()
    with reopen(tmp_path / "data", accept_loss="just in case") as service:
        assert [one[0] for one in starts(service)] == [None, None]


def test_a_check_finds_it_and_no_backup_is_made_of_it(older: Path, tmp_path: Path) -> None:
    without(older, views=True)
    found = Environment().verify(Session(data=older, environment=Environment()), lambda *_: None)
    assert [(finding.code, finding.position) for finding in found.findings] == [("missing", found.position + 1)]
    assert not found.ok
    (tmp_path / "backups").mkdir()
    with pytest.raises(HistoryMissing):
        back_up(older, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.fixture
def cut(tmp_path: Path) -> tuple[Path, int]:
    """Return a folder with views and seals, and where its log ends now: the record that explains its stubs is lost."""
    house = Sealed(tmp_path)
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    random_history(journal, 80, seed=5)
    house.seal()
    random_history(journal, 40, seed=6)
    end = len(journal.records)
    journal.forget(*journal.over()[:4])
    house.seal(1)
    log.close()
    with closing(SqliteLogReader(house.path)) as reader:
        rebuild_views(reader, tmp_path / "views.db")
    mark_of(house.path).unlink(missing_ok=True)
    with forging(house.path) as conn:
        conn.execute("DELETE FROM events WHERE position > ?", (end,))
    return tmp_path, end


@pytest.mark.parametrize("sealed", [True, False])
def test_a_lost_end_comes_first_and_stubs_that_it_explained_are_one_finding(
    cut: tuple[Path, int], *, sealed: bool
) -> None:
    folder, end = cut
    check = SealCheck(folder / "seals", public_key(folder / "seals")) if sealed else None
    with closing(SqliteLogReader(folder / "log.db")) as log:
        found = check_folder(log, DataPaths(folder), seals=check).findings
    last_seal = 0 if check is None else check.sealed
    assert [(one.code, one.position) for one in found] == [
        *[("seal", last_seal + 1)] * sealed,
        ("missing", end + 1),
        ("stub", end + 1),
    ]
    assert all("right log back" in one.remedy for one in found)


def test_stubs_without_explanation_are_told_where_they_stand_if_no_end_is_lost(cut: tuple[Path, int]) -> None:
    folder, _end = cut
    (folder / "views.db").unlink()
    with closing(SqliteLogReader(folder / "log.db")) as log:
        stubs = [record.position for record in log.read() if record.name == "stub"]
        found = check_folder(log, DataPaths(folder)).findings
    assert [(one.code, one.position) for one in found] == [("stub", position) for position in stubs]


def test_reading_without_a_service_does_not_take_the_views_back(older: Path) -> None:
    seen = seen_by_views(older)
    with pytest.raises(HistoryMissing):
        Reader(older)
    assert seen_by_views(older) == seen


def test_rebuilding_the_views_does_not_hide_it(older: Path) -> None:
    seen = seen_by_views(older)
    with pytest.raises(HistoryMissing):
        Environment().rebuild(Session(environment=Environment(), data=older), lambda _reached, _goal: None)
    assert seen_by_views(older) == seen


@pytest.mark.parametrize("file", ["views.db", "snapshots/scheduler", "snapshots/outbox"])
def test_what_is_damaged_knows_nothing(older: Path, file: str) -> None:
    for name in ("views.db", "snapshots/scheduler", "snapshots/outbox"):
        if name != file:
            (older / name).unlink()
    assert missing_record(DataPaths(older)) is not None
    content = bytearray((older / file).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
    (older / file).write_bytes(b"" if file == "views.db" else content)
    assert missing_record(DataPaths(older)) is None


@pytest.mark.slow
def test_a_restore_has_the_loss_recorded_by_the_next_start(
    open_service: Callable[..., TaskService], tmp_path: Path
) -> None:
    service = open_service()
    service.backup(tmp_path / "earlier.db")
    service.wait(service.create_task(type="quick"), 30)
    service.close()
    before = head_of(tmp_path / "data" / "log.db")
    restored = restore(tmp_path / "earlier.db", tmp_path / "data", force=True, actor="ben", reason="wrong hands")
    with reopen(tmp_path / "data") as again:
        loss = AcceptedLoss(known_position=before[0], known_hash=before[1], log_position=restored.position)
        assert starts(again)[-1] == (loss, "ben", "wrong hands")
    with reopen(tmp_path / "data") as again:
        assert [one[0] for one in starts(again)] == [None, loss, None], "recorded once"
        assert again.verify().ok


@pytest.mark.slow
def test_a_restore_of_all_there_was_is_no_loss(open_service: Callable[..., TaskService], tmp_path: Path) -> None:
    service = open_service()
    service.wait(service.create_task(type="quick"), 30)
    service.close()
    restore(tmp_path / "data", tmp_path / "twin")
    restore(tmp_path / "twin", tmp_path / "data", force=True)
    with reopen(tmp_path / "data") as again:
        assert [one[0] for one in starts(again)] == [None, None]


@pytest.mark.slow
def test_a_restore_that_was_cut_short_leaves_no_loss_to_record(
    open_service: Callable[..., TaskService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    service.backup(tmp_path / "earlier.db")
    service.wait(service.create_task(type="quick"), 30)
    service.close()

    def killed(_paths: DataPaths, _added: Sequence[Path]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasktrail.backups.restore._put_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "earlier.db", tmp_path / "data", force=True)
    with reopen(tmp_path / "data") as again:
        assert [one[0] for one in starts(again)] == [None, None]
        assert again.get_task(1).status == "completed"
