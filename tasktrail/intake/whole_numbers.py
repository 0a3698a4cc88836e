"""Reads whole numbers written as 6.0. JSON and its schemas have one kind of number, but the decoder has two."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
import msgspec.inspect as kinds
from msgspec import Struct

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode, and also accept whole numbers written as 6.0. Raises what the decoder raises."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
        decoded: T = msgspec.convert(with_whole_numbers(msgspec.json.decode(data), decoder.type), decoder.type)
        return decoded


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
