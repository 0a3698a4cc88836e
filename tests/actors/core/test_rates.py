"""Rates: never more starts in any window than allowed, over restarts, changed rates and jumps of the clock."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.board import limits_board, queue_board
from tasktrail.actors.core.explanation import WaitReason
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import LimitsConfigured, Tick
from tasktrail.actors.core.rates import key_named, rate_name, rate_of
from tasktrail.events import Started
from tasktrail.events.commands import SetLimits
from tasktrail.events.errors import CannotStartNow, UnusableOrder
from tasktrail.events.reports import CapacityChanged
from tasktrail.events.system_events import RatesConfigured

MINUTE = timedelta(seconds=60)


def limited(**rates: str) -> Core:
    """Make a core with many slots; `work="2/m"` is a rate of that type."""
    return Core(slots=50, max_concurrent=50, rates={f"type:{name}": rate for name, rate in rates.items()})


def tick(core: Core, seconds: float) -> list[tuple[int, int]]:
    core.wait(seconds)
    core.tell(Tick())
    return core.runs()


def test_what_a_rate_says() -> None:
    assert rate_of("10/m") == (10, MINUTE)
    assert rate_of("3/15m") == (3, 15 * MINUTE)
    assert rate_of("1/s").period.total_seconds() == 1
    assert rate_of("100/2h").period == timedelta(hours=2)
    assert rate_of("1/d").period == timedelta(days=1)
    for name in ("type:a:b", "user:7", "user:*", "label:x"):
        assert rate_name(key_named(name)) == name


@pytest.mark.parametrize(
    ("name", "rate"),
    [("batch:x", "3/m"), ("user:ada", "3/m"), ("type:x", "3 per m"), ("type:x", "3/"), ("type:x", "9/99999999999999d")],
)
def test_a_recorded_rate_that_this_version_cannot_keep_is_told_with_its_position(name: str, rate: str) -> None:
    """A newer version may know rates of more than types, users and labels; or somebody may have altered the record."""
    core = limited()
    position = core.alter(RatesConfigured(rates={name: rate}))
    with pytest.raises(UnusableOrder, match=rf"Position {position}: .*{name}={rate} .*restore"):
        core.again()


def test_the_next_one_starts_when_the_first_of_the_window_is_that_long_ago() -> None:
    core = limited(work="2/m")
    first = core.create()
    core.wait(10)
    core.create()
    waiting = [core.create() for _ in range(3)]
    assert core.running() == [first, 2]
    assert core.state.next_wake() == core.now + timedelta(seconds=50)
    assert tick(core, 49.999) == []
    assert tick(core, 0.001) == [(waiting[0], 1)]
    assert tick(core, 10) == [(waiting[1], 1)]
    assert tick(core, 49.999) == []
    assert tick(core, 0.001) == [(waiting[2], 1)]
    assert core.state.next_wake() is None, "nobody waits any more"


def test_a_place_that_becomes_free_starts_nothing_while_the_rate_is_reached() -> None:
    core = limited(work="1/m")
    core.create()
    second = core.create()
    assert core.end(1)[1:] == []
    refused = core.start(second)
    assert isinstance(refused, CannotStartNow)
    assert "1 of 1 starts in 1m of type work are used; the next may be at 2026-01-01 00:01:00Z" in refused.message


def test_retries_count_as_well() -> None:
    core = limited(work="1/m")
    core.create(max_retries=3, retry_delay=0.0)
    core.end(1, "failed", error="timeout")
    assert core.running() == []
    assert tick(core, 60) == [(1, 2)]


def test_others_start_meanwhile_whatever_their_priority() -> None:
    core = Core(slots=50, grace={"work": 0.5, "other": 0.5}, rates={"type:work": "1/m"})
    core.create(priority=9)
    held_back, other = core.create(priority=9), core.create(type="other")
    assert core.running() == [1, other]
    assert queue_board(core.state, core.now, 10).entries[0].shut_by == ("rate of type work",)
    assert held_back in core.state.queue


def test_a_star_is_each_that_has_no_rate_of_its_own() -> None:
    core = Core(slots=50, max_concurrent=50, rates={"user:*": "1/m", "user:7": "2/m", "label:x": "1/m"})
    for user in (1, 1, 7, 7, 7, 2):
        core.create(user_id=user)
    assert core.running() == [1, 3, 4, 6]
    core.create(user_id=8, label="x")
    core.create(user_id=9, label="x")
    assert core.running() == [1, 3, 4, 6, 7]


def test_why_says_how_many_have_started_and_when_the_next_may() -> None:
    core = limited(work="2/15m")
    core.create()
    core.wait(300)
    core.create()
    waiting = core.create()
    why = core.why(waiting)
    (reason,) = why.reasons
    assert reason.reason is WaitReason.RATE_LIMIT
    assert reason.detail == ("2 of 2 starts in 15m of type work are used; the next may be at 2026-01-01 00:15:00Z")
    assert reason.numbers == {"started": 2, "limit": 2, "period": 900.0, "seconds": 600.0}
    assert reason.evidence == (), "it is configured"
    assert limits_board(core.state).reached == {"type:work": core.now + timedelta(seconds=600)}
    (higher,) = reason.commands
    core.send(higher)
    assert core.running() == [1, 2, waiting]
    another = core.why(core.create())
    assert another.reasons[0].evidence == (core.state.durable.limit_changes.set_at("rates", "type:work"))


def test_a_changed_rate_goes_on_with_the_starts_that_are_known() -> None:
    core = limited(work="3/m")
    for _ in range(4):
        core.create()
    core.send(SetLimits(rates={"type:work": "1/m"}))
    assert tick(core, 59) == []
    assert tick(core, 1) == [(4, 1)]
    core.create()
    core.send(SetLimits(rates={"type:work": None}))
    assert core.runs() == [(5, 1)]
    assert core.state.durable.starts.by_name == {}


def test_the_window_goes_on_over_a_restart() -> None:
    core = limited(work="2/m")
    core.create(max_retries=9)
    core.wait(30)
    core.create(max_retries=9)
    settings: dict[str, Any] = {"slots": 50, "rates": {"type:work": "2/m"}}
    later = core.again(after=10, **settings)
    assert later.running() == []
    assert later.state.durable.starts == core.state.durable.starts
    assert tick(later, 20) == [(1, 2)]
    assert tick(later, 29.999) == []
    assert tick(later, 0.001) == [(2, 2)]


def test_configured_rates_are_recorded_once_and_when_they_change() -> None:
    def recorded(core: Core) -> list[Any]:
        return [record.event.rates for record in core.log.read() if isinstance(record.event, RatesConfigured)]

    core = Core()
    assert recorded(core) == []
    for rates in ({"type:work": "2/m"}, {"type:work": "2/m"}, {}):
        core = core.again(rates=rates)
    assert recorded(core) == [{"type:work": "2/m"}, {}]
    core.tell(LimitsConfigured(Limits(rates={"user:1": "1/s"})))
    assert recorded(core)[-1] == {"user:1": "1/s"}
    assert [rate_name(key) for key in (key_named(name) for name in core.state.rates.texts)] == ["user:1"]


@pytest.mark.parametrize("jump", [-86400.0, -7200.0, -30.0, 3600.0])
def test_time_is_what_has_passed_however_the_clock_is_set(jump: float) -> None:
    core = limited(work="1/m")
    core.create()
    core.wait(20)
    core.create()
    core.create()
    core.set_clock(jump)
    assert core.running() == [1]
    assert tick(core, 39.999) == []
    assert tick(core, 0.001) == [(2, 1)]
    assert tick(core, 59.999) == []
    later = core.again(at=core.now, slots=50, rates={"type:work": "1/m"})
    assert later.state.durable.starts == core.state.durable.starts
    assert tick(later, 0.001) == [(1, 2)], "the log's time may stand still, and the clock does not"


def test_names_that_no_rate_needs_any_more_are_forgotten() -> None:
    core = Core(slots=10, rates={"user:*": "2/s"})
    for user in range(300):
        core.wait(0.5)
        core.create(user_id=user)
        core.end(user + 1)
        assert len(core.state.durable.starts.by_name) <= 2 * 65
    assert len(core.again(rates={"user:*": "2/s"}).state.durable.starts.by_name) < 130


_RATES = st.sampled_from(["1/m", "2/m", "3/m", "5/m"])
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "end", "time", "time", "rate", "restart", "retry"]),
        st.integers(0, 60),
        st.integers(0, 1),
        _RATES,
    ),
    min_size=5,
    max_size=40,
)


@given(_RATES, _STEPS)
def test_there_are_never_more_starts_in_any_window_than_the_rate_says(
    rate: str, steps: list[tuple[str, int, int, str]]
) -> None:
    """Each start is checked against the rate of its time. Everything that fits into the rate starts at once."""
    settings: dict[str, Any] = {"slots": 30, "max_concurrent": 30, "rates": {"user:*": rate}}
    core = Core(**settings)
    held = rate_of(rate)
    starts: dict[int, list[datetime]] = {0: [], 1: []}
    for what, number, user, other in steps:
        before = core.log.head().position
        match what:
            case "create":
                core.create(user_id=user, max_retries=9, retry_delay=0.0)
            case "end" if core.running():
                core.end(core.running()[number % len(core.running())], "completed" if number % 2 else "lost")
            case "time":
                tick(core, number)
            case "rate":
                held = rate_of(other)
                core.ask(SetLimits(rates={"user:*": other}))
            case "restart":
                core = core.again(**settings, after=number)
                core.tell(CapacityChanged(30))
            case "retry":
                core.retry(number, force=True)
        for record in core.log.read(after=before):
            if isinstance(record.event, Started):
                owner = core.read(record.task_id).spec.user_id
                starts[owner].append(record.recorded_at)
                counted = [at for at in starts[owner] if at > record.recorded_at - held.period]
                assert len(counted) <= held.starts
        for owner in (0, 1):
            waits = any(core.state.tasks[task_id].spec.user_id == owner for task_id in core.state.queue)
            assert not waits or sum(at > core.now - held.period for at in starts[owner]) >= held.starts
