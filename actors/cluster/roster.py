"""The roster: the file of the hosts that may hold attempts. The next service must find each, or await its lease's end.

A host's name says how long its lease is, because the next service may have another setting.
"""

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ...events.errors import NotReady
from ...events.existence import exists
from ...events.log.files import own_file, read_small
from ..logger import get_logger
from .lease import Fence

STOPS_WITHIN = 1.0
"""Seconds that a host may take to end its attempts once its lease is over."""
_NAME = re.compile(r"(.+)-(\d{1,9})-(\d{1,9})(?:-g(\d{1,4}))?-[0-9a-f]+")
_UNREADABLE = -1

logger = get_logger(__name__)


class HostName(NamedTuple):
    """The parts of a host's name."""

    cluster: str
    slot: int
    lease: float
    """Seconds."""
    gpus: int = 0
    """How many GPUs it has booked."""


def host_name(named: HostName) -> str:
    """Make a new name that says this."""
    gpus = f"-g{named.gpus}" if named.gpus else ""
    return f"{named.cluster}-{named.slot}-{math.ceil(named.lease * 1000)}{gpus}-{secrets.token_hex(6)}"


def parsed_name(name: str) -> HostName | None:
    """Read a host's name; None if it is not one."""
    match = _NAME.fullmatch(name)
    return HostName(match[1], int(match[2]), int(match[3]) / 1000, int(match[4] or 0)) if match else None


class Roster:
    """Names in a file. Without a path there is no file: then hosts are found only if the cluster still lists them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written: tuple[int, frozenset[str]] = (0, frozenset())

    def read(self) -> tuple[int, frozenset[str]]:
        """The epoch of the last service whose hosts it all names, and the names. 0 without a file; -1 if unusable."""
        if self._path is not None and exists(self._path):
            try:
                self._written = _content(read_small(self._path))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("hosts_unreadable", path=str(self._path), error=str(error))
                self._written = (_UNREADABLE, frozenset())
        return self._written

    def names(self, host: str) -> bool:
        """Whether the next service would know the host; True also if there is no file."""
        return self._path is None or host in self._written[1]

    def write(self, epoch: int, names: Iterable[str]) -> None:
        """Write the only hosts that may hold attempts from now on, unless it is unchanged. Durable on return."""
        new = (epoch, frozenset(names))
        if self._path is None or new == self._written:
            return
        beside = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(own_file(beside, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
            json.dump({"epoch": epoch, "hosts": sorted(new[1])}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._written = new


def _content(text: bytes) -> tuple[int, frozenset[str]]:
    content = json.loads(text)
    epoch, names = content["epoch"], frozenset(content["hosts"])
    if not isinstance(epoch, int) or not all(isinstance(name, str) and parsed_name(name) for name in names):
        raise ValueError("it does not hold an epoch and names of hosts")
    return epoch, names


def outlive_hosts(path: Path, wait: Callable[[float], object]) -> None:
    """Wait until the hosts of a killed service have ended their attempts; then forget them.

    For a service that no longer uses a cluster, and is about to run the same tasks on this machine.
    """
    epoch, names = Roster(path).read()
    if epoch == _UNREADABLE:
        raise NotReady(
            f"Attempts of an earlier service may still run on a cluster, and {path} does not say for how long",
            remedy="Wait as long as `ray_lease` was when that service ran, then delete the file.",
        )
    leases = [named.lease for name in names if (named := parsed_name(name))]
    if leases:
        seconds = Fence(max(leases), STOPS_WITHIN, 0.0).at
        logger.warning("cluster_left", waits=seconds, why="attempts on its nodes may run until their lease ends")
        wait(seconds)
    path.unlink(missing_ok=True)
