"""The copies that SQLite leaves of moved rows are cleared from the file once tasks were forgotten."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from archiving import archive, forget
from from_outside import content
from histories import BEGIN, Journal
from leftovers import WORD, plant

from tasktrail.events import Cancelled
from tasktrail.events.log import gaps
from tasktrail.events.log.gaps import clear_gaps, clear_gaps_of
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader


def many_cancelled(journal: Journal, number: int, longest: int, seed: int) -> list[int]:
    """Create and cancel tasks of many sizes, with their numbers all over them."""
    chance = Random(seed)
    found = []
    for task_id in range(1, number + 1):
        text = f"qzx{task_id:05d}y"
        journal.create(label=text, options={"text": text * chance.randint(1, longest)}, command_id=f"create-{task_id}")
        journal.record(task_id, Cancelled())
        found.append(task_id)
    return found


def told_of(folder: Path) -> set[int]:
    """Return the tasks of which anything is in a file."""
    files = (content(path) for path in folder.rglob("*") if path.is_file())
    return {int(number) for content in files for number in re.findall(rb"qzx(\d{5})y", content)}


def log_of(tmp_path: Path, tasks: int = 40) -> Journal:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    log._conn.execute("PRAGMA synchronous = OFF")  # until it is closed
    journal = Journal(log)
    many_cancelled(journal, tasks, 60, seed=1)
    return journal


def again(path: Path, journal: Journal) -> SqliteEventLog:
    journal.log = log = SqliteEventLog(path, now=BEGIN)
    return log


@pytest.mark.parametrize(
    ("archived", "number", "longest", "seed"), [(False, 30, 150, 16), (False, 30, 100, 51), (True, 30, 100, 18)]
)
def test_what_is_forgotten_is_nowhere_however_rows_were_moved(
    tmp_path: Path,
    archived: bool,  # noqa: FBT001 - a parameter
    number: int,
    longest: int,
    seed: int,
) -> None:
    """With these SQLite 3.46 leaves copies of one task."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    log._conn.execute("PRAGMA synchronous = OFF")
    journal, chance = Journal(log), Random(seed)
    tasks = many_cancelled(journal, number, longest, seed)
    if archived:
        archive(journal, number)
    chance.shuffle(tasks)
    gone = tasks[: 2 * number // 3]
    left = gone
    while left:
        some = left[: chance.randint(1, number // 6)]
        left = left[len(some) :]
        forget(journal, *some)
    log.close()
    assert told_of(tmp_path).isdisjoint(gone)
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        assert list(reader.faults()) == []


def test_a_log_clears_up_while_it_is_open_and_what_it_has_in_memory_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    journal.log.close()
    assert plant(path) > 10
    log = again(path, journal)
    monkeypatch.setattr(log, "_grow_write_ahead_log", lambda: None)  # there is no room for it: it takes much memory
    assert len(list(log.read())) == 80  # now all pages are in memory
    journal.forget(3, 4, 20)
    log.maintain()
    assert WORD not in content(path)
    journal.create(command_id="create-one-more")  # writes pages that were in memory
    log.maintain()
    assert WORD not in content(path) + content(tmp_path / "log.db-wal")
    assert log._files.fault() == ""
    assert log._files.overwritten() == ""
    log.close()


def test_the_end_does_what_is_left_and_so_does_the_next_start_where_somebody_reads(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    journal.log.close()
    plant(path)
    log = again(path, journal)
    journal.forget(3)
    log.close()
    assert WORD not in content(path)
    plant(path)
    log = again(path, journal)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        journal.forget(4)
        log.maintain()
        log.close()
        assert WORD in content(path)
    log = again(path, journal)
    log.maintain()
    assert WORD not in content(path)
    log.close()


def test_whoever_merely_has_the_log_open_keeps_nothing_of_it(tmp_path: Path) -> None:
    """SQLite folds a write-ahead log at the end only where no other process has the file open."""
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    assert isinstance(journal.log, SqliteEventLog)
    journal.log.maintain()
    code = (
        "import sqlite3, sys; conn = sqlite3.connect(sys.argv[1]); print(len(list(conn.execute(sys.argv[2])))); input()"
    )
    command = [sys.executable, "-u", "-c", code, str(path), "SELECT 1 FROM events"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "80\n"
        journal.forget(3, 4, 20)
        journal.log.close()
        assert told_of(tmp_path).isdisjoint({3, 4, 20})
        other.communicate("\n")


def test_a_log_in_which_nothing_was_forgotten_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    journal.log.close()
    plant(path)
    log = again(path, journal)
    log.maintain()
    log.close()
    assert WORD in content(path)


def test_a_large_log_is_cleared_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    journal.log.close()
    planted = plant(path)
    log = again(path, journal)
    journal.forget(3)
    asked: list[tuple[int, float]] = []

    def pieces(_log: Path, first: int, seconds: float) -> int:
        asked.append((first, seconds))
        return (8, 15, 0)[len(asked) - 1]

    monkeypatch.setattr(gaps, "clear_gaps_of", pieces)
    for _ in range(5):
        log.maintain()
    assert [first for first, _seconds in asked] == [1, 8, 15]
    with path.open("r+b") as file:
        monkeypatch.setattr(gaps, "_AT_ONCE", 1)
        moments = iter(range(100))
        monkeypatch.setattr(gaps, "monotonic", lambda: next(moments))
        first = clear_gaps(file.fileno(), 1, 5.0)
        assert 1 < first < 9
        assert 0 < content(path).count(WORD) < planted
        assert clear_gaps(file.fileno(), first) == 0
    assert WORD not in content(path)
    log.close()


def test_a_process_that_cannot_do_it_is_not_asked_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    journal.log.close()
    plant(path)
    log = again(path, journal)
    asked: list[int] = []

    def fails(_log: Path, first: int, _seconds: float) -> int:
        asked.append(first)
        raise subprocess.CalledProcessError(1, "it")

    with monkeypatch.context() as patch:
        patch.setattr(gaps, "clear_gaps_of", fails)
        journal.forget(3)
        for _ in range(3):
            log.maintain()
        assert asked == [1]
    log.close()
    assert WORD not in content(path)


def test_nothing_is_written_to_a_file_that_somebody_else_may_write_to(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    journal = log_of(tmp_path)
    with pytest.raises(subprocess.CalledProcessError):  # there is something in the write-ahead log
        clear_gaps_of(path, 1, 60)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(subprocess.CalledProcessError):
            clear_gaps_of(path, 1, 60)
        other.execute("ROLLBACK")
        assert clear_gaps_of(path, 1, 60) == 0
    journal.log.close()


@pytest.mark.parametrize("size", [512, 4096, 65536])
def test_every_row_stays_as_it_was_whatever_is_in_the_file(tmp_path: Path, size: int) -> None:
    """Tables of both kinds, an index, values of many pages, free pages: SQLite reads the same from each page."""
    path, chance = tmp_path / "any.db", Random(size)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA page_size = {size}")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, words TEXT, more BLOB)")
        conn.execute("CREATE TABLE words (word TEXT PRIMARY KEY, id INTEGER) WITHOUT ROWID")
        conn.execute("CREATE INDEX by_words ON rows (words, id)")
        for number in range(900):
            word = f"{chance.random()}-" * chance.choice((1, 2, 9, 60))
            conn.execute(
                "INSERT INTO rows VALUES (?, ?, ?)", (number, word, chance.randbytes(chance.choice((0, 9, 9000))))
            )
            with suppress(sqlite3.IntegrityError):
                conn.execute("INSERT INTO words VALUES (?, ?)", (word, number))
        conn.execute("DELETE FROM rows WHERE id % 3 = 0")
        conn.execute("DELETE FROM words WHERE id BETWEEN 100 AND 500")
        before = list(conn.iterdump())
    with path.open("r+b") as file:
        clear_gaps(file.fileno())
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert list(conn.iterdump()) == before
        conn.execute("DELETE FROM rows WHERE id % 2 = 0")
        conn.execute("INSERT INTO rows SELECT id + 10000, words, more FROM rows")
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_gives_room_back_by_itself_stays_as_it_is(tmp_path: Path) -> None:
    """Some of its pages are maps of others, and begin like pages with rows."""
    path = tmp_path / "any.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA page_size = 512")  # so that a map covers few pages
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, words TEXT)")
        conn.executemany("INSERT INTO rows VALUES (?, ?)", ((number, "word " * 200) for number in range(500)))
        conn.execute("DELETE FROM rows WHERE id % 7 < 4")
    before = path.read_bytes()
    with path.open("r+b") as file:
        assert clear_gaps(file.fileno()) == 0
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\x0d" * 9000)
    with other.open("r+b") as file, pytest.raises(ValueError, match="not a SQLite file"):
        clear_gaps(file.fileno())
    assert other.read_bytes() == b"\x0d" * 9000


def test_a_damaged_page_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE some (text)")
        conn.executemany("INSERT INTO some VALUES (?)", [("a" * 90,), ("b" * 90,)])
    damaged = bytearray(path.read_bytes())
    begin = int.from_bytes(damaged[4096 + 5 : 4096 + 7]) + 80  # in the midst of the rows
    damaged[4096 + 5 : 4096 + 7] = begin.to_bytes(2)
    path.write_bytes(damaged)
    with path.open("r+b", buffering=0) as file:
        assert clear_gaps(file.fileno()) == 0
    assert path.read_bytes() == damaged
