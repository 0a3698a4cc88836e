"""Seals in a standard form: a checkpoint (C2SP tlog-checkpoint) in a signed note (C2SP signed-note, Ed25519).

A note is text, an empty line, and a line for each signature:

    tasktrail/4f0c…            whose log it is
    1024                       its size, in records
    dGFza3RyYWls…              the root of the tree over them, in base64
    tasks 31 bG9uZyBq…         the number of its tasks, and the root of the tree over them
    time 2026-11-27T12:00:00Z  when it was signed, by the signer's clock

    — tasktrail/4f0c… 0b1c…    the name of the key, then, in base64, four bytes of its hash and the signature
    — witness.example/1 9d41…  a witness (C2SP tlog-cosignature); before the signature, eight bytes of its own time
"""

import base64
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import SealUnfit

_ED25519, _COSIGNATURE = b"\1", b"\4"
_PRIVATE = "PRIVATE+KEY+"
_SIGNED = "— "
_SIZE, _ROOT = r"(0|[1-9][0-9]{0,18})", r"([A-Za-z0-9+/]{43}=)"
_TIME = r"([0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z)"
_BODY = re.compile(rf"(\S+)\n{_SIZE}\n{_ROOT}\ntasks {_SIZE} {_ROOT}\ntime {_TIME}\n")
_NOT_SIGNED = (
    "See whether the key is the witness's. If it is, the file was changed after the witness had signed: keep it as "
    "evidence, outside the folder, and put a copy that was kept elsewhere in its place. The newest seal is signed "
    "again with `tasktrail seal`. This alone does not mean that the log was changed."
)
SEALS_KEY = (
    "Name the file of a key, or the key itself: NAME+HASH+KEY, as `tasktrail seal` shows it. If the file should have "
    "it, put a copy that was kept elsewhere in its place."
)
WITNESS_KEY = "Name the file of a key, or the key itself: NAME+HASH+KEY, as the operator of the witness publishes it."
_KINDS = {_ED25519: "the key of a log", _COSIGNATURE: "the key of a witness"}
_SHORT = 4
"""Bytes of a key's hash that name it."""
_TIMESTAMP = 8
"""Bytes of the time in the signature of a witness."""
LONGEST_NOTE = 64 * 1024
"""The most bytes of a note, or of a key. Each witness adds a line."""


class LogCheckpoint(NamedTuple):
    """The state of a log that a seal states."""

    origin: str
    size: int
    root: bytes
    tasks: int
    tasks_root: bytes
    sealed_at: str
    """RFC 3339, in UTC."""

    def text(self) -> str:
        """The text that is signed."""
        root, tasks_root = base64.b64encode(self.root).decode(), base64.b64encode(self.tasks_root).decode()
        return f"{self.origin}\n{self.size}\n{root}\ntasks {self.tasks} {tasks_root}\ntime {self.sealed_at}\n"


class PublicKey:
    """A key with which seals are checked.

    Args:
        text: `NAME+HASH+KEY`, as `tasktrail seal` shows it.

    Raises:
        SealUnfit: the text is not such a key.
    """

    def __init__(self, text: str) -> None:
        try:
            self.name, self._hash, self._key = _verifier(text, _ED25519)
        except ValueError as error:
            raise SealUnfit(f"This is not the key of a seal: {error}", field="key", remedy=SEALS_KEY) from error
        self.text = _as_text(self.name, self._hash, _ED25519, self._key)

    def opened(self, note: str) -> LogCheckpoint:
        """The checkpoint in a note that this key has signed.

        Raises:
            SealUnfit: it is not a note of a checkpoint, this key has not signed it, or it names another log than the
                key. Witnesses tell logs apart by that name: under two of them, each would sign two histories.
        """
        body, lines = _parts(note)
        for name, raw in lines:
            if (name, raw[:_SHORT]) == (self.name, self._hash):
                if not _fits(self._key, raw[_SHORT:], body.encode()):
                    raise SealUnfit(f"The signature of {self.name} does not match this text")
                return self._own(_checkpoint(body))
        raise SealUnfit(f"The note has no signature of the key {self.name}+{self._hash.hex()}")

    def _own(self, checkpoint: LogCheckpoint) -> LogCheckpoint:
        if checkpoint.origin != self.name:
            raise SealUnfit(f"This is the seal of another log, {checkpoint.origin!r}, and the key is for {self.name}")
        return checkpoint


class WitnessKey:
    """A key with which the signatures of a witness are checked (C2SP tlog-cosignature, Ed25519).

    Args:
        text: `NAME+HASH+KEY`, as the operator of the witness publishes it.

    Raises:
        SealUnfit: the text is not such a key.
    """

    def __init__(self, text: str) -> None:
        try:
            self.name, self._hash, self._key = _verifier(text, _COSIGNATURE)
        except ValueError as error:
            raise SealUnfit(f"This is not the key of a witness: {error}", field="key", remedy=WITNESS_KEY) from error
        self.text = _as_text(self.name, self._hash, _COSIGNATURE, self._key)

    def signed_at(self, note: str) -> str:
        """When the witness signed the note, by its own clock, as RFC 3339 in UTC. Empty: it has not signed.

        A signature with the time 0 does not count: in other kinds of cosignatures it means that the witness does not
        say that it has seen no larger log.

        Raises:
            SealUnfit: a signature in its name does not belong to this text, or has no time.
        """
        body, lines = _parts(note)
        found = [raw[_SHORT:] for name, raw in lines if (name, raw[:_SHORT]) == (self.name, self._hash)]
        for raw in found:
            seconds = int.from_bytes(raw[:_TIMESTAMP])
            if seconds and _fits(self._key, raw[_TIMESTAMP:], f"cosignature/v1\ntime {seconds}\n{body}".encode()):
                try:
                    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
                except (OSError, OverflowError, ValueError):
                    continue
        if found:
            raise SealUnfit(
                f"The signature of the witness {self.name} does not match this text, or has no time", remedy=_NOT_SIGNED
            )
        return ""

    def added(self, note: str, answer: str) -> str:
        """The note with the signature of this witness from its answer, which replaces its earlier ones.

        Raises:
            SealUnfit: no signature in the answer belongs to this text.
        """
        body, lines = _parts(note)
        others = [line for line in lines if (line[0], line[1][:_SHORT]) != (self.name, self._hash)]
        for line in _signatures(answer):
            signed = _note(body, [*others, line])
            if (line[0], line[1][:_SHORT]) == (self.name, self._hash) and self.signed_at(signed):
                return signed
        raise SealUnfit(f"There is no signature of the key {self.name}+{self._hash.hex()}")


class PrivateKey:
    """The key with which seals are signed.

    Args:
        text: `PRIVATE+KEY+NAME+HASH+KEY`, as its file has it.

    Raises:
        SealUnfit: the text is not such a key.
    """

    def __init__(self, text: str) -> None:
        try:
            if not text.startswith(_PRIVATE):
                raise ValueError(f"it does not begin with {_PRIVATE}")
            name, _, key = (*text.strip().removeprefix(_PRIVATE).split("+", 2), "", "")[:3]
            raw = _bytes_of(key)
            if not raw:
                raise ValueError(f"it does not have the form {_PRIVATE}NAME+HASH+KEY")
            if raw[:1] != _ED25519:
                raise ValueError("it is of another kind than Ed25519")
            self._key = Ed25519PrivateKey.from_private_bytes(raw[1:])
        except ValueError as error:
            raise SealUnfit(f"The file holds no private key for seals: {error}", field="seal_key") from error
        public = _ED25519 + self._key.public_key().public_bytes_raw()
        self._hash = _key_hash(name, public)
        self.public = PublicKey(f"{name}+{self._hash.hex()}+{base64.b64encode(public).decode()}")
        self.text = f"{_PRIVATE}{name}+{self._hash.hex()}+{key}"

    @classmethod
    def made(cls, name: str) -> "PrivateKey":
        """A new key."""
        raw = _ED25519 + Ed25519PrivateKey.generate().private_bytes_raw()
        return cls(f"{_PRIVATE}{name}+0+{base64.b64encode(raw).decode()}")

    def sign(self, content: bytes) -> bytes:
        """The plain Ed25519 signature of `content`."""
        return self._key.sign(content)

    def signed(self, checkpoint: LogCheckpoint) -> str:
        """The signed note of a checkpoint."""
        text = checkpoint.text()
        return _note(text, [(self.public.name, self._hash + self.sign(text.encode()))])


def _key_hash(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + public).digest()[:_SHORT]


def _verifier(text: str, algorithm: bytes) -> tuple[str, bytes, Ed25519PublicKey]:
    """The name, the hash and the key of `NAME+HASH+KEY`. Raises `ValueError`."""
    name, hashed, key = (*text.strip().split("+", 2), "", "")[:3]
    raw = _bytes_of(key)
    if not raw:
        raise ValueError("it does not have the form NAME+HASH+KEY")
    if raw[:1] != algorithm:
        raise ValueError(
            f"it is {_KINDS.get(raw[:1], f'of the kind {raw[0]}, and {algorithm[0]} (Ed25519) is needed')}"
        )
    if hashed.lower() != _key_hash(name, raw).hex():
        raise ValueError("its parts do not belong together")
    return name, _key_hash(name, raw), Ed25519PublicKey.from_public_bytes(raw[1:])


def _as_text(name: str, short: bytes, algorithm: bytes, key: Ed25519PublicKey) -> str:
    return f"{name}+{short.hex()}+{base64.b64encode(algorithm + key.public_bytes_raw()).decode()}"


def _fits(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


_Line: TypeAlias = tuple[str, bytes]
"""The name of a key; the first bytes of its hash, then its signature."""


def _parts(note: str) -> tuple[str, list[_Line]]:
    """The signed text, and the signatures. Raises `SealUnfit`."""
    if "\r" in note:
        raise SealUnfit("The ends of its lines were changed: get the file once more, byte by byte")
    body, found, signatures = note.rpartition("\n\n")
    if not found or len(note) > LONGEST_NOTE:
        raise SealUnfit("This is no signed note: it has no empty line before its signatures")
    text, lines = f"{body}\n", _signatures(signatures)
    if note != _note(text, lines) or any(len(raw) <= _SHORT for _name, raw in lines):
        raise SealUnfit("Its signatures are not written as those of a note are: get the file once more, byte by byte")
    return text, lines


def _signatures(text: str) -> list[_Line]:
    found = []
    for line in text.split("\n"):
        name, _, signature = line.removeprefix(_SIGNED).rpartition(" ")
        if line.startswith(_SIGNED) and name:
            found.append((name, _bytes_of(signature)))
    return found


def _note(body: str, lines: Iterable[_Line]) -> str:
    return body + "\n" + "".join(f"{_SIGNED}{name} {base64.b64encode(raw).decode()}\n" for name, raw in lines)


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _checkpoint(body: str) -> LogCheckpoint:
    found = _BODY.fullmatch(body)
    if found is None:
        raise SealUnfit("The note is signed, but it is no seal of a tasktrail log")
    origin, size, root, tasks, tasks_root, sealed_at = found.groups()
    return LogCheckpoint(origin, int(size), base64.b64decode(root), int(tasks), base64.b64decode(tasks_root), sealed_at)
