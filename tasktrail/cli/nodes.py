"""`tasktrail nodes [drain|undrain]`: the machines that attempts run on."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ..events.commands import DrainNode, UndrainNode
from ..words import size
from .command import CliCommand, CliCommandGroup, pass_session
from .completion import Completion, SuggestedParam
from .fields import reason_and_actor
from .operate import actor_and_reason, send
from .parameters import as_of_note, as_of_option
from .session import Session
from .terminal import Column, plain, print_json, say

if TYPE_CHECKING:
    from ..actors.core.node_board import NodeBoard

_COLUMNS = (
    Column("NODE"),
    Column("STATE", "text"),
    Column("RUNNING", right=True),
    Column("CPUS", right=True),
    Column("CPU", right=True),
    Column("MEMORY FREE", right=True, leaves=1),
    Column("TEMP FREE", right=True, leaves=2),
    Column("GPUS", right=True, leaves=5),
    Column("SEEN", leaves=4),
    Column("LABELS", "text", leaves=3),
)


def _names(session: Session) -> Iterator[Completion]:
    with session.reading() as reading:
        for one in reading.nodes():
            if one.state != "lost":
                yield one.node, one.state


_name = click.argument("name", type=SuggestedParam("name", _names))


@click.group(
    "nodes",
    cls=CliCommandGroup,
    examples=[
        ("tasktrail nodes", "all of them, with what each has free"),
        ("tasktrail nodes drain gpu-1 --reason 'new disk'", "nothing more starts there"),
        ("tasktrail nodes --json", "for a program: one JSON object a line"),
        ("tasktrail nodes --as-of -2h", "which were there two hours ago, as far as the log shows"),
    ],
)
@as_of_option
@pass_session
def nodes_command(session: Session, as_of: int | datetime | None) -> None:
    """List the machines that attempts run on. Without a cluster that is one, called `local`.

    RUNNING: how many attempts run there, and how many can at once. A node is `ready` while it is not being drained,
    even if it cannot be reached: see SEEN. It is `drained` once a drain has left nothing running there, and `lost` if
    it was there and is gone. `tasktrail why ID` says why a task runs on none.
    """
    if click.get_current_context().invoked_subcommand is None:
        _list(session, as_of)
    elif as_of is not None:
        raise click.UsageError("The past cannot be changed: leave --as-of out.")


def _list(session: Session, as_of: int | datetime | None) -> None:
    with session.reading() as reading:
        nodes = reading.nodes(as_of=as_of)
    if session.as_json:
        for one in nodes:
            print_json(one)
        return
    layout = session.layout(as_of)
    layout.table(
        _COLUMNS,
        [
            (
                plain(one.node),
                _state(one),
                f"{one.running} of {one.workers}" if as_of is None else str(one.running),
                f"{one.cpus:g}" if one.cpus else "",
                "" if one.cpu_percent is None else f"{one.cpu_percent:.0f} %",
                _free(one.memory_free, one.memory),
                _free(one.temp_free, one.temp),
                f"{one.gpus:g}" if one.gpus else "",
                "" if one.last_seen is None else layout.when(one.last_seen),
                plain(", ".join(f"{key}={value}" for key, value in sorted(one.labels.items()))),
            )
            for one in nodes
        ],
    )
    if as_of is not None:
        say(f"{as_of_note(as_of)} What a node had free, and when it was looked at, is not recorded.")


def _state(node: "NodeBoard") -> str:
    return f"{node.state}: {plain(node.drain.reason)}" if node.drain is not None and node.drain.reason else node.state


def _free(free: int | None, total: int | None) -> str:
    if free is None:
        return ""
    return f"{size(free)} of {size(total)}" if total else size(free)


@nodes_command.command(
    "drain", cls=CliCommand, examples=[("tasktrail nodes drain gpu-1 --reason 'new disk'", "before it is shut down")]
)
@_name
@reason_and_actor
@pass_session
def drain_node(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Start nothing more on a node. What runs there goes on; `tasktrail nodes` says `drained` when nothing does.

    It holds over restarts, until `tasktrail nodes undrain`.
    """
    send(session, DrainNode, {"node": name, **actor_and_reason(reason, actor)})


@nodes_command.command("undrain", cls=CliCommand, examples=[("tasktrail nodes undrain gpu-1", "it is back")])
@_name
@reason_and_actor
@pass_session
def undrain_node(session: Session, name: str, reason: str | None, actor: str | None) -> None:
    """Let attempts start on a node again."""
    send(session, UndrainNode, {"node": name, **actor_and_reason(reason, actor)})
