"""The interface to a place with files, and its errors."""

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from ...handlers.elsewhere import Kind
from ...handlers.urls import Url

CHUNK = 1024 * 1024
"""Bytes that are read at a time."""

ProgressFunction = Callable[[int, int], None]
"""Called with the number of bytes moved so far, and the number in all."""


class PlaceError(Exception):
    """An access to a place failed. Its text is written here, as a library's text might hold secrets."""

    def __init__(self, kind: Kind, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.remedy = remedy


class RemoteFile(msgspec.Struct, frozen=True):
    """A file at its place."""

    version: str
    """Changes with the content; empty if the place cannot tell."""
    size: int
    """Bytes; 0 also if unknown."""
    resumes: bool = False
    """Whether reading can resume in the middle, and surely of the same version."""


class Source(Protocol):
    """A file to be read."""

    def look(self) -> RemoteFile:
        """Return the file as it is now. Raises `PlaceError`."""

    def read(self, remote: RemoteFile, start: int) -> Iterator[bytes]:
        """Yield the bytes of that version from `start` on. Raises `PlaceError`, also if the file has changed since."""


def changed(url: Url) -> PlaceError:
    """The error for a file that changed while it was read. Another try reads it as it is then."""
    return PlaceError("changed", f"{url.text} changed while it was read")


def other_bytes(url: Url, start: int) -> PlaceError:
    """The error for an answer that does not hold the requested part."""
    return PlaceError("changed", f"{url.text}: the server has not sent the requested bytes, from {start:,} on")


def unreachable(url: Url | str, why: str) -> PlaceError:
    """The error for a failure after which another try may succeed."""
    text = url if isinstance(url, str) else url.text
    return PlaceError("unreachable", f"{text} cannot be reached: {why}")
