"""Files that are elsewhere, as they lie on this machine meanwhile (`TEMP/elsewhere`), and what is said of moving them.

* `fetched/TASK-ATTEMPT@NODE`: the input of an attempt, which no other one ever reads. `@NODE` only in a cluster.
* `results/TASK-ATTEMPT@NODE`: where an output takes shape before it is stored.
* `uploads/TASK-ATTEMPT.json`: an upload that has begun, so that what a kill leaves behind can be called off.

Whoever uses one of them holds a lock on a file beside it, with `.lock` behind the name. The kernel lets go of it when
its holder dies, however that happens. What nobody holds may be removed by anybody; but not everything that several
machines share carries locks from one to another, so what another node uses is left alone for a week.
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
"""Seconds after which what another node has left, and does not hold, is removed."""
_PAUSE = 0.01


class Storage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an attempt with files elsewhere needs of the configuration."""

    mover: str
    """The module that moves the bytes, in a process of its own."""
    owner: str = ""
    """What this service's outputs are marked with, beside the task's number."""
    largest: int = 0
    """Bytes that an input may have; 0: any."""
    private_hosts: tuple[str, ...] = ()
    """`host` or `host:port` that inputs may be fetched from although they are not public."""


# --- what is said to the process that moves bytes, and by it: a JSON object a line -----------------------------------


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="say"):
    """A line."""


class Fetch(_Line, frozen=True, tag="fetch"):
    """Have the input here. Answered by `Moved`…, then `Fetched` or `Refused`."""

    url: str
    place: str
    """An empty folder that the asker holds."""
    storage: Storage


class Store(_Line, frozen=True, tag="store"):
    """Store a file. Answered by `Moved`…, then `Ready` or `Refused`. After `Appear` by `Stored` or `Refused`.

    Without `Appear`, when the pipe is closed, nothing is left there.
    """

    url: str
    path: str
    folder: str
    name: str
    """`TASK-ATTEMPT`."""
    owner: str
    overwrite: bool


class Appear(_Line, frozen=True, tag="appear"):
    """Let the output appear, whole."""


class Sweep(_Line, frozen=True, tag="sweep"):
    """Call off uploads that nobody goes on with. Answered by `Swept`."""

    folder: str


class Look(_Line, frozen=True, tag="look"):
    """Say whether the place can be reached. Answered by `Reached` or `Refused`."""

    url: str
    storage: Storage


class Moved(_Line, frozen=True, tag="moved"):
    """So far."""

    done: int
    """Bytes."""
    total: int
    """0: nobody knows."""


class Fetched(_Line, frozen=True, tag="fetched"):
    """It is here."""

    path: str
    version: str
    """What all its bytes hash to (SHA-256, in hex)."""


class Ready(_Line, frozen=True, tag="ready"):
    """All bytes are there, and nobody can see them."""


class Stored(_Line, frozen=True, tag="stored"):
    """It has appeared."""


class Swept(_Line, frozen=True, tag="swept"):
    """So many uploads were called off."""

    count: int


class Reached(_Line, frozen=True, tag="reached"):
    """The place answers, and we may look into it."""

    by: str = ""
    """Where the credentials came from, in words; never what they are."""


Kind: TypeAlias = Literal[
    "missing", "denied", "forbidden", "unreachable", "exists", "changed", "large", "package", "failed"
]


class Refused(_Line, frozen=True, tag="refused"):
    """It did not work."""

    kind: Kind
    message: str
    remedy: str = ""


Wish: TypeAlias = Fetch | Store | Appear | Sweep | Look
Answer: TypeAlias = Moved | Fetched | Ready | Stored | Swept | Reached | Refused


# --- locks and what they guard ---------------------------------------------------------------------------------------


class LockHeld(Exception):
    """Somebody holds it."""


def hold(path: Path, patience: float = 0.0) -> int:
    """A lock on the file, which is made when it is missing: the descriptor, to be closed.

    Raises LockHeld when somebody holds it for longer than `patience` seconds.
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
        os.close(fd)  # whoever removed it was quicker


def lock_of(path: Path) -> Path:
    """The file that the lock on a folder is taken on."""
    return path.with_name(f"{path.name}.lock")


def make_folders(folder: Path) -> None:
    """Make what is missing of `TEMP/elsewhere`."""
    for name in ("fetched", "results", "uploads"):
        make_private_folder(folder / name)


def place_of(task_id: int, attempt: int, node: str) -> str:
    """How the folders of an attempt are called."""
    return f"{task_id}-{attempt}" + (f"@{quote(node, safe='')}" if node else "")


def clear_up(folder: Path, node: str = "") -> None:
    """Remove inputs and results that nobody on the node holds: a kill has left them. Those of others when they are old.

    Args:
        folder: `TEMP/elsewhere`.
        node: where this runs; empty where there is only this machine.
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
