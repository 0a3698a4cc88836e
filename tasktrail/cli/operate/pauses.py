"""`tasktrail pause`, `resume`, `drain`, `adjust`: what operators do to the queue and to what waits in it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..base import Command, pass_session
from ..fields import TYPE, me, who_and_why
from ..output import print_json, say
from ..session import Session
from ..times import Moment
from ..words import WAITING_ID, Whole

if TYPE_CHECKING:
    from ...events import Accepted

_scope = (
    click.option("--type", "type", type=TYPE, metavar="TYPE", help="Only this task type."),
    click.option("--user-id", type=Whole(min=0), help="Only this user."),
)


def _with_scope(function: Any) -> Any:
    for option in reversed(_scope):
        function = option(function)
    return function


@click.command(
    "pause",
    cls=Command,
    examples=[
        ("tasktrail pause --reason 'disk is being changed'", "nothing more starts; what runs goes on"),
        ("tasktrail pause --type video_convert", "only conversions wait"),
    ],
)
@_with_scope
@who_and_why
@pass_session
def pause(session: Session, type: str | None, user_id: int | None, reason: str | None, actor: str | None) -> None:  # noqa: A002 - the option's name
    """Start nothing more: of all tasks, of a type, or of a user. It holds over restarts, until `resume`."""
    from ...events.commands import PauseQueue

    send(session, PauseQueue, {"type": type, "user_id": user_id, **who(reason, actor)})


@click.command(
    "resume",
    cls=Command,
    examples=[
        ("tasktrail resume", "end a pause or a drain of everything"),
        ("tasktrail resume --user-id 7", "end the pause of one user"),
    ],
)
@_with_scope
@who_and_why
@pass_session
def resume(session: Session, type: str | None, user_id: int | None, reason: str | None, actor: str | None) -> None:  # noqa: A002 - the option's name
    """End a pause of the same scope; without a scope also a drain."""
    from ...events.commands import ResumeQueue

    send(session, ResumeQueue, {"type": type, "user_id": user_id, **who(reason, actor)})


@click.command(
    "drain",
    cls=Command,
    examples=[
        ("tasktrail drain", "nothing more starts"),
        ("tasktrail drain --wait && systemctl stop tasktrail", "come back when nothing runs any more"),
    ],
)
@click.option("--wait", is_flag=True, help="Come back when the last attempt has ended.")
@who_and_why
@pass_session
def drain(session: Session, reason: str | None, actor: str | None, *, wait: bool) -> None:
    """Start nothing more and let what runs end; when it has, that is recorded. `resume` ends it."""
    from ...events.commands import DrainQueue

    begun = _drain_under_way(session) if wait else None
    position = begun or send(session, DrainQueue, who(reason, actor)).position
    if wait:
        _wait_until_drained(session, position)


def _drain_under_way(session: Session) -> int | None:
    """Where a drain was asked for that has not been ended: whoever comes second waits with the first."""
    with session.tasks() as tasks:
        return next((pause.position for pause in tasks.limits().pauses if pause.drain), None)


def _wait_until_drained(session: Session, after: int) -> None:
    from ...events.system_events import QueueDrained, QueueResumed

    with session.tasks() as tasks:
        for record in tasks.follow(after):
            match record.event:
                case QueueDrained():
                    say(f"drained at position {record.position}", err=session.as_json)
                    return
                case QueueResumed(type=None, user_id=None):
                    raise click.ClickException(f"The queue was resumed at position {record.position}.")


@click.command(
    "adjust",
    cls=Command,
    examples=[
        ("tasktrail adjust 3 --priority 9 --reason 'customer waits'", "task 3 moves forward"),
        ("tasktrail adjust 3 --scheduled-for 2026-08-01T22:00:00Z", "not before that time"),
        ("tasktrail adjust 3 --hold", "until `tasktrail start 3` or `adjust 3 --release`"),
    ],
)
@click.argument("task_id", type=WAITING_ID, metavar="ID")
@click.option("--priority", type=Whole(0, 10), help="0 to 10, higher runs first.")
@click.option(
    "--scheduled-for", type=Moment(), help="Not before this time, e.g. +10m, 'tomorrow 9:00', 2026-08-01T22:00:00Z."
)
@click.option("--hold", is_flag=True, help="Keep it waiting until somebody starts or releases it.")
@click.option("--release", is_flag=True, help="Let it go.")
@who_and_why
@pass_session
def adjust(
    session: Session,
    task_id: int,
    priority: int | None,
    scheduled_for: datetime | None,
    reason: str | None,
    actor: str | None,
    *,
    hold: bool,
    release: bool,
) -> None:
    """Change the priority or the time of a waiting task, or hold or release it."""
    from ...events import AdjustTask

    if hold and release:
        raise click.UsageError("Give --hold or --release, not both.")
    if priority is None and scheduled_for is None and not hold and not release:
        raise click.UsageError("Nothing to adjust: give --priority, --scheduled-for, --hold or --release.")
    held = hold if hold or release else None
    change = {"task_id": task_id, "priority": priority, "scheduled_for": scheduled_for, "held": held}
    send(session, AdjustTask, {**change, **who(reason, actor)})


def who(reason: str | None, actor: str | None) -> dict[str, str]:
    """The fields that say who and why."""
    return {"actor": actor or me(), "reason": reason or ""}


def send(session: Session, kind: type[Any], fields: dict[str, Any]) -> "Accepted":
    """Send a command to the running service and tell where it is recorded."""
    from ...intake.conversion import command_from_fields

    given = {name: value for name, value in fields.items() if value is not None}
    with session.tasks() as tasks:
        accepted: Accepted = tasks.send(command_from_fields(kind, given))
    if session.as_json:
        print_json(accepted)
    else:
        say(f"accepted at position {accepted.position}")
    return accepted
