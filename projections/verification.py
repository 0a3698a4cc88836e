"""Checks a log: its schema, structure and indexes; the chain, the numbering and the rules, row by row; then the views.

It only reads, and never raises on damage: each fault is a finding with its position. It can run beside a live service,
on a copy, or with no service at all.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ..events import Cancelled, CancelTask, TasktrailError
from ..events.commands import digest as digest_of
from ..events.counted import counted
from ..events.errors import PUT_LOG_BACK, KeysUnreadable, LogTooNew
from ..events.log.answers import NAMES_NO_COMMAND, is_as_written
from ..events.log.archives import KnownArchive
from ..events.log.chain import GENESIS, link
from ..events.log.event_log import ReportProgress
from ..events.log.faults import UNREADABLE, Damage, without_place
from ..events.log.integrity import is_well_typed
from ..events.log.key_check import NO_RECORDS, KeyCheck
from ..events.log.keys import Keys
from ..events.log.log_reader import LogReader
from ..events.log.rows import from_row
from ..events.log.stubs import StubCheck, StubFault, as_stub
from ..events.log.writers import Writer, writer_of
from ..events.recorded import EVENT_TAGS, STUB
from ..events.system_events import (
    SYSTEM_TAGS,
    Adjusted,
    Deduplicated,
    RedeliveryRequested,
    ServiceStarted,
)
from ..events.task_events import is_terminal
from ..events.values import EARLIEST, LATEST
from .comparison import compare_views
from .findings import LIMIT, REMEDIES, Finding, Findings, order
from .legal_transitions import Lawbook
from .proof.merkle import GrowingRoot, leaf_hash
from .proof.seals import SealCheck, Stamped, Witnessed


class WrittenBy(msgspec.Struct, frozen=True, kw_only=True):
    """A version that has written a stretch of a log: from one of its starts to the next start of another version."""

    version: str
    schema: str
    """The fingerprint of the forms of its events; empty for a version that did not record one."""
    since: int
    """The position of its first start in that stretch."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result. The log is sound if there are no findings; compare `head` with one that was kept elsewhere."""

    ok: bool
    records: int
    stubs: int = 0
    """How many of the records are only stubs."""
    stubs_of_service: int = 0
    """How many of the stubs belong to no task. It is no longer known which records they were."""
    drops: int = 0
    """The number of records that have dropped others."""
    without_key: int = 0
    """Records whose personal data cannot be read here, although no erasure is recorded: their keys are elsewhere or
    lost. The log is sound all the same."""
    without_key_since: int = 0
    """The position of the first of them."""
    tasks: int
    position: int
    """The last position that could be read."""
    head: str
    """Its hash, in hex."""
    answers: int
    views_position: int | None
    """The position of the views that were compared with the fold.

    None: there are none, the log or its keys have faults, or the views still have forgotten or erased data and are
    being built anew.
    """
    sealed: int | None = None
    """Up to this position the log is as its largest seal says. None: it was not compared with seals.

    A seal covers hashes. So this ends before the first record that does not match its hash, even if all hashes fit.
    """
    written_by: tuple[WrittenBy, ...] = ()
    """In order; the last one wrote the end."""
    witnessed: tuple[Witnessed, ...] = ()
    """For each given witness, how far it has signed."""
    stamped: Stamped | None = None
    """How far time authorities have stamped. None: this was not checked."""
    findings: tuple[Finding, ...]
    more: int
    """Findings beyond those listed."""


_EVERY = 5000
_AGAIN = 5
"""How often answers are checked anew while a service changes archives."""
_DAMAGE = ("chain", "gap", "unreadable", "archive", "version", "newer")
"""The codes of findings about a record that was changed or removed."""
_LOST_KEYS = (
    "the views hold personal data of tasks whose keys are no longer in keys.db, and no erasure is recorded: do not "
    "rebuild the views before the keys are back"
)
_PUT_BACK_OR_LOSE = (
    f"{REMEDIES['key']} If the keys are gone for good, `tasktrail rebuild`: the views then hold no more than the log."
)
_ABOUT_A_TASK = tuple(SYSTEM_TAGS[event] for event in (Adjusted, Deduplicated, RedeliveryRequested))
_CANCELLED = EVENT_TAGS[Cancelled]
_SERVICE_STARTED = EVENT_TAGS[ServiceStarted]


def verify(
    log: LogReader,
    views: Path | None = None,
    progress: ReportProgress | None = None,
    seals: SealCheck | None = None,
    *,
    keys: Keys | None = None,
    known_end: int = 0,
) -> Verification:
    """Check everything, and compare the log with seals and with keys of users if they are given.

    `progress` is called with the position and the head. `known_end` is a position that the log is known to have had.
    """
    findings = Findings()
    key_check = None if keys is None else KeyCheck(keys)
    walk = _Walk(findings, log.stub_check())
    for fault in log.file_faults():
        findings.add(*fault)
    try:
        head = log.head().position
    except (*UNREADABLE, TasktrailError) as error:
        findings.add(0, "file", f"the end of the log cannot be read: {error}")
        head = 0
    roots = _Roots(findings, log)
    for row in log.raw_rows():
        walk.check(row)
        if not isinstance(row, Damage) and type(row[0]) is not int:
            continue
        roots.see(row)
        if seals is not None and not isinstance(row, Damage):
            seals.see(row[0], row[1], row[2], row[14])
        if key_check is not None and not isinstance(row, Damage):
            key_check.see(row)
        if progress is not None and walk.records % _EVERY == 0:
            progress(walk.position, head)
    walk.finish()
    unsealed = list(seals.faults(walk.position)) if seals is not None else []
    for position, message, remedy in unsealed:
        findings.add(position, "seal", message, remedy)
    is_cut = max(known_end, 0 if seals is None else seals.seen) > walk.position
    walk.tell_of_stubs(seals.sealed if seals is not None and unsealed else None, is_cut=is_cut)
    answers = _check_answers(log, findings)
    without_key = NO_RECORDS
    if key_check is not None and not findings:
        without_key = key_check.unreadable(log, walk.position)
    # Before views are compared: that would print erased data which can be read from the log again and the views lack.
    for position, message in key_check.faults() if key_check is not None else ():
        findings.add(position, "key", message)
    views_position = None
    if views is not None and not findings:
        try:
            views_position = compare_views(log, views, findings, progress)
        except KeysUnreadable as error:
            message = f"the views cannot be compared with the log: {error.message}"
            findings.add(without_key.first, "key", message, error.advice)
        if findings.views_read_more and without_key.number:
            findings.clear()
            views_position = None
            findings.add(without_key.first, "key", _LOST_KEYS, _PUT_BACK_OR_LOSE)
    return Verification(
        ok=not findings,
        records=walk.records,
        stubs=walk.stubs.stubs,
        stubs_of_service=walk.stubs.of_service,
        drops=walk.stubs.drops,
        without_key=without_key.number,
        without_key_since=without_key.first,
        tasks=walk.law.tasks,
        position=walk.position,
        head=walk.hash.hex(),
        answers=answers,
        views_position=views_position,
        sealed=None if seals is None else min(seals.sealed, walk.sound_until()),
        written_by=tuple(walk.written_by),
        witnessed=() if seals is None else seals.witnessed,
        stamped=None if seals is None else seals.stamped,
        findings=tuple(sorted(findings.listed, key=order)),
        more=findings.more,
    )


class _Roots:
    """Compares the roots of the trees over archived records with those recorded for their archives."""

    def __init__(self, findings: Findings, log: LogReader) -> None:
        self._findings = findings
        self._tree = GrowingRoot()
        try:
            self._segments = log.segments()[::-1]
        except TasktrailError:  # reported already
            self._segments = []

    def see(self, row: tuple[Any, ...] | Damage) -> None:
        """Take in the next row."""
        if not self._segments:
            return
        segment = self._segments[-1]
        if isinstance(row, Damage):
            self._segments = [one for one in self._segments if one.last > row.end]  # its damage is reported
            self._tree = GrowingRoot()
            return
        if row[0] > segment.first and not self._tree.size:  # after a row that could not be read
            return
        self._tree.append(leaf_hash(row[14]))
        if row[0] == segment.last:
            self._segments.pop()
            if self._tree.root().hex() != segment.root:
                message = "the archive from here on does not have the root that is recorded of it"
                self._findings.add(segment.first, "archive", message)
            self._tree = GrowingRoot()


class _Walk:
    """One pass over the rows. After a fault it goes on from the faulty row, so that one fault is one finding."""

    def __init__(self, findings: Findings, stubs: StubCheck) -> None:
        self._findings = findings
        self.stubs = stubs
        self._wrong_stubs: list[StubFault] = []
        self.law = Lawbook()
        self.records = 0
        self.position = 0
        self.hash = GENESIS
        self.written_by: list[WrittenBy] = []
        self._writer: Writer | None = None
        self._astray = False
        """Whether the last row came after one with a later position."""
        self._versions: dict[int, int] = {}
        self._lost_until = 0
        """The end of the last range of records that could not be read."""
        self._recorded_at = datetime.min.replace(tzinfo=UTC)

    def check(self, row: tuple[Any, ...] | Damage) -> None:
        """Check the next row, in order of position, its hash last."""
        if isinstance(row, Damage):
            remedy = "" if row.error is None else row.error.advice
            self._findings.add(row.position, row.code, row.reason, remedy)
            self.position, self.hash = row.end, b""
            self._lose_all(row)
            return
        position, digest = row[0], row[14]
        self.records += 1
        if type(position) is not int:  # the table is not one of ours
            self._findings.add(0, "unreadable", "a position is not a number")
            return
        if position <= self.position:  # it belongs to another place
            if not self._astray:
                self._findings.add(
                    self.position + 1, "gap", f"position {position} comes right after position {self.position}"
                )
            self._astray = True
            return
        self._astray = False
        if not is_well_typed(row):
            self._findings.add(position, "unreadable", "a value is not of the type that a log stores, or is no UTF-8")
            self.position, self.hash = position, digest if isinstance(digest, bytes) else b""
            self.law.lose(row[1])
            return
        if position != self.position + 1:
            self._findings.add(
                self.position + 1, "gap", f"position {position} comes right after position {self.position}"
            )
            self.law.lose_retries()
        if (wrong := self.stubs.see(row)) is not None and len(self._wrong_stubs) < LIMIT:
            self._wrong_stubs.append(wrong)
        fits = True
        if position == self.position + 1 and self.hash and row[3] != STUB:
            fits = self._check_chain(row[:14], digest)  # against the record before, if that could be read
        self.position, self.hash = position, digest
        self._check_version(position, row[1], row[2])
        self._check_record(row[:14], digest, fits=fits)

    def _lose_all(self, lost: Damage) -> None:
        """Note that records of unknown tasks cannot be read: the next record of each task has to be believed."""
        self.law.lose_all()
        self.stubs.lose(lost.position, lost.end)
        self._versions.clear()
        self._lost_until = lost.end

    def _check_chain(self, row: tuple[Any, ...], digest: bytes) -> bool:
        fits = link(self.hash, row) == digest
        if not fits:
            self._findings.add(row[0], "chain", "the record or one before it was changed: its hash does not fit")
        return fits

    def _check_version(self, position: int, task_id: int, version: int) -> None:
        expected = self._versions.get(task_id, version - 1 if self._lost_until else 0) + 1
        if version != expected:
            self._findings.add(position, "version", f"task {task_id} is at version {version}, {expected} is due")
        self._versions[task_id] = version

    def _check_record(self, row: tuple[Any, ...], digest: bytes, *, fits: bool) -> None:
        position, terminal = row[0], row[12]
        if row[3] == _SERVICE_STARTED:
            self._note_writer(position, row[13])
        if row[3] == STUB:
            row = as_stub((*row, digest))[:14]  # what else stands in it was found already
        try:
            record = from_row(row, digest)
        except TasktrailError as error:
            # A record of a writer with more forms is not damaged because this version cannot read it.
            newer = (fits and isinstance(error, LogTooNew)) or (self._writer is not None and self._writer.lacks)
            self._findings.add(position, "newer" if newer else "unreadable", without_place(error.message, position))
            self.law.lose(row[1])
            return
        at = record.recorded_at
        if at.utcoffset() is None:
            self._findings.add(position, "unreadable", f"the time {row[4]!r} has no time zone")
        elif at.isoformat(timespec="microseconds") != f"{row[4][:-1]}+00:00":  # texts have to sort as times do
            self._findings.add(position, "unreadable", f"the time {row[4]!r} is written as no log writes it")
        elif not EARLIEST <= at < LATEST:
            self._findings.add(position, "time", f"recorded at {row[4]}, not between the years 1970 and 9900")
        else:
            if at < self._recorded_at:
                self._findings.add(position, "time", f"recorded at {row[4]}, before the record in front of it")
            self._recorded_at = at  # after a fault, too: one time in the future is no fault of each later record
        if row[3] == STUB:
            if row[1]:  # the service's dropped records are about a task: no other record is judged by them
                self.law.lose(row[1])
            return
        if bool(terminal) != is_terminal(record.event):
            self._findings.add(position, "illegal", f"marked terminal = {terminal}, which does not match its event")
        for fault in self.law.judge(record):
            self._findings.add(position, "illegal", fault)

    def _note_writer(self, position: int, data: str) -> None:
        writer = writer_of(position, data)
        if writer is None:
            return
        self._writer = writer
        last = self.written_by[-1] if self.written_by else None
        if last is None or (last.version, last.schema) != (writer.version, writer.schema):
            self.written_by.append(WrittenBy(version=writer.version, schema=writer.schema, since=position))

    def finish(self) -> None:
        """Add the faults that show only at the end of the log."""
        if self._writer is not None and self._writer.fault:
            self._findings.add(self._writer.position, "newer", self._writer.fault)
        for position, fault in self.law.end():
            self._findings.add(position, "illegal", fault)

    def sound_until(self) -> int:
        """The position before the first record that does not match its hash."""
        damaged = [one.position for one in self._findings.listed if one.code in (*_DAMAGE, "stub") and one.position]
        return min(damaged, default=self.position + 1) - 1

    def tell_of_stubs(self, sealed: int | None, *, is_cut: bool) -> None:
        """Add the faults of stubs. A finding has no position if the fault may lie in the record that explains the stub.

        `sealed`: the end of the last seal that fits, if another does not fit; None: all seals fit. `is_cut`: whether
        the log lacks its end, which may have explained stubs.
        """
        # The record that explains a stub is found by an index, so damage of an index counts, too.
        damaged = sorted(one.position for one in self._findings.listed if one.code in (*_DAMAGE, "index"))
        unexplained = list[int]()
        for position, dropped_at, message, by_itself in (*self._wrong_stubs, *self.stubs.faults()):
            if is_cut and not (by_itself or dropped_at):
                unexplained.append(position)
                continue
            if by_itself:
                self._findings.add(position, "stub", message)
                continue
            if not dropped_at and position < self._lost_until:
                continue  # the record that explains it may be among those that could not be read
            in_doubt = damaged and (dropped_at in damaged if dropped_at else damaged[-1] > position)
            if sealed is not None:
                in_doubt = in_doubt or not 0 < dropped_at <= sealed
            at, more = (0, f" (position {position})") if in_doubt else (position, "")
            self._findings.add(at, "stub", f"{message}{more}")
        if unexplained:
            message = (
                f"no record tells why the data of {counted(len(unexplained), 'record')} is gone, first at position "
                f"{unexplained[0]}: it may be among those that the log lacks from here on"
            )
            self._findings.add(self.position + 1, "stub", message, PUT_LOG_BACK)


def _check_answers(log: LogReader, findings: Findings) -> int:
    """Every answer must point at the last event its command caused, name its task, and be as it was written.

    Every command that caused something must have one. Returns the number of answers. A service that archives or forgets
    meanwhile changes answers and archives. Then the check is repeated.
    """
    for _ in range(_AGAIN):
        before, found = _archives_of(log), Findings()
        number = _look_at_answers(log, found, is_faulty=bool(findings))
        if not found or _archives_of(log) == before:
            break
    findings.take(found)
    return number


def _archives_of(log: LogReader) -> list[KnownArchive]:
    try:
        return log.segments()
    except (*UNREADABLE, TasktrailError):  # reported already
        return []


def _look_at_answers(log: LogReader, findings: Findings, *, is_faulty: bool) -> int:
    """Add the faults of answers; returns the number of answers. `is_faulty`: whether the log has faults already."""
    number, without_record = 0, list[tuple[int, str]]()
    try:
        unanswered = list(log.unanswered())
        summed = log.has_sums()
        for command_id, task_id, position, caused_by, *record, digest, before, found in log.answered(sums=summed):
            number += 1
            if not command_id:
                findings.add(position, "answer", NAMES_NO_COMMAND)
                continue
            answer = (command_id, digest, task_id, position)
            fits = not summed or is_as_written(answer, found)
            if fits and caused_by is None:
                without_record.append((position, command_id))
            elif fault := _fault_of(log, answer, caused_by, tuple(record), before):
                gone = record[1] == STUB  # an answer is dropped with its record: one of the two is wrong
                at, more = (0, f" (position {position})") if gone else (position, "")
                findings.add(at, "answer", f"the answer to {command_id} {fault}{more}")
            elif not fits:
                findings.add(position, "answer", f"the answer to {command_id} is not as it was written")
        lost = _answers_without_records(without_record, _end_of(log)) if without_record else ()
        for position, message in (*_missing_answers(unanswered, number), *lost):
            findings.add(position, "answer", message)
    except (*UNREADABLE, TypeError, TasktrailError) as error:
        if not (isinstance(error, TasktrailError) and (is_faulty or findings)):  # an archive, which is reported already
            findings.add(0, "file", f"the answers cannot be read: {error}")
    return number


def _end_of(log: LogReader) -> int:
    """The last position of the log, also if only archives are left of it."""
    return max(log.head().position, *(one.last for one in _archives_of(log)), 0)


def _missing_answers(unanswered: list[tuple[int, str]], there: int) -> Iterator[tuple[int, str]]:
    """The finding for commands without an answer, if there are any. `there`: the number of answers that are there."""
    if not unanswered:
        return
    (first, command_id), more = unanswered[0], "sent again, each would have a second effect"
    commands = counted(len(unanswered), "command")
    if len(unanswered) == 1:
        yield first, f"the answer to {command_id} is missing"
    elif there:
        message = f"{commands}, first {command_id}, have led to records, and their answers are missing"
        yield first, f"{message}, from here on: {more}"
    else:
        yield first, f"the table answers is empty, and {commands}, from here on, have led to records: {more}"


def _answers_without_records(found: list[tuple[int, str]], end: int) -> Iterator[tuple[int, str]]:
    """The findings for answers whose records are gone, if there are any: one for the log's lost end, one for gaps.

    `found`: position and command id of each. `end`: the last position of the log.
    """
    beyond, between = [one for one in found if one[0] > end], [one for one in found if one[0] <= end]
    if beyond:
        last, command_id = max(beyond)
        what = f"the log ends at position {end}" if end else "the table events is empty"
        if len(beyond) == 1:
            points = f"the answer to {command_id} points at a later record, at {last}"
        else:
            points = f"{len(beyond)} answers point at later records, the last at {last}"
        yield end + 1, f"{what}, and {points}"
    if between:
        first, command_id = min(between)
        if len(between) == 1:
            yield first, f"the answer to {command_id} points at a position where there is no record"
        else:
            answers = f"{len(between)} answers, first that to {command_id}, point"
            yield first, f"{answers} at positions where there is no record"


def _fault_of(
    log: LogReader, answer: tuple[Any, ...], caused_by: str | None, record: tuple[Any, ...], before: str | None
) -> str:
    """The fault of where an answer points, in words, or "". `record` is there; `before` caused the one before."""
    command_id, digest, task_id, position = answer
    if caused_by is None:
        behind = position > log.head().position
        return "points beyond the end of the log" if behind else "points at a position where there is no record"
    if caused_by != command_id:
        return f"points at an event of {caused_by!r}"
    first = record if before != command_id else log.first_of(command_id, position)
    if first is None or (first[1] != STUB and task_id != _meant(log, digest, first)):
        return f"names task {task_id}, not the event's"
    return ""


def _meant(log: LogReader, digest: bytes, first: tuple[Any, ...]) -> int | None:
    """The task that a command was about: that of the first record it led to, with one exception.

    A cancel with children leads only to records of child tasks if its own task was over already. These records do not
    say which task was meant; the command's digest does.
    """
    task_id, event, data = first
    if task_id == 0:
        return _spoken_of(data) if event in _ABOUT_A_TASK else 0
    if event == _CANCELLED and digest != digest_of(CancelTask(task_id=task_id)):
        for above in log.line_of(task_id):
            if digest == digest_of(CancelTask(task_id=above, children=True)):
                return above
    return int(task_id)


def _spoken_of(data: str) -> int | None:
    """The task that a record under task 0 is about."""
    try:
        task_id = json.loads(data).get("task_id")
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return task_id if isinstance(task_id, int) else None
