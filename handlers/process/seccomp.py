"""A filter of system calls for attempts: no network, no other processes, nothing that changes the machine.

A refused call fails with EACCES, like a missing right. Eleven kinds need an explanation:

* `chmod`, `chown` and `utime` do nothing and report success. Landlock does not cover them, and a filter cannot see
  which file is meant. Honest code calls them on its own files in passing (`shutil.copy`).
* `utime` by name to the present time is refused: `Path.touch` takes its success for a proof that the file exists.
* Calls that set attributes, access lists and flags of files report that they are not supported, for the same reason.
* Unix sockets can be made in pairs, or to listen on, but not connected: the service listens on one.
* Limits, priority, processors and pages can be set only for the attempt's own process: another process of the same user
  may be the service. Programs that it starts, and threads, name themselves as 0.
* Objects that System V and POSIX share between processes by a number or a name outlive their maker, and no file's
  rights protect them. `inotify` reveals the names in folders that may not be read.
* A file cannot be opened with access mode 3, neither for reading nor for writing: Landlock then asks for no right at
  all. Such an open file can still be leased, and opening a device such as a watchdog starts it.
* Nothing is leased: whoever then opens the file waits, up to 45 seconds.
* `ioctl` makes no subvolumes and no copies of them: Landlock takes a folder that is open for reading as harmless.
* `clone3` and `openat2` report that they do not exist, because a filter cannot see their flags; the C library then uses
  `clone` and `openat`.
* So do calls that are newer than this file: one of them might do by another number what is refused here.

Run as a script, `python seccomp.py PROGRAM ARGUMENT…`, it starts a program for which every `access` check for writing
fails; writing itself is not restricted. LibreOffice checks /tmp that way, and then puts its socket elsewhere.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from functools import cache

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_UNKNOWN = 470
"""The first number of a call not covered here. Those below it, up to Linux 6.17, are refused or harmless."""
_REFUSED = """
ptrace 101 117; process_vm_readv 310 270; process_vm_writev 311 271; process_madvise 440 440; kcmp 312 272;
pidfd_getfd 438 438; bpf 321 280; perf_event_open 298 241; mount 165 40; umount2 166 39; move_mount 429 429;
open_tree 428 428; fsopen 430 430; fsconfig 431 431; fsmount 432 432; fspick 433 433; mount_setattr 442 442;
pivot_root 155 41; chroot 161 51; unshare 272 97; setns 308 268; keyctl 250 219; add_key 248 217; request_key 249 218;
userfaultfd 323 282; io_uring_setup 425 425; io_uring_enter 426 426; io_uring_register 427 427; kexec_load 246 104;
kexec_file_load 320 294; init_module 175 105; finit_module 313 273; delete_module 176 106; reboot 169 142;
swapon 167 224; swapoff 168 225; settimeofday 164 170; clock_settime 227 112; adjtimex 159 171; clock_adjtime 305 266;
acct 163 89; quotactl 179 60; quotactl_fd 443 443; sethostname 170 161; setdomainname 171 162; iopl 172 -1;
ioperm 173 -1; modify_ldt 154 -1; open_by_handle_at 304 265; syslog 103 116; fanotify_init 300 262;
process_mrelease 448 448; vhangup 153 58; shmget 29 194; shmat 30 196; shmctl 31 195; semget 64 190; semop 65 193;
semctl 66 191; semtimedop 220 192; msgget 68 186; msgsnd 69 189; msgrcv 70 188; msgctl 71 187; mq_open 240 180;
mq_unlink 241 181; inotify_add_watch 254 27; open_tree_attr 467 467
"""
_NOT_SUPPORTED = """
setxattr 188 5; lsetxattr 189 6; fsetxattr 190 7; removexattr 197 14; lremovexattr 198 15; fremovexattr 199 16;
setxattrat 463 463; removexattrat 466 466; file_setattr 469 469
"""
_DO_NOTHING = """
chmod 90 -1; fchmod 91 52; fchmodat 268 53; fchmodat2 452 452; chown 92 -1; fchown 93 55; lchown 94 -1;
fchownat 260 54
"""
_TIMES = """
utime 132 -1 0 1; utimes 235 -1 0 1; futimesat 261 -1 1 2; utimensat 280 88 1 2
"""
"""Calls that set the times of a file, and the places of its name and of the times, which are null for the present."""
_LOOKED_AT = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "open": (2, -1),
    "openat": (257, 56),
    "openat2": (437, 437),
    "truncate": (76, 45),
    "fcntl": (72, 25),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "sendto": (44, 206),
    "ioctl": (16, 29),
}
_OF_ITSELF = """
prlimit64 302 261 0; sched_setparam 142 118 0; sched_setscheduler 144 119 0; sched_setaffinity 203 122 0;
sched_setattr 314 274 0; migrate_pages 256 238 0; move_pages 279 239 0; setpriority 141 140 1 0 0;
ioprio_set 251 30 1 0 1
"""
"""Calls that may affect only the caller: the place of the argument that names the target. Where another argument says
what kind of number that is: its place, and its value for a process."""
_ACCESS_CALLS = (((21, -1), 1), ((269, 48), 2), ((439, 439), 2))
"""`access`, `faccessat` and `faccessat2`, and the place of their argument that says which access is asked for."""
_NEW_NAMESPACES = 0x7E020000
_OF_FILES = (
    *(0x40086602, 0x40046602, 0x401C5820, 0x40047211, 0x40087602, 0x40086604, 0x40806685),
    *(0x800C6613, 0xC0406618, 0x40186F04),
)
"""Requests by which `ioctl` changes even what is open for reading: flags in four forms, version in two, verity, the
encryption of a folder, the removal of the user's key for encrypted folders, which locks them all, and OCFS2's copy of a
file, which names both files by their paths."""
_OF_SUBVOLUMES = (0x9400, 0xBC00)
"""The kinds of requests of btrfs and bcachefs, which make, copy and remove subvolumes in any folder that is open."""
_COPIES = (0x40049409, 0x4020940D, 0xC0189436)
"""Those of btrfs that other file systems have as well: to share the bytes of two files, of which one is written."""
_KIND_OF_REQUEST = 0xFF00
_ACCESS_MODE, _CUT = 3, 0x200
_LEASES = (1024, 1026, 1040)
"""Commands of `fcntl`: a lease, a watch on a folder, and a lease as those of file servers (Linux 6.19)."""
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _SEQPACKET = 1, 5
_TYPE_BITS = 0xF
"""The other bits of a socket's type are flags."""

_LOAD, _EQUAL, _ANY_OF, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_SECCOMP = (317, 277)
_GET_ACTION_AVAIL = 2
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
_MODE_FILTER = 2

Instruction = tuple[int, int, int, int]
_ITSELF: Instruction = (_EQUAL, 1, 0, 0x7FFFFFFF)
"""A placeholder in the filter, for a comparison with the number of the restricted process."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def available(machine: str) -> bool:
    """Whether a filter is known for this kind of machine, and can be set."""
    if sys.platform != "linux" or machine not in _ARCHITECTURES or sys.byteorder != "little":
        return False
    number = _SECCOMP[list(_ARCHITECTURES).index(machine)]
    action = ctypes.c_uint32(_ERRNO)
    return int(_LIBC.syscall(number, _GET_ACTION_AVAIL, 0, ctypes.byref(action))) == 0


def program(machine: str, *, network: bool, cut: bool = True) -> list[Instruction]:
    """The filter, as the kernel reads it: (code, jump when true, jump when false, value).

    Args:
        machine: the architecture.
        network: whether there are network sockets.
        cut: whether a file may be cut by its path, or when it is opened for reading: Landlock guards that from version
            3 on.
    """
    column = list(_ARCHITECTURES).index(machine)
    found: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        _refuse(errno.EACCES),
        (_LOAD, 0, 0, _NR),
        (_AT_LEAST, 0, 1, _X32),
        _refuse(errno.EACCES),
        (_AT_LEAST, 0, 1, _UNKNOWN),
        _refuse(errno.ENOSYS),
    ]
    for table, code in ((_REFUSED, errno.EACCES), (_NOT_SUPPORTED, errno.EOPNOTSUPP), (_DO_NOTHING, 0)):
        for entry in table.split(";"):
            found += _when(int(entry.split()[1 + column]), [_refuse(code)])
    for entry in _TIMES.split(";"):
        *numbers, whose, times = [int(number) for number in entry.split()[1:]]
        by_name = [*_unless_null(whose, 1), _refuse(0)]
        to_present = [*_unless_null(times, 1), _refuse(errno.EACCES)]
        found += _when(numbers[column], [*by_name, *to_present, _refuse(0)])
    looked_at = {name: numbers[column] for name, numbers in _LOOKED_AT.items()}
    found += _when(
        looked_at["clone"], [*_argument(0), (_ANY_OF, 0, 1, _NEW_NAMESPACES), _refuse(errno.EACCES), _allow()]
    )
    found += _when(looked_at["clone3"], [_refuse(errno.ENOSYS)])
    found += _when(looked_at["openat2"], [_refuse(errno.ENOSYS)])
    for name, place in (("open", 1), ("openat", 2)):
        found += _when(looked_at[name], [*_argument(place), *_opened(cut=cut), _allow()])
    if not cut:
        found += _when(looked_at["truncate"], [_refuse(errno.EACCES)])
    found += _when(looked_at["fcntl"], [*_argument(1), *_each(_LEASES, _refuse(errno.EACCES)), _allow()])
    requests = [*_each(_OF_FILES, _refuse(errno.ENOTTY)), *_each(_COPIES, _allow())]
    kinds = [(_AND, 0, 0, _KIND_OF_REQUEST), *_each(_OF_SUBVOLUMES, _refuse(errno.ENOTTY))]
    found += _when(looked_at["ioctl"], [*_argument(1), *requests, *kinds, _allow()])
    for entry in _OF_ITSELF.split(";"):
        *numbers, whom = [int(number) for number in entry.split()[1:4]]
        kind = [int(number) for number in entry.split()[4:]]
        of_process = [*_argument(kind[0]), *_only(kind[1:])] if kind else []
        itself = [*_argument(whom), (_EQUAL, 2, 0, 0), _ITSELF, _refuse(errno.EACCES)]
        found += _when(numbers[column], [*of_process, *itself, _allow()])
    found += _sockets(looked_at, network=network)
    return [*found, _allow()]


@cache
def _packed(machine: str, *, network: bool, cut: bool) -> bytes:
    return _bytes_of(program(machine, network=network, cut=cut))


def _bytes_of(instructions: Iterable[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def filter_calls(machine: str, *, network: bool, cut: bool = True) -> None:
    """Restrict the calling thread, and what it starts from now on; see `program`. Raises OSError if it is refused."""
    code, jump, over, _ = _ITSELF
    bound = _bytes_of([(code, jump, over, os.getpid())])
    _set(_packed(machine, network=network, cut=cut).replace(_bytes_of([_ITSELF]), bound))


def refuse_access_checks(machine: str) -> list[Instruction]:
    """A filter that answers no to every question whether something may be written."""
    column = list(_ARCHITECTURES).index(machine)
    found: list[Instruction] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), _allow()]
    found.append((_LOAD, 0, 0, _NR))
    for numbers, place in _ACCESS_CALLS:
        if numbers[column] >= 0:
            asks = [*_argument(place), (_EQUAL, 0, 1, os.W_OK), _refuse(errno.EACCES), _allow()]
            found += _when(numbers[column], asks)
    return [*found, _allow()]


def _set(code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _LIBC.prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filters), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the filter of system calls was refused: {os.strerror(number)}")


def _sockets(numbers: dict[str, int], *, network: bool) -> list[Instruction]:
    stream = [*_argument(1), (_AND, 0, 0, _TYPE_BITS)]
    # Not datagram sockets: they can send to any socket that has a name.
    pairs = _when(numbers["socketpair"], [*stream, *_only((_STREAM, _SEQPACKET)), _allow()])
    if network:
        return [*_when(numbers["socket"], [*_argument(0), *_only((_INET, _INET6, _NETLINK)), _allow()]), *pairs]
    return [
        *_when(numbers["socket"], [*_argument(0), *_only((_UNIX,)), *stream, *_only((_STREAM,)), _allow()]),
        *pairs,
        *_when(numbers["connect"], [_refuse(errno.EACCES)]),
        # Only with an address: on a socket of a pair, `send` has none.
        *_when(
            numbers["sendto"],
            [
                *_argument(4),
                (_EQUAL, 0, 2, 0),
                *_argument(4, high=True),
                (_EQUAL, 1, 0, 0),
                _refuse(errno.EACCES),
                _allow(),
            ],
        ),
    ]


def _when(number: int, block: list[Instruction]) -> list[Instruction]:
    """The block for this system call; it must return. If it is skipped, the number is still loaded.

    A negative number stands for a call that the architecture does not have.
    """
    return [(_EQUAL, 0, len(block), number), *block] if number >= 0 else []


def _unless_null(place: int, over: int) -> list[Instruction]:
    """Skip as many instructions if the argument, a pointer, is not null."""
    return [*_argument(place), (_EQUAL, 0, over + 2, 0), *_argument(place, high=True), (_EQUAL, 0, over, 0)]


def _opened(*, cut: bool) -> list[Instruction]:
    """Refuse flags of `open`: access mode 3, and without `cut` to cut a file that is opened for reading."""
    refused = [(_AND, 0, 0, _ACCESS_MODE | _CUT), *_each((_ACCESS_MODE, _ACCESS_MODE | _CUT), _refuse(errno.EACCES))]
    return refused if cut else [*refused, *_each((_CUT | os.O_RDONLY,), _refuse(errno.EACCES))]


def _each(values: Iterable[int], answer: Instruction) -> list[Instruction]:
    """Give this answer if the loaded value is one of these."""
    return [step for value in values for step in ((_EQUAL, 0, 1, value), answer)]


def _only(values: Iterable[int]) -> list[Instruction]:
    """Refuse unless the loaded value is one of these."""
    values = list(values)
    jumps = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [*jumps, _refuse(errno.EACCES)]


def _argument(place: int, *, high: bool = False) -> list[Instruction]:
    """Load the lower, or higher, half of an argument."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * place + 4 * high)]


def _refuse(code: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


def _allow() -> Instruction:
    return (_RETURN, 0, 0, _ALLOW)


if __name__ == "__main__":
    if available(platform.machine()):
        _set(_bytes_of(refuse_access_checks(platform.machine())))
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted
