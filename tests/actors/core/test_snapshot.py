"""A snapshot and the later records lead to the same as all records: whatever happened, wherever it was taken."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from core_harness import Core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_life import GRACE, live

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot
from tasktrail.actors.core.state import Durable, SchedulerState
from tasktrail.actors.core.step import step
from tasktrail.actors.delivery.dispatcher import Dispatcher, EndpointQueues
from tasktrail.actors.snapshots import (
    OUTBOX_SNAPSHOT,
    SCHEDULER_SNAPSHOT,
    folded_outbox,
    folded_state,
    kept_ids,
    loader,
)
from tasktrail.events import AdjustTask
from tasktrail.events.log.event_log import Head
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.projections.history import recall_from
from tasktrail.projections.mail_limit import MailPace
from tasktrail.projections.outbox import KeptOutbox, Outbox, PendingNotices


def new_state() -> SchedulerState:
    return SchedulerState(Limits(max_concurrent=8), grace=GRACE, work_root="/data/tmp")


def head_at(log: MemoryEventLog, position: int) -> Head:
    (record,) = log.read(after=position - 1, limit=1)
    return Head(record.position, record.hash)


def everything(state: SchedulerState) -> dict[str, Any]:
    """Return everything that a start makes of a fold."""
    staged = step(state, Boot(version="1", epoch=9, pid=1, host="here"), state.durable.last_at)  # type: ignore[arg-type]  # not empty
    return {
        "facts": staged.facts,
        "tasks": state.tasks,
        "queue": state.queue.first(1000),
        "timers": sorted(state.timers),
        "blocked": state.blocked,
        "dependents": state.dependents,
        "unblocked_at": state.unblocked_at,
        "parents": state.families.parents,
        "limits": state.limits,
        "wake": state.next_wake(),
        "durable": state.durable,
    }


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 150))
def test_a_snapshot_anywhere_and_the_rest_give_what_the_whole_log_gives(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int
) -> None:
    log = live(seed, steps).log
    last = log.head().position
    dice = Random(seed)
    chain, alone = (tmp_path_factory.mktemp("snapshot") / kind for kind in ("scheduler", "alone"))
    for position in sorted(dice.randint(1, last) for _ in range(4)):
        SCHEDULER_SNAPSHOT.take(log, chain, head_at(log, position))
        alone.unlink(missing_ok=True)
        SCHEDULER_SNAPSHOT.take(log, alone, head_at(log, position))
        assert chain.read_bytes() == alone.read_bytes(), "one by way of older ones is that of all records"
    assert everything(folded_state(log, new_state, chain)) == everything(folded_state(log, new_state))


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 150))
def test_the_outbox_of_a_snapshot_and_the_rest_is_that_of_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int
) -> None:
    core = live(seed, steps)
    log, last = core.log, core.log.head().position
    dice = Random(seed)
    chain = tmp_path_factory.mktemp("snapshot") / "outbox"
    for position in sorted(dice.randint(1, last) for _ in range(4)):
        OUTBOX_SNAPSHOT.take(log, chain, head_at(log, position))
    told, whole = folded_outbox(log, chain), folded_outbox(log)
    assert told.kept() == whole.kept()
    for seconds in (0, 60, 100_000):
        core.wait(seconds)
        assert told.take(core.now) == whole.take(core.now)
        assert told.wake_at(core.now) == whole.wake_at(core.now)


@pytest.mark.parametrize("seed", range(8))
def test_the_memory_of_a_living_service_is_what_the_log_says(seed: int) -> None:
    core = live(seed, 200)
    folded = folded_state(core.log, new_state)
    kept = [folded.tasks[task_id] for task_id in kept_ids(folded, loader(core.log))]
    assert [task for task in kept if not task.finished] == list(core.state.tasks.open())
    ours, theirs = core.state.durable, folded.durable
    for field in Durable.__struct_fields__:
        if field != "schedules":  # a missed run that was given up is done, and recorded nowhere
            assert getattr(ours, field) == getattr(theirs, field), field


def test_a_random_life_has_all_that_a_snapshot_keeps() -> None:
    """Otherwise the tests above could not fail."""
    states = [folded_state(live(seed, 150).log, new_state) for seed in range(12)]
    for field in Durable.__struct_fields__:
        assert any(getattr(state.durable, field) != getattr(Durable(), field) for state in states), field
    kept = folded_outbox(live(3, 150).log).kept()
    assert kept.outbox.notices
    assert kept.outbox.tasks
    assert any(folded_outbox(live(seed, 150).log).kept().rests for seed in range(5))
    assert any(folded_outbox(live(seed, 150).log).kept().outbox.disabled for seed in range(12))


# --- what is in it ----------------------------------------------------------------------------------------------


def test_every_part_of_the_outbox_is_kept_or_made_anew() -> None:
    log = MemoryEventLog()
    ours = {"_recall", "_tasks", "_pending", "_disabled", "_log_id", "_position", "_jumps", "mail"}
    assert vars(Outbox(recall_from(log))).keys() == ours
    assert vars(PendingNotices()).keys() == {"by_id", "_room", "_times", "_turns"}
    kept = {"position", "log_id", "turns", "disabled", "tasks", "notices", "mail", "jumps"}
    assert set(KeptOutbox.__struct_fields__) == kept
    assert vars(MailPace()).keys() == {"_delivered", "_reserved"}
    assert vars(EndpointQueues(lambda _: True, 1)).keys() == {"_counts", "_at_once", "_queues", "_busy", "_rests"}
    theirs = {"_outbox", "_queues", "_sending", "_unconfirmed", "_unsent", "_mailed", "mail_limit"}
    assert vars(Dispatcher(Outbox(recall_from(log)))).keys() == theirs


# --- what the rest may need -------------------------------------------------------------------------------------


def taken(core: Core, folder: Path) -> Path:
    SCHEDULER_SNAPSHOT.take(core.log, folder / "s", core.log.head())
    return folder / "s"


def test_a_finished_task_that_is_retried_after_the_snapshot_comes_back_from_the_log(tmp_path: Path) -> None:
    core = Core()
    task_id = core.create()
    core.end(task_id, "failed")
    path = taken(core, tmp_path)
    core.retry(task_id, force=True)
    assert folded_state(core.log, new_state, path).tasks[task_id] == core.state.tasks[task_id]


def test_a_finished_task_that_a_later_one_depends_on_comes_back_from_the_log(tmp_path: Path) -> None:
    core = Core()
    first = core.create()
    core.end(first)
    path = taken(core, tmp_path)
    core.create(depends_on=(first,), parent_task_id=first)
    folded = folded_state(core.log, new_state, path)
    assert folded.tasks[first] == core.read(first)
    assert everything(folded)["parents"] == {2: 1}


def test_a_task_whose_attempt_still_runs_is_in_memory_although_it_is_over(tmp_path: Path) -> None:
    core = Core()
    task_id = core.create()
    core.cancel(task_id)
    path = taken(core, tmp_path)
    assert task_id not in folded_state(core.log, new_state, path).tasks
    assert folded_state(core.log, new_state, path, also=core.running()).tasks[task_id].status == "cancelled"


def test_an_adjustment_of_a_task_that_has_ended_is_remembered(tmp_path: Path) -> None:
    """It is not in memory: it is read from the log with the task's own records."""
    core = Core(slots=0)
    task_id = core.create(priority=1)
    core.ask(AdjustTask(task_id=task_id, priority=9))
    core.cancel(task_id)
    path = taken(core, tmp_path)
    core.retry(task_id, force=True)
    for state in (core.state, folded_state(core.log, new_state, path), folded_state(core.log, new_state)):
        assert state.tasks[task_id].priority == 9
        assert state.durable.adjusted_at == {}
