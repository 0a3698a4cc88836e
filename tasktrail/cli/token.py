"""`tasktrail token add|list|revoke`: who may use the service at its port; and `open`: a browser that is logged in."""

from datetime import datetime
from typing import Any

import click

from ..events.commands import AddToken, RevokeToken
from .command import CliCommand, CliGroup, everywhere, pass_session
from .completion import SuggestedParam, token_names
from .fields import options_of, reason_and_actor
from .operate import actor_and_reason, send
from .parameters import as_of_note, as_of_option
from .session import Session
from .terminal import Column, TerminalLayout, plain, print_json, say

ROLES = ("reader", "submitter", "operator", "auditor", "admin")


@click.group("token", cls=CliGroup, params=everywhere(root=False))
def token_command() -> None:
    """Let others use the service at its port, each with a secret and a role of their own."""


@token_command.command(
    "add",
    cls=CliCommand,
    examples=[
        ("tasktrail token add ci --role submitter --expires +90d", "a program that sends tasks"),
        ("tasktrail token add ada --role operator --user 7", "a person who sees and changes the tasks of user 7"),
        ("tasktrail token add grafana --role reader > grafana.token", "only the secret is on standard output"),
    ],
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    required=True,
    help="What it may do. reader: look at everything; submitter: also send, start, cancel and retry tasks; operator: "
    "also change limits, pauses and schedules; auditor: look and verify; admin: everything.",
)
@options_of(AddToken, "user_id", "expires_at", flags={"user_id": "--user", "expires_at": "--expires"})
@reason_and_actor
@pass_session
def add_token(
    session: Session,
    name: str,
    role: Any,
    user_id: int | None,
    expires_at: datetime | None,
    reason: str | None,
    actor: str | None,
) -> None:
    """Add a token, and print its secret, which is shown only once and stored nowhere.

    The history will show NAME as the actor. The secret is made here; the service gets only its hash. Pass it on in a
    file (--token-file) or in the variable TASKTRAIL_TOKEN: others can see a command line.
    """
    with session.tasks() as tasks:
        secret = tasks.add_token(name, role, user_id=user_id, expires_at=expires_at, **actor_and_reason(reason, actor))
    if session.as_json:
        print_json({"token": name, "role": role, "user_id": user_id, "expires_at": expires_at, "secret": secret})
        return
    say(f"token {name} is added; its secret is shown this once:", err=True)
    click.echo(secret)


_TOKENS = (
    Column("NAME"),
    Column("ROLE"),
    Column("USER", leaves=3),
    Column("EXPIRES", leaves=4),
    Column("ADDED", leaves=2),
    Column("ADDED BY", leaves=5),
    Column("REASON", "text", leaves=6),
)


def _expiry(expires_at: datetime | None, layout: TerminalLayout) -> str:
    if expires_at is None:
        return "never"
    return layout.when(expires_at) if layout.dated or expires_at > layout.now else "expired"


@token_command.command(
    "list",
    cls=CliCommand,
    examples=[
        ("tasktrail token list", "all that are not revoked"),
        ("tasktrail token list --as-of -30d", "who had which role a month ago"),
    ],
)
@as_of_option
@pass_session
def list_tokens(session: Session, as_of: int | datetime | None) -> None:
    """List the tokens that are not revoked. Their secrets are stored nowhere."""
    with session.reading() as reading:
        boards = reading.tokens(as_of=as_of)
    if session.as_json:
        for board in boards:
            print_json(board)
        return
    if not boards and as_of is not None:
        click.echo("There was no token then.")
        return
    if not boards:
        say("There is no token. `tasktrail token add --help` tells how to add one.")
        return
    layout = session.layout(as_of)
    rows = [
        (
            board.token,
            board.role,
            "all" if board.user_id is None else str(board.user_id),
            _expiry(board.expires_at, layout),
            layout.when(board.added_at),
            plain(board.actor),
            plain(board.reason),
        )
        for board in boards
    ]
    layout.table(_TOKENS, rows)
    if as_of is not None:
        say(as_of_note(as_of))


@token_command.command(
    "revoke", cls=CliCommand, examples=[("tasktrail token revoke ci --reason 'was in a log'", "it ends at once")]
)
@click.argument("name", type=SuggestedParam("name", token_names))
@reason_and_actor
@pass_session
def revoke(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Revoke a token at once; sessions and streams that it has opened end."""
    send(session, RevokeToken, {"token": name, **actor_and_reason(reason, actor)})


@click.command(
    "open",
    cls=CliCommand,
    examples=[
        ("tasktrail open", "the page, in a browser that is logged in"),
        ("tasktrail open --print", "the address, for another browser; it works once, within an hour"),
    ],
)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@pass_session
def open_command(session: Session, *, only_print: bool) -> int:
    """Open the page of the running service in a browser, logged in."""
    address = session.environment.login_address(session)
    if session.as_json:
        print_json({"address": address})
    elif only_print or not session.environment.browse(address):
        click.echo(address)
    return 0
