"""The fast path of commands gives the same answers as the framework's route."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from owner import AUTH
from structlog.testing import capture_logs

from tasktrail.api.service import TaskService
from tasktrail.http import backend
from tasktrail.http.server import HttpServer

Wish = Callable[..., dict[str, Any]]
PLAIN = {"content-type": "application/json"}
"""Sent in this form, a command takes the fast path."""
OTHERWISE = {"content-type": "application/json; charset=utf-8"}
"""Sent in this form, the framework has to interpret it."""


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Close the framework's route."""

    async def call(*_: object) -> None:
        raise AssertionError("the framework was asked")

    return lambda: monkeypatch.setattr(Litestar, "__call__", call)


def bodies(wish: dict[str, Any]) -> dict[str, bytes]:
    create = {"command": "create_task", **wish}
    return {
        "one": msgspec.json.encode(create),
        "of another kind": b'{"command": "resume_queue"}',
        "refused": b'{"command": "cancel_task", "task_id": 987654321}',
        "refused by its values": msgspec.json.encode({**create, "priority": 99}),
        "of no kind": b'{"command": "explode"}',
        "broken": b'{"command": ',
        "empty": b"",
        "no text": b"\xff\xfe",
        "deep": b"[" * 100_000,
        "several": msgspec.json.encode([create, {"command": "cancel_task", "task_id": 987654321}, {"command": "odd"}]),
        "none": b"[]",
        "all refused": b'[{"command": "odd"}, 1]',
        "too long": b'{"command": "create_task", "reason": "' + b"x" * (1 << 20) + b'"}',
        "too many": b"[" + b"1," * 10_000 + b"1]",
    }


def parts(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body, without the parts that differ in every answer."""
    assert answer.headers["content-length"] == str(len(answer.content))
    told = {name: value for name, value in answer.headers.items() if name not in {"date", "content-length"}}
    if "location" in told:
        told["location"] = told["location"].rstrip("0123456789")
    return answer.status_code, told, re.sub(rb'"(task_id|position|command_id)":("[^"]*"|\d+)', rb"\1", answer.content)


@pytest.mark.parametrize("kind", bodies({}))
def test_both_ways_answer_alike(server: HttpServer, wish: Wish, kind: str) -> None:
    body = bodies(wish())[kind]
    with capture_logs() as lines, httpx.Client(base_url=server.address, headers=AUTH, trust_env=False) as web:
        fast = web.post("/v1/commands", content=body, headers=PLAIN)
        long = web.post("/v1/commands", content=body, headers=OTHERWISE)
    assert parts(fast) == parts(long)
    logged = [line for line in lines if line["event"].startswith("a request")]
    assert logged[::2] == logged[1::2]


def test_a_plain_command_does_not_pass_through_the_framework(
    serve: Callable[..., HttpServer], wish: Wish, shut: Callable[[], None]
) -> None:
    address = f"{serve().address}/v1/commands"
    shut()
    create = {"command": "create_task", **wish()}
    answer = httpx.post(address, json=create, headers=AUTH, trust_env=False)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/tasks/{answer.json()['task_id']}"
    assert len(httpx.post(address, json=[create] * 3, headers=AUTH, trust_env=False).json()) == 3


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/v1/commands", {}),
        ("POST", "/v1/commands", {"content-type": "text/plain"}),
        ("POST", "/v1/commands", [("content-type", "application/json"), ("content-type", "text/plain")]),
        ("POST", "/v1/commands?odd=1", PLAIN),
        ("POST", "/v1/commands", {**PLAIN, "transfer-encoding": "chunked"}),
        ("PUT", "/v1/commands", PLAIN),
    ],
)
def test_what_is_not_plain_is_left_to_the_framework(
    serve: Callable[..., HttpServer], shut: Callable[[], None], method: str, path: str, headers: Any
) -> None:
    address = serve().address
    shut()
    body: Any = iter([b"{}"]) if "transfer-encoding" in dict(headers) else b"{}"
    given = [*AUTH.items(), *(headers if isinstance(headers, list) else headers.items())]
    answer = httpx.request(method, address + path, content=body, headers=given, trust_env=False)
    assert answer.status_code == 500


def test_who_may_not_is_told_so_and_the_refusal_is_kept(server: HttpServer, service: TaskService) -> None:
    secret = service.add_token("looks", "reader")
    headers = {**PLAIN, "authorization": f"Bearer {secret}"}
    answer = httpx.post(f"{server.address}/v1/commands", content=b"{}", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    service.revoke_token("looks")


def test_a_fault_of_the_service_is_told_without_its_cause(
    server: HttpServer, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr(backend.Backend, "send", broken)
    create = {"command": "create_task", **wish()}
    with capture_logs() as lines:
        answer = httpx.post(f"{server.address}/v1/commands", json=create, headers=AUTH, trust_env=False)
    assert answer.status_code == 500
    assert "secret reason" not in answer.text
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["a request failed"]
