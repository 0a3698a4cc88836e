"""A log with forgotten tasks is as sound as before, and every fold of it is a fold of the remaining records."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from forgery import forging
from from_outside import content, files_with
from histories import BEGIN, OPERATIONS, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.snapshots import folded_outbox, folded_state
from tasktrail.backups.check import check_chain
from tasktrail.events import CancelTask, Created, Fact, Retried
from tasktrail.events.errors import LogCorrupt, TaskForgotten
from tasktrail.events.log import integrity
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.log.stubs import digest_of
from tasktrail.events.ranges import to_ranges
from tasktrail.events.recorded import Stub, timestamp
from tasktrail.events.system_events import (
    QueuePaused,
    RetentionConfigured,
    RetentionRule,
    ServiceStarted,
    TasksForgotten,
)
from tasktrail.projections import TaskFilters, TaskQueries, TaskViews, Verification
from tasktrail.projections.errors import NotAsSealed
from tasktrail.projections.proof.bundle import prove
from tasktrail.projections.proof.seals import make_seal
from tasktrail.projections.proof.trees import Trees
from tasktrail.projections.queries.as_of import fold_to
from tasktrail.projections.queries.filters import SORTS, STATUSES
from tasktrail.projections.queries.past import Past
from tasktrail.projections.verification import verify
from tasktrail.projections.views.forgotten import holds_forgotten

steps = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 20), st.integers(0, 100)), min_size=5, max_size=60
)
seeds = st.integers(0, 2**32)
_LATER = tuple(name for name in OPERATIONS if name != "create")
"""A new task may refer to any task, but a service would not let it refer to a forgotten one."""


def forget_some(journal: Journal, chance: Random) -> list[int]:
    """Forget most of the ended tasks, then continue a little."""
    gone = [task_id for task_id in journal.over() if chance.random() < 0.7]
    if gone:
        journal.forget(*gone)
        for _ in range(8):
            journal.play(chance.choice(_LATER), chance.randrange(100), chance.randrange(100))
    return gone


def folded(journal: Journal) -> TaskViews:
    views = TaskViews(":memory:")
    views.apply(list(journal.log.read()))
    return views


@pytest.mark.slow
@given(steps, seeds)
def test_views_know_the_tasks_that_are_left_at_every_position(moves: list[tuple[str, int, int]], seed: int) -> None:
    journal, chance = Journal(MemoryEventLog()), Random(seed)
    for move in moves:
        journal.play(*move)
    gone = forget_some(journal, chance)
    with closing(folded(journal)) as views:
        queries = TaskQueries(views.connection)
        for task_id, state in journal.states.items():
            if task_id not in gone:
                assert queries.state(task_id) == state
                continue
            with pytest.raises(TaskForgotten):
                queries.state(task_id)
        assert holds_forgotten(views.connection) == 0
        for position in chance.sample(range(1, len(journal.records) + 1), min(12, len(journal.records))):
            past = Past(queries, journal.log, position)
            filters = TaskFilters(
                status=chance.choice(("", *STATUSES)),
                sort=chance.choice(("", "-")) + chance.choice(SORTS),
                limit=500,
            )
            with fold_to(journal.log, position) as then:
                assert past.list(filters) == then.list(filters)
                assert past.stats() == then.stats()


@pytest.mark.slow
@given(steps, seeds)
def test_live_views_say_that_they_still_have_what_was_forgotten(moves: list[tuple[str, int, int]], seed: int) -> None:
    journal, chance = Journal(MemoryEventLog()), Random(seed)
    for move in moves:
        journal.play(*move)
    with closing(folded(journal)) as views:
        gone = forget_some(journal, chance)
        views.apply(list(journal.log.read(views.position)))
        assert bool(holds_forgotten(views.connection)) == bool(gone)


@given(steps, seeds)
def test_a_scheduler_and_an_outbox_start_from_the_first_record(moves: list[tuple[str, int, int]], seed: int) -> None:
    journal, chance = Journal(MemoryEventLog()), Random(seed)
    for move in moves:
        journal.play(*move)
    forget_some(journal, chance)
    state = folded_state(journal.log, lambda: SchedulerState(Limits(), grace={}))
    assert state.durable.last_task_id == max(
        (record.task_id for record in journal.log.read()), default=0
    )  # no number is used twice
    assert state.position == journal.log.head().position
    for task in journal.states.values():
        if not task.finished:
            assert state.tasks[task.id] == task
    assert folded_outbox(journal.log).position == state.position


@given(steps, seeds)
def test_no_rule_is_broken_and_the_trees_stay_as_they_were(moves: list[tuple[str, int, int]], seed: int) -> None:
    journal, chance = Journal(MemoryEventLog()), Random(seed)
    for move in moves:
        journal.play(*move)
    before, trees = list(journal.log.read()), Trees()
    for one in before:
        trees.apply(one.position, one.task_id, one.version, one.hash)
    forget_some(journal, chance)
    after = Trees()
    for one in journal.log.read(limit=len(before)):
        after.apply(one.position, one.task_id, one.version, one.hash)
    assert (after.records.root(), after.tasks.root()) == (trees.records.root(), trees.tasks.root())


# --- a log on disk, and whoever lays hands on it ---


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A history in which tasks 1 and 3 have ended and were forgotten; tasks 2 and 4 were not."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    journal.record(0, ServiceStarted(version="0", epoch=1, pid=1, host="here"))
    for _ in range(4):
        journal.create(input_file="/data/qzxcanary", output_file="/data/out")
    for task_id in (1, 3):
        journal.start(task_id)
        journal.play("complete", task_id - 1, 0)
    journal.play("deliver", 0, 0)
    journal.forget(1, 3)
    journal.play("deliver", 1, 0)
    yield journal
    log.close()


def check(journal: Journal) -> Verification:
    log: SqliteEventLog = journal.log  # type: ignore[assignment]  # it is one here
    with closing(log.reader()) as reader:
        return verify(reader)


def change(journal: Journal, *statements: str) -> None:
    """Change it as an intruder does, who removes the triggers and restores them."""
    path = journal.log._path  # type: ignore[attr-defined]  # it is on disk
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        triggers = conn.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _sql in triggers:
            conn.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            conn.execute(statement)
        for _name, sql in triggers:
            conn.execute(sql)


def found(journal: Journal) -> list[tuple[int, str]]:
    return [(one.position, one.code) for one in check(journal).findings]


def test_a_log_with_stubs_is_sound(journal: Journal) -> None:
    verification = check(journal)
    assert verification.findings == ()
    assert verification.stubs == 7
    assert verification.records == len(journal.records)
    with closing(journal.log.reader()) as reader:  # type: ignore[attr-defined]  # it is on disk
        assert list(reader.faults()) == []


def test_a_stub_that_no_later_record_explains_is_found_where_it_stands(journal: Journal) -> None:
    row = "event = 'stub', data = '{}', actor = '', reason = '', command_id = '', life = 0, attempt = 0, terminal = 0"
    change(journal, f"UPDATE events SET {row} WHERE position = 3")
    assert (3, "stub") in found(journal)
    assert found(journal)[0][0] == 3


def test_a_hash_of_a_stub_that_was_changed_is_found(journal: Journal) -> None:
    first, *_, last = [one.position for one in journal.records if isinstance(one.event, Stub)]
    change(journal, f"UPDATE events SET hash = zeroblob(32) WHERE position = {first}")
    assert found(journal)[0] == (first, "stub")
    assert any(position == first + 1 and code == "chain" for position, code in found(journal))
    assert last > first


@pytest.mark.parametrize("column", ["task_id = 4", "recorded_at = '2026-01-31T12:00:00.000001Z'"])
def test_what_is_left_of_a_record_cannot_be_changed_unseen(journal: Journal, column: str) -> None:
    stub = next(one for one in journal.records if isinstance(one.event, Stub) and one.version == 2)
    version = ", version = 99" if "task_id" in column else ""
    change(journal, f"UPDATE events SET {column}{version} WHERE position = {stub.position}")
    assert (stub.position, "stub") in found(journal)


def test_a_record_that_is_called_a_stub_is_of_no_later_version(journal: Journal) -> None:
    created, *_ = [one.position for one in journal.records if isinstance(one.event, Created)]
    change(journal, f"UPDATE events SET event = 'stub' WHERE position = {created}")
    assert [
        (one.code, "later version" in one.remedy) for one in check(journal).findings if one.position == created
    ] == [("stub", False)]


def test_words_in_a_stub_are_found(journal: Journal) -> None:
    stub = next(one for one in journal.records if isinstance(one.event, Stub))
    change(journal, f"UPDATE events SET reason = 'hidden' WHERE position = {stub.position}")
    assert [one for one in found(journal) if one[1] == "stub"] == [(stub.position, "stub")], (
        "the others are as they were"
    )


def test_words_in_a_stub_are_found_where_it_stands_although_the_record_that_drops_was_changed(journal: Journal) -> None:
    stub = next(one for one in journal.records if isinstance(one.event, Stub))
    drops = f"position = {stub.position} OR event = 'tasks_forgotten'"
    change(journal, f"UPDATE events SET reason = 'hidden' WHERE {drops}")
    assert found(journal)[0] == (stub.position, "stub")


def test_a_record_that_is_said_to_be_dropped_and_is_there_is_found(journal: Journal, tmp_path: Path) -> None:
    event = journal.create(input_file="/in", output_file="/out")
    journal.start(event)
    journal.play("complete", event - 1, 0)
    position = journal.records[-1].position
    columns = "actor, reason, event, data, attempt, life, terminal"
    with closing(sqlite3.connect(tmp_path / "log.db")) as conn:
        (kept,) = conn.execute(f"SELECT {columns} FROM events WHERE position = {position}").fetchall()
    journal.forget(event)
    values = ", ".join(f"{name} = {value!r}" for name, value in zip(columns.split(", "), kept, strict=True))
    change(journal, f"UPDATE events SET {values} WHERE position = {position}")
    assert (position, "stub") in found(journal)


def test_where_the_record_that_drops_was_changed_that_is_the_place(journal: Journal) -> None:
    other = """replace(data, '"positions":"2', '"positions":"3')"""
    change(journal, f"UPDATE events SET data = {other} WHERE event = 'tasks_forgotten'")
    position = next(one.position for one in journal.records if isinstance(one.event, TasksForgotten))
    told = found(journal)
    assert {code for at, code in told if not at} == {"stub"}
    assert next(at for at, _code in told if at) == position


def test_the_schema_lets_nobody_change_or_remove_a_record_later(journal: Journal, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as conn:
        for statement in (
            "UPDATE events SET reason = 'x' WHERE position = 3",
            "DELETE FROM events WHERE position = 3",
            "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 3",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                conn.execute("PRAGMA recursive_triggers = ON").connection.execute(statement)
    assert check(journal).findings == ()


def test_what_is_dropped_has_to_be_what_was_meant(journal: Journal) -> None:
    event = journal.forget(cancelled(journal)[0])
    head = journal.log.head()
    with pytest.raises(LogCorrupt, match="do not match its digest"):
        journal.record(0, event.__class__(tasks="2", positions="3", stubs="00", rule=event.rule))
    assert journal.log.head() == head
    assert check(journal).findings == ()


def test_what_was_dropped_is_in_neither_file_of_the_log(journal: Journal, tmp_path: Path) -> None:
    for task_id in (2, 4):
        journal.play("cancel", task_id - 1, 0)
    journal.forget(2, 4)
    log: SqliteEventLog = journal.log  # type: ignore[assignment]  # it is one here
    log.maintain()
    assert files_with(tmp_path, "qzxcanary") == []
    journal.create(input_file="/other", output_file="/data/out")  # and it goes on
    assert check(journal).findings == ()


def test_a_log_that_was_killed_before_it_was_cut_is_cut_by_the_next(journal: Journal, tmp_path: Path) -> None:
    for task_id in (2, 4):
        journal.play("cancel", task_id - 1, 0)
    journal.forget(2, 4)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("log.db", "log.db-wal"):
        (copy / name).write_bytes(content(tmp_path / name))
    assert b"qzxcanary" in (copy / "log.db-wal").read_bytes()
    with closing(SqliteEventLog(copy / "log.db", now=BEGIN)):
        assert files_with(copy, "qzxcanary") == []


def test_somebody_reads_while_it_is_to_be_cut_then_it_is_cut_later(journal: Journal, tmp_path: Path) -> None:
    journal.forget(2, 4)
    log: SqliteEventLog = journal.log  # type: ignore[assignment]  # it is one here
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        log.maintain()
        assert b"qzxcanary" in content(tmp_path / "log.db-wal")
        reader.execute("COMMIT")
        log.maintain()
    assert b"qzxcanary" not in content(tmp_path / "log.db-wal")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_long_histories_leave_nothing_of_what_was_dropped_on_any_page(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        for number in range(1, 151):
            word = f"qz{number:04}"
            task_id = journal.create(input_file="/" + word * chance.randrange(1, 900), output_file=f"/out/{number}")
            if chance.random() < 0.8:
                journal.play("cancel", task_id - 1, 0)
        random_history(journal, 100, seed)
        journal.forget(*journal.over())
        log.maintain()
        data = b"".join(map(content, tmp_path.iterdir()))
        words = {task_id for task_id in range(1, 151) if b"qz%04d" % task_id in data}
        assert words == set(range(1, 151)) - journal.forgotten
        assert check(journal).findings == ()


def test_a_check_beside_a_service_takes_nothing_for_damage_that_is_forgotten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "_PAGE", 2)  # the log is read in pages
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        for number in range(3):
            journal.create(input_file="/in", output_file=f"/out/{number}")
            journal.play("cancel", number, 0)
        views = TaskViews(tmp_path / "views.db")
        views.apply(journal.records)
        with closing(log.reader()) as reader:
            rows = reader.raw_rows()

            def raw_rows() -> Iterator[object]:
                yield next(rows)
                journal.forget(1, 2, 3)
                yield from rows

            monkeypatch.setattr(reader, "raw_rows", raw_rows)
            found = verify(reader, tmp_path / "views.db")
        assert found.findings == ()
        assert (found.views_position, found.records, found.stubs) == (None, 7, 4)
        for _ in range(2):  # views that are behind, then views that know what was forgotten and still have it
            with closing(log.reader()) as reader:
                found = verify(reader, tmp_path / "views.db")
            assert (found.findings, found.views_position, found.stubs) == ((), None, 6)
            views.apply(list(log.read(views.position)))
        views.close()


def test_views_of_a_version_that_words_a_rule_otherwise_are_as_the_log_says(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(TaskViews(tmp_path / "views.db")) as views:
        views.apply(list(journal.log.read()))
        monkeypatch.setattr(RetentionRule, "words", "1.08e+06 s")
        assert isinstance(journal.log, SqliteEventLog)
        with closing(journal.log.reader()) as reader:
            assert verify(reader, tmp_path / "views.db").findings == ()
        with pytest.raises(TaskForgotten, match=r": 1.08e\+06 s"):
            TaskQueries(views.connection).state(1)


def test_the_room_of_dropped_records_is_used_again(tmp_path: Path) -> None:
    sizes = []
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        for _ in range(4):
            for _ in range(30):
                task_id = journal.create(input_file="/" + "x" * 9000, output_file=f"/out/{len(journal.states)}")
                journal.play("cancel", task_id - 1, 0)
            journal.forget(*(task_id for task_id in journal.over() if task_id not in journal.forgotten))
            log.maintain()
            sizes.append((tmp_path / "log.db").stat().st_size)
    assert max(sizes) < 1.2 * sizes[0]


# --- a drop that somebody has forged, whose digest and hash fit ---


def forged(journal: Journal, positions: list[int], tasks: str, cause: str = "", older_than: float | None = 0.0) -> None:
    """Drop records as the log does, whoever appends such an event. `cause`: of the drop."""
    gone = [one for one in journal.log.read() if one.position in positions]
    left = ((one.position, one.task_id, one.version, timestamp(one.recorded_at), one.hash) for one in gone)
    event = TasksForgotten(
        tasks=tasks,
        positions=to_ranges(positions),
        stubs=digest_of(left),
        rule=RetentionRule(older_than=older_than),
    )
    fact = Fact(0, journal._system_version + 1, event, journal.at, "test", causation_id=cause)
    journal.log.append([fact], [], expected=journal.log.head().position)
    journal._system_version += 1
    journal.records = list(journal.log.read())


def cancelled(journal: Journal) -> tuple[int, list[int]]:
    """Create an ended task; return it and the positions of its records."""
    task_id = journal.create(input_file="/in", output_file="/out")
    journal.play("cancel", task_id - 1, 0)
    return task_id, [one.position for one in journal.records if one.task_id == task_id]


@pytest.mark.parametrize("tasks", ["9999", "1", "{}", "", "x"])
def test_one_record_of_a_task_cannot_be_hidden(journal: Journal, tasks: str) -> None:
    task_id, (created, ended) = cancelled(journal)
    forged(journal, [ended], tasks.format(task_id))
    told = [one for one in check(journal).findings if one.code == "stub"]
    assert told
    assert {one.position for one in told} <= {created, ended, journal.records[-1].position}


@pytest.mark.parametrize("tasks", ["{},9999", "{}-99999999999"])
def test_only_tasks_that_were_there_can_be_forgotten(journal: Journal, tasks: str) -> None:
    task_id, positions = cancelled(journal)
    forged(journal, positions, tasks.format(task_id))
    assert found(journal) == [(journal.records[-1].position, "stub")]


def test_a_task_that_was_only_created_was_not_over(journal: Journal) -> None:
    task_id = journal.create(input_file="/in", output_file="/out")
    forged(journal, [journal.records[-1].position], str(task_id))
    assert found(journal) == [(journal.records[-1].position, "stub")]


@pytest.mark.parametrize("older_than", [60.0, None])
def test_a_task_is_not_forgotten_before_its_time(journal: Journal, older_than: float | None) -> None:
    task_id, positions = cancelled(journal)
    forged(journal, positions, str(task_id), older_than=older_than)
    assert found(journal) == [(journal.records[-1].position, "stub")]


def test_a_record_of_a_forgotten_task_cannot_come_back(journal: Journal) -> None:
    task_id, positions = cancelled(journal)
    forged(journal, positions, str(task_id))
    assert found(journal) == []
    journal.record(task_id, Retried(cause="manual"))
    assert found(journal) == [(journal.records[-1].position, "stub")]


def test_a_task_is_not_forgotten_twice(journal: Journal) -> None:
    task_id, positions = cancelled(journal)
    forged(journal, positions, str(task_id))
    _, others = cancelled(journal)
    forged(journal, others, f"{task_id},{task_id + 1}")
    assert "stub" in {code for _, code in found(journal)}


@pytest.mark.parametrize("tasks", ["", "{}"])
def test_a_record_of_the_service_is_not_dropped_before_a_task_it_could_speak_of(journal: Journal, tasks: str) -> None:
    journal.record(0, QueuePaused())
    refused = journal.records[-1].position
    task_id, positions = cancelled(journal)
    forged(journal, [refused, *(positions if tasks else ())], tasks.format(task_id))
    assert found(journal)[0] == (refused, "stub")


def test_stubs_of_the_service_are_counted_by_themselves(journal: Journal) -> None:
    verification = check(journal)
    assert (verification.stubs, verification.stubs_of_service, verification.drops) == (7, 1, 1)


def test_what_an_open_task_refers_to_is_not_forgotten(journal: Journal) -> None:
    task_id, positions = cancelled(journal)
    journal.create(input_file="/in", output_file="/other", parent_task_id=task_id)
    forged(journal, positions, str(task_id))
    assert found(journal) == [(journal.records[-1].position, "illegal")]


@pytest.mark.parametrize(("older_than", "codes"), [(0.0, []), (0.5, ["illegal"])])
def test_a_rule_is_the_one_that_is_recorded(journal: Journal, older_than: float, codes: list[str]) -> None:
    journal.record(0, RetentionConfigured(rules=(RetentionRule(older_than=0.0),)))
    configured = journal.records[-1].position
    task_id, positions = cancelled(journal)
    journal.at += timedelta(seconds=1)
    forged(journal, positions, str(task_id), cause=f"event:{configured}", older_than=older_than)
    assert found(journal) == [(journal.records[-1].position, code) for code in codes]


def test_a_history_with_a_stub_of_its_own_is_not_proven(journal: Journal, tmp_path: Path) -> None:
    task_id, (_created, ended) = cancelled(journal)
    log: SqliteEventLog = journal.log  # type: ignore[assignment]  # it is one here
    with closing(log.reader()) as reader:
        make_seal(reader, tmp_path / "seals", tmp_path / "seal-key", BEGIN)
        forged(journal, [ended], str(task_id))
        with pytest.raises(NotAsSealed, match=f"record at {ended}"):
            prove(reader, tmp_path / "seals", task_id)


@pytest.mark.parametrize("ranges", ["x", "9-3", "-5"])
def test_a_record_that_forgets_no_tasks_that_can_be_read_is_damage(tmp_path: Path, ranges: str) -> None:
    path = tmp_path / "log.db"
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        journal = Journal(log)
        journal.create()
        rule = RetentionRule(older_than=0.0)
        journal.record(0, TasksForgotten(tasks=ranges, positions="", stubs=digest_of(()), rule=rule))
        last = log.head().position
        with pytest.raises(LogCorrupt, match=f"Position {last}: which tasks were forgotten cannot be read"):
            folded(journal)
    with closing(SqliteLogReader(path)) as reader:
        assert [(one.position, one.code) for one in verify(reader).findings] == [(last, "stub")]


def test_a_backup_of_a_log_whose_ranges_were_changed_is_refused_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        journal = Journal(log)
        task_id = journal.create()
        journal.send(CancelTask(task_id=task_id))
        journal.forget(task_id)
        last = log.head().position
    with forging(path) as conn:
        conn.execute("UPDATE events SET data = json_set(data, '$.positions', '9-3') WHERE event = 'tasks_forgotten'")
    with pytest.raises(LogCorrupt, match="does not say in ranges what was dropped"):
        check_chain(path, 0, last)
