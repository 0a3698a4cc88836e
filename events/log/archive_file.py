"""An archive: a range of records as compressed JSON Lines, which never changes.

Each 256 records are one frame of zstd, so that reading one record decompresses one frame; `zstd -dc` gives all lines.
After the frames comes an index, in a frame that decompressors skip. For each frame it holds where the frame begins, the
hash before it, and the tasks and kinds of its records.

A line has the values of a record as they were stored, except empty ones, and the first two bytes of its hash. The whole
hash follows from the chain. That of a stub does not, so a stub has all of it.
"""

import errno
import hashlib
import os
import stat
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from io import BufferedReader
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from ..recorded import STUB
from .chain import link_row
from .files import own_file, plain_file
from .personal import BEGINS
from .rows import COLUMNS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME = 256
"""Records in one frame, which are one tile of the lowest level of the tree."""
RANGE = 65_536
"""Records in one archive, which are one tile of the level above."""
_OPTIONS = {int(zstd.CompressionParameter.compression_level): 9, int(zstd.CompressionParameter.checksum_flag): 1}
_PASSED_OVER = 0x184D2A50.to_bytes(4, "little")
"""The number at the beginning of a frame that decompressors skip."""
_WORD = 8
_MARK = 4
"""Hexadecimal digits of a hash that a line keeps."""
_LARGEST_FRAME, _LARGEST_INDEX = 1 << 30, 1 << 24
"""The most decompressed bytes. Real ones are far smaller, but a few altered kilobytes may expand to any size."""
_FRAMES_KEPT = 64
"""Frames that stay decoded in memory, of all archives."""
_INDEXES_KEPT = 16
_DIGESTS_KEPT = 4096
_TRIES = 3
"""How often an archive is opened that is changed meanwhile."""

Row = tuple[Any, ...]
Seen = tuple[int, int, int, int]
"""Inode, size, and when content and inode were last changed, in nanoseconds: as long as they stay, so does the file."""


class ArchiveDamaged(Exception):
    """Records of an archive cannot be read, or are not those that were written."""

    def __init__(self, position: int, last: int, reason: str, sound: Sequence[Row] = ()) -> None:
        super().__init__(f"position {position}: {reason}")
        self.position = position
        self.last = last
        """Records after this position may be sound."""
        self.reason = reason
        self.sound = sound
        """The rows of the frame before `position`."""


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The columns of a row, in their order."""

    position: int
    task_id: int
    version: int
    event: str
    recorded_at: str
    actor: str = ""
    reason: str = ""
    command_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    attempt: int = 0
    life: int = 0
    terminal: int = 0
    data: msgspec.Raw
    hash: str


class ArchiveFrame(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The index entry of one frame."""

    offset: int
    before: str
    """The hash of the record before it, in hex."""
    tasks: list[int]
    """The tasks that its records belong to or adjust, in order; each as the difference from the one before."""
    tags: list[str]
    """The kinds of its records."""
    version: int
    """The highest version of task 0 up to its end; 0: the archive has none until there."""


class Index(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The index after the frames."""

    first: int
    last: int
    hash: str
    """Of the last record, in hex."""
    encrypted: bool
    """Whether it has encrypted personal data."""
    frames: list[ArchiveFrame]


class WrittenArchive(NamedTuple):
    """An archive that was written."""

    sha256: str
    size: int
    newest_task: int
    """The highest task number among the tasks that its records belong to or are about."""


_ENCODER = msgspec.json.Encoder()
_LINE = msgspec.json.Decoder(_Line)
_INDEX = msgspec.json.Decoder(Index)
_UNREADABLE = (zstd.ZstdError, msgspec.MsgspecError, UnicodeError, ValueError, EOFError, RecursionError)


def file_name(first: int, last: int, digest: str) -> str:
    """The name of an archive's file: other content has another name."""
    return f"{first:012d}-{last:012d}-{digest[:16]}.jsonl.zst"


def write_archive(path: Path, rows: Iterable[Row], before: bytes) -> WrittenArchive:
    """Write rows, each with its hash last, to a new file, durably.

    `before`: the hash of the record before them. Raises `OSError`.
    """
    rows = iter(rows)
    whole = hashlib.sha256()
    frames: list[ArchiveFrame] = []
    offset = newest = version = first = last = 0
    encrypted = False
    with os.fdopen(own_file(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        while frame_rows := list(islice(rows, FRAME)):
            block = zstd.compress(b"".join([_line(row) for row in frame_rows]), options=_OPTIONS)
            version = max([version, *(row[2] for row in frame_rows if row[1] == 0)])
            tasks = sorted({task_id for row in frame_rows for task_id in _about(row)})
            steps = [task_id - before_it for before_it, task_id in zip((0, *tasks), tasks, strict=False)]
            frames.append(ArchiveFrame(offset, before.hex(), steps, sorted({row[3] for row in frame_rows}), version))
            first, last, before = first or frame_rows[0][0], frame_rows[-1][0], frame_rows[-1][14]
            newest = max(newest, *tasks)
            encrypted = encrypted or any(row[13].startswith(BEGINS) for row in frame_rows)
            offset += len(block)
            whole.update(block)
            file.write(block)
        index = zstd.compress(_ENCODER.encode(Index(first, last, before.hex(), encrypted, frames)), options=_OPTIONS)
        end = _PASSED_OVER + (len(index) + _WORD).to_bytes(4, "little") + index + offset.to_bytes(_WORD, "little")
        whole.update(end)
        file.write(end)
        file.flush()
        os.fsync(file.fileno())
    return WrittenArchive(whole.hexdigest(), offset + len(end), newest)


def _line(row: Row) -> bytes:
    digest = row[14].hex()
    values: dict[str, Any] = dict(zip(COLUMNS, row, strict=False))
    values["data"] = msgspec.Raw(row[13].encode())
    return _ENCODER.encode(_Line(**values, hash=digest if row[3] == STUB else digest[:_MARK])) + b"\n"


class _AdjustedTask(msgspec.Struct):
    task_id: int = 0


_ADJUSTS = msgspec.json.Decoder(_AdjustedTask)


def _about(row: Row) -> Iterator[int]:
    yield row[1]
    if adjusted := adjusted_task(row):
        yield adjusted


def adjusted_task(row: Row) -> int:
    """The task that a record of the service adjusts; 0: it adjusts none."""
    return _ADJUSTS.decode(row[13]).task_id if row[3] == "adjusted" else 0


class ArchiveFile:
    """An archive for reading. No file stays open; recently read parts are cached.

    Args:
        path: the file.
        first: the position of its first record.
        last: the position of its last record.
        noted: SHA-256 and size that it must have; without them any file is read whose parts fit together. A file is
            hashed once, and again when it was replaced or changed.

    Raises:
        ArchiveDamaged: its index was altered, or it is not the file that was noted.
        OSError: it is missing, or the system cannot read it.
    """

    def __init__(self, path: Path, first: int, last: int, noted: tuple[str, int] | None = None) -> None:
        self.path = path
        self.first = first
        self.last = last
        for more in reversed(range(_TRIES)):
            self._seen = _seen(self._status())
            try:
                self.index = self._look(noted)
                break
            except _Changed as error:  # its mode, its owner or its number of links is enough
                if not more:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path)) from error

    def _status(self) -> os.stat_result:
        try:
            return plain_status(self.path)
        except ValueError as error:
            raise ArchiveDamaged(self.first, self.last, f"the archive {self.path} {error}") from error

    def _look(self, noted: tuple[str, int] | None) -> Index:
        try:
            index, _edges = _index(self.path, self._seen)
            if (index.first, index.last) != (self.first, self.last):
                raise ValueError(f"it holds {index.first} to {index.last}")
            if len(index.frames) != -(-(self.last - self.first + 1) // FRAME):
                raise ValueError("frames are missing")
        except _UNREADABLE as error:
            reason = f"the archive {self.path.name} cannot be read: {error}"
            raise ArchiveDamaged(self.first, self.last, reason) from error
        if noted is not None and (self._seen[1] != noted[1] or _digest(self.path, self._seen) != noted[0]):
            raise ArchiveDamaged(self.first, self.last, other_file(self.path.name))
        return index

    @property
    def encrypted(self) -> bool:
        """Whether it has encrypted personal data."""
        return self.index.encrypted

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The stored values of each record after a position, its hash last. Raises as `frame` does."""
        begin = max(after + 1, self.first)
        for number in range((begin - self.first) // FRAME, len(self.index.frames)):
            rows = self.frame(number)
            yield from rows[max(begin - rows[0][0], 0) :] if rows[0][0] < begin else rows

    def frame(self, number: int) -> Sequence[Row]:
        """The rows of a frame. Raises `ArchiveDamaged`, and `OSError` if the system cannot read it.

        If the file was changed or replaced since it was opened here, this is `FileNotFoundError`.
        """
        return _frame(self.path, self._seen, number)

    def of_task(self, task_id: int) -> list[int]:
        """The frames with records of a task, or with records that adjust it."""
        rows = []
        for number, tasks in enumerate(_tasks(self.path, self._seen)):
            place = bisect_left(tasks, task_id)
            if place < len(tasks) and tasks[place] == task_id:
                rows.append(number)
        return rows

    def tasks(self) -> set[int]:
        """All tasks that its records belong to or adjust."""
        return {task_id for tasks in _tasks(self.path, self._seen) for task_id in tasks}

    def kinds(self) -> set[str]:
        """The kinds of all its records."""
        return {tag for frame in self.index.frames for tag in frame.tags}

    def with_tag(self, tag: str) -> list[int]:
        """The frames with records of a kind."""
        return [number for number, frame in enumerate(self.index.frames) if tag in frame.tags]


def plain_status(path: Path) -> os.stat_result:
    """The status of a file. Raises `OSError`, and `ValueError` if something else is there: its text says what it is."""
    try:
        status = path.stat()
    except OSError as error:
        if what := _NO_FILE.get(error.errno or 0):
            raise ValueError(what) from error
        raise
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is a folder" if stat.S_ISDIR(status.st_mode) else "is a pipe or a device, not a file")
    return status


_NO_FILE = {errno.ELOOP: "is a link that leads back to itself", errno.ENOTDIR: "is missing: its folder is a file"}
"""Error numbers that say nothing about the disk."""


def file_digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file. Raises `OSError`, also for a pipe."""
    with open(path, "rb", opener=plain_file) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def other_file(name: str) -> str:
    """The fault, in words, of a file that is not the one that was noted."""
    return f"the archive {name} was changed or replaced: it does not have the SHA-256 that is recorded"


def _seen(status: os.stat_result) -> Seen:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _Changed(FileNotFoundError):
    """A file was changed after it was seen, or its name has another one."""


def _opened(path: Path, seen: Seen) -> BufferedReader:
    """The file that was seen, open. Raises `_Changed`."""
    file = path.open("rb")
    if _seen(os.fstat(file.fileno())) != seen:
        file.close()
        raise _Changed(errno.ENOENT, "it was changed or replaced while it was read", str(path))
    return file


@lru_cache(_DIGESTS_KEPT)
def _digest(path: Path, seen: Seen) -> str:
    """The SHA-256 of a file, in hex. Cached: to hash an archive takes longer than to read a history from it."""
    with _opened(path, seen) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(_INDEXES_KEPT)
def _index(path: Path, seen: Seen) -> tuple[Index, list[int]]:
    """The index of an archive, and the offsets at which its frames begin and the last one ends."""
    if seen[1] < _WORD:
        raise ValueError("it was cut short")
    with _opened(path, seen) as file:
        end = file.seek(-_WORD, os.SEEK_END)
        offset = int.from_bytes(file.read(_WORD), "little")
        if not 0 <= offset < end:
            raise ValueError("it was cut short, or its end was changed")
        if end - offset > _LARGEST_INDEX:
            raise ValueError("its end was changed")
        file.seek(offset)
        block = file.read(end - offset)
    if block[:4] != _PASSED_OVER or int.from_bytes(block[4:8], "little") != len(block):
        raise ValueError("it was cut short, or its end was changed")
    index = _INDEX.decode(_decompressed(block[8:], _LARGEST_INDEX))
    edges = [*(frame.offset for frame in index.frames), offset]
    if edges != sorted(edges) or edges[0]:
        raise ValueError("its index was changed")
    return index, edges


@lru_cache(_INDEXES_KEPT)
def _tasks(path: Path, seen: Seen) -> list[Sequence[int]]:
    """The tasks of each frame. Cached, as verification asks for them once for each archived command."""
    index, _edges = _index(path, seen)
    return [_packed(list(accumulate(frame.tasks))) for frame in index.frames]


def _packed(numbers: list[int]) -> Sequence[int]:
    try:
        return array("q", numbers)
    except OverflowError:  # an altered index may hold any number
        return numbers


@lru_cache(_FRAMES_KEPT)
def _frame(path: Path, seen: Seen, number: int) -> Sequence[Row]:
    index, edges = _index(path, seen)
    first = index.first + number * FRAME
    last = min(first + FRAME - 1, index.last)
    rows: list[Row] = []
    try:
        if (size := edges[number + 1] - edges[number]) > _LARGEST_FRAME:
            raise ValueError("a part of it is larger than tasktrail writes")
        with _opened(path, seen) as file:
            file.seek(edges[number])
            block = file.read(size)
        digest = bytes.fromhex(index.frames[number].before)
        lines = _decompressed(block, _LARGEST_FRAME).splitlines()
        for position, line in enumerate(lines, first):
            row = _row(_LINE.decode(line), digest)
            if row[0] != position:
                raise ValueError(f"position {row[0]} stands in its place")
            rows.append(row)
            digest = row[14]
    except _UNREADABLE as error:
        reason = f"the archive {path.name} cannot be read there: {error}"
        raise ArchiveDamaged(first + len(rows), last, reason, rows) from error
    if len(rows) != last - first + 1:
        raise ArchiveDamaged(first + len(rows), last, f"the archive {path.name} has nothing there", rows)
    return rows


def _decompressed(block: bytes, most: int) -> bytes:
    """The content of one frame. Raises `ValueError` if it has more than `most` bytes, or if it is not one frame."""
    decompressor = zstd.ZstdDecompressor()
    content = decompressor.decompress(block, most + 1)
    if len(content) > most:
        raise ValueError("a part of it is larger than tasktrail writes")
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("it was cut short, or something was put in")
    return content


def _row(line: _Line, before: bytes) -> Row:
    *values, data, mark = astuple(line)
    values.append(bytes(data).decode())
    if line.event == STUB:
        return (*values, bytes.fromhex(mark))
    digest = link_row(before, values)
    if digest.hex()[:_MARK] != mark:
        raise ValueError("the record was changed: its hash does not fit")
    return (*values, digest)
