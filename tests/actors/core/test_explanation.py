"""The answers of `why`: the numbers, the evidence and the commands of each reason, and who is ahead."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core import dispatch, explanation
from tasktrail.actors.core.dependencies import retries
from tasktrail.actors.core.explanation import Obstacle, WaitReason, Why, explain
from tasktrail.actors.core.messages import Tick
from tasktrail.actors.core.queue import ReadyQueue
from tasktrail.events import AdjustTask, RetryTask, StartTask
from tasktrail.events.commands import PauseQueue, SetLimits


def reasons_of(core: Core, task_id: int) -> dict[WaitReason, Obstacle]:
    return {one.reason: one for one in core.why(task_id).reasons}


def test_a_task_that_runs_or_is_unknown_has_nothing_to_explain(core: Core) -> None:
    task_id = core.create()
    assert core.why(task_id) == Why(task_id=task_id, status="running", waiting=False, position=core.state.position)
    core.end(task_id)
    assert explain(core.state, task_id, core.now) is None
    assert explain(core.state, 99, core.now) is None


def test_a_retry_names_the_seconds_that_are_left(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=60)
    core.end(task_id, "failed", error="timeout")
    core.wait(20)
    found = reasons_of(core, task_id)
    assert found.keys() == {WaitReason.RETRY_DELAY}
    assert found[WaitReason.RETRY_DELAY].numbers == {"seconds": 40.0}
    assert found[WaitReason.RETRY_DELAY].commands == (StartTask(task_id=task_id),)
    core.wait(40)
    core.tell(Tick())
    assert core.running() == [task_id]


def test_a_retried_task_waits_for_the_end_of_its_own_old_attempt_and_for_nothing_that_it_holds_itself(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(slots=1, max_memory=10, max_per_type=1)
    task_id = core.create(memory=10, max_retries=1, retry_delay=0)
    core.cancel(task_id)
    core.retry(task_id)
    found = reasons_of(core, task_id)
    assert found.keys() == {WaitReason.STOPPING}
    assert found[WaitReason.STOPPING].evidence == (core.state.running[task_id].started_position,)
    core.end(task_id, "stopped")
    assert core.running() == [task_id]


def test_a_limit_names_who_holds_it_and_where_both_are_recorded(make_core: Callable[..., Core]) -> None:
    core = make_core(slots=4)
    core.send(SetLimits(types={"work": 1}))
    changed = core.state.position
    holder = core.create()
    started = core.state.position
    reason = reasons_of(core, core.create())[WaitReason.TYPE_LIMIT]
    assert reason.detail == "1 attempt of type work runs, 1 may"
    assert (reason.evidence, reason.tasks) == ((started, changed), (holder,))
    assert reason.numbers == {"running": 1, "limit": 1}
    assert reason.commands == (SetLimits(types={"work": 2}),)


def test_memory_names_its_holders_and_where_the_limit_was_set_and_what_never_fits_is_told(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(slots=4)
    core.send(SetLimits(max_memory=10))
    changed = core.state.position
    core.create(memory=6)
    started = core.state.position
    waits = core.create(memory=8)
    assert reasons_of(core, waits)[WaitReason.MEMORY].evidence == (started, changed)
    assert reasons_of(core, waits)[WaitReason.MEMORY].commands == (SetLimits(max_memory=14),)
    assert core.why(waits).remark == ""
    assert core.why(core.create(memory=11)).remark == explanation.NEVER_FITS


def test_more_slots_are_asked_for_only_where_a_worker_is_free(make_core: Callable[..., Core]) -> None:
    for slots, lifts in ((1, ()), (2, (SetLimits(max_concurrent=2),))):
        core = make_core(slots=slots, max_concurrent=1)
        core.create()
        assert reasons_of(core, core.create())[WaitReason.CONCURRENCY_LIMIT].commands == lifts


@pytest.mark.parametrize(
    ("slots", "most", "lifts"),
    [
        (1, 4, "more workers (`workers` of the configuration)"),
        (4, 1, "a higher max_concurrent"),
        (1, 1, "more workers (`workers` of the configuration) and a higher max_concurrent"),
    ],
)
def test_what_gives_another_slot_is_what_is_lacking(
    make_core: Callable[..., Core], slots: int, most: int, lifts: str
) -> None:
    core = make_core(slots=slots, max_concurrent=most)
    core.create()
    found = reasons_of(core, core.create())[WaitReason.CONCURRENCY_LIMIT]
    assert found.lifts == f"the end of an attempt, or {lifts}"


@pytest.mark.parametrize(
    ("left", "words"), [(45, "45 s"), (7000, "117 min"), (7200, "2 h"), (3_600_000, "42 d"), (0.4, "0 s")]
)
def test_a_time_to_come_is_told_for_people(core: Core, left: float, words: str) -> None:
    at = core.now + timedelta(seconds=left)
    found = reasons_of(core, core.create(scheduled_for=at))[WaitReason.NOT_BEFORE]
    assert found.detail == f"not before {at:%Y-%m-%d %H:%M:%S}Z, in {words}"
    assert found.commands == (StartTask(task_id=1),)


def test_the_time_of_a_task_that_also_waits_for_something_else_is_changed_since_it_cannot_be_started(
    core: Core,
) -> None:
    core.send(PauseQueue(type="work"))
    task_id = core.create(scheduled_for=core.now + timedelta(seconds=60))
    found = reasons_of(core, task_id)
    assert found.keys() == {WaitReason.NOT_BEFORE, WaitReason.PAUSED}
    assert found[WaitReason.NOT_BEFORE].commands == (AdjustTask(task_id=task_id, scheduled_for=core.now),)


def test_a_failed_dependency_is_to_be_retried_by_force_where_none_are_left(core: Core) -> None:
    spent, fresh = core.create(), core.create(max_retries=1)
    core.cancel(fresh)
    core.end(spent, "failed", error="broken")
    waiting = core.create(depends_on=(spent, fresh), on_dependency_failure="wait")
    failed = reasons_of(core, waiting)[WaitReason.DEPENDENCY_FAILED]
    assert retries(failed.tasks, core.read) == (RetryTask(task_id=spent, force=True), RetryTask(task_id=fresh))


def test_what_would_end_a_failed_dependency_again_is_to_be_retried_before_it(core: Core) -> None:
    """A retry is refused while a dependency would end the task again: the commands are accepted one after the other."""
    root = core.create(held=True)
    met = core.create(depends_on=(root,), on_dependency_failure="ignore")
    left, right = (core.create(depends_on=(root, met), on_dependency_failure="fail") for _ in range(2))
    last = core.create(depends_on=(left, right), on_dependency_failure="cancel")
    waiting = core.create(depends_on=(last,), on_dependency_failure="wait")
    core.cancel(root)
    commands = retries(reasons_of(core, waiting)[WaitReason.DEPENDENCY_FAILED].tasks, core.read)
    assert [command.task_id for command in commands] == [root, left, right, last]
    for command in commands:
        core.send(command)
    assert WaitReason.DEPENDENCY_FAILED not in reasons_of(core, waiting)
    assert WaitReason.DEPENDENCY in reasons_of(core, waiting)


def test_a_pause_names_who_why_and_where(core: Core) -> None:
    core.send(PauseQueue(user_id=3, actor="ops", reason="unpaid"))
    reason = reasons_of(core, core.create(user_id=3))[WaitReason.PAUSED]
    assert reason.detail == "user 3 is paused by ops: unpaid"
    assert reason.evidence == (core.state.position - 1,)


def test_a_task_kept_room_for_is_named(make_core: Callable[..., Core]) -> None:
    core = make_core(slots=2, max_memory=10)
    core.create(memory=6)
    big = core.create(memory=8, priority=5)
    for _ in range(32):
        core.end(core.create(memory=1))
    small = core.create(memory=1)
    found = reasons_of(core, small)
    assert found.keys() == {WaitReason.HIGHER_PRIORITY}
    assert found[WaitReason.HIGHER_PRIORITY].tasks == (big,)


def test_only_those_are_named_that_it_takes_to_keep_the_task_waiting(make_core: Callable[..., Core]) -> None:
    """Others start in the same look, too, before and after the one that takes the user's last place."""
    core = make_core(slots=4, max_per_user=1)
    core.send(PauseQueue())
    core.create(user_id=1, priority=2)
    rival = core.create(user_id=2, priority=1)
    task_id = core.create(user_id=2)
    core.create(user_id=3)
    assert reasons_of(core, task_id)[WaitReason.HIGHER_PRIORITY].tasks == (rival,)


def test_what_is_ahead_is_named_with_its_terms_and_counted(core: Core) -> None:
    core.create()
    core.create(priority=10)
    better = [core.create(priority=5, user_level=1) for _ in range(12)]
    core.wait(60)
    why = core.why(core.create())
    assert why.place == 14
    assert [one.task_id for one in why.ahead] == better[:10]
    assert (why.ahead[0].effective_priority, why.ahead[0].terms.user, why.ahead[0].terms.wait) == (16.0, 10, 1.0)


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize("users", [1, 2000])
def test_a_long_queue_is_not_looked_at_as_a_whole(
    make_core: Callable[..., Core], monkeypatch: pytest.MonkeyPatch, slots: int, users: int, *, fair: bool
) -> None:
    """Whatever limits its tasks have: the Scheduler decides nothing else meanwhile."""
    core = make_core(slots=slots, fair_share=fair, types={"other": 1}, grace={"work": 0.5, "other": 0.5})
    kinds = ("work", "other")
    ids = [core.create(type=kinds[number % 2], user_id=number % users, label=str(number)) for number in range(2000)]
    asked: Counter[str] = Counter()
    for place, name in ((dispatch, "is_full"), (ReadyQueue, "_queue_of"), (ReadyQueue, "_ordered")):
        monkeypatch.setattr(place, name, counted(asked, name, getattr(place, name)))
    for task_id in (ids[2], ids[1001], ids[-1]):
        asked.clear()
        found = explanation.explain(core.state, task_id, core.now)
        assert asked.total() < 200, asked
        assert found
        assert (found().place or 0) > ids.index(task_id) - 2


def counted(asked: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        asked[name] += 1
        return function(*args, **kwargs)

    return call


def test_without_a_service_only_what_the_log_tells_is_said(core: Core) -> None:
    core.create()
    core.send(PauseQueue())
    task_id = core.create(depends_on=(1,))
    why = core.why(task_id, live=False)
    assert {one.reason for one in why.reasons} == {WaitReason.PAUSED, WaitReason.DEPENDENCY}
    assert not why.live
    assert "No service runs" in why.remark
