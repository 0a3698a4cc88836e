"""A standby takes over the log of a service that is gone or hangs, and that service appends nothing any more."""

import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from log_services import LEASE, pair, records, starts, wait_for
from postgresql_server import needs_postgresql, new_place
from structlog.testing import capture_logs

from tasktrail import Client, Config, TaskService
from tasktrail.actors.snapshots import SCHEDULER_SNAPSHOT
from tasktrail.api.reader import Reader
from tasktrail.cli import serve
from tasktrail.cli.app import run as run_cli
from tasktrail.cli.failing import CHECK_FAILED
from tasktrail.doctor.rules import examine
from tasktrail.events import Cancelled, Created, Fact
from tasktrail.events.errors import ConfigurationError, DataInUse, HistoryMissing, LogLocked, LogUnreachable
from tasktrail.events.log.address import read_address, shown, write_address
from tasktrail.events.log.event_log import EventLog
from tasktrail.events.log.files import HeadMark
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.opening import open_log, read_log
from tasktrail.events.system_events import ErasureFinished, ServiceStarted, UserErased
from tasktrail.following.standby import Standby
from tasktrail.paths import DataPaths
from tasktrail.projections import TaskFilters, TaskViews, catch_up
from tasktrail.projections.views.rebuild import known_end

WITHIN = 20.0
"""Seconds. On an idle machine it takes less than one."""


@needs_postgresql
@pytest.mark.slow
@pytest.mark.crash
def test_a_standby_takes_over_when_the_service_is_killed(tmp_path: Path) -> None:
    with pair(tmp_path) as (leader, standby):
        with Reader(standby.data) as reader:  # its views answer questions
            assert [task.status for task in reader.list_tasks(TaskFilters())[0]] == ["completed"]
        leader.process.kill()
        killed = time.monotonic()
        wait_for(lambda: len(starts(standby.data)) == 2)
        took = time.monotonic() - killed
        print(f"first append {took:.2f} s after SIGKILL")
        assert took < WITHIN
        standby.until("ready")
        with Client.connect(standby.data) as client:
            again = client.create_task(type="noop")
            assert client.wait(again, timeout=60).status == "completed"
            assert client.verify().ok
        assert again == 2


@needs_postgresql
@pytest.mark.slow
@pytest.mark.crash
def test_a_standby_takes_over_when_the_service_hangs_and_that_one_appends_nothing_more(tmp_path: Path) -> None:
    with pair(tmp_path) as (leader, standby):
        leader.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for(lambda: len(starts(standby.data)) == 2)
        took = time.monotonic() - stopped
        print(f"first append {took:.2f} s after SIGSTOP")
        assert LEASE - 1.5 < took < LEASE + WITHIN
        standby.until("ready")
        leader.process.send_signal(signal.SIGCONT)
        assert leader.process.wait(60) != 0
        assert "has taken postgresql:///" in leader.errors.read_text()
        epochs = [record.event.epoch for record in starts(standby.data) if isinstance(record.event, ServiceStarted)]
        assert epochs == [1, 2]
        after = [record for record in records(standby.data) if record.position > starts(standby.data)[1].position]
        with Client.connect(standby.data) as client:
            client.create_task(type="noop")
        assert [record.name for record in after if not record.task_id] == []


@needs_postgresql
@pytest.mark.slow
@pytest.mark.crash
def test_a_standby_that_is_not_needed_ends_at_a_signal(tmp_path: Path) -> None:
    with pair(tmp_path) as (leader, standby):
        standby.process.terminate()
        assert standby.process.wait(60) == 0
        assert leader.process.poll() is None
        assert len(starts(leader.data)) == 1


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@contextmanager
def of_two_users(folder: Path) -> Iterator[tuple[EventLog, DataPaths]]:
    """Make a log with a task of each of two users, and another data folder, which has the keys, too."""
    (folder / "leader").mkdir()
    with new_place(folder / "leader") as place, closing(open_log(place, now=NOW, encrypted=True)) as log:
        log.append([of_user(1), of_user(2), Fact(1, 2, Cancelled(), NOW, "alice")], expected=0)
        shutil.copytree(place.parent, folder / "other", ignore=shutil.ignore_patterns("*-head"))
        yield log, DataPaths(folder / "other", None, read_address(place))


def of_user(user: int) -> Fact:
    return Fact(user, 1, Created(type="noop", user_id=user, label=f"canary-{user}"), NOW, "alice")


def erase(log: EventLog, user: int) -> tuple[str, ...]:
    head, erased = log.head().position, log.belongings(user)
    log.append([Fact(0, 1, UserErased(keys=erased.keys, tasks=erased.tasks), NOW)], expected=head)
    log.destroy(erased.keys)
    return erased.keys


def holds(folder: Path, user: int) -> bool:
    found = False
    for path in folder.glob("views.db*"):
        with suppress(FileNotFoundError):  # rebuilt views are in a separate file first
            found |= f"canary-{user}".encode() in path.read_bytes()
    return found


def has_folded(paths: DataPaths, position: int) -> bool:
    end = known_end(paths.views)
    return end is not None and end.position == position


@needs_postgresql
def test_what_is_erased_is_gone_from_a_standby(tmp_path: Path) -> None:
    with of_two_users(tmp_path) as (log, paths), closing(Standby(paths, Config())) as standby:
        standby.start()
        wait_for(lambda: has_folded(paths, 3))
        assert holds(paths.data, 1)
        (key,) = erase(log, 1)
        wait_for(lambda: has_folded(paths, 4) and not holds(paths.data, 1))
        assert holds(paths.data, 2)
        with closing(Keys(paths.log)) as keys:
            assert keys.cipher(key) is None


@needs_postgresql
def test_a_data_folder_that_missed_an_erasure_holds_nothing_of_it_after_a_start(tmp_path: Path) -> None:
    with of_two_users(tmp_path) as (log, paths):
        with closing(read_log(paths.log)) as reader, closing(TaskViews(paths.views)) as views:
            catch_up(reader, views)
        assert holds(paths.data, 1)
        (key,) = erase(log, 1)
        log.append([Fact(0, 2, ErasureFinished(erasure=4), NOW)], expected=4)
        log.close()
        with TaskService.open(paths.data, config=Config(workers=1)) as service:
            assert service.get_task(2).label == "canary-2"
            assert not holds(paths.data, 1)
        with closing(Keys(paths.log)) as keys:
            assert keys.cipher(key) is None


@needs_postgresql
def test_an_erasure_that_a_service_began_and_another_one_finished_is_finished_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = threading.Event()

    def full(*_: object) -> None:
        tries.set()
        raise OSError("the disk is full")

    with of_two_users(tmp_path) as (log, paths):
        log.close()
        with monkeypatch.context() as patch, TaskService.open(paths.data, config=Config(workers=1)) as service:
            patch.setattr("tasktrail.actors.eraser.build_anew", full)
            assert service.watermark.wait(service.erase_user(1).position, 60)
            assert tries.wait(60)  # the key is gone by now
        assert holds(paths.data, 1)
        with TaskService.open(tmp_path / "leader", config=Config(workers=1)) as other:
            wait_for(lambda: any(isinstance(record.event, ErasureFinished) for record in other.log()))
            assert not (other.paths.data / "erasing").exists()
        with closing(Standby(paths, Config())) as standby:
            standby.start()
            wait_for(lambda: not holds(paths.data, 1) and not paths.erasing.exists())
        assert holds(paths.data, 2)


@needs_postgresql
def test_an_erasure_that_a_service_recorded_and_did_not_begin_is_done_by_who_follows_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with of_two_users(tmp_path) as (log, _other):
        monkeypatch.setattr(log, "destroy", lambda _keys: None)
        erase(log, 1)
        log.close()
        paths = DataPaths(tmp_path / "leader")
        with closing(read_log(paths.log)) as reader, closing(TaskViews(paths.views)) as views:
            catch_up(reader, views)
        assert holds(paths.data, 1)
        with closing(Standby(paths, Config())) as standby:
            standby.start()
            wait_for(lambda: not holds(paths.data, 1) and not paths.erasing.exists())


def test_a_log_in_a_file_has_no_standby(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Only a log on PostgreSQL"):
        Standby(DataPaths(tmp_path), Config())


def test_a_server_that_does_not_answer_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    asked = threading.Semaphore(0)

    def nobody(_place: Path) -> bool:
        asked.release()
        raise LogUnreachable("nobody answers")

    monkeypatch.setattr("tasktrail.following.follower.is_begun", nobody)
    monkeypatch.setattr("tasktrail.following.follower.refuse_older_log", lambda _paths: None)
    monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.01)
    config = Config(log="postgresql://127.0.0.1:1/tasks")
    with capture_logs() as lines, closing(Standby(DataPaths(tmp_path, None, config.log), config)) as standby:
        standby.start()
        for _ in range(3):
            assert asked.acquire(timeout=30)
    assert [line["event"] for line in lines] == ["the log cannot be followed now"]


def test_a_standby_that_has_its_turn_waits_for_its_own_thread_and_for_what_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    hangs, answers, passing = threading.Event(), threading.Event(), [LogUnreachable("promoted"), LogLocked("old ones")]

    def connects(_place: Path) -> bool:
        hangs.set()
        assert answers.wait(60)  # as long as a dead host in the address takes
        return True

    def opened() -> Any:
        with DataLock(paths.lock):
            if passing:
                raise passing.pop()
            return "a service"

    def turns() -> bool:
        try:
            return serve._has_turn(tmp_path, config, reporter)
        except DataInUse:
            refused.append(True)
            answers.set()
            raise

    monkeypatch.setattr("tasktrail.following.follower.is_begun", connects)
    monkeypatch.setattr("tasktrail.following.follower.refuse_older_log", lambda _paths: None)
    monkeypatch.setattr("tasktrail.following.follower._STOPS_WITHIN", 0.01)
    monkeypatch.setattr("tasktrail.events.log.postgresql.watch.OwnerWatch.is_free", lambda _self: hangs.is_set())
    monkeypatch.setattr(serve, "_AFTER_TROUBLE", 0.01)
    config, reporter, refused = (
        Config(log="postgresql://127.0.0.1:1/tasks"),
        serve.Announcer(as_json=False, lines=False),
        list[bool](),
    )
    paths = DataPaths(tmp_path, None, config.log)
    service: Any = serve._opened(opened, turns, reporter)
    assert service == "a service"
    assert refused
    said = capsys.readouterr().err
    for why in ("is held by pid", "promoted", "old ones"):
        assert re.search(f"the standby cannot take over now, and tries again: .*{why}", said)
    with DataLock(paths.lock), pytest.raises(DataInUse):
        serve._opened(opened, turns, reporter)  # at the start another service has it


@pytest.mark.parametrize("looks", [1, 3])
def test_a_standby_that_is_stopped_while_it_finds_the_log_free_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    pytest.importorskip("psycopg")
    left = list(range(looks))

    def is_free(_self: object) -> bool:
        left.pop()
        if not left:
            signal.raise_signal(signal.SIGTERM)
        return not left

    monkeypatch.setattr("tasktrail.following.follower.is_begun", lambda _place: False)
    monkeypatch.setattr("tasktrail.following.follower.refuse_older_log", lambda _paths: None)
    monkeypatch.setattr("tasktrail.events.log.postgresql.watch.OwnerWatch.is_free", is_free)
    config = Config(log="postgresql://127.0.0.1:1/tasks")
    assert not serve._has_turn(tmp_path, config, serve.Announcer(as_json=False, lines=False))


@needs_postgresql
def test_a_standby_asks_what_an_older_version_knows_of_a_lost_history_before_it_builds_views_of_its_own(
    tmp_path: Path,
) -> None:
    with of_two_users(tmp_path) as (_log, paths):
        with closing(read_log(paths.log)) as reader, closing(TaskViews(paths.views)) as views:
            catch_up(reader, views)
        with closing(sqlite3.connect(paths.views, isolation_level=None)) as conn:
            conn.execute("PRAGMA user_version = 1")
        (tmp_path / "other log").mkdir()
        with new_place(tmp_path / "other log") as place, closing(open_log(place, now=NOW)) as other:
            other.append([of_user(9)], expected=0)
            write_address(paths.log, read_address(place))
            with pytest.raises(HistoryMissing, match="has seen position 3"):
                Standby(paths, Config())


@needs_postgresql
def test_a_standby_that_lacks_the_key_of_a_new_user_says_so_before_it_is_needed(tmp_path: Path) -> None:
    with of_two_users(tmp_path) as (log, paths):
        assert examined_keys(paths) == ("ok", "")
        log.append([of_user(3)], expected=3)
        level, remedy = examined_keys(paths)
        assert (level, remedy.partition(" that had the log last")[0]) == (
            "fail",
            "Copy `keys.db` and the master key from the data folder of the service",
        )
        with capture_logs() as lines, closing(Standby(paths, Config())) as standby:
            standby.start()
            wait_for(lambda: has_folded(paths, 4) and bool(lines))
        assert re.search("lacks 1 key .*Copy `keys.db`", lines[0]["error"])
        (paths.data / "keys.db").unlink()
        assert examined_keys(paths) == (level, remedy)


@needs_postgresql
def test_a_standby_whose_keys_come_later_folds_anew_what_it_could_not_read(tmp_path: Path) -> None:
    """If it took over with an older snapshot, it would work on tasks without their paths."""
    with of_two_users(tmp_path) as (_log, paths):
        keys, kept, snapshot = paths.data / "keys.db", tmp_path / "kept", paths.snapshots / SCHEDULER_SNAPSHOT.name
        keys.rename(kept)
        with closing(Standby(paths, Config(snapshot_every=1))) as standby:
            standby.start()
            wait_for(lambda: has_folded(paths, 3) and snapshot.exists())
        assert not holds(paths.data, 2)
        kept.rename(keys)
        with closing(Standby(paths, Config(snapshot_every=0))) as standby:
            standby.start()
            wait_for(lambda: holds(paths.data, 2))


@needs_postgresql
@pytest.mark.parametrize("meanwhile", ["the standby runs", "somebody reads", "nothing"])
def test_a_service_takes_over_where_the_keys_came_after_a_snapshot(tmp_path: Path, meanwhile: str) -> None:
    """It refused to start, and advised to give up the work whose keys are there."""
    with of_two_users(tmp_path) as (log, paths):
        keys, kept, snapshot = paths.data / "keys.db", tmp_path / "kept", paths.snapshots / SCHEDULER_SNAPSHOT.name
        keys.rename(kept)
        with closing(Standby(paths, Config(snapshot_every=1))) as standby:
            standby.start()
            wait_for(lambda: has_folded(paths, 3) and snapshot.exists())
            if meanwhile == "the standby runs":
                kept.rename(keys)
        if meanwhile != "the standby runs":
            kept.rename(keys)
        if meanwhile == "somebody reads":
            with Reader(paths.data) as reader:  # it builds the views anew
                assert reader.get_task(2).label == "canary-2"
        log.close()
        assert snapshot.exists()
        with TaskService.open(paths.data, config=Config(workers=1)) as service:
            assert service.get_task(2).label == "canary-2"


@needs_postgresql
def test_a_standby_that_runs_folds_anew_once_its_keys_come(tmp_path: Path) -> None:
    with of_two_users(tmp_path) as (_log, paths):
        keys, kept = paths.data / "keys.db", tmp_path / "kept"
        keys.rename(kept)
        with closing(Standby(paths, Config(snapshot_every=0))) as standby:
            standby.start()
            wait_for(lambda: has_folded(paths, 3))
            assert not holds(paths.data, 2)
            kept.rename(keys)
            wait_for(lambda: holds(paths.data, 2))


@needs_postgresql
def test_a_standby_of_an_older_version_says_once_that_it_cannot_take_over(tmp_path: Path) -> None:
    newer = ServiceStarted(version="9.0", epoch=1, pid=1, host="here", forms={"queue_drained.9": {"at": "str"}})
    with of_two_users(tmp_path) as (log, paths), capture_logs() as lines, closing(Standby(paths, Config())) as standby:
        standby.start()
        wait_for(lambda: has_folded(paths, 3))
        assert not lines
        log.append([Fact(0, 1, newer, NOW)], expected=3)
        log.append([of_user(3)], expected=4)
        wait_for(lambda: has_folded(paths, 5) and lines)
        log.append([of_user(4)], expected=5)
        wait_for(lambda: has_folded(paths, 6))
        [line] = lines
        assert (line["event"], line["log_level"]) == ("this version cannot go on with the log", "warning")
        assert "tasktrail 9.0 has worked on this log" in line["error"]
        assert "Install that version" in line["error"]


def examined_keys(paths: DataPaths) -> tuple[str, str]:
    found = examine(paths.data, Config(log=read_address(paths.log), personal_data="encrypted"))
    finding = next(one for one in found if one.name == "keys")
    return finding.level, finding.remedy


@needs_postgresql
def test_on_a_server_that_had_fallen_behind_the_advice_is_about_servers_and_can_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with of_two_users(tmp_path) as (log, paths):
        with closing(read_log(paths.log)) as reader, closing(TaskViews(paths.views)) as views:
            catch_up(reader, views)
        with closing(HeadMark(paths.log)) as mark:
            mark.write(log.head())
        (tmp_path / "behind").mkdir()
        with new_place(tmp_path / "behind") as place, closing(open_log(place, now=NOW)) as behind:
            behind.append([of_user(9)], expected=0)
            write_address(paths.log, read_address(place))
            with pytest.raises(HistoryMissing) as refused:
                Standby(paths, Config())
            assert f"{shown(read_address(place))} ends at position 1" in refused.value.message
            assert "Lead the address to a server that has these records" in refused.value.advice
            assert run_cli(["--data", str(paths.data), "verify"]) == CHECK_FAILED
            assert refused.value.advice in " ".join(capsys.readouterr().out.split())
            others = refused.value.advice.partition("has accepted it already")[2]
            for name in re.findall("`([a-z.*-]+)`", others):
                for path in paths.data.glob(name):
                    path.unlink()
            Standby(paths, Config()).close()
