"""What a place where files are can do, and what can go wrong there."""

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from ...handlers.elsewhere import Kind
from ...handlers.urls import Url

CHUNK = 1024 * 1024
"""Bytes that are read at a time."""

Told = Callable[[int, int], None]
"""Is told how many bytes have been moved, and of how many."""


class PlaceError(Exception):
    """Something did not work. Its text is made here: what a library says might hold what must not be shown."""

    def __init__(self, kind: Kind, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.remedy = remedy


class Found(msgspec.Struct, frozen=True):
    """A file at its place."""

    version: str
    """Another one for each content; empty where the place cannot tell."""
    size: int
    """Bytes; 0 also where nobody knows."""
    resumes: bool = False
    """Whether reading can go on in the middle, of the same version for sure."""


class Source(Protocol):
    """A file to be read."""

    def look(self) -> Found:
        """What is there now. Raises `PlaceError`."""

    def read(self, found: Found, start: int) -> Iterator[bytes]:
        """The bytes of that version from `start` on. Raises `PlaceError`, also when it has become another one."""


def changed(url: Url) -> PlaceError:
    """Another try begins with what is there now."""
    return PlaceError("changed", f"{url.text} changed while it was read")


def other_bytes(url: Url, start: int) -> PlaceError:
    """The answer to a question for a part is not that part."""
    return PlaceError("changed", f"{url.text}: the server has sent other bytes than those from {start:,} on")


def unreachable(url: Url | str, why: str) -> PlaceError:
    """Another try may do better."""
    text = url if isinstance(url, str) else url.text
    return PlaceError("unreachable", f"{text} cannot be reached: {why}")
