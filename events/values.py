"""The values allowed in options, checkpoints and results: plain JSON that every store and every pipe can hold.

JSON and Python do not limit whole numbers, but msgpack, SQLite and readers of the log in other languages do: to signed
64 bits. A value that passes here can be recorded, sent to a worker and read back unchanged.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite, isnan
from typing import Annotated, Any, TypeAlias

import msgspec

from .errors import CONTRADICTION, InvalidValue

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1
MAX_DEPTH = 32
"""How deep lists and objects may be nested."""
At: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time in an event, with a zone: without one it could not be compared, so a record that lacks it is not read."""
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=MIN_INTEGER, le=MAX_INTEGER)]
"""A number in an event. Views could not hold a larger one."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9900, 1, 1, tzinfo=UTC)
"""Python's calendar ends with the year 9999. This leaves room for time-outs of ten years and for cron expressions."""

_MARKS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
WITHOUT_MARK = "Save it as UTF-8 without a byte order mark."
_FOR_EVER = 100 * 365 * 86400.0
"""Seconds. Longer waits count as endless, because locks do not accept any number of seconds."""
_SHOWN = 40
"""Characters of a key that an error repeats."""
_SHOWN_BITS = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def recordable(number: int) -> int:
    """The nearest whole number that a record can hold. Clocks that are wrong put files into the years 1 and 2400."""
    return min(max(number, MIN_INTEGER), MAX_INTEGER)


def is_sha256(value: object) -> bool:
    """Whether it is a SHA-256 in hex, as it is recorded."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def has_control(text: str) -> bool:
    """Whether the text holds a control character: of ASCII, or from U+0080 to U+009F, which steer terminals, too."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def check_plain(value: Any, field: str, depth: int = 0) -> None:
    """Raise `InvalidValue`, naming the place, unless `value` is plain JSON.

    Args:
        value: None, booleans, whole numbers of 64 bits, finite numbers, text, lists, objects; or a Struct of these.
        field: what an error calls it, such as `options`; a place within follows, as in `options.sizes[2]`.
        depth: how many lists and objects enclose it.
    """
    if not _are_plain((value,), depth):
        _find_fault(value, field, depth)


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    """Whether the values surely are plain JSON. Nearly all are, so it does no work that only serves to name a place."""
    if depth > MAX_DEPTH:
        return False
    for value in values:
        kind = type(value)
        if kind is str:
            sure = value.isascii() or _is_text(value)
        elif kind is int:
            sure = MIN_INTEGER <= value <= MAX_INTEGER
        elif kind is float:
            sure = isfinite(value)
        elif kind is dict:
            sure = all(map(_is_key, value)) and _are_plain(value.values(), depth + 1) if value else True
        elif kind is list or kind is tuple:
            sure = _are_plain(value, depth + 1) if value else True
        elif isinstance(value, msgspec.Struct):
            sure = _are_plain(msgspec.structs.astuple(value), depth)
        else:
            sure = value is None or kind is bool
        if not sure:
            return False
    return True


def _is_key(key: Any) -> bool:
    return type(key) is str and (key.isascii() or _is_text(key))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _find_fault(value: Any, field: str, depth: int) -> None:
    """Raise an error that names the place of the fault, if there is one."""
    if depth > MAX_DEPTH:
        raise InvalidValue(f"{field} is nested deeper than {MAX_DEPTH} levels", field=field)
    match value:
        case dict():
            for key, item in value.items():
                _find_fault(item, _place(key, field), depth + 1)
        case list() | tuple():
            for place, item in enumerate(value):
                _find_fault(item, f"{field}[{place}]", depth + 1)
        case msgspec.Struct():
            for name in value.__struct_fields__:
                _find_fault(getattr(value, name), f"{field}.{name}", depth)
        case _:
            _check_single(value, field)


def _check_single(value: object, field: str) -> None:
    match value:
        case None | bool():
            pass
        case str():
            _check_text(value, field)
        case int():
            if not MIN_INTEGER <= value <= MAX_INTEGER:
                too_large = InvalidValue(
                    f"{field} is a whole number that 64 bits cannot hold",
                    field=field,
                    remedy=f"Use a number from {MIN_INTEGER} to {MAX_INTEGER}, or write it as text.",
                )
                too_large.status = CONTRADICTION  # no schema can tell it from a float of that size
                raise too_large
        case float():
            if not isfinite(value):
                raise InvalidValue(f"{field} holds {value}, which JSON cannot represent", field=field)
        case _:
            kind = type(value).__name__
            raise InvalidValue(f"{field} holds a Python {kind}, which JSON cannot represent", field=field)


def check_task_id(task_id: object) -> None:
    """Raise `InvalidValue` unless `task_id` is a whole number. It does not check whether that task exists."""
    if not isinstance(task_id, int) or isinstance(task_id, bool):
        raise InvalidValue(
            f"task_id has to be the number of a task, not {in_words(task_id)}",
            field="task_id",
            remedy="Give the whole number that `create_task` has answered.",
        )


def check_name(name: object, field: str) -> str:
    """The name. Raises `InvalidValue` unless it is text; it does not check whether anything has that name."""
    if not isinstance(name, str):
        raise InvalidValue(f"{field} has to be text, not {in_words(name)}", field=field)
    check_plain(name, field)
    return name


def byte_order_mark(data: bytes) -> str:
    """Say that a text begins with a byte order mark, as some editors of Windows save one; empty if it does not.

    No reader of JSON or TOML takes one, and their errors call it an invalid character, which nobody can see.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")
    return f"it begins with the byte order mark of {encoding}" if encoding else ""


def check_whole(number: object, field: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """The number. Raises `InvalidValue` unless it is whole and lies from `low` to `high`."""
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise InvalidValue(f"{field} must be a whole number from {low} to {high}, not {in_words(number)}", field=field)
    return number


def check_position(after: object) -> int:
    """The position. Raises `InvalidValue` if it is neither a position nor 0."""
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after <= MAX_INTEGER:
        raise InvalidValue(f"after must be a position of the log or 0, not {in_words(after)}", field="after")
    return after


def check_patience(seconds: object) -> float | None:
    """The seconds to wait, as a lock accepts them; None is for ever. Raises `InvalidValue` if it is not a number."""
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or isnan(seconds):
        raise InvalidValue(f"timeout has to be a number of seconds, or None, not {in_words(seconds)}", field="timeout")
    return None if seconds > _FOR_EVER else float(seconds)


def in_words(value: object) -> str:
    """The value as an error shows it; Python does not write numbers of more than 4,300 digits."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"a number of {value.bit_length():,} bits"
    return repr(value)


def check_moment(value: datetime, field: str) -> None:
    """Raise `InvalidValue` unless time-outs, zones and jumps of the clock can be added to this moment."""
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or not EARLIEST <= moment <= LATEST:
        raise InvalidValue(
            f"{field} is {value.isoformat()}, and has to lie between the years {EARLIEST.year} and {LATEST.year}",
            field=field,
            remedy="To keep a task from ever starting by itself, create it with `held`.",
        )


def _place(key: object, field: str) -> str:
    """The name of the value under a key. Raises `InvalidValue` for a key that is not text."""
    if not isinstance(key, str):
        raise InvalidValue(f"{field} has a key that is not text but a {type(key).__name__}", field=field)
    short = key if len(key) <= _SHOWN else f"{key[:_SHOWN]}…"
    place = f"{field}.{short.encode('utf-8', 'replace').decode()}"
    _check_text(key, place)
    return place


def _check_text(text: str, field: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise not_utf8(error, field) from error


def not_utf8(error: UnicodeEncodeError, field: str) -> InvalidValue:
    """The refusal of text that cannot be stored or sent, with the part of it that is wrong.

    A shell passes any bytes, and Python stands a surrogate in for each that is not UTF-8.
    """
    part = error.object[max(0, error.start - _SHOWN) : error.end + _SHOWN]
    try:
        shown = part.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return InvalidValue(f"{field} is not valid text: it holds half of a surrogate pair", field=field)
    remedy = "Write it in UTF-8. A file or folder with such a name has to be renamed, e.g. with `convmv`."
    return InvalidValue(f"{field} is not valid text: '{shown}' is not UTF-8", field=field, remedy=remedy)


TRACEPARENT = "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
"""A W3C trace context: version, trace, parent span, flags."""


def traceparent_in(text: str) -> str:
    """The trace context in a header or a variable; empty if it holds none. Later versions may append more fields."""
    match = re.match(TRACEPARENT, text.strip())
    if match is None:
        return ""
    rest = text.strip()[match.end() :]
    fits = not rest if match[0].startswith("00") else not rest or rest.startswith("-")
    return match[0] if fits else ""
