"""Collects refused commands for the log: each by itself up to a bound, further ones only as a count.

A refusal costs its sender nothing, so it must not cost the service much either. Refusals are recorded with the next
commit. They get a commit of their own only if there is no other for some seconds.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..events import TasktrailError
from ..events.clock import Clock
from ..events.system_events import CommandRefused
from ..events.values import MAX_INTEGER, in_words
from .core.messages import Refusal

A_MINUTE = 10
"""Refusals that are recorded by themselves within a minute. Equal ones in one commit count as one."""
OF_ONE = 5
"""The same, for one actor."""
ACTORS_COUNTED = 5
"""Actors whose further refusals are counted by name. Those of all other actors are counted together."""
WAITS_FOR_COMMIT = 10.0
"""Seconds that a refusal waits for another commit."""
_MINUTE = 60.0
_LONGEST_ACTOR = 100
_SERVER_ERRORS = 500


class Refusals:
    """Notes refusals in any thread; the Scheduler takes them. Until then they are only in memory: a crash loses them.

    A refusal keeps the actor, as an accepted command does, but not the error's message: that names paths, addresses and
    options, which may hold secrets.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: Counter[tuple[str, str, str, int | None, str]] = Counter()
        """Actor, command, and the error's code, task and title → how many equal refusals wait."""
        self._since = 0.0
        """When the first waiting refusal was noted."""
        self._more: Counter[str] = Counter()
        """Actor → refusals of this minute that are only counted."""
        self._minute = clock.monotonic()
        self._given: Counter[str] = Counter()
        """Actor → refusals of this minute that are recorded by themselves."""

    def note(self, actor: object, command: str, error: TasktrailError, task_id: object = None) -> None:
        """Note that a command was refused whose sender the service knows.

        `command` is its tag, or the route that refused it unread; never text from the sender. Actor and task may be
        anything, because they may be the reason for the refusal. Errors of the service itself are left out.
        """
        self._note(actor, command, error.status, error.code, error.title, task_id)

    def note_problem(self, actor: str, command: str, problem: Mapping[str, Any]) -> None:
        """Note a refusal from its answer, a problem object."""
        self._note(actor, command, problem["status"], problem["code"], problem["title"], None)

    def _note(self, actor: object, command: str, status: int, code: str, title: str, task_id: object) -> None:
        if status >= _SERVER_ERRORS:
            return
        named = task_id if type(task_id) is int and 0 < task_id <= MAX_INTEGER else None
        key = (_legible(actor), command, code, named, title)
        with self._lock:
            self._begin_minute()
            if key in self._waiting:
                self._waiting[key] += 1
            elif self._given.total() < A_MINUTE and self._given[key[0]] < OF_ONE:
                if not self._waiting:
                    self._since = self._clock.monotonic()
                self._given[key[0]] += 1
                self._waiting[key] += 1
            elif key[0] in self._more or len(self._more) < ACTORS_COUNTED:
                self._more[key[0]] += 1
            else:
                self._more[""] += 1

    def _begin_minute(self) -> None:
        now = self._clock.monotonic()
        if now - self._minute >= _MINUTE and not self._more:  # the counts are recorded first
            self._minute = now
            self._given.clear()

    def is_due(self, *, rides: bool) -> bool:
        """Whether refusals are to be recorded now. `rides`: a commit is made anyway. Called before each commit."""
        if not (self._waiting or self._more):
            return False
        now = self._clock.monotonic()
        if self._more and now - self._minute >= _MINUTE:
            return True
        return bool(self._waiting) and (rides or now - self._since >= WAITS_FOR_COMMIT)

    def take(self, *, last: bool = False) -> tuple[Refusal, ...]:
        """Take the refusals to record now, and the counts if their minute is over or the service stops (`last`)."""
        with self._lock:
            taken = [
                Refusal(actor, CommandRefused(command=command, code=code, named_task=task_id, times=times), why)
                for (actor, command, code, task_id, why), times in self._waiting.items()
            ]
            self._waiting.clear()
            if self._more and (last or self._clock.monotonic() - self._minute >= _MINUTE):
                taken += [
                    Refusal(actor, CommandRefused(times=times), "more of them within a minute than are recorded")
                    for actor, times in self._more.items()
                ]
                self._more.clear()
                self._begin_minute()
            return tuple(taken)


def _legible(actor: object) -> str:
    """Return the actor as printable text: in a refused command it may be anything."""
    name = actor if isinstance(actor, str) else in_words(actor)
    return "".join(char if char.isprintable() else "?" for char in name[:_LONGEST_ACTOR])
