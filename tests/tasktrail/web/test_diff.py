"""The page of changes: the tasks between two times, before and after."""

import re
from collections.abc import Callable

import httpx
import pytest

from tasktrail import TaskFilters
from tasktrail.api.service import TaskService
from tasktrail.web import diff

Start = Callable[..., int]


def rows(page: str) -> dict[int, str]:
    found = re.findall(r'<tr id="change-(\d+)">(.*?)</tr>', page, re.DOTALL)
    return {int(task_id): row for task_id, row in found}


def links(row: str) -> list[str]:
    return re.findall(r'href="([^"]+)"', row)


def test_tasks_are_shown_before_and_after(
    browser: httpx.Client, service: TaskService, running: Start, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    assert eventually(lambda: not service.list_tasks(TaskFilters(status="running"))[1]), "those of other tests"
    old = running("first")
    begin = service.watermark.position
    new = running("second")
    service.cancel_task(old)
    service.wait(old, 10)
    page = browser.get("/diff", params={"from": str(begin)}).text
    found = rows(page)
    assert found.keys() == {old, new}
    assert links(found[old]) == [f"/tasks/{old}", f"/tasks/{old}?as_of={begin}"]
    assert re.findall("badge is-([a-z]+)", found[old]) == ["running", "cancelled"]
    assert re.findall("badge is-([a-z]+)", found[new]) == ["running"]
    assert "not&nbsp;created&nbsp;yet" in found[new]
    assert "2 tasks between position" in page
    assert browser.get(links(found[old])[1]).status_code == 200


def test_an_end_that_is_named_is_where_links_lead(browser: httpx.Client, failed: Start, service: TaskService) -> None:
    begin = service.watermark.position
    task_id = failed("in between")
    end = service.watermark.position
    failed("later")
    page = browser.get("/diff", params={"from": str(begin), "to": str(end)}).text
    assert rows(page).keys() == {task_id}
    assert links(rows(page)[task_id]) == [f"/tasks/{task_id}?as_of={end}"]
    assert "in between" in rows(page)[task_id]
    assert "No task has a record in between" in browser.get(f"/diff?from={end}&to={end}").text


def test_pages_are_of_the_same_two_moments(
    browser: httpx.Client, failed: Start, service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "PER_PAGE", 2)
    begin = service.watermark.position
    made = [failed(f"number {number}") for number in range(5)]
    seen: list[int] = []
    page = browser.get(f"/diff?from={begin}").text
    while found := re.search(r'rel="next" href="([^"]+)"', page):
        failed("while somebody looks")
        seen += rows(page)
        page = browser.get(found[1].replace("&amp;", "&")).text
    assert [*seen, *rows(page)] == made
    back = re.search(r'rel="prev" href="([^"]+)"', page)
    assert back is not None
    assert list(rows(browser.get(back[1].replace("&amp;", "&")).text)) == made[2:4]
    assert not rows(browser.get(f"/diff?from={begin}&offset=1000").text)


def test_no_beginning_is_offered_that_may_come_after_the_moment_shown(
    browser: httpx.Client, failed: Start, service: TaskService
) -> None:
    failed("before")
    then = service.watermark.position
    failed("after")
    assert "5 minutes ago" in browser.get("/diff").text.partition("<main")[2]
    assert "5 minutes ago" not in browser.get(f"/diff?as_of={then}").text.partition("<main")[2]


def test_words_lead_to_the_address_of_what_they_mean(browser: httpx.Client, failed: Start) -> None:
    failed("for the words")
    to_time = browser.get("/diff", params={"from": "1 hour ago", "to": "5 minutes ago"})
    assert to_time.status_code == 303
    assert re.match(r"/diff\?from=20[^&]+Z&to=5\+minutes\+ago$", to_time.headers["location"])
    position = browser.get("/diff", params={"from": "before the last failure"})
    assert re.fullmatch(r"/diff\?from=\d+", position.headers["location"])
    assert "for the words" in browser.get(position.headers["location"]).text


def test_without_a_beginning_there_is_the_form(browser: httpx.Client) -> None:
    page = browser.get("/diff").text
    assert 'name="from"' in page
    assert 'href="/diff?from=1+hour+ago"' in page
    assert 'id="changes"' not in page


def test_the_past_ends_where_it_is_looked_at(browser: httpx.Client, failed: Start, service: TaskService) -> None:
    begin = service.watermark.position
    task_id = failed("then")
    then = service.watermark.position
    failed("unknown then")
    page = browser.get(f"/diff?from={begin}&as_of={then}").text
    assert rows(page).keys() == {task_id}
    assert all("as_of=" in link for link in re.findall(r'href="(/[^"]*)"', page.split("<main")[1].split("</main")[0]))
    refused = browser.get(f"/diff?from={begin}&to={then + 1}&as_of={then}")
    assert refused.status_code == 400
    assert "comes after the moment that is shown" in refused.text
    assert f'href="/diff?from={then}"' in browser.get(f"/?as_of={then}").text, "from any page of the past"


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("from=sometime", 400, "not a position or a time"),
        ("from=0&to=sometime", 400, "not a position or a time"),
        ("from=2&to=1", 422, "lies before the beginning"),
        ("from=999999999", 409, "not written yet"),
        ("from=0&to=999999999", 409, "not written yet"),
        ("from=0&offset=-1", 400, "offset"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_page(
    browser: httpx.Client, failed: Start, query: str, status: int, told: str
) -> None:
    failed("so that there is a position 2")
    answer = browser.get(f"/diff?{query}")
    assert (answer.status_code, told in answer.text) == (status, True)
    assert "<h1>" in answer.text


def test_a_wrong_moment_can_be_corrected_where_it_was_typed(browser: httpx.Client, failed: Start) -> None:
    failed("so that there is a position 2")
    for query, typed in (("from=somedays&to=2", ["somedays", "2"]), ("from=2&to=1", ["2", "1"])):
        page = browser.get(f"/diff?{query}").text
        assert re.findall(r'<input name="(?:from|to)" value="([^"]*)"', page) == typed
        assert 'role="alert"' in page
        assert 'id="changes"' not in page
