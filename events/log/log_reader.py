"""Questions to a log beside its records in order: for queries, proofs, seals and verification."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ..context import Belongings
from ..recorded import Recorded
from .event_log import Epoch, Erasable, ReadableLog
from .faults import Damage, Fault

if TYPE_CHECKING:
    from .archives import KnownArchive
    from .stubs import StubCheck
    from .writers import Writer


class LogReader(ReadableLog, Protocol):
    """A log, read-only. It never blocks the writer, and belongs to one thread at a time."""

    def to_drop(self, tasks: Iterable[int], others: Iterable[int] = ()) -> tuple[str, str]:
        """The `positions` and `stubs` of an event that drops all records of `tasks`, and the positions `others`."""

    def stub_check(self) -> "StubCheck":
        """Compares stubs with the records that say why they are there."""

    def hashes(self, after: int = 0, limit: int | None = None) -> Iterator[tuple[int, int, int, bytes]]:
        """Position, task id, version and hash of each record from `after + 1` on; nothing else is read."""

    def rows(self, after: int, limit: int) -> Iterator[tuple[Any, ...]]:
        """The raw stored values of `limit` records from `after + 1` on, each with its hash last."""

    def rows_of(self, task_id: int, until: int) -> list[tuple[Any, ...]]:
        """The raw stored values of a task's records up to a position, each with its hash last."""

    def with_result(self, digest: str) -> list[int]:
        """The tasks that completed with a file of this SHA-256, the newest first. It scans the log."""

    def file_faults(self) -> Iterator[Fault]:
        """Faults of the log's storage and of its epochs."""

    def newest_writer(self) -> "Writer | None":
        """The service that started last; None if there is none, or its record cannot be read."""

    def read_task_after(self, task_id: int, version: int, limit: int) -> list[Recorded]:
        """The next records of one task after a version: a long life is read piece by piece."""

    def last_of(self, task_id: int) -> Recorded | None:
        """The latest event of a task."""

    def erasable(self, user_id: int) -> Erasable:
        """How much an erasure of a user would take. It scans all records."""

    def refuse_lost_keys(self) -> None:
        """Raise `KeysUnreadable` if something is encrypted and `keys.db` is missing or cannot be used."""

    def belongings(self, user_id: int) -> Belongings:
        """The personal data of a user; see `EventLog.belongings`."""

    def version_at(self, task_id: int, position: int) -> int:
        """The last version of a task up to a position; 0 when there was none."""

    def faults(self) -> Iterator[Fault]:
        """All faults of the log and its rows; `verify` also checks the rules and the views."""

    def raw_rows(self) -> Iterator[tuple[Any, ...] | Damage]:
        """The raw stored values of each record, undecoded, its hash last, for a verifier."""

    def segments(self) -> "list[KnownArchive]":
        """The archives that hold the beginning of the log."""

    def has_sums(self) -> bool:
        """Whether answers have sums, which older versions did not write."""

    def unanswered(self) -> Iterator[tuple[int, str]]:
        """The last position and the id of each command that led to records and has no answer."""

    def answered(self, *, sums: bool = True) -> Iterator[tuple[Any, ...]]:
        """Each answer with the record that it points at, undecoded; see `read_answered`. Null where there is none."""

    def epochs(self) -> list[Epoch]:
        """The services that have had the log."""

    def first_of(self, command_id: str, position: int) -> tuple[Any, ...] | None:
        """Task id, event and data of a command's first record; its last one is at `position`."""

    def line_of(self, task_id: int) -> list[int]:
        """The task, its parent, that one's parent, and so on."""

    def status_since(self, task_id: int) -> int:
        """Position of the record that gave a task its present status; 0: there is no such task."""

    def size(self) -> int:
        """Bytes that it takes on the disk."""

    def close(self) -> None:
        """Let go of the log."""
