"""The forms of all events: which fields each has, what may stand in them, and what a missing one means.

A log says which forms it may contain, so that an older version can tell which of them it does not know. Forms only
grow: whatever `lacking` finds in the forms of an earlier version would make that version's logs unreadable.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from .recorded import EVENT_TAGS

Forms: TypeAlias = dict[str, dict[str, str]]
"""Tag of an event → path of a field → what may stand there and, after ` = `, the meaning of a missing field.

`priority` → `int = 0`; `original` → `"keep"|"move"|"replace" = "keep"`; `temp_files[]` are the items of an array,
`rates{}` the values of an object, `checkpoint.data` is a field of a part.
"""

_PLAIN: dict[type[inspect.Type], str] = {
    inspect.AnyType: "any",
    inspect.NoneType: "none",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.DateTimeType: "datetime",
}
_MISSING = " = "


@cache
def known_forms() -> Forms:
    """The forms that this version reads and writes."""
    return {tag: dict(sorted(_fields(event, ""))) for event, tag in EVENT_TAGS.items()}


@cache
def forms_fingerprint() -> str:
    """The fingerprint of this version's forms. Versions with the same forms have the same one."""
    return sha256(msgspec.json.encode(known_forms(), order="deterministic")).hexdigest()[:16]


def lacking(forms: Mapping[str, Mapping[str, str]], known: Forms) -> list[str]:
    """Say in words what a log of these `forms` may hold that a reader which knows only `known` cannot read."""
    lacks = []
    for tag, fields in forms.items():
        if tag not in known:
            lacks.append(f"the event `{tag}`")
            continue
        for path, form in fields.items():
            lacks += [f"`{tag}.{path}`{lack}" for lack in _lacks(form, known[tag].get(path))]
    return lacks


def _lacks(form: str, known: str | None) -> Iterator[str]:
    if known is None:
        yield ""
        return
    (kinds, optional, default), (known_kinds, known_optional, known_default) = _split(form), _split(known)
    for kind in sorted(kinds - known_kinds):
        yield f" as {kind}"
    if optional and not known_optional:
        yield " left out"
    elif optional and default != known_default:
        yield f" left out for {default}"


def _split(form: str) -> tuple[set[str], bool, str]:
    kinds, optional, default = form.partition(_MISSING)
    return set(kinds.split("|")), bool(optional), default


def _fields(struct: type[Any], before: str) -> Iterator[tuple[str, str]]:
    """Path and form of each field of a Struct and of its parts."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        path = f"{before}{field.encode_name}"
        found: dict[str, set[str]] = {}
        parts = _collect_kinds(field.type, path, found)
        for at, kinds in found.items():
            default = _default(field) if at == path and not field.required else ""
            yield at, "|".join(sorted(kinds)) + default
        for at, part in parts:
            yield from _fields(part, f"{at}.")


def _collect_kinds(at: inspect.Type, path: str, kinds_by_path: dict[str, set[str]]) -> list[tuple[str, type[Any]]]:
    """Note in `kinds_by_path` what may stand at a path and below it; return the Structs in that, with their paths."""
    kinds = kinds_by_path.setdefault(path, set())
    match at:
        case inspect.UnionType(types=types):
            return [part for one in types for part in _collect_kinds(one, path, kinds_by_path)]
        case inspect.LiteralType(values=values):
            kinds.update(msgspec.json.encode(value).decode() for value in values)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            kinds.add("array")
            return _collect_kinds(item, f"{path}[]", kinds_by_path)
        case inspect.DictType(value_type=value):
            kinds.add("object")
            return _collect_kinds(value, f"{path}{{}}", kinds_by_path)
        case inspect.StructType(cls=cls) if cls in EVENT_TAGS:  # has a form of its own
            kinds.add(EVENT_TAGS[cls])
        case inspect.StructType(cls=cls):
            kinds.add("object")
            return [(path, cls)]
        case _:
            kinds.add(_PLAIN[type(at)])
    return []


def _default(field: inspect.Field) -> str:
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        value = {}  # the fields of a part have their own entries
    return _MISSING + msgspec.json.encode(value).decode()
