"""Starts and the rates that hold: counted by true seconds, from the durable records alone."""

from broken import broken

from tasktrail.events import Created, Event, Fact, Recorded, Started, TaskState
from tasktrail.events.system_events import LimitsChanged, RatesConfigured

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _read(rate: str) -> tuple[int, float]:
    number, period = rate.split("/")
    return int(number), int(period[:-1] or "1") * _SECONDS[period[-1]]


def _names(spec: Created) -> list[tuple[str, str]]:
    names = [("type", spec.type), ("user", str(spec.user_id))]
    return [*names, ("label", spec.label)] if spec.label else names


class Windows:
    """All starts that each rate has counted since it exists."""

    def __init__(self) -> None:
        self._staged: dict[tuple[int, int], float] = {}
        """Task and attempt → when its start was decided, by the clock that cannot be set."""
        self._starts: dict[tuple[str, str], list[float]] = {}
        self._configured: dict[str, str] = {}
        self._changes: dict[str, str | None] = {}

    def stage(self, facts: list[Fact], seconds: float) -> None:
        """Note the decisions of a step."""
        for fact in facts:
            if isinstance(fact.event, Started):
                self._staged[fact.task_id, fact.attempt] = seconds

    def forget(self) -> None:
        """Forget the counts: the clock was set unnoticed, so they are of no use."""
        self._starts.clear()

    def _rates(self, event: Event) -> dict[str, str]:
        """Return the rates after the event: those that a service has recorded, with the operators' changes."""
        if isinstance(event, RatesConfigured):
            self._configured = event.rates
        elif isinstance(event, LimitsChanged):
            self._changes = ({} if event.reset else self._changes) | event.rates
        both = self._configured | self._changes
        return {name: rate for name, rate in both.items() if rate is not None}

    def follow(self, record: Recorded, tasks: dict[int, TaskState]) -> None:
        """Follow a durable record. No window may hold more starts than its rate allows."""
        rates = self._rates(record.event)
        self._starts = {
            (kind, name): starts
            for (kind, name), starts in self._starts.items()
            if f"{kind}:{name}" in rates or f"{kind}:*" in rates
        }
        if not isinstance(record.event, Started):
            return
        at = self._staged.pop((record.task_id, record.attempt))
        for kind, name in _names(tasks[record.task_id].spec):
            rate = rates.get(f"{kind}:{name}") or rates.get(f"{kind}:*")
            if rate is None:
                continue
            number, period = _read(rate)
            starts = self._starts.setdefault((kind, name), [])
            starts.append(at)
            count = sum(1 for one in starts if one > at - period + 1e-3)
            if count > number:
                broken(f"I12: {count} starts of {kind} {name} in {period:.0f} s, {rate} is the rate")
