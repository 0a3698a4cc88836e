"""Checks that a history keeps the rules: the state machine, written a second time, apart from `decide` and `evolve`.

Pure. After a breach it goes on as if the event had been right, so that one fault gives one finding.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeAlias

import msgspec

from ..events import Cancelled, Created, Event, Failed, Recorded, Retried, Started
from ..events.ranges import NumberRange, is_within, spans_of
from ..events.recorded import EVENT_TAGS
from ..events.system_events import (
    SYSTEM_TAGS,
    Adjusted,
    Deduplicated,
    DeliveryAttempted,
    DeliveryPostponed,
    RedeliveryRequested,
    RetentionConfigured,
    RetentionRule,
    ServiceStarted,
    TasksForgotten,
)
from ..events.task_events import is_erased, unique_key_of
from ..events.values import EARLIEST, LATEST

_Move: TypeAlias = str
"""An event's tag; failures and retries have more than one move."""

_WAITING = ("pending", "retrying")
_OVER = ("completed", "failed", "cancelled")
# "failing" stands between a failure that is not final and the `Retried` that must follow at once.
_LAW: dict[tuple[str, _Move], str] = {
    ("new", "created"): "pending",
    **{(status, "started"): "running" for status in _WAITING},
    **{(status, "failed for good"): "failed" for status in (*_WAITING, "running")},
    **{(status, "cancelled"): "cancelled" for status in (*_WAITING, "running")},
    ("running", "progressed"): "running",
    ("running", "checkpointed"): "running",
    ("running", "completed"): "completed",
    ("running", "failed, to be retried"): "failing",
    ("failing", "retried"): "retrying",
    ("failed", "retried by hand"): "retrying",
    ("cancelled", "retried by hand"): "retrying",
}
_LONGEST_NUMBER = 20
_LEADS_TO: dict[_Move, str] = {move: after for (_before, move), after in _LAW.items()}


class _Track(msgspec.Struct, gc=False):
    """The facts about a task that are needed to judge its next event."""

    status: str = "new"
    attempt: int = 0
    life: int = 1
    position: int = 0
    created: bool = False
    """Whether its first record was read, so that it is known whether it has a key …"""
    hidden: bool = False
    """… unless that record is encrypted or erased."""
    losses: int = 0
    """The number of losses of all tasks that its status takes into account."""


class _Needs:
    """The tasks that open tasks refer to. They must not be forgotten before these."""

    def __init__(self) -> None:
        self._references: dict[int, frozenset[int]] = {}
        """Open task → the tasks that it refers to."""
        self._referrers: dict[int, set[int]] = {}
        """Task → the open tasks that refer to it."""

    def add(self, task_id: int, others: Iterable[int]) -> None:
        """Note that the task is open and refers to others."""
        if task_id not in self._references:
            self._references[task_id] = frozenset(others)
            for other in self._references[task_id]:
                self._referrers.setdefault(other, set()).add(task_id)

    def remove(self, task_id: int) -> None:
        """Note that the task is over, or that its status is unknown."""
        for other in self._references.pop(task_id, ()):
            self._referrers[other].remove(task_id)
            if not self._referrers[other]:
                del self._referrers[other]

    def broken_by(self, forgotten: Sequence[NumberRange]) -> Iterator[tuple[int, int]]:
        """Each forgotten task, with each task that is not forgotten and refers to it.

        It walks the smaller of the two sets: a log may forget a thousand times, and have many waiting tasks.
        """
        few = sum(last - first + 1 for first, last in forgotten) < len(self._referrers)
        numbers = (number for first, last in forgotten for number in range(first, last + 1))
        for other in numbers if few else sorted(self._referrers):
            if is_within(other, forgotten):
                for task_id in sorted(self._referrers.get(other, ())):
                    if not is_within(task_id, forgotten):
                        yield other, task_id


class Lawbook:
    """Judges records in order. It keeps a few numbers for each task in memory."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._keys: dict[int, str] = {}
        """Task with a key → the key."""
        self._holders: dict[str, int] = {}
        """Key → the open task that has it."""
        self._refers: dict[int, tuple[int, ...]] = {}
        """Task → the tasks that it refers to, if any."""
        self._needs = _Needs()
        self._rules: dict[int, tuple[RetentionRule, ...]] = {}
        """Position of a `RetentionConfigured` → its rules."""
        self._complete = True
        """Whether all records of the service could be judged."""
        self._epoch = 0
        self._unknown = False
        """Whether there may be tasks without a single record that could be judged."""
        self._until = 0
        """All tasks up to this one have a track."""
        self._newest = 0
        """The task that was created last."""
        self._losses = 0
        """How often all tasks were lost. A track is updated when it is used: there may be many losses and tasks."""
        self._failing: set[int] = set()
        """The tasks that failed and must be retried by the next record."""

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return len(self._tracks)

    def judge(self, record: Recorded) -> Iterator[str]:
        """The faults of the record, in words."""
        of_schedule = record.event.fire_time if isinstance(record.event, Created | Deduplicated) else None
        if of_schedule is not None and not EARLIEST <= of_schedule < LATEST:  # no later run could follow
            yield "it is the run of a time that is not between the years 1970 and 9900"
        if type(record.event) in SYSTEM_TAGS:
            yield from self._judge_system(record, record.event)
        elif record.task_id <= 0:
            yield f"`{EVENT_TAGS[type(record.event)]}` stands under task {record.task_id}, which is the service's own"
        else:
            yield from self._judge_task(record)

    def lose(self, task_id: int) -> None:
        """Note that a record of the task cannot be judged: its next record has to be believed."""
        if task_id == 0:
            self._complete = False
            return
        self._needs.remove(task_id)
        self._tracks.setdefault(task_id, _Track()).status = "lost"
        self._failing.discard(task_id)

    def lose_all(self) -> None:
        """Note that records of unknown tasks cannot be judged."""
        self._losses += 1
        self._failing.clear()
        self._holders.clear()
        self._needs = _Needs()
        self._unknown, self._complete = True, False

    def lose_retries(self) -> None:
        """Note that records are missing: the retries that had to follow failures may be among them."""
        for task_id in tuple(self._failing):
            self.lose(task_id)

    def end(self) -> Iterator[tuple[int, str]]:
        """The faults that show at the end of the log: (position, words)."""
        for task_id in sorted(self._failing):
            yield self._tracks[task_id].position, f"task {task_id} failed, was to be retried, and no `retried` follows"

    def _track(self, task_id: int) -> _Track | None:
        """The present track of a task; None if it has none."""
        track = self._tracks.get(task_id)
        if track is not None and track.losses < self._losses:
            track.status, track.losses = "lost", self._losses
        return track

    def _judge_task(self, record: Recorded) -> Iterator[str]:
        event, task_id = record.event, record.task_id
        if isinstance(event, Created):
            yield from self._judge_created(event, task_id)
        track = self._track(task_id)
        if track is None:
            track = self._tracks[task_id] = _Track("lost" if self._unknown else "new", losses=self._losses)
        if isinstance(event, Created):
            track.created, track.hidden = True, is_erased(event)
        move = _move(event)
        if track.status == "lost":
            life, position = record.life, record.position
            known = track.created, track.hidden, self._losses
            self._tracks[task_id] = _Track(_LEADS_TO[move], record.attempt, life, position, *known)
            self._note_failing(task_id)
            return
        after = _LAW.get((track.status, move))
        if after is None:
            yield f"task {task_id} is {track.status} and cannot be {move}"
        else:
            yield from _judge_details(event, track, record)
        track.status = after or _LEADS_TO[move]
        track.attempt += isinstance(event, Started)
        track.life += move == "retried by hand"
        track.position = record.position
        self._note_failing(task_id)
        if track.status in _OVER:
            self._needs.remove(task_id)
        elif task_id in self._refers:
            self._needs.add(task_id, self._refers[task_id])
        if isinstance(event, Created) and event.unique:
            self._keys[task_id] = unique_key_of(event)
        if task_id in self._keys:
            yield from self._judge_key(task_id, track)
        if record.attempt != track.attempt:
            yield f"task {task_id} is in attempt {track.attempt}, the record says {record.attempt}"
        if record.life != track.life:
            yield f"task {task_id} is in life {track.life}, the record says {record.life}"

    def _note_failing(self, task_id: int) -> None:
        if self._tracks[task_id].status == "failing":
            self._failing.add(task_id)
        else:
            self._failing.discard(task_id)

    def _judge_created(self, event: Created, task_id: int) -> Iterator[str]:
        if self._unknown:  # task numbers only grow
            for before in range(self._until + 1, task_id):
                self._tracks.setdefault(before, _Track("lost", losses=self._losses))
            self._until = max(self._until, task_id - 1)
            self._unknown = False
        expected = len(self._tracks) + 1
        # A number that was left out is told once: it would make each later task a finding, and hide all others.
        if task_id not in self._tracks and task_id not in (expected, self._newest + 1):
            yield f"task {task_id} is created where task {expected} is due"
        self._newest = task_id
        others = (*event.depends_on, *((event.parent_task_id,) if event.parent_task_id else ()))
        if others:
            self._refers[task_id] = others
        for other in others:
            if other not in self._tracks:
                yield f"task {task_id} refers to task {other}, which does not exist"

    def _judge_key(self, task_id: int, track: _Track) -> Iterator[str]:
        key = self._keys[task_id]
        if track.status in _OVER:
            if self._holders.get(key) == task_id:
                del self._holders[key]
        elif (holder := self._holders.setdefault(key, task_id)) != task_id:
            yield f"task {task_id} is open and has the same key as task {holder}, which is open, too"

    def _judge_system(self, record: Recorded, event: Event) -> Iterator[str]:
        if record.task_id != 0 or record.attempt or record.life:
            yield f"`{EVENT_TAGS[type(event)]}` must stand under task 0, without attempt or life"
        match event:
            case ServiceStarted(epoch=epoch):
                if epoch <= self._epoch:
                    yield f"a service started with epoch {epoch} after epoch {self._epoch}"
                self._epoch = max(epoch, self._epoch)
            case Adjusted(task_id=task_id):
                track = self._track(task_id)
                status = "unknown" if track is None else track.status
                if status not in (*_WAITING, "lost") and not (status == "unknown" and self._unknown):
                    yield f"task {task_id} is {status} and cannot be adjusted"
            case Deduplicated(task_id=task_id) if not self._may_answer(task_id):
                yield f"task {task_id} is the answer to a command, and is not open with a key"
            case DeliveryAttempted() | DeliveryPostponed() | RedeliveryRequested():
                task_id = event.task_id
                if task_id not in self._tracks and not self._unknown:
                    yield f"a delivery speaks of task {task_id}, which does not exist"
            case RetentionConfigured(rules=rules):
                self._rules[record.position] = rules
            case TasksForgotten():
                yield from self._judge_forgotten(record, event)

    def _judge_forgotten(self, record: Recorded, event: TasksForgotten) -> Iterator[str]:
        """Judge a drop by the records that are left. The check of stubs judges the dropped records themselves."""
        kind, _, at = record.causation_id.partition(":")
        if kind == "event" and self._complete and event.rule not in self._rules.get(_number(at), ()):
            yield f"tasks were forgotten by a rule that is not recorded at {at[:20]}"
        with suppress(ValueError):  # unreadable ranges explain no stub, which the check of stubs reports
            forgotten = spans_of(event.tasks)
            for other, task_id in self._needs.broken_by(forgotten):
                yield f"task {other} is forgotten, and task {task_id}, which is open, refers to it"

    def _may_answer(self, task_id: int) -> bool:
        """Whether a task is open and has a key, as far as is known."""
        track = self._track(task_id)
        if track is None:
            return self._unknown
        if not track.created or track.status == "lost":
            return True
        if track.hidden:
            return track.status not in _OVER
        return task_id in self._keys and self._holders.get(self._keys[task_id]) == task_id


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _LONGEST_NUMBER else 0


def _move(event: Event) -> _Move:
    match event:
        case Failed(final=final):
            return "failed for good" if final else "failed, to be retried"
        case Retried(cause=cause):
            return "retried by hand" if cause == "manual" else "retried"
        case _:
            return EVENT_TAGS[type(event)]


def _judge_details(event: Event, track: _Track, record: Recorded) -> Iterator[str]:
    """The details of a legal move that contradict the track."""
    running = track.status == "running"
    match event:
        case Failed(outcome=outcome) if (outcome == "not_started") == running:
            yield f"task {record.task_id} is {track.status}, its failure says {outcome}"
        case Cancelled(attempt_running=was_running) if was_running != running:
            yield f"task {record.task_id} is {track.status}, its cancellation says otherwise"
        case Retried() if track.status == "failing" and record.position != track.position + 1:
            yield f"task {record.task_id} failed at {track.position} and is retried only here"
