"""Spans of a real service, as our own receiver gets them over OTLP, and the trace through every entrance."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.events import CreateTask
from tasktrail.events.commands import digest
from tasktrail.events.errors import ConfigurationError, InvalidValue
from tasktrail.events.values import traceparent_in
from tasktrail.http.server import HttpServer
from tasktrail.telemetry.otlp import receiver_for

Open = Callable[..., TaskService]

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = f"00-{TRACE}-{SENDER}-01"
WITHIN = 20


class Collector:
    """Receives spans over OTLP, and webhooks."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.headers: list[dict[str, str]] = []
        """The headers of webhooks."""
        self.answer = 200
        self.asked = 0
        self.hold: threading.Event | None = None
        self._news = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    outer._receive(body)
                else:
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(outer.answer if self.path == "/v1/traces" else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def _receive(self, body: bytes) -> None:
        if self.hold is not None:
            self.hold.wait(WITHIN)
        request = ExportTraceServiceRequest.FromString(body)
        with self._news:
            self.asked += 1
            if self.answer == 200:
                for resource in request.resource_spans:
                    self.services |= {
                        one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
                    }
                    self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._news.notify_all()

    def wait(self, name: str, number: int = 1) -> list[Any]:
        """Wait for a number of spans with that name."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.named(name)) >= number, WITHIN), [s.name for s in self.spans]
            return self.named(name)

    def wait_asked(self) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.asked > 0, WITHIN)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def run(service: TaskService, kind: str, **fields: Any) -> int:
    task_id = service.create_task(type=kind, **fields)
    service.wait(task_id, 60)
    return task_id


def test_a_task_is_one_trace_of_its_wait_attempts_and_end(open_service: Open, collector: Collector) -> None:
    service = open_service(otel_endpoint=collector.address)
    task_id = run(service, "timeout", traceparent=CONTEXT, max_retries=1, retry_delay=0)
    (task,) = collector.wait("task timeout")
    attempts, waits = collector.wait("attempt timeout", 2), collector.wait("wait timeout", 2)
    spans = [task, *attempts, *waits]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert task.parent_span_id.hex() == SENDER
    assert {span.parent_span_id for span in spans[1:]} == {task.span_id}
    assert len({span.span_id for span in spans}) == 5
    assert [attributes(span)["tasktrail.attempt"] for span in attempts] == [1, 2]
    assert {attributes(span)["tasktrail.task.id"] for span in spans} == {task_id}
    assert attributes(task)["tasktrail.status"] == "failed"
    assert attributes(attempts[0])["error.type"] == "TimeoutError"
    assert attempts[0].status.code == task.status.code == 2  # error
    assert task.start_time_unix_nano <= waits[0].start_time_unix_nano <= attempts[0].start_time_unix_nano
    assert attempts[0].start_time_unix_nano < attempts[0].end_time_unix_nano <= task.end_time_unix_nano
    assert collector.services == {"tasktrail"}


def test_a_task_that_came_without_a_trace_has_one_of_its_own(open_service: Open, collector: Collector) -> None:
    service = open_service(otel_endpoint=collector.address)
    run(service, "quick")
    run(service, "quick")
    tasks = collector.wait("task quick", 2)
    assert len({span.trace_id for span in tasks}) == 2
    assert {span.parent_span_id for span in tasks} == {b""}
    assert {attributes(span)["tasktrail.status"] for span in tasks} == {"completed"}


def test_what_the_sender_does_not_record_is_not_recorded(open_service: Open, collector: Collector) -> None:
    service = open_service(otel_endpoint=collector.address)
    run(service, "quick", traceparent=f"00-{TRACE}-{SENDER}-00")
    run(service, "quick")
    collector.wait("task quick")
    assert TRACE not in {span.trace_id.hex() for span in collector.spans}


def test_the_handler_works_in_the_span_of_its_attempt(open_service: Open, collector: Collector) -> None:
    service = open_service(otel_endpoint=collector.address)
    told = service.get_task(run(service, "traced", traceparent=CONTEXT)).result
    assert told["context"] == told["environment"] == told["child"]
    (attempt,) = collector.wait("attempt traced")
    assert told["context"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"


def test_without_a_receiver_the_trace_is_handed_on_as_it_came(open_service: Open) -> None:
    service = open_service()
    told = service.get_task(run(service, "traced", traceparent=CONTEXT)).result
    assert told == {"context": CONTEXT, "environment": CONTEXT, "child": CONTEXT}
    assert service.get_task(run(service, "traced")).result == {"context": "", "environment": "", "child": ""}


def test_a_webhook_carries_the_span_of_its_delivery(open_service: Open, collector: Collector) -> None:
    host = collector.address.removeprefix("http://")
    service = open_service(otel_endpoint=collector.address, allow_endpoints=(host,))
    run(service, "quick", traceparent=CONTEXT, callback_url=f"{collector.address}/hook")
    (delivery,) = collector.wait("deliver callback")
    (task,) = collector.wait("task quick")
    assert (delivery.trace_id.hex(), delivery.parent_span_id) == (TRACE, task.span_id)
    assert [one["traceparent"] for one in collector.headers] == [f"00-{TRACE}-{delivery.span_id.hex()}-01"]
    assert attributes(delivery)["tasktrail.notice.event"] == "completed"


def test_a_receiver_that_fails_costs_spans_and_nothing_else(open_service: Open, collector: Collector) -> None:
    collector.answer = 400
    service = open_service(otel_endpoint=collector.address)
    run(service, "quick")
    collector.wait_asked()
    assert service.get_task(run(service, "quick")).status == "completed"
    tracing = service._system.tracing
    assert tracing is not None
    tracing.send()
    seen = service.readings()
    assert seen.spans_sent == 0
    assert seen.spans_dropped


@pytest.mark.slow
def test_a_receiver_that_hangs_neither_slows_the_service_nor_its_stop(open_service: Open, collector: Collector) -> None:
    collector.hold = threading.Event()
    service = open_service(otel_endpoint=collector.address)
    for _ in range(3):
        assert service.get_task(run(service, "quick")).status == "completed"
    service.close()
    collector.hold.set()


def test_the_trace_comes_in_by_header_body_client_and_command_line(service: TaskService) -> None:
    server = HttpServer(service, socket_path=service.paths.socket)
    server.start()
    try:
        other = f"00-{'1' * 32}-{'2' * 16}-01"
        wish: dict[str, Any] = {"type": "quick", "held": True}
        transport = httpx.HTTPTransport(uds=str(service.paths.socket))
        with httpx.Client(transport=transport, base_url="http://localhost", headers={"traceparent": CONTEXT}) as web:
            ids = [
                web.post("/v1/tasks", json=wish).json()["task_id"],
                web.post("/v1/commands", json=[{"command": "create_task", **wish}]).json()[0]["task_id"],
                web.post("/v1/tasks", json={**wish, "traceparent": other}).json()["task_id"],
                web.post("/v1/tasks", json=wish, headers={"traceparent": "nonsense"}).json()["task_id"],
            ]
            refused = web.post("/v1/tasks", json={**wish, "traceparent": "nonsense"})
            assert (refused.status_code, refused.json()["field"]) == (400, "traceparent")
            graph = {"command": "create_graph", "tasks": [{"name": "a", **wish}]}
            ids.append(web.post("/v1/commands", json=graph).json()["task_id"])
        with Client.connect(service.paths.data) as client:
            ids.append(client.create_task(traceparent=CONTEXT, **wish))
        command = [sys.executable, "-m", "tasktrail", "--data", str(service.paths.data), "submit", "quick", "--held"]
        for more, env in (((), {"TRACEPARENT": CONTEXT}), (("--traceparent", other), {"TRACEPARENT": CONTEXT})):
            environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2]), **env}
            done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            ids.append(int(done.stdout))
    finally:
        assert server.stop()
    found = [getattr(service.events(task_id)[0].event, "traceparent", None) for task_id in ids]
    assert found == [CONTEXT, CONTEXT, other, "", CONTEXT, CONTEXT, CONTEXT, other]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CONTEXT, CONTEXT),
        (f" {CONTEXT} ", CONTEXT),
        (f"{CONTEXT}-more", ""),
        (f"01{CONTEXT[2:]}-more", f"01{CONTEXT[2:]}"),
        (f"01{CONTEXT[2:]}more", ""),
        (f"ff{CONTEXT[2:]}", ""),
        (CONTEXT.upper(), ""),
        (f"00-{'0' * 32}-{SENDER}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        ("", ""),
    ],
)
def test_a_header_is_a_trace_context_or_nothing(text: str, found: str) -> None:
    assert traceparent_in(text) == found


def test_a_repetition_from_another_span_is_the_same_command() -> None:
    assert digest(CreateTask(type="a", traceparent=CONTEXT)) == digest(CreateTask(type="a"))


def test_a_wrong_trace_is_refused_by_name(service: TaskService) -> None:
    with pytest.raises(InvalidValue, match="trace context"):
        service.create_task(type="quick", traceparent="nonsense")


def test_without_the_extra_the_key_is_refused_and_the_variable_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigurationError, match="otel_endpoint"):
        receiver_for("http://localhost:4318", {})
    assert receiver_for("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}) is None


def test_nothing_is_made_unless_it_is_configured() -> None:
    assert receiver_for("", {}) is None
    assert receiver_for("http://localhost:4318", {"OTEL_SDK_DISABLED": "true"}) is None
