"""Refused commands on their way to the log: each for itself up to a bound, beyond it they are only counted.

A refusal costs its sender nothing, so it must not cost the service much either. What is noted here is recorded with the
next commit, and only if there is none for some seconds with one of its own.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..events import TasktrailError
from ..events.clock import Clock
from ..events.system_events import CommandRefused
from .core.messages import Refusal

A_MINUTE = 10
"""Refusals that are recorded each for itself within a minute, alike ones of one commit as one, …"""
OF_ONE = 5
"""… of one actor, …"""
ACTORS_COUNTED = 5
"""… and actors whose further ones are counted by name; those of others are counted together."""
WAITS_FOR_COMMIT = 10.0
"""Seconds that a refusal waits for somebody else's commit."""
_MINUTE = 60.0
_LONGEST_ACTOR = 100
_SERVER_ERRORS = 500


class Refusals:
    """Notes refusals in any thread; the Scheduler takes them. Kept in memory: a crash loses what was not taken.

    Nothing of what was sent is kept but the actor, who stands in the log of accepted commands as well: a message names
    paths, addresses and options, and these may hold secrets.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: Counter[tuple[str, str, str, int | None, str]] = Counter()
        """Actor, command, code, task, and why in words → how many alike."""
        self._since = 0.0
        """When the first of those that wait was noted."""
        self._more: Counter[str] = Counter()
        """Actor → refusals of this minute that are only counted."""
        self._minute = clock.monotonic()
        self._given: Counter[str] = Counter()
        """Actor → how many of this minute are recorded for themselves."""

    def note(self, actor: str, command: str, error: TasktrailError, task_id: int | None = None) -> None:
        """Somebody whom the service knows has sent a command, and it was refused.

        `command`: its tag, or the route that refused it unseen; no text of the sender's. A failure of the service is no
        refusal.
        """
        self._note(actor, command, error.status, error.code, error.title, task_id)

    def note_problem(self, actor: str, command: str, problem: Mapping[str, Any]) -> None:
        """The same of an error as it is answered."""
        self._note(actor, command, problem["status"], problem["code"], problem["title"], None)

    def _note(self, actor: str, command: str, status: int, code: str, title: str, task_id: int | None) -> None:
        if status >= _SERVER_ERRORS:
            return
        key = (_legible(actor), command, code, task_id, title)
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
        if now - self._minute >= _MINUTE and not self._more:  # what was counted is recorded first
            self._minute = now
            self._given.clear()

    def is_due(self, *, rides: bool) -> bool:
        """Whether there is something to record. `rides`: a commit is made anyway. Asked before each commit."""
        if not (self._waiting or self._more):
            return False
        now = self._clock.monotonic()
        if self._more and now - self._minute >= _MINUTE:
            return True
        return bool(self._waiting) and (rides or now - self._since >= WAITS_FOR_COMMIT)

    def take(self, *, last: bool = False) -> tuple[Refusal, ...]:
        """What is to be recorded now; what is counted only when its minute is over. `last`: the service stops."""
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
    """The actor as a name: a refused command may have anything in its place."""
    return "".join(char if char.isprintable() else "?" for char in str(actor)[:_LONGEST_ACTOR])
