"""More nodes of a Ray cluster on this machine, each with a temp folder of its own under the name that all have."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_head import RayHead

_MOUNT = 'if [ "$1" ]; then echo $$ > "$1/cgroup.procs"; fi && mount -t tmpfs node "$2" && shift 2 && exec "$@"'
_GROUPS = Path("/sys/fs/cgroup")
_PERIOD = 100_000
"""Microseconds."""


def may_have_own_folders() -> bool:
    """Return whether a process may have mounts that no other sees: mostly only root."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def _group_of(quota: float) -> Path:
    """Make a control group whose processes have that much CPU time. Raises OSError where that is not allowed."""
    name, most = f"tasktrail-test-{secrets.token_hex(4)}", int(quota * _PERIOD)
    if (_GROUPS / "cgroup.controllers").exists():
        group = _GROUPS / name
        group.mkdir()
        (group / "cpu.max").write_text(f"{most} {_PERIOD}")
        return group
    group = _GROUPS / "cpu" / name
    group.mkdir()
    (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
    (group / "cpu.cfs_quota_us").write_text(str(most))
    return group


class RayNode:
    """A node that has joined, in a mount namespace of its own.

    Args:
        head: the cluster's.
        own: the folder that is this node's own: its files go with it.
        cpus: those that workers can book.
        quota: CPU seconds a second that all of its processes may use together; none: what there is.
    """

    def __init__(self, head: RayHead, own: Path, *, cpus: int = 1, quota: float | None = None) -> None:
        self._group = None if quota is None else _group_of(quota)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is read until the node is up
        self._process = subprocess.Popen(
            [
                *(
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    _MOUNT,
                    "sh",
                    str(self._group or ""),
                    str(own),
                ),
                *(str(Path(sys.executable).with_name("ray")), "start", "--address", head.address),
                *("--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus), "--object-store-memory", "80000000"),
                *("--node-name", f"node-{secrets.token_hex(4)}"),  # one name at one address would count as one node
                *("--disable-usage-stats", "--include-log-monitor", "false", "--block"),
            ],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        """Wait, because two nodes of one machine that start at once take the same ports."""
        deadline = time.monotonic() + 60
        while b"Ray runtime started" not in (said := os.pread(self._log.fileno(), 65536, 0)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(said.decode(errors="replace"))
            time.sleep(0.05)
        self._own = self._space(self._process.pid)

    def processes(self) -> list[int]:
        """Return all processes on the node: those that see its folder."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        bounded = (self._group / "cgroup.procs").read_text().split() if self._group is not None else []
        return sorted({*(pid for pid in pids if self._space(pid) == self._own), *map(int, bounded)})

    @staticmethod
    def _space(pid: int) -> str:
        try:
            return str(Path(f"/proc/{pid}/ns/mnt").readlink())
        except OSError:
            return ""

    def kill(self) -> None:
        """Kill everything at once, as a power failure does."""
        self._log.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = self.processes()
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._process.poll() is not None and not self._living():
                with contextlib.suppress(OSError):  # the kernel may take a while to see that the group is empty
                    if self._group is not None:
                        self._group.rmdir()
                    return
            time.sleep(0.01)
        raise RuntimeError("a node of the cluster could not be ended")

    def _living(self) -> list[int]:
        return [pid for pid in self.processes() if pid != self._process.pid]
