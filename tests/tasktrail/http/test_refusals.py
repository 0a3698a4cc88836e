"""Refused commands are in the log, with sender and reason; reading leaves no trace."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from from_outside import files_with

from tasktrail import TaskService
from tasktrail.actors.scheduler import Scheduler
from tasktrail.api.reader import Reader
from tasktrail.config.settings import Config
from tasktrail.events import Recorded
from tasktrail.events.commands import PauseQueue
from tasktrail.events.errors import IllegalTransition, UnknownTask, UnknownType
from tasktrail.events.system_events import CommandRefused
from tasktrail.http.server import HttpServer
from tasktrail.web.log import EVENT_KINDS

Serve = Callable[..., HttpServer]
PASSWORD = "hunter2-in-an-address"
LOG = {"log.db", "log.db-wal", "log.db-shm"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[TaskService]:
    """A service of this test alone, because every record of its log is checked."""
    with TaskService.open(tmp_path / "own", config=Config(workers=1)) as running:
        yield running


def refused(records: Iterator[Recorded]) -> list[tuple[str, str, str, int | None, str]]:
    return [
        (record.actor, record.event.command, record.event.code, record.event.named_task, record.reason)
        for record in records
        if isinstance(record.event, CommandRefused)
    ]


def test_a_refusal_is_recorded_with_the_next_commit(own: TaskService) -> None:
    task = own.create_task(type="document_preview", input_file=__file__, output_file="/tmp/a.jpg", held=True)
    own.cancel_task(task, actor="anna")
    before = own.watermark.position
    with pytest.raises(IllegalTransition):
        own.cancel_task(task, actor="bob", reason=f"see {PASSWORD}")
    assert own.watermark.position == before  # the refusal alone has caused no commit
    own.retry_task(task, force=True, actor="anna")
    assert refused(own.log(before)) == [
        ("bob", "cancel_task", "illegal_transition", task, "The task's state does not allow this")
    ]
    assert own.verify().findings == ()
    assert not {*files_with(own.paths.data, PASSWORD)} & LOG


def test_the_stop_of_a_service_records_what_waits(tmp_path: Path) -> None:
    with TaskService.open(tmp_path / "data", config=Config(workers=1)) as service, pytest.raises(UnknownTask):
        service.cancel_task(77, actor="bob")
    with Reader(tmp_path / "data") as reader:
        records = list(reader.log())
    assert refused(iter(records)) == [("bob", "cancel_task", "unknown_task", 77, "There is no such task")]
    assert records[-1].name == "service_stopped"


def test_without_other_commits_it_is_recorded_after_a_while(own: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.actors.refusals.WAITS_FOR_COMMIT", 0.0)
    with pytest.raises(UnknownTask):
        own.cancel_task(77, actor="bob")
    found = next(own.follow(events=("command_refused",)))
    assert found.actor == "bob"


def test_a_thousand_refusals_cost_no_commit_and_hold_up_nothing(
    own: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    append = Scheduler._append

    def counted(self: Scheduler) -> list[Recorded]:
        records = append(self)
        commits.extend([len(records)] if records else [])
        return records

    monkeypatch.setattr(Scheduler, "_append", counted)
    for number in range(1000):
        with pytest.raises(UnknownTask):
            own.cancel_task(10_000 + number, actor="mallory")
    assert commits == []
    own.create_task(type="document_preview", input_file=__file__, output_file="/tmp/a.jpg", held=True)
    assert len(refused(own.log())) <= 5
    assert own.create_task(type="document_preview", input_file=__file__, output_file="/tmp/b.jpg", held=True) == 2


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_refused_batch_is_recorded_unless_it_only_asked(own: TaskService, tmp_path: Path, *, dry_run: bool) -> None:
    with pytest.raises(UnknownType):
        own.create_batch([tmp_path], f"{tmp_path}/{PASSWORD}/{{stem}}.x", type="nowhere", actor="bob", dry_run=dry_run)
    commit_something(own)
    expected = ("bob", "create_batch", "unknown_type", None, "There is no such task type")
    assert refused(own.log()) == ([] if dry_run else [expected])
    assert not {*files_with(own.paths.data, PASSWORD)} & LOG


def test_files_of_a_batch_that_are_refused_are_recorded_with_their_number(own: TaskService, tmp_path: Path) -> None:
    inputs = [tmp_path / f"{number}.txt" for number in range(3)]
    for path in inputs:
        path.write_text("text")
        path.with_suffix(".jpg").write_text("there already")
    made = own.create_batch(inputs, f"{tmp_path}/{{stem}}.jpg", type="document_preview", actor="bob")
    assert len(made.refused) == 3
    commit_something(own)
    (record,) = [record for record in own.log() if isinstance(record.event, CommandRefused)]
    assert record.event == CommandRefused(command="create_batch", code="output_exists", times=3)
    assert (record.actor, record.reason) == ("bob", "The output already exists")
    assert own.verify().findings == ()


# --- over HTTP ---


@pytest.fixture
def port(own: TaskService, serve: Serve) -> Iterator[Callable[[str], httpx.Client]]:
    """Return clients of the port, by their credentials."""
    server = serve(own)
    made: list[httpx.Client] = []

    def client(secret: str) -> httpx.Client:
        shown = {"authorization": f"Bearer {secret}"} if secret else {}
        made.append(httpx.Client(base_url=server.address, headers=shown, trust_env=False))
        return made[-1]

    yield client
    for one in made:
        one.close()


def content_of(service: TaskService) -> list[bytes]:
    """Return everything recorded, in the log's file or still beside it."""
    return [record.hash for record in service.log()]


def commit_something(service: TaskService) -> None:
    service.send(PauseQueue())


def test_a_token_that_may_not_is_recorded_by_its_name(own: TaskService, port: Callable[[str], httpx.Client]) -> None:
    secret = own.add_token("eye", "reader")
    sender = own.add_token("hand", "submitter")
    eye, hand = port(secret), port(sender)
    assert eye.post("/v1/commands", json={"command": "cancel_task", "task_id": 1}).status_code == 403
    assert eye.post(f"/v1/tasks/1/cancel?{PASSWORD}", json={"reason": PASSWORD}).status_code in (400, 403)
    pause = {"command": "pause_queue", "reason": PASSWORD}
    assert hand.post("/v1/commands", json=pause).status_code == 403
    assert hand.post("/v1/tasks/4711/cancel", json={"reason": PASSWORD}).status_code == 404
    batch = {"inputs": ["/nowhere"], "to": f"/{PASSWORD}/{{stem}}.jpg", "type": "none"}
    assert hand.post("/v1/batches", json=batch).status_code == 400
    commit_something(own)
    assert {row[:4] for row in refused(own.log())} == {
        ("eye", "POST /v1/commands", "forbidden", None),
        ("eye", "POST /v1/tasks/{task_id}/cancel", "forbidden", None),
        ("hand", "pause_queue", "forbidden", None),
        ("hand", "cancel_task", "unknown_task", 4711),
        ("hand", "create_batch", "unknown_type", None),
    }
    assert not {name for word in (PASSWORD, secret, sender) for name in files_with(own.paths.data, word)} & LOG


def test_whom_nobody_knows_is_not_recorded(own: TaskService, port: Callable[[str], httpx.Client]) -> None:
    for secret in ("", "wrong"):
        stranger = port(secret)
        for _ in range(5):
            assert stranger.post("/v1/commands", json={"command": "cancel_task", "task_id": 1}).status_code == 401
            assert stranger.post("/v1/tasks/1/cancel", json={}).status_code == 401
    commit_something(own)
    assert refused(own.log()) == []


def test_the_refusals_can_be_read_over_http_and_on_the_page(
    own: TaskService, port: Callable[[str], httpx.Client]
) -> None:
    with pytest.raises(UnknownTask):
        own.cancel_task(77, actor="bob")
    commit_something(own)
    auditor = port(own.add_token("auditor", "auditor"))
    (found,) = auditor.get("/v1/events", params={"event": "command_refused"}).text.splitlines()
    assert '"actor":"bob"' in found
    assert "command_refused" in EVENT_KINDS
    page = auditor.get("/log", params={"kind": "command_refused"}).text
    assert "cancel_task refused: unknown_task, task 77" in page


@pytest.mark.slow
def test_reading_writes_nothing(own: TaskService, port: Callable[[str], httpx.Client]) -> None:
    """Whatever is asked, with permission or without, the log stays the same to the last hash."""
    own.create_task(type="document_preview", input_file=__file__, output_file="/tmp/a.jpg", held=True)
    clients = [port(own.add_token(role, role)) for role in ("reader", "auditor", "operator")]
    paths = clients[2].get("/openapi.json").json()["paths"]
    own.verify()
    before = own.watermark.position, content_of(own)
    asked: list[int] = []
    for path, operations in paths.items():
        for value in ("1", "999") if "get" in operations else ():
            where = path.replace("{task_id}", value).replace("{batch_name}", value)
            asked += [client.get(where).status_code for client in (*clients, port(""))]
    assert len(asked) > 100
    assert {200, 401, 403, 404} <= set(asked)
    assert (own.watermark.position, content_of(own)) == before
