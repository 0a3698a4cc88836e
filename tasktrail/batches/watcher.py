"""Looks at the watched folders: a file that is new or has changed becomes a task, once nobody writes to it any more.

What is noticed here is in memory only. What was done is in the log: after a start everything is looked at again, and
the planner finds which files have had their task. So no file is done twice, and none is forgotten.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ..actors.core.sources import WatchedFolder
from ..actors.logger import get_logger
from ..events import TasktrailError
from ..events.clock import Clock
from ..intake.naming import Naming, full_pattern
from .files import Found, find
from .planner import Plan
from .request import NewBatch

if TYPE_CHECKING:
    from ..intake.paths import PathRules

logger = get_logger("tasktrail.sources")

Stamp: TypeAlias = tuple[int, int, int, int]
"""Inode, size, time of the content, time of the last change of any kind."""

_AT_ONCE = 1000
"""Files that are handed over together."""
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".temp", ".filepart", "~")
"""How programs that copy or download call what they have not finished."""
LOOK_EVERY = 0.5
"""Seconds between two looks at what may have settled."""
_REST = 10.0
"""Seconds until a source in trouble is looked at again."""


class _Looks(msgspec.Struct):
    """What was seen of one source."""

    source: WatchedFolder
    done: dict[str, Stamp] = {}
    """Files that have been handed over, as they were then."""
    settling: dict[str, tuple[Stamp, float]] = {}
    """Files that are new or have changed: how they are, and since when they have not changed."""
    look_at: float = 0.0
    """When everything is looked at anew."""
    rests_until: float = 0.0
    """It is in trouble, and not looked at before."""


class Watcher:
    """All sources of a service, in a thread of its own.

    Args:
        sources: the sources as they are now.
        hand_over: makes the tasks of some files; the plan says what became of each.
        paths: where inputs may be.
        clock: for the time that a file has to stay as it is.
        changes: tells, for the folders that it is given, when something in them changes, until the event is set.
    """

    def __init__(
        self,
        sources: Callable[[], Sequence[WatchedFolder]],
        hand_over: Callable[[NewBatch, Sequence[Found]], Plan],
        paths: "Callable[[], PathRules]",
        clock: Clock,
        changes: "Callable[[Sequence[str], threading.Event], Iterator[object]] | None" = None,
    ) -> None:
        self._sources = sources
        self._hand_over = hand_over
        self._paths = paths
        self._clock = clock
        self._changes = changes or _changes
        self._looks: dict[str, _Looks] = {}
        self._ended = threading.Event()
        self._listening: dict[str, threading.Event] = {}
        self._thread = threading.Thread(target=self._run, name="sources", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        for ended in self._listening.values():
            ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            try:
                self.look()
            except Exception:
                logger.exception("the sources could not be looked at")
                self._ended.wait(10)

    def look(self) -> None:
        """One look at what is due."""
        now = self._clock.monotonic()
        there = {source.source: source for source in self._sources() if not source.paused}
        for name in self._looks.keys() - there.keys():
            del self._looks[name]
            self._listening.pop(name).set()
        for name, source in there.items():
            looks = self._looks.get(name)
            if looks is None or looks.source != source:
                self._looks[name] = looks = _Looks(source)
                self._listen(name, source)
            if now < looks.rests_until:
                continue
            try:
                if now >= looks.look_at:
                    looks.look_at = now + source.poll
                    self._find_changed(looks, now)
                self._hand_over_settled(looks, now)
            except TasktrailError as error:
                looks.rests_until = now + _REST
                logger.warning("a source makes no tasks for a moment", source=name, error=error.message)

    def _listen(self, name: str, source: WatchedFolder) -> None:
        if name in self._listening:
            self._listening[name].set()
        ended = self._listening[name] = threading.Event()
        folders = [folder for folder in map(_top, source.inputs) if os.path.isdir(folder)]  # noqa: PTH112 - texts

        def listen() -> None:
            try:
                for _change in self._changes(folders, ended):
                    looks = self._looks.get(name)
                    if looks is not None:
                        looks.look_at = 0.0
            except Exception as error:  # noqa: BLE001 - there may be too many folders; then only `poll` is left
                logger.warning("changes are not told, they are seen after some time", source=name, error=str(error))

        if folders:
            threading.Thread(target=listen, name=f"source {name}", daemon=True).start()

    def _find_changed(self, looks: _Looks, now: float) -> None:
        """Look at all files, and note those that are new or have changed."""
        rules = self._paths()
        avoid = Naming(full_pattern(looks.source.to, "")).fixed
        seen: dict[str, tuple[Stamp, float]] = {}
        there: set[str] = set()
        for one in find(looks.source.inputs, rules.check_looked_at, avoid=avoid, protected=rules.protected, most=None):
            stamp = None if one.error is not None or one.path.endswith(_UNFINISHED) else _stamp(one.path)
            if stamp is None:
                continue
            there.add(one.path)
            if looks.done.get(one.path) != stamp:
                before = looks.settling.get(one.path)
                seen[one.path] = before if before is not None and before[0] == stamp else (stamp, now)
        looks.settling = seen
        looks.done = {path: stamp for path, stamp in looks.done.items() if path in there}

    def _hand_over_settled(self, looks: _Looks, now: float) -> None:
        """Make tasks of the files that have stayed as they are for long enough and that nobody writes to."""
        source = looks.source
        ready: list[tuple[str, Stamp]] = []
        for path, (stamp, since) in list(looks.settling.items()):
            if now - since < source.settle:
                continue
            is_now = _stamp(path)
            if is_now != stamp or _is_written(path):
                if is_now is None:
                    del looks.settling[path]
                else:
                    looks.settling[path] = (is_now, now)
                continue
            ready.append((path, stamp))
        for begin in range(0, len(ready), _AT_ONCE):
            some = ready[begin : begin + _AT_ONCE]
            self._make_tasks(looks, some)
            if self._ended.is_set():
                return

    def _make_tasks(self, looks: _Looks, some: Sequence[tuple[str, Stamp]]) -> None:
        source = looks.source
        wanted = msgspec.convert(
            {
                **source.task,
                "command": "create_batch",
                "inputs": source.inputs,
                "to": source.to,
                "batch": source.source,
                "actor": "source",
                "reason": f"source {source.source}",
            },
            NewBatch,
        )
        tops = sorted(map(_top, source.inputs), key=len, reverse=True)
        files = [Found(path, _folder(path, tops)) for path, _stamp_of in some]
        plan = self._hand_over(wanted, files)
        for one in plan.answer.refused:
            logger.warning("a file makes no task", source=source.source, file=one.input_file, why=one.problem["detail"])
        for path, stamp in some:
            looks.settling.pop(path, None)
            looks.done[path] = stamp


def _top(pattern: str) -> str:
    """The folder that a pattern begins in."""
    while any(sign in pattern for sign in "*?["):
        pattern = os.path.dirname(pattern)  # noqa: PTH120 - a text
    return pattern


def _folder(path: str, tops: Sequence[str]) -> str:
    """Where the file stands below the folder that was named."""
    folder = os.path.dirname(path)  # noqa: PTH120 - a text
    top = next((top for top in tops if f"{folder}/".startswith(f"{top.rstrip('/')}/")), folder)
    inside = os.path.relpath(folder, top)
    return "" if inside == "." else inside


def _stamp(path: str) -> Stamp | None:
    """How the file is now; none if it is gone."""
    try:
        status = os.stat(path)  # noqa: PTH116 - for each of very many files
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_written(path: str) -> bool:
    """Whether some process has the file open for writing, as far as the system tells: Linux does, of its own disks."""
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
        fcntl.fcntl(fd, lease, read)  # refused while somebody writes
        fcntl.fcntl(fd, lease, unlock)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a network share: time alone has to do
        return False
    finally:
        os.close(fd)
    return False


def _changes(folders: Sequence[str], ended: threading.Event) -> Iterator[object]:
    from watchfiles import watch  # it takes a moment, and most services watch nothing

    yield from watch(*folders, watch_filter=None, stop_event=ended, raise_interrupt=False, debounce=200)
