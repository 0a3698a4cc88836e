"""Archives: moves the beginning of the log, range by range, from `log.db` into compressed files.

An archive is written beside the log, flushed to the disk, and read back before the Scheduler records it. Only then are
its rows deleted, in steps. So every record is always in one of the two, and a start finishes what was begun.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ..events import Accepted
from ..events.errors import ChangedMeanwhile, LogCorrupt, NotReady, OnlyInFiles, TasktrailError
from ..events.log.address import is_address
from ..events.log.archive_file import RANGE, ArchiveDamaged, ArchiveFile, file_name, write_archive
from ..events.log.archives import Archived, KnownArchive, folder_of, segment_of
from ..events.log.chain import GENESIS
from ..events.log.files import PRIVATE_FOLDER, sync
from ..events.log.log_reader import LogReader
from ..events.log.opening import read_log
from ..events.log.sqlite_errors import meaning_of
from ..events.log.stubs import as_stub
from ..events.ranges import NumberRange, is_within
from ..events.recorded import STUB
from ..events.system_events import SegmentArchived
from ..projections.proof.merkle import GrowingRoot, leaf_hash
from ..projections.queries.as_of import position_at
from .core.messages import Archive
from .core.state import SchedulerState
from .messages import DeleteArchived, StateQuery, Ticket

ROWS_AT_ONCE = 2000
"""Rows that are deleted in one step: the Scheduler does nothing else meanwhile."""
_ANSWER_WITHIN = 60.0
_REPORT_EVERY = 4096

Row = tuple[Any, ...]


class Archiver:
    """Finds ranges that may be archived, writes them, and has the Scheduler record them. Any thread may use it.

    Args:
        log_path: the log.
        tell: gets messages for the Scheduler.
        ask: asks the Scheduler.
        alone: held by any thread while it writes archives.
        stopping: whether the service is about to stop; then it stops after the current range.
    """

    size = RANGE
    """Records in one archive: a whole tile of the tree. Tests make it smaller."""

    def __init__(
        self,
        *,
        log_path: Path,
        tell: Callable[[Archive], None],
        ask: Callable[[StateQuery | DeleteArchived], Any],
        alone: threading.Lock,
        stopping: Callable[[], bool],
    ) -> None:
        self._log_path = log_path
        self._tell = tell
        self._ask = ask
        self._alone = alone
        self._stopping = stopping

    def count(self, before: int | datetime | None) -> Archived:
        """Count what `archive` would archive. Raises `OnlyInFiles`."""
        refuse_database(self._log_path)
        with closing(read_log(self._log_path)) as log:
            return archivable(log, before, self._oldest(), self.size)

    def archive(
        self,
        before: int | datetime | None,
        *,
        actor: str,
        reason: str = "",
        configured_at: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Archived:
        """Archive all whole ranges before a position or a time that hold no record of an unfinished task.

        Args:
            before: a position or a time; None for as much as possible.
            actor: who asks for it.
            reason: why.
            configured_at: the position of the policy that asks for it; 0 without one.
            progress: gets how many records are archived, and how many are to be archived in all.

        Raises:
            NotReady, OutcomeUnknown: an archive could not be recorded. Earlier ones remain.
            OnlyInFiles: the log is on PostgreSQL.
            LogFull, LogNotWritable, DiskFailed: a file could not be written.
            LogCorrupt: an archive differs from the log.
        """
        refuse_database(self._log_path)
        with self._alone, closing(read_log(self._log_path)) as log:
            self.finish()
            spans = _ranges(log, before, self._oldest(), self.size)
            size = position = done = 0
            for span in spans:
                segment_progress = _progress(progress, done * self.size, len(spans) * self.size)
                event = self._write_archive(log, span, segment_progress)
                message = Archive(event=event, actor=actor, reason=reason, configured_at=configured_at)
                try:
                    position = self._record(message)
                except ChangedMeanwhile:
                    discard_archive(self._log_path, event)
                    raise
                self.finish()
                size, done = size + event.size, done + 1
                if self._stopping():
                    break
            until = _end(log.segments())
            return Archived(
                archives=done,
                records=done * self.size,
                size=size,
                until=until,
                position=position,
                next_until=until + self.size,
            )

    def finish(self) -> None:
        """Delete the archived rows that are still in `log.db`."""
        while self._ask(DeleteArchived(ROWS_AT_ONCE)):
            pass

    def _oldest(self) -> int:
        oldest: int = self._ask(StateQuery(oldest_unfinished))
        return oldest

    def _write_archive(self, log: LogReader, span: NumberRange, progress: Callable[[int], None]) -> SegmentArchived:
        before = _hash_before(log, span.first)
        root = _root(digest for *_, digest in log.hashes(span.first - 1, self.size))
        return write_and_check(
            self._log_path, span, _with_progress(log.rows(span.first - 1, self.size), progress), before, root
        )

    def _record(self, message: Archive) -> int:
        reply = SchedulerReply()
        self._tell(msgspec.structs.replace(message, token=Ticket(reply.put, "", b"", fresh=True)))
        return reply.get().position


def oldest_unfinished(state: SchedulerState) -> int:
    """The lowest id of an unfinished task; 0 if there is none."""
    return next(iter(state.tasks.open_ids()), 0)


def refuse_database(log: Path) -> None:
    """Raises `OnlyInFiles` for a log on PostgreSQL."""
    if is_address(log):
        raise OnlyInFiles("Only a log in a file can have archives, and this one is on PostgreSQL")


def archivable(log: LogReader, before: int | datetime | None, oldest: int, size: int) -> Archived:
    """Count what would be archived.

    Args:
        log: the log.
        before: a position or a time; None for as much as possible.
        oldest: the lowest id of an unfinished task; 0 if there is none.
        size: records in one archive.
    """
    spans = _ranges(log, before, oldest, size)
    until = spans[-1].last if spans else _end(log.segments())
    return Archived(archives=len(spans), records=len(spans) * size, until=until, next_until=until + size)


def _ranges(log: LogReader, before: int | datetime | None, oldest: int, size: int) -> list[NumberRange]:
    limit = log.head().position - 1  # the last record stays, so that the log says where it ends
    if before is not None:
        limit = min(limit, before - 1 if isinstance(before, int) else position_at(log, before))
    if oldest:
        (created,) = log.read_task_after(oldest, 0, 1)
        limit = min(limit, created.position - 1)
    first = _end(log.segments()) + 1
    return [NumberRange(one, one + size - 1) for one in range(first, limit - size + 2, size)]


def write_and_check(
    log: Path, span: NumberRange, rows: Iterable[Row], before: bytes, root: str, replaces: KnownArchive | None = None
) -> SegmentArchived:
    """Write an archive, read it back, and return the event that records it.

    Args:
        log: the log that it belongs to.
        span: its range.
        rows: its records, each with its hash last.
        before: the hash of the record before them.
        root: the root that its tree must have.
        replaces: the archive that it replaces.
    """
    folder = folder_of(log)
    part = folder / f"{span.first:012d}.part"
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        made = write_archive(part, rows, before)
        path = folder / file_name(span.first, span.last, made.sha256)
        part.replace(path)
        sync(folder)
        sync(folder.parent)
        file = ArchiveFile(path, span.first, span.last, (made.sha256, made.size))
        written_root = _root(row[14] for row in file.rows())
    except OSError as error:
        part.unlink(missing_ok=True)
        raise meaning_of(error)(f"The archive of {span.first} to {span.last} cannot be written: {error}") from error
    except ArchiveDamaged as error:
        raise LogCorrupt(f"Position {error.position} cannot be archived: {error.reason}") from error
    if written_root != root:
        raise LogCorrupt(f"The archive {path} differs from the log at {span.first} to {span.last}")
    return SegmentArchived(
        first=span.first,
        last=span.last,
        root=root,
        sha256=made.sha256,
        size=made.size,
        newest_task=made.newest_task,
        replaces=replaces.sha256 if replaces else "",
    )


def rewrite_archive(
    log: LogReader, log_path: Path, segment: KnownArchive, dropped: Sequence[NumberRange] = ()
) -> SegmentArchived:
    """Write an archive again, with stubs for the dropped records, and return the event that records it.

    Args:
        log: has the records.
        log_path: the file of the log, beside which archives lie.
        segment: the archive.
        dropped: the positions of the dropped records that `log` still has.
    """
    span = NumberRange(segment.first, segment.last)
    before = _hash_before(log, span.first)
    rows = (
        as_stub(row) if row[3] != STUB and is_within(row[0], dropped) else row
        for row in log.rows(span.first - 1, span.last - span.first + 1)
    )
    return write_and_check(log_path, span, rows, before, segment.root, replaces=segment)


def discard_archive(log: Path, event: SegmentArchived) -> None:
    """Remove the file of an archive, unless the archive is recorded: the same content has the same name."""
    with closing(read_log(log)) as reader:
        if event.sha256 not in {segment.sha256 for segment in reader.segments()}:
            (folder_of(log) / segment_of(event).name).unlink(missing_ok=True)


def _root(digests: Iterable[bytes]) -> str:
    tree = GrowingRoot()
    for digest in digests:
        tree.append(leaf_hash(digest))
    return tree.root().hex()


def _hash_before(log: LogReader, position: int) -> bytes:
    return next(log.hashes(position - 2, 1))[3] if position > 1 else GENESIS


def _end(segments: Sequence[KnownArchive]) -> int:
    return segments[-1].last if segments else 0


def _progress(progress: Callable[[int, int], None] | None, done: int, goal: int) -> Callable[[int], None]:
    return (lambda reached: progress(done + reached, goal)) if progress else (lambda _reached: None)


def _with_progress(rows: Iterable[Row], progress: Callable[[int], None]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield row
        if number % _REPORT_EVERY == 0:
            progress(number)
    progress(number)


class SchedulerReply:
    """Hands an answer of the Scheduler to a waiting thread."""

    def __init__(self) -> None:
        self._answer: Accepted | TasktrailError | None = None
        self._there = threading.Event()

    def put(self, answer: Accepted | TasktrailError) -> None:
        """Take the answer. Called by the Scheduler."""
        self._answer = answer
        self._there.set()

    def get(self) -> Accepted:
        """Wait for the answer. If it is an error, raises it. If none comes, raises `NotReady`."""
        if not self._there.wait(_ANSWER_WITHIN) or self._answer is None:
            raise NotReady(f"The Scheduler did not answer within {_ANSWER_WITHIN:g} s")
        if isinstance(self._answer, TasktrailError):
            raise self._answer
        return self._answer
