"""The contract of every `EventLog`, wherever it stores its records."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archiving import ArchivingEventLog
from postgresql_server import needs_postgresql, new_place

from tasktrail.events import Answer, Cancelled, Completed, Created, EventLog, Fact, Progressed, Recorded, Started
from tasktrail.events.errors import ConcurrencyError, LogCorrupt
from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.event_log import Part
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.opening import open_log
from tasktrail.events.log.rows import to_row
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.stubs import digest_of
from tasktrail.events.ranges import to_ranges
from tasktrail.events.recorded import Stub, timestamp
from tasktrail.events.system_events import Adjusted, RetentionRule, ServiceStopped, TasksForgotten
from tasktrail.events.task_events import Failed

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


POSTGRESQL = pytest.param("postgresql", marks=needs_postgresql)
POSTGRESQL_ENCRYPTED = pytest.param("postgresql encrypted", marks=needs_postgresql)


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[EventLog]:
    with ExitStack() as stack:
        log: EventLog
        if kind == "memory":
            log = MemoryEventLog()
        elif kind.startswith("postgresql"):
            place = stack.enter_context(new_place(folder))
            log = open_log(place, now=NOW, encrypted=kind.endswith("encrypted"))
        else:
            kept = ArchivingEventLog if kind.startswith("archived") else SqliteEventLog
            log = kept(folder / "log.db", now=NOW, encrypted=kind.endswith("encrypted"))
        with closing(log):
            yield log


@pytest.fixture(
    params=["memory", "sqlite", "encrypted", "archived", "archived and encrypted", POSTGRESQL, POSTGRESQL_ENCRYPTED]
)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    with opened(request.param, tmp_path) as log:
        yield log


@pytest.fixture(params=["memory", "sqlite", "encrypted", POSTGRESQL, POSTGRESQL_ENCRYPTED])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    """A log that has all of its records itself."""
    with opened(request.param, tmp_path) as log:
        yield log


@pytest.fixture(params=["memory", "sqlite", POSTGRESQL])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    """A log that stores its records as they are."""
    with opened(request.param, tmp_path) as log:
        yield log


def created(task_id: int, version: int = 1) -> Fact:
    event = Created(type="noop", user_id=7)
    return Fact(task_id, version, event, NOW, "alice", "a reason", f"c{task_id}", "corr", "cause", 0, 1)


def progressed(task_id: int, version: int) -> Fact:
    return Fact(task_id, version, Progressed(progress=version), NOW, attempt=1, life=1)


def test_a_new_log_is_empty(log: EventLog) -> None:
    assert log.head().position == 0
    assert log.head().hash == GENESIS
    assert list(log.read()) == []
    assert log.read_task(1) == []
    assert log.answer("c1") is None


def test_records_stand_at_the_positions_behind_the_head(log: EventLog) -> None:
    first = log.append([created(1), created(2)], expected=0)
    second = log.append([progressed(1, 2)], expected=2)
    assert [record.position for record in first + second] == [1, 2, 3]
    assert log.head().position == 3
    assert log.head().hash == second[-1].hash


def test_what_was_appended_is_read_back_whole(log: EventLog) -> None:
    appended = log.append([created(1), progressed(1, 2)], expected=0)
    assert list(log.read()) == appended
    assert appended[0].actor == "alice"
    assert appended[0].recorded_at == NOW


def test_a_fold_gets_the_events_of_tasks_and_whole_records_of_the_service(log: EventLog) -> None:
    stopped = Fact(0, 1, ServiceStopped(), NOW, "alice", "a reason", "c9", "corr", "cause")
    mine = Fact(1, 3, Completed(result={"a": "b"}, message="done"), NOW, "worker", attempt=1, life=1)
    log.append([created(1), progressed(1, 2), stopped, mine, created(2)], expected=0)

    def folded(record: Recorded) -> tuple[object, ...]:
        return record.position, record.task_id, record.version, record.event, record.recorded_at

    records = list(log.read())
    assert list(map(folded, log.read_to_fold())) == list(map(folded, records))
    assert [record for record in log.read_to_fold() if not record.task_id] == [records[2]]
    assert list(map(folded, log.read_to_fold(1, 3))) == list(map(folded, records[1:4]))


def test_each_hash_covers_the_record_and_the_hash_before(plain: EventLog) -> None:
    previous = GENESIS
    for record in plain.append([created(1), created(2), progressed(2, 2)], expected=0):
        previous = link(previous, to_row(record, record.position))
        assert record.hash == previous


def test_times_keep_their_moment_to_the_microsecond(log: EventLog) -> None:
    at = datetime.fromisoformat("2026-01-31T13:00:00.123456+01:00")
    log.append([Fact(1, 1, Created(type="noop", scheduled_for=at), at, life=1)], expected=0)
    [record] = log.read()
    assert record.recorded_at == at
    assert isinstance(record.event, Created)
    assert record.event.scheduled_for == at


@pytest.mark.parametrize(("after", "limit", "positions"), [(0, None, [1, 2, 3, 4]), (2, None, [3, 4]), (1, 2, [2, 3])])
def test_reading_starts_behind_a_position_and_ends_at_a_limit(
    log: EventLog, after: int, limit: int | None, positions: list[int]
) -> None:
    log.append([created(task_id) for task_id in range(1, 5)], expected=0)
    assert [record.position for record in log.read(after, limit)] == positions


@pytest.mark.parametrize(("after", "limit"), [(4, None), (99, 5), (0, 0)])
def test_reading_where_nothing_is_gives_nothing(log: EventLog, after: int, limit: int | None) -> None:
    log.append([created(task_id) for task_id in range(1, 5)], expected=0)
    assert list(log.read(after, limit)) == []


def test_the_records_of_one_task_come_in_order_of_version(log: EventLog) -> None:
    log.append([created(1), created(2), progressed(1, 2), progressed(2, 2), progressed(1, 3)], expected=0)
    assert [(record.task_id, record.version) for record in log.read_task(1)] == [(1, 1), (1, 2), (1, 3)]
    assert log.read_task(3) == []


def test_the_adjustments_of_a_task_come_with_its_records_where_they_are_wanted(log: EventLog) -> None:
    first, second = (Fact(0, version, Adjusted(task_id=version, priority=9), NOW) for version in (1, 2))
    log.append([created(1), created(2), first, progressed(1, 2), second], expected=0)
    assert [record.position for record in log.read_task(1, adjusted=True)] == [1, 3, 4]
    assert [record.position for record in log.read_task(2, adjusted=True)] == [2, 5]
    assert [record.position for record in log.read_task(1)] == [1, 4]
    assert log.read_task(3, adjusted=True) == []


def test_facts_of_the_service_stand_under_task_0(log: EventLog) -> None:
    log.append([Fact(0, 1, ServiceStopped(), NOW)], expected=0)
    assert [type(record.event) for record in log.read_task(0)] == [ServiceStopped]


@pytest.mark.parametrize("expected", [0, 2, 99])
def test_an_append_that_expects_another_head_is_refused(log: EventLog, expected: int) -> None:
    log.append([created(1)], expected=0)
    with pytest.raises(ConcurrencyError) as refusal:
        log.append([created(2)], expected=expected)
    assert (refusal.value.current, refusal.value.expected) == (1, expected)
    assert log.head().position == 1


def test_a_version_is_taken_only_once(log: EventLog) -> None:
    log.append([created(1)], expected=0)
    with pytest.raises(ConcurrencyError):
        log.append([created(1)], expected=1)
    assert log.head().position == 1


@pytest.mark.parametrize(
    "ends",
    [
        (Completed(), Cancelled()),
        (Cancelled(), Failed(outcome="failed", error="x", final=True)),
        (Failed(outcome="failed", error="x", final=True), Completed()),
    ],
)
def test_a_life_ends_only_once(log: EventLog, ends: tuple[Completed, Cancelled]) -> None:
    log.append([created(1), Fact(1, 2, Started(), NOW, attempt=1, life=1)], expected=0)
    log.append([Fact(1, 3, ends[0], NOW, attempt=1, life=1)], expected=2)
    with pytest.raises(ConcurrencyError):
        log.append([Fact(1, 4, ends[1], NOW, attempt=1, life=1)], expected=3)
    assert log.head().position == 3


def test_a_life_ends_only_once_within_one_commit_too(log: EventLog) -> None:
    ends = [Fact(1, version, Cancelled(), NOW, life=1) for version in (2, 3)]
    with pytest.raises(ConcurrencyError):
        log.append([created(1), *ends], expected=0)
    assert list(log.read()) == []


def test_the_next_life_has_an_end_of_its_own(log: EventLog) -> None:
    log.append([created(1), Fact(1, 2, Cancelled(), NOW, life=1), Fact(1, 3, Cancelled(), NOW, life=2)], expected=0)
    assert log.head().position == 3


def test_a_failure_that_is_not_final_is_no_end(log: EventLog) -> None:
    again = [Fact(1, version, Failed(outcome="failed", error="x", final=False), NOW, life=1) for version in (2, 3)]
    log.append([created(1), *again], expected=0)
    assert log.head().position == 3


def test_an_append_is_all_or_nothing(log: EventLog) -> None:
    log.append([created(1)], [Answer("c1", b"d", 1, 1)], expected=0)
    with pytest.raises(ConcurrencyError):
        log.append([created(2), created(1)], [Answer("c2", b"d", 2, 2)], expected=1)
    assert [record.task_id for record in log.read()] == [1]
    assert log.answer("c2") is None
    log.append([created(2)], [Answer("c2", b"d", 2, 2)], expected=1)
    assert log.head().position == 2


def test_an_answer_is_kept_with_its_commit(log: EventLog) -> None:
    answer = Answer("c1", b"digest", 1, 1)
    log.append([created(1)], [answer], expected=0)
    assert log.answer("c1") == answer


def test_an_answer_is_given_only_once(log: EventLog) -> None:
    log.append([created(1)], [Answer("c1", b"one", 1, 1)], expected=0)
    with pytest.raises(ConcurrencyError):
        log.append([created(2)], [Answer("c1", b"two", 2, 2)], expected=1)
    assert log.head().position == 1
    assert log.answer("c1") == Answer("c1", b"one", 1, 1)


def test_one_command_id_twice_in_a_commit_is_refused(log: EventLog) -> None:
    with pytest.raises(ConcurrencyError):
        log.append([created(1)], [Answer("c1", b"one", 1, 1), Answer("c1", b"two", 1, 1)], expected=0)
    assert log.answer("c1") is None
    assert log.head().position == 0


def test_appending_nothing_changes_nothing(log: EventLog) -> None:
    assert log.append([], expected=0) == []
    assert log.head().position == 0


@pytest.mark.parametrize(
    "text", ["", "umlaut ä, 会议, \U0001f3ac", "line\nbreak\ttab", 'quote " and \\', "x" * 100_000]
)
def test_any_text_survives(log: EventLog, text: str) -> None:
    event = Failed(outcome="failed", error=text, final=True)
    log.append([created(1), Fact(1, 2, event, NOW, text, text, life=1)], expected=0)
    record = log.read_task(1)[-1]
    assert (record.event, record.actor, record.reason) == (event, text, text)


def dropping(version: int, gone: list[Recorded], stubs: str = "") -> Fact:
    left = ((one.position, one.task_id, one.version, timestamp(one.recorded_at), one.hash) for one in gone)
    positions = to_ranges(one.position for one in gone)
    rule = RetentionRule(older_than=1.0)
    return Fact(
        0, version, TasksForgotten(tasks="1", positions=positions, stubs=stubs or digest_of(left), rule=rule), NOW
    )


def test_dropped_records_leave_stubs_from_the_same_commit_on(whole: EventLog) -> None:
    facts = [created(1), created(2), progressed(1, 2), Fact(0, 1, Adjusted(task_id=1, priority=3), NOW)]
    before = whole.append(facts, [Answer("c1", b"d", 1, 1), Answer("c2", b"d", 2, 2)], expected=0)
    gone = [before[0], before[2], before[3]]
    whole.append([dropping(2, gone), created(3)], expected=4)
    after = list(whole.read())
    assert [one.position for one in after if isinstance(one.event, Stub)] == [1, 3, 4]
    for old, new in zip(before, after, strict=False):
        kept = ("position", "task_id", "version", "recorded_at", "hash")
        assert [getattr(old, name) for name in kept] == [getattr(new, name) for name in kept]
        assert new == old or (new.actor, new.reason, new.command_id, new.life) == ("", "", "", 0)
    assert [one.name for one in whole.read_task(1, adjusted=True)] == ["stub", "stub"]
    assert whole.read_task(2) == [before[1]]
    assert (whole.answer("c1"), whole.answer("c2")) == (None, Answer("c2", b"d", 2, 2))
    assert [drop.position for drop in whole.drops()] == [5]
    assert whole.drops(5) == []
    assert whole.append([progressed(1, 3)], expected=6)[0].version == 3


def test_the_newest_of_a_kind_are_told_newest_first(log: EventLog) -> None:
    log.append([created(1), progressed(1, 2), created(2), created(3), progressed(2, 2)], expected=0)
    assert log.newest_of("created", 0, 5, 9) == [4, 3, 1]
    assert log.newest_of("created", 1, 3, 9) == [3]
    assert log.newest_of("created", 0, 5, 2) == [4, 3]
    assert log.newest_of("failed", 0, 5, 9) == []


def test_whether_a_task_is_as_it_was_read_is_known_without_archives(log: EventLog) -> None:
    log.append([created(1), progressed(1, 2), created(2)], expected=0)
    assert (log.is_newest(1, 2), log.is_newest(2, 1)) == (True, True)
    log.append([progressed(2, 2)], expected=3)
    assert (log.is_newest(1, 2), log.is_newest(2, 1), log.is_newest(2, 2)) == (True, False, True)


def test_a_task_whose_records_were_dropped_is_not_as_it_was_read(whole: EventLog) -> None:
    gone = whole.append([created(1), created(2)], expected=0)[:1]
    whole.append([dropping(1, gone)], expected=2)
    assert (whole.is_newest(1, 1), whole.is_newest(2, 1)) == (False, True)


def test_other_records_than_were_meant_are_not_dropped(whole: EventLog) -> None:
    before = whole.append([created(1), created(2)], expected=0)
    with pytest.raises(LogCorrupt, match="do not match its digest"):
        whole.append([created(3), dropping(1, before[:1], stubs="AAAA")], expected=2)
    assert list(whole.read()) == before
    assert whole.head().position == 2


def test_parts_of_lives_are_read_with_their_adjustments_up_to_a_position(log: EventLog) -> None:
    def adjusted(task_id: int, version: int) -> Fact:
        return Fact(0, version, Adjusted(task_id=task_id, priority=version), NOW)

    first = [created(1), created(2), created(3), adjusted(1, 1), adjusted(2, 2)]
    log.append([*first, progressed(1, 2), adjusted(1, 3), progressed(1, 3), progressed(2, 2)], expected=0)

    def read(*parts: Part, until: int = 9) -> list[int]:
        return [record.position for record in log.read_parts(parts, until)]

    assert read(Part(1, 0, 9, 0)) == [1, 4, 6, 7, 8]
    assert read(Part(1, 0, 9, 0), until=6) == [1, 4, 6]
    assert read(Part(1, 1, 2, 4), Part(2, 0, 1, 5)) == [2, 6, 7]
    assert read(Part(1, 3, 9, 9)) == read() == []
