"""Seals as others know them: a checkpoint (C2SP tlog-checkpoint) in a note with signatures (C2SP signed-note, Ed25519).

A note is text, an empty line, and a line for each signature:

    tasktrail/4f0c…            whose log it is
    1024                       its size, in records
    dGFza3RyYWls…              the root of the tree over them, in base64
    tasks 31 bG9uZyBq…         how many tasks they tell of, and the root of the tree over those
    time 2026-11-27T12:00:00Z  when it was signed, by the clock of whoever did

    — tasktrail/4f0c… 0b1c…    the name of the key, then, in base64, four bytes of its hash and the signature
"""

import base64
import binascii
import re
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import SealUnfit

_ED25519 = b"\1"
_PRIVATE = "PRIVATE+KEY+"
_SIGNED = "— "
_SIZE, _ROOT = r"(0|[1-9][0-9]{0,18})", r"([A-Za-z0-9+/]{43}=)"
_TIME = r"([0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z)"
_BODY = re.compile(rf"(\S+)\n{_SIZE}\n{_ROOT}\ntasks {_SIZE} {_ROOT}\ntime {_TIME}\n")
_SHORT = 4
"""Bytes of a key's hash that name it."""
LONGEST = 64 * 1024
"""Bytes of a note, or of a key. Witnesses add a line each."""


class Checkpoint(NamedTuple):
    """What a seal says of a log."""

    origin: str
    size: int
    root: bytes
    tasks: int
    tasks_root: bytes
    sealed_at: str
    """RFC 3339, in UTC."""

    def text(self) -> str:
        """What is signed."""
        root, tasks_root = base64.b64encode(self.root).decode(), base64.b64encode(self.tasks_root).decode()
        return f"{self.origin}\n{self.size}\n{root}\ntasks {self.tasks} {tasks_root}\ntime {self.sealed_at}\n"


class PublicKey:
    """A key that seals are checked with.

    Args:
        text: `NAME+HASH+KEY`, as `tasktrail seal` shows it.

    Raises:
        SealUnfit: it is no such key.
    """

    def __init__(self, text: str) -> None:
        try:
            self.name, named, key = text.strip().split("+", 2)
            raw = base64.b64decode(key, validate=True)
            if raw[:1] != _ED25519 or bytes.fromhex(named) != _key_hash(self.name, raw):
                raise ValueError("its parts do not belong together")
            self._key = Ed25519PublicKey.from_public_bytes(raw[1:])
        except (ValueError, binascii.Error) as error:
            raise SealUnfit(f"This is no key of a seal: {error}", field="key") from error
        self._hash = _key_hash(self.name, raw)
        self.text = f"{self.name}+{self._hash.hex()}+{key}"

    def opened(self, note: str) -> Checkpoint:
        """What the note says, which this key has signed.

        Raises:
            SealUnfit: it is no note of a checkpoint, or this key has not signed it.
        """
        body, found, signatures = note.rpartition("\n\n")
        if not found or len(note) > LONGEST:
            raise SealUnfit("This is no signed note: it has no empty line before its signatures")
        body += "\n"
        for line in signatures.splitlines():
            name, _, signature = line.removeprefix(_SIGNED).rpartition(" ")
            if not line.startswith(_SIGNED) or name != self.name:
                continue
            raw = _bytes_of(signature)
            if raw[:_SHORT] == self._hash:
                try:
                    self._key.verify(raw[_SHORT:], body.encode())
                except InvalidSignature:
                    raise SealUnfit(f"The signature of {self.name} is none of this text") from None
                return _checkpoint(body)
        raise SealUnfit(f"The note has no signature of the key {self.name}+{self._hash.hex()}")


class PrivateKey:
    """The key that seals are signed with.

    Args:
        text: `PRIVATE+KEY+NAME+HASH+KEY`, as its file has it.

    Raises:
        SealUnfit: it is no such key.
    """

    def __init__(self, text: str) -> None:
        try:
            if not text.startswith(_PRIVATE):
                raise ValueError(f"it does not begin with {_PRIVATE}")
            name, _, key = text.strip().removeprefix(_PRIVATE).split("+", 2)
            raw = base64.b64decode(key, validate=True)
            if raw[:1] != _ED25519:
                raise ValueError("it is of another kind than Ed25519")
            self._key = Ed25519PrivateKey.from_private_bytes(raw[1:])
        except (ValueError, binascii.Error) as error:
            raise SealUnfit(f"The file holds no private key for seals: {error}", field="seal_key") from error
        public = _ED25519 + self._key.public_key().public_bytes_raw()
        self._hash = _key_hash(name, public)
        self.public = PublicKey(f"{name}+{self._hash.hex()}+{base64.b64encode(public).decode()}")
        self.text = f"{_PRIVATE}{name}+{self._hash.hex()}+{key}"

    @classmethod
    def made(cls, name: str) -> "PrivateKey":
        """A new one."""
        raw = _ED25519 + Ed25519PrivateKey.generate().private_bytes_raw()
        return cls(f"{_PRIVATE}{name}+0+{base64.b64encode(raw).decode()}")

    def sign(self, content: bytes) -> bytes:
        """The plain Ed25519 signature of some bytes."""
        return self._key.sign(content)

    def signed(self, checkpoint: Checkpoint) -> str:
        """The note."""
        text = checkpoint.text()
        signature = base64.b64encode(self._hash + self.sign(text.encode())).decode()
        return f"{text}\n{_SIGNED}{self.public.name} {signature}\n"


def _key_hash(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + public).digest()[:_SHORT]


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _checkpoint(body: str) -> Checkpoint:
    found = _BODY.fullmatch(body)
    if found is None:
        raise SealUnfit("The note is signed, and is no seal of a tasktrail log")
    origin, size, root, tasks, tasks_root, sealed_at = found.groups()
    return Checkpoint(origin, int(size), base64.b64decode(root), int(tasks), base64.b64decode(tasks_root), sealed_at)
