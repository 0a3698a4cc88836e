"""The composition root: builds the log, the actors and the executor, starts them in order, stops them in reverse.

The start list reads from top to bottom. Nothing is accepted before every actor has answered a ping.
"""

import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from . import __version__
from .actors.archiver import Archiver
from .actors.attempt_use import AttemptUse
from .actors.core.limits import UNLIMITED
from .actors.core.load import Load, load_of
from .actors.core.messages import Boot, Close, Drain, LimitsConfigured
from .actors.core.sources import WatchedFolder
from .actors.core.state import SchedulerState
from .actors.core.tokens import Token
from .actors.delivery.attempt import Deadline, Result
from .actors.delivery.targets import check_targets
from .actors.dependency_results import DependencyResults
from .actors.eraser import Eraser, Folders
from .actors.executor import Executor
from .actors.feed import Watermark
from .actors.handover import Handover
from .actors.inspector import Inspector
from .actors.janitor import Janitor
from .actors.logger import get_logger
from .actors.machine import Machine, disk_size
from .actors.messages import PING, WAKE, CatchUp, Committed, Damaged, Orders, PutInPlace, StateQuery
from .actors.notifier import Notifier
from .actors.projector import Projector
from .actors.refusals import Refusals
from .actors.resource_monitor import ResourceMonitor
from .actors.retention import Forgetter, Retention
from .actors.scheduler import Scheduler
from .actors.sealer import Sealer
from .actors.service_log import ServiceLog
from .actors.snapshots import OUTBOX_SNAPSHOT, SCHEDULER_SNAPSHOT
from .actors.snapshotter import SnapshotPace, Snapshotter
from .actors.storage.sweeper import Sweeper
from .actors.supervisor import Child, Supervisor
from .actors.worker_pool import WorkerPool
from .actors.workers.local_executor import LocalExecutor
from .actors.workers.worker_process import wait_for_orphans
from .backups.evidence import Acceptance, accept_loss, forget_recorded
from .config.load import Reloaded, with_live_keys
from .config.log_place import settled_place
from .config.settings import Config, parse_limits, usable_cpus
from .consumers import Consumers
from .events import EventLog, Recorded, Retried, TasktrailError
from .events.clock import Clock, SystemClock
from .events.errors import ConfigurationError, Fenced, LogGone, NotReady
from .events.existence import exists
from .events.forms import forms_fingerprint
from .events.log.address import is_address
from .events.log.files import read_mark, refuse_rescued
from .events.log.integrity import AT_ONCE
from .events.log.lock import DataLock
from .events.log.opening import is_begun, open_log, read_log
from .events.log.writers import added_forms
from .events.state import RESUMING
from .events.system_events import RetentionRule, UserErased
from .following.erasure import erase_here, mark_done, mark_due
from .handlers.elsewhere import FOLDER
from .handlers.manifests import Claims
from .handlers.process.sandbox import sandbox_support
from .handlers.registry import Registry
from .handlers.workspace import TempFiles
from .health import LOOK_WITHIN, Health
from .paths import DataPaths, close_to_others
from .projections import TaskViews, ViewsDamaged, ViewsFailed
from .projections.errors import views_behind, views_late
from .projections.notices import Notice, log_id
from .projections.views.schema import files_of, is_gone
from .senders import CurrentSenders
from .telemetry.numbers import ServiceNumbers
from .telemetry.otlp import receiver_for
from .telemetry.tracing import Tracing

if TYPE_CHECKING:
    from .actors.cluster.cluster_executor import ClusterExecutor
    from .actors.cluster.gateway_process import ConnectingGateway

logger = get_logger()

_ORPHANS_WITHIN = 10.0
"""Seconds to wait until the processes of a killed service are gone."""
_START_WITHIN = 600.0
"""Seconds that folding the log may take."""
_STOP_WITHIN = 10.0
_WATCH_EVERY = 0.5
_VIEWS_WITHIN = 60.0
"""Seconds that forgetting waits for views that lag behind the log."""
_TROUBLE_FOR = 2.0
"""Seconds that forgetting waits for views that cannot be written."""
_LOOK_EVERY = 0.2
"""Seconds between two looks at what may keep the views from being written."""
_ADOPTED_WITHIN = 600.0
"""Seconds that replacing the live views with new ones may take."""


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that the service found unfinished when it opened the log, and how they go on."""

    unfinished: int
    interrupted: tuple[int, ...]
    """Tasks whose attempt was open; it is closed as interrupted and they are queued again."""
    resuming: tuple[int, ...]
    """The interrupted tasks that go on from a checkpoint."""


class System:
    """One running service on one data folder."""

    def __init__(  # noqa: PLR0915 - a line for each thing that it knows
        self,
        paths: DataPaths,
        config: Config,
        *,
        clock: Clock | None = None,
        acceptance: Acceptance | None = None,
        giving_up: Acceptance | None = None,
        own_only: bool = False,
        registry: Registry | None = None,
        executor: Callable[[], Executor] | None = None,
        connecting: "ConnectingGateway | None" = None,
    ) -> None:
        self.paths = paths
        self.config = config
        self.clock = clock or SystemClock()
        self.registry = registry or Registry.load(config.handlers, presets=config.presets)
        self._accepted = acceptance
        self._gives_up = giving_up
        """Who goes on without the data whose keys are lost, and why."""
        self._own: set[int] | None = set() if own_only else None
        """The tasks of this program if it works on no others, else None. Kept here because the log does not say it."""

        self._lock: DataLock | None = None
        self._opened: EventLog | None = None
        self._epoch = 0
        """The log's epoch, once it is open."""
        self._is_restored = False
        """Whether the log was put back to an earlier state before this start, as far as is known."""
        self._is_long = False
        self._booted = False
        self.stopping = threading.Event()

        self._on_cluster = executor is None and config.executor == "ray"
        """Whether attempts run on other machines, and outlive this service."""
        self._make_executor = executor or (self._cluster if self._on_cluster else self._worker_processes)
        self._cluster_executor: ClusterExecutor | None = None
        self._connecting = connecting
        self._handover: Handover | None = None

        self.health = Health(lambda: self._supervisor.unwell)
        self.recovery = RecoveryReport(unfinished=0, interrupted=(), resuming=())
        self.sources: tuple[WatchedFolder, ...] = ()
        """The watched folders in their present state."""
        self.source_callbacks: list[Callable[[], None]] = []
        """Called in the Scheduler's thread whenever `sources` has changed."""
        self.tokens: dict[str, Token] = {}
        """Digest → recorded token. Replaced as a whole, before the command that adds or revokes a token is answered."""
        self.token_callbacks: list[Callable[[], None]] = []
        """Called in the Scheduler's thread whenever `tokens` has changed."""

        self._supervisor = Supervisor(self.clock, self.health.end)
        self.scheduler = Child("scheduler", self._start_scheduler, restart=False)
        self.projector = Child("projector", self._start_projector, restart=True)
        self.notifier = Child("notifier", self._start_notifier, restart=True)
        self.janitor = Child("janitor", self._start_janitor, restart=True)
        self.pool = Child("worker_pool", self._start_pool, restart=False)
        self.monitor = Child("resource_monitor", self._start_monitor, restart=True)
        self.snapshotter = Child("snapshotter", self._start_snapshotter, restart=True)
        self.eraser = Child("eraser", self._start_eraser, restart=True)
        self.retention = Child("retention", self._start_retention, restart=True)

        self.service_log = None if own_only else ServiceLog(self._first_record, self.clock)
        """None for a program that works only on its own tasks: it follows and reports them itself."""
        receiver = receiver_for(config.otel_endpoint, os.environ)
        self.tracing = None if receiver is None else Tracing(receiver, self._log_id, self.clock)
        """None unless it is configured."""
        self.numbers = ServiceNumbers([task_type.name for task_type in self.registry], self.clock)
        self._snapshot_pace = SnapshotPace(config.snapshot_every)
        self.consumers = Consumers(
            projector=self.projector,
            notifier=self.notifier,
            janitor=self.janitor,
            eraser=self.eraser,
            retention=self.retention,
            snapshotter=self.snapshotter,
            snapshot_pace=self._snapshot_pace,
            numbers=self.numbers,
            service_log=self.service_log,
            tracing=self.tracing,
            clock=self.clock,
        )
        self.refusals = Refusals(self.clock)
        self.senders = CurrentSenders(lambda: self.config)
        self.use = AttemptUse(
            paths.temp,
            handover=lambda: self._handover,
            outputs=lambda: self.scheduler.ask(StateQuery(outputs_of_running), timeout=5),
        )

        self.projected = Watermark()
        self.rebuilding = threading.Lock()
        """Held while views are built beside the live ones."""
        self.cleared = Watermark()
        """The position up to which no file has anything left of forgotten tasks."""
        archives = threading.Lock()
        self.archiver = Archiver(
            log_path=paths.log,
            tell=self.scheduler.tell,
            ask=lambda question: self.scheduler.ask(question, timeout=30),
            alone=archives,
            stopping=self.stopping.is_set,
        )
        self.forgetter = Forgetter(
            alone=archives,
            log_path=paths.log,
            views_path=paths.views,
            tell=self.scheduler.tell,
            settle=self._settle_views,
            on_damage=lambda error: self.doubt_views(self.health.views.generation, error),
            sources=lambda: [source.source for source in self.sources],
            clock=self.clock,
        )

    def start(self) -> None:
        """Lock the data folder, recover, and get ready. If that fails, stop everything and raise the error."""
        check_targets(self.config.apprise)
        _check_certificates()
        if self._on_cluster:
            from .config.cluster import check_cluster

            check_cluster(self.config)
        else:
            self._check_sandbox()
        self.paths.make()
        self._lock = DataLock(self.paths.lock)
        try:
            close_to_others(self.paths)
            refuse_rescued(self.paths.log)
            with settled_place(self.paths, self.config):
                if not wait_for_orphans(self.paths.workers_lock, _ORPHANS_WITHIN):
                    raise NotReady(
                        "Processes of an earlier service are still there and cannot be killed",
                        remedy="`ps` shows them: one in state D ends once its disk works. If it is a service on this "
                        "folder whose file `lock` was deleted, stop that one. Then start again.",
                    )
                self._outlive_hosts()
                self._accepted = accept_loss(self.paths, self._accepted)
                self._is_restored = self._accepted is not None and self._accepted.loss is not None
            if is_address(self.paths.log) and not self._is_restored:
                self._erase_here()
            for child in self._children():
                self._supervisor.start(child, within=_START_WITHIN)
            self._log_identity = _identity(self.paths.log)
            self._supervisor.watch(_WATCH_EVERY, self._look_at_files)
            unfinished = self.scheduler.ask(StateQuery(count_unfinished), timeout=30)
            self.recovery = replace(self.recovery, unfinished=unfinished)
        except BaseException as error:  # noqa: BLE001 - whatever it was, nothing may be left running
            self._supervisor.stop(_STOP_WITHIN)
            self.consumers.close()
            self._lock.release()
            raise (self.health.fatal or error) from None

    def reload(self, config: Config) -> Reloaded:
        """Take the new values of keys that can change while the service runs. Raises ConfigurationError."""
        check_targets(config.apprise)
        _check_certificates()
        self.config, reloaded = with_live_keys(self.config, config)
        self._temp_files.cleanup_after = self.config.cleanup_after
        self._temp_files.max_size = self.config.max_temp_size or UNLIMITED
        self.scheduler.tell(LimitsConfigured(self.config.limits(disk_size(self.paths.temp))))
        return reloaded

    def _erase_here(self) -> None:
        if is_begun(self.paths.log):
            with closing(read_log(self.paths.log)) as log:
                # If the service on this folder wrote the log's last record, the Eraser finishes what is open.
                if exists(self.paths.erasing) or read_mark(self.paths.log) != log.head():
                    erase_here(log, self.paths)

    def _check_sandbox(self) -> None:
        if self.config.sandbox == "require" and not sandbox_support().whole:
            raise ConfigurationError(
                "`sandbox` is `require`, and this machine cannot enforce the whole sandbox",
                remedy='See `tasktrail doctor` for what is missing; `sandbox = "auto"` uses what there is.',
            )

    def _outlive_hosts(self) -> None:
        """Wait until nothing can run any more on the cluster of the last service: an attempt must not run twice."""
        if not self._on_cluster and exists(self.paths.hosts):
            from .actors.cluster.roster import outlive_hosts

            outlive_hosts(self.paths.hosts, self.stopping.wait)

    def _children(self) -> tuple[Child, ...]:
        """Return the actors in the order of their start.

        The Scheduler opens the log. The pool, which runs tasks, comes after the actors that follow the log.
        """
        return (
            self.scheduler,
            self.projector,
            self.notifier,
            self.janitor,
            self.pool,
            self.monitor,
            self.snapshotter,
            self.eraser,
            self.retention,
            Child("inspector", self._start_inspector, restart=True),
            *(() if self._own is not None else (Child("sealer", self._start_sealer, restart=True),)),
        )

    def stop(self, within: float = _STOP_WITHIN) -> list[str]:
        """Stop in good order: running attempts end and are recorded as interrupted.

        Returns the names of the actors that did not stop.
        """
        deadline = self.clock.monotonic() + within
        self.stopping.set()
        self.cleared.end()  # it rises no more before the next start: end the waits for it
        if isinstance(self.health.fatal, Fenced) and self._cluster_executor is not None:
            self._cluster_executor.let_go()
        self.scheduler.tell(Drain())
        if self.health.log_trouble is None:  # otherwise the stop of an attempt could not be recorded
            self._wait_until_idle(deadline - within / 2)
        self.scheduler.tell(Close())
        self._settle_scheduler()
        self.consumers.close_feeds()
        hung = self._supervisor.stop(max(1.0, deadline - self.clock.monotonic()))
        self.consumers.close()
        if self._lock is not None:
            self._lock.release()
        return hung

    def _wait_until_idle(self, deadline: float) -> None:
        pause = threading.Event()
        try:
            while self.clock.monotonic() < deadline and self.scheduler.ask(StateQuery(count_running), timeout=5):
                pause.wait(0.02)
        except NotReady:
            return

    def _settle_scheduler(self) -> None:
        try:
            self.scheduler.ask(PING, timeout=5)
        except NotReady as error:
            logger.warning("the Scheduler did not settle before the stop", error=str(error))

    def _on_sources(self, sources: tuple[WatchedFolder, ...]) -> None:
        self.sources = sources
        for callback in self.source_callbacks:
            callback()

    def _on_tokens(self, tokens: tuple[Token, ...]) -> None:
        self.tokens = {token.digest: token for token in tokens}
        for callback in list(self.token_callbacks):
            callback()

    def _look_at_files(self) -> None:
        """Notice a log or views that were deleted or replaced, even if no command comes."""
        generation = self.health.views.generation
        try:
            is_there = _identity(self.paths.log) == self._log_identity
        except (FileNotFoundError, NotADirectoryError):
            is_there = False
        except OSError:  # no right to look; commands are refused because of it
            return
        if not is_there and self.health.fatal is None:
            error = LogGone(f"{self.paths.log} was deleted or replaced while the service ran")
            logger.error("the service cannot go on", error=str(error))
            self.health.end_as_gone(error)
        elif is_gone(self.paths.views):
            self.doubt_views(generation, ViewsDamaged(f"{self.paths.views} was deleted"))
        elif self.health.views.files not in (None, files_of(self.paths.views)):
            self.projector.tell(WAKE)  # it compares them, too, and may have replaced them itself

    def degraded(self, load: Load | None) -> list[str]:
        """Describe what is out of order although commands are accepted. `load`: the present load; None if unknown."""
        executor = "" if self._handover is None else self._handover.executor.trouble
        manifests = "" if self._claims is None else self._claims.trouble(self.clock.now())
        found = self.health.degraded(load, executor=executor, manifests=manifests)
        return found + [error.message for error in self.registry.errors]

    def load(self) -> Load | None:
        """Return what waits and runs; None if the Scheduler does not answer soon."""
        try:
            load: Load = self.scheduler.ask(StateQuery(load_of), timeout=LOOK_WITHIN)
        except NotReady:
            return None
        return load

    # --- the actors ---------------------------------------------------------------------------------------------

    def _start_scheduler(self) -> "Scheduler.ref":  # type: ignore[name-defined]
        return Scheduler.start(
            open_log=self._open_log,
            new_state=self._new_state,
            boot=self._boot,
            clock=self.clock,
            order=self._order,
            publish=self._publish,
            on_fatal=self.health.end,
            on_trouble=self.health.set_log_trouble,
            on_tokens=self._on_tokens,
            on_sources=self._on_sources,
            read_log=lambda: read_log(self.paths.log),
            snapshot=self._snapshot(SCHEDULER_SNAPSHOT.name),
            refusals=self.refusals,
            is_awaited=self.consumers.endings.awaits,
        )

    def _open_log(self) -> EventLog:
        return open_log(
            self.paths.log,
            now=self.clock.now(),
            encrypted=self.config.personal_data == "encrypted",
            master=Path(self.config.master_key) if self.config.master_key else None,
            accept_lost_keys=self._gives_up is not None,
        )

    def _order(self, orders: Orders) -> None:
        if self._handover is not None:
            self._handover.order(orders if self.tracing is None else self.tracing.marked(orders))

    def _log_id(self) -> str:
        with closing(read_log(self.paths.log)) as reader:
            return log_id(next(reader.read(limit=1)))

    def _new_state(self) -> SchedulerState:
        config = self.config
        grace = {
            task_type.name: config.grace_period if task_type.grace is None else task_type.grace
            for task_type in self.registry
        }
        limits = config.limits(disk_size(self.paths.temp))
        return SchedulerState(
            limits,
            grace=grace,
            short=frozenset(task_type.name for task_type in self.registry if task_type.short),
            probing=frozenset(task_type.name for task_type in self.registry if task_type.probe is not None),
            work_root=str(self.paths.temp),
            retry_rules=config.retry_rules,
            own=self._own,
            outlived=self._on_cluster,
            node_labels=dict(label.split("=", 1) for label in config.node_labels),
        )

    def _boot(self, opened: EventLog) -> Boot:
        self._epoch, self._opened = opened.epoch, opened
        if opened.rebuilt:
            logger.warning("indexes of the log were damaged and have been rebuilt", indexes=opened.rebuilt)
        self._is_long = opened.head().position > AT_ONCE
        pid, host = os.getpid(), socket.gethostname()
        boot = Boot(
            version=__version__,
            epoch=opened.epoch,
            pid=pid,
            host=host,
            rebuilt_indexes=opened.rebuilt,
            schema=forms_fingerprint(),
            forms=added_forms(),
            retention=None if self._own is not None else self.config.retention_rules(),
            archive_after=self.config.archives_after(),
        )
        who = self._gives_up or self._accepted
        if who is None:
            return boot
        return replace(
            boot,
            accepted_loss=self._accepted.loss if self._accepted else None,
            actor=who.actor,
            reason=who.reason,
            gives_up_unreadable=self._gives_up is not None,
        )

    def _start_inspector(self) -> "Inspector.ref":  # type: ignore[name-defined]
        return Inspector.start(log_path=self.paths.log, on_damage=self.health.end, wanted=lambda: self._is_long)

    def _start_projector(self) -> "Projector.ref":  # type: ignore[name-defined]
        if self._accepted is not None:  # by now the Scheduler has recorded it, if that was possible
            forget_recorded(self.paths, self._accepted)
            self._accepted = None
        return Projector.start(
            feed=self.consumers.to_projector,
            open_views=lambda begin: TaskViews(self.paths.views, begin=begin),
            path=self.paths.views,
            log_path=self.paths.log if usable_cpus() > 1 else None,
            open_log=lambda: read_log(self.paths.log),
            watermark=self.projected,
            clock=self.clock,
            on_trouble=self.health.set_views_trouble,
            health=self.health.views,
        )

    def _worker_processes(self) -> Executor:
        return LocalExecutor(
            slots=self.config.workers,
            labels=parse_limits(self.config.worker_labels),
            homes=self.registry.homes(),
            pythonpath=self.registry.folders(),
            lock_path=self.paths.workers_lock,
            sandbox=self.config.for_workers(
                self.paths.protected(), self._log_id() if self.config.storage() is not None else ""
            ),
            output_root=self.paths.output,
            max_output=self.config.max_output,
            hash_up_to=self.config.hash_inputs_up_to,
            claims=self._claims,
            pass_environment=self.config.pass_environment,
            nice=self.config.worker_nice,
            io=self.config.worker_io,
            room=self.config.room(self.paths.temp),
        )

    def _machine(self) -> Machine:
        if (executor := self._cluster_executor) is None:
            return Machine(self.paths.temp)
        from .actors.cluster.cluster_machine import ClusterMachine

        return ClusterMachine(executor.uses)

    def _cluster(self) -> Executor:
        from .config.cluster import cluster_executor

        self._cluster_executor = cluster_executor(
            self.config,
            self.paths,
            homes=self.registry.homes(),
            pythonpath=self.registry.folders(),
            cluster=self._log_id(),
            epoch=lambda: self._epoch,
            owned=self._last_owned if is_address(self.paths.log) else None,
            restored=self._is_restored,
            claims=self._claims,
            connecting=self._connecting,
        )
        return self._cluster_executor

    def _last_owned(self) -> float:
        """Return how many seconds ago this service surely owned the log."""
        return inf if self._opened is None else self._opened.last_owned()

    @cached_property
    def _claims(self) -> Claims | None:
        """The certificate and key that sign manifests of outputs; None: none is set. Raises `ConfigurationError`."""
        if not self.config.c2pa_certificate:
            return None
        from .handlers.manifest_key import read_claims

        claims = read_claims(self.config.c2pa_certificate, self.config.c2pa_key)
        if trouble := claims.trouble(self.clock.now()):
            logger.warning("no manifests can be signed", error=trouble)
        return claims

    def _start_pool(self) -> "WorkerPool.ref":  # type: ignore[name-defined]
        self._handover = Handover(
            self._make_executor(),
            results=DependencyResults(lambda: read_log(self.paths.log)),
            report=self.scheduler.tell,
            outputs=self.scheduler.ask(StateQuery(outputs_of_attempts), timeout=30) if self._on_cluster else None,
        )
        return WorkerPool.start(handover=self._handover, compare=self.scheduler.tell, close_within=_STOP_WITHIN / 2)

    def _start_monitor(self) -> "ResourceMonitor.ref":  # type: ignore[name-defined]
        return ResourceMonitor.start(
            machine=self._machine(),
            report=self.scheduler.tell,
            is_busy=lambda: (
                self._on_cluster or self.consumers.log_has_grown()
            ),  # nothing starts on a node without a sample
            temp_used=self.use.temp,
            memory_used=self.use.measured_memory,
        )

    def _start_notifier(self) -> "Notifier.ref":  # type: ignore[name-defined]
        return Notifier.start(
            feed=self.consumers.to_notifier,
            open_log=lambda: read_log(self.paths.log),
            deliver=self._deliver,
            report=self.scheduler.tell,
            clock=self.clock,
            snapshot=self._snapshot(OUTBOX_SNAPSHOT.name),
            mail_limit=self.config.smtp.max_per_hour,
            health=self.health.notices,
        )

    def _deliver(self, notice: Notice, deadline: Deadline, now: datetime) -> Result:
        return self.senders.deliver(notice if self.tracing is None else self.tracing.delivering(notice), deadline, now)

    def _start_snapshotter(self) -> "Snapshotter.ref":  # type: ignore[name-defined]
        return Snapshotter.start(
            log_path=self.paths.log,
            folder=self.paths.snapshots,
            pace=self._snapshot_pace,
            position=lambda: self.consumers.committed.position,
        )

    def _start_eraser(self) -> "Eraser.ref":  # type: ignore[name-defined]
        return Eraser.start(
            folders=Folders(self.paths.log, self.paths.views, self.paths.output, self.paths.temp, self.paths.pictures),
            pending=lambda: self.scheduler.ask(StateQuery(open_erasures), timeout=30),
            ask_scheduler=self.scheduler.ask,
            ask_snapshotter=self.snapshotter.ask,
            ask_projector=self.projector.ask,
            report=self.scheduler.tell,
            rebuilding=self.rebuilding,
            clock=self.clock,
            stopping=self.stopping.is_set,
            owes=self._owe if is_address(self.paths.log) else lambda _: None,
        )

    def _owe(self, owes: bool) -> None:  # noqa: FBT001 - of a callback
        if owes:
            mark_due(self.paths, is_user=True)
        else:
            mark_done(self.paths)

    def _start_retention(self) -> "Retention.ref":  # type: ignore[name-defined]
        return Retention.start(
            forgetter=self.forgetter,
            archiver=self.archiver,
            archive_after=lambda: None if self._own is not None else self.config.archives_after(),
            rules=self._retention_rules,
            log_path=self.paths.log,
            views_path=self.paths.views,
            snapshots=self.paths.snapshots,
            folders=(self.paths.output, self.paths.temp),
            pictures=self.paths.pictures,
            rebuilding=self.rebuilding,
            adopt_views=self.adopt_views,
            take_snapshot=lambda: self.snapshotter.tell(WAKE),
            settle=self._settle_views,
            cleared=self.cleared,
            clock=self.clock,
        )

    def _retention_rules(self) -> tuple[tuple[RetentionRule, ...], int]:
        if self._own is not None or not (self.config.retention or self.config.archive_after):
            return (), 0
        return self.config.retention_rules(), self.scheduler.ask(StateQuery(retention_at), timeout=30)

    def _settle_views(self) -> None:
        self.wait_for_views(self.consumers.committed.position, within=_VIEWS_WITHIN, trouble_for=_TROUBLE_FOR)

    def wait_for_views(self, position: int, *, within: float, trouble_for: float) -> None:
        """Have the Projector hurry, and wait until the views have the record at `position`.

        Args:
            position: of the record.
            within: seconds to wait at most.
            trouble_for: seconds to wait for views that cannot be written.

        Raises:
            ViewsFailed: they cannot be written.
            NotReady: they lag behind, or the service stops.
        """
        if self.projected.position >= position:
            return
        began = self.clock.monotonic()
        self.projector.tell(CatchUp(position))
        while not self.projected.wait(position, min(within, _LOOK_EVERY)):
            self.projector.tell(CatchUp(position))  # again, as its process may hang
            waited = self.clock.monotonic() - began
            if (trouble := self.health.views_trouble) is not None and waited >= min(within, trouble_for):
                raise views_behind(position, trouble)
            if self.stopping.is_set():
                raise NotReady(f"The service stops before the views have reached position {position}")
            if waited >= within:
                raise views_late(position, within)

    def doubt_views(self, generation: int, error: ViewsFailed) -> None:
        """Have the views of this generation built anew, unless that has been done or is being done."""
        if self.health.views.doubt(generation):
            self.projector.tell(Damaged(error.message, generation))

    def adopt_views(self) -> None:
        """Replace the live views with those built beside them. Raises `ViewsFailed`; the live ones then stay."""
        answer = self.projector.ask(PutInPlace(), timeout=_ADOPTED_WITHIN)
        if isinstance(answer, TasktrailError):
            raise answer
        if answer is None:
            raise NotReady("The views that were built could not be put in place: see the service's log")

    def _start_sealer(self) -> "Sealer.ref":  # type: ignore[name-defined]
        return Sealer.start(
            log_path=self.paths.log,
            folder=Path(self.config.seals_dir or self.paths.seals),
            key_file=self.paths.seal_key,
            witnesses=self.paths.witnesses,
            every=self.config.seal_every,
            clock=self.clock,
            position=lambda: self.consumers.committed.position,
            on_trouble=self.health.set_seals_trouble,
        )

    def _snapshot(self, kind: str) -> Path | None:
        return self.paths.snapshots / kind if self.config.snapshot_every else None

    def _start_janitor(self) -> "Janitor.ref":  # type: ignore[name-defined]
        storage = self.config.storage()
        self._temp_files = TempFiles(
            self.paths.temp,
            max_size=self.config.max_temp_size or UNLIMITED,
            cleanup_after=self.config.cleanup_after,
            protected=lambda: self.scheduler.ask(StateQuery(open_tasks), timeout=30),
            on_trouble=self.use.tell_unseen,
        )
        return Janitor.start(
            feed=self.consumers.to_janitor,
            files=self._temp_files,
            clock=self.clock,
            last_task_id=lambda: self.scheduler.ask(StateQuery(last_task_id), timeout=30),
            sweeper=None if storage is None else Sweeper(self.paths.temp / FOLDER, storage),
        )

    def _first_record(self, task_id: int) -> Recorded | None:
        with closing(read_log(self.paths.log)) as reader:
            return next(iter(reader.read_task_after(task_id, 0, 1)), None)

    def _publish(self, message: Committed) -> None:
        """Pass on committed records. This runs in the Scheduler's thread, so it is quick and never raises."""
        if not self._booted:
            self._booted = True
            self.recovery = replace(_recovery(message.records), unfinished=self.recovery.unfinished)
        self.consumers.publish(message)


def _check_certificates() -> None:
    """Check that the certificate authorities for outgoing connections can be read, without importing the senders."""
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:
            raise ConfigurationError(
                f"SSL_CERT_FILE names {file}, which cannot be used: {error.strerror or error}",
                remedy="Name a file with certificates in PEM, or unset SSL_CERT_FILE.",
            ) from error


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - twice a second
    return status.st_dev, status.st_ino


def _recovery(records: list[Recorded]) -> RecoveryReport:
    """Return the report on a service's first commit, which closes the attempts that were open."""
    retried = [record for record in records if isinstance(record.event, Retried)]
    return RecoveryReport(
        unfinished=0,
        interrupted=tuple(record.task_id for record in retried),
        resuming=tuple(record.task_id for record in retried if record.reason == RESUMING),
    )


# --- questions to the Scheduler's state, asked in its own thread ----------------------------------------------


def count_unfinished(state: SchedulerState) -> int:
    """How many tasks are not finished."""
    return len(state.tasks) - len(state.tasks.over)


def open_tasks(state: SchedulerState) -> set[int]:
    """Tasks that are not finished, or that may still have a process."""
    found = set(state.tasks)
    found -= state.tasks.over
    found |= state.running.keys()
    return found


def open_erasures(state: SchedulerState) -> dict[int, UserErased]:
    """Return the erasures that were promised but are not finished."""
    return dict(state.durable.erasures)


def last_task_id(state: SchedulerState) -> int:
    """Return the id of the task that was created last."""
    return state.durable.last_task_id


def retention_at(state: SchedulerState) -> int:
    """Return the position at which the configured rules of retention are recorded."""
    return state.durable.retention_at


def outputs_of_running(state: SchedulerState) -> dict[int, str]:
    """Map each running task to the path of its output."""
    return {task_id: running.reserved_for.spec.output_file for task_id, running in state.running.items()}


def outputs_of_attempts(state: SchedulerState) -> dict[tuple[int, int], str]:
    """Map the task and number of each running attempt that has an output to its path."""
    return {
        (entry.task_id, entry.attempt): entry.reserved_for.spec.output_file
        for entry in state.running.values()
        if entry.reserved_for.spec.output_file
    }


def count_running(state: SchedulerState) -> int:
    """How many attempts hold a slot."""
    return len(state.running)
