"""What a command asks: the running service, the files alone, or a service inside the command's own process."""

import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import click
import msgspec

from ..config import DEFAULT_DATA
from .terminal import TerminalLayout, plain, say

if TYPE_CHECKING:
    from ..actors.stamping import SealStamp
    from ..actors.witnesses import WitnessResult
    from ..api.protocol import Reading, Tasks, TypeInfo
    from ..api.reader import Reader
    from ..api.service import TaskService
    from ..backups.backup import Backup
    from ..backups.restore import Restored
    from ..batches.planner import EarlierTasks, Plan
    from ..batches.request import MadeBatch, NewBatch
    from ..config.settings import Config
    from ..events import CreateTask, TasktrailError
    from ..events.log.archives import Archived
    from ..events.log.event_log import Erasable, ReportProgress
    from ..exports.tiles import WrittenTiles
    from ..handlers.registry import Registry
    from ..intake.examination import CommandIntake
    from ..paths import DataPaths
    from ..projections import Forgotten, Rebuilt, TaskQueries, Verification
    from ..projections.proof.bundle import Proof
    from ..projections.proof.exported import ExportSigner
    from ..projections.proof.growth import Growth
    from ..projections.proof.notes import PublicKey
    from ..projections.proof.seals import Seal, SealCheck, Witnessed
    from ..projections.proof.witness_list import Witness
    from ..projections.queries.diff import TaskChange
    from ..whatif.answer import WhatIf

Presence: TypeAlias = Literal["answers", "starting", "held", "absent"]
STARTING_FOR = 30.0
"""Seconds that a process which has taken the data folder may take to answer."""
COMING_FOR = 2.0
"""Seconds that a service may take to appear, as it may have been started on the line before."""
_STEP = 0.1
_DEFAULT = Path(DEFAULT_DATA)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The options that every command takes."""

    environment: "Environment"
    data: Path = _DEFAULT
    url: str = ""
    token: str = ""
    token_file: Path | None = None
    """The file that holds the token, if the token itself was not given."""
    as_json: bool = False
    wide: bool = False
    config: Path | None = None

    def refuse_unusable(self) -> None:
        """Raise `InvalidPath` if the data folder cannot hold a log, is closed to this user, or is a stranger's."""
        if not self.url:
            from ..paths import DataPaths

            paths = DataPaths(self.data)
            paths.refuse_unusable()
            if self.data is _DEFAULT:  # an equal path may have been named
                paths.refuse_foreign()

    @contextmanager
    def tasks(self) -> Iterator["Tasks"]:
        """Open the running service; wait for one that is just starting. Raises `ServiceUnreachable`."""
        self._wait_for_service(COMING_FOR)
        with closing(self.environment.service(self)) as tasks:
            yield tasks

    @contextmanager
    def reading(self) -> Iterator["Reading"]:
        """Open the running service, or the files if none runs on the data folder."""
        with self.reading_and_live() as (reading, _live):
            yield reading

    @contextmanager
    def reading_and_live(self) -> Iterator[tuple["Reading", bool]]:
        """Like `reading`; the second value is whether a service answers."""
        service = self.service_or_none()
        reading = service or self.environment.files(self)
        try:
            yield reading, service is not None
        finally:
            close = getattr(reading, "close", None)
            if close is not None:
                close()

    def await_start(self) -> None:
        """Wait for a service that has taken the data folder and does not answer yet."""
        if self._presence_after_start(0.0) == "starting":
            raise self._never_answered()

    def is_worked_on(self) -> bool:
        """Whether some process works on the tasks of the data folder. Waits a little for one that was just started."""
        from ..events.log.lock import role
        from ..paths import DataPaths

        if self.is_log_shared():
            return False
        presence = self._presence_after_start(COMING_FOR)
        return presence != "absent" and role(DataPaths(self.data).lock) != "standby"

    def is_log_shared(self) -> bool:
        """Whether a service on another machine may have the log that is read here."""
        from ..events.log.address import is_address
        from ..paths import DataPaths

        return bool(self.url) or is_address(DataPaths(self.data).log)

    def batch_without_tasks(self, wanted: "NewBatch", *, detached: bool) -> "MadeBatch | None":
        """Return the answer to a batch that makes no task (a dry run, or a first one); None if it has to be sent.

        No log is begun for it, and nothing is recorded. Raises the batch's refusal. If it is `detached` and no service
        runs, raises `click.UsageError`.
        """
        self._wait_for_service(0.0)
        service = self.service_or_none()
        if service is not None:
            service.close()
            return None
        if detached:
            raise click.UsageError("--detach needs a service that goes on: start `tasktrail serve`.")
        if wanted.held and not wanted.dry_run:
            from ..events.errors import CannotStartNow

            raise CannotStartNow(
                "No service runs, so `batch` works until its tasks have ended, and held tasks would never begin",
                field="held",
                remedy="Start `tasktrail serve`; then `tasktrail start` releases them.",
            )
        answer = self.environment.batch_without_log(self, wanted)
        return self.environment.plan_batch(self, wanted) if answer is None and wanted.dry_run else answer

    @contextmanager
    def tasks_or_embedded(
        self, first: "CreateTask | None" = None, *, begins: bool = True, coming: float = 0.0
    ) -> Iterator[tuple["Tasks", "TaskService | None"]]:
        """Open the running service, or a service inside this process, which is then also the second value.

        Args:
            first: the first command. If it is refused and there is no log, none is begun for it.
            begins: whether the inner service may begin a log; if not, `InvalidPath` is raised without one.
            coming: seconds to wait for a service to appear.
        """
        self._wait_for_service(coming)
        service = self.service_or_none()
        if service is None and (first is not None or not begins):
            self.environment.refuse_without_log(self, first)
        inside = self.environment.embedded(self) if service is None else None
        tasks = service or inside
        assert tasks is not None
        with closing(tasks):
            yield tasks, inside

    @contextmanager
    def tasks_or_log(self) -> Iterator["Tasks"]:
        """Open the running service, or the log, without starting a task. Raises `InvalidPath` without a log."""
        with self.tasks_or_embedded(begins=False, coming=COMING_FOR) as (tasks, _inside):
            yield tasks

    def _wait_for_service(self, coming: float) -> None:
        """Wait until a service answers, or none will. `coming`: seconds for one to appear.

        Raises `ServiceUnreachable` if one never answers, or if a program that takes no commands has the data folder.
        """
        match self._presence_after_start(coming):
            case "held":
                from ..paths import DataPaths

                raise DataPaths(self.data).no_service()
            case "starting":
                raise self._never_answered()

    def _presence_after_start(self, coming: float) -> Presence:
        """What there is once a start is over or takes too long. `coming`: seconds for a service to appear."""
        if self.url:
            return "answers"
        waited, announced = 0.0, False
        while (presence := self.environment.presence(self)) in {"starting", "absent"}:
            if waited >= (STARTING_FOR if presence == "starting" else coming):
                break
            if presence == "starting" and not announced and not self.as_json:
                say(f"a service is starting on {self.data.absolute()}; waiting for it", err=True)
                announced = True
            self.environment.pause(_STEP)
            waited += _STEP
        return presence

    def _never_answered(self) -> "TasktrailError":
        from ..events.errors import ServiceUnreachable

        return ServiceUnreachable(
            f"A process holds {self.data.absolute()} and does not answer",
            remedy="Wait until `tasktrail serve` says ready, or until a `tasktrail run` there has ended.",
        )

    def files_only(self, command: str) -> None:
        """Refuse `--url`: the command works on the files of a data folder, and would take the wrong one."""
        if self.url:
            raise click.UsageError(f"{command} works on a data folder (--data), not through --url or TASKTRAIL_URL.")

    def service_or_none(self) -> "Tasks | None":
        """Return the running service, if there is one. A service named by `--url` has to answer."""
        from ..events.errors import ServiceUnreachable

        try:
            return self.environment.service(self)
        except ServiceUnreachable:
            if self.url:
                raise
            return None

    def layout(self, as_of: int | datetime | None = None) -> TerminalLayout:
        """Return how tables and times are printed on standard output, for now or for an earlier moment."""
        now = as_of if isinstance(as_of, datetime) else self.environment.now()
        return TerminalLayout.on_stdout(now, wide=self.wide, dated=as_of is not None)

    def load_config(self) -> "Config":
        """Load the configuration of the data folder, or of `--config`."""
        from ..config.load import load_config

        return load_config(self.data, file=self.config)


class Sealing(NamedTuple):
    """A seal, and the answers of the witnesses."""

    seal: "Seal"
    key: "PublicKey"
    asked: "list[WitnessResult]"
    unasked: "TasktrailError | None"
    """Why no witness, or no further one, could be asked."""


class Environment:
    """Everything that a command needs from outside: the service, the files, the clock. Tests replace it."""

    _warned = False
    """Whether this command has said that the token goes unencrypted."""

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)

    def ask(self, question: str) -> bool | None:
        """Return the answer to a yes-or-no question, or None when there is no terminal to ask on."""
        return click.confirm(question, err=True) if sys.stdin.isatty() and sys.stderr.isatty() else None

    def login_address(self, session: Session) -> str:
        """Return an address of the running service that logs a browser in. Raises `ServiceUnreachable`."""
        from ..api.client import Client

        with session.tasks() as tasks:
            assert isinstance(tasks, Client)
            return tasks.login_address()

    def browse(self, address: str) -> bool:
        """Open the address in a browser. Returns whether there is one."""
        import webbrowser

        return webbrowser.open(address)

    def presence(self, session: Session) -> Presence:
        """Whether a service answers on the data folder, is starting, or whether something else holds it."""
        import socket

        from ..events.existence import exists
        from ..events.log.lock import holder, role
        from ..paths import NO_SOCKET, DataPaths, UnixName

        paths = DataPaths(session.data)
        if exists(paths.socket):
            with UnixName(paths.socket) as name, socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.connect(name.text)
                return "answers"
        if holder(paths.lock) in (None, os.getpid()):
            return "absent"
        return "held" if role(paths.lock) in NO_SOCKET else "starting"

    def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def service(self, session: Session) -> "Tasks":
        """Return a client of the running service. Raises `ServiceUnreachable`."""
        from ..events.existence import exists
        from ..paths import DataPaths

        # Checked before the client is loaded, which would take most of the time of a reading command.
        if not session.url and not exists(DataPaths(session.data).socket):
            raise DataPaths(session.data).no_service()
        from ..api.client import Client

        if not session.url:
            return Client.connect(session.data)
        from ..api.wire import UnencryptedTokenWarning, token_in

        token = token_in(session.token_file) if session.token_file else session.token
        with warnings.catch_warnings(record=True, action="always", category=UnencryptedTokenWarning) as caught:
            client = Client(session.url, token=token)
        unencrypted = [one.message for one in caught if one.category is UnencryptedTokenWarning]
        if unencrypted and not self._warned:
            self._warned = True
            say(f"tasktrail: {unencrypted[0]}", err=True, hang="  ")
        return client

    def files(self, session: Session) -> "Reading":
        """Return a reader of the log and the views."""
        return self._reader(session)

    def _reader(self, session: Session) -> "Reader":
        from ..api.reader import Reader
        from .progress import counting

        return Reader(
            session.data,
            load=lambda: _registry(session),
            config=session.load_config,
            folding=partial(counting, "reading the log"),
            built_anew=_say_built_anew,
        )

    def types(self, session: Session) -> tuple[list["TypeInfo"], list["TasktrailError"]]:
        """Return the task types, and the errors of handlers that could not be loaded. Needs no data folder."""
        service = session.service_or_none()
        if service is not None:
            with closing(service):
                return service.types(), []
        from ..api.reader import type_infos  # slow: after each Tab a service would be asked that much later

        registry = _registry(session)
        return type_infos(registry), list(registry.errors)

    def verify(self, session: Session, progress: "ReportProgress", seals: "SealCheck | None" = None) -> "Verification":
        """Check the files, or have the service of `--url` check its own."""
        if session.url:
            with session.tasks() as tasks:
                return tasks.verify()
        from ..api.source import check_folder
        from ..events.log.opening import read_log

        # No `Reader`: it would first bring the views up to date, and fail at the very faults that are to be found.
        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            return check_folder(log, paths, progress, seals)

    def changes(self, session: Session, begin: int | datetime, end: int | datetime | None) -> "Iterator[TaskChange]":
        """Yield the tasks that changed between two points. Reads the file, service or not, or asks `--url`."""
        from ..events.errors import ChangedMeanwhile
        from ..events.log.opening import read_log
        from ..projections.queries.as_of import refuse_future
        from ..projections.queries.diff import changes
        from ..projections.queries.filters import MAX_LIMIT

        if session.url:
            yielded, total = 0, 1
            with session.tasks() as tasks:
                while yielded < total:
                    found = tasks.diff(begin, end, limit=MAX_LIMIT, offset=yielded)
                    if yielded and found.total != total:  # tasks have moved to other pages
                        raise ChangedMeanwhile("Some of these tasks were forgotten while they were written")
                    yield from found.changes
                    yielded, total = yielded + len(found.changes), found.total
                    end = found.to_position  # all are of the same two moments
            return
        for point, field in ((begin, "from"), (end, "to")):
            if point is not None:
                refuse_future(point, datetime.now(UTC), field)
        with closing(read_log(_with_log(session).log)) as log:
            yield from changes(log, begin, end)

    def seal(self, session: Session) -> Sealing:
        """Seal the log, and have the witnesses sign. Reads the file, whether a service runs or not."""
        from ..actors.witnesses import ask_witnesses
        from ..events.errors import LogUnreachable
        from ..events.log.opening import read_log
        from ..paths import give_to_owner
        from ..projections.errors import WitnessesDamaged
        from ..projections.proof.seals import make_seal
        from ..projections.proof.witness_list import read_witnesses

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            seal, key = make_seal(log, _seals(session, paths), paths.seal_key, self.now())
            give_to_owner(paths)
            asked: list[WitnessResult] = []
            unasked: TasktrailError | None = None
            try:
                for one in ask_witnesses(log, seal, key, read_witnesses(paths.witnesses), again=True):
                    asked.append(one)  # noqa: PERF402 - those before an error stay
            except (WitnessesDamaged, LogUnreachable) as error:  # the seal is made nevertheless
                unasked = error
        give_to_owner(paths)
        return Sealing(seal, key, asked, unasked)

    def add_witness(self, session: Session, witness: "Witness") -> None:
        """Ask the witness for its signature from the next seal on, whether a service runs or not."""
        from ..paths import give_to_owner
        from ..projections.proof.witness_list import add_witness

        paths = _with_log(session)
        add_witness(paths.witnesses, witness)
        give_to_owner(paths)

    def remove_witnesses(self, session: Session, name_or_url: str) -> "tuple[Witness, ...]":
        """Stop asking the witness of this name, or those at this address. Returns the witnesses removed."""
        from ..paths import give_to_owner
        from ..projections.proof.witness_list import remove_witnesses

        paths = _with_log(session)
        removed = remove_witnesses(paths.witnesses, name_or_url)
        give_to_owner(paths)
        return removed

    def witnesses(self, session: Session) -> "list[tuple[Witness, Witnessed]]":
        """Return the witnesses that are asked to sign seals, and how far each has signed, by the newest seals."""
        from ..events.existence import exists
        from ..projections.proof.notes import WitnessKey
        from ..projections.proof.seals import Witnessed, last_signed, public_key, seal_files
        from ..projections.proof.witness_list import read_witnesses

        paths = _with_log(session)
        folder = _seals(session, paths)
        key = public_key(folder) if exists(folder) and seal_files(folder) else None
        return [
            (one, last_signed(folder, key, WitnessKey(one.key)) if key else Witnessed(witness=one.name))
            for one in read_witnesses(paths.witnesses)
        ]

    def stamp(self, seal: "Seal", authority: str) -> "SealStamp":
        """Have a time authority stamp the seal, unless it has a stamp. Raises `NoStamp`."""
        require_stamps()
        from ..actors.stamping import have_stamped

        return have_stamped(seal, authority)

    def prove(self, session: Session, task_id: int, seals: Path | None, key: "PublicKey | None") -> "Proof":
        """Return the proof of a task's history. Reads the files, whether a service runs or not."""
        from ..events.log.opening import read_log
        from ..projections.proof.bundle import prove

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            return prove(log, seals or _seals(session, paths), task_id, key)

    def prove_growth(
        self, session: Session, old: str, new: str | None, seals: Path | None, key: "PublicKey | None"
    ) -> "Growth":
        """Return the proof that the log has grown from one seal to another. Reads the files, service or not."""
        from ..events.log.opening import read_log
        from ..projections.proof.growth import prove_growth

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            return prove_growth(log, seals or _seals(session, paths), old, new, key)

    def tiles(self, session: Session, out: Path, progress: "ReportProgress") -> "WrittenTiles":
        """Write the tree over the records. Reads the files, whether a service runs or not."""
        from ..events.log.opening import read_log
        from ..exports.tiles import write_tiles

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            return write_tiles(log, _seals(session, paths), out, progress)

    def provenance(self, session: Session, made: int | Path) -> dict[str, Any]:
        """Return a signed statement of how a task's output, or a file, was made. Reads the files, service or not.

        The service of `--url` can be asked only by the task's number.
        """
        if session.url:
            if isinstance(made, Path):
                raise click.UsageError(
                    "Through --url or TASKTRAIL_URL a task is named by its number, not by a file: "
                    f"`tasktrail list --search {shlex.quote(made.name)}` shows the tasks with that name."
                )
            with session.tasks() as tasks:
                return tasks.provenance(made)
        from ..events.log.keys import Keys
        from ..events.log.opening import read_log
        from ..paths import give_to_owner
        from ..projections.proof.provenance import Makers, makers_of, provenance
        from ..projections.proof.seals import private_key

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log, closing(Keys(paths.log)) as keys:
            task_id, others = Makers(made, ()) if isinstance(made, int) else makers_of(log, made, keys)
            seals = _seals(session, paths)
            found = provenance(log, task_id, seals, partial(private_key, paths.seal_key, seals=seals), others)
        give_to_owner(paths)
        return found

    @contextmanager
    def export_signer(self, session: Session) -> "Iterator[ExportSigner]":
        """Open a signer of exports. Reads the files, whether a service runs or not."""
        from ..events.log.opening import read_log
        from ..projections.proof.exported import ExportSigner

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            yield ExportSigner(log, _seals(session, paths), paths.seal_key)

    def whatif(self, session: Session, question: dict[str, Any], progress: "ReportProgress") -> "WhatIf":
        """Replay the log. Reads the file, whether a service runs or not."""
        from ..events.log.opening import read_log
        from ..whatif.ask import what_if

        paths = _with_log(session)
        with closing(read_log(paths.log)) as log:
            total = log.head().position
            return what_if(log.read(), session.load_config(), progress=progress, total=total, **question)

    def rebuild(self, session: Session, progress: "ReportProgress") -> "Rebuilt":
        """Build the views anew, or have the running service do it, and return the differences.

        Raises `DataInUse` if the folder is held by a program that no command can reach.
        """
        from ..api.source import rebuild_beside
        from ..backups.evidence import refuse_older_log
        from ..events.log.lock import DataLock
        from ..events.log.opening import read_log
        from ..paths import give_to_owner
        from ..projections.rebuilding import put_in_place

        service = session.service_or_none()
        if service is not None:
            with closing(service):
                return service.rebuild(progress)
        paths = _with_log(session)
        refuse_older_log(paths)  # the views may be the only evidence of records that the log lacks
        with DataLock(paths.lock, "rebuild"), closing(read_log(paths.log)) as log:
            built = rebuild_beside(log, paths, progress)
            put_in_place(log, paths.views)
            give_to_owner(paths)
            return built

    def back_up(self, session: Session, destination: Path, progress: "ReportProgress", **how: Any) -> "Backup":
        """Copy the log. Reads the file, whether a service runs or not."""
        from ..backups.backup import back_up

        return back_up(_with_log(session).data, destination, progress, **how)

    def erasable(self, session: Session, user_id: int) -> "Erasable":
        """Return how much an erasure of a user would erase, from the service or, without one, from the files."""
        from ..events.log.opening import read_log

        service = session.service_or_none()
        if service is not None:
            with closing(service):
                return service.erasable(user_id)
        with closing(read_log(_with_log(session).log)) as log:
            return log.erasable(user_id)

    def forgettable(self, session: Session, older_than: float, **narrowed: Any) -> "Forgotten":
        """Return how much `forget` would forget, from the service or, without one, from the files."""
        from ..projections.queries.filters import TaskFilters
        from ..projections.queries.forgettable import count_forgettable, rule_of

        service = session.service_or_none()
        if service is not None:
            with closing(service):
                return service.forget(older_than, dry_run=True, **narrowed)
        _with_log(session)
        rule = rule_of(older_than, **narrowed)
        with self._reader(session) as reader:
            reader.check_types(TaskFilters(type=(rule.type,) if rule.type else ()))
            folders = [folder.source for folder in reader.sources()]

            def count(views: "TaskQueries") -> "Forgotten":
                with views.moment() as conn:
                    return count_forgettable(conn, rule, self.now(), folders)

            return reader.source.ask(count)

    def archivable(self, session: Session, before: int | datetime | None) -> "Archived":
        """Return how much `archive` would archive, from the service or, without one, from the files."""
        from ..actors.archiver import Archiver, archivable, refuse_database
        from ..projections.queries.filters import TaskFilters
        from .parameters import OPEN

        service = session.service_or_none()
        if service is not None:
            with closing(service):
                return service.archive(before, dry_run=True)
        refuse_database(_with_log(session).log)
        with self._reader(session) as reader:
            oldest = TaskFilters(status=OPEN, sort="id", limit=1)
            tasks, _total = reader.list_tasks(oldest)
            return archivable(reader.source.log(), before, tasks[0].id if tasks else 0, Archiver.size)

    def restore(self, session: Session, source: Path, progress: "ReportProgress", **how: Any) -> "Restored":
        """Put a backup in place. Raises `DataInUse` when a service runs."""
        from ..backups.restore import restore

        temp = session.load_config().temp_dir
        return restore(source, session.data, temp_dir=Path(temp) if temp else None, progress=progress, **how)

    def refuse_without_log(self, session: Session, first: "CreateTask | None") -> None:
        """If there is no log yet, raise the first task's refusal, if any; without a first task, `InvalidPath`."""
        if first is None:
            if self._has_no_log(session):
                _with_log(session)
        elif self._has_no_log(session):
            from ..events.context import DecisionContext
            from ..events.decide import decide

            intake = self._intake(session)
            intake.examine(intake.normalized(intake.as_sent(first)))
            decide(None, first, DecisionContext(now=self.now()))  # as if there were no other task

    def batch_without_log(self, session: Session, wanted: "NewBatch") -> "MadeBatch | None":
        """Return the answer to a batch if there is no log and it makes no task, else None. Raises its refusal."""
        if not self._has_no_log(session):
            return None
        from ..batches.planner import EarlierTasks

        nothing = EarlierTasks(
            writers=lambda _outputs: {},
            makers=lambda _outputs: {},
            origins=lambda _outputs: {},
            readers=lambda _batch, _inputs: {},
            taken=lambda _outputs: {},
        )
        plan = self._plan(session, wanted, nothing)
        return plan.answer if wanted.dry_run or plan.graph is None else None

    def plan_batch(self, session: Session, wanted: "NewBatch") -> "MadeBatch":
        """Return what a batch would create if no service runs, by the files of a log. Raises its refusal."""
        from ..api.service import earlier_tasks

        with self._reader(session) as reader:
            return self._plan(session, wanted, earlier_tasks(reader.source)).answer

    def _plan(self, session: Session, wanted: "NewBatch", past: "EarlierTasks") -> "Plan":
        from ..batches.planner import BatchPlanner

        return BatchPlanner(self._intake(session), past).plan(wanted, self.now())

    def _has_no_log(self, session: Session) -> bool:
        from ..events.log.opening import has_no_log
        from ..paths import DataPaths

        return not session.load_config().log and has_no_log(DataPaths(session.data).log)

    def _intake(self, session: Session) -> "CommandIntake":
        """Return the intake for commands before there is a log, and so without any tasks."""
        from ..actors.core.resources import MachineSample, why_it_never_fits
        from ..actors.machine import Machine, disk_size
        from ..intake.examination import configured_intake
        from ..paths import DataPaths

        config = session.load_config()
        paths = DataPaths(session.data, Path(config.temp_dir) if config.temp_dir else None)
        limits = config.limits(disk_size(paths.temp))
        there = MachineSample() if config.executor == "ray" else Machine(paths.temp).sample()
        return configured_intake(
            config,
            paths,
            _registry(session),
            has_tasks=lambda _type: False,
            why_never=lambda memory, temp: why_it_never_fits(memory, temp, limits, there),
        )

    def embedded(self, session: Session) -> "TaskService":
        """Open a service inside this process, which runs only this command's own tasks."""
        from ..api.service import TaskService
        from ..events.log.lock import announce, withdraw
        from ..log_setup import set_up_logging
        from ..paths import DataPaths

        config, lock = session.load_config(), DataPaths(session.data).lock
        made = announce(lock, "run")
        try:
            set_up_logging("warning", config.log_format)
            return TaskService.open(session.data, config=config, own_only=True)
        except Exception:
            withdraw(lock, made)
            raise


def _say_built_anew(why: str) -> None:
    say(f"tasktrail: the views have been built anew from the log: {plain(why)}", err=True, hang="  ")


def _registry(session: Session) -> "Registry":
    """Load the task types that the configuration names."""
    from ..handlers.registry import Registry

    config = session.load_config()
    return Registry.load(config.handlers, presets=config.presets)


def _seals(session: Session, paths: "DataPaths") -> Path:
    """Return the folder for seals."""
    return Path(session.load_config().seals_dir or paths.seals)


def require_stamps() -> None:
    """Raise `ConfigurationError` if the extra is not installed."""
    from importlib.util import find_spec

    from ..events.errors import ConfigurationError

    if find_spec("rfc3161_client") is None:
        raise ConfigurationError(
            "Stamps of a time authority need the package rfc3161-client, which is not installed",
            remedy="Install tasktrail[tsa].",
        )


def _with_log(session: Session) -> "DataPaths":
    """The files of the data folder. Raises as `need_log` does where there is no log in it."""
    from ..backups.evidence import need_log
    from ..events.log.opening import has_no_log
    from ..paths import DataPaths

    paths = DataPaths(session.data)
    if has_no_log(paths.log):  # only then is the configuration needed
        need_log(paths, session.load_config().log)
    return paths


GIVEN, TOKEN = "tasktrail.given", "tasktrail.token"


def session_of(ctx: click.Context) -> Session:
    """Return the session, from the options before and after the command's name; the later one wins."""
    given = dict(ctx.meta.get(GIVEN, {}))
    as_json = bool(given.pop("json", False))
    tokens: dict[tuple[bool, str], Any] = given.pop(TOKEN, {})
    if tokens:  # the command line comes first, and a token before a file
        first = max(tokens, key=lambda kind: (kind[0], kind[1] == "token"))
        given[first[1]] = tokens[first]
    return Session(environment=ctx.find_root().obj or Environment(), as_json=as_json, **given)
