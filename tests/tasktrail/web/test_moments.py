"""The times that people mean by what they type."""

import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.events.errors import InvalidValue
from tasktrail.projections import TaskFilters
from tasktrail.web.moments import LAST_FAILURE, canonical, moment_of

NOW = datetime(2026, 7, 15, 10, 30, tzinfo=UTC)  # a Wednesday, 12:30 in Berlin


@pytest.fixture(autouse=True)
def _berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ("4711", "4711"),
        (" 007 ", "7"),
        ("12,345,678", "12345678"),  # as the page writes it
        ("yesterday 12:00", "2026-07-14T10:00:00Z"),
        ("yesterday at noon", "2026-07-14T10:00:00Z"),
        ("today 0:00", "2026-07-14T22:00:00Z"),
        ("1 hour ago", "2026-07-15T09:30:00Z"),
        ("90 minutes ago", "2026-07-15T09:00:00Z"),
        ("90 s ago", "2026-07-15T10:28:30Z"),
        ("30 seconds ago", "2026-07-15T10:29:30Z"),
        ("-2h30m", "2026-07-15T08:00:00Z"),
        ("3 days ago", "2026-07-12T10:30:00Z"),
        ("9:00", "2026-07-15T07:00:00Z"),
        ("22:15", "2026-07-14T20:15:00Z"),
        ("monday 8:00", "2026-07-13T06:00:00Z"),
        ("wednesday 20:00", "2026-07-08T18:00:00Z"),
        ("2026-07-01 12:00", "2026-07-01T10:00:00Z"),
        ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z"),
        ("2026-07-01T12:00:00 02:00", "2026-07-01T10:00:00Z"),
        ("2026-07-01T12:00:00+02:00", "2026-07-01T10:00:00Z"),
    ],
)
def test_words_mean_a_moment_in_the_zone_of_the_machine(service: TaskService, words: str, means: str) -> None:
    assert canonical(service, words, NOW) == means
    assert canonical(service, means, NOW) == means, "an address stays as it is"


@pytest.mark.parametrize(
    "words", ["soon", "tomorrow 9:00", "today 23:00", "in 3 hours", "9" * 30 + " days ago", "+1h", "4,71", "1,2345"]
)
def test_what_is_no_earlier_moment_is_refused(service: TaskService, words: str) -> None:
    with pytest.raises(InvalidValue):
        canonical(service, words, NOW)


def test_before_the_last_failure_is_the_position_in_front_of_it(
    service: TaskService, failed: Callable[[str], int]
) -> None:
    task_id = failed("the last")
    (position,) = [record.position for record in service.events(task_id) if record.event.__class__.__name__ == "Failed"]
    assert canonical(service, LAST_FAILURE, NOW) == str(position - 1)


def test_a_time_is_the_last_position_recorded_up_to_it(service: TaskService, failed: Callable[[str], int]) -> None:
    task_id = failed("now")
    records = service.events(task_id)
    for record in records:
        at = record.recorded_at.isoformat()
        found = moment_of(service, at)
        assert found.position >= record.position
        assert next(iter(service.log(found.position - 1, 1))).recorded_at <= record.recorded_at
    assert moment_of(service, (records[0].recorded_at - timedelta(days=1)).isoformat()).position == 0


def test_words_in_an_address_lead_to_the_address_of_the_moment(browser: httpx.Client) -> None:
    answer = browser.get("/log", params={"as_of": "1 hour ago", "kind": "failed"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/log?as_of=20")
    assert answer.headers["location"].endswith("Z&kind=failed")


def test_a_refusal_stays_in_the_moment(
    browser: httpx.Client, service: TaskService, failed: Callable[[str], int]
) -> None:
    before = service.events(failed("later"))[0].position - 1
    page = browser.get(f"/tasks/{service.list_tasks(TaskFilters(limit=1))[0][0].id}", params={"as_of": str(before)})
    assert page.status_code == 404
    assert "did not exist then" in page.text
    assert f"everything up to position {before:,}" in page.text
    assert f'href="/tasks?as_of={before}"' in page.text.split("<main")[1]
    assert f'href="/?as_of={before}"' in page.text.split("<main")[1]


def test_the_foot_says_in_which_zone_times_are(browser: httpx.Client) -> None:
    foot = browser.get("/tasks").text.partition("<footer")[2]
    assert re.search("times are in CES?T, those with a Z in UTC", foot)
