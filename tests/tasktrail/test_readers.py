"""A reader answers everything from the log of a service elsewhere, changes nothing, and says what it does not know."""

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

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
from tasktrail.events.errors import ConfigurationError, DataInUse, LogUnreachable, NotReady, UnknownTask
from tasktrail.events.log.address import read_address, write_address
from tasktrail.events.log.event_log import EventLog
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.opening import open_log
from tasktrail.events.system_events import UserErased
from tasktrail.http.server import HttpServer

HANDLERS = ("sample_handlers",)
SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture
def where() -> Iterator[str]:
    with new_database() as where:
        yield where


@contextmanager
def leading(folder: Path, where: str) -> Iterator[TaskService]:
    """A service that starts nothing: what is in its log is for the tests to say."""
    config = Config(log=where, workers=1, handlers=HANDLERS)
    with TaskService.open(folder / "leader", config=config) as service:
        service.pause(reason="so that all waits")
        yield service


@contextmanager
def reading(folder: Path, where: str) -> Iterator[ReadOnlyService]:
    """A reader that has caught up."""
    config = Config(log=where, handlers=HANDLERS)
    with ReadOnlyService.open(folder / "reader", config) as service:
        assert service.caught_up(60)
        yield service


@contextmanager
def at_port(service: ReadOnlyService) -> Iterator[HttpServer]:
    """Its routes."""
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
        assert reader.verify().ok
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
        task_id = leader.create_task(type="noop")
        follow(reader, leader)
        for path in ("/", "/tasks", f"/tasks/{task_id}", "/schedules", "/limits", "/log"):
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
        assert f"come to position {head}, and {head + 1} has not come" in beyond.json()["detail"]
        metrics = get(server, "/metrics", token).text
        assert f"tasktrail_log_position {float(head)}" in metrics
        assert 'tasktrail_lag_records{reader="views"} 0.0' in metrics
        assert "tasktrail_log_silent_seconds" in metrics
        assert "tasktrail_tasks_accepted" not in metrics  # the service counts that
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
        with pytest.raises(NotReady, match="has not come"):
            reader.find(10_000, "min_position")
        assert time.monotonic() - began < 5
        server.start_again()
        wait_for(lambda: reader.ready)
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
def test_damaged_views_are_built_anew_when_a_question_finds_them(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        task_id = leader.create_task(type="noop")
        follow(reader, leader)
        generation = reader.source.generation()
        assert reader.source.mend(generation, None)  # type: ignore[arg-type]  # it finds out itself what is damaged
        assert reader.source.generation() > generation
        assert reader.get_task(task_id).status == "pending"


def test_a_log_in_a_file_has_no_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Only a log on PostgreSQL"):
        ReadOnlyService.open(tmp_path, Config())


@needs_postgresql
def test_a_folder_that_a_service_holds_takes_no_reader(tmp_path: Path, where: str) -> None:
    with leading(tmp_path, where), pytest.raises(DataInUse):
        ReadOnlyService.open(tmp_path / "leader", Config(log=where))


def test_a_reader_neither_waits_for_the_log_nor_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    for other in (["--standby"], ["--accept-loss", "--reason", "because"]):
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
    """A log with a task of each of two users, and another data folder, which has the keys, or has not."""
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
    return [path.name for path in folder.glob("views.db*") if f"canary-{user}".encode() in path.read_bytes()]


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
    monkeypatch.setattr("tasktrail.follower.erase_here", lambda *_: False)  # it looked just before
    (tmp_path / "leader").mkdir()
    with new_place(tmp_path / "leader") as place, closing(open_log(place, now=NOW)) as log:
        journal = Journal(log)
        gone = journal.create(label="canary-1")
        journal.send(CancelTask(task_id=gone))
        with reading(tmp_path, read_address(place)) as reader:
            assert traces(reader.paths.data, 1)
        journal.forget(gone)
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leader").mkdir()
    with new_place(tmp_path / "leader") as place:
        with closing(open_log(place, now=NOW)) as log:
            log.append([of_user(1), of_user(2)], expected=0)
        with reading(tmp_path, read_address(place)) as reader:
            monkeypatch.setattr("tasktrail.follower._FOLLOW_EVERY", 600.0)
            reader._follower.look()  # it sleeps from here on, while the log becomes another one
            with connect(read_address(place).removeprefix("postgresql:///").partition("?")[0]) as conn:
                conn.execute("DROP SCHEMA tasktrail CASCADE")
            shutil.rmtree(tmp_path / "leader")
            (tmp_path / "leader").mkdir()
            write_address(place, read_address(reader.paths.log))
            with closing(open_log(place, now=NOW)) as log:
                log.append([other(number) for number in (1, 2, 3, 4)], expected=0)
                log.append([Fact(1, 2, Cancelled(), NOW, "alice")], expected=4)
            reader._follower.look()
            wait_for(lambda: not reader.ready)
            assert "does not hold or holds otherwise" in str(reader.obstacle)
            assert reader.watermark.position == 2


@needs_postgresql
def test_tokens_lapse_while_the_database_answers_and_nothing_can_be_folded(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    with leading(tmp_path, where) as leader, reading(tmp_path, where) as reader:
        leader.add_token("ci", role="reader")
        follow(reader, leader)
        assert len(reader.known_tokens) == 1
        monkeypatch.setattr("tasktrail.followed_state.FollowedState._take", full)
        monkeypatch.setattr(read_only, "TOKENS_HOLD", 0.5)
        leader.revoke_token("ci")
        wait_for(lambda: not reader.known_tokens)
