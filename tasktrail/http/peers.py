"""Which user is at the other end of a loopback connection, by the kernel's word. Linux only; elsewhere nobody knows.

The kernel is asked for the one socket whose two addresses are those of the connection, turned round, which takes
microseconds however many connections there are. Where it does not answer that, its table of sockets is read.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
_ANSWER = struct.Struct("=BBBB48xIIIII")
_NO_COOKIE = b"\xff" * 8
_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2 = 1, 4, 5
_CONNECTED = (_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2)
_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}


class Peers:
    """Asks the kernel. Belongs to one thread; close it."""

    def __init__(self) -> None:
        self._netlink = _open()
        self._number = 0
        self._proven = False
        """It has answered once: then "no such socket" means that, and not that the kernel lacks the means."""

    def close(self) -> None:
        """Hang up."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def user_of(self, connection: socket.socket) -> int | None:
        """The user id of the process that has connected; none when the kernel does not say, or it has closed since."""
        try:
            theirs, ours = connection.getpeername(), connection.getsockname()
        except OSError:  # gone already
            return None
        if self._netlink is not None:
            try:
                user = self._asked(connection.family, theirs, ours)
            except OSError:  # this kernel, or a sandbox around us, does not know the question
                self.close()
            else:
                if user is not None or self._proven:
                    return user
        return _in_table(connection.family, theirs, ours)

    def _asked(self, family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
        assert self._netlink is not None
        self._number = (self._number + 1) % 2**31
        body = _REQUEST.pack(
            family,
            socket.IPPROTO_TCP,
            0,
            0xFFFFFFFF,
            struct.pack("!H", theirs[1]),
            struct.pack("!H", ours[1]),
            socket.inet_pton(family, theirs[0]),
            socket.inet_pton(family, ours[0]),
            0,
            _NO_COOKIE,
        )
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._number, 0)
        self._netlink.send(head + body)
        while True:
            answer = self._netlink.recv(65536)
            _length, kind, _flags, number, _port = _HEADER.unpack_from(answer)
            if number != self._number:
                continue  # late, to an earlier question
            if kind == _NLMSG_ERROR:
                (failed,) = struct.unpack_from("=i", answer, _HEADER.size)
                if -failed == errno.ENOENT:
                    return None
                raise OSError(-failed, os.strerror(-failed))
            self._proven = True
            _family, state, _timer, _retransmits, *_queues, user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
            return _trusted(state, user, inode)


def _trusted(state: int, user: int, inode: int) -> int | None:
    """The user, unless the socket belongs to no process any more: the kernel then says 0, which is no root."""
    return user if inode and state in _CONNECTED else None


def _open() -> socket.socket | None:
    """A way to ask the kernel, where there is one."""
    netlink = getattr(socket, "AF_NETLINK", None)
    if netlink is None:
        return None
    with suppress(OSError):
        asking = socket.socket(netlink, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        asking.settimeout(1)
        return asking
    return None


def _in_table(family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """The same from the kernel's table of sockets.

    It is read twice: a socket that is still there the second time did belong to the user that was named the first time.
    """
    wanted = (_as_in_table(family, theirs), _as_in_table(family, ours))
    first, second = ([row for row in _rows(family) if row[:2] == wanted] for _ in range(2))
    if len(first) != 1 or len(second) != 1:
        return None
    (*_addresses, state, user, inode), again = first[0], second[0]
    return _trusted(state, user, inode) if again[4] == inode else None


def _rows(family: int) -> Iterator[tuple[str, str, int, int, int]]:
    """Local address, remote one, state, user, inode."""
    try:
        with _TABLES[socket.AddressFamily(family)].open(encoding="ascii") as table:
            for line in list(table)[1:]:
                part = line.split()
                yield part[1], part[2], int(part[3], 16), int(part[7]), int(part[9])
    except (OSError, KeyError, ValueError, IndexError):  # another system, or a table of another form
        return


def _as_in_table(family: int, address: tuple[str, int]) -> str:
    """Words of 32 bits in the machine's own order, as the kernel prints them."""
    packed = socket.inet_pton(family, address[0])
    words = (struct.unpack_from("=I", packed, place)[0] for place in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
