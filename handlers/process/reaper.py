"""The reaper: the parent of one worker. It ends the worker's whole process tree and only then itself.

It runs as a script (`python -I -S reaper.py …`) and uses nothing but the standard library, so that it starts in a few
milliseconds and stays small. The service holds the other end of two pipes:

* lifeline (service → reaper): nothing is written; the end of file means that the service is gone or wants the tree
  killed.
* status (reaper → service): one line `exit CODE CPU_MICROSECONDS PEAK_BYTES` and the last output of the tree, written
  when nothing is left. The end of file without that line means that the reaper itself was killed.

The tree prints into a pipe. If the output is kept for each attempt, the worker reads it, and the reaper gets only the
rest after the worker has died. Otherwise the reaper reads it.

If the kernel allows it and the service requests it, the reaper gives the worker its own PID namespace. The first
process there, a fork of the reaper, starts the worker and reaps orphans. It dies with the reaper, and the kernel then
kills all processes in the namespace. A process can leave its group, its session and its environment, but not its
namespace.

Otherwise processes that leave the worker's group or session, or lose their parent, become children of the reaper,
because it is a child subreaper (Linux). On other systems only the process group is killed.
"""

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
MS_NOSUID_NODEV_NOEXEC = 0b1110
MS_REC_SLAVE = 0x4000 | 0x80000
SHM = b"tasktrail-shm"
"""The name of the worker's own `/dev/shm` in its list of mounts."""
SHM_OPTIONS = b"mode=1777,size=256m"
"""The size is limited because no other bound counts the memory of files there."""
REAPER_PID = "{reaper}"
"""Stands for the reaper's process id in the worker's command."""
OUTPUT_PLACEHOLDER = "{output}"
"""Stands for the end of the pipe from which the worker reads its tree's output; -1: the reaper reads it."""
TAIL = 8192
"""Bytes of the tree's last output that are kept to explain a crash: Python's own report takes a few thousand."""


def main() -> None:
    """Start the worker, wait for its end or the end of the service, clear up, report."""
    if sys.argv[1:] == ["probe"]:
        sys.stdout.write(probe_namespace())
        return
    service, lifeline, status, alone, kept = (int(argument) for argument in sys.argv[1:6])
    inherited, private = ([int(number) for number in part.split(",") if number] for part in sys.argv[6:8])
    command = sys.argv[8:]
    for fd in (lifeline, status, *private):
        os.set_inheritable(fd, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reaper = Reaper(lifeline, status, service, kept=bool(kept))
    reaper.keep(inherited, command, alone=bool(alone) and enter_pid_namespace())


class Reaper:
    """One worker, its pipes, and the end of both."""

    def __init__(self, lifeline: int, status: int, service: int, *, kept: bool) -> None:
        self._kept = kept
        """Whether the worker reads its tree's output."""
        self._lifeline = lifeline
        self._status = status
        self._service = _watch_process(service)
        self._worker = 0
        """The worker's process id, or that of the first process in its namespace."""
        self._news = -1
        """The pipe on which that process reports how the worker ended; -1 without a namespace."""
        self._code = 0
        self._peak = 0
        self._seconds = 0.0
        self._tail = b""
        self._output, self._output_end = os.pipe()
        self._bell, bell_end = os.pipe()
        for fd in (self._output, self._bell, bell_end):
            os.set_blocking(fd, False)
        os.set_inheritable(self._output, kept)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell_end, warn_on_full_buffer=False)

    def keep(self, inherited: list[int], command: list[str], *, alone: bool) -> None:
        """Run `command` until it ends or the lifeline breaks; return when no process of the tree is left.

        alone: the next child is the first process of a PID namespace.
        """
        try:
            if alone:
                self._fork_first(inherited, command)
            else:
                self._worker = self._spawn(command)
        except OSError as error:
            self._write_status(f"exit 127 0 0\n{error}".encode())
            return
        for fd in (self._output_end, *inherited):
            os.close(fd)
        poll = select.poll()
        for fd in (self._lifeline, self._bell, self._service, *([] if self._kept else [self._output])):
            poll.register(fd, select.POLLIN)
        alive = True
        while alive:
            for fd, _ in poll.poll():
                if fd == self._lifeline:
                    alive = False
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

    def _spawn(self, command: list[str]) -> int:
        """Start the worker as our child. Returns its process id."""
        stands_for = {REAPER_PID: str(os.getpid()), OUTPUT_PLACEHOLDER: str(self._output if self._kept else -1)}
        command = [stands_for.get(part, part) for part in command]
        null = os.open(os.devnull, os.O_RDONLY)
        # The worker must start with default signal handling: ignored signals would be passed on to all that it starts.
        defaults = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)
        redirect = [
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, self._output_end, 1),
            (os.POSIX_SPAWN_DUP2, self._output_end, 2),
        ]
        worker = os.posix_spawn(command[0], command, os.environ, file_actions=redirect, setpgroup=0, setsigdef=defaults)
        os.close(null)
        return worker

    def _fork_first(self, inherited: list[int], command: list[str]) -> None:
        self._news, news_end = os.pipe()
        life, life_end = os.pipe()
        self._worker = os.fork()
        if self._worker:
            os.close(news_end)
            os.close(life)  # its other end stays open as long as this process lives
            return
        try:
            os.close(life_end)
            self._run_as_init(life, news_end, inherited, command)
        finally:
            os._exit(127)

    def _run_as_init(self, life: int, news: int, inherited: list[int], command: list[str]) -> None:
        """Start the worker, reap all processes, and report how the worker ended. All others die with this process."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if select.select([life], [], [], 0)[0]:
            return  # the reaper has already died
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _mount_own_proc()
        try:
            worker = self._spawn(command)
        except OSError as error:
            os.write(news, b"127 0 0\n")
            os.write(self._output_end, str(error).encode())
            return
        for fd in (self._output_end, *inherited):
            os.close(fd)
        while True:
            pid, code, usage = os.wait4(-1, 0)
            if pid == worker:
                seconds = usage.ru_utime + usage.ru_stime
                text = f"{os.waitstatus_to_exitcode(code)} {seconds} {usage.ru_maxrss}\n"
                os.write(news, text.encode())
                return

    def _reap_others(self) -> bool:
        """Reap adopted children that have ended. False when the worker has ended.

        The worker stays a zombie for now, so that no other process gets its number before its group is killed.
        """
        if not hasattr(os, "waitid"):  # macOS before Python 3.13, where no children are adopted
            return self._reap_ended()
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == self._worker:
                return ended is None
            os.waitpid(ended.si_pid, 0)

    def _drain(self) -> None:
        """Keep the end of the tree's output, and never let the tree block on a full pipe."""
        try:
            while data := os.read(self._output, 65536):
                self._tail = (self._tail + data)[-TAIL:]
        except BlockingIOError:
            return

    def _clear(self) -> None:
        """Kill every descendant until none is left, even if they fork meanwhile."""
        self._kill_group()
        while self._reap_ended():
            for pid in descendants(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            select.select([self._bell], [], [], 0.01)
            self._empty_bell()

    def _reap_ended(self) -> bool:
        """Reap children that have ended. False when there is no child left."""
        while True:
            try:
                pid, code, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._worker:
                ended = (os.waitstatus_to_exitcode(code), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
                self._note_end(*ended)

    def _note_end(self, code: int, seconds: float, peak: int) -> None:
        if self._news >= 0 and (fields := os.read(self._news, 256).split()):
            code, seconds, peak = int(fields[0]), float(fields[1]), int(fields[2])
        self._code, self._seconds = code, seconds
        self._peak = peak * (1 if sys.platform == "darwin" else 1024)

    def _empty_bell(self) -> None:
        try:
            os.read(self._bell, 4096)
        except BlockingIOError:
            return

    def _kill_group(self) -> None:
        try:
            if self._news >= 0:
                os.kill(self._worker, signal.SIGKILL)
            else:
                os.killpg(self._worker, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def _write_status(self, text: bytes) -> None:
        try:
            os.write(self._status, text)
        except OSError:
            return  # the service is gone, so no one reads this


def _watch_process(pid: int) -> int:
    """Open a descriptor that becomes readable when the process is gone; never, where the system has none.

    The lifeline alone would miss the end of a service that had forked: the copy keeps the pipe open.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(0)
    except (AttributeError, OSError):
        return os.pipe()[0]


def enter_pid_namespace() -> bool:
    """Make our next child the first process of a PID namespace. False where the system does not allow that.

    Without the right to do so directly, a user namespace gives it: in there our user is mapped only to itself.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWPID) == 0:
        return True
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - as below
            file.write(text)
    return True


def _mount_own_proc() -> bool:
    """Mount `/proc` and `/dev/shm` for our namespace alone, if allowed. Later mounts elsewhere stay visible."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(
        libc.unshare(CLONE_NEWNS) == 0
        and _keep_mounts_here(libc)
        and libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID_NODEV_NOEXEC, None) == 0
        and libc.mount(SHM, b"/dev/shm", b"tmpfs", MS_NOSUID_NODEV_NOEXEC, SHM_OPTIONS) == 0
    )


def _keep_mounts_here(libc: ctypes.CDLL) -> bool:
    """Keep new mounts out of other namespaces. In a chroot the root need not be a mount itself."""
    return any(
        all(libc.mount(b"none", place, None, MS_REC_SLAVE, None) == 0 for place in places)
        for places in ((b"/",), (b"/proc", b"/dev/shm"), (b"/proc", b"/dev"))
    )


def probe_namespace() -> str:
    """The features that this system allows: `namespace`, `namespace proc` (with its own `/proc`), or nothing."""
    if not enter_pid_namespace():
        return ""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _mount_own_proc() and os.path.isdir("/proc/1") else 1)  # noqa: PTH112 - as above
    return "namespace" if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) else "namespace proc"


def descendants(root: int) -> list[int]:
    """All processes below `root` now, according to `/proc`; empty where there is no `/proc`."""
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
            # The command stands in parentheses and may hold anything; the fields after it are plain.
            parents[int(name)] = int(stat[stat.rindex(b")") + 2 :].split()[1])
    family = {root}
    grown = True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in family} - family
        family |= below
        grown = bool(below)
    return list(family - {root})


if __name__ == "__main__":
    main()
