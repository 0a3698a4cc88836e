"""Commands over plain HTTP: which are accepted, which are refused, and how a refusal looks."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from owner import AUTH
from structlog.testing import capture_logs

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.cli.app import run
from tasktrail.config.settings import Config
from tasktrail.events import CreateTask
from tasktrail.events.errors import Malformed, OutcomeUnknown
from tasktrail.handlers.presets import Preset
from tasktrail.http import backend
from tasktrail.http.identity import OWNER, Identity
from tasktrail.http.requests import Item
from tasktrail.http.server import HttpServer

Wish = Callable[..., dict[str, Any]]
PROBLEM = {"type", "title", "status", "detail", "code", "field", "remedy"}


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None = "") -> dict[str, Any]:
    """Check a problem; with `field` None, any field is right."""
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told.keys() == PROBLEM
    assert (answer.status_code, told["status"], told["code"]) == (status, status, code)
    assert field in (None, told["field"])
    assert told["detail"]
    assert told["remedy"]
    return told


def create(wish: dict[str, Any]) -> dict[str, Any]:
    return {"command": "create_task", **wish}


def test_a_command_is_answered_with_task_position_and_id(web: httpx.Client, wish: Wish) -> None:
    answer = web.post("/v1/commands", json=create(wish(command_id="answered-1")))
    assert answer.status_code == 202
    assert answer.json().keys() == {"task_id", "position", "command_id"}
    assert answer.json()["command_id"] == "answered-1"


@pytest.mark.parametrize("route", ["/v1/tasks", "/v1/commands"])
def test_the_answer_to_a_new_task_says_where_it_is(web: httpx.Client, wish: Wish, route: str) -> None:
    answer = web.post(route, json=create(wish()))
    assert answer.headers["location"] == f"/v1/tasks/{answer.json()['task_id']}"
    assert web.get(answer.headers["location"]).json()["id"] == answer.json()["task_id"]
    assert "location" not in web.post(f"{answer.headers['location']}/cancel").headers


def test_the_same_command_id_gets_the_same_answer(web: httpx.Client, wish: Wish) -> None:
    first, second = (web.post("/v1/tasks", json=wish(command_id="twice")) for _ in range(2))
    assert first.json() == second.json()
    assert_problem(web.post("/v1/tasks", json=wish(command_id="twice", priority=3)), 409, "command_id_reused")


def test_a_field_that_is_left_out_is_the_same_as_its_default_by_every_way_in(
    web: httpx.Client, client: Client, service: TaskService, wish: Wish
) -> None:
    """Python sends each default, and 1.0 was another command than none: its id was refused over HTTP."""
    fields = wish(command_id="defaults")
    first = web.post("/v1/tasks", json=fields).json()["task_id"]
    given = {**fields, "retry_backoff": 1.0, "retry_jitter": 0.0, "estimated_time": 0, "priority": 0, "options": {}}
    assert web.post("/v1/tasks", json=given).json()["task_id"] == first
    assert client.create_task(**fields) == service.create_task(**fields) == first
    assert service.send(CreateTask(**fields)).task_id == first
    assert_problem(web.post("/v1/tasks", json={**given, "retry_backoff": 2.0}), 409, "command_id_reused")
    client.cancel_task(first)
    retried = client.retry_task(first, command_id="default delay")
    again = web.post(f"/v1/tasks/{first}/retry", json={"command_id": "default delay"})
    assert again.json()["position"] == retried.position


def test_what_is_sent_again_gets_the_first_answer_when_its_preset_has_gone_by_every_way_in(
    open_service: Callable[..., TaskService], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes were refused, or taken for another command, after a change of the configuration."""
    preset = Preset(name="mine", type="echo", options={"value": 1})
    fields: dict[str, Any] = {"type": "echo", "preset": "mine", "options": {"count": 2.0}}

    def send_all(tasks: TaskService) -> list[Any]:
        server = HttpServer(tasks, socket_path=tasks.paths.socket, secret_file=tasks.paths.http_token)
        server.start()
        token = tasks.paths.http_token.read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        line = "submit echo --preset mine -o count=2.0 --command-id cli --json"
        try:
            with (
                httpx.Client(base_url=server.address, headers=headers, trust_env=False) as web,
                Client.connect(tasks.paths.data) as client,
            ):
                answers: list[Any] = [
                    web.post("/v1/tasks", json={**fields, "command_id": "route"}).json(),
                    web.post("/v1/commands", json=create({**fields, "command_id": "fast"})).json(),
                    web.post("/v1/commands", json=[create({**fields, "command_id": f"in-{n}"}) for n in (1, 2)]).json(),
                    client.send(CreateTask(**fields, command_id="client")),
                    run(["--data", str(tasks.paths.data), *line.split()]),
                ]
        finally:
            assert server.stop()
        return [*answers, capsys.readouterr().out]

    tasks = open_service(presets=(preset,))
    first = send_all(tasks)
    assert tasks.list_tasks()[1] == 6
    tasks.reload(Config(workers=2, handlers=("sample_handlers", "crash_handlers")))
    assert send_all(tasks) == first
    tasks.close()
    tasks = open_service(handlers=())
    assert send_all(tasks) == first
    assert tasks.list_tasks()[1] == 6


def test_a_task_is_created_started_cancelled_and_retried_by_its_routes(web: httpx.Client, wish: Wish) -> None:
    task_id = web.post("/v1/tasks", json=wish(max_retries=1)).json()["task_id"]
    assert web.post(f"/v1/tasks/{task_id}/cancel", json={"reason": "wrong file"}).status_code == 202
    assert web.get(f"/v1/tasks/{task_id}").json()["status"] == "cancelled"
    assert web.post(f"/v1/tasks/{task_id}/retry", json={"delay": 60}).json()["task_id"] == task_id
    assert web.get(f"/v1/tasks/{task_id}").json()["status"] == "retrying"
    assert web.post(f"/v1/tasks/{task_id}/cancel").status_code == 202
    assert_problem(web.post(f"/v1/tasks/{task_id}/retry"), 409, "retries_exhausted")
    assert web.post(f"/v1/tasks/{task_id}/retry", json={"force": True, "actor": "anna", "delay": 60}).status_code == 202
    history = web.get(f"/v1/tasks/{task_id}/events").json()
    assert [event["event"] for event in history] == ["created", "cancelled", "retried", "cancelled", "retried"]
    assert (history[1]["reason"], history[-1]["actor"]) == ("wrong file", "anna")
    web.post(f"/v1/tasks/{task_id}/cancel")


def test_whoever_names_no_actor_is_recorded_as_http(web: httpx.Client, wish: Wish) -> None:
    """An empty actor would leave the history without the origin of a pause."""
    created = web.post("/v1/tasks", json=wish()).json()
    positions = [created["position"]]
    for path, body in (
        (f"/v1/tasks/{created['task_id']}/adjust", {"priority": 4, "actor": ""}),
        (f"/v1/tasks/{created['task_id']}/cancel", {}),
        ("/v1/queue/pause", {"user_id": 4711}),
        ("/v1/commands", {"command": "resume_queue", "user_id": 4711}),
        ("/v1/queue/drain", {}),
        ("/v1/queue/resume", {}),
        ("/v1/limits", {"max_per_label": 7}),
        ("/v1/limits", {"reset": True}),
        ("/v1/schedules", {"schedule": "unsigned", "task": wish(overwrite=True), "every": 3600}),
        ("/v1/schedules/unsigned/remove", {}),
    ):
        positions.append(web.post(path, json=body).json()["position"])
    (several,) = web.post("/v1/commands", json=[create(wish())]).json()
    positions.append(several["position"])
    records = map(msgspec.json.decode, web.get("/v1/events").text.splitlines())
    actors = {record["position"]: record["actor"] for record in records}
    assert {actors[position] for position in positions} == {"http"}


def test_a_held_task_is_released_by_start(web: httpx.Client, wish: Wish) -> None:
    task_id = web.post("/v1/tasks", json=wish()).json()["task_id"]
    assert web.get(f"/v1/tasks/{task_id}").json()["held"]
    assert web.post(f"/v1/tasks/{task_id}/start").status_code == 202
    assert not web.get(f"/v1/tasks/{task_id}").json()["held"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"{", "malformed", ""),
        (b"", "malformed", ""),
        (b"5", "malformed", ""),
        (b"[1", "malformed", ""),
        (b"[" * 100_000, "malformed", ""),
        (b'{"a":' * 100_000, "malformed", ""),
        (b'{"command":"create_task","type":"x","options":' + b'{"a":' * 100_000, "malformed", ""),
        (b'{"command":"create_task","type":"\xff\xfe"}', "malformed", ""),
        (b'{"command":"create_task","type":"a\x00b"}', "malformed", ""),
        (b'{"command":"create_task","type":"x","options":{"a":NaN}}', "malformed", ""),
        (b'{"type":"image_thumbnail"}', "malformed", "command"),
        (b'{"command":"delete_task","task_id":1}', "malformed", "command"),
        (b'{"command":"create_task"}', "malformed", "type"),
        (b'{"command":"create_task","type":"x","colour":1}', "malformed", "colour"),
        (b'{"command":"create_task","type":"x","priority":11}', "invalid_value", "priority"),
        (b'{"command":"create_task","type":"x","priority":"1"}', "invalid_value", "priority"),
        (b'{"command":"create_task","type":"x","depends_on":[1,0]}', "invalid_value", "depends_on[1]"),
        (b'{"command":"create_task","type":"x","scheduled_for":"2026-01-01"}', "invalid_value", "scheduled_for"),
        (b'{"command":"create_task","type":"nothing"}', "unknown_type", "type"),
    ],
    ids=lambda value: str(value[:40]) if isinstance(value, bytes) else None,
)
def test_what_cannot_be_a_command_is_refused(web: httpx.Client, body: bytes, code: str, field: str | None) -> None:
    assert_problem(web.post("/v1/commands", content=body), 400, code, field)


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"type": "nothing"}, 400, "unknown_type", "type"),
        ({"input_file": "/no/such/file.png"}, 409, "invalid_path", "input_file"),
        ({"output_file": "/no/such/folder/out.jpg"}, 409, "invalid_path", "output_file"),
        ({"output_file": "/tmp/out.txt"}, 422, "invalid_path", "output_file"),
        ({"input_file": "in.png"}, 400, "invalid_path", "input_file"),
        ({"output_file": "../out.jpg"}, 400, "invalid_path", "output_file"),
        ({"input_file": "/tmp/a\0b.png"}, 400, "invalid_value", "input_file"),
        ({"options": {"size": "huge"}}, 400, "invalid_options", None),
        ({"options": {"no_such_option": 1}}, 400, "invalid_options", None),
        ({"depends_on": [2**40]}, 409, "unknown_dependency", "depends_on"),
        ({"parent_task_id": 2**40}, 409, "unknown_dependency", "parent_task_id"),
        ({"deadline": "2020-01-01T00:00:00Z"}, 409, "invalid_value", "deadline"),
        (
            {"deadline": "2098-01-01T00:00:00Z", "scheduled_for": "2099-01-01T00:00:00Z"},
            *(422, "invalid_value", "deadline"),
        ),
        ({"priority": 11}, 400, "invalid_value", "priority"),
        ({"reason": "x" * 5000}, 400, "invalid_value", "reason"),
        ({"options": {"a": "x" * 40_000}}, 413, "invalid_value", "options"),
    ],
    ids=str,
)
def test_a_command_that_asks_for_the_impossible_is_refused(
    web: httpx.Client, wish: Wish, document: int, changes: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    answer = web.post("/v1/tasks", json=wish(document_id=document, **changes))
    assert_problem(answer, status, code, field)
    assert web.get("/v1/tasks", params={"document_id": document}).json()["total"] == 0


def test_refusals_of_unknown_commands_name_the_known_ones(web: httpx.Client) -> None:
    told = web.post("/v1/commands", json={"command": "destroy"}).json()
    assert "create_task, start_task, cancel_task, retry_task, save_checkpoint" in told["detail"]


@pytest.mark.parametrize("task_id", [0, -1, 999_999_999, 2**63, 10**30])
@pytest.mark.parametrize("verb", ["start", "cancel", "retry"])
def test_commands_on_tasks_that_do_not_exist_are_refused(web: httpx.Client, task_id: int, verb: str) -> None:
    assert_problem(web.post(f"/v1/tasks/{task_id}/{verb}"), 404, "unknown_task", None)


@pytest.mark.parametrize(
    ("number", "status"), [("1e20", 409), ("100000000000000000000", 422), ("9223372036854775807", 409)]
)
def test_a_number_that_64_bits_cannot_hold_is_told_from_a_float(
    web: httpx.Client, wish: Wish, number: str, status: int
) -> None:
    """JSON Schema cannot express this, since it treats both alike. 409: the task does not run."""
    task_id = web.post("/v1/tasks", json=wish()).json()["task_id"]
    body = f'{{"command": "save_checkpoint", "task_id": {task_id}, "checkpoint": {{"data": {{"x": {number}}}}}}}'
    answer = web.post("/v1/commands", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/v1/tasks/retry", "/v1/queue/pause", "/v1/tasks", "/v1/commands"])
def test_a_body_of_nothing_but_space_is_no_json(web: httpx.Client, path: str) -> None:
    answer = web.post(path, content=b" \n", headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_a_notice_that_is_not_there_does_not_say_that_the_task_is_not(web: httpx.Client, wish: Wish) -> None:
    task_id = web.post("/v1/tasks", json=wish()).json()["task_id"]
    answer = web.post(f"/v1/tasks/{task_id}/redeliver", json={"notice_id": "none"})
    assert_problem(answer, 409, "unknown_notice", "notice_id")


def test_a_body_may_not_name_another_task_than_the_path(web: httpx.Client) -> None:
    assert_problem(web.post("/v1/tasks/1/cancel", json={"task_id": 2}), 400, "invalid_value", "task_id")
    assert_problem(web.post("/v1/tasks/1/cancel", json={"command": "retry_task"}), 400, "malformed", "command")


def test_in_an_array_a_refused_command_is_a_problem_and_the_others_stand(web: httpx.Client, wish: Wish) -> None:
    commands = [
        create(wish()),
        {"command": "create_task"},
        7,
        create(wish(type="nothing")),
        create(wish(input_file="relative.png")),
        {"command": "cancel_task", "task_id": 999_999},
        create(wish()),
    ]
    answer = web.post("/v1/commands", json=commands)
    assert answer.status_code == 202
    told = answer.json()
    assert [one.get("code", "accepted") for one in told] == [
        "accepted",
        "malformed",
        "malformed",
        "unknown_type",
        "invalid_path",
        "unknown_task",
        "accepted",
    ]
    assert [one["status"] for one in told[1:-1]] == [400, 400, 400, 400, 404]
    assert told[-1]["task_id"] == told[0]["task_id"] + 1


def test_an_empty_array_is_answered_with_one(web: httpx.Client) -> None:
    assert web.post("/v1/commands", json=[]).json() == []


def test_too_much_at_a_time_is_refused_by_size(web: httpx.Client, wish: Wish) -> None:
    large = msgspec.json.encode(create(wish(options={"a": "x" * 1_100_000})))
    assert_problem(web.post("/v1/commands", content=large), 413, "too_large")
    assert_problem(web.post("/v1/tasks", content=large), 413, "too_large")
    assert_problem(web.post("/v1/commands", content=b"[" + b" " * 17_000_000 + b"]"), 413, "too_large")
    assert_problem(web.post("/v1/commands", content=b"[" + b"1," * 10_001 + b"1]"), 413, "too_large")
    answer = web.post("/v1/commands", content=b"[" + large + b"]")
    assert [one["code"] for one in answer.json()] == ["too_large"]


def test_a_body_without_a_length_is_limited_too(web: httpx.Client) -> None:
    endless = (b" " * 65536 for _ in range(400))
    assert_problem(web.post("/v1/commands", content=endless), 413, "too_large")


@pytest.mark.parametrize("declared", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(web: httpx.Client, wish: Wish, declared: str) -> None:
    answer = web.post("/v1/tasks", content=msgspec.json.encode(wish()), headers={"content-type": declared})
    assert_problem(answer, 415, "wrong_content_type")


@pytest.mark.parametrize("route", ["/v1/tasks", "/v1/commands"])
def test_a_compressed_body_is_refused_with_the_reason(web: httpx.Client, wish: Wish, route: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = web.post(route, content=gzip.compress(msgspec.json.encode(wish())), headers=headers)
    assert_problem(answer, 415, "wrong_content_type")
    assert "gzip" in answer.json()["detail"]


def test_json_may_be_declared_with_its_encoding(web: httpx.Client, wish: Wish) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert web.post("/v1/tasks", content=msgspec.json.encode(wish()), headers=headers).status_code == 202


class Silent:
    """A service that takes commands and never answers them."""

    def __init__(self, service: TaskService) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def submit(self, *_args: Any, **_more: Any) -> None:
        pass


def test_a_command_without_answer_in_time_is_an_unknown_outcome_with_its_id(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_ANSWER_WITHIN", 0.05)
    server = serve(Silent(service))
    answer = httpx.post(
        f"{server.address}/v1/tasks", json=wish(command_id="remember-me"), headers=AUTH, trust_env=False
    )
    assert "remember-me" in assert_problem(answer, 503, "outcome_unknown")["detail"]


def sent(service: Any, decode: Callable[[Callable[[], None]], list[Item]]) -> list[Any]:
    """Return what `Backend.send` answers, or raises. `decode` lets the loop look at the clock several times."""
    looked = threading.Semaphore(0)

    async def send() -> list[Any]:
        one = backend.Backend(service)
        loop = asyncio.get_running_loop()

        def look(left: int) -> None:
            if left:
                loop.call_later(0, look, left - 1)
            else:
                looked.release()

        def clock() -> None:
            loop.call_soon_threadsafe(look, 5)
            assert looked.acquire(timeout=20)

        who = Identity(name=OWNER, role="admin", way="token", credential="")
        try:
            return list(await one.send(who, lambda: decode(clock)))
        finally:
            one.close()

    return asyncio.run(send())


def test_the_time_for_an_answer_begins_when_the_command_is_handed_over(
    service: TaskService, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that no one could say which command is in doubt."""
    monkeypatch.setattr(backend, "_ANSWER_WITHIN", 0.0)

    def decode(clock: Callable[[], None]) -> list[Item]:
        clock()
        return [Malformed("this one is none"), CreateTask(**wish(command_id="slowly-read"))]

    with pytest.raises(OutcomeUnknown, match="slowly-read"):
        sent(Silent(service), decode)


def test_a_wait_that_ends_while_a_command_is_read_is_a_fault_and_no_doubt(service: TaskService) -> None:
    def decode(_clock: Callable[[], None]) -> list[Item]:
        raise TimeoutError("of a disk")

    with pytest.raises(TimeoutError, match="of a disk"):
        sent(service, decode)


def test_no_answer_for_nothing_that_was_sent_can_be_told() -> None:
    assert "no command" in backend._unanswered([Malformed("this one is none")]).message


class Broken(Silent):
    """A service with a bug of its own."""

    def submit(self, *_args: Any, **_more: Any) -> None:
        raise RuntimeError("secret detail in /home/somebody")

    def stats(self) -> None:
        raise ValueError("secret detail in /home/somebody")


def test_a_fault_of_ours_is_a_problem_without_its_details(
    service: TaskService, serve: Callable[..., HttpServer], wish: Wish
) -> None:
    server = serve(Broken(service))
    for answer in (
        httpx.get(f"{server.address}/v1/stats", headers=AUTH, trust_env=False),
        httpx.post(f"{server.address}/v1/tasks", json=wish(), headers=AUTH, trust_env=False),
    ):
        assert_problem(answer, 500, "error")
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text


def test_a_graph_is_created_as_a_whole_and_answers_with_ids_by_name(web: httpx.Client, wish: Wish) -> None:
    tasks = [{**wish(), "name": "b", "depends_on": ["a"]}, {**wish(), "name": "a"}]
    tasks[0]["output_file"] = tasks[0]["output_file"].replace("out", "other")
    answer = web.post("/v1/commands", json={"command": "create_graph", "tasks": tasks})
    assert answer.status_code == 202
    ids = answer.json()["ids"]
    assert (answer.json()["task_id"], ids["b"]) == (ids["a"], ids["a"] + 1)
    assert web.get(f"/v1/tasks/{ids['b']}").json()["depends_on"] == [ids["a"]]


def test_a_circle_in_a_graph_is_a_problem_that_names_it(web: httpx.Client, wish: Wish) -> None:
    tasks = [{**wish(), "name": "a", "depends_on": ["b"]}, {**wish(), "name": "b", "depends_on": ["a"]}]
    told = assert_problem(
        web.post("/v1/commands", json={"command": "create_graph", "tasks": tasks}), 422, "graph_cycle", "tasks"
    )
    assert "a → b → a" in told["detail"]


def test_a_relative_path_in_a_graph_is_refused_with_its_place(web: httpx.Client, wish: Wish) -> None:
    tasks = [{**wish(), "name": "a"}, {**wish(output_file="out.jpg"), "name": "b"}]
    answer = web.post("/v1/commands", json={"command": "create_graph", "tasks": tasks})
    assert_problem(answer, 400, "invalid_path", "tasks[1].output_file")


def test_children_are_cancelled_with_their_parent_and_counted(web: httpx.Client, wish: Wish) -> None:
    parent = web.post("/v1/tasks", json=wish()).json()["task_id"]
    web.post("/v1/tasks", json=wish(parent_task_id=parent))
    assert web.post(f"/v1/tasks/{parent}/cancel", json={"children": True}).status_code == 202
    shown = web.get(f"/v1/tasks/{parent}").json()
    assert shown["children"] == {"total": 1, "progress": 0.0, "by_status": {"cancelled": 1}}


def test_many_are_retried_with_a_count_and_a_problem_for_each_refusal(web: httpx.Client, wish: Wish) -> None:
    ids = [web.post("/v1/tasks", json=wish(user_id=4711, max_retries=retries)).json()["task_id"] for retries in (1, 0)]
    for task_id in ids:
        web.post(f"/v1/tasks/{task_id}/cancel")
    answer = web.post("/v1/tasks/retry", json={"status": "cancelled", "user_id": 4711, "reason": "again", "delay": 90})
    told = answer.json()
    assert (answer.status_code, told["count"], told["retried"]) == (202, 1, ids[:1])
    assert [(one["task_id"], one["code"]) for one in told["refused"]] == [(ids[1], "retries_exhausted")]
    shown = web.get(f"/v1/tasks/{ids[0]}").json()
    assert shown["status"] == "retrying"
    assert shown["due_at"] > shown["updated_at"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [({"status": "completed"}, "invalid_value", "status"), ({"statsu": "failed"}, "malformed", "statsu")],
)
def test_a_retry_of_many_that_means_nothing_is_refused(web: httpx.Client, body: Any, code: str, field: str) -> None:
    assert_problem(web.post("/v1/tasks/retry", json=body), 400, code, field)


def test_all_that_threads_tell_the_loop_until_it_looks_wakes_it_once() -> None:
    woken: list[Callable[[], None]] = []
    called: list[int] = []

    class Loop:
        def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
            woken.append(call)

    news, loop = backend.LoopNews(), Loop()
    for number in range(3):
        news.call_soon(loop, called.append, number)  # type: ignore[arg-type]  # all that it uses of a loop
    assert len(woken) == 1
    woken[0]()
    assert called == [0, 1, 2]
    news.call_soon(loop, called.append, 3)  # type: ignore[arg-type]  # as above
    assert len(woken) == 2


def test_what_goes_wrong_with_one_call_in_the_loop_keeps_no_other_from_it() -> None:
    called: list[int] = []

    async def tell() -> None:
        news, loop = backend.LoopNews(), asyncio.get_running_loop()
        news.call_soon(loop, called.remove, 1)
        news.call_soon(loop, called.append, 2)
        await asyncio.sleep(0)

    with capture_logs() as lines:
        asyncio.run(tell())
    assert called == [2]
    assert [line["log_level"] for line in lines] == ["error"]
