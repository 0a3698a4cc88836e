"""The printed output of attempts: kept in files of bounded size, one set per attempt, and read back as safe text.

`ROOT/<task id>/<attempt>.<offset>`: each file holds what was printed from that byte on. The first file, the head,
stays; of the others the last two are kept. So a gap shows in the names, and a reader never waits for a writer.
"""

import codecs
import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

PAGE = 256 * 1024
"""Bytes of output that are read at once, at most."""
_CODES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\))")
"""Colours, cursor moves, window titles."""
_ODD = re.compile(r"[^\n\t\x20-\x7e]")
_MOST = 4
"""Bytes of the longest character in UTF-8."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    r"""The output, or a part of it, that an attempt, its child programs and its failure have printed.

    `text` is safe on any terminal: colours are left out, other control characters and bytes that are not text are spelt
    out (`\x07`). A line in square brackets marks a place where something was not kept.
    """

    task_id: int
    attempt: int
    """0 if there was none yet."""
    attempts: tuple[int, ...] = ()
    """The attempts that have printed something."""
    running: bool = False
    """Whether more may come."""
    text: str = ""
    size: int = 0
    """Bytes printed in all."""
    left_out: int = 0
    """Bytes of this part that were not kept."""
    next: int = 0
    """The offset to go on at: pass it as `after`."""


class PrintedWriter:
    """Keeps the beginning and the end of what one attempt prints. Raises nothing: it may lose bytes instead.

    Args:
        root: the folder of all attempts.
        limit: bytes that are kept at most: the first half, and a quarter to a half from the end.
        fresh: whether the attempt begins; otherwise the existing files are continued.
    """

    def __init__(self, root: Path, task_id: int, attempt: int, limit: int, *, fresh: bool = True) -> None:
        self._folder = f"{root}/{task_id}"  # a str is cheaper than a Path: all attempts make it, few use it
        self._attempt = attempt
        self._head, self._part = limit // 2, limit // 4
        self._fd = -1
        self._at = 0
        self._room = 0
        self._starts: list[int] = []
        """Offsets of the files after the head."""
        if fresh:
            self._forget_earlier()
        else:
            self._continue()

    def write(self, data: bytes) -> None:
        """Append."""
        if not data or not self._part:
            return
        rest = memoryview(data)
        while rest:
            if self._room <= 0:
                self._next_file()
            piece = rest[: self._room]
            self._append(piece)
            rest = rest[len(piece) :]
            self._at += len(piece)
            self._room -= len(piece)

    def move(self, pipe: int, most: int) -> int:
        """Append at most `most` bytes from a pipe that has some. Returns how many.

        Where the system has `splice`, each byte is always in the pipe or in the file, because this process may die any
        time.
        """
        if self._room <= 0 and self._part:
            self._next_file()
        if self._fd >= 0 and hasattr(os, "splice"):
            try:
                moved = os.splice(pipe, self._fd, min(most, self._room), flags=os.SPLICE_F_NONBLOCK)
            except OSError:  # such as a full disk, or a filesystem without splice
                pass
            else:
                self._at += moved
                self._room -= moved
                return moved
        data = os.read(pipe, most)
        self.write(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, piece: memoryview) -> None:
        if self._fd >= 0:
            try:
                if os.write(self._fd, piece) == len(piece):
                    return
            except OSError:  # such as a full disk
                pass
            self._room = 0  # the rest goes into another file, whose name says where it belongs
            self.close()
        self._room = max(self._room, len(piece))

    def _next_file(self) -> None:
        self.close()
        self._room = self._part if self._at else self._head
        if self._at:
            self._starts.append(self._at)
            for old in self._starts[:-2]:
                with contextlib.suppress(OSError):
                    os.unlink(self._path(old))  # noqa: PTH108 - as below
            del self._starts[:-2]
        self._open()

    def _open(self) -> None:
        try:
            for folder in (os.path.dirname(self._folder), self._folder):  # noqa: PTH120 - as above
                os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - as above
            self._fd = _open_at_end(self._path(self._starts[-1] if self._at else 0))
        except OSError:
            self._fd = -1

    def _continue(self) -> None:
        files = _files(Path(self._folder), self._attempt)
        if not files:
            return
        start, size = files[-1]
        self._at = start + size
        self._starts = [start for start, _ in files if start]
        self._room = (self._part if start else self._head) - size
        if self._room > 0:
            with contextlib.suppress(OSError):
                self._fd = _open_at_end(self._path(start))

    def _forget_earlier(self) -> None:
        """Remove old output: the log may have been restored to a state before tasks and attempts of these numbers."""
        if not os.access(self._folder, os.F_OK):
            return
        for attempt, start in _names(Path(self._folder)):
            if self._attempt in (attempt, 1):
                with contextlib.suppress(OSError):
                    os.unlink(f"{self._folder}/{attempt}.{start}")  # noqa: PTH108 - as below

    def _path(self, start: int) -> str:
        return f"{self._folder}/{self._attempt}.{start}"


def _open_at_end(path: str) -> int:
    """Open without `O_APPEND`, which would forbid moving bytes from a pipe. Raises `OSError` if it is no file."""
    fd = _plain_file(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    os.lseek(fd, 0, os.SEEK_END)
    return fd


def _plain_file(path: str, flags: int) -> int:
    """Open a file, and neither a link, which could lead anywhere, nor a pipe, which would be waited for."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no file", path)
    return fd


def read(root: Path, task_id: int, attempt: int, *, after: int = 0, running: bool = False, most: int = PAGE) -> Output:
    """A part of an attempt's output, of at most `most` bytes. A negative `after` counts from the end.

    While the attempt runs, a half-printed character waits for its other half.
    """
    folder = root / str(task_id)
    files = _files(folder, attempt)
    size = max((start + length for start, length in files), default=0)
    text, at, left_out = [], min(after, size) if after >= 0 else max(size + after, 0), 0
    for start, length in files:
        if start + length <= at or most <= 0:
            continue
        if start > at:
            left_out += start - at
            text.append(f"\n[{start - at:,} bytes were not kept]\n")
            at = start
        data = _read(folder / f"{attempt}.{start}", at - start, min(most, start + length - at))
        whole = _whole(data) if most <= len(data) or (running and at + len(data) == size) else data
        text.append(shown(whole))
        at += len(whole)
        most -= len(data)
        if len(whole) < len(data) or not data:
            break
    return Output(
        task_id=task_id,
        attempt=attempt,
        attempts=printed_attempts(root, task_id),
        running=running,
        text="".join(text),
        size=size,
        left_out=left_out,
        next=at,
    )


def last_part(root: Path, task_id: int, attempt: int, most: int = 8192) -> str:
    """The end of what an attempt has printed."""
    return read(root, task_id, attempt, after=-most, most=most).text.strip()


def printed_attempts(root: Path, task_id: int) -> tuple[int, ...]:
    """The attempts that have printed something, in order."""
    return tuple(sorted({attempt for attempt, _ in _names(root / str(task_id))}))


def shown(data: bytes) -> str:
    """The data as text without terminal control codes, and with plain line ends."""
    text = _CODES.sub(b"", data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("utf-8", "backslashreplace")
    return _ODD.sub(lambda found: found[0] if found[0].isprintable() else repr(found[0])[1:-1], text)


def _whole(data: bytes) -> bytes:
    """The data without an incomplete last character; all of it if it is not text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    rest = len(decoder.getstate()[0])
    return data[:-rest] if 0 < rest < min(_MOST, len(data)) else data


def _read(path: Path, begin: int, most: int) -> bytes:
    try:
        with open(path, "rb", opener=_plain_file) as file:
            file.seek(begin)
            return file.read(most)
    except OSError:
        return b""  # it has just been removed to make room for newer output, or is no file


def _files(folder: Path, attempt: int) -> list[tuple[int, int]]:
    """The offset and size in bytes of each file of the attempt, in order."""
    found = []
    for number, start in _names(folder):
        if number == attempt:
            with contextlib.suppress(OSError):
                found.append((start, (folder / f"{number}.{start}").lstat().st_size))
    return sorted(found)


def _names(folder: Path) -> Iterator[tuple[int, int]]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return
    for name in names:
        attempt, _, start = name.partition(".")
        if attempt.isdecimal() and start.isdecimal():
            yield int(attempt), int(start)


_CHUNK = 65536
_LINE = 300
"""Characters of a line."""


def pass_on(output: BinaryIO) -> list[str]:
    """Print a program's output, which a handler has kept in a file, as the attempt's own output.

    Returns the first and the last line that are not blank, for the text of an error; fewer if there are fewer. Each is
    searched for in at most 64 KiB.
    """
    output.seek(0)
    first = data = output.read(_CHUNK)
    last = b""
    while data:
        last = (last + data)[-_CHUNK:]
        with contextlib.suppress(OSError):
            os.write(2, data)
        data = output.read(_CHUNK)
    lines = [line for part in (first, last) for line in part.decode(errors="replace").splitlines() if line.strip()]
    return list(dict.fromkeys(line.strip()[:_LINE] for line in (lines[0], lines[-1]))) if lines else []
