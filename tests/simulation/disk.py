"""The log on a disk that fails when the world says so. Below it is the log in memory, with its contract."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from broken import broken

from tasktrail.events import Answer, Fact, Recorded
from tasktrail.events.errors import ConcurrencyError, LogFull, OutcomeUnknown
from tasktrail.events.log.memory import MemoryEventLog

Fate: TypeAlias = Literal["well", "not written", "written", "refused"]


class Disk:
    """The faults of the next commits. It outlives the services that write to it."""

    def __init__(self) -> None:
        self.full = False
        self.next_commit: Fate = "well"
        """`written`: the records are there, but that is not reported. `refused`: trying again is in vain."""
        self.failing = False
        """The last commit failed, and its waiting callers are being told."""

    @property
    def well(self) -> bool:
        """Return whether the next commit will succeed."""
        return not self.full and self.next_commit == "well"


class SimulatedLog(MemoryEventLog):
    """Passes durable records to `follow`, whether or not the service learns of them."""

    def __init__(self, disk: Disk, follow: Callable[[list[Recorded]], None]) -> None:
        super().__init__()
        self._disk = disk
        self._follow = follow

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """Append as the contract says, or fail as the disk does."""
        disk = self._disk
        if not facts and not answers:  # it checks that the log is still its own; nothing is written
            return super().append(facts, answers, expected=expected)
        fate, disk.next_commit = disk.next_commit, "well"
        disk.failing = disk.full or fate != "well"
        if disk.full:
            raise LogFull("The disk is full")
        if fate == "not written":
            raise OutcomeUnknown("The commit failed")
        if fate == "refused":
            raise ConcurrencyError("Somebody else has written")
        try:
            records = super().append(facts, answers, expected=expected)
        except ConcurrencyError as error:  # one writer, which knows what it wrote: nothing may be refused
            broken(f"I3: the log refuses what the service staged: {error}")
        self._follow(records)
        if fate == "written":
            raise OutcomeUnknown("The commit failed")
        return records
