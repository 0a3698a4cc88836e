"""Parameters of addresses: the shared kinds, and a guard against misspelt ones."""

from difflib import get_close_matches
from typing import Annotated, Any, TypeAlias

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import PathParameter, QueryParameter

from ..events import TasktrailError
from ..events.errors import Malformed, UnknownTask
from ..projections.queries.as_of import Point, parse_point

LARGEST = 2**53
"""The largest number that every reader of JSON takes for what it is."""

TaskId: TypeAlias = Annotated[int, PathParameter(description="The task's number")]
Position: TypeAlias = Annotated[int, QueryParameter(ge=0, le=LARGEST, description="A position of the log")]
MinPosition: TypeAlias = Annotated[
    int, QueryParameter(ge=0, le=LARGEST, description="Answer only once this position can be seen: read your own write")
]
AsOf: TypeAlias = Annotated[
    str | None, QueryParameter(description="An earlier moment: a position, or a time as in RFC 3339")
]


def point(text: str | None) -> Point | None:
    """The moment that `as_of` names. Raises `InvalidValue`."""
    return parse_point(unescaped(text)) if text else None


def possible_task(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Refuse a task's number that no database could hold before one is asked."""
    task_id = connection.path_params.get("task_id")
    if task_id is not None and not 1 <= task_id <= LARGEST:
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")


def unescaped(moment: str) -> str:
    """The `+` of a time zone, which arrives as a space when it was not escaped."""
    return moment[:11] + moment[11:].replace(" ", "+")


def known_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse a parameter that the route does not know: a misspelt filter must not answer with everything.

    One that is given twice and takes one value is refused too: nobody could say which of them is meant.
    """
    known = handler.parsed_fn_signature.parameters
    given = connection.query_params
    for name in given:
        if name not in known:
            raise _unknown(name, list(known))
        takes = known[name]
        several = takes.is_non_string_sequence or any(kind.is_non_string_sequence for kind in takes.inner_types)
        if not several and len(given.getall(name)) > 1:
            raise Malformed(f"`{name}` is given more than once", field=name, remedy="Give it once.")


def _unknown(name: str, known: list[str]) -> TasktrailError:
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return Malformed(
        f"There is no parameter `{name}` here{hint}", field=name, remedy="GET /openapi.json lists the parameters."
    )
