"""Errors as `application/problem+json` (RFC 9457), whatever raised them."""

from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

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

MEDIA_TYPE = "application/problem+json"
logger = get_logger("tasktrail.http")


def unexpected() -> TasktrailError:
    """The error for a fault of the service itself. The log has its cause; the answer does not."""
    return TasktrailError("The service met a fault of its own while handling the request")


def _answer(error: TasktrailError, headers: dict[str, str] | None = None) -> Response[dict[str, Any]]:
    return Response(problem(error), status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def headers_of(error: TasktrailError) -> dict[str, str]:
    """What the answer says beside the problem."""
    match error:
        case Unauthorized():
            return {"www-authenticate": 'Bearer realm="tasktrail"', "connection": "close"}
        case RequestTimeout():
            return {"connection": "close"}
        case _:
            return {} if error.retry_after is None else {"retry-after": str(error.retry_after)}


def _typed(request: Request[Any, Any, Any], error: TasktrailError) -> Response[dict[str, Any]]:
    if isinstance(error, Malformed):  # no command yet, of which the log would tell by itself
        path, told = request.url.path, first_line(error.message)
        logger.warning("a request could not be read", method=request.method, path=path, error=told, field=error.field)
    return _answer(error, headers_of(error))


def refusal_of(request: Request[Any, Any, Any], error: HTTPException) -> TasktrailError | None:
    """What Litestar refuses by itself: routes, methods, parameters, sizes. None for a fault of the service."""
    match error.status_code:
        case 404:
            return UnknownRoute(f"Nothing answers at {request.url.path}")
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
    return _answer(refusal, error.headers) if refusal else _fault(request, error)


def _fault(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    logger.error("a request failed", method=request.method, path=request.url.path, exc_info=error)
    return _answer(unexpected())


PROBLEM_HANDLERS: ExceptionHandlersMap = {
    TasktrailError: _typed,
    HTTPException: _framework,
    Exception: _fault,
}
