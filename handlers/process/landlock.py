"""Landlock: the kernel's list of what a process, and all that it starts, may access. It can only be made shorter.

Plain system calls: their numbers are the same on every architecture. See landlock(7).
"""

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from typing import NamedTuple

from .seccomp import PR_SET_NO_NEW_PRIVS

CREATE, ADD_RULE, RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_OLDEST = 2
"""The first version that lets a process move its own files from folder to folder (Linux 5.19)."""
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(13, 16))
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
CUTS = 3
"""The first version that covers cutting a file without writing to it (Linux 6.2)."""
NETWORK = 4
"""The first version that covers TCP."""
SCOPES = 6
"""The first version that covers signals and abstract sockets."""

_SINCE = {REFER: 2, TRUNCATE: CUTS, IOCTL_DEV: 5}
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
USE = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
"""Rights for a device."""
WRITE = (
    READ
    | WRITE_FILE
    | TRUNCATE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
)
"""All rights for an own folder, except making devices and running what was written there."""


class PathRule(NamedTuple):
    """A path and the rights to it and all below it."""

    path: str
    rights: int


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


_LIBC = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of the kernel's interface. 0 if there is none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    found = int(_LIBC.syscall(CREATE, None, ctypes.c_size_t(0), _VERSION))
    return found if found >= _OLDEST else 0


def handled(abi: int) -> int:
    """All rights to files that this version covers."""
    return sum(1 << bit for bit in range(16) if _SINCE.get(1 << bit, 1) <= abi)


def restrict_paths(grants: Iterable[PathRule], abi: int, *, network: bool) -> None:
    """Restrict the calling thread, and what it starts from now on. Missing paths are skipped.

    Raises OSError when the kernel refuses.
    """
    rights = handled(abi)
    scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if abi >= SCOPES else 0
    tcp = BIND_TCP | CONNECT_TCP if abi >= NETWORK and not network else 0
    ruleset = _Ruleset(rights, tcp, scoped)
    size = 24 if abi >= SCOPES else 16 if abi >= NETWORK else 8
    fd = _call(CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    try:
        for grant in grants:
            _add(fd, grant, rights)
        if _LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _call(RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)


def _add(ruleset: int, grant: PathRule, rights: int) -> None:
    try:
        fd = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = grant.rights & rights
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            allowed &= _OF_FILES
        _call(ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(allowed, fd)), 0)
    finally:
        os.close(fd)


def _call(number: int, *arguments: object) -> int:
    answer = int(_LIBC.syscall(number, *arguments))
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock refused call {number}: {os.strerror(code)}")
    return answer
