"""A log in which tasks were forgotten is as sound as before, and every fold of it is a fold of what is left."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from histories import BEGIN, OPERATIONS, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.snapshots import folded_outbox, folded_state
from tasktrail.events.errors import LogCorrupt, TaskForgotten
from tasktrail.events.log import integrity
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.recorded import Stub
from tasktrail.events.system_events import ServiceStarted, TasksForgotten
from tasktrail.projections import TaskFilters, TaskQueries, TaskViews, Verification
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
"""A new task may refer to any, and a service would not let it refer to one that was forgotten."""


def forget_some(journal: Journal, chance: Random) -> list[int]:
    """Forget most of what is over, then go on a little."""
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
    )  # no number is given twice
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
    """A history in which tasks 1 and 3 are over, and were forgotten; tasks 2 and 4 were not."""
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
    """As an intruder does it, who takes the triggers away and puts them back."""
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


def test_words_in_a_stub_are_found(journal: Journal) -> None:
    stub = next(one for one in journal.records if isinstance(one.event, Stub))
    change(journal, f"UPDATE events SET reason = 'hidden' WHERE position = {stub.position}")
    assert [one for one in found(journal) if one[1] == "stub"] == [(stub.position, "stub")], (
        "the others are as they were"
    )


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
    event = journal.forget(journal.create(input_file="/in", output_file="/out"))
    head = journal.log.head()
    with pytest.raises(LogCorrupt, match="other ones"):
        journal.record(0, event.__class__(tasks="2", positions="3", stubs="00", rule=event.rule))
    assert journal.log.head() == head
    assert check(journal).findings == ()


def test_what_was_dropped_is_in_neither_file_of_the_log(journal: Journal, tmp_path: Path) -> None:
    journal.forget(2, 4)
    log: SqliteEventLog = journal.log  # type: ignore[assignment]  # it is one here
    log.maintain()
    assert [path.name for path in tmp_path.iterdir() if b"qzxcanary" in path.read_bytes()] == []
    journal.create(input_file="/other", output_file="/data/out")  # and it goes on
    assert check(journal).findings == ()


def test_a_log_that_was_killed_before_it_was_cut_is_cut_by_the_next(journal: Journal, tmp_path: Path) -> None:
    journal.forget(2, 4)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("log.db", "log.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    assert b"qzxcanary" in (copy / "log.db-wal").read_bytes()
    with closing(SqliteEventLog(copy / "log.db", now=BEGIN)):
        assert [path.name for path in copy.iterdir() if b"qzxcanary" in path.read_bytes()] == []


def test_somebody_reads_while_it_is_to_be_cut_then_it_is_cut_later(journal: Journal, tmp_path: Path) -> None:
    journal.forget(2, 4)
    log: SqliteEventLog = journal.log  # type: ignore[assignment]  # it is one here
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        log.maintain()
        assert b"qzxcanary" in (tmp_path / "log.db-wal").read_bytes()
        reader.execute("COMMIT")
        log.maintain()
    assert b"qzxcanary" not in (tmp_path / "log.db-wal").read_bytes()


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
        data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
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
        for _ in range(2):  # views that are behind, then such that know what was forgotten and still have it
            with closing(log.reader()) as reader:
                found = verify(reader, tmp_path / "views.db")
            assert (found.findings, found.views_position, found.stubs) == ((), None, 6)
            views.apply(list(log.read(views.position)))
        views.close()


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
