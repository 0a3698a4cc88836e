"""What operators have stopped: everything, a type, a user. A fold of the log, so it holds over restarts."""

from datetime import datetime

import msgspec

from ...events import Fact
from ...events.system_events import QueueDrained, QueuePaused, QueueResumed

Scope = tuple[str, str | int]
EVERYTHING: Scope = ("all", "")


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause that holds now: who wanted it, why, and where it is recorded."""

    type: str | None = None
    user_id: int | None = None
    drain: bool = False
    drained: bool = False
    """Nothing has run since the drain was asked for."""
    since: datetime
    actor: str
    reason: str
    position: int


class Pauses:
    """The pauses that hold now, by scope."""

    def __init__(self) -> None:
        self.held: dict[Scope, Pause] = {}

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        event = fact.event
        if isinstance(event, QueuePaused):
            self.held[scope_of(event)] = Pause(
                type=event.type,
                user_id=event.user_id,
                drain=event.drain,
                since=fact.recorded_at,
                actor=fact.actor,
                reason=fact.reason,
                position=position,
            )
        elif isinstance(event, QueueResumed):
            self.held.pop(scope_of(event), None)
        elif isinstance(event, QueueDrained) and self.everything is not None:
            self.held[EVERYTHING] = msgspec.structs.replace(self.everything, drained=True)

    @property
    def everything(self) -> Pause | None:
        """The pause of the whole queue, if it is paused."""
        return self.held.get(EVERYTHING)

    def of(self, kind: str, name: str | int) -> Pause | None:
        """The pause of a type or of a user."""
        return self.held.get((kind, name))

    def all(self) -> tuple[Pause, ...]:
        """All that hold, oldest first."""
        return tuple(sorted(self.held.values(), key=lambda pause: pause.position))


def scope_of(event: QueuePaused | QueueResumed | Pause) -> Scope:
    """What a pause is about, or its end."""
    if event.type is not None:
        return ("type", event.type)
    return EVERYTHING if event.user_id is None else ("user", event.user_id)
