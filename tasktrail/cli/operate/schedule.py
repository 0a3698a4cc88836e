"""`tasktrail schedule`: tasks that are created again and again."""

from datetime import datetime
from typing import Any

import click

from ..base import Command, Group, everywhere, pass_session
from ..fields import FILE, TYPE, absolute, me, repeated_fields
from ..known import Known, schedules
from ..layout import Column
from ..output import print_json
from ..session import Session
from ..times import Moment
from ..words import Number, Whole, plain
from .pauses import send, who

_COLUMNS = (
    Column("NAME"),
    Column("TYPE", leaves=1),
    Column("NEXT", leaves=2),
    Column("WHEN", "text", leaves=3),
    Column("RUNS", right=True, leaves=4),
    Column("MISSED", leaves=5, extra=True),
    Column("ADDED BY", leaves=6, extra=True),
)


@click.group("schedule", cls=Group, params=everywhere(root=False))
def command() -> None:
    """Create tasks again and again: at the times of a cron expression, or every so many seconds."""


_TIMES = (
    click.option("--cron", metavar="EXPRESSION", help="Five fields as in cron: '30 2 * * *'."),
    click.option("--every", type=Number(min=1), metavar="SECONDS", help="Instead: seconds between runs."),
    click.option("--timezone", metavar="ZONE", help="Zone of the expression, e.g. Europe/Berlin. Default: UTC"),
    click.option("--starting-at", type=Moment(), help="No run before this time. Default: now"),
    click.option(
        "--missed", type=click.Choice(["skip", "once", "all"]), help="Runs missed while no service ran. Default: once"
    ),
    click.option("--max-missed", type=Whole(1, 100), help="With `all`: at most so many. Default: 10"),
)


def _times(function: Any) -> Any:
    for option in reversed(_TIMES):
        function = option(function)
    return function


@command.command(
    "add",
    cls=Command,
    examples=[
        ("tasktrail schedule add nightly backup --cron '30 2 * * *'", "a task every night"),
        ("tasktrail schedule add t image_thumbnail a.png 'a-{fire_time}.jpg' --every 60", "every minute"),
    ],
)
@click.argument("name")
@click.argument("task_type", type=TYPE, metavar="TYPE")
@click.argument("input_file", type=FILE, metavar="[INPUT]", default="")
@click.argument("output_file", type=FILE, metavar="[OUTPUT]", default="")
@_times
@repeated_fields
@pass_session
def add(
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
    from ...events.commands import AddSchedule

    envelope = {"reason": given.pop("reason"), "command_id": given.pop("command_id"), "actor": given.pop("actor")}
    task = {field: value for field, value in given.items() if value is not None}
    task |= {"type": task_type, "input_file": absolute(input_file), "output_file": absolute(output_file)}
    when = {"cron": cron, "every": every, "timezone": timezone, "starting_at": starting_at}
    policy = {"missed": missed, "max_missed": max_missed}
    send(
        session,
        AddSchedule,
        {"schedule": name, "task": task, **when, **policy, **envelope, "actor": envelope["actor"] or me()},
    )


@command.command("list", cls=Command, examples=[("tasktrail schedule list", "all of them, and when each runs next")])
@pass_session
def list_schedules(session: Session) -> None:
    """List the schedules."""
    with session.reading() as reading:
        boards = reading.schedules()
    if session.as_json:
        for board in boards:
            print_json(board)
        return
    paper = session.paper()
    rows = [
        (
            board.schedule,
            board.spec.task.type,
            paper.when(board.next_at) or "never",
            f"{board.spec.cron} ({board.spec.timezone})" if board.spec.cron else f"every {board.spec.every:g} s",
            str(board.runs),
            board.spec.missed,
            plain(board.actor),
        )
        for board in boards
    ]
    paper.table(_COLUMNS, rows)


@command.command("remove", cls=Command, examples=[("tasktrail schedule remove nightly", "no more runs")])
@click.argument("name", type=Known("name", schedules))
@click.option("--reason", metavar="TEXT", help="Why; recorded with the event.")
@click.option("--actor", metavar="NAME", help="Who; recorded with the event. Default: cli:USER")
@pass_session
def remove(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Remove a schedule; tasks that it has created stay."""
    from ...events.commands import RemoveSchedule

    send(session, RemoveSchedule, {"schedule": name, **who(reason, actor)})
