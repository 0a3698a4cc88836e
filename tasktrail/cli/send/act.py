"""`tasktrail start`, `cancel`, `retry`: a command for one or several tasks, each answered for itself."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..failing import DONE, NO_SERVICE, complain
from ..fields import me, who_and_why
from ..output import print_json, say
from ..session import Session
from ..words import OPEN_ID, WAITING_ID, TaskId, duration, moment
from .many import cancel_filtered, filter_options, many_or_ids, retry_filtered

if TYPE_CHECKING:
    from ...api.protocol import Tasks
    from ...events import Accepted

waiting_ids = click.argument("ids", nargs=-1, required=True, type=WAITING_ID, metavar="ID…")
open_ids = click.argument("ids", nargs=-1, type=OPEN_ID, metavar="[ID…]")
ended_ids = click.argument("ids", nargs=-1, type=TaskId("failed", "cancelled"), metavar="[ID…]")


@click.command(
    "start",
    cls=Command,
    examples=[
        ("tasktrail start 3", "task 3 waits or is held: let it run now"),
        ("tasktrail start 3 4 --reason 'needed today'", "two at once, with a reason for the history"),
    ],
)
@waiting_ids
@who_and_why
@pass_session
def start(session: Session, ids: tuple[int, ...], reason: str | None, actor: str | None) -> int:
    """Release held tasks, or start waiting ones now, ahead of the queue.

    A task that cannot start at once is refused with the reasons, and nothing changes.
    """
    who, why = actor or me(), reason or ""
    return _each(session, ids, lambda tasks, task_id: tasks.start_task(task_id, reason=why, actor=who))


@click.command(
    "cancel",
    cls=Command,
    examples=[
        ("tasktrail cancel 3", "stop task 3, whether it waits or runs"),
        ("tasktrail cancel 3 4 5 --reason 'wrong input'", "several, with a reason for the history"),
        ("tasktrail cancel 3 --children", "task 3 and everything below it, all at once"),
        ("tasktrail cancel --label import-7 --yes", "all unfinished tasks of a label, without a question"),
    ],
)
@open_ids
@filter_options("pending, running, retrying. Default: all three")
@click.option("--yes", is_flag=True, help="With filters: do not ask first.")
@click.option("--children", is_flag=True, help="Also all tasks below it that are not over, in the same step.")
@who_and_why
@pass_session
def cancel(
    session: Session,
    /,
    ids: tuple[int, ...],
    reason: str | None,
    actor: str | None,
    *,
    yes: bool,
    children: bool,
    **filters: str,
) -> int:
    """Stop tasks, whether they wait or run; `retry` brings them back.

    Instead of ids there may be filters: then every unfinished task that passes them is cancelled, after a question
    that says how many there are.
    """
    who, why = actor or me(), reason or ""
    if many_or_ids(ids, filters, "--type video_convert"):
        return cancel_filtered(session, filters, reason=why, actor=who, children=children, yes=yes)
    return _each(
        session, ids, lambda tasks, task_id: tasks.cancel_task(task_id, reason=why, actor=who, children=children)
    )


@click.command(
    "retry",
    cls=Command,
    examples=[
        ("tasktrail retry 3", "task 3 has failed or was cancelled: once more, now"),
        ("tasktrail retry 3 --delay 600", "not before ten minutes are over"),
        ("tasktrail retry 3 --force --reason 'disk was full'", "although its retries are used up"),
        ("tasktrail retry --status failed --type video_convert", "all failed tasks of a type"),
    ],
)
@ended_ids
@filter_options("failed, cancelled. Default: failed")
@click.option("--force", is_flag=True, help="Also beyond the task's --max-retries; who forced it is recorded.")
@click.option("--delay", type=float, default=0.0, metavar="SECONDS", help="Wait so long first. Default: at once")
@who_and_why
@pass_session
def retry(
    session: Session,
    /,
    ids: tuple[int, ...],
    reason: str | None,
    actor: str | None,
    *,
    force: bool,
    delay: float,
    **filters: str,
) -> int:
    """Give failed or cancelled tasks another life, from their last checkpoint where they have one.

    Instead of ids there may be filters: then every failed task that passes them is retried. Each is answered for
    itself; a refusal does not stop the others.
    """
    who, why = actor or me(), reason or ""
    if many_or_ids(ids, filters, "--status failed"):
        return retry_filtered(session, filters, reason=why, actor=who, force=force, delay=delay)
    return _each(
        session,
        ids,
        lambda tasks, task_id: tasks.retry_task(task_id, reason=why, actor=who, force=force, delay=delay),
        more=lambda tasks, task_id: _due(session, tasks, task_id),
    )


def _due(session: Session, tasks: "Tasks", task_id: int) -> str:
    """When the delay that was asked for is over; empty if it is, or if nobody can say any more."""
    from ...events.errors import TasktrailError

    with suppress(TasktrailError):
        due_at, now = tasks.get_task(task_id).due_at, session.doors.now()
        if due_at is not None and due_at > now:
            return f"; due at {moment(due_at)}, in {duration((due_at - now).total_seconds())}"
    return ""


def _each(
    session: Session,
    ids: tuple[int, ...],
    send: Callable[["Tasks", int], "Accepted"],
    more: Callable[["Tasks", int], str] = lambda _tasks, _task_id: "",
) -> int:
    """Send for one task after the other; a refusal does not keep the others from being sent.

    `more`: what people are told beside the position.
    """
    from ...events.errors import TasktrailError

    code = DONE
    with session.tasks() as tasks:
        for task_id in ids:
            try:
                accepted = send(tasks, task_id)
            except TasktrailError as error:
                failed = complain(error, as_json=session.as_json, task_id=task_id)
                code = max(code, failed)
                if failed == NO_SERVICE:
                    break
            else:
                if session.as_json:
                    print_json(accepted)
                else:
                    say(f"task {task_id}: accepted at position {accepted.position}{more(tasks, task_id)}")
    return code
