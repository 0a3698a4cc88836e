"""`tasktrail backup`: the log as one file, while the work goes on."""

from pathlib import Path

import click

from ..base import Command, pass_session
from ..check.counting import counting
from ..output import print_json, say
from ..session import Session
from ..words import plain, size


@click.command(
    "backup",
    cls=Command,
    examples=[
        ("tasktrail backup /mnt/backups/", "a new file in that folder, named by time and position"),
        ("tasktrail backup --data /srv/tasks tasks.db --json", "to a file that does not exist yet, told to a program"),
    ],
)
@click.argument("dest", type=click.Path(path_type=Path))
@pass_session
def command(session: Session, dest: Path) -> None:
    """Copy the log to DEST, a new file or a folder, whether a service runs or not, and check the copy.

    All that was acknowledged before the call is in it. Nothing is ever overwritten. The configuration and the temp
    files of tasks are not in it.
    """
    session.files_only("backup")
    with counting("backing up") as progress:
        taken = session.doors.back_up(session, dest, progress)
    if session.as_json:
        print_json(taken)
    else:
        say(f"{plain(taken.path)}: {size(taken.size)}, checked")
        say(f"head {taken.position} {taken.head}")
