"""`tasktrail forget`: drops the records of tasks that are over."""

from typing import TYPE_CHECKING

import click

from ..events.counted import counted
from .command import CliCommand, pass_session
from .fields import default_actor, reason_and_actor
from .parameters import TYPE, AgeParam, WholeParam
from .progress import counting
from .session import Session
from .terminal import print_json, say

if TYPE_CHECKING:
    from ..projections import Forgotten
    from ..projections.queries.forgettable import StillNeeded


@click.command(
    "forget",
    cls=CliCommand,
    examples=[
        ("tasktrail forget --older-than 90d --dry-run", "how many tasks that would be"),
        ("tasktrail forget --older-than 90d --status completed --reason 'house rule'", "failures are kept"),
        ("tasktrail forget --older-than 0s --user-id 7", "all finished tasks of one user"),
    ],
)
@click.option("--older-than", type=AgeParam(), required=True, help="Ended at least this long ago, e.g. 90d, 12h, 1y.")
@click.option("--status", type=click.Choice(("completed", "failed", "cancelled")), help="Only tasks with this status.")
@click.option("--type", type=TYPE, metavar="TYPE", help="Only this task type.")
@click.option("--user-id", type=WholeParam(min=0), metavar="INTEGER", help="Only this user.")
@click.option("--dry-run", is_flag=True, help="Only report how many it would be.")
@reason_and_actor
@pass_session
def forget_command(
    session: Session,
    older_than: float,
    status: str | None,
    type: str | None,  # noqa: A002 - the option's name
    user_id: int | None,
    reason: str | None,
    actor: str | None,
    *,
    dry_run: bool,
) -> None:
    """Forget finished tasks for good: stubs replace their records in the log.

    Proofs of other tasks stay valid, and the log says what was forgotten, by whom and why. Tasks that others refer to
    stay, and so do tasks without which a watched folder would take a file twice. A running service does it; without
    one, this command does, and executes no task.
    """
    if dry_run:
        done = session.environment.forgettable(session, older_than, status=status, type=type, user_id=user_id)
    else:
        with session.tasks_or_embedded(begins=False) as (tasks, _inside), counting("forgetting") as progress:
            done = tasks.forget(
                older_than,
                status=status,
                type=type,
                user_id=user_id,
                reason=reason or "",
                actor=actor or default_actor(),
                progress=progress,
            )
    if session.as_json:
        print_json(done)
        return
    say(_summary(done, dry_run=dry_run))
    if why := _why_kept(done.kept):
        say(f"over, and kept: {why}")


def _summary(done: "Forgotten", *, dry_run: bool) -> str:
    many = f"{counted(done.tasks, 'task')}, {counted(done.records, 'record')}"
    if dry_run:
        return f"would be forgotten: {many}"
    return f"forgotten: {many}; recorded up to position {done.position}" if done.tasks else "nothing to forget"


def _why_kept(kept: "StillNeeded") -> str:
    """Describe how many tasks stay for which reason; empty if none stays."""
    each = (
        (kept.referred, "that others depend on or have as their parent"),
        (kept.notices, "with a notice that is still to be sent"),
        (kept.files, "without which a file would be taken a second time"),
    )
    return ", ".join(f"{counted(number, 'task')} {why}" for number, why in each if number)
