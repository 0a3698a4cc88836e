"""`tasktrail list`: tasks as a table or as JSON Lines."""

from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..output import print_json, print_table
from ..session import Session
from ..words import moment, percent

if TYPE_CHECKING:
    from ...events import Task

_HEADINGS = ("ID", "STATUS", "TYPE", "PROGRESS", "PRIORITY", "CREATED", "INPUT", "MESSAGE")


@click.command(
    "list",
    cls=Command,
    examples=[
        ("tasktrail list --status running,retrying", "what is going on"),
        ("tasktrail list --status failed --search holiday", "failed tasks with a word in type, paths or error"),
        ("tasktrail list --as-of 2026-08-01T12:00:00Z --json", "as it was then, for a program"),
    ],
)
@click.option("--status", default="", metavar="A,B", help="pending, running, completed, failed, cancelled, retrying.")
@click.option("--type", default="", metavar="A,B", help="Task types.")
@click.option("--user", "user_id", default="", metavar="ID,ID", help="Tasks of these users; 0 is nobody.")
@click.option("--document", "document_id", default="", metavar="ID,ID", help="Tasks of these documents.")
@click.option("--parent", "parent_task_id", default="", metavar="ID,ID", help="Tasks that are part of these.")
@click.option("--search", default="", metavar="WORDS", help="All of these must begin a word in type, paths or error.")
@click.option("--as-of", default="", metavar="POSITION|TIME", help="As it was at a position of the log, or at a time.")
@click.option(
    "--sort",
    default="",
    metavar="FIELD",
    help="created_at, id, updated_at, priority or effective_priority; a - before it turns it round "
    "(write --sort=-priority). Default: -created_at",
)
@click.option("--limit", default="", metavar="N", help="At most so many, up to 500. Default: 50")
@click.option("--offset", default="", metavar="N", help="Leave out the first N.")
@pass_session
def command(session: Session, /, **texts: str) -> None:
    """List tasks, newest first. Several values, separated by commas, are alternatives."""
    from ...projections import TaskFilters

    filters = TaskFilters.parse(texts)
    with session.reading() as reading:
        tasks, total = reading.list_tasks(filters)
    if session.as_json:
        for task in tasks:
            print_json(task)
        return
    if not tasks:
        click.echo("No task passes the filters." if total == 0 else f"None beyond {filters.offset} of {total}.")
        return
    print_table(_HEADINGS, map(_row, tasks), right=(0, 3, 4))
    if total > len(tasks):
        click.echo(f"{len(tasks)} of {total}; --limit and --offset show others.", err=True)


def _row(task: "Task") -> tuple[str, ...]:
    return (
        str(task.id),
        "held" if task.held and task.status == "pending" else task.status,
        task.type,
        percent(task.progress),
        str(task.priority),
        moment(task.created_at),
        PurePath(task.input_file).name,
        task.error or (task.message if task.completed_at is None else ""),
    )
