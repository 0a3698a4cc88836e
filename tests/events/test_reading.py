"""Reading for folds: less of each record, or fewer records, with the same result."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from archiving import ArchivingEventLog, archive
from histories import Journal, random_history

from tasktrail.events import Completed, Created, Fact, Progressed, Recorded, Started
from tasktrail.events.errors import LogCorrupt, TasktrailError
from tasktrail.events.log import reading
from tasktrail.events.log.rows import Decrypt, StoredRow, from_row
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import QueuePaused, ServiceStopped

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(params=["plain", "encrypted", "archived"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteEventLog]:
    kind = ArchivingEventLog if request.param == "archived" else SqliteEventLog
    with closing(kind(tmp_path / "log.db", now=NOW, encrypted=request.param == "encrypted")) as log:
        yield log


def told(record: Recorded) -> tuple[Any, ...]:
    """Return the part of a record that a fold can rely on."""
    if not record.task_id:
        return (record,)
    return record.position, record.task_id, record.version, type(record.event), record.event, record.recorded_at


def test_a_fold_is_told_the_same_of_each_record(log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    random_history(Journal(log), 60, seed=3)
    assert list(map(told, log.read_to_fold())) == list(map(told, log.read()))
    monkeypatch.setattr(reading, "_PAGE", 7)
    head = log.head().position
    for after, limit in ((0, None), (-3, 5), (1, 20), (head // 2, None), (head, None), (head + 5, 3), (3, 0)):
        assert list(map(told, log.read_to_fold(after, limit))) == list(map(told, log.read(max(after, 0), limit)))


AWKWARD = {
    "an unknown kind of event": "event = 'melted'",
    "a kind that would break out of its text": "event = 'progressed\",1'",
    "a field that nobody knows": """data = '{"colour":"red"}'""",
    "two payloads": """data = '{},{}'""",
    "a payload that ends the record": """data = '{},"2026-01-31T12:00:00Z"]'""",
    "a payload with more of the record behind it": """data = '{},"2026-01-31T12:00:00.000000Z","","","","","",0,0,3'""",
    "no JSON": "data = '{'",
    "a payload of another form": "data = '[]'",
    "more behind a NUL": """data = '{"progress":1.0}' || char(0) || 'y'""",
    "a NUL in a kind": "event = 'progressed' || char(0) || 'y'",
    "a NUL in a time": "recorded_at = recorded_at || char(0) || 'y'",
    "an empty payload": "data = ''",
    "something encrypted that is not": """data = '{"personal":"x"}'""",
    "no time": "recorded_at = 'yesterday'",
    "a time with a quote": "recorded_at = '2026-01-31T12:00:00Z\"'",
    "a time as nobody writes it": "recorded_at = '2026-01-31 12:00'",
    "a time of another zone": "recorded_at = '2026-01-31T12:00:00.5+05:30'",
    "a text that is no UTF-8": "data = CAST(x'7bff7d' AS TEXT)",
    "a version far away": "version = 9223372036854775807",
}


@pytest.fixture(params=["here", "an older SQLite"])
def joined(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever text is made of a row."""
    if request.param != "here":
        monkeypatch.setattr(reading, "_TO_FOLD", reading._TO_FOLD.replace(reading._JOINED, reading._IN_ONE))


@pytest.mark.usefixtures("joined")
@pytest.mark.parametrize("change", AWKWARD.values(), ids=AWKWARD)
def test_what_is_not_as_expected_is_told_as_by_whoever_reads_it_whole(tmp_path: Path, change: str) -> None:
    path = tmp_path / "log.db"
    facts = [Fact(1, 1, Created(type="noop"), NOW, life=1), Fact(1, 2, Started(effective_priority=5.0), NOW, life=1)]
    facts += [Fact(1, version, Progressed(progress=1.0), NOW, life=1) for version in (3, 4, 5)]
    with closing(SqliteEventLog(path, now=NOW)) as log:
        log.append(facts, expected=0)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("DROP TRIGGER events_are_not_changed")
        conn.execute(f"UPDATE events SET {change} WHERE position = 3")
    with closing(SqliteLogReader(path)) as reader:
        assert outcome(reader.read_to_fold()) == outcome(reader.read())


@pytest.mark.parametrize("archived", [0, 20])
def test_only_what_is_archived_or_of_the_service_is_read_whole_for_a_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archived: int
) -> None:
    """If the parts did not fit the fields of `Recorded`, all records would be read whole, with the same result."""
    whole: list[int] = []

    def noted(row: StoredRow, digest: bytes, decrypt: Decrypt) -> Recorded:
        whole.append(row[0])
        return from_row(row, digest, decrypt)

    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW)) as log:
        journal = Journal(log)
        random_history(journal, 300, seed=3)
        if archived:
            archive(journal, archived)
        monkeypatch.setattr(reading, "from_row", noted)
        records = list(log.read_to_fold())
    assert whole == [one.position for one in records if not one.task_id or one.position <= archived]
    assert 2 * len(whole) < len(records)


def test_a_fold_does_not_read_over_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(SqliteEventLog(path, now=NOW)) as log:
        log.append([Fact(task_id, 1, Created(type="noop"), NOW, life=1) for task_id in (1, 2, 3)], expected=0)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("DROP TRIGGER events_are_not_deleted")
        conn.execute("DELETE FROM events WHERE position = 2")
    with closing(SqliteLogReader(path)) as reader, pytest.raises(LogCorrupt, match="Position 2 of the log is missing"):
        list(reader.read_to_fold())


def outcome(records: Iterator[Recorded]) -> tuple[list[Any], str]:
    """Return what was read until the end, and the error at the end."""
    found: list[Any] = []
    try:
        found.extend(map(told, records))
    except (TasktrailError, sqlite3.Error) as error:
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def tasks_of(records: Iterator[Recorded]) -> list[tuple[int, int]]:
    return [(record.position, record.task_id) for record in records]


def test_tasks_that_tell_nobody_are_left_out(tmp_path: Path) -> None:
    quiet, told = Created(type="noop", options={"notify_email": "x"}), Created(type="noop", notify_email="a@b.example")
    facts = [
        Fact(0, 1, ServiceStopped(), NOW),
        Fact(1, 1, quiet, NOW, life=1),
        Fact(2, 1, told, NOW, life=1),
        Fact(1, 2, Started(effective_priority=1.0), NOW, attempt=1, life=1),
        Fact(0, 2, ServiceStopped(), NOW),
        Fact(3, 1, Created(type="noop"), NOW, life=1),
        Fact(2, 2, Started(effective_priority=1.0), NOW, attempt=1, life=1),
        Fact(3, 2, Started(effective_priority=1.0), NOW, attempt=1, life=1),
        Fact(2, 3, Completed(), NOW, attempt=1, life=1),
    ]
    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW)) as log:
        records = log.append(facts, expected=0)
        found = list(log.read_what_may_concern(("notify_email",), 8))
        assert found == [records[number - 1] for number in (1, 2, 3, 4, 5, 7)], "the options of task 1 look alike"
        assert tasks_of(log.read_what_may_concern(("callback",), 9)) == [(1, 0), (5, 0)]


@pytest.mark.parametrize("many", [0, 5_000])
def test_whoever_folds_for_a_few_tasks_misses_nothing_of_them(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(reading, "_STRETCH", 12)
    monkeypatch.setattr(reading, "_MANY", many)
    random_history(Journal(log), 60, seed=5)
    records, until = list(log.read()), log.head().position - 3
    telling = {one.task_id for one in records if isinstance(one.event, Created) and one.event.notify_webhook}
    found = list(log.read_what_may_concern(("notify_webhook",), until))
    assert found == [one for one in records if one in found], "in order, each once"
    wanted = [one for one in records[:until] if one.task_id in {0, *telling}]
    assert [one for one in found if one.task_id in {0, *telling}] == wanted
    assert records[0] in found


def test_the_work_of_reading_for_a_few_tasks_grows_with_the_log_and_no_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page goes once more through all records of the service, or of a task with notices."""
    monkeypatch.setattr(reading, "_STRETCH", 20)
    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW)) as log:
        log.append([Fact(1, 1, Created(type="noop", callback_url="https://a.example"), NOW, life=1)], expected=0)

        def work() -> int:
            """Count steps of SQLite, with 400 more records of the service and as many of the task."""
            head = log.head().position
            versions = range(head // 2 + 1, head // 2 + 401)
            own = [Fact(0, version, QueuePaused(), NOW) for version in versions]
            of_task = [Fact(1, version + 1, Progressed(progress=1.0), NOW, life=1) for version in versions]
            log.append([*own, *of_task], expected=head)
            steps = 0

            def step() -> int:
                nonlocal steps
                steps += 1
                return 0

            log._conn.set_progress_handler(step, 1)
            assert len(list(log.read_what_may_concern(("callback",), head + 800))) == head + 800
            log._conn.set_progress_handler(None, 0)
            return steps

        first, second = work(), work()
        assert second < 2.5 * first
