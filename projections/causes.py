"""The causes of a record: from an event back to the command that everything began with."""

from collections.abc import Callable, Iterable

import msgspec

from ..events import Recorded, Started

MOST = 12
"""The most steps that are followed."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Records that led to each other, the first cause first."""

    records: tuple[Recorded, ...]
    command_id: str = ""
    """The command that the first of them came from; empty when it came from none."""
    complete: bool = True
    """False: there are causes before the first one."""


class TreePlace(msgspec.Struct, frozen=True):
    """Where a record stands in the tree of causes of its task."""

    cause: int
    """The position of the record that led to it; 0: it came from a command, or has no cause."""
    depth: int
    """The length of the chain of the task's records that led to it."""


def tree(records: Iterable[Recorded]) -> dict[int, TreePlace]:
    """Position → place, for all records of a task, which are given in order of position."""
    places: dict[int, TreePlace] = {}
    before = 0
    for record in records:
        cause = before if isinstance(record.event, Started) else _named_cause(record)
        depth = places[cause].depth + 1 if cause in places else 0
        places[record.position] = TreePlace(cause, depth)
        before = record.position if record.task_id else before
    return places


def _named_cause(record: Recorded) -> int:
    """The position that the record names as its cause; 0: none."""
    return int(record.causation_id.removeprefix("event:")) if record.causation_id.startswith("event:") else 0


def chain_to(
    record: Recorded, read: Callable[[int], Recorded | None], before: Callable[[Recorded], Recorded | None]
) -> Chain:
    """The chain that ends with the record.

    Args:
        record: the last record of the chain.
        read: returns the record at a position; None if the reader may not see it.
        before: returns the task's previous record. A start is caused by the record that put the task into the queue.
    """
    chain = [record]
    while len(chain) < MOST:
        if position := _named_cause(record):
            cause = read(position) if 0 < position < record.position else None  # causes come first: there is no cycle
        elif isinstance(record.event, Started):
            cause = before(record)
        else:
            return Chain(records=tuple(reversed(chain)), command_id=record.command_id)
        if cause is None:
            break
        chain.append(cause)
        record = cause
    return Chain(records=tuple(reversed(chain)), complete=False)
