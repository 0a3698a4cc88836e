"""The pieces of long work: files in the task's folder that a later attempt may use again, if they are still whole."""

import hashlib
import os
from pathlib import Path

import msgspec


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A finished file of the work folder; an array in the checkpoint, because there may be many."""

    name: str
    """File name in the work folder."""
    size: int
    sha256: str

    def intact(self, folder: Path) -> bool:
        """Whether the file in `folder` still is what was finished."""
        return intact(folder / self.name, self.size, self.sha256)


def keep(part: Path, final: Path) -> Piece:
    """Make a finished file durable under its final name, in the same folder."""
    size, digest = seal(part, final)
    return Piece(final.name, size, digest)


def seal(part: Path, final: Path) -> tuple[int, str]:
    """Make a finished file durable under its final name; its size in bytes and its SHA-256 in hex."""
    size, digest = settled(part)
    part.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size, digest


def settled(path: Path) -> tuple[int, str]:
    """Make the file's content durable; its size in bytes and its SHA-256 in hex, for the result of a task."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        os.fsync(file.fileno())
    return size, digest


def intact(path: Path, size: int, sha256: str) -> bool:
    """Whether the file has this size and hash."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False
