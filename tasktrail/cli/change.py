"""`tasktrail start`, `cancel`, `retry`: a command for tasks named by ids or filters, with an answer for each."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..events.commands import CancelTask, RetryTask
from ..events.counted import counted
from ..words import duration, moment
from .command import CliCommand, pass_session
from .completion import BATCHES, STATUS_WORDS, TYPES
from .failing import DONE, NO_SERVICE, complain
from .fields import F, default_actor, options_of, reason_and_actor, with_options
from .parameters import OPEN, OPEN_ID, WAITING_ID, TaskIdParam
from .session import Session
from .terminal import print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from ..api.protocol import Tasks
    from ..events import Accepted, TasktrailError


def names_some(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse what was given and is empty, or `,`, as an unset variable is: with such a filter every task would pass."""
    if not value.strip(" ,") and param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty: name something, or leave the option out.", ctx, param)
    return value


def filter_options(statuses: str) -> Callable[[F], F]:
    """Add an option for each filter; `statuses`: the help text that lists the possible statuses."""
    option = partial(click.option, default="", callback=names_some)
    return lambda function: with_options(
        function,
        option("--status", type=STATUS_WORDS, metavar="A,B", help=statuses),
        option("--type", type=TYPES, metavar="A,B", help="Task types."),
        option("--user", "user_id", metavar="ID,ID", help="Tasks of these users; 0: without a user."),
        option("--document", "document_id", metavar="ID,ID", help="Tasks of these documents."),
        option("--parent", "parent_task_id", metavar="ID,ID", help="Tasks that are part of these."),
        option("--label", metavar="A,B", help="Tasks of these labels."),
        option("--batch", type=BATCHES, metavar="A,B", help="Tasks of these batches."),
        option("--search", metavar="WORDS", help="Each of these must begin a word in type, paths or error."),
    )


def many_or_ids(ids: tuple[int, ...], filters: dict[str, str], example: str) -> bool:
    """Whether filters were given instead of ids. Raises a usage error for both, and for neither."""
    if any(filters.values()):
        if ids:
            raise click.UsageError("Give ids or filters, not both.")
        return True
    if not ids:
        raise click.UsageError(f"Missing argument 'ID…', or a filter such as {example}.")
    return False


def retry_filtered(session: Session, filters: dict[str, str], **how: Any) -> int:
    """Retry the tasks that pass the filters. Prints how many were retried, and why others were refused."""
    from ..api.bulk import retry_answer
    from ..projections import TaskFilters

    wanted = TaskFilters.parse(filters)
    with session.tasks() as tasks:
        result = tasks.retry_tasks(wanted, **how)
    if session.as_json:
        print_json(retry_answer(result))
    return _report(session, len(result.retried), result.refused, "retried")


def cancel_filtered(
    session: Session, filters: dict[str, str], *, reason: str, actor: str, children: bool, yes: bool
) -> int:
    """Cancel the tasks that pass the filters, after a question that says how many there are."""
    from ..api.bulk import bulk_answer, changeable
    from ..projections import TaskFilters

    wanted = TaskFilters.parse(filters)
    with session.tasks_or_log() as tasks:
        ids = tasks.find_ids(changeable(wanted, OPEN, usual=OPEN))
        if ids and not yes:
            _ask(session, f"Cancel {_tasks(len(ids))}?")
        answers = tasks.send_each(
            ids[::-1],  # else tasks that wait for others would fail because those were cancelled
            lambda task_id: CancelTask(task_id=task_id, reason=reason, actor=actor, children=children),
        )
    if session.as_json:
        print_json(bulk_answer(sorted(answers.done), answers.refused, answers.position, name="cancelled"))
    return _report(session, len(answers.done), answers.refused, "cancelled")


def _tasks(number: int) -> str:
    return counted(number, "task")


def _ask(session: Session, question: str) -> None:
    """Ask, and raise an error unless the answer is yes."""
    answer = session.environment.ask(question)
    if answer is None:
        raise click.UsageError(f"{question} There is no terminal to ask on: give --yes, or see `tasktrail list`.")
    if not answer:
        raise click.Abort


def _report(session: Session, done: int, refused: "Mapping[int, TasktrailError]", word: str) -> int:
    """Print why tasks were refused, and how many were not. Returns the exit code. Repeated advice is printed once."""
    code = DONE
    following = [error.advice for error in refused.values()][1:]
    for (task_id, error), after in zip_longest(refused.items(), following):
        code = max(code, complain(error, as_json=session.as_json, advise=error.advice != after, task_id=task_id))
    if not session.as_json:
        say(f"{done} {word}, {len(refused)} refused")
    return code


waiting_ids = click.argument("ids", nargs=-1, required=True, type=WAITING_ID, metavar="ID…")
open_ids = click.argument("ids", nargs=-1, type=OPEN_ID, metavar="[ID…]")
ended_ids = click.argument("ids", nargs=-1, type=TaskIdParam("failed", "cancelled"), metavar="[ID…]")


@click.command(
    "start",
    cls=CliCommand,
    examples=[
        ("tasktrail start 3", "task 3 waits or is held: run it now"),
        ("tasktrail start 3 4 --reason 'needed today'", "two at once, with a reason for the history"),
    ],
)
@waiting_ids
@reason_and_actor
@pass_session
def start_command(session: Session, ids: tuple[int, ...], reason: str | None, actor: str | None) -> int:
    """Release held tasks, or start waiting ones now, ahead of the queue.

    A task that cannot start at once is refused with the reasons, and nothing changes.
    """
    who, why = actor or default_actor(), reason or ""
    return _each(
        session.tasks(),
        ids,
        lambda tasks, task_id: tasks.start_task(task_id, reason=why, actor=who),
        as_json=session.as_json,
    )


@click.command(
    "cancel",
    cls=CliCommand,
    examples=[
        ("tasktrail cancel 3", "stop task 3, whether it waits or runs"),
        ("tasktrail cancel 3 4 5 --reason 'wrong input'", "several, with a reason for the history"),
        ("tasktrail cancel 3 --children", "task 3 and everything below it, all at once"),
        ("tasktrail cancel --label import-7 --yes", "all unfinished tasks of a label, without a question"),
    ],
)
@open_ids
@filter_options("pending, running, retrying. Default: all three")
@click.option("--yes", is_flag=True, help="With filters: cancel without asking.")
@options_of(CancelTask, "children")
@reason_and_actor
@pass_session
def cancel_command(
    session: Session,
    /,
    ids: tuple[int, ...],
    reason: str | None,
    actor: str | None,
    *,
    yes: bool,
    children: bool | None,
    **filters: str,
) -> int:
    """Stop tasks, whether they wait or run; `retry` brings them back.

    With filters instead of ids, every unfinished task that passes them is cancelled, after a question that says how
    many. Without a service it does so by itself, and starts nothing: a service would first go on with the tasks.
    """
    who, why = actor or default_actor(), reason or ""
    if many_or_ids(ids, filters, "--type video_convert"):
        return cancel_filtered(session, filters, reason=why, actor=who, children=bool(children), yes=yes)
    return _each(
        session.tasks_or_log(),
        ids,
        lambda tasks, task_id: tasks.cancel_task(task_id, reason=why, actor=who, children=bool(children)),
        as_json=session.as_json,
    )


@click.command(
    "retry",
    cls=CliCommand,
    examples=[
        ("tasktrail retry 3", "task 3 has failed or was cancelled: once more, now"),
        ("tasktrail retry 3 --delay 10m", "not before ten minutes are over"),
        ("tasktrail retry 3 --force --reason 'disk was full'", "although its retries are used up"),
        ("tasktrail retry --status failed --type video_convert", "all failed tasks of a type"),
    ],
)
@ended_ids
@filter_options("failed, cancelled. Default: failed")
@options_of(RetryTask, "force", "delay", ranged=False)
@reason_and_actor
@pass_session
def retry_command(
    session: Session,
    /,
    ids: tuple[int, ...],
    reason: str | None,
    actor: str | None,
    *,
    force: bool | None,
    delay: float | None,
    **filters: str,
) -> int:
    """Give failed or cancelled tasks another life, from their last checkpoint where they have one.

    With filters instead of ids, every failed task that passes them is retried. Each gets its own answer; a refusal does
    not stop the others.
    """
    who, why = actor or default_actor(), reason or ""
    if many_or_ids(ids, filters, "--status failed"):
        return retry_filtered(session, filters, reason=why, actor=who, force=bool(force), delay=delay or 0.0)
    return _each(
        session.tasks(),
        ids,
        lambda tasks, task_id: tasks.retry_task(task_id, reason=why, actor=who, force=bool(force), delay=delay or 0.0),
        lambda tasks, task_id: _due(session, tasks, task_id),
        as_json=session.as_json,
    )


def _due(session: Session, tasks: "Tasks", task_id: int) -> str:
    """Describe when the requested delay is over; empty if it is over already, or unknown."""
    from ..events.errors import TasktrailError

    with suppress(TasktrailError):
        due_at, now = tasks.get_task(task_id).due_at, session.environment.now()
        if due_at is not None and due_at > now:
            return f"; due at {moment(due_at)}, in {duration((due_at - now).total_seconds())}"
    return ""


def _each(
    opened: "AbstractContextManager[Tasks]",
    ids: tuple[int, ...],
    send: Callable[["Tasks", int], "Accepted"],
    more: Callable[["Tasks", int], str] = lambda _tasks, _task_id: "",
    *,
    as_json: bool,
) -> int:
    """Send for one task after the other; if one is refused, the others are still sent.

    `more` returns what is printed for people after the position.
    """
    from ..events.errors import TasktrailError

    code = DONE
    with opened as tasks:
        for task_id in ids:
            try:
                accepted = send(tasks, task_id)
            except TasktrailError as error:
                failed = complain(error, as_json=as_json, task_id=task_id)
                code = max(code, failed)
                if failed == NO_SERVICE:
                    break
            else:
                if as_json:
                    print_json(accepted)
                else:
                    say(f"task {task_id}: accepted at position {accepted.position}{more(tasks, task_id)}")
    return code
