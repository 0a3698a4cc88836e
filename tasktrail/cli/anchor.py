"""`tasktrail anchor tsa`: has a time authority confirm when a seal existed."""

import click

from .command import CliCommand, CliGroup, everywhere, pass_session
from .failing import complain
from .proof import print_seal, refuse_no_address
from .session import Session, require_stamps
from .terminal import plain, say


@click.group("anchor", cls=CliGroup, params=everywhere(root=False))
def anchor_command() -> None:
    """Have a time authority confirm, by its own clock, that the newest seal exists."""


@anchor_command.command(
    "tsa",
    cls=CliCommand,
    examples=[
        ("tasktrail anchor tsa https://freetsa.example/tsr", "e.g. once a day; public authorities want few requests"),
        ("tasktrail anchor tsa https://freetsa.example/tsr --json", "what was sealed, and when it was stamped"),
    ],
)
@click.argument("address", metavar="URL")
@pass_session
def tsa(session: Session, address: str) -> int:
    """Have the time authority at URL stamp the newest seal (RFC 3161).

    If the end of the log is not sealed yet, it is sealed first.

    A seal that has a stamp keeps it, and nobody is asked: a later stamp would prove less.

    The stamp is kept beside the seal, as SIZE.tsr; `tasktrail verify --seals DIR --authority FILE` checks it. If there
    is no stamp, the exit code is 1, and the seal stays. Needs the extra `tsa`.
    """
    from ..projections.errors import NoStamp

    session.files_only("anchor")
    require_stamps()
    refuse_no_address(address, "Give the address of the time authority, from its operator.")
    made = session.environment.seal(session)
    try:
        stamp = session.environment.stamp(made.seal, address)
    except NoStamp as error:
        print_seal(session, made, stamped_at="")
        return complain(error, as_json=session.as_json)
    code = print_seal(session, made, stamped_at=stamp.at)
    if not session.as_json:
        say(f"stamped by {plain(address)} at {stamp.at}" if stamp.is_new else f"stamped already, at {stamp.at}")
    return code
