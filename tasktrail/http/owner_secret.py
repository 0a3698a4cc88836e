"""The secret in the data folder: a client that can read it acts at the port as the owner of the folder."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from ..actors.logger import get_logger
from ..errors import ListenFailed
from .sessions import write_private

_SHORTEST = 16
_LONGEST = 4096

logger = get_logger("tasktrail.http")


def secret_in(path: Path) -> str:
    """Return the secret in the file; a missing file is made. If it cannot be written, no client knows the secret.

    A secret that others could read is replaced. Raises `ListenFailed` for a file that holds no secret.
    """
    with suppress(FileNotFoundError):
        secret, private = _secret_and_privacy(path)
        if private:
            return secret
        logger.warning("others could read the secret of the port: it is replaced", path=str(path))
    secret = secrets.token_urlsafe(32)
    try:
        write_private(path, secret.encode() + b"\n")
    except OSError as error:
        logger.warning("the secret of the port cannot be written", path=str(path), reason=str(error))
    return secret


def _secret_and_privacy(path: Path) -> tuple[str, bool]:
    """Return the secret, and whether no other user could read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            secret = file.read(_LONGEST + 1).strip()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _useless(path, error.strerror or str(error)) from error
    if not re.fullmatch(rb"[!-~]{%d,%d}" % (_SHORTEST, _LONGEST), secret):
        raise _useless(path, f"it has to hold {_SHORTEST} to {_LONGEST} visible ASCII characters")
    return secret.decode(), not status.st_mode & 0o077 and status.st_uid in (0, os.geteuid())


def _useless(path: Path, why: str) -> ListenFailed:
    return ListenFailed(
        f"{path} holds no secret for the port: {why}", remedy="Delete the file; the next start makes a new one."
    )
