"""`tasktrail rebuild`: the views anew from the log."""

import click

from ..base import Command, pass_session
from ..output import print_json, say
from ..session import Session
from .counting import counting


@click.command(
    "rebuild",
    cls=Command,
    examples=[("tasktrail rebuild", "after `verify` found views that differ; the service must be stopped")],
)
@pass_session
def command(session: Session) -> None:
    """Build the views again from the log. Nothing is lost by it: the log is the truth."""
    session.files_only("rebuild")
    with counting("building") as progress:
        position = session.doors.rebuild(session, progress)
    if session.as_json:
        print_json({"position": position})
    else:
        say(f"views built from {position} records")
