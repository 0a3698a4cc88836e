"""What the container allows: memory and CPU limits of the control groups that this process lives in, version 1 and 2.

A limit of any parent group binds as well, so each question walks from the own group up to the mount point. Where there
are no control groups (macOS), or none can be read, there is no limit.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

_NO_LIMIT = 2**60
"""Version 1 says "no limit" by a number near 2**63."""


class Group(msgspec.Struct, frozen=True):
    """Where one controller's files of this process lie."""

    version: Literal[1, 2]
    folders: tuple[Path, ...]
    """The own group first, then its parents, up to the mount point."""


class MemoryRoom(msgspec.Struct, frozen=True):
    """Bytes: the tightest limit, and what is left under the limits."""

    limit: int
    left: int


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """The groups that matter here; none where the machine has no such controller."""

    memory: Group | None = None
    cpu: Group | None = None
    cpu_usage: Group | None = None

    def memory_room(self) -> MemoryRoom | None:
        """What may still be used before the kernel kills; none without a limit. Droppable cache counts as free."""
        if self.memory is None:
            return None
        limit_file, usage_file, cache = {
            1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            2: ("memory.max", "memory.current", "inactive_file"),
        }[self.memory.version]
        rooms = []
        for folder in self.memory.folders:
            limit = _number(folder / limit_file)
            if limit is None or limit >= _NO_LIMIT:
                continue
            used = (_number(folder / usage_file) or 0) - _entry(folder / "memory.stat", cache)
            rooms.append(MemoryRoom(limit, max(0, limit - max(0, used))))
        if not rooms:
            return None
        return MemoryRoom(min(room.limit for room in rooms), min(room.left for room in rooms))

    def cpu_quota(self) -> float | None:
        """How many CPUs' worth of time is allowed; none without a limit."""
        quotas = [] if self.cpu is None else [_quota(self.cpu.version, folder) for folder in self.cpu.folders]
        return min((quota for quota in quotas if quota is not None), default=None)

    def cpu_seconds(self) -> float | None:
        """CPU time used so far by everything in the own group; none where it is not counted."""
        if self.cpu_usage is None:
            return None
        own = self.cpu_usage.folders[0]
        if self.cpu_usage.version == 1:
            nanoseconds = _number(own / "cpuacct.usage")
            return None if nanoseconds is None else nanoseconds / 1e9
        return _entry(own / "cpu.stat", "usage_usec") / 1e6


def find_groups(proc: Path = Path("/proc")) -> Groups:
    """The groups of this process, as `proc/self` describes them."""
    try:
        memberships = (proc / "self" / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return Groups()
    paths: dict[str, str] = {}
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Group] = {}
    for version, names, root, mount in _mounts(mounts):
        for name in names:
            if name in paths:
                found.setdefault(name, Group(version, _folders(mount, root, paths[name])))
    unified = found.get("")
    return Groups(
        memory=found.get("memory", unified), cpu=found.get("cpu", unified), cpu_usage=found.get("cpuacct", unified)
    )


def _mounts(lines: list[str]) -> Iterator[tuple[Literal[1, 2], list[str], str, Path]]:
    """Version, controllers, the group that the mount shows at its root, mount point. Version 2 has controller ""."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind and kind[0] == "cgroup2":
            yield 2, [""], fields[3], Path(fields[4])
        elif kind and kind[0] == "cgroup":
            yield 1, kind[2].split(","), fields[3], Path(fields[4])


def _folders(mount: Path, root: str, path: str) -> tuple[Path, ...]:
    """In a container the mount may show only a part of the tree, or the path may speak of a tree that is not shown."""
    try:
        inside = PurePosixPath(path).relative_to(root)
    except ValueError:
        inside = PurePosixPath()
    own = mount / inside
    if ".." in inside.parts or not own.is_dir():
        return (mount,)
    return (own, *list(own.parents)[: len(inside.parts)])


def _quota(version: Literal[1, 2], folder: Path) -> float | None:
    if version == 1:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    else:
        first, _, second = _text(folder / "cpu.max").partition(" ")
        quota, period = _as_number(first), _as_number(second)
    return None if quota is None or quota <= 0 or not period else quota / period


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _as_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _number(path: Path) -> int | None:
    return _as_number(_text(path))


def _entry(path: Path, name: str) -> int:
    """The number behind a name in a file of `name number` lines; 0 when it is not there."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _as_number(value) or 0
    return 0
