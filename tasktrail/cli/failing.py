"""How a command fails: a line or two on standard error, never a traceback, and an exit code that means something."""

import os
from typing import Any, Final

import click
import msgspec

from ..events.errors import NotReady, ServiceUnreachable, TasktrailError

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NO_SERVICE: Final = 3
CHECK_FAILED: Final = 4
INTERRUPTED: Final = 130


def problem(error: TasktrailError, **more: Any) -> dict[str, Any]:
    """The error as the HTTP routes show it (RFC 9457)."""
    return {
        "type": f"urn:tasktrail:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": f"{error.message}. {error.advice}",
        "code": error.code,
        "field": error.field,
        **more,
    }


def exit_code(error: TasktrailError) -> int:
    """3 when there is no service to talk to, else 1."""
    return NO_SERVICE if isinstance(error, ServiceUnreachable | NotReady) else REFUSED


def complain(error: TasktrailError, *, as_json: bool) -> int:
    """Say on standard error what happened, where and what to do. Answers the exit code."""
    if as_json:
        click.echo(msgspec.json.encode(problem(error)), err=True)
    else:
        where = f" (field: {error.field})" if error.field else ""
        click.echo(f"tasktrail: {error.message}{where}\n  {error.advice}", err=True)
    return exit_code(error)


def complain_usage(error: click.ClickException, *, as_json: bool) -> int:
    """A wrong option or argument: click's own words, which name the command's help."""
    if as_json:
        told = {"type": "urn:tasktrail:usage", "title": "Wrong usage", "status": 400, "code": "usage"}
        click.echo(msgspec.json.encode({**told, "detail": error.format_message()}), err=True)
    else:
        error.show()
    return error.exit_code


def complain_unexpected(error: Exception) -> int:
    """An error nobody foresaw, in one line. `TASKTRAIL_DEBUG=1` shows where it came from."""
    if os.environ.get("TASKTRAIL_DEBUG"):
        raise error
    click.echo(f"tasktrail: {type(error).__name__}: {error}", err=True)
    if not isinstance(error, OSError):
        click.echo("  This is a fault of tasktrail; TASKTRAIL_DEBUG=1 shows where it is.", err=True)
    return REFUSED
