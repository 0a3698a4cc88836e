"""An executor without processes, played by a seed. It keeps the contract and checks that the core does."""

from collections import deque
from collections.abc import Iterator
from random import Random
from typing import get_args

from broken import broken, must
from ledger import Key, Ledger

from tasktrail.actors.core.routing import offers_of
from tasktrail.events import Checkpoint
from tasktrail.events.reports import (
    AllFound,
    AttemptCheckpointed,
    AttemptEnd,
    AttemptEnded,
    AttemptFound,
    AttemptProbed,
    AttemptProgressed,
    AttemptsHeld,
    Avoid,
    CapacityChanged,
    Grant,
    NodesSeen,
    Order,
    PublishWanted,
    Report,
    Run,
    Saved,
    Settled,
    Stop,
    TellHeld,
    WorkerGone,
)
from tasktrail.events.task_events import Estimated

_NEVER_LOST = (AttemptEnded, AttemptFound, AllFound, CapacityChanged, NodesSeen, WorkerGone)
"""Reports that the executor itself makes, which are never lost."""
ERRORS = ("connection refused", "no such codec", "timeout while reading", "")


class Attempt:
    """One attempt in the executor's hands, from `Run` to its end."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.key = (run.task_id, run.attempt)
        self.stop_wanted = False
        self.granted = False
        self.doomed = False
        """A report that it waits for was lost: only its death will follow."""
        self.waits_for: type[Saved | Grant] | None = None
        self.progress = 0.0


class SimulatedExecutor:
    """Attempts that progress, checkpoint, publish, die and end in every way, at random.

    When orders are carried out, they are checked against the ledger, that is, against the durable state.
    """

    outlives = False
    """Whether running attempts continue when the service is killed."""

    def __init__(self, rng: Random, slots: int, ledger: Ledger) -> None:
        self._rng = rng
        self._ledger = ledger
        self.slots = slots
        self.closed = False
        self.seen: set[Key] = set()
        self.live: dict[Key, Attempt] = {}
        self.kept_stopping: set[Key] = set()
        """The attempts that an earlier service has told to stop."""
        self.forgotten: set[Key] = set()
        """Attempts that it should hold and does not: only a comparison finds out."""
        self.orders: deque[Order] = deque()
        """Orders that it has not carried out yet."""
        self.labels = Random(str(rng.getstate())).choice(({}, {}, {"gpu": 1}, {"gpu": 2}))
        """Label → the number of workers that offer it."""
        self.channel: deque[Report] = deque([self._capacity()])
        """Reports on their way to the Scheduler."""
        self._told: deque[Report] = deque(maxlen=50)

    # --- orders -----------------------------------------------------------------------------------------------

    def obey(self, limit: int = 1_000_000) -> None:
        """Carry out a number of the waiting orders."""
        while self.orders and limit > 0:
            self._do(self.orders.popleft())
            limit -= 1

    def _do(self, order: Order) -> None:
        if self.closed:
            return
        if isinstance(order, Run):
            self._run(order)
            return
        if isinstance(order, TellHeld):
            self.channel.append(AttemptsHeld(order.number, self.held()))
            return
        if isinstance(order, Avoid | Settled):
            return  # there is one machine, and nothing outlives the service
        attempt = self.live.get((order.task_id, order.attempt))
        if attempt is None:
            return
        if isinstance(order, Stop):
            attempt.stop_wanted = True
            attempt.waits_for = None
        elif attempt.waits_for is type(order):
            attempt.waits_for = None
            if isinstance(order, Grant):
                self._check_may_publish(attempt.key)
                attempt.granted = True

    def held(self) -> tuple[Key, ...]:
        """Return the attempts that it holds."""
        return tuple(self.live)

    def is_ending(self, key: Key) -> bool:
        """Return whether a running attempt was told to stop, or will be."""
        return self.outlives and (self.live[key].stop_wanted or self.live[key].doomed or key in self.ordered(Stop))

    def received(self, report: Report) -> None:
        """Note that the Scheduler has received this."""

    def close(self) -> None:
        """Kill everything; nothing is reported any more."""
        self.closed = True
        self.live.clear()
        self.forgotten.clear()

    def _run(self, run: Run) -> None:
        key = (run.task_id, run.attempt)
        must(key not in self.seen, f"I6: attempt {key} is ordered a second time")
        must(all(run.task_id != other for other, _ in self.live), f"I7: task {run.task_id} has two live attempts")
        task = self._ledger.tasks.get(run.task_id)
        if task is None or task.attempt < run.attempt:
            broken(f"I6: attempt {key} runs before its Started is durable")
        needs = task.spec.worker_label
        must(not needs or needs in run.offer, f"I16: attempt {key} needs {needs}, is given {run.offer}")
        attempt, checkpoint = self._ledger.resumes_from[run.task_id]
        if attempt == run.attempt and run.checkpoint != checkpoint:
            broken(f"attempt {key} resumes from {run.checkpoint}, not from {checkpoint}")
        self.seen.add(key)
        self.live[key] = Attempt(run)

    def _check_may_publish(self, key: Key) -> None:
        """Check the right to publish: a newer attempt or a cancel takes it, a timeout does not, as the next waits."""
        task = self._ledger.tasks.get(key[0])
        allowed = task is not None and task.attempt == key[1] and task.status not in ("cancelled", "completed")
        must(allowed, f"I7: the output may be published by attempt {key}, which is fenced off")

    # --- what attempts do -------------------------------------------------------------------------------------

    def act(self) -> None:
        """Let one attempt that has a slot do something."""
        working = list(self.live.values())[: self.slots]
        if not working:
            return
        attempt = self._rng.choice(working)
        if (attempt.stop_wanted or attempt.granted) and self._rng.random() < 0.6:
            return  # stopping and publishing take time, so that much can happen in between
        if attempt.stop_wanted:
            self._end(attempt, self._rng.choice(("stopped", "stopped", "stopped", "failed", "lost")))
        elif attempt.doomed:
            self._end(attempt, "lost")
        elif attempt.waits_for is None:
            self._work(attempt)

    def _work(self, attempt: Attempt) -> None:
        dice = self._rng.random()
        if attempt.granted or dice < 0.2:
            self._finish(attempt, self._outcome(attempt))
        elif attempt.run.options["fate"] == "deadly":
            self._end(attempt, "lost")
        elif dice < 0.4:
            attempt.waits_for = Saved
            checkpoint = Checkpoint(processed_frames=self._rng.randrange(1000))
            progress = self._rng.choice((None, attempt.progress))
            self._tell(AttemptCheckpointed(*attempt.key, checkpoint, progress))
        elif dice < 0.45:
            found = Estimated(memory=self._rng.randint(1, 12), temp=self._rng.randint(0, 3), seconds=5.0)
            self._tell(AttemptProbed(*attempt.key, found))
        else:
            attempt.progress = min(100.0, attempt.progress + self._rng.random() * 20)
            self._tell(AttemptProgressed(*attempt.key, attempt.progress, "working"))

    def _outcome(self, attempt: Attempt) -> AttemptEnd:
        """Draw an outcome. Most are good; an attempt with the grant may also die between publishing and its report."""
        ends: tuple[AttemptEnd, ...] = get_args(AttemptEnd)
        if attempt.run.options["fate"] == "flaky":
            return "failed"
        return "completed" if self._rng.random() < 0.5 else self._rng.choice(ends)

    def _finish(self, attempt: Attempt, outcome: AttemptEnd) -> None:
        """Report the end, or ask to publish before it."""
        if outcome == "completed" and attempt.run.output_file and not attempt.granted:
            attempt.waits_for = Grant
            self._tell(PublishWanted(*attempt.key))
        else:
            self._end(attempt, outcome)

    def _end(self, attempt: Attempt, outcome: AttemptEnd) -> None:
        if outcome == "lost":
            self._tell(WorkerGone(self._rng.randrange(1, 9999), -9, "killed"))
        error = "" if outcome == "completed" else self._rng.choice(ERRORS)
        signal = self._rng.choice((-9, -11)) if outcome == "lost" else None
        used = self._rng.randrange(30)
        self._tell(AttemptEnded(*attempt.key, outcome, error=error, memory_used=used, exit_code=signal))
        del self.live[attempt.key]

    def finish_all(self) -> bool:
        """Make the world kind again: running attempts end, and well unless they were asked to stop.

        Returns whether anything could continue.
        """
        told = len(self.channel)
        for attempt in list(self.live.values())[: self.slots]:
            if attempt.doomed:
                self._end(attempt, "lost")
            elif attempt.waits_for is not Grant:
                self._finish(attempt, "stopped" if attempt.stop_wanted else "completed")
        return len(self.channel) > told

    def _tell(self, report: Report) -> None:
        self.channel.append(report)
        self._told.append(report)

    # --- faults -----------------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """Let a worker die in the middle of its work."""
        if self.live:
            self._end(self._rng.choice(list(self.live.values())), "lost")

    def repeat_an_old_report(self) -> None:
        """Repeat an earlier report, late or twice, or report about an attempt that never ran."""
        told = [report for report in self._told if not isinstance(report, WorkerGone | CapacityChanged)]
        nobody = AttemptEnded(self._rng.randrange(20), self._rng.randrange(9, 99), "completed")
        self.channel.append(self._rng.choice([*told, nobody]))

    def lose_a_report(self) -> None:
        """Lose a report on its way. An attempt that waits for its answer hangs, until something kills it."""
        report = self.channel[0] if self.channel else None
        if report is None or isinstance(report, _NEVER_LOST):
            return
        self.channel.popleft()
        if isinstance(report, AttemptsHeld):
            return
        attempt = self.live.get((report.task_id, report.attempt))
        if attempt is not None and not isinstance(report, AttemptProgressed | AttemptProbed):
            attempt.doomed = True

    def forget(self) -> None:
        """Lose an attempt without a report: its end, or the order to begin, was lost."""
        if self.live:
            key = self._rng.choice(list(self.live))
            del self.live[key]
            self.forgotten.add(key)

    def be_kind(self) -> None:
        """Provide workers for all."""
        self.labels = {"gpu": 1}
        self.change_capacity(3)

    def change_capacity(self, slots: int) -> None:
        """Add or remove workers."""
        self.slots = slots
        self.channel.append(self._capacity())

    def _capacity(self) -> CapacityChanged:
        return CapacityChanged(self.slots, offers_of(self.labels, self.slots))

    # --- what is under way ------------------------------------------------------------------------------------

    def ends_on_the_way(self) -> Iterator[Key]:
        """Return the attempts whose end was reported and not yet received."""
        return ((report.task_id, report.attempt) for report in self.channel if isinstance(report, AttemptEnded))

    def ordered(self, kind: type[Run | Stop]) -> Iterator[Key]:
        """Return the attempts that orders on their way are about."""
        return ((order.task_id, order.attempt) for order in self.orders if isinstance(order, kind))
