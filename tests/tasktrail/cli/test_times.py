"""Times as people type them."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.times import read_time

NOW = datetime(2026, 3, 27, 14, 30, 15, tzinfo=UTC)  # a Friday, two days before the clocks go forward in Berlin


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-03-27T14:30:15+00:00"),
        ("+10m", "2026-03-27T14:40:15+00:00"),
        ("+2h30m", "2026-03-27T17:00:15+00:00"),
        ("+1d", "2026-03-28T14:30:15+00:00"),
        ("-90s", "2026-03-27T14:28:45+00:00"),
        ("tomorrow 9:00", "2026-03-28T08:00:00+00:00"),
        ("Tomorrow", "2026-03-27T23:00:00+00:00"),
        ("today 23:59:59", "2026-03-27T22:59:59+00:00"),
        ("yesterday 0:00", "2026-03-25T23:00:00+00:00"),
        ("monday 9:00", "2026-03-30T07:00:00+00:00"),
        ("friday 15:00", "2026-04-03T13:00:00+00:00"),
        ("friday 23:00", "2026-03-27T22:00:00+00:00"),
        ("22:30", "2026-03-27T21:30:00+00:00"),
        ("9:00", "2026-03-28T08:00:00+00:00"),
        ("2026-08-01 22:00", "2026-08-01T20:00:00+00:00"),
        ("2026-01-01", "2025-12-31T23:00:00+00:00"),
        ("2026-08-01T22:00:00Z", "2026-08-01T22:00:00+00:00"),
        ("2026-08-01 22:00+05:30", "2026-08-01T16:30:00+00:00"),
        ("2026-10-25 02:30", "2026-10-25T00:30:00+00:00"),  # two exist: the first
        ("2026-03-29 02:30", "2026-03-29T01:30:00+00:00"),  # none exists: 03:30
    ],
)
def test_a_time_is_what_a_person_means_by_it(text: str, meant: str) -> None:
    assert read_time(text, NOW).astimezone(UTC).isoformat() == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("15:30", "2026-03-27T14:30:00+00:00"),
        ("15:31", "2026-03-26T14:31:00+00:00"),
        ("noon", "2026-03-27T11:00:00+00:00"),
        ("midnight", "2026-03-26T23:00:00+00:00"),
        ("at noon", "2026-03-27T11:00:00+00:00"),
        ("at 9:00", "2026-03-27T08:00:00+00:00"),
        ("2026-01-31 noon", "2026-01-31T11:00:00+00:00"),
        ("2026-01-31 at 12:00", "2026-01-31T11:00:00+00:00"),
        ("2026-01-31 at midnight", "2026-01-30T23:00:00+00:00"),
        ("yesterday noon", "2026-03-26T11:00:00+00:00"),
        ("yesterday at 12:00", "2026-03-26T11:00:00+00:00"),
        ("monday 9:00", "2026-03-23T08:00:00+00:00"),
        ("friday 15:00", "2026-03-27T14:00:00+00:00"),
        ("Friday 23:00", "2026-03-20T22:00:00+00:00"),
        ("3 hours ago", "2026-03-27T11:30:15+00:00"),
        ("1 day ago", "2026-03-26T14:30:15+00:00"),
        ("2026-01-01t12:00z", "2026-01-01T12:00:00+00:00"),
    ],
)
def test_of_the_past_a_clock_and_a_weekday_are_the_last_ones(text: str, meant: str) -> None:
    assert read_time(text, NOW, earlier=True).astimezone(UTC).isoformat() == meant


def test_the_day_before_has_another_offset_where_the_clocks_were_changed() -> None:
    sunday = datetime(2026, 3, 29, 9, tzinfo=UTC)  # 11:00 in Berlin
    assert read_time("12:00", sunday, earlier=True) == datetime(2026, 3, 28, 11, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "+", "10m", "+10", "tomorrow at nine", "25:00", "9:60", "soon", "2026-13-01"])
def test_what_is_no_time_is_refused_with_the_forms_there_are(cli: Callable[..., Any], text: str) -> None:
    shown = cli("submit", "noop", "--scheduled-for", text)
    assert shown.code == 2
    assert "+10m, 'tomorrow 9:00'" in " ".join(shown.err.split())


def test_what_is_no_point_of_the_past_is_refused_with_the_forms_of_one(cli: Callable[..., Any]) -> None:
    """`tomorrow 9:00` is always in the future."""
    told = " ".join(cli("list", "--as-of", "lunch").err.split())
    assert "Write a position, -10m, 'yesterday 12:00'," in told
    assert "tomorrow" not in told


def test_a_number_without_its_unit_is_told_so(cli: Callable[..., Any]) -> None:
    assert "'+10' lacks its unit" in cli("submit", "noop", "--scheduled-for", "+10").err


@given(st.text(max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        at = read_time(text, NOW)
    except (ValueError, OverflowError):
        return
    assert at.tzinfo


def test_commands_take_such_times(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.journal.at = NOW
    assert cli("submit", "noop", "--scheduled-for", "+10m", "--deadline", "tomorrow 9:00").code == 0
    told = json.loads(cli("show", "1", "--json").out)
    assert (told["scheduled_for"], told["deadline"]) == ("2026-03-27T14:40:15Z", "2026-03-28T08:00:00Z")
    tasks.later(7200)
    tasks.create_task(type="noop")
    assert [cli("show", task_id, "--as-of", "-1h").code for task_id in ("1", "2")] == [0, 1]
    assert cli("adjust", "1", "--scheduled-for", "18:00").code == 0
    assert json.loads(cli("show", "1", "--json").out)["scheduled_for"] == "2026-03-27T17:00:00Z"
