"""Limits what an attempt may access: by the operator's bounds and the kernel's means; all other rights are dropped.

An attempt may access what it is granted, and nothing else: Landlock limits files, a filter limits system calls, and
root's rights are dropped. The input and output paths are checked once more right before use, because links may have
changed since the command came. A link that changes between this check and the opening is not noticed. So a user who can
write into the roots should not have fewer rights than the service; see docs/explanation/untrusted-input.md.
"""

import ctypes
import errno
import os
import platform
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from ...events.errors import CONFLICT, InvalidPath
from ...events.reports import Run
from ..contract import TaskType
from ..elsewhere import Storage
from ..urls import is_url
from . import landlock, reaper, seccomp
from .landlock import READ, READ_FILE, RUN, USE, WRITE, WRITE_FILE, PathRule

SandboxMode: TypeAlias = Literal["off", "auto", "require"]


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The operator's own bounds, for every attempt of a worker. Part of the first frame to a worker."""

    mode: SandboxMode = "off"
    """Whether attempts are sandboxed: never, as far as the kernel can, or fully, or else the service does not start."""
    protected: tuple[str, ...] = ()
    """Real paths that no attempt may access, except its own folder: the data folder and others that hold secrets."""
    landlock: int = 0
    """The version of Landlock on this machine; 0: none. The executor fills in this field and `seccomp`."""
    seccomp: bool = False
    """Whether system calls can be filtered."""
    memory_limit: int = 0
    """Bytes of address space that an attempt may have at most; 0: limited only by its estimate."""
    cpu_limits: dict[str, float] = {}
    """Task type → CPU seconds for each of its attempts, instead of the type's own rule; 0: no limit."""
    input_roots: tuple[str, ...] = ()
    """Real paths and addresses below which inputs must lie; empty: any path."""
    output_roots: tuple[str, ...] = ()
    storage: Storage | None = None
    """How files elsewhere are reached; None: no root is an address."""

    @property
    def active(self) -> bool:
        """Whether attempts run in separate processes, behind whatever protection the kernel has."""
        return self.mode != "off" and (self.landlock > 0 or self.seccomp)


# --- what this machine's kernel can do ------------------------------------------------------------------------------

PR_SET_DUMPABLE = 4
_PATIENCE = 10.0


class SandboxSupport(msgspec.Struct, frozen=True, kw_only=True):
    """The protections that this machine's kernel can enforce."""

    landlock: int = 0
    """The version of the kernel's interface; 0: there is none."""
    seccomp: bool = False
    pid_namespace: bool = False
    own_proc: bool = False
    """Whether a worker sees only its own processes."""

    @property
    def whole(self) -> bool:
        """Whether the kernel can enforce all: files, network, signals and processes."""
        return self.landlock >= landlock.SCOPES and self.seccomp and self.pid_namespace


@cache
def sandbox_support() -> SandboxSupport:
    """The protections that the kernel can enforce for this user. The first call takes 30 ms; it changes nothing."""
    if sys.platform != "linux":
        return SandboxSupport()
    found = _ask_reaper()
    return SandboxSupport(
        landlock=landlock.version(),
        seccomp=seccomp.available(platform.machine()),
        pid_namespace="namespace" in found,
        own_proc="proc" in found,
    )


def _ask_reaper() -> list[str]:
    script = str(Path(reaper.__file__).resolve())
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, "probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def hide_process() -> None:
    """Keep other processes of the same user out of this one's memory, environment and open files (Linux).

    Processes of root can still access them; the sandbox of an attempt keeps them out.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with(parent: str) -> bool:
    """Have the kernel kill this process when its parent dies (Linux). False when the parent is gone already.

    Args:
        parent: its process id, as it stands in the arguments.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(reaper.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == int(parent)


# --- what an attempt's process may reach ----------------------------------------------------------------------------


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
"""Where Debian keeps the extensions of LibreOffice, which does not start without them, and the cache of fonts."""
_SYSTEM = ("/proc", "/sys/devices", "/sys/dev", "/sys/class", "/sys/bus", "/sys/fs/cgroup")
_DEVICES = ("null", "zero", "full", "random", "urandom", "dri", "kfd", "shm")
_GPUS = "nvidia"
_FONTS = (".fonts", ".local/share/fonts")
_OWN_SHM = "tasktrail-shm"
"""The reaper's name for the memory file system that it mounts for its worker alone."""

_CAPABILITY_VERSION = 0x20080522
_KEPT = sum(1 << number for number in (0, 1, 2, 3, 4))
"""The capabilities that root needs to own, read, write and change the files of others. All others are dropped."""


def _fonts_of_the_user() -> list[str]:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user that the machine does not know: a number that a container was given
        return []
    return [str(home / name) for name in _FONTS]


class Reach:
    """The paths that every attempt may access. A worker works them out once.

    Args:
        protected: real paths that only a specific grant opens, whatever grants surround them.
    """

    def __init__(self, protected: Iterable[str]) -> None:
        self._protected = tuple(protected)
        self._covered: dict[int, list[str]] = {RUN: [], READ: []}
        """Rights → folders that have them for all below."""
        self._general = list(self._carved(RUN, self._programs()))
        self._general += self._carved(READ, (f"/etc/{name}" for name in _SETTINGS))
        self._general += self._carved(READ, (*_SYSTEM, *_OFFICE))
        self._general += self._carved(READ, _fonts_of_the_user())
        self._general += self._devices()
        self._modules = 0
        self.see_modules()

    def see_modules(self) -> None:
        """Add the folders of packages loaded since the last call; they may load more of their files."""
        if len(sys.modules) == self._modules:
            return
        self._modules = len(sys.modules)
        folders = {str(path) for module in list(sys.modules.values()) for path in _folders_of(module)}
        self._general += self._carved(RUN, sorted(folders))

    def grants(self, run: Run, task_type: TaskType, staging: str) -> list[PathRule]:
        """The paths that this attempt may access. They are opened when granted: links changed later have no effect."""
        own = [PathRule(run.work_dir, WRITE)]
        if staging:
            own.append(PathRule(staging, WRITE))
        if run.input_file:
            own += self._input(run.input_file, steady=task_type.steady_input)
        used = map(str, task_type.used_up(run.output_file, run.options))
        own += [PathRule(path, READ_FILE) for path in used if os.path.isfile(path) and not os.path.islink(path)]  # noqa: PTH113, PTH114 - texts throughout
        own += self._carved(RUN, task_type.reads, own=True)
        own += self._carved(WRITE | RUN, task_type.writes, own=True)
        if task_type.network:
            own += self._carved(READ, (f"/etc/{name}" for name in _NETWORK_SETTINGS), own=True)
            own += self._carved(READ, filter(None, (os.environ.get("SSL_CERT_FILE"),)), own=True)
        return [*self._general, *own]

    def _input(self, path: str, *, steady: bool) -> Iterator[PathRule]:
        if steady:
            yield PathRule(path, READ_FILE)
            return
        yield PathRule(path, READ_FILE | WRITE_FILE | landlock.TRUNCATE)
        yield from self._carved(WRITE, [os.path.dirname(path)], own=True)  # noqa: PTH120 - it may also move or remove it

    def _programs(self) -> Iterator[str]:
        yield from _PROGRAMS
        yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable)))  # noqa: PTH120 - texts throughout
        yield from filter(None, sys.path)
        for name in ("PATH", "LD_LIBRARY_PATH"):
            yield from filter(None, os.environ.get(name, "").split(os.pathsep))

    def _devices(self) -> Iterator[PathRule]:
        names = [*_DEVICES, *(name for name in _names("/dev") if name.startswith(_GPUS))]
        for name in names:
            if name != "shm":
                yield PathRule(f"/dev/{name}", USE | READ)
            elif has_own_shm():
                yield PathRule("/dev/shm", WRITE)  # noqa: S108 - it belongs to this worker alone

    def _carved(self, rights: int, paths: Iterable[str], *, own: bool = False) -> Iterator[PathRule]:
        """The paths, without protected parts and those already covered. `own`: for one attempt only."""
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
                yield PathRule(real, rights)


_confined = False


def is_confined() -> bool:
    """Whether this process has given up the rights that its attempt does not need."""
    return _confined


def confine(sandbox: Sandbox, grants: Iterable[PathRule], *, network: bool) -> None:
    """Restrict this thread, and all that it starts from now on. It must be the only thread. Raises OSError."""
    global _confined  # noqa: PLW0603 - it is a fact about the process
    _confined = True
    if sandbox.landlock:
        landlock.restrict_paths(grants, sandbox.landlock, network=network)
    drop_rights()
    if sandbox.seccomp:
        cut = not 0 < sandbox.landlock < landlock.CUTS  # without Landlock, files are not protected anyway
        seccomp.filter_calls(platform.machine(), network=network, cut=cut)
    find_modules_unlisted()


def find_modules_unlisted() -> None:
    """Let modules be imported from a folder that cannot be listed, because the data folder lies in it.

    Python lists a folder to find a module, and takes one that it may not list for an empty one.
    """
    sys.path_hooks.insert(0, _UnlistedFolder)
    for folder in filter(_is_unlisted, [*sys.path_importer_cache]):  # those of packages, too
        del sys.path_importer_cache[folder]


class _UnlistedFolder:
    """Finds the modules of a folder by their names. Refuses a folder that can be listed, as a hook does."""

    def __init__(self, folder: str) -> None:
        if not _is_unlisted(folder):
            raise ImportError(folder)
        self._folder = folder

    def find_spec(self, name: str, _target: object = None) -> ModuleSpec | None:
        if "/" in name:  # joined with the folder, it could leave that
            return None
        path = os.path.join(self._folder, name.rpartition(".")[2])  # noqa: PTH118 - texts throughout
        for base, inside in ((os.path.join(path, "__init__"), [path]), (path, None)):  # noqa: PTH118
            for suffix in (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES):
                if os.path.isfile(base + suffix):  # noqa: PTH113
                    return spec_from_file_location(name, base + suffix, submodule_search_locations=inside)
        if not os.path.isdir(path):  # noqa: PTH112
            return None
        part = ModuleSpec(name, None, is_package=True)  # of a package without an `__init__`
        assert part.submodule_search_locations is not None
        part.submodule_search_locations.append(path)
        return part


def _is_unlisted(folder: str) -> bool:
    try:
        os.scandir(folder).close()
    except OSError as error:
        return error.errno == errno.EACCES
    return False


def drop_rights() -> None:
    """Drop all of root's capabilities except those to the files of others. No effect for other users.

    In a user namespace our user has all capabilities too, but they apply only to its own files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    rights = (ctypes.c_uint32 * 6)()
    if libc.capget(header, rights) != 0:
        raise OSError(ctypes.get_errno(), "the rights of this process cannot be read")
    kept = _KEPT if os.geteuid() == 0 else 0
    lower = rights[1] & kept
    if libc.capset(header, (ctypes.c_uint32 * 6)(lower, lower, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "the rights of this process cannot be given up")


def _folders_of(module: object) -> Iterable[str]:
    try:
        paths = getattr(module, "__path__", None)
        return [path for path in paths if isinstance(path, str)] if paths else ()
    except Exception:  # noqa: BLE001 - sys.modules may hold anything
        return ()


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - texts throughout
    except OSError:
        return []


@cache
def has_own_shm() -> bool:
    """Whether `/dev/shm` belongs to this worker alone."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return any(" /dev/shm " in line and f" {_OWN_SHM} " in line for line in file)
    except OSError:
        return False


# --- input and output -----------------------------------------------------------------------------------------------


_HIDDEN = re.compile(r"\.(tasktrail-\d+\.d|.+\.tasktrail-\d+(\.[^.]*)?)")
"""A folder or file with output that is not published yet; see `handlers.publish`."""


def check_apart(path: str, protected: Iterable[str], field: str, *, followed: bool) -> None:
    """Refuse a path among the service's own files, whatever links lead there. Raises InvalidPath.

    Args:
        path: absolute.
        protected: paths of the service's own folders, and of files with its keys.
        field: the command's field.
        followed: whether a link at the path itself is followed; publishing replaces it.
    """
    folder, name = os.path.split(path)
    real = os.path.realpath(path) if followed else os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
    hidden = next((part for part in real.split("/") if _HIDDEN.fullmatch(part)), "")
    if hidden:
        raise InvalidPath(
            f"{path!r} cannot be used: {hidden} is a hidden name that tasktrail gives to unfinished outputs",
            field=field,
            remedy="Choose another name.",
            status=CONFLICT,
        )
    own = {_identity(folder) or folder: folder for folder in protected}
    whole = real
    while real != "/":
        # Compare the folder's identity, not its name: it may be mounted twice, or its disk may ignore case. Only what
        # does not exist yet has nothing but a name.
        if inside := own.get(_identity(real) or real):
            is_file = real == whole and not os.path.isdir(inside)  # noqa: PTH112 - texts throughout
            raise InvalidPath(
                f"{path!r} {'is' if is_file else 'lies in'} {inside}, among tasktrail's own files",
                field=field,
                remedy="Use another file."
                if is_file
                else "Use one outside of the data folder, temp_dir and seals_dir.",
                status=CONFLICT,
            )
        real = os.path.dirname(real)  # noqa: PTH120 - texts throughout


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - on the way of every command
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _mode(path: str) -> int:
    """Return the mode of what is at the path; 0 if nothing is, or a loop of links on the way there."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - before every attempt
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:
            return 0
        raise


def recheck_input(run: Run, sandbox: Sandbox) -> None:
    """Refuse an input that is gone or no file any more, is the service's own, or is outside of the roots.

    Raises InvalidPath.
    """
    if not run.input_file or run.input_url:  # a fetched copy is the service's own
        return
    mode = _mode(run.input_file)
    if not mode:
        raise InvalidPath(
            f"The input {run.input_file!r} is not there any more",
            field="input_file",
            remedy="Put it back, then retry the task.",
        )
    if not stat.S_ISREG(mode):
        raise InvalidPath(f"{run.input_file!r} is no longer a regular file", field="input_file")
    check_apart(run.input_file, sandbox.protected, "input_file", followed=True)
    _check(run.input_file, sandbox.input_roots, "input_file", "input_roots")


def recheck_output(run: Run, sandbox: Sandbox) -> None:
    """Refuse an output whose folder is gone, is the service's own, or is outside of the roots. Raises InvalidPath.

    The same for the original if it is to give way, and for the folder that it is moved to.
    """
    if run.output_file and not run.output_url:
        check_apart(run.output_file, sandbox.protected, "output_file", followed=False)
        folder = os.path.dirname(run.output_file)  # noqa: PTH120
        _check(folder, sandbox.output_roots, "output_file", "output_roots")
        if not stat.S_ISDIR(_mode(folder)):
            raise InvalidPath(
                f"The folder {folder!r} of the output is not there any more",
                field="output_file",
                remedy="Create it again, then retry the task.",
            )
    if run.original != "keep":
        _check(os.path.dirname(run.input_file), sandbox.output_roots, "input_file", "output_roots")  # noqa: PTH120
    if run.original_folder:
        check_apart(run.original_folder, sandbox.protected, "original_folder", followed=True)
        _check(run.original_folder, sandbox.output_roots, "original_folder", "output_roots")


def _check(path: str, roots: tuple[str, ...], field: str, key: str) -> None:
    if not roots:
        return
    real = os.path.realpath(path)
    if not any(os.path.commonpath((real, root)) == root for root in roots if not is_url(root)):
        raise InvalidPath(
            f"{path!r} leads outside of {key} by now",
            field=field,
            remedy=f"Use a file below {' or '.join(roots)}, or have the operator add its folder to `{key}`.",
        )
