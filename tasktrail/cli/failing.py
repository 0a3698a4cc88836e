"""How a command fails: a line or two on standard error, never a traceback, and a meaningful exit code."""

import errno
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import click
import msgspec

from ..errors import problem
from ..events.errors import NotReady, ServiceUnreachable, TasktrailError
from .terminal import for_stream, plain, say

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
NO_SERVICE: Final = 3
CHECK_FAILED: Final = 4
INTERRUPTED: Final = 130


def exit_code(error: TasktrailError) -> int:
    """Return 3 if no service answers, 4 if the log is not as it was sealed, else 1."""
    if error.code == "not_as_sealed":
        return CHECK_FAILED
    return NO_SERVICE if isinstance(error, ServiceUnreachable | NotReady) else REFUSED


def complain(error: TasktrailError, *, as_json: bool, advise: bool = True, **more: Any) -> int:
    """Print on standard error what happened, where and what to do, and return the exit code.

    Args:
        error: what happened.
        as_json: print the whole problem.
        advise: for people, also print what to do.
        more: what the error is about, such as its task.
    """
    with suppress(OSError):  # a message that nobody can get changes no exit code
        if as_json:
            click.echo(for_stream(json_bytes(problem(error, **more)), sys.stderr), err=True)
        else:
            extra = {name.replace("_", " "): value for name, value in more.items() if str(value) not in error.message}
            about = "".join(f"{name} {value}: " for name, value in extra.items())
            where = "" if _is_named(error.field, error.message) else f" (field: {plain(error.field)})"
            say(f"tasktrail: {plain(about + error.message)}{where}", err=True, hang="  ")
            if advise:
                say(f"  {plain(error.advice)}", err=True)
    return exit_code(error)


_LITTLE = frozenset({"after", "from", "out", "to"})
"""Names of fields that occur in any sentence, so that their occurrence does not name the field."""


def _is_named(field: str, message: str) -> bool:
    """Whether the message itself names the field: `There is a token ci already` names `token`."""
    if field in _LITTLE:
        return False
    words = "[ _-]".join(map(re.escape, field.rpartition(".")[2].removesuffix("_id").split("_")))
    return not field or re.search(rf"(?<![\w/.-]){words}(?![\w/.-])", message, re.IGNORECASE) is not None


def json_bytes(value: Any) -> bytes:
    """Encode as JSON; in file names that are not UTF-8, the invalid bytes are replaced."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, default=str).encode()


def complain_usage(error: click.ClickException, *, as_json: bool) -> int:
    """Print click's message about a wrong option or argument, and which command's help to read."""
    with suppress(OSError):  # as in `complain`
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
        elif as_json:
            click.echo(for_stream(json_bytes(usage_problem(error)), sys.stderr), err=True)
        else:
            context = error.ctx if isinstance(error, click.UsageError) else None
            if context is not None:
                click.echo(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n", err=True)
            say(f"Error: {plain(_in_one_line(error))}", err=True, hang="  ")
    return error.exit_code


def usage_problem(error: click.ClickException) -> dict[str, Any]:
    """Return a wrong option or argument as a problem; `field` is its name, or empty."""
    near = getattr(error, "possibilities", None) or ()
    detail, _, hint = _in_one_line(error).partition(_HINT)
    if near and not hint:
        detail, hint = error.message, f"{' or '.join(near)}?"
    context = error.ctx if isinstance(error, click.UsageError) else None
    advice = f"`{context.command_path if context else 'tasktrail'} --help` says what there is."
    return {
        "type": "urn:tasktrail:problem:usage",
        "title": "Wrong usage",
        "status": 400,
        "detail": detail,
        "code": "usage",
        "field": _field(error),
        "remedy": f"{_HINT.strip()} {hint.strip()} {advice}" if hint else advice,
    }


_HINT = " Did you mean "


def _field(error: click.ClickException) -> str:
    if isinstance(error, click.BadParameter) and error.param is not None:
        return error.param.name or ""
    return str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_")


def _in_one_line(error: click.ClickException) -> str:
    """Return click's message on one line; it puts choices on lines of their own."""
    return " ".join(error.format_message().split())


_MORE = "Raise what keeps it from having more: `ulimit -a`, or `MemoryMax`, `TasksMax`, `LimitNOFILE` of its unit."
_NOT_SHOWN = "Make room. What the command has changed stays changed: look, before you repeat it."
_NEXT_STEPS = {
    errno.ENOSPC: "Free disk space, and repeat the command.",
    errno.EDQUOT: "Free disk space that counts towards your quota, and repeat the command.",
    errno.EACCES: "See that you may read and write it, or run the command as the user it belongs to.",
    errno.EPERM: "See that you may read and write it, or run the command as the user it belongs to.",
    errno.EROFS: "Name a place on a file system that can be written to.",
    **dict.fromkeys((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE), _MORE),
}
"""Error number of the system → what to do about it."""


def complain_unexpected(error: Exception, *, as_json: bool) -> int:
    """Print an unforeseen error in one line, or as a problem. Python's development mode shows where it came from."""
    if sys.flags.dev_mode:
        raise error
    step = "This is a fault of tasktrail; `python -X dev -m tasktrail …` shows where it is."
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        step = _NEXT_STEPS.get(error.errno or 0, "")
        if error.filename and error.strerror:
            what = f"{error.filename}: {error.strerror}"
        elif _output_fails_with(error.errno):
            what = f"standard output: {error.strerror}"
            step = _NOT_SHOWN if step else ""
    elif isinstance(error, MemoryError) or str(error) == "can't start new thread":
        step = _MORE
    if as_json:
        click.echo(for_stream(json_bytes(_unexpected_problem(what, step)), sys.stderr), err=True)
        return REFUSED
    say(f"tasktrail: {plain(what)}", err=True, hang="  ")
    if step:
        say(f"  {step}", err=True)
    return REFUSED


def _unexpected_problem(what: str, step: str) -> dict[str, Any]:
    return {
        "type": "urn:tasktrail:problem:unexpected",
        "title": "An unexpected error",
        "status": 500,
        "detail": what,
        "code": "unexpected",
        "field": "",
        "remedy": step,
    }


@contextmanager
def keeping(code: int, *, as_json: bool) -> Iterator[None]:
    """Print the result of a check that has this exit code. If a failed one cannot be printed, its code remains."""
    try:
        yield
    except OSError as error:
        if code == DONE:
            raise
        if error.errno != errno.EPIPE:
            complain_unexpected(error, as_json=as_json)


def _output_fails_with(number: int | None) -> bool:
    """Whether that error is standard output's own: what it could not write is still to be written."""
    if getattr(sys.stdout, "write_through", False) and number in (errno.ENOSPC, errno.EDQUOT):
        return True  # nothing is kept back (PYTHONUNBUFFERED), and the error of a file has the file's name
    try:
        sys.stdout.flush()
    except OSError as error:
        return error.errno == number
    return False
