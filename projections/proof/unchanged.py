"""Checks that a record matches its hash: no other record may be proven or signed for."""

from typing import Any

from ...events import Recorded
from ...events.errors import LogCorrupt
from ...events.log.chain import GENESIS, link
from ...events.log.log_reader import LogReader


def before_of_unchanged(log: LogReader, row: tuple[Any, ...]) -> bytes:
    """The hash before a record, which is given by its stored values, its hash last.

    Raises `LogCorrupt` if the record does not match its hash.
    """
    before = _before(log, row[0])
    if link(before, row[:-1]) != row[-1]:
        raise LogCorrupt(f"Position {row[0]} of the log was changed: its hash does not fit")
    return before


def refuse_changed(log: LogReader, *records: Recorded) -> None:
    """Raise `LogCorrupt` if one of these records does not match its hash, or is not the one at its position.

    Records of a task are found through an index, which somebody may have made lead to records of another task: these
    match their hashes.
    """
    for record in records:
        (row,) = log.rows(record.position - 1, 1)
        before_of_unchanged(log, row)
        if next(log.read(record.position - 1, 1)) != record:
            raise LogCorrupt(
                f"Position {record.position} of the log is not the record of task {record.task_id} that its index says"
            )


def _before(log: LogReader, position: int) -> bytes:
    if position == 1:
        return GENESIS
    ((*_, digest),) = log.hashes(position - 2, 1)
    found: Any = digest
    return bytes(found)
