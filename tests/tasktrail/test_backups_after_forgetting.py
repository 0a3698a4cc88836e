"""A backup can be based on an earlier one although records in that one were forgotten or archived since."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import archiving
import pytest
from histories import BEGIN, Journal, random_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leftovers import WORD, plant

from tasktrail import TaskService
from tasktrail.actors.archiver import Archiver
from tasktrail.backups import incremental
from tasktrail.backups.backup import back_up
from tasktrail.backups.restore import restore
from tasktrail.events.errors import BaseUnfit, LogCorrupt, TaskForgotten
from tasktrail.events.log.archives import archived_until
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.verification import verify

Opener = Callable[..., TaskService]

CANARY = "qzxcanary"
TABLES = ("events", "answers", "epochs", "_sqlite_migrations", "archives", "archived_kinds", "archived_tasks")


def rows_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a log, table by table, without their place in the file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as log:
        log.text_factory = bytes
        return {name: log.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES}


def archives_in(path: Path) -> set[str]:
    with closing(SqliteLogReader(path)) as log:
        return {segment.name for segment in log.segments()}


def findings_of(path: Path) -> tuple[Any, ...]:
    with closing(SqliteLogReader(path)) as log:
        return verify(log).findings


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    steps=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.sampled_from([0, 1, 25, 1000]), st.booleans()),
        min_size=2,
        max_size=5,
    ),
    at_once=st.sampled_from([1, 7, 50_000]),
)
def test_whatever_went_it_is_row_for_row_a_whole_one(
    seed: int, steps: list[tuple[int, int, int, bool]], at_once: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Steps: of a history, forgotten tasks, records that stay unarchived, and whether a backup is taken."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "data").mkdir()
    for name in ("backups", "whole"):
        (folder / name).mkdir()
    base: Path | None = None
    with pytest.MonkeyPatch.context() as patch, closing(SqliteEventLog(folder / "data" / "log.db", now=BEGIN)) as log:
        patch.setattr(incremental, "_STEP", at_once)
        journal = Journal(log)
        for number, (more, gone, kept, taken) in enumerate(steps):
            random_history(journal, more + 1, seed + number)
            for task_id in [one for one in journal.over() if one not in journal.forgotten][:gone]:
                archiving.forget(journal, task_id)
            last = log.head().position - max(kept, 1)
            if kept and last > archived_until(log._conn):
                archiving.archive(journal, last)
            if not taken and number < len(steps) - 1:
                continue
            made = folder / "backups" / f"{number}.db"
            whole = back_up(folder / "data", folder / "whole" / f"{number}.db")
            done = back_up(folder / "data", made, base=base, check=number % 2 == 0)
            assert rows_of(made) == rows_of(Path(whole.path))
            assert (done.position, done.head, done.archives) == (whole.position, whole.head, whole.archives)
            assert findings_of(made) == ()
            assert done.base == (str(base) if base else "")
            base = made


def test_what_was_forgotten_since_is_not_in_it(open_service: Opener, tmp_path: Path) -> None:
    with open_service() as service:
        gone = [service.create_task(type="echo", label=CANARY, command_id=f"c-{number}") for number in range(3)]
        kept = service.create_task(type="echo", label="kept")
        for task_id in (*gone, kept):
            service.wait(task_id, 60)
        service.cancel_task(service.create_task(type="echo", held=True))
        first = service.backup(tmp_path / "first.db")
        assert CANARY.encode() in Path(first.path).read_bytes()
        service.forget(0, status="completed", type="echo")
        again = service.create_task(type="echo", command_id="c-1")
        assert again > kept, "the id of a command that only led to what was forgotten is free"
        second = service.backup(tmp_path / "second.db", base=first.path)
        whole = service.backup(tmp_path / "whole.db")
    assert second.base == first.path
    assert CANARY.encode() not in Path(second.path).read_bytes()
    assert {name: rows for name, rows in rows_of(Path(second.path)).items() if name != "events"} == {
        name: rows for name, rows in rows_of(Path(whole.path)).items() if name != "events"
    }
    assert restore(second.path, tmp_path / "again").position == second.position
    with TaskService.open(tmp_path / "again", config=service._system.config) as restored:
        assert restored.verify().findings == ()
        with pytest.raises(TaskForgotten):
            restored.get_task(gone[0])
        assert restored.create_task(type="echo", command_id="c-1") == again
    assert restore(first.path, tmp_path / "before").position == first.position, "the earlier one is as it was"


def test_what_sqlite_leaves_of_rows_that_it_has_moved_is_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "log.db"
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        journal = Journal(log)
        random_history(journal, 300, seed=3)
    first = back_up(tmp_path / "data", tmp_path / "first.db")
    for file in (path, Path(first.path)):
        assert plant(file)
    whole = back_up(tmp_path / "data", tmp_path / "whole.db")
    assert WORD not in Path(whole.path).read_bytes()
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        journal.log = log
        journal.forget(journal.over()[0])
        second = back_up(tmp_path / "data", tmp_path / "second.db", base=first.path)
    assert second.base == first.path
    assert WORD not in Path(second.path).read_bytes()
    assert findings_of(Path(second.path)) == ()


def test_what_was_archived_since_is_in_its_archives(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archiver, "size", 16)
    (tmp_path / "backups").mkdir()
    with open_service() as service:
        ids = [service.create_task(type="echo", label=CANARY, command_id=f"c-{number}") for number in range(6)]
        for task_id in ids:
            service.wait(task_id, 60)
        first = service.backup(tmp_path / "backups" / "first.db")
        more = [service.create_task(type="echo", command_id=f"d-{number}") for number in range(8)]
        for task_id in more:
            service.wait(task_id, 60)
        assert service.archive().until > first.position
        second = service.backup(tmp_path / "backups" / "second.db", base=tmp_path / "backups" / "first.db")
        old = archives_in(service.paths.log)
        service.forget(0, status="completed")
        third = service.backup(tmp_path / "backups" / "third.db", base=second.path)
        assert archives_in(service.paths.log) != old
        with closing(SqliteLogReader(service.paths.log)) as log:
            events = [record.name for record in log.read()]
    assert (second.base, third.base) == (first.path, second.path)
    assert second.archives == second.archives_added > 0
    assert CANARY.encode() not in Path(third.path).read_bytes()
    for made in (first, second, third):
        assert restore(made.path, tmp_path / f"again-{made.position}").position == made.position
        assert findings_of(tmp_path / f"again-{made.position}" / "log.db") == ()
    with closing(SqliteLogReader(tmp_path / f"again-{third.position}" / "log.db")) as log:
        assert [record.name for record in log.read()] == events
        assert log.segments()


def test_an_archive_is_not_written_through_a_link_that_somebody_has_put_there(journal: Journal, tmp_path: Path) -> None:
    archiving.archive(journal, journal.log.head().position - 1)
    (name,) = archives_in(tmp_path / "data" / "log.db")
    precious = tmp_path / "precious"
    precious.write_text("of somebody else")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / f"{name}.part").symlink_to(precious)

    assert back_up(tmp_path / "data", tmp_path / "copy.db").archives_added == 1
    assert precious.read_text() == "of somebody else"
    assert [path.name for path in (tmp_path / "archive").iterdir()] == [name]
    assert not (tmp_path / "archive" / name).is_symlink()


def test_where_histories_part_is_told_across_archives(journal: Journal, tmp_path: Path) -> None:
    back_up(tmp_path / "data", tmp_path / "first.db")
    parting = journal.log.head().position
    restore(tmp_path / "first.db", tmp_path / "other")
    with closing(SqliteEventLog(tmp_path / "other" / "log.db", now=BEGIN)) as log:
        other = Journal(log)
        other.states, other._system_version = dict(journal.states), journal._system_version
        other._epoch = log.epoch
        random_history(other, 40, seed=77)
    random_history(journal, 300, seed=9)
    (tmp_path / "of other").mkdir()
    taken = back_up(tmp_path / "other", tmp_path / "of other" / "other.db")
    assert journal.log.head().position > taken.position
    archiving.archive(journal, journal.log.head().position - 1)
    with pytest.raises(BaseUnfit, match=f"up to position {parting} only"):
        back_up(tmp_path / "data", tmp_path / "second.db", base=taken.path)
    assert not (tmp_path / "second.db").exists()


def test_an_earlier_one_that_is_not_what_was_forgotten_is_refused(journal: Journal, tmp_path: Path) -> None:
    first = back_up(tmp_path / "data", tmp_path / "first.db")
    gone = journal.over()[0]
    journal.forget(gone)
    with closing(sqlite3.connect(first.path)) as base:
        base.execute("DROP TRIGGER events_are_not_changed")
        base.execute("UPDATE events SET recorded_at = recorded_at || ' ' WHERE task_id = ? AND version = 2", (gone,))
        base.execute(
            "CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events\n"
            "        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END"
        )
        base.commit()
    with pytest.raises(BaseUnfit, match="is damaged"):
        back_up(tmp_path / "data", tmp_path / "second.db", base=first.path)
    (tmp_path / "folder").mkdir()
    Path(first.path).rename(tmp_path / "folder" / "tasktrail-20260101T000000Z-7.db")
    whole = back_up(tmp_path / "data", tmp_path / "second.db", base=tmp_path / "folder")
    assert (whole.base, "is damaged" in whole.note) == ("", True)


def test_a_log_that_is_not_what_it_says_of_stubs_gives_none(journal: Journal, tmp_path: Path) -> None:
    first = back_up(tmp_path / "data", tmp_path / "first.db")
    gone = journal.over()[0]
    journal.forget(gone)
    assert isinstance(journal.log, SqliteEventLog)
    journal.log._conn.execute("DROP TRIGGER events_are_not_changed")
    journal.log._conn.execute("UPDATE events SET event = 'created' WHERE task_id = ? AND version = 1", (gone,))
    journal.log._conn.execute(
        "CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events\n"
        "        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END"
    )
    with pytest.raises(LogCorrupt, match="was dropped"):
        back_up(tmp_path / "data", tmp_path / "second.db", base=first.path)
    assert not (tmp_path / "second.db").exists()
