"""The page of one task: its life, its files, and the possible actions."""

import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from histories import Journal
from PIL import Image

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Checkpoint, Created, Progressed, Started
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task_events import ERASED, Checkpointed, Completed, Failed, Retried
from tasktrail.http.server import HttpServer
from tasktrail.projections.proof.seals import make_seal
from tasktrail.web.formats import next_try
from tasktrail.words import of_input

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"


@pytest.fixture
def create(service: TaskService, tmp_path: Path) -> Callable[..., int]:
    Image.new("RGB", (640, 480), "teal").save(tmp_path / "in.png")
    numbers = count()

    def make(**fields: Any) -> int:
        usual = {"type": "image_thumbnail", "input_file": tmp_path / "in.png"}
        return service.create_task(**{**usual, "output_file": tmp_path / f"{next(numbers)}.jpg", **fields})

    return make


def shown(browser: httpx.Client, task_id: int, **query: Any) -> str:
    answer = browser.get(f"/tasks/{task_id}", params=query)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) < 150_000
    return answer.text


def forms(page: str) -> dict[str, dict[str, str]]:
    """Map each action to what its form sends when nothing is filled in."""
    found = {}
    for inside in re.findall(r'<form method="post" action="/tasks/\d+/act"[^>]*>(.*?)</form>', page, re.DOTALL):
        sent = {name: html.unescape(value) for name, value in re.findall(r'name="([^"]*)" value="([^"]*)"', inside)}
        found[sent["action"]] = sent
    return found


def headings(page: str) -> set[str]:
    """Return the headings of the columns of all tables."""
    return set(re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', page))


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (230_276, "276 times the input"),  # was 27,578 %
        (2_400, "2.9 times the input"),
        (1_000, "120 % of the input"),
        (835, "100 % of the input"),
        (712, "85.3 % of the input"),
        (1, "0.12 % of the input"),
        (0, "0 % of the input"),
    ],
)
def test_an_output_is_compared_with_its_input_as_a_person_would(size: int, told: str) -> None:
    assert of_input(size, 835) == told


def test_a_tiny_percentage_is_no_exponent() -> None:
    assert of_input(3_000, 4_000_000_000) == "less than 0.001 % of the input"


def test_a_task_that_is_done_shows_its_story_its_attempts_and_its_files(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id = create(options={"width": 99})
    done = service.wait(task_id, 60)
    page = shown(browser, task_id)
    assert f"Task {task_id} " in page
    assert "is-completed" in page
    assert "created as image_thumbnail" in page
    assert '<rect class="attempt is-completed"' in page
    assert '<polyline class="line"' in page
    assert "&#34;width&#34;: 99" in page
    assert re.search(r'id="sizes">[\d.]+ KiB became [\d.]+ (KiB|B): [\d.,]+ % of the input', page)
    assert forms(page) == {}
    assert f'href="/submit/image_thumbnail?like={task_id}"' in page
    command = service.events(task_id)[0].command_id
    assert f"command <code>{command}</code> by python" in page
    assert f"<dt>attempt</dt><dd>{done.attempt}</dd>" in page  # 2 if earlier tasks made the estimate small
    assert {"Ran", "Memory", "Checkpoints", "Error"} & headings(page) == {"Ran", "Memory"}  # no columns without a value
    assert done.status == "completed"


def test_a_task_that_is_done_leads_to_its_provenance_where_there_is_a_key(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id, waits = create(options={"width": 98}), create(held=True)
    service.wait(task_id, 60)
    link = f'href="/v1/tasks/{task_id}/provenance"'
    assert "no key to sign with" in shown(browser, task_id)
    seal, _key = make_seal(service.source.log(), service.paths.seals, service.paths.seal_key, datetime.now(UTC))
    try:
        assert link in shown(browser, task_id)
        assert browser.get(f"/v1/tasks/{task_id}/provenance").json() == service.provenance(task_id)
        for other in (shown(browser, waits), shown(browser, task_id, as_of=service.watermark.position)):
            assert "rovenance" not in other
    finally:
        service.paths.seal_key.unlink()
        seal.path.unlink()


@pytest.mark.parametrize("result", [{}, {"sha256": "unknown"}])
def test_so_does_a_task_of_a_type_that_does_not_tell_what_it_has_made(
    browser: httpx.Client, service: TaskService, tmp_path: Path, result: dict[str, str]
) -> None:
    output = tmp_path / "made.txt"
    made = service.create_task(type="saying", output_file=str(output), options={"written": "made", "result": result})
    nothing = service.create_task(type="saying", options={"result": result})
    for task_id in (made, nothing):
        service.wait(task_id, 60)
    assert "no key to sign with" in shown(browser, made)
    assert "rovenance" not in shown(browser, nothing)


def test_pictures_of_input_and_output_are_served_with_what_keeps_them_harmless(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id = create()
    service.wait(task_id, 60)
    addresses = re.findall(r'<img src="([^"]+)" alt="Picture of the (\w+)"', shown(browser, task_id))
    assert [side for _address, side in addresses] == ["input", "output"]
    for address, _side in addresses:
        answer = browser.get(html.unescape(address))
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; sandbox")
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "private, max-age=86400"
        assert Image.open(BytesIO(answer.content)).format == "JPEG"
        again = browser.get(html.unescape(address), headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_what_cannot_be_drawn_says_why_in_its_place(
    browser: httpx.Client, create: Callable[..., int], tmp_path: Path
) -> None:
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(b"no picture")
    task_id = create(input_file=broken, held=True)
    answer = browser.get(f"/tasks/{task_id}/picture/input")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["cache-control"] == "no-store"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "<b>" not in answer.text
    assert "is not an image" in " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())
    assert "not there" in browser.get(f"/tasks/{task_id}/picture/output").text


@pytest.mark.parametrize("path", ["picture/secret", "picture/..%2finput", "picture/input?as_of=1", "picture"])
def test_only_the_two_files_of_the_task_as_they_are_now_have_pictures(
    browser: httpx.Client, create: Callable[..., int], path: str
) -> None:
    assert browser.get(f"/tasks/{create(held=True)}/{path}").status_code in (400, 404)


def test_a_task_that_failed_shows_why_with_the_traceback_folded_and_is_retried(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    task_id = create(input_file=tmp_path / "bad.png", max_retries=0)
    service.wait(task_id, 60)
    page = shown(browser, task_id)
    assert "bad.png is not an image" in page
    assert re.search(r'<details id="output" class="output">\s*<summary>What attempt 1 printed', page)
    assert "Error" in headings(page)
    sent = forms(page)["retry"] | {"reason": "it is mended"}
    for wrong in ("nan", "1e999", "soon", "-1"):
        refused = browser.post(f"/tasks/{task_id}/act", data={**sent, "delay": wrong}, follow_redirects=True)
        assert "said is-bad" in refused.text
    assert "checked" in page  # beyond its retries, so it is forced
    Image.new("RGB", (9, 9)).save(tmp_path / "bad.png")
    answer = browser.post(f"/tasks/{task_id}/act", data={**sent, "force": "on", "delay": "0.1s"}, follow_redirects=True)
    assert "The task has another life." in answer.text
    browser.post(f"/tasks/{task_id}/act", data={**sent, "force": "on"})  # a second press changes nothing
    assert service.wait(task_id, 60).status == "completed"
    retried = [record for record in service.events(task_id) if record.reason == "it is mended"]
    assert len(retried) == 1
    assert (retried[0].actor, retried[0].command_id) == ("http", sent["command_id"])
    assert "it is mended" in shown(browser, task_id)


def test_the_kind_of_a_failure_is_said_once_and_no_options_are_none(
    browser: httpx.Client, service: TaskService, failed: Callable[[str], int]
) -> None:
    """The error of a task that failed because another did begins with its kind."""
    needed = failed("no luck")
    task_id = service.create_task(type="saying", input_file="", output_file="", depends_on=(needed,))
    assert service.wait(task_id, 10).error == f"DependencyFailed: task {needed} has failed"
    page = browser.get(f"/tasks/{task_id}").text
    shown = re.search(r'<p class="error-text">.*?</p>', page)
    assert shown
    assert shown[0].count("DependencyFailed") == 1
    assert ">{}<" not in page
    row = re.search(rf'href="/tasks/{task_id}".*?</tr>', browser.get("/").text, flags=re.DOTALL)
    assert row
    assert row[0].count("DependencyFailed") == 1


def test_what_an_earlier_attempt_used_is_not_shown_of_a_running_task(
    browser: httpx.Client, service: TaskService, failed: Callable[[str], int]
) -> None:
    task_id = failed("no luck")
    service.retry_task(task_id)
    service.wait(task_id, 10)
    second = [record.position for record in service.events(task_id) if isinstance(record.event, Started)][-1]
    assert "<dt>Used</dt>" in shown(browser, task_id, as_of=second - 1)
    assert "<dt>Used</dt>" not in shown(browser, task_id, as_of=second)


def test_nobody_can_work_out_what_the_form_of_another_task_carries(
    browser: httpx.Client, create: Callable[..., int]
) -> None:
    first, second = create(held=True), create(held=True)
    carried = [forms(shown(browser, one))["cancel"]["command_id"] for one in (first, second, first)]
    assert carried[0] == carried[2]
    assert carried[0].partition(":")[0] != carried[1].partition(":")[0]


def test_a_task_that_waits_says_why_and_is_changed_held_started_and_cancelled(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id = create(held=True, priority=2)
    page = shown(browser, task_id)
    assert "is held until it is started" in page
    assert "(counts as 2.0 = 2 base + 0.0 wait)" in page
    assert set(forms(page)) == {"start", "adjust", "cancel"}

    def act(action: str, **fields: str) -> str:
        sent = forms(shown(browser, task_id))[action]
        answer = browser.post(f"/tasks/{task_id}/act", data={**sent, **fields}, follow_redirects=True)
        assert answer.status_code == 200
        return answer.text

    assert "The task is adjusted." in act("adjust", priority="7", reason="soon", scheduled_for="+2h")
    changed = service.get_task(task_id)
    assert (changed.priority, changed.held) == (7, True)
    assert changed.scheduled_for is not None
    assert "adjusted: priority 7" in shown(browser, task_id)
    refused = act("adjust", scheduled_for="whenever")
    assert "said is-bad" in refused
    assert "is not a time" in refused
    assert "Nothing was changed" in act("adjust", priority="")
    for wrong in ("11", "-1", "3.5", "nan", "9" * 5000):
        assert "said is-bad" in act("adjust", priority=wrong)
    assert "The task is cancelled." in act("cancel", reason="enough")
    assert service.get_task(task_id).status == "cancelled"
    assert "enough" in shown(browser, task_id)


def test_names_in_what_a_task_waits_for_are_shown_as_names(
    browser: httpx.Client, create: Callable[..., int], running: Callable[..., int]
) -> None:
    running("first")
    running("second")
    page = shown(browser, create())
    assert "more workers (<code>workers</code> of the configuration)" in page


def test_a_notice_shows_each_try_and_is_sent_again(
    browser: httpx.Client,
    service: TaskService,
    create: Callable[..., int],
    eventually: Callable[[Callable[[], bool]], bool],
) -> None:
    task_id = create(notify_email="user@example.org", held=True, notify_on=("cancelled",))
    service.cancel_task(task_id)
    assert eventually(lambda: bool(service.notices(task_id) and service.notices(task_id)[0].tries))
    page = shown(browser, task_id)
    assert "cancelled: email to" in page
    assert "each try" in page
    assert "not delivered" in page
    sent = forms(page)["redeliver"]
    assert sent["notice_id"] == service.notices(task_id)[0].notice_id
    answer = browser.post(f"/tasks/{task_id}/act", data=sent, follow_redirects=True)
    assert "The notice is sent again." in answer.text
    assert "is to be sent again" in answer.text


def test_a_try_that_is_overdue_is_not_said_to_come_in_the_past() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    told = [next_try(noon + timedelta(seconds=seconds), noon) for seconds in (60, 0, -120)]
    assert told[0].startswith('the next at <time datetime="2026-01-01T12:01:00.000Z"')
    assert told[1:] == ["the next is due", "the next is due"]


def test_the_batch_of_a_task_leads_to_its_tasks(browser: httpx.Client, create: Callable[..., int]) -> None:
    page = shown(browser, create(batch="films & more", held=True))
    assert '<a href="/tasks?batch=films+%26+more">films &amp; more</a>' in page


def test_a_refusal_is_told_on_the_page(browser: httpx.Client, service: TaskService, create: Callable[..., int]) -> None:
    task_id = create(held=True)
    sent = forms(shown(browser, task_id))["cancel"]
    service.cancel_task(task_id)
    answer = browser.post(f"/tasks/{task_id}/act", data=sent, follow_redirects=True)
    assert "said is-bad" in answer.text
    assert (
        browser.post(f"/tasks/{task_id}/act", data={**sent, "action": "burn"}, follow_redirects=True).status_code == 200
    )


def test_the_graph_leads_to_the_tasks_around(browser: httpx.Client, create: Callable[..., int]) -> None:
    before, parent = create(held=True), create(held=True)
    task_id = create(held=True, depends_on=[before], parent_task_id=parent)
    after = create(held=True, depends_on=[task_id])
    child = create(held=True, parent_task_id=task_id)
    graph = shown(browser, task_id).partition('<svg class="graph"')[2].partition("</svg>")[0]
    assert {int(found) for found in re.findall(r'href="/tasks/(\d+)"', graph)} == {
        before,
        parent,
        task_id,
        after,
        child,
    }
    assert graph.count("<path") == 4
    assert "1 pending" in shown(browser, task_id)


def test_the_past_is_shown_as_it_was_and_cannot_be_acted_on(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id = create(held=True)
    then = service.watermark.position
    before = service.events(task_id)[0].position - 1
    service.cancel_task(task_id, reason="regretted")
    page = shown(browser, task_id, as_of=then)
    assert "is-pending" in page
    assert "regretted" not in page
    assert "This is the past" in page
    assert forms(page) == {}
    assert '<img src="/tasks' not in page
    refused = browser.post(f"/tasks/{task_id}/act?as_of={then}", data={"action": "start"})
    assert refused.status_code == 400
    assert browser.get(f"/tasks/{task_id}", params={"as_of": before}).status_code == 404


def elements(page: str) -> list[tuple[str, dict[str, str]]]:
    """Return the elements of a page with their attributes, as a browser reads them."""
    found: list[tuple[str, dict[str, str]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, {name: value or "" for name, value in attrs}))

    Reader().feed(page)
    return found


ACCEPT = {"accept": "text/html"}


def test_a_forgotten_task_leads_to_the_page_that_says_who_forgot_it(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id = create(user_id=4242)
    service.wait(task_id, 60)
    service.forget(0, user_id=4242)
    answer = browser.get(f"/tasks/{task_id}")
    assert answer.status_code == 404
    assert f"Task {task_id} was forgotten at position " in answer.text
    assert "The page Log shows who forgot it." in answer.text


@contextmanager
def served(data: Path) -> Iterator[httpx.Client]:
    """Run a service on a folder with a handwritten log, and keep it from working on it."""
    with TaskService.open(data, config=Config(workers=1), own_only=True) as service:
        running = HttpServer(service, socket_path=service.paths.socket)
        running.start()
        transport = httpx.HTTPTransport(uds=str(service.paths.socket))
        with httpx.Client(base_url="http://localhost", transport=transport, headers=ACCEPT, timeout=60) as client:
            yield client
        assert running.stop()


@pytest.mark.slow
def test_an_erased_task_says_so_and_shows_no_file_that_is_called_erased(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    log = SqliteEventLog(data / "log.db", now=Journal(None).at)  # type: ignore[arg-type]  # only its time
    journal = Journal(log)
    journal.record(1, Created(type="add", input_file=ERASED, output_file=ERASED))
    journal.record(1, Started(), Completed(message=ERASED))
    log.close()
    with served(data) as browser:
        page = shown(browser, 1)
    assert "Its files, if any, were erased." in page
    assert "<figure>" not in page
    assert page.count('<p class="muted">Erased.</p>') == 2, "options and result"
    assert "This task sends no notices." not in page
    assert "The receivers of its notices, if any, were erased." in page
    assert "Its output, if any, was erased." in page


@pytest.mark.slow
def test_whatever_a_log_holds_is_escaped_and_bounded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    log = SqliteEventLog(data / "log.db", now=Journal(None).at)  # type: ignore[arg-type]  # only its time
    journal = Journal(log)
    huge = HOSTILE * 20_000
    journal.record(
        1,
        Created(
            type=HOSTILE[:200],
            input_file=f"/in/{HOSTILE}.png",
            output_file=f"/out/{huge[:4000]}",
            options={HOSTILE: huge},
            label=HOSTILE,
            notify_targets=(HOSTILE,),
            max_retries=1,
        ),
    )
    journal.record(1, Started(worker=HOSTILE))
    journal.record(1, Progressed(progress=40.0, message=huge))
    journal.record(1, Checkpointed(checkpoint=Checkpoint(data={HOSTILE: huge[:1000]}), message=HOSTILE))
    for _ in range(60):
        journal.record(1, Failed(outcome="failed", error=huge, final=False), Retried(cause="rule"))
        journal.record(1, Started(worker=HOSTILE))
        journal.record(0, Adjusted(task_id=1, priority=3))
    for number in range(700):
        journal.record(1, Progressed(progress=40 + number / 20, message=f"{HOSTILE} {number}"))
    journal.record(1, Failed(outcome="failed", error=huge, error_type=HOSTILE, rule=HOSTILE, final=True))
    journal.record(2, Created(type="t", options={"a": huge}, depends_on=(1,), parent_task_id=1))
    journal.record(2, Started())
    journal.record(2, Completed(result={HOSTILE: huge}, message=huge))
    log.close()
    with served(data) as client:
        for path in (
            "/tasks",
            "/tasks/1",
            "/tasks/2",
            "/tasks/1?as_of=4",
            "/tasks?as_of=4",
            "/tasks/confirm?action=retry&of=all",
        ):
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            assert len(answer.content) < 150_000, path
            for tag, attributes in elements(answer.text):
                assert not [name for name in attributes if name.startswith("on") or name == "style"]
                assert (tag != "script") or attributes["src"].startswith("/static/")
                assert (tag != "img") or attributes["src"].startswith("/")
        assert "No picture" in client.get("/tasks/1/picture/input").text


def parts(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Return name and HTML of each part that comes."""
    for line in lines:
        if line.startswith("data: "):
            told = json.loads(line.removeprefix("data: "))
            yield told["id"], told["html"]


def test_the_page_changes_while_somebody_looks(
    browser: httpx.Client, service: TaskService, create: Callable[..., int]
) -> None:
    task_id = create(held=True)
    address = html.unescape(re.findall(r'data-live="([^"]*)"', shown(browser, task_id))[0])
    sections = re.findall(r'<section id="(\w+)"[^>]* data-part', shown(browser, task_id))
    with browser.stream("GET", address, timeout=20) as answer:
        coming = parts(answer.iter_lines())
        first = dict(next(coming) for _ in sections)
        assert set(first) == set(sections)
        assert "is held until it is started" in first["head"]
        service.cancel_task(task_id, reason="seen live")
        head = next(text for name, text in coming if name == "head" and "cancelled" in text)
        assert "is-cancelled" in head
    assert 'name="csrf" value=""' in first["actions"]


def test_whoever_follows_a_task_that_is_not_there_is_told(browser: httpx.Client) -> None:
    assert browser.get("/live/tasks/999999").status_code == 404
    assert browser.get("/live/tasks", params={"status": "done"}).status_code == 400
    assert browser.get("/live/tasks", params={"place": "nowhere"}).status_code == 400
