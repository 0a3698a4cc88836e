"""Checks a log: schema, structure and indexes; from its raw rows the chain, the numbering, the rules; then the views.

It reads what is there and never raises on damage: each fault is a finding with its position. It can be run beside a
live service, on a copy, or with no service at all.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...events import Cancelled, CancelTask, TasktrailError
from ...events.commands import digest as digest_of
from ...events.log.chain import GENESIS, link
from ...events.log.integrity import UNREADABLE, Damage, is_as_written, is_well_typed
from ...events.log.rows import from_row
from ...events.log.sqlite import LogReader
from ...events.recorded import EVENT_TAGS
from ...events.system_events import SYSTEM_TAGS, Adjusted, RedeliveryRequested
from ...events.task_events import is_terminal
from ..views.building import Progress
from .findings import Findings, Verification
from .lawful import Lawbook
from .views import compare

__all__ = ["Verification", "verify"]

_EVERY = 5000
_ABOUT_A_TASK = (SYSTEM_TAGS[Adjusted], SYSTEM_TAGS[RedeliveryRequested])
_CANCELLED = EVENT_TAGS[Cancelled]


def verify(log: LogReader, views: Path | None = None, progress: Progress | None = None) -> Verification:
    """Check everything that can be checked without a key. `progress` is told the position and the head."""
    findings = Findings()
    walk = _Walk(findings)
    for fault in log.file_faults():
        findings.add(*fault)
    try:
        head = log.head().position
    except (*UNREADABLE, TasktrailError) as error:
        findings.add(0, "file", f"the end of the log cannot be read: {error}")
        head = 0
    for row in log.raw_rows():
        walk.check(row)
        if progress is not None and walk.records % _EVERY == 0:
            progress(walk.position, head)
    walk.finish()
    answers = _check_answers(log, findings)
    views_position = None
    if views is not None and not findings:
        views_position = compare(log, views, findings, progress)
    return Verification(
        ok=not findings,
        records=walk.records,
        tasks=walk.law.tasks,
        position=walk.position,
        head=walk.hash.hex(),
        answers=answers,
        views_position=views_position,
        findings=tuple(sorted(findings.listed, key=lambda finding: finding.position)),
        more=findings.more,
    )


class _Walk:
    """One pass over the rows. After a fault it goes on from what stands there, so that one fault is one finding."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.law = Lawbook()
        self.records = 0
        self.position = 0
        self.hash = GENESIS
        self._versions: defaultdict[int, int] = defaultdict(int)
        self._recorded_at = datetime.min.replace(tzinfo=UTC)

    def check(self, row: tuple[Any, ...] | Damage) -> None:
        """One row in order of position, its hash last."""
        if isinstance(row, Damage):
            self._findings.add(row.position, "unreadable", row.reason)
            self.position, self.hash = row.position, b""
            return
        position, digest = row[0], row[14]
        self.records += 1
        if not is_well_typed(row):
            self._findings.add(position, "unreadable", "a value is not of the type that a log stores, or is no UTF-8")
            self.position, self.hash = position, digest if isinstance(digest, bytes) else b""
            self.law.lose(row[1])
            return
        if position != self.position + 1:
            self._findings.add(self.position + 1, "gap", f"position {position} follows on {self.position}")
        elif self.hash:  # that of the record in front, if it could be read
            self._check_chain(row[:14], digest)
        self.position, self.hash = position, digest
        self._check_version(position, row[1], row[2])
        self._check_record(row[:14], digest)

    def _check_chain(self, row: tuple[Any, ...], digest: bytes) -> None:
        if link(self.hash, row) != digest:
            self._findings.add(row[0], "chain", "the record or one before it was changed: its hash does not fit")

    def _check_version(self, position: int, task_id: int, version: int) -> None:
        expected = self._versions[task_id] + 1
        if version != expected:
            self._findings.add(position, "version", f"task {task_id} is at version {version}, {expected} is due")
        self._versions[task_id] = version

    def _check_record(self, row: tuple[Any, ...], digest: bytes) -> None:
        position, terminal = row[0], row[12]
        try:
            record = from_row(row, digest)
        except TasktrailError as error:
            self._findings.add(position, "unreadable", error.message)
            self.law.lose(row[1])
            return
        at = record.recorded_at
        if at.utcoffset() is None:
            self._findings.add(position, "unreadable", f"the time {row[4]!r} has no time zone")
        elif at < self._recorded_at:
            self._findings.add(position, "time", f"recorded at {row[4]}, before the record in front of it")
        else:
            self._recorded_at = at
        if bool(terminal) != is_terminal(record.event):
            self._findings.add(position, "illegal", f"marked terminal = {terminal}, which its event is not")
        for fault in self.law.judge(record):
            self._findings.add(position, "illegal", fault)

    def finish(self) -> None:
        """What only the end of the log shows."""
        for position, fault in self.law.end():
            self._findings.add(position, "illegal", fault)


def _check_answers(log: LogReader, findings: Findings) -> int:
    """Every answer must point at the last event its command caused, name its task, and be as it was written.

    Every command that caused something must have one. Says how many there are.
    """
    number = 0
    try:
        for position, command_id in log.unanswered():
            findings.add(position, "answer", f"the answer to {command_id} is missing")
        summed = log.has_sums()
        for command_id, task_id, position, caused_by, *record, digest, before, found in log.answered(sums=summed):
            number += 1
            if fault := _fault_of(log, (command_id, digest, task_id, position), caused_by, tuple(record), before):
                findings.add(position, "answer", f"the answer to {command_id} {fault}")
            elif summed and not is_as_written((command_id, digest, task_id, position), found):
                findings.add(position, "answer", f"the answer to {command_id} is not as it was written")
    except (*UNREADABLE, TypeError, TasktrailError) as error:
        findings.add(0, "file", f"the answers cannot be read: {error}")
    return number


def _fault_of(
    log: LogReader, answer: tuple[Any, ...], caused_by: str | None, record: tuple[Any, ...], before: str | None
) -> str:
    """What is wrong with where an answer points, in words. `record` is there; `before` caused the one before that."""
    command_id, digest, task_id, position = answer
    if caused_by is None:
        return "points behind the end of the log"
    if caused_by != command_id:
        return f"points at an event of {caused_by!r}"
    first = record if before != command_id else log.first_of(command_id, position)
    if first is None or task_id != _meant(log, digest, first):
        return f"names task {task_id}, not the event's"
    return ""


def _meant(log: LogReader, digest: bytes, first: tuple[Any, ...]) -> int | None:
    """The task that a command was about: that of the first record it led to, with one exception.

    A cancel with children whose task was over already leads to records of tasks below it only. Which one was meant
    does not stand in them; the command's digest tells.
    """
    task_id, event, data = first
    if task_id == 0:
        return _spoken_of(data) if event in _ABOUT_A_TASK else 0
    if event == _CANCELLED:
        for above in log.line_of(task_id):
            if digest == digest_of(CancelTask(task_id=above, children=True)):
                return above
    return int(task_id)


def _spoken_of(data: str) -> int | None:
    """The task that a record under task 0 speaks of."""
    try:
        task_id = json.loads(data).get("task_id")
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return task_id if isinstance(task_id, int) else None
