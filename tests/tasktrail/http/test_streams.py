"""Streams of recorded events: nothing is missing, nothing comes twice, and a slow reader delays no one."""

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from archiving import archive
from histories import BEGIN, Journal
from owner import AUTH, LINE
from structlog.testing import capture_logs

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Accepted, Cancelled, Created, CreateTask, Progressed, Started
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.http import streams
from tasktrail.http.server import HttpServer

Many = Callable[..., list[CreateTask]]
Wish = Callable[..., dict[str, Any]]
EVENTS = {"accept": "text/event-stream"}


def json_lines(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    rest = b""
    for chunk in answer.iter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, whole)


def messages(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return (id, data) of each server-sent event, without comments."""
    current: dict[str, str] = {}
    for line in answer.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            current[name] = value
        elif not line and current:
            yield current["id"], json.loads(current["data"])
            current = {}


def are_consecutive(positions: list[int], after: int) -> bool:
    return positions == list(range(after + 1, after + 1 + len(positions)))


@contextmanager
def writing(service: TaskService, commands: list[CreateTask]) -> Iterator[None]:
    """Send commands one by one until the block ends."""
    over = threading.Event()

    def write() -> None:
        for command in itertools.cycle(commands):
            if over.is_set():
                return
            service.send(command)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


@pytest.mark.slow
def test_the_log_is_json_lines_from_any_position_on(web: httpx.Client, service: TaskService, many: Many) -> None:
    service.send_many(many(1200))
    head = service.watermark.position
    answer = web.get("/v1/events")
    assert answer.headers["content-type"] == "application/x-ndjson"
    whole = [json.loads(line) for line in answer.text.splitlines()]
    assert are_consecutive([record["position"] for record in whole], 0)
    assert len(whole) >= head
    part = [json.loads(line) for line in web.get("/v1/events?after=700&limit=550").text.splitlines()]
    assert part == whole[700:1250]
    assert whole[0].keys() == {
        "position",
        "task_id",
        "version",
        "event",
        "recorded_at",
        "actor",
        "reason",
        "command_id",
        "correlation_id",
        "causation_id",
        "attempt",
        "life",
        "hash",
        "data",
    }


def test_a_record_is_one_line_to_every_reader(
    web: httpx.Client, service: TaskService, wish: Wish, tmp_path: Path
) -> None:
    """A path may contain characters that other texts may not, and so may a handler's message."""
    odd, path = "line separators: \u2028 \u2029, Chinese: \u4efb\u52a1", str(tmp_path / "next\x85line.jpg")
    position = service.send(CreateTask(**wish(reason=odd, output_file=path))).position
    (only,) = web.get(f"/v1/events?after={position - 1}&limit=1").text.splitlines()
    told = json.loads(only)
    assert (told["reason"], told["data"]["output_file"]) == (odd, path)


def test_a_followed_log_goes_on_with_what_comes(web: httpx.Client, service: TaskService, many: Many) -> None:
    after = service.watermark.position
    with web.stream("GET", f"/v1/events?follow=true&after={after}") as answer:
        service.send_many(many(3))
        lines = json_lines(answer)
        got = list(itertools.islice(lines, 3))
        accepted = service.send(many(1)[0])
        while got[-1]["task_id"] != accepted.task_id:  # the service may record an event of its own in between
            got.append(next(lines))
    assert are_consecutive([record["position"] for record in got], after)


def test_what_was_forgotten_is_not_in_a_followed_log_although_others_have_followed_it(
    web: httpx.Client, service: TaskService, wish: Wish
) -> None:
    first = service.watermark.position
    with web.stream("GET", f"/v1/events?follow=true&after={first}") as answer:
        lines = json_lines(answer)
        task_id = web.post("/v1/tasks", json=wish(user_id=4711, label="secret")).json()["task_id"]
        service.cancel_task(task_id)
        assert any(record["event"] == "cancelled" for record in lines)
        again = f"/v1/events?follow=true&limit=1&after={first}"
        assert "secret" in web.get(again).text
        service.forget(0, user_id=4711)
        assert any(record["event"] == "tasks_forgotten" for record in lines)
        assert web.get(again).text == web.get(f"/v1/events?limit=1&after={first}").text
    assert "secret" not in web.get(again).text


@pytest.mark.parametrize("named", [True, False])
def test_a_server_sent_event_has_a_name_when_asked(
    web: httpx.Client, service: TaskService, wish: Wish, *, named: bool
) -> None:
    """Not otherwise, because a browser passes named events only to listeners of that name."""
    accepted = service.send(CreateTask(**wish()))
    service.cancel_task(accepted.task_id)
    path = f"/v1/tasks/{accepted.task_id}/events" + "?named=true" * named
    lines: list[str] = []
    with web.stream("GET", path, headers=EVENTS) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if sum(one.startswith("data:") for one in lines) == 2:
                break
    assert [line for line in lines if line.startswith("event:")] == ["event: created", "event: cancelled"] * named
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data:")]
    assert [record["event"] for record in data] == ["created", "cancelled"]


def test_a_stream_tells_of_the_events_that_are_asked_for(web: httpx.Client, service: TaskService, wish: Wish) -> None:
    after = service.watermark.position
    ids = [service.create_task(**wish()) for _ in range(3)]
    for task_id in ids:
        service.cancel_task(task_id)
    ends = web.get(f"/v1/events?after={after}&event=completed,cancelled&limit=2").text.splitlines()
    assert [(json.loads(line)["event"], json.loads(line)["task_id"]) for line in ends] == [
        ("cancelled", task_id) for task_id in ids[:2]
    ]
    (only,) = web.get(f"/v1/tasks/{ids[2]}/events?event=cancelled").json()
    assert (only["event"], only["task_id"]) == ("cancelled", ids[2])


def test_an_event_that_does_not_exist_is_refused_with_the_nearest_name(web: httpx.Client) -> None:
    answer = web.get("/v1/events?event=canceled")
    assert (answer.status_code, answer.json()["field"]) == (400, "event")
    assert "'cancelled'" in answer.json()["detail"]


def test_a_stream_that_passes_everything_over_gives_signs_of_life(
    web: httpx.Client, service: TaskService, many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE", 0.05)
    path = f"/v1/events?event=schedule_removed&after={service.watermark.position}"
    with writing(service, many(1)), web.stream("GET", path, headers=EVENTS) as answer:
        assert next(answer.iter_lines()) == ": still here"


def test_server_sent_events_resume_without_gaps_under_writes(
    web: httpx.Client, service: TaskService, many: Many
) -> None:
    first = service.watermark.position
    last, seen = first, list[int]()
    with writing(service, many(1)):
        for number in (1, 40, 7, 100, 3):
            headers = {**EVENTS, "last-event-id": str(last)} if seen else EVENTS
            with web.stream("GET", f"/v1/events?after={first}", headers=headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                got = list(itertools.islice(messages(answer), number))
            assert all(int(name) == data["position"] for name, data in got)
            seen += [int(name) for name, _data in got]
            last = seen[-1]
    assert are_consecutive(seen, first)
    assert len(seen) == 151


def test_a_stream_from_far_back_meets_the_present_without_a_gap(
    web: httpx.Client, service: TaskService, many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BATCH", 7)
    service.send_many(many(200))
    with writing(service, many(1)), web.stream("GET", "/v1/events?after=0", headers=EVENTS) as answer:
        got = [int(name) for name, _ in itertools.islice(messages(answer), service.watermark.position + 60)]
    assert are_consecutive(got, 0)


def test_one_task_can_be_followed(web: httpx.Client, service: TaskService, wish: Wish, many: Many) -> None:
    task_id = web.post("/v1/tasks", json=wish()).json()["task_id"]
    with web.stream("GET", f"/v1/tasks/{task_id}/events?follow=true") as answer:
        lines = json_lines(answer)
        assert next(lines)["event"] == "created"
        service.send_many(many(50))
        service.cancel_task(task_id)
        record = next(lines)
    assert (record["task_id"], record["event"]) == (task_id, "cancelled")


def test_a_task_followed_from_a_position_starts_behind_it(web: httpx.Client, wish: Wish) -> None:
    created = web.post("/v1/tasks", json=wish()).json()
    path = f"/v1/tasks/{created['task_id']}/events"
    web.post(f"/v1/tasks/{created['task_id']}/cancel")
    assert [record["event"] for record in web.get(f"{path}?after={created['position']}").json()] == ["cancelled"]
    with web.stream("GET", f"{path}?follow=true&after={created['position']}") as answer:
        assert next(json_lines(answer))["event"] == "cancelled"


def test_a_stream_ends_after_the_seconds_that_were_asked_for(web: httpx.Client, service: TaskService) -> None:
    answer = web.get(f"/v1/events?follow=true&seconds=0.1&after={service.watermark.position}")
    assert answer.status_code == 200


def test_a_silent_stream_gives_signs_of_life(
    web: httpx.Client, service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE", 0.05)
    after = service.watermark.position
    with web.stream("GET", f"/v1/events?after={after}", headers=EVENTS) as answer:
        assert next(answer.iter_bytes()).startswith(b":")
    with web.stream("GET", f"/v1/events?follow=true&after={after}") as answer:
        assert next(answer.iter_bytes()).strip() == b""


@pytest.mark.parametrize("last", [b"x", b"-1", b"1.5", b"9" * 30, b"\xb2"])
def test_a_last_event_id_that_is_no_position_is_refused(web: httpx.Client, last: bytes) -> None:
    answer = web.get("/v1/events", headers=[(b"accept", b"text/event-stream"), (b"last-event-id", last)])
    assert (answer.status_code, answer.json()["field"]) == (400, "Last-Event-ID")


def test_a_position_that_is_durable_is_taken_although_that_has_not_been_announced(
    web: httpx.Client, service: TaskService, many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that reads the log itself, or is answered while the machine is busy, knows the position earlier."""
    monkeypatch.setattr(service.watermark, "rise", lambda _position: None)
    (accepted,) = service.send_many(many(1))
    assert isinstance(accepted, Accepted)
    behind = service.watermark.position
    answer = web.get(f"/v1/events?after={accepted.position}")
    monkeypatch.undo()
    service.watermark.rise(accepted.position)
    assert behind < accepted.position
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("headers", [{}, EVENTS])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/events?follow=true", "/v1/tasks/1/events"])
def test_a_stream_that_cannot_begin_is_answered_with_the_reason(
    serve: Callable[..., HttpServer], tmp_path: Path, path: str, headers: dict[str, str]
) -> None:
    (tmp_path / "data").mkdir()
    log = SqliteEventLog(tmp_path / "data" / "log.db", now=BEGIN)
    journal = Journal(log)
    journal.record(1, Created(type="noop"), Cancelled())
    archive(journal, 1)
    log.close()
    with TaskService.open(tmp_path / "data", config=Config(workers=1)) as service:
        (file,) = (tmp_path / "data" / "archive").iterdir()
        server = serve(service)
        file.rename(tmp_path / "away")
        with httpx.Client(base_url=server.address, headers={**AUTH, **headers}, trust_env=False) as client:
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (500, "log_corrupt")
            assert file.name in answer.json()["detail"]
        assert server.stop()


@pytest.mark.parametrize("headers", [{}, EVENTS])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/events?follow=true"])
def test_a_stream_whose_later_part_cannot_be_read_breaks_and_the_reason_is_told_to_who_asks_again(
    serve: Callable[..., HttpServer],
    tmp_path: Path,
    path: str,
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "data").mkdir()
    log = SqliteEventLog(tmp_path / "data" / "log.db", now=BEGIN)
    journal = Journal(log)
    journal.record(1, Created(type="noop"), Started(), *[Progressed(progress=float(step)) for step in range(90)])
    journal.record(1, Cancelled())
    archive(journal, 60)
    archive(journal, 90)
    log.close()
    with TaskService.open(tmp_path / "data", config=Config(workers=1)) as service, capture_logs() as lines:
        (_first, later) = sorted((tmp_path / "data" / "archive").iterdir())
        server = serve(service)
        later.write_bytes(later.read_bytes() + b"x")
        with httpx.Client(base_url=server.address, headers={**AUTH, **headers}, trust_env=False) as client:
            received = b""
            with client.stream("GET", path) as answer, pytest.raises(httpx.TransportError):  # noqa: PT012 - it breaks while it is read
                assert answer.status_code == 200
                for piece in answer.iter_bytes():
                    received += piece
            last = int(received.rpartition(b'"position":')[2].partition(b",")[0])
            assert 0 < last <= 60
            answer = client.get(f"{path}{'&' if '?' in path else '?'}after={last}")
            assert (answer.status_code, answer.json()["code"]) == (500, "log_corrupt")
            assert later.name in answer.json()["detail"]
        assert server.stop()
    cut = [line for line in lines if line["event"].startswith("a stream was cut")]
    assert [(line["log_level"], line["code"]) for line in cut] == [("warning", "log_corrupt")]
    assert later.name in cut[0]["error"]
    assert [record for record in caplog.records if record.name == "uvicorn.error" and record.exc_info] == []


def test_a_position_beyond_the_log_is_refused(web: httpx.Client) -> None:
    answer = web.get("/v1/events?after=99999999")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "beyond_the_log", "after")


@pytest.mark.slow
def test_a_slow_reader_holds_up_nobody_and_misses_nothing(web: httpx.Client, service: TaskService, many: Many) -> None:
    after = service.watermark.position
    host, port = web.base_url.host, web.base_url.port or 0
    asking = f"GET /v1/events?after={after} HTTP/1.1\r\nHost: {host}\r\n{LINE}Accept: text/event-stream\r\n\r\n"
    with socket.create_connection((host, port)) as slow:
        slow.sendall(asking.encode())
        slow.recv(1000)
        sent = service.send_many(many(6000, reason="x" * 2000))
        assert len(sent) == 6000
        with web.stream("GET", f"/v1/events?after={after}", headers=EVENTS) as answer:
            quick = [int(name) for name, _ in itertools.islice(messages(answer), 6000)]
        assert are_consecutive(quick, after)
        assert web.get("/healthz").status_code == 200
        text = b""
        while text.count(b"\nid: ") < 6000:
            text += slow.recv(1 << 20)
    ids = [int(part.split(b"\n", 1)[0]) for part in text.split(b"\nid: ")[1:] if b"\n" in part]
    assert are_consecutive(ids[:5999], after)


def test_nothing_is_read_while_nobody_follows(
    web: httpx.Client, service: TaskService, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    def reads() -> bool:
        return any(thread.name == "http-feed" for thread in threading.enumerate())

    with web.stream("GET", f"/v1/events?follow=true&after={service.watermark.position}"):
        assert eventually(reads)
    assert eventually(lambda: not reads())
