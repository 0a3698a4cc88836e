"""What a service on another machine has erased or forgotten is gone from this data folder, too.

The log is on PostgreSQL, and each machine has keys of users, views and snapshots of its own. Who erases does it on its
own machine.
"""

from collections.abc import Callable, Iterable
from contextlib import closing

from .actors.base import logger
from .actors.snapshots import delete_snapshots
from .events.log.files import read_mark
from .events.log.keys import Keys
from .events.log.log_reader import LogReader
from .events.log.opening import is_begun, read_log
from .events.system_events import UserErased
from .paths import DataPaths
from .projections import rebuild_views
from .projections.rebuilding import clear_write_ahead_log
from .projections.views.rebuild import known_end

_ERASING = ("user_erased", "tasks_forgotten")


def is_erasing(log: LogReader, after: int, until: int) -> bool:
    """Whether a record in a stretch of the log erases or forgets something."""
    return after < until and any(log.newest_of(event, after, until, 1) for event in _ERASING)


def erase_here(paths: DataPaths, stop_snapshots: Callable[[], object] = lambda: None) -> bool:
    """Destroy keys of erased users, and fold anew what was folded before; whether there was anything of that.

    Nobody may write to views and snapshots meanwhile. A kill in between costs only time: views stay behind the record
    that erases until they are built anew. Raises `TasktrailError`, `sqlite3.Error` and `OSError`.
    """
    if not is_begun(paths.log):
        return False
    with closing(read_log(paths.log)) as log:
        head = log.head()
        if read_mark(paths.log) == head:  # it was erased here
            return False
        views = known_end(paths.views)
        is_behind = views is not None and views.position > 0 and is_erasing(log, views.position, head.position)
        keys = _erased_keys(paths, log, head.position)
    if not (keys or is_behind):
        return False
    stop_snapshots()
    with closing(Keys(paths.log)) as mine:
        mine.destroy(keys)
    delete_snapshots(paths.snapshots)
    with closing(read_log(paths.log)) as log:
        rebuild_views(log, paths.views)
    clear_write_ahead_log(paths.views)
    logger.info("what was erased elsewhere is gone from here", keys=len(keys))
    return True


def _erased_keys(paths: DataPaths, log: LogReader, until: int) -> set[str]:
    """The keys of erased users that are still in this folder. It looks through the log, if there are any keys."""
    with closing(Keys(paths.log)) as mine:
        if not mine.exist():
            return set()
        erased = _keys_in(log, log.newest_of("user_erased", 0, until, until))
        return {key for key in erased if mine.cipher(key) is not None}


def _keys_in(log: LogReader, positions: Iterable[int]) -> set[str]:
    events = (record.event for position in positions for record in log.read(position - 1, 1))
    return {key for event in events if isinstance(event, UserErased) for key in event.keys}
