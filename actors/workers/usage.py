"""Measures how much the process tree of an attempt uses, by `/proc`, and checks it against the attempt's bounds.

The service does this, not the worker: the code in a worker may hold every lock, or be in a child process.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...events.errors import TasktrailError
from ...events.existence import exists
from ...events.reports import AttemptEnded
from ...handlers.errors import CpuLimitReached, MemoryLimitReached
from ...handlers.process.channel import AttemptBounded

INTERVAL = 0.5
"""Seconds between two measurements of a running attempt."""
_MOST_PROCESSES = 4096
"""Processes of a tree that are measured. Other limits end a larger tree."""
_SYS = getattr(os, "sysconf", lambda _name: 1)
_TICKS = float(_SYS("SC_CLK_TCK"))
_PAGE = int(_SYS("SC_PAGE_SIZE"))
_MEGABYTE = 1_000_000
_MEMORY = int(_SYS("SC_PHYS_PAGES")) * _PAGE
_CPUS = os.cpu_count() or 1
_SLACK = 1.0
"""Seconds by which an attempt's report of its own time may be off."""


class Usage(NamedTuple):
    """The resources that a process tree uses."""

    cpu: float = 0.0
    """Seconds, with those of ended processes that were waited for."""
    resident: int = 0
    """Bytes. Memory that several processes share is counted for each."""


def can_measure() -> bool:
    """Whether this system lists the children of a process; a kernel may be built without."""
    return exists(Path(f"/proc/self/task/{os.getpid()}/children"))


class _Stat(NamedTuple):
    own: float
    waited_for: float
    resident: int


def usage_below(root: int) -> Usage:
    """How much the processes below `root` use, with those that have ended. Zero if there is no `/proc`."""
    cpu, resident = 0.0, 0
    seen: set[int] = set()
    waiting = [root]
    while waiting and len(seen) < _MOST_PROCESSES:
        pid = waiting.pop()
        if pid in seen:
            continue
        seen.add(pid)
        stat = _stat(pid)
        if stat is None:
            continue
        cpu += stat.waited_for + (stat.own if pid != root else 0.0)
        resident += stat.resident if pid != root else 0
        waiting += _children(pid)
    return Usage(cpu, resident)


def buried_by(root: int) -> float:
    """CPU seconds of the ended processes that the reaper `root` has waited for.

    If the worker has a PID namespace, a copy of the reaper is the first process in it and waits for the others.
    """
    stat = _stat(root)
    buried = 0.0 if stat is None else stat.waited_for
    for child in _children(root):
        first = _stat(child) if _command(child) == _command(root) else None
        buried += first.own + first.waited_for if first else 0.0
    return buried


def outer_pid(reaper: int, inner: int) -> int:
    """The worker's process id in our namespace. The worker itself knows only the id in its own, if it has one."""
    for first in _children(reaper):
        if _command(first) == _command(reaper):
            return next(iter(_children(first)), inner)
    return inner


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - as below
            return file.read()
    except OSError:
        return b""


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib takes longer than the reading
            text = file.read()
    except OSError:
        return None
    # The command stands in brackets and may hold anything; the fields after it are plain.
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] == b"Z":  # its memory is gone
        return _Stat((int(fields[11]) + int(fields[12])) / _TICKS, (int(fields[13]) + int(fields[14])) / _TICKS, 0)
    return _Stat(
        (int(fields[11]) + int(fields[12])) / _TICKS,
        (int(fields[13]) + int(fields[14])) / _TICKS,
        int(fields[21]) * _PAGE,
    )


def _children(pid: int) -> list[int]:
    """The child processes. `/proc` lists them by the thread that started them."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as above
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - as above
                children += map(int, file.read().split())
    except OSError:
        return children  # it has ended meanwhile
    return children


def believable(ended: AttemptEnded, seconds: float) -> AttemptEnded:
    """The end, with its use cut to what is possible: an attempt measures itself, and estimates are made from that.

    Args:
        ended: the reported end; its numbers are finite.
        seconds: since the worker got the attempt.
    """
    most = seconds + _SLACK
    memory = min(max(ended.memory_used, 0), _MEMORY)
    cpu = min(max(ended.cpu_used, 0.0), most * _CPUS)
    time = min(max(ended.time_used, 0.0), most)
    temp = max(ended.temp_used, 0)
    if (memory, cpu, time, temp) == (ended.memory_used, ended.cpu_used, ended.time_used, ended.temp_used):
        return ended
    return msgspec.structs.replace(ended, memory_used=memory, cpu_used=cpu, time_used=time, temp_used=temp)


class UsageWatch:
    """Watches one attempt: what it may use, and what it has used.

    Args:
        reaper: process id; the attempt's tree is below it.
        bounded: what the attempt may use.
        look: measures the processes below a process.
    """

    def __init__(
        self,
        reaper: int,
        bounded: AttemptBounded,
        look: Callable[[int], Usage] = usage_below,
    ) -> None:
        self._reaper = reaper
        self._bounded = bounded
        self._look = look
        self._before = bounded.cpu_before + buried_by(reaper)
        self.cpu = bounded.cpu
        """CPU seconds that it may use; 0 for any number."""
        self._rule = bounded.rule
        self.used = Usage()
        """The last measurement; `resident` is the most that was seen."""

    def expect(self, seconds: float) -> None:
        """Raise the CPU bound if probing the input has shown that the attempt will take `seconds`."""
        probed = self._bounded.cpu_per_probed * seconds
        if self.cpu and probed > self.cpu:
            self.cpu, self._rule = probed, "it follows from a look into the input"

    def reached(self) -> TasktrailError | None:
        """Measure. Returns the error of the limit that is reached, if any is."""
        found = self._look(self._reaper)
        cpu = max(0.0, found.cpu - self._before)
        self.used = Usage(cpu, max(self.used.resident, found.resident))
        if self.cpu and cpu > self.cpu:
            return CpuLimitReached(
                f"The attempt used {cpu:,.0f} s of CPU time; the limit is {self.cpu:,.0f} s: {self._rule}"
            )
        memory = self._bounded.memory
        if memory and found.resident > memory:
            return MemoryLimitReached(
                f"The attempt had {found.resident // _MEGABYTE:,} MB in memory; the limit is "
                f"{memory // _MEGABYTE:,} MB, which follows from its estimate"
            )
        return None

    def near_memory(self, peak: int) -> bool:
        """Whether it had more than half of its memory bound, by a measurement or by the kernel's own count (`peak`)."""
        return bool(self._bounded.memory) and 2 * max(peak, self.used.resident) > self._bounded.memory
