"""How long the history of a task takes among many archives of the usual size.

PYTHONPATH=tests/support python tests/bench/many_archives.py --archives 200

One range of a busy month is written again and again, with other numbers: 65,536 records each time, which takes some two
seconds. The records are never in log.db, so only the archives can be read.
"""

import argparse
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from harness import scratch, seconds
from month import BEGIN, facts

from tasktrail.events.log.archive_file import RANGE, file_name, write_archive
from tasktrail.events.log.archives import folder_of, note_archive
from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.rows import to_row
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import SegmentArchived

_TASKS = 20


class Month:
    """The rows of a range, and of the ranges after it."""

    def __init__(self) -> None:
        self._rows = [to_row(fact, position) for position, fact in enumerate(facts(RANGE), 1)]
        self.tasks = max(row[1] for row in self._rows)
        self.digest = GENESIS

    def rows(self, number: int) -> Iterator[tuple[Any, ...]]:
        """Return the rows of one range, with their hashes."""
        for position, task_id, *rest in self._rows:
            row: tuple[Any, ...] = (position + number * RANGE, task_id + number * self.tasks * bool(task_id), *rest)
            self.digest = link(self.digest, row)
            yield (*row, self.digest)


def write(path: Path, archives: int) -> int:
    """Write a log that is completely archived; return how many tasks each archive has."""
    month = Month()
    folder_of(path).mkdir()
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        for number in range(archives):
            first, last = number * RANGE + 1, (number + 1) * RANGE
            part = folder_of(path) / "part"
            made = write_archive(part, month.rows(number), month.digest)
            part.rename(folder_of(path) / file_name(first, last, made.sha256))
            event = SegmentArchived(
                first=first, last=last, root="", sha256=made.sha256, size=made.size, newest_task=made.newest_task
            )
            assert note_archive(log._conn, event)
            sys.stderr.write(f"\r{number + 1} of {archives}")
    sys.stderr.write("\n")
    return month.tasks


def _histories(log: SqliteLogReader, tasks: Iterable[int]) -> None:
    for task_id in tasks:
        assert log.read_task(task_id)


def _measure(path: Path, places: dict[str, int], how: str) -> None:
    with closing(SqliteLogReader(path)) as log:
        for name, before in places.items():
            wanted = [before + 1000 + 300 * number for number in range(_TASKS)]
            took = seconds(partial(_histories, log, wanted))
            sys.stdout.write(f"history of a task of the {name} archive{how}: {1000 * took / _TASKS:.1f} ms\n")
        sys.stdout.write(f"what was forgotten, which is nothing{how}: {1000 * seconds(log.drops):.1f} ms\n")


def main() -> int:
    """Measure, and print milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=int, default=200)
    archives = parser.parse_args().archives
    with scratch() as folder:
        path = folder / "log.db"
        tasks = write(path, archives)
        places = (("first", 0), ("middle", archives // 2), ("last", archives - 1))
        _measure(path, {name: place * tasks for name, place in places}, "")
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("DELETE FROM archived_tasks")
            conn.execute("DELETE FROM archived_kinds")
            conn.commit()
        _measure(path, {name: place * tasks for name, place in places}, ", if nothing were noted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
