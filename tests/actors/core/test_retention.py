"""The core's conditions for forgetting tasks, and what it remembers of them."""

from collections.abc import Sequence
from typing import Any

import pytest
from core_harness import Core
from msgspec.structs import replace

from tasktrail.actors.core.messages import Archive, Close, Forget, Tick
from tasktrail.events import Accepted, CreateTask, TasktrailError
from tasktrail.events.commands import AddSchedule
from tasktrail.events.errors import ChangedMeanwhile, NotReady
from tasktrail.events.log.stubs import digest_of
from tasktrail.events.ranges import to_ranges
from tasktrail.events.recorded import Stub, timestamp
from tasktrail.events.system_events import RetentionConfigured, RetentionRule, SegmentArchived, TasksForgotten

DAY = 86400.0


def forget(
    core: Core, tasks: Sequence[int], version: int = 0, archives: tuple[SegmentArchived, ...] | None = (), **rule: Any
) -> Accepted | TasktrailError:
    """Have tasks forgotten, by their present versions."""
    gone = [one for one in core.log.read() if one.task_id in tasks]
    left = ((one.position, one.task_id, one.version, timestamp(one.recorded_at), one.hash) for one in gone)
    event = TasksForgotten(
        tasks=to_ranges(tasks),
        positions=to_ranges(one.position for one in gone),
        stubs=digest_of(left),
        rule=RetentionRule(**({"older_than": DAY} | rule)),
    )
    found = {task_id: core.read(task_id) for task_id in tasks}
    if version:
        found = {task_id: replace(task, version=version) for task_id, task in found.items()}
    core.tell(Forget(tasks=found, event=event, archives=archives, actor="ann", reason="old", token="forget"))
    return core.answers["forget"]


@pytest.fixture
def core() -> Core:
    """Two tasks that completed two days ago, and one that waits."""
    core = Core(slots=2)
    for _ in range(2):
        core.create(user_id=7)
    for task_id in core.running():
        core.end(task_id)
    core.create(held=True)
    core.wait(2 * DAY)
    return core


def test_what_is_over_for_long_is_forgotten(core: Core) -> None:
    answer = forget(core, [1, 2])
    assert isinstance(answer, Accepted)
    records = list(core.log.read())
    assert records[-1].position == answer.position
    assert (records[-1].actor, records[-1].reason) == ("ann", "old")
    assert {one.task_id for one in records if isinstance(one.event, Stub)} == {1, 2}
    assert core.again().create() == 4


@pytest.mark.parametrize(
    ("tasks", "version", "rule"),
    [
        ([3], 0, {}),
        ([1], 2, {}),
        ([1], 0, {"older_than": 3 * DAY}),
        ([1], 0, {"older_than": None}),
        ([1], 0, {"status": "failed"}),
        ([1], 0, {"type": "scan"}),
        ([1], 0, {"user_id": 8}),
    ],
    ids=["waits", "has changed", "is too young", "is kept", "ended otherwise", "another type", "another user"],
)
def test_a_task_that_the_rule_does_not_fit_stays(core: Core, tasks: list[int], version: int, rule: Any) -> None:
    head = core.log.head()
    assert isinstance(forget(core, tasks, version, **rule), ChangedMeanwhile)
    assert core.log.head() == head


@pytest.mark.parametrize("how", [{"depends_on": (1,)}, {"parent_task_id": 1}])
def test_a_task_that_an_open_one_refers_to_stays(core: Core, how: Any) -> None:
    core.create(held=True, **how)
    assert isinstance(forget(core, [1]), ChangedMeanwhile)
    assert core.again().state.tasks.keys() >= {3, 4}


def test_a_task_that_was_retried_meanwhile_stays() -> None:
    core = Core()
    core.end(core.create(), "failed")
    core.wait(2 * DAY)
    core.retry(1, force=True)
    assert isinstance(forget(core, [1]), ChangedMeanwhile)


def test_a_service_that_has_stopped_forgets_nothing(core: Core) -> None:
    core.tell(Close())
    assert isinstance(forget(core, [1]), NotReady)


def test_a_schedule_does_not_run_again_what_it_ran_in_forgotten_tasks() -> None:
    core = Core()
    core.send(AddSchedule(schedule="hourly", task=CreateTask(type="work"), every=3600.0, missed="all", max_missed=100))
    for _ in range(5):
        core.wait(3600.0)
        core.tell(Tick())
        core.end(core.running()[0])
    core.wait(1800.0)
    assert isinstance(forget(core, [1, 2, 3, 4, 5], older_than=1.0), Accepted)
    before = core.state.durable.schedules.by_name["hourly"]
    after = core.again(after=60.0)
    schedule = after.state.durable.schedules.by_name["hourly"]
    assert (schedule.runs, schedule.done_until) == (before.runs, before.done_until)
    after.tell(Tick())
    assert after.state.durable.last_task_id == 5
    after.wait(1800.0)
    after.tell(Tick())
    assert after.state.durable.last_task_id == 6


def archive(core: Core, newest_task: int) -> Accepted | TasktrailError:
    """Have a range archived whose records reach up to those of a task."""
    event = SegmentArchived(first=1, last=5, root="a", sha256="b", size=7, newest_task=newest_task)
    core.tell(Archive(event=event, actor="ann", reason="old", configured_at=2, token="archive"))
    return core.answers["archive"]


def test_an_archive_is_recorded_unless_it_may_hold_something_of_an_unfinished_task(core: Core) -> None:
    before = core.log.head()
    refused = archive(core, 3)
    assert isinstance(refused, ChangedMeanwhile)
    assert "Task 3 is not finished" in refused.message
    assert core.log.head() == before
    answer = archive(core, 2)
    assert isinstance(answer, Accepted)
    record = list(core.log.read())[-1]
    assert (record.name, record.position, record.actor, record.reason, record.causation_id) == (
        "segment_archived",
        answer.position,
        "ann",
        "old",
        "event:2",
    )
    core.tell(Close())
    assert isinstance(archive(core, 2), NotReady)


RANGE = SegmentArchived(first=1, last=3, root="a", sha256="b", size=7, newest_task=2)


def test_a_range_is_archived_once_and_behind_the_last_one(core: Core) -> None:
    def archived(event: SegmentArchived) -> Accepted | TasktrailError:
        core.tell(Archive(event=event, actor="ann", token="archive"))
        return core.answers["archive"]

    assert isinstance(archived(replace(RANGE, first=2)), ChangedMeanwhile)
    assert isinstance(archived(RANGE), Accepted)
    assert isinstance(archived(RANGE), ChangedMeanwhile)
    assert isinstance(archived(replace(RANGE, first=5, last=6)), ChangedMeanwhile)
    assert isinstance(archived(replace(RANGE, first=4, last=6)), Accepted)
    assert core.again().state.durable.archives == {1: RANGE, 4: replace(RANGE, first=4, last=6)}


@pytest.mark.parametrize(
    "archives",
    [
        (),
        (replace(RANGE, sha256="d", replaces="c"),),
        (replace(RANGE, sha256="d", replaces="b"), replace(RANGE, first=4, last=6, replaces="b")),
    ],
    ids=["none", "of another file", "one too many"],
)
def test_what_is_forgotten_of_an_archive_that_has_changed_meanwhile_stays(
    core: Core, archives: tuple[SegmentArchived, ...]
) -> None:
    core.tell(Archive(event=RANGE, actor="ann", token="archive"))
    head = core.log.head()
    assert isinstance(forget(core, [1, 2], archives=archives), ChangedMeanwhile)
    assert core.log.head() == head
    assert isinstance(forget(core, [1, 2], archives=(replace(RANGE, sha256="d", replaces="b"),)), Accepted)
    assert core.state.durable.archives[1].sha256 == "d"


def test_a_log_that_reads_no_archives_forgets_what_one_held_when_it_was_in_a_file(core: Core) -> None:
    core.tell(Archive(event=RANGE, actor="ann", token="archive"))
    assert isinstance(forget(core, [1, 2], archives=None), Accepted)
    assert core.state.durable.archives == {1: RANGE}, "the file is what it was"


def test_the_age_from_which_on_records_are_archived_is_recorded_with_the_rules() -> None:
    core = Core(retention=(), archive_after=DAY)
    other = core.again(retention=(), archive_after=DAY).again().again(retention=())
    found = [one.event for one in other.log.read() if isinstance(one.event, RetentionConfigured)]
    assert found == [RetentionConfigured(archive_after=DAY), RetentionConfigured()]


def test_rules_are_recorded_when_they_change() -> None:
    rules = (RetentionRule(older_than=DAY, status="completed"),)
    core = Core(retention=rules)
    same = core.again(retention=rules)
    unasked = same.again()
    other = unasked.again(retention=())
    found = [one.event.rules for one in other.log.read() if isinstance(one.event, RetentionConfigured)]
    assert found == [rules, ()]
    assert other.state.durable.retention.rules == ()
    assert other.state.durable.retention_at == other.log.head().position
