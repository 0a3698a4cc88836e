"""`tasktrail restore`: a backup in place of the log, or of none."""

from pathlib import Path

import click

from ..base import Command, pass_session
from ..check.counting import counting
from ..fields import me, who_and_why
from ..output import print_json, say
from ..session import Session
from ..words import moment, plain, size


@click.command(
    "restore",
    cls=Command,
    examples=[
        ("tasktrail restore --data /srv/tasks tasks.db", "into a data folder without a log; then start the service"),
        ("tasktrail restore tasks.db --dry-run", "check a backup, and change nothing"),
        ("tasktrail restore tasks.db --force", "put a log that is there aside first"),
    ],
)
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a log that is there; it is moved to a folder beside.")
@click.option("--dry-run", is_flag=True, help="Check the backup only.")
@who_and_why
@pass_session
def command(session: Session, src: Path, reason: str | None, actor: str | None, *, force: bool, dry_run: bool) -> None:
    """Put a backup in place as the log of the data folder. No service may run on it.

    The backup is checked as `tasktrail verify` does before anything is changed. What was there is kept; if it had
    records that the backup lacks, the next start records that with actor and reason.
    """
    session.files_only("restore")
    with counting("checking" if dry_run else "restoring") as progress:
        restored = session.doors.restore(
            session, src, progress, force=force, only_check=dry_run, actor=actor or me(), reason=reason or ""
        )
    if session.as_json:
        print_json(restored)
        return
    until = f", the last recorded at {moment(restored.recorded_at)}" if restored.recorded_at else ""
    told = "sound" if dry_run else "restored"
    say(f"{told}: {restored.position} records of {restored.tasks} tasks, {size(restored.size)}{until}")
    if restored.replaced_position:
        say(f"the log that was there ended at {restored.replaced_position}")
    if restored.kept:
        say(f"what was there is kept in {plain(restored.kept)}")
    say(f"head {restored.position} {restored.head}")
