"""The fields of a new task as options of `run` and `submit`."""

import os
import pwd
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from .parameters import TASK_ID, Ids, Moment, Pair, Policies, Words
from .session import Session

if TYPE_CHECKING:
    from ..events import CreateTask

F = TypeVar("F", bound=Callable[..., Any])


def me() -> str:
    """The actor that is recorded when none is named: the user of the operating system, not of the environment."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"cli:{name}"


def _options(_ctx: click.Context, _param: click.Parameter, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    options = dict(pairs)
    if len(options) < len(pairs):
        twice = next(key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1)
        raise click.BadParameter(f"{twice!r} is given more than once.")
    return options


# A default of None means "not given": the command's own default holds, and stands in the help text.
_FIELDS = (
    click.option("-o", "--option", "options", type=Pair(), multiple=True, callback=_options,
                 help="An option of the task type; see `tasktrail types`. Repeat it for more."),
    click.option("--priority", type=int, help="0 to 10, higher runs first. Default: 0"),
    click.option("--max-retries", type=int, help="How often a failure may be tried again. Default: 3"),
    click.option("--retry-delay", type=float, metavar="SECONDS", help="Before an automatic retry. Default: 60"),
    click.option("--retry-backoff", type=float, metavar="FACTOR", help="Each delay so much longer. Default: 1"),
    click.option("--retry-max-delay", type=float, metavar="SECONDS", help="No delay is longer. Default: none"),
    click.option("--retry-jitter", type=float, metavar="SHARE", help="0 to 1: left out by chance. Default: 0"),
    click.option("--timeout", type=float, metavar="SECONDS", help="Longest time for one attempt. Default: none"),
    click.option("--queue-timeout", type=float, metavar="SECONDS", help="Longest wait in the queue. Default: none"),
    click.option("--total-timeout", type=float, metavar="SECONDS", help="From the first start to the end, retries "
                 "and all. Default: none"),
    click.option("--heartbeat-timeout", type=float, metavar="SECONDS", help="Longest silence of a worker process."),
    click.option("--no-progress-timeout", type=float, metavar="SECONDS", help="Longest stand at one percentage."),
    click.option("--held", is_flag=True, default=None, help="Wait until `tasktrail start` releases it."),
    click.option("--user-id", type=int, help="Whose task it is."),
    click.option("--user-level", type=int, help="The user's rank, up to `max_user_level`; raises the effective "
                 "priority. Default: 0"),
    click.option("--document-id", type=int, help="The document it belongs to."),
    click.option("--label", metavar="NAME", help="A group of your own; a limit may be set for it."),
    click.option("--estimated-time", type=float, metavar="SECONDS", help="Expected; above an hour it yields."),
    click.option("--notify-email", metavar="ADDRESS", help="Mail to this address at the end."),
    click.option("--notify-webhook", metavar="URL", help="POST events to this address."),
    click.option("--callback-url", metavar="URL", help="POST the outcome to this address, once."),
    click.option("--notify-on", type=Words(), metavar="EVENT,…",
                 help="What webhook, mail and targets hear of, e.g. failed,retried. Default: started and the end"),
    click.option("--notify-targets", type=Words(), metavar="NAME,…", help="Tell these targets of the configuration."),
    click.option("--overwrite", is_flag=True, default=None, help="Replace the output if it exists."),
    click.option("--no-resume", "resumable", flag_value=False, default=None, type=bool,
                 help="Always begin at 0 %, whatever checkpoint there is."),
)  # fmt: skip
# Of one task only: a schedule has its own times, and its tasks stand alone.
_ONCE = (
    click.option("--deadline", type=Moment(), help="Give up if not started by this time, e.g. +2h."),
    click.option("--scheduled-for", type=Moment(), help="Not before this time, e.g. +10m, "
                 "'tomorrow 9:00' or 2026-08-01T22:00:00Z."),
    click.option("--depends-on", type=Ids(), help="Not before these tasks have completed, e.g. 3,7."),
    click.option("--on-dependency-failure", type=Policies(), help="wait, cancel, fail, ignore: what to do when one "
                 "of them fails or is cancelled; one, or one for each of --depends-on. Default: fail"),
    click.option("--parent", "parent_task_id", type=TASK_ID, metavar="ID", help="The task this one is part of."),
)  # fmt: skip
_SHARED = (
    click.option("--reason", metavar="TEXT", help="Why; recorded with the event."),
    click.option("--actor", metavar="NAME", help="Who; recorded with the event. Default: cli:USER"),
)
_OUTPUT = (
    click.option("-p", "--parents", is_flag=True, default=None, help="Make folders of OUTPUT that are missing."),
    click.option("--format", "suffix", metavar="SUFFIX", help="What the output is, e.g. webp, where OUTPUT is a "
                 "folder. Default: that of the type"),
)  # fmt: skip
_COMMAND_ID = click.option("--command-id", metavar="ID", help="Repeating a command with its id has one effect.")


def task_fields(function: F) -> F:
    """Add an option for each field of a new task."""
    return _with(function, *_OUTPUT, *_FIELDS, *_ONCE, _COMMAND_ID, *_SHARED)


def repeated_fields(function: F) -> F:
    """Add an option for each field that the tasks of a schedule may have."""
    return _with(function, *_FIELDS, _COMMAND_ID, *_SHARED)


def who_and_why(function: F) -> F:
    """Add `--reason` and `--actor`."""
    return _with(function, *_SHARED)


def _with(function: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def absolute(path: str) -> str:
    """The path as the service will understand it; empty stays empty."""
    return os.path.abspath(path) if path else ""  # noqa: PTH100 - no symbolic link is resolved


def build_command(
    session: Session, task_type: str, input_file: str, output_file: str, given: dict[str, Any]
) -> "CreateTask":
    """The command for a new task, checked. Raises `InvalidValue` naming the field."""
    from ..events import CreateTask
    from ..intake.conversion import command_from_fields, new_command_id

    fields = {name: value for name, value in given.items() if value is not None}
    parents, suffix = fields.pop("parents", False), fields.pop("suffix", "")
    output = _output(session, task_type, input_file, output_file, suffix, parents=parents)
    fields.update(type=task_type, input_file=absolute(input_file), output_file=output)
    fields.setdefault("actor", me())
    fields.setdefault("command_id", new_command_id())
    _refuse_broken_text(fields)
    command: CreateTask = command_from_fields(CreateTask, fields)
    return command


def _output(session: Session, task_type: str, input_file: str, output_file: str, suffix: str, *, parents: bool) -> str:
    """The output's path: in a folder, when that is what was named, under the input's name and the type's suffix."""
    is_folder = bool(output_file) and (os.path.isdir(output_file) or output_file.endswith("/"))  # noqa: PTH112
    if suffix and not is_folder:
        raise click.UsageError("--format names an output in a folder: give an existing folder as OUTPUT, or add a /.")
    folder = output_file if is_folder else os.path.dirname(output_file)  # noqa: PTH120 - texts, as they were typed
    if parents and folder:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    if not is_folder or not input_file:
        return absolute(output_file)
    if not suffix:
        found, _errors = session.doors.types(session)
        suffix = next((info.output_suffix for info in found if info.name == task_type), "")
    stem, own = os.path.splitext(os.path.basename(input_file))  # noqa: PTH119, PTH122
    ending = f".{suffix.removeprefix('.')}" if suffix else own
    return absolute(os.path.join(output_file, stem + ending))  # noqa: PTH118


def _refuse_broken_text(fields: dict[str, Any]) -> None:
    """The shell hands over any bytes; what is not UTF-8 cannot be stored or sent."""
    from ..events.errors import InvalidValue

    for name, value in fields.items():
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError as error:
            raise InvalidValue(f"{name} is not valid UTF-8 text", field=name) from error
