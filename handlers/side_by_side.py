"""Runs pieces of work side by side, each in its own thread. The libraries release Python's lock."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")
TickFunction: TypeAlias = Callable[[], None]
"""A work calls it often; it raises when the work must end."""
Work: TypeAlias = Callable[[TickFunction], Generator[T, None, None]]

_LOOK_EVERY = 0.1
"""Seconds between two calls of the caller's own `tick` while the works yield nothing."""


class _Halted(BaseException):
    """Ends a work because another one has failed, or the caller has stopped listening."""


def side_by_side(
    works: Sequence[Work[T]],
    at_once: int,
    tick: TickFunction,
    waits: Callable[[T], bool] = lambda _step: False,
    *,
    now: Callable[[], int] | None = None,
) -> Generator[T, None, None]:
    """Yield what the works yield, as it comes. They begin in order, and at most `at_once` of them run at a time.

    `now` returns how many may run at this moment, if that changes; any thread may call it. A work that has begun always
    goes on, and at least one runs.

    After a step for which `waits` returns True, its work pauses until the caller asks for the next step. So the
    caller's backlog does not grow while it is slow.

    Only the caller's thread calls `tick`; an error that it raises ends all works. So does the first error of a work,
    which is raised here, and so does a caller that stops listening. No thread is left. With `at_once` of 1 there are no
    threads.
    """
    if at_once <= 1 or len(works) <= 1:
        for work in works:
            with closing(work(tick)) as steps:
                yield from steps
        return
    team = _Team(works, waits, at_once, now)
    try:
        yield from team.steps(tick)
    finally:
        team.end()


class _Gone:
    """A thread has no more work, or more threads run than there may be."""


class _Paused(NamedTuple):
    """A step whose work waits until the caller asks for the next one."""

    step: Any
    resumed: threading.Event


class _Team(Generic[T]):
    def __init__(
        self, works: Sequence[Work[T]], waits: Callable[[T], bool], at_once: int, now: Callable[[], int] | None
    ) -> None:
        self._halted = threading.Event()
        self._waits = waits
        self._left = deque(works)
        self._most = at_once
        self._now = now
        self._taking = threading.Lock()
        self._at_work = 0
        """Threads that have a work, or are about to take one."""
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[object] = SimpleQueue()

    def steps(self, tick: TickFunction) -> Iterator[T]:
        """In the caller's thread: yield what the works yield, until all are done."""
        self._fill()
        gone = 0
        while gone < len(self._threads):
            tick()
            with suppress(Empty):
                match self._queue.get(timeout=_LOOK_EVERY):
                    case BaseException() as error:
                        raise error
                    case _Gone():
                        gone += 1
                    case _Paused(step, resumed):
                        yield step
                        resumed.set()
                    case step:
                        yield step  # type: ignore[misc]  # a step of a work
            self._fill()

    def end(self) -> None:
        """In the caller's thread: stop all threads and wait for their end."""
        self._halted.set()
        for thread in self._threads:
            thread.join()

    def _room(self) -> int:
        return self._most if self._now is None else max(1, min(self._most, self._now()))

    def _fill(self) -> None:
        """Start as many threads as there is room and work for."""
        with self._taking:
            missing = min(self._room() - self._at_work, len(self._left))
            self._at_work += max(0, missing)
        for _ in range(missing):
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        """In a thread: do one work after another."""
        try:
            while (work := self._take()) is not None:
                with closing(work(self._stop_if_halted)) as steps:
                    for step in steps:
                        self._yield_step(step)
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._queue.put(error)
        self._queue.put(_Gone())

    def _yield_step(self, step: T) -> None:
        if not self._waits(step):
            self._queue.put(step)
            return
        resumed = threading.Event()
        self._queue.put(_Paused(step, resumed))
        while not resumed.wait(_LOOK_EVERY):
            self._stop_if_halted()

    def _take(self) -> Work[T] | None:
        """The next work; None if there is none left, or too many threads run by now."""
        with self._taking:
            if self._halted.is_set() or not self._left or self._at_work > self._room():
                self._at_work -= 1
                return None
            return self._left.popleft()

    def _stop_if_halted(self) -> None:
        if self._halted.is_set():
            raise _Halted
