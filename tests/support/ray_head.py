"""The head of a Ray cluster on this machine, for tests: a token of its own, nothing reported, no dashboard."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class RayHead:
    """A head, and then any number of nodes. Each is a process group of its own.

    Until it is closed, variables are set by which Ray's clients in this process find its token.

    Args:
        cpus: those that workers can book.
        handlers: folders that nodes import task types from, beside this one.
    """

    def __init__(self, cpus: int = 8, handlers: tuple[Path, ...] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rh"))  # a short path: sockets lie below it
        token = self._folder / "token"
        token.write_text(secrets.token_hex(32))
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        self._before = {name: os.environ.get(name) for name in variables}  # those of another head, perhaps
        os.environ.update(variables)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        head = ("--head", "--port", str(port), "--include-dashboard", "false", "--include-log-monitor", "false")
        self._log = (self._folder / "head.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", *head, "--node-ip-address", "127.0.0.1"),
                *("--num-cpus", str(cpus), "--object-store-memory", "80000000", "--disable-usage-stats"),
                *("--temp-dir", str(self._folder / "s"), "--block"),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, *handlers)))},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while b"Ray runtime started" not in (self._folder / "head.log").read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "head.log").read_text())
            time.sleep(0.05)

    def close(self) -> None:
        """End it, with all of its processes, and restore the variables."""
        os.killpg(self._process.pid, signal.SIGKILL)  # a normal shutdown takes twenty seconds
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
