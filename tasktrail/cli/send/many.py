"""`tasktrail retry` and `tasktrail cancel` with filters instead of ids."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..failing import DONE, complain
from ..known import STATUS_WORDS, TYPES
from ..output import print_json, say
from ..session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...events import TasktrailError

F = TypeVar("F", bound=Callable[..., Any])

_FILTERS = (
    click.option("--type", type=TYPES, default="", metavar="A,B", help="Task types."),
    click.option("--user", "user_id", default="", metavar="ID,ID", help="Tasks of these users; 0 is nobody."),
    click.option("--document", "document_id", default="", metavar="ID,ID", help="Tasks of these documents."),
    click.option("--parent", "parent_task_id", default="", metavar="ID,ID", help="Tasks that are part of these."),
    click.option("--label", default="", metavar="A,B", help="Tasks of these labels."),
    click.option("--search", default="", metavar="WORDS", help="Words that type, paths or error must have."),
)


def filter_options(statuses: str) -> Callable[[F], F]:
    """Add an option for each filter; `statuses` says which statuses there are to choose from."""

    def add(function: F) -> F:
        for option in reversed(
            (click.option("--status", type=STATUS_WORDS, default="", metavar="A,B", help=statuses), *_FILTERS)
        ):
            function = option(function)
        return function

    return add


def many_or_ids(ids: tuple[int, ...], filters: dict[str, str], example: str) -> bool:
    """Whether filters were given, and not ids. Raises a usage error for both, and for neither."""
    if any(filters.values()):
        if ids:
            raise click.UsageError("Give ids or filters, not both.")
        return True
    if not ids:
        raise click.UsageError(f"Missing argument 'ID…', or a filter such as {example}.")
    return False


def retry_filtered(session: Session, filters: dict[str, str], **how: Any) -> int:
    """Retry what passes the filters, as `Tasks.retry_tasks` is told; say how many, and why others were refused."""
    from ...api.bulk import retry_answer
    from ...projections import TaskFilters

    wanted = TaskFilters.parse(filters)
    with session.tasks() as tasks:
        result = tasks.retry_tasks(wanted, **how)
    if session.as_json:
        print_json(retry_answer(result))
    return _report(session, len(result.retried), result.refused, "retried")


def cancel_filtered(
    session: Session, filters: dict[str, str], *, reason: str, actor: str, children: bool, yes: bool
) -> int:
    """Cancel what passes the filters, after a question that says how many there are."""
    from ...api.bulk import bulk_answer, ids_that_pass, send_each
    from ...events import CancelTask
    from ...projections import TaskFilters

    wanted = TaskFilters.parse(filters)
    with session.tasks() as tasks:
        ids = ids_that_pass(tasks, wanted, allowed=_OPEN, usual=_OPEN)
        if ids and not yes:
            _ask(session, f"Cancel {_tasks(len(ids))}?")
        answers = send_each(
            tasks,
            ids,
            lambda task_id: CancelTask(task_id=task_id, reason=reason, actor=actor, children=children),
        )
    if session.as_json:
        print_json(bulk_answer(answers.done, answers.refused, answers.position, name="cancelled"))
    return _report(session, len(answers.done), answers.refused, "cancelled")


_OPEN = ("pending", "running", "retrying")


def _tasks(number: int) -> str:
    return f"{number} task{'' if number == 1 else 's'}"


def _ask(session: Session, question: str) -> None:
    """Go on only when somebody says yes."""
    answer = session.doors.ask(question)
    if answer is None:
        raise click.UsageError(f"{question} Nobody is there to answer: say --yes, or see them with `tasktrail list`.")
    if not answer:
        raise click.Abort


def _report(session: Session, done: int, refused: "Mapping[int, TasktrailError]", word: str) -> int:
    """Why some were refused, and how many were not; answers the exit code."""
    code = DONE
    for task_id, error in refused.items():
        code = max(code, complain(error, as_json=session.as_json, task_id=task_id))
    if not session.as_json:
        say(f"{done} {word}, {len(refused)} refused")
    return code
