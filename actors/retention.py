"""Retention: forgets finished tasks by the configured rules, and archives old records.

One commit replaces all records of a forgotten task by stubs. Afterwards its data is removed from the views, the
snapshots and the attempts' output, no matter who had it forgotten. A start that finds such data removes it, too.
"""

import sqlite3
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from ..events import TaskState, TasktrailError
from ..events.clock import Clock, boot_seconds
from ..events.errors import ChangedMeanwhile, NotReady, TaskForgotten
from ..events.existence import exists, is_dir, is_file
from ..events.log.address import is_address
from ..events.log.log_reader import LogReader
from ..events.log.opening import read_log
from ..events.log.stubs import Drop
from ..events.ranges import NumberRange, is_within, spans_of, to_ranges
from ..events.system_events import DeliveryAttempted, RetentionRule, SegmentArchived, TasksForgotten, UserErased
from ..events.values import MAX_INTEGER
from ..handlers.workspace import remove_entry
from ..projections import ViewsDamaged
from ..projections.queries.forgettable import Forgettable, Forgotten, count_forgettable, forgettable
from ..projections.queries.reader import TaskQueries
from ..projections.rebuilding import build, clear_write_ahead_log
from ..projections.views.forgotten import holds_forgotten
from .actor import Actor
from .alarm import Alarm
from .archiver import Archiver, SchedulerReply, discard_archive, rewrite_archive
from .core.messages import Forget, Tick
from .feed import REST_AFTER_BUILD, Watermark
from .logger import get_logger
from .messages import WAKE, Ticket, Wake
from .side_process import ProcessEnded, SideProcess, follow_parent
from .snapshot_file import SnapshotUnusable, header_of
from .snapshots import OUTBOX_SNAPSHOT, SCHEDULER_SNAPSHOT, loader

logger = get_logger()

EVERY = 3600.0
"""Seconds between two applications of the rules."""
AGAIN = 5.0
"""Seconds until work that was not possible yet is tried again."""
AT_ONCE = 500
"""The most tasks that one record forgets: the Scheduler checks each, and its other messages wait meanwhile."""
ARCHIVED_AT_ONCE = 5000
"""The same for archived tasks: more, because each time the archive with their records is written anew."""
RECORDS_AT_ONCE = 20_000
"""The most records of these tasks, unless a single task has more."""
_TRIES = 5


class Forgetter:
    """Finds the tasks that a rule forgets, and has the Scheduler forget them. Any thread may call its methods.

    Args:
        log_path: the log.
        views_path: the views.
        tell: gets messages for the Scheduler.
        settle: waits until the views have all durable records.
        on_damage: called when views are damaged, to have them built anew.
        sources: the names of the watched folders.
        alone: held by any thread while it writes archives.
        clock: the wall clock.
        passed: seconds on a clock that cannot be set, and that goes on while the machine sleeps.
    """

    def __init__(
        self,
        *,
        log_path: Path,
        views_path: Path,
        tell: Callable[[Forget], None],
        settle: Callable[[], None],
        on_damage: Callable[[ViewsDamaged], None],
        sources: Callable[[], Collection[str]],
        alone: threading.Lock,
        clock: Clock,
        passed: Callable[[], float] = boot_seconds,
    ) -> None:
        self._alone = alone
        self._log_path = log_path
        self._views_path = views_path
        self._tell = tell
        self._settle = settle
        self._on_damage = on_damage
        self._sources = sources
        self._clock = clock
        self._passed = passed
        self._began = clock.now(), passed()

    def now(self) -> datetime:
        """The time, but no later than the start plus the seconds since: a clock set forward drops nothing early."""
        began, then = self._began
        return min(self._clock.now(), began + timedelta(seconds=self._passed() - then))

    def count(self, rule: RetentionRule) -> Forgotten:
        """Count what `forget` would forget."""
        self._settle()
        with self.views() as conn:
            return count_forgettable(conn, rule, self.now(), self._sources())

    @contextmanager
    def views(self) -> Iterator[sqlite3.Connection]:
        """Open the views. Raises `ViewsDamaged`; they are then built anew, so that a later call succeeds."""
        try:
            with closing(TaskQueries.open(self._views_path)) as views, views.moment() as conn:
                yield conn
        except ViewsDamaged as error:
            self._on_damage(error)
            raise

    def forget(
        self,
        rules: Sequence[RetentionRule],
        place: int = 0,
        *,
        actor: str,
        reason: str = "",
        configured_at: int = 0,
        on_progress: Callable[[], object] = lambda: None,
    ) -> Forgotten:
        """Forget all tasks that one of the rules forgets.

        Args:
            rules: all rules; the first one that fits a task holds for it.
            place: the index of the rule to apply.
            actor: who asks for it.
            reason: why.
            configured_at: the position of the record of the rules; 0 without one.
            on_progress: called in the middle of long work.

        Raises:
            NotReady, OutcomeUnknown: it could not be recorded. Tasks forgotten before that remain forgotten.
        """
        tasks, records, position, tries = 0, 0, 0, 0
        below = MAX_INTEGER
        while batch := self._next_batch(rules, place, below):
            try:
                with self._alone:
                    states, event, archives = self._drop(batch, rules[place], on_progress)
                    message = Forget(
                        tasks=states,
                        event=event,
                        archives=archives,
                        actor=actor,
                        reason=reason,
                        configured_at=configured_at,
                    )
                    position = self._recorded(message)
            except ChangedMeanwhile:
                tries += 1
                if tries > _TRIES:
                    raise
                continue
            tasks, tries, below = tasks + len(batch), 0, batch[-1].task_id
            records += sum(last - first + 1 for first, last in spans_of(event.positions))
        return Forgotten(tasks=tasks, records=records, position=position)

    def _forgettable(
        self, rules: Sequence[RetentionRule], place: int, below: int = MAX_INTEGER
    ) -> Iterator[Forgettable]:
        self._settle()
        with self.views() as conn:
            yield from forgettable(conn, rules, place, self.now(), self._sources(), below)

    def _next_batch(self, rules: Sequence[RetentionRule], place: int, below: int) -> list[Forgettable]:
        batch: list[Forgettable] = []
        records = 0
        with closing(read_log(self._log_path)) as log:
            archived = max((one.newest_task for one in log.segments()), default=0)
        with closing(self._forgettable(rules, place, below)) as candidates:  # type: ignore[type-var]  # it is a generator
            for ended in candidates:
                records += ended.version
                most = ARCHIVED_AT_ONCE if ended.task_id <= archived else AT_ONCE
                if batch and (len(batch) >= most or records > RECORDS_AT_ONCE):
                    break
                batch.append(ended)
        return batch

    def _drop(
        self, batch: list[Forgettable], rule: RetentionRule, on_progress: Callable[[], object]
    ) -> tuple[dict[int, TaskState], TasksForgotten, tuple[SegmentArchived, ...] | None]:
        """The tasks, the event to record, and the new archives, which replace those with the tasks' records.

        A database has all records in its tables, so None stands for the archives there.

        Raises `ChangedMeanwhile`.
        """
        with closing(read_log(self._log_path)) as log:
            states = dict[int, TaskState]()
            noted = chain.from_iterable(ended.notes for ended in batch)
            notes = [position for position in noted if _may_be_dropped(log, position)]
            positions, stubs = log.to_drop(_reading(log, batch, states, on_progress), notes)
            in_file = not is_address(self._log_path)
            archives = self._archives_without(log, spans_of(positions), on_progress) if in_file else None
        gone = to_ranges(ended.task_id for ended in batch)
        event = TasksForgotten(tasks=gone, positions=positions, stubs=stubs, rule=rule)
        return states, event, archives

    def _archives_without(
        self, log: LogReader, dropped: Sequence[NumberRange], on_progress: Callable[[], object]
    ) -> tuple[SegmentArchived, ...]:
        """Write anew the archives that hold dropped records, without these."""
        changed = [one for one in log.segments() if any(a <= one.last and b >= one.first for a, b in dropped)]
        archives = []
        for segment in changed:
            archives.append(rewrite_archive(log, self._log_path, segment, dropped))
            on_progress()
        return tuple(archives)

    def _recorded(self, message: Forget) -> int:
        try:
            return self._send(message)
        except ChangedMeanwhile:
            for event in message.archives or ():
                discard_archive(self._log_path, event)
            raise

    def _send(self, message: Forget) -> int:
        reply = SchedulerReply()
        self._tell(msgspec.structs.replace(message, token=Ticket(reply.put, "", b"", fresh=True)))
        return reply.get().position


def _reading(
    log: LogReader, batch: list[Forgettable], states: dict[int, TaskState], on_progress: Callable[[], object]
) -> Iterator[int]:
    """Load each task and yield its id right after: the caller then needs the same frames of the archives."""
    load = loader(log)
    for ended in batch:
        try:
            task = load(ended.task_id, MAX_INTEGER)
        except TaskForgotten as error:  # someone else was faster
            raise ChangedMeanwhile(error.message) from error
        if task.version != ended.version:
            raise ChangedMeanwhile(f"Task {task.id} has changed since it was chosen to be forgotten")
        states[task.id] = task
        on_progress()
        yield task.id


def _may_be_dropped(log: LogReader, position: int) -> bool:
    """Whether a record may be dropped: not if it disables a receiver or erases a user, as that concerns other tasks."""
    event = next(log.read(position - 1, 1)).event
    return not (isinstance(event, UserErased) or (isinstance(event, DeliveryAttempted) and event.disabled))


class Retention(Actor):
    """Applies the rules every hour, and removes data of forgotten tasks outside the log.

    Args:
        forgetter: finds the tasks and has them forgotten.
        archiver: archives records.
        archive_after: returns the seconds after which records are archived; None for never.
        rules: returns the configured rules and the position of their record; no rules if none apply here.
        log_path: the log.
        views_path: the views.
        snapshots: the folder of snapshots.
        folders: folders with one folder for each task.
        pictures: a folder of pictures, which may be deleted at any time; some may show files of forgotten tasks.
        rebuilding: held while views are built beside the live ones.
        adopt_views: replaces the live views by those that were built beside them. Raises `TasktrailError`.
        take_snapshot: asks for a new snapshot.
        settle: waits until the views have all durable records.
        cleared: raised to the position up to which nothing is left of forgotten tasks.
        clock: for the hourly runs.
    """

    def __init__(
        self,
        *,
        forgetter: Forgetter,
        archiver: Archiver,
        archive_after: Callable[[], float | None],
        rules: Callable[[], tuple[Sequence[RetentionRule], int]],
        log_path: Path,
        views_path: Path,
        snapshots: Path,
        folders: Sequence[Path],
        pictures: Path,
        rebuilding: threading.Lock,
        adopt_views: Callable[[], object],
        take_snapshot: Callable[[], None],
        settle: Callable[[], None],
        cleared: Watermark,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._settle = settle
        self._forgetter = forgetter
        self._archiver = archiver
        self._archive_after = archive_after
        self._rules = rules
        self._log_path = log_path
        self._views_path = views_path
        self._snapshots = snapshots
        self._folders = folders
        self._pictures = pictures
        self._rebuilding = rebuilding
        self._adopt_views = adopt_views
        self._take_snapshot = take_snapshot
        self._cleared = cleared
        self._clock = clock
        self._building = 0
        """The views being built lack the tasks that were forgotten up to this position; 0 while none are built."""
        self._began = 0.0
        """When that build began, on the monotonic clock."""

    def on_start(self) -> None:
        """Clear up what an earlier service has left, then apply the rules every hour."""
        self._process = SideProcess("tasktrail.actors.retention", self.actor_ref.tell)
        self._hourly = Alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "retention-alarm")
        self._soon = Alarm(lambda: self.actor_ref.tell(WAKE), self._clock, "retention-again")
        self.actor_ref.tell(WAKE)
        self.actor_ref.tell(Tick())

    def on_stop(self) -> None:
        """Stop. The next start clears up the rest."""
        self._hourly.close()
        self._soon.close()
        self._process.kill()
        self._release_rebuilding()

    def receive(self, message: Any) -> None:
        """Apply the rules when it is time, and clear up after what was forgotten."""
        match message:
            case Tick():
                self._hourly.set_after(EVERY)  # not by the wall clock, which may be put back by a year
                self._apply()
            case Wake():
                self._clear()
            case ProcessEnded():
                self._process.forget()
                self._take_over_views(message)

    def _apply(self) -> None:
        rules, configured_at = self._rules()
        for place, rule in enumerate(rules):
            try:
                done = self._forgetter.forget(
                    rules,
                    place,
                    actor="retention",
                    configured_at=configured_at,
                    on_progress=lambda: self.tell_progress(0, 0),
                )
            except TasktrailError as error:
                logger.warning("tasks could not be forgotten", rule=rule.words, error=str(error))
                continue
            if done.tasks:
                logger.info("tasks forgotten", rule=rule.words, tasks=done.tasks, records=done.records)
        if rules:
            self._clear()
        self._archive(configured_at)

    def _archive(self, configured_at: int) -> None:
        after = self._archive_after()
        try:
            if after is None:
                with suppress(NotReady):  # on a full disk, for example, the log is not open yet; the next hour will do
                    self._archiver.finish()  # what an earlier service has begun
                return
            before = self._clock.now() - timedelta(seconds=after)
            done = self._archiver.archive(
                before, actor="retention", configured_at=configured_at, progress=self.tell_progress
            )
        except TasktrailError as error:
            logger.warning("records could not be archived", error=str(error))
            return
        if done.archives:
            logger.info("records archived", records=done.records, size=done.size)

    def _clear(self) -> None:
        if self._building:
            return
        with closing(read_log(self._log_path)) as log:
            drops = log.drops()
        last = drops[-1].position if drops else 0
        if last <= self._cleared.position:
            return
        try:
            self._drop_snapshots(last)
            self._settle()
            self._empty_folders(drops)
            if self._views_are_old():
                self._drop_pictures()
                self._build(last)
                return
        except (OSError, TasktrailError, sqlite3.Error) as error:
            logger.warning("something is still left of forgotten tasks", error=str(error))
            self._soon.set_after(AGAIN)
            return
        self._cleared.rise(last)

    def _drop_snapshots(self, last: int) -> None:
        for kind in (SCHEDULER_SNAPSHOT, OUTBOX_SNAPSHOT):
            path = self._snapshots / kind.name
            try:
                old = header_of(path).position < last
            except SnapshotUnusable:
                old = True
            if old and exists(path):
                remove_entry(path)
                self._take_snapshot()

    def _empty_folders(self, drops: Sequence[Drop]) -> None:
        gone = sorted(span for drop in drops for span in spans_of(drop.event.tasks))
        for folder in self._folders:
            for entry in folder.iterdir() if is_dir(folder) else ():
                name = entry.name.partition(".")[0]  # notes stand beside a task's folder
                if name.isdecimal() and is_within(int(name), gone):
                    with suppress(FileNotFoundError):  # others may remove it first
                        remove_entry(entry)

    def _drop_pictures(self) -> None:
        for path in self._pictures.iterdir() if is_dir(self._pictures) else ():
            if is_file(path):
                path.unlink(missing_ok=True)

    def _views_are_old(self) -> bool:
        with self._forgetter.views() as conn:
            return bool(holds_forgotten(conn))

    def _build(self, last: int) -> None:
        if not self._rebuilding.acquire(blocking=False):
            self._soon.set_after(AGAIN)  # the build under way will do, unless it began before the drop
            return
        self._building, self._began = last, self._clock.monotonic()
        try:
            self._process.start(str(self._log_path), str(self._views_path))
        except OSError:
            self._release_rebuilding()
            raise

    def _release_rebuilding(self) -> None:
        if self._building:
            self._building = 0
            self._rebuilding.release()

    def _take_over_views(self, ended: ProcessEnded) -> None:
        try:
            if ended.code:
                raise NotReady(f"Views could not be built: {ended.last_error}")
            self._adopt_views()
            clear_write_ahead_log(self._views_path)
        except TasktrailError as error:
            logger.warning("the views still have forgotten tasks", error=str(error))
            self._soon.set_after(max(AGAIN, REST_AFTER_BUILD * (self._clock.monotonic() - self._began)))
        else:
            self.actor_ref.tell(WAKE)  # there may be more by now
        finally:
            self._release_rebuilding()


def main(log_path: str, views_path: str, parent: str) -> None:
    """Build new views in a file beside the live ones."""
    if not follow_parent(parent):
        return
    with closing(read_log(Path(log_path))) as log:
        build(log, Path(views_path))


if __name__ == "__main__":
    main(*sys.argv[1:])
