"""Limits in all, by type, user or label: enforced, changed while running, recorded, and kept over a restart."""

from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core.board import queue_board
from tasktrail.actors.core.limits import UNLIMITED, Limits
from tasktrail.actors.core.messages import LimitsConfigured as Configured
from tasktrail.actors.core.step import resume_from_log
from tasktrail.events import CreateTask
from tasktrail.events.commands import PauseQueue, SetLimits
from tasktrail.events.errors import CannotStartNow, NothingToChange
from tasktrail.events.reports import CapacityChanged
from tasktrail.events.system_events import LimitsChanged

MakeCore = Callable[..., Core]
TWO_TYPES = {"work": 0.5, "other": 0.5}


def setting(**fields: Any) -> SetLimits:
    return SetLimits(actor="ops", reason="test", **fields)


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        ({"types": {"work": 2}}, {}),
        ({"max_per_type": 2}, {}),
        ({"users": {"7": 2}}, {"user_id": 7}),
        ({"max_per_user": 2}, {"user_id": 7}),
        ({"labels": {"night": 2}}, {"label": "night"}),
        ({"max_per_label": 2}, {"label": "night"}),
    ],
)
def test_a_limit_holds_and_those_behind_it_pass(
    make_core: MakeCore, limits: dict[str, Any], fields: dict[str, Any]
) -> None:
    core = make_core(slots=8, grace=TWO_TYPES, **limits)
    same = [core.create(**fields) for _ in range(4)]
    apart = core.create(type="other", user_id=8, label="day")
    assert core.running() == [*same[:2], apart]
    core.end(same[0])
    assert core.running() == [same[1], apart, same[2]]


def test_a_number_of_its_own_goes_before_the_general_one(make_core: MakeCore) -> None:
    core = make_core(slots=8, max_per_user=1, users={"7": 2})
    for user in (7, 7, 7, 8, 8):
        core.create(user_id=user)
    assert [core.state.tasks[one].spec.user_id for one in core.running()] == [7, 7, 8]


def test_tasks_without_a_label_are_in_no_group(make_core: MakeCore) -> None:
    core = make_core(slots=8, max_per_label=1)
    assert [core.create() for _ in range(3)] == core.running()


def test_a_change_is_recorded_with_who_and_why_and_holds_at_once(make_core: MakeCore) -> None:
    core = make_core(slots=8)
    core.send(setting(types={"work": 1}))
    (fact,) = core.facts
    assert fact.event == LimitsChanged(types={"work": 1})
    assert (fact.task_id, fact.actor, fact.reason) == (0, "ops", "test")
    one, two = core.create(), core.create()
    assert core.running() == [one]
    core.send(setting(types={"work": None}))
    assert core.running() == [one, two]


def test_changes_add_up_and_hold_over_a_restart(make_core: MakeCore) -> None:
    core = make_core(max_concurrent=8, max_memory=100)
    core.send(setting(max_concurrent=2, users={"7": 1}))
    core.send(setting(max_memory=0, users={"8": 3}))
    limits = core.again(max_concurrent=8, max_memory=100).state.limits
    assert limits == core.state.limits
    assert (limits.max_concurrent, limits.max_memory, limits.users) == (2, UNLIMITED, {"7": 1, "8": 3})


def test_a_reset_brings_the_configuration_back(make_core: MakeCore) -> None:
    core = make_core(max_concurrent=8)
    configured = core.state.limits
    core.send(setting(max_concurrent=2, fair_share=True))
    core.send(setting(reset=True))
    assert core.state.limits == configured
    assert core.again(max_concurrent=8).state.limits == configured


def test_another_configuration_keeps_the_changes_on_top(core: Core) -> None:
    core.send(setting(max_concurrent=2))
    core.tell(Configured(Limits(max_concurrent=5, max_memory=9)))
    assert (core.state.limits.max_concurrent, core.state.limits.max_memory) == (2, 9)


def test_a_command_that_changes_nothing_is_refused(core: Core) -> None:
    assert isinstance(core.ask(setting()), NothingToChange)
    assert isinstance(core.ask(setting(reset=True)), NothingToChange)
    assert core.facts == []
    core.send(setting(max_concurrent=2, users={"7": 1}))
    assert len(core.facts) == 1
    assert isinstance(core.ask(setting(max_concurrent=2, users={"7": 1})), NothingToChange)
    assert isinstance(core.ask(setting(reset=True, max_concurrent=2, users={"7": 1})), NothingToChange)
    assert core.facts == []


def test_starting_by_hand_does_not_break_a_limit(make_core: MakeCore) -> None:
    core = make_core(slots=8, types={"work": 1})
    core.create()
    answer = core.start(core.create())
    assert isinstance(answer, CannotStartNow)
    assert "TypeLimit: 1 attempt of type work runs, 1 may" in str(answer)


def test_a_slot_freed_by_a_crash_is_free_behind_every_gate(make_core: MakeCore) -> None:
    core = make_core(slots=8, max_per_type=1, max_per_user=1, max_per_label=1)
    first = core.create(user_id=1, label="x")
    second = core.create(user_id=1, label="x")
    core.end(first, "lost")
    assert core.running() == [first]
    core.cancel(first)
    core.end(first, "stopped")
    assert core.running() == [second]
    assert core.state.running_counts.counts.total() == 3


def test_open_attempts_count_after_a_failed_commit(make_core: MakeCore) -> None:
    """The state is folded anew while the executor continues: its attempts still hold their places."""
    core = make_core(slots=8, max_per_type=1)
    core.create()
    core.create()
    old = core.state
    fresh = type(old)(old.configured, grace=old.grace)
    for record in core.log.read():
        fresh.apply(record, record.position)
    fresh.workers.slots = 8
    assert resume_from_log(fresh, dict(old.running), core.now).facts == []
    assert fresh.running_counts == old.running_counts


def test_with_fair_share_the_user_with_the_least_running_goes_first(make_core: MakeCore) -> None:
    core = make_core(slots=1, max_concurrent=8, fair_share=True)
    greedy = [core.create(user_id=1, priority=10) for _ in range(4)]
    modest = core.create(user_id=2)
    core.tell(CapacityChanged(3))
    assert core.running() == [greedy[0], modest, greedy[1]]


def test_with_fair_share_and_one_slot_users_take_turns(make_core: MakeCore) -> None:
    core = make_core(slots=1, fair_share=True)
    greedy = [core.create(user_id=1, priority=10) for _ in range(3)]
    modest = [core.create(user_id=2) for _ in range(2)]
    third = core.create(user_id=3, priority=5)
    order = []
    while running := core.running():
        order += running
        core.end(running[0])
    assert order == [greedy[0], third, modest[0], greedy[1], modest[1], greedy[2]]


def test_a_seeds_create_without_a_label_still_reads() -> None:
    assert CreateTask(type="work").label == ""


def test_the_queue_says_whether_a_limit_or_a_pause_holds_a_task_back(make_core: MakeCore) -> None:
    core = make_core(slots=4, types={"work": 1}, grace=TWO_TYPES)
    core.create()
    core.send(PauseQueue(user_id=7))
    core.create()
    core.create(type="other", user_id=7)
    shut = {one.type: one.shut_by for one in queue_board(core.state, core.now, 10).entries}
    assert shut == {"work": ("limit of type work",), "other": ("pause of user 7",)}
