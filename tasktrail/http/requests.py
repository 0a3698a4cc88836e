"""Decodes requests: the body into commands, the address into parameters. Bad input raises typed errors.

Bad bytes end here: broken JSON, bad UTF-8, endless nesting, unknown or missing fields, values out of bounds. In an
array each command is decoded by itself.
"""

import re
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import FormMultiDict
from litestar.exceptions import InternalServerException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.params import PathParameter, QueryParameter
from msgspec import StructMeta
from msgspec.structs import replace

from ..batches.request import NewBatch
from ..errors import BadRequest, TooLarge
from ..events import Command, CreateGraph, CreateTask, TasktrailError
from ..events.errors import InvalidValue, Malformed, UnknownTask
from ..intake.event_names import event_tags
from ..intake.examination import refuse_control
from ..intake.refusals import refusal, sentence
from ..intake.whole_numbers import decode, with_whole_numbers
from ..projections.queries.as_of import Point, parse_point
from ..projections.queries.filters import values_of

MAX_COMMAND = 1024 * 1024
"""Bytes of one command."""
MAX_BODY = 16 * 1024 * 1024
"""Bytes of one request: an array of commands."""
MAX_FORM, MAX_LOGIN = 256 * 1024, 16 * 1024
"""Bytes of a page's form, and of the login form, which strangers may send. The event loop reads them field by field."""
MAX_COMMANDS = 10_000
"""Commands in one array."""

Item: TypeAlias = Command | TasktrailError
T = TypeVar("T")
C = TypeVar("C", bound=msgspec.Struct)

_command: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_create: msgspec.json.Decoder[CreateTask] = msgspec.json.Decoder(CreateTask)
_array: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_object: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


async def read_form(request: Request[Any, Any, Any]) -> FormMultiDict:
    """The fields of the form that was sent."""
    try:
        return await request.form()
    except InternalServerException as error:  # Litestar's word for a client that hung up while it sent
        raise BadRequest("The client hung up before the form was complete") from error


def in_trace(item: Item, traceparent: str) -> Item:
    """Return the item in the trace of its request, unless it has a trace already or creates no task."""
    if traceparent and isinstance(item, CreateTask | CreateGraph) and not item.traceparent:
        return replace(item, traceparent=traceparent)
    return item


def is_array(body: bytes) -> bool:
    """Whether the body is an array, perhaps a broken one."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def decode_array(body: bytes) -> list[Item]:
    """Return for each element the command, or the error why it is none. Raises an error that concerns the whole."""
    try:
        raws = _array.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise refusal(error, body) from error
    if len(raws) > MAX_COMMANDS:
        raise TooLarge(f"{len(raws):,} commands in one array; at most {MAX_COMMANDS:,} are taken")
    return [_decode_item(bytes(raw)) for raw in raws]


def _decode_item(raw: bytes) -> Item:
    try:
        return decode_command(raw)
    except TasktrailError as error:
        return error


def decode_command(body: bytes) -> Command:
    """Return one command, which names its kind in `command`."""
    return _decode(body, _command)


def decode_create(body: bytes) -> CreateTask:
    """Return a new task's fields; `command` may be left out."""
    return _decode(body, _create)


def decode_batch(body: bytes, traceparent: str) -> NewBatch:
    """Return the requested batch, in the trace of its request unless it has its own. It may name many files."""
    wanted = _of_kind(NewBatch, _fields(body, MAX_BODY) if body else {})
    return replace(wanted, traceparent=wanted.traceparent or traceparent)


def decode_kind(kind: type[C], body: bytes, **named: str | int) -> C:
    """Return a command of one kind. The body may be empty or hold its fields; those in the path may be left out."""
    fields = _fields(body) if body else {}
    for field, value in named.items():
        if fields.setdefault(field, value) != value:
            raise InvalidValue(f"{field}: the path names {value}", field=field)
    return _of_kind(kind, fields)


def _of_kind(kind: type[C], fields: dict[str, Any]) -> C:
    fields.setdefault("command", kind.__struct_config__.tag)
    try:
        command = msgspec.convert(with_whole_numbers(fields, kind), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise refusal(error, fields, kind) from error
    return command


def _fields(body: bytes, most: int = MAX_COMMAND) -> dict[str, Any]:
    """The values of an object, each decoded by itself, so that the error for a number out of range names its field."""
    fields = {}
    for name, raw in _decode(body, _object, most).items():
        try:
            fields[name] = msgspec.json.decode(raw)
        except msgspec.ValidationError as error:
            raise InvalidValue(sentence(name, str(error).partition(" - at `")[0], name), field=name) from error
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise refusal(error, bytes(raw)) from error
    return fields


def decode_as(kind: type[C], body: bytes) -> C:
    """Return any Struct; an empty body means no fields."""
    wish = _decode(body or b"{}", msgspec.json.Decoder(kind))
    for name in wish.__struct_fields__:
        if isinstance(text := getattr(wish, name), str):
            refuse_control(text, name)
    return wish


def _decode(body: bytes, decoder: msgspec.json.Decoder[T], most: int = MAX_COMMAND) -> T:
    if len(body) > most:
        raise TooLarge(f"A command of {len(body):,} bytes; at most {most:,} are taken")
    try:
        return decode(decoder, body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        kind = decoder.type
        if not body.strip():
            raise Malformed("The body is empty") from error
        raise refusal(error, body, kind if isinstance(kind, StructMeta) else None) from error


LARGEST = 2**53
"""The largest integer that every JSON parser reads exactly."""

TaskIdPath: TypeAlias = Annotated[int, PathParameter(description="The task's number")]
PositionQuery: TypeAlias = Annotated[int, QueryParameter(ge=0, le=LARGEST, description="A position of the log")]
MinPositionQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=0, le=LARGEST, description="Answer only once this position can be seen: read your own write")
]
AsOfQuery: TypeAlias = Annotated[
    str | None, QueryParameter(description="An earlier moment: a position, or a time as in RFC 3339")
]

FromQuery: TypeAlias = Annotated[
    str, QueryParameter(name="from", description="The moment before: a position, or a time as in RFC 3339")
]
ToQuery: TypeAlias = Annotated[
    str | None, QueryParameter(name="to", description="The moment after, written like `from`; left out: now")
]

EventsQuery: TypeAlias = Annotated[
    list[str] | None, QueryParameter(description="Only these events, such as `completed`; several with commas")
]


def event_names(given: list[str] | None) -> frozenset[str]:
    """Return the events that the parameter `event` names; empty: all. Raises `InvalidValue` for unknown ones."""
    return event_tags(name for part in given or () for name in part.split(","))


def point(text: str | None, field: str = "as_of") -> Point | None:
    """Return the moment that a parameter names. Raises `InvalidValue` with the parameter's name."""
    return parse_point(unescaped(text), field) if text else None


def moment_text(moment: Point) -> str | int:
    """Return the moment as it stands in questions to another process."""
    return moment.isoformat() if isinstance(moment, datetime) else moment


def possible_task(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Refuse a task's number that no database can hold, without asking one, and any number in an odd spelling.

    Litestar reads numbers as Python does, so `1_0`, `+10` and digits of other scripts would pass. A proxy in front of
    the service does not read them so.
    """
    numbers = {name: value for name, value in connection.path_params.items() if isinstance(value, int)}
    if not numbers:
        return
    written = {int(part) for part in connection.scope["path"].split("/") if re.fullmatch("[0-9]{1,16}", part)}
    task_id = numbers.get("task_id")
    if task_id is not None and not (1 <= task_id <= LARGEST and task_id in written):
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
    if not written.issuperset(numbers.values()):
        raise NotFoundException


def task_number(text: str, field: str) -> int:
    """Return the number of a task typed into a form or an address. Raises `InvalidValue`."""
    if not re.fullmatch(r"\s*[0-9]{1,15}\s*", text) or not int(text):
        raise InvalidValue(f"{field}: {text[:40]!r} is no number of a task", field=field)
    return int(text)


def unescaped(moment: str) -> str:
    """Restore the `+` of a time zone, which arrives as a space if it was not escaped."""
    return moment[:11] + moment[11:].replace(" ", "+")


def known_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse a parameter that the route does not know: a misspelt filter must not answer with everything.

    A single-valued parameter that is given twice is refused, too: which value is meant is unknown. So is one that is
    given and empty, as that of a variable that has no value: it would answer with everything, or as of the present.
    The pages take it as left out, because a form sends its empty fields.
    """
    given = connection.query_params
    if not given:
        return
    known = dict(handler.parsed_fn_signature.parameters)
    dependencies = handler.resolve_dependencies()
    for provided in dependencies.values():
        known |= provided.parsed_fn_signature.parameters
    known = {  # without the parameters that the service itself provides
        getattr(takes.kwarg_definition, "name", None) or name: takes
        for name, takes in known.items()
        if name not in dependencies
    }
    of_programs = connection.scope["path"].startswith("/v1/")
    for name in given:
        if name not in known:
            raise _unknown(name, list(known))
        takes = known[name]
        several = takes.is_non_string_sequence or any(kind.is_non_string_sequence for kind in takes.inner_types)
        values = given.getall(name)
        if not several and len(values) > 1:
            raise Malformed(f"`{name}` is given more than once", field=name, remedy="Give it once.")
        if of_programs and not all(values_of(value) if several else value.strip() for value in values):
            raise Malformed(f"`{name}` is given, but empty", field=name, remedy="Give it a value, or leave it out.")


def _unknown(name: str, allowed: list[str]) -> TasktrailError:
    near = get_close_matches(name, allowed, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return Malformed(
        f"There is no parameter `{name}` here{hint}", field=name, remedy="GET /openapi.json lists the parameters."
    )
