"""Errors as `application/problem+json` (RFC 9457), whatever raised them."""

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Send

from ..actors.logger import get_logger
from ..actors.service_log import first_line
from ..errors import (
    BadRequest,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UnknownRoute,
    WrongMethod,
    problem,
)
from ..events import TasktrailError
from ..events.errors import InvalidValue, Malformed
from ..intake.refusals import sentence
from .nearest_route import nearest_route

MEDIA_TYPE = "application/problem+json"
logger = get_logger("tasktrail.http")


def unexpected() -> TasktrailError:
    """The error for a fault of the service itself. The log has its cause; the answer does not."""
    return TasktrailError("The service met a fault of its own while handling the request")


def _answer(error: TasktrailError, headers: dict[str, str] | None = None) -> Response[dict[str, Any]]:
    return Response(problem(error), status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def headers_of(error: TasktrailError) -> dict[str, str]:
    """Return the headers of the answer to an error."""
    match error:
        case Unauthorized():
            return {"www-authenticate": 'Bearer realm="tasktrail"', "connection": "close"}
        case RequestTimeout():
            return {"connection": "close"}
        case _:
            return {} if error.retry_after is None else {"retry-after": str(error.retry_after)}


def noted(method: str, path: str, error: Exception) -> TasktrailError:
    """Log the error as far as needed. Returns the error to answer with."""
    if isinstance(error, Malformed):  # not a command yet, whose refusal would be logged elsewhere
        message = first_line(error.message)
        logger.warning("a request could not be read", method=method, path=path, error=message, field=error.field)
    elif not isinstance(error, TasktrailError):
        logger.error("a request failed", method=method, path=path, exc_info=error)
        return unexpected()
    return error


async def send_problem(error: TasktrailError, send: Send) -> None:
    """Answer a request with an error, outside of the framework."""
    await _send_error(error, MEDIA_TYPE, msgspec.json.encode(problem(error)), send)


async def send_refusal(error: TasktrailError, headers: Mapping[bytes, bytes], send: Send) -> None:
    """Answer with an error: a person in a browser gets a page, a program the problem.

    The page is bare: whoever is refused at the door gets no style sheet either.
    """
    if not wants_page(headers):
        await send_problem(error, send)
        return
    status, title, message, advice = map(escape, (str(error.status), error.title, error.message, error.advice))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} · tasktrail</title><h1>{title}</h1><p>{message}</p><p>{advice}</p>"
        f"<p>{status} <code>{escape(error.code)}</code></p></html>"
    )
    await _send_error(error, "text/html; charset=utf-8", page.encode("utf-8", "replace"), send)


def wants_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks for something that a person is to read."""
    return b"text/html" in headers.get(b"accept", b"")


async def _send_error(error: TasktrailError, media_type: str, body: bytes, send: Send) -> None:
    fields = {**headers_of(error), "content-type": media_type, "content-length": str(len(body))}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _raised(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    reply = noted(request.method, request.url.path, error)
    return _answer(reply, headers_of(reply))


def refusal_of(request: Request[Any, Any, Any], error: HTTPException) -> TasktrailError | None:
    """Return the error for a refusal of Litestar's own (route, method, parameter, size); None for a service fault."""
    match error.status_code:
        case 404:
            near = nearest_route(request.url.path, request.app.state["routes"])
            hint = f"; did you mean {near}?" if near else ""
            return UnknownRoute(f"Nothing answers at {request.url.path}{hint}")
        case 405:
            return WrongMethod(f"{request.method} {request.url.path} is not possible")
        case 413:
            return TooLarge("The body is larger than this route takes")
        case 400 if isinstance(error.extra, list) and error.extra:
            first = error.extra[0]
            field = str(first.get("key", ""))
            return InvalidValue(sentence(field, str(first.get("message", error.detail)), field), field=field)
        case 500:
            return None
        case _:
            return BadRequest(error.detail)


def _framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    refusal = refusal_of(request, error)
    return _answer(refusal, _with_head(error.headers)) if refusal else _raised(request, error)


def _with_head(headers: dict[str, str] | None) -> dict[str, str] | None:
    """Add HEAD to the header `Allow` beside GET: Litestar does not know that it is answered."""
    if not headers or "allow" not in headers:
        return headers
    methods = {method.strip() for method in headers["allow"].split(",")}
    return {**headers, "allow": ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))}


PROBLEM_HANDLERS: ExceptionHandlersMap = {
    TasktrailError: _raised,
    HTTPException: _framework,
    Exception: _raised,
}
