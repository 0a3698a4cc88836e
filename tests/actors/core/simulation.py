"""A small deterministic simulator: one seed plays people, machine, executor and faults; the core is the real one.

python tests/actors/core/simulation.py --seed 7 --steps 100000
"""

import argparse
import hashlib
import sys
import time
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from invariants import (
    Ledger,
    Overtakings,
    check_commit,
    check_executor,
    check_memory,
    check_places,
    check_reservations,
)
from simulated_executor import BrokenInvariantError, SimulatedExecutor, must
from simulated_people import SimulatedPeople
from simulated_service import Answer, SimulatedService

from tasktrail.actors.core.admission import Limits, Sample
from tasktrail.actors.core.messages import (
    Close,
    Delivered,
    Drain,
    LimitsChanged,
    Message,
    Sampled,
    Submit,
    Tick,
)
from tasktrail.events import Accepted, Command, Recorded, TaskState
from tasktrail.events.memory_log import MemoryEventLog
from tasktrail.events.system_events import DeliveryAttempted
from tasktrail.handlers.process.frames import Order

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 1, tzinfo=UTC)
MAX_MEMORY = 10
PATIENCE = timedelta(days=1)
"""Once faults have stopped, everything that can end has ended after this much virtual time."""
ACTIONS = ("deliver", "work", "command", "commit", "time", "sample", "stale", "tune", "fail", "crash", "drain", "jump")
USUAL = (25.0, 30.0, 14.0, 20.0, 6.0, 1.0, 1.0, 1.0, 0.5, 0.3, 0.3, 0.3)


class Simulation:
    """A world of its own for each seed: how often which fault comes is drawn first, then everything else."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        # Swarm testing: each world has its own mixture of what happens often, seldom and never.
        self.weights = [weight * self.rng.choice((0.0, 0.3, 1.0, 1.0, 3.0)) for weight in USUAL]
        self.weights[:4] = [max(weight, 5.0) for weight in self.weights[:4]]
        self.now = START
        self.limits = Limits(max_concurrent=self.rng.randint(1, 4), max_memory=MAX_MEMORY, max_temp_size=MAX_MEMORY)
        self.log = MemoryEventLog()
        self.ledger = Ledger(self.limits.max_crashes)
        self.people = SimulatedPeople(self.rng, self.ledger.tasks)
        self.trace = hashlib.sha256()
        self.commands: dict[int, Command] = {}
        """Commands that have no answer yet, by token."""
        self.unknown: set[int] = set()
        """Commands whose senders were told that nobody knows; the answer may follow."""
        self.tokens = self.epoch = self.unchecked = 0
        self._open()

    def _open(self) -> None:
        """A new service and a new executor on the log of the old ones."""
        self.epoch += 1
        self.overtakings = Overtakings()
        self.commands.clear()  # whoever still waits for an answer is cut off, and does not know
        self.executor = SimulatedExecutor(self.rng, self.rng.randint(1, 4), self.ledger.tasks.get)
        grace = {"plain": 0.5, "other": 5.0} | ({"seldom": 0.5} if self.rng.random() < 0.5 else {})
        self.service = SimulatedService(
            self.log,
            self.limits,
            grace,
            on_commit=self._committed,
            on_answer=self._answered,
            on_order=self._ordered,
            on_load=self._loaded,
        )
        must(self.service.state.tasks == self.ledger.tasks, "I4: the fold of the log is not what was live")
        self.service.boot(self.now, self.epoch)
        self.service.commit()

    # --- what the service says ----------------------------------------------------------------------------------

    def _committed(self, records: list[Recorded], state: object) -> None:
        must(state is self.service.state, "another state was committed")
        for record in records:
            self.trace.update(record.hash)
        check_commit(self.ledger, records, self.service.state, self.executor)

    def _answered(self, token: int, answer: Answer | None) -> None:
        known = self.commands.pop(token, None) is not None or token in self.unknown
        if answer is None:
            self.unknown.add(token)
        if isinstance(answer, Accepted):
            must(known, f"command {token} is answered twice")
            self.unknown.discard(token)
            record = next(self.log.read(answer.position - 1, 1), None)
            must(record and record.command_id == str(token), f"I1: command {token} is acknowledged, not in the log")
            must(record and record.task_id in (0, answer.task_id), f"command {token} is about another task")

    def _ordered(self, order: Order) -> None:
        self.trace.update(repr(order).encode())
        self.executor.do(order)

    def _loaded(self, task: TaskState) -> None:
        must(task.finished, f"task {task.id} is {task.status} and was not in memory")
        expected = self.ledger.tasks[task.id]
        must(task == expected, f"I4: task {task.id} is read back as {task}, not {expected}")

    # --- what happens -------------------------------------------------------------------------------------------

    def run(self, steps: int) -> str:
        """Play; then let the world be kind and see everything settle. A hash of all that was recorded and ordered."""
        for _ in range(steps):
            self.step()
        self.settle()
        return self.trace.hexdigest()

    def step(self) -> None:
        """One thing happens; then the invariants are looked at."""
        action = self.rng.choices(ACTIONS, self.weights)[0]
        doings: dict[str, Callable[[], None]] = {
            "deliver": self.deliver,
            "work": self.executor.act,
            "command": self.command,
            "commit": self.commit,
            "time": self.pass_time,
            "sample": self.sample,
            "stale": self.executor.repeat_an_old_report,
            "tune": self.tune,
            "fail": self.fail_to_commit,
            "crash": self.crash,
            "drain": self.drain,
            "jump": self.jump,
        }
        doings[action]()

    def tell(self, message: Message) -> None:
        """The service steps one message."""
        state = self.service.state
        before = {entry.task_id: entry.attempt for entry in state.running.values()}
        self.service.take(message, self.now)
        check_reservations(state, state.limits, before, message)
        self.overtakings.follow(state, before, message)

    def deliver(self) -> None:
        """A report reaches the Scheduler."""
        if self.executor.channel:
            self.tell(self.executor.channel.popleft())

    def commit(self) -> None:
        """The batch is written; with nothing staged, memory, log and executor must agree."""
        self.service.commit()
        state = self.service.state
        check_executor(state, self.executor)
        self.unchecked += 50
        if self.unchecked >= len(state.tasks):  # seldom when there are many tasks, so that long runs stay quick
            self.unchecked = 0
            check_places(state, self.now)
            check_memory(state, self.ledger)

    def pass_time(self) -> None:
        """Some time goes by; the alarm rings when it is due."""
        self.now += timedelta(seconds=self.rng.choice((0.1, 1, 1, 10, 100)) * self.rng.random())
        wake = self.service.state.next_wake()
        if wake is not None and wake <= self.now:
            self.tell(Tick())

    def sample(self) -> None:
        """The machine is more or less busy; and a notice was delivered."""
        memory, temp = self.rng.randint(0, 20), self.rng.randint(0, 20)
        cpu = self.rng.choice((5.0, 50.0, 99.0))
        self.tell(Sampled(Sample(cpu_percent=cpu, memory_available=memory, temp_free=temp, memory_total=20)))
        notice = DeliveryAttempted(notice_id="n", task_id=1, channel="email", target="a@example.com", ok=True)
        self.tell(Delivered(notice))

    def tune(self) -> None:
        """Somebody changes the limits, or workers come and go."""
        if self.rng.random() < 0.5:
            self.executor.change_capacity(self.rng.randint(0, 4))
        self.limits = Limits(
            max_concurrent=self.rng.randint(1, 4),
            max_memory=self.rng.choice((5, MAX_MEMORY)),
            max_cpu=self.rng.choice((60.0, 100.0)),
            max_temp_size=MAX_MEMORY,
        )
        self.tell(LimitsChanged(self.limits))

    def fail_to_commit(self) -> None:
        """The append fails; whether it was written after all, nobody knows."""
        self.overtakings = Overtakings()  # the core counts anew with its new memory
        for record in self.service.fail_to_commit(self.now, written=self.rng.random() < 0.5):
            self.trace.update(record.hash)
            self.ledger.add(record)
        self.trace.update(b"failed")

    def crash(self) -> None:
        """The service is killed: what was staged is lost, all attempts die with it."""
        self.now += timedelta(seconds=self.rng.randint(0, 100))
        self._open()

    def drain(self) -> None:
        """The service is asked to stop; some time later it does, in good order, and is started again."""
        if not self.service.state.draining:
            self.tell(Drain())
            return
        self.close()
        self._open()

    def close(self) -> None:
        """The service stops in good order; the executor kills what runs, so that orders come too late."""
        self.tell(Close())
        self.executor.close()
        self.service.commit()
        must(not self.commands, f"commands {list(self.commands)} never get an answer")
        must(all(task.status != "running" for task in self.ledger.tasks.values()), "an attempt outlives the service")

    def jump(self) -> None:
        """The wall clock is set."""
        self.now += timedelta(seconds=self.rng.randint(-3600, 3600))

    def command(self) -> None:
        """Somebody sends a command."""
        self.tokens += 1
        command, intake = self.people.command(str(self.tokens), self.now)
        self.commands[self.tokens] = command
        self.tell(Submit(command, intake, self.tokens))

    # --- liveness -----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Faults stop. What is not held, blocked for ever, without a handler or too big must end in bounded time."""
        if self.service.state.draining:
            self.close()
            self._open()
        self.limits = Limits(max_concurrent=3, max_memory=MAX_MEMORY, max_temp_size=MAX_MEMORY)
        self.tell(LimitsChanged(self.limits))
        self.tell(Sampled(Sample()))
        self.executor.change_capacity(3)
        horizon = self.now + PATIENCE
        while self._goes_on():
            wake = self.service.state.next_wake()
            if wake is None or wake > horizon:
                break
            self.now = max(self.now, wake)
            self.tell(Tick())
        stuck = sorted(task_id for task_id in self.ledger.open if self._can_end(self.ledger.tasks[task_id]))
        must(not stuck, f"I5: stuck for ever: {[self.ledger.tasks[task_id] for task_id in stuck[:3]]}")
        must(not self.commands, f"commands {list(self.commands)} never get an answer")
        must(not self.service.state.running, "I7: slots are held for nothing")

    def _goes_on(self) -> bool:
        """Deliver, commit and finish until nothing moves; whether anything is still to come."""
        while True:
            while self.executor.channel:
                self.deliver()
            self.commit()
            if not self.executor.live:
                return bool(self.ledger.open)
            self.executor.finish_all()

    def _can_end(self, task: TaskState) -> bool:
        if task.finished:
            return task.status == "completed"
        possible = not task.held and task.spec.type in self.service.state.grace
        fits = task.spec.estimated_memory <= MAX_MEMORY
        return possible and fits and all(self._can_end(self.ledger.tasks[other]) for other in task.spec.depends_on)


def play(seed: int, steps: int) -> str:
    """Run one seed; a failure names the line that plays it again."""
    try:
        return Simulation(seed).run(steps)
    except Exception as error:
        error.add_note(f"replay: python tests/actors/core/simulation.py --seed {seed} --steps {steps}")
        raise


def main() -> int:
    """Run one seed, or many, and say how quick it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--quiet", action="store_true", help="print the hash of the last trace only")
    options = parser.parse_args()
    started = time.perf_counter()
    for seed in range(options.seed, options.seed + options.seeds):
        try:
            digest = play(seed, options.steps)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the line to replay it is what counts
            kind = "broken invariant" if isinstance(error, BrokenInvariantError) else type(error).__name__
            print(f"python tests/actors/core/simulation.py --seed {seed} --steps {options.steps}  # {kind}: {error}")
            return 1
    seconds = time.perf_counter() - started
    if options.quiet:
        print(digest)
        return 0
    steps = options.seeds * options.steps
    print(f"{options.seeds} seeds, {steps} steps, {steps / seconds:,.0f} steps/s, last trace {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
