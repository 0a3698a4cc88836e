"""`tasktrail list`: tasks as a table or as JSON Lines."""

from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..known import SORT_FIELDS, STATUS_WORDS, TYPES
from ..layout import Column
from ..output import Paper, print_json, say
from ..session import Session
from ..times import Point
from ..words import localized, percent

if TYPE_CHECKING:
    from ...events import Task

_COLUMNS = (
    Column("ID", right=True),
    Column("STATUS"),
    Column("TYPE"),
    Column("DONE", right=True),
    Column("INPUT", "name"),
    Column("CREATED", leaves=1, extra=True),
    Column("PRIORITY", right=True, leaves=2, extra=True),
    Column("MESSAGE", "text", leaves=3),
)


@click.command(
    "list",
    cls=Command,
    examples=[
        ("tasktrail list --status running,retrying", "what is going on"),
        ("tasktrail list --status failed --search holiday", "failed tasks with a word in type, paths or error"),
        ("tasktrail list --as-of 2026-08-01T12:00:00Z --json", "as it was then, for a program"),
    ],
)
@click.option(
    "--status",
    type=STATUS_WORDS,
    default="",
    metavar="A,B",
    help="pending (held ones too), running, completed, failed, cancelled, retrying.",
)
@click.option("--type", type=TYPES, default="", metavar="A,B", help="Task types.")
@click.option("--user", "user_id", default="", metavar="ID,ID", help="Tasks of these users; 0 is nobody.")
@click.option("--document", "document_id", default="", metavar="ID,ID", help="Tasks of these documents.")
@click.option("--parent", "parent_task_id", default="", metavar="ID,ID", help="Tasks that are part of these.")
@click.option("--label", default="", metavar="A,B", help="Tasks of these labels.")
@click.option("--search", default="", metavar="WORDS", help="All of these must begin a word in type, paths or error.")
@click.option("--as-of", type=Point(), help="As it was at a position of the log, or at a time, e.g. -2h.")
@click.option(
    "--sort",
    type=SORT_FIELDS,
    default="",
    metavar="FIELD",
    help="created_at, id, updated_at, priority or effective_priority; a - before it turns it round "
    "(write --sort=-priority). Default: -created_at",
)
@click.option("--limit", default="", metavar="N", help="At most so many, up to 500. Default: 50")
@click.option("--offset", default="", metavar="N", help="Leave out the first N.")
@pass_session
def command(session: Session, /, as_of: int | datetime | None, **texts: str) -> None:
    """List tasks, newest first. Several values, separated by commas, are alternatives."""
    from ...projections import TaskFilters

    moment = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of if as_of is not None else "")
    filters = TaskFilters.parse({**texts, "as_of": moment})
    with session.reading() as reading:
        tasks, total = reading.list_tasks(filters)
    if session.as_json:
        for task in tasks:
            print_json(task)
        return
    if not tasks:
        click.echo("No task passes the filters." if total == 0 else f"None beyond {filters.offset} of {total}.")
        return
    paper = session.paper()
    paper.table(_COLUMNS, (_row(task, paper) for task in tasks))
    if total > len(tasks):
        say(f"{len(tasks)} of {total}; --limit and --offset show others.", err=True)


def _row(task: "Task", paper: Paper) -> tuple[str, ...]:
    return (
        str(task.id),
        task.status,
        task.type,
        percent(task.progress),
        PurePath(task.input_file).name,
        paper.when(task.created_at),
        str(task.priority),
        _message(task, paper),
    )


def _message(task: "Task", paper: Paper) -> str:
    """What a waiting task waits for, as far as it says so itself; then its error or what it does."""
    from ...events.state import WAITING

    due = {"pending": task.scheduled_for, "retrying": task.due_at}.get(task.status)
    told = (
        "held" if task.held and task.status in WAITING else "",
        f"due {paper.when(due)}" if due is not None and due > paper.now else "",
        task.error
        or (localized(task.message) if task.completed_at is None else "")
        or (task.last_error if task.status == "retrying" else ""),
    )
    return "; ".join(filter(None, told))
