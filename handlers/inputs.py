"""Checks that hold for any input: it is not empty, and it stays the same file from the first byte read to the last.

If a file is cut, written to or replaced while it is read, the result mixes two contents, and nothing in it says so. So
the file's state when the attempt opened it is compared with its state at the end.
"""

import hashlib
import os
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ..events.errors import InvalidPath
from ..events.task_events import ReadInput
from ..events.values import recordable
from .contract import Unusable
from .errors import InputChanged

_LOOKS = 5
_TICK = 0.012
"""Seconds between two looks at a file that has just been written: a little more than the longest tick of a kernel."""

_REALTIME_COARSE = 5
"""CLOCK_REALTIME_COARSE of Linux, for which Python has no name."""
_CLOCK_SET_BACK = 10**9
"""Nanoseconds. A file dated this far ahead of the clock was stamped before the clock was set back."""


def refuse_empty(path: Path) -> None:
    """Raise `Unusable` for an empty file, for which each library has another error; OSError for a missing one."""
    if path.stat().st_size == 0:
        raise Unusable(f"{path.name} is empty")


class InputState(NamedTuple):
    """The state of a file, which changes with its content and is known without reading it."""

    device: int
    inode: int
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970, here and below. Programs can set it to anything."""
    changed: int
    """Set by the system alone: at each write, and when permissions, names or attributes change."""

    @classmethod
    def of(cls, fd: int) -> "InputState":
        """The state of an open file."""
        return cls.from_stat(os.fstat(fd))

    @classmethod
    def from_stat(cls, status: os.stat_result) -> "InputState":
        """The state described by a result of `stat`."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def stamp(self) -> str:
        """The state as text, for a checkpoint. Without the device: its number may change when the machine restarts."""
        return ":".join(map(str, self[1:]))

    def change_to(self, now: "InputState") -> str:
        """Say how the file has changed. Empty when it has not."""
        if (self.device, self.inode) != (now.device, now.inode):
            return f"it was replaced by another file, of {now.size:,} bytes instead of {self.size:,}"
        if now.size < self.size:
            return f"it was cut from {self.size:,} to {now.size:,} bytes"
        if now.size > self.size:
            return f"it grew from {self.size:,} to {now.size:,} bytes"
        if now.modified != self.modified:
            return "it was written to"
        if now.changed != self.changed:
            return "it was written to and its time set back, or its permissions, names or attributes were changed"
        return ""


class Input:
    """The input of an attempt, from before its first byte is read until the output is published.

    The file is kept open, so that its inode number cannot pass to another file. Readers open it by its path, as often
    as they like. If the path names another file, or none, at the end, that counts as a change.

    Raises:
        InvalidPath: it is not a regular file.
        InputChanged: it is being written at this moment.
        OSError: it is missing, or may not be read.
    """

    def __init__(self, path: str, version: str = "") -> None:
        """`version`: SHA-256 of the fetched file, if this is a copy of a file elsewhere."""
        self._path = path
        self._version = version
        self._fd = _open(path)
        try:
            self.state = _settled(self._fd, path)
        except BaseException:
            self.close()
            raise

    @property
    def stamp(self) -> str:
        """The stamp for a checkpoint. Of a copy, the hash of the original: the next attempt may have another copy."""
        return self._version or self.state.stamp

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)

    def change(self) -> str:
        """Say how the file has changed since; empty when it is the same file with the same content.

        It is opened anew, because only that makes a network filesystem ask its server.
        """
        try:
            fd = _open(self._path)
        except FileNotFoundError:
            return "it was removed or renamed"
        except InvalidPath:
            return "it was replaced by something that is no file"
        except OSError as error:
            return self._change_by_stat() or f"it can no longer be opened ({error})"
        try:
            return self.state.change_to(InputState.of(fd))
        finally:
            os.close(fd)

    def _change_by_stat(self) -> str:
        """The same for a file that may not be opened: a sandbox that allows one file does not allow its replacement."""
        try:
            return self.state.change_to(InputState.from_stat(Path(self._path).stat()))
        except OSError:
            return ""

    def facts(self, *, hashed: bool) -> ReadInput:
        """The facts about the input for the record; with the SHA-256 of its bytes, if `hashed`, which reads it again.

        For a copy that was hashed when it was fetched, that hash is used: `compare` finds out if the copy has changed.
        """
        sha256 = self._version if hashed else ""
        if hashed and not sha256:
            os.lseek(self._fd, 0, os.SEEK_SET)
            with open(self._fd, "rb", closefd=False) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return ReadInput(size=self.state.size, modified=recordable(self.state.modified), sha256=sha256)

    def accept_name(self) -> None:
        """Accept the new change time after the caller has added or removed a second name of the file."""
        self.state = self.state._replace(changed=InputState.of(self._fd).changed)

    def compare(self) -> None:
        """Raise `InputChanged` if the input has changed."""
        if change := self.change():
            raise InputChanged(f"{self._path} changed while it was read: {change}")


def _open(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe that took its place must not block us
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidPath(f"{path!r} is no longer a regular file", field="input_file")
    return fd


def _settled(fd: int, path: str) -> InputState:
    """The state, taken when any later write must alter it: the clock that stamps files stands still within a tick."""
    for _ in range(_LOOKS):
        before = _stamping_clock()
        state = InputState.of(fd)
        if not before <= state.changed <= before + _CLOCK_SET_BACK:
            return state
        time.sleep(_TICK)
    raise InputChanged(f"{path} is being written at this moment")


def _stamping_clock() -> int:
    """Nanoseconds since 1970 by the clock that stamps files, or by a clock that is not ahead of it."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(_REALTIME_COARSE)
    return time.time_ns() - int(_TICK * 1e9)


__all__ = ["Input", "InputState", "refuse_empty"]
