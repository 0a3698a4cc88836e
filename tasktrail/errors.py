"""Errors of HTTP, which server and client share, and the form in which every error is sent (RFC 9457).

The errors of the domain are in `events/errors.py`.
"""

from math import ceil
from typing import Any

from .events import Task, TasktrailError


def problem(error: TasktrailError, **more: Any) -> dict[str, Any]:
    """Return the error as one JSON object: what happened, where, and what to do. `more` adds fields to it."""
    return {
        "type": f"urn:tasktrail:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "field": error.field,
        "remedy": error.advice,
        **more,
    }


class UnknownRoute(TasktrailError):
    """Nothing answers at this path."""

    code = "unknown_route"
    status = 404
    title = "There is no such route"
    remedy = "GET /openapi.json lists the routes."


class WrongMethod(TasktrailError):
    """The path exists, but not for this method."""

    code = "wrong_method"
    status = 405
    title = "The route does not know this method"
    remedy = "The header `Allow` names the methods it knows."


class WrongContentType(TasktrailError):
    """The body is not declared as plain JSON. Requiring this keeps web pages of other origins from sending commands."""

    code = "wrong_content_type"
    status = 415
    title = "The body is not declared as plain JSON"
    remedy = "Send the header `Content-Type: application/json`."


class TooLarge(TasktrailError):
    """The body is larger than what one request may carry."""

    code = "too_large"
    status = 413
    title = "The request is too large"
    remedy = "Send less at a time: several arrays of commands, smaller options."


class Unauthorized(TasktrailError):
    """The caller is not authenticated: there is no credential, or it is not valid."""

    code = "unauthorized"
    status = 401
    title = "The service does not know who asks"
    remedy = (
        "Send `Authorization: Bearer …` (--token-file, TASKTRAIL_TOKEN; Python: `Client(url, token=...)`) with a "
        "token, or with the secret in the file http-token of the data folder; or ask through the socket in that folder."
    )


class Forbidden(TasktrailError):
    """The caller is known, but may not do this."""

    code = "forbidden"
    status = 403
    title = "This is not allowed"
    remedy = (
        "Use a token with another role, or one that is bound to no user (`tasktrail token list` shows them), or ask "
        "whoever gives tokens out."
    )


class ReadOnly(TasktrailError):
    """A command came to a process that only reads the log of a service. Nothing was done."""

    code = "read_only"
    status = 403
    title = "This service is read-only"
    remedy = "Send it to the service that has the log: by its --url and a token, or by --data on its machine."


class OnlyAtService(TasktrailError):
    """A reader was asked for something that only the service has, in its data folder."""

    code = "only_at_service"
    status = 404
    title = "Only the service has this"
    remedy = "Ask the service that has the log: by its --url and a token, or by --data on its machine."


class TooManyRequests(TasktrailError):
    """A token has asked too often, or too many log-ins have failed. Nothing was done."""

    code = "too_many_requests"
    status = 429
    title = "There are too many requests"
    remedy = "Ask again later; the header `Retry-After` says when. Send commands as an array: it counts once."

    def __init__(self, message: str, *, after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = max(1, ceil(after))


class Busy(TasktrailError):
    """More is asked for at once than the service takes. Nothing was done."""

    code = "busy"
    status = 503
    title = "The service is busy"
    remedy = "Ask again later, and less at once; the header `Retry-After` says when."
    retry_after = 2


class RequestTimeout(TasktrailError):
    """The rest of a request has not arrived in time."""

    code = "request_timeout"
    status = 408
    title = "The request has not arrived in time"
    remedy = "Send the whole request at once; a command may be repeated with its command id."


class WrongHost(TasktrailError):
    """The request names another host than this one. A rebound DNS name must not lead a browser here."""

    code = "wrong_host"
    status = 421
    title = "The request is for another host"
    remedy = "Use localhost, 127.0.0.1 or [::1] in the address, or have the operator add its name to `hosts`."


class WrongOrigin(TasktrailError):
    """A web page of another origin sends the request."""

    code = "wrong_origin"
    status = 403
    title = "The request comes from another web page"
    remedy = "Only programs and this service's own pages may call it."


class BadRequest(TasktrailError):
    """The framework refuses the request before any of our code has seen it."""

    code = "bad_request"
    status = 400
    title = "The request cannot be handled"
    remedy = "GET /openapi.json describes the routes."


class ListenFailed(TasktrailError):
    """The service cannot listen at the address it was given."""

    code = "listen_failed"
    status = 500
    title = "The address cannot be used"
    remedy = "Choose another host or port; port 0 takes any free one."


class TaskNotCompleted(TasktrailError):
    """A result was asked for, but the task has failed or was cancelled. `task` holds all that is known about it."""

    code = "task_not_completed"
    status = 409
    title = "The task has no result"
    remedy = "`tasktrail output ID` shows what it printed; `tasktrail retry ID` gives it another life."

    def __init__(self, task: Task) -> None:
        why = f": {task.error}" if task.error else ""
        # Without an attempt nothing was printed.
        remedy = self.remedy if task.attempt else self.remedy.replace(*_NEVER_RAN)
        super().__init__(
            f"Task {task.id} ({task.type}) has {_ENDED.get(task.status, 'not ended')}{why}",
            remedy=remedy.replace("ID", str(task.id)),
        )
        self.task = task

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.task,)


_ENDED = {"failed": "failed", "cancelled": "been cancelled"}
_NEVER_RAN = ("`tasktrail output ID` shows what it printed", "`tasktrail history ID` shows who or what ended it")
