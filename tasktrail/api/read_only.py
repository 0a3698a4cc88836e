"""A reader: it keeps views of its own from the log of a service elsewhere, and answers all questions from them.

It appends nothing, so there may be many. It lacks what only the running service has in memory: which slots are free,
what the machine has. It refuses every change, and says where the service is.
"""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from msgspec.structs import replace

from ..actors.core.load import load_of
from ..actors.core.state import SchedulerState
from ..actors.core.tokens import Token
from ..actors.feed import Endings, Watermark
from ..actors.machine import disk_size
from ..actors.pictures import PictureMaker
from ..actors.snapshots import SCHEDULER_SNAPSHOT
from ..batches.files import Patience
from ..batches.request import MadeBatch, NewBatch
from ..config.load import Reloaded, load_config, with_live_keys
from ..config.settings import Config
from ..errors import OnlyAtService, ReadOnly
from ..events import Accepted, Command, CreateGraph, Recorded, TasktrailError
from ..events.clock import Clock, SystemClock
from ..events.counted import counted
from ..events.errors import HistoryMissing, LogUnreachable, NotReady
from ..events.existence import exists
from ..events.log.archives import Archived
from ..events.log.log_reader import LogReader
from ..events.values import MAX_INTEGER
from ..following.follower import Follower
from ..following.scheduler_state import FollowedState
from ..handlers.attempt_output import Output
from ..handlers.process.sandbox import Sandbox
from ..handlers.registry import Registry
from ..paths import DataPaths
from ..projections import Forgotten, ViewsFailed
from ..projections.queries.as_of import Point
from ..projections.queries.past import Past
from ..system import RecoveryReport
from ..telemetry.readings import Readings
from .served import Served
from .source import Source

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a reader waits for a position that a caller asks for."""
SILENT_FOR = 5.0
"""Seconds without following the log after which answers may be old, and `readyz` says so."""
TOKENS_HOLD = 300.0
"""Seconds for which tokens stay valid while the log is not followed. Any of them may be revoked meanwhile."""
_MENDED_WITHIN = 30.0
_WORK = "look at the reader's log; it goes on by itself as soon as it can"
_OTHER_HISTORY = (
    "Nothing is lost here: stop this reader, delete `views.db*` and the folder `snapshots` in its data folder, and "
    "start it again. It then shows what the log holds now."
)
_NOTHING = RecoveryReport(unfinished=0, interrupted=(), resuming=())


class ReadOnlyService(Served):
    """The reader that `tasktrail serve --read-only` runs."""

    patience = PATIENCE

    def __init__(self, paths: DataPaths, config: Config, *, clock: Clock | None = None) -> None:
        """Raises `ConfigurationError`, and `DataInUse` if another process has the folder."""
        clock = clock or SystemClock()
        registry = Registry.load(config.handlers, presets=config.presets)
        limits = config.limits(disk_size(paths.temp.parent if not exists(paths.temp) else paths.temp))
        snapshot = paths.snapshots / SCHEDULER_SNAPSHOT.name if config.snapshot_every else None
        self._endings = Endings()
        self._token_callbacks: list[Callable[[], None]] = []
        self._folded = FollowedState(snapshot, limits, clock, self._tokens_changed, self._note)
        self._follower = Follower(paths, config, "", observer=self._folded, clock=clock)
        self._followed = _Followed(paths, registry, clock, self._folded, self._follower, lambda: self._config)
        super().__init__(self._followed)
        self._config = config
        self._clock = clock
        try:
            self.pictures = PictureMaker(
                paths.pictures,
                lock_path=paths.workers_lock,
                sandbox=_shared_files_sandbox(config, paths),
                clock=clock,
            )
        except BaseException:
            self._follower.close()
            raise
        self._follower.start()

    @classmethod
    def open(cls, data: Path, config: Config, *, clock: Clock | None = None) -> Self:
        """Begin to follow the log. No question can be answered before `caught_up`."""
        return cls(DataPaths(data, Path(config.temp_dir) if config.temp_dir else None, config.log), config, clock=clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def caught_up(self, within: float) -> bool:
        """Wait up to `within` seconds until the reader has once reached the end of the log; whether it has."""
        return self._folded.began.wait(within)

    @property
    def trouble(self) -> Exception | None:
        """Why the log cannot be followed now."""
        return _for_reader(self._follower.trouble)

    @property
    def progress(self) -> str:
        """How far the reader has come, in words."""
        return f"folds the log: position {self._follower.reached} of {self._follower.head}"

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    def reload(self, config: Config | None = None) -> Reloaded:
        """Take the new values of keys that can change while the reader runs."""
        new = load_config(self.paths.data) if config is None else config
        self._config, reloaded = with_live_keys(self._config, new)
        self._folded.configure(self._config.limits(disk_size(self.paths.temp)))
        return reloaded

    def close(self) -> None:
        """Stop following, and release the folder."""
        if not self._followed.closed:
            self._followed.closed = True
            self.pictures.close()
            self._follower.close()
            self.source.disconnect()

    def recover_tasks(self) -> RecoveryReport:
        """A reader recovers nothing."""
        return _NOTHING

    def shows_files(self, path: str, side: str) -> bool:
        """Whether the path is below a configured root, which is shared with the service. Elsewhere files may differ."""
        roots = self._config.output_roots if side == "output" else self._config.input_roots
        try:
            real = os.path.realpath(path)
            return any(os.path.commonpath((real, os.path.realpath(root))) == os.path.realpath(root) for root in roots)
        except (OSError, ValueError):
            return False

    def at_once(self, point: str | Point, question: Callable[[Past], T]) -> T:
        """Ask about an earlier time. If the views cannot answer yet, wait until they have caught up with the log."""
        try:
            return super().at_once(point, question)
        except ViewsFailed:
            if not self._followed.catch_up():
                raise
        return super().at_once(point, question)

    def output(
        self,
        task_id: int,
        attempt: int | None = None,
        *,
        after: int = 0,
        last: int | None = None,
        most: int = MAX_INTEGER,
    ) -> Output:
        """The output of an attempt. Raises `OnlyAtService` if the service does not share its folder `output`."""
        found = super().output(task_id, attempt, after=after, last=last, most=most)
        if not found.attempts and self.get_task(task_id).attempt:
            raise OnlyAtService(f"The output of task {task_id}'s attempts is on the machine of the service")
        return found

    def seals_folder(self) -> NoReturn:
        """Raise `OnlyAtService`: the seals, and the key that signs them and statements, lie with the service."""
        raise OnlyAtService("The key that signs statements is in the data folder of the service")

    # --- what changes something -----------------------------------------------------------------------------------

    @property
    def refusal(self) -> ReadOnly:
        """The error for every change. It says which service has the log."""
        return read_only(self._folded)

    def submit(
        self,
        commands: Sequence[Command],
        reply: Callable[[list[Accepted | TasktrailError]], None],
        *,
        checked: bool = False,  # noqa: ARG002 - all are refused
        only_user: int | None = None,  # noqa: ARG002
        of_batch: bytes | None = None,  # noqa: ARG002
    ) -> None:
        """Refuse all commands."""
        reply([self.refusal for _ in commands])

    async def carry_out_batch(
        self,
        wanted: NewBatch,
        actor: str,
        user_id: int | None,
        send: Callable[[CreateGraph, bytes], Awaitable[Accepted | TasktrailError]],
        patience: Patience | None = None,
    ) -> MadeBatch:
        """Raises `ReadOnly`."""
        self._refuse(wanted, actor, user_id, send, patience)

    def note_refusal(self, actor: str, command: Command | NewBatch, error: TasktrailError) -> None:
        """Nothing can be recorded here."""

    def note_refused_route(self, actor: str, route: str, error: TasktrailError) -> None:
        """Nothing can be recorded here."""

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """Raises `ReadOnly`: the reader builds damaged views anew by itself."""
        self._refuse()
        yield

    def adopt_views(self) -> None:
        """Raises `ReadOnly`."""
        self._refuse()

    def archive(self, *asked: object, **named: Any) -> Archived:
        """Raises `ReadOnly`."""
        self._refuse(asked, named)

    def forget(self, *asked: object, **named: Any) -> Forgotten:
        """Raises `ReadOnly`."""
        self._refuse(asked, named)

    def _refuse(self, *_asked: object) -> NoReturn:
        raise self.refusal

    # --- how it is ------------------------------------------------------------------------------------------------

    @property
    def obstacles(self) -> list[TasktrailError]:
        """The reasons why answers may be old."""
        if self._followed.closed:
            return [NotReady("The reader is stopped", remedy="Start it again.")]
        as_of = f"answers are as of position {self._follower.position.position}"
        if (trouble := self.trouble) is not None:
            if isinstance(trouble, TasktrailError):
                return [type(trouble)(f"{trouble.message}; {as_of}", remedy=trouble.advice)]
            return [NotReady(f"The log cannot be followed: {trouble}; {as_of}", remedy=_WORK)]
        silent = self._follower.silent()
        if silent is None or silent > SILENT_FOR:
            for_long = "yet" if silent is None else f"for {silent:.0f} s"
            why = "the database does not answer, or the views are being rebuilt"
            return [NotReady(f"The log was not followed {for_long}: {why}; {as_of}", remedy=f"Wait, or {_WORK}.")]
        return []

    @property
    def degraded(self) -> list[str]:
        """Says by how many records the views lag, if they do."""
        behind = self._follower.head - self._follower.position.position
        return [f"the views lag {counted(behind, 'record')} behind the log"] if behind > 0 else []

    @property
    def fatal(self) -> None:
        """Nothing ends a reader."""
        return

    def watch_end(self, callback: Callable[[], None]) -> None:
        """Nothing ends a reader."""

    @property
    def numbers(self) -> None:
        """None: the service counts what happens. If the reader counted too, it would be counted twice."""
        return

    def readings(self) -> Readings:
        """Measure the reader as it is now, without asking the database."""
        position, head = self._follower.position.position, self._follower.head
        try:
            load = self._folded.ask(lambda state, _now: load_of(state), within=0.0)
        except NotReady:
            load = None
        return Readings(
            tasks=self._followed.counts(),
            load=load,
            position=head,
            log_bytes=None,
            views_lag=max(0, head - position),
            notices_lag=None,
            notices_waiting=None,
            ready=self.ready,
            degraded=len(self.degraded),
            log_silent=self._follower.silent(),
        )

    def memory_of_attempts(self) -> dict[tuple[int, int], int]:
        """Nothing runs here."""
        return {}

    # --- who asks, and what comes ---------------------------------------------------------------------------------

    @property
    def known_tokens(self) -> Mapping[str, Token]:
        """The tokens in the log. Empty once the database has been silent for so long that any may be revoked."""
        return self._folded.tokens if self.knows_tokens else {}

    @property
    def knows_tokens(self) -> bool:
        """False once the database has been silent for too long."""
        silent = self._follower.silent()
        return silent is not None and silent <= TOKENS_HOLD

    def watch_tokens(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called, in another thread, when a token was added or revoked. Call the result to end that."""
        self._token_callbacks.append(callback)
        return lambda: self._token_callbacks.remove(callback)

    def _tokens_changed(self) -> None:
        for callback in tuple(self._token_callbacks):
            callback()

    def _note(self, records: Sequence[Recorded]) -> None:
        if records:
            self._endings.note(records)
        else:
            self._endings.wake_all()

    @property
    def watermark(self) -> Watermark:
        """How far the views have come. So no answer knows more than the streams show."""
        return self._follower.position

    def find(self, position: int, field: str) -> None:
        """Raise `NotReady` unless the views have `position`."""
        known = self._follower.position.position
        if position > known:
            self._follower.look()
            raise NotReady(
                f"{field}: this reader has reached position {known}, and {position} did not arrive within "
                f"{self.patience:g} s{self._why_not()}",
                remedy="Ask again, or ask the service itself, which has every position that it has reported.",
            )

    def _why_not(self) -> str:
        obstacle = self.obstacle
        return "" if obstacle is None else f": {obstacle.message}"

    def expecting(self, task_id: int, wake: Callable[[], object]) -> AbstractContextManager[None]:
        """While the context lasts, `wake` is called when the task's end arrives from the log."""
        return self._endings.expecting(task_id, wake)


def _shared_files_sandbox(config: Config, paths: DataPaths) -> Sandbox:
    """Restrict pictures to files below configured roots: elsewhere the path that a task names is another file."""
    sandbox, nowhere = config.for_workers(paths.protected()), (str(paths.pictures / "nowhere"),)
    return replace(
        sandbox,
        input_roots=sandbox.input_roots or nowhere,
        output_roots=sandbox.output_roots or nowhere,
    )


def _for_reader(trouble: Exception | None) -> Exception | None:
    """Return the trouble with a remedy that fits a reader."""
    if isinstance(trouble, HistoryMissing):
        return HistoryMissing(trouble.message, remedy=_OTHER_HISTORY)
    return trouble


def read_only(folded: FollowedState) -> ReadOnly:
    """Make the error that refuses a change. It says where the service is."""
    service = folded.service
    where = (
        "No service has had the log yet"
        if service is None
        else (f"The service with pid {service.pid} on {service.host} has the log, or had it last")
    )
    return ReadOnly(f"This reads the log of a service, and changes nothing. {where}")


class _Followed(Source):
    """The views that a follower keeps, the log itself, and the Scheduler's state as folded from the log."""

    def __init__(
        self,
        paths: DataPaths,
        registry: Registry,
        clock: Clock,
        folded: FollowedState,
        follower: Follower,
        config: Callable[[], Config],
    ) -> None:
        super().__init__(paths, registry, clock, config=config)
        self._folded = folded
        self._follower = follower
        self.closed = False

    def log(self) -> LogReader:
        """This thread's reader of the log. Raises at once while the follower knows that the log cannot be read."""
        if isinstance(trouble := self._follower.trouble, LogUnreachable):
            raise LogUnreachable(trouble.message)
        self._refuse_other(trouble)
        return super().log()

    def _refuse_other(self, trouble: Exception | None) -> None:
        """Raise `HistoryMissing` if the views are of another log: answers from both would contradict each other."""
        if isinstance(trouble, HistoryMissing):
            raise HistoryMissing(trouble.message, remedy=_OTHER_HISTORY)

    def state(self, function: Callable[[SchedulerState, datetime], T]) -> T:
        """Call the function with the Scheduler's state, as folded from the log, and the time."""
        self.settle()
        return self._folded.ask(function)

    def settle(self) -> None:
        """Raise `NotReady` or `HistoryMissing` while the views must not be asked. They may lag.

        They must have reached the end of the log once, be of the same history, and hold no data of an erased user.
        """
        if self.closed:
            raise NotReady("The reader is stopped", remedy="Start it again.")
        self._refuse_other(self._follower.trouble)
        if self._follower.erases_user:
            raise NotReady(
                "The service has erased a user, and the views are being rebuilt without that user's data",
                remedy="Ask again in a moment, or ask the service.",
            )
        if not self._folded.began.is_set():
            raise NotReady("The log is being folded", remedy="Ask again in a moment.")

    def wait_for_log(self, position: int) -> bool:
        """Wait for the views to reach `position`; false once the reader is closed."""
        while not self._follower.position.wait(position, 1.0):
            if self.closed:
                return False
        return True

    def catch_up(self) -> bool:
        """Wait until the views reach the present end of the log; whether they did in time.

        Does not wait while the log is not being followed.
        """
        silent = self._follower.silent()
        if self._follower.trouble is not None or silent is None or silent > SILENT_FOR:
            return False
        try:
            head = self.log().head().position
        except TasktrailError:
            return False
        self._follower.look()
        return self._follower.position.wait(head, PATIENCE)

    def generation(self) -> int:
        """A number that changes when the views have been built anew."""
        return self._follower.views_generation

    def mend(self, generation: int, error: ViewsFailed) -> bool:  # noqa: ARG002 - the follower finds out itself
        """Have damaged views built anew; whether that was done. It cannot be while the log cannot be followed."""
        if self._follower.trouble is not None:
            return False
        return self._follower.mend(generation, _MENDED_WITHIN)
