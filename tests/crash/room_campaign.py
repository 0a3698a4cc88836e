"""Kill a start that gives back the space of archived records at each system call that changes a file.

PYTHONPATH=tests/support python tests/crash/room_campaign.py --most 1000 --seed 7 [--calls fsync,…] [--part 2/8]

After the kill the log has to verify, with every record that was in it before. The next start gives the space back, if
that has not happened yet.
"""

import sys
from pathlib import Path

from archiving import archive
from call_by_call import Begin, Campaign, main, records_of
from histories import BEGIN, Journal, random_history

from tasktrail.events.log import sqlite
from tasktrail.events.log.sqlite import SqliteEventLog

KEPT = 40
"""Records that stay in log.db."""


def prepare(data: Path) -> None:
    """Make a log of which nearly all is archived."""
    data.mkdir()
    log = SqliteEventLog(data / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 900, seed=3)
    archive(journal, log.head().position - KEPT)
    log.close()


def start(data: Path, begin: Begin) -> None:
    """Do the child's work."""
    sqlite._WORTH_GIVING = 4096
    sqlite._CHECKPOINT_PAGES = 40  # or nearly all of its calls would only make room in the write-ahead log
    begin()
    log = SqliteEventLog(data / "log.db", now=BEGIN)
    print("started", flush=True)
    log.close()


def check(data: Path, said: str) -> str:
    """Return whether the space was given back, in words, after a kill and the start after it. Raises AssertionError."""
    before, path = records_of(data.parent / "origin"), data / "log.db"
    large, small = (data.parent / "origin" / "log.db").stat().st_size, path.stat().st_size
    assert records_of(data) == before
    sqlite._WORTH_GIVING = 4096
    SqliteEventLog(path, now=BEGIN).close()
    assert path.stat().st_size < large / 2
    assert records_of(data) == before
    return "room given back" if small < large / 2 else "started" if "started" in said else "as before"


if __name__ == "__main__":
    sys.exit(main(Campaign(prepare, start, check), __doc__))
