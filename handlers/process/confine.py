"""What an attempt's process may reach, and how it gives up the rest: files by Landlock, calls by a filter, rights.

Everything is told by what it is granted, so that nothing has to be thought of to be refused.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...events.reports import Run
from ..contract import TaskType
from . import landlock, seccomp
from .landlock import READ, READ_FILE, RUN, USE, WRITE, WRITE_FILE, Grant
from .sandbox import Sandbox

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store", "/gnu/store", "/opt/libreoffice")
_SETTINGS = (
    *(
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "ld.so.preload",
        "alternatives",
        "localtime",
        "timezone",
        "locale.alias",
        "locale.conf",
    ),
    *("passwd", "group", "nsswitch.conf", "fonts", "libreoffice", "mime.types", "magic", "protocols", "services"),
    *("ssl/certs", "ssl/openssl.cnf", "pki/tls", "pki/ca-trust", "ca-certificates", "crypto-policies", "papersize"),
    *("OpenCL", "vulkan", "glvnd", "drirc", "libva.conf", "vdpau_wrapper.cfg", "ImageMagick-6", "ImageMagick-7"),
)
_NETWORK_SETTINGS = ("resolv.conf", "hosts", "host.conf", "gai.conf")
_OFFICE = ("/var/lib/libreoffice", "/var/spool/libreoffice", "/var/cache/fontconfig")
"""Where Debian has the extensions of LibreOffice, which does not start without them, and what is known of the fonts."""
_SYSTEM = ("/proc", "/sys/devices", "/sys/dev", "/sys/class", "/sys/bus", "/sys/fs/cgroup")
_DEVICES = ("null", "zero", "full", "random", "urandom", "dri", "kfd", "shm")
_GPUS = "nvidia"
_FONTS = (".fonts", ".local/share/fonts")
_OWN_SHM = "tasktrail-shm"
"""How the keeper names the memory file system that it mounts for its worker alone."""

_CAPABILITY_VERSION = 0x20080522
_KEPT = sum(1 << number for number in (0, 1, 2, 3, 4))
"""What root needs to work on the files of others: to own, read, write and change them. All else is given up."""


class Reach:
    """What attempts may reach in general; a worker works that out once.

    Args:
        protected: real paths that nothing but a grant of its own reaches, whatever lies around them.
    """

    def __init__(self, protected: Iterable[str]) -> None:
        self._protected = tuple(protected)
        self._covered: dict[int, list[str]] = {RUN: [], READ: []}
        """Rights → folders that have them, and all below them has."""
        self._general = list(self._carved(RUN, self._programs()))
        self._general += self._carved(READ, (f"/etc/{name}" for name in _SETTINGS))
        self._general += self._carved(READ, (*_SYSTEM, *_OFFICE))
        self._general += self._carved(READ, (str(Path.home() / name) for name in _FONTS))
        self._general += self._devices()
        self._modules = 0
        self.see_modules()

    def see_modules(self) -> None:
        """Add the folders of the packages that have been loaded since; they may load more of themselves."""
        if len(sys.modules) == self._modules:
            return
        self._modules = len(sys.modules)
        folders = {str(path) for module in list(sys.modules.values()) for path in _folders_of(module)}
        self._general += self._carved(RUN, sorted(folders))

    def grants(self, run: Run, task_type: TaskType, staging: str) -> list[Grant]:
        """What this attempt may reach. Its paths are opened when they are granted: links turned later lead nowhere."""
        own = [Grant(run.work_dir, WRITE)]
        if staging:
            own.append(Grant(staging, WRITE))
        if run.input_file:
            own += self._input(run.input_file, steady=task_type.steady_input)
        own += self._carved(RUN, task_type.reads, own=True)
        own += self._carved(WRITE | RUN, task_type.writes, own=True)
        if task_type.network:
            own += self._carved(READ, (f"/etc/{name}" for name in _NETWORK_SETTINGS), own=True)
            own += self._carved(READ, filter(None, (os.environ.get("SSL_CERT_FILE"),)), own=True)
        return [*self._general, *own]

    def _input(self, path: str, *, steady: bool) -> Iterator[Grant]:
        if steady:
            yield Grant(path, READ_FILE)
            return
        yield Grant(path, READ_FILE | WRITE_FILE | landlock.TRUNCATE)
        yield from self._carved(WRITE, [os.path.dirname(path)], own=True)  # noqa: PTH120 - it may move or remove it, too

    def _programs(self) -> Iterator[str]:
        yield from _PROGRAMS
        yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable)))  # noqa: PTH120 - texts throughout
        yield from filter(None, sys.path)
        for name in ("PATH", "LD_LIBRARY_PATH"):
            yield from filter(None, os.environ.get(name, "").split(os.pathsep))

    def _devices(self) -> Iterator[Grant]:
        names = [*_DEVICES, *(name for name in _names("/dev") if name.startswith(_GPUS))]
        for name in names:
            if name != "shm":
                yield Grant(f"/dev/{name}", USE | READ)
            elif _has_own_shm():
                yield Grant("/dev/shm", WRITE)  # noqa: S108 - it is this worker's alone

    def _carved(self, rights: int, paths: Iterable[str], *, own: bool = False) -> Iterator[Grant]:
        """The paths, without what is protected below them, or has these rights already; `own`: for one attempt only."""
        for path in paths:
            real = os.path.realpath(path)
            covered = [] if own else self._covered[rights]
            if _below(real, (*self._protected, *covered)) or not os.path.exists(real):  # noqa: PTH110 - texts throughout
                continue
            if any(_below(other, (real,)) for other in self._protected):
                names = (os.path.join(real, name) for name in _names(real))  # noqa: PTH118 - texts throughout
                yield from self._carved(rights, (name for name in names if not os.path.islink(name)), own=own)  # noqa: PTH114
            else:
                covered.append(real)
                yield Grant(real, rights)


_confined = False


def is_confined() -> bool:
    """Whether this process has given up what its attempt has no use for."""
    return _confined


def confine(sandbox: Sandbox, grants: Iterable[Grant], *, network: bool) -> None:
    """Bind this thread, and all that it starts from now on. It must be the only one. Raises OSError."""
    global _confined  # noqa: PLW0603 - it is a fact about the process
    _confined = True
    if sandbox.landlock:
        landlock.restrict(grants, sandbox.landlock, network=network)
    drop_rights()
    if sandbox.seccomp:
        seccomp.restrict(platform.machine(), network=network)


def drop_rights() -> None:
    """Give up all of root's rights but those to the files of others. Does nothing for anybody else.

    In a user namespace our user has all rights as well, but they reach no further than its own files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    rights = (ctypes.c_uint32 * 6)()
    if libc.capget(header, rights) != 0:
        raise OSError(ctypes.get_errno(), "the rights of this process cannot be told")
    kept = _KEPT if os.geteuid() == 0 else 0
    lower = rights[1] & kept
    if libc.capset(header, (ctypes.c_uint32 * 6)(lower, lower, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "the rights of this process cannot be given up")


def _folders_of(module: object) -> Iterable[str]:
    try:
        paths = getattr(module, "__path__", None)
        return [path for path in paths if isinstance(path, str)] if paths else ()
    except Exception:  # noqa: BLE001 - what stands in sys.modules may be anything
        return ()


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - texts throughout
    except OSError:
        return []


def _has_own_shm() -> bool:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return any(" /dev/shm " in line and f" {_OWN_SHM} " in line for line in file)
    except OSError:
        return False
