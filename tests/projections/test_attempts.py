"""The attempts of a task: what was reserved and used, how it continued, and what followed."""

from datetime import timedelta

import pytest
from histories import BEGIN, OPERATIONS, Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Checkpoint, Recorded, RetryTask, Started
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed
from tasktrail.events.state import fold
from tasktrail.events.task_events import Created, Estimated, Failed, Retried
from tasktrail.projections.attempts import Attempt, AttemptsFold, Point, attempts
from tasktrail.projections.describe import describe

steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3), st.integers(0, 100)), max_size=60)


def attempts_of(journal: Journal, task_id: int) -> list[Attempt]:
    return list(attempts(journal.log.read_task(task_id)))


def needed(records: list[Recorded]) -> tuple[int, int]:
    """Return what the Scheduler would reserve after these records."""
    state = fold(1, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # task events
    assert state is not None
    return state.memory_needed, state.temp_needed


@given(steps)
def test_each_start_is_an_attempt_with_what_was_reserved_for_it(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    for task_id in journal.states:
        own = journal.log.read_task(task_id)
        starts = [place for place, record in enumerate(own) if isinstance(record.event, Started)]
        told = list(attempts(own))
        assert [one.number for one in told] == [own[place].attempt for place in starts]
        assert [(one.memory_reserved, one.temp_reserved) for one in told] == [needed(own[:place]) for place in starts]


@given(steps)
def test_an_attempt_is_told_once_and_before_the_next_one_is_over(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    for task_id in journal.states:
        told, over = AttemptsFold(), 0
        for record in journal.log.read_task(task_id):
            over += len(told.add(record))
            assert over + len(told.unfinished()) in (record.attempt, record.attempt - 1)


def test_an_attempt_says_what_it_used_how_far_it_came_and_when_the_next_was_due(journal: Journal) -> None:
    task_id = journal.create("video_convert", max_retries=1, retry_delay=90.0)
    journal.at += timedelta(seconds=3)
    journal.start(task_id)
    journal.at += timedelta(seconds=2)
    journal.send(AttemptProgressed(task_id, 1, 40.0))
    journal.at += timedelta(seconds=2)
    journal.send(AttemptCheckpointed(task_id, 1, Checkpoint(data={"a": 1}), progress=50.0))
    journal.at += timedelta(seconds=1)
    journal.send(AttemptEnded(task_id, 1, "failed", error="connection refused", memory_used=650, cpu_used=4.5))
    (one,) = attempts_of(journal, task_id)
    assert (one.task_id, one.worker, one.started_at, one.waited) == (task_id, "w1", BEGIN + timedelta(seconds=3), 3)
    assert (one.outcome, one.duration, one.rule, one.next_delay) == ("failed", 5, "connection refused", 90)
    assert (one.memory_reserved, one.memory_used, one.cpu_used) == (0, 650, 4.5)
    assert one.curve == (Point(2, 40.0), Point(4, 50.0), Point(5, 50.0))
    assert (one.checkpoints, one.saved) == (1, (Point(4, 50.0),))


@pytest.mark.parametrize(("node", "worker"), [("", "local"), ("gpu-2", "gpu-2")])
def test_an_attempt_says_where_it_ran(journal: Journal, node: str, worker: str) -> None:
    task_id = journal.create("video_convert")
    journal.record(task_id, Started(node=node))
    (one,) = attempts_of(journal, task_id)
    assert one.worker == worker
    assert describe(Started(node=node)) == f"started with effective priority 0.0{f' on {node}' if node else ''}"


def test_a_better_estimate_is_what_the_next_attempt_has_reserved(journal: Journal) -> None:
    journal.record(1, Created(type="video_convert", estimated_memory=700))
    journal.start(task_id := 1)
    better = Estimated(memory=900, temp=20)
    journal.record(
        task_id,
        Failed(outcome="failed", error="it needs more", final=False),
        Retried(cause="estimate", estimate=better),
    )
    journal.start(task_id)
    first, second = attempts_of(journal, task_id)
    assert (first.memory_reserved, first.temp_reserved, first.next_delay) == (700, 0, 0)
    assert (second.memory_reserved, second.temp_reserved, second.outcome) == (900, 20, None)


def test_a_retry_by_hand_is_no_delay_of_the_attempt_before(journal: Journal) -> None:
    task_id = journal.create(max_retries=0)
    journal.start(task_id)
    journal.send(AttemptEnded(task_id, 1, "failed", error="no such codec"))
    journal.send(RetryTask(task_id=task_id, delay=60, force=True))
    journal.start(task_id)
    first, second = attempts_of(journal, task_id)
    assert (first.outcome, first.life, first.next_delay) == ("failed", 1, None)
    assert (second.life, second.outcome) == (2, None)


def test_an_attempt_that_resumes_begins_where_its_checkpoint_was(journal: Journal) -> None:
    task_id = journal.create(resumable=True)
    journal.start(task_id)
    journal.send(AttemptCheckpointed(task_id, 1, Checkpoint(data={"a": 1}), progress=49.5))
    journal.send(AttemptProgressed(task_id, 1, 70.0))
    journal.send(AttemptEnded(task_id, 1, "lost", error="killed"))
    journal.start(task_id)
    resumed = attempts_of(journal, task_id)[-1]
    assert resumed.resumed
    assert resumed.progress == journal.states[task_id].progress == 49.5
    journal.at += timedelta(seconds=2)
    journal.send(AttemptCheckpointed(task_id, 2, Checkpoint(data={"a": 2})))
    journal.send(AttemptEnded(task_id, 2, "lost", error="killed"))
    ended = attempts_of(journal, task_id)[-1]
    assert ended.progress == 49.5
    assert ended.curve == (Point(2, 49.5), Point(2, 49.5))
    assert ended.saved == (Point(2, 49.5),)


def test_an_attempt_that_begins_anew_is_at_nothing(journal: Journal) -> None:
    task_id = journal.create(resumable=False, max_retries=1)
    journal.start(task_id)
    journal.send(AttemptCheckpointed(task_id, 1, Checkpoint(data={"a": 1}), progress=49.5))
    journal.send(AttemptEnded(task_id, 1, "lost", error="killed"))
    journal.start(task_id)
    assert attempts_of(journal, task_id)[-1].progress == journal.states[task_id].progress == 0
