"""What the HTTP face needs of the service beyond `Tasks`."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ..api.protocol import Tasks
from ..events import Accepted, Command, Recorded, TasktrailError
from ..handlers.printed import PAGE, Output
from ..paths import DataPaths
from ..projections import TaskFilters


class Committed(Protocol):
    """How far the log is durable."""

    position: int

    def wait(self, position: int, timeout: float | None) -> bool:
        """Wait until `position` is durable; whether it was in time."""


class Served(Tasks, Protocol):
    """A service that can be put on a socket."""

    paths: DataPaths

    @property
    def obstacle(self) -> TasktrailError | None:
        """Why commands are not accepted now; none when they are."""

    @property
    def degraded(self) -> list[str]:
        """What does not stand against commands, and is not as it should be."""

    @property
    def watermark(self) -> Committed:
        """The committed end of the log."""

    def settle(self) -> None:
        """Wait until the views have all that is durable. Raises `NotReady` when that takes too long."""

    def know_types(self, filters: TaskFilters) -> None:
        """Raise `UnknownType` for a type in a filter that neither a handler nor the log knows."""

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = PAGE,
    ) -> Output:
        """What an attempt printed; at most so many bytes of it."""

    def events_after(self, task_id: int, version: int, limit: int) -> list[Recorded]:
        """The next recorded events of one task behind a version."""

    def version_at(self, task_id: int, position: int) -> int:
        """The last version of a task up to a position; 0 when there was none."""

    def submit(
        self,
        commands: Sequence[Command],
        reply: Callable[[list[Accepted | TasktrailError]], None],
        *,
        trusted: bool = False,
    ) -> None:
        """Hand commands over without waiting; `reply` gets all answers at once, in order, maybe from another thread."""
