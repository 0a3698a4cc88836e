"""What the machine has and what of it is free just now, the container's limits included."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from ..core.resources import Sample
from .cgroup import Groups, find_groups


class MachineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine, or the container, can give at most."""

    memory: int
    """Bytes."""
    cpus: float
    """CPUs' worth of time."""
    memory_is_limited: bool = False
    """Whether a control group allows less than the machine has."""
    cpu_is_limited: bool = False


class Machine:
    """Samples of one machine. Use one object from one thread: CPU use is counted from sample to sample.

    Args:
        temp: the folder whose free space counts; it need not exist yet.
        groups: the container's limits; found by itself when not given.
        monotonic: seconds that never jump.
    """

    def __init__(
        self, temp: Path, *, groups: Groups | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._temp = temp
        self._groups = find_groups() if groups is None else groups
        self._monotonic = monotonic
        self._cpu_before: tuple[float, float] | None = None

    def limits(self) -> MachineLimits:
        """What there is at most."""
        room, quota = self._groups.memory_room(), self._groups.cpu_quota()
        total, cpus = psutil.virtual_memory().total, _affinity()
        return MachineLimits(
            memory=total if room is None else min(total, room.limit),
            cpus=cpus if quota is None else min(cpus, quota),
            memory_is_limited=room is not None and room.limit < total,
            cpu_is_limited=quota is not None and quota < cpus,
        )

    def sample(self) -> Sample:
        """What is free now. The first sample cannot know the CPU use and says 0."""
        memory, room = psutil.virtual_memory(), self._groups.memory_room()
        disk = shutil.disk_usage(nearest_existing(self._temp))
        return Sample(
            cpu_percent=min(100.0, max(psutil.cpu_percent(interval=None), self._quota_percent())),
            memory_available=memory.available if room is None else min(memory.available, room.left),
            memory_total=memory.total if room is None else min(memory.total, room.limit),
            temp_free=disk.free,
            temp_total=disk.total,
        )

    def _quota_percent(self) -> float:
        """How much of the container's CPU quota was used since the last sample; 0 without a quota."""
        quota = self._groups.cpu_quota()
        used = None if quota is None else self._groups.cpu_seconds()
        if quota is None or used is None:
            return 0.0
        now, before = self._monotonic(), self._cpu_before
        self._cpu_before = (now, used)
        if before is None or now <= before[0]:
            return 0.0
        return 100.0 * (used - before[1]) / (now - before[0]) / min(quota, _affinity())


def disk_size(folder: Path) -> int:
    """Bytes of the disk that a folder lies on, or will; 0 when the system does not say."""
    try:
        return shutil.disk_usage(nearest_existing(folder)).total
    except OSError:
        return 0


def nearest_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _affinity() -> float:
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
