"""Commands, events and errors as JSON, from the client's side."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from .. import errors as _errors  # noqa: F401 - so that these classes are known
from ..events import Accepted, Command, Recorded, TasktrailError
from ..events.errors import AnotherProgram, InvalidValue, LogCorrupt, OutcomeUnknown
from ..events.log.rows import decode
from ..events.values import check_plain
from ..intake.conversion import new_command_id

T = TypeVar("T")

MAX_NUMBER = 1000
"""Commands in one request."""
MAX_BYTES = 8 * 1024 * 1024


def with_id(command: Command) -> Command:
    """The command with an id, so that it can be repeated."""
    return command if command.command_id else replace(command, command_id=new_command_id())


def chunks(commands: Sequence[Command]) -> Iterator[tuple[list[str], bytes, TasktrailError | None]]:
    """Yield arrays of limited size, each after its commands' ids. A command that cannot be written comes alone.

    The third value is then its error.
    """
    ids: list[str] = []
    bodies: list[bytes] = []
    size = 0
    for command in commands:
        try:
            body, wrong = encode_command(command), None
        except TasktrailError as error:
            body, wrong = b"", error
        if ids and (wrong or len(ids) == MAX_NUMBER or size + len(body) > MAX_BYTES):
            yield ids, b"[" + b",".join(bodies) + b"]", None
            ids, bodies, size = [], [], 0
        if wrong is not None:
            yield [], b"", wrong
            continue
        ids.append(command.command_id)
        bodies.append(body)
        size += len(body)
    if ids:
        yield ids, b"[" + b",".join(bodies) + b"]", None


def encode_command(command: Command) -> bytes:
    """The JSON of a command. Raises `InvalidValue` for values that JSON would lose, such as infinite numbers."""
    _check_plain(command)
    try:
        return msgspec.json.encode(command)
    except (TypeError, ValueError, UnicodeError, RecursionError) as error:
        raise InvalidValue(f"The command cannot be written as JSON: {error}") from error


def _check_plain(struct: msgspec.Struct, prefix: str = "") -> None:
    """Refuse the values that an embedded service refuses too. Only times need no check: they are written as text."""
    for name in struct.__struct_fields__:
        value, place = getattr(struct, name), f"{prefix}{name}"
        match value:
            case msgspec.Struct():
                _check_plain(value, f"{place}.")
            case list() | tuple():
                for number, item in enumerate(value):
                    if isinstance(item, msgspec.Struct):
                        _check_plain(item, f"{place}[{number}].")
                    else:
                        check_plain(item, f"{place}[{number}]")
            case datetime():
                pass
            case _:
                check_plain(value, place)


# --- events and errors from JSON ------------------------------------------------------------------------------


class _Flat(msgspec.Struct):
    """`Recorded.flat()` as JSON."""

    position: int
    task_id: int
    version: int
    event: str
    recorded_at: datetime
    data: msgspec.Raw
    hash: str
    actor: str = ""
    reason: str = ""
    command_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    attempt: int = 0
    life: int = 0


_flat = msgspec.json.Decoder(_Flat)


def record_from_json(line: bytes | msgspec.Raw) -> Recorded:
    """A record from its flat JSON. Raises `LogTooNew` for an event of a newer service."""
    with as_answer():
        return _rebuild(_flat.decode(line))


def recorded_all(body: bytes) -> list[Recorded]:
    """The records of an array."""
    return [record_from_json(one) for one in decoded(body, list[msgspec.Raw])]


def decoded(body: bytes, kind: type[T]) -> T:
    """Decode the answer to a question. Raises `AnotherProgram` if no service gives such an answer."""
    with as_answer():
        return msgspec.json.decode(body, type=kind)


@contextmanager
def as_answer() -> Iterator[None]:
    """Raise `AnotherProgram` if what is decoded inside is not what a service answers."""
    try:
        yield
    except msgspec.DecodeError as error:
        raise strange_answer(str(error)) from error


def strange_answer(why: str) -> AnotherProgram:
    """Return the error for an answer that is none of a service."""
    return AnotherProgram(f"The answer is not from a tasktrail service, or from one of another version: {why}")


def _rebuild(flat: _Flat) -> Recorded:
    try:
        digest = bytes.fromhex(flat.hash)
    except ValueError as error:
        raise LogCorrupt(f"Position {flat.position} has arrived with a damaged hash") from error
    return Recorded(
        flat.task_id,
        flat.version,
        decode(flat.event, bytes(flat.data), flat.position),
        flat.recorded_at,
        flat.actor,
        flat.reason,
        flat.command_id,
        flat.correlation_id,
        flat.causation_id,
        flat.attempt,
        flat.life,
        flat.position,
        digest,
    )


def error_of(problem: Mapping[str, Any], retry_after: str = "") -> TasktrailError:
    """Make the error that a problem stands for, of the class that was raised; of the root class for an unknown code.

    `retry_after`: the answer's header, in seconds.
    """
    classes = {known.code: known for known in _tree(TasktrailError)}
    kind = classes.get(str(problem.get("code", "")), TasktrailError)
    error = kind.__new__(kind)
    message = str(problem.get("detail") or problem.get("title") or "The service has refused the request")
    advice = str(problem.get("remedy", ""))
    status = problem.get("status", 0)
    given = status if isinstance(status, int) else 0
    TasktrailError.__init__(error, message, field=str(problem.get("field", "")), remedy=advice, status=given)
    error.retry_after = int(retry_after) if re.fullmatch(r"\d{1,9}", retry_after) else None
    return error


def _tree(root: type[TasktrailError]) -> Iterator[type[TasktrailError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def is_doubtful(error: TasktrailError) -> bool:
    """Whether the outcome is open, so that the command should be repeated with its id."""
    return error.code in (OutcomeUnknown.code, "concurrency")


def answers_in(body: bytes) -> list[Accepted | TasktrailError]:
    """Decode the answers to an array of commands."""
    with as_answer():
        return [
            error_of(one) if "code" in one else msgspec.convert(one, Accepted)
            for one in decoded(body, list[dict[str, Any]])
        ]
