"""The questions, answered from a source of views, log and state. `Reader` needs no service, only a data folder."""

from collections.abc import Callable, Collection, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec
from msgspec.structs import replace

from ..actors.core.board import (
    LimitsBoard,
    QueueBoard,
    ScheduleBoard,
    TokenBoard,
    limits_board,
    queue_board,
    schedule_boards,
    source_boards,
    token_boards,
)
from ..actors.core.dependencies import retries
from ..actors.core.explanation import CUT_OFF, NOT_ASKED, NOT_LIVE, Obstacle, WaitReason, Why, explain, explain_past
from ..actors.core.node_board import NodeBoard, node_boards
from ..actors.core.sources import WatchedFolder
from ..actors.machine import local_node
from ..config.settings import Config
from ..events import Checkpoint, Checkpointed, Created, Failed, Progressed, Recorded, Task, TaskState, TasktrailError
from ..events.clock import Clock
from ..events.counted import counted
from ..events.errors import NOT_THERE, UnknownAttempt, UnknownBatch, UnknownTask
from ..events.existence import exists
from ..events.log.address import is_address
from ..events.log.event_log import Erasable
from ..events.log.stubs import forgotten
from ..events.reports import NodeSeen
from ..events.retry import why_final
from ..events.state import FINISHED, fold
from ..events.system_events import LOCAL
from ..events.values import MAX_INTEGER, MIN_INTEGER, check_name, check_position, check_task_id, check_whole
from ..handlers.attempt_output import Output, read
from ..handlers.contract import TaskType, missing_packages
from ..handlers.presets import Preset
from ..handlers.registry import Registry, unknown_type
from ..intake.event_names import event_tags
from ..paths import path_of
from ..projections import (
    Batch,
    BeyondTheLog,
    DisabledEndpoint,
    NoticeStatus,
    Stats,
    TaskChanges,
    TaskFilters,
    TaskQueries,
    Verification,
    ViewsFailed,
)
from ..projections.attempts import Attempt
from ..projections.attempts import attempts as attempts_of
from ..projections.describe import describe
from ..projections.queries.as_of import (
    FoldedPast,
    Point,
    fold_to,
    not_created_yet,
    parse_point,
    position_of,
    refuse_future,
    task_as_of,
)
from ..projections.queries.diff import changes_page
from ..projections.queries.filters import MAX_LIMIT, filters_of, values_of
from ..projections.queries.past import Past
from .protocol import BATCHES_SHOWN, CHANGES_SHOWN, QUEUE_SHOWN, TypeInfo
from .source import Folding, Source, Unattended, check_folder, log_built_anew, silent_folding

if TYPE_CHECKING:
    from ..whatif.answer import WhatIf

_LIFE_AT_ONCE = 500
"""Records of one task that are read at a time."""


T = TypeVar("T")


class Questions:
    """All questions. Each answer sees at least the commands that were accepted through the same object."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.paths = source.paths

    # --- tasks --------------------------------------------------------------------------------------------------

    def get_task(self, task_id: int, *, as_of: Point | None = None) -> Task:
        """One task, now or as of a position or time. Raises `UnknownTask`."""
        return task_seen_by(self.source, None, task_id, as_of)

    def get_task_progress(self, task_id: int) -> tuple[float, str]:
        """The task's progress in percent, and its message. Raises `UnknownTask`."""
        return self.source.ask(lambda views: views.progress(task_id))

    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page of tasks, by default the newest first, and the number of all that match. Raises `UnknownType`."""
        filters = filters_of(filters)
        self.check_types(filters)
        return self.listed(filters)

    def check_types(self, filters: TaskFilters) -> None:
        """Raise `UnknownType` for a type that neither a handler nor the log knows: an empty list would hide it."""
        # Without a service, to ask for the registry loads it, which takes long: not where no type is named.
        strange = [name for name in values_of(filters.type) if name not in self.source.registry]
        used = self.source.ask(lambda views: views.types()) if strange else ()
        for name in strange:
            if name not in used:
                registry = self.source.registry
                known = [*used, *(task_type.name for task_type in registry)]
                raise unknown_type(name, known, registry.errors, registry.presets, status=NOT_THERE)

    def listed(self, filters: TaskFilters) -> tuple[list[Task], int]:
        """`list_tasks` without the check of the types."""
        if filters.as_of == "":
            return self.source.ask(lambda views: views.list(filters, self.source.clock.now()))
        return self.past(filters.as_of, lambda past: past.list(filters))

    def ids_of(self, filters: TaskFilters) -> list[int]:
        """The ids of all tasks that pass the filters, in order, all as of the same time. Raises `UnknownType`."""
        self.check_types(filters)
        return self.listed_ids(filters)

    def listed_ids(self, filters: TaskFilters) -> list[int]:
        """`ids_of` without the check of the types."""
        if filters.as_of == "":
            return list(self.source.ask(lambda views: views.ids_listed(filters)))

        def ids(past: Past | FoldedPast) -> list[int]:
            with past.every(filters) as every:
                return [task.id for task in every.tasks]

        return self.past(filters.as_of, ids)

    def past(self, point: str | Point, question: Callable[[Past | FoldedPast], T]) -> T:
        """Ask about an earlier time. If the views cannot answer, fold the log up to it, however long that takes."""
        try:
            return self.at_once(point, question)
        except ViewsFailed:
            with fold_to(self.source.log(), point, self.source.scratch) as folded:
                return question(folded)

    def at_once(self, point: str | Point, question: Callable[[Past], T]) -> T:
        """Ask the views about an earlier time. Raises `ViewsFailed` if they cannot answer, and `BeyondTheLog`."""
        refuse_future(point, self.source.clock.now())
        return self.source.ask(lambda views: question(Past(views, self.source.log(), point)))

    def load_checkpoint(self, task_id: int) -> Checkpoint | None:
        """The task's latest checkpoint; None if it has none. Raises `UnknownTask`."""
        return self.source.ask(lambda views: views.state(task_id).checkpoint)

    def batches(self, limit: int = BATCHES_SHOWN, *, as_of: Point | None = None) -> list[Batch]:
        """The newest batches and how far they are, now or as of a position or time."""
        most = check_whole(limit, "limit", 1, MAX_LIMIT)
        if as_of is not None:
            return list(self.past(as_of, lambda past: past.batches(most)))
        return list(self.source.ask(lambda views: views.batches(most)))

    def batch(self, name: str, *, as_of: Point | None = None) -> Batch:
        """One batch and how far it is, now or as of a position or time. Raises `UnknownBatch`."""
        check_name(name, "batch")
        if as_of is not None:
            return batch_named(name, self.past(as_of, lambda past: past.batch(name)), then=True)
        return batch_named(name, self.source.ask(lambda views: views.batch(name)))

    def stats(self, *, as_of: Point | None = None) -> Stats:
        """Statistics over all tasks, now or as of a position or time."""
        if as_of is not None:
            return self.past(as_of, lambda past: past.stats())
        return self.source.ask(lambda views: views.stats(self.source.clock.now()))

    def diff(
        self, begin: Point, end: Point | None = None, *, limit: int = CHANGES_SHOWN, offset: int = 0
    ) -> TaskChanges:
        """How the tasks changed between two positions or times: a page of them, by their ids.

        It shows all tasks with a record after `begin`, up to and including `end`; without an end, up to now. It reads
        all records in between.
        """
        return self.changes_of(None, begin, end, limit, offset)

    def changes_of(
        self, user_id: int | None, begin: str | Point, end: str | Point | None, limit: int, offset: int
    ) -> TaskChanges:
        """`diff` for one user, as if there were no tasks of others; with None, for all."""

        def shows(task_id: int, created: Created | None) -> bool:
            if user_id is None or created is None:
                return self.is_of(task_id, user_id)
            return created.user_id == user_id

        for point, field in ((begin, "from"), (end, "to")):
            if point is not None:
                refuse_future(point, self.source.clock.now(), field)
        return changes_page(self.source.log(), begin, end, limit, offset, shows)

    def notices(self, task_id: int) -> list[NoticeStatus]:
        """The state of the task's notices, in the order of its events. Raises `UnknownTask`."""
        return self.source.ask(lambda views: views.notices(task_id))

    def endpoints(self) -> list[DisabledEndpoint]:
        """The disabled receivers: they have said that they are gone, so nothing is sent to them."""
        return self.source.ask(lambda views: views.endpoints())

    # --- the log ------------------------------------------------------------------------------------------------

    def events(self, task_id: int) -> list[Recorded]:
        """The recorded events of one task, in order. Raises `UnknownTask`."""
        check_task_id(task_id)
        records = self.source.log().read_task(task_id) if 0 < task_id < 2**63 else []
        if not records:
            raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
        return records

    def events_after(self, task_id: int, version: int, limit: int) -> list[Recorded]:
        """The next recorded events of a task after a version. Empty also for a task that does not exist."""
        return self.source.log().read_task_after(task_id, version, limit) if 0 < task_id < 2**63 else []

    def owner_of(self, task_id: int) -> int | None:
        """The user of a task, who never changes; None if there is no such task."""
        first = next(iter(self.events_after(task_id, 0, 1)), None)
        return first.event.user_id if first is not None and isinstance(first.event, Created) else None

    def is_of(self, task_id: int, user_id: int | None) -> bool:
        """Whether the task is the user's. With None, every task is."""
        return user_id is None or self.owner_of(task_id) == user_id

    def version_at(self, task_id: int, position: int) -> int:
        """The last version of a task up to a position; 0 if it did not exist then."""
        return self.source.log().version_at(task_id, position) if 0 < task_id < 2**63 else 0

    def status_since(self, task_id: int) -> int:
        """The position of the event that gave a task its present status."""
        return self.source.log().status_since(task_id)

    def notes(self, task_id: int) -> list[Recorded]:
        """The service's own records (task id 0) about one task: adjustments, deliveries. Raises `UnknownTask`."""
        reader = self.source.log()
        return [
            record
            for position in self.source.ask(lambda views: views.notes(task_id))
            for record in reader.read(position - 1, 1)
        ]

    def log(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Recorded events of all tasks and of the service, in order of position. Raises `BeyondTheLog`."""
        limit = None if limit is None else check_whole(limit, "limit")
        return self.source.log().read(self._reached(after), limit)

    def _reached(self, after: int) -> int:
        """Return the position if the log has it: one from another log, or from before a restore, would skip records."""
        after, head = check_position(after), self.source.log().head().position
        if after > head:
            raise BeyondTheLog(f"after: the log ends at position {head}", field="after")
        return after

    def follow(
        self, after: int = 0, *, task_id: int | None = None, events: Collection[str] = ()
    ) -> Generator[Recorded, None, None]:
        """Like `log`, and then new records as they come, without gaps, until closed or the service stops.

        `task_id`: only records of this task, which may begin another life after its end. `events`: only these, such as
        `("completed", "failed")`. Raises `UnknownTask` and `BeyondTheLog`.
        """
        after = self._reached(after)
        if task_id is not None:
            after = max(after, self.events(task_id)[0].position - 1)
        return self._following(after, task_id, event_tags(events))

    def _following(self, after: int, task_id: int | None, events: Collection[str]) -> Generator[Recorded, None, None]:
        while True:
            for record in self.source.log().read(after):
                after = record.position
                if task_id in (None, record.task_id) and (not events or record.name in events):
                    yield record
            if not self.source.wait_for_log(after + 1):
                return

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check the chain and the rules, and the views and the snapshots against the fold.

        `progress` is called now and then, with a position and the last one; a `Client` calls it once, at the end.
        """
        if not exists(self.source.paths.views):  # where the log is at fault, they cannot be built anew
            found = check_folder(self.source.log(), self.source.paths, progress)
            if not found.ok:
                return found
            self.source.restore_deleted()
        self.source.settle()
        return check_folder(self.source.log(), self.source.paths, progress)

    def whatif(self, *, begin: Point | str | None = None, end: Point | str | None = None, **asked: Any) -> "WhatIf":
        """Replay the log under another policy, and compare; see `tasktrail.whatif`. It only reads."""
        from ..whatif.ask import what_if

        return what_if(self.log(), self.source.config(), begin=begin, end=end, **asked)

    # --- attempts -----------------------------------------------------------------------------------------------

    def attempts(self, task_id: int, *, as_of: Point | None = None) -> list[Attempt]:
        """All attempts of a task, now or as of a position or time. Raises `UnknownTask`."""
        check_task_id(task_id)
        position = MAX_INTEGER
        if as_of is not None:
            refuse_future(as_of, self.source.clock.now())
            position = position_of(self.source.log(), as_of)
        version = self.version_at(task_id, position)
        if not version:
            unknown = UnknownTask(f"Task {task_id} does not exist", field="task_id")
            raise unknown if as_of is None else not_created_yet(task_id, as_of)
        if (gone := forgotten(self.source.log(), task_id)) is not None:
            raise gone
        return list(attempts_until(self, task_id, version))

    # --- proof --------------------------------------------------------------------------------------------------

    def provenance(self, task_id: int) -> dict[str, Any]:
        """The signed statement of how and from what a task's output was made: in-toto, in a DSSE envelope.

        It is signed with the key of the seals, which `tasktrail seal` makes. Raises `SealUnfit` without a key, or if
        the task has made no file, and `UnknownTask`.
        """
        return self.provenance_by(task_id, self.seals_folder())

    def provenance_by(self, task_id: int, seals: Path) -> dict[str, Any]:
        """`provenance` with the newest seal of a folder."""
        from ..projections.proof.provenance import provenance  # not at a start: few ask
        from ..projections.proof.seals import kept_key

        check_task_id(task_id)
        if not self.version_at(task_id, MAX_INTEGER):
            raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
        return provenance(self.source.log(), task_id, seals, partial(kept_key, self.paths.seal_key))

    def seals_folder(self) -> Path:
        """Where the seals are kept."""
        return Path(self.source.config().seals_dir or self.paths.seals)

    # --- what attempts print ------------------------------------------------------------------------------------

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = MAX_INTEGER,
    ) -> Output:
        """The output of an attempt, by default the latest: from byte `after` on, or only the last `last` bytes.

        `most`: the most bytes that are read. Raises `UnknownTask` and `UnknownAttempt`.
        """
        attempt = None if attempt is None else check_whole(attempt, "attempt", MIN_INTEGER)
        last = None if last is None else check_whole(last, "last", MIN_INTEGER)
        most = check_whole(most, "most")
        task = self.get_task(task_id)
        number = task.attempt if attempt is None else attempt
        if attempt is not None and not 0 < number <= task.attempt:
            had = counted(task.attempt, "attempt")
            raise UnknownAttempt(
                f"Task {task_id} has had {had}, and none is number {number}",
                remedy=f"See `tasktrail history {task_id}` for the attempts there were.",
            )
        running = task.status == "running" and number == task.attempt
        after = check_position(after) if last is None else -max(last, 0)
        found = read(self.source.paths.output, task_id, number, after=after, running=running, most=most)
        # There are files of later attempts if the log was put back to an earlier state.
        return replace(found, attempts=tuple(one for one in found.attempts if one <= task.attempt))

    # --- the Scheduler's state ----------------------------------------------------------------------------------

    def why(self, task_id: int, *, as_of: Point | None = None) -> Why:
        """All reasons why a task waits, and what is ahead of it, now or as of a position or time.

        For an earlier time it says what the log knows; the answer's `remark` says what is missing. Raises
        `UnknownTask`.
        """
        check_task_id(task_id)
        if as_of is not None:
            return self._why_as_of(task_id, as_of)
        live = self.source.live
        shared = is_address(self.source.paths.log)  # a service on another machine may have it
        not_live = NOT_ASKED if shared else NOT_LIVE
        answer = self.source.state(lambda state, now: explain(state, task_id, now, live=live, not_live=not_live))
        found = answer and answer()  # a place in a long queue is counted here, without holding up the Scheduler
        if found is None or found.status in FINISHED:
            task, last = self.get_task(task_id), self.events(task_id)[-1]
            return _why_ended(task, last, live=live)
        if not (found.waiting or live or shared):
            found = replace(found, remark=CUT_OFF)
        reasons = (self._with_evidence(task_id, one, self.status_since) for one in found.reasons)
        return replace(found, reasons=tuple(map(self._with_retries, reasons)))

    def _why_as_of(self, task_id: int, as_of: Point) -> Why:
        found = self.source.state_as_of(as_of, lambda state, moment: explain_past(state, task_id, moment))
        position = position_of(self.source.log(), as_of)
        if found is None or found.status in FINISHED:
            task = self.get_task(task_id, as_of=as_of)
            last = [record for record in self.events(task_id) if record.position <= position][-1]
            return _why_ended(task, last, live=False)
        since = partial(self._status_since, position)
        return replace(found, reasons=tuple(self._with_evidence(task_id, one, since) for one in found.reasons))

    def _status_since(self, position: int, task_id: int) -> int:
        """The position of the event that gave a task the status that it had at a position."""
        passing = (Progressed, Checkpointed)
        until = (one.position for one in self.events(task_id) if not isinstance(one.event, passing))
        return max((at for at in until if at <= position), default=0)

    def queue(self, limit: int = QUEUE_SHOWN, *, as_of: Point | None = None) -> QueueBoard:
        """The first tasks of the queue, with the terms of each priority, and the running tasks.

        As of an earlier position or time slots and the machine are unknown: the log does not have them.
        """
        check_whole(limit, "limit")
        live = as_of is None and self.source.live
        return self.source.state_as_of(as_of, lambda state, now: queue_board(state, now, limit, live=live))

    def limits(self, *, as_of: Point | None = None) -> LimitsBoard:
        """The limits on what may run at once, and which of them operators have changed.

        As of an earlier position or time: the changes that held then, on top of today's configuration.
        """
        return self.source.state_as_of(as_of, lambda state, _now: limits_board(state))

    def tokens(self, *, as_of: Point | None = None) -> list[TokenBoard]:
        """All tokens, by name: those that were added and not revoked, now or as of a position or time."""
        return list(self.source.orders_as_of(as_of, token_boards))

    def nodes(self, *, as_of: Point | None = None) -> list[NodeBoard]:
        """The nodes that attempts run on, by name: what each has, its state, and when it was last seen.

        A single machine is one node, called `local`. Lost nodes come last. Without a service, and as of an earlier
        position or time, only what is recorded about nodes is known.
        """
        local = local_node() if as_of is None else NodeSeen(node=LOCAL)
        return list(self.source.state_as_of(as_of, lambda state, _now: node_boards(state, local)))

    def sources(self, *, as_of: Point | None = None) -> list[WatchedFolder]:
        """All watched folders, by name, now or as of a position or time."""
        return list(self.source.orders_as_of(as_of, source_boards))

    def schedules(self, *, as_of: Point | None = None) -> list[ScheduleBoard]:
        """All schedules, by name, now or as of a position or time."""
        return list(
            self.source.state_as_of(as_of, lambda state, at: schedule_boards(state, None if as_of is None else at))
        )

    def erasable(self, user_id: int) -> Erasable:
        """Count what `erase_user` would erase of a user. It reads all records, and changes nothing."""
        return self.source.log().erasable(check_whole(user_id, "user_id", 1))

    def _with_evidence(self, task_id: int, one: Obstacle, status_since: Callable[[int], int]) -> Obstacle:
        """Add positions of the events that explain the obstacle."""
        match one.reason:
            case _ if one.evidence:
                return one
            case WaitReason.HELD | WaitReason.NOT_BEFORE:
                return replace(one, evidence=(self.events(task_id)[0].position,))
            case WaitReason.RETRY_DELAY:
                return replace(one, evidence=(status_since(task_id),))
            case WaitReason.DEPENDENCY | WaitReason.DEPENDENCY_FAILED:
                return replace(one, evidence=tuple(map(status_since, one.tasks)))
            case _:
                return one

    def _with_retries(self, one: Obstacle) -> Obstacle:
        """Add the commands that would make a failed dependency run again."""
        if one.reason is not WaitReason.DEPENDENCY_FAILED:
            return one
        return replace(one, commands=retries(one.tasks, self._state_of))

    def _state_of(self, task_id: int) -> TaskState:
        task = fold(task_id, ((record.event, record.recorded_at) for record in self.events(task_id)))  # type: ignore[misc]  # task events
        assert task is not None, "a task without events is refused as unknown"
        return task

    # --- the types ----------------------------------------------------------------------------------------------

    def types(self) -> list[TypeInfo]:
        """The task types that have handlers, with the JSON schema of their options."""
        return type_infos(self.source.registry)

    def handler_errors(self) -> list[TasktrailError]:
        """The errors of handlers that are configured or installed and could not be loaded."""
        return list(self.source.registry.errors)


def attempts_until(questions: Questions, task_id: int, version: int) -> Iterator[Attempt]:
    """Yield the attempts of a task up to a version. Its records, however many, are read some at a time."""

    def records() -> Iterator[Recorded]:
        for known in range(0, version, _LIFE_AT_ONCE):
            yield from questions.events_after(task_id, known, min(_LIFE_AT_ONCE, version - known))

    return attempts_of(records())


def _why_ended(task: Task, last: Recorded, *, live: bool) -> Why:
    remark = f"It ended at position {last.position}, by {last.actor}: {last.reason or describe(last.event)}"
    if isinstance(last.event, Failed) and (more := why_final(last.event, task.retry_count, task.max_retries)):
        remark = f"{remark.rstrip('.')}. {more}"
    return Why(task_id=task.id, status=task.status, waiting=False, live=live, remark=remark)


def task_seen_by(source: Source, user_id: int | None, task_id: int, as_of: Point | None) -> Task:
    """One task, now or as of a position or time, with those of its children that are the user's; with None, all."""
    if as_of is None:
        now = source.clock.now()
        return source.ask(lambda views: replace(views.get(task_id, now), children=views.children(task_id, user_id)))
    point = parse_point(as_of)
    refuse_future(point, source.clock.now())

    def then(views: TaskQueries) -> Task:
        past = Past(views, source.log(), point)
        return replace(past.get(task_id), children=past.children(task_id, user_id))

    try:
        return source.ask(then)
    except ViewsFailed:  # the task's own records are quickly read; its children are left out
        return task_as_of(source.log(), task_id, point)


def batch_named(name: str, batch: Batch | None, *, then: bool = False) -> Batch:
    """Return the batch that was found, now or `then`. Raises `UnknownBatch` if there is none."""
    if batch is None:
        belongs = f"belonged to a batch {name!r} then" if then else f"belongs to a batch {name!r}"
        raise UnknownBatch(f"No task {belongs}", field="batch")
    return batch


def type_infos(registry: Registry) -> list[TypeInfo]:
    """The registered task types as `tasktrail types` shows them."""
    return [type_info(task_type, registry.presets.of(task_type.name)) for task_type in registry]


def type_info(task_type: TaskType, presets: tuple[Preset, ...] = ()) -> TypeInfo:
    """One task type as `tasktrail types` shows it."""
    return TypeInfo(
        name=task_type.name,
        summary=task_type.summary,
        resumable=task_type.resumable,
        needs_input=task_type.needs_input,
        needs_output=task_type.needs_output,
        options=msgspec.json.schema(task_type.options),
        programs=task_type.programs() if task_type.programs else (),
        output_suffix=task_type.output_suffix,
        presets=presets,
        missing=missing_packages(task_type),
        install=task_type.packages.install,
    )


class Reader(Questions):
    """Answers about a data folder on which no service runs. Views that lag behind the log are caught up first."""

    def __init__(
        self,
        data: str | Path,
        *,
        registry: Registry | None = None,
        load: Callable[[], Registry] = Registry.load,
        clock: Clock | None = None,
        config: Callable[[], Config] | None = None,
        folding: Folding = silent_folding,
        built_anew: Callable[[str], None] = log_built_anew,
    ) -> None:
        """Open a data folder.

        Args:
            data: the folder.
            registry: the task types.
            load: loads the task types when they are first needed, if `registry` is not given.
            clock: by default the system's.
            config: reads the configuration, each time it is needed; by default from the data folder.
            folding: entered while much of the log is folded; gives a function that is called with the progress.
            built_anew: called with the reason when damaged views were built anew; by default it is logged.
        """
        source = Unattended(
            path_of(data, "data"),
            registry=registry,
            load=load,
            clock=clock,
            config=config,
            folding=folding,
            built_anew=built_anew,
        )
        super().__init__(source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's connections; those of others go with their threads."""
        self.source.disconnect()
