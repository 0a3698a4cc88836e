"""`tasktrail serve`: run the service until a signal stops it."""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from ..events.counted import counted
from ..events.errors import (
    ConfigurationError,
    DataInUse,
    DataNotEmpty,
    HandlerFault,
    HistoryMissing,
    LogLocked,
    LogUnreachable,
    TasktrailError,
)
from .command import CliCommand, pass_session
from .failing import DONE, INTERRUPTED, REFUSED, exit_code, json_bytes
from .fields import default_actor, reason_and_actor
from .own_modules import hiding_python, importable
from .parameters import WholeParam
from .progress import Signals
from .session import Session
from .terminal import say

if TYPE_CHECKING:
    from ..actors.cluster.gateway_process import ConnectingGateway
    from ..api.served import Served
    from ..api.service import TaskService
    from ..config.settings import Config
    from ..http.server import HttpServer
    from ..paths import DataPaths


STOP_WITHIN = 20.0
"""Seconds for an orderly stop. What takes longer is left to recovery."""
_LOOK_EVERY = 0.5
_TURN_EVERY = 0.1
_AFTER_TROUBLE = 1.0
_SAYS_AFTER, _SAYS_EVERY = 2.0, 10.0
"""Seconds until a reader first reports how far it has folded the log, and between further reports."""
_DOES_NOT_RUN = "the service does not run"


@click.command(
    "serve",
    cls=CliCommand,
    examples=[
        ("tasktrail serve", "on ./tasktrail-data; other commands find it there"),
        ("tasktrail serve app.py --port 8080", "with the task types of this file, and the HTTP routes on a fixed port"),
        ("tasktrail serve --standby", "on a second machine: takes over when the service on the first is gone"),
        ("tasktrail serve --read-only", "on any machine: answers questions from the log, and changes nothing"),
    ],
)
@click.argument("handlers", nargs=-1, type=click.Path(), metavar="[FILE|MODULE]…")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Address to listen on; others than this machine need tokens and TLS. Default: key `host`",
)
@click.option(
    "--port",
    type=WholeParam(0, 65535),
    metavar="N",
    help="Its port; 0 takes any free one. Default: key `port`, 0",
)
@click.option(
    "--workers",
    type=WholeParam(1, 1024),
    metavar="N",
    help="Worker processes, so how many tasks run at once. Default: key `workers`, the number of CPUs",
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Go on although the log lacks records that it once had; needs --reason, and is recorded.",
)
@click.option(
    "--accept-lost-keys",
    is_flag=True,
    help="Cancel tasks, and remove schedules and sources, that are unreadable because their keys are "
    "gone; needs --reason, and is recorded.",
)
@click.option(
    "--standby",
    is_flag=True,
    help="Wait until no other service has the log, then take over; for a log on PostgreSQL.",
)
@click.option(
    "--read-only",
    is_flag=True,
    help="Answer questions from the log of a service elsewhere, and change nothing; for a log on PostgreSQL.",
)
@click.option("--strict", is_flag=True, help="Do not start when handlers cannot be loaded.")
@reason_and_actor
@pass_session
def serve_command(
    session: Session,
    handlers: tuple[str, ...],
    host: str | None,
    port: int | None,
    workers: int | None,
    reason: str | None,
    actor: str | None,
    *,
    accept_loss: bool,
    accept_lost_keys: bool,
    standby: bool,
    read_only: bool,
    strict: bool,
) -> int:
    """Run the service: it takes commands, runs tasks and recovers those that a crash has interrupted.

    FILE or MODULE has task types of your own, beside those of the key `handlers`: a file such as app.py, or the name of
    a module below the current folder. If it cannot be loaded, the service does not start.

    It listens on a socket in the data folder and on a port, for this machine only unless --host says otherwise. Once
    commands are accepted it prints `ready` with its addresses on standard error, and an address that logs a browser in:
    once, and within an hour. `tasktrail open` makes another. SIGTERM or Ctrl-C stops it cleanly, a second one at once.

    With --standby it follows the log of the active service, and takes over when that one is gone or hangs. Until then
    commands that read work on its data folder; it refuses all others.

    With --read-only it keeps views of the log in its data folder and answers all questions from them: a fraction of a
    second after the service has recorded something, and even while the database is away. Any number of such processes
    may run. Each refuses commands that change something, and says where the service is.

    SIGHUP makes it read its configuration again. It says which keys take effect at once, and which at the next start.
    So it goes on when its terminal is closed.

    Every user of this machine can reach the port. It answers only requests with a token, or with the secret in
    DATA/http-token.
    """
    accepted = {"--accept-loss": accept_loss, "--accept-lost-keys": accept_lost_keys}
    chosen = [option for option, is_chosen in accepted.items() if is_chosen]
    _refuse_contradictions(chosen, reason, standby=standby, read_only=read_only)
    from ..events.log.lock import announce, withdraw
    from ..handlers.process.sandbox import hide_process
    from ..paths import DataPaths

    hide_process()
    own = importable(handlers)

    def read_config() -> "Config":
        config = session.load_config()
        return replace(
            config,
            handlers=(*config.handlers, *own),
            host=config.host if host is None else host,
            port=config.port if port is None else port,
            workers=config.workers if workers is None else workers,
        )

    config = read_config()
    paths = DataPaths(session.data)
    made = announce(paths.lock, "serve")  # before the rest is loaded: other commands may be waiting already
    connecting = None if standby or read_only else _connecting(config, paths)
    from ..api.service import TaskService
    from ..events.log.opening import has_no_log
    from ..http.network import Network
    from ..http.server import NO_TOKENS, HttpServer, listen_tcp
    from ..log_setup import log_what_is_printed, set_up_logging

    set_up_logging(config.log_level, config.log_format)
    if config.log_format == "json":
        log_what_is_printed()
    for path in hiding_python() if own else ():
        _log().warning("rename this file: workers import it in place of Python's own module", path=str(path))
    reporter = Announcer(as_json=session.as_json, lines=config.log_format == "json")
    try:
        if strict:
            refuse_broken_handlers(config.handlers)
        if own:
            refuse_broken_handlers(config.handlers, named=own)
        if not config.log and has_no_log(paths.log):
            listen_tcp(config.host, config.port, NO_TOKENS).close()
        service: Served | None
        if read_only:
            service = _following(session.data, config, reporter)
        else:
            service = _opened(
                lambda: TaskService.open(
                    session.data,
                    config=config,
                    accept_loss=reason or "" if accept_loss else "",
                    accept_lost_keys=reason or "" if accept_lost_keys else "",
                    actor=actor or default_actor(),
                    connecting=connecting,
                ),
                (lambda: _has_turn(session.data, config, reporter)) if standby else None,
                reporter,
            )
        if service is None:
            return DONE
        with closing(service):
            server = HttpServer(
                service,
                socket_path=service.paths.socket,
                host=config.host,
                port=config.port,
                secret_file=service.paths.http_token,
                session_file=service.paths.http_sessions,
                network=Network.of(config),
            )
            return _serve(service, server, reporter, read_config)
    except Exception as error:
        withdraw(paths.lock, made)
        if not reporter.lines:
            raise  # the command line prints it
        return reporter.complain(error)
    finally:
        if connecting is not None:
            connecting.close()


def _connecting(config: "Config", paths: "DataPaths") -> "ConnectingGateway | None":
    """Start the process that reaches the cluster, first: it takes as long as all the rest, and attempts may wait."""
    if config.executor != "ray" or not config.ray_address or find_spec("ray") is None:
        return None  # the service reports what is wrong with that
    from ..actors.cluster.gateway_process import ConnectingGateway

    try:
        return ConnectingGateway(config.ray_address, paths.workers_lock)
    except OSError:  # no folder, no process: the service reports it, too
        return None


def _refuse_contradictions(accepted: list[str], reason: str | None, *, standby: bool, read_only: bool) -> None:
    """Raise `UsageError` for options that contradict each other. `accepted`: the options that accept a loss."""
    if accepted and not (reason or "").strip():
        raise click.UsageError(f"{accepted[0]} needs a --reason: it is recorded with it.")
    others = [*accepted, *(["--standby"] if standby else [])]
    if read_only and others:
        raise click.UsageError(f"--read-only does not go with {others[0]}: it never takes the log.")


def _opened(
    open_service: "Callable[[], TaskService]", has_turn: Callable[[], bool] | None, reporter: "Announcer"
) -> "TaskService | None":
    """Open the service, for a standby once it has its turn; None if a signal has ended the wait.

    When it is a standby's turn, the database has just changed hands. Passing faults do not end the wait: another
    standby was quicker, its own following thread still holds the folder, the server does not answer, old sessions hold
    locks.
    """
    if has_turn is None:
        return open_service()
    had_turn, last_message = False, ""
    while True:
        try:
            if not has_turn():
                return None
            had_turn = True
            return open_service()
        except (DataInUse, LogUnreachable, LogLocked) as error:
            if not had_turn:  # the fault was there from the start
                raise
            if error.message != last_message:
                last_message = error.message
                reporter.say("info", f"the standby cannot take over now, and tries again: {last_message}")
        with Signals() as signals:
            if signals.next(_AFTER_TROUBLE) is not None:
                return None


def _has_turn(data: Path, config: "Config", reporter: "Announcer") -> bool:
    """Wait until no service has the log; false when a signal came first."""
    from ..following.standby import Standby
    from ..paths import DataPaths

    paths = DataPaths(data, Path(config.temp_dir) if config.temp_dir else None, config.log)
    with closing(Standby(paths, config)) as standby, Signals() as signals:
        if standby.may_take_over():
            return signals.next() is None  # one may have come during the check
        standby.start()
        status = "standby: waits until no other service has the log"
        _tell_systemd("READY=1", f"STATUS={status}")
        reporter.say("info", status, status)
        while signals.next(_TURN_EVERY) is None:
            if standby.may_take_over():
                if signals.next() is not None:
                    return False
                reporter.say("info", "taking over the log", "taking over the log")
                return True
    return False


def _following(data: Path, config: "Config", reporter: "Announcer") -> "Served | None":
    """Open a reader, and wait until it has the whole log; None if a signal has ended the wait."""
    from ..api.read_only import ReadOnlyService

    service = ReadOnlyService.open(data, config)
    last_message, next_line = "", time.monotonic() + _SAYS_AFTER
    try:
        with Signals() as signals:
            while not service.caught_up(0):
                if signals.next(_TURN_EVERY) is not None:
                    service.close()
                    return None
                trouble = service.trouble
                if isinstance(trouble, HistoryMissing | ConfigurationError | DataNotEmpty):
                    raise trouble  # waiting helps none of these
                if trouble is not None and str(trouble) != last_message:
                    last_message = str(trouble)
                    _tell_systemd(f"STATUS=waits for the log: {last_message}")
                    reporter.say("error", f"the reader waits for the log: {last_message}")
                elif trouble is None and time.monotonic() >= next_line:
                    last_message, next_line = "", time.monotonic() + _SAYS_EVERY
                    _tell_systemd(f"STATUS={service.progress}")
                    reporter.say("info", f"the reader {service.progress}")
    except BaseException:
        service.close()
        raise
    return service


def refuse_broken_handlers(modules: Sequence[str], *, named: Sequence[str] = ()) -> None:
    """Raise `ConfigurationError` for a module that cannot be loaded, before anything starts.

    `named`: files and modules that the command names. If there are any, only their faults count; that a type of theirs
    has a name which is taken is one.
    """
    from ..handlers.registry import Registry

    registry = Registry.load(modules)
    if named:
        registry.errors.clear()
    for module in named:
        try:
            registry.add_home(module)
        except HandlerFault as error:
            registry.errors.append(error)
    if errors := registry.errors:
        without = "take it out of `handlers`; without --strict the service starts without it."
        correct = "Correct the module"
        if any(isinstance(error.__cause__, ModuleNotFoundError) for error in errors):
            correct = f"Install what is missing where tasktrail is ({sys.prefix}), correct the module"
        elif len({error.advice for error in errors}) == 1 and errors[0].__cause__ is None:  # it was loaded
            correct = errors[0].advice.removesuffix(".")
        raise ConfigurationError(
            "; ".join(error.message for error in errors),
            field="handlers",
            remedy=f"{correct}, or {'leave it out.' if named else without}",
        )


def _serve(service: "Served", server: "HttpServer", reporter: "Announcer", read_config: Callable[[], "Config"]) -> int:
    with Signals(signal.SIGHUP) as signals:
        service.watch_end(signals.wake)
        server.start()
        announced = _announce(service, server, reporter)
        gc.freeze()  # the objects made at the start stay, so the garbage collector need not search them each time
        while service.fatal is None:
            number = signals.next(None if announced else _LOOK_EVERY)
            if number not in (None, signal.SIGHUP):
                break
            if number == signal.SIGHUP:
                _reload(service, reporter, read_config)
            if not announced and service.ready:
                announced = _announce(service, server, reporter)
        _stop(service, server, signals, reporter)
    if service.fatal is not None:
        reporter.say("error", f"the service cannot go on: {service.fatal}")
        return REFUSED
    return DONE


def _reload(service: "Served", reporter: "Announcer", read_config: Callable[[], "Config"]) -> None:
    """Read the configuration again. One that cannot be used changes nothing."""
    _tell_reloading()
    try:
        reloaded = service.reload(read_config())
    except TasktrailError as error:
        reporter.say("error", f"the configuration stays as it was: {error}", field=getattr(error, "field", ""))
    else:
        taken, waiting = ", ".join(reloaded.taken), ", ".join(reloaded.waiting)
        text = f"the configuration was read again: {taken or 'nothing'} changed"
        later = f"; the next start takes {waiting}" if waiting else ""
        reporter.say("info", text + later, taken=reloaded.taken, waiting=reloaded.waiting)
    _tell_systemd("READY=1")


def _may_show_secrets() -> bool:
    """Whether only the user who started this reads standard error. systemd sets this variable if its journal does."""
    return sys.stderr.isatty() or not os.environ.get("JOURNAL_STREAM")


class Announcer:
    """Reports the service's state on standard error: for people, or as lines of the log if these are JSON."""

    def __init__(self, *, as_json: bool, lines: bool) -> None:
        self._as_json = as_json
        self.lines = lines

    def say(self, level: str, text: str, plain: str | None = None, **fields: Any) -> None:
        """Write one line. `plain`: its text for people, if that is not `text` after our name."""
        if self.lines:
            getattr(_log(), level)(text, **fields)
        else:
            _say(plain or f"tasktrail: {text}")

    def ready(self, address: str, socket: str, login: Callable[[], str], takes: str) -> None:
        """Report that commands are accepted, or what else it `takes`.

        `login`: makes an address that logs a browser in as the owner. It is not written to the journal of systemd,
        which others may read.
        """
        _tell_systemd("READY=1", f"STATUS={takes} at {address}")
        fields = {"address": address, "socket": socket}
        if self.lines:
            self.say("info", "ready", ready=True, **fields)
        elif self._as_json:
            _say(json_bytes({"ready": True, **fields} | ({"open": login()} if _may_show_secrets() else {})))
        else:
            _say(f"ready {address} {socket}")
            if _may_show_secrets():
                _say(f"open {login()}")

    def complain(self, error: Exception) -> int:
        """Log that the service did not start, or failed. Returns the exit code."""
        if isinstance(error, TasktrailError):
            fields = {"error": error.message, "code": error.code, "field": error.field, "remedy": error.advice}
            self.say("error", _DOES_NOT_RUN, **fields)
            return exit_code(error)
        self.say("error", _DOES_NOT_RUN, error=f"{type(error).__name__}: {error}", code="unexpected")
        return REFUSED


def _log() -> Any:
    from ..actors.logger import get_logger

    return get_logger()


def _say(text: str | bytes) -> None:
    """Print a line on standard error. Errors of writing are ignored, as when it goes to a file on a full disk."""
    with suppress(OSError):
        say(text, err=True) if isinstance(text, str) else click.echo(text, err=True)


def _announce(service: "Served", server: "HttpServer", reporter: Announcer) -> bool:
    """Report that commands are accepted, and the findings of the start. If they are not, say why and return False."""
    from ..intake.refusals import preset_faults

    socket = str(service.paths.socket)
    obstacle = service.obstacle
    if obstacle is not None:
        where = f"{server.address} {socket}"
        what = "commands are not accepted yet, questions are" if service.refusal is None else "answers may be old"
        reporter.say("error", f"{what} ({where}): {obstacle}")
        return False
    for error in service.handler_errors():
        _log().error("handlers cannot be loaded", error=error.message, remedy=error.advice)
    for error in preset_faults(service.source.registry):
        _log().error("a preset cannot be used", error=error.message, remedy=error.advice)
    recovery = service.recover_tasks()
    if recovery.interrupted:
        interrupted, resuming = len(recovery.interrupted), len(recovery.resuming)
        text = f"recovered {counted(interrupted, 'interrupted task')}; with a checkpoint to resume from: {resuming}"
        reporter.say("info", text, text, interrupted=interrupted, resuming=resuming)
    takes = "accepts commands" if service.refusal is None else "answers questions"
    reporter.ready(server.address, socket, server.login_address, takes)
    return True


_SAME_SIGNAL = 0.1
"""Seconds in which a second signal is the first one once more: `timeout` sends it to the process and to its group."""


def _stop(service: "Served", server: "HttpServer", signals: Signals, reporter: Announcer) -> None:
    """Stop in good order. A second signal, or the deadline, ends the process at once, like a crash."""
    _tell_systemd("STOPPING=1")
    reporter.say("info", "stopping", "stopping")

    failure: list[Exception] = []

    def in_order() -> None:
        try:
            server.stop()
            service.close()
        except Exception as error:  # noqa: BLE001 - raised below, by the main thread
            failure.append(error)

    stopping = threading.Thread(target=in_order, name="stop", daemon=True)
    stopping.start()
    began = time.monotonic()
    while stopping.is_alive() and time.monotonic() < began + STOP_WITHIN:
        again = signals.next(0.05) not in (None, signal.SIGHUP)  # sent with SIGTERM, or by a terminal that is closed
        if again and time.monotonic() > began + _SAME_SIGNAL:
            text = "stopping at once; what ran is recovered at the next start"
            reporter.say("warning", text, text)
            os._exit(INTERRUPTED)
    if stopping.is_alive():
        reporter.say("error", f"not stopped within {STOP_WITHIN:g} s; what ran is recovered at the next start")
        os._exit(REFUSED)
    for error in failure:
        raise error


# --- Messages to systemd, if a unit of `Type=notify` or `notify-reload` starts the service; see sd_notify(3) ---


def _tell_systemd(*lines: str) -> None:
    """Send lines such as `READY=1`. Without systemd nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        notify.sendall("\n".join(lines).encode())


def _tell_reloading() -> None:
    """Say that the configuration is being read again; `READY=1` ends it."""
    _tell_systemd("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
