"""The limits of the hardware and SQLite when nothing else is in the way."""

import queue
import sqlite3
import threading
from pathlib import Path

BLOB = b"x" * 120
_INSERT = "INSERT INTO event (task, version, data) VALUES (?, ?, ?)"


def raw_log(folder: Path) -> sqlite3.Connection:
    """Open one table in WAL mode with synchronous FULL, as the log has."""
    conn = sqlite3.connect(folder / "raw.db", isolation_level=None, check_same_thread=False)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, task INTEGER, version INTEGER, data BLOB)")
    conn.execute("CREATE UNIQUE INDEX one ON event (task, version)")
    # It has the same room in the write-ahead log as ours: otherwise the floor would pay for the growth of a file.
    conn.execute("PRAGMA wal_autocheckpoint = 2000")
    conn.execute("BEGIN")
    conn.execute("CREATE TABLE room (filler BLOB)")
    conn.execute("INSERT INTO room VALUES (zeroblob(?))", (8 * 1024 * 1024,))
    conn.execute("ROLLBACK")
    return conn


def one_by_one(conn: sqlite3.Connection, number: int) -> None:
    """Make one insert a commit."""
    for task in range(number):
        conn.execute(_INSERT, (task, 1, BLOB))


def in_batches(conn: sqlite3.Connection, number: int, size: int) -> None:
    """Make `size` inserts a commit."""
    for start in range(0, number, size):
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(_INSERT, [(task, 1, BLOB) for task in range(start, start + size)])
        conn.execute("COMMIT")


def many_callers(conn: sqlite3.Connection, callers: int, each: int) -> None:
    """Commit by a writer thread what has queued up; each caller waits for its own commit."""
    inbox: queue.SimpleQueue[tuple[int, threading.Lock] | None] = queue.SimpleQueue()

    def write() -> None:
        while (first := inbox.get()) is not None:
            batch = [first]
            while not inbox.empty() and (more := inbox.get()) is not None:
                batch.append(more)
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(_INSERT, [(task, 1, BLOB) for task, _done in batch])
            conn.execute("COMMIT")
            for _task, done in batch:
                done.release()

    def call(number: int) -> None:
        for index in range(each):
            done = threading.Lock()
            done.acquire()
            inbox.put((number * each + index, done))
            done.acquire()

    writer = threading.Thread(target=write)
    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in (writer, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    inbox.put(None)
    writer.join()
