"""When a commit that nobody waits for is put off for a moment, so that the next command shares it.

A commit costs about the same whatever is in it. Somebody who sends short tasks one after the other makes the Scheduler
write two for each: one for the command, whose sender waits for it, and one for the end of the attempt. The end can wait
for the next command; then one commit is enough. If no command came, that would only delay the end. So it is done only
while commands come soon after each other, and no longer than the next one can be expected to take.
"""

SOON = 0.002
"""Seconds. Commands at longer intervals are not waited for, nor is any command waited for longer."""


class CommitDelay:
    """Judges by the interval between the two latest messages with commands. All moments are of the monotonic clock."""

    def __init__(self) -> None:
        self._came = float("-inf")
        self._pays = False

    def commands_came(self, now: float) -> None:
        """A command is there, or several at once."""
        self._pays = now - self._came <= SOON
        self._came = now

    def left(self, now: float) -> float:
        """How many seconds the commit may still be put off. 0 or less: not at all."""
        return self._came + SOON - now if self._pays else 0.0
