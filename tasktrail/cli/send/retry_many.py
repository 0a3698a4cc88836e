"""`tasktrail retry` with filters instead of ids."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..failing import DONE, complain
from ..output import print_json, say
from ..session import Session

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--status", default="", metavar="A,B", help="failed, cancelled. Default: failed"),
    click.option("--type", default="", metavar="A,B", help="Task types."),
    click.option("--user", "user_id", default="", metavar="ID,ID", help="Tasks of these users; 0 is nobody."),
    click.option("--document", "document_id", default="", metavar="ID,ID", help="Tasks of these documents."),
    click.option("--parent", "parent_task_id", default="", metavar="ID,ID", help="Tasks that are part of these."),
    click.option("--search", default="", metavar="WORDS", help="Words that type, paths or error must have."),
)


def filter_options(function: F) -> F:
    """Add an option for each filter."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def retry_filtered(session: Session, filters: dict[str, str], *, reason: str, actor: str, force: bool) -> int:
    """Retry what passes the filters; say how many, and why others were refused."""
    from ...commands.retrying import as_json
    from ...projections import TaskFilters

    wanted = TaskFilters.parse(filters)
    with session.tasks() as tasks:
        result = tasks.retry_tasks(wanted, reason=reason, actor=actor, force=force)
    if session.as_json:
        print_json(as_json(result))
    code = DONE
    for task_id, error in result.refused.items():
        code = max(code, complain(error, as_json=session.as_json, task_id=task_id))
    if not session.as_json:
        say(f"{len(result.retried)} retried, {len(result.refused)} refused")
    return code
