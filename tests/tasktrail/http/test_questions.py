"""Reading routes over plain HTTP: tasks, numbers, description, and requests that make no sense."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
import httpx
import msgspec
import pytest
from owner import SECRET

from tasktrail import Client, TaskFilters
from tasktrail.api.service import TaskService
from tasktrail.cli.session import Environment, Session
from tasktrail.events import TasktrailError
from tasktrail.events.errors import UnknownAttempt
from tasktrail.handlers.attempt_output import PrintedWriter
from tasktrail.http.server import HttpServer
from tasktrail.projections.errors import SealUnfit
from tasktrail.projections.proof.notes import PrivateKey
from tasktrail.projections.proof.seals import Seal, make_seal
from tasktrail.projections.queries.diff import changes

Wish = Callable[..., dict[str, Any]]


def code(answer: httpx.Response) -> tuple[int, str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    return answer.status_code, told["code"], told["field"]


def test_a_task_can_be_read_as_soon_as_it_is_acknowledged(web: httpx.Client, wish: Wish) -> None:
    for _ in range(20):
        task_id = web.post("/v1/tasks", json=wish(user_id=7)).json()["task_id"]
        answer = web.get(f"/v1/tasks/{task_id}")
        assert (answer.status_code, answer.json()["user_id"]) == (200, 7)
        assert web.get(f"/v1/tasks/{task_id}/progress").json() == {"task_id": task_id, "progress": 0.0, "message": ""}


def test_tasks_are_listed_with_filters_and_their_total(web: httpx.Client, wish: Wish) -> None:
    ids = [web.post("/v1/tasks", json=wish(document_id=42, priority=p)).json()["task_id"] for p in (1, 5, 3)]
    page = web.get("/v1/tasks", params={"document_id": 42, "sort": "-priority", "limit": 2}).json()
    assert ([task["id"] for task in page["tasks"]], page["total"]) == ([ids[1], ids[2]], 3)
    web.post(f"/v1/tasks/{ids[0]}/cancel")
    for several in ("status=pending,cancelled", "status=pending&status=cancelled"):
        assert web.get(f"/v1/tasks?document_id=42&{several}").json()["total"] == 3
    assert web.get("/v1/tasks?document_id=42&status=cancelled").json()["total"] == 1


@pytest.mark.parametrize(
    "path", ["/v1/tasks?type=image_thumbnial", "/v1/tasks?as_of=1&type=model_preview,image_thumbnial"]
)
def test_a_type_that_nobody_knows_is_no_filter(web: httpx.Client, path: str) -> None:
    answer = web.get(path)
    assert code(answer) == (404, "unknown_type", "type")
    assert "did you mean 'image_thumbnail'?" in answer.json()["detail"]
    asked = {"type": "image_thumbnial", "reason": "none"}
    assert code(web.post("/v1/tasks/retry", json=asked)) == (404, "unknown_type", "type")
    assert web.get("/v1/tasks?type=model_preview").json()["total"] == 0


def test_what_was_noted_of_a_task_can_be_asked_for(web: httpx.Client, wish: Wish) -> None:
    path = f"/v1/tasks/{web.post('/v1/tasks', json=wish(held=True)).json()['task_id']}"
    assert web.get(f"{path}/notes").json() == []
    web.post(f"{path}/adjust", json={"priority": 7, "actor": "ops", "reason": "urgent"})
    (note,) = web.get(f"{path}/notes").json()
    assert (note["event"], note["task_id"], note["actor"], note["reason"]) == ("adjusted", 0, "ops", "urgent")
    assert note["data"]["priority"] == 7
    assert code(web.get("/v1/tasks/9999999/notes"))[:2] == (404, "unknown_task")


def test_what_became_of_tasks_is_told_as_the_command_tells_it(
    web: httpx.Client, wish: Wish, service: TaskService
) -> None:
    begin = web.get("/v1/stats").json()["position"]
    path = f"/v1/tasks/{web.post('/v1/tasks', json=wish()).json()['task_id']}"
    created = service.log(begin).__next__().recorded_at.isoformat()
    end = web.post(f"{path}/cancel").json()["position"]
    lines = [json.loads(msgspec.json.encode(one)) for one in changes(service.source.log(), begin, end)]
    found = web.get("/v1/diff", params={"from": begin, "to": end}).json()
    assert found == {"changes": lines, "total": 1, "from_position": begin, "to_position": end}
    assert web.get("/v1/diff", params={"from": end}).json()["total"] == 0
    for moment in (created, created.replace("+", " ")):  # a client that has not escaped the sign
        assert web.get("/v1/diff", params={"from": moment}).json()["from_position"] > begin
    assert web.get(f"/v1/diff?from={begin}&min_position={end}").json()["to_position"] >= end


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("", (400, "from")),
        ("from=", (400, "from")),
        ("from=soon", (400, "from")),
        ("from=0&to=soon", (400, "to")),
        ("from=0&limit=501", (400, "limit")),
        ("from=0&limit=0", (400, "limit")),
        ("from=0&offset=-1", (400, "offset")),
        ("from=1&to=0", (422, "to")),
        ("from=0&to=999999999", (409, "to")),
        ("from=0&begin=0", (400, "begin")),
        ("from=0&from=1", (400, "from")),
        ("from=0&min_position=999999999", (409, "min_position")),
    ],
)
def test_moments_that_cannot_be_are_refused(web: httpx.Client, asked: str, expected: tuple[int, str]) -> None:
    assert code(web.get(f"/v1/diff?{asked}"))[::2] == expected


@pytest.fixture
def made(web: httpx.Client, wish: Wish, service: TaskService) -> int:
    """Create a task that has made its output."""
    task_id: int = web.post("/v1/tasks", json=wish(held=False)).json()["task_id"]
    assert service.wait(task_id, 60).status == "completed"
    return task_id


@pytest.fixture
def sealed(service: TaskService, made: int) -> Iterator[Seal]:
    """Seal the log up to a position; before and after there is no key."""
    assert made
    seal, _key = make_seal(service.source.log(), service.paths.seals, service.paths.seal_key, datetime.now(UTC))
    yield seal
    service.paths.seal_key.unlink()
    shutil.rmtree(service.paths.seals)


def test_provenance_is_the_envelope_of_the_command(
    web: httpx.Client, client: Client, service: TaskService, made: int, sealed: Seal
) -> None:
    answer = web.get(f"/v1/tasks/{made}/provenance")
    by_command = Environment().provenance(Session(environment=Environment(), data=service.paths.data), made)
    assert answer.json() == by_command == client.provenance(made) == service.provenance(made)
    assert answer.headers["content-disposition"] == f'attachment; filename="task-{made}.intoto.json"'
    said = json.loads(base64.b64decode(answer.json()["payload"]))
    (seal,) = [one for one in said["predicate"]["runDetails"]["byproducts"] if one["name"] == "seal"]
    assert seal["annotations"]["note"] == sealed.note


def test_the_command_asks_a_service_elsewhere(
    server: HttpServer, service: TaskService, made: int, sealed: Seal
) -> None:
    elsewhere = Session(environment=Environment(), url=server.address, token=SECRET)
    here = Session(environment=Environment(), data=service.paths.data)
    end = sealed.checkpoint.size
    told = [list(Environment().changes(session, 0, end)) for session in (here, elsewhere)]
    assert made in {one.task_id for one in told[0]}
    assert told[0] == told[1]
    assert Environment().provenance(elsewhere, made) == Environment().provenance(here, made)
    with pytest.raises(click.UsageError, match="by its number"):
        Environment().provenance(elsewhere, service.paths.data / "out.jpg")


def test_nobody_makes_a_key_by_asking(web: httpx.Client, client: Client, service: TaskService, made: int) -> None:
    assert code(web.get(f"/v1/tasks/{made}/provenance")) == (409, "seal_unfit", "seal_key")
    with pytest.raises(SealUnfit, match="was never sealed"):
        client.provenance(made)
    assert not service.paths.seal_key.exists()


@pytest.mark.usefixtures("sealed")
def test_what_has_made_nothing_has_no_provenance(
    web: httpx.Client, client: Client, service: TaskService, wish: Wish
) -> None:
    waiting = web.post("/v1/tasks", json=wish()).json()["task_id"]
    for asked in (waiting, 9_999_999):
        with pytest.raises(TasktrailError) as near:
            service.provenance(asked)
        with pytest.raises(TasktrailError) as far:
            client.provenance(asked)
        assert (type(near.value), near.value.message) == (type(far.value), far.value.message)
    assert code(web.get(f"/v1/tasks/{waiting}/provenance")) == (409, "nothing_made", "task_id")
    assert code(web.get("/v1/tasks/9999999/provenance")) == (404, "unknown_task", "task_id")


def test_a_key_of_another_log_or_none_at_all_is_told(
    web: httpx.Client, service: TaskService, made: int, sealed: Seal
) -> None:
    key = service.paths.seal_key
    whole = key.read_bytes()
    try:
        for wrong in (PrivateKey.made("tasktrail/0123456789ab").text.encode(), b"\xff no key", b""):
            key.write_bytes(wrong)
            answer = web.get(f"/v1/tasks/{made}/provenance")
            assert code(answer) == (409, "seal_unfit", "seal_key")
            assert str(service.paths.data) not in answer.text
        key.unlink()
        key.mkdir()  # root may read all files
        answer = web.get(f"/v1/tasks/{made}/provenance")
        assert code(answer) == (409, "seal_unfit", "seal_key")
        assert "seal-key of the data folder cannot be read" in answer.text
        key.rmdir()
    finally:
        key.write_bytes(whole)
    sealed.path.write_text("no seal")
    answer = web.get(f"/v1/tasks/{made}/provenance")
    assert code(answer) == (409, "seal_unfit", "")
    assert str(service.paths.data) not in answer.text


@pytest.fixture
def talkative(web: httpx.Client, wish: Wish, service: TaskService) -> int:
    """Create a task whose last attempt has printed 600,002 bytes; one with too low an estimate may precede it."""
    task_id: int = web.post("/v1/tasks", json=wish(held=False)).json()["task_id"]
    attempt = service.wait(task_id, 60).attempt
    writer = PrintedWriter(service.paths.output, task_id, attempt, 1 << 20)
    writer.write(b"a" * 300_000 + "€".encode() + b"b" * 299_998 + b"\n")
    writer.close()
    return task_id


def test_what_an_attempt_printed_comes_in_parts_of_a_bounded_size(
    web: httpx.Client, client: Client, talkative: int
) -> None:
    path = f"/v1/tasks/{talkative}/output"
    first, attempt = web.get(path).json(), client.get_task(talkative).attempt
    assert (first["attempt"], first["attempts"], first["running"], first["size"]) == (
        attempt,
        [attempt],
        False,
        600_002,
    )
    assert (len(first["text"]), first["next"]) == (256 * 1024, 256 * 1024)
    assert web.get(path, params={"after": first["next"]}).json()["text"].startswith("a" * 37_856 + "€b")
    assert web.get(path, params={"last": 5}).json()["text"] == "bbbb\n"
    assert web.get(path, params={"after": 10**9}).json()["text"] == ""
    whole = client.output(talkative)
    assert whole.text == "a" * 300_000 + "€" + "b" * 299_998 + "\n"
    assert (whole.next, client.output(talkative, attempt, last=2).text) == (600_002, "b\n")


def test_a_client_reads_as_much_of_it_as_the_service(service: TaskService, client: Client, talkative: int) -> None:
    parts: list[dict[str, int]] = [{}, {"after": 299_999}, {"last": 5}, {"attempt": 1, "after": 10**9}]
    for how in parts:
        for most in (0, 1, 4, 256 * 1024, 300_004, 10**9):
            ours, theirs = (tasks.output(talkative, most=most, **how) for tasks in (service, client))
            assert (theirs.text, theirs.next) == (ours.text, ours.next)
            assert len(theirs.text.encode()) <= most


def test_a_client_is_told_when_a_check_has_ended(client: Client) -> None:
    told: list[tuple[int, int]] = []
    found = client.verify(lambda position, head: told.append((position, head)))
    assert (found.ok, told) == (True, [(found.position, found.position)])


def test_output_that_is_not_there_is_refused_by_name(web: httpx.Client, client: Client, talkative: int) -> None:
    path = f"/v1/tasks/{talkative}/output"
    assert code(web.get(path, params={"attempt": 99}))[:2] == (404, "unknown_attempt")
    assert code(web.get(path, params={"attempt": 0}))[::2] == (400, "attempt")
    assert code(web.get(path, params={"after": -1}))[::2] == (400, "after")
    assert code(web.get(path, params={"last": 10**7}))[::2] == (400, "last")
    assert code(web.get("/v1/tasks/9999999/output"))[:2] == (404, "unknown_task")
    with pytest.raises(UnknownAttempt):
        client.output(talkative, 99)


def test_the_past_of_a_task_and_of_a_list_can_be_asked_for(web: httpx.Client, wish: Wish) -> None:
    created = web.post("/v1/tasks", json=wish(document_id=77)).json()
    path = f"/v1/tasks/{created['task_id']}"
    cancelled = web.post(f"{path}/cancel").json()
    assert web.get(path, params={"as_of": created["position"]}).json()["status"] == "pending"
    assert web.get(path, params={"as_of": cancelled["position"]}).json()["status"] == "cancelled"
    before = {"as_of": created["position"], "document_id": 77}
    assert [task["status"] for task in web.get("/v1/tasks", params=before).json()["tasks"]] == ["pending"]
    assert code(web.get(path, params={"as_of": created["position"] - 1}))[:2] == (404, "unknown_task")
    now = web.get(path).json()["updated_at"].replace("Z", "+00:00")
    assert web.get(f"{path}?as_of={now}").json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("stauts=failed", "stauts"),
        ("status=broken", "status"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("user_id=x", "user_id"),
        ("user_id=" + "9" * 5000, "user_id"),
        ("sort=colour", "sort"),
        ("as_of=yesterday", "as_of"),
        ("as_of=1&as_of=2", "as_of"),
        ("search=a&search=b", "search"),
        ("limit=1&limit=1", "limit"),
        ("min_position=-1", "min_position"),
        ("min_position=x", "min_position"),
        *((f"{name}=", name) for name in ("as_of", "status", "label", "user_id", "search", "sort", "limit", "offset")),
        ("as_of=+", "as_of"),
        ("status=+,", "status"),
        ("label=a&label=", "label"),
    ],
)
def test_bad_parameters_of_a_list_are_named(web: httpx.Client, query: str, field: str) -> None:
    status, what, where = code(web.get(f"/v1/tasks?{query}"))
    assert (status, where) == (400, field)
    assert what in ("invalid_value", "malformed")


def test_an_empty_parameter_is_not_taken_for_one_that_was_left_out(web: httpx.Client, wish: Wish) -> None:
    """A script with an unset variable would be answered of now, or with every task."""
    created = web.post("/v1/tasks", json=wish()).json()["task_id"]
    for path in (f"/v1/tasks/{created}", "/v1/stats", "/v1/queue", "/v1/limits", "/v1/batches"):
        answer = web.get(f"{path}?as_of=")
        assert code(answer) == (400, "malformed", "as_of")
        assert answer.json()["remedy"] == "Give it a value, or leave it out."
    assert code(web.get("/v1/diff?from=0&to=")) == (400, "malformed", "to")
    assert web.get("/tasks?search=&status=&as_of=&sort=&user_id=").status_code == 200, "a form sends its empty fields"


def test_a_label_with_a_comma_can_be_filtered(web: httpx.Client, client: Client, wish: Wish) -> None:
    labels = ["q3, north", "q3", "north", "back\\"]
    ids = [web.post("/v1/tasks", json=wish(label=label)).json()["task_id"] for label in labels]

    def found(*given: str) -> list[int]:
        answer = web.get("/v1/tasks", params={"label": given, "sort": "id"})
        return [task["id"] for task in answer.json()["tasks"]]

    assert found(r"q3\, north") == ids[:1]
    assert found("q3, north") == ids[1:3]
    assert found(r"q3\, north,q3") == found(r"q3\, north", "q3") == ids[:2]
    assert found("back\\", "q3") == [ids[1], ids[3]], "what ends in a backslash does not take in the next one"
    asked = client.list_tasks(TaskFilters(label=("back\\", "q3, north"), sort="id"))[0]
    assert [task.id for task in asked] == [ids[0], ids[3]]


def test_a_client_leaves_out_the_filters_that_name_nothing(client: Client, service: TaskService) -> None:
    empty = TaskFilters(status="", label=(" ",), batch=",", search=" ")
    assert client.list_tasks(empty)[1] == service.list_tasks(empty)[1] == service.list_tasks()[1]
    for tasks in (client, service):
        with pytest.raises(TasktrailError, match="as_of"):
            tasks.list_tasks(TaskFilters(as_of=" "))


@pytest.mark.parametrize("query", ["min_position=999999999", "as_of=999999999"])
def test_a_position_that_the_log_has_not_reached_is_told(web: httpx.Client, query: str) -> None:
    assert code(web.get(f"/v1/tasks?{query}")) == (409, "beyond_the_log", query.partition("=")[0])


@pytest.mark.parametrize("task_id", ["0", "-5", "999999999", str(2**63), "1" * 400])
@pytest.mark.parametrize("rest", ["", "/progress", "/events", "?as_of=1"])
def test_tasks_that_do_not_exist_are_not_found(web: httpx.Client, task_id: str, rest: str) -> None:
    assert code(web.get(f"/v1/tasks/{task_id}{rest}")) == (404, "unknown_task", "task_id")


@pytest.mark.parametrize("written", ["{0}_0", "+{0}", "%20{0}%20", "%D9%A1", "-{0}", "{0}e0", "%EF%BC%91"])
def test_a_number_in_an_address_is_written_in_plain_digits(web: httpx.Client, wish: Wish, written: str) -> None:
    """Python accepts more as a number. A proxy in front of the service, and its rules, do not."""
    odd = written.format(web.post("/v1/tasks", json=wish()).json()["task_id"])
    for rest in ("", "/events", "/why"):
        assert web.get(f"/v1/tasks/{odd}{rest}").status_code == 404
    assert web.post(f"/v1/tasks/{odd}/cancel").status_code == 404
    assert web.post(f"/v1/users/{odd}/erase").status_code == 404


@pytest.mark.parametrize("number", ["1_0", "%2B1", "%D9%A1", "-1", "%EF%BC%91"])
@pytest.mark.parametrize("parameter", ["user_id", "document_id", "limit", "min_position", "as_of"])
def test_a_number_in_a_query_is_written_in_plain_digits(web: httpx.Client, parameter: str, number: str) -> None:
    answer = web.get(f"/v1/tasks?{parameter}={number}")
    assert (answer.status_code // 100, code(answer)[2]) == (4, parameter)


def test_numbers_types_and_health(web: httpx.Client, wish: Wish) -> None:
    position = web.post("/v1/tasks", json=wish()).json()["position"]
    stats = web.get("/v1/stats", params={"min_position": position}).json()
    assert stats["counts"]["pending"] >= 1
    assert stats["position"] >= position
    assert {"image_thumbnail", "video_convert"} <= {known["name"] for known in web.get("/v1/types").json()}
    assert web.get("/healthz").json() == {"status": "ok"}
    assert web.get("/readyz").json()["position"] >= position


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/task", "/v1/tasks"),
        ("/v1/task/7", "/v1/tasks/7"),
        ("/v1/tasks/7/cancle", "/v1/tasks/7/cancel"),
        ("/v1/tasks/abc", "/v1/tasks/{task_id}"),
        ("/v1/tasks/retyr", "/v1/tasks/retry"),
        ("/v1/node/a/drain", "/v1/nodes/a/drain"),
        ("/v2/tasks", "/v1/tasks"),
        ("/api/v1/tasks/7", "/v1/tasks/7"),
        ("/stats", "/v1/stats"),
        ("/health", "/healthz"),
        ("/v1/metrics", "/metrics"),
        ("/v1/openapi.json", "/openapi.json"),
    ],
)
def test_an_unknown_route_names_the_nearest_one(web: httpx.Client, path: str, meant: str) -> None:
    answer = web.get(path)
    assert code(answer) == (404, "unknown_route", "")
    assert answer.json()["detail"] == f"Nothing answers at {path}; did you mean {meant}?"
    assert answer.json()["remedy"] == "GET /openapi.json lists the routes."


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/elsewhere", "/v1/notices", "/v1/tasks/7/colour", "/x" * 10_000 + "/tasks", "/v1//why"]
)
def test_an_unknown_route_that_is_like_no_other_names_none(web: httpx.Client, path: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, "did you mean" in answer.text) == (404, False)


def test_unknown_routes_and_methods_are_problems(web: httpx.Client) -> None:
    assert code(web.get("/v2/tasks")) == (404, "unknown_route", "")
    assert code(web.get("/v1/tasks/abc")) == (404, "unknown_route", "")
    answer = web.delete("/v1/tasks")
    assert code(answer) == (405, "wrong_method", "")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert web.options("/v1/tasks").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert web.options("/v1/tasks/1/events").headers["allow"] == "GET, HEAD, OPTIONS"
    assert web.options("/v1/commands").headers["allow"] == "OPTIONS, POST"


def test_head_answers_as_get_does_without_a_body(web: httpx.Client, wish: Wish) -> None:
    path = f"/v1/tasks/{web.post('/v1/tasks', json=wish()).json()['task_id']}"
    for asked in (path, "/v1/tasks?limit=1", "/healthz", "/readyz", "/openapi.json", "/v1/tasks/999999", "/nowhere"):
        got, head = web.get(asked), web.head(asked)
        assert (head.status_code, head.content) == (got.status_code, b""), asked
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
    assert web.head("/v1/commands").status_code == 405
    assert web.get(path).status_code == 200, "the connection can be used again"


def test_head_of_a_stream_ends_at_once(web: httpx.Client, wish: Wish) -> None:
    path = f"/v1/tasks/{web.post('/v1/tasks', json=wish()).json()['task_id']}/events"
    for asked in (path, f"{path}?follow=true", "/v1/events?follow=true"):
        head = web.head(asked, headers={"accept": "text/event-stream"} if "/v1/events" in asked else {})
        assert (head.status_code, head.content) == (200, b"")
    assert web.get(path).json()[0]["event"] == "created"


def test_the_description_names_every_route_with_its_body_and_errors(web: httpx.Client) -> None:
    document = web.get("/openapi.json").json()
    paths = document["paths"]
    assert set(paths) == {
        "/v1/commands",
        "/v1/tasks",
        "/v1/tasks/{task_id}",
        "/v1/tasks/{task_id}/start",
        "/v1/tasks/{task_id}/cancel",
        "/v1/tasks/{task_id}/retry",
        "/v1/rebuild",
        "/v1/forget",
        "/v1/archive",
        "/v1/tasks/retry",
        "/v1/tasks/{task_id}/progress",
        "/v1/tasks/{task_id}/events",
        "/v1/tasks/{task_id}/attempts",
        "/v1/tasks/{task_id}/provenance",
        "/v1/diff",
        "/v1/tasks/{task_id}/output",
        "/v1/tasks/{task_id}/notes",
        "/v1/tasks/{task_id}/notices",
        "/v1/tasks/{task_id}/redeliver",
        "/v1/endpoints",
        "/v1/endpoints/enable",
        "/v1/tasks/{task_id}/why",
        "/v1/batches",
        "/v1/batches/{batch_name}",
        "/v1/nodes",
        "/v1/nodes/{node}/drain",
        "/v1/nodes/{node}/undrain",
        "/v1/sources",
        "/v1/sources/{source}/remove",
        "/v1/sources/{source}/pause",
        "/v1/sources/{source}/resume",
        "/v1/tokens",
        "/v1/tokens/{token}/revoke",
        "/v1/users/{user_id}/erase",
        "/v1/tasks/{task_id}/adjust",
        "/v1/events",
        "/v1/queue",
        "/v1/queue/pause",
        "/v1/queue/resume",
        "/v1/queue/drain",
        "/v1/limits",
        "/v1/login",
        "/v1/schedules",
        "/v1/schedules/{schedule}/remove",
        "/v1/stats",
        "/v1/types",
        "/v1/verify",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    schemas = document["components"]["schemas"]
    assert schemas["CreateTask"]["properties"]["priority"]["maximum"] == 10
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Fault"}
            assert ("requestBody" in operation) == (method == "post" and path not in {"/v1/login", "/v1/rebuild"})
    for part in ("schemas", "responses"):
        references = web.get("/openapi.json").text.split(f"#/components/{part}/")[1:]
        assert {reference.split('"')[0] for reference in references} <= set(document["components"][part])
    assert "application/problem+json" in document["components"]["responses"]["Fault"]["content"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"])
def test_a_request_for_another_host_is_refused(web: httpx.Client, host: str) -> None:
    assert code(web.get("/v1/tasks", headers={"host": host})) == (421, "wrong_host", "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "[::1]:1", "[::1]"])
def test_the_names_of_this_machine_are_known(web: httpx.Client, host: str) -> None:
    assert web.get("/healthz", headers={"host": host}).status_code == 200


def test_a_web_page_of_somebody_else_may_not_send_commands(web: httpx.Client) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        assert code(web.post("/v1/tasks/1/cancel", headers={"origin": origin})) == (403, "wrong_origin", "")
    own = str(web.base_url).rstrip("/")
    assert web.get("/healthz", headers={"origin": own}).status_code == 200
