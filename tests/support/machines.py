"""Machines on this one, each with a network, processes, a name and temp files of its own, joined by cables to a switch.

Namespaces of Linux, made by root, none of them named: what belongs to a machine ends with its first process, and that
one ends when its standard input does. So nothing is left however this process ends. No address and no interface of this
machine is touched. Files are those of this machine, but for the folder `Network.private` and `/dev/shm`, which each has
for itself. The clocks are this machine's, too, so stamps of all machines can be compared.

    with Network() as network:
        one, two = network.machine("one"), network.machine("two")
        ping = two.start(["ping", one.address])
        one.cut()                 # silence: nobody is told anything
        one.plug()
        two.kill()                # all of its processes at once
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FIRST = """
set -e
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o size=2g machine /dev/shm
mount -t tmpfs -o size=2g machine "$2"
mount --bind "$3" /etc/hosts
echo "$1" >/proc/sys/kernel/hostname
ip link set lo up
echo "$pid"
exec env --ignore-signal=CHLD cat >/dev/null
"""
"""Prints its pid as seen from outside. The orphans that it inherits vanish by themselves."""
_SWITCH = """
read -r pid rest </proc/self/stat
ip link add switch type bridge && ip link set switch up && echo "$pid" && exec cat >/dev/null
"""
_INTO = ("--net", "--pid", "--mount", "--ipc", "--uts")
_SUBNET = "10.77"
_WITHIN = 10.0


@cache
def why_no_machines() -> str:
    """Return why no machine can be made here; empty if it is possible."""
    if missing := [program for program in ("ip", "unshare", "nsenter", "mount") if shutil.which(program) is None]:
        return f"there is no {', '.join(missing)} here (Debian: iproute2, util-linux, mount)"
    try:
        with Network() as network:
            network.machine("trial")
    except OSError as error:
        return f"no namespaces can be made here; run it as root, and in a container with CAP_SYS_ADMIN: {error}"
    return ""


class Network:
    """A switch, and machines on it. A context; closing it kills everything that runs on them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="net"))  # a short path: sockets lie below it
        self.private = self.folder / "own"
        """Where each machine sees only its own files."""
        self.machines: list[Machine] = []
        """All machines that were made and not killed."""
        self._numbers = iter(range(1, 250))
        self._hosts = self.folder / "hosts"
        self.private.mkdir()
        self._hosts.write_text("127.0.0.1 localhost\n")
        try:
            self._switch, self._switch_pid = _first_process(("--net",), _SWITCH)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def machine(self, name: str) -> Machine:
        """Make a machine with a cable. All others can reach it by its name. Raises OSError."""
        number = next(self._numbers)
        address = f"{_SUBNET}.0.{number}"
        with self._hosts.open("a") as hosts:  # one file for all, so that running machines see it, too
            hosts.write(f"{address} {name}\n")
        options = (*_INTO, "--kill-child")
        process, pid = _first_process(options, _FIRST, name, str(self.private), str(self._hosts))
        made = Machine(self, name, address, f"port{number}", process, pid)
        self.machines.append(made)
        self.switch("link", "add", made.port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.switch("link", "set", made.port, "master", "switch", "up")
        made.run(["ip", "address", "add", f"{address}/16", "dev", "eth0"])
        made.run(["ip", "link", "set", "eth0", "up"])
        return made

    def switch(self, *arguments: str) -> None:
        """Run `ip ARGUMENTS` on the switch."""
        _checked(["nsenter", "--net", "--target", str(self._switch_pid), "ip", *arguments])

    def close(self) -> None:
        """Kill all machines, and remove the folder."""
        while self.machines:
            self.machines[-1].kill()
        _end(self._switch)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Machine:
    """A machine of a network."""

    def __init__(
        self, network: Network, name: str, address: str, port: str, first: subprocess.Popen[bytes], pid: int
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        """The name of its port on the switch."""
        self._network = network
        self._first = first
        self._pid = pid
        self.enter = ["nsenter", *_INTO, "--target", str(pid), "--"]
        """The command that starts a program there."""
        self._entered: list[subprocess.Popen[bytes]] = []
        self._space = _space("uts", pid)

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, output: Path | None = None
    ) -> Process:
        """Start a program there; its output is appended to the file `output`."""
        with (output or Path(os.devnull)).open("ab") as sink:
            entered = subprocess.Popen(
                [*self.enter, *command],
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent
            )
        self._entered.append(entered)
        return Process(entered)

    def run(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
        """Run a program there to its end; return its output. Raises OSError if it fails."""
        return _checked([*self.enter, *command], self._environment(environment))

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self._network.private), **(more or {})}

    def pids(self) -> list[int]:
        """Return its processes except the first, by their pids as seen from outside.

        Includes processes that a sandbox has put into a namespace of their own; excludes those that enter it.
        """
        here, outside = [pid for pid in all_pids() if _space("uts", pid) == self._space], _space("pid", os.getpid())
        return [pid for pid in here if pid != self._pid and _space("pid", pid) != outside]

    def cut(self) -> None:
        """Cut its cable: messages are silently lost, both ways."""
        self._network.switch("link", "set", self.port, "down")

    def plug(self) -> None:
        """Repair the cable."""
        self._network.switch("link", "set", self.port, "up")

    def kill(self) -> None:
        """Kill all of its processes at once, by the kernel, as a power cut does. Returns when none is left."""
        if self in self._network.machines:
            self._network.machines.remove(self)
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            _end(self._first)
            for entered in self._entered:
                entered.wait()


class Process:
    """A program on a machine."""

    def __init__(self, entered: subprocess.Popen[bytes]) -> None:
        self._entered = entered
        self.pid = _child_of(entered)
        """Its number as seen from outside."""

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self._entered.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, within: float = _WITHIN) -> None:
        """Wait until it has ended. Raises `subprocess.TimeoutExpired`."""
        self._entered.wait(within)


def all_pids() -> Iterator[int]:
    """Return the pids of all processes."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - a path for each costs more


def command_of(pid: int) -> str:
    """Return its command line; empty if it is gone, or has none any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _space(kind: str, pid: int) -> str:
    """Return its namespace of this kind; empty if it is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def _first_process(namespaces: Sequence[str], script: str, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the first process of new namespaces, and return when it has printed its pid. Raises OSError."""
    process = subprocess.Popen(
        ["unshare", *namespaces, "--fork", "sh", "-c", script, "sh", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent, which then ends this one
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = process.stdout.readline()
    if not said:
        why = process.stderr.read().decode().strip()
        _end(process)
        raise OSError(why)
    return process, int(said)


def _end(first: subprocess.Popen[bytes]) -> None:
    for pipe in (first.stdin, first.stdout, first.stderr):
        if pipe is not None:
            pipe.close()
    first.wait()


def _checked(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(command, env=environment, check=False, **options)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return str(done.stdout.decode())


def _child_of(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _WITHIN
    while not (children := _children(process.pid)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"{process.args!r} has not started: {process.returncode}")
        time.sleep(0.002)
    return int(children.split()[0])


def _children(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return ""
