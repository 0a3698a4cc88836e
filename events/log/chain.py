"""The hash chain: each record's hash covers its raw stored values, length-prefixed, and the hash before it.

It shows any change, deletion or insertion inside the history. It cannot show a cut tail: that takes a head kept
elsewhere.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TypeAlias

GENESIS = sha256(b"tasktrail log 1").digest()
_PLAIN = frozenset((str, int))

Value: TypeAlias = str | bytes | int | None
"""Text may also come as the bytes that are stored: they are what is covered."""


def _raw(value: Value) -> bytes:
    if value is None:
        return b"-"
    raw = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b"%d" % value
    return b"%d:%b" % (len(raw), raw)


def link(previous: bytes, values: Iterable[Value]) -> bytes:
    """The hash of a record whose stored columns, in order and without the hash itself, are `values`."""
    return sha256(previous + b"".join([_raw(value) for value in values])).digest()


def link_row(previous: bytes, row: Sequence[str | int]) -> bytes:
    """The same of a row that is about to be stored, in less time: there are only texts and numbers in it."""
    if _PLAIN.issuperset(map(type, row)):  # what is shown of a text may be another one, such as the name in an enum
        text = "".join([f"{len(one)}:{one}" for one in map(str, row)])
        if text.isascii():  # a text of other letters has more bytes than characters
            return sha256(previous + text.encode()).digest()
    return link(previous, row)


def checksum(values: Iterable[Value]) -> bytes:
    """For rows outside the chain: eight bytes that show whether the values are those that were written."""
    return link(b"", values)[:8]
