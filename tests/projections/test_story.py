"""The story of a task is bounded, and agrees with its whole history."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from histories import BEGIN, OPERATIONS, Journal
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Checkpoint, Progressed, Recorded
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed
from tasktrail.events.task_events import Failed, Retried
from tasktrail.projections.attempts import POINTS
from tasktrail.projections.history import history
from tasktrail.projections.story import ATTEMPTS, FIRST_LINES, LAST_LINES, TEXT, Story, StoryFold, skim

steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3), st.integers(0, 100)), max_size=60)


def story_of(records: Sequence[Recorded]) -> Story:
    fold = StoryFold()
    for record in records:
        fold.add(record)
    return fold.story()


@given(steps)
def test_a_short_story_has_the_attempts_of_the_history_and_no_other_lines(steps: list[tuple[str, int, int]]) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    for task_id in journal.states:
        own = journal.log.read_task(task_id)
        story, whole = story_of(own), history(task_id, own, journal.at)
        assert story.attempts == whole.attempts
        assert (story.lines_left_out, story.records_left_out, story.attempts_left_out) == (0, 0, 0)
        told = {line.position for line in story.lines}
        assert told <= {line.position for line in whole.lines}
        missing = [line.event for line in whole.lines if line.position not in told]
        assert set(missing) <= {"progressed", "checkpointed"}
        assert sum(line.after for line in story.lines) == pytest.approx(sum(line.after for line in whole.lines))
        for attempt in story.attempts:
            assert attempt.checkpoints == len(attempt.saved)
            assert [point.after for point in attempt.curve] == sorted(point.after for point in attempt.curve)


def long_life(reports: int) -> tuple[Journal, int]:
    journal = Journal(MemoryEventLog())
    task_id = journal.create("video_convert", max_retries=3)
    journal.start(task_id)
    for number in range(reports):
        journal.at += timedelta(seconds=1)
        journal.record(task_id, Progressed(progress=100 * number / reports, message=f"frame {number}"))
    return journal, task_id


def test_a_curve_gets_coarser_as_it_gets_longer_and_keeps_its_end() -> None:
    journal, task_id = long_life(3 * POINTS)
    (attempt,) = story_of(journal.log.read_task(task_id)).attempts
    assert POINTS // 3 < len(attempt.curve) <= POINTS + 1
    assert attempt.curve[-1].after == 3 * POINTS
    assert attempt.curve[-1].progress == attempt.progress
    assert all(one.progress < other.progress for one, other in zip(attempt.curve, attempt.curve[1:], strict=False))


def test_a_curve_within_one_moment_is_bounded_too() -> None:
    journal = Journal(MemoryEventLog())
    task_id = journal.create("video_convert")
    journal.start(task_id)
    for number in range(3 * POINTS):
        journal.record(task_id, Progressed(progress=100 * number / (3 * POINTS)))
    (attempt,) = story_of(journal.log.read_task(task_id)).attempts
    assert len(attempt.curve) <= POINTS + 1


def test_a_series_of_progress_is_one_line_that_says_how_many_there_were() -> None:
    journal, task_id = long_life(50)
    lines = story_of(journal.log.read_task(task_id)).lines
    assert [line.event for line in lines] == ["created", "started", "progressed"]
    assert lines[-1].text == "98.0 %: frame 49 (and 49 before)"
    assert lines[-1].after == 50


def test_of_very_many_attempts_the_last_ones_are_kept() -> None:
    journal = Journal(MemoryEventLog())
    task_id = journal.create("video_convert", max_retries=3)
    for _ in range(3 * ATTEMPTS):
        journal.start(task_id)
        journal.record(task_id, Failed(outcome="failed", error="no", final=False), Retried(cause="rule"))
    story = story_of(journal.log.read_task(task_id))
    assert [attempt.number for attempt in story.attempts] == list(range(2 * ATTEMPTS + 1, 3 * ATTEMPTS + 1))
    assert story.attempts_left_out == 2 * ATTEMPTS
    assert len(story.lines) == FIRST_LINES + LAST_LINES
    assert story.lines[0].event == "created"
    assert story.lines_left_out == 9 * ATTEMPTS + 1 - FIRST_LINES - LAST_LINES
    positions = [line.position for line in story.lines]
    assert positions == sorted(positions)


def test_a_huge_text_is_cut() -> None:
    journal = Journal(MemoryEventLog())
    task_id = journal.create("video_convert")
    journal.start(task_id)
    journal.record(task_id, Failed(outcome="failed", error="x" * 1_000_000, final=True))
    assert len(story_of(journal.log.read_task(task_id)).lines[-1].text) == TEXT + 1


def test_a_long_life_is_skimmed_and_its_curve_covers_what_was_left_out() -> None:
    journal, task_id = long_life(12_000)
    journal.send(AttemptCheckpointed(task_id, 1, Checkpoint(data={"a": 1}), progress=100.0))
    journal.send(AttemptEnded(task_id, 1, "completed"))
    records, read = journal.log.read_task(task_id), 0

    def reading(version: int, limit: int) -> list[Recorded]:
        nonlocal read
        read += limit
        return records[version : version + limit]

    fold = StoryFold()
    skim(fold, reading, len(records))
    story = fold.story()
    assert fold.version == len(records)
    assert fold.last == records[-1]
    assert read < 6_000
    assert story.records_left_out == len(records) - 4_500
    (attempt,) = story.attempts
    assert attempt.outcome == "completed"
    assert attempt.started_at == BEGIN
    gaps = [other.after - one.after for one, other in zip(attempt.curve, attempt.curve[1:], strict=False)]
    assert max(gaps) < 1_000
    assert [line.event for line in story.lines[-2:]] == ["checkpointed", "completed"]


def test_a_fold_goes_on_where_it_stood() -> None:
    journal, task_id = long_life(40)
    fold = StoryFold()

    def reading(version: int, limit: int) -> list[Recorded]:
        return journal.log.read_task(task_id)[version : version + limit]

    skim(fold, reading, 20)
    assert fold.version == 20
    journal.send(AttemptProgressed(task_id, 1, 99.0, "nearly"))
    skim(fold, reading, 60)  # more than there are: the end is taken as it is
    assert fold.story() == story_of(journal.log.read_task(task_id))


def test_an_attempt_whose_start_was_left_out_is_shown_from_where_it_was_seen() -> None:
    journal, task_id = long_life(10)
    fold = StoryFold()
    fold.pass_over(5, ())
    for record in journal.log.read_task(task_id)[5:]:
        fold.add(record)
    (attempt,) = fold.story().attempts
    assert (attempt.number, attempt.worker) == (1, "")
