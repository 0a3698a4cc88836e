"""Which tasks may start, and in which order: checked after each message that has started something."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from broken import broken, must
from eligible import is_eligible
from places import fits_a_node

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.explanation import obstacles
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Sampled, Staged
from tasktrail.actors.core.resources import MachineSample, machine_is_busy
from tasktrail.actors.core.routing import Offer
from tasktrail.actors.core.state import Running, SchedulerState
from tasktrail.events import Created, TaskState
from tasktrail.events.priority import queue_key


class DiskMark:
    """Whether temp space has run low, computed from the samples alone."""

    def __init__(self) -> None:
        self.low = False

    def sampled(self, sample: MachineSample, limits: Limits) -> None:
        """Note a sample: below the low mark nothing starts, until the high one is reached."""
        if sample.temp_free < limits.temp_low:
            self.low = True
        elif sample.temp_free >= limits.temp_high:
            self.low = False


class MachineRoom:
    """What the last sample found free on the only machine, and what each attempt used by it."""

    def __init__(self) -> None:
        self._last = Sampled(MachineSample())
        self._ran: set[tuple[int, int]] = set()

    def sampled(self, message: Sampled, running: Iterable[Running]) -> None:
        """Note a sample, and the attempts that run meanwhile."""
        self._last = message
        self._ran = {(entry.task_id, entry.attempt) for entry in running}

    def check(self, state: SchedulerState) -> None:
        """Check, after a start, that what is reserved and not used yet is free."""
        sample = self._last.sample
        memory, temp = (sum(parts) for parts in zip(*map(self._unused, state.running.values()), strict=True))
        if memory > sample.memory_available or temp > sample.temp_free:
            broken(f"I7: {memory} and {temp} are still to be used, and {sample} was found")

    def _unused(self, entry: Running) -> tuple[int, int]:
        memory, temp = entry.reserved_for.memory_needed, entry.reserved_for.temp_needed
        key = entry.task_id, entry.attempt
        if key not in self._ran:
            return memory, temp
        used = self._last.memory_used
        memory_left = 0 if used is None or entry.short else max(0, memory - used.get(key, 0))
        temp_used = self._last.temp_used
        taken = -1 if temp_used is None else temp_used.get(entry.task_id, 0)
        return memory_left, 0 if taken < 0 else max(0, temp - taken)


def check_limits(state: SchedulerState, started: list[int], disk: DiskMark) -> None:
    """Check that no type, user or label holds more slots than allowed, and that the disk is not low."""
    must(not disk.low, f"tasks {started} start although temp space is low")
    specs = [entry.reserved_for.spec for entry in state.running.values()]
    limits = state.limits
    for task_id in started:
        spec = state.running[task_id].reserved_for.spec
        for word, name, general, own in (
            ("type", spec.type, limits.max_per_type, limits.types),
            ("user_id", spec.user_id, limits.max_per_user, limits.users),
            ("label", spec.label, limits.max_per_label, limits.labels),
        ):
            limit = own.get(str(name), general)
            count = sum(getattr(other, word) == name for other in specs)
            if limit and name != "" and count > limit:
                broken(f"I7: task {task_id} starts, and {count} of {word} {name} run where {limit} may")


def check_workers(state: SchedulerState, started: list[int]) -> None:
    """Check that each start gets a worker that exists, that no other attempt has, and that offers what it needs."""
    held = workers_held(state)
    for task_id in started:
        entry = state.running[task_id]
        needs = entry.reserved_for.spec.worker_label
        must(not needs or needs in entry.offer, f"I16: task {task_id} needs {needs} and is given {entry.offer}")
        offers = state.workers.offers
        there = offers[entry.offer] if offers else state.workers.slots
        must(held[entry.offer] <= there, f"I16: {held[entry.offer]} of {there} workers with {entry.offer} are held")
        shares = entry.reserved_for.spec.type in state.short and not needs and not entry.offer
        must(entry.short <= shares, f"I16: task {task_id} shares a worker, and may not")


def workers_held(state: SchedulerState) -> Counter[Offer]:
    """Return the number of workers held, by their labels: one for each attempt, or one that short attempts share."""
    held = Counter(entry.offer for entry in state.running.values() if not entry.short)
    short, shared = sum(entry.short for entry in state.running.values()), state.workers.shared
    most = state.workers.at_once * shared
    must(shared <= short <= most, f"I16: {short} short attempts hold {shared} workers, with room for {most}")
    held[()] += shared
    return held


def check_windows(limits: Limits, started: list[TaskState], now: datetime) -> None:
    """Check that the wall clock lies within a window of each type that starts."""
    shown = now.astimezone(ZoneInfo(limits.windows_timezone))
    for task in started:
        texts = limits.windows.get(task.spec.type) or limits.windows.get("*")
        if texts and not any(_shows(shown, text) for text in texts):
            broken(f"I15: task {task.id} of type {task.spec.type} starts at {shown}, outside of {texts}")


def _shows(shown: datetime, text: str) -> bool:
    days, _, span = text.rpartition(" ")
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    first, _, last = (days or "mon-sun").partition("-")
    held = names[names.index(first) : names.index(last or first) + 1]
    begin, end = (
        time(int(hour) % 24, int(minute or 0)) for hour, _, minute in (p.partition(":") for p in span.split("-"))
    )
    today, yesterday = names[shown.weekday()] in held, names[shown.weekday() - 1] in held
    at = shown.time()
    if begin < end:
        return today and begin <= at < end
    return (today and at >= begin) or (yesterday and at < end)


def check_tally(state: SchedulerState) -> None:
    """Check that the limits count exactly the attempts that hold a slot."""
    specs = [entry.reserved_for.spec for entry in state.running.values()]
    held = Counter(("type", spec.type) for spec in specs) + Counter(("user", spec.user_id) for spec in specs)
    held += Counter(("label", spec.label) for spec in specs if spec.label)
    if state.running_counts.counts != held:
        broken(f"I7: the limits have {state.running_counts.counts} counted, and {held} hold a slot")


def check_order(state: SchedulerState, last: int, last_starts: Mapping[int, int]) -> None:
    """Check that no task that fits, and waits only for room, came before the last start of a message.

    `last_starts`: user → when the user's last start was, before this one. After a start there is less room than before,
    so a task that fits now fitted then.
    """
    started = state.tasks[last]
    shares = Counter(entry.reserved_for.spec.user_id for entry in state.running.values())
    shares[started.spec.user_id] -= 1
    fair = state.limits.fair_share

    def place(task: TaskState) -> tuple[int, int, tuple[float, int]]:
        user = task.spec.user_id
        return (shares[user], last_starts.get(user, 0), queue_key(task)) if fair else (0, 0, queue_key(task))

    mine = place(started)
    if state.nodes.many and (_kept(state) or len(state.queue) > dispatch.BACKFILL_DEPTH):
        return  # a node that is kept or closed does not take what fits there
    for other in state.queue:
        task = state.tasks[other]
        if place(task) < mine and _fits(state, task):
            broken(f"I5: task {last} starts although task {other} fits and is before it in the order")


def check_missed_runs(state: SchedulerState, staged: Staged, now: datetime) -> None:
    """Check that schedules make tasks in the order of their times, and of missed runs as many as their policy says."""
    runs: dict[str, list[datetime]] = {}
    for fact in staged.facts:
        if isinstance(fact.event, Created) and fact.event.fire_time is not None:
            runs.setdefault(fact.event.schedule, []).append(fact.event.fire_time)
    for name, times in runs.items():
        spec = state.durable.schedules.by_name[name].spec
        most = {"skip": spec.max_missed, "once": 1, "all": spec.max_missed}[spec.missed]
        must(len(times) <= most, f"schedule {name} makes {len(times)} runs at once, {most} may be")
        must(times == sorted(times) and times[-1] <= now, f"schedule {name} runs for {times} at {now}")
        if spec.missed == "skip" and times[0] < now - timedelta(seconds=60):
            broken(f"schedule {name} makes up for {times[0]} at {now}, and should skip it")


def check_idle(state: SchedulerState) -> None:
    """After a completed step, check that no slot is empty while a task fits into it."""
    must(all(at > state.looked_at for at in state.shut.values()), f"I12: shut for nothing: {state.shut}")
    if state.draining or len(state.queue) > dispatch.BACKFILL_DEPTH:
        return
    if state.free_slots <= 0 and not all(state.has_room(state.tasks[task_id]) for task_id in state.queue):
        return  # some need a whole worker, and others may stand behind them
    kept = _kept(state)
    if kept and state.nodes.many:
        return
    if kept and (state.running or state.reserved.more_to_come) and not machine_is_busy(state.sample, state.limits):
        _check_kept(state, [state.tasks[task_id] for task_id in kept])
        return
    for task_id in state.queue:
        if _fits(state, state.tasks[task_id]):
            broken(f"I5: task {task_id} fits, a slot is free, and nobody starts it")


def _kept(state: SchedulerState) -> list[int]:
    counts = state.overtaken.items()
    return [one for one, count in counts if count >= dispatch.BACKFILL_BOUND and one in state.queue]


def _check_kept(state: SchedulerState, kept: list[TaskState]) -> None:
    """Check that kept room serves its task: attempts take no more than promised, and then the room is gone.

    This includes attempts that have ended since the sample.
    """
    used = [entry.used for entry in state.running.values()]
    memory = state.sample.memory_available + sum(one.memory for one in used) + state.reserved.gone_memory
    temp = state.sample.temp_free + sum(one.temp for one in used) + state.reserved.gone_temp
    if not any(task.memory_needed <= memory and task.temp_needed <= temp for task in kept):
        broken(f"I5: room is kept for {[task.id for task in kept]}, and would not do if nothing ran")


def _fits(state: SchedulerState, task: TaskState) -> bool:
    if not is_eligible(state, task) or obstacles(task, state.limits, state.sample, state.reserved):
        return False
    return not state.nodes.many or fits_a_node(state, task)
