"""/openapi.json and the service agree: a valid request is never answered with 400, and an invalid one is refused.

`tests/attack/routes.py` looks for cases that these examples have missed.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.handlers.contract import TaskType
from tasktrail.http.description import Known, described
from tasktrail.projections import TaskFilters

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="it comes with schemathesis, of the group `outside`")

Wish = Callable[..., dict[str, Any]]
Schema = dict[str, Any]
DIGEST = "0" * 64
FAR = "2098-01-01T00:00:00Z"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def document(web: httpx.Client) -> Schema:
    told: Schema = web.get("/openapi.json").json()
    return told


@pytest.fixture(autouse=True)
def as_before(web: httpx.Client) -> Iterator[None]:
    """Undo changes, because all tests here share the service, and some commands change how it works."""
    yield
    web.post("/v1/queue/resume")
    web.post("/v1/limits", json={"reset": True})


def accepts(document: Schema, schema: Schema, value: Any) -> bool:
    """Return whether the description accepts the value."""
    whole = {**schema, "components": document["components"]}
    return bool(jsonschema_rs.validator_for(whole, validate_formats=True).is_valid(value))


def body_of(document: Schema, path: str) -> Schema:
    schema: Schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def agree(web: httpx.Client, document: Schema, path: str, body: Any) -> int:
    """Check that the description agrees with the status of the answer, and return the status."""
    asked = (
        path.replace("{task_id}", "1000000")  # none has it: a task that ends calls its webhook, which is elsewhere
        .replace("{user_id}", "1")
        .replace("{schedule}", "none")
        .replace("{token}", "none")
    )
    answer = web.post(asked, content=json.dumps(body), headers={"content-type": "application/json"})
    fits = accepts(document, body_of(document, path), body)
    assert answer.status_code != 400 if fits else answer.status_code >= 400, (fits, answer.text)
    return answer.status_code


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"type": "nothing"},
        {"options": {"width": 20, "fit": "crop"}},
        {"options": {"width": 20.0}},
        {"options": {"width": 20.5}},
        {"options": {"width": 0}},
        {"options": {"colour": 1}},
        {"input_file": ""},
        {"input_file": "in.png"},
        {"input_file": "/no/such.png"},
        {"input_file": "/tmp/../in.png"},
        {"input_file": "/tmp/a\0b.png"},
        {"input_file": "/tmp/..a/b..c\n.png"},
        {"output_file": ""},
        {"output_file": "/"},
        {"output_file": "/tmp/out.jpg/"},
        {"output_file": "/tmp/."},
        {"output_file": "/tmp/out.txt"},
        {"priority": 5.0},
        {"priority": 5.5},
        {"priority": 11},
        {"user_level": 10**6},
        {"user_id": 7.0},
        {"max_retries": 1e3},
        {"scheduled_for": FAR},
        {"scheduled_for": "1969-12-31T23:59:59Z"},
        {"scheduled_for": "9950-01-01T00:00:00Z"},
        {"scheduled_for": "2016-12-31T23:59:60Z"},
        {"scheduled_for": "2098-01-01T00:00:00"},
        {"deadline": "2020-01-01T00:00:00Z"},
        {"deadline": FAR, "scheduled_for": "2099-01-01T00:00:00Z"},
        {"depends_on": [2**40]},
        {"depends_on": [0]},
        {"on_dependency_failure": ["fail"]},
        {"label": "a\u200bb"},
        {"label": "a\x07b"},
        {"reason": "two\nlines"},
        {"actor": "two\nlines"},
        {"actor": "x" * 5000},
        {"notify_email": "a@example.com"},
        {"notify_email": "Jörg (x) <a@example.com>"},
        {"notify_email": "Jörg Ä. <a@example.com>"},
        {"notify_email": "a@example.com, b@example.com"},
        {"notify_email": "  "},
        {"notify_email": "=?utf-8?q?=61?= <a@example.com>"},
        {"notify_email": "a@example.com", "notify_on": ["started"]},
        {"notify_webhook": "https://example.com/hook?a=b", "notify_on": ["completed"]},
        {"notify_webhook": "https://example.com:8443", "notify_on": ["completed"]},
        {"notify_webhook": "http://example.com/", "notify_on": ["completed"]},
        {"notify_webhook": "https://example.com:80/", "notify_on": ["completed"]},
        {"notify_webhook": "https://10.0.0.1/"},
        {"notify_webhook": "https://a:b@example.com/"},
        {"callback_url": "https://example.com/#here"},
        {"callback_url": "ftp://example.com/"},
        {"notify_targets": ["nobody"]},
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"traceparent": "00-00000000000000000000000000000000-00f067aa0ba902b7-01"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_new_task(web: httpx.Client, document: Schema, wish: Wish, changes: dict[str, Any]) -> None:
    status = agree(web, document, "/v1/tasks", wish(**changes))
    alone = accepts(document, body_of(document, "/v1/commands"), {"command": "create_task", **wish(**changes)})
    assert alone == (status != 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tasks/{task_id}/start", {}),
        ("/v1/tasks/{task_id}/start", {"command": "start_task", "reason": "now"}),
        ("/v1/tasks/{task_id}/start", {"command": "cancel_task"}),
        ("/v1/tasks/{task_id}/start", {"task_id": 2}),
        ("/v1/tasks/{task_id}/cancel", {"children": 1}),
        ("/v1/tasks/{task_id}/adjust", {}),
        ("/v1/tasks/{task_id}/adjust", {"priority": None}),
        ("/v1/tasks/{task_id}/adjust", {"held": False}),
        ("/v1/tasks/{task_id}/redeliver", {"notice_id": ""}),
        ("/v1/tasks/{task_id}/redeliver", {"notice_id": "none"}),
        ("/v1/endpoints/enable", {"target": "https://example.com/\x07"}),
        ("/v1/endpoints/enable", {"target": "https://example.com/"}),
        ("/v1/queue/pause", {"type": "nothing"}),
        ("/v1/queue/pause", {"type": ""}),
        ("/v1/limits", {"types": {"nothing": 1}}),
        ("/v1/limits", {"types": {"nothing": 0}}),
        ("/v1/limits", {"rates": {"type:nothing": "1/m"}}),
        ("/v1/limits", {"rates": {"user:7": "0/m"}}),
        ("/v1/limits", {"max_concurrent": 2.0}),
        ("/v1/limits", {"max_cpu": 100.5}),
        ("/v1/schedules/{schedule}/remove", {}),
        ("/v1/tokens/{token}/revoke", {"reason": "gone"}),
        ("/v1/tokens", {"token": "ok", "role": "admin", "user_id": 7, "digest": DIGEST}),
        ("/v1/tokens", {"token": "HTTP", "role": "reader", "digest": DIGEST}),
        ("/v1/tokens", {"token": "no spaces", "role": "reader", "digest": DIGEST}),
        ("/v1/tokens", {"token": "late", "role": "reader", "digest": DIGEST, "expires_at": "2020-01-01T00:00:00Z"}),
        ("/v1/users/{user_id}/erase", {"partly": True, "dry_run": True}),
        ("/v1/users/{user_id}/erase", {"dry_run": 1}),
        ("/v1/users/{user_id}/erase", {"command": "erase_user", "user_id": 1, "dry_run": False}),
        ("/v1/tasks/retry", {}),
        ("/v1/tasks/retry", {"status": "failed, cancelled", "user_id": [7.0, 8]}),
        ("/v1/tasks/retry", {"status": "running"}),
        ("/v1/tasks/retry", {"type": "nothing"}),
        ("/v1/tasks/retry", {"label": "a\u200b"}),
        ("/v1/tasks/retry", {"label": "a\x07"}),
        ("/v1/tasks/retry", {"search": "-"}),
        ("/v1/tasks/retry", {"search": "é"}),
        ("/v1/tasks/retry", {"search": ""}),
        ("/v1/tasks/retry", {"search": " "}),
        ("/v1/tasks/retry", {"status": ""}),
        ("/v1/tasks/retry", {"status": " , "}),
        ("/v1/tasks/retry", {"status": ["failed", ""]}),
        ("/v1/tasks/retry", {"label": ","}),
        ("/v1/tasks/retry", {"batch": "none,"}),
        ("/v1/tasks/retry", {"document_id": -1}),
        ("/v1/tasks/retry", {"reason": "a\x07"}),
        ("/v1/tasks/retry", {"document_id": list(range(101))}),
    ],
    ids=str,
)
def test_other_commands(web: httpx.Client, document: Schema, path: str, body: dict[str, Any]) -> None:
    agree(web, document, path, body)


def test_in_an_array_each_stands_for_itself(web: httpx.Client, document: Schema, wish: Wish) -> None:
    assert agree(web, document, "/v1/commands", [{"command": "create_task", **wish()}, 7, {"command": "none"}]) == 202
    assert agree(web, document, "/v1/commands", 7) == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"every": 86400},
        {"cron": "30 2 * * *"},
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        {"cron": "30 2 * * *", "timezone": "Europe/Nowhere"},
        {"cron": "9-5 * * * *"},
        {"cron": "soon"},
        {"cron": "30 2 * * *", "every": 86400},
        {},
        {"every": 0},
        {"every": 86400, "schedule": "a/b"},
        {"every": 86400, "schedule": "a\x07b"},
        {"every": 86400, "task": {"depends_on": [1]}},
        {"every": 86400, "task": {"held": True, "scheduled_for": FAR}},
        {"every": 86400, "task": {"output_file": "/tmp/a-{fire_time}.jpg", "overwrite": False}},
    ],
    ids=str,
)
def test_a_schedule(web: httpx.Client, document: Schema, wish: Wish, changes: dict[str, Any]) -> None:
    name = f"s{next(_numbers)}"
    body = {"schedule": name, **changes, "task": {**wish(), **changes.get("task", {})}}
    if agree(web, document, "/v1/schedules", body) == 202:
        web.post(f"/v1/schedules/{name}/remove")


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/v1/tasks", {"limit": "500", "offset": "0"}, 200),
        ("/v1/tasks", {"limit": "501"}, 400),
        ("/v1/tasks", {"limit": ""}, 400),
        ("/v1/tasks", {"offset": ""}, 400),
        ("/v1/tasks", {"status": " ,"}, 400),
        ("/v1/tasks", {"status": ",failed,"}, 200),
        ("/v1/tasks", {"label": " ,"}, 400),
        ("/v1/tasks", {"user_id": ""}, 400),
        ("/v1/tasks", {"search": " "}, 400),
        ("/v1/tasks", {"sort": ""}, 400),
        ("/v1/tasks", {"as_of": ""}, 400),
        ("/v1/tasks", {"limit": "1_0"}, 400),
        ("/v1/tasks", {"user_id": "7, 8,"}, 200),
        ("/v1/tasks", {"user_id": "1_0"}, 400),
        ("/v1/tasks", {"status": "pending, failed"}, 200),
        ("/v1/tasks", {"status": "gone"}, 400),
        ("/v1/tasks", {"label": "a\u200b"}, 200),
        ("/v1/tasks", {"label": "a\x07"}, 400),
        ("/v1/tasks", {"label": ["a"] * 101}, 400),
        ("/v1/tasks", {"search": "-"}, 400),
        ("/v1/tasks", {"search": "é"}, 200),
        ("/v1/tasks", {"sort": "-priority"}, 200),
        ("/v1/tasks", {"sort": "colour"}, 400),
        ("/v1/tasks", {"as_of": "1"}, 200),
        ("/v1/tasks", {"as_of": "2016-12-31T23:59:60Z"}, 400),
        ("/v1/tasks", {"min_position": "999999999"}, 409),
        ("/v1/events", {"event": "completed,failed"}, 200),
        ("/v1/events", {"event": ""}, 400),
        ("/v1/events", {"seconds": "0", "follow": "true"}, 400),
        ("/v1/events", {"limit": "0"}, 400),
    ],
    ids=str,
)
def test_questions(web: httpx.Client, document: Schema, path: str, query: dict[str, Any], status: int) -> None:
    answer = web.get(f"{path}?{urlencode(query, doseq=True)}")
    assert answer.status_code == status, answer.text
    schemas = {one["name"]: one["schema"] for one in document["paths"][path]["get"]["parameters"]}
    fits = [accepts(document, schemas[name], as_json(schemas[name], value)) for name, value in query.items()]
    assert all(fits) == (status != 400)


@pytest.mark.parametrize("path", ["/v1/tasks/{task_id}/cancel", "/v1/users/{user_id}/erase"])
@pytest.mark.parametrize("number", [-1, 0, 1, 2**53, 2**53 + 1])
def test_a_number_in_a_path(web: httpx.Client, document: Schema, path: str, number: int) -> None:
    (parameter,) = document["paths"][path]["post"]["parameters"]
    fits = accepts(document, parameter["schema"], number)
    assert fits == (1 <= number <= 2**53)
    status = web.post(re.sub(r"\{\w+\}", str(number), path), json={}).status_code
    assert status != 400 if fits else status >= 400


def as_json(schema: Schema, text: Any) -> Any:
    """Return a parameter as the schema sees it: an array, a number, or the text."""
    if schema.get("type") == "array":
        return text if isinstance(text, list) else [text]
    kinds = {one.get("type") for one in (schema, *schema.get("oneOf", ()), *schema.get("anyOf", ()))}
    if kinds & {"integer", "number", "boolean"} and text.strip("-").isascii() and not text.count("_") and text:
        return json.loads(text)
    return text


def test_options_that_may_be_anything_have_the_bounds_of_the_log(document: Schema, service: TaskService) -> None:
    own = TaskType(name="own", summary="", run="own:run", options=Own)
    open_ = TaskType(name="open", summary="", run="own:run", options=Open)
    known = msgspec.structs.replace(Known.of(service), types=(own, open_))
    told = described(deepcopy(document), known)
    schema = told["components"]["schemas"]["NewTask"]
    for name, value, fits in (
        ("number", 2**63 - 1, True),
        ("number", 2**63, False),
        ("anything", [{"a": [2**63, 3.7e236]}], True),
        ("anything", [{"a": [None, 1.5, -(2**63)]}], True),
        ("table", {"a": 1.5}, True),
        ("several", [2**64], False),
        ("few", 2**64, False),
        ("few", 10, True),
        ("pair", [1, "a"], True),
        ("pair", [1], False),
        ("pair", [1, "a", "b"], False),
        ("pair", ["a", 1], False),
        ("bits", 16, True),
        ("bits", "auto", True),
        ("bits", 8, False),
        ("bits", "16", False),
    ):
        task = {"type": "own", "options": {name: value}}
        assert accepts(told, schema, task) == fits, (name, value)
    assert accepts(told, schema, {"type": "open", "options": {"more": [2**63, -3.7e236]}})


def test_no_choice_stands_beside_fields(document: Schema) -> None:
    """Client generators take one of the two, and their types lack the rest: `task`, `max_retries`, `schedule`."""

    def walk(part: Any) -> Iterator[Schema]:
        if isinstance(part, dict):
            yield part
        if isinstance(part, dict | list):
            for inner in part.values() if isinstance(part, dict) else part:
                yield from walk(inner)

    with_fields = [part for part in walk(document) if part.get("type") == "object" and "properties" in part]
    assert {"NewTask", "ScheduledTask"} <= {str(part.get("title")) for part in with_fields}
    for part in with_fields:
        assert not {"oneOf", "anyOf"} & part.keys(), part.get("title")
        assert not any("$ref" in one for one in part.get("allOf", ())), part.get("title")


def test_without_a_type_there_is_no_task(document: Schema, service: TaskService) -> None:
    told = described(deepcopy(document), msgspec.structs.replace(Known.of(service), types=()))
    assert not accepts(told, told["components"]["schemas"]["NewTask"], {"type": "image_thumbnail"})


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """Options that accept more keys than they declare."""

    number: int = 0


class Own(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options as a user may declare them."""

    number: int = 0
    anything: Any = None
    table: dict[str, Any] = {}
    several: tuple[int, ...] | None = None
    few: Annotated[int, msgspec.Meta(le=10)] = 0
    pair: tuple[int, str] = (1, "a")
    bits: Literal[16, 24, "auto"] = "auto"


def test_a_client_that_is_made_from_it_has_a_method_for_each_route_called_as_in_python(document: Schema) -> None:
    names = [operation["operationId"] for routes in document["paths"].values() for operation in routes.values()]
    assert len(names) == len(set(names))
    assert {"create_task", "cancel_task", "list_tasks", "get_task", "set_limits", "why", "retry_tasks"} <= set(names)


def test_a_client_can_be_made_from_it_by_programs_that_know_less_than_all_of_json_schema(
    document: Schema, service: TaskService
) -> None:
    own = TaskType(name="own", summary="", run="own:run", options=Own)
    told = described(deepcopy(document), msgspec.structs.replace(Known.of(service), types=(own,)))
    assert not [where for where, key, value in keys_in(told) if value is False and key == "items"]
    choices = [(where, {type(one) for one in value}) for where, key, value in keys_in(told) if key == "enum"]
    assert choices
    assert not [where for where, kinds in choices if len(kinds - {type(None)}) > 1]
    names = {f"#/components/schemas/{name}": part for name, part in told["components"]["schemas"].items()}
    refers = {ref: {value for _, key, value in keys_in(part) if key == "$ref"} for ref, part in names.items()}
    assert refers["#/components/schemas/AddSchedule"]
    TopologicalSorter(refers).prepare()  # raises CycleError if one refers to itself


def keys_in(schema: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """Return each key, where it stands, and its value."""
    inner = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for key, value in inner:
        yield where, str(key), value
        yield from keys_in(value, f"{where}/{key}")


def test_whether_a_body_is_needed(web: httpx.Client, document: Schema) -> None:
    for path, operations in document["paths"].items():
        if "requestBody" in operations.get("post", {}):
            asked = (
                path.replace("{task_id}", "1000000")  # none has it: a task that ends calls its webhook elsewhere
                .replace("{user_id}", "1")
                .replace("{schedule}", "none")
                .replace("{token}", "none")
            )
            needed = operations["post"]["requestBody"]["required"]
            assert needed == (not accepts(document, body_of(document, path), {})), path
            assert needed or web.post(asked).status_code != 400, path


def test_what_a_number_is_recorded_as(web: httpx.Client, service: TaskService, wish: Wish) -> None:
    body = wish(priority=5.0, options={"width": 20.0})
    task_id = web.post("/v1/tasks", json=body).json()["task_id"]
    task = service.get_task(task_id)
    assert (task.priority, task.options) == (5, {"width": 20})
    assert isinstance(task.options["width"], int)
    array = [{"command": "create_task", **body, "depends_on": [float(task_id)]}]
    (answer,) = web.post("/v1/commands", json=array).json()
    assert service.get_task(answer["task_id"]).depends_on == (task_id,)


def test_what_a_token_may_not_say_of_itself(web: httpx.Client, service: TaskService) -> None:
    """The service would replace the actor by the token's name anyway, and yet the request is invalid."""
    secret = service.add_token("sayer", "operator")
    answer = web.post("/v1/queue/drain", json={"actor": "a\x07"}, headers={"authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.json()["field"]) == (400, "actor")


def test_a_label_that_a_task_has_can_be_asked_for(client: Client, wish: Wish) -> None:
    odd = "a\u200bb\ue000c"
    task_id = client.create_task(**wish(label=odd))
    assert [task.id for task in client.list_tasks(TaskFilters(label=odd))[0]] == [task_id]


def test_of_the_own_queue_as_much_is_shown_as_of_the_whole(web: httpx.Client, service: TaskService) -> None:
    secret = service.add_token("waiter", "reader", user_id=77)
    answer = web.get("/v1/queue?limit=10000", headers={"authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.json()["entries"]) == (200, [])


def test_what_the_configuration_allows_is_described(service: TaskService, web: httpx.Client) -> None:
    here = Known.of(service)
    known = Known(
        here.types, here.presets, max_user_level=3, targets=("room",), allow_endpoints=("in-ner:8080", "other.example")
    )
    document = described(web.get("/openapi.json").json(), known)
    fields = document["components"]["schemas"]["CreateTask"]["properties"]
    assert fields["user_level"]["maximum"] == 3
    for field, value, fits in (
        ("notify_targets", ["room"], True),
        ("notify_targets", ["hall"], False),
        ("notify_webhook", "http://in-ner:8080/x", True),
        ("notify_webhook", "http://in-ner:8081/x", False),
        ("notify_webhook", "http://other+example/x", False),
        ("notify_webhook", "http://other.example:90/x", True),
        ("notify_webhook", "https://anywhere.example/", True),
    ):
        assert accepts(document, fields[field], value) == fits, (field, value)
