"""Writes the service's log: a line for each command, attempt and delivery, made from the records.

Nothing waits for it. A thread of its own writes the lines from records that are durable. While standard error is
blocked, further lines are left out and counted.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from ..events import (
    Accepted,
    Cancelled,
    Command,
    Completed,
    Created,
    Failed,
    Recorded,
    Retried,
    Started,
    TasktrailError,
)
from ..events.clock import Clock
from ..events.system_events import (
    Adjusted,
    DeliveryAttempted,
    DeliveryPostponed,
    EndpointEnabled,
    LimitsChanged,
    NodeChanged,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    NodeLeft,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    RedeliveryRequested,
    ScheduleAdded,
    ScheduleRemoved,
    SourceAdded,
    SourcePaused,
    SourceRemoved,
    SourceResumed,
    TokenAdded,
    TokenRevoked,
    WorkerExited,
)
from .feed import Feed
from .logger import RateLimit, get_logger, is_configured

LINES_OF_A_KIND = 300
"""How many lines of a kind are written in a minute. If more happens they are a sample; the event log has everything."""
LINES_IN_ALL = 2400
_WAITING = 2000
"""How many commits and groups of answers may wait to be written."""
_LINE = 300
"""Characters of a text at most: a refused command may have any length."""
_DEATHS = ("it ", "its ")
"""The beginnings of the reason if a worker ended unexpectedly."""
_REMEMBERED = 4096
"""Tasks whose type and correlation id are kept in memory."""

_LogLine: TypeAlias = tuple[str, str, dict[str, Any]]
"""Level, event and fields."""

_NAMES = {
    Started: "attempt started",
    Completed: "attempt ended",
    Retried: "task retried",
    Cancelled: "task cancelled",
    Adjusted: "task adjusted",
    LimitsChanged: "limits changed",
    QueuePaused: "queue paused",
    QueueResumed: "queue resumed",
    QueueDrained: "queue drained",
    ScheduleAdded: "schedule added",
    ScheduleRemoved: "schedule removed",
    DeliveryPostponed: "delivery postponed",
    RedeliveryRequested: "redelivery requested",
    EndpointEnabled: "endpoint enabled",
    TokenAdded: "token added",
    TokenRevoked: "token revoked",
    SourceAdded: "source added",
    SourceRemoved: "source removed",
    SourcePaused: "source paused",
    SourceResumed: "source resumed",
    NodeJoined: "node joined",
    NodeChanged: "node changed",
    NodeLeft: "node left",
    NodeDrainStarted: "node drain started",
    NodeDrainEnded: "node drain ended",
}
"""Events that are logged at level info, under these names."""
_HIDDEN = {"task", "target", "host", "digest"}
"""Fields that are not logged: addresses may hold secrets, and a schedule's task is logged when it runs."""

SERVICE_LOG_LINES = frozenset(
    {
        *_NAMES.values(),
        *("command accepted", "command refused", "attempt failed", "attempt lost", "attempt interrupted"),
        *("task failed", "scheduled task created", "delivery failed", "delivery given up", "worker died"),
    }
)
"""The events of all these lines, which have a rate limit of their own."""


class _Answered(msgspec.Struct, frozen=True):
    """Commands and their answers, in order."""

    commands: Sequence[Command]
    answers: Sequence[Accepted | TasktrailError]


_News: TypeAlias = Recorded | _Answered


class ServiceLog:
    """Gathers records and answers, and writes lines about them. `put` and `answered` are quick and never wait.

    It writes nothing unless structlog is configured: inside another program the log is that program's own.

    Args:
        first_record: gives the first record of a task, which holds its type and correlation id.
    """

    def __init__(
        self, first_record: Callable[[int], Recorded | None], clock: Clock, pace: RateLimit | None = None
    ) -> None:
        self._first_record = first_record
        self._pace = pace or RateLimit(same=LINES_OF_A_KIND, most=LINES_IN_ALL)
        self._origins: OrderedDict[int, tuple[str, str]] = OrderedDict()
        self._log = get_logger()
        self._feed: Feed[_News] = Feed(self.tell, clock, "service-log", most=_WAITING)

    def put(self, records: Sequence[Recorded]) -> None:
        """Take committed records."""
        if is_configured():
            self._feed.put(records)

    def answered(self, commands: Sequence[Command], answers: Sequence[Accepted | TasktrailError]) -> None:
        """Take commands and their answers."""
        if is_configured():
            self._feed.put((_Answered(commands, answers),))

    def close(self) -> None:
        """Write what is left, and then nothing more."""
        self._feed.close()
        self.tell()

    def tell(self) -> None:
        """Write lines about everything that was taken."""
        for news in self._feed.take():
            if isinstance(news, _Answered):
                for command, answer in zip(news.commands, news.answers, strict=True):
                    self._write_line(
                        _about_command(command, answer), answer.task_id if isinstance(answer, Accepted) else 0
                    )
            else:
                if isinstance(news.event, Created):
                    self._remember(news, news.event)
                line = about_record(news)
                if line is not None:
                    self._write_line(line, news.task_id or getattr(news.event, "task_id", 0))
        self._pace.leave_out(self._feed.dropped())

    def _write_line(self, line: _LogLine, task_id: int) -> None:
        level, event, fields = line
        passes, left_out = self._pace.take(level, event)
        if not passes:
            return
        if task_id and "type" not in fields:
            kind, correlation_id = self._origin(task_id)
            fields = {"task_id": task_id, "type": kind, **fields}
            fields["correlation_id"] = fields.get("correlation_id") or correlation_id
        more = {"left_out": left_out} if left_out else {}
        brief = {name: value[:_LINE] if isinstance(value, str) else value for name, value in fields.items()}
        getattr(self._log, level)(event, **brief, **more)

    def _origin(self, task_id: int) -> tuple[str, str]:
        """The task's type, and the correlation id that it was created with."""
        if task_id not in self._origins:
            try:
                first = self._first_record(task_id)
            except TasktrailError:  # its archive is missing; whoever reads the history is told
                first = None
            if first is None or not isinstance(first.event, Created):
                return "", ""
            self._remember(first, first.event)
        return self._origins[task_id]

    def _remember(self, record: Recorded, created: Created) -> None:
        self._origins[record.task_id] = created.type, record.correlation_id
        if len(self._origins) > _REMEMBERED:
            self._origins.popitem(last=False)


def about_record(record: Recorded) -> _LogLine | None:
    """The line about a recorded event. None for progress, checkpoints, and events that the line of a command covers."""
    event = record.event
    envelope = {"attempt": record.attempt, "correlation_id": record.correlation_id, "position": record.position}
    match event:
        case Failed():
            return _about_failure(event, envelope)
        case DeliveryAttempted() if not event.ok:
            given_up = "delivery given up" if event.final else "delivery failed"
            tried = {"notice_id": event.notice_id, "channel": event.channel, "error": first_line(event.detail)}
            return "error" if event.final else "warning", given_up, {**envelope, **tried}
        case WorkerExited() if has_died(event):
            fields = {"pid": event.pid, "exit_code": event.exit_code, "error": _of_a_death(event)}
            return "warning", "worker died", fields
        case Created() if event.schedule:
            about = {"task_id": record.task_id, "type": event.type, "schedule": event.schedule}
            return "info", "scheduled task created", {**about, **envelope}
        case _ if type(event) in _NAMES:
            return "info", _NAMES[type(event)], {**(envelope if record.task_id else {}), **_fields(record)}
    return None


def has_died(event: WorkerExited) -> bool:
    """Whether the worker process ended unexpectedly: the service ends some on purpose."""
    return event.why.startswith(_DEATHS)


def _about_failure(event: Failed, envelope: dict[str, Any]) -> _LogLine:
    about = {
        "outcome": event.outcome,
        "final": event.final,
        "error_type": event.error_type,
        "error": first_line(event.error),
    }
    fields = {**envelope, **about}
    if event.outcome == "interrupted":
        return "info", "attempt interrupted", fields
    level = "error" if event.final else "warning"
    if event.outcome == "lost":
        return level, "attempt lost", fields
    return level, "attempt failed" if envelope["attempt"] else "task failed", fields


def _about_command(command: Command, answer: Accepted | TasktrailError) -> _LogLine:
    about: dict[str, Any] = {"command": type(command).__struct_config__.tag, "actor": command.actor}
    if kind := getattr(command, "type", ""):
        about = {"task_id": getattr(answer, "task_id", 0), "type": kind, "attempt": 0, **about}
    about["correlation_id"] = getattr(command, "correlation_id", "")
    if isinstance(answer, Accepted):
        return "info", "command accepted", {**about, "position": answer.position, "command_id": answer.command_id}
    about = {**about, "command_id": command.command_id, "code": answer.code, "field": answer.field}
    if "type" not in about:
        about = {"task_id": getattr(command, "task_id", 0), "type": "", "attempt": 0, **about}
    return "warning", "command refused", {**about, "error": first_line(answer.message)}


def _fields(record: Recorded) -> dict[str, Any]:
    """The fields of an event that may be logged, and who caused it and why."""
    event = record.event
    fields = {} if isinstance(event, Created | Completed) else msgspec.to_builtins(event)
    plain = {
        name: value
        for name, value in fields.items()
        if name not in _HIDDEN and isinstance(value, str | int | float) and value not in ("", 0)
    }
    who = {"actor": record.actor, "reason": first_line(record.reason)} if record.actor else {}
    return {**plain, **who}


def _of_a_death(event: WorkerExited) -> str:
    """A line of what the worker said at its end: of a traceback, which ends with what is wrong, the last one."""
    first, *more = event.why.rstrip().splitlines()
    if event.exit_code <= 0 or not more:  # a dump of a crash begins with what is wrong
        return first[:_LINE]
    how = first.partition(": ")[0]
    return f"{how}: {more[-1].strip()}"[:_LINE]


def first_line(text: str) -> str:
    """The first line of an error. The rest is in the attempt's output."""
    return text.partition("\n")[0][:_LINE]
