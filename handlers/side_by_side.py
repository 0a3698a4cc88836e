"""Pieces of work that are done side by side, each in a thread of its own. The libraries let go of Python's lock."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")
Tick: TypeAlias = Callable[[], None]
"""A work calls it often; it raises when the work is to end."""
Work: TypeAlias = Callable[[Tick], Generator[T, None, None]]

_LOOK_EVERY = 0.1
"""Seconds between two calls of the caller's own `tick` while nothing is finished."""


class _Halted(BaseException):
    """Ends a work because another one has failed, or the caller has gone."""


def side_by_side(
    works: Sequence[Work[T]], at_once: int, tick: Tick, waits: Callable[[T], bool] = lambda _step: False
) -> Generator[T, None, None]:
    """What the works yield, as it comes. They begin in their order, and at most `at_once` of them are at work.

    A work that has yielded a step for which `waits` says yes goes on when the caller asks for the next one: what the
    caller has to keep does not pile up while it is slow.

    Only the caller's thread calls `tick`; what it raises ends all of them. So does the first error of a work, which is
    raised here, and so does the caller who stops listening: no thread is left. With one at once there are no threads.
    """
    if at_once <= 1 or len(works) <= 1:
        for work in works:
            with closing(work(tick)) as steps:
                yield from steps
        return
    team = _Team(works, waits)
    threads = [threading.Thread(target=team.work, daemon=True) for _ in range(min(at_once, len(works)))]
    try:
        for thread in threads:
            thread.start()
        yield from team.said(len(threads), tick)
    finally:
        team.halted.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


class _Gone:
    """A thread has no more work."""


class _Kept(NamedTuple):
    """A step whose work waits until the caller has kept it."""

    step: Any
    kept: threading.Event


class _Team(Generic[T]):
    def __init__(self, works: Sequence[Work[T]], waits: Callable[[T], bool]) -> None:
        self.halted = threading.Event()
        self._waits = waits
        self._next = iter(works)
        self._taking = threading.Lock()
        self._said: SimpleQueue[object] = SimpleQueue()

    def work(self) -> None:
        """In a thread: do one work after another."""
        try:
            while (work := self._take()) is not None:
                with closing(work(self._stop_if_halted)) as steps:
                    for step in steps:
                        self._say(step)
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._said.put(error)
        self._said.put(_Gone())

    def _say(self, step: T) -> None:
        if not self._waits(step):
            self._said.put(step)
            return
        kept = threading.Event()
        self._said.put(_Kept(step, kept))
        while not kept.wait(_LOOK_EVERY):
            self._stop_if_halted()

    def _take(self) -> Work[T] | None:
        with self._taking:
            return None if self.halted.is_set() else next(self._next, None)

    def _stop_if_halted(self) -> None:
        if self.halted.is_set():
            raise _Halted

    def said(self, left: int, tick: Tick) -> Iterator[T]:
        """In the caller's thread: what the works yield, until all threads are done."""
        while left:
            tick()
            with suppress(Empty):
                match self._said.get(timeout=_LOOK_EVERY):
                    case _Gone():
                        left -= 1
                    case BaseException() as error:
                        raise error
                    case _Kept(step, kept):
                        yield step
                        kept.set()
                    case step:
                        yield step  # type: ignore[misc]  # what a work has yielded
