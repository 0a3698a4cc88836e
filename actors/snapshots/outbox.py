"""The Notifier's snapshot: all of it in one line."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from ...events.log.event_log import Head, ReadableLog
from ...projections.history.stream import recall_from
from ...projections.notices.outbox import Outbox
from ..base import logger
from ..delivery.dispatcher import Dispatcher, Kept
from .common import between, code_of, uncollected
from .file import Absent, Header, Unusable, reading, write

KIND = "outbox"
_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Kept)


def folded(log: ReadableLog, path: Path | None = None) -> Dispatcher:
    """The log folded: from the snapshot in `path` on, if it can be used, else all of it."""
    with uncollected():
        dispatcher = recalled(log, path) or blank(log)
        dispatcher.apply(log.read(after=dispatcher.position))
    return dispatcher


def recalled(log: ReadableLog, path: Path | None) -> Dispatcher | None:
    """What the snapshot holds; none when it cannot be used, which is logged with the reason."""
    if path is None:
        return None
    try:
        with reading(path, KIND, code(), log) as (_, lines):
            (kept,) = [_DECODER.decode(line) for line in lines]
    except Absent:
        return None
    except Unusable as error:
        logger.warning("a snapshot is not used, the whole log is folded", path=str(path), reason=str(error))
        return None
    dispatcher = blank(log)
    dispatcher.restore(kept)
    return dispatcher


def take(log: ReadableLog, path: Path, head: Head) -> None:
    """Fold the log up to `head`, from the older snapshot on if it can be used, and write the result in its place."""
    dispatcher = recalled(log, path) or blank(log)
    dispatcher.apply(between(log, dispatcher.position, head.position))
    write(path, header(head), lines_of(dispatcher))


def lines_of(dispatcher: Dispatcher) -> Iterator[bytes]:
    """The lines of a snapshot. The same history always gives the same bytes."""
    yield _ENCODER.encode(dispatcher.kept())


def header(head: Head) -> Header:
    """What stands before the lines."""
    return Header(kind=KIND, code=code(), position=head.position, hash=head.hash.hex())


def blank(log: ReadableLog) -> Dispatcher:
    """One to fold into."""
    return Dispatcher(Outbox(recall_from(log)))


@cache
def code() -> str:
    """The mark of the code that reads and writes these."""
    return code_of(Kept)
