"""The client: as good as the service itself, and persistent when connections are lost."""

import itertools
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from driven_client import driven
from msgspec.structs import replace
from owner import SECRET

from tasktrail import AsyncClient, Client
from tasktrail.api import connection
from tasktrail.api.protocol import Tasks
from tasktrail.api.service import TaskService
from tasktrail.api.wire import BROKEN, NOT_CONNECTED
from tasktrail.events import Accepted, CancelTask, Checkpoint, CreateTask, StartTask, TasktrailError
from tasktrail.events.errors import (
    IllegalTransition,
    InvalidPath,
    InvalidValue,
    Malformed,
    NotReady,
    OutcomeUnknown,
    RetriesExhausted,
    ServiceUnreachable,
    UnknownBatch,
    UnknownTask,
    UnknownType,
    WaitTimeout,
)
from tasktrail.exports.rows import What, opened
from tasktrail.http.server import HttpServer
from tasktrail.projections import BeyondTheLog, TaskFilters

Wish = Callable[..., dict[str, Any]]
Many = Callable[..., list[CreateTask]]


@pytest.fixture(scope="module")
def async_client(server: HttpServer, data: Path) -> Iterator[Client]:
    assert server.address
    with driven(lambda: AsyncClient.connect(data)) as connected:
        yield connected


@pytest.fixture(params=["service", "client", "async_client"])
def tasks(request: pytest.FixtureRequest) -> Tasks:
    """The following tests must hold for all three."""
    found: Tasks = request.getfixturevalue(request.param)
    return found


def accepted_id(answer: Accepted | TasktrailError) -> int:
    assert isinstance(answer, Accepted)
    return answer.task_id


def test_what_came_later_was_not_there_then(tasks: Tasks, wish: Wish, document: int) -> None:
    before = tasks.stats().position
    name = f"later {document}"
    task_id = tasks.create_task(**wish(batch=name))
    assert tasks.batch(name).total == 1
    with pytest.raises(UnknownBatch, match=f"^No task belonged to a batch '{name}' then "):
        tasks.batch(name, as_of=before)
    for question in (tasks.get_task, tasks.attempts):
        with pytest.raises(UnknownTask, match=f"^Task {task_id} did not exist then "):
            question(task_id, as_of=before)


@pytest.mark.parametrize("name", ["", "/", "a/b", "../tasks", "?", "a//b/", "\u2028"])
def test_a_name_that_no_batch_can_have_is_that_of_none(tasks: Tasks, name: str) -> None:
    with pytest.raises(UnknownBatch, match=f"^{re.escape(f'No task belongs to a batch {name!r}')} "):
        tasks.batch(name)


@pytest.mark.parametrize("name", [None, 5, ["films"]])
def test_what_is_no_text_is_no_name_of_a_batch(tasks: Tasks, name: Any) -> None:
    """It was a TypeError, or passed for damage of the views."""
    with pytest.raises(InvalidValue, match=f"^{re.escape(f'batch has to be text, not {name!r}')} ") as refused:
        tasks.batch(name)
    assert refused.value.field == "batch"


@pytest.mark.parametrize("fields", [None, 5, "x", ["x"]])
def test_fields_that_are_no_mapping_are_refused_by_name(tasks: Tasks, fields: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^task has to be a dict of fields, not "):
        tasks.create_batch(["/in"], "/out", task=fields)
    with pytest.raises(InvalidValue, match=r"^film has to be a dict of fields, not "):
        tasks.spread_film(fields, 2)


def test_the_name_of_a_batch_is_text(tasks: Tasks) -> None:
    with pytest.raises(InvalidValue, match=r"^batch is not valid text"):
        tasks.batch("\ud800")


Connect = Callable[..., Client]


@pytest.fixture(params=["client", "async_client"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Connect both clients, which are called in the same way."""
    if request.param == "client":
        return Client
    return lambda url, **more: driven(lambda: AsyncClient(url, **more))


@pytest.fixture(params=["client", "async_client"])
def any_client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.getfixturevalue(request.param)
    return found


def told(error: TasktrailError) -> tuple[type[TasktrailError], str, str, str]:
    return type(error), error.message, error.field, error.advice


def test_a_task_is_made_and_seen_at_once(tasks: Tasks, wish: Wish) -> None:
    for _ in range(10):
        task_id = tasks.create_task(**wish(user_id=3))
        assert tasks.get_task(task_id).status == "pending"
        assert tasks.get_task_progress(task_id) == (0.0, "")


def test_no_task_is_overlooked_when_others_leave_the_list_meanwhile(
    tasks: Tasks, service: TaskService, many: Many, document: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [accepted_id(answer) for answer in service.send_many(many(8, document_id=document))]
    monkeypatch.setattr("tasktrail.api.remote.MAX_LIMIT", 3)
    asked = TaskService.list_tasks
    leaving = iter(made)

    def one_leaves(self: TaskService, filters: TaskFilters | None = None) -> Any:
        page = asked(self, filters)
        service.cancel_task(next(leaving))
        return page

    monkeypatch.setattr(TaskService, "list_tasks", one_leaves)
    found = tasks.find_ids(TaskFilters(document_id=document, status="pending"))
    monkeypatch.undo()
    left = [task_id for task_id in made if service.get_task(task_id).status == "pending"]
    assert [task_id for task_id in found if task_id in left] == left
    assert found == sorted(set(found))
    assert tasks.find_ids(TaskFilters(document_id=document, as_of=service.stats().position)) == made


def test_a_task_runs_to_its_end(tasks: Tasks, wish: Wish, tmp_path: Path) -> None:
    task_id = tasks.create_task(**wish(held=False))
    task = tasks.wait(task_id, timeout=30)
    assert (task.status, task.progress) == ("completed", 100.0)
    assert (tmp_path / "out.jpg").exists()
    assert [record.version for record in tasks.events(task_id)] == list(range(1, task.version + 1))


def test_attempts_are_told_now_and_as_they_were(tasks: Tasks, wish: Wish) -> None:
    task_id = tasks.create_task(**wish(held=False))
    assert tasks.wait(task_id, timeout=30).status == "completed"
    attempts = tasks.attempts(task_id)  # other tests have taught the estimate, so a first one may reserve more
    assert (attempts[-1].number, attempts[-1].outcome, attempts[-1].progress) == (len(attempts), "completed", 100)
    created, started, *_ = tasks.events(task_id)
    assert attempts[0].started_at == started.recorded_at
    assert tasks.attempts(task_id, as_of=created.position) == []
    (running,) = tasks.attempts(task_id, as_of=started.position)
    assert (running.outcome, running.started_at) == (None, started.recorded_at)
    with pytest.raises(UnknownTask):
        tasks.attempts(task_id, as_of=created.position - 1)


def test_what_became_of_tasks_between_two_moments(tasks: Tasks, wish: Wish) -> None:
    begin = tasks.stats().position
    first, second = (tasks.create_task(**wish()) for _ in range(2))
    middle = tasks.stats().position
    tasks.cancel_task(first)
    found = tasks.diff(begin)
    assert (found.total, found.from_position) == (2, begin)
    assert found.to_position >= tasks.events(first)[-1].position, "the own write is seen"
    assert [(one.task_id, one.before, one.after.status) for one in found.changes] == [
        (first, None, "cancelled"),
        (second, None, "pending"),
    ]
    (later,) = tasks.diff(middle).changes
    assert (later.task_id, later.before and later.before.status, later.after.status) == (first, "pending", "cancelled")
    assert [one.task_id for one in tasks.diff(begin, middle, limit=1, offset=1).changes] == [second]
    (created, _cancelled) = tasks.events(first)
    assert tasks.diff(created.recorded_at, middle).total <= 1
    assert tasks.diff(middle, middle).changes == []


def test_moments_that_cannot_be_are_refused_by_name(tasks: Tasks, wish: Wish) -> None:
    tasks.create_task(**wish())
    later, without_zone = datetime.now(UTC) + timedelta(hours=1), datetime(2026, 1, 31)  # noqa: DTZ001 - that is the point
    for begin, end, kind, field in (
        (10**9, None, BeyondTheLog, "from"),
        (0, 10**9, BeyondTheLog, "to"),
        (later, None, BeyondTheLog, "from"),
        (0, later, BeyondTheLog, "to"),
        (2, 1, InvalidValue, "to"),
        (without_zone, None, InvalidValue, "from"),
        (0, "soon", InvalidValue, "to"),
        (None, None, InvalidValue, "from"),
    ):
        with pytest.raises(kind) as refused:
            tasks.diff(begin, end)  # type: ignore[arg-type]  # some are no moments
        assert refused.value.field == field, (begin, end)


def test_an_export_is_the_same_by_a_client(service: TaskService, any_client: Client, wish: Wish, document: int) -> None:
    task_id = service.create_task(**wish(held=False, document_id=document))
    service.create_task(**wish(document_id=document))
    service.wait(task_id, timeout=30)
    filters = TaskFilters(document_id=document, as_of=service.stats().position)
    for what in get_args(What):
        with opened(service, what, filters) as expected, opened(any_client, what, filters) as found:
            rows = [row for _reached, row in expected.rows if row is not None]
            assert [row for _reached, row in found.rows if row is not None] == rows
            assert rows


def test_a_relative_path_counts_from_the_current_folder(
    tasks: Tasks, wish: Wish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = tasks.get_task(tasks.create_task(**wish(output_file="out.jpg")))
    assert task.output_file == str(tmp_path / "out.jpg")


def test_commands_change_a_task(tasks: Tasks, wish: Wish) -> None:
    task_id = tasks.create_task(**wish(max_retries=1))
    assert tasks.cancel_task(task_id, reason="not now", actor="anna").task_id == task_id
    assert tasks.events(task_id)[-1].reason == "not now"
    tasks.retry_task(task_id, delay=60)  # so that it does not run
    tasks.cancel_task(task_id, command_id=f"mine-{task_id}")
    assert tasks.events(task_id)[-1].command_id == f"mine-{task_id}"
    with pytest.raises(RetriesExhausted):
        tasks.retry_task(task_id)
    tasks.retry_task(task_id, force=True, delay=60)
    assert tasks.get_task(task_id).retry_count == 2
    tasks.cancel_task(task_id)
    with pytest.raises(IllegalTransition):
        tasks.start_task(task_id)
    with pytest.raises(IllegalTransition):
        tasks.save_checkpoint(task_id, Checkpoint(processed_frames=3))
    assert tasks.load_checkpoint(task_id) is None


def test_a_list_takes_filters(tasks: Tasks, wish: Wish, document: int) -> None:
    ids = [tasks.create_task(**wish(document_id=document)) for _ in range(3)]
    found, total = tasks.list_tasks(TaskFilters(document_id=document, sort="id", limit=2, status=("pending", "failed")))
    assert ([task.id for task in found], total) == (ids[:2], 3)
    assert tasks.list_tasks(TaskFilters(document_id=(document, 1), search="png"))[1] == 3
    assert tasks.list_tasks()[1] >= 3


def test_all_ids_are_those_of_the_list_however_short_a_word_is(tasks: Tasks, wish: Wish, document: int) -> None:
    """The page looks for short words as whole words; a change of many tasks must not pass over tasks of the list."""
    ids = [tasks.create_task(**wish(document_id=document)) for _ in range(2)]
    filters = TaskFilters(document_id=document, search="pn")
    assert tasks.list_tasks(filters)[1] == len(ids)
    assert tasks.find_ids(filters) == tasks.find_ids(replace(filters, as_of=tasks.stats().position)) == ids
    for task_id in ids:
        tasks.cancel_task(task_id)
    assert list(tasks.retry_tasks(replace(filters, status="cancelled")).retried) == ids


def test_the_past_can_be_asked_for(tasks: Tasks, wish: Wish) -> None:
    task_id = tasks.create_task(**wish())
    created = tasks.events(task_id)[0]
    tasks.cancel_task(task_id)
    assert tasks.get_task(task_id, as_of=created.position).status == "pending"
    assert tasks.get_task(task_id, as_of=created.recorded_at).status == "pending"
    with pytest.raises(UnknownTask):
        tasks.get_task(task_id, as_of=created.position - 1)


def test_children_batches_and_numbers_of_the_past_can_be_asked_for(tasks: Tasks, wish: Wish, document: int) -> None:
    parent, batch = tasks.create_task(**wish()), f"batch-{document}"
    before = tasks.stats()
    children = [tasks.create_task(**wish(parent_task_id=parent, batch=batch)) for _ in range(2)]
    then = tasks.events(children[0])[0].position
    tasks.cancel_task(children[0])
    now = tasks.events(children[0])[-1].position
    earlier = [tasks.get_task(parent, as_of=at).children for at in (before.position, then, now)]
    assert [children and children.by_status for children in earlier] == [
        None,
        {"pending": 1},
        {"cancelled": 1, "pending": 1},
    ]
    assert tasks.get_task(parent, as_of=now).children == tasks.get_task(parent).children
    assert tasks.batch(batch, as_of=then).by_status == {"pending": 1}
    assert tasks.batch(batch, as_of=now) == tasks.batch(batch)
    assert batch in [one.batch for one in tasks.batches(as_of=now)]
    assert batch not in [one.batch for one in tasks.batches(as_of=before.position)]
    with pytest.raises(UnknownBatch):
        tasks.batch(batch, as_of=before.position)
    told = tasks.stats(as_of=before.position)
    assert (told.position, told.counts) == (before.position, before.counts)
    assert tasks.stats(as_of=now).counts == tasks.stats().counts
    with pytest.raises(BeyondTheLog):
        tasks.stats(as_of=now + 10**6)
    later = datetime.now(UTC) + timedelta(hours=1)
    for question in (
        lambda: tasks.stats(as_of=later),
        lambda: tasks.get_task(parent, as_of=later),
        lambda: tasks.attempts(parent, as_of=later),
        lambda: tasks.batches(as_of=later),
        lambda: tasks.list_tasks(TaskFilters(as_of=later.isoformat())),
    ):
        with pytest.raises(BeyondTheLog, match=f"{later:%Y-%m-%d %H:%M:%S}Z is still to come"):
            question()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"type": "nothing"}, UnknownType),
        ({"type": ""}, InvalidValue),
        ({"input_file": "/no/such/file"}, InvalidPath),
        ({"input_file": "/tmp/a\0b"}, InvalidValue),
        ({"input_file": "/tmp/\ud800"}, InvalidValue),
        ({"output_file": "/no/such/folder/out.jpg"}, InvalidPath),
        ({"priority": 11}, InvalidValue),
        ({"priority": "high"}, InvalidValue),
        ({"colour": "red"}, Malformed),
        ({"options": {"size": float("inf")}}, InvalidValue),
        ({"options": {1: 2}}, TasktrailError),
        pytest.param({"options": {"a": object()}}, InvalidValue, id="an object in the options"),
        ({"options": {"a": "x" * 2_000_000}}, TasktrailError),
        ({"depends_on": [2**40]}, TasktrailError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:25],
)
def test_bad_input_is_the_same_typed_error_from_all(
    tasks: Tasks, wish: Wish, document: int, changes: dict[Any, Any], kind: type[TasktrailError]
) -> None:
    with pytest.raises(kind) as refused:
        tasks.create_task(**wish(document_id=document, **changes))
    assert refused.value.message
    assert refused.value.advice
    assert tasks.list_tasks(TaskFilters(document_id=document))[1] == 0


def test_a_refusal_arrives_as_it_was_raised(service: TaskService, any_client: Client, wish: Wish) -> None:
    done = service.create_task(**wish())
    service.cancel_task(done)
    attempts: list[Callable[[Tasks], object]] = [
        lambda tasks: tasks.get_task(999_999_999),
        lambda tasks: tasks.cancel_task(done),
        lambda tasks: tasks.create_task(**wish(type="nothing")),
        lambda tasks: tasks.create_task(**wish(input_file="/no/such")),
        lambda tasks: tasks.send(CreateTask(**wish(depends_on=(2**40,)))),
        lambda tasks: tasks.events(999_999_999),
    ]
    for attempt in attempts:
        with pytest.raises(TasktrailError) as near:
            attempt(service)
        with pytest.raises(TasktrailError) as far:
            attempt(any_client)
        assert told(near.value) == told(far.value)


def test_many_commands_get_an_answer_each_in_order(tasks: Tasks, many: Many) -> None:
    commands: list[Any] = [
        *many(1500),
        CancelTask(task_id=999_999_999),
        CreateTask(type="x", options={"a": float("nan")}),
        StartTask(task_id=999_999_999),
        *many(3),
    ]
    answers = tasks.send_many(commands)
    assert len(answers) == len(commands)
    ids = [answer.task_id for answer in answers if isinstance(answer, Accepted)]
    assert ids == sorted(ids)
    assert len(ids) == 1503
    assert [answer.code for answer in answers if isinstance(answer, TasktrailError)][0::2] == ["unknown_task"] * 2
    assert tasks.get_task(ids[-1]).id == ids[-1]
    assert tasks.send_many([]) == []


def test_the_log_arrives_whole(service: TaskService, any_client: Client, wish: Wish) -> None:
    odd = "line separators: \u2028 \u2029, Chinese: 任务, emoji: 🎞"
    for _ in range(4):
        service.create_task(**wish(reason=odd, held=True))  # nothing more is recorded meanwhile
    near = list(service.log())
    far = list(any_client.log(limit=len(near)))  # refusals of other tests may be recorded in between
    assert [(r.position, r.event, r.recorded_at, r.hash, r.reason, r.attempt) for r in near] == [
        (r.position, r.event, r.recorded_at, r.hash, r.reason, r.attempt) for r in far
    ]
    assert far[-1].reason == odd
    assert isinstance(far[-1].recorded_at, datetime)
    assert [r.position for r in any_client.log(after=3, limit=2)] == [4, 5]
    assert not any(record.task_id for record in any_client.log(after=far[-1].position))


@pytest.mark.parametrize("question", ["log", "follow"])
def test_what_is_behind_the_end_of_the_log_is_no_place_to_begin(tasks: Tasks, wish: Wish, question: str) -> None:
    tasks.create_task(**wish())
    assert next(getattr(tasks, question)(after=1)).position == 2
    with pytest.raises(BeyondTheLog, match="the log ends at position") as caught:
        next(getattr(tasks, question)(after=10**9))
    assert caught.value.field == "after"


def test_following_sees_what_comes(tasks: Tasks, wish: Wish) -> None:
    after = max(record.position for record in tasks.events(tasks.create_task(**wish())))
    seen = tasks.follow(after, events=("created",))  # refusals of other tests may be recorded in between
    first = tasks.create_task(**wish())
    assert next(seen).task_id == first
    second = tasks.create_task(**wish())
    assert next(seen).task_id == second
    seen.close()


def test_one_task_or_some_events_can_be_followed(tasks: Tasks, wish: Wish) -> None:
    first, second = (tasks.create_task(**wish()) for _ in range(2))
    for task_id in (first, second):
        tasks.cancel_task(task_id)
    of_one = tasks.follow(task_id=second)
    assert [(record.name, record.ends_life) for record in itertools.islice(of_one, 2)] == [
        ("created", False),
        ("cancelled", True),
    ]
    of_one.close()
    ends = tasks.follow(tasks.events(first)[0].position, events=("cancelled", "completed"))
    assert [record.task_id for record in itertools.islice(ends, 2)] == [first, second]
    ends.close()
    with pytest.raises(UnknownTask):
        next(tasks.follow(task_id=999_999_999))
    with pytest.raises(InvalidValue, match="'cancelled'"):
        tasks.follow(events=("canceled",))


def test_waiting_has_an_end(tasks: Tasks, wish: Wish) -> None:
    task_id = tasks.create_task(**wish())
    with pytest.raises(WaitTimeout, match="pending"):
        tasks.wait(task_id, timeout=0.2)
    with pytest.raises(WaitTimeout):
        tasks.wait(task_id, timeout=0)
    with pytest.raises(UnknownTask):
        tasks.wait(999_999_999, timeout=1)


def test_a_wait_ends_with_the_life_of_the_task(service: TaskService, any_client: Client, wish: Wish) -> None:
    task_id = service.create_task(**wish())
    timer = threading.Timer(0.1, service.cancel_task, (task_id,))
    timer.start()
    assert any_client.wait(task_id, timeout=20).status == "cancelled"
    timer.join()


def test_a_wait_is_one_request_to_a_service_that_was_heard_of(
    service: TaskService, server: HttpServer, data: Path, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    assert server.address
    with Client.connect(data) as client:
        task_id = client.create_task(**wish())
        get = client._connection.get

        async def count(path: str, *args: Any, **more: Any) -> bytes:
            asked.append(path)
            return await get(path, *args, **more)

        monkeypatch.setattr(client._connection, "get", count)
        timer = threading.Timer(0.1, service.cancel_task, (task_id,))
        timer.start()
        assert client.wait(task_id, timeout=20).status == "cancelled"
        timer.join()
    assert asked == [f"/v1/tasks/{task_id}"]


def test_who_is_cut_off_while_he_waits_waits_until_the_service_is_back(
    service: TaskService, server: HttpServer, data: Path, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.address
    with Client.connect(data) as client:
        task_id = client.create_task(**wish())
        service.cancel_task(task_id)
        broken = iter([BROKEN[1]("cut off")] * 3 + [NOT_CONNECTED[0]("nobody there")])
        request = client._connection._wire.request

        async def breaks(*args: Any, **more: Any) -> Any:
            if error := next(broken, None):
                raise error
            return await request(*args, **more)

        monkeypatch.setattr(connection, "PAUSES", (0.0, 0.0))
        monkeypatch.setattr(client._connection._wire, "request", breaks)
        assert client.wait(task_id, timeout=20).status == "cancelled"


def test_types_and_numbers(tasks: Tasks, wish: Wish) -> None:
    assert {"image_thumbnail", "video_convert"} <= {known.name for known in tasks.types()}
    position = tasks.send(CreateTask(**wish())).position
    assert tasks.stats().position >= position


def test_one_client_serves_many_threads(any_client: Client, wish: Wish) -> None:
    made: list[int] = []

    def work() -> None:
        made.extend(any_client.create_task(**wish()) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 80


# --- when connections are lost --------------------------------------------------------------------------------------


def test_a_command_whose_answer_is_lost_is_repeated_with_one_effect(
    connect: Connect, proxy: Any, wish: Wish, service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.0, 0.0, 0.0))
    with connect(proxy.url, token=SECRET) as client:
        client.types()
        before = service.watermark.position
        proxy.cuts = 2
        accepted = client.send(CreateTask(**wish()))
    created = [record for record in service.log(before) if record.command_id == accepted.command_id]
    assert [record.task_id for record in created] == [accepted.task_id]
    assert proxy.cuts < 0


def test_a_batch_whose_answer_is_lost_is_repeated_and_gets_the_first_answer(
    connect: Connect,
    proxy: Any,
    picture: Path,
    tmp_path: Path,
    service: TaskService,
    monkeypatch: pytest.MonkeyPatch,
    document: int,
) -> None:
    """Without an id, what the first request had created was reported as skipped."""
    monkeypatch.setattr(connection, "PAUSES", (0.0, 0.0, 0.0))
    fields: dict[str, Any] = {"type": "image_thumbnail", "task": {"held": True, "document_id": document}}
    with connect(proxy.url, token=SECRET) as client:
        client.types()
        proxy.cuts = 1
        made = client.create_batch([picture], tmp_path / "small.jpg", again=True, **fields)
    (task,), _ = service.list_tasks(TaskFilters(document_id=document))
    assert ([one.task_id for one in made.created], made.skipped) == ([task.id], ())
    assert made.repeated
    assert proxy.cuts < 0


def test_a_command_that_never_gets_an_answer_is_an_unknown_outcome_with_its_id(
    connect: Connect, proxy: Any, wish: Wish, service: TaskService, monkeypatch: pytest.MonkeyPatch, document: int
) -> None:
    command_id = f"keep-this-id-{document}"
    monkeypatch.setattr(connection, "PAUSES", (0.0, 0.0, 0.0))
    before = service.watermark.position
    with connect(proxy.url, token=SECRET) as client:
        proxy.cuts = 99
        with pytest.raises(OutcomeUnknown, match=rf"{command_id}: \S"):
            client.send(CreateTask(**wish(command_id=command_id)))
        assert proxy.answers == 4
        answers = client.send_many([CreateTask(**wish()), CreateTask(**wish())])
        assert [answer.code for answer in answers if isinstance(answer, TasktrailError)] == ["outcome_unknown"] * 2
        proxy.cuts = 0
        assert client.send(CreateTask(**wish(command_id=command_id))).position == before + 1


def test_what_has_no_id_and_never_gets_an_answer_may_be_asked_for_again(
    connect: Connect, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.0,))
    with connect(proxy.url, token=SECRET) as client:
        proxy.cuts = 99
        with pytest.raises(OutcomeUnknown, match=r"^No certain answer: \S") as open_:
            client.forget(3600, dry_run=True)
    assert open_.value.advice == "Send it again: nothing is done twice."


def test_a_question_whose_answer_is_lost_is_asked_again(
    connect: Connect, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PAUSES", (0.0, 0.0, 0.0))
    with connect(proxy.url, token=SECRET) as client:
        proxy.cuts = 2
        assert client.types()


def test_a_service_that_does_not_answer_in_time_is_not_ready(connect: Connect, wish: Wish) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = connect(f"http://127.0.0.1:{deaf.getsockname()[1]}", answer_within=0.1)
        with pytest.raises(NotReady) as silent:
            client.types()
        assert "tasktrail doctor" in silent.value.advice
        with pytest.raises(OutcomeUnknown, match="said-once"):
            client.send(CreateTask(**wish(command_id="said-once")))
        client.close()


def test_nobody_there_is_said_at_once(connect: Connect, tmp_path: Path, wish: Wish) -> None:
    with pytest.raises(ServiceUnreachable):
        Client.connect(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "tasktrail.sock"))
    with pytest.raises(ServiceUnreachable):
        Client.connect(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with connect(f"http://127.0.0.1:{port}") as client:
        for attempt in (client.types, client.stats, lambda: client.create_task(**wish()), lambda: client.wait(1)):
            with pytest.raises(ServiceUnreachable, match=str(port)):
                attempt()
        with pytest.raises(ServiceUnreachable):
            client.send_many([CreateTask(**wish())])


@pytest.mark.parametrize("url", ["http://[", "localhost:80", "ftp://localhost", "http://localhost:99999999"])
def test_an_address_that_is_none_is_a_typed_error(connect: Connect, url: str) -> None:
    with pytest.raises(TasktrailError), connect(url) as client:
        client.types()


@pytest.mark.slow
def test_certificates_are_read_only_where_something_is_encrypted(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    make = ssl.create_default_context

    def reading(*args: Any, **more: Any) -> ssl.SSLContext:
        read.append("certificates")
        return make(*args, **more)

    monkeypatch.setattr(ssl, "create_default_context", reading)
    for url, number in (("http://localhost:1", 0), ("HTTP://localhost:1", 0), ("https://localhost:1", 1)):
        connect(url).close()
        assert len(read) == number


def test_certificates_that_cannot_be_read_are_a_typed_error(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ServiceUnreachable):
        connect("https://localhost:1")
    (tmp_path / "missing.pem").write_text("no certificate")
    with pytest.raises(ServiceUnreachable):
        connect("https://localhost:1")


def test_a_proxy_in_between_is_asked_to_pack_nothing(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked: list[bytes] = []

        def answer() -> None:
            one, _ = listening.accept()
            with one:
                asked.append(one.recv(65536))
                one.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]")

        answering = threading.Thread(target=answer)
        answering.start()
        with connect(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            assert client.types() == []
        answering.join()
    assert b"\r\naccept-encoding: identity\r\n" in asked[0].lower()


def test_something_else_at_the_address_is_a_typed_error(connect: Connect, server: HttpServer) -> None:
    address = httpx.URL(server.address)
    with connect(f"http://127.0.0.1:{address.port}/somewhere") as client, pytest.raises(TasktrailError):
        client.types()


@pytest.mark.slow
def test_a_stream_that_breaks_is_taken_up_where_it_broke(
    connect: Connect,
    serve: Callable[..., HttpServer],
    service: TaskService,
    many: Many,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasktrail.api.remote.PAUSES", (0.0, 0.1, 0.5))
    service.send_many(many(2000, reason="x" * 3000))
    after = service.watermark.position - 2000
    first = serve()
    with connect("http://localhost", socket=tmp_path / "other.sock") as client:
        seen = client.follow(after)
        positions = [record.position for record in itertools.islice(seen, 5)]
        cut_connections(first)
        positions += [record.position for record in itertools.islice(seen, 1995)]
        seen.close()
    assert positions == list(range(after + 1, after + 2001))


def cut_connections(server: HttpServer) -> None:
    """Cut all connections without a goodbye, as when a process dies."""
    running = server._server
    assert running is not None
    loop = running.servers[0].get_loop()
    for held in list(running.server_state.connections):
        loop.call_soon_threadsafe(held.transport.abort)


def test_a_stream_ends_when_the_service_stops(
    connect: Connect, serve: Callable[..., HttpServer], service: TaskService, many: Many
) -> None:
    server = serve()
    with connect(server.address, token=SECRET) as client:
        seen = client.follow(service.watermark.position)
        service.send_many(many(1))
        next(seen)
        assert server.stop()
        assert not any(record.task_id for record in seen)


@pytest.mark.parametrize("token", [5, b"secret", ["secret"]])
def test_a_token_that_is_no_text_is_refused_by_name(connect: Connect, token: Any) -> None:
    with pytest.raises(InvalidValue, match="token") as refused:
        connect("http://localhost:1", token=token)
    assert refused.value.field == "token"


@pytest.mark.parametrize("url", [5, None, b"http://localhost"])
def test_an_address_that_is_no_text_is_refused_by_name(connect: Connect, url: Any) -> None:
    with pytest.raises(InvalidValue, match="address") as refused:
        connect(url)
    assert refused.value.field == "url"


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost:8080", "ftp://localhost", "http://", ""])
def test_what_is_no_address_of_a_service_is_refused_with_one_that_is(connect: Connect, url: str) -> None:
    with pytest.raises(InvalidValue, match=r"http://127\.0\.0\.1:8080") as refused:
        connect(url)
    assert refused.value.field == "url"


def test_a_token_may_end_as_its_file_does(connect: Connect, serve: Callable[..., HttpServer]) -> None:
    with connect(serve().address, token=f"{SECRET}\n") as client:
        assert client.types()


def test_an_address_in_the_place_of_a_data_folder_is_told_where_it_belongs() -> None:
    with pytest.raises(InvalidPath, match=r"Client\('http://localhost:1', token="):
        Client.connect("http://localhost:1")
