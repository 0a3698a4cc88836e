"""Types start only within their windows, by the wall clock of a zone; running attempts continue."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.board import queue_board
from tasktrail.actors.core.explanation import WaitReason
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import LimitsConfigured, Tick
from tasktrail.actors.core.windows import Windows, window_of
from tasktrail.events import Started
from tasktrail.events.errors import CannotStartNow, InvalidValue

NIGHT: dict[str, Any] = {"windows": {"work": ("22-06",)}, "windows_timezone": "Europe/Berlin"}
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which the clock of `Core` begins; a Thursday."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def look(texts: Mapping[str, tuple[str, ...]], now: datetime, zone: str = "UTC") -> Windows:
    """Return the windows at that time."""
    windows = Windows(texts, zone)
    assert windows.are_outdated(now)
    return windows.look(now)


WORK = "work"


def tick(core: Core, moment: str) -> list[tuple[int, int]]:
    core.now = at(moment)
    core.tell(Tick())
    return core.runs()


@pytest.mark.parametrize(
    ("text", "open_at", "closed_at"),
    [
        ("22-06", ["2026-01-01T22:00", "2026-01-02T05:59:59"], ["2026-01-01T21:59:59", "2026-01-02T06:00"]),
        ("8:30-18", ["2026-01-01T08:30", "2026-01-01T17:59"], ["2026-01-01T08:29:59", "2026-01-01T18:00"]),
        ("0-24", ["2026-01-01T00:00", "2026-01-01T23:59:59"], []),
        ("sat-sun 0-24", ["2026-01-03T00:00", "2026-01-04T23:59"], ["2026-01-02T23:59", "2026-01-05T00:00"]),
        ("fri 22-02", ["2026-01-02T22:00", "2026-01-03T01:59"], ["2026-01-02T01:00", "2026-01-03T02:00"]),
        ("sat-mon 10-11", ["2026-01-05T10:00"], ["2026-01-06T10:00", "2026-01-02T10:00"]),
        ("0-0:15", ["2026-01-01T00:14:59"], ["2026-01-01T00:15"]),
    ],
)
def test_what_a_window_says(text: str, open_at: list[str], closed_at: list[str]) -> None:
    windows = {"work": (text,)}
    assert [moment for moment in open_at if look(windows, at(moment)).closed] == []
    assert [moment for moment in closed_at if not look(windows, at(moment)).closed] == []


@pytest.mark.parametrize("text", ["", "22", "22-", "22-22", "25-3", "8:20-9", "8-24:15", "day 8-9", "mon-8-9", "mon 8"])
def test_what_is_no_window_is_refused_and_says_what_one_is(text: str) -> None:
    with pytest.raises(InvalidValue, match="is no window of time") as refused:
        window_of(text)
    assert "22-06" in refused.value.advice


def test_a_task_waits_for_its_window_and_starts_when_it_opens_without_being_asked() -> None:
    core = Core(at=None, **NIGHT)
    core.now = at("2026-01-01T10:00")
    core.tell(Tick())
    task_id = core.create()
    assert core.running() == []
    assert core.state.next_wake() == at("2026-01-01T21:00"), "22:00 in Berlin"
    why = core.why(task_id)
    (reason,) = why.reasons
    assert reason.reason is WaitReason.WINDOW
    assert reason.detail == "type work starts 22-06 (Europe/Berlin); the window opens at 2026-01-01 21:00:00Z"
    assert reason.numbers == {"seconds": 11 * 3600}
    assert queue_board(core.state, core.now, 1).entries[0].shut_by == ("window of type work",)
    refused = core.start(task_id)
    assert isinstance(refused, CannotStartNow)
    assert tick(core, "2026-01-01T20:59:59.999") == []
    assert tick(core, "2026-01-01T21:00") == [(task_id, 1)]
    assert core.state.next_wake() is None


def test_what_runs_goes_on_when_the_window_closes_and_its_retry_waits() -> None:
    core = Core(**NIGHT)
    task_id = core.create(max_retries=1, retry_delay=0.0)
    assert core.running() == [task_id]
    assert tick(core, "2026-01-01T05:00") == []
    assert core.stops() == []
    core.end(task_id, "failed", error="timeout")
    assert core.running() == []
    assert tick(core, "2026-01-01T21:00") == [(task_id, 2)]


def test_other_types_start_meanwhile_and_a_star_is_each_without_windows_of_its_own() -> None:
    core = Core(slots=9, grace={"work": 0.5, "other": 0.5}, windows={"*": ("10-11",), "other": ("0-24",)})
    waits, starts = core.create(), core.create(type="other")
    assert core.running() == [starts]
    assert tick(core, "2026-01-01T10:00") == [(waits, 1)]


def test_several_windows_add_up() -> None:
    texts = {"work": ("mon-fri 22-06", "sat-sun 0-24")}
    before = look(texts, at("2026-01-02T12:00"))
    assert (before.closed, before.until) == ({WORK: at("2026-01-02T22:00")}, at("2026-01-02T22:00"))
    after = look(texts, at("2026-01-02T22:00"))
    assert (after.closed, after.until) == ({}, at("2026-01-05T00:00"))


def test_other_windows_hold_as_soon_as_they_are_configured() -> None:
    core = Core(**NIGHT)
    core.now = at("2026-01-01T12:00")
    task_id = core.create()
    assert core.running() == []
    core.tell(LimitsConfigured(Limits(max_concurrent=8)))
    assert core.runs() == [(task_id, 1)]
    core.tell(LimitsConfigured(Limits(max_concurrent=8, **NIGHT)))
    core.create()
    assert core.running() == [task_id]


def test_when_the_clock_is_set_the_windows_go_by_what_it_shows() -> None:
    core = Core(**NIGHT)
    core.now = at("2026-01-01T12:00")
    task_id = core.create()
    core.set_clock(9 * 3600)
    assert core.runs() == [(task_id, 1)]
    core.set_clock(-9 * 3600)
    core.create()
    assert core.running() == [task_id]


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-03-29T00:59", False),
        ("2026-03-29T01:00", False),  # the clock shows 3:00: the hour with the window is skipped
        ("2026-10-25T00:15", True),  # 2:15, for the first time
        ("2026-10-25T00:45", False),
        ("2026-10-25T01:15", True),  # 2:15 again
        ("2026-10-25T01:30", False),
    ],
)
def test_summer_time_begins_and_ends(moment: str, is_open: bool) -> None:  # noqa: FBT001 - by name
    windows = look({"work": ("2-2:30",)}, at(moment), "Europe/Berlin")
    assert (not windows.closed) == is_open
    assert windows.until > at(moment)


_TEXTS = st.sampled_from(["22-06", "2:15-3", "sat-sun 0-24", "mon 23:45-0:15", "0-24", "12-11:45"])
_ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"])


@given(_TEXTS, _ZONES, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)), st.integers(0, 9 * 24 * 60))  # noqa: DTZ001 - made UTC below
def test_nothing_changes_before_it_is_looked_again(text: str, zone: str, naive: datetime, minutes: int) -> None:
    now = naive.replace(tzinfo=UTC)
    windows = look({"work": (text,)}, now, zone)
    later = min(now + timedelta(minutes=minutes), windows.until - timedelta(microseconds=1))
    assert look({"work": (text,)}, later, zone).closed.keys() == windows.closed.keys()
    opens = windows.closed.get(WORK)
    assert opens is None or not look({"work": (text,)}, opens, zone).closed


@given(_TEXTS, _ZONES, st.lists(st.integers(1, 2000), min_size=3, max_size=20))
def test_never_does_one_start_outside(text: str, zone: str, waits: list[int]) -> None:
    core = Core(slots=40, max_concurrent=40, windows={"work": (text,)}, windows_timezone=zone)
    for minutes in waits:
        core.create()
        core.wait(minutes * 60)
        wake = core.state.next_wake()
        if wake is not None and wake <= core.now:
            core.tell(Tick())
    window = window_of(text)
    for record in core.log.read():
        if isinstance(record.event, Started):
            shown = record.recorded_at.astimezone(ZoneInfo(zone))
            assert window.holds(shown.weekday(), shown.hour * 60 + shown.minute)
