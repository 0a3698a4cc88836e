"""A Ray cluster on machines of a network, and tasktrail's service on the machine of its head."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from machines import command_of

from tasktrail import Client, TasktrailError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machines import Machine, Network, Process

_PORT = 6379
_STARTS_WITHIN = 90.0
_STEP = 0.05
_RAYS = ("/ray/", "ray::", "/bin/ray ", "ray start")
"""A text in the command line of each of Ray's processes. Tasktrail's workers do not have it."""


class RayMachines:
    """A head that runs no attempts, and nodes.

    Args:
        network: where the machines are.
        handlers: folders that nodes import task types from.
    """

    def __init__(self, network: Network, handlers: Sequence[Path] = ()) -> None:
        self.network = network
        token = network.folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(network.private),
            "PYTHONPATH": os.pathsep.join(map(str, handlers)),
        }
        self.head = network.machine("head")
        self.address = f"head:{_PORT}"
        self.nodes: list[Machine] = []
        """The nodes that run attempts."""
        self._numbers = count(1)
        self._ray = str(Path(sys.executable).with_name("ray"))
        self._starts = count(1)
        self.start_head()

    def start_head(self) -> None:
        """Start Ray on the head's machine; return when it is ready."""
        more = ("--num-cpus", "0", "--include-dashboard", "false", "--include-log-monitor", "false")
        self._start_ray(self.head, "--head", "--port", str(_PORT), *more)

    def add_node(self, cpus: int, *more: str) -> Machine:
        """Add a new machine that has joined; `more` goes to `ray start`."""
        machine = self.network.machine(f"node-{next(self._numbers)}")
        self.start_node(machine, cpus, *more)
        self.nodes.append(machine)
        return machine

    def start_node(self, machine: Machine, cpus: int, *more: str) -> None:
        """Start Ray on a node's machine; return when it has joined."""
        self._start_ray(machine, "--address", f"{self.head.address}:{_PORT}", "--num-cpus", str(cpus), *more)

    def _start_ray(self, machine: Machine, *options: str) -> None:
        output = self.network.folder / f"ray-{machine.name}-{next(self._starts)}"
        always = ("--node-ip-address", machine.address, "--object-store-memory", "80000000", "--disable-usage-stats")
        process = machine.start(
            [self._ray, "start", *options, *always, "--block"], environment=self.environment, output=output
        )
        deadline = time.monotonic() + _STARTS_WITHIN
        while b"Ray runtime started" not in output.read_bytes():
            if not process.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"Ray has not started on {machine.name}: {output.read_text()[-2000:]}")
            time.sleep(_STEP)

    def kill_ray(self, machine: Machine) -> None:
        """Send SIGKILL to all of Ray's processes there. Processes that hosts have started have to end by themselves."""
        while rays := [pid for pid in machine.pids() if any(word in command_of(pid) for word in _RAYS)]:
            for pid in rays:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_STEP)

    def kill_node(self, machine: Machine) -> None:
        """End a node's machine."""
        self.nodes.remove(machine)
        machine.kill()


class ServiceOnMachines:
    """`tasktrail serve` on the head's machine, to be killed and started again.

    Args:
        cluster: where its attempts run.
        settings: lines of its configuration.
    """

    def __init__(self, cluster: RayMachines, *settings: str) -> None:
        self._cluster = cluster
        self.data = cluster.network.folder / "data"
        self.output = cluster.network.folder / "service"
        """The file with all of its output."""
        self.data.mkdir()
        lines = ('executor = "ray"', f'ray_address = "{cluster.address}"', *settings)
        (self.data / "tasktrail.toml").write_text("\n".join(lines) + "\n")
        self._process: Process | None = None
        self.client: Client

    @property
    def process(self) -> Process:
        """The process of the latest start."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start it; return when it takes commands."""
        self._process = self._cluster.head.start(
            [sys.executable, "-m", "tasktrail", "serve"],
            environment={**self._cluster.environment, "TASKTRAIL_DATA": str(self.data)},
            output=self.output,
        )
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            if not self._process.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the service has not started: {self.output.read_text()[-2000:]}")
            time.sleep(_STEP / 5)

    def _answers(self) -> bool:
        try:
            client = Client.connect(self.data)  # by a Unix socket, which is a file: no cable leads here
        except TasktrailError:
            return False
        try:
            client.check_ready()
        except TasktrailError:
            client.close()
            return False
        self.client = client
        return True

    def kill(self) -> None:
        """Send SIGKILL."""
        self.client.close()
        self.process.send(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop it normally."""
        if self._process is not None and self._process.is_alive():
            self.client.close()
            self._process.send(signal.SIGTERM)
            self._process.wait(60.0)

    def gateway(self) -> int | None:
        """Return the pid of the process that holds Ray's client."""
        gateways = [pid for pid in self._cluster.head.pids() if "tasktrail.actors.cluster.gateway" in command_of(pid)]
        return gateways[0] if gateways else None
