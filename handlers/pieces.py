"""Resumes long work: its finished pieces are files in the task's folder that a later attempt uses again."""

import hashlib
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from ..events import Checkpoint
from ..events.existence import exists, is_dir
from .contract import TaskContext

_SAMPLE = 64 * 1024
SAVE_EVERY = 1.0
"""Seconds of work between two checkpoints."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A finished file in the task's folder; an array in the index file, because there may be many."""

    name: str
    """File name in the task's folder."""
    size: int
    sha256: str

    def intact(self, folder: Path) -> bool:
        """Whether the file in `folder` is still the one that was finished."""
        return intact(folder / self.name, self.size, self.sha256)


class HasFingerprint(Protocol):
    """Data of a checkpoint, with the fingerprint of the work that it belongs to."""

    @property
    def fingerprint(self) -> str:
        """From `fingerprint`, for this input, these options and these libraries."""


_S = TypeVar("_S", bound=HasFingerprint)


class _Saved(msgspec.Struct, frozen=True):
    """The `data` of the checkpoint. An index file lists the pieces, so that the log does not grow with their number."""

    fingerprint: str
    index: str


class Pieces:
    """The numbered pieces of one task: made in any order, each once over all attempts.

    A piece is durable when `keep` returns, and is listed in an index file with its size and hash. A crash costs only
    the piece that was being made, however old the last checkpoint is. A later attempt trusts a piece only if the
    checkpoint has the same fingerprint and the piece agrees with the index; anything else is removed.

    Args:
        context: the running attempt.
        fingerprint: from `fingerprint`; if it differs, the old pieces are worthless.
        stem: the pieces are called `stem-00000.suffix`; one stem for each kind of piece that a type makes.
        suffix: with the dot.
    """

    def __init__(
        self,
        context: TaskContext[Any],
        fingerprint: str,
        *,
        stem: str = "piece",
        suffix: str = ".png",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._fingerprint = fingerprint
        self._stem = stem
        self._suffix = suffix
        self._clock = clock
        self._saved_at = float("-inf")  # the first piece is reported at once: without a checkpoint no piece is trusted
        self._unsaved = 0
        self._index = context.work_dir / f"{stem}.index"
        self._pieces = {piece.name: piece for piece in self._recall() if piece.intact(context.work_dir)}
        self._clean_up()

    def _recall(self) -> Iterator[Piece]:
        saved = recalled(self._context.checkpoint, self._fingerprint, _Saved)
        if saved is None or saved.index != self._index.name or not exists(self._index):
            return
        for line in self._index.read_bytes().splitlines():
            with suppress(msgspec.DecodeError):  # a crash may have cut the last line
                yield msgspec.json.decode(line, type=Piece)

    def _clean_up(self) -> None:
        """Leave the good pieces, and an index of exactly those."""
        remove_others(self._context.work_dir, (f"{self._stem}-*",), keep=self._pieces)
        part = self._index.with_suffix(".part")
        part.write_bytes(b"".join(_line(piece) for piece in self._pieces.values()))
        seal(part, self._index)

    def path(self, number: int) -> Path:
        """The path of the finished piece."""
        return self._context.work_dir / f"{self._stem}-{number:05}{self._suffix}"

    def part(self, number: int) -> Path:
        """The path to write the piece to."""
        return self._context.work_dir / f"{self._stem}-{number:05}.part"

    def __contains__(self, number: int) -> bool:
        return self.path(number).name in self._pieces

    def __len__(self) -> int:
        return len(self._pieces)

    def missing(self, count: int) -> Iterator[int]:
        """The numbers below `count` that are not made yet."""
        return (number for number in range(count) if number not in self)

    def keep(self, number: int, progress: float, message: str) -> None:
        """Make the finished piece at `part(number)` durable, and report it soon.

        Raises CheckpointRefused when the attempt must end.
        """
        piece = keep(self.part(number), self.path(number))
        with self._index.open("ab") as index:
            index.write(_line(piece))
            index.flush()
            os.fsync(index.fileno())
        self._pieces[piece.name] = piece
        self._unsaved += 1
        if self._clock() - self._saved_at >= SAVE_EVERY:
            self.save(progress, message)
        else:
            self._context.progress(progress, message)

    def save(self, progress: float, message: str) -> None:
        """Record the checkpoint now, if it would say anything new."""
        if not self._unsaved:
            return
        checkpoint = Checkpoint(
            processed_frames=len(self._pieces),
            processed_bytes=sum(piece.size for piece in self._pieces.values()),
            temp_files=(self._index.name,),
            data=msgspec.to_builtins(_Saved(self._fingerprint, self._index.name)),
        )
        self._context.save_checkpoint(checkpoint, progress=progress, message=message)
        self._unsaved = 0
        self._saved_at = self._clock()


def _line(piece: Piece) -> bytes:
    return msgspec.json.encode(piece) + b"\n"


def recalled(checkpoint: Checkpoint | None, mark: str, kind: type[_S]) -> _S | None:
    """The `data` of a checkpoint, if it belongs to work with the same fingerprint.

    Args:
        checkpoint: from `context.checkpoint`.
        mark: the fingerprint of the current work, from `fingerprint`.
        kind: the Struct that was saved; it has a field `fingerprint`.
    """
    if checkpoint is None:
        return None
    try:
        saved = msgspec.convert(checkpoint.data, kind)
    except msgspec.ValidationError:  # written by another version of the handler
        return None
    return saved if saved.fingerprint == mark else None


def remove_others(folder: Path, patterns: Iterable[str], *, keep: Container[str]) -> None:
    """Delete the files that match the patterns, such as `segment-*`, and are not in `keep`: a crash has left them."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.name not in keep:
                path.unlink()


def fingerprint(path: Path, *decisions: Any, version: str) -> str:
    """A hash of all that finished pieces depend on: the input (inode, size, times, both ends) and every decision.

    `version`: `context.input_version`. If set, it stands for the input: each attempt has another copy.
    """
    if version:
        return hash_of(version, *decisions)
    status = path.stat()
    state = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return hash_of(*state, _hash_of_ends(path, status.st_size), *decisions)


def fingerprint_anywhere(path: Path) -> str:
    """A hash of the input that is the same on every machine that sees it: of its size, time and both ends."""
    status = path.stat()
    return hash_of(status.st_size, status.st_mtime_ns, _hash_of_ends(path, status.st_size))


def hash_of(*facts: Any) -> str:
    """The SHA-256 of plain values, in hex."""
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()


def _hash_of_ends(path: Path, size: int) -> str:
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
        file.seek(max(0, size - _SAMPLE))
        return hashlib.sha256(head + file.read(_SAMPLE)).hexdigest()


def keep(part: Path, final: Path) -> Piece:
    """Make a finished file durable under its final name, in the same folder."""
    size, digest = seal(part, final)
    return Piece(final.name, size, digest)


def seal(part: Path, final: Path) -> tuple[int, str]:
    """Make a finished file durable under its final name. Returns its size in bytes and its SHA-256 in hex."""
    size, digest = settled(part)
    part.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size, digest


def settled(path: Path, *, sync: bool = True) -> tuple[int, str]:
    """Make the file's content durable. Returns its size in bytes and its SHA-256 in hex, for the result of a task.

    For a folder: the bytes of all its files, and the SHA-256 of what `sha256sum *` prints in it. `sync`: False if the
    content is durable already.
    """
    if is_dir(path):
        files = [(entry.name, *settled(entry, sync=sync)) for entry in sorted(path.iterdir())]
        lines = "".join(f"{digest}  {name}\n" for name, _size, digest in files)
        digest = hashlib.sha256(os.fsencode(lines)).hexdigest()
        return sum(size for _name, size, _digest in files), digest
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        if sync:
            os.fsync(file.fileno())
    return size, digest


def size_of(path: Path) -> int:
    """Bytes of the file, or of all files in the folder."""
    return sum(map(size_of, path.iterdir())) if is_dir(path) else path.stat().st_size


def intact(path: Path, size: int, sha256: str) -> bool:
    """Whether the file has this size and hash."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False
