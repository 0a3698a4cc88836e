"""A separate machine on a cable that can be cut: a network namespace of Linux, which only root may make."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import pytest

_NET = "10.77.{}.{}"
"""Addresses of this machine and of the other one, which this machine hopefully does not use otherwise."""


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@cache
def can_cut() -> bool:
    """Whether this process may make namespaces and cables."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"tasktrail-try-{os.getpid()}"
    return _run("ip", "netns", "add", name) and _run("ip", "netns", "delete", name)


needs_cables = pytest.mark.skipif(not can_cut(), reason="needs network namespaces: root, and the command `ip`")


class Cable:
    """A cable between this machine, at `here`, and one at `there`. `inside` starts programs on that machine."""

    def __init__(self, number: int) -> None:
        self.here, self.there = _NET.format(number, 1), _NET.format(number, 2)
        self._name = f"tasktrail-{os.getpid()}-{number}"
        self._end = f"tt{os.getpid() % 10**6}n{number}"
        self.inside: Sequence[str] = ("ip", "netns", "exec", self._name)

    def lay(self) -> None:
        """Make both ends."""
        far = f"{self._end}x"
        for command in (
            f"ip netns add {self._name}",
            f"ip link add {self._end} type veth peer name {far} netns {self._name}",
            f"ip address add {self.here}/24 dev {self._end}",
            f"ip link set {self._end} up",
            f"ip -n {self._name} address add {self.there}/24 dev {far}",
            f"ip -n {self._name} link set {far} up",
            f"ip -n {self._name} link set lo up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True, timeout=60)

    def cut(self) -> None:
        """Let nothing through any more, without any notification."""
        subprocess.run(["ip", "link", "set", self._end, "down"], check=True, timeout=60)

    def join(self) -> None:
        """Let everything through again."""
        subprocess.run(["ip", "link", "set", self._end, "up"], check=True, timeout=60)

    def take_away(self) -> None:
        """Take both ends away. Programs inside go on without a network."""
        _run("ip", "link", "delete", self._end)
        _run("ip", "netns", "delete", self._name)


def _free_number(number: int) -> int:
    """Return a number whose address this machine does not use."""
    taken = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True, timeout=60).stdout
    tries = ((os.getpid() * 4 + number + other) % 250 for other in range(0, 1000, 4))
    return next(one for one in tries if f" {_NET.format(one, 1)}/" not in taken)


@contextmanager
def cable(number: int) -> Iterator[Cable]:
    """Lay a cable. Tests that run at the same time use other numbers, by their processes' pids."""
    made = Cable(_free_number(number))
    try:
        made.lay()
        yield made
    finally:
        made.take_away()
