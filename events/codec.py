"""Bytes ↔ events: the only file that knows the stored form.

The payload is JSON, so that an auditor can read it with any SQLite tool; the tag stands in its own column. New fields
have defaults; an older shape is lifted by a pure function in `UPCASTS`, before decoding.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from .errors import LogCorrupt, LogTooNew
from .recorded import EVENT_TAGS, Event

_CLASSES: dict[str, type[Any]] = {tag: cls for cls, tag in EVENT_TAGS.items()}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {tag: msgspec.json.Decoder(cls) for tag, cls in _CLASSES.items()}
_ENCODER = msgspec.json.Encoder(order="deterministic")

UPCASTS: dict[str, Callable[[bytes], bytes]] = {}
"""Tag → function from an older stored shape to today's. Empty until a released shape has changed."""


def encode(event: Event) -> tuple[str, str]:
    """The event's tag and its JSON, as they are stored."""
    return EVENT_TAGS[type(event)], _ENCODER.encode(event).decode()


def decode(tag: str, data: str | bytes, position: int = 0) -> Event:
    """The event back. Raises `LogTooNew` for an unknown tag, `LogCorrupt` for bytes that do not fit."""
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise LogTooNew(f"Position {position} holds an event `{tag}` that this version does not know")
    if tag in UPCASTS:
        data = UPCASTS[tag](data.encode() if isinstance(data, str) else data)
    try:
        event: Event = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise LogCorrupt(f"Position {position} holds a `{tag}` that cannot be read: {error}") from error
    return event
