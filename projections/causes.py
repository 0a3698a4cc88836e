"""Because of what something was recorded: from an event back to the command that everything began with."""

from collections.abc import Callable

import msgspec

from ..events import Recorded, Started

MOST = 12
"""Steps that are followed."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Records that led to each other, the first cause at the front."""

    records: tuple[Recorded, ...]
    command_id: str = ""
    """The command that the first of them came from; empty when it came from none."""
    complete: bool = True
    """False: there are causes before the first one."""


def chain_to(
    record: Recorded, read: Callable[[int], Recorded | None], before: Callable[[Recorded], Recorded | None]
) -> Chain:
    """The chain that ends with the record.

    Args:
        record: what is asked about.
        read: the record at a position; none when it may not be seen.
        before: the record of the same task before another one. A start is caused by what put the task into the queue.
    """
    found = [record]
    while len(found) < MOST:
        if record.causation_id.startswith("event:"):
            position = int(record.causation_id.removeprefix("event:"))
            cause = read(position) if 0 < position < record.position else None  # causes come first: there is no circle
        elif isinstance(record.event, Started):
            cause = before(record)
        else:
            return Chain(records=tuple(reversed(found)), command_id=record.command_id)
        if cause is None:
            break
        found.append(cause)
        record = cause
    return Chain(records=tuple(reversed(found)), complete=False)
