"""Whatever is sent: never an internal error, and always an answer in one of two shapes."""

import http.client
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from owner import AUTH

from tasktrail.http.server import HttpServer

Wish = Callable[..., dict[str, Any]]

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**53 + 1,
    2**64,
    10**40,
    -(2**63) - 1,
    "",
    "\0",
    "\ud800",
    "x" * 5000,
    "../../etc/passwd",
    "2026-02-30T00:00:00Z",
    [],
    {},
    [[]],
    {"": {"": {}}},
    [1, "a", None],
    {"command": "create_task"},
]
ROUTES = (
    *("/v1/commands", "/v1/tasks", "/v1/tasks/1/start", "/v1/tasks/1/cancel", "/v1/tasks/1/retry"),
    *("/v1/tasks/1/redeliver", "/v1/endpoints/enable"),
)
QUESTIONS = (
    "/v1/tasks",
    "/v1/tasks/1",
    "/v1/tasks/1/events",
    "/v1/tasks/1/progress",
    "/v1/events",
    "/v1/stats",
    "/v1/tasks/1/notes",
    "/v1/tasks/1/attempts",
    "/v1/tasks/1/provenance",
    "/v1/diff",
    "/v1/tasks/1/output",
    "/v1/tasks/1/notices",
    "/v1/endpoints",
)
NAMES = (
    *("status", "type", "user_id", "document_id", "parent_task_id", "search", "sort", "limit", "offset", "as_of"),
    *("min_position", "after", "attempt", "last", "from", "to", "seconds", "colour", ""),
)


def with_odd_value(dice: random.Random, wish: dict[str, Any]) -> bytes:
    """Draw valid JSON with something wrong in it, at the top or within."""
    value = {"command": "create_task", **wish, "options": {"a": [1, {"b": "c"}]}}
    where: Any = dice.choice([value, value, value["options"]])
    key = dice.choice([*where, "task_id", "checkpoint", "depends_on", "command_id", "scheduled_for", "new"])
    if dice.random() < 0.2:
        where.pop(key, None)
    else:
        where[key] = dice.choice(ODD)
    return json.dumps(value if dice.random() < 0.8 else [value, dice.choice(ODD)]).encode()


def with_broken_bytes(dice: random.Random, wish: dict[str, Any]) -> bytes:
    """Draw JSON with bytes changed, inserted, removed, or cut off."""
    body = bytearray(with_odd_value(dice, wish))
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(body)) if body else 0
        match dice.randrange(4):
            case 0:
                body[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                body[at:at] = dice.choice([b"{", b"[", b"}", b'"', b"\\u0000", b"\\ud83d", b"\xff", b"1e999", b"\0"])
            case 2:
                del body[at : at + dice.randint(1, 20)]
            case _:
                del body[at:]
    return bytes(body)


def bodies(dice: random.Random, wish: dict[str, Any], number: int) -> Iterator[bytes]:
    for _ in range(number):
        match dice.randrange(10):
            case 0:
                yield dice.randbytes(dice.randrange(200))
            case 1:
                yield dice.choice([b"[", b"{", b'{"a":', b"[{", b'"']) * dice.randrange(3000)
            case 2 | 3 | 4 | 5:
                yield with_odd_value(dice, wish)
            case _:
                yield with_broken_bytes(dice, wish)


def assert_sane(status: int, kind: str | None, body: bytes, what: object) -> None:
    assert status < 500, (what, status, body)
    if status >= 400:
        assert kind == "application/problem+json", (what, status, body)
        told = json.loads(body)
        assert told["status"] == status, what
        assert told["code"], what
        assert told["detail"], what
        assert told["remedy"], what
    assert b"Traceback" not in body, what
    for one in answers_within(status, body):
        assert one.get("status", 202) < 500, (what, one)


def answers_within(status: int, body: bytes) -> list[dict[str, Any]]:
    """Return the answers to an array of commands."""
    told = json.loads(body) if status == 202 else {}
    return told if isinstance(told, list) else []


def send_all(server: HttpServer, wish: dict[str, Any], seed: int, number: int) -> None:
    print("seed", seed)
    dice = random.Random(seed)
    url = httpx.URL(server.address)
    connection = http.client.HTTPConnection(url.host, url.port)
    for body in bodies(dice, wish, number):
        route = dice.choice(ROUTES)
        connection.request("POST", route, body, {"content-type": "application/json"} | AUTH)
        answer = connection.getresponse()
        assert_sane(answer.status, answer.getheader("content-type"), answer.read(), (seed, route, body))
    connection.close()


@pytest.mark.parametrize("seed", range(3))
def test_no_body_causes_a_fault(server: HttpServer, wish: Wish, seed: int) -> None:
    send_all(server, wish(), seed, 400)


@pytest.mark.long
def test_ten_thousand_bodies_cause_no_fault(server: HttpServer, wish: Wish) -> None:
    send_all(server, wish(), random.SystemRandom().randrange(2**32), 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_question_causes_a_fault(server: HttpServer, web: httpx.Client, wish: Wish, seed: int) -> None:
    web.post("/v1/tasks", json=wish())
    print("seed", seed)
    dice = random.Random(seed)
    url = httpx.URL(server.address)
    connection = http.client.HTTPConnection(url.host, url.port)
    texts = [str(one) for one in ODD if one != "\ud800"] + [
        "pending,failed",
        "%",
        "%ff",
        "²",
        "1 OR 1=1",
        '"',
        "*",
        "٣",
    ]
    for _ in range(300):
        given = [(dice.choice(NAMES), dice.choice(texts)) for _ in range(dice.randint(0, 3))]
        query = "&".join(f"{name}={value if '%' in value else quote(value)}" for name, value in given)
        path = f"{dice.choice(QUESTIONS)}?{query}"
        if "min_position=" in path or "after=" in path:
            path = path.replace("=1", "=0")
        connection.request("GET", path, headers=AUTH)
        answer = connection.getresponse()
        assert_sane(answer.status, answer.getheader("content-type"), answer.read(), (seed, path))
    connection.close()
