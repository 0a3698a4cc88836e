"""A log moved into PostgreSQL and back has the same positions, hashes and answers, and gives the same views."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from archiving import archive
from click.testing import CliRunner
from histories import BEGIN, Journal, random_history
from log_questions import questions
from postgresql_server import connect, needs_postgresql, new_database

from tasktrail import Config, TaskService
from tasktrail.backups import migration
from tasktrail.backups.backup import back_up
from tasktrail.backups.evidence import refuse_older_log
from tasktrail.backups.migration import migrate
from tasktrail.cli.app import app
from tasktrail.events import CancelTask
from tasktrail.events.errors import (
    DataInUse,
    DataNotEmpty,
    Fenced,
    InvalidPath,
    LogCorrupt,
    LogUnreachable,
    TaskForgotten,
)
from tasktrail.events.log.address import NAME, read_address
from tasktrail.events.log.key_check import unreadable_records
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.log_reader import LogReader
from tasktrail.events.log.opening import open_log, read_log
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.system_events import SegmentArchived
from tasktrail.paths import DataPaths
from tasktrail.projections import TaskViews, catch_up
from tasktrail.projections.verification import verify

pytestmark = needs_postgresql


@pytest.fixture
def where() -> Iterator[str]:
    with new_database() as where:
        yield where


def silent(_reached: int, _goal: int) -> None: ...


class Killed(BaseException):
    pass


def killed(*_: object, **__: object) -> None:
    raise Killed


def history(data: Path, steps: int = 300, *, encrypted: bool = False, archived: int = 0) -> Journal:
    data.mkdir()
    with closing(SqliteEventLog(data / "log.db", now=BEGIN, encrypted=encrypted)) as log:
        journal = Journal(log)
        random_history(journal, steps, seed=5)
        journal.forget(*journal.over()[:3])
        if archived:
            archive(journal, archived)
    return journal


def asked(place: Path, journal: Journal) -> list[Any]:
    with closing(read_log(place)) as log:
        assert list(log.faults()) == []
        answers = [sorted(log.answered()), *questions(log, (5, 90), sorted(journal.states))]
        assert verify(log).ok
        return answers


def views(folder: Path, place: Path) -> list[Any]:
    folder.mkdir()
    with closing(read_log(place)) as log, closing(TaskViews(folder / "views.db")) as made:
        catch_up(log, made)
    with closing(sqlite3.connect(folder / "views.db")) as conn:
        return [conn.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in ("tasks", "versions")]


@pytest.mark.parametrize("how", [{}, {"encrypted": True}, {"archived": 120}])
def test_there_and_back_all_is_the_same(tmp_path: Path, where: str, how: dict[str, Any]) -> None:
    data = tmp_path / "data"
    journal = history(data, **how)
    before, seen = asked(data / "log.db", journal), views(tmp_path / "a", data / "log.db")
    reached = list[tuple[int, int]]()
    there = migrate(data, where, progress=lambda *told: reached.append(told))
    assert (there.position, there.head) == (len(journal.records), before[1].hash.hex())
    assert reached[-1] == (2 * there.position, 2 * there.position)
    assert not (data / "log.db").exists()
    assert read_address(data / NAME) == where
    assert asked(data / NAME, journal) == before
    assert views(tmp_path / "b", data / NAME) == seen
    back = migrate(where, data, progress=silent)
    assert (back.position, back.head) == (there.position, there.head)
    assert not (data / NAME).exists()
    assert asked(data / "log.db", journal) == before
    assert views(tmp_path / "c", data / "log.db") == seen
    assert len([path for path in data.iterdir() if ".moved-" in path.name and "-wal" not in path.name]) >= 2


def test_a_move_into_a_folder_without_the_keys_says_that_they_are_missing(tmp_path: Path, where: str) -> None:
    history(tmp_path / "data", encrypted=True)
    assert migrate(tmp_path / "data", where, progress=silent).without_keys == ""
    assert migrate(where, tmp_path / "back", progress=silent).without_keys
    shown = CliRunner().invoke(app, ["migrate", where, str(tmp_path / "again")])
    assert shown.exit_code == 0
    assert f"{tmp_path / 'again' / 'keys.db'} is not there" in shown.stderr
    assert "before `keys.db` and its master key are put there" in shown.stderr


def test_a_move_into_a_folder_that_lacks_some_of_the_keys_says_so(tmp_path: Path, where: str) -> None:
    """A service would take these keys for destroyed, and its views would show the data as erased."""
    data, back = tmp_path / "data", tmp_path / "back"
    history(data, encrypted=True)
    back.mkdir()
    for name in ("keys.db", "master-key"):
        shutil.copy(data / name, back)
    with closing(sqlite3.connect(back / "keys.db")) as keys, keys:
        keys.execute("DELETE FROM keys WHERE rowid > (SELECT min(rowid) FROM keys)")
    migrate(data, where, progress=silent)

    wrong = migrate(where, back, progress=silent).without_keys

    with closing(read_log(back / "log.db")) as log, closing(Keys(back / "log.db")) as found:
        lost = unreadable_records(log, found)
    assert lost.number > 1
    assert wrong.startswith(
        f"{back / 'keys.db'} lacks keys: the personal data of {lost.number} records cannot be read, the first at "
        f"position {lost.first}."
    )
    assert "no service starts before" not in wrong, "on a file, it does"


def test_a_move_whose_keys_cannot_be_looked_at_has_succeeded_all_the_same(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away once the data folder says that its log is there."""
    data = tmp_path / "data"
    journal = history(data, encrypted=True)

    def gone(place: Path) -> LogReader:
        if place == data / NAME:
            raise LogUnreachable("The server at db is gone")
        return read_log(place)

    monkeypatch.setattr(migration, "read_log", gone)
    shown = CliRunner().invoke(app, ["migrate", str(data), where])
    assert shown.exit_code == 0, shown.output
    assert f"moved: {len(journal.records)} records" in shown.stdout
    assert "could not be looked at: The server at db is gone" in " ".join(shown.stderr.split())
    assert "no service starts before" not in " ".join(shown.stderr.split()), "it is not known that any is missing"
    monkeypatch.undo()
    assert migrate(where, data, progress=silent).without_keys == ""


def test_a_log_of_the_configuration_that_no_service_has_used_yet_is_named(tmp_path: Path, where: str) -> None:
    """Only a service writes into the folder where the log is; what only reads would say that there is none."""
    config = tmp_path / "tasktrail.toml"
    config.write_text(f'log = "{where}"\n')
    for command in (["verify"], ["list"], ["stats"], ["seal"], ["backup", str(tmp_path / "copy.db")]):
        shown = CliRunner().invoke(app, [*command, "--data", str(tmp_path)], standalone_mode=False)
        assert isinstance(shown.exception, InvalidPath)
        assert "No service has used the log at postgresql://" in str(shown.exception)
        assert "tasktrail serve" in shown.exception.advice
    with pytest.raises(InvalidPath, match="No service has used the log at postgresql://"):
        back_up(tmp_path, tmp_path / "copy.db")


def test_a_service_goes_on_after_each_move(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent / "support"))  # for workers
    data = tmp_path / "data"

    def add(*, expected: int) -> None:
        with TaskService.open(data, config=Config(workers=1, handlers=("sample_handlers",))) as service:
            assert service.create_task(type="noop") == expected
            assert service.wait(expected, timeout=60).status == "completed"
            assert service.verify().ok

    add(expected=1)
    migrate(data, where, progress=silent)
    add(expected=2)
    migrate(where, data, progress=silent)
    add(expected=3)
    with closing(read_log(data / "log.db")) as log:
        assert [epoch.number for epoch in log.epochs()] == [1, 2, 3, 4, 5]  # two of them have moved it


def test_what_an_archive_held_before_the_move_can_be_forgotten_after_it(tmp_path: Path, where: str) -> None:
    """The log still has the record of the archive, but the database has all records in its tables."""
    data = tmp_path / "data"
    data.mkdir()
    with closing(SqliteEventLog(data / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        for task_id in (1, 2):
            assert journal.create() == task_id
            journal.send(CancelTask(task_id=task_id))
        archive(journal, 2)
    migrate(data, where, progress=silent)
    with TaskService.open(data, config=Config(workers=1)) as service:
        forgotten = service.forget(0)
        assert (forgotten.tasks, forgotten.records) == (2, 4)
        assert service.verify().ok
        with pytest.raises(TaskForgotten):
            service.get_task(1)


@pytest.mark.parametrize("there", [True, False])
def test_a_log_whose_archived_tasks_were_forgotten_in_the_database_is_moved_back(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    """Their archive is written anew, and recorded, as it is when tasks are forgotten in a file. The others stay."""
    data = tmp_path / "data"
    data.mkdir()
    with closing(SqliteEventLog(data / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        for task_id in (1, 2, 3):
            journal.create("image_thumbnail" if task_id == 2 else "video_preview", input_file=f"of task {task_id}")
            journal.send(CancelTask(task_id=task_id))
            archive(journal, len(journal.records))
    migrate(data, where, progress=silent)
    with TaskService.open(data, config=Config(workers=1)) as service:
        assert service.forget(0, type="image_thumbnail").tasks == 1
        before = list(service.log())
    held = {path.name for path in (data / "archive").iterdir()}
    if not there:
        shutil.rmtree(data / "archive")

    with monkeypatch.context() as patch:  # killed when the file has its name
        patch.setattr(migration, "_set_aside", killed)
        with pytest.raises(Killed):
            migrate(where, data, progress=silent)
    back = migrate(where, data, progress=silent)

    with TaskService.open(data, config=Config(workers=1)) as service:
        assert service.verify().ok
        records = list(service.log())
        assert records[: len(before)] == before
        anew = [record for record in records if isinstance(record.event, SegmentArchived)][3:]
        assert [record.position for record in anew] == [back.position]
        with closing(read_log(data / "log.db")) as log:
            names = {segment.name for segment in log.segments()}
        assert {path.name for path in (data / "archive").iterdir()} == names
        assert len(held - names) == 1, "only the archive with what was forgotten is another one"
        assert service.forget(0).tasks == 2
        assert service.verify().ok
    with connect(where.removeprefix("postgresql:///").partition("?")[0]) as conn:
        conn.execute("DROP SCHEMA tasktrail CASCADE")
    moved = migrate(data, where, progress=silent)
    assert migrate(where, data, progress=silent).head == moved.head


def test_an_older_service_on_the_database_appends_nothing_more(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    journal = history(data)
    migrate(data, where, progress=silent)
    older = open_log(data / NAME, now=BEGIN)
    with closing(older):
        older._heart.stop()  # type: ignore[attr-defined]
        with connect(where.removeprefix("postgresql:///").partition("?")[0]) as conn:
            conn.execute("UPDATE tasktrail.owner SET beat = clock_timestamp() - interval '1 minute'")
        migrate(where, data, progress=silent)
        position = len(journal.records)
        with pytest.raises(LogUnreachable):  # its session was ended
            older.append([], expected=position)
        with pytest.raises(Fenced):
            older.append([], expected=position)


@pytest.mark.parametrize("step", ["fill", "write_address", "_set_aside"])
def test_a_move_that_was_cut_off_is_repeated(
    tmp_path: Path, where: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    journal = history(data)
    before = asked(data / "log.db", journal)
    with monkeypatch.context() as patch:
        target = "tasktrail.events.log.postgresql.moving.copy_in" if step == "fill" else f"{migration.__name__}.{step}"
        patch.setattr(target, killed)
        with pytest.raises(Killed):
            migrate(data, where, progress=silent)
    migrate(data, where, progress=silent)
    assert asked(data / NAME, journal) == before
    assert not (data / "log.db").exists()
    with monkeypatch.context() as patch:
        patch.setattr(migration, "fill_file" if step == "fill" else "_set_aside", killed)
        with pytest.raises(Killed):
            migrate(where, data, progress=silent)
    migrate(where, data, progress=silent)
    assert asked(data / "log.db", journal) == before
    assert not (data / NAME).exists()


def test_what_a_move_before_has_left_belongs_to_no_log_that_is_moved_there_later(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    journal = history(data)
    before = asked(data / "log.db", journal)
    (data / "log.postgresql-head").write_text(f"{10**6:020} {'ab' * 32}\n")
    migrate(data, where, progress=silent)
    refuse_older_log(DataPaths(data))
    (data / "log.db-wal").write_bytes(b"of another time")  # killed between two renames
    (data / "log.db-shm").write_bytes(b"of another time")
    (data / "log.db-head").write_text(f"{10**6:020} {'ab' * 32}\n")
    migrate(where, data, progress=silent)
    assert asked(data / "log.db", journal) == before
    refuse_older_log(DataPaths(data))
    assert [path.read_bytes() for path in data.glob("log.db.left-*-wal")] == [b"of another time"]


def test_a_target_that_holds_another_log_is_refused(tmp_path: Path, where: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    history(one)
    history(other, steps=200)
    migrate(one, where, progress=silent)
    with pytest.raises(DataNotEmpty, match="holds another log"):
        migrate(other, where, progress=silent)
    with pytest.raises(DataNotEmpty, match="holds another log"):
        migrate(where, other, progress=silent)
    assert (other / "log.db").exists()


def test_what_cannot_be_moved_is_refused(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    for source, target in ((data, tmp_path), (where, where), (data, where)):
        with pytest.raises(InvalidPath):
            migrate(source, target, progress=silent)
    with pytest.raises(InvalidPath, match="There is no log at"):
        migrate(where, data, progress=silent)
    with connect(where.removeprefix("postgresql:///").partition("?")[0]) as conn:  # and no new log is begun there
        assert conn.execute("SELECT to_regnamespace('tasktrail')").fetchall() == [(None,)]
    history(tmp_path / "log")
    with DataLock(DataPaths(tmp_path / "log").lock, "serve"), pytest.raises(DataInUse):
        migrate(tmp_path / "log", where, progress=silent)


def test_a_damaged_log_stays_where_it_is(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    history(data)
    with closing(sqlite3.connect(data / "log.db")) as conn:
        conn.execute("DROP TRIGGER events_are_not_changed")
        conn.execute("UPDATE events SET actor = 'eve' WHERE position = 7")
        conn.commit()
    with pytest.raises(LogCorrupt):
        migrate(data, where, progress=silent)
    assert (data / "log.db").exists()
    assert not (data / NAME).exists()


def test_the_command_says_what_it_has_done(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    journal = history(data)
    said = CliRunner().invoke(app, ["migrate", str(data), where]).output
    assert f"moved: {len(journal.records)} records from {data / 'log.db'} to postgresql:///" in said
    assert "user=postgres" not in said
