"""`tasktrail notices`, `redeliver`, `endpoints`, `enable`: the status of notices, and how to send them again."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from .command import CliCommand, pass_session
from .completion import SuggestedParam
from .completion import disabled_endpoints as endpoints_of
from .failing import DONE, complain
from .fields import default_actor, reason_and_actor
from .parameters import TASK_ID
from .session import Session
from .terminal import Column, TerminalLayout, plain, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..api.protocol import Reading
    from ..projections import NoticeStatus


_NOTICES = (
    Column("EVENT"),
    Column("CHANNEL"),
    Column("TO", leaves=3),
    Column("STATE"),
    Column("TRIES", right=True, leaves=2, extra=True),
    Column("NEXT TRY", leaves=1),
    Column("NOTICE", leaves=4),
    Column("DETAIL", "text", leaves=5),
)
_ENDPOINTS = (
    Column("ENDPOINT"),
    Column("SINCE", leaves=1),
    Column("POSITION", right=True, leaves=2, extra=True),
    Column("DETAIL", "text", leaves=3),
)
_UNSENT = ("given_up", "disabled")


@click.command(
    "notices",
    cls=CliCommand,
    examples=[
        ("tasktrail notices 3", "who was notified about task 3, and with what result"),
        ("tasktrail notices 3 --json", "one JSON object a line"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@pass_session
def notices_command(session: Session, task_id: int) -> None:
    """Show the notices of a task: delivered, pending, given up, or not sent because the endpoint is disabled."""
    with session.reading() as reading:
        notices = reading.notices(task_id)
        no_notices = "" if notices else _no_notices(reading, task_id)
    if session.as_json:
        for notice in notices:
            print_json(notice)
    elif notices:
        layout = session.layout()
        layout.table(_NOTICES, (_row(notice, layout) for notice in notices))
    else:
        say(no_notices)


def _no_notices(reading: "Reading", task_id: int) -> str:
    from ..events.task_events import ERASED

    if reading.get_task(task_id).input_file == ERASED:
        return f"the receivers of the notices of task {task_id}, if any, were erased"
    return "no notices so far"


def _row(notice: "NoticeStatus", layout: TerminalLayout) -> tuple[str, ...]:
    return (
        notice.event,
        notice.channel,
        notice.target,
        notice.state.replace("_", " "),
        str(notice.tries),
        "due" if notice.next_at and notice.next_at <= layout.now else layout.when(notice.next_at) or "-",
        notice.notice_id,
        notice.detail,
    )


def in_short(notices: "Sequence[NoticeStatus]") -> str:
    """Describe how many are in which state: `2 delivered, 1 pending`."""
    numbers = Counter(notice.state.replace("_", " ") for notice in notices)
    return ", ".join(f"{number} {state}" for state, number in sorted(numbers.items())) or "-"


@click.command(
    "redeliver",
    cls=CliCommand,
    examples=[
        ("tasktrail redeliver 3", "all notices of task 3 that were not delivered"),
        ("tasktrail redeliver 3 0a1b2c3d4e5f-3-1-7-webhook", "just this one, also if it was delivered"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.argument("notice_ids", nargs=-1, metavar="[NOTICE…]")
@reason_and_actor
@pass_session
def redeliver_command(
    session: Session, task_id: int, notice_ids: tuple[str, ...], reason: str | None, actor: str | None
) -> int:
    """Send notices of a task again, under their old ids: the named ones, or all that were given up or not sent."""
    from ..events.errors import TasktrailError

    code = DONE
    with session.tasks() as tasks:
        notices = [] if notice_ids else tasks.notices(task_id)
        wanted = notice_ids or [one.notice_id for one in notices if one.state in _UNSENT]
        for notice_id in wanted:
            try:
                accepted = tasks.redeliver(task_id, notice_id, reason=reason or "", actor=actor or default_actor())
            except TasktrailError as error:
                code = max(code, complain(error, as_json=session.as_json, task_id=task_id))
            else:
                if session.as_json:
                    print_json(accepted)
                else:
                    say(f"{notice_id}: accepted at position {accepted.position}")
        if not wanted and not session.as_json:
            say("every notice was delivered or is on its way" if notices else _no_notices(tasks, task_id))
    return code


@click.command(
    "endpoints",
    cls=CliCommand,
    examples=[("tasktrail endpoints", "receivers that answered 410 Gone, to which nothing is sent")],
)
@pass_session
def endpoints_command(session: Session) -> None:
    """List the disabled endpoints; `enable` sends notices there again."""
    with session.reading() as reading:
        endpoints = reading.endpoints()
    if session.as_json:
        for endpoint in endpoints:
            print_json(endpoint)
    elif endpoints:
        layout = session.layout()
        rows = [(one.target, layout.when(one.since), str(one.position), one.detail) for one in endpoints]
        layout.table(_ENDPOINTS, rows)
    else:
        say("no endpoint is disabled")


@click.command(
    "enable",
    cls=CliCommand,
    examples=[("tasktrail enable https://example.org/hook --reason 'it is back'", "notices go there again")],
)
@click.argument("target", type=SuggestedParam("url", endpoints_of), metavar="URL")
@reason_and_actor
@pass_session
def enable_command(session: Session, target: str, reason: str | None, actor: str | None) -> None:
    """Send notices again to a disabled endpoint. `redeliver` sends those that were missed meanwhile."""
    with session.tasks() as tasks:
        accepted = tasks.enable_endpoint(target, reason=reason or "", actor=actor or default_actor())
    if session.as_json:
        print_json(accepted)
    else:
        say(f"{plain(target)}: accepted at position {accepted.position}")
