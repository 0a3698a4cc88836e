"""`tasktrail submit`: one new task, or a stream of commands."""

import sys
from io import BufferedReader
from typing import Any

import click

from ..events.errors import NotReady, OutcomeUnknown
from .command import CliCommand, pass_session
from .failing import complain
from .fields import build_command, task_field_options
from .parameters import FILE, TYPE
from .session import Session
from .spread import spread_as_asked, spread_option
from .terminal import print_json, say

_OF_ALL = ("command_id", "actor", "reason", "traceparent")


@click.command(
    "submit",
    cls=CliCommand,
    examples=[
        ("tasktrail submit video_convert a.mov a.mp4 --priority 8 --depends-on 3,4", "prints the new task's number"),
        ("tasktrail submit --from commands.jsonl", "a file of commands, one JSON object a line"),
        ("tasktrail submit video_convert a.mov a.mp4 --spread 3", "one film, encoded by three nodes"),
        ("tasktrail submit --graph graph.json", "tasks that depend on each other by name; all or none"),
    ],
)
@click.argument("task_type", type=TYPE, metavar="TYPE", default="")
@click.argument("input_file", type=FILE, metavar="[INPUT]", default="")
@click.argument("output_file", type=FILE, metavar="[OUTPUT]", default="")
@click.option(
    "--from", "source", type=click.File("rb"), metavar="FILE|-", help="Read commands as JSON Lines instead; - is stdin."
)
@click.option(
    "--graph", type=click.File("rb"), metavar="FILE|-", help="Read several tasks from a JSON array; each has a `name`."
)
@spread_option
@task_field_options
@pass_session
def submit_command(
    session: Session,
    /,
    task_type: str,
    input_file: str,
    output_file: str,
    source: BufferedReader | None,
    graph: BufferedReader | None,
    spread: int | None,
    **given: Any,
) -> int:
    """Send a new task to the running service; it is durable when this returns.

    It does not wait for the task's end: `tasktrail watch ID` does, and `tasktrail run` sends a task and waits.

    With --from every line is a command such as {"command": "create_task", "type": ...}. Each is answered, in order and
    as soon as it is durable, by a line of JSON: {"task_id", "position", "command_id"}, or a problem with "code" and
    "detail". A refused line does not stop the others; the exit code is then 1.
    """
    if graph is not None:
        if (
            task_type
            or source
            or spread is not None
            or any(value for name, value in given.items() if name not in _OF_ALL)
        ):
            raise click.UsageError("--graph takes whole tasks; give no TYPE, --from or option of a task with it.")
        from .submit_from import read_graph

        return _submit_one(session, read_graph(graph, {name: given[name] for name in _OF_ALL}))
    if source is not None:
        if task_type or spread is not None or any(value for value in given.values()):
            raise click.UsageError("--from takes whole commands; give neither TYPE nor options of a task with it.")
        from .submit_from import send_stream

        with session.tasks() as tasks:
            return send_stream(tasks, source, sys.stdout.buffer)
    if not task_type:
        raise click.UsageError("Missing argument 'TYPE', or --from.")
    return _submit_one(session, build_command(session, task_type, input_file, output_file, given), spread)


def _submit_one(session: Session, wanted: Any, parts: int | None = None) -> int:
    with session.tasks() as tasks:
        if parts is not None:
            spreading = spread_as_asked(tasks, wanted, parts)
            wanted = spreading.command
            if spreading.not_spread:
                say(f"one task converts it: {spreading.not_spread}", err=True)
        try:
            accepted = tasks.send(wanted)
        except (OutcomeUnknown, NotReady) as error:
            return complain(error, as_json=session.as_json, command_id=wanted.command_id)
    if session.as_json:
        print_json(accepted)
    elif accepted.ids:
        for name, task_id in accepted.ids.items():
            click.echo(f"{name}: {task_id}")
    else:
        if accepted.existing:
            click.echo(f"Task {accepted.task_id} is open and has this key; nothing was created.", err=True)
        click.echo(accepted.task_id)
    return 0
