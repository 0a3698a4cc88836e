"""Views built anew beside the live ones while those are read and written: compared with them, then put in their place.

Building reads the log and nothing else. Nothing is executed again: no notice goes out and no clock is asked.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from ..events.log.event_log import ReadableLog, ReportProgress
from ..events.log.log_reader import LogReader
from .errors import ViewsFailed
from .verification import Finding, Findings, compare
from .views import schema
from .views.rebuild import build_views, catch_up, copy_over, progress_at_end
from .views.writer import TaskViews


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """Views that were built anew."""

    position: int
    """How far they had come in the log when they were compared."""
    differences: tuple[Finding, ...] = ()
    """What stood otherwise in those before."""
    more: int = 0
    """Differences beyond those listed."""


def build_beside(log: LogReader, path: Path, progress: ReportProgress | None = None) -> Rebuilt:
    """Build the views once more in a file beside, as of the position of those in `path`, and compare them.

    The live ones may be read and written meanwhile. Those that cannot be compared differ, and there may be none.
    """
    beside = beside_of(path)
    schema.delete_files(beside)
    findings = Findings()
    position = compare(log, path, findings, progress, beside) if path.exists() else None
    if position is None or log.drops(position):  # of what was forgotten meanwhile some may have been read
        position = build(log, path, progress)
    return Rebuilt(position=position, differences=tuple(findings.listed), more=findings.more)


def build(log: ReadableLog, path: Path, progress: ReportProgress | None = None) -> int:
    """Build the views anew in a file beside, up to the end of the log, without a look at those in `path`."""
    position = log.head().position
    build_anew(log, beside_of(path), progress)
    return position


def build_anew(log: ReadableLog, beside: Path, progress: ReportProgress | None = None) -> None:
    """Build the views once more in the file `beside`, and compare them with nothing."""
    build_views(log, beside, progress).close()


def put_in_place(
    log: ReadableLog, path: Path, progress: ReportProgress | None = None, beside: Path | None = None
) -> int:
    """Bring what was built beside up to the log, then replace the live views by it, in one transaction.

    Nobody may write to the live ones meanwhile; who reads them sees the old or the new. Answers with the position.
    """
    beside = beside or beside_of(path)
    try:
        views = TaskViews(beside)
        try:
            catch_up(log, views, progress)
            copy_over(views.connection, path, progress_at_end(views, progress))
            return views.position
        finally:
            views.close()
    finally:
        schema.delete_files(beside)


def discard(path: Path) -> None:
    """Remove what a rebuild that was cut off has left."""
    schema.delete_files(beside_of(path))


def beside_of(path: Path) -> Path:
    """Where views are built beside those in `path`. Not where damaged views are: both may be built at once."""
    return path.with_name(f"{path.name}.beside")


def clear_write_ahead_log(path: Path) -> None:
    """Have all pages of the live views in their file, and none beside it. Raises `ViewsFailed` while somebody reads."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            busy = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise ViewsFailed(f"{path} cannot be cleared: {error}") from error
    if busy:
        raise ViewsFailed(f"{path} is being read, so what it has replaced is still in its write-ahead log")
