"""Turns a form that a page has sent into a command of the caller."""

import re
from collections.abc import Mapping
from typing import Any

from litestar import Request

from ..events import Accepted, Command, TasktrailError
from ..events.errors import InvalidValue
from ..http.backend import Backend
from ..http.identity import Identity
from ..http.requests import read_form
from ..intake.conversion import command_from_fields


async def sent(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of the form, as they were typed."""
    return {name: str(value) for name, value in (await read_form(request)).items()}


def parse_priority(text: str) -> int:
    """Parse a typed priority. Raises `InvalidValue`."""
    if not re.fullmatch(r"\s*[0-9]{1,2}\s*", text):
        raise InvalidValue(f"priority: {text[:40]!r} is no whole number from 0 to 10", field="priority")
    return int(text)


async def act(backend: Backend, who: Identity, kind: type[Command], fields: Mapping[str, Any]) -> Accepted:
    """Send a command; it is durable when this returns. Raises the error if it is refused."""
    command = command_from_fields(kind, dict(fields))
    (answer,) = await backend.send(who, lambda: [command])
    if isinstance(answer, TasktrailError):
        raise answer
    return answer
