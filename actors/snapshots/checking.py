"""Whether the snapshots are what the log says: each is made anew from all records, and compared byte by byte."""

from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

from msgspec.structs import replace

from ...events.log.event_log import ReadableLog
from ...projections.verify.findings import Finding, Verification
from . import outbox, scheduler
from .common import between, uncollected
from .file import Absent, OtherCode, Unusable, reading

Fold = Callable[[ReadableLog, int], Iterator[bytes]]


def with_snapshots(found: Verification, log: ReadableLog, folder: Path) -> Verification:
    """What was found in the log and the views, and what is wrong with the snapshots. A log with faults has no fold."""
    if not found.ok:
        return found
    with uncollected():
        wrong = [
            *_check(log, folder / scheduler.KIND, scheduler.KIND, scheduler.code(), _of_scheduler),
            *_check(log, folder / outbox.KIND, outbox.KIND, outbox.code(), _of_outbox),
        ]
    return replace(found, ok=not wrong, findings=tuple(wrong))


def _check(log: ReadableLog, path: Path, kind: str, code: str, fold: Fold) -> Iterator[Finding]:
    try:
        with reading(path, kind, code, log) as (header, lines):
            differs = any(one != other for one, other in zip_longest(lines, fold(log, header.position)))
    except Absent:
        return
    except OtherCode:
        return  # it is not read either
    except Unusable as error:
        yield Finding(position=0, code="snapshot", message=f"{path} cannot be used: {error}. It may be deleted.")
        return
    if differs:
        message = f"{path} is not what the log folds to at {header.position}. Stop the service and delete it."
        yield Finding(position=header.position, code="snapshot", message=message)


def _of_scheduler(log: ReadableLog, position: int) -> Iterator[bytes]:
    state = scheduler.blank()
    for record in between(log, 0, position):
        state.apply(record)
    yield from scheduler.lines_of(state, log)


def _of_outbox(log: ReadableLog, position: int) -> Iterator[bytes]:
    dispatcher = outbox.blank(log)
    dispatcher.apply(between(log, 0, position))
    yield from outbox.lines_of(dispatcher)
