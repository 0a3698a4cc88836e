"""Answers about an earlier time are what the Scheduler would have said then, as far as the log shows it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from core_harness import Core
from hypothesis import assume, given, settings
from why_worlds import Scenario, scenarios

from tasktrail.actors.core.board import limits_board, queue_board
from tasktrail.actors.core.explanation import Obstacle, WaitReason, explain_past
from tasktrail.actors.core.state import SchedulerState
from tasktrail.api.source import folded_state
from tasktrail.events.commands import PauseQueue, SetLimits

OF_THE_LOG = {
    WaitReason.HELD,
    WaitReason.NOT_BEFORE,
    WaitReason.RETRY_DELAY,
    WaitReason.PAUSED,
    WaitReason.DEPENDENCY,
    WaitReason.DEPENDENCY_FAILED,
    WaitReason.TYPE_LIMIT,
    WaitReason.USER_LIMIT,
    WaitReason.LABEL_LIMIT,
    WaitReason.RATE_LIMIT,
    WaitReason.WINDOW,
}


def then(core: Core) -> SchedulerState:
    return folded_state(core.log.read(), core.state.configured, core.now)


def told(reasons: tuple[Obstacle, ...]) -> set[tuple[object, ...]]:
    """Return the reasons that need no machine, without the possible actions."""
    return {
        (one.reason, one.detail, one.lifts, one.evidence, one.tasks)
        for one in reasons
        if one.reason in OF_THE_LOG or "of max_memory" in one.detail or "of max_temp_size" in one.detail
    }


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(scenarios)
def test_the_log_tells_what_the_scheduler_knew(one: Scenario) -> None:
    core, _task_id = one.build()
    live, state = core.state, then(core)
    # The log does not record that a process is being stopped.
    assume(not any(entry.stopping or live.tasks[entry.task_id].waiting for entry in live.running.values()))
    board = queue_board(state, core.now, 100, live=False)
    now = queue_board(live, core.now, 100)
    assert {entry.task_id: entry for entry in board.running} == {entry.task_id: entry for entry in now.running}
    assert (state.reserved.memory, state.reserved.temp) == (live.reserved.memory, live.reserved.temp)
    assert (board.pauses, board.blocked) == (now.pauses, now.blocked)
    assert limits_board(state) == limits_board(live)
    for task_id, task in live.tasks.items():
        if task.waiting:
            why = explain_past(state, task_id, core.now)
            assert why is not None
            assert told(why.reasons) == told(core.why(task_id).reasons)
            assert not any(reason.commands for reason in why.reasons)
    if not live.set_aside and not live.parked.counts["NoHandler"]:
        assert [(entry.task_id, entry.terms) for entry in board.entries] == [
            (entry.task_id, entry.terms) for entry in now.entries
        ]


def test_all_that_ran_and_held_the_task_then_is_told_and_nothing_that_came_later(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(slots=2, max_concurrent=2)
    running = [core.create(memory=3), core.create(memory=4)]
    paused = core.send(PauseQueue(type="work", actor="anna", reason="new licence")).position
    waiting = core.create()
    later = core.create(scheduled_for=core.now + timedelta(hours=1))
    state, moment = then(core), core.now
    core.wait(60)
    core.send(SetLimits(max_concurrent=8))
    core.cancel(waiting)
    why = explain_past(state, waiting, moment)
    assert why is not None
    assert [(one.reason, one.evidence[-1]) for one in why.reasons] == [
        (WaitReason.PAUSED, paused),
        (WaitReason.CONCURRENCY_LIMIT, state.running[running[1]].started_position),
    ]
    assert "not recorded" in why.remark
    assert (why.live, why.place) == (False, 1)
    later_why = explain_past(state, later, moment)
    assert later_why is not None
    assert WaitReason.NOT_BEFORE in [one.reason for one in later_why.reasons]
    board = queue_board(state, moment, 10, live=False)
    assert (board.at, board.resources.reserved_memory, [one.task_id for one in board.running]) == (moment, 7, running)
    ran = explain_past(state, running[0], moment)
    assert ran is not None
    assert (ran.status, ran.waiting) == ("running", False)
    assert explain_past(state, 99, moment) is None
