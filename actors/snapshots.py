"""The two snapshots of a data folder: the Scheduler's memory and the Notifier's outbox, each a fold of the log.

A start folds only what was recorded since. A snapshot that cannot be used costs only time: then the whole log is
folded.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from ..events import TaskState
from ..events.collector import collector_waits
from ..events.errors import LogCorrupt, NotReady, TaskForgotten
from ..events.existence import is_dir
from ..events.log.event_log import Head, ReadableLog
from ..events.log.stubs import forgotten
from ..events.recorded import Stub
from ..events.state import fold
from ..handlers.workspace import remove_entry
from ..projections.findings import REMEDIES, Finding
from ..projections.history import recall_from
from ..projections.notices import TELLING
from ..projections.outbox import Outbox
from ..projections.verification import Verification
from ..projections.views.schema import FOLD
from .core.limits import Limits
from .core.state import Durable, SchedulerState
from .core.tasks import AsCreated, Tasks
from .delivery.dispatcher import Dispatcher, Kept
from .logger import get_logger
from .snapshot_file import (
    PART,
    Absent,
    OtherCode,
    Outdated,
    SnapshotHeader,
    SnapshotUnusable,
    clear_parts,
    gone_since,
    reading,
    write,
)

logger = get_logger()

_FORMAT = 4
"""Raise it when the format of a snapshot changes. A change in the fields of its Structs is noticed without it."""
CHUNK = 5000
"""Tasks in one line of the file."""

_ENCODER = msgspec.json.Encoder(order="deterministic")
_AS_IT_IS = msgspec.json.Encoder()
"""Keeps the order of dicts: `FairShare` lists first the user who has waited longest for a start."""

LoadTask: TypeAlias = Callable[[int, int], TaskState]
"""(task id, position) → the task as the log up to that position has it."""


class _Folded(Protocol):
    @property
    def position(self) -> int:
        """The last record that is folded in."""


_F = TypeVar("_F", bound=_Folded)


class SnapshotKind(Generic[_F]):
    """One kind of snapshot: the state that it folds into, and how this is written and read."""

    name: ClassVar[str]
    shapes: ClassVar[tuple[Any, ...]]
    """The types that its lines encode."""

    def blank(self, log: ReadableLog) -> _F:
        """Return an empty state to fold into."""
        raise NotImplementedError

    def advance(self, folded: _F, log: ReadableLog, last: int | None = None) -> None:
        """Fold further records in, up to a position or to the end."""
        raise NotImplementedError

    def lines_of(self, folded: _F, log: ReadableLog) -> Iterator[bytes]:
        """The lines of the file. The same history always gives the same bytes."""
        raise NotImplementedError

    def restore(self, blank: _F, lines: Iterator[bytes]) -> None:
        """Fill `blank` with the state in the snapshot. Reads all lines; raises ValueError if they do not fit."""
        raise NotImplementedError

    def code(self) -> str:
        """A hash of the fields of the Structs, the meaning of the events (`FOLD`) and the format of the file."""
        schema = _without_docstrings(msgspec.json.schema_components(self.shapes))
        return sha256(msgspec.json.encode([_FORMAT, FOLD, schema], order="deterministic")).hexdigest()[:16]

    def recalled(self, log: ReadableLog, path: Path | None, blank: Callable[[], _F] | None = None) -> _F | None:
        """The state in the snapshot, or None if it cannot be used. The reason is logged, unless there is none."""
        found = None if path is None else self._found(log, path, blank() if blank is not None else self.blank(log))
        return None if found is None else found[1]

    def _found(self, log: ReadableLog, path: Path, blank: _F) -> tuple[SnapshotHeader, _F] | None:
        try:
            with reading(path, self.name, self.code(), log) as (header, lines):
                self.restore(blank, lines)
        except Absent:
            return None
        except SnapshotUnusable as error:
            logger.warning("a snapshot is not used, the whole log is folded", path=str(path), reason=str(error))
            return None
        return header, blank

    def take(self, log: ReadableLog, path: Path, head: Head) -> None:
        """Fold the log up to `head`, from the older snapshot on if possible, and write the result in its place."""
        self.keep(*self.continued(log, path, head), log, path)

    def continued(self, log: ReadableLog, path: Path, head: Head) -> tuple[SnapshotHeader, _F]:
        """Fold the log up to `head`, from the older snapshot on if possible."""
        log.take_missing_keys()  # those of earlier reads
        found = self._found(log, path, self.blank(log))
        older, folded = found or (None, self.blank(log))
        self.advance(folded, log, head.position)
        missing = log.take_missing_keys().union(older.missing_keys if older else ())
        header = SnapshotHeader(
            kind=self.name,
            code=self.code(),
            position=head.position,
            hash=head.hash.hex(),
            missing_keys=sorted(missing),
        )
        return header, folded

    def keep(self, header: SnapshotHeader, folded: _F, log: ReadableLog, path: Path) -> None:
        """Write the state that `continued` has folded."""
        write(path, header, self.lines_of(folded, log))

    def findings(self, log: ReadableLog, path: Path) -> Iterator[Finding]:
        """Compare the file, byte by byte, with a fold of all records, and yield what is wrong with it."""
        try:
            with reading(path, self.name, self.code(), log) as (header, lines):
                whole = self.blank(log)
                self.advance(whole, log, header.position)
                differs = any(one != other for one, other in zip_longest(lines, self.lines_of(whole, log)))
        except (Absent, OtherCode, Outdated, TaskForgotten):  # these are not read at a start either
            return
        except SnapshotUnusable as error:
            message = f"{path} cannot be used: {error}. It may be deleted."
            yield Finding(position=0, code="snapshot", message=message, remedy=REMEDIES["snapshot"])
            return
        if differs and not gone_since(log, header.position):  # unless records were dropped meanwhile
            message = f"{path} differs from what the log folds to at {header.position}."
            yield Finding(position=header.position, code="snapshot", message=message, remedy=REMEDIES["snapshot"])


class _SchedulerSnapshot(SnapshotKind[SchedulerState]):
    """The first line holds everything except the tasks, as it is in memory; then come the tasks."""

    name = "scheduler"
    shapes = (Durable, TaskState, AsCreated)
    _durable = msgspec.json.Decoder(Durable)
    _tasks = msgspec.json.Decoder(list[msgspec.Raw])

    def blank(self, log: ReadableLog) -> SchedulerState:  # noqa: ARG002 - the state asks no log
        return SchedulerState(Limits(), grace={})  # neither limits nor types have a part in the fold

    def advance(self, folded: SchedulerState, log: ReadableLog, last: int | None = None) -> None:
        """Fold further records in. A finished task that goes on is loaded from the log."""
        load, tasks, apply = loader(log), folded.tasks, folded.apply
        for record in log.read_to_fold(folded.position, _number(folded, last)):
            if record.version > 1 and record.task_id not in tasks and record.task_id and type(record.event) is not Stub:
                tasks[record.task_id] = load(record.task_id, record.position - 1)
            apply(record, record.position)

    def lines_of(self, folded: SchedulerState, log: ReadableLog) -> Iterator[bytes]:
        ids = kept_ids(folded, loader(log))
        yield _AS_IT_IS.encode(folded.durable)
        for first in range(0, len(ids), CHUNK):
            yield b"[" + b",".join(map(folded.tasks.encoded, ids[first : first + CHUNK])) + b"]"

    def restore(self, blank: SchedulerState, lines: Iterator[bytes]) -> None:
        durable = self._durable.decode(next(lines, b""))
        tasks = Tasks()
        for line in lines:
            tasks.hold(self._tasks.decode(line))
        blank.restore(durable, tasks)


class _OutboxSnapshot(SnapshotKind[Dispatcher]):
    """The whole outbox in one line."""

    name = "outbox"
    shapes = (Kept,)
    _kept = msgspec.json.Decoder(Kept)

    def blank(self, log: ReadableLog) -> Dispatcher:
        return Dispatcher(Outbox(recall_from(log)))

    def advance(self, folded: Dispatcher, log: ReadableLog, last: int | None = None) -> None:
        if folded.position:
            folded.apply(log.read(folded.position, _number(folded, last)))
            return
        last = log.head().position if last is None else last
        folded.begin(log.read_what_may_concern(TELLING, last), last)

    def lines_of(self, folded: Dispatcher, log: ReadableLog) -> Iterator[bytes]:  # noqa: ARG002 - the outbox was given it
        yield _ENCODER.encode(folded.kept())

    def restore(self, blank: Dispatcher, lines: Iterator[bytes]) -> None:
        (kept,) = [self._kept.decode(line) for line in lines]
        blank.restore(kept)


SCHEDULER_SNAPSHOT = _SchedulerSnapshot()
OUTBOX_SNAPSHOT = _OutboxSnapshot()


def folded_state(
    log: ReadableLog, new_state: Callable[[], SchedulerState], path: Path | None = None, also: Iterable[int] = ()
) -> SchedulerState:
    """The Scheduler's state at the end of the log: from the snapshot in `path` on, if that can be used.

    `also` names tasks that must be in memory although they may be finished.
    """
    with collector_waits():
        state = SCHEDULER_SNAPSHOT.recalled(log, path, new_state)
        if state is None:
            state = new_state()
        SCHEDULER_SNAPSHOT.advance(state, log)
        _complete(state, loader(log), also)
    return state


def folded_outbox(log: ReadableLog, path: Path | None = None) -> Dispatcher:
    """The outbox at the end of the log: from the snapshot in `path` on, if that can be used."""
    with collector_waits():
        dispatcher = OUTBOX_SNAPSHOT.recalled(log, path)
        if dispatcher is None:  # not `or`: a dispatcher without notices has the length 0
            dispatcher = OUTBOX_SNAPSHOT.blank(log)
        OUTBOX_SNAPSHOT.advance(dispatcher, log)
    return dispatcher


def take_snapshots(log: ReadableLog, folder: Path) -> tuple[int, int]:
    """Write both snapshots as of the log's end. Returns its position, and how many tasks were in memory.

    Raises OSError, `NotReady` while an erasure goes on, and the errors of reading a log.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    clear_parts(folder)
    head = log.head()
    if not head.position:
        return 0, 0
    path = folder / SCHEDULER_SNAPSHOT.name
    header, state = SCHEDULER_SNAPSHOT.continued(log, path, head)
    if state.durable.erasures:  # the user's keys may still exist, and the log can be read with them
        raise NotReady("An erasure is not finished, and a snapshot would still hold what it erases")
    SCHEDULER_SNAPSHOT.keep(header, state, log, path)
    OUTBOX_SNAPSHOT.take(log, folder / OUTBOX_SNAPSHOT.name, head)
    return head.position, len(state.tasks)


def with_snapshots(verification: Verification, log: ReadableLog, folder: Path) -> Verification:
    """Add what is wrong with the snapshots to what was found in log and views.

    They are not checked if the log has faults, as it then has no fold, or if some of it cannot be read here, as its
    fold then differs.
    """
    if not verification.ok or verification.without_key:
        return verification
    with collector_waits():
        wrong = [
            *SCHEDULER_SNAPSHOT.findings(log, folder / SCHEDULER_SNAPSHOT.name),
            *OUTBOX_SNAPSHOT.findings(log, folder / OUTBOX_SNAPSHOT.name),
        ]
    return replace(verification, ok=not wrong, findings=tuple(wrong))


def drop_drifted(log: ReadableLog, folder: Path) -> list[Finding]:
    """Delete each snapshot that differs from the fold of the log, and return why. The next one folds the whole log."""
    with collector_waits():
        findings = []
        for kind in (SCHEDULER_SNAPSHOT, OUTBOX_SNAPSHOT):
            wrong = list(kind.findings(log, folder / kind.name))
            if wrong:
                (folder / kind.name).unlink(missing_ok=True)
            findings += wrong
    return findings


def delete_snapshots(folder: Path) -> None:
    """Delete all snapshots: the next ones are made from the whole log. Raises `OSError`."""
    if not is_dir(folder):
        return
    for entry in folder.iterdir():  # a folder that may not be read must not count as empty
        if entry.name.endswith(PART) or entry.name in (SCHEDULER_SNAPSHOT.name, OUTBOX_SNAPSHOT.name):
            remove_entry(entry)


def kept_ids(state: SchedulerState, load: LoadTask) -> list[int]:
    """Return the ids, in order, of the open tasks and of the finished ones that they need. Memory then holds these."""
    needed = [task.id for task in _complete(state, load)]
    return sorted([*needed, *state.tasks.open_ids()])


def _complete(state: SchedulerState, load: LoadTask, also: Iterable[int] = ()) -> list[TaskState]:
    """Load the finished tasks that open tasks depend on or have as ancestors, and the tasks in `also`.

    Returns those that open tasks need.
    """
    tasks, needed = state.tasks, dict[int, TaskState]()
    climbed: set[int] = set()

    def need(task_id: int) -> TaskState:
        task = tasks.get(task_id) or needed.get(task_id) or load(task_id, state.position)
        if task.finished:
            needed[task_id] = task
        return task

    for task in tasks.special():
        spec = task.spec
        parent = spec.parent_task_id
        if (parent is None and not spec.depends_on) or task.finished:
            continue
        for other in spec.depends_on:
            need(other)
        while parent is not None and parent not in climbed:
            above = need(parent)
            if not above.finished:
                break  # the outer loop handles its ancestors
            climbed.add(parent)
            parent = above.spec.parent_task_id
    tasks.update(needed)
    for task_id in also:
        if task_id not in tasks:
            tasks[task_id] = load(task_id, state.position)
    return list(needed.values())


def loader(log: ReadableLog) -> LoadTask:
    """Return a function that reads a task from the log, as it was at a position."""

    def load(task_id: int, position: int) -> TaskState:
        records = [record for record in log.read_task(task_id, adjusted=True) if record.position <= position]
        task = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # a task's records hold task events
        if task is None:
            missing = f"Task {task_id} should exist at position {position}, but the log has no record of it"
            raise forgotten(log, task_id) or LogCorrupt(missing)
        return task

    return load


def _without_docstrings(schema: Any) -> Any:
    """Return the schema without the docstrings of its Structs."""
    match schema:
        case dict():
            return {
                key: _without_docstrings(value)
                for key, value in schema.items()
                if not (key == "description" and isinstance(value, str))  # a field of that name has a schema instead
            }
        case list() | tuple():
            return [_without_docstrings(one) for one in schema]
        case _:
            return schema


def _number(folded: _Folded, last: int | None) -> int | None:
    """How many records follow what is folded, up to position `last`; None for all."""
    return None if last is None else max(0, last - folded.position)
