"""A service that works only on its own tasks, such as the one that `run` brings: all others stay as they are."""

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Tick, WorkOn
from tasktrail.events import CreateTask, Started
from tasktrail.events.commands import AddSchedule
from tasktrail.events.log.memory import MemoryEventLog


@pytest.fixture
def log() -> MemoryEventLog:
    """Make a log with a waiting task, and one whose attempt was open when its service died."""
    before = Core(slots=1)
    before.create()
    before.create()
    return before.log


def test_what_waits_stays_where_it_is_and_what_it_is_given_runs(log: MemoryEventLog) -> None:
    core = Core(log=log, own=set())
    assert core.running() == []
    assert [core.state.tasks[task_id].status for task_id in (1, 2)] == ["retrying", "pending"]
    mine = core.create()
    assert core.runs() == [(mine, 1)]
    core.end(mine)
    assert core.running() == []


def test_an_older_task_runs_once_it_is_taken_on(log: MemoryEventLog) -> None:
    core = Core(log=log, own=set())
    assert isinstance(core.tell(WorkOn(2))[0], Started)
    assert core.running() == [2]


def test_a_task_of_its_own_that_is_retried_runs_again(log: MemoryEventLog) -> None:
    core = Core(log=log, own=set())
    mine = core.create(max_retries=1, retry_delay=5.0)
    core.end(mine, "failed", error="timeout")
    core.wait(5)
    core.tell(Tick())
    assert core.runs() == [(mine, 2)]


def test_whoever_is_set_free_by_it_waits_for_a_service(log: MemoryEventLog) -> None:
    core = Core(log=log, own=set())
    mine = core.create()
    child = core.create(depends_on=(mine,))
    core.state.own = {mine}
    core.end(mine)
    assert core.state.tasks[child].status == "pending"
    assert core.running() == []


def test_the_time_of_others_is_not_its_to_count() -> None:
    before = Core(slots=1)
    before.create()
    waiting = before.create(queue_timeout=10.0)
    before.send(AddSchedule(schedule="often", every=60.0, task=CreateTask(type="work")))
    head = before.log.head().position
    core = Core(log=before.log, own=set(), after=3600)
    core.tell(Tick())
    assert core.state.tasks[waiting].status == "pending"
    assert core.state.durable.last_task_id == waiting
    assert core.log.head().position > head
    wake = core.state.next_wake()
    assert wake is None or wake > core.now
    service = Core(log=before.log, after=3600)
    service.tell(Tick())
    assert service.state.durable.last_task_id > waiting
