"""Reads the answer to a batch that has been made before. Its tasks stand in the log, together with its command id."""

from collections.abc import Iterator

from ..events import Created, Recorded
from ..events.log.event_log import Answer, ReadableLog
from .request import Made, MadeBatch

_PAGE = 1000
"""Records that are read at a time."""


def batch_made_before(log: ReadableLog, first: Answer, batch: str) -> MadeBatch:
    """Return the answer to the repetition of a batch: the tasks that it created, except forgotten ones.

    `batch`: its name if all its tasks are forgotten.
    """
    made: list[Made] = []
    for record in _backwards(log, first):
        if isinstance(created := record.event, Created):
            batch = created.batch
            made.append(
                Made(
                    task_id=record.task_id,
                    type=created.type,
                    input_file=created.input_file,
                    output_file=created.output_file,
                )
            )
    return MadeBatch(
        batch=batch,
        position=first.position,
        created=tuple(reversed(made)),
        skipped=(),
        left_out=(),
        refused=(),
        repeated=True,
    )


def _backwards(log: ReadableLog, first: Answer) -> Iterator[Recorded]:
    """Yield the command's records, the last one first. They are adjacent; stubs among them are of forgotten tasks."""
    until = first.position
    while page := list(log.read(after=max(0, until - _PAGE), limit=min(_PAGE, until))):
        for record in reversed(page):
            if record.command_id == first.command_id:
                yield record
            if (record.task_id, record.version) == (first.task_id, 1):
                return
        until = page[0].position - 1
