"""Reads whole numbers written as 6.0. JSON and its schemas have one kind of number, but the decoder has two."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC
from functools import cache
from typing import Any, TypeVar

import msgspec
import msgspec.inspect as kinds
from msgspec import Struct
from msgspec.structs import replace

from ..events.values import MAX_DEPTH, MAX_INTEGER, MIN_INTEGER

T = TypeVar("T")
C = TypeVar("C", bound=Struct)
_PLAIN = ("options", "data")
"""Fields of commands and of their parts that hold plain JSON. Other numbers are of the kind that their fields have."""
_PARTS = ("task", "checkpoint")


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode, and also accept whole numbers written as 6.0. Raises what the decoder raises."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
        decoded: T = msgspec.convert(with_whole_numbers(msgspec.json.decode(data), decoder.type), decoder.type)
        return decoded


def alike(command: C) -> C:
    """Return the command with 6 for each 6.0 in its plain JSON, so that two commands with equal numbers are the same.

    Times are in UTC. Also a field with its default is as if it were left out. The encoder leaves out the very object of
    a default, but writes another 1.0, which a sender has given.

    The command itself if nothing has to be replaced. Numbers beyond 64 bits stay as they are.
    """
    changed = dict[str, Any](_defaults_of(command))
    for name in _moments(type(command)):
        if (moment := getattr(command, name)) is not None and moment.tzinfo is not UTC:
            with suppress(OverflowError):  # it will be refused
                changed[name] = moment.astimezone(UTC)
    for name in _PLAIN:
        if (value := getattr(command, name, None)) and (other := _shortest(value)) is not value:
            changed[name] = other
    for name in _PARTS:
        if (part := getattr(command, name, None)) is not None and (other := alike(part)) is not part:
            changed[name] = other
    if tasks := getattr(command, "tasks", ()):
        others = tuple(map(alike, tasks))
        if any(other is not task for other, task in zip(others, tasks, strict=True)):
            changed["tasks"] = others
    return replace(command, **changed) if changed else command


def _defaults_of(command: Struct) -> Iterator[tuple[str, Any]]:
    """Yield each field that has a value equal to its default but is another object, and the default."""
    for name, default in _not_unique(type(command)):
        value = getattr(command, name)
        if value is not default and type(value) is type(default) and value == default:
            yield name, default


@cache
def _not_unique(cls: type[Struct]) -> tuple[tuple[str, Any], ...]:
    """The fields of a class whose default may have an equal that is another object, and these defaults."""
    defaults = cls.__struct_defaults__
    names = cls.__struct_fields__[len(cls.__struct_fields__) - len(defaults) :]
    pairs = zip(names, defaults, strict=True)
    return tuple((name, default) for name, default in pairs if not _is_unique(default))


@cache
def _moments(cls: type[Struct]) -> tuple[str, ...]:
    """The fields of a class that hold a time."""
    return tuple(name for name, kind in _fields(cls).items() if _is_moment(kind))


def _is_moment(kind: kinds.Type) -> bool:
    match kind:
        case kinds.Metadata():
            return _is_moment(kind.type)
        case kinds.UnionType():
            return any(map(_is_moment, kind.types))
    return isinstance(kind, kinds.DateTimeType)


def _is_unique(value: Any) -> bool:
    """Whether Python has this value only once."""
    return value is None or value in ("", ()) or (isinstance(value, int) and -5 <= value <= 256)  # noqa: PLR2004 - CPython's


def _shortest(value: Any, depth: int = 0) -> Any:
    """Return plain JSON with 6 for each 6.0; the value itself if it has none."""
    match value:
        case _ if depth > MAX_DEPTH:
            return value  # it will be refused
        case float():
            return int(value) if value.is_integer() and MIN_INTEGER <= value <= MAX_INTEGER else value
        case dict():
            others = {name: _shortest(one, depth + 1) for name, one in value.items()}
            return others if any(others[name] is not value[name] for name in value) else value
        case list() | tuple():
            elements = [_shortest(one, depth + 1) for one in value]
            return elements if any(one is not other for one, other in zip(elements, value, strict=True)) else value
    return value


def with_whole_numbers(value: Any, kind: Any) -> Any:
    """Replace 6.0 by 6 wherever a whole number belongs. A value that may be of any kind stays as it is.

    Args:
        value: as decoded from JSON.
        kind: what it is to become: a Struct, or a union of them that have tags.
    """
    return _whole(value, _known(kind))


@cache
def _known(kind: Any) -> kinds.Type:
    return kinds.type_info(kind)


@cache
def _fields(struct: type[Struct]) -> Mapping[str, kinds.Type]:
    known = kinds.type_info(struct)
    assert isinstance(known, kinds.StructType)
    return {field.encode_name: field.type for field in known.fields}


def _whole(value: Any, kind: kinds.Type) -> Any:
    while isinstance(kind, kinds.Metadata):
        kind = kind.type
    if isinstance(kind, kinds.UnionType):
        return _whole(value, _meant(value, kind))
    match value, kind:
        case float(), kinds.IntType() if value.is_integer():
            return int(value)
        case dict(), kinds.StructType():
            fields = _fields(kind.cls)
            return {name: _whole(one, fields[name]) if name in fields else one for name, one in value.items()}
        case dict(), kinds.DictType():
            return {name: _whole(one, kind.value_type) for name, one in value.items()}
        case list(), kinds.ListType() | kinds.VarTupleType():
            return [_whole(one, kind.item_type) for one in value]
    return value


def _meant(value: Any, union: kinds.UnionType) -> kinds.Type:
    """Return the kind in the union that the value has; any, if that makes no difference."""
    choices = [one.type if isinstance(one, kinds.Metadata) else one for one in union.types]
    return next((one for one in choices if _may_be(value, one, choices)), kinds.AnyType())


def _may_be(value: Any, kind: kinds.Type, choices: Sequence[kinds.Type]) -> bool:
    match value, kind:
        case float(), kinds.IntType():
            return not any(isinstance(one, kinds.FloatType) for one in choices)
        case dict(), kinds.StructType():
            return kind.tag_field is None or bool(value.get(kind.tag_field) == kind.tag)
        case (dict(), kinds.DictType()) | (list(), kinds.ListType() | kinds.VarTupleType()):
            return True
    return False
