"""Compares the Scheduler's memory with durable records and with what the executor really has."""

from collections.abc import Iterable
from datetime import datetime

from broken import broken, must
from house import House
from ledger import Ledger
from sim_cluster import ClusterExecutor
from sim_executor import SimulatedExecutor
from starts import workers_held

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.resources import Reserved
from tasktrail.actors.core.schedules import Schedules
from tasktrail.actors.core.state import Durable, Running, SchedulerState
from tasktrail.events import TaskState
from tasktrail.events.reports import Avoid, Run, Stop


def check_folded(house: House, ledger: Ledger) -> None:
    """With nothing staged, check that the memory equals a new fold of the whole log."""
    live, folded = house.state, house.folded()
    must(folded.tasks == ledger.tasks, "I4: the fold of the log is not what was recorded")
    in_memory = live.tasks.keys()
    recorded = {task_id: task for task_id, task in folded.tasks.items() if task_id in in_memory}
    must(live.tasks == recorded, f"I4: `tasks` are {dict(live.tasks)} in memory and {recorded} in the log")
    for name in Durable.__struct_fields__:
        ours, theirs = getattr(live.durable, name), getattr(folded.durable, name)
        if name == "schedules":  # a missed run that was given up is done, and recorded nowhere
            ours, theirs = map(_as_recorded, (ours, theirs))
        must(ours == theirs, f"I4: `{name}` is {ours} in memory and {theirs} in the log")


def _as_recorded(schedules: Schedules) -> list[tuple[object, ...]]:
    return [(one.spec, one.position, one.runs) for one in schedules.by_name.values()]


def check_orders(state: SchedulerState, ledger: Ledger, configured: Limits, disabled: set[str]) -> None:
    """With nothing staged, check that the standing orders of operators are those of the log, as after a restart."""
    standing = ledger.standing
    pauses = sorted(pause.position for pause in state.durable.pauses.all())
    must(pauses == sorted(standing.since.values()), f"I4: pauses {pauses} hold, the log has {standing.since}")
    limits = standing.limits(configured)
    must(state.limits == limits, f"I4: the limits are {state.limits}, and should be {limits}")
    schedules = {name: (one.position, one.runs) for name, one in state.durable.schedules.by_name.items()}
    recorded = {name: (plan.position, plan.runs) for name, plan in standing.plans.items()}
    must(schedules == recorded, f"I4: the schedules are {schedules}, and should be {recorded}")
    must(
        state.durable.disabled.keys() == disabled,
        f"I4: endpoints {state.durable.disabled}, not {disabled}",
    )
    drains = set(state.durable.nodes.drains)
    must(drains == set(standing.node_drains), f"I4: nodes {drains} are drained, and should be {standing.node_drains}")
    ended = standing.drained or not standing.drains or state.running
    must(ended, "the queue is drained, and that is not recorded")


def check_reservations(state: SchedulerState, started: list[int], *, drained: bool = False) -> None:
    """Check that reservations are the sum over running attempts, and that no start exceeded the limits.

    `drained`: whether the service drained before the message. A noticed jump of the clock may come before the message,
    as a step of its own.
    """
    memory, temp = _check_sum(state.reserved, state.running.values())
    for name, node in state.nodes.by_name.items() if state.nodes.many else ():
        _check_sum(node.reserved, [entry for entry in state.running.values() if entry.node == name])
    if started:
        limits = state.limits
        there = min(state.workers.slots, limits.max_concurrent)
        must(workers_held(state).total() <= there, "I7: more attempts than slots")
        must(memory <= limits.max_memory and temp <= limits.max_temp_size, "I7: more promised than allowed")
        must(not drained, "an attempt starts while the service drains")


def _check_sum(reserved: Reserved, running: Iterable[Running]) -> tuple[int, int]:
    """Check what is reserved for these attempts, and how much of it is not used. Return the bytes of both kinds."""
    memory = temp = unused_memory = unused_temp = 0
    for entry in running:
        memory += entry.reserved_for.memory_needed
        temp += entry.reserved_for.temp_needed
        unused_memory += entry.reserved_for.memory_needed - entry.used.memory
        unused_temp += entry.reserved_for.temp_needed - entry.used.temp
    is_sum = (reserved.memory, reserved.temp) == (memory, temp)
    if not is_sum or (reserved.unused_memory, reserved.unused_temp) != (unused_memory, unused_temp):
        broken(f"I7: reservations leak: {reserved}, and it should be {memory}, {temp}, {unused_memory}, {unused_temp}")
    return memory, temp


def check_places(state: SchedulerState, tasks: Iterable[TaskState], now: datetime) -> None:
    """Check that each waiting task is in exactly the one place where its state says it waits."""
    asleep: list[TaskState] = []
    for task in tasks:
        queued, blocked = task.id in state.queue, state.blocked.get(task.id)
        aside, parked = task.id in state.set_aside, task.id in state.parked
        if not task.waiting:
            if queued or blocked or aside or parked or task.id in state.overtaken:
                broken(f"task {task.id} is {task.status} and still waits somewhere")
        elif state.own is None and [queued, bool(blocked) or task.id in state.running, aside, parked].count(True) != 1:
            broken(f"task {task.id} is counted in no place, or in several")
        elif task.held or task.spec.type not in state.grace or task.id in state.running or blocked:
            if queued:
                broken(f"task {task.id} is queued although something stands against it")
        elif not queued and task.id not in state.set_aside:
            asleep.append(task)
    if asleep:
        _check_wakes(state, asleep, now)


def _check_wakes(state: SchedulerState, asleep: list[TaskState], now: datetime) -> None:
    """Check that a task that waits only for a time is woken then."""
    wakes: dict[int, datetime] = {}
    for timer in state.timers:
        if not timer.attempt:
            wakes[timer.task_id] = min(timer.at, wakes.get(timer.task_id, timer.at))
    for task in asleep:
        due = max(task.not_before or now, now)
        if task.id not in wakes or wakes[task.id] > due:
            broken(f"I5: task {task.id} waits for {due} and nothing will wake it then")


def check_blocked(state: SchedulerState, ledger: Ledger, task_ids: Iterable[int]) -> None:
    """With nothing staged, check that a task that waits for others is blocked, and will be notified of them."""
    for task_id in task_ids:
        task = ledger.tasks[task_id]
        unmet = ledger.unmet(task) if task.waiting else set()
        if state.blocked.get(task_id, set()) != unmet:
            broken(f"I5: task {task_id} should wait for {unmet}")
        for other in unmet:
            if task_id not in state.dependents.get(other, ()):
                broken(f"I5: task {task_id} will not hear of task {other}")


def check_memory(state: SchedulerState, ledger: Ledger) -> None:
    """With nothing staged, check that memory holds exactly the tasks that are open or hold a slot."""
    in_memory = ledger.open | state.running.keys()
    if state.tasks.keys() != in_memory:
        broken(f"I11: in memory {sorted(state.tasks.keys() ^ in_memory)} should not be, or should")
    if state.position != ledger.position:
        broken(f"I4: memory is at {state.position}, the log at {ledger.position}")


def check_executor(state: SchedulerState, executor: SimulatedExecutor) -> None:
    """With nothing staged, check that slots belong to running or ending attempts, and unwanted ones must stop."""
    if isinstance(executor, ClusterExecutor) and not _is_in_order(state, executor):
        return
    held = {(entry.task_id, entry.attempt) for entry in state.running.values()}
    live = executor.live.keys()
    under_way = {*executor.held(), *executor.ends_on_the_way(), *executor.ordered(Run)}
    if held != under_way:
        strange = {key for key in live - held if not executor.is_ending(key)}
        if strange:
            broken(f"I7: attempts without a slot: {strange}")
        leaked = held - under_way - executor.forgotten
        must(not leaked, f"I7: slots leak: {leaked}")
    for key in held & live:
        task = state.tasks[key[0]]
        current = task.status == "running" and task.attempt == key[1]
        stopped = executor.live[key].stop_wanted or key in executor.ordered(Stop)
        if not current and not stopped:
            broken(f"I7: attempt {key} goes on although the task is {task.status}")
        if current and stopped and not state.draining and key not in executor.kept_stopping:
            broken(f"attempt {key} was asked to stop for no reason")


def _is_in_order(state: SchedulerState, executor: ClusterExecutor) -> bool:
    """On a cluster, return whether all is found; then check that the executor avoids exactly the drained nodes."""
    if any(entry.sought for entry in state.running.values()) or not executor.all_found:
        return False
    drains = frozenset(state.durable.nodes.drains)
    if not any(isinstance(order, Avoid) for order in executor.orders) and executor.avoided != drains:
        broken(f"nodes {set(drains)} are drained, and the executor avoids {set(executor.avoided)}")
    return True
