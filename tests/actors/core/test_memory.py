"""Finished tasks leave memory; the log has them when somebody asks."""

from core_harness import Core


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
