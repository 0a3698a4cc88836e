"""The executor that runs attempts in processes of this machine."""

import os
import secrets
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ...events.reports import (
    AttemptEnded,
    AttemptsHeld,
    CapacityChanged,
    Grant,
    Order,
    Report,
    Run,
    Saved,
    Stop,
    TellHeld,
)
from ...handlers.contract import ONE_CORE, Room
from ...handlers.manifests import Claims
from ...handlers.process.channel import IoRank, Setup, Unencodable, encode_frame
from ...handlers.process.sandbox import Sandbox, sandbox_support
from ..core.routing import Offer, offers_of
from ..executor import Capabilities, PendingOrders, Reporter, unbegun, unencodable
from ..logger import get_logger
from .reactor import Reactor
from .slot import Given, Slot, SlotRules
from .usage import can_measure, usage_below
from .worker_process import (
    LaunchSettings,
    family,
    launch,
    open_shared_lock,
    storage_credentials,
    worker_environment,
)

_REMEMBERED = 4096
"""Ended attempts that are remembered, so that a repeated `Run` is not run again."""
_SHARED_ANEW = 0.25
"""Seconds between two computations of the CPUs for each attempt. Short attempts are over before it matters."""
_LAST_RESORT = 5.0
"""Seconds that `close` waits for the sweep after it had to kill a reaper."""

logger = get_logger(__name__)


class LocalExecutor:
    """Keeps `slots` warm workers, each under a reaper of its own, and one thread that talks to them all.

    Args:
        slots: how many attempts run at once.
        labels: label → how many of the workers offer it.
        homes: task type → `module:attribute`, from `Registry.homes`.
        lock_path: file on which reapers hold a shared lock; see `wait_for_orphans`.
        pythonpath: folders that workers import from, besides those of the service.
        pass_environment: names of further environment variables that workers may see.
        nice: added to the workers' niceness.
        io: how the workers' disk accesses rank, see `Setup`.
        room: what an attempt may take of the machine when it runs alone.
        rules: when workers are replaced.
        sandbox: the sandbox of every attempt.
        output_root: folder that keeps the attempts' output, see `handlers.attempt_output`; None to keep none.
        max_output: bytes kept of each attempt.
        hash_up_to: bytes up to which the input of any task is hashed, for the record.
        claims: signs manifests of outputs; None for no manifests.
    """

    def __init__(
        self,
        *,
        slots: int,
        homes: Mapping[str, str],
        labels: Mapping[str, int] | None = None,
        lock_path: Path | None = None,
        pythonpath: Iterable[str] = (),
        pass_environment: Iterable[str] = (),
        nice: int = 0,
        io: IoRank = "normal",
        room: Room = ONE_CORE,
        rules: SlotRules | None = None,
        sandbox: Sandbox | None = None,
        output_root: Path | None = None,
        max_output: int = 0,
        hash_up_to: int = 0,
        claims: Claims | None = None,
    ) -> None:
        rules = rules or SlotRules()
        sandbox = _as_far_as_possible(sandbox or Sandbox())
        self.lock = threading.RLock()
        self.reactor = Reactor(self._after_turn)
        self._lock_path = lock_path
        self._lock_fd: int | None = None
        self._settings = LaunchSettings(
            lock=None,
            family=f"{secrets.token_hex(8)}:",
            environment=worker_environment(pythonpath, pass_environment, os.environ),
            alone=sandbox.mode != "off" and sandbox_support().pid_namespace,
            credentials=storage_credentials(os.environ) if sandbox.storage is not None else b"",
            keeps_output=bool(output_root and max_output),
        )
        kept_in = str(output_root) if self._settings.keeps_output else ""
        setup = Setup(dict(homes), rules.rss_limit, sandbox, kept_in, max_output, nice, io, room, claims, hash_up_to)
        self._cores = room.cores
        self._sharing = False
        self._slots = [Slot(self, lambda: launch(self._settings), setup, rules) for _ in range(slots)]
        offers = offers_of(labels or {}, slots) or ((),) * slots
        self._offers: dict[Slot, Offer] = dict(zip(self._slots, offers, strict=True))
        self._to_start: deque[Slot] = deque()
        self._to_come: set[Slot] = set()
        """The slots in `_to_start`, and those that still wait for their delay."""
        self._starting_at_once = max(1, os.cpu_count() or 1)
        self._idle: list[Slot] = []
        self._may_be_shared = 0
        """How many workers may run short attempts, by the latest short run."""
        self._waiting: dict[tuple[int, int], tuple[Run, bytes]] = {}
        """Runs that no worker has yet, with their encoded frames."""
        self._attempts: dict[tuple[int, int], Slot] = {}
        self._ended: dict[tuple[int, int], None] = {}
        self._orders = PendingOrders(self.lock, self.reactor.post, self._carry_out)
        self._reports: list[Report] = []
        self._reported_capacity = CapacityChanged(-1)
        self._capacity_touched = True
        self._closing = False
        self._report: Reporter = lambda _: None
        self._thread = threading.Thread(target=self.reactor.run, name="executor", daemon=True)

    @property
    def capabilities(self) -> Capabilities:
        """See `Executor`."""
        if self._settings.alone:
            return Capabilities(
                hard_kill_tree="a PID namespace per worker: the kernel kills all of it with its reaper",
                kills_escaped=True,
                finds_orphans=True,
                measures_memory=can_measure(),
            )
        if sys.platform == "linux":
            return Capabilities(
                hard_kill_tree="a reaper per worker, which kills every descendant",
                kills_escaped=True,
                finds_orphans=True,
                measures_memory=can_measure(),
            )
        return Capabilities(
            hard_kill_tree="a reaper per worker: kills the worker's process group",
            kills_escaped=False,
            finds_orphans=False,
        )

    # --- from any thread -------------------------------------------------------------------------------------------

    trouble = ""
    """See `Executor`: changes of workers are reported as they happen."""

    def open(self, report: Reporter) -> None:
        """Start the thread, which starts the workers, a few at a time. Returns at once."""
        self._report = report
        if self._lock_path is not None:
            self._lock_fd = open_shared_lock(self._lock_path)
            self._settings = msgspec.structs.replace(self._settings, lock=self._lock_fd, family=family(self._lock_path))
        self._to_start.extend(self._slots)
        self._to_come.update(self._slots)
        self.reactor.post(self._start_some)
        self._thread.start()

    def capacity(self) -> int:
        """How many slots have a worker that is ready, at work, or being replaced at once."""
        with self.lock:
            return sum(slot.usable for slot in self._slots)

    def memory(self) -> dict[tuple[int, int], int]:
        """See `Executor`."""
        with self.lock:
            above = {_key(slot.running): slot.above_attempt for slot in self._slots if slot.running is not None}
        # Without the lock while `/proc` is read.
        found = {key: usage_below(pid).resident for key, pid in above.items() if pid is not None}
        return {key: resident for key, resident in found.items() if resident}

    def do(self, orders: Sequence[Order]) -> None:
        """See `Executor`. While the executor's thread is at work, that thread carries the orders out itself."""
        self._orders.add(orders)

    def _carry_out(self, order: Order) -> None:
        match order:
            case Run():
                self._run(order)
            case Stop():
                self._stop(order)
            case Grant() | Saved():
                if slot := self._attempts.get((order.task_id, order.attempt)):
                    slot.answer(order)
            case TellHeld():
                self._tell_held(order)

    def close(self, timeout: float) -> None:
        """See `Executor`."""
        if not self._thread.is_alive():
            self.reactor.dispose()
            return
        self.reactor.post(self._kill_all)
        self.reactor.at(timeout, self._kill_reapers)
        if not self.reactor.inside():
            self._thread.join(timeout + _LAST_RESORT)

    def end_attempts(self, why: str) -> None:
        """Kill all attempts now, without a grace; they end as stopped. Any thread may call it."""
        with self.lock:
            self._orders.work_off()  # runs that were ordered before are ended, too
            for key in (*self._waiting, *self._attempts):
                self._stop(Stop(*key))
            for slot in self._slots:
                if slot.running is not None:
                    slot.kill(why)

    def _run(self, run: Run) -> None:
        key = (run.task_id, run.attempt)
        if key in self._attempts or key in self._waiting or key in self._ended:
            return
        if self._closing:
            self._endunbegun(unbegun(run))
            return
        run = msgspec.structs.replace(run, cores=self._share(self._at_work() + 1))
        try:
            frame = encode_frame(run)
        except Unencodable as error:
            self._endunbegun(unencodable(run, error))
            return
        self._waiting[key] = (run, frame)
        if run.shared_workers:
            self._may_be_shared = run.shared_workers
        self._hand_out()

    def _share(self, at_work: int) -> int:
        """The CPUs for each attempt when `at_work` attempts run."""
        return max(1, min(self._cores, -(-self._cores // at_work)))

    def _at_work(self) -> int:
        """How many attempts run, or will run as soon as a worker is there."""
        return sum(slot.running is not None for slot in self._slots) + len(self._waiting)

    def _hand_out(self) -> None:
        """Give waiting runs to workers, in their order: none passes a run that waits for a worker of the same kind.

        A short run may wait for a share of a worker while other workers are idle. Then it holds up only short runs.
        """
        shut: set[tuple[Offer, bool]] = set()
        for key, (run, _) in list(self._waiting.items()):
            short = bool(run.shared_workers)
            if (run.offer, False) in shut or (run.offer, short) in shut:
                continue
            while key in self._waiting and (slot := self._slot_for(run)) is not None:
                self._assign(slot, key)
            if key in self._waiting:
                shut.add((run.offer, short))

    def _slot_for(self, run: Run) -> Slot | None:
        """An idle slot. For a short run, if no more workers may run short ones, the shared slot with the most room."""
        shared = [slot for slot in self._slots if slot.is_shared] if run.shared_workers else []
        if not shared or len(shared) < self._may_be_shared:
            for slot in reversed(self._idle):
                if self._offers[slot] == run.offer:
                    self._idle.remove(slot)
                    return slot
        roomy = max(shared, key=_room, default=None)
        return roomy if roomy is not None and roomy.room_ahead else None

    def _share_out(self) -> None:
        """Tell attempts their CPUs after others have come or gone. Called at intervals in the reactor's thread."""
        with self.lock:
            self._sharing = bool(self._attempts)
            if self._sharing:
                cores = self._share(max(1, self._at_work()))
                for slot in self._attempts.values():
                    slot.share(cores)
                self.reactor.at(_SHARED_ANEW, self._share_out)

    def _assign(self, slot: Slot, key: tuple[int, int]) -> None:
        """Give the slot a waiting run. If its worker has just died, the run goes on waiting."""
        if slot.give(*self._waiting[key]):
            self._attempts[key] = slot
            del self._waiting[key]
            if not self._sharing and self._cores > 1:
                self._sharing = True
                self.reactor.at(_SHARED_ANEW, self._share_out)

    def _stop(self, order: Stop) -> None:
        key = (order.task_id, order.attempt)
        if slot := self._attempts.get(key):
            slot.stop(key)
        elif waiting := self._waiting.pop(key, None):
            self._endunbegun(unbegun(waiting[0]))

    def _endunbegun(self, ended: AttemptEnded) -> None:
        self.tell(ended)
        self._tell_soon()

    def _tell_soon(self) -> None:
        if not self.reactor.inside():
            self.reactor.post(lambda: None)

    def _tell_held(self, order: TellHeld) -> None:
        """Answer with the runs in the slots and in the waiting list, and correct this object's records by them."""
        self._attempts = {_key(run): slot for slot in self._slots for run in slot.held()}
        self._reports.append(AttemptsHeld(order.number, (*self._attempts, *self._waiting)))
        self._tell_soon()
        for slot in self._slots:
            if slot.state == "idle" and slot not in self._idle:
                logger.warning("slot_found", state=slot.state)
                self.idle(slot)
            elif slot.state == "empty" and slot not in self._to_come and not self._closing:
                logger.warning("slot_found", state=slot.state)
                self.empty(slot, 0.0)

    # --- from the slots, with the lock held ------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """Pass a report on at the end of this turn."""
        if type(report) is AttemptEnded:
            key = (report.task_id, report.attempt)
            self._attempts.pop(key, None)
            self._ended[key] = None
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]
        self._reports.append(report)

    def ready(self, slot: Slot) -> None:
        """The slot has a new worker."""
        del slot
        self._capacity_touched = True
        self.reactor.post(self._start_some)

    def idle(self, slot: Slot) -> None:
        """The slot's worker has nothing to do."""
        self._idle.append(slot)
        if self._waiting:
            self._hand_out()

    def returned(self, runs: list[Given]) -> None:
        """Take back runs that a slot had and that have not begun: they wait again, before all others."""
        back = {given.key: (given.run, given.frame) for given in runs}
        for key in back:
            self._attempts.pop(key, None)
        if self._closing:
            for run, _ in back.values():
                self._endunbegun(unbegun(run))
            return
        self._waiting = back | self._waiting
        self._hand_out()

    def empty(self, slot: Slot, delay: float) -> None:
        """The slot has no worker: start one after the delay."""
        self._capacity_touched = True
        if slot in self._idle:
            self._idle.remove(slot)
        if not self._closing:
            self._to_come.add(slot)
            self.reactor.at(delay, lambda: self._start_later(slot))

    # --- in the reactor's thread -----------------------------------------------------------------------------------

    def _start_later(self, slot: Slot) -> None:
        self._to_start.append(slot)
        self._start_some()

    def _start_some(self) -> None:
        """Start as many workers at once as there are CPUs: so the first is ready sooner, and the last no later."""
        with self.lock:
            starting = sum(slot.state == "starting" for slot in self._slots)
            while self._to_start and starting < self._starting_at_once and not self._closing:
                starting += 1
                slot = self._to_start.popleft()
                self._to_come.discard(slot)
                slot.start()

    def _after_turn(self) -> None:
        if self._capacity_touched:
            self._tell_capacity()
        while self._reports:
            with self.lock:
                reports, self._reports = self._reports, []
            try:
                self._report(reports)
            except Exception:  # a listener's fault must not end the thread on which all workers depend
                logger.exception("executor_report_failed", reports=len(reports))
        if self._closing and all(slot.state == "empty" for slot in self._slots):
            self._finish()

    def _tell_capacity(self) -> None:
        self._capacity_touched = False
        with self.lock:
            offers = tuple(offer for slot, offer in self._offers.items() if slot.usable)
            capacity = CapacityChanged(len(offers), offers if any(offers) else ())
            if capacity != self._reported_capacity and not self._closing:
                self._reported_capacity = capacity
                self._reports.append(capacity)

    def _kill_all(self) -> None:
        with self.lock:
            self._closing = True
            for run, _ in list(self._waiting.values()):
                self._endunbegun(unbegun(run))
            self._waiting.clear()
            for slot in self._slots:
                slot.kill("the executor was closed")

    def _kill_reapers(self) -> None:
        with self.lock:
            for slot in self._slots:
                slot.kill_reaper()

    def _finish(self) -> None:
        self.reactor.finish()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _room(slot: Slot) -> int:
    return slot.room_ahead


def _key(run: Run) -> tuple[int, int]:
    return run.task_id, run.attempt


def _as_far_as_possible(sandbox: Sandbox) -> Sandbox:
    """The sandbox, limited to what this machine supports."""
    if sandbox.mode == "off":
        return sandbox
    return msgspec.structs.replace(sandbox, landlock=sandbox_support().landlock, seccomp=sandbox_support().seccomp)
