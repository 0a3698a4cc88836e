"""The standing orders of operators: pauses, limits, schedules. Folded from the log by a second implementation.

It also checks what the log alone can show: that nothing starts under a pause, and that no schedule runs twice.
"""

from datetime import datetime
from typing import Any

import firing
from broken import broken, must
from msgspec.structs import replace

from tasktrail.actors.core.limits import UNLIMITED, Limits
from tasktrail.events import Recorded, TaskState
from tasktrail.events.clock_jumps import corrects
from tasktrail.events.system_events import (
    ClockJumped,
    Deduplicated,
    LimitsChanged,
    NodeDrainEnded,
    NodeDrainStarted,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    ScheduleAdded,
    ScheduleRemoved,
)

TABLES = ("types", "users", "labels", "rates")


class Plan:
    """A schedule, and which of its runs were made."""

    def __init__(self, spec: ScheduleAdded, added_at: datetime, position: int) -> None:
        self.spec = spec
        self.added_at = added_at
        self.position = position
        self.runs = 0
        self.latest: int | None = None
        """The number of the latest run that was made, by `firing.number`."""


class Standing:
    """The standing orders, up to the last record."""

    def __init__(self) -> None:
        self.pauses: dict[str, dict[str, Any]] = {}
        """Scope in words → scope as a command has it."""
        self.since: dict[str, int] = {}
        """Scope in words → position of its pause."""
        self.drains = False
        """Whether the pause of everything is a drain, …"""
        self.drained = False
        """… and whether its end is recorded."""
        self.changes: dict[str, Any] = {}
        """Limit → an operator's value; for a table `name/key`."""
        self.plans: dict[str, Plan] = {}
        self.node_drains: list[str] = []
        """The nodes, by the names under which their drains were ordered."""
        self._made: set[tuple[str, datetime]] = set()

    def follow(self, record: Recorded, latest: datetime) -> None:
        """Fold one record of the system stream. `latest`: the latest time that the clock has shown."""
        match record.event:
            case LimitsChanged() as event:
                self._change(event)
            case QueuePaused(type=kind, user_id=user, drain=drain):
                scope = _scope(kind, user)
                self.pauses.pop(_words(scope), None)
                self.pauses[_words(scope)] = scope
                self.since[_words(scope)] = record.position
                if not scope:
                    self.drains, self.drained = drain, False
            case QueueResumed(type=kind, user_id=user):
                scope = _scope(kind, user)
                must(_words(scope) in self.pauses, f"{_words(scope)} is resumed and was not paused")
                del self.pauses[_words(scope)], self.since[_words(scope)]
                if not scope:
                    self.drains = self.drained = False
            case QueueDrained():
                must(self.drains and not self.drained, "drained is recorded, and no drain is under way")
                self.drained = True
            case NodeDrainStarted(node=node):
                must(node not in self.node_drains, f"node {node} is drained twice")
                self.node_drains.append(node)
            case NodeDrainEnded(node=node):
                must(node in self.node_drains, f"the drain of node {node} ends, and there is none")
                self.node_drains.remove(node)
            case ScheduleAdded() as event:
                must(event.schedule not in self.plans, f"schedule {event.schedule} is added twice")
                self.plans[event.schedule] = Plan(event, event.added_at or record.recorded_at, record.position)
            case Deduplicated(schedule=name, fire_time=at) if name:
                self.check_run(name, at, latest)
            case ScheduleRemoved(schedule=name):
                del self.plans[name]
            case ClockJumped() as jump if corrects(jump):
                self._come_back(jump.shows)

    def _come_back(self, now: datetime) -> None:
        """Take back runs that were ahead of time: the clock was far ahead, and they have to run again."""
        self._made = {(name, at) for name, at in self._made if at <= now}
        for plan in self.plans.values():
            until = firing.latest(plan.spec, max(plan.added_at, plan.spec.starting_at), now)
            if plan.latest is not None and (until is None or plan.latest > until):
                plan.latest = until

    def _change(self, event: LimitsChanged) -> None:
        if event.reset:
            self.changes.clear()
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if name in TABLES:
                self.changes.update({f"{name}/{key}": number for key, number in value.items()})
            elif name != "reset" and value is not None:
                self.changes[name] = value

    def limits(self, configured: Limits) -> Limits:
        """Return the limits, by the configuration and the operators."""
        values: dict[str, Any] = {name: dict(getattr(configured, name)) for name in TABLES}
        for name, value in self.changes.items():
            table, _, key = name.partition("/")
            if key and value is None:
                values[table].pop(key, None)
            elif key:
                values[table][key] = value
            else:
                values[name] = UNLIMITED if name in ("max_memory", "max_temp_size") and not value else value
        return replace(configured, **values)

    def check_start(self, task: TaskState, position: int) -> None:
        """Check that nothing starts under a pause, not even by hand."""
        spec = task.spec
        for scope in ({}, {"type": spec.type}, {"user_id": spec.user_id}):
            if _words(scope) in self.pauses:
                broken(f"task {task.id} starts at {position} although {_words(scope)} is paused")

    def check_run(self, name: str, at: datetime | None, latest: datetime) -> None:
        """Check that a schedule made or found its task for one of its times, once, not early, and not after its end."""
        plan = self.plans.get(name)
        if plan is None or at is None:
            broken(f"schedule {name} runs and does not exist")
        must((name, at) not in self._made, f"schedule {name} runs twice for {at}")
        self._made.add((name, at))
        number = firing.number(plan.spec, at)
        must(number is not None, f"schedule {name} runs for {at}, which is none of its times")
        must(at <= latest, f"schedule {name} runs for {at}, before its time")
        must(at > plan.added_at, f"schedule {name} runs for {at}, before it was added")
        must(at >= plan.spec.starting_at, f"schedule {name} runs for {at}, before it begins")
        if plan.latest is not None and number is not None and number <= plan.latest:
            broken(f"schedule {name} runs for {at} after a later run, or twice")
        plan.latest = number

    def check_none_missed(self, now: datetime) -> None:
        """After a look at the timers, check that schedules that make up for missed runs have made their latest one."""
        for name, plan in self.plans.items():
            if plan.spec.missed == "skip":
                continue
            due = firing.latest(plan.spec, max(plan.added_at, plan.spec.starting_at), now)
            if due is not None and (plan.latest is None or plan.latest < due):
                broken(f"I5: schedule {name} has not run at {now}")


def _scope(kind: str | None, user: int | None) -> dict[str, Any]:
    if kind is not None:
        return {"type": kind}
    return {} if user is None else {"user_id": user}


def _words(scope: dict[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in scope.items()) or "everything"
