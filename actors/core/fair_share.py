"""Whose turn it is when users share the machine: who has the least running, then who has waited longest for a start.

The second is what makes users take turns where one slot is all there is: nobody has anything running when it is free.
"""

from typing import NamedTuple

KNOWN_USERS = 10_000
"""So many users' last starts are remembered; one whose last start is further back counts as one who had none."""


class Share(NamedTuple):
    """What a user has had of the machine; the least goes first."""

    running: int
    last_start: int
    """Position of the user's last `Started`; 0: none that is remembered."""


EQUAL = Share(0, 0)
"""What everybody has while nothing is shared out."""


class Turns:
    """When each user's last attempt started. A fold of the log."""

    def __init__(self) -> None:
        self.last_starts: dict[int, int] = {}
        """User → position of the last `Started`; the user who has waited longest first."""

    def take(self, user_id: int, position: int) -> None:
        """An attempt of the user has started there."""
        self.last_starts.pop(user_id, None)
        self.last_starts[user_id] = position
        if len(self.last_starts) > KNOWN_USERS:
            del self.last_starts[next(iter(self.last_starts))]

    def of(self, user_id: int) -> int:
        """Position of the user's last `Started`, or 0."""
        return self.last_starts.get(user_id, 0)
