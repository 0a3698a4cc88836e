"""Removes from this data folder what a service on another machine has erased or forgotten.

The log is on PostgreSQL, and each machine has its own keys of users, views and snapshots. The service that erases does
so on its own machine, and notes in the same file that it has begun. If it is killed, the next process there finishes.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress

from ..actors.logger import get_logger
from ..actors.snapshots import delete_snapshots
from ..events.existence import exists
from ..events.log.event_log import ReportProgress
from ..events.log.files import own_file, read_small, sync
from ..events.log.keys import Keys
from ..events.log.log_reader import LogReader
from ..events.system_events import UserErased
from ..paths import DataPaths
from ..projections import rebuild_views
from ..projections.rebuilding import clear_write_ahead_log
from ..projections.views.rebuild import known_end, refuse_other

logger = get_logger()

_ERASING = ("user_erased", "tasks_forgotten")
_OF_TASKS, _OF_A_USER, _BUILT = "tasks", "user", "built"
"""The file `erasing` says what is owed: tasks to forget, a user to erase, or only remains of old views to clear."""


def is_erasing(log: LogReader, after: int, until: int) -> bool:
    """Whether a record in a stretch of the log erases or forgets something."""
    return after < until and any(log.newest_of(event, after, until, 1) for event in _ERASING)


def mark_due(paths: DataPaths, *, is_user: bool) -> None:
    """Note durably that views and snapshots hold data of forgotten tasks or of an erased user."""
    if is_user or _due(paths) != _OF_A_USER:
        _write(paths, _OF_A_USER if is_user else _OF_TASKS)


def mark_done(paths: DataPaths) -> None:
    """Note that nothing is owed any more."""
    paths.erasing.unlink(missing_ok=True)


def is_due(paths: DataPaths) -> bool:
    """Whether the views still have what was forgotten or erased."""
    return exists(paths.erasing) and _due(paths) != _BUILT


def _due(paths: DataPaths) -> str:
    """Return what is owed; empty for nothing. A content cut short by a power cut counts as a user to erase."""
    if not exists(paths.erasing):
        return ""
    with suppress(OSError):  # a pipe, or a link to a file without end
        content = read_small(paths.erasing).decode(errors="replace")
        return content if content in (_OF_TASKS, _BUILT) else _OF_A_USER
    return _OF_A_USER


def _write(paths: DataPaths, due: str) -> None:
    with os.fdopen(own_file(paths.erasing, os.O_WRONLY | os.O_TRUNC), "w") as file:
        sync(paths.data)
        file.write(due)
    sync(paths.erasing)


def erase_here(
    log: LogReader,
    paths: DataPaths,
    begin: Callable[[bool], object] = lambda _: None,
    progress: ReportProgress | None = None,
    *,
    looked: int = 0,
) -> bool:
    """Destroy keys of erased users, and build the views anew. Returns whether there was anything to erase or forget.

    Nothing else may write to views and snapshots meanwhile. After a kill it is done again: a file says that it was
    begun. Raises `TasktrailError`, `sqlite3.Error` and `OSError`; `HistoryMissing` if the views are of another log.

    Args:
        log: the log that is followed.
        paths: the data folder's.
        begin: called before anything is erased, with whether a user is.
        progress: reports on the views that are built anew.
        looked: keys that were erased up to this position of the log are known to be gone.
    """
    due, head = _due(paths), log.head()
    views = known_end(paths.views)
    seen = head.position
    if views is not None and views.position:
        refuse_other(log, views)  # they may be the only trace of records that this log lacks
        seen = views.position
    is_behind = is_erasing(log, seen, head.position)
    keys = _erased_keys(paths, log, looked, head.position)
    if not (keys or is_behind or due):
        return False
    is_user = due == _OF_A_USER or bool(keys or log.newest_of("user_erased", seen, head.position, 1))
    begin(is_user)
    if keys or is_behind or due != _BUILT or views is None:
        mark_due(paths, is_user=is_user)
        with closing(Keys(paths.log)) as mine:
            mine.destroy(keys)
        delete_snapshots(paths.snapshots)
        rebuild_views(log, paths.views, progress)
        _write(paths, _BUILT)
    clear_write_ahead_log(paths.views)
    mark_done(paths)
    logger.info("what was erased elsewhere is gone from here", keys=len(keys))
    return True


def _erased_keys(paths: DataPaths, log: LogReader, after: int, until: int) -> set[str]:
    """Return the keys of erased users that are still in this folder. Searches the log only if there are any keys."""
    with closing(Keys(paths.log)) as mine:
        if not mine.exist():
            return set()
        erased = _keys_in(log, log.newest_of("user_erased", after, until, max(0, until - after)))
        return {key for key in erased if mine.cipher(key) is not None}


def _keys_in(log: LogReader, positions: Iterable[int]) -> set[str]:
    events = (record.event for position in positions for record in log.read(position - 1, 1))
    return {key for event in events if isinstance(event, UserErased) for key in event.keys}
