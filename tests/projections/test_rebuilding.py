"""Views are built beside the live ones while those are written: deviations are found, and gone afterwards."""

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from archiving import forget
from histories import BEGIN, Journal, random_history

from tasktrail.events import Cancelled, Completed, Recorded
from tasktrail.events.errors import HistoryMissing, LogCorrupt
from tasktrail.events.log.event_log import Head
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.log.stubs import digest_of
from tasktrail.events.system_events import RetentionRule, TasksForgotten
from tasktrail.projections import TaskViews, ViewsDamaged, ViewsFailed, catch_up
from tasktrail.projections.queries.reader import connect
from tasktrail.projections.rebuilding import Rebuilt, beside_of, build_anew, build_beside, discard, put_in_place
from tasktrail.projections.verification import verify
from tasktrail.projections.views import rebuild
from tasktrail.projections.views.checksums import teach
from tasktrail.projections.views.rebuild import copy_over, rebuild_views


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        random_history(journal, 120, seed=5)
        yield journal


@pytest.fixture
def views(tmp_path: Path, journal: Journal) -> Path:
    """The live views, up to the end of the log."""
    follow(journal, tmp_path / "views.db")
    return tmp_path / "views.db"


def follow(journal: Journal, path: Path) -> None:
    with closing(TaskViews(path)) as live:
        catch_up(journal.log, live)


def plant(views: Path, *statements: str) -> None:
    """Change rows with checksums that fit, as a bug of ours would."""
    with closing(teach(sqlite3.connect(views, isolation_level=None))) as conn:
        for statement in statements:
            conn.execute(statement)


GHOST = """
    INSERT INTO tasks SELECT 999, status, type, user_id, document_id, parent_task_id, label, batch, priority, queue_key,
    updated_at, changed, spec, state,
    row_sum(999, type, user_id, document_id, parent_task_id, label, batch, spec),
    row_sum(999, status, priority, queue_key, updated_at, changed, state) FROM tasks WHERE id = 1
"""


def rebuilt(folder: Path) -> Rebuilt:
    with closing(SqliteLogReader(folder / "log.db")) as log:
        found = build_beside(log, folder / "views.db")
        put_in_place(log, folder / "views.db")
    return found


def dump(path: Path) -> str:
    """Return the hash of everything in the views, in order."""
    digest = sha256()
    with closing(teach(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE%'")]
        for table in sorted(tables):
            rows = [repr(row) for row in conn.execute(f"SELECT * FROM {table}")]
            digest.update("\n".join([table, *(rows if table.startswith("search") else sorted(rows))]).encode())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (GHOST, "task 999 is there and should not be"),
        ("DELETE FROM tasks WHERE id = 3", "task 3 is missing"),
        ("UPDATE counts SET number = number + 1", "table counts"),
        ("INSERT INTO notes (task_id, position) VALUES (1, 77)", "table notes"),
        ("INSERT INTO dependants (depends_on, task_id) VALUES (1, 2)", "table dependants"),
        ("UPDATE minutes SET created = created + 1", "table minutes"),
        (
            "INSERT INTO batches VALUES ('more', 0, 7, '2026-01-01T00:00:00+00:00', NULL, '{}', NULL)",
            "table batches",
        ),
        ("UPDATE versions SET lane = lane + 2", "table versions"),
        ("DELETE FROM zones WHERE list = 'id pending'", "table zones"),
        ("UPDATE tallies SET base = moves", "table tallies"),
        ("INSERT INTO shares VALUES ('user 1', 7, x'90', x'90', row_sum('user 1', 7, x'90', x'90'))", "table shares"),
        ("INSERT INTO texts VALUES (1, 77, 7, row_sum(1, 77, 7))", "table texts"),
    ],
)
def test_what_has_drifted_is_found_and_gone_afterwards(tmp_path: Path, views: Path, statement: str, told: str) -> None:
    sound = dump(views)
    plant(views, statement)
    assert told in " ".join(one.message for one in rebuilt(tmp_path).differences)
    assert dump(views) == sound
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        assert verify(log, views).findings == ()
    assert rebuilt(tmp_path).differences == ()


def test_what_is_written_while_it_is_built_is_in_it_too(tmp_path: Path, journal: Journal, views: Path) -> None:
    plant(views, GHOST)
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        grown = False

        def grow(_reached: int, _goal: int) -> None:
            nonlocal grown
            if not grown:  # in the middle of the work
                grown = True
                random_history(journal, 60, seed=6)
                follow(journal, views)

        before = len(journal.records)
        built = build_beside(log, views, grow)
        assert (grown, built.position) == (True, before)
        assert [one.message for one in built.differences][:1] == ["task 999 is there and should not be"]
        random_history(journal, 30, seed=7)
        assert put_in_place(log, views) == len(journal.records) > before
        assert verify(log, views).findings == ()
    follow(journal, tmp_path / "fresh.db")
    with closing(sqlite3.connect(views)) as conn:
        assert conn.execute("SELECT count(*) FROM tasks WHERE id = 999").fetchone() == (0,)


def test_what_is_forgotten_while_it_is_built_is_no_difference(tmp_path: Path, journal: Journal, views: Path) -> None:
    over = next(one.task_id for one in journal.records if isinstance(one.event, Completed))

    class ForgetfulReader(SqliteLogReader):
        def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
            if limit != 1 and not journal.forgotten:  # the fold's input
                forget(journal, over)
            return super().read(after, limit)

    with closing(ForgetfulReader(tmp_path / "log.db")) as log:
        assert build_beside(log, views).differences == ()
    assert over in journal.forgotten


def test_a_record_that_says_that_every_number_was_forgotten_hides_nothing(
    tmp_path: Path, journal: Journal, views: Path
) -> None:
    rule = RetentionRule(older_than=0.0)
    journal.record(0, TasksForgotten(tasks=f"1-{2**62}", positions="", stubs=digest_of([]), rule=rule))
    plant(views, "UPDATE tasks SET label = 'planted' WHERE id = 1")
    assert any(one.message.startswith("task 1: ") for one in rebuilt(tmp_path).differences)


class ReaderOfWhatGoes(SqliteLogReader):
    """A reader of a log in which a task is forgotten once its creation was read."""

    journal: Journal
    task_id = 0

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        for record in super().read(after, limit):
            yield record
            if record.task_id == self.task_id and not self.journal.forgotten:
                forget(self.journal, self.task_id)


@pytest.fixture
def going(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReaderOfWhatGoes]:
    monkeypatch.setattr("tasktrail.projections.views.rebuild.BULK_PAGE", 2)
    with closing(ReaderOfWhatGoes(tmp_path / "log.db")) as log:
        log.journal, log.task_id = journal, journal.over()[0]
        yield log


def assert_without(journal: Journal, task_id: int, folder: Path) -> None:
    assert task_id in journal.forgotten
    with closing(sqlite3.connect(folder / "views.db")) as conn:
        assert conn.execute("SELECT count(*) FROM tasks WHERE id = ?", (task_id,)).fetchone() == (0,)
    with closing(SqliteLogReader(folder / "log.db")) as log:
        found = verify(log, folder / "views.db")
    assert (found.findings, found.views_position) == ((), len(journal.records))


def test_nothing_is_left_of_a_task_that_is_forgotten_while_it_is_read(
    tmp_path: Path, journal: Journal, going: ReaderOfWhatGoes
) -> None:
    """Its creation was there, its end is not: it must not wait for ever."""
    build_anew(going, tmp_path / "views.db")
    assert_without(journal, going.task_id, tmp_path)


def test_views_that_are_built_in_place_have_nothing_of_it_either(
    tmp_path: Path, journal: Journal, going: ReaderOfWhatGoes
) -> None:
    rebuild_views(going, tmp_path / "views.db")
    assert_without(journal, going.task_id, tmp_path)


class ReaderWithoutEnd(SqliteLogReader):
    """A log whose last record is missing at its end, as in damaged pages."""

    def head(self) -> Head:
        return Head(2, super().head().hash)


def test_views_are_not_built_for_ever_where_the_end_of_the_log_is_not_to_be_found(
    tmp_path: Path, journal: Journal
) -> None:
    forget(journal, journal.over()[0])
    with (
        closing(ReaderWithoutEnd(tmp_path / "log.db")) as log,
        pytest.raises(LogCorrupt, match="The log ends at 2, but a record after that has dropped others"),
    ):
        build_anew(log, tmp_path / "views.db")


def test_views_that_missed_how_a_forgotten_task_ended_are_built_anew(tmp_path: Path, journal: Journal) -> None:
    task_id = journal.create()
    follow(journal, tmp_path / "views.db")
    journal.record(task_id, Cancelled())
    forget(journal, task_id)
    with pytest.raises(ViewsDamaged, match=f"Task {task_id} was forgotten before"):
        follow(journal, tmp_path / "views.db")
    rebuild_views(journal.log, tmp_path / "views.db")
    follow(journal, tmp_path / "views.db")


def test_views_that_know_how_a_forgotten_task_ended_go_on(tmp_path: Path, journal: Journal) -> None:
    task_id = journal.create()
    journal.record(task_id, Cancelled())
    follow(journal, tmp_path / "views.db")
    forget(journal, task_id)
    journal.create()
    follow(journal, tmp_path / "views.db")


def test_a_reader_sees_the_old_or_the_new(tmp_path: Path, views: Path) -> None:
    plant(views, GHOST)
    with closing(sqlite3.connect(f"{views.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
        ask = "SELECT count(*) FROM tasks WHERE id = 999"
        reader.execute("BEGIN")
        assert reader.execute(ask).fetchone() == (1,)
        rebuilt(tmp_path)
        assert reader.execute(ask).fetchone() == (1,)
        reader.execute("COMMIT")
        assert reader.execute(ask).fetchone() == (0,)


@pytest.mark.parametrize("content", [b"", b"no database" * 1000, None])
def test_views_that_cannot_be_compared_are_built_all_the_same(
    tmp_path: Path, journal: Journal, views: Path, content: bytes | None
) -> None:
    sound = dump(views)
    views.unlink()
    if content is not None:
        views.write_bytes(content)
    built = rebuilt(tmp_path)
    assert (built.position, bool(built.differences)) == (len(journal.records), content is not None)
    assert dump(views) == sound


def test_views_of_another_log_stay_what_they_are(tmp_path: Path, journal: Journal, views: Path) -> None:
    """They may be the only trace of records that this log lacks."""
    with closing(SqliteEventLog(tmp_path / "other.db", now=BEGIN)) as log:
        random_history(Journal(log), 20, seed=9)
        with closing(SqliteLogReader(tmp_path / "other.db")) as other:
            build_beside(other, views)
        follow_of = beside_of(views)
        assert follow_of.exists()
        discard(views)
        with closing(TaskViews(follow_of)) as beside:
            catch_up(journal.log, beside)
        with pytest.raises(HistoryMissing):
            put_in_place(log, views)
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        assert verify(reader, views).findings == ()


def test_what_cannot_be_put_in_place_leaves_the_live_views_and_no_litter(
    tmp_path: Path, views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = dump(views)

    def full(_source: sqlite3.Connection, path: Path, _goes_on: object) -> None:
        raise ViewsFailed(f"{path} cannot be replaced: disk full")

    monkeypatch.setattr("tasktrail.projections.rebuilding.copy_over", full)
    with pytest.raises(ViewsFailed):
        rebuilt(tmp_path)
    assert dump(views) == sound
    assert list(tmp_path.glob("views.db.*")) == []


def test_what_found_no_room_for_new_views_does_not_go_on_to_take_it(views: Path) -> None:
    class Full:
        """Writes until the disk is full."""

        def backup(self, target: sqlite3.Connection, **_: object) -> None:
            target.executescript("PRAGMA cache_size = 10; BEGIN; CREATE TABLE much (data BLOB)")
            target.executemany("INSERT INTO much VALUES (zeroblob(4000))", [()] * 1000)
            target.execute("ROLLBACK")
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorname = "SQLITE_FULL"
            raise full

    sound, log = dump(views), views.with_name("views.db-wal")
    with closing(sqlite3.connect(views)) as reader:
        reader.execute("SELECT * FROM progress").fetchall()
        with pytest.raises(ViewsFailed, match="disk is full"):
            copy_over(cast("sqlite3.Connection", Full()), views)
        assert log.stat().st_size == 0
    assert dump(views) == sound


def test_indexes_and_the_copy_into_place_tell_that_they_go_on(
    journal: Journal, views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With millions of tasks both take longer than an actor may be silent."""
    monkeypatch.setattr(rebuild, "_STEPS", 100)
    monkeypatch.setattr(rebuild, "_COPIED_AT_ONCE", 10)
    told: list[str] = []
    finish, copy = TaskViews.finish, rebuild.copy_over

    def noted(what: str, work: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any) -> None:
            told.append(what)
            work(*args)

        return run

    monkeypatch.setattr(TaskViews, "finish", noted("indexes", finish))
    monkeypatch.setattr(rebuild, "copy_over", noted("copy", copy))
    rebuild.rebuild_views(journal.log, views, lambda *_: told.append("goes on"))
    assert told.index("indexes") < told.index("copy")
    assert "goes on" in told[told.index("indexes") : told.index("copy")]
    assert "goes on" in told[told.index("copy") :]


def test_views_that_are_copied_to_where_none_were_are_not_seen_before_they_are_complete(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without tables looks damaged, and an empty one says that there are no tasks."""
    monkeypatch.setattr(rebuild, "_COPIED_AT_ONCE", 10)
    views, seen, parts = tmp_path / "new.db", list[bool](), list[int]()
    left = tmp_path / "new.db.copy"
    left.write_bytes(b"left by a kill")

    def look(*_: int) -> None:
        seen.append(views.exists())
        parts.append(left.stat().st_size if left.exists() else 0)

    end = rebuild.rebuild_views(journal.log, views, look)
    assert not any(seen)
    assert parts[-1]
    assert (left.exists(), views.stat().st_mode & 0o77) == (False, 0)
    with closing(connect(views)[0]) as reader:
        assert reader.execute("SELECT position FROM progress").fetchone() == (end,)


@contextmanager
def room(size: int) -> Iterator[Callable[[], None]]:
    """A function after whose call no file can grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_copy_that_finds_no_room_at_its_end_is_complete_or_none(journal: Journal, tmp_path: Path) -> None:
    """SQLite reports nothing when it closes a file and cannot bring its write-ahead log over."""
    source, views = tmp_path / "source.db", tmp_path / "new.db"
    build_anew(journal.log, source)
    with closing(sqlite3.connect(source)) as built:
        with room(source.stat().st_size // 2) as fill:
            copy_over(built, views, fill)
        with closing(TaskViews(views, begin=False)) as live:
            assert live.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert dump(views) == dump(source)
        with room(source.stat().st_size // 2) as fill:
            fill()
            with pytest.raises(ViewsFailed, match="cannot be replaced"):
                copy_over(built, tmp_path / "none.db")
    assert list(tmp_path.glob("none.db*")) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_what_comes_up_while_indexes_are_made_is_not_lost(
    journal: Journal, views: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """SQLite would only report an interruption, and Ctrl-C would look like a fault."""
    monkeypatch.setattr(rebuild, "_STEPS", 100)
    finish, begun = TaskViews.finish, threading.Event()

    def begin(self: TaskViews) -> None:
        begun.set()
        finish(self)

    def progress(*_: int) -> None:
        if begun.is_set():
            raise kind

    monkeypatch.setattr(TaskViews, "finish", begin)
    with pytest.raises(kind):
        rebuild.rebuild_views(journal.log, views, progress)


def test_a_ctrl_c_before_anything_of_ours_runs_is_one(
    journal: Journal, views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "_STEPS", 100)
    finish, building = TaskViews.finish, list[TaskViews]()

    def begin(self: TaskViews) -> None:
        building.append(self)
        finish(self)

    def progress(*_: int) -> None:
        if building:
            building[0].connection.interrupt()

    monkeypatch.setattr(TaskViews, "finish", begin)
    with pytest.raises(KeyboardInterrupt):
        rebuild.rebuild_views(journal.log, views, progress)


_PROGRAM = """
import sys
from pathlib import Path
seen = []
def note(event, _args):
    if event.startswith(("socket.", "subprocess", "os.fork")):
        seen.append(event)
sys.addaudithook(note)
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.rebuilding import build_beside, put_in_place
seen.clear()
log = SqliteLogReader(Path(sys.argv[1], "log.db"))
build_beside(log, Path(sys.argv[2]))
put_in_place(log, Path(sys.argv[2]))
log.close()
print(seen)
"""


def test_two_processes_build_the_same_and_reach_no_network(tmp_path: Path, journal: Journal, views: Path) -> None:
    """With other seeds of hashing, other zones and other languages, and with notices that would have to be sent."""
    assert any(state.spec.notify_webhook for state in journal.states.values())
    hashes = {dump(views)}
    for seed, zone, language in (("1", "Asia/Kathmandu", "C"), ("2", "America/Caracas", "C.UTF-8")):
        path = tmp_path / f"views-{seed}.db"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": language}
        ran = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(tmp_path), str(path)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == "[]\n"
        hashes.add(dump(path))
    assert len(hashes) == 1
