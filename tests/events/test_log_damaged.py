"""A damaged log is refused when it is opened, with the position, or its index is rebuilt; it is never served."""

import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from tasktrail.events import Answer, Created, Fact, Started
from tasktrail.events.errors import LogCorrupt
from tasktrail.events.log.faults import Fault
from tasktrail.events.log.integrity import can_be_rebuilt, damaged_indexes
from tasktrail.events.log.migrations import migrations
from tasktrail.events.log.rows import COLUMNS, from_row
from tasktrail.events.log.schema import NAMES, SET, TABLES, expected, is_newest
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed log of some pages."""
    path = tmp_path_factory.mktemp("whole") / "log.db"
    log = SqliteEventLog(path, now=NOW)
    for number in range(200):
        task_id, position = number + 1, 2 * number
        facts = [
            Fact(task_id, 1, Created(type="noop"), NOW, command_id=f"c{task_id}", life=1),
            Fact(task_id, 2, Started(), NOW, attempt=1, life=1),
        ]
        log.append(facts, [Answer(f"c{task_id}", b"d", task_id, position + 1)], expected=position)
    log.close()
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "log.db"))


def by_hand(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        triggers = conn.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            conn.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            conn.execute(statement)
        for _, made_by in triggers:
            conn.execute(made_by)


def reopened(path: Path) -> SqliteEventLog:
    return SqliteEventLog(path, now=NOW)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE events SET reason = 'another' WHERE position = 302", "position 302"),
        ("UPDATE events SET hash = zeroblob(32) WHERE position = 302", "position 302"),
        ("UPDATE events SET actor = CAST(X'ff80' AS TEXT) WHERE position = 302", "position 302"),
        ("DELETE FROM events WHERE position = 302", "position 302"),
        ("UPDATE events SET data = '{' WHERE position = 302", "position 302"),
        ("UPDATE answers SET digest = x'00' WHERE command_id = 'c9'", "position 17: the answer to c9"),
        ("UPDATE answers SET position = 18 WHERE command_id = 'c9'", "the answer to c9"),
        ("DELETE FROM answers WHERE command_id = 'c9'", "position 17: the answer to c9 is missing"),
        ("UPDATE epochs SET host = 'elsewhere'", "epoch 1"),
        ("DROP INDEX one_end_a_life", "index one_end_a_life is missing"),
        ("CREATE TRIGGER sly AFTER INSERT ON answers BEGIN DELETE FROM events; END", "trigger sly does not belong"),
        ("DROP TABLE answers", "table answers is missing"),
        ('DROP TABLE "_sqlite_migrations"', "the schema cannot be read"),
        ('ALTER TABLE "_sqlite_migrations" RENAME COLUMN name TO title', "the migrations that were applied"),
        ("""UPDATE "_sqlite_migrations" SET name = 'x' WHERE id = 2""", "the migrations that were applied"),
    ],
)
def test_a_damaged_log_is_refused_with_the_position(path: Path, statement: str, told: str) -> None:
    by_hand(path, statement)
    before = path.read_bytes()
    with pytest.raises(LogCorrupt, match=told):
        reopened(path)
    assert path.read_bytes() == before


def test_a_page_that_was_overwritten_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[PAGE * 12 : PAGE * 13] = b"\xff" * PAGE
    path.write_bytes(content)
    with pytest.raises(LogCorrupt):
        reopened(path)


@pytest.mark.slow
def test_a_schema_with_illegible_names_is_a_typed_error(whole: Path, path: Path) -> None:
    content = whole.read_bytes()
    first = int.from_bytes(content[105:107], "big")  # of the first page's cells, which are the schema
    refused = 0
    for at in range(first, PAGE, 5):
        changed = bytearray(content)
        changed[at] ^= 0x80
        path.write_bytes(changed)
        try:
            reopened(path).close()
        except LogCorrupt:
            refused += 1
            with suppress(LogCorrupt), closing(SqliteLogReader(path)) as reader:
                assert list(reader.faults())
        else:  # between the cells
            with closing(SqliteLogReader(path)) as reader:
                assert list(reader.faults()) == []
    assert refused > 100


@pytest.mark.slow
def test_whatever_stands_in_the_head_of_a_page_reading_comes_to_an_end(whole: Path, path: Path) -> None:
    """A page that leads back would be read for ever, by `verify` and by a start."""
    content = whole.read_bytes()
    for page in range(1, len(content) // PAGE):
        if content[page * PAGE] != 13:  # a leaf of a table
            continue
        cells = int.from_bytes(content[page * PAGE + 3 : page * PAGE + 5], "big")
        for at in range(page * PAGE, page * PAGE + 8 + 2 * cells):
            changed = bytearray(content)
            changed[at] ^= 1 << at % 8
            path.write_bytes(changed)
            with suppress(LogCorrupt), closing(SqliteLogReader(path)) as reader:
                assert sum(1 for _ in islice(reader.raw_rows(), 10_000)) < 10_000


def test_records_that_all_stand_at_position_0_are_no_endless_page(path: Path) -> None:
    """A reader that asks for those after 0 gets one at 0."""
    with closing(sqlite3.connect(path)) as conn:
        [[root]] = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'")
    content = bytearray(path.read_bytes())
    leaf = (root - 1) * PAGE
    while content[leaf] == 5:  # an interior page of a table: down to its first child
        cell = leaf + int.from_bytes(content[leaf + 12 : leaf + 14], "big")
        leaf = (int.from_bytes(content[cell : cell + 4], "big") - 1) * PAGE
    for number in range(int.from_bytes(content[leaf + 3 : leaf + 5], "big")):
        at = leaf + int.from_bytes(content[leaf + 8 + 2 * number : leaf + 10 + 2 * number], "big")
        while content[at] & 0x80:  # the length of the row
            at += 1
        assert content[at + 1] < 0x80
        content[at + 1] = 0
    path.write_bytes(content)
    looks = iter(range(100_000))
    with closing(SqliteLogReader(path)) as reader:
        reader._conn.set_progress_handler(lambda: next(looks, None) is None, 100)
        faults = list(reader.faults())
    assert any("order of their positions" in fault.message for fault in faults)


def flip_in_index(path: Path, name: str) -> None:
    """Flip the last bit of the smallest key's last byte, which makes another position."""
    with closing(sqlite3.connect(path)) as conn:
        [[root]] = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
    content = bytearray(path.read_bytes())
    start = (root - 1) * PAGE
    while content[start] == 2:  # an interior page of an index: down to its first child
        cell = start + int.from_bytes(content[start + 12 : start + 14], "big")
        start = (int.from_bytes(content[cell : cell + 4], "big") - 1) * PAGE
    cell = start + int.from_bytes(content[start + 8 : start + 10], "big")
    content[cell + content[cell]] ^= 1
    path.write_bytes(content)


def test_a_damaged_index_is_rebuilt_from_its_table_and_that_is_told(path: Path) -> None:
    flip_in_index(path, "one_version_once")
    with closing(SqliteLogReader(path)) as reader:
        assert {fault.code for fault in reader.faults()} == {"index"}
    log = reopened(path)
    assert log.rebuilt == ("one_version_once",)
    assert [record.version for record in log.read_task(1)] == [1, 2]
    log.close()
    with closing(SqliteLogReader(path)) as reader:
        assert list(reader.faults()) == []
    again = reopened(path)
    assert again.rebuilt == ()
    again.close()


def test_no_index_is_rebuilt_from_a_damaged_table(path: Path) -> None:
    by_hand(path, "UPDATE events SET reason = 'another' WHERE position = 302")
    flip_in_index(path, "one_version_once")
    with pytest.raises(LogCorrupt, match="position 302"):
        reopened(path)


def test_an_index_whose_pages_are_not_its_own_is_not_rebuilt_in_place() -> None:
    missing = Fault(7, "index", "row 7 missing from index one_version_once")
    entries = Fault(0, "index", "wrong # of entries in index adjustments")
    tree = Fault(0, "index", "Tree 5 page 9: btreeInitPage() returns error code 11")
    assert can_be_rebuilt([missing, entries])
    assert damaged_indexes([missing, entries]) == ("adjustments", "one_version_once")
    assert not can_be_rebuilt([missing, tree])
    assert not can_be_rebuilt([missing, Fault(0, "file", "Page 9: never used")])


@pytest.fixture
def long(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that is too long to be checked whole when it is opened."""
    monkeypatch.setattr("tasktrail.events.log.sqlite.AT_ONCE", 10)
    return path


def test_of_a_long_log_the_chain_is_left_to_the_inspector(long: Path) -> None:
    by_hand(long, "UPDATE events SET reason = 'another' WHERE position = 302")
    reopened(long).close()
    with closing(SqliteLogReader(long)) as reader:
        assert [(fault.position, fault.code) for fault in reader.faults()] == [(302, "chain")]


def test_a_long_log_with_a_gap_is_not_read_over_it(long: Path) -> None:
    by_hand(long, "DELETE FROM events WHERE position = 301")
    log = reopened(long)
    with pytest.raises(LogCorrupt, match="Position 301 of the log is missing"):
        list(log.read())
    with pytest.raises(LogCorrupt, match="task 151 cannot all be found"):
        log.read_task(151)
    log.close()


def test_the_names_of_the_migrations_are_all_there_is() -> None:
    db = Database(memory=True)
    assert [migration.name for migration in migrations.pending(db)] == list(NAMES)
    assert migrations.name == SET
    db.close()


def test_every_table_of_the_log_is_named() -> None:
    """If a view stands in the place of one, that is reported before it is read."""
    tables = {name for kind, name in expected(len(NAMES)) if kind == "table" and not name.startswith("sqlite_")}
    assert tables == set(TABLES)


def test_the_newest_schema_is_known_without_making_it() -> None:
    newest = expected(len(NAMES))
    assert is_newest(newest), "a migration was added: `_NEWEST` in schema.py stands for what all of them make"
    assert not is_newest(expected(len(NAMES) - 1))
    table, statement = newest["trigger", "events_are_not_changed"]
    assert not is_newest({**newest, ("trigger", "events_are_not_changed"): (table, f"{statement} ")})
    damaged: Any = {**newest, ("trigger", b"events_are_not_changed"): (table, statement)}
    assert not is_newest(damaged), "a bit of the header of a row may make bytes of its text"


@pytest.mark.parametrize("at", [18, 19])
@pytest.mark.parametrize("version", [3, 66, 130, 255])
def test_a_changed_version_in_the_header_is_damage_and_no_matter_of_permissions(
    tmp_path: Path, at: int, version: int
) -> None:
    path = tmp_path / "log.db"
    SqliteEventLog(path, now=NOW).close()
    content = bytearray(path.read_bytes())
    content[at] = version
    path.write_bytes(content)
    with pytest.raises(LogCorrupt, match="its header is damaged: bytes 18 and 19 are"):
        SqliteEventLog(path, now=NOW)


@pytest.mark.parametrize("column", ["recorded_at", "data"])
@pytest.mark.parametrize("value", [7, 0.5, None])
def test_a_number_in_the_place_of_a_text_is_damage(whole: Path, column: str, value: object) -> None:
    """A single bit in the header of a record says which type a value has."""
    with closing(SqliteLogReader(whole)) as reader:
        (row,) = reader.rows(301, 1)
    place = COLUMNS.index(column)
    with pytest.raises(LogCorrupt, match="Position 302"):
        from_row((*row[:place], value, *row[place + 1 : 14]), row[14])
