"""What comes over HTTP, back as what it was: recorded events and typed errors."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from ..events import Accepted, Recorded, TasktrailError
from ..events.errors import LogCorrupt, OutcomeUnknown
from ..events.log.rows import decode
from ..http import errors as _http_errors  # noqa: F401 - so that these classes are known


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
_flats = msgspec.json.Decoder(list[_Flat])


def recorded(line: bytes) -> Recorded:
    """One record from its flat JSON. Raises `LogTooNew` for an event of a newer service."""
    return _rebuild(_flat.decode(line))


def recorded_all(body: bytes) -> list[Recorded]:
    """An array of them."""
    return [_rebuild(flat) for flat in _flats.decode(body)]


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


def error_of(problem: Mapping[str, Any]) -> TasktrailError:
    """The error that a problem tells, as the class it was raised with; the root class for a code that is not known."""
    classes = {known.code: known for known in _tree(TasktrailError)}
    kind = classes.get(str(problem.get("code", "")), TasktrailError)
    error = kind.__new__(kind)
    message = str(problem.get("detail") or problem.get("title") or "The service has refused the request")
    advice = str(problem.get("remedy", ""))
    TasktrailError.__init__(error, message, field=str(problem.get("field", "")), remedy=advice)
    return error


def _tree(root: type[TasktrailError]) -> Iterator[type[TasktrailError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def is_doubtful(error: TasktrailError) -> bool:
    """Whether repeating the command with its id may well give an answer at once."""
    return error.code in (OutcomeUnknown.code, "concurrency")


def answer_of(one: Mapping[str, Any]) -> Accepted | TasktrailError:
    """The answer to one command of an array."""
    return error_of(one) if "code" in one else msgspec.convert(one, Accepted)
