"""Archives the beginning of a log, with or without its record, for tests of code that reads a log with archives."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from histories import Journal, speaks_of

from tasktrail.actors.archiver import rewrite_archive
from tasktrail.events import Answer, Fact, Recorded
from tasktrail.events.log.archive_file import file_name, write_archive
from tasktrail.events.log.archives import archived_until, delete_archived, folder_of, note_archive
from tasktrail.events.log.chain import GENESIS
from tasktrail.events.log.integrity import raw_rows
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.ranges import NumberRange, overlaps, spans_of, to_ranges
from tasktrail.events.system_events import RetentionRule, SegmentArchived, TasksForgotten
from tasktrail.projections.proof.merkle import GrowingRoot, leaf_hash


def written(log: Path, last: int) -> SegmentArchived:
    """Write the archive that follows the last one; return the event that has to be recorded."""
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
    """A log that archives nearly all records after each append, without recording it. For tests of reading only."""

    kept = 1
    """The number of records that stay in the table."""
    size = 0
    """The number of records in an archive; 0: as many as there are."""

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """Append, and archive the records before the last one."""
        records = super().append(facts, answers, expected=expected)
        until = archived_until(self._conn)
        last = self.head().position - self.kept
        if self.size:
            last -= (last - until) % self.size
        if records and last > until:
            self.archive(last)
        return records

    def archive(self, last: int) -> None:
        """Archive all records up to a position."""
        assert note_archive(self._conn, written(self._path, last))
        delete_archived(self._conn, last)
        self._files.note()


def archive(journal: Journal, last: int) -> SegmentArchived:
    """Archive all records up to a position, as the service does."""
    assert isinstance(journal.log, SqliteEventLog)
    event = written(journal.log._path, last)
    journal.record(0, event)
    journal.log.delete_archived(last)
    return event


def forget(journal: Journal, *task_ids: int) -> None:
    """Drop all tasks of which any record is archived, as the service does."""
    assert isinstance(journal.log, SqliteEventLog)
    path = journal.log._path
    notes = [one.position for one in journal.records if speaks_of(one) in task_ids]
    with closing(SqliteLogReader(path)) as log:
        positions, stubs = log.to_drop(task_ids, notes)
        spans = spans_of(positions)
        changed = [one for one in log.segments() if overlaps(NumberRange(one.first, one.last), spans)]
        anew = [rewrite_archive(log, path, one, spans) for one in changed]
    rule = RetentionRule(older_than=0.0)
    event = TasksForgotten(tasks=to_ranges(task_ids), positions=positions, stubs=stubs, rule=rule)
    journal.record(0, event, *anew)
    journal.records = list(journal.log.read())
    journal.forgotten.update(task_ids)
