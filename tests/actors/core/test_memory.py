"""Finished tasks leave memory; the log has them when they are needed."""

import msgspec
from core_harness import Core

from tasktrail.events import AdjustTask


def test_a_finished_task_leaves_memory(core: Core) -> None:
    task_id = core.create()
    core.end(task_id)
    assert core.state.tasks == {}


def test_a_task_cancelled_while_it_ran_leaves_memory_when_its_attempt_is_gone(core: Core) -> None:
    task_id = core.create()
    core.cancel(task_id)
    assert task_id in core.state.tasks, "it still holds a slot"
    core.end(task_id, "stopped")
    assert core.state.tasks == {}


def test_an_adjustment_leaves_nothing_in_memory_when_its_task_ends() -> None:
    core = Core(slots=0)
    sizes = set()
    for _ in range(5):
        for task_id in [core.create() for _ in range(20)]:
            core.ask(AdjustTask(task_id=task_id, priority=9))
            core.cancel(task_id)
        durable = msgspec.structs.replace(core.state.durable, position=0, last_task_id=0, system_version=0)
        sizes.add(len(msgspec.json.encode(durable)))
    assert len(sizes) == 1
