"""A commit failed, written or not: continue from the log with the attempts that the executor really has."""

import msgspec
from core_harness import GRACE, Core

from tasktrail.actors.core.messages import Intake, Message, Staged, Submit, Tick
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.step import resume_from_log, step
from tasktrail.events import CancelTask, Failed, Retried
from tasktrail.events.reports import AttemptEnded, Stop


def go_on(core: Core, message: Message, *, written: bool) -> Staged:
    """Step the message; its commit fails, written or not; fold the log anew and resume."""
    before = {task_id: msgspec.structs.replace(entry) for task_id, entry in core.state.running.items()}
    staged = step(core.state, message, core.now)
    if written:
        core.log.append(staged.facts, expected=core.state.position - len(staged.facts))
    core.state = SchedulerState(core.state.limits, grace=GRACE)
    core.state.workers.slots = 1
    for record in core.log.read():
        core.state.apply(record, record.position)
    return resume_from_log(core.state, before, core.now)


def cancel(task_id: int) -> Submit:
    return Submit(CancelTask(task_id=task_id), Intake())


def test_an_attempt_goes_on_when_the_cancel_was_not_written(core: Core) -> None:
    task_id = core.create(memory=3)
    staged = go_on(core, cancel(task_id), written=False)
    assert (staged.facts, staged.effects) == ([], [])
    assert core.running() == [task_id]
    assert core.state.reserved.memory == 3


def test_an_attempt_is_stopped_when_the_cancel_was_written_after_all(core: Core) -> None:
    task_id = core.create()
    staged = go_on(core, cancel(task_id), written=True)
    assert [effect.order for effect in staged.effects] == [Stop(task_id, 1)]  # type: ignore[union-attr]  # no answers
    assert core.running() == [task_id], "its slot is held until it is gone"


def test_an_attempt_whose_start_was_written_and_never_ordered_is_interrupted(core: Core) -> None:
    first, second = core.create(), core.create()
    staged = go_on(core, AttemptEnded(first, 1, "completed"), written=True)
    assert [(fact.task_id, type(fact.event)) for fact in staged.facts] == [(second, Failed), (second, Retried)]


def test_the_timeout_of_a_running_attempt_is_kept(core: Core) -> None:
    task_id = core.create(timeout=30.0)
    go_on(core, Tick(), written=False)
    core.wait(30)
    (failed,) = core.tell(Tick())
    assert isinstance(failed, Failed)
    assert (failed.outcome, core.stops()) == ("timed_out", [(task_id, 1)])


def test_publishing_that_hangs_is_still_noticed(core: Core) -> None:
    task_id = core.create()
    core.want_to_publish(task_id)
    go_on(core, Tick(), written=False)
    core.wait(60)
    (failed,) = core.tell(Tick())
    assert isinstance(failed, Failed)
    assert (failed.error, core.stops()) == ("timeout: attempt 1 published for longer than 60 s", [(task_id, 1)])
