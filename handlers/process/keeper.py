"""The keeper: the parent of one worker. It ends the worker's whole process tree and only then itself.

It runs as a script (`python -I -S keeper.py …`) and uses nothing but the standard library, so that it starts in a few
milliseconds and stays small. The service holds the other end of two pipes:

* lifeline (service → keeper): each byte means "SIGTERM to the worker's process group"; the end of file means that the
  service is gone or wants the tree killed.
* status (keeper → service): one line `exit CODE CPU_MICROSECONDS PEAK_BYTES` and the last output of the tree, written
  when nothing is left. The end of file without that line means that the keeper itself was killed.

Processes that leave the worker's group or session, or lose their parent, become children of the keeper, because it is
their sub-reaper (Linux). Elsewhere only the process group is killed.
"""

import ctypes
import os
import select
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
KEEPER_PID = "{keeper}"
"""Stands for the keeper's process id in the worker's command."""
TAIL = 2048
"""Bytes of the tree's last output that are kept to explain a crash."""


def main() -> None:
    """Start the worker, wait for its end or the end of the service, clear up, report."""
    service, lifeline, status, nice = (int(argument) for argument in sys.argv[1:5])
    inherited, private = ([int(number) for number in part.split(",") if number] for part in sys.argv[5:7])
    command = [str(os.getpid()) if part == KEEPER_PID else part for part in sys.argv[7:]]
    for fd in (lifeline, status, *private):
        os.set_inheritable(fd, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Keeper(lifeline, status, service).keep(inherited, nice, command)


class Keeper:
    """One worker, its pipes, and the end of both."""

    def __init__(self, lifeline: int, status: int, service: int) -> None:
        self._lifeline = lifeline
        self._status = status
        self._service = _watch_process(service)
        self._worker = 0
        self._code = 0
        self._peak = 0
        self._seconds = 0.0
        self._tail = b""
        self._output, self._output_end = os.pipe()
        self._bell, bell_end = os.pipe()
        for fd in (self._output, self._bell, bell_end):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell_end, warn_on_full_buffer=False)

    def keep(self, inherited: list[int], nice: int, command: list[str]) -> None:
        """Run `command` until it ends or the lifeline breaks; return when no process of the tree is left."""
        try:
            self._spawn(inherited, command)
        except OSError as error:
            self._write_status(f"exit 127 0 0\n{error}".encode())
            return
        if nice:
            os.setpriority(os.PRIO_PROCESS, self._worker, min(os.getpriority(os.PRIO_PROCESS, 0) + nice, 19))
        poll = select.poll()
        for fd in (self._lifeline, self._bell, self._output, self._service):
            poll.register(fd, select.POLLIN)
        alive = True
        while alive:
            for fd, _ in poll.poll():
                if fd == self._lifeline:
                    alive = self._obey() and alive
                elif fd == self._bell:
                    os.read(self._bell, 4096)
                    alive = self._reap_others() and alive
                elif fd == self._output:
                    self._drain()
                else:
                    alive = False
        self._clear()
        self._drain()
        line = f"exit {self._code} {int(self._seconds * 1e6)} {self._peak}\n".encode()
        self._write_status(line + self._tail)

    def _spawn(self, inherited: list[int], command: list[str]) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        # The worker must start with plain signals: ignored ones would be passed on to everything it starts.
        defaults = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)
        redirect = [
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, self._output_end, 1),
            (os.POSIX_SPAWN_DUP2, self._output_end, 2),
        ]
        self._worker = os.posix_spawn(
            command[0], command, os.environ, file_actions=redirect, setpgroup=0, setsigdef=defaults
        )
        for fd in (null, self._output_end, *inherited):
            os.close(fd)

    def _obey(self) -> bool:
        """Read the lifeline. False when it broke."""
        wishes = os.read(self._lifeline, 64)
        if wishes:
            self._signal_group(signal.SIGTERM)
        return bool(wishes)

    def _reap_others(self) -> bool:
        """Bury adopted children that have ended. False when the worker has.

        The worker stays a zombie for now, so that no other process gets its number before its group is killed.
        """
        if not hasattr(os, "waitid"):  # macOS before Python 3.13; there are no adopted children there
            return self._bury()
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == self._worker:
                return ended is None
            os.waitpid(ended.si_pid, 0)

    def _drain(self) -> None:
        """Keep the end of what the tree printed; never let it block on us."""
        try:
            while data := os.read(self._output, 65536):
                self._tail = (self._tail + data)[-TAIL:]
        except BlockingIOError:
            return

    def _clear(self) -> None:
        """Kill every descendant until none is left, however they fork meanwhile."""
        self._signal_group(signal.SIGKILL)
        while self._bury():
            for pid in descendants(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            select.select([self._bell], [], [], 0.01)
            self._empty_bell()

    def _bury(self) -> bool:
        """Reap what has ended. False when there is no child left."""
        while True:
            try:
                pid, code, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._worker:
                self._code = os.waitstatus_to_exitcode(code)
                self._peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                self._seconds = usage.ru_utime + usage.ru_stime

    def _empty_bell(self) -> None:
        try:
            os.read(self._bell, 4096)
        except BlockingIOError:
            return

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self._worker, number)
        except (ProcessLookupError, PermissionError):
            return

    def _write_status(self, text: bytes) -> None:
        try:
            os.write(self._status, text)
        except OSError:
            return  # the service is gone; nobody waits for this


def _watch_process(pid: int) -> int:
    """A descriptor that can be read once the process is gone; never, where there is no such thing.

    The lifeline alone would miss the end of a service that had forked: the copy keeps the pipe open.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(0)
    except (AttributeError, OSError):
        return os.pipe()[0]


def descendants(root: int) -> list[int]:
    """Every process below `root`, as `/proc` shows it now; empty where there is no `/proc`."""
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - as below
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - pathlib doubles the start-up time
                    stat = file.read()
            except OSError:
                continue
            # The command stands in brackets and may hold anything; the fields after it are plain.
            parents[int(name)] = int(stat[stat.rindex(b")") + 2 :].split()[1])
    found = {root}
    grown = True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in found} - found
        found |= below
        grown = bool(below)
    return list(found - {root})


if __name__ == "__main__":
    main()
