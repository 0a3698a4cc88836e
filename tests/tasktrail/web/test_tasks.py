"""The list of tasks, and one command for many of them, by plain links and forms."""

import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from PIL import Image

from tasktrail.api.service import TaskService
from tasktrail.http.server import HttpServer
from tasktrail.projections.queries.walk import census, walk
from tasktrail.web.bulk import BulkChange, BulkChanges, send_all
from tasktrail.web.tasks import note_of

_documents = count(7_000)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no walk give up early, however busy the machine is."""
    for function in (walk, census):
        monkeypatch.setattr(function, "__kwdefaults__", {**(function.__kwdefaults__ or {}), "within": 60.0})


@pytest.fixture
def document() -> int:
    """Return a document that no other test uses."""
    return next(_documents)


@pytest.fixture
def create(service: TaskService, tmp_path: Path) -> Callable[..., int]:
    """Create a held task, so that it stays as it is."""
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "in.png")
    numbers = count()

    def make(**fields: Any) -> int:
        usual = {"type": "image_thumbnail", "input_file": tmp_path / "in.png", "held": True}
        return service.create_task(**{**usual, "output_file": tmp_path / f"{next(numbers)}.jpg", **fields})

    return make


def rows(page: httpx.Response) -> list[int]:
    """Return the tasks of the list, from the top."""
    assert page.status_code == 200, page.text
    return [
        int(found) for found in re.findall(r'<td data-label="Task"><a class="task-link" href="/tasks/(\d+)', page.text)
    ]


def link(page: httpx.Response, text: str) -> str:
    """Return the target of a link with that text; empty when there is none."""
    found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>{text}', page.text)
    return html.unescape(found[1]) if found else ""


def form(page: httpx.Response, to: str = "/tasks/act") -> dict[str, Any]:
    """Return what the form of a confirmation, or another one, sends when nothing is filled in."""
    sent: dict[str, Any] = {}
    inside = page.text.partition(f'action="{to}"')[2].partition("</form>")[0]
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', inside):
        sent.setdefault(name, []).append(html.unescape(value))
    return sent


def test_the_list_shows_the_newest_first_and_counts_each_status(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document) for _ in range(3)]
    service.cancel_task(ids[0])
    page = browser.get("/tasks", params={"document_id": document})
    assert rows(page) == ids[::-1]
    assert "3 tasks pass the filters" in page.text
    counted = re.findall(r'<a class="chip is-(\w+)"[^>]*>\w+ <span class="num">([\d,+]+)', page.text)
    assert dict(counted) == dict.fromkeys(("running", "completed", "failed", "retrying"), "0") | {
        "pending": "2",
        "cancelled": "1",
    }
    narrowed = browser.get(link(page, "cancelled"))
    assert rows(narrowed) == [ids[0]]
    assert 'aria-current="true">cancelled' in narrowed.text
    assert f"document_id={document}" in str(narrowed.url)


def test_filters_stand_in_the_address_and_in_the_form(
    browser: httpx.Client, create: Callable[..., int], document: int, tmp_path: Path
) -> None:
    create(document_id=document)
    wanted = create(document_id=document, label="<b>night", user_id=5, input_file=tmp_path / "in.png", priority=3)
    page = browser.get("/tasks", params={"document_id": document, "label": "<b>night", "user_id": "5"})
    assert rows(page) == [wanted]
    assert 'name="label" value="&lt;b&gt;night"' in page.text
    assert "<b>night" not in page.text
    searched = browser.get("/tasks", params={"document_id": document, "search": tmp_path.name, "sort": "priority"})
    assert len(rows(searched)) == 2
    assert f'name="search" value="{tmp_path.name}"' in searched.text
    assert rows(browser.get("/tasks", params={"document_id": document, "search": "nowhere"})) == []


def test_several_types_stay_when_another_filter_is_added(browser: httpx.Client) -> None:
    page = browser.get("/tasks", params={"type": "saying,video_convert"}).text
    chosen = re.findall(r'<option value="([^"]*)" selected>', page)
    assert chosen == ["saying,video_convert"]


def test_a_word_that_is_looked_for_whole_is_named(
    browser: httpx.Client, create: Callable[..., int], document: int
) -> None:
    create(document_id=document)
    page = browser.get("/tasks", params={"document_id": document, "search": "im"})
    assert rows(page) == []
    assert "Words of fewer than three characters are looked for as whole words: im." in page.text
    long_enough = browser.get("/tasks", params={"document_id": document, "search": "ima 片"})
    assert "whole words" not in long_enough.text


def test_a_label_with_a_comma_leads_to_its_tasks(
    browser: httpx.Client, create: Callable[..., int], document: int
) -> None:
    wanted = create(document_id=document, label="q3, <north>")
    create(document_id=document, label="q3")
    page = browser.get(link(browser.get(f"/tasks/{wanted}"), "q3, &lt;north&gt;"))
    assert rows(page) == [wanted]
    assert r'name="label" value="q3\, &lt;north&gt;"' in page.text, "the form repeats it as it has to be typed"
    asked = {"label": r"q3\, <north>", "action": "cancel", "of": "all"}
    confirm = browser.get("/tasks/confirm", params=asked)
    assert form(confirm)["label"] == [asked["label"]]
    browser.post("/tasks/act", data=form(confirm) | {"reason": "not needed"})
    assert rows(browser.get("/tasks", params={"document_id": document, "status": "pending"})) == [wanted + 1]


def test_a_list_that_nothing_narrows_speaks_of_no_filters(browser: httpx.Client) -> None:
    everything = browser.get("/tasks", params={"as_of": "0"}).text
    assert "There were no tasks." in everything
    assert re.search(r'id="total">0 tasks\s*<', everything)
    assert "No task passes the filters." in browser.get("/tasks", params={"as_of": "0", "status": "failed"}).text


def test_where_there_are_no_tasks_the_page_says_what_creates_one(server: HttpServer, service: TaskService) -> None:
    headers = {"authorization": f"Bearer {service.add_token('no-tasks', 'reader', user_id=98)}", "accept": "text/html"}
    page = httpx.get(f"{server.address}/tasks", headers=headers, trust_env=False).text
    service.revoke_token("no-tasks")
    assert "The page Submit creates one, and so does <code>tasktrail submit</code>." in page


def test_a_click_on_a_heading_sorts_and_another_one_turns_it_round(
    browser: httpx.Client, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document, priority=priority) for priority in (4, 9, 1)]
    page = browser.get("/tasks", params={"document_id": document})
    down = browser.get(link(page, "Priority"))
    assert rows(down) == [ids[1], ids[0], ids[2]]
    assert 'aria-sort="descending"><a href="' in down.text
    up = browser.get(link(down, "Priority"))
    assert rows(up) == [ids[2], ids[0], ids[1]]
    assert rows(browser.get(link(up, "Task</a>"))) == ids[::-1]


def test_pages_lead_through_the_whole_list_and_back(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document) for _ in range(12)][::-1]
    page = browser.get("/tasks", params={"document_id": document, "limit": 5})
    seen = rows(page)
    assert not link(page, "Back")
    while further := link(page, "Further"):
        page = browser.get(further)
        seen += rows(page)
    assert seen == ids
    page = browser.get(link(page, "Back"))
    assert rows(page) == ids[5:10]
    assert rows(browser.get(link(page, "First"))) == ids[:5]
    assert rows(browser.get(link(page, "Last"))) == ids[-5:]
    assert service.list_tasks()[1] >= 12


@pytest.mark.parametrize(
    "query",
    [
        {"place": "nowhere"},
        {"status": "done"},
        {"sort": "colour"},
        {"limit": "many"},
        {"user_id": "-1"},
        {"search": "///"},
        {"colour": "red"},
        {"place": "after~1e999~1"},
        {"as_of": "99999999"},
    ],
)
def test_a_wrong_wish_is_answered_by_a_page_that_says_what_is_wrong(
    browser: httpx.Client, query: dict[str, str]
) -> None:
    page = browser.get("/tasks", params=query)
    assert page.status_code in ((200, 400) if query.get("place", "").startswith("after") else (400, 404, 409))
    assert "fault of its own" not in page.text


def test_a_change_of_many_is_counted_before_and_asks_for_a_reason(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document) for _ in range(4)]
    service.cancel_task(ids[0])
    page = browser.get("/tasks/confirm", params={"action": "cancel", "of": "all", "document_id": document})
    assert '<b id="number">3</b>' in page.text
    assert "The other 1 " in page.text
    sent = form(page)
    refused = browser.post("/tasks/act", data=sent)
    assert refused.status_code == 400
    assert "say why" in refused.text
    done = browser.post("/tasks/act", data={**sent, "reason": "no longer <i>needed"}, follow_redirects=True)
    assert '<dd id="done">3</dd>' in done.text
    assert '<dd id="refused">0</dd>' in done.text
    assert {service.get_task(one).status for one in ids} == {"cancelled"}
    last = service.events(ids[1])[-1]
    assert (last.reason, last.actor) == ("no longer <i>needed", "http")
    assert last.command_id.endswith(f":{ids[1]}")


def test_what_waits_for_others_is_cancelled_before_them(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    """Otherwise it would fail because they were cancelled."""
    first = create(document_id=document)
    last = create(document_id=document, depends_on=[first])
    sent = form(browser.get("/tasks/confirm", params={"action": "cancel", "of": "all", "document_id": document}))
    browser.post("/tasks/act", data={**sent, "reason": "both"}, follow_redirects=True)
    assert [service.get_task(one).status for one in (first, last)] == ["cancelled", "cancelled"]


def test_the_same_form_sent_twice_changes_nothing_twice(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document) for _ in range(2)]
    chosen = {"action": "cancel", "of": "chosen", "id": [str(one) for one in ids]}
    sent = form(browser.get("/tasks/confirm", params=chosen)) | {"reason": "twice"}
    assert sent["id"] == [str(one) for one in ids]
    first = browser.post("/tasks/act", data=sent)
    position = service.watermark.position
    again = browser.post("/tasks/act", data=sent)
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    assert service.watermark.position == position
    assert '<dd id="done">2</dd>' in browser.get(again.headers["location"]).text


def test_who_changes_many_comes_back_to_the_same_stretch_of_the_list(
    browser: httpx.Client, create: Callable[..., int], document: int
) -> None:
    chosen = create(document_id=document)
    create(document_id=document)
    seen = {"document_id": str(document), "sort": "-priority", "limit": "1"}
    here = httpx.URL(link(browser.get("/tasks", params=seen), "Further"))
    assert {*here.params} == {*seen, "place"}
    sent = form(browser.get(here), "/tasks/confirm") | {"action": "cancel", "of": "chosen"}
    asked = browser.get("/tasks/confirm", params=sent | {"id": str(chosen)})
    done = browser.post("/tasks/act", data=form(asked) | {"reason": "late"}, follow_redirects=True)
    none = browser.get("/tasks/confirm", params=sent)
    for back in (link(asked, "Leave them as they are"), link(done, "To the list"), none.headers["location"]):
        assert {*here.params.items()} == {*httpx.URL(back).params.items()}, back


def test_refusals_are_told_by_their_reason(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document) for _ in range(3)]
    for one in ids[:2]:
        service.cancel_task(one)
    sent = form(
        browser.get("/tasks/confirm", params={"action": "cancel", "id": ",".join(map(str, ids)), "of": "chosen"})
    )
    done = browser.post("/tasks/act", data={**sent, "reason": "all"}, follow_redirects=True)
    assert '<dd id="done">1</dd>' in done.text
    assert "2 refused: " in done.text
    assert "Its story tells how it came to this state." in done.text
    assert "tasktrail history" not in done.text
    assert f'href="/tasks/{ids[0]}"' in done.text
    assert f'href="/tasks/{ids[2]}"' not in done.text.partition("2 refused")[2]


def test_many_are_retried_and_given_another_priority(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    ids = [create(document_id=document, max_retries=0) for _ in range(2)]
    for one in ids:
        service.cancel_task(one)
    sent = form(browser.get("/tasks/confirm", params={"action": "retry", "of": "all", "document_id": document}))
    browser.post("/tasks/act", data={**sent, "reason": "again", "force": "on"})
    assert {service.events(one)[2].event.forced for one in ids} == {True}  # type: ignore[union-attr]  # a retry
    waiting = create(document_id=document)
    sent = form(browser.get("/tasks/confirm", params={"action": "priority", "of": "chosen", "id": str(waiting)}))
    wrong = browser.post("/tasks/act", data={**sent, "reason": "soon", "priority": "11"})
    assert wrong.status_code == 400
    browser.post("/tasks/act", data={**sent, "reason": "soon", "priority": "8"})
    assert service.get_task(waiting).priority == 8


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/tasks/confirm?action=burn&of=all", "is not an action"),
        ("/tasks/confirm?action=retry&of=chosen&id=x", "is no number of a task"),
        ("/tasks/confirm?action=retry&of=chosen&id=" + "9" * 5000, "is no number of a task"),
        ("/tasks/confirm?action=retry&of=all&as_of=1", "you can look at the past"),
        ("/tasks/bulk/0123456789", "is no longer kept"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(browser: httpx.Client, path: str, told: str) -> None:
    page = browser.get(path)
    assert page.status_code in (400, 404)
    assert told in page.text


@pytest.mark.parametrize("field", ["search", "label", "user_id"])
def test_a_bulk_change_keeps_no_more_of_an_address_than_a_filter_can_have(browser: httpx.Client, field: str) -> None:
    sent = {
        "action": "cancel",
        "of": "chosen",
        "id": "999999",
        "reason": "all",
        "bulk": f"long{field.replace('_', '')}",
    }
    answer = browser.post("/tasks/act", data={**sent, field: "," * 50_000}, follow_redirects=True)
    assert answer.status_code == 400 or len(answer.text) < 20_000


@pytest.mark.parametrize("bulk_id", ["", "a b", "\u65e5\u672c", "x" * 65])
def test_a_form_without_an_id_that_an_address_can_hold_does_nothing(browser: httpx.Client, bulk_id: str) -> None:
    sent = {"action": "cancel", "of": "chosen", "id": "1", "reason": "all", "bulk": bulk_id}
    answer = browser.post("/tasks/act", data=sent)
    assert answer.status_code == 400
    assert "the form has none" in answer.text


def test_nothing_chosen_leads_back_to_the_list(browser: httpx.Client) -> None:
    page = browser.get(
        "/tasks/confirm", params={"action": "retry", "of": "chosen", "label": "x"}, follow_redirects=True
    )
    assert page.url.path == "/tasks"
    assert "No task was chosen." in page.text


def test_the_past_is_listed_as_it_was_and_cannot_be_changed(
    browser: httpx.Client, service: TaskService, create: Callable[..., int], document: int
) -> None:
    one, other = create(document_id=document), create(document_id=document)
    service.cancel_task(other)
    then = service.watermark.position
    create(document_id=document)
    service.cancel_task(one)
    page = browser.get("/tasks", params={"document_id": document, "as_of": then})
    assert rows(page) == [other, one]
    assert f'href="/tasks/{one}?as_of={then}"' in page.text
    assert "2 tasks pass the filters" in page.text
    assert re.search(r'is-cancelled"[^>]*>cancelled <span class="num">1<', page.text)
    first = browser.get("/tasks", params={"document_id": document, "as_of": then, "limit": 1})
    assert rows(first) == [other]
    assert rows(browser.get(link(first, "Further"))) == [one]
    assert rows(browser.get(link(browser.get(link(first, "Last")), "Back<"))) == [other]
    assert "is-pending" in page.text
    assert "/tasks/confirm" not in page.text
    assert 'type="checkbox"' not in page.text


def test_a_bulk_change_that_breaks_says_so(service: TaskService) -> None:
    bulk = BulkChange("a", "Retry", "/tasks")

    def broken() -> list[int]:
        raise RuntimeError("no")

    send_all(service.send_many, bulk, broken, lambda _one: None)  # type: ignore[arg-type, return-value]  # it is not called
    assert bulk.over
    assert bulk.trouble


@contextmanager
def submitter(service: TaskService, server: HttpServer, name: str) -> Iterator[httpx.Client]:
    """Yield the browser of somebody with a token."""
    headers = {"authorization": f"Bearer {service.add_token(name, 'submitter')}", "accept": "text/html"}
    try:
        with httpx.Client(base_url=server.address, headers=headers, trust_env=False) as web:
            yield web
    finally:
        service.revoke_token(name)


def test_the_progress_of_a_bulk_change_is_live_for_who_sent_it(
    server: HttpServer, service: TaskService, monkeypatch: pytest.MonkeyPatch, create: Callable[..., int]
) -> None:
    go = threading.Event()

    def held(_send: object, bulk: BulkChange, *_: object) -> None:
        bulk.total = 3
        go.wait(60)
        bulk.done, bulk.over = 3, True
        create()  # views are rendered again when something is recorded

    monkeypatch.setattr("tasktrail.web.tasks.send_all", held)
    monkeypatch.setattr("tasktrail.web.tasks._WITHIN", 0.01)
    with ExitStack() as stack:
        stack.callback(go.set)
        webs = {name: stack.enter_context(submitter(service, server, name)) for name in ("ann", "bob")}
        sent = {"action": "cancel", "of": "chosen", "id": "999999", "reason": "all", "bulk": "live1"}
        page = webs["ann"].post("/tasks/act", data=sent, follow_redirects=True).text
        assert 'data-live="/live/tasks/bulk/live1"' in page
        assert webs["bob"].get("/live/tasks/bulk/live1").status_code == 404
        with webs["ann"].stream("GET", "/live/tasks/bulk/live1", timeout=10) as answer:
            coming = (json.loads(line[6:])["html"] for line in answer.iter_lines() if line.startswith("data: "))
            assert ": under way" in next(coming)
            go.set()
            ended = next(html for html in coming if ": done" in html)
        assert '<dd id="done">3</dd>' in ended
        assert "Look again" not in ended


def test_what_two_have_sent_to_many_tasks_holds_up_nobody_and_each_has_one_at_a_time(
    browser: httpx.Client, server: HttpServer, service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def held(_send: object, bulk: BulkChange, *_: object) -> None:
        begun.release()
        go.wait(60)
        bulk.over = True

    def act(web: httpx.Client, bulk_id: str) -> int:
        sent = {"action": "cancel", "of": "chosen", "id": "999999", "reason": "all", "bulk": bulk_id}
        return web.post("/tasks/act", data=sent).status_code

    monkeypatch.setattr("tasktrail.web.tasks.send_all", held)
    monkeypatch.setattr("tasktrail.web.tasks._WITHIN", 0.01)
    with ExitStack() as stack:
        stack.callback(go.set)
        webs = {name: stack.enter_context(submitter(service, server, name)) for name in ("ann", "bob")}
        for name, web in webs.items():
            assert act(web, f"{name}1") == 303
            assert begun.acquire(timeout=30)
        assert act(webs["ann"], "ann2") == 503
        confirm = browser.get("/tasks/confirm", params={"action": "cancel", "of": "chosen", "id": "999999"})
        assert confirm.status_code == 200
        go.set()
        while act(webs["ann"], "ann2") == 503:  # until the first has left
            pass
        assert webs["ann"].get("/tasks/bulk/ann2").status_code == 200


def test_results_are_kept_for_who_asked_and_only_so_many() -> None:
    bulk_changes = BulkChanges()
    for number in range(150):
        bulk = BulkChange(str(number), "Retry", "/tasks")
        assert bulk_changes.begin("ann", bulk)
        bulk.over = True
    assert bulk_changes.get("ann", "149")
    assert bulk_changes.get("bob", "149") is None
    assert bulk_changes.get("ann", "0") is None
    assert not bulk_changes.begin("ann", BulkChange("149", "Retry", "/tasks"))


def test_the_list_changes_while_somebody_looks(
    browser: httpx.Client, create: Callable[..., int], document: int
) -> None:
    create(document_id=document)
    address = html.unescape(re.findall(r'data-live="([^"]*)"', browser.get(f"/tasks?document_id={document}").text)[0])
    with browser.stream("GET", address, timeout=20) as answer:
        told = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        first = {part["id"]: part["html"] for part in (next(told), next(told))}
        assert "1 task passes the filters" in first["found"]
        another = create(document_id=document)
        rows_now = next(part["html"] for part in told if part["id"] == "rows" and f"/tasks/{another}" in part["html"])
        assert f'<tr id="task-{another}">' in rows_now


def test_what_went_wrong_before_it_was_done_does_not_stand_beside_a_task(
    service: TaskService, create: Callable[..., int]
) -> None:
    held = service.get_task(create())
    again = replace(held, held=False, status="retrying", last_error="the service was stopped while the attempt ran")
    assert note_of(again, held.updated_at) == again.last_error
    assert note_of(replace(again, status="completed", completed_at=held.updated_at), held.updated_at) == ""
