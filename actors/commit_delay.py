"""Decides when to put off a commit that no one waits for, so that the next command shares it.

A commit costs about the same whatever is in it. A client that sends short tasks one after the other causes two commits
for each: one for the command, whose sender waits for it, and one for the end of the attempt. If the end waits for the
next command, one commit is enough. If no command came, the end would only be late. So a commit is put off only while
commands follow each other quickly, and only until the next one should be there.
"""

SOON = 0.002
"""Seconds. A commit waits for the next command only if the last two came within this time, and at most this long."""


class CommitDelay:
    """Decides by the interval between the two latest messages with commands. All times are of the monotonic clock."""

    def __init__(self) -> None:
        self._came = float("-inf")
        self._pays = False

    def commands_came(self, now: float) -> None:
        """Note that a message with one or more commands came."""
        self._pays = now - self._came <= SOON
        self._came = now

    def seconds_left(self, now: float) -> float:
        """How many seconds the commit may still wait; 0 or less if it may not."""
        return self._came + SOON - now if self._pays else 0.0
