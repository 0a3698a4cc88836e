"""The numbers of waiting and running tasks: each waiting task counts once, under a reason that `why` names too."""

from datetime import timedelta

from core_harness import Core
from hypothesis import given
from msgspec.structs import replace
from why_worlds import Scenario, scenarios

from tasktrail.actors.core.load import load_of
from tasktrail.actors.core.messages import Drain, Sampled
from tasktrail.events import AdjustTask, StartTask
from tasktrail.events.commands import PauseQueue


def waiting(core: Core) -> dict[str, int]:
    return load_of(core.state).waiting


def test_each_reason_has_its_number() -> None:
    core = Core(slots=1, max_memory=100)
    first = core.create()
    core.create(held=True)
    core.create(scheduled_for=core.now + timedelta(hours=1))
    core.create(depends_on=(first,))
    core.create(type="unknown")
    core.create()
    core.create()
    found = load_of(core.state)
    assert found.waiting == {"Held": 1, "NotBefore": 1, "Dependency": 1, "NoHandler": 1, "ConcurrencyLimit": 2}
    assert (found.running, found.paused) == ({"work": 1}, False)
    assert (found.resources.slots, found.resources.max_concurrent) == (1, 8)


def test_what_nobody_may_start_waits_for_the_pause_and_then_for_the_stop() -> None:
    core = Core(slots=2)
    core.send(PauseQueue())
    core.create()
    assert waiting(core) == {"Paused": 1}
    assert load_of(core.state).paused
    core.tell(Drain())
    assert waiting(core) == {"ShuttingDown": 1}


def test_a_limit_is_told_from_a_pause_of_the_same_type() -> None:
    core = Core(slots=4, grace={"work": 0.5, "other": 0.5}, max_per_type=1)
    for kind in ("work", "work", "work", "other"):
        core.create(type=kind)
    assert waiting(core) == {"TypeLimit": 2}
    core.send(PauseQueue(type="work"))
    assert waiting(core) == {"Paused": 2}


def test_what_does_not_fit_now_or_ever_waits_for_memory() -> None:
    core = Core(slots=4, max_memory=10)
    core.create(memory=8)
    core.create(memory=8)
    core.create(memory=8)
    assert waiting(core) == {"Memory": 2}
    core.tell(Sampled(replace(core.state.sample, temp_free=5, temp_total=5)))
    core.create(temp=50)
    assert waiting(core) == {"Memory": 2, "TempSpace": 1}


def test_a_retry_waits_for_its_delay_and_a_cancelled_task_for_nothing() -> None:
    core = Core(slots=1)
    task_id = core.create(max_retries=3, retry_delay=60)
    core.end(task_id, "failed", error="timeout")
    assert waiting(core) == {"RetryDelay": 1}
    core.cancel(task_id)
    assert waiting(core) == {}


def test_a_released_task_is_held_no_longer() -> None:
    core = Core(slots=0)
    held, other = core.create(held=True), core.create(held=True)
    core.ask(AdjustTask(task_id=held, held=False))
    assert waiting(core) == {"Held": 1, "ConcurrencyLimit": 1}
    core.cancel(other)
    assert waiting(core) == {"ConcurrencyLimit": 1}


def test_a_task_started_by_hand_before_its_time_leaves_its_place() -> None:
    core = Core(slots=1)
    task_id = core.create(scheduled_for=core.now + timedelta(hours=1))
    core.ask(StartTask(task_id=task_id))
    assert waiting(core) == {}
    assert core.state.running[task_id].queued_at is not None


@given(scenarios)
def test_each_waiting_task_is_counted_once_under_a_reason_that_some_task_has(one: Scenario) -> None:
    core, _ = one.build()
    tasks = [task for task in core.state.tasks.values() if task.waiting]
    found = load_of(core.state).waiting
    assert sum(found.values()) == len(tasks)
    named = {str(one.reason) for task in tasks for one in core.why(task.id).reasons}
    named |= {"Dependency"} if "DependencyFailed" in named else set()
    assert set(found) <= named
