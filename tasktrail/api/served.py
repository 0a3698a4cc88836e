"""The interface that the HTTP server and the page use: of a running service, or of a reader of its log."""

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
    """The questions, and all else that the HTTP server and the page need. Safe to use from many threads."""

    pictures: PictureMaker
    """For the page."""

    @property
    @abstractmethod
    def config(self) -> Config:
        """The configuration in force."""

    @abstractmethod
    def reload(self, config: Config | None = None) -> Reloaded:
        """Take the new values of keys that can change while it runs."""

    @abstractmethod
    def close(self) -> None:
        """Stop in good order."""

    @abstractmethod
    def recover_tasks(self) -> RecoveryReport:
        """The tasks that were found unfinished at the start."""

    # --- what changes something -----------------------------------------------------------------------------------

    @property
    def refusal(self) -> TasktrailError | None:
        """Why nothing can ever be changed here; None if commands are taken."""
        return None

    @abstractmethod
    def submit(
        self,
        commands: Sequence[Command],
        reply: Callable[[list[Accepted | TasktrailError]], None],
        *,
        checked: bool = False,
        only_user: int | None = None,
        of_batch: bytes | None = None,
    ) -> None:
        """Hand commands over without waiting; `reply` is called once, with all the answers."""

    @abstractmethod
    async def carry_out_batch(
        self,
        wanted: NewBatch,
        actor: str,
        user_id: int | None,
        send: Callable[[CreateGraph, bytes], Awaitable[Accepted | TasktrailError]],
        patience: Patience | None = None,
    ) -> MadeBatch:
        """Make a batch; with a user as if there were no tasks of others. Raises `HungUp` as `patience` says."""

    @abstractmethod
    def note_refusal(self, actor: str, command: Command | NewBatch, error: TasktrailError) -> None:
        """Have the refusal of a known caller's command recorded."""

    @abstractmethod
    def note_refused_route(self, actor: str, route: str, error: TasktrailError) -> None:
        """Have it recorded that a known caller's request was refused before its command was read."""

    @abstractmethod
    def rebuilding(self) -> AbstractContextManager[None]:
        """While the context lasts, no other rebuild can begin. Raises `NotReady` if one runs."""

    @abstractmethod
    def adopt_views(self) -> None:
        """Replace the live views with those built beside them."""

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
        """The reasons not to rely on it now, the gravest first."""

    @property
    def obstacle(self) -> TasktrailError | None:
        """The gravest obstacle, if there is any."""
        return next(iter(self.obstacles), None)

    @property
    def ready(self) -> bool:
        """Whether there is no obstacle."""
        return self.obstacle is None

    @property
    @abstractmethod
    def degraded(self) -> list[str]:
        """Other things that are out of order, in words."""

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
        """Counts of what has happened since the start; None if another process counts."""

    @abstractmethod
    def readings(self) -> Readings:
        """Measure it as it is now, without waiting for anything."""

    @abstractmethod
    def memory_of_attempts(self) -> dict[tuple[int, int], int]:
        """Map the task and number of each attempt that runs here to its bytes in memory. Unknown ones are left out."""

    # --- who asks, and what comes ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def known_tokens(self) -> Mapping[str, Token]:
        """Digest → token, for all tokens that were added and not revoked. Some may have expired."""

    @property
    def knows_tokens(self) -> bool:
        """Whether `known_tokens` is complete, so that any other token is invalid."""
        return True

    @abstractmethod
    def watch_tokens(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called, in another thread, when a token was added or revoked. Call the result to end that."""

    @property
    @abstractmethod
    def watermark(self) -> Watermark:
        """How far the log may be read."""

    def shows_files(self, path: str, side: str) -> bool:  # noqa: ARG002 - here all are
        """Whether what is at a path here is the task's file. `side`: input or output."""
        return True

    def find(self, position: int, field: str) -> None:
        """Raise `BeyondTheLog` for the field unless the log has `position`, perhaps beyond the watermark already."""
        known = self.watermark.position
        if position > known and next(iter(self.source.log().read(position - 1, 1)), None) is None:
            raise BeyondTheLog(f"{field}: the log ends at position {known}", field=field)

    patience = 0.0
    """Seconds to wait for a position that a caller asks for."""

    @abstractmethod
    def expecting(self, task_id: int, wake: Callable[[], object]) -> AbstractContextManager[None]:
        """While the context lasts, `wake` is called when the task ends, from a thread that must not be held up."""

    def is_open(self, task_id: int) -> bool:
        """Whether the log shows that the task's life is not over. If not, `get_task` has the answer, or raises why."""
        if not 1 <= task_id <= MAX_INTEGER:
            return False
        try:
            last = self.source.log().last_of(task_id)
        except TasktrailError:
            return False
        return last is not None and not last.ends_life and not isinstance(last.event, Stub)
