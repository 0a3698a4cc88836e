"""Batches: the progress of each, now and as of an earlier time."""

import html
import json
import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.http.server import HttpServer
from tasktrail.web import batches

Start = Callable[..., int]


def rows(page: str) -> dict[str, str]:
    """Map the name of each batch to its row."""
    found = re.findall(r"<tr id=[^>]+>\s*(<td data-label=\"Batch\".*?)</tr>", page, re.DOTALL)
    return {html.unescape(re.sub(r"<[^>]+>", "", row.partition("</a>")[0]).strip()): row for row in found}


def counted(row: str) -> dict[str, str]:
    """Map the number of each status to the target of its link."""
    found = re.findall(r'class="chip is-\w+" href="([^"]+)">(\w+) <span class="num">(\d+)<', row)
    return {f"{number} {status}": html.unescape(to) for to, status, number in found}


def took(row: str) -> str:
    return row.partition('data-label="Took">')[2].partition("<")[0]


def looks(row: str) -> str:
    """Return the class of a row's bar, which gives it its colour."""
    return "".join(re.findall(r'data-label="Progress" class="([^"]+)"', row))


def test_the_newest_come_first_with_how_far_they_are(
    browser: httpx.Client, service: TaskService, running: Start
) -> None:
    running("at work", batch="older & <odd>")
    held = service.create_task(type="saying", options={"message": "m"}, batch="newer", held=True)
    found = rows(browser.get("/batches").text)
    assert list(found)[:2] == ["newer", "older & <odd>"]
    assert counted(found["newer"]) == {"1 pending": "/tasks?batch=newer&status=pending"}
    assert took(found["newer"]) == ""
    then = service.watermark.position
    service.cancel_task(held)
    over = rows(browser.get("/batches").text)["newer"]
    assert list(counted(over)) == ["1 cancelled"]
    assert 'value="100.0"' in over
    assert took(over).endswith("s")
    before = rows(browser.get(f"/batches?as_of={then}").text)["newer"]
    assert counted(before) == {"1 pending": f"/tasks?batch=newer&status=pending&as_of={then}"}
    (link,) = re.findall(r'<a href="([^"]+)">older', found["older & <odd>"])
    assert "1 task passes" in browser.get(html.unescape(link)).text


def test_a_batch_with_failures_does_not_look_like_a_success(browser: httpx.Client, service: TaskService) -> None:
    good = service.create_task(type="saying", options={"message": "m"}, batch="all good")
    gone = service.create_task(type="saying", options={"message": "m"}, batch="given up", held=True)
    for number in range(2):
        done = service.create_task(type="saying", options={"error": "no"} if number else {}, batch="half good")
        service.wait(done, 10)
    service.wait(good, 10)
    open_ = rows(browser.get("/batches").text)["given up"]
    service.cancel_task(gone)
    found = rows(browser.get("/batches").text)
    assert [looks(found[name]) for name in ("all good", "half good", "given up")] == [
        "is-completed",
        "is-failed",
        "is-cancelled",
    ]
    assert looks(open_) == ""


def test_no_two_batches_share_an_id_however_they_are_named(browser: httpx.Client, service: TaskService) -> None:
    """The page keeps the focus by the id."""
    for name in ("night", "night-pending", "night pending", "night%20pending", "night:pending", 'night"pending'):
        service.create_task(type="saying", options={"message": "m"}, batch=name, held=True)
    ids = re.findall(r'<(?:tr|a) id="([^"]+)"', browser.get("/batches").text)
    assert len(ids) >= 12
    assert len(ids) == len(set(ids))
    assert not any(re.search(r"\s", one) for one in ids)


@pytest.fixture
def bound(server: HttpServer, service: TaskService) -> Iterator[httpx.Client]:
    """Return a browser of a user who sees only the tasks of user 7."""
    headers = {"authorization": f"Bearer {service.add_token('of-seven', 'reader', user_id=7)}", "accept": "text/html"}
    with httpx.Client(base_url=server.address, headers=headers, trust_env=False) as client:
        yield client
    service.revoke_token("of-seven")


def test_where_there_are_no_batches_a_command_is_named_that_makes_one(server: HttpServer, service: TaskService) -> None:
    headers = {"authorization": f"Bearer {service.add_token('of-none', 'reader', user_id=99)}", "accept": "text/html"}
    page = httpx.get(f"{server.address}/batches", headers=headers, trust_env=False).text
    service.revoke_token("of-none")
    assert "one for each file. <code>tasktrail batch</code> makes one" in page


def test_who_is_bound_to_a_user_sees_that_users_share_of_a_batch(bound: httpx.Client, service: TaskService) -> None:
    for name, user in (("shared", 7), ("shared", 8), ("of 8", 8), ("of 7", 7)):
        service.create_task(type="saying", options={"message": "m"}, batch=name, user_id=user, held=True)
    then = service.watermark.position
    for page in (bound.get("/batches").text, bound.get(f"/batches?as_of={then}").text):
        found = rows(page)
        assert list(found) == ["of 7", "shared"]
        assert [list(counted(row)) for row in found.values()] == [["1 pending"], ["1 pending"]]
    with bound.stream("GET", "/live/batches", timeout=10) as answer:
        told = next(json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
    assert told["id"] == "batches"
    assert list(rows(told["html"])) == ["of 7", "shared"]


def test_only_so_many_are_shown(browser: httpx.Client, service: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        service.create_task(type="saying", options={"message": "m"}, batch=f"b{number}", held=True)
    monkeypatch.setattr(batches, "_SHOWN", 2)
    monkeypatch.setattr(batches, "_SHOWN_THEN", 1)
    page = browser.get("/batches").text
    assert list(rows(page)) == ["b2", "b1"]
    assert "the newest 2" in page
    assert list(rows(browser.get(f"/batches?as_of={service.watermark.position}").text)) == ["b2"]


def test_before_there_were_any_the_past_says_so(browser: httpx.Client) -> None:
    page = browser.get("/batches?as_of=1").text
    assert "There were no batches." in page
    assert not rows(page)
