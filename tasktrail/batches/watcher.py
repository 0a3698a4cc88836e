"""Looks at the watched folders: a new or changed file becomes a task, once it is no longer being written.

The watcher keeps what it sees in memory only. The log has what was done. After a start the watcher looks at all files
again, and the planner finds out which have had their task. So no file is done twice, and none is forgotten.
"""

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ..actors.core.sources import WatchedFolder
from ..actors.logger import get_logger
from ..errors import problem
from ..events import TasktrailError
from ..events.clock import Clock
from ..intake.naming import Naming, full_pattern
from .files import FoundFile, Search, top_of
from .request import MadeBatch, NewBatch

if TYPE_CHECKING:
    from ..intake.paths import PathRules

logger = get_logger("tasktrail.sources")

Stamp: TypeAlias = tuple[int, int, int, int]
"""Inode, size, time of the last write, time of the last change of any kind."""

ACTOR = "source"
"""The actor of the commands of watched folders, and of their refusals."""
_AT_ONCE = 1000
"""The most files that are handed over together."""
_UNFINISHED = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".opdownload",
    ".filepart",
    ".aria2",
    ".!ut",
    ".!qb",
    ".tmp",
    ".temp",
    "~",
)
"""Endings, in small letters, of the names that programs give to unfinished copies and downloads."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at files that may have settled, and from a change to the look at it."""
_LEAST, _SHARE = 1.0, 10
"""The pause between two looks at everything: at least this many seconds, and this many times the last look's length."""
MOST_LISTENED = 5000
"""The most folders of a source whose changes are reported. The library holds Python's lock while it registers them, so
the whole service waits: some seconds for a whole disk."""
_REST = 10.0
"""Seconds until a source in trouble is looked at again, and until changes are listened for again after a name that the
library cannot report."""


class _Settling(msgspec.Struct, frozen=True):
    """A file that is to become a task."""

    stamp: Stamp
    since: float
    """The time since which it has not changed."""
    folder: str
    """Its folder, relative to the named folder."""


class _SourceState(msgspec.Struct):
    """The watcher's knowledge of one source."""

    source: WatchedFolder
    done: dict[str, Stamp] = {}
    """Files that have been handed over, with their stamp at that time."""
    settling: dict[str, _Settling] = {}
    """Files that are new or have changed."""
    logged: dict[str, str] = {}
    """Files that make no task → the reason that was logged."""
    listened: tuple[str, ...] = ()
    """The folders whose changes are reported."""
    changed: bool = False
    """Something has changed since the last look at everything."""
    next_at: float = 0.0
    """The earliest time of the next look at everything, even after changes: each look takes its time."""
    look_at: float = 0.0
    """The time of the next look at everything if nothing changes."""
    trouble: str = ""
    """The code of the error after which the source rested last."""
    rests_until: float = 0.0
    """After an error, the time until which the source is not looked at."""

    def due(self) -> float:
        """When to look at it again, if nothing else changes."""
        at = self.next_at if self.changed else self.look_at
        if self.settling:
            at = min(at, min(one.since for one in self.settling.values()) + self.source.settle)
        return max(at, self.rests_until)


class Watcher:
    """Watches all sources of a service, in a thread of its own.

    Args:
        sources: returns the present sources.
        hand_over: makes the tasks of some files, and returns the outcome for each.
        paths: where inputs may be.
        clock: measures how long a file has stayed unchanged.
        changes: yields each time something changes in the given folders, until the event is set.
        note: called with the error, as a problem, when a file makes no task, or a source makes none for now.
    """

    def __init__(
        self,
        sources: Callable[[], Sequence[WatchedFolder]],
        hand_over: Callable[[NewBatch, Sequence[FoundFile]], MadeBatch],
        paths: "Callable[[], PathRules]",
        clock: Clock,
        changes: "Callable[[Sequence[str], threading.Event], Iterator[object]] | None" = None,
        note: Callable[[Mapping[str, Any]], None] = lambda _problem: None,
    ) -> None:
        self._sources = sources
        self._hand_over = hand_over
        self._paths = paths
        self._clock = clock
        self._changes = changes or _changes
        self._note = note
        self._states: dict[str, _SourceState] = {}
        self._ended = threading.Event()
        self._news = threading.Event()
        """Set when something has changed since the last look: the sources, or files in their folders."""
        self._listening: dict[str, threading.Event] = {}
        self._thread = threading.Thread(target=self._run, name="sources", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()
        for ended in self._listening.values():
            ended.set()

    def wake(self) -> None:
        """Look again, because the sources have changed."""
        self._news.set()

    def _run(self) -> None:
        pause: float | None = 0.0
        while True:
            self._news.wait(pause)
            if self._ended.wait(_LOOK_EVERY):  # much may change at once
                return
            self._news.clear()
            if self._ended.is_set():  # `stop` has set both just now: nothing else would wake us
                return
            try:
                pause = self.look()
            except Exception:  # a bug here must not end all watching until the next start
                logger.exception("the sources could not be looked at")
                self._ended.wait(_REST)
                pause = 0.0

    def look(self) -> float | None:
        """Look once at what is due. Returns the seconds until the next look is due; None: not before there is news."""
        now = self._clock.monotonic()
        sources = {source.source: source for source in self._sources() if not source.paused}
        for name in self._states.keys() - sources.keys():
            del self._states[name]
            if name in self._listening:
                self._listening.pop(name).set()
        for name, source in sources.items():
            state = self._states.get(name)
            if state is None or state.source != source:
                self._states[name] = state = _SourceState(source)
            if now < state.rests_until or self._ended.is_set():
                continue
            try:
                if now >= (state.next_at if state.changed else state.look_at):
                    self._look_at_all(state, now)
                self._hand_over_settled(state, now)
            except TasktrailError as error:
                state.rests_until = now + _REST
                logger.warning("a source makes no tasks for a moment", source=name, error=error.message)
                if state.trouble != error.code:
                    state.trouble = error.code
                    self._note(problem(error))
        due = min((self._states[name].due() for name in sources), default=None)
        return None if due is None else max(0.0, due - self._clock.monotonic())

    def _look_at_all(self, state: _SourceState, now: float) -> None:
        state.changed = False
        self._listen(state)
        self._find_changed(state, now)
        after = self._clock.monotonic()
        state.look_at = after + state.source.poll
        state.next_at = after + max(_LEAST, _SHARE * (after - now))

    def _listen(self, state: _SourceState) -> None:
        """Listen for changes in the folders that exist now. A folder may appear later, or go."""
        name = state.source.source
        tops = {one if os.path.isdir(one) else top_of(one) for one in state.source.inputs}  # noqa: PTH112 - texts
        folders = tuple(sorted(top for top in tops if os.path.isdir(top)))  # noqa: PTH112
        if folders == state.listened:
            return
        state.listened = folders
        if name in self._listening:
            self._listening.pop(name).set()
        if not folders:
            return
        if not _has_few_folders(folders):
            logger.warning("too many folders to be told of changes, they are seen after some time", source=name)
            return
        ended = self._listening[name] = threading.Event()

        def listen() -> None:
            try:
                for _change in self._changes(folders, ended):
                    state.changed = True
                    self._news.set()
            except Exception as error:  # noqa: BLE001 - there may be too many folders; then only `poll` finds changes
                logger.warning("changes are not told, they are seen after some time", source=name, error=str(error))
            if not ended.is_set():  # a folder has gone
                state.listened = ()

        threading.Thread(target=listen, name=f"source {name}", daemon=True).start()

    def _find_changed(self, state: _SourceState, now: float) -> None:
        """Look at all files, and note those that are new or have changed."""
        rules = self._paths()
        search = Search(
            rules.check_looked_at,
            avoid=(Naming(full_pattern(state.source.to, "")).fixed, state.source.task.get("original_folder", "")),
            protected=rules.protected,
            most=None,
            stopped=self._ended.is_set,
        )
        seen: dict[str, _Settling] = {}
        present: set[str] = set()
        wrong: set[str] = set()
        for one in search.find(state.source.inputs):
            if one.error is not None and top_of(one.path) == one.path:  # for a pattern, there may be no file yet
                wrong.add(one.path)
                _log_once(state, one.path, one.error.message)
            stamp = None if one.error is not None or one.path.lower().endswith(_UNFINISHED) else _stamp(one.path)
            if stamp is None:
                continue
            present.add(one.path)
            if state.done.get(one.path) != stamp:
                before = state.settling.get(one.path)
                is_unchanged = before is not None and before.stamp == stamp
                seen[one.path] = before if before and is_unchanged else _Settling(stamp, now, one.folder)
        state.settling = seen
        state.done = {path: stamp for path, stamp in state.done.items() if path in present}
        state.logged = {path: why for path, why in state.logged.items() if path in present or path in wrong}

    def _hand_over_settled(self, state: _SourceState, now: float) -> None:
        """Make tasks of the files that have stayed unchanged long enough and are not being written."""
        ready: list[str] = []
        for path, one in list(state.settling.items()):
            if now - one.since < state.source.settle:
                continue
            is_now = _stamp(path)
            if is_now is None:
                del state.settling[path]
            elif is_now != one.stamp or _is_written(path):
                state.settling[path] = _Settling(is_now, now, one.folder)
            else:
                ready.append(path)
        for begin in range(0, len(ready), _AT_ONCE):
            self._make_tasks(state, ready[begin : begin + _AT_ONCE], now)
            if self._ended.is_set():
                return

    def _make_tasks(self, state: _SourceState, paths: Sequence[str], now: float) -> None:
        source = state.source
        wanted = msgspec.convert(
            {
                **source.task,
                "command": "create_batch",
                "inputs": source.inputs,
                "to": source.to,
                "batch": source.source,
                "actor": ACTOR,
                "reason": f"source {source.source}",
            },
            NewBatch,
        )
        made = self._hand_over(wanted, [FoundFile(path, state.settling[path].folder) for path in paths])
        for one in made.refused:
            if _log_once(state, one.input_file, str(one.problem["detail"])):
                self._note(one.problem)
        for left in made.left_out:
            if not left.task_id:
                _log_once(state, left.input_file, left.why)
        # Files that cannot be done now, or are being done with another content, are looked at again.
        later = {one.input_file for one in made.refused} | {one.input_file for one in made.skipped if one.open}
        for path in paths:
            one_file = state.settling.pop(path)
            if path in later:
                state.settling[path] = _Settling(one_file.stamp, now + source.poll, one_file.folder)
            else:
                state.done[path] = one_file.stamp


def _log_once(state: _SourceState, path: str, why: str) -> bool:
    """Log once why a file or folder makes no task. Returns whether that is new."""
    if state.logged.get(path) == why:
        return False
    state.logged[path] = why
    logger.warning("a file makes no task", source=state.source.source, file=path, why=why)
    return True


def _has_few_folders(tops: Sequence[str]) -> bool:
    """Whether the folders are few enough to report changes. Links are not followed, as in the search for files."""
    waiting, count = list(tops), 0
    while waiting:
        count += 1
        if count + len(waiting) > MOST_LISTENED:
            return False
        try:
            with os.scandir(waiting.pop()) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    return True


def _stamp(path: str) -> Stamp | None:
    """Return the file's present stamp; None if it is gone or not a regular file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - for each of very many files
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_written(path: str) -> bool:
    """Whether some process has the file open for writing. Only Linux tells, and only for local disks; else False."""
    try:
        import fcntl
    except ImportError:
        return False
    lease, read, unlock = (getattr(fcntl, name, None) for name in ("F_SETLEASE", "F_RDLCK", "F_UNLCK"))
    if lease is None or read is None or unlock is None:
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # If another process opens the file for writing while we hold the lease, it has to wait, and we get a signal.
        # The default, SIGIO, would end this process. SIGURG is ignored by a process that does not handle it.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, lease, read)  # refused while another process writes
        fcntl.fcntl(fd, lease, unlock)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a network share: only the time without changes counts
        return False
    finally:
        os.close(fd)
    return False


def _changes(folders: Sequence[str], ended: threading.Event) -> Iterator[object]:
    from watchfiles import watch  # it takes a moment, and most services watch nothing

    while True:
        try:
            yield from watch(*folders, watch_filter=None, stop_event=ended, raise_interrupt=False, debounce=200)
        except RuntimeError as error:
            if "Unable to decode path" not in str(error):
                raise
            yield error  # a name that is not UTF-8 has ended it, and other files may have come with that one
            if ended.wait(_REST):
                return
            yield error  # whatever came meanwhile
        else:
            return
