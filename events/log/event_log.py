"""The interface `EventLog`: an append-only sequence of facts with one writer. Each kind passes one contract suite."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import msgspec

from ..context import NOTHING_KNOWN, Belongings
from ..recorded import Fact, Recorded
from .rows import to_row

if TYPE_CHECKING:
    from .stubs import Drop

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called while a long log is read, with the position or number that is reached, and the one to reach."""


class Head(msgspec.Struct, frozen=True):
    """The end of the log: the last position (0 when empty) and its hash."""

    position: int
    hash: bytes


class Answer(msgspec.Struct, frozen=True):
    """The answer to a command id, kept so that repeating the command has no second effect."""

    command_id: str
    digest: bytes
    """The digest of the command (see `digest` in `commands.py`): another command under the same id is refused."""
    task_id: int
    position: int


class Erasable(msgspec.Struct, frozen=True, kw_only=True):
    """How much an erasure of a user would take."""

    user_id: int
    tasks: int
    records: int
    """Records with encrypted data: of the tasks, and of the user's schedules and sources."""
    plain: int
    """Tasks that would stay readable: they were recorded before personal data was encrypted."""


class Epoch(NamedTuple):
    """A service that has had the log."""

    number: int
    pid: int
    host: str
    started_at: str


class Part(NamedTuple):
    """A part of one task's life."""

    task_id: int
    after: int
    """The version before its first record."""
    last: int
    """The highest version that its last record may have."""
    adjusted_after: int
    """The position after which adjustments belong to it."""


class ReadableLog(Protocol):
    """A log to read from: an `EventLog`, or a reader of one."""

    def head(self) -> Head:
        """The end of the log."""

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Records in order of position, from `after + 1` on."""

    def read_to_fold(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """The same for a fold, which of the envelope needs only task, version and time.

        Who, why, attempt, life and hash may be left out: half of the time of reading goes into these. Records of the
        service itself are whole.
        """

    def read_what_may_concern(self, prefixes: Sequence[str], until: int) -> Iterator[Recorded]:
        """Records up to a position, in order, that may concern tasks with certain fields; others may be among them.

        They are the first record, those of the service, and those of these tasks. `prefixes`: the beginnings of the
        names of these fields of `Created`. A fold for a few tasks so skips most other records, where that is quicker.
        """

    def read_task(self, task_id: int, *, adjusted: bool = False) -> list[Recorded]:
        """All records of one task, in order of position; with `adjusted`, also the service's adjustments of it."""

    def read_parts(self, parts: Sequence[Part], until: int) -> list[Recorded]:
        """The records of parts of tasks' lives, with adjustments, in order of position, up to and including `until`."""

    def drops(self, after: int = 0) -> "list[Drop]":
        """The records after a position that have dropped others, in whose place stubs are read."""

    def newest_of(self, event: str, after: int, until: int, limit: int) -> list[int]:
        """The positions of the newest records of a kind after `after`, up to `until`, newest first. It scans all."""

    def take_missing_keys(self) -> set[str]:
        """The keys of users that were not there, destroyed or missing here, for records read since the last call."""

    def keys_there(self, keys: Collection[str]) -> set[str]:
        """Those of these keys with which records can be read now."""


class EventLog(ReadableLog, Protocol):
    """A log to append to and to read. All appends of a process go through one object, used by one thread at a time."""

    rebuilt: tuple[str, ...]
    """The indexes that were damaged when it was opened, and have been rebuilt."""

    @property
    def epoch(self) -> int:
        """The number of this ownership of the log; grows with every service that opens it."""

    def last_owned(self) -> float:
        """Seconds since the log was surely this service's; 0 where no other can take it while this one lives.

        Answers any thread without waiting. The time in which the machine sleeps counts, if it has a clock for that.
        """

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """All or nothing, durable on return, at positions `expected + 1`, `expected + 2`, …

        Raises `ConcurrencyError` when the log does not end at `expected` or a task's version is taken, `Fenced` when a
        newer service owns the log, `OutcomeUnknown` when the commit failed half-way: then only a fresh read shows what
        is in the log.
        An event that drops records puts stubs in their place in the same commit.
        """

    def answer(self, command_id: str) -> Answer | None:
        """The answer to a command id, if the command was accepted before."""

    def is_newest(self, task_id: int, version: int) -> bool:
        """Whether the last record of a task has this version, and was not dropped. It does not look into archives.

        An archived record counts as unchanged: the caller has read it, and keeps anything from being archived
        meanwhile.
        """

    def belongings(self, user_id: int, known: Belongings = NOTHING_KNOWN) -> Belongings:
        """The personal data of a user in the log. It scans the first records of all tasks.

        `known`: what a reader has found before, so that only later records are scanned. Raises `ChangedMeanwhile` when
        something of that is gone.
        """

    def destroy(self, keys: Collection[str]) -> None:
        """Destroy these keys of users for ever; keys that are gone already are skipped."""

    def delete_archived(self, limit: int) -> int:
        """Delete at most `limit` rows of archived records; returns how many are left."""

    def maintain(self) -> None:
        """Do the work that is due now and then between appends.

        Raises `LogGone` or `Fenced` when nothing more can be appended.
        """

    def close(self) -> None:
        """Let go of files. The log cannot be used afterwards."""


def already_appended(log: EventLog, facts: Sequence[Fact], expected: int) -> list[Recorded] | None:
    """The records of `facts`, if the log ends with exactly these after position `expected`; else None.

    An append that reported a failure can have happened all the same. The stored form may be encrypted, so the records
    are compared as they are read.
    """
    if not facts or log.head().position != expected + len(facts):
        return None
    records = list(log.read(expected))
    pairs = zip(records, facts, strict=True)
    same = all(to_row(record, record.position) == to_row(fact, record.position) for record, fact in pairs)
    return records if same else None
