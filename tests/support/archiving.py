"""For tests of what reads a log with archives: archives the beginning of a log, with its record or without."""

import sqlite3
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from histories import Journal

from tasktrail.events import Answer, Fact, Recorded
from tasktrail.events.log.archive_file import file_name, write_archive
from tasktrail.events.log.archives import archived_until, delete_archived, folder_of, put
from tasktrail.events.log.chain import GENESIS
from tasktrail.events.log.integrity import raw_rows
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.system_events import SegmentArchived
from tasktrail.projections.proof.merkle import GrowingRoot, leaf_hash


def written(log: Path, last: int) -> SegmentArchived:
    """Write the archive that goes on where the last one ends; the event that has to be recorded."""
    conn = sqlite3.connect(log)
    try:
        first = archived_until(conn) + 1
        rows = [row for row in islice(raw_rows(conn), first - 1, last) if isinstance(row, tuple)]
        before = next((row[14] for row in islice(raw_rows(conn), first - 2, None)), GENESIS) if first > 1 else GENESIS
    finally:
        conn.close()
    assert len(rows) == last - first + 1
    folder_of(log).mkdir(exist_ok=True)
    part = folder_of(log) / "new.part"
    made = write_archive(part, rows, before)
    root = GrowingRoot()
    for row in rows:
        root.append(leaf_hash(row[14]))
    part.rename(folder_of(log) / file_name(first, last, made.sha256))
    return SegmentArchived(
        first=first,
        last=last,
        root=root.root().hex(),
        sha256=made.sha256,
        size=made.size,
        newest_task=made.newest_task,
    )


class ArchivingEventLog(SqliteEventLog):
    """A log of which nearly all is archived after each append, without a record of that. For tests of reading only."""

    kept = 1
    """How many records stay in the table."""

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """Append, and archive what was there before the last record."""
        records = super().append(facts, answers, expected=expected)
        last = self.head().position - self.kept
        if records and last > archived_until(self._conn):
            self.archive(last)
        return records

    def archive(self, last: int) -> None:
        """Archive all up to a position."""
        assert put(self._conn, written(self._path, last))
        delete_archived(self._conn, last)
        self._files.note()


def archive(journal: Journal, last: int) -> SegmentArchived:
    """Archive all up to a position, as the service does."""
    assert isinstance(journal.log, SqliteEventLog)
    event = written(journal.log._path, last)
    journal.record(0, event)
    journal.log.delete_archived(last)
    return event
