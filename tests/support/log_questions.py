"""All questions to a log, so that tests can compare the answers of two readers of one history."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from tasktrail.events import Recorded
from tasktrail.events.log.archive_file import FRAME
from tasktrail.events.log.event_log import Part
from tasktrail.events.log.log_reader import LogReader


def questions(log: LogReader, edges: tuple[int, int], tasks: Sequence[int]) -> Iterator[Any]:
    """Return the answers to all questions, in order. `edges`: positions where the source of records may change."""
    head = log.head().position
    yield log.head()
    for after in (0, 1, *edges, edges[1] - 1, edges[1] + 1, head - 1, head):
        yield list(log.read(after))
        yield [_told(record) for record in log.read_to_fold(after)]
        yield [list(log.read(after, limit)) for limit in (0, 1, 7, FRAME)]
        yield list(log.hashes(after))
        yield list(log.rows(after, 9))
        yield log.drops(after)
        yield log.newest_of("created", after, head, 5), log.newest_of("service_started", 0, after, 1)
    yield list(log.raw_rows())
    for task_id in range(len(tasks) + 2):
        yield log.read_task(task_id), log.read_task(task_id, adjusted=True)
        yield log.last_of(task_id), log.status_since(task_id), log.line_of(task_id)
        yield [log.version_at(task_id, position) for position in range(0, head + 1, 7)]
        yield [log.read_task_after(task_id, version, 3) for version in range(9)]
        yield log.rows_of(task_id, edges[1] + 5)
        parts = [Part(task_id, after, last, place) for after, last in pairwise(range(6)) for place in (0, 90)]
        yield [log.read_parts([part], head - 9) for part in parts if task_id]
    yield log.read_parts([Part(one, 0, 9, 0) for one in tasks], head)
    yield log.to_drop(tasks[:4], [3, edges[1] + 2])
    yield log.erasable(2), log.newest_writer()
    yield list(log.unanswered())
    yield from sorted(log.answered())
    for command_id, _task_id, position, *_ in sorted(log.answered()):
        yield log.first_of(command_id, position)


def _told(record: Recorded) -> Any:
    """Return the part of a record that a fold can rely on."""
    if not record.task_id:
        return record
    return record.position, record.task_id, record.version, record.event, record.recorded_at
