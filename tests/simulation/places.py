"""Where attempts run, and whether they may: computed from the machines and the drains that hold."""

from typing import TYPE_CHECKING

from broken import broken
from sim_cluster import MACHINES, Machine

from tasktrail.actors.core.messages import Sampled
from tasktrail.actors.core.resources import machine_is_busy
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import TaskState

if TYPE_CHECKING:
    from tasktrail.actors.core.nodes import NodeSample


def machine_of(state: SchedulerState, node: str) -> Machine:
    """Return the machine that has or had this name."""
    return MACHINES[state.durable.nodes.by_name[node].seen.address]


class NodesRoom:
    """What the last sample of each machine found free, and what attempts there had in memory."""

    def __init__(self) -> None:
        self._last: dict[str, NodeSample] = {}

    def sampled(self, message: Sampled, state: SchedulerState) -> None:
        """Note samples of the nodes that the Scheduler knows."""
        for name, one in message.nodes.items():
            if name in state.nodes.by_name:
                self._last[state.nodes.by_name[name].seen.address] = one

    def check(self, state: SchedulerState, started: list[int]) -> None:
        """Check, after starts, that what is reserved there and was not measured as used is free."""
        for name in {state.running[task_id].node for task_id in started}:
            last = self._last[state.nodes.by_name[name].seen.address]
            if last.memory_used is None or last.sample is None:
                continue
            memory = sum(
                max(0, entry.reserved_for.memory_needed - last.memory_used.get((entry.task_id, entry.attempt), 0))
                for entry in state.running.values()
                if entry.node == name and not entry.short
            )
            if memory > last.sample.memory_available:
                broken(f"I17: {memory} are still to be used on {name}, and {last} was found")


def check_nodes(state: SchedulerState, started: list[int]) -> None:
    """Check that each start is on a node that exists, suits, is not drained, and has not promised its room already."""
    if not state.nodes.many:
        return
    for task_id in started:
        entry = state.running[task_id]
        task, node, machine = entry.reserved_for, state.nodes.by_name[entry.node], machine_of(state, entry.node)
        if not node.present:
            broken(f"I17: task {task_id} starts on {entry.node}, which is not there")
        if not machine.suits(task.spec.requires, entry.node):
            broken(f"I17: task {task_id} starts on {entry.node}, and requires {task.spec.requires}")
        if machine.is_one_of(set(state.durable.nodes.drains)):
            broken(f"I17: task {task_id} starts on {entry.node}, which is drained")
        memory, temp, alone = _promised(state, machine)
        if memory > machine.memory or temp > machine.temp:
            broken(f"I17: {memory} and {temp} are promised on {entry.node}, which has {machine.memory}, {machine.temp}")
        if alone > node.workers.slots:
            broken(f"I17: {alone} attempts have {node.workers.slots} workers of {entry.node}")


def _promised(state: SchedulerState, machine: Machine) -> tuple[int, int, int]:
    """Return the memory and temp space promised on a machine, and how many attempts have a worker to themselves."""
    memory = temp = alone = 0
    for entry in state.running.values():
        if entry.node in state.durable.nodes.by_name and machine_of(state, entry.node) is machine:
            memory += entry.reserved_for.memory_needed
            temp += entry.reserved_for.temp_needed
            alone += not entry.short
    return memory, temp, alone


def fits_a_node(state: SchedulerState, task: TaskState) -> bool:
    """Return whether a node has a free worker and room for the task now."""
    drains, short = set(state.durable.nodes.drains), state.is_short(task)
    for name, node in state.nodes.by_name.items():
        if not node.present or node.sampled_at is None:
            continue
        machine = machine_of(state, name)
        if machine.is_one_of(drains) or not machine.suits(task.spec.requires, name):
            continue
        most = node.workers.held + max(0, state.free_slots)
        worker = node.workers.place(task.spec.worker_label, most, short=short)
        memory, temp, _ = _promised(state, machine)
        roomy = (
            memory + task.memory_needed <= machine.memory
            and temp + task.temp_needed <= machine.temp
            and node.reserved.unused_memory + task.memory_needed <= node.sample.memory_available
            and node.reserved.unused_temp + task.temp_needed <= node.sample.temp_free
        )
        if worker is not None and roomy and not machine_is_busy(node.sample, state.limits):
            return True
    return False
