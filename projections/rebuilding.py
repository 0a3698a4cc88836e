"""Rebuilds views beside the live ones, which stay in use: compares both, then replaces the live ones.

Building reads only the log. Nothing is executed again: no notice goes out and no clock is read.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from ..events.existence import exists
from ..events.log.event_log import ReadableLog, ReportProgress
from ..events.log.log_reader import LogReader
from .comparison import compare_views
from .errors import ViewsFailed
from .findings import Finding, Findings
from .views import schema
from .views.rebuild import build_views, catch_up, copy_over, progress_at_end
from .views.writer import TaskViews


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a rebuild."""

    position: int
    """The position in the log at which old and new views were compared."""
    differences: tuple[Finding, ...] = ()
    """Where the old views differed."""
    more: int = 0
    """Differences beyond those listed."""


def build_beside(log: LogReader, path: Path, progress: ReportProgress | None = None) -> Rebuilt:
    """Build the views anew in a file beside, up to the position of those in `path`, and compare both.

    The live views may be read and written meanwhile, and may not exist. If they cannot be compared they count as
    different.
    """
    beside = beside_of(path)
    schema.delete_files(beside)
    findings = Findings()
    with _whole_or_gone(beside):
        position = compare_views(log, path, findings, progress, beside) if exists(path) else None
        if position is None or log.drops(position):  # records that were forgotten meanwhile may have been read
            position = build(log, path, progress)
    return Rebuilt(position=position, differences=tuple(findings.listed), more=findings.more)


def build(log: ReadableLog, path: Path, progress: ReportProgress | None = None) -> int:
    """Build the views anew in a file beside, up to the end of the log, without comparing them with those in `path`."""
    position = log.head().position
    build_anew(log, beside_of(path), progress)
    return position


def build_anew(log: ReadableLog, beside: Path, progress: ReportProgress | None = None) -> None:
    """Build the views anew in the file `beside`, without comparing them."""
    with _whole_or_gone(beside):
        build_views(log, beside, progress).close()


@contextmanager
def _whole_or_gone(beside: Path) -> Iterator[None]:
    """Delete the files if building them fails: they may be as large as the views, and a full disk may be the reason."""
    try:
        yield
    except BaseException:
        schema.delete_files(beside)
        raise


def put_in_place(
    log: ReadableLog, path: Path, progress: ReportProgress | None = None, beside: Path | None = None
) -> int:
    """Bring the views that were built beside up to the log, then replace the live views by them in one transaction.

    Nothing may write to the live views meanwhile; a reader sees either the old or the new ones. Returns the position.
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
    """Remove the files of an interrupted rebuild."""
    schema.delete_files(beside_of(path))


def beside_of(path: Path) -> Path:
    """The file in which views are built beside those in `path`. Damaged ones use another: both may run at once."""
    return path.with_name(f"{path.name}.beside")


def clear_write_ahead_log(path: Path) -> None:
    """Fold the write-ahead log of the live views into their file. Raises `ViewsFailed` while they are being read."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            busy = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise ViewsFailed(f"{path} cannot be cleared: {error}") from error
    if busy:
        raise ViewsFailed(f"{path} is being read, so what it has replaced is still in its write-ahead log")
