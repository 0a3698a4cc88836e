"""Handlers that try to escape, for tests/attack/hostile_handler.py. Each try returns what it got; "" means nothing."""
# ruff: noqa: PTH101, PTH115, PTH123, PTH208, SIM115 - an attacker writes no tidy code, and a try is one line

import builtins
import contextlib
import ctypes
import fcntl
import gc
import os
import pwd
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.events.reports import AttemptCheckpointed
from tasktrail.handlers import TaskContext, handler
from tasktrail.handlers.process import attempt
from tasktrail.handlers.process.channel import WorkerChannel

SECRET = "hunter2-and-no-other"
"""A secret that is planted wherever no attempt may read."""


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """The things worth attacking."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    service: int = 1
    unix: str = ""
    abstract: str = ""
    port: int = 0
    gentle: bool = False
    """Make only attempts that harm no one if they succeed."""
    lifetime: str = ""
    """The argument of `sleep` for daemons; it identifies the campaign."""


Try = Callable[[TaskContext[Targets]], object]


def attack(make: Callable[[TaskContext[Targets]], dict[str, Try]]) -> Callable[[TaskContext[Targets]], dict[str, Try]]:
    """Add the tries that a function makes."""
    MAKERS.append(make)
    return make


MAKERS: list[Callable[[TaskContext[Targets]], dict[str, Try]]] = []
_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> str:
    answer = getattr(_LIBC, name)(*arguments)
    return f"{name} answered {answer}" if answer >= 0 else ""


def _mode(path: str) -> int:
    return Path(path).stat().st_mode


def _changed(path: str, change: Callable[[], object]) -> str:
    before = os.lstat(path)
    change()
    after = os.lstat(path)
    same = (before.st_mode, before.st_uid, before.st_mtime_ns) == (after.st_mode, after.st_uid, after.st_mtime_ns)
    return "" if same else f"{path} was changed"


@attack
def reading(context: TaskContext[Targets]) -> dict[str, Try]:
    """Try to read files of others, directly and by detours."""
    tries: dict[str, Try] = {}
    for path in context.options.read:
        tries[f"read {path}"] = lambda _c, p=path: Path(p).read_bytes()[:40] or "empty"  # type: ignore[misc]
        tries[f"cat {path}"] = lambda _c, p=path: subprocess.run(["cat", p], capture_output=True, check=True).stdout[
            :40
        ]  # type: ignore[misc]
        tries[f"copy {path}"] = lambda c, p=path: shutil.copy(p, c.work_dir / "copied")  # type: ignore[misc]
        tries[f"by a link {path}"] = _by_link(path)
        tries[f"by a hard link {path}"] = _by_hard_link(path)
        tries[f"by O_PATH {path}"] = _by_o_path(path)
        tries[f"by the root {path}"] = lambda _c, p=path: Path(f"/proc/self/root{p}").read_bytes()[:40]  # type: ignore[misc]
        tries[f"by a thread {path}"] = _by_thread(path)
        tries[f"mmap {path}"] = lambda _c, p=path: os.open(p, os.O_RDONLY)  # type: ignore[misc]
        tries[f"open neither to read nor to write {path}"] = lambda _c, p=path: os.open(p, os.O_ACCMODE)  # type: ignore[misc]
    for folder in context.options.folders:
        tries[f"list {folder}"] = lambda _c, p=folder: os.listdir(p)  # type: ignore[misc]
        tries[f"walk {folder}"] = lambda _c, p=folder: list(os.walk(p))  # type: ignore[misc]
    tries["open files that were inherited"] = _inherited
    return tries


def _by_link(path: str) -> Try:
    def run(context: TaskContext[Targets]) -> object:
        link = context.work_dir / f"link-{os.urandom(4).hex()}"
        link.symlink_to(path)
        return link.read_bytes()[:40]

    return run


def _by_hard_link(path: str) -> Try:
    def run(context: TaskContext[Targets]) -> object:
        link = context.work_dir / f"hard-{os.urandom(4).hex()}"
        os.link(path, link)
        return link.read_bytes()[:40] or "empty"

    return run


def _by_o_path(path: str) -> Try:
    def run(_context: TaskContext[Targets]) -> object:
        fd = os.open(path, os.O_PATH)
        try:
            return Path(f"/proc/self/fd/{fd}").read_bytes()[:40]
        finally:
            os.close(fd)

    return run


def _by_thread(path: str) -> Try:
    def run(_context: TaskContext[Targets]) -> object:
        got: list[bytes] = []

        def read() -> None:
            with contextlib.suppress(OSError):
                got.append(Path(path).read_bytes()[:40])

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        return got

    return run


def _inherited(context: TaskContext[Targets]) -> object:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            usual = target.startswith(("/dev/", "/proc/", str(context.input_file)))
            # libffi, as some systems build it, keeps its own file open.
            if target.startswith("/") and not usual and "/libffi.so." not in target:
                found.append(target)
    return found


def _home() -> str:
    """Return the home of the service's user; the attempt's home is its own folder."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


@attack
def writing(context: TaskContext[Targets]) -> dict[str, Try]:
    """Try to change files of others."""
    tries: dict[str, Try] = {}
    for path in context.options.write:
        tries[f"append to {path}"] = lambda _c, p=path: os.write(os.open(p, os.O_WRONLY | os.O_APPEND), b"x")  # type: ignore[misc]
        tries[f"cut {path}"] = lambda _c, p=path: _did(os.truncate, p, 0)  # type: ignore[misc]
        tries[f"remove {path}"] = lambda _c, p=path: _did(os.unlink, p)  # type: ignore[misc]
        tries[f"move {path}"] = lambda c, p=path: _did(os.rename, p, c.work_dir / "moved")  # type: ignore[misc]
        tries[f"replace {path}"] = _replace(path)
        tries[f"chmod {path}"] = lambda _c, p=path: _changed(p, lambda: os.chmod(p, 0o777))  # type: ignore[misc]
        tries[f"chown {path}"] = lambda _c, p=path: _changed(p, lambda: os.chown(p, 12345, 12345))  # type: ignore[misc]
        tries[f"touch {path}"] = lambda _c, p=path: _changed(p, lambda: os.utime(p, (1, 1)))  # type: ignore[misc]
        tries[f"mark {path}"] = lambda _c, p=path: _did(os.setxattr, p, "user.mine", b"1")  # type: ignore[misc]
        tries[f"chmod by a list of rights {path}"] = _by_new_call(path)
        tries[f"bind over {path}"] = _bind(path)
    for folder in context.options.folders:
        tries[f"make a file in {folder}"] = lambda _c, p=folder: Path(p, "planted").write_text("x")  # type: ignore[misc]
        tries[f"make a folder in {folder}"] = lambda _c, p=folder: _did(os.mkdir, f"{p}/planted")  # type: ignore[misc]
        tries[f"make a link in {folder}"] = lambda _c, p=folder: _did(os.symlink, "/", f"{p}/planted")  # type: ignore[misc]
        tries[f"make a pipe in {folder}"] = lambda _c, p=folder: _did(os.mkfifo, f"{p}/planted")  # type: ignore[misc]
        tries[f"make a subvolume in {folder}"] = _subvolume(folder)
        tries[f"make a device in {folder}"] = lambda _c, p=folder: _did(
            os.mknod, f"{p}/planted", 0o20666, os.makedev(1, 1)
        )  # type: ignore[misc]
    for path in (*sys.path, "/etc", "/usr/lib", "/var/spool/cron", _home()):
        if Path(path).is_dir():
            tries[f"plant code in {path}"] = lambda _c, p=path: Path(p, "tasktrail_planted.py").write_text("x")  # type: ignore[misc]
    tries["have others wait for the own input"] = lambda c: _did(
        fcntl.fcntl, os.open(c.input_file, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK
    )
    tries["write to the own input"] = lambda c: c.input_file.open("r+b")
    tries["make the input writable"] = lambda c: _changed(str(c.input_file), lambda: c.input_file.chmod(0o666))
    return tries


def _subvolume(folder: str) -> Try:
    def run(_context: TaskContext[Targets]) -> object:
        named = ctypes.create_string_buffer(struct.pack("=q4088s", 0, b"planted"), 4096)  # as btrfs has it
        return _call("ioctl", os.open(folder, os.O_RDONLY), ctypes.c_ulong(0x5000940E), named)

    return run


def _did(call: Callable[..., object], *arguments: object) -> str:
    call(*arguments)
    return "done"


def _replace(path: str) -> Try:
    def run(context: TaskContext[Targets]) -> object:
        mine = context.work_dir / "mine"
        mine.write_text("mine")
        mine.replace(path)
        return "replaced"

    return run


def _by_new_call(path: str) -> Try:
    """Call `setxattrat` of Linux 6.13, which sets the rights of the owner, of the group and of all others."""
    rights = b"\2\0\0\0" + b"".join(bytes((tag, 0, 7, 0)) + b"\xff" * 4 for tag in (1, 4, 32))

    def run(_context: TaskContext[Targets]) -> object:
        listed = ctypes.create_string_buffer(rights, len(rights))
        asked = ctypes.addressof(listed).to_bytes(8, "little") + len(rights).to_bytes(8, "little")
        given = (ctypes.c_long(463), ctypes.c_long(-100), os.fsencode(path), ctypes.c_long(0))
        name = b"system.posix_acl_access"
        return _changed(path, lambda: _LIBC.syscall(*given, name, ctypes.c_char_p(asked), ctypes.c_long(16)))

    return run


def _bind(path: str) -> Try:
    def run(context: TaskContext[Targets]) -> object:
        mine = context.work_dir / "bound"
        mine.write_text("mine")
        return _call("mount", os.fsencode(mine), os.fsencode(path), None, 4096, None)

    return run


@attack
def processes(context: TaskContext[Targets]) -> dict[str, Try]:
    """Try to reach other processes: the service by its real number, and every visible one."""
    service = context.options.service
    others = sorted({service, os.getppid(), 1, *(int(name) for name in os.listdir("/proc") if name.isdigit())})
    others.remove(os.getpid()) if os.getpid() in others else None
    tries: dict[str, Try] = {}
    for pid in others:
        for name in ("environ", "mem", "maps", "auxv", "stack", "syscall"):
            tries[f"read {name} of {pid}"] = _read_of(pid, name)
        tries[f"write the memory of {pid}"] = lambda _c, p=pid: Path(f"/proc/{p}/mem").open("wb") and "opened"  # type: ignore[misc]
        for name in ("root", "cwd", "exe"):
            tries[f"follow {name} of {pid}"] = lambda _c, p=pid, n=name: os.readlink(f"/proc/{p}/{n}")  # type: ignore[misc]
        tries[f"open files of {pid}"] = lambda _c, p=pid: [
            os.readlink(f"/proc/{p}/fd/{n}") for n in os.listdir(f"/proc/{p}/fd")
        ]  # type: ignore[misc]
        tries[f"trace {pid}"] = lambda _c, p=pid: _call("ptrace", 16, p, 0, 0)  # type: ignore[misc]
        tries[f"seize {pid}"] = lambda _c, p=pid: _call("ptrace", 0x4206, p, 0, 0)  # type: ignore[misc]
        tries[f"read the memory of {pid}"] = lambda _c, p=pid: _call("process_vm_readv", p, 0, 0, 0, 0, 0)  # type: ignore[misc]
        tries[f"signal {pid}"] = lambda _c, p=pid: _did(os.kill, p, signal.SIGCONT)  # type: ignore[misc]
        tries[f"limit {pid}"] = lambda _c, p=pid: _did(resource.prlimit, p, resource.RLIMIT_NOFILE)  # type: ignore[misc]
        tries[f"renice {pid}"] = lambda _c, p=pid: _did(os.setpriority, os.PRIO_PROCESS, p, 5)  # type: ignore[misc]
        tries[f"bind {pid} to a processor"] = lambda _c, p=pid: _did(os.sched_setaffinity, p, os.sched_getaffinity(0))  # type: ignore[misc]
        tries[f"take a file of {pid}"] = lambda _c, p=pid: _call("syscall", 438, os.pidfd_open(p), 0, 0)  # type: ignore[misc]
        tries[f"enter the namespaces of {pid}"] = lambda _c, p=pid: _call("setns", os.pidfd_open(p), 0x20000000)  # type: ignore[misc]
    tries["renice all of the user"] = lambda _c: _did(os.setpriority, os.PRIO_USER, os.getuid(), 5)
    tries["renice the group"] = lambda _c: _did(os.setpriority, os.PRIO_PGRP, 0, 5)
    tries["a user namespace"] = lambda _c: _call("unshare", 0x10000000)
    tries["a mount namespace"] = lambda _c: _call("unshare", 0x00020000)
    tries["another root"] = lambda c: _call("chroot", os.fsencode(c.work_dir))
    tries["a new proc"] = lambda c: _call("mount", b"proc", os.fsencode(c.work_dir), b"proc", 0, None)
    tries["io_uring"] = lambda _c: _call("syscall", 425, 8, ctypes.create_string_buffer(256))
    tries["bpf"] = lambda _c: _call("syscall", 321, 0, ctypes.create_string_buffer(256), 128)
    tries["performance counters"] = lambda _c: _call("syscall", 298, ctypes.create_string_buffer(128), 0, -1, -1, 0)
    tries["user fault handling"] = lambda _c: _call("syscall", 323, 0)
    tries["a file by its handle"] = _by_handle
    tries["the clock"] = lambda _c: _did(time.clock_settime, time.CLOCK_REALTIME, time.time())
    tries["the name of the machine"] = lambda _c: _did(socket.sethostname, socket.gethostname())
    tries["what root was"] = lambda _c: _did(os.setgroups, [0])
    return tries


def _read_of(pid: int, name: str) -> Try:
    def run(_context: TaskContext[Targets]) -> object:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return "opened" if name == "mem" else file.read(40)

    return run


def _by_handle(context: TaskContext[Targets]) -> object:
    handle = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)
    mount = ctypes.c_int()
    path = os.fsencode(context.options.read[0])
    if _LIBC.name_to_handle_at(-100, path, handle, ctypes.byref(mount), 0) != 0:
        return ""
    root = os.open(context.work_dir, os.O_RDONLY)
    fd = _LIBC.open_by_handle_at(root, handle, os.O_RDONLY)
    return os.read(fd, 40) if fd >= 0 else ""


@attack
def network(context: TaskContext[Targets]) -> dict[str, Try]:
    """Try sockets of every kind, and the service's own."""
    options = context.options

    def connect(family: int, kind: int, address: Any) -> object:
        with socket.socket(family, kind) as made:
            made.settimeout(2)
            made.connect(address)
            return "connected"

    def send(family: int, address: Any) -> object:
        with socket.socket(family, socket.SOCK_DGRAM) as made:
            return made.sendto(b"x", address)

    def from_pair(address: Any) -> object:
        one, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return one.sendto(b"x", address)

    def listen() -> object:
        with socket.socket() as made:
            made.bind(("127.0.0.1", 0))
            return made.getsockname()

    stream, local = socket.SOCK_STREAM, "127.0.0.1"
    return {
        "connect to a port": lambda _c: connect(socket.AF_INET, stream, (local, options.port)),
        "connect by IPv6": lambda _c: connect(socket.AF_INET6, stream, ("::1", options.port)),
        "connect to the service's socket": lambda _c: connect(socket.AF_UNIX, stream, options.unix),
        "connect to an abstract socket": lambda _c: connect(socket.AF_UNIX, stream, "\0" + options.abstract),
        "send a datagram": lambda _c: send(socket.AF_INET, (local, options.port)),
        "send to a socket in a folder": lambda _c: send(socket.AF_UNIX, "/dev/log"),
        "send from a pair": lambda _c: from_pair("/dev/log"),
        "send from a pair to the service": lambda _c: from_pair(options.unix),
        "listen on a port": lambda _c: listen(),
        "a raw socket": lambda _c: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "a packet socket": lambda _c: socket.socket(17, socket.SOCK_RAW, 3),
        "a netlink socket": lambda _c: socket.socket(16, socket.SOCK_RAW, 0),
        "a vsock": lambda _c: socket.socket(40, stream, 0),
        "the kernel's ciphers": lambda _c: socket.socket(38, 5, 0),
        "by a tool": lambda _c: subprocess.run(
            [sys.executable, "-c", f"import socket; socket.create_connection(('{local}', {options.port}), 2)"],
            capture_output=True,
            check=True,
        ),
    }


def try_all(context: TaskContext[Targets]) -> dict[str, str]:
    """Make every try; return the name of each → what it got."""
    found = {}
    gentle = (
        "read",
        "cat",
        "copy",
        "by a link",
        "list",
        "make a file",
        "append",
        "chmod",
        "touch",
        "connect",
        "send a",
    )
    for maker in MAKERS:
        for name, attempt_it in maker(context).items():
            if context.options.gentle and not name.startswith(gentle):
                continue
            try:
                got = attempt_it(context)
            except Exception:  # noqa: BLE001 - a try that fails is what is hoped for
                got = ""
            found[name] = repr(got)[:200] if got else ""
    return found


@handler("hostile", options=Targets, needs_input=True, needs_output=True)
def hostile(context: TaskContext[Targets]) -> dict[str, Any]:
    """Try everything; return what worked."""
    found = try_all(context)
    context.output_part.write_bytes(context.input_file.read_bytes())
    got = {name: got[:60] for name, got in found.items() if got}
    return {"tries": len(found), "successes": len(got), "got": dict(list(got.items())[:200])}


@handler("honest", options=Targets, needs_input=True, needs_output=True)
def honest(context: TaskContext[Targets]) -> dict[str, Any]:
    """Do what a handler may do: use its input, its folder, its output, tools, threads, pairs of sockets, processes."""
    temp = context.temp_file("mine-")
    temp.write_bytes(context.input_file.read_bytes())
    shutil.copy(temp, context.work_dir / "copy")
    (context.work_dir / "deep" / "er").mkdir(parents=True)
    (context.work_dir / "copy").replace(context.work_dir / "deep" / "er" / "copy")
    one, other = socket.socketpair()
    one.send(b"x")
    other.recv(1)
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    said = subprocess.run(["sh", "-c", "cat deep/er/copy"], capture_output=True, check=True).stdout
    (context.work_dir / "final").write_bytes(said)
    (context.work_dir / "final").replace(context.output_part)
    assert context.output_part.read_bytes() == context.input_file.read_bytes()
    return {"folder": str(Path.cwd()), "temp": temp.parent == context.work_dir}


@handler("polluter", needs_input=False, needs_output=False)
def polluter(_context: TaskContext[Any]) -> None:
    """Leave the process as dirty as can be."""
    _pollute()


@handler("kept_polluter", needs_input=False, needs_output=False, needs_folder=False)
def kept_polluter(_context: TaskContext[Any]) -> dict[str, Any]:
    """Leave a kept process dirty for the next attempt; first return the state it was found in."""
    found = _state()
    _pollute(keep_modules=True)
    return found


@handler("witness", needs_input=False, needs_output=False)
def witness(_context: TaskContext[Any]) -> dict[str, Any]:
    """Return the state of the process."""
    return _state()


def _state() -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    return {
        "umask": mask,
        "recursion": sys.getrecursionlimit(),
        "planted": os.environ.get("PLANTED", ""),
        "path": "/planted" in sys.path,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "ignored": signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN,
        "open": builtins.open.__module__,
        "perform": attempt.perform.__name__,
        "threads": [thread.name for thread in threading.enumerate()],
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    }


def _pollute(*, keep_modules: bool = False) -> None:
    os.umask(0o777)
    os.chdir("/usr")
    os.environ["PLANTED"] = "1"
    sys.setrecursionlimit(90)
    sys.path.insert(0, "/planted")
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if not keep_modules:
        builtins.open = lambda *_: None  # type: ignore[assignment]
        attempt.perform = lambda *_, **__: None  # type: ignore[assignment]
        threading.Thread(target=time.sleep, args=(600,), daemon=True, name="left").start()


@handler("forger", options=Targets, needs_input=False, needs_output=False)
def forger(_context: TaskContext[Targets]) -> None:
    """Write nonsense into every pipe there is."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:") and int(name) > 2:
                os.write(int(name), b"\xff" * 100)
    time.sleep(600)


@handler("crammer", options=Targets, needs_input=False, needs_output=False)
def crammer(context: TaskContext[Targets]) -> None:
    """Send one checkpoint after another without waiting for answers, bypassing every limit of this process."""
    forged = AttemptCheckpointed(context.task_id, context.attempt, Checkpoint(data={"x": 100_000 * "x"}))
    channel = next(found for found in gc.get_objects() if type(found) is WorkerChannel and found._current[0])
    while True:
        channel.send(forged)


@handler("daemons", options=Targets, needs_input=False, needs_output=False)
def daemons(context: TaskContext[Targets]) -> None:
    """Start processes that try everything to survive, until stopped."""
    shapes = (
        ["setsid", "--fork", "env", "-i", "sleep", context.options.lifetime],
        ["sh", "-c", f"(env -i setsid sleep {context.options.lifetime} &) ; exit 0"],
    )
    count = 0
    while not context.should_stop():
        subprocess.run(shapes[count % 2], check=True, env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")})
        os.posix_spawn("/bin/sleep", ["sleep", context.options.lifetime], {}, setsid=True)
        count += 1
        context.progress(0, str(count))
        time.sleep(0.02 if count < 5 else 1.0)


class PathOptions(msgspec.Struct, frozen=True):
    path: str


@handler("reader", options=PathOptions, needs_input=False, needs_output=False)
def reader(context: TaskContext[PathOptions]) -> dict[str, str]:
    """Read a file that this type has no right to."""
    return {"read": Path(context.options.path).read_text()}


class SeekOptions(msgspec.Struct, frozen=True):
    where: str
    path: str


@handler("seeker", options=SeekOptions)
def seeker(context: TaskContext[SeekOptions]) -> None:
    """Look for what the author has beside the code, and an attempt has not."""
    wanted = context.options.path
    match context.options.where:
        case "file":
            Path(wanted).read_text()
        case "program":
            subprocess.run([wanted], check=True)
        case "environment":
            os.environ[wanted]
        case _:
            {"": ""}[wanted]


@handler("folderless", needs_output=False, needs_folder=False, needs_input=True)
def folderless(context: TaskContext[Any]) -> dict[str, str]:
    """Read the input, and make no temp file."""
    return {"read": Path(context.input_file).read_text()}
