"""Starts and the rates that hold: counted by the seconds that nobody can set, from the durable records alone."""

from broken import broken

from tasktrail.events import Created, Fact, Recorded, Started, TaskState

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _read(rate: str) -> tuple[int, float]:
    number, period = rate.split("/")
    return int(number), int(period[:-1] or "1") * _SECONDS[period[-1]]


def _names(spec: Created) -> list[tuple[str, str]]:
    names = [("type", spec.type), ("user", str(spec.user_id))]
    return [*names, ("label", spec.label)] if spec.label else names


class Windows:
    """All starts that a rate has counted since it is there."""

    def __init__(self) -> None:
        self._staged: dict[tuple[int, int], float] = {}
        """Task and attempt → when its start was decided, on the clock that nobody can set."""
        self._starts: dict[tuple[str, str], list[float]] = {}

    def stage(self, facts: list[Fact], seconds: float) -> None:
        """A step has decided this."""
        for fact in facts:
            if isinstance(fact.event, Started):
                self._staged[fact.task_id, fact.attempt] = seconds

    def forget(self) -> None:
        """The clock was set and nobody noticed: what was counted is of no use."""
        self._starts.clear()

    def follow(self, record: Recorded, tasks: dict[int, TaskState], rates: dict[str, str]) -> None:
        """A record is durable, and these are the rates after it. No window holds more starts than its rate allows."""
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
