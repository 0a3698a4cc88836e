"""The Log page: the newest records, those of a task or a kind, and how far the log was verified."""

import re
from collections.abc import Callable

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.web import log


def positions(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'id="record-(\d+)"', page)]


def test_the_newest_records_come_first(browser: httpx.Client, failed: Callable[[str], int]) -> None:
    failed("in the log")
    page = browser.get("/log").text
    shown = positions(page)
    assert shown == sorted(shown, reverse=True)
    assert "in the log" in page


def test_records_go_on_further_back_without_a_gap(
    browser: httpx.Client, service: TaskService, monkeypatch: pytest.MonkeyPatch, failed: Callable[[str], int]
) -> None:
    monkeypatch.setattr(log, "_SHOWN", 3)
    failed("one")
    failed("two")
    page, seen = browser.get("/log").text, []
    while found := re.search(r'rel="next" href="([^"]+)"', page):
        seen += positions(page)
        page = browser.get(found[1].replace("&amp;", "&")).text
    seen += positions(page)
    assert seen == list(range(seen[0], 0, -1))
    assert seen[0] == service.watermark.position


def test_records_of_a_task_and_of_a_kind(
    browser: httpx.Client, service: TaskService, failed: Callable[[str], int]
) -> None:
    failed("another")
    task_id = failed("mine")
    own = {record.position for record in service.events(task_id)}
    assert set(positions(browser.get("/log", params={"task": str(task_id)}).text)) == own
    both = browser.get("/log", params={"task": str(task_id), "kind": "failed"}).text
    assert len(positions(both)) == 1
    assert "mine" in both
    assert "another" not in both


@pytest.mark.parametrize("query", [{"task": "x"}, {"kind": "nonsense"}, {"up_to": "-1"}])
def test_a_filter_that_makes_no_sense_is_refused_with_a_page(browser: httpx.Client, query: dict[str, str]) -> None:
    answer = browser.get("/log", params=query)
    assert answer.status_code == 400
    assert "<h1>" in answer.text


def test_looking_for_a_rare_kind_stops_and_says_where_to_go_on(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch, failed: Callable[[str], int]
) -> None:
    failed("more records")
    monkeypatch.setattr(log, "_LOOKED_THROUGH", 2)
    page = browser.get("/log", params={"kind": "schedule_removed"}).text
    assert "The search stopped after many records" in page
    assert 'rel="next"' in page


def test_the_log_is_verified_by_a_button_and_the_page_says_up_to_where(
    browser: httpx.Client, service: TaskService, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    before = service.watermark.position
    answer = browser.post("/verify")
    assert (answer.status_code, answer.headers["location"]) == (303, "/log")
    assert eventually(lambda: "Verified up to position" in browser.get("/log").text)
    found = re.search(r"Verified up to position ([\d,]+)", browser.get("/log").text)
    assert found is not None
    assert int(found[1].replace(",", "")) >= before
    assert '<span class="badge is-good">sound</span>' in browser.get("/log").text
    past = browser.get("/log", params={"as_of": "1"}).text  # the check came later, so it has no age then
    assert re.search(r"Checked <time [^>]*>20\d\d-[^<]*</time> by", past)


def test_the_past_shows_the_log_up_to_there(browser: httpx.Client, failed: Callable[[str], int]) -> None:
    failed("what the log holds")
    page = browser.get("/log", params={"as_of": "3"}).text
    assert positions(page) == [3, 2, 1]
    assert "This is the past" in page
    assert "Verify now" not in page
    assert browser.post("/verify", params={"as_of": "3"}).status_code == 400
