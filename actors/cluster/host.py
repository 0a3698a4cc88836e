"""The host of a slot: it runs attempts on its node, one at a time, with the same reaper and worker as a local slot.

It lives in a process of the cluster's engine, of which it knows nothing. A service calls it through its gateway; the
host itself calls no one. Its reports are numbered and kept as long as a service may ask for them again: progress until
it was received, a checkpoint until it is saved, an end until it is settled. So nothing is lost when a service dies.

It obeys only the latest service. If that is silent for the seconds of the lease, all running attempts are killed.
"""

import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...events.clock import boot_seconds
from ...events.errors import InvalidPath
from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    AttemptsHeld,
    CapacityChanged,
    Grant,
    PublishWanted,
    Report,
    Run,
    Saved,
    Settled,
    Stop,
    TellHeld,
    WorkerGone,
)
from ...handlers.contract import Room
from ...handlers.process.sandbox import sandbox_support
from ...handlers.workspace import remove_task_folder
from ..logger import get_logger
from ..machine import Machine
from ..workers.local_executor import LocalExecutor
from ..workers.worker_process import wait_for_orphans
from .lease import Lease
from .wire import (
    LOOKED_AT_EVERY,
    EndAll,
    Give,
    Greeting,
    HeldAttempt,
    Hello,
    HostOrder,
    HostReport,
    HostReports,
    HostSettings,
    NodeUse,
    OrdersTaken,
    Refused,
    Watch,
    fingerprint,
    packed_answer,
)

LINGER = 600.0
"""Seconds without a lease after which a host that keeps no attempts ends itself: its service is gone for good."""
LINGER_WITH_ENDS = 7 * 86400.0
"""The same for a host that keeps ends which no service has recorded."""
_LOOKS = 50
"""Checks of the lease while it lasts."""
_LOOK_EVERY = 0.1
"""The most seconds between two checks of the lease."""
_COMPARED_EVERY = 2
"""Every so many samples of the node, the attempts are compared with those that the executor has."""
_LOST = "AttemptLost"
"""The error type of an attempt that the executor does not know."""
_PASSING = (AttemptProgressed, AttemptBeat, WorkerGone)
"""Reports that are kept only until they were received."""
_ROOM = 256
"""If more reports than this are kept, only the latest of the `_PASSING` ones of each type and attempt is kept."""

_Key = tuple[int, int]

logger = get_logger(__name__)


class _Attempt:
    """The host's record of an attempt until its end is settled."""

    def __init__(self, asked: int, work_dir: str) -> None:
        self.asked = asked
        """The number of the last question to the executor for its attempts when this one came."""
        self.work_dir = work_dir
        self.missed = 0
        """How many answers in a row to later questions lacked it."""
        self.is_over = False
        self.granted = False
        self.lease_is_over = False


class _Look(NamedTuple):
    """What a look at the use has found: see `HostReports`."""

    memory: tuple[tuple[int, int, int], ...] = ()
    node: NodeUse | None = None
    measured_at: float = 0.0


class Host:
    """Answers `hello`, `give` and `watch`, each in any thread, with bytes for bytes.

    Args:
        name: its own name.
        settings: `HostSettings`, encoded.
        node: the engine's id of its node.
        clock: seconds, monotonic; counts the lease.
        leave: ends the process.
    """

    def __init__(
        self,
        name: str,
        settings: bytes,
        node: str = "",
        clock: Callable[[], float] = boot_seconds,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._settings = msgspec.msgpack.decode(settings, type=HostSettings)
        self._fingerprint = fingerprint(settings)
        self._on = node
        self._software: str = sys.modules["tasktrail"].__version__  # of the room above, which cannot be imported here
        self._clock = clock
        self._leave = leave
        self._lease = Lease(self._settings.lease, clock())
        self._over_since: float | None = None
        """Since when the lease is over, by the checks."""
        self._changed = threading.Condition()
        self._obeyed = (0, "")
        """Epoch and name of the service that it obeys."""
        self._carried_out = 0
        """The number of that service's last order that was carried out."""
        self._attempts: dict[_Key, _Attempt] = {}
        self._kept: dict[int, HostReport] = {}
        """Number → a report that may still be asked for, in order."""
        self._latest: dict[tuple[type, _Key], int] = {}
        """Type and attempt of a report → the number of the latest one."""
        self._number = 0
        self._asked = 0
        self._machine = Machine(Path(self._settings.temp_root or tempfile.gettempdir()))
        self._look = _Look()
        self._closed = threading.Event()
        self._executor = self._make_executor(name)
        self._executor.open(self._on_reports)
        threading.Thread(target=self._keep_to_lease, name="lease", daemon=True).start()
        threading.Thread(target=self._keep_looking_at_use, name="use", daemon=True).start()

    def _make_executor(self, name: str) -> LocalExecutor:
        of = self._settings
        return LocalExecutor(
            slots=1,
            homes=of.homes,
            lock_path=_lock_path(of.cluster, name),
            pythonpath=of.pythonpath,
            pass_environment=of.pass_environment,
            nice=of.nice,
            io=of.io,
            room=Room(of.cores, of.memory),
            rules=of.rules,
            sandbox=of.sandbox,
            output_root=Path(of.output_root) if of.output_root else None,
            max_output=of.max_output,
            hash_up_to=of.hash_up_to,
            claims=of.claims,
        )

    # --- what a service asks ---------------------------------------------------------------------------------------

    def hello(self, payload: bytes) -> bytes:
        """Obey this service from now on, if it is not an earlier one."""
        hello = msgspec.msgpack.decode(payload, type=Hello)
        with self._changed:
            if hello.epoch < self._obeyed[0]:
                return self._refuse("epoch")
            if (hello.epoch, hello.service) != self._obeyed:
                self._obeyed, self._carried_out = (hello.epoch, hello.service), 0
                self._changed.notify_all()  # a watch of an earlier service is refused
            held = (
                HeldAttempt(*key, is_over=attempt.is_over, granted=attempt.granted)
                for key, attempt in self._attempts.items()
            )
            return packed_answer(Greeting(self._clock(), self._fingerprint, self._on, tuple(held), self._trouble()))

    def give(self, payload: bytes) -> bytes:
        """Carry out orders, each once and in their order."""
        give = msgspec.msgpack.decode(payload, type=Give)
        with self._changed:
            if (give.epoch, give.service) != self._obeyed:
                return self._refuse("epoch")
            self._lease.renew(give.stamp)
            if self._lease.is_over(self._clock()):
                return self._refuse("lease")
            for number, order in enumerate(give.orders, start=give.first):
                if number == self._carried_out + 1:
                    self._carried_out = number
                    self._carry_out(order)
            return packed_answer(OrdersTaken(self._clock(), self._carried_out))

    def watch(self, payload: bytes) -> bytes:
        """Wait for reports after that number, and return them."""
        watch = msgspec.msgpack.decode(payload, type=Watch)
        deadline = time.monotonic() + watch.seconds
        with self._changed:
            service = (watch.epoch, watch.service)
            if service == self._obeyed:
                self._lease.renew(watch.stamp)
                self._forget_received(watch.after)
            while service == self._obeyed and self._number <= watch.after and not self._closed.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if service != self._obeyed:
                return self._refuse("epoch")
            reports = tuple((number, report) for number, report in self._kept.items() if number > watch.after)
            return packed_answer(HostReports(self._clock(), self._number, reports, *self._look))

    def close(self) -> None:
        """End all running attempts, and the lease's thread. For tests; the engine just ends the process."""
        self._closed.set()
        self._executor.close(5.0)

    def _refuse(self, why: str) -> bytes:
        return packed_answer(Refused(self._clock(), why, self._obeyed[0]))  # type: ignore[arg-type]  # a literal each time

    def _trouble(self) -> str:
        if self._software != self._settings.version:
            return (
                f"it has tasktrail {self._software}, and the service has {self._settings.version}. Install the same "
                "version on all machines"
            )
        if self._settings.sandbox.mode == "require" and not sandbox_support().whole:
            return "`sandbox` is `require`, and this node cannot enforce the whole sandbox"
        return ""

    # --- with the lock held ----------------------------------------------------------------------------------------

    def _carry_out(self, order: HostOrder) -> None:
        if isinstance(order, EndAll):
            self._executor.end_attempts(order.why)
            return
        self._note(order)
        if not isinstance(order, Settled):
            self._executor.do([order])

    def _note(self, order: Run | Stop | Grant | Saved | Settled) -> None:
        key = (order.task_id, order.attempt)
        match order:
            case Run():
                self._attempts.setdefault(key, _Attempt(self._asked, order.work_dir))
            case Grant():
                if attempt := self._attempts.get(key):
                    attempt.granted = True
                self._drop(PublishWanted, key)
            case Saved():
                self._drop(AttemptCheckpointed, key)
            case Settled():
                attempt = self._attempts.pop(key, None)
                if attempt is not None and order.completed:
                    # Large files take long, and holding the lock would hold up the lease.
                    threading.Thread(target=_clear, args=(Path(attempt.work_dir),), name="clear", daemon=True).start()
                for number in [number for number, report in self._kept.items() if _key_of(report) == key]:
                    del self._kept[number]
                for kind in (*_PASSING, AttemptCheckpointed, AttemptProbed, PublishWanted):
                    self._latest.pop((kind, key), None)
            case Stop():
                pass

    def _drop(self, kind: type, key: _Key) -> None:
        self._kept.pop(self._latest.pop((kind, key), 0), None)

    def _forget_received(self, after: int) -> None:
        heard = [number for number, report in self._kept.items() if number <= after and isinstance(report, _PASSING)]
        for number in heard:
            del self._kept[number]

    # --- from the executor's thread --------------------------------------------------------------------------------

    def _on_reports(self, reports: list[Report]) -> None:
        with self._changed:
            for report in reports:
                if isinstance(report, AttemptsHeld):
                    self._compare(report)
                elif not isinstance(report, CapacityChanged):
                    self._keep(report)  # type: ignore[arg-type]  # this executor tells nothing else
            self._changed.notify_all()

    def _compare(self, held: AttemptsHeld) -> None:
        """End as lost each attempt that the executor lacks in two answers in a row: otherwise it would never end."""
        for key, attempt in self._attempts.items():
            if attempt.is_over or held.number <= attempt.asked:
                continue
            attempt.missed = 0 if key in held.attempts else attempt.missed + 1
            if attempt.missed > 1:
                error = "The worker on the node no longer knows the attempt"
                self._keep(AttemptEnded(*key, "lost", error=error, error_type=_LOST))

    def _keep(self, report: HostReport) -> None:
        key = _key_of(report)
        if type(report) is AttemptEnded:
            if (attempt := self._attempts.get(key)) is not None and attempt.is_over:
                return  # it was already reported as lost
            report = self._end(key, report)
        self._number += 1
        if len(self._kept) > _ROOM and isinstance(report, _PASSING):
            self._drop(type(report), key)
        if isinstance(report, AttemptProbed | AttemptCheckpointed):
            self._drop(type(report), key)  # an earlier report must not be sent after the latest
        if not isinstance(report, AttemptEnded):
            self._latest[type(report), key] = self._number
        self._kept[self._number] = report

    def _end(self, key: _Key, ended: AttemptEnded) -> AttemptEnded:
        attempt = self._attempts.get(key)
        if attempt is None:
            return ended
        attempt.is_over = True
        if attempt.lease_is_over and ended.outcome == "stopped":
            error = f"No service was heard of for {self._settings.lease:g} s, so the attempt was ended"
            return msgspec.structs.replace(ended, outcome="interrupted", error=error)
        return ended

    # --- from threads of their own ---------------------------------------------------------------------------------

    def _keep_to_lease(self) -> None:
        """Check the lease at intervals. Nothing else that may fail or wait runs here, and no failure ends it."""
        while not self._closed.wait(min(_LOOK_EVERY, self._settings.lease / _LOOKS)):
            try:
                self._look_at_lease()
            except Exception:  # the next check ends what has to end
                logger.exception("lease_not_kept")

    def _look_at_lease(self) -> None:
        with self._changed:
            now = self._clock()
            if not self._lease.is_over(now):
                self._over_since = None
                return
            self._over_since = now if self._over_since is None else self._over_since
            self._end_all()
            if now - self._over_since >= (LINGER_WITH_ENDS if self._attempts else LINGER):
                self._leave(0)

    def _end_all(self) -> None:
        """End all attempts. Called at each check as long as some are not over."""
        running = [attempt for attempt in self._attempts.values() if not attempt.is_over]
        for attempt in running:
            attempt.lease_is_over = True
        if running:
            self._executor.end_attempts("the service has not renewed the lease")

    def _keep_looking_at_use(self) -> None:
        for number in count():
            try:
                self._look_at_use()
                if number % _COMPARED_EVERY == 0:
                    self._ask_what_is_held()
            except Exception:  # the next sample comes soon
                logger.exception("use_not_seen")
            if self._closed.wait(LOOKED_AT_EVERY):
                return

    def _ask_what_is_held(self) -> None:
        with self._changed:
            self._asked += 1
            number = self._asked
        self._executor.do([TellHeld(number)])

    def _look_at_use(self) -> None:
        memory = tuple((*key, used) for key, used in self._executor.memory().items())
        measured_at = self._clock() if self._executor.capabilities.measures_memory else 0.0
        sample = self._machine.sample()  # after the memory: it shows at least as much
        node = NodeUse(
            sample.memory_total, sample.memory_available, sample.cpu_percent, sample.temp_total, sample.temp_free
        )
        self._look = _Look(memory, node, measured_at)


def _clear(folder: Path) -> None:
    """Remove the temp files of a completed task. The service does that only in the temp folder of its own machine."""
    try:
        remove_task_folder(folder)
    except OSError:
        logger.exception("temp_files_not_removed", folder=str(folder))


def _key_of(report: HostReport) -> _Key:
    return (0, 0) if isinstance(report, WorkerGone) else (report.task_id, report.attempt)


def _lock_path(cluster: str, name: str) -> Path:
    """The lock file that shows whether processes of this host are left. Kills what is left of hosts that are gone."""
    folder = Path(tempfile.gettempdir(), f"tasktrail-{os.getuid()}-{cluster}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()  # does not follow a link: another folder of ours would be cleared
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} is a link, or belongs to another user: remove it")
    for path in folder.glob("*.lock"):
        with suppress(FileNotFoundError, InvalidPath):  # another host that starts here has cleared it away
            is_new = time.time() - path.stat().st_mtime < LINGER  # its host may be about to lock it
            if wait_for_orphans(path, 0.0) and not is_new:
                path.unlink(missing_ok=True)
    return folder / f"{name}.lock"
