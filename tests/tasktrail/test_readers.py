"""A reader answers everything from the log of a service elsewhere, changes nothing, and says what it does not know."""

import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from histories import Journal
from log_services import Served, pair, starts, wait_for
from owner import SECRET, secret_file
from postgresql_server import connect, needs_postgresql, new_database, new_place, own_server

from tasktrail import Client, Config, TaskFilters, TaskService
from tasktrail.api import read_only
from tasktrail.api.read_only import ReadOnlyService
from tasktrail.api.reader import Reader
from tasktrail.cli.app import run
from tasktrail.errors import OnlyAtService, ReadOnly, Unauthorized
from tasktrail.events import Cancelled, CancelTask, Created, Fact
from tasktrail.events.errors import (
    ConfigurationError,
    DataInUse,
    HistoryMissing,
    LogUnreachable,
    NotReady,
    UnknownTask,
)
from tasktrail.events.log.address import read_address, write_address
from tasktrail.events.log.event_log import EventLog, ReportProgress
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.log_reader import LogReader
from tasktrail.events.log.opening import open_log, read_log
from tasktrail.events.system_events import TokenAdded, UserErased
from tasktrail.following.erasure import erase_here
from tasktrail.following.follower import Follower, _since_boot
from tasktrail.following.scheduler_state import FollowedState
from tasktrail.http.access import Access
from tasktrail.http.server import HttpServer, end_invalid
from tasktrail.http.sessions import Sessions
from tasktrail.paths import DataPaths
from tasktrail.projections import TaskViews, catch_up, rebuild_views

HANDLERS = ("sample_handlers",)
SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture
def where() -> Iterator[str]:
    with new_database() as where:
        yield where


@contextmanager
def leading(folder: Path, where: str) -> Iterator[TaskService]:
    """A service that starts nothing: the tests decide what is in its log."""
    config = Config(log=where, workers=1, handlers=HANDLERS)
    with TaskService.open(folder / "leader", config=config) as service:
        service.pause(reason="so that all waits")
        yield service


@contextmanager
def reading(folder: Path, where: str) -> Iterator[ReadOnlyService]:
    """A reader that has caught up; its limits are those of the service."""
    config = Config(log=where, workers=1, handlers=HANDLERS)
    with ReadOnlyService.open(folder / "reader", config) as service:
        assert service.caught_up(60)
        yield service


@contextmanager
def at_port(service: ReadOnlyService) -> Iterator[HttpServer]:
    """Return its routes."""
    secret = secret_file(service.paths.data)
    server = HttpServer(service, socket_path=service.paths.socket, secret_file=secret)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def follow(reader: ReadOnlyService, leader: TaskService) -> None:
    assert reader.watermark.wait(leader.source.log().head().position, 60)


def get(server: HttpServer, path: str, token: str = SECRET) -> httpx.Response:
    return httpx.get(server.address + path, headers={"authorization": f"Bearer {token}"}, timeout=30)


@needs_postgresql
def test_a_reader_answers_what_the_service_answers(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        first = leader.create_task(type="noop", user_id=7, label="one", batch="b")
        then = leader.create_task(type="noop", user_id=7, depends_on=[first], priority=8)
        gone = leader.create_task(type="noop", user_id=8)
        leader.cancel_task(gone, reason="not needed")
        follow(reader, leader)
        head = reader.watermark.position
        assert reader.list_tasks(TaskFilters())[1] == 3
        for task_id in (first, then, gone):
            assert reader.get_task(task_id).status == leader.get_task(task_id).status
            assert reader.events(task_id) == leader.events(task_id)
            assert reader.attempts(task_id) == leader.attempts(task_id)
        assert reader.get_task(gone, as_of=leader.events(gone)[0].position).status == "pending"
        assert reader.stats().counts == leader.stats().counts
        assert reader.stats(as_of=leader.events(first)[0].position).counts["pending"] == 1
        assert reader.batch("b").total == 1
        board, theirs = reader.queue(), leader.queue()
        assert [one.task_id for one in board.entries] == [one.task_id for one in theirs.entries] == [first]
        assert (board.live, board.blocked, board.pauses) == (False, 1, theirs.pauses)
        assert {one.reason for one in reader.why(then).reasons} == {"Dependency", "Paused"}
        assert reader.why(gone).remark == leader.why(gone).remark
        assert reader.limits().changes == leader.limits().changes
        for position in (0, leader.events(first)[0].position, head):
            assert reader.queue(as_of=position) == leader.queue(as_of=position)
            assert reader.limits(as_of=position) == leader.limits(as_of=position)
            assert reader.tokens(as_of=position) == leader.tokens(as_of=position)
        assert reader.why(then, as_of=head).reasons == leader.why(then, as_of=head).reasons
        assert reader.verify().ok
        begin = leader.events(then)[0].position
        assert reader.diff(begin, head).changes == leader.diff(begin, head).changes
        with pytest.raises(UnknownTask):
            reader.get_task(99)
        late = leader.create_task(type="noop")
        follow(reader, leader)
        assert reader.get_task(late).status == "pending"


@needs_postgresql
def test_what_was_done_is_seen_by_a_reader_and_what_it_printed_is_not(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))  # for workers
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        leader.resume()
        done = leader.create_task(type="noop")
        with reader.expecting(done, lambda: None):
            assert leader.wait(done, timeout=60).status == "completed"
        follow(reader, leader)
        assert reader.get_task(done) == leader.get_task(done)
        with pytest.raises(OnlyAtService, match="on the machine of the service"):
            reader.output(done)


@needs_postgresql
def test_a_reader_has_no_key_to_sign_with_and_tells_what_became_of_tasks(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader, at_port(reader) as server:
        task_id = leader.create_task(type="noop")
        follow(reader, leader)
        answer = get(server, f"/v1/tasks/{task_id}/provenance")
        assert (answer.status_code, answer.json()["code"]) == (404, "only_at_service")
        assert get(server, "/v1/tasks/99/provenance").json()["code"] == "unknown_task"
        with Client.connect(reader.paths.data) as client:
            with pytest.raises(OnlyAtService, match="key that signs statements"):
                client.provenance(task_id)
            assert [one.task_id for one in client.diff(0).changes] == [task_id]
        assert not reader.paths.seal_key.exists()
        assert f"/tasks/{task_id}" in get(server, "/diff?from=0").text


@needs_postgresql
def test_a_reader_changes_nothing_and_says_where_the_service_is(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader, at_port(reader) as server:
        task_id = leader.create_task(type="noop")
        head = leader.source.log().head().position
        follow(reader, leader)
        with Client.connect(reader.paths.data) as client:
            for change in (
                lambda: client.create_task(type="noop"),
                lambda: client.cancel_task(task_id),
                client.pause,
                client.rebuild,
                lambda: client.forget(60.0),
                lambda: client.erase_user(7),
                lambda: client.add_token("x", role="reader"),
            ):
                with pytest.raises(ReadOnly, match=r"changes nothing. The service with pid \d+ on \S+ has the log"):
                    change()
            assert client.get_task(task_id).status == "pending"
        assert leader.source.log().head().position == head
        assert run(["--data", str(reader.paths.data), "cancel", str(task_id)]) == 1
        assert "changes nothing" in capsys.readouterr().err
        page = get(server, "/submit")
        assert (page.status_code, "changes nothing" in page.text) == (403, True)


@needs_postgresql
def test_every_page_of_a_reader_is_shown(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader, at_port(reader) as server:
        made = tmp_path / "made.jpg"  # at the service; its path leads to another file here
        task_id = leader.create_task(type="noop", output_file=str(made))
        made.write_bytes(b"x" * 4711)
        follow(reader, leader)
        files = get(server, f"/tasks/{task_id}").text
        assert "on the machine of the service" in files
        assert "not there" not in files
        assert "4.7 kB" not in files
        for path in ("/", "/tasks", f"/tasks/{task_id}", "/batches", "/schedules", "/limits", "/log"):
            page = get(server, path)
            assert page.status_code == 200
            assert "changes nothing" in page.text
            assert 'href="/submit"' not in page.text


@needs_postgresql
def test_the_routes_of_a_reader(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadOnlyService, "patience", 0.2)
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader, at_port(reader) as server:
        token = leader.add_token("ci", role="reader")
        task_id = leader.create_task(type="noop")
        head = leader.source.log().head().position
        follow(reader, leader)
        found = get(server, f"/v1/tasks/{task_id}?min_position={head}", token)
        assert found.json()["status"] == "pending"
        assert get(server, "/readyz", token).json() == {"ready": True, "position": head, "degraded": []}
        beyond = get(server, f"/v1/tasks?min_position={head + 1}", token)
        assert (beyond.status_code, beyond.json()["code"]) == (503, "not_ready")
        assert f"reached position {head}, and {head + 1} did not arrive" in beyond.json()["detail"]
        metrics = get(server, "/metrics", token).text
        assert f"tasktrail_log_position {float(head)}" in metrics
        assert 'tasktrail_lag_records{reader="views"} 0.0' in metrics
        assert "tasktrail_log_silent_seconds" in metrics
        assert "tasktrail_tasks_accepted" not in metrics  # the service counts those
        assert get(server, "/v1/tasks", "nobody's").status_code == 401


@needs_postgresql
def test_a_token_that_is_revoked_opens_nothing_more(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader, at_port(reader) as server:
        token = leader.add_token("ci", role="reader")
        follow(reader, leader)
        with Client(server.address, token=token) as client:
            assert client.stats().counts["pending"] == 0
            leader.revoke_token("ci")
            follow(reader, leader)
            with pytest.raises(Unauthorized):
                client.stats()


@needs_postgresql
def test_tokens_hold_no_longer_than_a_silence_in_which_they_may_have_been_revoked(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        leader.add_token("ci", role="reader")
        follow(reader, leader)
        assert len(reader.known_tokens) == 1
        monkeypatch.setattr(read_only, "TOKENS_HOLD", -1.0)
        assert not reader.known_tokens


@needs_postgresql
@pytest.mark.slow
def test_a_reader_goes_on_while_the_database_is_away_and_says_so(tmp_path: Path) -> None:
    with own_server() as (server, where), ExitStack() as stack:
        leader = stack.enter_context(leading(tmp_path, where))
        reader = stack.enter_context(reading(tmp_path, where))
        task_id = leader.create_task(type="noop")
        follow(reader, leader)
        server.kill()
        wait_for(lambda: not reader.ready)
        assert "as of position" in str(reader.obstacle)
        began = time.monotonic()
        assert reader.get_task(task_id).status == "pending"
        assert reader.queue().ready == 1
        with pytest.raises(LogUnreachable):
            reader.events(task_id)
        assert reader.readings().position
        assert not reader._followed.catch_up()
        with pytest.raises(NotReady, match="did not arrive"):
            reader.find(10_000, "min_position")
        assert time.monotonic() - began < 5
        server.start_again()
        wait_for(lambda: reader.ready)
        # It may not have noticed that the database was away, and learns it at its next commit.
        with suppress(LogUnreachable):
            leader.create_task(type="noop")
        wait_for(lambda: leader.ready)
        again = leader.create_task(type="noop")
        follow(reader, leader)
        assert reader.get_task(again).status == "pending"


@needs_postgresql
def test_a_reader_needs_no_more_of_the_database_than_to_read(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where) as leader, connect(where.removeprefix("postgresql:///").partition("?")[0]) as conn:
        conn.execute("DROP ROLE IF EXISTS only_reads")
        conn.execute("CREATE ROLE only_reads LOGIN")
        conn.execute("GRANT USAGE ON SCHEMA tasktrail TO only_reads")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA tasktrail TO only_reads")
        task_id = leader.create_task(type="noop")
        with reading(tmp_path, where.replace("user=postgres", "user=only_reads")) as reader:
            follow(reader, leader)
            assert reader.get_task(task_id).status == "pending"
            assert reader.why(task_id).waiting
            assert reader.verify().ok
        conn.execute("DROP OWNED BY only_reads")
        conn.execute("DROP ROLE only_reads")


@needs_postgresql
def test_a_question_hears_at_once_that_damaged_views_cannot_be_built_anew(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    with leading(tmp_path, where), reading(tmp_path, where) as reader:
        monkeypatch.setattr("tasktrail.following.follower.rebuild_views", full)
        assert not reader._follower.mend(reader.source.generation(), 3600)
        assert "No space left" in str(reader._follower.trouble)


@needs_postgresql
def test_damaged_views_are_built_anew_when_a_question_finds_them(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.01)
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        task_id = leader.create_task(type="noop")
        follow(reader, leader)
        generation = reader.source.generation()
        assert reader.source.mend(generation, None)  # type: ignore[arg-type]  # it finds out itself what is damaged
        assert reader.source.generation() > generation
        assert reader.source.mend(generation, None)  # type: ignore[arg-type]  # that was done meanwhile
        assert not reader._follower._damaged
        assert reader.get_task(task_id).status == "pending"
        leader.create_task(type="noop")
        follow(reader, leader)  # so it has the file open again
        generation = reader.source.generation()
        reader.paths.views.unlink()
        wait_for(lambda: reader.source.generation() > generation)
        assert reader.paths.views.exists()
        with closing(sqlite3.connect(reader.paths.views, isolation_level=None)) as conn:
            triggers = conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in triggers:
                conn.execute(f"DROP TRIGGER {name}")
            conn.execute("UPDATE tasks SET priority = priority + 1")  # as a failing disk would, without a checksum
        assert reader.get_task(task_id).status == "pending"
        assert reader.source.generation() == generation + 2
        with closing(sqlite3.connect(reader.paths.views, isolation_level=None)) as conn:
            conn.execute("DELETE FROM tasks")  # no question shows it
        leader.cancel_task(task_id)
        follow(reader, leader)
        assert reader.get_task(task_id).status == "cancelled"
        assert reader.source.generation() == generation + 3


def test_a_log_in_a_file_has_no_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Only a log on PostgreSQL"):
        ReadOnlyService.open(tmp_path, Config())


@needs_postgresql
def test_a_folder_that_a_service_holds_takes_no_reader(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where), pytest.raises(DataInUse):
        ReadOnlyService.open(tmp_path / "leader", Config(log=where))


def test_a_reader_neither_waits_for_the_log_nor_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    for other in (
        ["--standby"],
        ["--accept-loss", "--reason", "because"],
        ["--accept-lost-keys", "--reason", "because"],
    ):
        assert run(["serve", "--read-only", *other]) == 2
        assert "never takes the log" in capsys.readouterr().err


@needs_postgresql
@pytest.mark.slow
@pytest.mark.crash
def test_a_reader_follows_a_take_over_and_a_restart_goes_on_from_its_views(tmp_path: Path) -> None:
    with pair(tmp_path) as (leader, standby):
        where = leader.where
        with closing(Served(tmp_path / "reader", where, "--read-only")) as reader:
            reader.until("ready")
            leader.process.kill()
            wait_for(lambda: len(starts(standby.data)) == 2)
            standby.until("ready")
            with Client.connect(standby.data) as client:
                accepted = client.create_task(type="noop")
                assert client.wait(accepted, timeout=60).status == "completed"
            with Client.connect(reader.data) as asked:
                wait_for(lambda: asked.list_tasks(TaskFilters())[1] == 2)
                assert asked.wait(accepted, timeout=60).status == "completed"
                with pytest.raises(ReadOnly, match=f"pid {standby.process.pid} "):
                    asked.cancel_task(accepted)
            reader.process.send_signal(signal.SIGTERM)
            assert reader.process.wait(60) == 0
        with Reader(reader.data) as files:
            assert files.list_tasks(TaskFilters())[1] == 2
        with closing(Served(tmp_path / "reader", where, "--read-only")) as again:
            again.until("ready")
            with Client.connect(again.data) as asked:
                assert asked.verify().ok


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@contextmanager
def encrypted(folder: Path, *, with_keys: bool) -> Iterator[tuple[EventLog, Path]]:
    """Make a log with a task of each of two users, and another data folder, with or without the keys."""
    (folder / "leader").mkdir()
    with new_place(folder / "leader") as place, closing(open_log(place, now=NOW, encrypted=True)) as log:
        log.append([of_user(1), of_user(2)], expected=0)
        keys = [] if with_keys else ["keys*", "*master*"]
        shutil.copytree(place.parent, folder / "reader", ignore=shutil.ignore_patterns("*-head", *keys))
        yield log, place


def of_user(user: int) -> Fact:
    return Fact(user, 1, Created(type="noop", user_id=user, label=f"canary-{user}"), NOW, "alice")


def other(task_id: int) -> Fact:
    return Fact(task_id, 1, Created(type="noop", label="of another history"), NOW, "alice")


def traces(folder: Path, user: int) -> list[str]:
    return [path.name for path in folder.glob("views.db*") if f"canary-{user}".encode() in content(path)]


def content(path: Path) -> bytes:
    """Return the file's content; empty if the file is gone: rebuilt views are in a separate file first."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


@needs_postgresql
def test_what_the_service_erases_is_gone_from_a_reader(tmp_path: Path) -> None:
    with encrypted(tmp_path, with_keys=True) as (log, place), reading(tmp_path, read_address(place)) as reader:
        assert reader.get_task(1).label == "canary-1"
        assert [one.label for one in reader.queue().entries] == ["canary-1", "canary-2"]
        erased = log.belongings(1)
        log.append([Fact(0, 1, UserErased(keys=erased.keys, tasks=erased.tasks), NOW)], expected=2)
        log.destroy(erased.keys)
        wait_for(lambda: reader.watermark.position == 3 and not traces(reader.paths.data, 1))
        wait_for(lambda: reader.ready)
        assert reader.get_task(1).label != "canary-1"
        assert "canary-1" not in str(reader.queue())
        assert "canary-1" not in str(reader.events(1))
        assert reader.get_task(2).label == "canary-2"
        with closing(Keys(reader.paths.log)) as keys:
            assert keys.cipher(erased.keys[0]) is None


@needs_postgresql
def test_what_is_forgotten_while_a_reader_comes_up_is_gone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count()

    def looks_too_early(*arguments: Any, **named: Any) -> bool:
        return next(looks) > 0 and erase_here(*arguments, **named)

    (tmp_path / "leader").mkdir()
    with new_place(tmp_path / "leader") as place, closing(open_log(place, now=NOW)) as log:
        journal = Journal(log)
        gone = journal.create(label="canary-1")
        journal.send(CancelTask(task_id=gone))
        with reading(tmp_path, read_address(place)) as reader:
            assert traces(reader.paths.data, 1)
        journal.forget(gone)
        monkeypatch.setattr("tasktrail.following.follower.erase_here", looks_too_early)
        with reading(tmp_path, read_address(place)) as reader:
            wait_for(lambda: reader.ready and reader.watermark.position == 3)
            assert not traces(reader.paths.data, 1)
            assert "canary-1" not in str(reader.queue())


@needs_postgresql
def test_a_reader_without_keys_shows_what_is_encrypted_as_what_it_cannot_read(tmp_path: Path) -> None:
    with encrypted(tmp_path, with_keys=False) as (_log, place), reading(tmp_path, read_address(place)) as reader:
        assert not list(reader.paths.data.glob("keys*"))
        task = reader.get_task(1)
        assert (task.status, "canary" in str(task)) == ("pending", False)
        assert reader.list_tasks(TaskFilters())[1] == 2
        assert "canary" not in str(reader.events(1)) + str(reader.queue()) + str(reader.why(1))
        assert reader.stats().counts["pending"] == 2


@needs_postgresql
def test_a_reader_does_not_go_on_with_a_log_that_lacks_what_it_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leader").mkdir()
    with new_place(tmp_path / "leader") as place:
        with closing(open_log(place, now=NOW)) as log:
            log.append([of_user(1), of_user(2)], expected=0)
            log.append([Fact(0, 1, TokenAdded(token="ci", role="reader", digest="d" * 64), NOW)], expected=2)
        with reading(tmp_path, read_address(place)) as reader:
            wait_for(lambda: reader.known_tokens)
            monkeypatch.setattr("tasktrail.following.follower._FOLLOW_EVERY", 600.0)
            monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.01)
            monkeypatch.setattr("tasktrail.following.follower._MOST_AFTER_TROUBLE", 0.05)
            reader._follower.look()  # it sleeps from here on, while the log is replaced
            with connect(read_address(place).removeprefix("postgresql:///").partition("?")[0]) as conn:
                conn.execute("DROP SCHEMA tasktrail CASCADE")
            shutil.rmtree(tmp_path / "leader")
            (tmp_path / "leader").mkdir()
            write_address(place, read_address(reader.paths.log))
            with closing(open_log(place, now=NOW)) as log:
                log.append([other(1), other(2)], expected=0)
                log.append([Fact(0, 1, TokenAdded(token="theirs", role="reader", digest="e" * 64), NOW)], expected=2)
                log.append([other(3), Fact(1, 2, Cancelled(), NOW, "alice")], expected=3)
                log.append([Fact(0, 2, UserErased(keys=(), tasks=()), NOW)], expected=5)
            with closing(read_log(place)) as log, pytest.raises(HistoryMissing):
                erase_here(log, reader.paths)  # its views are the only trace of the other
            reader._follower.look()
            wait_for(lambda: not reader.ready)
            assert "lacks that record or has another one there" in str(reader.obstacle)
            assert reader.watermark.position == 3
            for question in (lambda: reader.get_task(1), lambda: reader.events(1), reader.queue):
                with pytest.raises(HistoryMissing) as refused:
                    question()
                assert "delete `views.db*`" in refused.value.advice
            with at_port(reader) as server:
                for board in ("queue", "limits", "schedules", "nodes", "tokens", "sources"):
                    assert get(server, f"/v1/{board}?as_of=1").json()["code"] == "history_missing"
            shutil.copytree(reader.paths.data, tmp_path / "kept")
            assert [token.token for token in reader.known_tokens.values()] == ["ci"]
            for path in reader.paths.data.glob("views.db*"):
                path.unlink()
            wait_for(lambda: reader.ready)
            assert [token.token for token in reader.known_tokens.values()] == ["theirs"]
        assert run(["--data", str(tmp_path / "kept"), "serve", "--read-only", "--port", "0"]) == 1
        said = capsys.readouterr().err
        assert "delete `views.db*`" in said
        assert "--accept-loss" not in said


@needs_postgresql
def test_tokens_lapse_while_the_database_answers_and_nothing_can_be_folded(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.01)
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        leader.add_token("other", role="reader")
        leader.add_token("ci", role="reader")
        follow(reader, leader)
        access = Access("", Sessions(), lambda: reader.known_tokens)
        ends, stays = map(
            access.sessions.begin, sorted(reader.known_tokens, key=lambda one: reader.known_tokens[one].token)
        )
        with monkeypatch.context() as patch:
            patch.setattr("tasktrail.following.scheduler_state.FollowedState._take", full)
            patch.setattr(read_only, "TOKENS_HOLD", 0.5)
            leader.revoke_token("ci")
            wait_for(lambda: not reader.known_tokens)
            end_invalid(access, reader)
            assert access.sessions.find(stays)
        follow(reader, leader)
        wait_for(lambda: reader.ready)
        end_invalid(access, reader)
        assert access.sessions.find(stays)
        assert not access.sessions.find(ends)


def away(*_: object, **__: object) -> None:
    raise LogUnreachable("nobody answers")


def full(*_: object, **__: object) -> None:
    raise OSError("the disk is full")


def erase(log: EventLog, user: int) -> str:
    """Erase a user as the service does. Return the key."""
    erased = log.belongings(user)
    log.append([Fact(0, 1, UserErased(keys=erased.keys, tasks=erased.tasks), NOW)], expected=log.head().position)
    log.destroy(erased.keys)
    (key,) = erased.keys
    return key


@needs_postgresql
def test_an_erasure_that_is_cut_short_after_the_key_is_gone_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with encrypted(tmp_path, with_keys=True) as (log, place):
        paths = DataPaths(tmp_path / "reader", None, read_address(place))
        key = erase(log, 1)
        with closing(read_log(paths.log)) as reader, closing(TaskViews(paths.views)) as views:
            catch_up(reader, views)  # past the record, with the key: it came while they were built
        assert traces(paths.data, 1)
        with monkeypatch.context() as patch:
            patch.setattr("tasktrail.following.erasure.rebuild_views", full)
            with closing(read_log(paths.log)) as reader, pytest.raises(OSError, match="disk is full"):
                erase_here(reader, paths)
        with closing(Keys(paths.log)) as keys:
            assert keys.cipher(key) is None
        with Reader(paths.data) as files:
            assert "canary-1" not in str(files.get_task(1))
        begun = list[bool]()
        with closing(read_log(paths.log)) as reader:
            with monkeypatch.context() as patch:
                patch.setattr("tasktrail.following.erasure.clear_write_ahead_log", full)
                with pytest.raises(OSError, match="disk is full"):
                    erase_here(reader, paths, begun.append)
            with monkeypatch.context() as patch:
                patch.setattr(
                    "tasktrail.following.erasure.rebuild_views", full
                )  # it is done, except for the files on the disk
                assert erase_here(reader, paths, begun.append)
            assert begun == [True, False]
            assert not traces(paths.data, 1)
            assert not erase_here(reader, paths)


@needs_postgresql
def test_nothing_is_answered_from_views_that_have_what_is_of_an_erased_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with encrypted(tmp_path, with_keys=True) as (log, place), reading(tmp_path, read_address(place)) as reader:
        assert reader.get_task(1).label == "canary-1"
        monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.05)
        with monkeypatch.context() as patch:
            patch.setattr("tasktrail.following.follower.is_begun", away)
            erase(log, 1)
            wait_for(lambda: isinstance(reader.trouble, LogUnreachable))
            with pytest.raises(NotReady):
                reader.get_task(1)
        with monkeypatch.context() as patch:
            patch.setattr("tasktrail.following.erasure.rebuild_views", full)
            wait_for(lambda: isinstance(reader.trouble, OSError))
            for question in (lambda: reader.get_task(1), lambda: reader.list_tasks(TaskFilters()), reader.queue):
                with pytest.raises(NotReady):
                    question()
        wait_for(lambda: reader.ready)
        assert reader.get_task(1).label != "canary-1"
        assert reader.get_task(2).label == "canary-2"
        assert not traces(reader.paths.data, 1)


@needs_postgresql
def test_no_position_is_promised_before_all_is_folded_that_is_answered_with_it(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds, may, began, looked = threading.Event(), threading.Event(), list[float](), list[float]()
    fold, keep_up = FollowedState._fold, Follower._keep_up

    def slow(*given: Any) -> None:
        began.append(_since_boot())
        folds.set()
        assert may.wait(60)
        fold(*given)

    def noted(self: Follower, log: LogReader, views: TaskViews, at: float) -> bool:
        looked.append(at)
        return keep_up(self, log, views, at)

    monkeypatch.setattr(Follower, "_keep_up", noted)
    monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.05)
    monkeypatch.setattr(FollowedState, "_fold", slow)
    with ReadOnlyService.open(tmp_path / "reader", Config(log=where, handlers=HANDLERS)) as reader:
        wait_for(lambda: reader.trouble)  # there is no log yet
        with leading(tmp_path, where) as leader:
            leader.create_task(type="noop")
            try:
                assert folds.wait(60)
                assert reader.trouble is None
                assert reader.watermark.position == 0
                with pytest.raises(NotReady):
                    reader.find(1, "min_position")
                with pytest.raises(NotReady):
                    reader.list_tasks(TaskFilters())
            finally:
                may.set()
            assert reader.watermark.wait(1, 60)
            assert looked[0] < began[0]  # tokens are valid from then on


@needs_postgresql
def test_what_fails_again_and_again_is_tried_less_and_less(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.following.follower._AFTER_TROUBLE", 0.01)
    monkeypatch.setattr("tasktrail.following.follower._MOST_AFTER_TROUBLE", 0.05)
    pauses = list[float | None]()
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        wait = reader._follower._stopping.wait

        def noted(pause: float | None = None) -> bool:
            pauses.append(pause)
            return wait(pause)

        monkeypatch.setattr(reader._follower._stopping, "wait", noted)
        with monkeypatch.context() as patch:
            patch.setattr("tasktrail.following.scheduler_state.FollowedState._take", full)
            leader.create_task(type="noop")
            wait_for(lambda: len(pauses) >= 5)
            assert pauses[:5] == [0.02, 0.04, 0.05, 0.05, 0.05]
        follow(reader, leader)
        assert reader._follower._pause == 0.01


@needs_postgresql
def test_a_reader_ends_in_the_middle_of_its_first_fold(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds, ended = threading.Event(), list[str]()

    def long(_log: object, _path: object, progress: Callable[[int, int], None]) -> None:
        folds.set()
        try:
            while True:
                progress(1, 2)
                time.sleep(0.01)
        finally:
            ended.append("in order")

    monkeypatch.setattr("tasktrail.following.follower.PAGE", 1)
    monkeypatch.setattr("tasktrail.following.follower.rebuild_views", long)
    with leading(tmp_path, where):
        with ReadOnlyService.open(tmp_path / "reader", Config(log=where, handlers=HANDLERS)) as reader:
            assert folds.wait(60)
            assert reader.progress.startswith("folds the log: position 1 of ")
        assert ended == ["in order"]
        monkeypatch.undo()
        with reading(tmp_path, where):
            pass


@needs_postgresql
def test_there_are_no_views_of_a_part_of_a_long_log(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs read the file, too, and would not find the tasks of the rest."""
    were_there: list[bool] = []

    def rebuild(log: LogReader, path: Path, progress: ReportProgress) -> int:
        were_there.append(path.exists())
        return rebuild_views(log, path, progress)

    monkeypatch.setattr("tasktrail.following.follower.PAGE", 1)
    monkeypatch.setattr("tasktrail.following.follower.rebuild_views", rebuild)
    with leading(tmp_path, where) as leader:
        task_id = leader.create_task(type="noop")
        with reading(tmp_path, where) as reader:
            follow(reader, leader)
            assert reader.get_task(task_id).status == "pending"
    assert were_there == [False]


@needs_postgresql
@pytest.mark.slow
@pytest.mark.crash
def test_a_reader_that_is_started_first_says_that_there_is_no_log_yet_and_waits_for_it(
    tmp_path: Path, where: str
) -> None:
    for leads in (False, True):
        with closing(Served(tmp_path / f"reader{leads}", where, "--read-only")) as reader:
            reader.until("the reader waits for the log: The database holds no log yet")
            if leads:
                with leading(tmp_path, where):
                    reader.until("ready")
            reader.process.send_signal(signal.SIGTERM)
            assert reader.process.wait(60) == 0
