"""Makes small pictures of tasks' files for a page, one at a time in a sandboxed worker, and keeps them.

The service itself reads only the metadata of a file. It hands out the picture that the worker wrote into a folder, and
checks only that it begins like a JPEG and is not too large. A file that has changed gets a new picture.
"""

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path

from msgspec.structs import replace

from ..events.clock import Clock
from ..events.errors import TasktrailError
from ..events.log.files import own_file
from ..events.reports import AttemptEnded, Report, Run, Stop
from ..events.task_events import Estimated
from ..handlers.pictures import MEMORY, PICTURE_HOMES, PICTURE_NAME, picture_type
from ..handlers.process.sandbox import Sandbox
from ..handlers.urls import is_url
from ..handlers.workspace import remove_folder
from .logger import get_logger
from .workers.local_executor import LocalExecutor

_WITHIN = 30.0
"""Seconds from the beginning to the end of one picture."""
_IDLE = 60.0
"""Seconds without a request after which the worker is ended."""
_WAITING = 24
"""Pictures that may be requested at once."""
_KEPT_BYTES = 64 * 1024 * 1024
_KEPT_REFUSALS = 1_000
_LARGEST = 1024 * 1024
_JPEG = b"\xff\xd8\xff"
_CLOSE_WITHIN = 5.0

logger = get_logger(__name__)


class NoPicture(TasktrailError):
    """There is no picture of the file, and the message says why."""

    code = "no_picture"
    status = 404
    title = "There is no picture of the file"
    remedy = "Pictures are made of images, films, documents and models that are still where the task names them."


class _Request:
    """A requested picture."""

    def __init__(self, key: str, run: Run) -> None:
        self.key = key
        self.run = run
        self.picture: Future[bytes] = Future()
        self.picture.set_running_or_notify_cancel()  # several may wait for it, and none of them cancels it
        self.until = 0.0
        """The time at which it is overdue; 0 while others are before it."""


class PictureMaker:
    """Has pictures made, and keeps them in a folder. Safe to use from many threads.

    Args:
        folder: its own folder, whose content may be deleted at any time.
        lock_path: file on which the worker's reaper holds a lock, see `wait_for_orphans`.
        sandbox: the operator's sandbox. Whatever its mode, pictures are made in one as far as the kernel can.
        clock: for time-outs.
    """

    def __init__(self, folder: Path, *, lock_path: Path, sandbox: Sandbox, clock: Clock) -> None:
        self._folder = folder
        self._work = folder / "work"
        self._lock_path = lock_path
        mode = "require" if sandbox.mode == "require" else "auto"
        # Pictures are made of outputs as well, so `_identify` checks the roots.
        self._roots = {"input": sandbox.input_roots, "output": sandbox.output_roots}
        self._sandbox = replace(sandbox, mode=mode, input_roots=(), output_roots=())
        self._clock = clock
        self._lock = threading.Lock()
        self._executor: LocalExecutor | None = None
        self._requests: OrderedDict[int, _Request] = OrderedDict()
        self._by_key: dict[str, _Request] = {}
        self._numbers = count(1)
        self._kept: OrderedDict[str, int] | None = None
        """Key of each file in the folder → its size in bytes; the most recently requested is last."""
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._used_at = 0.0
        self._closed = False

    def picture(self, path: str, side: str) -> "Future[bytes]":
        """A JPEG of the file, or the `NoPicture` that says why there is none. `side`: input or output."""
        try:
            kind, real, key = self._identify(path, side)
        except NoPicture as error:
            return _failed(error)
        with self._lock:
            if self._closed:
                return _failed(NoPicture("The service stops"))
            self._used_at = self._clock.monotonic()
            if key in self._refused:
                return _failed(NoPicture(self._refused[key]))
            try:
                self._index()
            except OSError as error:
                return _failed(NoPicture(f"The folder of pictures cannot be used: {error.strerror}"))
            if data := self._read_kept(key):
                done: Future[bytes] = Future()
                done.set_result(data)
                return done
            if key in self._by_key:
                return self._by_key[key].picture
            if len(self._requests) >= _WAITING:
                return _failed(NoPicture("Too many pictures are requested just now", remedy="Look again in a minute."))
            return self._new_request(kind, real, key).picture

    def stamp(self, path: str, side: str) -> str:
        """Return a text that changes with the file; empty if no picture can be made of it. Makes no picture."""
        try:
            return self._identify(path, side)[2]
        except NoPicture:
            return ""

    def tidy(self) -> bool:
        """Stop overdue pictures, and end an idle worker. If it returns True, call it again in a second."""
        idle = None
        with self._lock:
            now = self._clock.monotonic()
            overdue = [request for request in self._requests.values() if request.until and now >= request.until]
            if self._executor is not None and not self._requests and now - self._used_at >= _IDLE:
                idle, self._executor = self._executor, None
            executor = self._executor
        if executor is not None and overdue:
            executor.do([Stop(request.run.task_id, 1) for request in overdue])
        if idle is not None:
            threading.Thread(target=idle.close, args=(_CLOSE_WITHIN,), name="pictures-close", daemon=True).start()
        return executor is not None

    def close(self) -> None:
        """End the worker. Requests that wait get `NoPicture`."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.close(_CLOSE_WITHIN)
        for request in self._take_all():
            request.picture.set_exception(NoPicture("The service stops"))

    # --- which file it is -----------------------------------------------------------------------------------------

    def _identify(self, path: str, side: str) -> tuple[str, str, str]:
        """The type that draws the file, its real path, and a key that changes with the file. Raises `NoPicture`."""
        kind = picture_type(Path(path))
        if not kind:
            raise NoPicture("Files of this kind are not shown")
        if is_url(path):
            raise NoPicture("It is not on this machine")
        try:
            real = os.path.realpath(path)
            roots = self._roots[side]
            folders = [root for root in roots if not is_url(root)]
            if roots and not any(os.path.commonpath((real, root)) == root for root in folders):
                raise NoPicture(f"It lies outside of {side}_roots")
            status = os.stat(real)  # noqa: PTH116 - a text
        except (OSError, ValueError):
            raise NoPicture("The file is not there") from None
        if not stat.S_ISREG(status.st_mode):
            raise NoPicture("It is no regular file")
        identity = f"{kind}\0{real}\0{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        return kind, real, hashlib.sha256(os.fsencode(identity)).hexdigest()

    # --- what is kept, with the lock held -------------------------------------------------------------------------

    def _read_kept(self, key: str) -> bytes:
        kept = self._index()
        if key not in kept:
            return b""
        kept.move_to_end(key)
        data = _read_picture(self._folder / f"{key}.jpg")
        if not data:
            del kept[key]
        return data

    def _index(self) -> "OrderedDict[str, int]":
        if self._kept is None:
            with suppress(OSError):
                remove_folder(self._work)
            for folder in (self._folder, self._work):
                folder.mkdir(mode=0o700, exist_ok=True)
            files = list[tuple[float, str, int]]()
            for file in self._folder.glob("*.jpg"):
                with suppress(OSError):
                    status = file.lstat()
                    if stat.S_ISREG(status.st_mode):
                        files.append((status.st_mtime, file.stem, status.st_size))
            self._kept = OrderedDict((key, size) for _at, key, size in sorted(files))
        return self._kept

    def _keep(self, key: str, data: bytes) -> None:
        kept = self._index()
        file = self._folder / f"{key}.jpg"
        try:
            part = self._folder / f"{key}.part"
            with os.fdopen(own_file(part, os.O_WRONLY | os.O_TRUNC), "wb") as out:
                out.write(data)
            part.replace(file)
        except OSError as error:  # a full disk: it is made again the next time
            logger.warning("a picture was not kept", error=str(error))
            return
        kept[key] = len(data)
        while sum(kept.values()) > _KEPT_BYTES:
            oldest, _size = kept.popitem(last=False)
            (self._folder / f"{oldest}.jpg").unlink(missing_ok=True)

    # --- the worker -------------------------------------------------------------------------------------------------

    def _new_request(self, kind: str, real: str, key: str) -> _Request:
        self._index()
        number = next(self._numbers)
        run = Run(
            task_id=number,
            attempt=1,
            type=kind,
            input_file=real,
            output_file="",
            options={},
            checkpoint=None,
            work_dir=str(self._work / str(number)),
            estimate=Estimated(memory=MEMORY, temp=MEMORY // 4, seconds=1.0),
        )
        request = _Request(key, run)
        self._requests[number] = self._by_key[key] = request
        if self._executor is None:
            self._executor = LocalExecutor(
                slots=1, homes=PICTURE_HOMES, lock_path=self._lock_path, nice=10, sandbox=self._sandbox
            )
            self._executor.open(self._on_reports)
        self._time_first()
        self._executor.do([run])
        return request

    def _time_first(self) -> None:
        """Start the time limit of the first picture: only this one is being made."""
        first = next(iter(self._requests.values()), None)
        if first is not None and not first.until:
            first.until = self._clock.monotonic() + _WITHIN

    def _on_reports(self, reports: list[Report]) -> None:
        """Handle the ends of attempts. Called in the executor's thread."""
        for report in reports:
            if isinstance(report, AttemptEnded):
                self._ended(report)

    def _ended(self, ended: AttemptEnded) -> None:
        with self._lock:
            request = self._requests.pop(ended.task_id, None)
            if request is None:
                return
            del self._by_key[request.key]
            self._time_first()
            self._used_at = self._clock.monotonic()
            data, why = _result(request.run, ended)
            with suppress(OSError):
                remove_folder(Path(request.run.work_dir))
            if data:
                self._keep(request.key, data)
            elif ended.outcome != "stopped" or request.until <= self._used_at:
                self._refused[request.key] = why
                if len(self._refused) > _KEPT_REFUSALS:
                    self._refused.popitem(last=False)
        if data:
            request.picture.set_result(data)
        else:
            request.picture.set_exception(NoPicture(why))

    def _take_all(self) -> list[_Request]:
        with self._lock:
            requests = list(self._requests.values())
            self._requests.clear()
            self._by_key.clear()
        return requests


def _result(run: Run, ended: AttemptEnded) -> tuple[bytes, str]:
    """The picture; if there is none, empty bytes and the reason in words."""
    match ended.outcome:
        case "completed":
            data = _read_picture(Path(run.work_dir, PICTURE_NAME))
            return data, "" if data else "The result is no picture"
        case "outgrown":
            return b"", f"It would take more than {MEMORY // 1024**2} MiB of memory to draw it"
        case "stopped":
            return b"", "It took too long to draw"
        case "rejected":
            return b"", ended.error
        case _:
            return b"", f"It could not be drawn: {ended.error}"


def _read_picture(path: Path) -> bytes:
    """Read a picture; empty unless it is a regular file of bounded size that begins like a JPEG."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        data = file.read(_LARGEST + 1)
    return data if data.startswith(_JPEG) and len(data) <= _LARGEST else b""


def _failed(error: NoPicture) -> "Future[bytes]":
    failed: Future[bytes] = Future()
    failed.set_exception(error)
    return failed
