"""What-if questions about a log: it is read, and replayed under the recorded policy and under another one.

No service is needed or asked.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any

from msgspec.structs import replace

from ..actors.core.limits import EACH, Limits
from ..actors.core.state import SchedulerState
from ..actors.core.windows import window_of
from ..config.settings import Config, parse_limits, parse_windows
from ..events import Recorded
from ..events.counted import counted
from ..events.errors import CONFLICT, InvalidValue
from ..events.recorded import Stub
from ..intake.conversion import command_from_fields
from ..projections.queries.as_of import Point, parse_point
from .answer import WhatIf, compare_policies
from .policy import Policy
from .question import PolicyChange
from .recording import Recording, RecordingBuilder

_REPORT_EVERY = 1000
_REMEDY = "Correct the value and ask again."


def what_if(
    records: Iterable[Recorded],
    config: Config,
    *,
    begin: Point | str | None = None,
    end: Point | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    total: int = 0,
    **asked: Any,
) -> WhatIf:
    """Return what another policy would have made of a log. Raises `InvalidValue` or `Malformed`, naming the field.

    Args:
        records: the whole log, in order. Records before `begin` are folded; records after `end` show how long attempts
            ran.
        config: the configuration of that time. The log holds only the changes that operators made to it.
        begin: the first position or time that is replayed; None begins with the first record.
        end: the last one; None goes to the last record, and on until nothing more happens.
        progress: called now and then with the number reached and the number to reach. Reading and each replay count
            the same.
        total: records of the log, for `progress`.
        asked: fields of `PolicyChange`.
    """
    question = _question({name: value for name, value in asked.items() if value is not None})
    first, last = _point(begin, "from"), _point(end, "to")
    report = _total_progress(progress, total, 2 if question.changes_nothing else 3)
    reader = RecordingBuilder(first, last)
    ends: tuple[Recorded, ...] = ()
    dropped = 0
    for number, record in enumerate(records):
        reader.read(record)
        ends = (*ends[:1], record)
        if isinstance(record.event, Stub):
            dropped = record.position
        if total and not number % _REPORT_EVERY:
            report(-1, number / total)
    recording = reader.finished()
    if recording.began_at is None:
        raise _nothing_recorded(first, last, ends)
    if dropped >= recording.first_position:
        raise InvalidValue(
            f"From position {recording.first_position} on, the records of some tasks were dropped",
            field="from",
            remedy=f"Begin after position {dropped}, the last of them, with `--from {dropped + 1}`.",
            status=CONFLICT,
        )
    recorded, assumptions = _recorded_policy(recording, config)
    changed = replace(recorded, change=question, configured=_configured(recorded.configured, question))
    _refuse_unknown_names(question, recording)
    return compare_policies(
        recording,
        recorded,
        changed,
        to_the_end=last is None,
        assumptions=(*assumptions, *_remarks(changed)),
        new_state=partial(SchedulerState, retry_rules=config.retry_rules),
        progress=report,
    )


def _total_progress(
    progress: Callable[[int, int], None] | None, total: int, rounds: int
) -> Callable[[int, float], None]:
    """Turn a round (-1 for reading) and the share of it that is done into progress over all rounds."""

    def report(play: int, share: float) -> None:
        if progress is not None:
            progress(int((play + 1 + min(share, 1.0)) * total), rounds * total)

    return report


def _question(fields: dict[str, Any]) -> PolicyChange:
    try:
        return command_from_fields(PolicyChange, fields)
    except InvalidValue as error:
        raise InvalidValue(error.message, field=error.field, remedy=_REMEDY) from error


def _point(text: Point | str | None, field: str) -> Point | None:
    if text is None:
        return None
    try:
        return parse_point(text)
    except InvalidValue as error:
        raise InvalidValue(error.message, field=field, remedy=_REMEDY) from error


def _nothing_recorded(first: Point | None, last: Point | None, ends: Sequence[Recorded]) -> InvalidValue:
    asked_span = " ".join(
        f"{word} {_in_words(point)}" for word, point in (("from", first), ("to", last)) if point is not None
    )
    if not ends:
        message = "The log is empty"
    else:
        recorded_span = " to ".join(
            f"{record.position} ({_in_words(record.recorded_at)})" for record in (ends[0], ends[-1])
        )
        message = f"Nothing is recorded {asked_span}: the log has positions {recorded_span}"
    return InvalidValue(message, field="to" if first is None else "from", remedy=_REMEDY)


def _in_words(point: Point) -> str:
    return point.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(point, datetime) else f"position {point}"


def _refuse_unknown_names(question: PolicyChange, recording: Recording) -> None:
    """Refuse a limit for a type, user or label that no task has: it would look as if the limit did not matter."""
    known = {"type": recording.types, "user": recording.users, "label": recording.labels}
    named: list[tuple[str, ...]] = [
        *(("types", "type", name) for name in question.types),
        *(("users", "user", name) for name in question.users),
        *(("labels", "label", name) for name in question.labels),
        *(("rates", *name.split(":", 1)) for name in question.rates),
        *(("windows", "type", text.rpartition("=")[0]) for text in question.windows or ()),
    ]
    for field, kind, name in named:
        if name not in known[kind] and (name != EACH or field == f"{kind}s"):
            near = get_close_matches(name, known[kind], n=1) if kind != "user" else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            hint = f"; `max_per_{kind}` is the limit of each {kind}" if name == EACH else hint
            shown = name if kind == "user" else repr(name)
            raise InvalidValue(f"The log has no task of {kind} {shown}{hint}", field=field, remedy=_REMEDY)


def _configured(limits: Limits, question: PolicyChange) -> Limits:
    """Return the configured limits, with the windows of the question in place of their own."""
    if question.windows is None:
        return limits
    for text in question.windows:
        window_of(text.rpartition("=")[2])
    return replace(limits, windows=parse_windows(question.windows))


def _recorded_policy(recording: Recording, config: Config) -> tuple[Policy, tuple[str, ...]]:
    """Return the policy of that time as far as it is known, and in words the assumptions."""
    limits, workers = config.limits(), config.workers
    there = counted(workers, "worker")
    assumptions = [f"{there}, and the limits that are configured now; what operators have changed is in the log"]
    if recording.peak > workers:
        assumptions.append(f"the log shows {recording.peak} attempts at once, so there were at least that many workers")
        workers = recording.peak
    if recording.peak > limits.max_concurrent and not recording.changes_concurrency:
        limits = replace(limits, max_concurrent=recording.peak)
    assumptions.append("memory, CPU and disk never kept a task from starting: samples are not recorded")
    if recording.has_nodes:
        assumptions.append(
            "nodes are not played: one machine has all workers, and what tasks require of a node is ignored"
        )
    if recording.stopped_at is not None:
        assumptions.append(
            "the last service is taken to have gone on; record and replay are compared until it was stopped"
        )
    labels = parse_limits(config.worker_labels)
    return Policy(configured=limits, workers=workers, worker_labels=labels), tuple(assumptions)


def _remarks(policy: Policy) -> Iterator[str]:
    if (policy.change.max_concurrent or 0) > policy.slots:
        there = counted(policy.slots, "worker")
        yield f"max_concurrent is above the {there}, which is as many as can run: give workers, too"
    if policy.change.workers is not None and policy.change.workers > policy.limits.max_concurrent:
        yield (
            f"the limits let {policy.limits.max_concurrent} run at once, whatever the number of workers: "
            "give max_concurrent, too"
        )
