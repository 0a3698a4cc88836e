"""A damaged views.db is never believed: it is noticed and rebuilt, and all answers agree with the log."""

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from histories import Journal
from log_services import wait_for
from msgspec.structs import replace
from structlog.testing import capture_logs

from tasktrail.actors import projector
from tasktrail.actors.projector import ViewsHealth
from tasktrail.api import source
from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.cli.app import app
from tasktrail.events import Created, Fact
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import NotReady
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.opening import read_log
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.system_events import UserErased
from tasktrail.projections import TaskFilters, TaskViews, ViewsDamaged, ViewsFailed, catch_up, rebuild_views
from tasktrail.projections.queries.reader import connect
from tasktrail.projections.views import damage, rebuild
from tasktrail.projections.views.checksums import STATE, row_sum, teach
from tasktrail.projections.views.damage import find_damage
from tasktrail.projections.views.rebuild import build_views
from tasktrail.projections.views.schema import TEXT_INDEXES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Open = Callable[..., TaskService]
HELD = TaskFilters(status=("pending",))


@pytest.fixture
def data(open_service: Open, tmp_path: Path) -> Path:
    """A folder with nine tasks, three of them held, and no service."""
    service = open_service()
    for number in range(9):
        task_id = service.create_task(type="quick", held=number % 3 == 0, priority=number)
        if number % 3:
            service.wait(task_id, 30)
    service.close()
    return tmp_path / "data"


def by_hand(views: Path, *statements: str) -> None:
    """Change rows without their checksums, as a failing disk would."""
    with closing(sqlite3.connect(views, isolation_level=None)) as conn:
        names = conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        made = [conn.execute("SELECT sql FROM sqlite_master WHERE name = ?", name).fetchone()[0] for name in names]
        for (name,) in names:
            conn.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            conn.execute(statement)
        for sql in made:
            teach(conn).execute(sql)


def an_index_loses_a_row(views: Path) -> None:
    """Remove a row's entry from an index by building the index over other rows."""
    with closing(sqlite3.connect(views, isolation_level=None)) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        sql = "CREATE INDEX tasks_by_status ON tasks (status)"
        conn.execute("DROP INDEX tasks_by_status")
        conn.execute(f"{sql} WHERE id != 4")
        conn.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'tasks_by_status'", (sql,))


CHANGES = [
    "UPDATE tasks SET status = 'completed' WHERE id = 4",
    "UPDATE tasks SET state = replace(state, 'held', 'hel_') WHERE id = 4",
    "UPDATE tasks SET spec = replace(spec, 'quick', 'quack') WHERE id = 4",
    "UPDATE tasks SET spec = CAST(x'ff' AS TEXT) || substr(spec, 2) WHERE id = 4",
    "UPDATE tasks SET priority = 10 WHERE id = 4",
    "UPDATE tasks SET id = 40 WHERE id = 4",
    "DELETE FROM tasks WHERE id = 4",
    "UPDATE counts SET number = number + 1 WHERE status = 'completed'",
    "UPDATE totals SET attempts = 1000",
    "UPDATE durations SET number = 1000",
    "UPDATE ends SET number = 1000",
    "UPDATE progress SET recorded_at = ''",
    "UPDATE versions SET status = 'completed' WHERE id = 4",
    "DELETE FROM versions WHERE id = 4",
    "UPDATE zones SET until = 3 WHERE list = 'id pending'",
    "UPDATE tallies SET moves = replace(moves, ',0,', ',1,')",
]
OF_THE_PAST = [change for change in CHANGES if re.search("versions|zones|tallies", change)]


def seen(reading: Any) -> Any:
    """Return what distinguishes the changes."""
    tasks, total = reading.list_tasks(TaskFilters(limit=50))
    held = [task.id for task in reading.list_tasks(HELD)[0]]
    numbers = reading.stats()
    kept = (numbers.counts, numbers.attempts, numbers.by_type)
    then = [reading.list_tasks(replace(filters, as_of=20)) for filters in (TaskFilters(), HELD)]
    return [(task.id, task.type, task.status, task.priority, task.held) for task in tasks], total, held, kept, then


@pytest.fixture
def due(data: Path) -> Any:
    with Reader(data) as reader:
        return seen(reader)


@pytest.mark.parametrize("change", CHANGES)
def test_damage_is_found_after_a_start_and_mended_before_anybody_is_answered(
    data: Path, due: Any, open_service: Open, change: str
) -> None:
    by_hand(data / "views.db", change)
    service = open_service()
    assert seen(service) == due
    assert service.verify().ok


def test_an_index_that_misses_a_row_is_found_after_a_start(data: Path, due: Any, open_service: Open) -> None:
    an_index_loses_a_row(data / "views.db")
    service = open_service()
    assert seen(service) == due
    assert service.verify().ok


@pytest.mark.parametrize("change", [*CHANGES[:7], *OF_THE_PAST])
def test_a_damaged_row_is_not_served_by_a_running_service(
    data: Path, due: Any, open_service: Open, change: str
) -> None:
    service = open_service()
    assert seen(service) == due
    by_hand(data / "views.db", change)
    answers: list[Any] = []
    for ask in (lambda: service.get_task(4).status, lambda: seen(service)):
        thread = threading.Thread(target=lambda ask=ask: answers.append(ask()))
        thread.start()
        thread.join()
    assert answers == ["pending", due]
    assert service.verify().ok


def test_a_fold_that_meets_damage_builds_the_views_anew(data: Path, open_service: Open) -> None:
    service = open_service()
    service.source.settle()
    by_hand(data / "views.db", "DELETE FROM tasks WHERE id = 4")
    service.start_task(4)
    assert service.wait(4, 30).status == "completed"
    assert service.verify().ok


@pytest.mark.parametrize(
    ("index", "as_of"),
    [("tasks_by_user", 20), ("tasks_by_update", "")],
)
def test_an_index_that_is_gone_is_made_anew_by_whoever_needs_it(
    data: Path, open_service: Open, index: str, as_of: str | int
) -> None:
    asked = TaskFilters(user_id=(0, 1), sort="-updated_at", as_of=as_of)
    service = open_service()
    due = service.list_tasks(asked)
    by_hand(data / "views.db", f"DROP INDEX {index}")
    service.start_task(4)
    assert service.wait(4, 30).status == "completed"
    assert service.list_tasks(asked)[1] == due[1]
    assert service.verify().ok


@pytest.mark.parametrize("change", [*CHANGES[:4], *OF_THE_PAST])
def test_without_a_service_damage_is_mended_by_whoever_reads(data: Path, due: Any, change: str) -> None:
    by_hand(data / "views.db", change)
    with Reader(data) as reader:
        assert reader.get_task(4).status == "pending"
        assert seen(reader) == due


@pytest.mark.parametrize("name", ["forgotten", "tasks", "versions", "progress"])
def test_pages_that_are_gone_are_mended_by_whoever_reads(data: Path, due: Any, name: str) -> None:
    """The list of forgotten tasks is read before every question."""
    empty_page(data / "views.db", name)
    with Reader(data) as reader:
        assert reader.get_task(4).status == "pending"
        assert seen(reader) == due


def test_a_position_that_cannot_be_read_is_mended(data: Path, due: Any, open_service: Open) -> None:
    """The row is counted by the head of its page, which is whole."""
    damage_rows(data / "views.db", "progress")
    with Reader(data) as reader:
        assert seen(reader) == due
    damage_rows(data / "views.db", "progress")
    service = open_service()
    assert seen(service) == due
    assert service.verify().ok


def test_a_schema_that_is_no_text_is_made_anew(data: Path, due: Any, open_service: Open) -> None:
    """SQLite can read it and Python cannot, so the error has no name of SQLite's."""
    content = (data / "views.db").read_bytes()
    made = b"FROM counts WHERE number > 0"
    assert content.count(made) == 1
    damaged = content.replace(made, made[:-1] + b"\xff")
    (data / "views.db").write_bytes(damaged)
    with Reader(data) as reader:
        assert seen(reader) == due
    (data / "views.db").write_bytes(damaged)
    service = open_service()
    assert seen(service) == due
    assert service.verify().ok


def empty_page(views: Path, name: str) -> None:
    """Overwrite the first page of a table or an index."""
    page, size = first_page(views, name)
    with views.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


def damage_rows(views: Path, name: str) -> None:
    """Overwrite the rows in the first page of a table, and leaves the page's head with their number."""
    page, size = first_page(views, name)
    with views.open("r+b") as file:
        file.seek(page * size - size // 2)
        file.write(b"\xff" * (size // 2))


def first_page(views: Path, name: str) -> tuple[int, int]:
    """Return the number of the first page of a table or an index, and the size of a page."""
    with closing(sqlite3.connect(views)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [[page]] = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
        [[size]] = conn.execute("PRAGMA page_size")
    return page, size


@pytest.mark.parametrize("name", ["tasks", "notices", "dependants"])
def test_how_much_would_be_forgotten_is_told_without_a_service_although_views_are_damaged(
    data: Path, name: str
) -> None:
    empty_page(data / "views.db", name)
    shown = CliRunner().invoke(app, ["--data", str(data), "forget", "--older-than", "0s", "--dry-run"])
    assert (shown.exit_code, shown.stdout) == (0, "would be forgotten: 6 tasks, 18 records\n")
    assert "the views have been built anew from the log" in shown.stderr


def test_whoever_wants_tasks_forgotten_has_damaged_views_built_anew(data: Path, open_service: Open) -> None:
    """No other question reads the table of notices, so nothing else would find the damage."""
    service = open_service()
    assert service.forget(0, dry_run=True).tasks == 6
    empty_page(data / "views.db", "notices")
    with pytest.raises(ViewsDamaged, match="ask again"):
        service.forget(0)
    assert service._system.health.views.wait(30)
    assert service.forget(0).tasks == 6
    assert service.verify().ok


def test_whoever_reads_without_a_service_is_told_that_there_was_damage(data: Path) -> None:
    by_hand(data / "views.db", "UPDATE tasks SET status = 'completed' WHERE id = 4")
    with capture_logs() as lines, Reader(data) as reader:
        reader.list_tasks(TaskFilters())
        reader.list_tasks(TaskFilters())
    why = "Task 4 has changed in the views since it was written there"
    assert [(line["event"], line["why"]) for line in lines] == [("the views have been built anew from the log", why)]


def test_a_command_without_a_service_says_that_there_was_damage(data: Path) -> None:
    by_hand(data / "views.db", "UPDATE tasks SET status = 'completed' WHERE id = 4")
    listed = CliRunner().invoke(app, ["--data", str(data), "list", "--json"])
    assert "the views have been built anew from the log: Task 4 has changed in the views" in listed.stderr
    assert len(listed.stdout.splitlines()) == 9


def test_how_far_views_are_is_told_where_that_takes_long(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LONG", 10)
    told: list[tuple[int, int]] = []

    def read() -> int:
        with Reader(data, folding=lambda: nullcontext(lambda *reached: told.append(reached))) as reader:
            return reader.source.log().head().position

    (data / "views.db").unlink()
    head = read()
    assert told[-1] == (head, head)
    told.clear()
    read()
    assert told == []


def test_nobody_sees_views_of_a_part_of_a_long_log(data: Path, due: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they were not restored with the log, which is no damage to tell of."""
    monkeypatch.setattr(source, "_LONG", 1)
    monkeypatch.setattr(source, "PAGE", 1)
    for path in data.glob("views.db*"):
        path.unlink()
    told: list[bool] = []

    def look(*_: int) -> None:
        told.append((data / "views.db").exists())

    with capture_logs() as lines, Reader(data, folding=lambda: nullcontext(look)) as reader:
        assert seen(reader) == due
    assert set(told) == {False}
    assert lines == []


def test_whoever_reads_waits_for_views_that_another_process_builds(
    data: Path, due: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby that begins on a long log, say. It was called damage at once."""
    monkeypatch.setattr(source, "_LONG", 1)
    for path in data.glob("views.db*"):
        path.unlink()
    told: list[tuple[int, int]] = []

    def look(reached: int, goal: int) -> None:
        told.append((reached, goal))
        rebuild_views(log, data / "views.db")

    with DataLock(data / "lock", "standby"), closing(read_log(data / "log.db")) as log:
        building, _copied = rebuild.building(data / "views.db")
        build_views(log, building).close()
        with Reader(data, folding=lambda: nullcontext(look)) as reader:
            assert seen(reader) == due
        assert told == [(log.head().position,) * 2]
        (data / "views.db").unlink()
        monkeypatch.setattr(source, "_VIEWS_WITHIN", 0.0)
        with Reader(data) as reader, pytest.raises(ViewsDamaged, match="is not there"):
            reader.stats()


class Hurried(SystemClock):
    """Each look at it takes 4 seconds."""

    def __init__(self, at: int, event: Callable[[], object]) -> None:
        self._at, self._event = at, event
        self.seconds = 0

    def monotonic(self) -> float:
        self.seconds += 4
        if self.seconds == self._at:
            self._event()
        return self.seconds


def test_whoever_reads_waits_for_a_build_that_writes_nothing_for_a_while(
    data: Path, due: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It folds 20,000 records at once, and sorts whole indexes elsewhere. That was taken for no build after 10 s."""
    monkeypatch.setattr(source, "_FOLLOW_PAUSE", 0.0)
    views = data / "views.db"
    for path in data.glob("views.db*"):
        path.unlink()
    building, _copied = rebuild.building(views)
    with closing(read_log(data / "log.db")) as log, DataLock(data / "lock", "standby") as lock:
        building.write_bytes(b"begun")
        with Reader(data, clock=Hurried(60, lambda: rebuild_views(log, views))) as reader:
            assert seen(reader) == due
        views.unlink()
        building.write_bytes(b"begun")
        endless, killed = Hurried(0, lambda: None), Hurried(60, lock.release)
        with Reader(data, clock=endless) as reader, pytest.raises(ViewsDamaged, match="is not there"):
            reader.stats()
        assert source._SILENT_BUILD <= endless.seconds < source._SILENT_BUILD + 20
        with Reader(data, clock=killed) as reader:
            assert seen(reader) == due, "it builds them itself"
        assert 60 <= killed.seconds < 120


def test_views_that_were_built_without_keys_are_built_anew_once_these_are_there(tmp_path: Path) -> None:
    """A backup is restored, and somebody looks before `keys.db` is put there. It said `[erased]` until `rebuild`."""
    keys, kept = tmp_path / "keys.db", tmp_path / "kept"
    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW, encrypted=True)) as log:
        journal = Journal(log)
        journal.create("noop", input_file="/in/one.mov", user_id=7)
        erased = log.belongings(7).keys
        key_of_the_first = keys.read_bytes()
        journal.create("noop", input_file="/in/other.mov", user_id=8)
        journal.record(0, UserErased(keys=erased, tasks=(1,)))

    def inputs() -> list[str]:
        with Reader(tmp_path) as reader:
            return [reader.get_task(number).input_file for number in (1, 2)]

    keys.rename(kept)
    assert inputs() == ["[erased]"] * 2
    keys.write_bytes(key_of_the_first)
    with capture_logs() as lines:
        assert inputs() == ["[erased]"] * 2, "the only key that is there was to be destroyed"
        assert lines == []
        kept.replace(keys)
        assert inputs()[1] == "/in/other.mov"
        (line,) = lines
        assert line["why"] == "Personal data that could not be read when the views were built can be read now"
        assert inputs()[1] == "/in/other.mov"
    assert lines == [line]


def test_views_that_were_built_with_all_keys_note_none_that_was_missing_before(tmp_path: Path) -> None:
    """Through the same log: a standby builds them anew when the keys come. The next start built them a third time."""
    keys, kept = tmp_path / "keys.db", tmp_path / "kept"
    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW, encrypted=True)) as log:
        Journal(log).create("noop", input_file="/in/one.mov", user_id=7)
    keys.rename(kept)
    with closing(read_log(tmp_path / "log.db")) as log:
        with closing(TaskViews(tmp_path / "before.db")) as views:
            catch_up(log, views)
            assert len(views.missing_keys) == 1
        assert [record.event.user_id for record in log.read() if isinstance(record.event, Created)] == [0]
        kept.rename(keys)
        with closing(build_views(log, tmp_path / "after.db")) as views:
            assert views.missing_keys == set()


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["deleted", "emptied"])
def test_a_question_after_the_write_ahead_log_was_lost_is_answered(
    open_service: Open, data: Path, due: Any, lose: Callable[[Path], object]
) -> None:
    """SQLite calls it an error of the disk, and nobody else may have noticed yet."""
    service = open_service()
    service.source.settle()
    lose(data / "views.db-wal")
    assert in_a_thread(lambda: seen(service)) == due
    assert in_a_thread(service.verify).ok


def test_verify_tells_of_damage_that_changes_no_answer_yet(data: Path) -> None:
    by_hand(data / "views.db", "UPDATE tasks SET state_sum = state_sum + 1 WHERE id = 4")
    with closing(connect(data / "views.db")[0]) as conn:
        assert "task 4" in find_damage(conn)
    with Reader(data) as reader:
        (finding,) = reader.verify().findings
    assert (finding.code, "task 4" in finding.message) == ("views", True)


def test_a_service_without_views_still_finds_what_is_wrong_with_its_log(open_service: Open, data: Path) -> None:
    """Views of such a log cannot be built. `verify` used to wait for them, and then advised to free disk space."""
    service = open_service()
    with closing(sqlite3.connect(data / "log.db")) as conn:
        conn.execute("DROP TRIGGER events_are_not_changed")
        conn.execute("UPDATE events SET data = '{}' WHERE position = 2")
        conn.commit()
    (data / "views.db").unlink()
    found = service.verify()
    assert not found.ok
    assert 2 in [one.position for one in found.findings]
    with pytest.raises(ViewsFailed, match="Position 2"):
        service.stats()


def test_views_that_are_deleted_while_nothing_happens_are_built_anew(open_service: Open, data: Path, due: Any) -> None:
    """Other programs read the file, too, and none of them tells the service that it is gone."""
    service = open_service()
    service.source.settle()
    (data / "views.db").unlink()
    service._system._look_at_files()
    assert service._system.health.views.wait(30)
    assert (data / "views.db").exists()
    assert seen(service) == due


def in_a_thread(ask: Callable[[], Any]) -> Any:
    """Ask through connections that are opened for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def test_views_that_are_emptied_while_nothing_happens_are_built_anew(open_service: Open, data: Path, due: Any) -> None:
    service = open_service()
    service.source.settle()
    (data / "views.db").write_bytes(b"")
    service._system._look_at_files()
    assert service._system.health.views.wait(30)
    assert (data / "views.db").stat().st_size
    assert seen(service) == due


@pytest.mark.parametrize("names", [("views.db-wal", "views.db-shm"), ("views.db-wal",), ("views.db-shm",)])
@pytest.mark.parametrize("meanwhile", ["nothing", "question", "command", "other program"])
def test_views_that_have_lost_a_file_are_built_anew(
    open_service: Open, data: Path, names: tuple[str, ...], meanwhile: str, due: Any
) -> None:
    """Who reads them without it gets an error of the disk, or sees them as they were earlier."""
    service = open_service()
    service.source.settle()
    assert seen(service) == due
    before = (data / "views.db").stat().st_ino
    generation = service._system.health.views.generation
    for name in names:
        (data / name).unlink()
    if meanwhile == "question":
        with suppress(ViewsFailed):
            in_a_thread(service.stats)
    elif meanwhile == "command":
        service.create_task(type="quick", held=True)
        service.source.settle()
    elif meanwhile == "other program":
        count = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM tasks').fetchone()"
        subprocess.run([sys.executable, "-c", count, data / "views.db"], check=False, capture_output=True)
    service._system._look_at_files()
    wait_for(lambda: service._system.health.views.generation > generation)
    assert service._system.health.views.wait(30)
    assert (data / "views.db").stat().st_ino != before
    assert in_a_thread(service.verify).ok
    if meanwhile == "command":
        assert service.get_task(10).held
    else:
        assert in_a_thread(lambda: seen(service)) == due


def test_files_that_cannot_be_looked_for_are_not_called_gone(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = open_service()
    service.source.settle()
    health = service._system.health
    generation = health.views.generation

    def refused(path: Path) -> tuple[int, int]:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("tasktrail.system._identity", refused)
        service._system._look_at_files()
    assert (health.fatal, health.views.sound, health.views.generation) == (None, True, generation)


def test_sound_views_have_no_damage(data: Path) -> None:
    with closing(connect(data / "views.db")[0]) as conn:
        assert find_damage(conn) == ""


def test_ctrl_c_while_rows_are_looked_at_is_no_damage(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*values: Any) -> int:
        if len(values) == len(STATE) and values[1] == "pending":
            raise KeyboardInterrupt
        return row_sum(*values)

    monkeypatch.setattr(damage, "row_sum", interrupted)
    with closing(connect(data / "views.db")[0]) as conn, pytest.raises(KeyboardInterrupt):
        find_damage(conn)


def test_a_writer_between_two_looks_is_no_damage(data: Path) -> None:
    with closing(SqliteEventLog(data / "log.db", now=NOW)) as log, closing(TaskViews(data / "views.db")) as views:

        def write(statement: str) -> None:
            if "counts" in statement:
                position, task_id = log.head().position, 100 + log.head().position
                log.append([Fact(task_id, 1, Created(type="quick", held=True), NOW, life=1)], expected=position)
                catch_up(log, views)

        with closing(connect(data / "views.db")[0]) as conn:
            conn.set_trace_callback(write)
            assert find_damage(conn) == ""
        assert views.position > 18


def test_every_table_of_the_views_has_checksums(data: Path) -> None:
    with closing(sqlite3.connect(data / "views.db")) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        without = [
            table
            for table in tables
            if not table.startswith(TEXT_INDEXES)
            and conn.execute(f"PRAGMA table_info({table})").fetchall()[-1][1] not in ("checksum", "state_sum")
        ]
    assert without == []


def test_who_reads_waits_until_the_views_are_sound(service: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    service.source.settle()
    monkeypatch.setattr("tasktrail.api.service.MENDED_WITHIN", 0.01)
    health = service._system.health.views
    assert health.doubt(health.generation)
    with pytest.raises(NotReady, match="checked, or rebuilt"):
        service.list_tasks()
    assert service.create_task(type="quick") == 1, "commands do not wait"
    health.vouch()
    assert service.wait(1, 30).status == "completed"


def test_who_reads_is_told_at_once_why_the_views_cannot_be_built_anew(
    data: Path, open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the reader that finds the damage: whoever comes later, too, instead of waiting for nothing."""

    def full(*_args: Any) -> int:
        raise ViewsFailed("no room")

    service = open_service()
    service.source.settle()
    monkeypatch.setattr(projector, "rebuild_views", full)
    monkeypatch.setattr("tasktrail.api.service.MENDED_WITHIN", 120.0)
    by_hand(data / "views.db", CHANGES[0])
    for _ in range(2):
        with pytest.raises(ViewsFailed, match="no room"):
            service.list_tasks()


def test_damage_is_reported_once_for_each_generation() -> None:
    health = ViewsHealth()
    assert not health.doubt(0), "not sound yet: somebody looks already"
    health.vouch()
    assert [health.doubt(1), health.doubt(1)] == [True, False]
    health.vouch()
    assert not health.doubt(1), "built anew since"
    assert health.wait(0)


def test_a_rebuild_that_fails_is_tried_again(
    data: Path, due: Any, open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def full_at_first(*args: Any) -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ViewsFailed("no room")
        return rebuild_views(*args)

    monkeypatch.setattr(projector, "rebuild_views", full_at_first)
    monkeypatch.setattr(projector, "REBUILD_AGAIN", 0.0)
    by_hand(data / "views.db", CHANGES[0])
    service = open_service()
    service.create_task(type="quick", held=True)
    assert service.get_task(4).status == "pending"
    assert len(tries) == 2
    assert seen(service)[0][1:] == due[0]


def test_a_check_that_the_stop_cuts_short_is_no_trouble(open_service: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def check_for_ever(conn: sqlite3.Connection) -> str:
        conn.set_progress_handler(begun.set, 1000)
        conn.execute("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n")
        return ""

    monkeypatch.setattr(projector, "find_damage", check_for_ever)
    with capture_logs() as said:
        service = open_service()
        assert begun.wait(30)
        service.close()
    assert [line for line in said if "could not be checked" in line["event"]] == []
