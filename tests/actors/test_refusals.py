"""Refused commands: recorded with sender and reason, at a cost that the refused sender cannot choose."""

from collections import Counter

import pytest

from tasktrail.actors.core.messages import Refusal
from tasktrail.actors.refusals import A_MINUTE, ACTORS_COUNTED, OF_ONE, WAITS_FOR_COMMIT, Refusals
from tasktrail.events.errors import DiskFailed, IllegalTransition, InvalidOptions, TasktrailError, UnknownTask
from tasktrail.events.system_events import CommandRefused


class SteadyClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> SteadyClock:
    return SteadyClock()


@pytest.fixture
def refusals(clock: SteadyClock) -> Refusals:
    return Refusals(clock)  # type: ignore[arg-type]  # only this is asked of it


def test_a_refusal_says_who_what_and_why_in_fixed_words(refusals: Refusals) -> None:
    secret = "https://user:hunter2@example.org/hook"
    refusals.note("anna", "cancel_task", IllegalTransition(f"Task 7 is over; {secret}", field=secret), 7)
    (refusal,) = refusals.take()
    event = CommandRefused(command="cancel_task", code="illegal_transition", named_task=7)
    assert refusal == Refusal("anna", event, "The task's state does not allow this")
    assert "hunter2" not in repr(refusal)


def test_it_rides_with_the_next_commit_and_waits_for_one_only_so_long(refusals: Refusals, clock: SteadyClock) -> None:
    assert not refusals.is_due(rides=True)
    refusals.note("anna", "cancel_task", UnknownTask("no task 7"), 7)
    assert refusals.is_due(rides=True)
    assert not refusals.is_due(rides=False)
    clock.at += WAITS_FOR_COMMIT
    assert refusals.is_due(rides=False)
    assert len(refusals.take()) == 1
    assert not refusals.is_due(rides=True)


def test_alike_ones_of_one_commit_are_one(refusals: Refusals) -> None:
    for _ in range(1000):
        refusals.note("anna", "create_task", InvalidOptions("no such option"))
    (refusal,) = refusals.take()
    assert refusal.event.times == 1000


def flood(refusals: Refusals, actors: list[str], rounds: int) -> None:
    for number in range(rounds):
        for actor in actors:
            refusals.note(actor, "cancel_task", UnknownTask("none"), number)


def test_a_flood_is_counted_and_not_recorded(refusals: Refusals, clock: SteadyClock) -> None:
    told: list[Refusal] = []
    for _ in range(60):  # a minute with a commit each second
        flood(refusals, ["mallory"], 1000)
        told += refusals.take()
        clock.at += 1.0
    assert len(told) == OF_ONE
    assert refusals.is_due(rides=False)
    told += refusals.take()
    assert len(told) == OF_ONE + 1
    assert told[-1].actor == "mallory"
    assert (told[-1].event.command, sum(refusal.event.times for refusal in told)) == ("", 60_000)


def test_a_flood_of_one_hides_nobody_else(refusals: Refusals) -> None:
    flood(refusals, ["mallory"], 1000)
    refusals.note("anna", "cancel_task", UnknownTask("none"), 7)
    assert [refusal.event.named_task for refusal in refusals.take() if refusal.actor == "anna"] == [7]


def test_names_are_no_way_round_the_bound(refusals: Refusals, clock: SteadyClock) -> None:
    """The owner of the socket may use any name, and a new one each time."""
    told: list[Refusal] = []
    for number in range(300):
        flood(refusals, [f"name-{number}-{one}" for one in range(20)], 1)
        told += refusals.take()
        clock.at += 1.0
    told += refusals.take(last=True)
    minutes = 5
    assert len(told) <= (minutes + 1) * (A_MINUTE + ACTORS_COUNTED + 1)
    assert sum(refusal.event.times for refusal in told) == 6000


@pytest.mark.parametrize("name", ["x" * 100_000, "a\x1b[2Jb\n", "\x00", 5, [1], pytest.param(2**20_000, id="huge")])
def test_whatever_stands_for_an_actor_is_made_a_name(refusals: Refusals, name: object) -> None:
    refusals.note(name, "cancel_task", UnknownTask("none"))
    (refusal,) = refusals.take()
    assert len(refusal.actor) <= 100
    assert refusal.actor.isprintable()


@pytest.mark.parametrize("task_id", [2**70, 0, -1, True, 1.5, "abc", [7]])
def test_what_cannot_be_the_number_of_a_task_is_not_kept(refusals: Refusals, task_id: object) -> None:
    refusals.note("anna", "cancel_task", UnknownTask("none"), task_id)
    (refusal,) = refusals.take()
    assert refusal.event.named_task is None


@pytest.mark.parametrize("error", [DiskFailed("broken"), TasktrailError("a fault of ours")])
def test_what_the_service_is_to_blame_for_is_no_refusal(refusals: Refusals, error: TasktrailError) -> None:
    refusals.note("anna", "cancel_task", error)
    assert refusals.take(last=True) == ()


def test_the_end_of_a_service_takes_all(refusals: Refusals) -> None:
    flood(refusals, ["mallory", "eve"], 100)
    told = refusals.take(last=True)
    assert Counter(refusal.actor for refusal in told) == {"mallory": OF_ONE + 1, "eve": OF_ONE + 1}
    assert sum(refusal.event.times for refusal in told) == 200
    assert refusals.take(last=True) == ()
