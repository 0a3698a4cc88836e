"""Brings the views up to the log: folds what they missed, or everything anew."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ...events import Recorded
from ...events.collector import collector_waits
from ...events.errors import HistoryMissing, LogCorrupt
from ...events.existence import exists
from ...events.log.event_log import ReadableLog, ReportProgress
from ...events.log.files import create_private, refuse_non_files
from ...events.log.schema import refuse_masked
from ...events.system_events import UserErased
from ..errors import ViewsDamaged, ViewsFailed
from . import schema
from .checksums import sound
from .forgotten import refuse_torn
from .writer import TaskViews

PAGE = 5000
BULK_PAGE = 20_000
_STEPS = 1_000_000
"""Instructions of SQLite's machine between two reports of progress while it makes indexes; …"""
_COPIED_AT_ONCE = 4096
"""… and pages between two reports while it copies."""


def catch_up(log: ReadableLog, views: TaskViews, progress: ReportProgress | None = None) -> int:
    """Fold in the records that the views are missing, page by page; returns the position reached.

    Raises `HistoryMissing` if they have seen records that the log lacks: they may be the only trace of these. Raises
    `ViewsDamaged` if they have to be built anew: some of the missing records were forgotten, or keys of users are there
    by now that were missing when they were built.
    """
    views.refresh()
    refuse_other(log, views)
    if found_keys(log, views.missing_keys):
        raise ViewsDamaged(KEYS_FOUND)
    before = views.position
    pull(log, views, log.head().position, PAGE, progress)
    if views.position > before:
        refuse_torn(views.connection, before)
    return views.position


def refuse_other(log: ReadableLog, views: "TaskViews | ViewsEnd") -> None:
    """Raise `HistoryMissing` unless the log has the last record that the views have seen."""
    if not _is_of_log(log, views):
        raise _history_missing(log, views)


def _history_missing(log: ReadableLog, views: "TaskViews | ViewsEnd") -> HistoryMissing:
    return HistoryMissing(
        f"The views have seen position {views.position}, but the log, which ends at {log.head().position}, lacks that "
        "record or has another one there"
    )


def _is_of_log(log: ReadableLog, views: "TaskViews | ViewsEnd") -> bool:
    if views.position == 0:
        return True
    latest = next(log.read(views.position - 1, 1), None)
    return latest is not None and latest.hash == views.hash


KEYS_FOUND = "Personal data that could not be read when the views were built can be read now"


def found_keys(log: ReadableLog, missing: Collection[str]) -> bool:
    """Whether some of these keys, which were missing at a fold of the log, are there by now, except destroyed ones."""
    there = log.keys_there(missing)
    if not there:
        return False
    head = log.head().position
    for position in log.newest_of("user_erased", 0, head, head):
        there.difference_update(
            *(one.event.keys for one in log.read(position - 1, 1) if isinstance(one.event, UserErased))
        )
    return bool(there)


class ViewsEnd(NamedTuple):
    """The last record that views have seen."""

    position: int
    hash: bytes
    recorded_at: datetime | None


def known_end(path: Path, *, being_built: bool = False) -> ViewsEnd | None:
    """The last record that the views in a file have seen, whatever version built them; None if that cannot be read.

    `being_built`: another process builds them in one go. It is not held up by a lock.
    """
    if not exists(path):
        return None
    try:
        refuse_non_files(path)
        address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if being_built else ''}"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as conn:
            refuse_masked(conn, ("progress",))
            columns = [row[1] for row in conn.execute("PRAGMA table_info(progress)")]
            row = conn.execute("SELECT * FROM progress").fetchone()
            if columns[-1:] == ["checksum"]:  # older versions had none
                (row,) = sound([row])
            _one, position, digest, at, *_rest = row
            return ViewsEnd(int(position), bytes(digest), datetime.fromisoformat(at) if at else None)
    except (sqlite3.Error, ViewsDamaged, TypeError, ValueError):
        return None


def pull(
    log: ReadableLog,
    views: TaskViews,
    until: int,
    size: int = PAGE,
    progress: ReportProgress | None = None,
    on_page: Callable[[Sequence[Recorded]], None] | None = None,
) -> None:
    """Fold in page after page, up to a position that the log has reached; `on_page` is called with each folded page."""
    log.take_missing_keys()  # those of earlier reads: they may be there by now
    while views.position < until:
        # With the record before: since the last page, another server without it may have taken over.
        before = min(views.position, 1)
        with collector_waits():
            page = list(log.read(views.position - before, min(size, before + until - views.position)))
        if before and (not page or page[0].hash != views.hash):
            raise _history_missing(log, views)
        del page[:before]
        if not page:
            raise LogCorrupt(f"The log holds nothing after position {views.position}, but should reach {until}")
        views.apply(page, log.take_missing_keys())
        if on_page is not None:
            on_page(page)
        if progress is not None:
            progress(views.position, until)


def rebuild_views(log: ReadableLog, path: Path, progress: ReportProgress | None = None) -> int:
    """Build views.db anew beside the old file, then replace that one; returns the position reached.

    Readers see the old or the new views, never a mix: the copy into place is one transaction. Raises `HistoryMissing`,
    and leaves the old views, if they have seen records that the log lacks: they may be the only trace of these.
    """
    beside, _copied = building(path)
    try:
        with closing(build_views(log, beside, progress)) as views:
            known = known_end(path)
            if known is not None:  # checked last: at any page another server may have taken over
                refuse_other(log, known)
            copy_over(views.connection, path, progress_at_end(views, progress))
            return views.position
    finally:
        schema.delete_files(beside)


def building(path: Path) -> tuple[Path, Path]:
    """The files in which views are built, and then copied, before they get their place at `path`."""
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".copy")


def build_views(log: ReadableLog, path: Path, progress: ReportProgress | None = None) -> TaskViews:
    """Build views of the whole log in a new file, which replaces an existing one.

    If tasks are forgotten meanwhile, it begins again: it may have read the first records of a task but not the last.
    """
    before = -1
    while True:
        schema.delete_files(path)
        until = log.head().position
        if until <= before:
            raise LogCorrupt(f"The log ends at {until}, but a record after that has dropped others")
        before = until
        views = TaskViews(path, bulk=True)
        try:
            pull(log, views, until, BULK_PAGE, progress)
            with _calling_back(views.connection, progress_at_end(views, progress)):
                views.finish()
            if not log.drops(until):
                return views
        except BaseException:
            views.close()
            raise
        views.close()


@contextmanager
def _calling_back(conn: sqlite3.Connection, on_step: Callable[[], None]) -> Iterator[None]:
    """Make SQLite call `on_step` during its work, and raise its exceptions, also Ctrl-C."""
    raised: list[BaseException] = []

    def call_on_step() -> bool:
        try:
            on_step()
        except BaseException as error:  # noqa: BLE001 - raised below: Python would drop it here
            raised.append(error)
        return bool(raised)

    conn.set_progress_handler(call_on_step, _STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        # A signal during SQLite's work is raised before the first line of `call_on_step`, and dropped as well.
        raise (raised[0] if raised else KeyboardInterrupt()) from None
    finally:
        conn.set_progress_handler(None, 0)


def progress_at_end(views: TaskViews, progress: ReportProgress | None) -> Callable[[], None]:
    """A function that reports, while indexes are made or pages are copied, that all is folded and the work goes on."""
    return lambda: progress(views.position, views.position) if progress is not None else None


def copy_over(source: sqlite3.Connection, path: Path, on_step: Callable[[], None] = lambda: None) -> None:
    """Replace the content of the database in `path` by that of another. Raises `ViewsFailed`."""
    try:
        try:
            _copy(source, path, on_step)
        except (sqlite3.Error, UnicodeError) as error:
            if isinstance(error, sqlite3.Error) and not schema.is_useless(error):
                raise
            schema.delete_files(path)
            _copy(source, path, on_step)
    except (sqlite3.Error, OSError) as error:
        raise ViewsFailed(f"{path} cannot be replaced: {error}") from error


def _copy(source: sqlite3.Connection, path: Path, on_step: Callable[[], None]) -> None:
    """Copy into the file that readers may have open; if there is none, they see it when it is complete."""
    _built, beside = building(path)
    schema.delete_files(beside)  # what a kill has left
    if exists(path):
        _copy_into(source, path, on_step)
        return
    try:
        create_private(beside)
        # Without a write-ahead log: SQLite reports nothing when it closes a file and has no room to bring its log over.
        _copy_into(source, beside, on_step, journal="OFF")
        schema.delete_files(path)
        beside.replace(path)
    finally:
        schema.delete_files(beside)


def _copy_into(source: sqlite3.Connection, path: Path, on_step: Callable[[], None], journal: str = "WAL") -> None:
    target = sqlite3.connect(path, isolation_level=None)
    try:
        target.execute(f"PRAGMA journal_mode = {journal}")
        try:
            source.backup(target, pages=_COPIED_AT_ONCE, progress=lambda *_: on_step())
        except sqlite3.Error:
            with suppress(sqlite3.Error):  # a failed copy must not keep the disk full
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raise
        target.execute("PRAGMA journal_mode = WAL")  # for whoever opens it next
    finally:
        target.close()
