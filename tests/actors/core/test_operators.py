"""Operators pause, resume, drain and adjust; each is recorded with actor and reason, and holds over a restart."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Sampled, Tick
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events import AdjustTask, Created, TasktrailError
from tasktrail.events.commands import DrainQueue, PauseQueue, ResumeQueue
from tasktrail.events.errors import CannotStartNow, IllegalTransition, InvalidValue, NothingToChange, UnknownTask
from tasktrail.events.system_events import Adjusted, QueueDrained, QueuePaused, QueueResumed

MakeCore = Callable[..., Core]
TWO_TYPES = {"work": 0.5, "other": 0.5}


def test_a_pause_starts_nothing_more_and_lets_run_what_runs(make_core: MakeCore) -> None:
    core = make_core(slots=2)
    first = core.create()
    core.send(PauseQueue(actor="ops", reason="maintenance"))
    (fact,) = core.facts
    assert (fact.task_id, fact.event, fact.actor, fact.reason) == (0, QueuePaused(), "ops", "maintenance")
    second = core.create()
    assert core.running() == [first]
    core.end(first)
    assert core.running() == []
    assert isinstance(core.start(second), CannotStartNow)
    core.send(ResumeQueue())
    assert core.running() == [second]


def test_a_pause_holds_over_a_restart(core: Core) -> None:
    core.send(PauseQueue())
    waiting = core.create()
    again = core.again()
    assert again.running() == []
    again.send(ResumeQueue())
    assert again.running() == [waiting]
    assert again.again().state.durable.pauses.all() == ()


@pytest.mark.parametrize("pause", [PauseQueue(type="work"), PauseQueue(user_id=7)])
def test_a_pause_of_a_type_or_a_user_holds_only_those(make_core: MakeCore, pause: PauseQueue) -> None:
    core = make_core(slots=4, grace=TWO_TYPES)
    core.send(pause)
    held = core.create(type="work", user_id=7)
    other = core.create(type="other", user_id=8)
    assert core.running() == [other]
    again = core.again(slots=4, grace=TWO_TYPES)
    assert held not in again.running()
    again.send(ResumeQueue(type=pause.type, user_id=pause.user_id))
    assert held in again.running()


@pytest.mark.parametrize("command", [ResumeQueue(), ResumeQueue(type="work"), PauseQueue(type="a", user_id=1)])
def test_what_changes_nothing_is_refused(core: Core, command: PauseQueue | ResumeQueue) -> None:
    assert isinstance(core.ask(command), NothingToChange)
    assert core.facts == []


def test_a_second_pause_of_the_same_scope_is_refused_and_of_another_is_not(core: Core) -> None:
    core.send(PauseQueue())
    assert isinstance(core.ask(PauseQueue()), NothingToChange)
    core.send(PauseQueue(type="work"))
    assert [(pause.type, pause.user_id) for pause in core.state.durable.pauses.all()] == [(None, None), ("work", None)]


def test_a_drain_is_over_when_the_last_attempt_has_ended_and_says_so_once(make_core: MakeCore) -> None:
    core = make_core(slots=2)
    one, two = core.create(), core.create()
    core.send(DrainQueue(actor="ops"))
    assert [fact.event for fact in core.facts] == [QueuePaused(drain=True)]
    assert QueueDrained() not in core.end(one)
    waiting = core.create()
    assert QueueDrained() in core.end(two)
    assert core.tell(Tick()) == []
    assert waiting not in core.running()
    again = core.again()
    assert [fact.event for fact in again.facts] == [], "it is not recorded again after a restart"
    again.send(ResumeQueue())
    assert again.running() == [waiting]


def test_a_drain_of_an_idle_queue_is_over_at_once(core: Core) -> None:
    core.send(DrainQueue())
    assert [fact.event for fact in core.facts] == [QueuePaused(drain=True), QueueDrained()]


def test_a_paused_queue_can_still_be_drained_and_a_drained_one_is_paused_already(core: Core) -> None:
    core.send(PauseQueue())
    core.send(DrainQueue())
    assert isinstance(core.ask(PauseQueue()), NothingToChange)
    assert isinstance(core.ask(DrainQueue()), NothingToChange)
    core.send(ResumeQueue())
    assert core.facts[0].event == QueueResumed()


def test_a_waiting_tasks_priority_can_be_changed(core: Core) -> None:
    core.create()
    first, second = core.create(), core.create()
    core.send(AdjustTask(task_id=second, priority=5, actor="ops", reason="urgent"))
    (fact,) = core.facts
    assert (fact.task_id, fact.event) == (0, Adjusted(task_id=second, priority=5))
    assert (fact.actor, fact.reason) == ("ops", "urgent")
    core.end(1)
    assert core.running() == [second]
    assert first in core.state.queue


def test_an_adjustment_holds_over_a_restart(core: Core) -> None:
    core.create()
    core.create()
    better = core.create()
    core.send(AdjustTask(task_id=better, priority=9))
    again = core.again()
    assert again.state.tasks[better].priority == 9
    assert again.running() == [better]


def test_an_adjustment_is_not_forgotten_when_the_task_has_ended_and_is_retried(core: Core) -> None:
    core.create()
    adjusted = core.create(max_retries=1)
    core.send(AdjustTask(task_id=adjusted, priority=9))
    core.cancel(adjusted)
    assert adjusted not in core.state.tasks
    core.retry(adjusted)
    assert core.state.tasks[adjusted].priority == 9
    assert core.again().state.tasks[adjusted].priority == 9


def test_where_an_ended_task_was_adjusted_is_forgotten_before_a_restart_as_after_it(core: Core) -> None:
    core.create()
    task_id = core.create()
    core.send(AdjustTask(task_id=task_id, priority=9))
    core.cancel(task_id)
    core.retry(task_id, force=True)
    assert core.state.durable.adjusted_at == core.again().state.durable.adjusted_at == {}


def test_a_waiting_task_can_be_put_off_and_called_back(core: Core) -> None:
    core.create()
    put_off = core.create()
    core.send(AdjustTask(task_id=put_off, scheduled_for=core.now + timedelta(hours=1)))
    core.end(1)
    assert core.running() == []
    core.wait(3600)
    core.tell(Tick())
    assert core.running() == [put_off]


def test_a_waiting_task_can_be_held_and_released(core: Core) -> None:
    core.create()
    held = core.create()
    core.send(AdjustTask(task_id=held, held=True))
    core.end(1)
    assert core.running() == []
    core.send(AdjustTask(task_id=held, held=False))
    assert core.running() == [held]


def test_a_time_does_not_bind_a_task_that_has_started_before(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=60)
    core.end(task_id, "failed", error="timeout")
    answer = core.ask(AdjustTask(task_id=task_id, scheduled_for=core.now + timedelta(hours=1)))
    assert isinstance(answer, IllegalTransition)
    core.send(AdjustTask(task_id=task_id, held=True))
    core.wait(60)
    core.tell(Tick())
    assert core.running() == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (AdjustTask(task_id=1, priority=3), IllegalTransition),
        (AdjustTask(task_id=2), InvalidValue),
        (AdjustTask(task_id=9, priority=3), UnknownTask),
    ],
)
def test_what_cannot_be_adjusted_is_refused(core: Core, command: AdjustTask, error: type[TasktrailError]) -> None:
    core.create()
    core.create()
    assert isinstance(core.ask(command), error)
    assert core.facts == []


def test_an_adjustment_that_changes_nothing_is_refused(core: Core) -> None:
    core.create()
    task_id = core.create(priority=5)
    for change in ({"priority": 5}, {"held": False}, {"priority": 5, "held": False}):
        assert isinstance(core.ask(AdjustTask(task_id=task_id, **change)), NothingToChange)
        assert core.facts == []
    core.send(AdjustTask(task_id=task_id, priority=5, held=True))
    assert isinstance(core.ask(AdjustTask(task_id=task_id, held=True)), NothingToChange)


def test_a_time_behind_the_deadline_is_refused_as_when_the_task_is_created(core: Core) -> None:
    """A deadline is about the first start, so it does not apply to a further life."""
    soon, later = core.now + timedelta(seconds=4), core.now + timedelta(seconds=60)
    task_id = core.create(held=True, deadline=soon)
    put_off = AdjustTask(task_id=task_id, held=False, scheduled_for=later)
    answer = core.ask(put_off)
    assert isinstance(answer, InvalidValue)
    assert answer.field == "scheduled_for"
    core.send(AdjustTask(task_id=task_id, scheduled_for=soon))
    core.cancel(task_id)
    core.retry(task_id, force=True)
    core.send(AdjustTask(task_id=task_id, scheduled_for=later))


def test_started_records_what_its_priority_was_made_of(core: Core) -> None:
    core.create()
    task_id = core.create(priority=4, user_level=2, estimated_time=4000.0)
    core.wait(90)
    started = core.end(1)[-1]
    assert not isinstance(started, Created)
    assert started.terms.base == 4  # type: ignore[union-attr]  # the last event is `Started`
    assert started.terms == type(started.terms)(base=4, user=20, wait=1.5, duration=-20)  # type: ignore[union-attr]
    assert started.effective_priority == started.terms.total == 5.5  # type: ignore[union-attr]
    assert core.running() == [task_id]


def test_a_low_disk_keeps_everything_waiting_until_the_high_mark_and_burns_no_attempt(make_core: MakeCore) -> None:
    core = make_core(slots=2, temp_low=100, temp_high=200)
    core.tell(Sampled(MachineSample(temp_free=99)))
    task_id = core.create()
    for free in (99, 150, 199):
        core.tell(Sampled(MachineSample(temp_free=free)))
        assert core.running() == []
    core.tell(Sampled(MachineSample(temp_free=200)))
    assert core.running() == [task_id]
    assert (core.state.tasks[task_id].attempt, core.state.tasks[task_id].retry_count) == (1, 0)
    core.tell(Sampled(MachineSample(temp_free=150)))
    other = core.create()
    assert core.running() == [task_id, other], "between the marks nothing changes"


def test_a_low_disk_says_so_when_a_task_is_to_start_now(make_core: MakeCore) -> None:
    core = make_core(temp_low=100, temp_high=200)
    core.tell(Sampled(MachineSample(temp_free=50)))
    answer = core.start(core.create())
    assert isinstance(answer, CannotStartNow)
    assert "TempSpace: temp space has run low: 50 bytes are free, and nothing starts until there are 200" in str(answer)
