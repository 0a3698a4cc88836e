"""`tasktrail source add|list|remove|pause|resume`: watched folders, whose files become tasks by themselves."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from ..events.commands import AddSource, PauseSource, RemoveSource, ResumeSource
from .command import CliCommand, CliGroup, everywhere, pass_session
from .completion import Completion, SuggestedParam
from .fields import absolute, absolute_pattern, default_actor, options_of, reason_and_actor, source_field_options
from .operate import actor_and_reason, send
from .parameters import TYPE, GivenPathParam, as_of_note, as_of_option
from .session import Session
from .terminal import Column, plain, print_json, say

_COLUMNS = (
    Column("SOURCE"),
    Column("STATE"),
    Column("DOES"),
    Column("WATCHES", "name"),
    Column("TO", "name"),
    Column("ADDED", leaves=2),
    Column("BY", leaves=1, extra=True),
)


def _names(session: Session) -> Iterator[Completion]:
    with session.reading() as reading:
        for one in reading.sources():
            yield one.source, ", ".join(one.inputs)


_name = click.argument("name", type=SuggestedParam("name", _names))


@click.group("source", cls=CliGroup, params=everywhere(root=False))
def source_command() -> None:
    """Watch folders: each file that is new or has changed becomes one task, once it is no longer being written."""


@source_command.command(
    "add",
    cls=CliCommand,
    examples=[
        ("tasktrail source add inbox in/ --to web/ --preset web-720p", "films that arrive"),
        ("tasktrail source add scans '/nas/**/*.pdf' --to 'pages/{stem}.zip' --poll 5m", "a pattern, on a share"),
    ],
)
@click.argument("name")
@click.argument("inputs", nargs=-1, required=True, type=GivenPathParam(path_type=str), metavar="IN…")
@click.option("--to", required=True, metavar="PATTERN", help="What the outputs are called, as for `tasktrail batch`.")
@click.option("--type", "task_type", type=TYPE, metavar="TYPE", help="What to do. Default: by what each file and its "
              "output are.")  # fmt: skip
@options_of(AddSource, "settle", "poll", "replace")
@source_field_options
@pass_session
def add_source(
    session: Session,
    /,
    name: str,
    inputs: tuple[str, ...],
    to: str,
    task_type: str | None,
    settle: float | None,
    poll: float | None,
    *,
    replace: bool | None,
    **given: Any,
) -> None:
    """Watch folders, with all below them, and patterns in quotes.

    A file becomes a task when it has been unchanged for --settle seconds and no program has it open for writing. Each
    content of a file becomes one task, also over restarts; if the file changes later, that is another task. Hidden
    files and unfinished downloads (.part, .tmp, …) are left alone. Files that are already there count as new. The tasks
    of a source form a batch with its name: `tasktrail batches NAME`, `list --batch NAME`.
    """
    envelope = {"reason": given.pop("reason"), "command_id": given.pop("command_id"), "actor": given.pop("actor")}
    task = {field: value for field, value in given.items() if value is not None}
    if task_type:
        task["type"] = task_type
    send(
        session,
        AddSource,
        {
            "source": name,
            "inputs": list(map(absolute, inputs)),
            "to": absolute_pattern(to),
            "task": task,
            "settle": settle,
            "poll": poll,
            "replace": replace,
            **envelope,
            "actor": envelope["actor"] or default_actor(),
        },
    )
    for path in map(absolute, inputs):
        if not session.url and {"*", "?", "["}.isdisjoint(path) and not os.path.lexists(path):
            say(f"{plain(path)} is not there yet; it is watched as soon as it is", err=True)


@source_command.command(
    "list",
    cls=CliCommand,
    examples=[
        ("tasktrail source list", "all of them"),
        ("tasktrail source list --as-of -7d", "as of a week ago, and which were paused"),
    ],
)
@as_of_option
@pass_session
def list_sources(session: Session, as_of: int | datetime | None) -> None:
    """List the sources. `tasktrail batches NAME` shows the results of one."""
    with session.reading() as reading:
        sources = reading.sources(as_of=as_of)
    if session.as_json:
        for one in sources:
            print_json(one)
        return
    if not sources and as_of is not None:
        click.echo("There was no source then.")
        return
    if not sources:
        say("There is no source. `tasktrail source add --help` tells how to add one.")
        return
    layout = session.layout(as_of)
    rows = [
        (
            one.source,
            "paused" if one.paused else "watching",
            str(one.task.get("preset") or one.task.get("type") or "by kind"),
            plain(", ".join(one.inputs)),
            plain(one.to),
            layout.when(one.added_at),
            plain(one.actor),
        )
        for one in sources
    ]
    layout.table(_COLUMNS, rows)
    if as_of is not None:
        say(as_of_note(as_of))


@source_command.command("remove", cls=CliCommand, examples=[("tasktrail source remove inbox", "no more tasks of it")])
@_name
@reason_and_actor
@pass_session
def remove_source(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Stop watching its folders; tasks that it has created stay."""
    send(session, RemoveSource, {"source": name, **actor_and_reason(reason, actor)})


@source_command.command("pause", cls=CliCommand, examples=[("tasktrail source pause inbox", "for now")])
@_name
@reason_and_actor
@pass_session
def pause_source(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Make it create no tasks for now; those that it has created go on."""
    send(session, PauseSource, {"source": name, **actor_and_reason(reason, actor)})


@source_command.command("resume", cls=CliCommand, examples=[("tasktrail source resume inbox", "with what came since")])
@_name
@reason_and_actor
@pass_session
def resume_source(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Let it create tasks again, also for files that came meanwhile."""
    send(session, ResumeSource, {"source": name, **actor_and_reason(reason, actor)})
