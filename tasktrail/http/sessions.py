"""Sessions of browsers. The cookie holds 256 random bits; here, and in a file, is only their hash.

The file lets sessions outlive a restart. A session ends when it is logged out of, when it is too old, and as soon as
the secret or token that it began with is no longer valid.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from ..actors.logger import get_logger
from ..events.log.files import read_small

LASTS = timedelta(days=7)
MOST, MOST_OF_ONE = 1000, 100
"""Sessions at once: in all, and of one secret or token. A further one ends the oldest."""

T = TypeVar("T")

logger = get_logger("tasktrail.http")


class BrowserSession(msgspec.Struct, frozen=True):
    """A session, stored under the hash of its cookie."""

    credential: str
    """SHA-256 of the secret or token that it began with, in hex."""
    expires_at: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class Sessions:
    """All sessions. Belongs to the thread of the event loop."""

    def __init__(self, path: Path | None = None, now: Callable[[], datetime] = _now) -> None:
        """`path`: the file; without one a session ends with the service."""
        self._path = path
        self._now = now
        self._known = _read(path) if path else {}

    def begin(self, credential: str) -> str:
        """Begin a session. Returns the value of its cookie, always a fresh one, so that none can be planted."""
        value = secrets.token_urlsafe(32)
        self._tidy()
        make_room(self._known, lambda session: session.credential == credential, MOST, MOST_OF_ONE)
        self._known[session_digest(value)] = BrowserSession(credential, self._now() + LASTS)
        self._write()
        return value

    def find(self, value: str) -> BrowserSession | None:
        """Return the session that the cookie belongs to."""
        return self.of_digest(session_digest(value))

    def of_digest(self, digest: str) -> BrowserSession | None:
        """The session with this hash of its cookie, if it has not ended."""
        session = self._known.get(digest)
        return session if session is not None and session.expires_at > self._now() else None

    def end(self, value: str) -> None:
        """Log out."""
        if self._known.pop(session_digest(value), None) is not None:
            self._write()

    def keep(self, holds: Callable[[str], bool]) -> None:
        """End the sessions whose credential is no longer valid."""
        kept = {digest: session for digest, session in self._known.items() if holds(session.credential)}
        if len(kept) < len(self._known):
            self._known = kept
            self._write()

    def _tidy(self) -> None:
        now = self._now()
        self._known = {digest: session for digest, session in self._known.items() if session.expires_at > now}

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            # The event loop waits for this, so it does not wait for the disk: a lost session costs only a log-in.
            write_private(self._path, msgspec.json.encode(self._known), lasting=False)
        except OSError as error:
            reason = error.strerror or str(error)
            logger.warning("sessions cannot be written: they end with the service", reason=reason)


def make_room(known: dict[str, T], is_own: Callable[[T], bool], most: int, most_of_one: int) -> None:
    """Make room for one more: drop the owner's oldest beyond `most_of_one`, then the oldest of all beyond `most`.

    So no one can end the sessions of others as long as there are fewer than `most`.
    """
    own = [key for key, one in known.items() if is_own(one)]
    for key in own[: max(0, len(own) + 1 - most_of_one)]:
        del known[key]
    while len(known) >= most:
        del known[next(iter(known))]


def csrf_of(value: str) -> str:
    """Return the token that the forms of the session have to carry."""
    return sha256(b"csrf:" + value.encode()).hexdigest()


def session_digest(value: str) -> str:
    """Return the hash under which a session is stored."""
    return sha256(value.encode("utf-8", "replace")).hexdigest()


def _read(path: Path) -> dict[str, BrowserSession]:
    """Return the sessions in the file; none if it cannot be read, which costs only a log-in."""
    try:
        return msgspec.json.decode(read_small(path), type=dict[str, BrowserSession])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("sessions cannot be read: browsers have to log in again", reason=str(error))
        return {}


def write_private(path: Path, content: bytes, *, lasting: bool = True) -> None:
    """Write a file for the owner only, whole or not at all. `lasting`: afterwards it survives a power cut."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.unlink(missing_ok=True)
    try:
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if lasting:
                os.fsync(descriptor)
        making.replace(path)
    except OSError:
        with suppress(OSError):
            making.unlink(missing_ok=True)
        raise
