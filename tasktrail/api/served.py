"""What the HTTP server and the page ask, beside the questions: a service that runs, or a reader of its log."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from ..actors.core.tokens import Token
from ..actors.feed import Watermark
from ..actors.pictures import PictureMaker
from ..batches.files import Patience
from ..batches.request import MadeBatch, NewBatch
from ..config.load import Reloaded
from ..config.settings import Config
from ..events import Accepted, Command, CreateGraph, TasktrailError
from ..events.log.archives import Archived
from ..events.log.event_log import ReportProgress
from ..events.recorded import Stub
from ..events.values import MAX_INTEGER
from ..projections import BeyondTheLog, Forgotten
from ..system import RecoveryReport
from ..telemetry.numbers import ServiceNumbers
from ..telemetry.readings import Readings
from .reader import Questions


class Served(Questions, ABC):
    """All of it. Safe to use from many threads."""

    pictures: PictureMaker
    """For the page."""

    @property
    @abstractmethod
    def config(self) -> Config:
        """The configuration that holds."""

    @abstractmethod
    def reload(self, config: Config | None = None) -> Reloaded:
        """Take what can change of another configuration while it runs."""

    @abstractmethod
    def close(self) -> None:
        """Stop in good order."""

    @abstractmethod
    def recover_tasks(self) -> RecoveryReport:
        """What was found unfinished at the start."""

    # --- what changes something -----------------------------------------------------------------------------------

    @property
    def refusal(self) -> TasktrailError | None:
        """Why nothing can be changed here, ever; None where it can."""
        return None

    @abstractmethod
    def submit(
        self,
        commands: Sequence[Command],
        reply: Callable[[list[Accepted | TasktrailError]], None],
        *,
        checked: bool = False,
        only_user: int | None = None,
    ) -> None:
        """Hand commands over without waiting; `reply` is called once, with all the answers."""

    @abstractmethod
    async def carry_out_batch(
        self,
        wanted: NewBatch,
        actor: str,
        user_id: int | None,
        send: Callable[[CreateGraph], Awaitable[Accepted | TasktrailError]],
        patience: Patience | None = None,
    ) -> MadeBatch:
        """Make a batch; with a user as if there were no tasks of others. Raises `HungUp` as `patience` says."""

    @abstractmethod
    def note_refusal(self, actor: str, command: Command | NewBatch, error: TasktrailError) -> None:
        """Have it recorded that a command of somebody who is known was refused."""

    @abstractmethod
    def note_refused_route(self, actor: str, route: str, error: TasktrailError) -> None:
        """The same of a request to change something that was refused before a command was looked for in it."""

    @abstractmethod
    def rebuilding(self) -> AbstractContextManager[None]:
        """While it lasts no other rebuild may begin. Raises `NotReady` if one runs."""

    @abstractmethod
    def adopt_views(self) -> None:
        """Put the views that were built beside in the place of the live ones."""

    @abstractmethod
    def archive(
        self,
        before: int | str | datetime | None = None,
        *,
        dry_run: bool = False,
        reason: str = "",
        actor: str | None = None,
        progress: ReportProgress | None = None,
    ) -> Archived:
        """Move the beginning of the log into compressed files."""

    @abstractmethod
    def forget(
        self,
        older_than: float | timedelta,
        *,
        status: str | None = None,
        type: str | None = None,  # noqa: A002 - as the field
        user_id: int | None = None,
        dry_run: bool = False,
        reason: str = "",
        actor: str | None = None,
    ) -> Forgotten:
        """Forget tasks that are over, for good."""

    # --- how it is ------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def obstacles(self) -> list[TasktrailError]:
        """All that stands against being relied on now, the gravest first."""

    @property
    def obstacle(self) -> TasktrailError | None:
        """The gravest of them."""
        return next(iter(self.obstacles), None)

    @property
    def ready(self) -> bool:
        """Whether nothing does."""
        return self.obstacle is None

    @property
    @abstractmethod
    def degraded(self) -> list[str]:
        """What is out of order all the same."""

    @property
    @abstractmethod
    def fatal(self) -> BaseException | None:
        """The error that ended it, if one did."""

    @abstractmethod
    def watch_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, in another thread and perhaps more than once, when it cannot go on."""

    @property
    @abstractmethod
    def numbers(self) -> ServiceNumbers | None:
        """What has happened since the start, in numbers; none where somebody else counts it."""

    @abstractmethod
    def readings(self) -> Readings:
        """A look at it as it is, which waits for nothing."""

    @abstractmethod
    def memory_of_attempts(self) -> dict[tuple[int, int], int]:
        """Task and number of each attempt that runs here → the bytes that it has in memory, where that is known."""

    # --- who asks, and what comes ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def known_tokens(self) -> Mapping[str, Token]:
        """Digest → token, of all that were added and not revoked. Some may have expired."""

    @property
    def knows_tokens(self) -> bool:
        """Whether a token that is not among them is not valid; otherwise that is not known just now."""
        return True

    @abstractmethod
    def watch_tokens(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called, in another thread, when a token was added or revoked. Returns what ends that."""

    @property
    @abstractmethod
    def watermark(self) -> Watermark:
        """How far the log may be read."""

    def shows_files(self, path: str, side: str) -> bool:  # noqa: ARG002 - here all are
        """Whether what is at a path here is the task's file. `side`: input or output."""
        return True

    def find(self, position: int, field: str) -> None:
        """Raise `BeyondTheLog` for the field unless the log has `position`, which it may have before the watermark."""
        known = self.watermark.position
        if position > known and next(iter(self.source.log().read(position - 1, 1)), None) is None:
            raise BeyondTheLog(f"{field}: the log ends at position {known}", field=field)

    patience = 0.0
    """Seconds that a position which is asked for may need to come."""

    @abstractmethod
    def expecting(self, task_id: int, wake: Callable[[], object]) -> AbstractContextManager[None]:
        """While the context lasts, `wake` is called when the task ends, from a thread that must not be held up."""

    def is_open(self, task_id: int) -> bool:
        """Whether the log says that its life is not over. Where it says nothing, `get_task` does, or raises why."""
        if not 1 <= task_id <= MAX_INTEGER:
            return False
        try:
            last = self.source.log().last_of(task_id)
        except TasktrailError:
            return False
        return last is not None and not last.ends_life and not isinstance(last.event, Stub)
