"""The Now page: what runs, what waits and why, what has failed, and the possible actions."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic
from typing import NoReturn

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.events.commands import DrainNode, UndrainNode
from tasktrail.http.server import HttpServer
from tasktrail.projections import ViewsFailed
from tasktrail.web import now


def part(page: str, name: str) -> str:
    found = re.search(rf'<section [^>]*id="{name}".*?</section>', page, flags=re.DOTALL)
    assert found, name
    return found[0]


def test_what_runs_is_shown_with_its_message_bar_and_memory(browser: httpx.Client, running: Callable[..., int]) -> None:
    task_id = running("cutting <b>film</b>")
    shown = part(browser.get("/").text, "running")
    assert f'href="/tasks/{task_id}"' in shown
    assert "cutting &lt;b&gt;film&lt;/b&gt;" in shown
    assert 'value="40.0"' in shown
    assert re.search(r"[\d.]+ MiB <span", shown), "what the attempt has in memory"


def test_what_waits_is_shown_with_the_reasons(
    browser: httpx.Client, service: TaskService, running: Callable[..., int]
) -> None:
    running("one")
    running("two")
    waiting = service.create_task(type="saying", input_file="", output_file="")
    shown = part(browser.get("/").text, "queue")
    assert f'href="/tasks/{waiting}"' in shown
    assert "2 attempts hold all the slots" in shown
    service.cancel_task(waiting)


def test_a_failure_is_shown_and_retried_by_its_button(
    browser: httpx.Client, service: TaskService, failed: Callable[[str], int]
) -> None:
    task_id = failed("no luck")
    shown = part(browser.get("/").text, "failures")
    assert "no luck" in shown
    assert f'aria-label="Retry task {task_id}"' in shown

    answer = browser.post("/retry", data={"task_id": str(task_id)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert f"Task {task_id} is retried." in browser.get("/").text
    assert "is retried." not in browser.get("/").text, "it is said once"
    assert service.wait(task_id, 10).life == 2
    assert next(record.actor for record in service.events(task_id) if record.life == 2) == "http"


def test_a_failure_whose_retries_are_used_up_leads_to_its_page(browser: httpx.Client, service: TaskService) -> None:
    task_id = service.create_task(type="saying", options={"error": "no luck"}, max_retries=0)
    assert service.wait(task_id, 10).status == "failed"
    shown = part(browser.get("/").text, "failures")
    assert f'aria-label="Retry task {task_id}"' not in shown
    assert f'href="/tasks/{task_id}#actions"' in shown
    assert f'Retry<span class="hidden-text"> task {task_id} by force</span>…' in shown


def test_a_limit_above_the_number_of_workers_is_not_shown_as_room(browser: httpx.Client, service: TaskService) -> None:
    deadline = monotonic() + 30
    while service.queue().resources.slots < 2:  # both workers have started
        assert monotonic() < deadline
        threading.Event().wait(0.02)
    service.set_limits(max_concurrent=40)
    try:
        shown = browser.get("/").text
        assert "of at most 2<" in part(shown, "running")
        assert "max_concurrent is 40, but there are 2 workers." in part(shown, "resources")
    finally:
        service.set_limits(reset=True)
    assert "max_concurrent is" not in browser.get("/").text


def test_a_retry_that_is_refused_is_told_with_the_reason(browser: httpx.Client, running: Callable[..., int]) -> None:
    task_id = running()
    assert browser.post("/retry", data={"task_id": str(task_id)}).status_code == 303
    assert f"Task {task_id} is not retried: " in browser.get("/").text


def test_a_retry_of_nothing_is_a_page_that_says_so(browser: httpx.Client) -> None:
    answer = browser.post("/retry", data={"task_id": "999999"})
    assert answer.status_code == 404
    assert "does not exist" in answer.text


def test_charts_say_in_words_what_they_draw(browser: httpx.Client) -> None:
    shown = part(browser.get("/").text, "activity")
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', shown)
    assert len(labels) == 4
    assert labels[0].startswith("Tasks a minute. ")
    assert shown.count("<summary>As a table</summary>") == 2


def test_the_past_is_shown_as_it_was_and_cannot_be_acted_on(
    browser: httpx.Client, service: TaskService, failed: Callable[[str], int], running: Callable[..., int]
) -> None:
    task_id = failed("long ago")
    ran = running("still at it")
    then = service.watermark.position
    service.retry_task(task_id)
    service.wait(task_id, 10)
    service.cancel_task(ran)
    service.wait(ran, 10)

    page = browser.get("/", params={"as_of": str(then)}).text
    assert f"everything up to position {then:,}" in page
    assert f'href="/tasks/{task_id}?as_of={then}"' in part(page, "failures")
    assert "still at it" in part(page, "running")
    assert "Waits because" not in page
    assert f'href="/tasks/{ran}?as_of={then}"' in part(page, "running")
    assert re.search(r"For what ran, [\d.]+ MiB of memory and 0 B of temp space were reserved", page)
    assert re.search(r"[\d.]+ MiB <span class=\"muted\">reserved</span>", part(page, "running"))
    assert 'method="post"' not in re.sub(r'<form method="post" action="/logout".*?</form>', "", page, flags=re.DOTALL)
    assert browser.post("/retry", params={"as_of": str(then)}, data={"task_id": str(task_id)}).status_code == 400


def test_before_anything_happened_there_is_nothing(browser: httpx.Client) -> None:
    page = browser.get("/", params={"as_of": "0"}).text
    assert "Nothing ran." in page
    assert "No task has failed." in page


def test_charts_of_before_the_first_record_lead_up_to_that_record(browser: httpx.Client, service: TaskService) -> None:
    first = next(iter(service.log(0, 1))).recorded_at.astimezone()
    page = browser.get("/", params={"as_of": "0"}).text
    assert f"<title>{first:%H:%M}: 0 created</title>" in part(page, "activity")


def test_a_past_that_takes_too_long_is_said_not_to_be_shown(
    browser: httpx.Client, service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_asked: object) -> NoReturn:
        raise ViewsFailed("the views cannot tell")

    monkeypatch.setattr(service, "at_once", fail)
    monkeypatch.setattr(now, "THEN_WITHIN", 0.0)
    then = service.watermark.position - 1
    page = browser.get("/", params={"as_of": str(then)}).text
    assert "The answer would take more than 0 s" in page
    assert "This is the past" in page


@pytest.fixture
def bound(server: HttpServer, service: TaskService) -> Iterator[httpx.Client]:
    """Return a browser of a user who sees only the tasks of user 7."""
    headers = {"authorization": f"Bearer {service.add_token('seven', 'submitter', user_id=7)}", "accept": "text/html"}
    with httpx.Client(base_url=server.address, headers=headers, trust_env=False) as client:
        yield client
    service.revoke_token("seven")


def test_who_is_bound_to_a_user_sees_nothing_of_others(
    bound: httpx.Client, service: TaskService, running: Callable[..., int]
) -> None:
    mine, other = running("mine", user_id=7), running("not mine", user_id=8)
    waiting = service.create_task(type="saying", input_file="", output_file="", user_id=7)
    hidden = service.create_task(type="saying", input_file="", output_file="", user_id=8)
    page = bound.get("/").text
    assert f'href="/tasks/{mine}"' in part(page, "running")
    assert f'href="/tasks/{waiting}"' in part(page, "queue")
    assert "ConcurrencyLimit" in part(page, "queue")
    for unseen in (
        "not mine",
        f'/tasks/{other}"',
        f'/tasks/{hidden}"',
        'id="resources"',
        'id="activity"',
        'id="numbers"',
    ):
        assert unseen not in page, unseen
    assert bound.post("/retry", data={"task_id": str(other)}).status_code == 404
    then = bound.get("/", params={"as_of": str(service.watermark.position)}).text
    assert f"/tasks/{mine}?" in then
    assert f"/tasks/{other}?" not in then

    with bound.stream("GET", "/live", timeout=10) as answer:
        told = [json.loads(line[6:]) for line in islice_data(answer.iter_lines(), 3)]
    assert {one["id"] for one in told} == {"running", "queue", "failures"}
    assert "not mine" not in str(told)
    for task_id in (waiting, hidden):
        service.cancel_task(task_id)


def islice_data(lines: Iterator[str], number: int) -> Iterator[str]:
    return islice((line for line in lines if line.startswith("data: ")), number)


def test_a_node_on_which_nothing_starts_is_named(browser: httpx.Client, service: TaskService) -> None:
    service.send(DrainNode(node="local"))
    try:
        shown = part(browser.get("/").text, "queue")
        told = '<p class="note is-warn">Node local is (being )?drained: nothing starts there'
        assert re.search(told, shown), "others may still run there"
    finally:
        service.send(UndrainNode(node="local"))
    assert "Node local" not in part(browser.get("/").text, "queue")
