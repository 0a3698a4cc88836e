"""A snapshot's file: a header, lines of JSON, and a hash over all of it.

It is written under another name and renamed when it is on the disk, so a crash leaves the old file or the new one.
A file that cannot be used raises `SnapshotUnusable`. Then the whole log is folded, and only time is lost.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..events.log.event_log import ReadableLog
from ..events.log.files import own_file, plain_file
from ..events.recorded import EVENT_TAGS
from ..events.system_events import UserErased
from ..projections.views.rebuild import found_keys

PART = ".part"
_USER_ERASED = EVENT_TAGS[UserErased]


class SnapshotUnusable(Exception):
    """A snapshot is not used. The message says why."""


class Absent(SnapshotUnusable):
    """There is no snapshot."""


class Foreign(SnapshotUnusable):
    """The snapshot belongs to another log than the one beside it."""


class Outdated(SnapshotUnusable):
    """It was right when it was taken: tasks were forgotten since, or a user was erased, or keys of users came."""


class OtherCode(SnapshotUnusable):
    """Another version of tasktrail has written it, and may fold the log to something else."""


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the file."""

    kind: str
    code: str
    """Identifies the Structs and the fold that it was made with."""
    position: int
    """The last record that is folded in."""
    hash: str
    """The hash of that record, in hex. It covers all records before, too."""
    missing_keys: list[str] = []
    """The keys of users that were not there for some of what is folded in."""


_HEADER = msgspec.json.Decoder(SnapshotHeader)


def write(path: Path, header: SnapshotHeader, lines: Iterable[bytes]) -> None:
    """Write a snapshot in place of the older one. If it raises OSError, the older one is still there."""
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        with os.fdopen(own_file(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            digest = sha256()
            for line in (msgspec.json.encode(header), *lines):
                whole = line + b"\n"
                digest.update(whole)
                file.write(whole)
            file.write(digest.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:  # any error: half a snapshot must not be left
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def clear_parts(folder: Path) -> None:
    """Remove the part files of a killed writer."""
    for part in folder.glob(f"*{PART}"):
        part.unlink(missing_ok=True)


def header_of(path: Path) -> SnapshotHeader:
    """The header alone. Raises `SnapshotUnusable`."""
    with _opened(path) as file:
        return _header(file.readline())


def is_whole(path: Path) -> bool:
    """Whether the file is as it was written."""
    try:
        with _opened(path) as file:
            for _line in _lines(file, file.readline()):
                pass
    except SnapshotUnusable:
        return False
    return True


@contextmanager
def reading(path: Path, kind: str, code: str, log: ReadableLog) -> Iterator[tuple[SnapshotHeader, Iterator[bytes]]]:
    """The header and the lines of a snapshot of this log by this code.

    A caller that has taken the last line has read a whole, undamaged file. Raises `SnapshotUnusable`, also when the
    caller cannot decode a line.
    """
    with _opened(path) as file:
        first = file.readline()
        header = _header(first)
        if (header.kind, header.code) != (kind, code):
            raise OtherCode("it was written by another version")
        record = next(iter(log.read(after=header.position - 1, limit=1)), None)
        if record is None or record.position != header.position or record.hash.hex() != header.hash:
            raise Foreign(f"the log's record at position {header.position} is not the one that the snapshot names")
        if position := gone_since(log, header.position):
            raise Outdated(f"it is older than position {position}, where tasks were forgotten or a user was erased")
        if found_keys(log, header.missing_keys):
            raise Outdated("personal data that could not be read when it was taken can be read now")
        try:
            yield header, _lines(file, first)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise SnapshotUnusable(f"a line cannot be read: {error}") from error


def gone_since(log: ReadableLog, position: int) -> int:
    """A position after the given one at which tasks were forgotten or a user was erased; 0 if there is none."""
    if drops := log.drops(position):
        return drops[0].position
    return next(iter(log.newest_of(_USER_ERASED, position, log.head().position, 1)), 0)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb", opener=plain_file) as file:
            yield file
    except FileNotFoundError as error:
        raise Absent("there is none") from error
    except OSError as error:
        raise SnapshotUnusable(f"it cannot be read: {error.strerror}") from error


def _header(line: bytes) -> SnapshotHeader:
    try:
        header = _HEADER.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SnapshotUnusable(f"its first line is not that of a snapshot: {error}") from error
    if header.position < 1:
        raise SnapshotUnusable(f"it names position {header.position}")
    return header


def _lines(file: BinaryIO, first: bytes) -> Iterator[bytes]:
    digest = sha256(first)
    before = file.readline()
    for line in file:
        digest.update(before)
        yield before[:-1]
        before = line
    if before != digest.hexdigest().encode():
        raise SnapshotUnusable("it is damaged: its hash does not fit")
