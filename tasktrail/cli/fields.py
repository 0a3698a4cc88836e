"""Makes options from commands: a field of a command's Struct gives an option its type, bounds, default and help."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
import msgspec

from ..events.commands import CreateTask
from ..events.task_events import DependencyPolicy
from .parameters import (
    PRESET,
    TASK_ID,
    TYPE,
    ZONE,
    FolderParam,
    IdsParam,
    LabelParam,
    NumberParam,
    PairParam,
    PoliciesParam,
    QuotaParam,
    RateParam,
    SecondsParam,
    SizeParam,
    TimeParam,
    WholeParam,
    WordsParam,
    absolute_path,
)
from .session import Session

if TYPE_CHECKING:
    from ..batches.request import NewBatch

F = TypeVar("F", bound=Callable[..., Any])


def default_actor() -> str:
    """Return the actor that is recorded when none is named: the operating system's user, not the environment's."""
    from ..paths import user_name  # it loads SQLite, which `--help` does not need

    return f"cli:{user_name(os.getuid())}"


def _options(_ctx: click.Context, _param: click.Parameter, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    options = dict(pairs)
    if len(options) < len(pairs):
        twice = next(key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1)
        raise click.BadParameter(f"{twice!r} is given more than once.")
    return options


def _labels(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]) -> dict[str, str] | None:
    return _options(ctx, param, pairs) or None


TASK_FLAGS = {"resumable": "--no-resume", "parent_task_id": "--parent", "requires": "--require"}
"""Fields of a task that have another name on the command line."""
_TYPES: dict[str, click.ParamType[Any]] = {
    "on_dependency_failure": PoliciesParam(get_args(DependencyPolicy)),
    "original_folder": FolderParam(),
    "parent_task_id": TASK_ID,
    "preset": PRESET,
    "requires": LabelParam(),
    "timezone": ZONE,
    "type": TYPE,
}
"""Fields whose values have a parameter type of their own."""
_UNBOUNDED = 1_000_000
"""A bound of at least this is too large to be worth showing."""


def options_of(
    kind: type[msgspec.Struct], *names: str, ranged: bool = True, flags: Mapping[str, str] | None = None
) -> Callable[[F], F]:
    """Add an option for each of these fields of a command: its type, bounds, meaning and default are the Struct's.

    A field that is not given is None: the command's own default holds, and stands in the help text.

    Args:
        kind: the command.
        names: its fields, in the order of the help.
        ranged: whether a number out of bounds is a usage error; if not, the check of the command refuses it.
        flags: field → its flag, where that is not the field's name. A flag `--no-…` stands for false.
    """
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    return lambda function: with_options(
        function, *(_option(fields[name], (flags or {}).get(name, ""), ranged=ranged) for name in names)
    )


def _option(field: msgspec.structs.FieldInfo, flag: str, *, ranged: bool) -> Callable[[F], F]:
    kind, metas = _type_and_metas(field.type)
    meaning = next(meta for meta in metas if meta.description and meta.extra)
    extra = meaning.extra or {}
    flag = flag or f"--{field.name.replace('_', '-')}"
    more: dict[str, Any] = {"help": _help(field, meaning), "default": None, "metavar": extra["value"] or None}
    if kind is bool and flag.startswith("--no-"):
        more |= {"flag_value": False, "type": bool}
    elif kind is bool and field.default is None:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    elif kind is bool:
        more |= {"is_flag": True}
    else:
        least = next((meta.ge for meta in metas if meta.ge is not None), None)
        most = next((meta.le for meta in metas if meta.le is not None and meta.le < _UNBOUNDED), None)
        limits = (least, most) if ranged else None
        more |= {"type": _TYPES.get(field.name) or _parameter(kind, limits, extra)}
        more |= {"multiple": True, "default": ()} if get_origin(kind) is dict else {}
        more |= {"callback": _labels} if field.name == "requires" else {}
    return click.option(flag, field.name, **more)


def _type_and_metas(annotation: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Return the type without its notes and without None; and the notes, the outer ones first."""
    metas: list[msgspec.Meta] = []
    while True:
        inner = get_args(annotation)
        if get_origin(annotation) is Annotated:
            annotation, metas = inner[0], [*metas, *inner[1:]]
        elif type(None) in inner and len(inner) == 2:  # noqa: PLR2004 - a type, or None
            annotation = inner[0] if inner[1] is type(None) else inner[1]
        else:
            return annotation, metas


def _parameter(kind: Any, limits: tuple[Any, Any] | None, extra: Mapping[str, Any]) -> click.ParamType[Any]:
    """Return the parameter type for values of a field; `limits`: the least and the greatest number."""
    inner = get_args(kind)
    if extra["in_bytes"]:
        return SizeParam()
    if extra["value"] == "SECONDS":
        return SecondsParam(*limits or (None, None))
    if kind is int:
        return click.INT if limits is None else WholeParam(*limits)
    if kind is float:
        return click.FLOAT if limits is None else NumberParam(*limits)
    if kind is datetime:
        return TimeParam()
    if get_origin(kind) is Literal:
        return click.Choice(inner)
    if get_origin(kind) is dict and _type_and_metas(inner[1])[0] is str:
        return RateParam()
    if get_origin(kind) is dict:
        return QuotaParam(numbered=any(meta.pattern for meta in _type_and_metas(inner[0])[1]))
    if get_origin(kind) is tuple:
        item = _type_and_metas(inner[0])[0]
        return IdsParam() if item is int else WordsParam(*(get_args(item) if get_origin(item) is Literal else ()))
    return click.STRING


def _help(field: msgspec.structs.FieldInfo, meaning: msgspec.Meta) -> str:
    """Return the meaning, an example and the default. A field that the text names is shown as its option."""
    extra, text = meaning.extra or {}, meaning.description or ""
    if text.startswith("False: "):  # the name of the option says so
        text = text.removeprefix("False: ").capitalize()
    text = re.sub(
        r"`(\w+)`", lambda name: f"--{name[1].replace('_', '-')}" if name[1] in (*_FIELDS, *_ONCE) else name[0], text
    ).replace("`options`", "-o")
    if extra["example"]:
        text = f"{text.removesuffix('.')}, e.g. {extra['example']}."
    default = extra["default"]
    if default is True:
        default = field.default if isinstance(field.default, str) else f"{field.default:g}"
    return f"{text} Default: {default}" if default else text


_OPTIONS = click.option(
    "-o",
    "--option",
    "options",
    type=PairParam(),
    multiple=True,
    callback=_options,
    help="An option of the task type; see `tasktrail types`. Repeat it for more.",
)
_FIELDS = (
    "preset",
    "priority",
    "max_retries",
    "retry_delay",
    "retry_backoff",
    "retry_max_delay",
    "retry_jitter",
    "timeout",
    "queue_timeout",
    "total_timeout",
    "heartbeat_timeout",
    "no_progress_timeout",
    "held",
    "user_id",
    "user_level",
    "document_id",
    "label",
    "batch",
    "worker_label",
    "requires",
    "unique",
    "estimated_time",
    "notify_email",
    "notify_webhook",
    "callback_url",
    "notify_on",
    "notify_targets",
    "overwrite",
    "original",
    "original_folder",
    "resumable",
)
_ONCE = ("deadline", "scheduled_for", "depends_on", "on_dependency_failure", "parent_task_id", "traceparent")
"""Fields of a single task only: a schedule has its own times, and its tasks stand alone."""
_OF_ONE = ("unique", "depends_on", "on_dependency_failure", "parent_task_id")
"""Fields that tasks of a batch cannot have."""
_SHARED = (
    click.option("--reason", metavar="TEXT", help="Why; recorded with the event."),
    click.option("--actor", metavar="NAME", help="Who; recorded with the event. Default: cli:USER"),
)
_OUTPUT = (
    click.option("-p", "--parents", is_flag=True, default=None, help="Create the missing folders of OUTPUT."),
    click.option("--format", "suffix", metavar="SUFFIX", help="The output's suffix, e.g. webp, "
                 "if OUTPUT is a folder. Default: the type's own"),
)  # fmt: skip
_COMMAND_ID = click.option("--command-id", metavar="ID", help="A command repeated with the same id has one effect.")


def task_field_options(function: F) -> F:
    """Add an option for each field of a new task."""
    fields = options_of(CreateTask, *_FIELDS, *_ONCE, ranged=False, flags=TASK_FLAGS)
    return with_options(function, *_OUTPUT, _OPTIONS, fields, _COMMAND_ID, *_SHARED)


def batch_fields(function: F) -> F:
    """Add an option for each field that the tasks of a batch share."""
    names = tuple(name for name in (*_FIELDS, *_ONCE) if name not in _OF_ONE)
    fields = options_of(CreateTask, *names, ranged=False, flags=TASK_FLAGS)
    return with_options(function, _OPTIONS, fields, _COMMAND_ID, *_SHARED)


def source_field_options(function: F) -> F:
    """Add an option for each field that the tasks of a watched folder share."""
    names = tuple(name for name in _FIELDS if name not in ("unique", "batch"))
    return with_options(
        function, _OPTIONS, options_of(CreateTask, *names, ranged=False, flags=TASK_FLAGS), _COMMAND_ID, *_SHARED
    )


def repeated_fields(function: F) -> F:
    """Add an option for each field that the tasks of a schedule may have."""
    return with_options(
        function, _OPTIONS, options_of(CreateTask, *_FIELDS, ranged=False, flags=TASK_FLAGS), _COMMAND_ID, *_SHARED
    )


def reason_and_actor(function: F) -> F:
    """Add `--reason` and `--actor`."""
    return with_options(function, *_SHARED)


def with_options(function: F, *options: Callable[[F], F]) -> F:
    """Add the options, in the order of the help."""
    for option in reversed(options):
        function = option(function)
    return function


def absolute(path: str) -> str:
    """Return the path as the service understands it. An empty path, or the address of a file elsewhere, stays."""
    if "://" in path:
        from ..handlers.urls import is_url, plain_path

        if is_url(path):
            return plain_path(path)
    return absolute_path(path) if path else ""


def absolute_pattern(to: str) -> str:
    """Return the pattern of outputs as the service understands it. A slash at its end, which means a folder, stays."""
    made = absolute(to)
    return f"{made}/" if to.endswith("/") and not made.endswith("/") else made


def build_command(
    session: Session, task_type: str, input_file: str, output_file: str, given: dict[str, Any]
) -> CreateTask:
    """Build and check the command for a new task. Raises `InvalidValue` naming the field."""
    from ..intake.conversion import command_from_fields, new_command_id

    fields = {name: value for name, value in given.items() if value is not None}
    parents, suffix = fields.pop("parents", False), fields.pop("suffix", "")
    output = _output(session, task_type, input_file, output_file, suffix, parents=parents)
    fields.update(type=task_type, input_file=absolute(input_file), output_file=output)
    fields.setdefault("actor", default_actor())
    fields.setdefault("command_id", new_command_id())
    fields.setdefault("traceparent", surrounding_trace())
    _refuse_broken_text(fields)
    command: CreateTask = command_from_fields(CreateTask, fields)
    return command


def build_batch(
    inputs: list[str], to: str, task_type: str, given: dict[str, Any], *, again: bool, dry_run: bool
) -> "NewBatch":
    """Build and check the requested batch. Raises `InvalidValue` naming the field."""
    from ..batches.request import NewBatch
    from ..intake.conversion import command_from_fields, new_command_id

    fields = {name: value for name, value in given.items() if value is not None}
    fields.update(inputs=list(map(absolute, inputs)), to=absolute_pattern(to), type=task_type)
    fields.update(again=again, dry_run=dry_run)
    fields.setdefault("actor", default_actor())
    fields.setdefault("command_id", new_command_id())
    fields.setdefault("traceparent", surrounding_trace())
    _refuse_broken_text(fields)
    return command_from_fields(NewBatch, fields)


def surrounding_trace() -> str:
    """Return the trace that the parent program passes in the environment; empty without one."""
    from ..events.values import traceparent_in

    return traceparent_in(os.environ.get("TRACEPARENT", ""))


def _output(session: Session, task_type: str, input_file: str, output_file: str, suffix: str, *, parents: bool) -> str:
    """Return the output's path. If a folder is named, the file in it gets the input's name and the type's suffix."""
    if "://" in output_file:
        return _output_address(session, task_type, input_file, output_file, suffix)
    is_folder = bool(output_file) and (os.path.isdir(output_file) or output_file.endswith("/"))  # noqa: PTH112
    if suffix and not is_folder:
        raise click.UsageError("--format names an output in a folder: give an existing folder as OUTPUT, or add a /.")
    folder = output_file if is_folder else os.path.dirname(output_file)  # noqa: PTH120 - texts, as they were typed
    if parents and folder:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    if not is_folder or not input_file:
        return absolute(output_file)
    return absolute(os.path.join(output_file, _name_in_folder(session, task_type, input_file, suffix)))  # noqa: PTH118


def _name_in_folder(session: Session, task_type: str, input_file: str, suffix: str) -> str:
    """Return the input's name, with the type's suffix or the given one."""
    if not suffix:
        found, _errors = session.environment.types(session)
        suffix = next((info.output_suffix for info in found if info.name == task_type), "")
    stem, own = os.path.splitext(os.path.basename(input_file))  # noqa: PTH119, PTH122
    return stem + (f".{suffix.removeprefix('.')}" if suffix else own)


def _output_address(session: Session, task_type: str, input_file: str, output: str, suffix: str) -> str:
    """The same for an address, which is a folder if it ends with a slash."""
    if not output.endswith("/") or not input_file:
        if suffix:
            raise click.UsageError("--format names an output in a folder: add a / to OUTPUT.")
        return output
    return output + _name_in_folder(session, task_type, input_file.partition("?")[0], suffix)


def _refuse_broken_text(fields: dict[str, Any]) -> None:
    """Refuse text that is not UTF-8: the shell passes any bytes, but these cannot be stored or sent."""
    from ..events.values import not_utf8

    for name, value in fields.items():
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError as error:
            raise not_utf8(error, name) from error
