"""The Scheduler's snapshot: the book in the first line, then the tasks."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import msgspec

from ...events import TaskState
from ...events.log.event_log import Head, ReadableLog
from ..base import logger
from ..core.limits import Limits
from ..core.snapshot import Book, book_of, complete, follow, restore, tasks_of
from ..core.state import SchedulerState
from .common import between, chunks, code_of, loader, uncollected
from .file import Absent, Header, Unusable, reading, write

KIND = "scheduler"
_ENCODER = msgspec.json.Encoder(order="deterministic")
_BOOK = msgspec.json.Decoder(Book)
_TASKS = msgspec.json.Decoder(list[TaskState])


def folded(
    log: ReadableLog,
    new_state: Callable[[], SchedulerState],
    path: Path | None = None,
    also: Iterable[int] = (),
) -> SchedulerState:
    """The log folded: from the snapshot in `path` on, if it can be used, else all of it.

    `also` names tasks that must be in memory although they may be finished.
    """
    with uncollected():
        state = recalled(log, new_state, path) or new_state()
        load = loader(log)
        follow(state, log.read(after=state.position), load)
        complete(state, load, also)
    return state


def recalled(log: ReadableLog, new_state: Callable[[], SchedulerState], path: Path | None) -> SchedulerState | None:
    """The state that the snapshot holds; none when it cannot be used, which is logged with the reason."""
    if path is None:
        return None
    state = new_state()
    try:
        with reading(path, KIND, code(), log) as (_, lines):
            book = _BOOK.decode(next(lines, b""))
            tasks: list[TaskState] = []
            for line in lines:
                tasks += _TASKS.decode(line)
    except Absent:
        return None
    except Unusable as error:
        logger.warning("a snapshot is not used, the whole log is folded", path=str(path), reason=str(error))
        return None
    restore(state, book, tasks)
    return state


def take(log: ReadableLog, path: Path, head: Head) -> int:
    """Fold the log up to `head`, from the older snapshot on if it can be used, and write the result in its place.

    Returns how many tasks were in memory.
    """
    state = recalled(log, blank, path) or blank()
    follow(state, between(log, state.position, head.position), loader(log))
    write(path, header(head), lines_of(state, log))
    return len(state.tasks)


def lines_of(state: SchedulerState, log: ReadableLog) -> Iterator[bytes]:
    """The lines of a snapshot of a state that was only folded. The same history always gives the same bytes."""
    tasks = tasks_of(state, loader(log))
    yield _ENCODER.encode(book_of(state))
    yield from (_ENCODER.encode(chunk) for chunk in chunks(tasks))


def header(head: Head) -> Header:
    """What stands before the lines."""
    return Header(kind=KIND, code=code(), position=head.position, hash=head.hash.hex())


def blank() -> SchedulerState:
    """A state to fold into: no limit or type has a part in that."""
    return SchedulerState(Limits(), grace={})


@cache
def code() -> str:
    """The mark of the code that reads and writes these."""
    return code_of(Book, TaskState)
