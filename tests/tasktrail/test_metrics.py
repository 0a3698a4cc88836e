"""The metrics of a real service: their names, their labels, and their correctness, also after a restart."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from tasktrail.api.service import TaskService
from tasktrail.http.server import HttpServer

Open = Callable[..., TaskService]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

LABELS = {
    *("type", "status", "outcome", "cause", "channel", "reader", "reason", "state", "method", "route", "le"),
    *("version", "implementation", "major", "minor", "patchlevel", "generation"),
}
"""All labels. Each has few values, and users cannot create any."""


@contextmanager
def browsing(service: TaskService) -> Iterator[httpx.Client]:
    """Make plain HTTP requests on the Unix socket of a server on the service."""
    server = HttpServer(service, socket_path=service.paths.socket)
    server.start()
    try:
        transport = httpx.HTTPTransport(uds=str(service.paths.socket))
        with httpx.Client(transport=transport, base_url="http://localhost") as web:
            yield web
    finally:
        assert server.stop()


@pytest.fixture
def web(service: TaskService) -> Iterator[httpx.Client]:
    with browsing(service) as client:
        yield client


def scrape(web: httpx.Client) -> Samples:
    """Map (name, labels) to value."""
    page = web.get("/metrics")
    assert page.status_code == 200, page.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_families(page.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"tasktrail_{name}", frozenset(labels.items())]


def run(service: TaskService, kind: str, **fields: Any) -> int:
    task_id = service.create_task(type=kind, **fields)
    service.wait(task_id, 60)
    return task_id


def test_tasks_attempts_and_times_are_counted(service: TaskService, web: httpx.Client) -> None:
    run(service, "quick")
    run(service, "quick")
    run(service, "timeout", max_retries=1, retry_delay=0)
    service.create_task(type="quick", held=True)
    service.stats()  # a scrape does not wait for the views, but this does
    found = scrape(web)
    assert value(found, "tasks", type="quick", status="completed") == 2
    assert value(found, "tasks", type="quick", status="pending") == 1
    assert value(found, "tasks", type="timeout", status="failed") == 1
    assert value(found, "queue_tasks", reason="Held") == 1
    assert value(found, "tasks_accepted_total", type="quick") == 3
    assert value(found, "tasks_ended_total", type="quick", status="completed") == 2
    assert value(found, "attempts_started_total", type="timeout") == 2
    assert value(found, "attempts_total", type="timeout", outcome="failed") == 2
    assert value(found, "attempts_total", type="timeout", outcome="lost") == 0
    assert value(found, "retries_total", type="timeout", cause="rule") == 1
    assert value(found, "task_wait_seconds_count", type="quick") == 2
    assert value(found, "attempt_seconds_count", type="timeout", outcome="failed") == 2
    assert value(found, "commit_seconds_count") > 0
    assert value(found, "commit_bytes_total") > 0
    assert value(found, "log_size_bytes") >= service.paths.log.stat().st_size
    assert value(found, "ready") == 1


def test_a_service_at_rest_has_counted_its_whole_log_and_lacks_nothing(service: TaskService, web: httpx.Client) -> None:
    run(service, "quick")
    expected = {"busy": 0.0, "idle": 2.0, "degraded": 0.0, "views": 0.0, "notices": 0.0, "uncounted": 0.0}

    def at_rest() -> dict[str, float]:
        found = scrape(web)
        return {
            "busy": value(found, "workers", state="busy"),
            "idle": value(found, "workers", state="idle"),
            "degraded": value(found, "degraded"),
            "views": value(found, "lag_records", reader="views"),
            "notices": value(found, "lag_records", reader="notices"),
            "uncounted": value(found, "log_position") - value(found, "commit_records_total"),
        }

    pause = threading.Event()
    assert any(at_rest() == expected or pause.wait(0.1) for _ in range(300)), at_rest()


def test_a_worker_that_dies_counts_as_a_lost_attempt_and_a_death(service: TaskService, web: httpx.Client) -> None:
    run(service, "dies", max_retries=0)
    found = scrape(web)
    assert value(found, "attempts_total", type="dies", outcome="lost") >= 1
    assert value(found, "worker_deaths_total") >= 1


def test_gauges_are_right_after_a_restart_and_counts_begin_anew(open_service: Open) -> None:
    service = open_service()
    run(service, "quick")
    service.create_task(type="quick", held=True)
    service.close()
    service = open_service()
    with browsing(service) as web:
        found = scrape(web)
    assert value(found, "tasks", type="quick", status="completed") == 1
    assert value(found, "tasks", type="quick", status="pending") == 1
    assert value(found, "queue_tasks", reason="Held") == 1
    assert value(found, "attempts_total", type="quick", outcome="completed") == 0
    assert ("tasktrail_tasks_accepted_total", frozenset({("type", "quick")})) not in found


def test_a_type_without_a_handler_here_is_other(open_service: Open) -> None:
    service = open_service()
    run(service, "quick")
    service.create_task(type="quick", held=True)
    service.close()
    service = open_service(handlers=("sample_handlers",))
    with browsing(service) as web:
        service.cancel_task(2)
        service.stats()
        found = scrape(web)
    assert value(found, "tasks", type="other", status="completed") == 1
    assert value(found, "tasks_ended_total", type="other", status="cancelled") == 1
    assert not any(("type", "quick") in labels for _, labels in found)


def test_requests_are_counted_by_the_template_of_their_route(service: TaskService, web: httpx.Client) -> None:
    task_id = run(service, "quick")
    web.get(f"/v1/tasks/{task_id}")
    web.head(f"/v1/tasks/{task_id}")
    web.get("/v1/tasks/999")
    web.get("/secret-place")
    web.request("BREW", "/v1/tasks")
    found = scrape(web)
    route = "/v1/tasks/{task_id}"
    assert value(found, "http_requests_total", method="GET", route=route, status="2xx") == 1
    assert value(found, "http_requests_total", method="GET", route=route, status="4xx") == 1
    assert value(found, "http_requests_total", method="HEAD", route=route, status="2xx") == 1
    assert value(found, "http_requests_total", method="GET", route="other", status="4xx") == 1
    assert value(found, "http_requests_total", method="other", route="other", status="4xx") == 1
    assert value(found, "http_request_seconds_count", method="GET", route=route) == 2
    assert not any("secret" in str(labels) or "999" in str(labels) for _, labels in found)


def test_both_forms_can_be_read_and_name_no_label_without_bound(service: TaskService, web: httpx.Client) -> None:
    run(service, "quick", user_id=4711, label="a-label-of-mine")
    text = web.get("/metrics", headers={"accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    openmetrics = web.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    parsed = openmetrics_families(openmetrics.text)  # type: ignore[no-untyped-call]  # of prometheus_client
    for families in (text_families(text.text), parsed):
        found = list(families)
        assert all(family.documentation for family in found)
        assert {label for family in found for sample in family.samples for label in sample.labels} <= LABELS
        assert {family.name.split("_")[0] for family in found} <= {"tasktrail", "process", "python"}
    assert "4711" not in text.text
    assert "a-label-of-mine" not in text.text
    assert str(service.paths.data) not in text.text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_of(service: TaskService, web: httpx.Client) -> None:
    run(service, "quick")
    page = web.get("/metrics").text
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr + checked.stdout) == (0, "")


def test_views_that_cannot_be_read_leave_their_numbers_out_and_no_others(
    service: TaskService, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(service, "quick")
    monkeypatch.setattr(type(service.source), "counts", lambda _: None)
    found = scrape(web)
    assert not any(name == "tasktrail_tasks" for name, _ in found)
    assert value(found, "log_position") == service.watermark.position


def test_a_scheduler_that_does_not_answer_leaves_its_numbers_out_and_no_others(
    service: TaskService, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service._system, "load", lambda: None)
    found = scrape(web)
    assert not any(name == "tasktrail_queue_tasks" for name, _ in found)
    assert value(found, "ready") == 1
