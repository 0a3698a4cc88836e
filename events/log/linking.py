"""Facts → the rows to be stored after the head of a log, each with its hash, and their records."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from ..recorded import Fact, Recorded, record_at
from .chain import link_row
from .encryption import Encryption
from .event_log import Head
from .personal import is_lost
from .rows import from_row, to_row


def linked(
    facts: Sequence[Fact], head: Head, encryption: Encryption | None
) -> tuple[list[tuple[Any, ...]], list[Recorded]]:
    """Rows, each with its hash last, and records. With `encryption`, personal data is stored encrypted."""
    records: list[Recorded] = []
    rows: list[tuple[Any, ...]] = []
    digest = head.hash
    if encryption is not None:
        encryption.begin()
    for position, fact in zip(count(head.position + 1), facts, strict=False):
        row: tuple[Any, ...] = to_row(fact, position)
        if encryption is not None:
            row = encryption.stored(fact, row)
        digest = link_row(digest, row)
        rows.append((*row, digest))
        lost = encryption is not None and is_lost(row)  # nobody may be given more than is in the log
        records.append(from_row(row, digest) if lost else record_at(fact, position, digest))
    return rows, records
