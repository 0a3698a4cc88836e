"""The writing side: the cost of a batch, no double counting, and views that can always be rebuilt."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from itertools import cycle, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from histories import BEGIN, OPERATIONS, Journal
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events.errors import HistoryMissing, LogCorrupt
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptProgressed
from tasktrail.events.system_events import SYSTEM_TAGS
from tasktrail.projections import (
    TaskFilters,
    TaskQueries,
    TaskViews,
    ViewsDamaged,
    ViewsFailed,
    ViewsGap,
    catch_up,
    comparison,
    rebuild_views,
)
from tasktrail.projections.views import writer as module
from tasktrail.projections.views.checksums import KEYS, WRITTEN
from tasktrail.projections.views.rebuild import pull
from tasktrail.projections.views.rows import SPEAK_OF_A_TASK
from tasktrail.projections.views.schema import TEXT_INDEXES

TABLES = ("tasks", "counts", "totals", "durations", "ends", "minutes", "batches", "progress", *WRITTEN)
steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 20), st.integers(0, 100)), max_size=60)


def content(views: TaskViews) -> dict[str, Any]:
    """Return everything in the views, except numbers that have dropped to nothing."""
    conn = views.connection
    tables: dict[str, Any] = {
        table: conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES
    }
    tables["counts"] = [row for row in tables["counts"] if row[2]]
    for table in TEXT_INDEXES:
        conn.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{table}_words USING fts5vocab (main, {table}, instance)")
        tables[table] = sorted(conn.execute(f"SELECT term, doc, col FROM temp.{table}_words"))
    return tables


def writes(views: TaskViews, do: Callable[[], None]) -> list[str]:
    """Return the statements that wrote rows of tasks."""
    statements: list[str] = []
    views.connection.set_trace_callback(statements.append)
    do()
    views.connection.set_trace_callback(None)
    return [line for line in statements if line.startswith(("INSERT INTO tasks", "UPDATE tasks"))]


def test_a_task_that_changed_many_times_in_a_batch_costs_one_row(journal: Journal) -> None:
    task_id = journal.create()
    journal.start(task_id)
    for percent in range(50):
        journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=percent))
    views = TaskViews(":memory:")
    assert len(writes(views, lambda: views.apply(journal.records))) == 1


def test_progress_alone_leaves_the_other_indexes_alone(journal: Journal) -> None:
    task_id = journal.create()
    journal.start(task_id)
    views = TaskViews(":memory:")
    views.apply(journal.records)
    progress = journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=50.0))
    [statement] = writes(views, lambda: views.apply(progress))
    assert "status" not in statement.partition("state")[0]


@pytest.mark.slow
@given(steps, st.lists(st.integers(0, 60), max_size=6))
def test_however_records_are_cut_into_batches_the_views_are_the_same(
    steps: list[tuple[str, int, int]], cuts: list[int]
) -> None:
    journal = Journal(MemoryEventLog())
    for step in steps:
        journal.play(*step)
    whole, pieces = TaskViews(":memory:"), TaskViews(":memory:")
    whole.apply(journal.records)
    for start, end in pairwise(sorted({0, len(journal.records), *cuts})):
        pieces.apply(journal.records[start:end])
    assert content(whole) == content(pieces)
    for state in journal.states.values():
        assert TaskQueries(whole.connection).state(state.id) == state
    whole.close()
    pieces.close()


def test_what_was_applied_before_is_skipped(history: Journal) -> None:
    views = TaskViews(":memory:")
    views.apply(history.records[:200])
    before = content(views)
    views.apply(history.records[50:200])
    assert content(views) == before
    views.apply(history.records[100:])
    twin = TaskViews(":memory:")
    twin.apply(history.records)
    assert content(views) == content(twin)


@pytest.mark.parametrize("records", [slice(11, 20), slice(None, None, -1)])
def test_a_gap_is_refused_and_changes_nothing(history: Journal, records: slice) -> None:
    views = TaskViews(":memory:")
    views.apply(history.records[:10])
    before = content(views)
    with pytest.raises(ViewsGap):
        views.apply(history.records[10:30][records])
    assert content(views) == before
    assert views.position == 10


def test_a_state_pushed_out_of_memory_is_read_back(history: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = TaskViews(":memory:")
    twin.apply(history.records)
    monkeypatch.setattr(module, "_HOT", 2)
    views = TaskViews(":memory:")
    for record in history.records:
        views.apply([record])
        assert len(views._hot) <= 2
    assert content(views) == content(twin)


def test_only_unfinished_tasks_are_kept_in_memory(history: Journal) -> None:
    views = TaskViews(":memory:")
    views.apply(history.records)
    assert set(views._hot) <= {state.id for state in history.states.values() if not state.finished}


def test_two_writers_that_take_turns_each_go_on_where_the_other_stopped(history: Journal, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    records = history.records
    with closing(TaskViews(path)) as one, closing(TaskViews(path)) as other, closing(TaskViews(":memory:")) as whole:
        for first, views in zip(range(0, len(records), 7), cycle((one, other, other, one)), strict=False):
            views.refresh()
            assert views.position == first
            views.apply(records[first : first + 7])
        whole.apply(records)
        one.refresh()
        assert content(one) == content(whole)


def test_views_go_on_where_they_were_after_opening_again(history: Journal, tmp_path: Path) -> None:
    views = TaskViews(tmp_path / "views.db")
    views.apply(history.records[:100])
    views.close()
    again = TaskViews(tmp_path / "views.db")
    assert again.position == 100
    again.apply(history.records[100:])
    twin = TaskViews(":memory:")
    twin.apply(history.records)
    assert content(again) == content(twin)
    again.close()


def test_a_log_that_speaks_of_an_unknown_task_is_corrupt_and_changes_nothing(history: Journal) -> None:
    views = TaskViews(":memory:")
    views.apply(history.records[:10])
    started = next(record for record in history.records if record.attempt)
    stray = type(started)(999, 1, started.event, started.recorded_at, position=11)
    before = content(views)
    with pytest.raises(LogCorrupt, match="Position 11"):
        views.apply([stray])
    assert content(views) == before


def test_a_full_disk_changes_nothing_and_is_gone_when_there_is_room(history: Journal, tmp_path: Path) -> None:
    views = TaskViews(tmp_path / "views.db")
    views.apply(history.records[:10])
    before = content(views)
    pages = views.connection.execute("PRAGMA page_count").fetchone()[0]
    views.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ViewsFailed):
        views.apply(history.records[10:])
    assert content(views) == before
    assert views.position == 10
    views.connection.execute("PRAGMA max_page_count = 100000")
    views.apply(history.records[10:])
    assert views.position == len(history.records)
    views.close()


def test_views_are_not_synced_at_each_commit(tmp_path: Path) -> None:
    views = TaskViews(tmp_path / "views.db")
    views.close()
    views = TaskViews(tmp_path / "views.db")
    assert views.connection.execute("PRAGMA synchronous").fetchone() == (1,)
    assert views.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    views.close()


@pytest.mark.parametrize("damage", ["stamp", "garbage", "empty", "table", "leftovers"])
def test_a_file_that_is_of_no_use_is_thrown_away(history: Journal, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "views.db"
    views = TaskViews(path)
    views.apply(history.records)
    views.close()
    if damage == "stamp":
        _sql(path, "PRAGMA user_version = 1")
    elif damage == "garbage":
        path.write_bytes(b"no database " * 1000)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "table":
        _sql(path, "DROP TABLE progress")
    else:
        path.unlink()
        path.with_name("views.db-wal").write_bytes(b"old" * 5000)
    views = TaskViews(path)
    assert views.position == 0
    assert catch_up(history.log, views) == len(history.records)
    views.close()


def test_a_folder_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ViewsFailed):
        TaskViews(tmp_path / "missing" / "views.db")


def _sql(path: Path, statement: str) -> None:
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute(statement)
    conn.close()


def test_catching_up_reads_only_what_is_missing(history: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.projections.views.rebuild.PAGE", 50)
    views, reached = TaskViews(":memory:"), []
    views.apply(history.records[:120])
    end = catch_up(history.log, views, lambda position, head: reached.append((position, head)))
    assert end == views.position == len(history.records)
    assert reached[0] == (169, end)  # 50, with the record before
    assert reached[-1] == (end, end)
    assert catch_up(history.log, views) == end


def test_views_of_another_log_are_not_folded_on(history: Journal, tmp_path: Path) -> None:
    other = Journal(MemoryEventLog(), BEGIN + timedelta(days=1))
    for _number in range(20):
        other.create()
    views = TaskViews(tmp_path / "views.db")
    views.apply(history.records)
    with pytest.raises(HistoryMissing):
        catch_up(other.log, views)
    views.close()


def test_a_log_that_becomes_another_one_between_two_pages_is_not_folded_on(history: Journal) -> None:
    other = Journal(MemoryEventLog(), BEGIN + timedelta(days=1))
    for _number in range(200):
        other.create()
    log = SimpleNamespace(read=history.log.read, head=history.log.head, take_missing_keys=history.log.take_missing_keys)

    def fail_over(*_: int) -> None:
        log.read, log.head = other.log.read, other.log.head

    views = TaskViews(":memory:")
    with pytest.raises(HistoryMissing, match=r"position 50,.* ends at 200"):
        pull(log, views, 200, 50, fail_over)
    assert views.position == 50


@pytest.mark.parametrize("kept", [50, 0])
def test_views_that_are_ahead_of_the_log_are_not_taken_back_without_a_word(history: Journal, kept: int) -> None:
    older = MemoryEventLog()
    older.append(history.records[:kept], expected=0)
    views = TaskViews(":memory:")
    views.apply(history.records)
    with pytest.raises(HistoryMissing, match=f"position {len(history.records)}.* ends at {kept}"):
        catch_up(older, views)
    assert views.position == len(history.records)


def test_a_rebuild_equals_what_was_kept_up(history: Journal, tmp_path: Path) -> None:
    kept = TaskViews(tmp_path / "kept.db")
    for record in history.records:
        kept.apply([record])
    assert rebuild_views(history.log, tmp_path / "views.db") == len(history.records)
    rebuilt = TaskViews(tmp_path / "views.db")
    assert content(rebuilt) == content(kept)
    assert sorted(path.name for path in tmp_path.iterdir() if "new" in path.name) == []
    rebuilt.close()
    kept.close()


def test_a_rebuild_replaces_the_old_views_under_open_readers(history: Journal, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    views = TaskViews(path)
    views.apply(history.records[:100])
    _sql(path, "UPDATE tasks SET status = 'wrong'")
    reader = TaskQueries.open(path)
    assert reader.position == 100
    rebuild_views(history.log, path)
    assert reader.position == len(history.records)
    assert reader.list(TaskFilters(), history.at)[1] == len(history.states)
    views.apply(history.records[100:])
    assert views.position == len(history.records)
    reader.close()
    views.close()


def test_a_rebuild_replaces_a_file_that_is_no_database(history: Journal, tmp_path: Path) -> None:
    (tmp_path / "views.db").write_bytes(b"no database " * 1000)
    assert rebuild_views(history.log, tmp_path / "views.db") == len(history.records)
    views = TaskViews(tmp_path / "views.db")
    assert views.position == len(history.records)


def test_a_rebuild_that_cannot_be_put_into_place_is_a_typed_error(history: Journal, tmp_path: Path) -> None:
    (tmp_path / "views.db").mkdir()
    with pytest.raises(ViewsFailed):
        rebuild_views(history.log, tmp_path / "views.db")
    assert [path.name for path in tmp_path.iterdir()] == ["views.db"]


def test_a_rebuild_that_fails_leaves_the_old_views_and_no_litter(history: Journal, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    rebuild_views(history.log, path)
    broken = MemoryEventLog()
    broken._records = history.records[5:]
    with pytest.raises(ViewsGap):
        rebuild_views(broken, path)
    views = TaskViews(path)
    assert views.position == len(history.records)
    views.close()
    assert [file.name for file in tmp_path.iterdir()] == ["views.db"]


def test_a_rebuild_from_a_log_that_has_become_another_one_meanwhile_leaves_the_old_views(
    history: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, size = tmp_path / "views.db", len(history.records)
    rebuild_views(history.log, path)
    other = MemoryEventLog()
    other.append(
        [*history.records[:-3], *(replace(record, actor="somebody else") for record in history.records[-3:])],
        expected=0,
    )

    def fail_over(reached: int, _until: int) -> None:
        if reached == 50:
            log.read = other.read

    log: Any = SimpleNamespace(
        read=history.log.read,
        head=history.log.head,
        drops=history.log.drops,
        take_missing_keys=history.log.take_missing_keys,
    )
    monkeypatch.setattr("tasktrail.projections.views.rebuild.BULK_PAGE", 50)
    with pytest.raises(HistoryMissing):
        rebuild_views(log, path, fail_over)
    views = TaskViews(path)
    assert (views.position, views.hash) == (size, history.records[-1].hash)
    views.close()
    assert [file.name for file in tmp_path.iterdir()] == ["views.db"]


def test_views_deleted_under_the_writer_leave_no_empty_ones_and_are_built_again(
    history: Journal, tmp_path: Path
) -> None:
    """An empty file in their place answered that there are no tasks, until everything was folded again."""
    path = tmp_path / "views.db"
    views = TaskViews(path)
    views.apply(history.records[:100])
    reader = TaskQueries.open(path)
    for name in ("views.db", "views.db-wal", "views.db-shm"):
        (tmp_path / name).unlink()
    with pytest.raises(ViewsDamaged, match="was deleted"):
        views.apply(history.records[100:])
    assert not path.exists()
    rebuild_views(history.log, path)
    assert catch_up(history.log, views) == len(history.records)
    assert reader.position == len(history.records)
    reader.close()
    views.close()


@pytest.mark.parametrize("lost", ["views.db-wal", "views.db-shm"])
def test_views_that_have_lost_a_file_are_deleted_when_the_writer_sees_it(
    history: Journal, tmp_path: Path, lost: str
) -> None:
    """A copy into them would go to readers that have the lost file, and to others that have a new one."""
    path = tmp_path / "views.db"
    views = TaskViews(path)
    views.apply(history.records[:100])
    (tmp_path / lost).unlink()
    (tmp_path / lost).touch()
    with pytest.raises(ViewsDamaged, match="A part"):
        views.apply(history.records[100:])
    assert list(tmp_path.iterdir()) == []
    views.close()


def test_another_file_is_not_read_with_the_write_ahead_log_of_the_last_one(history: Journal, tmp_path: Path) -> None:
    path, aside = tmp_path / "views.db", tmp_path / "aside.db"
    rebuild_views(history.log, aside)
    views = TaskViews(path)
    views.apply(history.records[:100])
    aside.replace(path)
    with pytest.raises(ViewsDamaged, match="A part"):
        views.refresh()
    assert list(tmp_path.iterdir()) == []
    views.abandon()


def test_views_of_a_long_log_are_not_begun_empty(history: Journal, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    with pytest.raises(ViewsDamaged, match="is not there"):
        TaskViews(path, begin=False)
    assert list(tmp_path.iterdir()) == []
    rebuild_views(history.log, path)
    _sql(path, "PRAGMA user_version = 1")
    with pytest.raises(ViewsDamaged, match="is damaged or of another version"):
        TaskViews(path, begin=False)
    rebuild_views(history.log, path)
    with closing(TaskViews(path, begin=False)) as views:
        assert views.position == len(history.records)


def test_a_reader_of_views_that_are_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ViewsDamaged, match="is not there"):
        TaskQueries.open(tmp_path / "views.db")
    assert list(tmp_path.iterdir()) == []


def test_views_that_cannot_be_looked_for_are_not_called_deleted(
    history: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a right to the folder, nobody knows; built anew, they would be for nothing."""
    path = tmp_path / "views.db"
    rebuild_views(history.log, path)
    views, reader = TaskViews(path), TaskQueries.open(path)
    looked = os.stat

    def refused(file: Any, *args: Any, **options: Any) -> Any:
        if str(file).startswith(str(path)):
            raise PermissionError(13, "Permission denied", str(file))
        return looked(file, *args, **options)

    def unopened(*_: Any, **_options: Any) -> Any:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refused)
        patched.setattr(Path, "stat", refused)
        patched.setattr(sqlite3, "connect", unopened)
        with pytest.raises(PermissionError):
            views.refresh()
        for asked in (lambda: reader.position, lambda: TaskQueries.open(path)):
            with pytest.raises(ViewsFailed) as failed:
                asked()
            assert failed.type is ViewsFailed
            assert "belong to the user" in failed.value.advice
    views.refresh()
    assert reader.position == views.position
    reader.close()
    views.close()


def test_a_reader_that_asks_while_the_file_is_gone_goes_on_with_the_next_one_even_of_the_same_number(
    history: Journal, tmp_path: Path
) -> None:
    """A file system reuses the number of a deleted file, so the next file may look like the last one."""
    path, aside = tmp_path / "views.db", tmp_path / "aside"
    rebuild_views(history.log, path)
    reader = TaskQueries.open(path)
    path.rename(aside)
    with pytest.raises(ViewsFailed):
        _ = reader.position
    aside.rename(path)
    assert reader.position == len(history.records)
    reader.close()


def test_a_reader_sees_a_whole_batch_or_nothing_of_it(history: Journal, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    views = TaskViews(path)
    reader = TaskQueries.open(path)
    for start in range(0, len(history.records), 25):
        views.apply(history.records[start : start + 25])
        stats = reader.stats(history.at)
        assert stats.position == views.position
        assert reader.list(TaskFilters(limit=1), history.at)[1] == stats.total
    reader.close()
    views.close()


def test_a_reader_cannot_write(history: Journal, tmp_path: Path) -> None:
    rebuild_views(history.log, tmp_path / "views.db")
    reader = TaskQueries.open(tmp_path / "views.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._conn.execute("DELETE FROM tasks")
    reader.close()


def test_a_write_by_another_in_the_middle_of_a_batch_is_noticed(
    history: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = TaskViews(tmp_path / "views.db"), TaskViews(tmp_path / "views.db")
    one.apply(history.records[:10])
    with monkeypatch.context() as patched:
        patched.setattr(TaskViews, "refresh", lambda _: None)  # it looked before the other one wrote
        with pytest.raises(ViewsGap):
            other.apply(history.records[:20])
    assert other.position == 10
    other.apply(history.records[:20])
    one.close()
    other.close()


def test_a_kill_while_views_are_begun_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without tables looks damaged to `verify`."""

    def killed(*_arguments: object, **_options: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("tasktrail.projections.views.schema.create_tables", killed)
        with pytest.raises(SystemExit):
            TaskViews(tmp_path / "views.db")
    assert not (tmp_path / "views.db").exists()
    TaskViews(tmp_path / "views.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["views.db"]


def test_views_that_are_begun_are_never_there_without_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, connect, sizes = tmp_path / "views.db", sqlite3.connect, list[int]()

    def watched(file: Path | str, **how: Any) -> Any:
        if path.exists():
            sizes.append(path.stat().st_size)
        return connect(file, **how)

    monkeypatch.setattr(sqlite3, "connect", watched)
    TaskViews(path).close()
    assert sizes
    assert min(sizes) > 0


def test_every_table_has_checksums_and_is_compared_by_verify() -> None:
    found = TaskViews(":memory:").connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    tables = {name for (name,) in found if not name.startswith(tuple(f"{index}_" for index in TEXT_INDEXES))}
    summed = {*KEYS, *WRITTEN, "tasks", *TEXT_INDEXES}
    assert tables == summed, "add the table to KEYS in projections/views/checksums.py"
    compared = {"tasks", *comparison._OF_THE_LOG, *comparison._NUMBERS}
    tables.remove("missing_keys")  # it follows from the keys that were there, not from the log
    assert compared >= tables, "add the table to _NUMBERS in projections/comparison.py"


def test_what_the_service_notes_about_a_task_is_found_by_the_task() -> None:
    about_a_task = {kind for kind in SYSTEM_TAGS if "task_id" in kind.__struct_fields__}
    assert set(get_args(SPEAK_OF_A_TASK)) == about_a_task, "history shows only what SPEAK_OF_A_TASK names"
