"""Who may use the port: the service's own user and root, by the kernel's word; and whoever has the secret from DATA.

A port of this machine can be reached by everybody on it, so a connection says nothing by itself. The Unix socket is
guarded by its permissions and needs none of this.
"""

import os
import re
import secrets
import socket
from contextlib import suppress
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from ..actors.logger import get_logger
from ..errors import ListenFailed
from .peers import Peers

_SHORTEST = 16
_LONGEST = 4096
_SCHEME = b"bearer"

logger = get_logger("tasktrail.http")


class Access:
    """Belongs to the thread of the event loop; close it."""

    def __init__(self, token: str = "") -> None:
        """`token`: what a stranger has to show; nothing does when it is empty."""
        self._digest = sha256(token.encode()).digest() if token else None
        self._peers = Peers()
        self._users = {0, os.geteuid()}

    def knows(self, connection: socket.socket) -> bool:
        """Whether it comes from the service's own user or from root."""
        return self._peers.user_of(connection) in self._users

    def takes(self, authorization: bytes) -> bool:
        """Whether the header `Authorization` shows the secret. How far a wrong one is right cannot be measured."""
        scheme, _, shown = authorization.partition(b" ")
        if self._digest is None or scheme.lower() != _SCHEME:
            return False
        return compare_digest(sha256(shown.strip(b" ")).digest(), self._digest)

    def close(self) -> None:
        """Let go of what the kernel is asked through."""
        self._peers.close()


def token_in(path: Path) -> str:
    """The secret in the file, which is made when there is none; empty when it cannot be made, on a full disk say.

    One that others could read is replaced. Raises `ListenFailed` for a file that holds no secret.
    """
    with suppress(FileNotFoundError):
        token, private = _read(path)
        if private:
            return token
        logger.warning("others could read the secret of the port: it is replaced", path=str(path))
    try:
        return _make(path)
    except OSError as error:
        logger.warning("the secret of the port cannot be written: none is taken", path=str(path), reason=str(error))
        return ""


def _read(path: Path) -> tuple[str, bool]:
    """The token, and whether nobody else can have read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            token = file.read(_LONGEST + 1).strip()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _useless(path, error.strerror or str(error)) from error
    if not re.fullmatch(rb"[!-~]{%d,%d}" % (_SHORTEST, _LONGEST), token):
        raise _useless(path, f"it has to hold {_SHORTEST} to {_LONGEST} visible ASCII characters")
    return token.decode(), not status.st_mode & 0o077 and status.st_uid in (0, os.geteuid())


def _useless(path: Path, why: str) -> ListenFailed:
    return ListenFailed(
        f"{path} holds no secret for the port: {why}", remedy="Delete the file; the next start makes a new one."
    )


def _make(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.unlink(missing_ok=True)
    try:
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(descriptor)
        making.replace(path)
    except OSError:
        with suppress(OSError):
            making.unlink(missing_ok=True)
        raise
    return token
