"""`tasktrail serve`: the service, until it is told to stop."""

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..failing import DONE, INTERRUPTED, REFUSED, encode
from ..fields import me, who_and_why
from ..output import say
from ..session import Session
from ..signals import Signals
from ..words import Whole

if TYPE_CHECKING:
    from ...http.server import HttpServer
    from ...service import TaskService

STOP_WITHIN = 20.0
"""Seconds for a stop in good order; whatever holds it up longer is left to recovery."""
_LOOK_EVERY = 0.5


@click.command(
    "serve",
    cls=Command,
    examples=[
        ("tasktrail serve", "on ./tasktrail-data; other commands find it there"),
        ("tasktrail serve --data /srv/tasks --port 8080", "with the HTTP routes on a fixed port"),
    ],
)
@click.option("--host", metavar="ADDRESS", help="Loopback address to listen on. Default: key `host`, 127.0.0.1")
@click.option(
    "--port",
    type=Whole(0, 65535),
    metavar="N",
    help=(
        "Its port; 0 takes any free one. Only the service's own user and root get answers there, and whoever shows the "
        "secret in DATA/http-token. Default: key `port`, 0"
    ),
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Go on although the log lacks records that it once had; needs --reason, and is recorded.",
)
@who_and_why
@pass_session
def command(
    session: Session, host: str | None, port: int | None, reason: str | None, actor: str | None, *, accept_loss: bool
) -> int:
    """Run the service: it takes commands, runs tasks and recovers those that a crash has interrupted.

    It listens on a socket in the data folder and on a loopback port, and prints `ready` with its addresses on standard
    error once commands are accepted. SIGTERM or Ctrl-C stops it in good order, a second one at once.

    Everybody on this machine can reach the port. It answers the user that the service runs as, and root; others, and
    all where the system does not tell who connects, have to show the secret in DATA/http-token (--token).
    """
    from ...handlers.process.walls import hide_process
    from ...http.server import HttpServer
    from ...log_setup import set_up_logging
    from ...service import TaskService

    if accept_loss and not (reason or "").strip():
        raise click.UsageError("--accept-loss needs a --reason: it is recorded with it.")
    hide_process()
    config = session.load_config()
    set_up_logging(config.log_level, config.log_format)
    accepted = reason or "" if accept_loss else ""
    with TaskService.open(session.data, config=config, accept_loss=accepted, actor=actor or me()) as service:
        server = HttpServer(
            service,
            socket_path=service.paths.socket,
            host=config.host if host is None else host,
            port=config.port if port is None else port,
            token_file=service.paths.http_token,
        )
        with Signals() as signals:
            server.start()
            announced = _announce(session, service, server)
            while signals.next(_LOOK_EVERY) is None and service.fatal is None:
                if not announced and service.ready:
                    announced = _announce(session, service, server)
            _stop(service, server, signals)
    if service.fatal is not None:
        _say(f"tasktrail: the service cannot go on: {service.fatal}")
        return REFUSED
    return DONE


def _say(text: str | bytes) -> None:
    """A line on standard error; one that cannot be written (it goes to a file on a full disk, say) ends nothing."""
    with suppress(OSError):
        say(text, err=True) if isinstance(text, str) else click.echo(text, err=True)


def _announce(session: Session, service: "TaskService", server: "HttpServer") -> bool:
    """Say that commands are accepted, and what was found at the start; or why they are not yet, and answer `False`."""
    socket = str(service.paths.socket)
    obstacle = service.obstacle
    if obstacle is not None:
        _say(f"tasktrail: commands are not accepted yet, questions are ({server.address} {socket}): {obstacle}")
        return False
    for error in service.handler_errors():
        _say(f"tasktrail: {error}")
    recovery = service.recover_tasks()
    if recovery.interrupted:
        _say(f"recovered {len(recovery.interrupted)} interrupted tasks, {len(recovery.resuming)} of them resume")
    if session.as_json:
        _say(encode({"ready": True, "address": server.address, "socket": socket}))
    else:
        _say(f"ready {server.address} {socket}")
    return True


def _stop(service: "TaskService", server: "HttpServer", signals: Signals) -> None:
    """Stop in good order. A second signal, or the deadline, ends the process where it stands, as a crash would."""
    _say("stopping")

    failure: list[Exception] = []

    def in_order() -> None:
        try:
            server.stop()
            service.close()
        except Exception as error:  # noqa: BLE001 - told below, by the main thread
            failure.append(error)

    stopping = threading.Thread(target=in_order, name="stop", daemon=True)
    stopping.start()
    patience = STOP_WITHIN
    while stopping.is_alive() and patience > 0:
        if signals.next(0.05) is not None:
            _say("stopping at once; what ran is recovered at the next start")
            os._exit(INTERRUPTED)
        patience -= 0.05
    if stopping.is_alive():
        _say(f"tasktrail: not stopped within {STOP_WITHIN:g} s; what ran is recovered at the next start")
        os._exit(REFUSED)
    for error in failure:
        raise error
