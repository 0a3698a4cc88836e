"""`tasktrail doctor`: what this machine can promise."""

import click

from .base import Command, pass_session
from .session import Session


@click.command("doctor", cls=Command, examples=[("tasktrail doctor", "checks the machine and the data folder")])
@pass_session
def command(session: Session) -> int:
    """Check the machine and the data folder, and say what is weaker here than it should be."""
    from ..doctor import examine

    return int(bool(examine(session.data)))
