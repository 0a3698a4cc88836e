"""A task's story: every event has its line, every attempt its one outcome."""

from datetime import datetime, timedelta

import pytest
from histories import BEGIN, OPERATIONS, Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Checkpoint, RetryTask, StartTask
from tasktrail.events.commands import CancelTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed
from tasktrail.events.system_events import DeliveryAttempted
from tasktrail.events.task_events import Started
from tasktrail.projections.describe import describe
from tasktrail.projections.history import TaskHistory, history

steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 9), st.integers(0, 100)), max_size=60)


def story_of(journal: Journal, task_id: int, now: datetime) -> TaskHistory:
    spoken_of = [record for record in journal.log.read_task(0) if getattr(record.event, "task_id", 0) == task_id]
    records = sorted([*journal.log.read_task(task_id), *spoken_of], key=lambda record: record.position)
    return history(task_id, records, now)


@given(steps)
def test_every_attempt_has_exactly_one_outcome_but_the_running_one(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    for task_id, state in journal.states.items():
        story = story_of(journal, task_id, journal.at)
        started = [record for record in journal.log.read_task(task_id) if isinstance(record.event, Started)]
        assert [attempt.number for attempt in story.attempts] == list(range(1, len(started) + 1))
        ended, last = story.attempts[:-1], story.attempts[-1:]
        assert all(attempt.outcome is not None for attempt in ended)
        assert [attempt.outcome is None for attempt in last] == [state.status == "running"] * len(last)
        for attempt in last:
            assert (attempt.life, attempt.worker) == (started[-1].life, "w1")
            assert attempt.duration in (state.duration, None)


@given(steps)
def test_every_event_has_its_line(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    for task_id in journal.states:
        own = journal.log.read_task(task_id)
        lines = history(task_id, own, journal.at).lines
        assert [(line.position, line.event) for line in lines] == [
            (record.position, EVENT_TAGS[type(record.event)]) for record in own
        ]
        assert all(line.text and "\n" not in line.text for line in lines)
        assert sum(line.after for line in lines) == pytest.approx(
            (own[-1].recorded_at - own[0].recorded_at).total_seconds()
        )


def test_the_story_of_a_task_that_crashed_resumed_failed_and_lived_again(journal: Journal) -> None:
    def later(seconds: float) -> None:
        journal.at += timedelta(seconds=seconds)

    task_id = journal.create(
        "video_convert", input_file="/in/a.mp4", output_file="/out/a.webm", priority=5, held=True, max_retries=0
    )
    later(1)
    journal.send(StartTask(task_id=task_id))
    later(4)
    journal.start(task_id)
    later(10)
    checkpoint = AttemptCheckpointed(
        task_id=task_id, attempt=1, checkpoint=Checkpoint(processed_frames=9), progress=25.0
    )
    journal.send(checkpoint)
    later(2)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="lost", error="killed by signal 9"))
    later(3)
    journal.start(task_id)
    later(5)
    journal.send(AttemptProgressed(task_id=task_id, attempt=2, progress=60.0, message="frame 500"))
    journal.send(
        AttemptEnded(task_id=task_id, attempt=2, outcome="failed", error="no codec", memory_used=7, cpu_used=2.5)
    )
    later(100)
    journal.send(RetryTask(task_id=task_id, force=True, delay=60))
    later(1)
    journal.start(task_id)
    later(1)
    journal.send(CancelTask(task_id=task_id))
    journal.record(0, DeliveryAttempted(notice_id="n", task_id=task_id, channel="email", target="a@b", ok=True))

    story = story_of(journal, task_id, journal.at)
    first, second, third = story.attempts
    assert (first.outcome, first.waited, first.duration, first.progress) == ("lost", 5, 12, 25)
    assert (first.checkpoints, first.resumed, first.error) == (1, False, "killed by signal 9")
    assert (second.outcome, second.waited, second.duration, second.progress) == ("failed", 3, 5, 60)
    assert (second.resumed, second.life, second.memory_used, second.cpu_used) == (True, 1, 7, 2.5)
    assert (third.outcome, third.waited, third.duration, third.life) == ("cancelled", 1, 1, 2)
    assert (story.waited, story.ran) == (9, 18)
    assert [line.text for line in story.lines] == [
        "created as video_convert /in/a.mp4 → /out/a.webm with priority 5, held",
        "task 1 adjusted: released",
        "started with effective priority 5.1 by w1",
        "checkpoint saved at 25.0 %",
        "lost: killed by signal 9 [crash]",
        "back to the queue (crash)",
        "resumed from its checkpoint with effective priority 5.3 by w1",
        "60.0 %: frame 500",
        "failed for good: no codec",
        "back to the queue (manual, forced), not before 2026-01-31 12:03:05Z",
        "resumed from its checkpoint with effective priority 7.1 by w1",
        "cancelled while running",
        "email to a@b delivered",
    ]


def test_every_kind_of_event_can_be_described(history: Journal) -> None:
    kinds = {type(record.event) for record in history.records}
    assert len(kinds) == 11
    for record in history.records:
        assert describe(record.event)


def test_a_task_that_just_waits_has_no_attempts(journal: Journal) -> None:
    story = story_of(journal, journal.create(), BEGIN)
    assert (story.attempts, story.waited, story.ran) == ((), 0, 0)
    assert [(line.recorded_at, line.after) for line in story.lines] == [(BEGIN, 0)]


def test_a_wait_that_no_attempt_followed_counts_as_waited(journal: Journal) -> None:
    task_id = journal.create(max_retries=1)
    journal.at += timedelta(seconds=4)
    journal.start(task_id)
    journal.at += timedelta(seconds=1)
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="timeout"))
    journal.at += timedelta(seconds=7)
    journal.send(CancelTask(task_id=task_id))
    journal.at += timedelta(seconds=50)
    journal.send(RetryTask(task_id=task_id, force=True))
    story = story_of(journal, task_id, journal.at)
    assert ([attempt.waited for attempt in story.attempts], story.waited, story.ran) == ([4], 11, 1)


def test_what_still_goes_on_counts_until_now_and_is_named(journal: Journal) -> None:
    """A task that has waited for 80 s did not wait for 0 s."""
    task_id = journal.create()
    later = BEGIN + timedelta(seconds=80)
    waiting = story_of(journal, task_id, later)
    assert (waiting.waited, waiting.ran, waiting.still) == (80, 0, "waits")
    journal.at = later
    journal.start(task_id)
    running = story_of(journal, task_id, later + timedelta(seconds=9))
    assert (running.waited, running.ran, running.still) == (80, 9, "runs")
    journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))
    over = story_of(journal, task_id, later + timedelta(hours=1))
    assert (over.waited, over.ran, over.still) == (80, 0, "")


def test_a_reader_whose_clock_is_behind_sees_no_negative_wait(journal: Journal) -> None:
    assert story_of(journal, journal.create(), BEGIN - timedelta(hours=1)).waited == 0
