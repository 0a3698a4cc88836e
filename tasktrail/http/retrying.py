"""The route that retries many tasks at once."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.di import NamedDependency

from ..api.bulk import retry_answer
from ..events.commands import Seconds
from ..projections import TaskFilters
from ..projections.queries.filters import Ids, Texts
from .commands import json_body
from .decode import MAX_COMMAND, decode_as
from .desk import Desk


class RetryTasks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to retry: the filters of the list, and what every command may have."""

    status: Texts = "failed"
    type: Texts = ()
    user_id: Ids = ()
    document_id: Ids = ()
    parent_task_id: Ids = ()
    label: Texts = ()
    search: str = ""
    force: bool = False
    """Also beyond `max_retries`."""
    delay: Seconds = 0.0
    """Seconds to wait first."""
    command_id: str = ""
    actor: str = ""
    reason: str = ""


_FILTERS = ("status", "type", "user_id", "document_id", "parent_task_id", "label", "search")


@post("/v1/tasks/retry", status_code=202, request_max_body_size=MAX_COMMAND)
async def retry_tasks(request: Request[Any, Any, Any], desk: NamedDependency[Desk]) -> dict[str, Any]:
    """Give every failed task that passes the filters another life. A refusal of one stops no other."""
    body = await json_body(request)

    def retry() -> dict[str, Any]:
        wanted = decode_as(RetryTasks, body)
        result = desk.service.retry_tasks(
            TaskFilters(**{name: getattr(wanted, name) for name in _FILTERS}),
            force=wanted.force,
            delay=wanted.delay,
            reason=wanted.reason,
            actor=wanted.actor,
            command_id=wanted.command_id,
        )
        return retry_answer(result)

    return await desk.bulk(retry)


ROUTES = (retry_tasks,)
