"""`tasktrail archive`: moves the beginning of the log into compressed files."""

from typing import TYPE_CHECKING

import click

from ..events.counted import plural
from ..words import size
from .command import CliCommand, pass_session
from .fields import default_actor, reason_and_actor
from .parameters import PointParam
from .progress import counting
from .session import Session
from .terminal import print_json, say

if TYPE_CHECKING:
    from datetime import datetime

    from ..events.log.archives import Archived


@click.command(
    "archive",
    cls=CliCommand,
    examples=[
        ("tasktrail archive --dry-run", "how much could be archived now"),
        ("tasktrail archive --before 2026-01-01", "what was recorded before that day"),
        ("tasktrail archive --before -90d --reason 'house rule'", "what is older than 90 days"),
    ],
)
@click.option("--before", type=PointParam(), help="Only what was recorded before it. Default: as much as possible")
@click.option("--dry-run", is_flag=True, help="Only report how much it would be.")
@reason_and_actor
@pass_session
def archive_command(
    session: Session, before: "int | datetime | None", reason: str | None, actor: str | None, *, dry_run: bool
) -> None:
    """Move the beginning of the log from log.db into compressed files, from which it is read as before.

    Nothing is lost: history, verify, proofs, backups and all questions about the past still have those records. It
    moves ranges of 65,536 records, up to the first range with a record of an unfinished task. A running service does
    it; without one, this command does.
    """
    if dry_run:
        done = session.environment.archivable(session, before)
    else:
        with session.tasks_or_embedded(begins=False) as (tasks, _inside), counting("archiving") as progress:
            done = tasks.archive(before, reason=reason or "", actor=actor or default_actor(), progress=progress)
    if session.as_json:
        print_json(done)
        return
    say(_summary(done, dry_run=dry_run))


def _summary(done: "Archived", *, dry_run: bool) -> str:
    if not done.archives:
        return (
            f"nothing to archive; already archived: {done.until:,} {plural(done.until, 'record')}\n"
            f"Only whole ranges of {done.next_until - done.until:,} records are archived. The next "
            f"one ends at position {done.next_until}: all its records must exist, lie before --before "
            f"and belong to finished tasks."
        )
    many = f"{done.records:,} {plural(done.records, 'record')}"
    if dry_run:
        return f"would be archived: {many}, up to position {done.until}"
    return f"archived: {many} in {size(done.size)}, up to position {done.until}; recorded at {done.position}"
