"""An executor without processes, for authors of handlers and for tests of code that needs an executor."""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..events.errors import UnknownType
from ..events.reports import (
    AttemptBeat,
    AttemptEnded,
    AttemptsHeld,
    Avoid,
    CapacityChanged,
    Grant,
    Order,
    Report,
    Run,
    Saved,
    Stop,
    TellHeld,
)
from ..handlers.process.attempt import failure, perform
from ..handlers.process.channel import Unencodable, encode_frame
from .executor import Capabilities, stopped_instead, unbegun, unencodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..handlers import TaskType
    from .executor import Reporter

_Key = tuple[int, int]
WITHIN_ATTEMPT: ContextVar[bool] = ContextVar("within_attempt", default=False)
"""Whether an attempt asks, in its own thread; in threads that it starts this is not known."""


class InlineExecutor:
    """Runs handlers in threads of this process. Nothing is isolated and nothing can be killed.

    The executor waits for a handler that ignores `should_stop`; only `close` gives up on it.

    Args:
        types: the task types, by name.
        slots: how many attempts run at once.
    """

    capabilities = Capabilities(
        hard_kill_tree="none: threads cannot be killed", kills_escaped=False, finds_orphans=False
    )

    trouble = ""
    """See `Executor`: threads are always there."""

    def __init__(self, types: Mapping[str, TaskType], slots: int = 1) -> None:
        self._types = types
        self._slots = slots
        self._lock = threading.Lock()
        self._running: dict[_Key, _InlineLink] = {}
        self._waiting: dict[_Key, Run] = {}
        self._seen: set[_Key] = set()
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def open(self, report: Reporter) -> None:
        """See `Executor`."""
        self._reports.put(CapacityChanged(self._slots))
        thread = threading.Thread(target=self._deliver, args=(report,), name="inline-executor", daemon=True)
        self._threads.append(thread)
        thread.start()

    def capacity(self) -> int:
        """See `Executor`."""
        return 0 if self._closed else self._slots

    def memory(self) -> dict[tuple[int, int], int]:
        """See `Executor`: the memory of a thread is unknown."""
        return {}

    def do(self, orders: Sequence[Order]) -> None:
        """See `Executor`."""
        with self._lock:
            for order in orders:
                if isinstance(order, TellHeld):
                    self._reports.put(AttemptsHeld(order.number, (*self._running, *self._waiting)))
                    continue
                if isinstance(order, Avoid):
                    continue  # there is one node, and the Scheduler starts nothing there
                key = (order.task_id, order.attempt)
                match order:
                    case Run() if key not in self._seen:
                        self._seen.add(key)
                        self._take(key, order)
                    case Stop() if key in self._waiting:
                        self._reports.put(unbegun(self._waiting.pop(key)))
                    case Stop() | Grant() | Saved() if key in self._running:
                        self._running[key].hear(order)
            self._start_waiting()

    def _take(self, key: _Key, run: Run) -> None:
        try:
            encode_frame(run)  # the same check as for a run that is sent to a process
        except Unencodable as error:
            self._reports.put(unencodable(run, error))
        else:
            self._waiting[key] = run

    def close(self, timeout: float) -> None:
        """Ask every attempt to stop, and wait up to `timeout` seconds for each."""
        with self._lock:
            self._closed = True
            for run in self._waiting.values():
                self._reports.put(unbegun(run))
            self._waiting.clear()
            for key, link in self._running.items():
                link.hear(Stop(*key))
        for thread in self._threads[1:]:
            thread.join(timeout)
        self._reports.put(None)
        self._threads[0].join(timeout)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            key, run = next(iter(self._waiting.items()))
            del self._waiting[key]
            link = _InlineLink(self._reports.put, run.cores)
            self._running[key] = link
            thread = threading.Thread(
                target=self._attempt, args=(run, link), name=f"attempt-{run.task_id}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _attempt(self, run: Run, link: _InlineLink) -> None:
        WITHIN_ATTEMPT.set(True)
        with _beating(run, self._reports.put):
            ended = self._perform(run, link)
        if link.stop_wanted():
            ended = stopped_instead(ended)
        with self._lock:
            del self._running[run.task_id, run.attempt]
            self._reports.put(ended)
            self._start_waiting()

    def _perform(self, run: Run, link: _InlineLink) -> AttemptEnded:
        if run.type in self._types:
            return perform(run, self._types[run.type], link)
        return failure(run, UnknownType(f"This executor knows no task type {run.type!r}"))

    def _deliver(self, report: Reporter) -> None:
        while (first := self._reports.get()) is not None:
            report([first])


@contextmanager
def _beating(run: Run, send: Callable[[Report], None]) -> Iterator[None]:
    """Send an `AttemptBeat` every `run.beat` seconds within the block, and none after it. With 0 send none."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(run.beat):
            send(AttemptBeat(run.task_id, run.attempt))

    thread = threading.Thread(target=beat, name=f"beat-{run.task_id}", daemon=True)
    if run.beat:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if run.beat:
            thread.join()


class _InlineLink:
    """Implements `Link` between two threads."""

    def __init__(self, send: Callable[[Any], None], cores: int) -> None:
        self.send = send
        self._cores = cores
        self._changed = threading.Condition()
        self._heard: list[type] = []

    def hear(self, order: Order) -> None:
        with self._changed:
            if not (isinstance(order, Grant) and self.stop_wanted()):
                self._heard.append(type(order))
                self._changed.notify_all()

    def stop_wanted(self) -> bool:
        return Stop in self._heard

    def cores(self) -> int:
        return self._cores

    def saved(self) -> bool:
        return self._answered(Saved)

    def granted(self) -> bool:
        return self._answered(Grant)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()

    def _answered(self, kind: type) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: kind in self._heard or self.stop_wanted())
            if kind in self._heard:
                self._heard.remove(kind)
                return True
            return False
