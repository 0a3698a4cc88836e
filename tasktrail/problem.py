"""An error as the one object that HTTP answers with and `--json` prints (RFC 9457)."""

from typing import Any

from .events import TasktrailError


def problem(error: TasktrailError, **more: Any) -> dict[str, Any]:
    """What happened, where, and what to do; `more` says what it was about."""
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
