"""Local copies of files that are elsewhere (`TEMP/elsewhere`), and the messages with the process that moves them.

* `fetched/TASK-ATTEMPT@NODE`: the input of one attempt; no other attempt reads it. `@NODE` only in a cluster.
* `results/TASK-ATTEMPT@NODE`: an output while it is made, before it is stored.
* `uploads/TASK-ATTEMPT.json`: an upload that has begun, so that it can be aborted after a kill.

A process that uses one of them holds a lock on a file beside it, with `.lock` added to the name. The kernel releases
the lock when the process dies, however that happens. Anything without a lock may be removed by any process. But not
every shared filesystem carries locks between machines, so files of another node are left alone for a week.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from .workspace import make_private_folder, remove_folder

FOLDER = "elsewhere"
_OF_OTHERS_AFTER = 7 * 86400
"""Seconds after which a file of another node without a lock is removed."""
_PAUSE = 0.01


class Storage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of the configuration that an attempt with files elsewhere needs."""

    mover: str
    """The module that moves the bytes, in its own process."""
    owner: str = ""
    """The mark that this service puts on its outputs, beside the task's number."""
    largest: int = 0
    """Bytes that an input may have; 0: no limit."""
    private_hosts: tuple[str, ...] = ()
    """Hosts, as `host` or `host:port`, that inputs may be fetched from although they are not public."""


# --- messages to and from the process that moves bytes: one JSON object per line -------------------------------------


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="say"):
    """One message, on a line."""


class Fetch(_Line, frozen=True, tag="fetch"):
    """Fetch the input. Answered by `Moved`…, then `Fetched` or `Refused`."""

    url: str
    place: str
    """An empty folder, locked by the sender."""
    storage: Storage


class Store(_Line, frozen=True, tag="store"):
    """Upload a file. Answered by `Moved`…, then `Ready` or `Refused`; after `Appear` by `Stored` or `Refused`.

    If the pipe is closed before `Appear`, nothing is left at the address.
    """

    url: str
    path: str
    folder: str
    name: str
    """`TASK-ATTEMPT`."""
    owner: str
    overwrite: bool


class Appear(_Line, frozen=True, tag="appear"):
    """Make the uploaded output visible, whole."""


class Sweep(_Line, frozen=True, tag="sweep"):
    """Abort uploads that no process continues. Answered by `Swept`."""

    folder: str


class Look(_Line, frozen=True, tag="look"):
    """Check whether the address can be reached. Answered by `Reached` or `Refused`."""

    url: str
    storage: Storage


class Moved(_Line, frozen=True, tag="moved"):
    """Progress so far."""

    done: int
    """Bytes."""
    total: int
    """0: unknown."""


class Fetched(_Line, frozen=True, tag="fetched"):
    """The input is here."""

    path: str
    version: str
    """SHA-256 of all its bytes, in hex."""


class Ready(_Line, frozen=True, tag="ready"):
    """All bytes are uploaded, and not visible yet."""


class Stored(_Line, frozen=True, tag="stored"):
    """The output is visible."""


class Swept(_Line, frozen=True, tag="swept"):
    """`count` uploads were aborted."""

    count: int


class Reached(_Line, frozen=True, tag="reached"):
    """The address answers and grants access."""

    by: str = ""
    """Where the credentials came from, in words; never the credentials."""


Kind: TypeAlias = Literal[
    "missing", "denied", "forbidden", "unreachable", "exists", "changed", "large", "package", "failed"
]


class Refused(_Line, frozen=True, tag="refused"):
    """It failed."""

    kind: Kind
    message: str
    remedy: str = ""


MoverRequest: TypeAlias = Fetch | Store | Appear | Sweep | Look
MoverAnswer: TypeAlias = Moved | Fetched | Ready | Stored | Swept | Reached | Refused


# --- locks and what they guard ---------------------------------------------------------------------------------------


class LockHeld(Exception):
    """Another process holds the lock."""


def hold(path: Path, patience: float = 0.0) -> int:
    """Take the lock on a file, which is made if it is missing. Returns the descriptor, which the caller closes.

    Raises LockHeld when another process holds it for longer than `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BlockingIOError:
            os.close(fd)
            if time.monotonic() >= until:
                raise LockHeld from None
            time.sleep(_PAUSE)
            continue
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the file was removed between opening and locking


def lock_of(path: Path) -> Path:
    """The file that carries the lock on a folder."""
    return path.with_name(f"{path.name}.lock")


def make_folders(folder: Path) -> None:
    """Make the missing folders of `TEMP/elsewhere`."""
    for name in ("fetched", "results", "uploads"):
        make_private_folder(folder / name)


def place_of(task_id: int, attempt: int, node: str) -> str:
    """The name of an attempt's folders."""
    return f"{task_id}-{attempt}" + (f"@{quote(node, safe='')}" if node else "")


def clear_up(folder: Path, node: str = "") -> None:
    """Remove inputs and results on this node that no process holds: a kill has left them. Those of others when old.

    Args:
        folder: `TEMP/elsewhere`.
        node: this node's name; empty if there is only this machine.
    """
    for name in ("fetched", "results"):
        for path in _entries(folder / name):
            place = path.with_suffix("") if path.suffix == ".lock" else path
            if place.name.partition("@")[2] == quote(node, safe="") or _is_old(path):
                _remove_unused(place)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _OF_OTHERS_AFTER
    except OSError:
        return False


def _entries(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(folder.iterdir())


def _remove_unused(path: Path) -> bool:
    try:
        lock = hold(lock_of(path))
    except (LockHeld, OSError):
        return False
    with suppress(OSError):
        remove_folder(path)
    lock_of(path).unlink(missing_ok=True)
    os.close(lock)
    return True
