"""The types of `sample_handlers`, with attempts that may share a process: in a sandbox, the process is kept.

One further type changes in that process what another attempt would get.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import sample_handlers
from msgspec.structs import replace

from tasktrail.events.reports import Run
from tasktrail.handlers import TaskContext, handler
from tasktrail.handlers.contract import declared
from tasktrail.handlers.process import channel

for _name, _value in vars(sample_handlers).items():
    if (_type := declared(_value)) is not None:
        globals()[_name] = replace(_type, needs_folder=False)


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    shape: str = ""
    path: str = ""
    task: int = 0


@handler("schemer", options=Scheme, needs_input=False, needs_output=False, needs_folder=False)
def schemer(context: TaskContext[Scheme]) -> dict[str, str]:
    """Read a file, or interfere with the channel that gives runs directly to this process."""
    scheme = context.options
    match scheme.shape:
        case "read":
            try:
                return {"read": Path(scheme.path).read_text()}
            except OSError as error:
                return {"not read": str(error)}
        case "forge and die":
            _write_everywhere(_forged(scheme))
            os._exit(5)
        case "forge for another":
            _write_everywhere(_forged(scheme))
            channel._read = _sleep
        case "swallow a part of the next":
            channel._read = _swallow
        case "close":
            for number in _descriptors("socket:"):
                with socket.socket(fileno=os.dup(number)) as end:
                    end.shutdown(socket.SHUT_RD)
        case "wait for more than ever comes":
            for number in _descriptors("socket:"):
                with socket.socket(fileno=os.dup(number)) as end:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)
        case "narrow the output":
            fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK)
            fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)
        case "share":
            Path("/dev/shm/left").mkdir()
            Path("/dev/shm/left/file").write_text("left")
        case "look for what is shared":
            return {"found": " ".join(os.listdir("/dev/shm"))}  # noqa: PTH208 - as above
        case "talk":
            return {name: _refused(call) for name, call in _TALKS.items()}
    return {}


_LIBC = ctypes.CDLL(None, use_errno=True)
_PRIVATE = 0
_TALKS: dict[str, Callable[[], object]] = {
    "shmget": lambda: _LIBC.shmget(_PRIVATE, 4096, 0o1600),
    "semget": lambda: _LIBC.semget(_PRIVATE, 1, 0o1600),
    "msgget": lambda: _LIBC.msgget(_PRIVATE, 0o1600),
    "mq_open": lambda: _LIBC.mq_open(b"/tasktrail-test", os.O_CREAT | os.O_RDWR, 0o600, None),
    "inotify": lambda: _LIBC.inotify_add_watch(_LIBC.inotify_init(), b"/", 0xFFF),
    "datagrams": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
}


def _refused(call: Callable[[], object]) -> str:
    """Return the name of the error; empty if the call succeeded."""
    try:
        done = call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return errno.errorcode[ctypes.get_errno()] if done == -1 else ""


talkative = replace(declared(schemer), name="talkative", network=True)  # type: ignore[type-var]  # it is one


def _forged(scheme: Scheme) -> bytes:
    options = {"shape": "read", "path": scheme.path}
    return channel.encode_frame(Run(scheme.task, 1, "schemer", "", "", options, None, str(Path(scheme.path).parent)))


def _write_everywhere(data: bytes) -> None:
    """Write into everything readable: a pipe's reading end can be opened again for writing."""
    for number in _descriptors("pipe:"):
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            with contextlib.suppress(OSError), open(f"/proc/self/fd/{number}", "wb", buffering=0) as pipe:  # noqa: PTH123 - a number
                pipe.write(data)
    for number in _descriptors("socket:"):
        with contextlib.suppress(OSError):
            os.write(number, data)


def _descriptors(kind: str) -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
        with contextlib.suppress(OSError):  # the descriptor of this list
            if os.readlink(f"/proc/self/fd/{name}").startswith(kind):  # noqa: PTH115 - no path
                found.append(int(name))
    return found


def _sleep(fd: int) -> bytes:  # noqa: ARG001 - as what it stands in for
    """Sleep instead of reading a run."""
    while True:
        time.sleep(600)


def _swallow(fd: int) -> bytes:
    """Read a run and drop it, once."""
    if fd not in _descriptors("socket:"):
        return os.read(fd, 4096)
    os.read(fd, 5)
    os._exit(3)
