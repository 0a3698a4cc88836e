"""The hash chain: each record's hash covers its raw stored values, length-prefixed, and the hash before it.

It reveals any change, deletion or insertion inside the history. It cannot reveal that the end was cut off: for that,
a head has to be kept elsewhere.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TypeAlias

GENESIS = sha256(b"tasktrail log 1").digest()
_PLAIN = frozenset((str, int))

Value: TypeAlias = str | bytes | int | None
"""Text may also be given as its stored bytes, which are what the hash covers."""


def _raw(value: Value) -> bytes:
    if value is None:
        return b"-"
    raw = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b"%d" % value
    return b"%d:%b" % (len(raw), raw)


def link(previous: bytes, values: Iterable[Value]) -> bytes:
    """The hash of a record whose stored columns, in order and without the hash itself, are `values`."""
    return sha256(previous + b"".join([_raw(value) for value in values])).digest()


def link_row(previous: bytes, row: Sequence[str | int]) -> bytes:
    """The same for a row that is about to be stored, in less time: it holds only texts and numbers."""
    if _PLAIN.issuperset(map(type, row)):  # str() of a subclass may be another text, such as an enum's name
        text = "".join([f"{len(one)}:{one}" for one in map(str, row)])
        if text.isascii():  # other texts have more bytes than characters
            return sha256(previous + text.encode()).digest()
    return link(previous, row)


def checksum(values: Iterable[Value]) -> bytes:
    """Eight bytes that show whether the values of a row outside the chain are as they were written."""
    return link(b"", values)[:8]
