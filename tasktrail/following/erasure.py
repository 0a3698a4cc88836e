"""What a service on another machine has erased or forgotten is gone from this data folder, too.

The log is on PostgreSQL, and each machine has keys of users, views and snapshots of its own. Who erases does it on its
own machine.
"""

from collections.abc import Callable, Iterable
from contextlib import closing

from ..actors.base import logger
from ..actors.snapshots import delete_snapshots
from ..events.log.event_log import ReportProgress
from ..events.log.files import create_private, read_mark, sync
from ..events.log.keys import Keys
from ..events.log.log_reader import LogReader
from ..events.log.opening import is_begun, read_log
from ..events.system_events import UserErased
from ..paths import DataPaths
from ..projections import rebuild_views
from ..projections.rebuilding import clear_write_ahead_log
from ..projections.views.rebuild import known_end

_ERASING = ("user_erased", "tasks_forgotten")


def is_erasing(log: LogReader, after: int, until: int) -> bool:
    """Whether a record in a stretch of the log erases or forgets something."""
    return after < until and any(log.newest_of(event, after, until, 1) for event in _ERASING)


def erase_here(
    paths: DataPaths,
    begin: Callable[[bool], object] = lambda _: None,
    progress: ReportProgress | None = None,
    *,
    looked: int = 0,
) -> bool:
    """Destroy keys of erased users, and fold anew what was folded before; whether there was anything of that.

    Nobody may write to views and snapshots meanwhile. What a kill cuts short is done again: a file says that it was
    begun. Raises `TasktrailError`, `sqlite3.Error` and `OSError`.

    Args:
        paths: of the data folder.
        begin: called before anything is erased, with whether a user is.
        progress: of folding anew.
        looked: keys that were erased up to this position of the log are gone, as is known.
    """
    if not is_begun(paths.log):
        return False
    owed = paths.erasing.exists()
    with closing(read_log(paths.log)) as log:
        head = log.head()
        if not owed and read_mark(paths.log) == head:  # it was erased here
            return False
        views = known_end(paths.views)
        seen = head.position if views is None or not views.position else views.position
        is_behind = is_erasing(log, seen, head.position)
        keys = _erased_keys(paths, log, looked, head.position)
        is_user = owed or bool(keys or (is_behind and log.newest_of("user_erased", seen, head.position, 1)))
    if not (keys or is_behind or owed):
        return False
    begin(is_user)
    create_private(paths.erasing)
    sync(paths.data)
    with closing(Keys(paths.log)) as mine:
        mine.destroy(keys)
    delete_snapshots(paths.snapshots)
    with closing(read_log(paths.log)) as log:
        rebuild_views(log, paths.views, progress)
    clear_write_ahead_log(paths.views)
    paths.erasing.unlink()
    logger.info("what was erased elsewhere is gone from here", keys=len(keys))
    return True


def _erased_keys(paths: DataPaths, log: LogReader, after: int, until: int) -> set[str]:
    """The keys of erased users that are still in this folder. It looks through the log, if there are any keys."""
    with closing(Keys(paths.log)) as mine:
        if not mine.exist():
            return set()
        erased = _keys_in(log, log.newest_of("user_erased", after, until, max(0, until - after)))
        return {key for key in erased if mine.cipher(key) is not None}


def _keys_in(log: LogReader, positions: Iterable[int]) -> set[str]:
    events = (record.event for position in positions for record in log.read(position - 1, 1))
    return {key for event in events if isinstance(event, UserErased) for key in event.keys}
