"""Measures the resources of the machine or its container, and how much of them is free.

The limits of the container are those of this process's control groups, version 1 and 2.

A limit of any parent group binds as well, so each query walks from the own group up to the mount point. Where there
are no control groups (macOS), or none can be read, there is no limit.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec
import psutil

from ..events.existence import exists, is_dir
from ..events.reports import NodeSeen
from ..events.system_events import LOCAL
from .core.nodes import NodeSample
from .core.resources import MachineSample

_NO_LIMIT = 2**60
"""Version 1 writes "no limit" as a number near 2**63."""
_MOST = 64 * 1024
"""Bytes to read at most. A file of a control group has at most one page."""


class ControlGroup(msgspec.Struct, frozen=True):
    """The folders of one controller, for this process."""

    version: Literal[1, 2]
    folders: tuple[Path, ...]
    """The own group first, then its parents, up to the mount point."""


class MemoryRoom(msgspec.Struct, frozen=True):
    """Bytes: the tightest limit, and how much the limits leave free."""

    limit: int
    left: int


class ControlGroups(msgspec.Struct, frozen=True, kw_only=True):
    """The control groups that matter here; None where the machine has no such controller."""

    memory: ControlGroup | None = None
    cpu: ControlGroup | None = None
    cpu_usage: ControlGroup | None = None

    def memory_room(self) -> MemoryRoom | None:
        """The limit, and how much is left until the kernel kills; None without a limit. Cache counts as free."""
        if self.memory is None:
            return None
        limit_file, usage_file, cache = {
            1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            2: ("memory.max", "memory.current", "inactive_file"),
        }[self.memory.version]
        rooms = []
        for folder in self.memory.folders:
            limit = _number(f"{folder}/{limit_file}")
            if limit is None or limit >= _NO_LIMIT:
                continue
            used = (_number(f"{folder}/{usage_file}") or 0) - (_entry(f"{folder}/memory.stat", cache) or 0)
            rooms.append(MemoryRoom(limit, max(0, limit - max(0, used))))
        if not rooms:
            return None
        return MemoryRoom(min(room.limit for room in rooms), min(room.left for room in rooms))

    def killed(self) -> int | None:
        """How many processes of the own group the kernel has killed for lack of memory; None if it does not count.

        It counts those that it kills for a parent's limit, or the machine's, as well.
        """
        if self.memory is None:
            return None
        counts = {1: "memory.oom_control", 2: "memory.events"}[self.memory.version]
        return _entry(f"{self.memory.folders[0]}/{counts}", "oom_kill")

    def cpu_quota(self) -> float | None:
        """How many CPUs' worth of time is allowed, or None without a limit."""
        quotas = [] if self.cpu is None else [_quota(self.cpu.version, folder) for folder in self.cpu.folders]
        return min((quota for quota in quotas if quota is not None), default=None)

    def cpu_seconds(self) -> float | None:
        """CPU time used so far by everything in the own group, or None where it is not counted."""
        if self.cpu_usage is None:
            return None
        own = self.cpu_usage.folders[0]
        if self.cpu_usage.version == 1:
            nanoseconds = _number(f"{own}/cpuacct.usage")
            return None if nanoseconds is None else nanoseconds / 1e9
        return (_entry(f"{own}/cpu.stat", "usage_usec") or 0) / 1e6


def find_groups(proc: Path = Path("/proc"), process: int | None = None) -> ControlGroups:
    """The groups of this process, or of the one with that number, as its folder in `proc` describes them."""
    own = proc / ("self" if process is None else str(process))
    try:
        memberships = (own / "cgroup").read_text().splitlines()
        mounts = (own / "mountinfo").read_text().splitlines()
    except OSError:
        return ControlGroups()
    paths: dict[str, str] = {}
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    groups: dict[str, ControlGroup] = {}
    for version, names, root, mount in _mounts(mounts):
        for name in names:
            if name in paths:
                groups.setdefault(name, ControlGroup(version, _folders(mount, root, paths[name])))
    unified = groups.get("")
    return ControlGroups(
        memory=groups.get("memory", unified), cpu=groups.get("cpu", unified), cpu_usage=groups.get("cpuacct", unified)
    )


def _mounts(lines: list[str]) -> Iterator[tuple[Literal[1, 2], list[str], str, Path]]:
    """Yield version, controllers, the group at the mount's root, and mount point. Version 2 has the controller ""."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind and kind[0] == "cgroup2":
            yield 2, [""], fields[3], Path(fields[4])
        elif kind and kind[0] == "cgroup":
            yield 1, kind[2].split(","), fields[3], Path(fields[4])


def _folders(mount: Path, root: str, path: str) -> tuple[Path, ...]:
    """The own group's folder, then its parents' up to the mount point.

    In a container the mount may show only a part of the tree, or the path may belong to a tree that is not shown.
    """
    try:
        inside = PurePosixPath(path).relative_to(root)
    except ValueError:
        inside = PurePosixPath()
    own = mount / inside
    if ".." in inside.parts or not is_dir(own):
        return (mount,)
    return (own, *list(own.parents)[: len(inside.parts)])


def _quota(version: Literal[1, 2], folder: Path) -> float | None:
    if version == 1:
        quota = _number(f"{folder}/cpu.cfs_quota_us")
        period = _number(f"{folder}/cpu.cfs_period_us") if quota is not None and quota > 0 else None
    else:
        first, _, second = _text(f"{folder}/cpu.max").partition(" ")
        quota, period = _as_number(first), _as_number(second)
    return None if quota is None or quota <= 0 or not period else quota / period


def _text(path: str) -> str:
    """Read a small file of the kernel. This happens all the time, and a file object would cost three times as much."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _MOST).decode().strip()
        finally:
            os.close(descriptor)
    except OSError:
        return ""


def _as_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _number(path: str) -> int | None:
    return _as_number(_text(path))


def _entry(path: str, name: str) -> int | None:
    """The number of `name` in a file of `name number` lines; None when it is not there."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _as_number(value)
    return None


# --- The machine's resources and how much of them is free, with the container's limits. ---


class MachineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of the machine, or of the container if that has less."""

    memory: int
    """Bytes."""
    cpus: float
    """CPUs' worth of time."""
    memory_is_limited: bool = False
    """Whether a control group allows less than the machine has."""
    cpu_is_limited: bool = False


class Machine:
    """Samples one machine. Use one object from one thread: CPU use is counted from sample to sample.

    Args:
        temp: the folder whose free space counts; it need not exist yet.
        groups: the container's limits; found when not given.
        monotonic: a clock in seconds that never jumps.
    """

    def __init__(
        self, temp: Path, *, groups: ControlGroups | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._temp = temp
        self._groups = find_groups() if groups is None else groups
        self._monotonic = monotonic
        self._cpu_before: tuple[float, float] | None = None

    def limits(self) -> MachineLimits:
        """The resources that there are."""
        room, quota = self._groups.memory_room(), self._groups.cpu_quota()
        total, cpus = psutil.virtual_memory().total, _affinity()
        return MachineLimits(
            memory=total if room is None else min(total, room.limit),
            cpus=cpus if quota is None else min(cpus, quota),
            memory_is_limited=room is not None and room.limit < total,
            cpu_is_limited=quota is not None and quota < cpus,
        )

    def sample(self) -> MachineSample:
        """The resources that are free now. The first sample cannot know the CPU use and gives 0."""
        memory, room = psutil.virtual_memory(), self._groups.memory_room()
        temp_total, _, temp_free = _disk_of(self._temp)
        return MachineSample(
            cpu_percent=min(100.0, max(psutil.cpu_percent(interval=None), self._quota_percent())),
            memory_available=memory.available if room is None else min(memory.available, room.left),
            memory_total=memory.total if room is None else min(memory.total, room.limit),
            temp_free=temp_free,
            temp_total=temp_total,
        )

    def nodes(self) -> dict[str, NodeSample]:
        """A sample of each node, where attempts run on several. This class samples one machine: it gives none."""
        return {}

    def _quota_percent(self) -> float:
        """The used share of the container's CPU quota since the last sample, in percent; 0 without a quota."""
        quota = self._groups.cpu_quota()
        used = None if quota is None else self._groups.cpu_seconds()
        if quota is None or used is None:
            return 0.0
        now, before = self._monotonic(), self._cpu_before
        self._cpu_before = (now, used)
        if before is None or now <= before[0]:
            return 0.0
        return 100.0 * (used - before[1]) / (now - before[0]) / min(quota, _affinity())


def local_node() -> NodeSeen:
    """This machine as a node: the CPUs that the container may use, and the NVIDIA GPUs that Linux lists."""
    quota = find_groups().cpu_quota()
    cpus = _affinity() if quota is None else min(_affinity(), quota)
    return NodeSeen(node=LOCAL, address=socket.gethostname(), cpus=cpus, gpus=float(len(_gpus())))


def _gpus() -> list[Path]:
    listed = Path("/proc/driver/nvidia/gpus")
    return list(listed.iterdir()) if is_dir(listed) else []


def disk_size(folder: Path) -> int:
    """Bytes of the disk that a folder lies on, or will lie on; 0 when the system does not say."""
    try:
        return _disk_of(folder)[0]
    except OSError:
        return 0


def _disk_of(folder: Path) -> tuple[int, int, int]:
    """Bytes of the disk that a folder lies on, or will lie on: total, used, free."""
    try:
        return shutil.disk_usage(folder)
    except FileNotFoundError:
        return shutil.disk_usage(nearest_existing(folder))


def nearest_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if exists(folder))


def _affinity() -> float:
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
