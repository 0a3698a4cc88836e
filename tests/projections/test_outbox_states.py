"""A notice holds the task as it was at that moment, whether its state was kept or is read from the log."""

import tracemalloc
from datetime import datetime, timedelta
from random import Random

import msgspec
import pytest
from histories import BEGIN, Journal
from hypothesis import given
from outboxes import DONE, HOOK, MAIL, all_due, completed, outbox_of, steps, tried, wanted_again

from tasktrail.events import Cancelled, Created, Fact, RetryTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptEnded
from tasktrail.events.system_events import Adjusted
from tasktrail.projections.history import recall_from
from tasktrail.projections.outbox import Outbox
from tasktrail.projections.queries.as_of import task_as_of


@given(steps)
def test_a_notice_is_the_same_whether_its_state_was_kept_or_is_read_from_the_log(
    steps: list[tuple[str, int, int]],
) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    kept, read = outbox_of(journal), outbox_of(journal, kept_states=0)
    assert all_due(read, journal) == all_due(kept, journal)


def test_only_so_many_pending_notices_keep_their_state_in_memory(journal: Journal) -> None:
    """10,000 notices for a dead endpoint cost a few words each, whatever their tasks hold."""
    for _number in range(30):
        completed(journal, **DONE)
    outbox = outbox_of(journal, kept_states=10)
    assert sum(pending.origin is not None for pending in outbox._pending.by_id.values()) == 10
    for notice in all_due(outbox, journal)[:5]:
        tried(journal, notice, ok=True)
    completed(journal, **DONE)
    outbox.apply(journal.records)
    assert sum(pending.origin is not None for pending in outbox._pending.by_id.values()) == 6
    assert len(all_due(outbox, journal)) == 26


def test_ten_thousand_notices_for_a_dead_endpoint_take_a_few_megabytes(journal: Journal) -> None:
    """Here each task has 4 KB of options."""
    facts = []
    for task in range(1, 10_001):
        created = Created(type="noop", options={"x": f"{task:4096}"}, callback_url="https://dead.test/")
        facts += [Fact(task, 1, created, BEGIN, life=1), Fact(task, 2, Cancelled(), BEGIN, life=1)]
    records = journal.log.append(facts, expected=0)
    outbox = Outbox(recall_from(journal.log))
    tracemalloc.start()
    try:
        outbox.apply(records)
        used, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(outbox) == 10_000
    assert used < 12_000_000


def test_a_notice_holds_the_task_as_it_was_right_then(journal: Journal) -> None:
    task_id = journal.create(priority=3, **HOOK)
    journal.at += timedelta(seconds=5)
    journal.record(0, Adjusted(task_id=task_id, priority=7))
    journal.start(task_id)
    started_at = journal.at
    journal.at += timedelta(seconds=9)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed", result={"frames": 5}))
    started, ended = all_due(outbox_of(journal), journal)
    assert (started.task["status"], started.task["priority"], started.task["result"]) == ("running", 7, {})
    assert (ended.task["status"], ended.task["duration"], ended.task["result"]) == ("completed", 9, {"frames": 5})
    assert (started.recorded_at, started.position, started.task_id) == (started_at, 3, task_id)


def adjusted_and_retried(journal: Journal) -> int:
    """Create a task of two lives whose priority and time were changed before its first one."""
    task_id = journal.create(priority=2, **HOOK)
    journal.record(0, Adjusted(task_id=task_id, priority=9, scheduled_for=BEGIN))
    journal.start(task_id)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="no codec"))
    journal.send(RetryTask(task_id=task_id, force=True))
    return task_id


def test_a_task_that_is_retried_by_hand_is_told_with_its_adjustments(journal: Journal) -> None:
    journal.start(adjusted_and_retried(journal))
    told = [(one.event, one.life, one.task["priority"]) for one in all_due(outbox_of(journal), journal)]
    assert told == [("started", 1, 9), ("failed", 1, 9), ("started", 2, 9)]
    assert {one.task["scheduled_for"] for one in all_due(outbox_of(journal), journal)} == {BEGIN}


def test_a_notice_that_is_wanted_again_is_the_same_whatever_the_task_was_adjusted_to(journal: Journal) -> None:
    """Adjustments before its event show, later ones do not."""
    task_id = adjusted_and_retried(journal)
    first = all_due(outbox_of(journal), journal)
    for notice in first:
        tried(journal, notice, ok=True)
    journal.record(0, Adjusted(task_id=task_id, priority=4))
    for notice in first:
        wanted_again(journal, notice)
    assert all_due(outbox_of(journal), journal) == first


@pytest.mark.parametrize("kept_states", [0, 100_000])
@pytest.mark.parametrize("seed", range(3))
def test_every_notice_holds_what_the_log_says_of_the_task_at_that_position(
    journal: Journal, seed: int, kept_states: int
) -> None:
    """Few tasks with many lives: otherwise one is seldom adjusted, ended and retried."""
    chance = Random(seed)
    for _task in range(3):
        journal.create(**HOOK, **MAIL)
    for _step in range(300):
        operation = chance.choice(("start", "progress", "complete", "fail", "cancel", "retry", "adjust"))
        journal.play(operation, chance.randrange(3), chance.randrange(101))
    for notice in all_due(outbox_of(journal, kept_states=kept_states), journal):
        then = task_as_of(journal.log, notice.task_id, notice.position)
        assert notice.task == msgspec.to_builtins(then, builtin_types=(datetime,))
