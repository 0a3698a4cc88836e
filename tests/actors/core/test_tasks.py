"""Tasks in memory: most of them are bytes, and no code can tell the difference."""

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
from histories import BEGIN
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core import tasks as module
from tasktrail.actors.core.tasks import Tasks, decode_task, encode_task
from tasktrail.events import Created, Started, TaskState
from tasktrail.events.state import create, evolve, overlay
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task_events import Cancelled, Completed


def waiting(task_id: int, **fields: Any) -> TaskState:
    parent = 1 if task_id % 3 == 0 else None
    return create(task_id, Created(type="noop", options={"number": task_id}, parent_task_id=parent, **fields), BEGIN)


def running(task_id: int) -> TaskState:
    return evolve(waiting(task_id), Started(effective_priority=1.0), BEGIN)


def ended(task_id: int) -> TaskState:
    return evolve(running(task_id), Completed(result={"n": 1}), BEGIN)


def adjusted(task_id: int) -> TaskState:
    return overlay(waiting(task_id), Adjusted(task_id=task_id, priority=7), BEGIN)


_STATES = st.sampled_from([waiting, adjusted, running, ended])
_CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "get", "hold", "delete"]), st.integers(1, 8), _STATES), min_size=20, max_size=60
)


@given(_CHANGES)
def test_it_is_a_dict_of_tasks(changes: list[tuple[str, int, Any]]) -> None:
    tasks, plain = Tasks(), dict[int, TaskState]()
    for what, task_id, state in changes:
        task = state(task_id)
        if what == "set":
            tasks[task_id] = plain[task_id] = task
        elif what == "hold" and task_id not in plain:
            tasks.hold([msgspec.Raw(encode_task(task))])
            plain[task_id] = task
        elif what == "delete" and task_id in plain:
            del tasks[task_id], plain[task_id]
        assert tasks.get(task_id) == plain.get(task_id)
        assert (task_id in tasks) == (task_id in plain)
        assert tasks == plain
        assert list(tasks) == list(plain)
        assert list(tasks.values()) == list(plain.values())
        assert list(tasks.items()) == list(plain.items())
        assert [tasks.encoded(one) for one in tasks] == [encode_task(one) for one in plain.values()]
        in_order = [plain[one] for one in sorted(plain)]
        assert tasks.over == {one.id for one in in_order if one.finished}
        assert list(tasks.open()) == [one for one in in_order if not one.finished]
        special = [one for one in in_order if one.status == "running" or one.spec.parent_task_id is not None]
        assert list(tasks.special()) == special


@given(_CHANGES)
def test_few_are_held_decoded(changes: list[tuple[str, int, Any]]) -> None:
    tasks = Tasks()
    for _, task_id, state in changes:
        tasks[task_id] = state(task_id)
        decoded = [held for held in tasks._held.values() if type(held) is TaskState and not held.finished]
        assert len(decoded) <= module.FRESH


def test_what_iterates_keeps_nothing_decoded() -> None:
    tasks = Tasks(map(waiting, range(1, 10)))
    before = dict(tasks._held)
    assert len(list(tasks.values())) == len(list(tasks.open())) == len(list(tasks.items())) == 9
    assert tasks._held == before


def test_a_task_that_is_looked_at_again_is_not_decoded_again() -> None:
    tasks = Tasks(map(waiting, range(1, 10)))
    assert tasks[1] is tasks[1]


def test_a_task_that_cannot_be_read_is_looked_at_by_a_start() -> None:
    tasks = Tasks([waiting(1), waiting(2, input_file="[erased]"), waiting(4, depends_on=(1,))])
    assert [task.id for task in tasks.special()] == [2, 4]


def test_an_end_is_noticed() -> None:
    tasks = Tasks([waiting(1)])
    tasks[1] = evolve(tasks[1], Cancelled(), BEGIN)
    assert (tasks.over, tasks.open_ids()) == ({1}, [])


def test_a_task_that_is_bytes_can_be_replaced() -> None:
    tasks = Tasks([running(1), waiting(2), waiting(4), waiting(5), waiting(7)])
    assert type(tasks._held[1]) is bytes
    tasks[1] = waiting(1)
    assert list(tasks.special()) == []


def test_a_task_that_nothing_has_happened_to_takes_little_more_than_its_spec() -> None:
    task = waiting(1, input_file="/in.mp4")
    assert len(encode_task(task)) - len(msgspec.json.encode(task.spec)) < len(msgspec.json.encode(BEGIN)) + 10
    assert decode_task(encode_task(task)) == task


@given(
    st.builds(
        Adjusted,
        task_id=st.just(1),
        priority=st.sampled_from([None, 0, 7]),
        held=st.sampled_from([None, True, False]),
        scheduled_for=st.sampled_from([None, BEGIN, BEGIN + timedelta(hours=1)]),
        ignored_dependency=st.sampled_from([None, 9]),
    ),
    st.sampled_from([None, BEGIN]),
)
def test_an_adjustment_of_a_task_that_has_no_event_since_is_kept(event: Adjusted, at: datetime | None) -> None:
    task = overlay(waiting(1, scheduled_for=at), event, BEGIN)
    assert decode_task(encode_task(task)) == task


def test_the_offset_of_a_time_that_was_set_anew_is_kept() -> None:
    """Two times may be the same instant, and read differently."""
    elsewhere = BEGIN.astimezone(timezone(timedelta(hours=2)))
    task = overlay(waiting(1, scheduled_for=BEGIN), Adjusted(task_id=1, scheduled_for=elsewhere), BEGIN)
    found = decode_task(encode_task(task))
    assert (str(found.scheduled_for), str(found.spec.scheduled_for)) == (str(elsewhere), str(BEGIN))


def test_a_waiting_task_shares_its_id_with_the_place_that_it_is_found_at() -> None:
    """A number is an object of 32 bytes, and the queue keeps the task's object."""
    tasks = Tasks(waiting(10**6 + number) for number in range(9))
    for found in (tasks.values(), tasks.open(), map(tasks.__getitem__, [task.id for task in tasks.values()])):
        assert all(key is task.id for key, task in zip(tasks, found, strict=True))
