"""A file that appears whole under its name, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from ..backups.backup import part_file
from ..events.errors import BackupFailed, InvalidPath


class Measured:
    """Hands on what is written to a file, and knows its size and its SHA-256 at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of all that was written, in hex."""
        return self._hash.hexdigest()

    def write(self, content: bytes) -> None:
        """Write it."""
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, under a hidden name beside. It takes its name once all is written, else it is removed.

    What had the name is replaced; only the owner may read the new one. Raises `InvalidPath`.
    """
    if path.exists() and not path.is_file():
        raise InvalidPath(f"{str(path)!r} is there, and is no file", field="out", remedy="Name a file.")
    path = path.resolve()
    try:
        with part_file(path) as part, part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except (BackupFailed, OSError) as error:
        told = error.message if isinstance(error, BackupFailed) else f"{path} cannot be written: {error.strerror}"
        raise InvalidPath(told, field="out", remedy="Name a file in a folder with room on its disk.") from error
