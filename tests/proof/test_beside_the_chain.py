"""What an insider who makes the checksums anew can change beside the chain: answers to command ids, and epochs.

No seal covers these two tables. Nearly all of their content stands in records as well, which seals cover.
"""

from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeAlias

import pytest
from forgery import forging
from histories import BEGIN, Journal, random_history
from sealed_logs import Sealed

from tasktrail.events.log.chain import checksum
from tasktrail.events.log.schema import APPLIED, epoch_sum
from tasktrail.events.log.sqlite import SqliteEventLog

Change: TypeAlias = Callable[[list[list[Any]]], object]


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    house = Sealed(tmp_path)
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    for seed in range(4):
        random_history(journal, 40, seed=seed)
        journal.play("restart", 0, seed)
    log.close()
    house.seal()
    assert house.checked().ok
    return house


def change(path: Path, table: str, how: Change) -> None:
    """Change the rows of a table, and correct the checksums."""
    with forging(path) as conn:
        rows = [list(row[:-1]) for row in conn.execute(f"SELECT * FROM {table}")]
        before = [list(row) for row in rows]
        how(rows)
        assert rows != before
        conn.execute(f"DELETE FROM {table}")
        summed = [(*row, _sum(conn, table, tuple(row))) for row in rows]
        conn.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(summed[0]))})", summed)


def _sum(conn: Connection, table: str, row: tuple[Any, ...]) -> bytes:
    return checksum(row) if table == "answers" else epoch_sum(row, conn.execute(APPLIED).fetchall())


def put(row: int, column: int, value: Any) -> Change:
    return lambda rows: rows[row].__setitem__(column, value)


def exchange(rows: list[list[Any]]) -> None:
    """Exchange the answers of two commands."""
    rows[3][1:], rows[4][1:] = rows[4][1:], rows[3][1:]


FOUND: dict[str, tuple[str, Change]] = {
    "an answer is gone": ("answers", lambda rows: rows.pop(3)),
    "an answer is made up": ("answers", lambda rows: rows.append(["mine", b"digest", 1, 2])),
    "an answer has another command id": ("answers", put(3, 0, "mine")),
    "an answer names another task": ("answers", lambda rows: put(3, 2, rows[3][2] + 1)(rows)),
    "an answer names another position": ("answers", lambda rows: put(3, 3, rows[4][3])(rows)),
    "two answers are exchanged": ("answers", exchange),
    "a service in the middle is gone": ("epochs", lambda rows: rows.pop(1)),
    "the services since the last recorded one are gone": ("epochs", lambda rows: rows.__delitem__(slice(-1, None))),
}
UNSEEN: dict[str, tuple[str, Change]] = {
    "what a command held": ("answers", put(3, 1, b"another digest")),
    "the process of a service": ("epochs", put(1, 1, 4711)),
    "the machine of a service": ("epochs", put(1, 2, "elsewhere")),
    "the time of a service": ("epochs", put(1, 3, "2020-01-01T00:00:00.000000Z")),
    "a service that recorded nothing": ("epochs", lambda rows: rows.append([len(rows) + 1, 1, "x", rows[0][3]])),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_records_say_as_well_is_found(name: str, sealed: Sealed) -> None:
    change(sealed.path, *FOUND[name])
    found = sealed.checked()
    assert not found.ok
    assert {finding.code for finding in found.findings} <= {"answer", "epoch"}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_only_these_tables_say_is_not_found_and_no_record_is_any_other_for_it(name: str, sealed: Sealed) -> None:
    """If this is found one day, `docs/how-to/audit.md` and F103 of the faults promise too little."""
    before = sealed.checked()
    change(sealed.path, *UNSEEN[name])
    assert sealed.checked() == before
