"""`tasktrail migrate`: moves the log between its file and PostgreSQL."""

import click

from ..events.counted import counted
from .command import CliCommand, pass_session
from .progress import counting
from .session import Session
from .terminal import plain, print_json, say


@click.command(
    "migrate",
    cls=CliCommand,
    examples=[
        ("tasktrail migrate /srv/tasks postgresql://tasks@db/tasks", "from log.db into a database; then start again"),
        ("tasktrail migrate postgresql://tasks@db/tasks /srv/tasks", "and back into the file"),
    ],
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@pass_session
def migrate_command(session: Session, source: str, target: str) -> None:
    """Move the log of a data folder into a database of PostgreSQL, or back into its file.

    One of FROM and TO is a data folder, the other an address without a password. No service may run. Positions, hashes
    and answers stay; views, snapshots, seals and keys in the folder hold for the log as before. A target that holds
    another log is refused. A move that was killed can be repeated.
    """
    session.files_only("migrate")
    from ..backups.migration import migrate

    with counting("moving") as progress:
        moved = migrate(source, target, progress=progress)
    if session.as_json:
        print_json(moved)
        return
    say(f"moved: {counted(moved.position, 'record')} from {plain(moved.source)} to {plain(moved.target)}")
    if moved.kept:
        say(f"what was there is kept in {plain(moved.kept)}")
    if moved.without_keys:
        say(plain(moved.without_keys), err=True)
    say(f"head {moved.position} {moved.head}")
