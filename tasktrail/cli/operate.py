"""`tasktrail pause`, `resume`, `drain`, `adjust`, `limits`, `schedule`: what operators do to the queue."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..events.commands import AddSchedule, AdjustTask, DrainQueue, PauseQueue, RemoveSchedule, ResumeQueue, SetLimits
from ..words import duration, moment, size, unlimited
from .command import CliCommand, CliGroup, everywhere, pass_session
from .completion import SuggestedParam, schedule_names
from .failing import DONE, INTERRUPTED
from .fields import absolute, default_actor, options_of, reason_and_actor, repeated_fields
from .parameters import FILE, TYPE, WAITING_ID, as_of_note, as_of_option
from .progress import waiting
from .queue import CONFIGURED_NOW
from .session import Session
from .terminal import Column, plain, print_json, print_pairs, say

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..actors.core.board import LimitsBoard
    from ..api.protocol import Tasks
    from ..events import Accepted


@click.command(
    "pause",
    cls=CliCommand,
    examples=[
        ("tasktrail pause --reason 'disk is being changed'", "nothing more starts; what runs goes on"),
        ("tasktrail pause --type video_convert", "only conversions wait"),
    ],
)
@options_of(PauseQueue, "type", "user_id")
@reason_and_actor
@pass_session
def pause_command(
    session: Session,
    type: str | None,  # noqa: A002 - the option's name
    user_id: int | None,
    reason: str | None,
    actor: str | None,
) -> None:
    """Start no more tasks: none at all, none of a type, or none of a user. It lasts until `resume`, over restarts."""
    send(session, PauseQueue, {"type": type, "user_id": user_id, **actor_and_reason(reason, actor)})


@click.command(
    "resume",
    cls=CliCommand,
    examples=[
        ("tasktrail resume", "end a pause or a drain of everything"),
        ("tasktrail resume --user-id 7", "end the pause of one user"),
    ],
)
@options_of(ResumeQueue, "type", "user_id")
@reason_and_actor
@pass_session
def resume_command(
    session: Session,
    type: str | None,  # noqa: A002 - the option's name
    user_id: int | None,
    reason: str | None,
    actor: str | None,
) -> None:
    """End a pause of the same scope; without a scope also a drain."""
    send(session, ResumeQueue, {"type": type, "user_id": user_id, **actor_and_reason(reason, actor)})


@click.command(
    "drain",
    cls=CliCommand,
    examples=[
        ("tasktrail drain", "nothing more starts"),
        ("tasktrail drain --wait && systemctl stop tasktrail", "come back when nothing runs any more"),
    ],
)
@click.option("--wait", is_flag=True, help="Come back when the last attempt has ended.")
@reason_and_actor
@pass_session
def drain_command(session: Session, reason: str | None, actor: str | None, *, wait: bool) -> int:
    """Start nothing more, and record when the last running attempt has ended. `resume` ends the drain."""
    begun = _drain_under_way(session) if wait else None
    position = begun or send(session, DrainQueue, actor_and_reason(reason, actor)).position
    if wait:
        try:
            _wait_until_drained(session, position)
        except KeyboardInterrupt:
            say("the drain goes on; `tasktrail resume` ends it", err=True)
            return INTERRUPTED
    return DONE


def _drain_under_way(session: Session) -> int | None:
    """Return the position of a drain under way, if any: a second `drain --wait` waits for the same."""
    with session.tasks() as tasks:
        return next((pause.position for pause in tasks.limits().pauses if pause.drain), None)


def _wait_until_drained(session: Session, after: int) -> None:
    with session.tasks() as tasks, waiting(quiet=session.as_json) as show:
        position = _drained_at(tasks, after, show)
    say(f"drained at position {position}", err=session.as_json)


def _drained_at(tasks: "Tasks", after: int, show: "Callable[[str], None]") -> int:
    """Return the position at which the drain is recorded as done. Until then `show` gets how many tasks still run."""
    from ..events.errors import ServiceUnreachable
    from ..events.system_events import QueueDrained, QueueResumed
    from ..events.task_events import Cancelled, Completed, Failed

    running = {one.task_id for one in tasks.queue(1).running}
    _show_number(running, show)
    for record in tasks.follow(after):
        match record.event:
            case QueueDrained():
                return record.position
            case QueueResumed(type=None, user_id=None):
                raise click.ClickException(f"The queue was resumed at position {record.position}.")
            case Cancelled() | Completed() | Failed() if record.task_id in running:
                running.remove(record.task_id)
                _show_number(running, show)
    raise ServiceUnreachable(
        "The service has stopped before the drain was over",
        remedy="Its next start goes on with the drain; `tasktrail drain --wait` waits for it again.",
    )


def _show_number(running: "Collection[int]", show: "Callable[[str], None]") -> None:
    if running:
        show(f"waiting for {len(running):,} {'task that runs' if len(running) == 1 else 'tasks that run'}")


@click.command(
    "adjust",
    cls=CliCommand,
    examples=[
        ("tasktrail adjust 3 --priority 9 --reason 'customer waits'", "task 3 moves forward"),
        ("tasktrail adjust 3 --scheduled-for 2026-08-01T22:00:00Z", "not before that time"),
        ("tasktrail adjust 3 --hold", "until `tasktrail start 3` or `adjust 3 --release`"),
    ],
)
@click.argument("task_id", type=WAITING_ID, metavar="ID")
@options_of(AdjustTask, "priority", "scheduled_for")
@click.option("--hold", is_flag=True, help="Keep it waiting until it is started or released.")
@click.option("--release", is_flag=True, help="End the hold.")
@reason_and_actor
@pass_session
def adjust_command(
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
    if hold and release:
        raise click.UsageError("Give --hold or --release, not both.")
    if priority is None and scheduled_for is None and not hold and not release:
        raise click.UsageError("Nothing to adjust: give --priority, --scheduled-for, --hold or --release.")
    held = hold if hold or release else None
    change = {"task_id": task_id, "priority": priority, "scheduled_for": scheduled_for, "held": held}
    send(session, AdjustTask, {**change, **actor_and_reason(reason, actor)})


def actor_and_reason(reason: str | None, actor: str | None) -> dict[str, str]:
    """Return the fields that say who and why."""
    return {"actor": actor or default_actor(), "reason": reason or ""}


def send(session: Session, kind: type[Any], fields: dict[str, Any]) -> "Accepted":
    """Send a command to the running service and print the position at which it is recorded."""
    from ..intake.conversion import command_from_fields

    given = {name: value for name, value in fields.items() if value is not None}
    with session.tasks() as tasks:
        accepted: Accepted = tasks.send(command_from_fields(kind, given))
    if session.as_json:
        print_json(accepted)
    else:
        say(f"accepted at position {accepted.position}")
    return accepted


@click.command(
    "limits",
    cls=CliCommand,
    examples=[
        ("tasktrail limits", "what holds now, and who has paused what"),
        ("tasktrail limits --max-concurrent 2 --reason 'backup runs'", "at most two tasks at once, from now on"),
        (
            "tasktrail limits --type video_convert=1 --rate 'user:*=100/h'",
            "by name: at once, and in an hour",
        ),
        ("tasktrail limits --reset", "the configuration holds again"),
    ],
)
@options_of(
    SetLimits,
    "max_concurrent",
    "max_memory",
    "max_cpu",
    "max_temp_size",
    "max_per_type",
    "max_per_user",
    "max_per_label",
    "types",
    "users",
    "labels",
    "rates",
    "fair_share",
    "reset",
    flags={"types": "--type", "users": "--user", "labels": "--label", "rates": "--rate"},
)
@reason_and_actor
@as_of_option
@pass_session
def limits_command(
    session: Session, /, reason: str | None, actor: str | None, as_of: int | datetime | None, **limits: Any
) -> None:
    """Show the limits, or change them while the service runs; each change is recorded and holds over restarts."""
    tables = ("types", "users", "labels")
    given = {name: dict(value) if name in (*tables, "rates") else value for name, value in limits.items()}
    given = {name: value for name, value in given.items() if value not in (None, {})}
    if any(number == 0 for name in tables for number in given.get(name, {}).values()):
        raise click.UsageError("A limit is at least 1. `tasktrail pause` stops a type or a user.")
    if given:
        if as_of is not None:
            raise click.UsageError("The past cannot be changed: leave --as-of out, or the limits.")
        send(session, SetLimits, {**given, **actor_and_reason(reason, actor)})
        return
    with session.reading() as reading:
        board = reading.limits(as_of=as_of)
    if session.as_json:
        print_json(board)
        return
    print_pairs(limit_pairs(board))
    if as_of is not None:
        say(f"This is the state as of position {board.position}. {CONFIGURED_NOW}")


def limit_pairs(board: "LimitsBoard") -> list[tuple[str, str]]:
    """Return the limits and the pauses in words."""
    changed = board.changes
    rows = []
    for name in board.limits.__struct_fields__:
        value = getattr(board.limits, name)
        mark = " (changed)" if getattr(changed, name, None) not in (None, {}) else ""
        rows.append((name, f"{_in_words(name, value)}{mark}"))
    rows += [("rate reached", f"{plain(name)}: next start {moment(at)}") for name, at in board.reached.items()]
    for pause in board.pauses:
        scope = f"type {pause.type}" if pause.type is not None else f"user {pause.user_id}"
        everything = pause.type is None and pause.user_id is None
        text = f"{'everything' if everything else scope} since {moment(pause.since)} by {pause.actor or '-'}"
        why = f": {pause.reason}" if pause.reason else ""
        rows.append(("drained" if pause.drained else "draining" if pause.drain else "paused", plain(text + why)))
    return rows


def _in_words(name: str, value: Any) -> str:
    from ..actors.core.limits import BYTE_LIMITS

    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            pairs = ((key, one) for key, some in value.items() for one in (some if isinstance(some, tuple) else [some]))
            return plain(", ".join(f"{key}={one}" for key, one in pairs)) or "-"
        case str():
            return plain(value)
        case 0:
            return unlimited(name) if name.startswith("max") else "-"
        case _:
            return size(value) if name in BYTE_LIMITS else f"{value:g} %" if name == "max_cpu" else f"{value:g}"


_SCHEDULES = (
    Column("NAME"),
    Column("TYPE", leaves=1),
    Column("NEXT", leaves=2),
    Column("WHEN", "text", leaves=3),
    Column("RUNS", right=True, leaves=4),
    Column("MISSED", leaves=5, extra=True),
    Column("ADDED BY", leaves=6, extra=True),
)


@click.group("schedule", cls=CliGroup, params=everywhere(root=False))
def schedule_command() -> None:
    """Create tasks regularly: at the times of a cron expression, or at a fixed interval."""


@schedule_command.command(
    "add",
    cls=CliCommand,
    examples=[
        ("tasktrail schedule add nightly report --cron '30 2 * * *'", "a task of your own type `report` every night"),
        ("tasktrail schedule add t image_thumbnail a.png 'a-{fire_time}.jpg' --every 1m", "every minute"),
    ],
)
@click.argument("name")
@click.argument("task_type", type=TYPE, metavar="TYPE")
@click.argument("input_file", type=FILE, metavar="[INPUT]", default="")
@click.argument("output_file", type=FILE, metavar="[OUTPUT]", default="")
@options_of(AddSchedule, "cron", "every", "timezone", "starting_at", "missed", "max_missed", "replace")
@repeated_fields
@pass_session
def add_schedule(
    session: Session,
    /,
    name: str,
    task_type: str,
    input_file: str,
    output_file: str,
    cron: str | None,
    every: float | None,
    timezone: str | None,
    starting_at: datetime | None,
    missed: str | None,
    max_missed: int | None,
    **given: Any,
) -> None:
    """Add a schedule. `{fire_time}` in OUTPUT becomes the time of the run, as 20260801T220000Z."""
    policy = {"missed": missed, "max_missed": max_missed, "replace": given.pop("replace")}
    envelope = {"reason": given.pop("reason"), "command_id": given.pop("command_id"), "actor": given.pop("actor")}
    task = {field: value for field, value in given.items() if value is not None}
    task |= {"type": task_type, "input_file": absolute(input_file), "output_file": absolute(output_file)}
    when = {"cron": cron, "every": every, "timezone": timezone, "starting_at": starting_at}
    send(
        session,
        AddSchedule,
        {"schedule": name, "task": task, **when, **policy, **envelope, "actor": envelope["actor"] or default_actor()},
    )


@schedule_command.command(
    "list",
    cls=CliCommand,
    examples=[
        ("tasktrail schedule list", "all of them, and when each runs next"),
        ("tasktrail schedule list --as-of -7d", "as of a week ago"),
    ],
)
@as_of_option
@pass_session
def list_schedules(session: Session, as_of: int | datetime | None) -> None:
    """List the schedules."""
    with session.reading() as reading:
        boards = reading.schedules(as_of=as_of)
    if session.as_json:
        for board in boards:
            print_json(board)
        return
    if not boards and as_of is not None:
        click.echo("There was no schedule then.")
        return
    if not boards:
        say("There is no schedule. `tasktrail schedule add --help` tells how to add one.")
        return
    layout = session.layout(as_of)
    rows = [
        (
            board.schedule,
            board.spec.task.type,
            layout.when(board.next_at) or "never",
            f"{board.spec.cron} ({board.spec.timezone})"
            if board.spec.cron
            else f"every {duration(board.spec.every or 0)}",
            str(board.runs),
            board.spec.missed,
            plain(board.actor),
        )
        for board in boards
    ]
    layout.table(_SCHEDULES, rows)
    if as_of is not None:
        say(as_of_note(as_of))


@schedule_command.command("remove", cls=CliCommand, examples=[("tasktrail schedule remove nightly", "no more runs")])
@click.argument("name", type=SuggestedParam("name", schedule_names))
@click.option("--reason", metavar="TEXT", help="Why; recorded with the event.")
@click.option("--actor", metavar="NAME", help="Who; recorded with the event. Default: cli:USER")
@pass_session
def remove_schedule(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Remove a schedule; tasks that it has created stay."""
    send(session, RemoveSchedule, {"schedule": name, **actor_and_reason(reason, actor)})
