"""Any sequence of commands: the records keep the rules, and folding them gives the state that was lived through."""

from collections import Counter, defaultdict
from datetime import UTC
from typing import Any, get_args

import msgspec
import pytest
from histories import BEGIN, OPERATIONS, Journal
from hypothesis import given, settings
from hypothesis import strategies as st

from tasktrail.events import Checkpoint, GraphTask, Recorded, TasktrailError
from tasktrail.events.commands import CreateTask, LifeCommand, SchedulerCommand
from tasktrail.events.context import DecisionContext
from tasktrail.events.decide import decide
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.rows import decode, encode, from_row, to_row
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.reports import AttemptEnded, AttemptReport
from tasktrail.events.state import fold
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task_events import Estimated, Started, is_terminal
from tasktrail.projections.legal_transitions import Lawbook

steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 20), st.integers(0, 100)), max_size=60)
Steps = list[tuple[str, int, int]]


def played(steps: Steps) -> Journal:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    return journal


def own(records: list[Recorded]) -> dict[int, list[Recorded]]:
    tasks: defaultdict[int, list[Recorded]] = defaultdict(list)
    for record in records:
        if record.task_id:
            tasks[record.task_id].append(record)
    return tasks


@given(steps)
def test_folding_a_task_gives_the_state_it_was_led_to(steps: Steps) -> None:
    journal = played(steps)
    adjusted = {record.event.task_id for record in journal.records if isinstance(record.event, Adjusted)}
    for task_id, records in own(journal.records).items():
        state = fold(task_id, [(record.event, record.recorded_at) for record in records])  # type: ignore[misc]  # no system events
        if task_id not in adjusted:
            assert state == journal.states[task_id]


@given(steps)
def test_positions_and_versions_have_no_gaps(steps: Steps) -> None:
    records = played(steps).records
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    for of_task in own(records).values():
        assert [record.version for record in of_task] == list(range(1, len(of_task) + 1))


@given(steps)
def test_a_life_ends_at_most_once_and_a_finished_task_exactly_once(steps: Steps) -> None:
    journal = played(steps)
    ends = Counter((record.task_id, record.life) for record in journal.records if is_terminal(record.event))
    assert all(number == 1 for number in ends.values())
    for state in journal.states.values():
        assert ((state.id, state.life) in ends) == state.finished


@given(steps)
def test_every_attempt_but_the_running_one_has_exactly_one_outcome(steps: Steps) -> None:
    journal = played(steps)
    for task_id, records in own(journal.records).items():
        tags = [type(record.event).__name__ for record in records]
        started = tags.count("Started")
        ended = sum(
            tag in ("Completed", "Failed") or getattr(record.event, "attempt_running", False)
            for tag, record in zip(tags, records, strict=True)
        )
        assert started - ended == (journal.states[task_id].status == "running")
        assert [record.attempt for record in records if isinstance(record.event, Started)] == list(
            range(1, started + 1)
        )


@given(steps)
def test_the_rules_written_twice_agree(steps: Steps) -> None:
    book = Lawbook()
    assert [fault for record in played(steps).records for fault in book.judge(record)] == []
    assert list(book.end()) == []


@given(steps)
def test_states_keep_their_bounds(steps: Steps) -> None:
    for state in played(steps).states.values():
        assert 0 <= state.progress <= 100
        assert state.duration >= 0
        assert state.finished == (state.completed_at is not None)
        assert (state.status == "completed") <= (state.progress == 100 and not state.error)
        assert (state.status == "failed") <= bool(state.error)
        assert state.crash_count < 3 or state.status == "failed"


@given(steps)
def test_a_record_survives_being_stored(steps: Steps) -> None:
    for record in played(steps).records:
        assert from_row(to_row(record, record.position), record.hash) == record


@given(steps)
def test_a_record_is_shown_as_one_flat_object(steps: Steps) -> None:
    envelope = {"position", "task_id", "version", "event", "recorded_at", "actor", "reason", "command_id"}
    envelope |= {"correlation_id", "causation_id", "attempt", "life", "hash", "data"}
    for record in played(steps).records:
        flat = record.flat()
        assert set(flat) == envelope
        assert not any(isinstance(value, dict | list) for key, value in flat.items() if key != "data")
        assert decode(flat["event"], msgspec.json.encode(flat["data"])) == record.event


free = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=3)
checkpoints = st.builds(Checkpoint, data=free)
moments = st.none() | st.datetimes(timezones=st.just(UTC))
in_a_graph = st.builds(
    GraphTask,
    name=st.sampled_from("abc"),
    options=free,
    depends_on=st.lists(st.sampled_from(("a", "b", "c", "d", 1, 9)), max_size=2).map(tuple),
    parent=st.sampled_from((None, "a", "c", 2)),
    deadline=moments,
    scheduled_for=moments,
)
FREE_FIELDS = {
    "options": free,
    "result": free,
    "checkpoint": checkpoints,
    "estimate": st.builds(Estimated, basis=free),
    "deadline": moments,
    "scheduled_for": moments,
    "tasks": st.lists(in_a_graph, max_size=3).map(tuple),
}


def commands() -> st.SearchStrategy[Any]:
    """Draw any command, with any values that its fields may have."""
    kinds: tuple[type[Any], ...] = (
        *get_args(LifeCommand),
        *get_args(SchedulerCommand),
        *get_args(AttemptReport),
    )
    return st.one_of(
        [
            st.builds(kind, **{field: FREE_FIELDS[field] for field in kind.__struct_fields__ if field in FREE_FIELDS})
            for kind in kinds
        ]
    )


@settings(max_examples=300)
@given(steps, commands(), st.integers(0, 5))
def test_decide_raises_nothing_but_our_own_errors(steps: Steps, command: Any, pick: int) -> None:
    states = played(steps).states
    state = states.get(pick)
    try:
        events = decide(state, command, DecisionContext(now=BEGIN, last_task_id=len(states)))
    except TasktrailError:
        return
    assert all(type(event) in EVENT_TAGS for event in events)


@given(steps, st.integers(1, 20))
def test_the_same_command_on_the_same_state_leads_to_the_same_events(steps: Steps, pick: int) -> None:
    states = played(steps).states
    state = states.get(pick)
    if state is None:
        return
    command = AttemptEnded(task_id=pick, attempt=state.attempt, outcome="failed", error="timeout")
    facts = DecisionContext(now=BEGIN)
    try:
        events = decide(state, command, facts)
    except TasktrailError:
        with pytest.raises(TasktrailError):
            decide(state, command, facts)
    else:
        assert decide(state, command, facts) == events


def test_a_task_may_only_refer_to_tasks_that_exist() -> None:
    for fields in ({"depends_on": (2,)}, {"parent_task_id": 2}, {"depends_on": (1, 3)}):
        with pytest.raises(TasktrailError) as refusal:
            decide(None, CreateTask(type="noop", **fields), DecisionContext(now=BEGIN, last_task_id=1))
        assert refusal.value.field in fields


def test_encoding_is_the_same_each_time() -> None:
    journal = played([("create", 3, 4), ("start", 0, 0), ("checkpoint", 0, 9)])
    assert [encode(record.event) for record in journal.records] == [encode(record.event) for record in journal.records]
