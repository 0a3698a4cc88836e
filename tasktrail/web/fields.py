"""Makes the fields of a form from the JSON schema of a Struct, and values from what was typed into them.

The schema determines the control of a field, its choices and its meaning. Typed values are checked against the Struct's
own types, so an error has the same words as over HTTP. It stands beside its field, and what was typed stays.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from ..config.settings import parse_seconds, parse_size
from ..events import TasktrailError
from ..intake.refusals import refusal
from ..times import FORMS, read_time

JsonSchema: TypeAlias = Mapping[str, Any]
Control: TypeAlias = Literal["text", "number", "checkbox", "choice", "lines", "pairs", "json", "group"]
_LEFT_OUT = msgspec.UNSET
_FAR = 1_000_000
"""A bound of at least this is too large to be worth showing."""
_YES, _NO = "true", "false"
_NOTHING: Mapping[str, Any] = {}


class Field(msgspec.Struct, kw_only=True):
    """One field as it is shown."""

    name: str
    """The name of its control, such as `options.width`."""
    label: str
    control: Control
    meaning: str = ""
    hint: str = ""
    """How to type it: its bounds, its format."""
    required: bool = False
    keyboard: Literal["", "numeric", "decimal"] = ""
    """The keyboard that a phone shows; empty for the usual one."""
    longest: int | None = None
    choices: Sequence[tuple[str, str]] = ()
    """Values, and the texts shown for them."""
    value: str = ""
    """Its current text; of a checkbox, `true` when it is ticked."""
    default: str = ""
    """Its text before anything was typed."""
    error: str = ""
    fields: "Sequence[Field]" = ()
    """The fields of a group."""

    @property
    def id(self) -> str:
        """The id of the control within its page."""
        return f"field-{self.name.replace('.', '-')}"

    @property
    def touched(self) -> bool:
        """Whether it, or a field within it, is wrong or was changed."""
        return bool(self.error) or self.value != self.default or any(field.touched for field in self.fields)


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A schema with its references followed, and the control for it."""

    schema: JsonSchema
    """The schema without null."""
    control: Control
    nullable: bool = False
    required: bool = False
    default: Any = _LEFT_OUT
    extra: Mapping[str, Any] = _NOTHING
    """The notes that `says` keeps with a field of a command."""
    parts: "Mapping[str, _Shape]" = {}
    """The fields of a group."""
    items: "_Shape | None" = None
    """The values of lines and pairs."""


class _InvalidText(Exception):
    """The typed text is not a value."""


class FormFields:
    """The fields of one Struct.

    Args:
        kind: the Struct.
        names: its fields that the form has, in this order; None: all.
        prefix: stands before the name of each control.
        within: the path of the Struct in its command, such as `options.`: refusals name their field with it.
        required: names of fields that have to be given here, whatever the Struct says.
    """

    def __init__(
        self,
        kind: type[msgspec.Struct],
        names: Iterable[str] | None = None,
        prefix: str = "",
        within: str = "",
        required: Collection[str] = (),
    ) -> None:
        self._kind = kind
        self._prefix = prefix
        self._within = within
        known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        schema = msgspec.json.schema(kind)
        whole = _shape(schema, schema.get("$defs", {}))
        self._types = {name: known[name] for name in (whole.parts if names is None else names) if name in known}
        self._shapes = {
            name: replace(
                whole.parts[name],
                extra=_extra(annotation),
                required=name in required or whole.parts[name].required,
                default=_LEFT_OUT if name in required else whole.parts[name].default,
            )
            for name, annotation in self._types.items()
        }
        self._alone = {name: _alone(name, annotation) for name, annotation in self._types.items()}

    def shown(self, typed: Mapping[str, str] | None = None, errors: Mapping[str, str] = _NOTHING) -> list[Field]:
        """Return the fields with their defaults, or with the typed texts and the errors.

        `errors`: field → sentence, as returned by `read` and `error_of`.
        """
        known = {f"{self._prefix}{name}": error for name, error in errors.items()}
        return [
            _filled(_field(f"{self._prefix}{name}", name, shape), typed, known) for name, shape in self._shapes.items()
        ]

    def read(self, typed: Mapping[str, str], now: datetime) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the typed values without defaults, and the errors by field.

        `now`: the time from which `+2h` counts.
        """
        values: dict[str, Any] = {}
        errors: dict[str, str] = {}
        for name, shape in self._shapes.items():
            try:
                value = _value(shape, f"{self._prefix}{name}", typed, now)
            except _InvalidText as wrong:
                errors[name] = f"{name} {wrong}"
                continue
            if value is _LEFT_OUT:
                if shape.required:
                    errors[name] = f"`{name}` has to be given"
                continue
            error = self._refusal(name, value)
            if error is None:
                values[name] = value
            elif value != "":  # an empty text means the default
                errors[error.field] = error.message
        return values, errors

    def typed(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the texts that one would type to give these values; missing values have their default."""
        texts: dict[str, str] = {}
        for name, shape in self._shapes.items():
            texts |= _texts(shape, f"{self._prefix}{name}", values.get(name, shape.default))
        return texts

    def error_of(self, error: TasktrailError) -> dict[str, str]:
        """Return a refusal as `errors` for `shown`; empty if it is about none of these fields."""
        name = error.field.removeprefix(self._within)
        top = name.partition(".")[0].partition("[")[0]
        return {name: error.message} if error.field.startswith(self._within) and top in self._shapes else {}

    def _refusal(self, name: str, value: Any) -> TasktrailError | None:
        """Return why the Struct does not accept the value; None if it does."""
        try:
            msgspec.convert({name: value}, self._alone[name])
        except msgspec.ValidationError as error:
            return refusal(error, {name: value}, self._kind)
        return None


def _alone(name: str, annotation: Any) -> type[msgspec.Struct]:
    """Return a Struct of one field: each is checked by itself, so that all errors are found at once."""
    return msgspec.defstruct("Alone", [("value", annotation)], rename={"value": name})


# --- from a schema to its shape -----------------------------------------------------------------------------------


def _extra(annotation: Any) -> Mapping[str, Any]:
    notes = getattr(annotation, "__metadata__", ())
    return next((note.extra for note in notes if isinstance(note, msgspec.Meta) and note.extra), _NOTHING)


def _shape(
    schema: JsonSchema, definitions: JsonSchema, above: tuple[str, ...] = (), *, required: bool = False
) -> _Shape:
    """`above`: the definitions around this one. One that contains itself would not end, so it is typed as JSON."""
    default = schema.get("default", _LEFT_OUT)
    schema, above = _followed(schema, definitions, above)
    nullable = False
    if "anyOf" in schema:
        options = [_followed(one, definitions, above) for one in schema["anyOf"]]
        solid = [(one, over) for one, over in options if one.get("type") != "null"]
        nullable = len(solid) < len(options)
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        schema, above = (
            ({**solid[0][0], **beside}, solid[0][1])
            if len(solid) == 1
            else ({**beside, "anyOf": [one for one, _ in solid]}, above)
        )
    if None in schema.get("enum", ()):
        schema, nullable = {**schema, "enum": [word for word in schema["enum"] if word is not None]}, True
    endless = len(set(above)) < len(above)
    common: dict[str, Any] = {"schema": schema, "nullable": nullable, "required": required, "default": default}
    properties = schema.get("properties", {})
    if properties and not endless:
        needed = schema.get("required", ())
        parts = {
            name: _shape(part, definitions, above, required=name in needed and not nullable)
            for name, part in properties.items()
        }
        return _Shape(control="group", parts=parts, **common)
    inner = schema.get("items") if schema.get("type") == "array" else schema.get("additionalProperties")
    if schema.get("type") in ("array", "object") and isinstance(inner, Mapping) and not properties:
        items = _shape(inner, definitions, above)
        if items.control in ("text", "number", "choice", "checkbox"):
            return _Shape(control="lines" if schema["type"] == "array" else "pairs", items=items, **common)
    return _Shape(control=_control(schema, nullable=nullable), **common)


def _followed(
    schema: JsonSchema, definitions: JsonSchema, above: tuple[str, ...]
) -> tuple[JsonSchema, tuple[str, ...]]:
    """Return the schema that a reference leads to, merged with what stands beside it; its own description wins."""
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    if not reference:
        return schema, above
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**definitions[reference], "description": "", **beside}, (*above, reference)


def _control(schema: JsonSchema, *, nullable: bool) -> Control:
    if _words(schema):
        return "choice"
    match schema.get("type"):
        case "boolean":
            return "choice" if nullable else "checkbox"
        case "integer" | "number":
            return "number"
        case "string":
            return "text"
        case None if "anyOf" in schema and all(map(_fits_a_line, schema["anyOf"])):
            return "text"
        case _:
            return "json"


def _fits_a_line(schema: JsonSchema) -> bool:
    """Whether it is a plain value, or a list of plain values, which is typed with commas."""
    if schema.get("type") == "array":
        return _fits_a_line(schema.get("items", {})) and schema["items"].get("type") != "array"
    return schema.get("type") in ("string", "integer", "number", "boolean") or bool(_words(schema))


def _words(schema: JsonSchema) -> Sequence[Any]:
    """Return the values to choose from."""
    return (schema["const"],) if "const" in schema else schema.get("enum", ())


# --- from a shape to a field --------------------------------------------------------------------------------------


def _field(place: str, name: str, shape: _Shape) -> Field:
    schema = shape.schema
    default = "" if shape.control == "group" else _as_text(shape, shape.default)
    return Field(
        name=place,
        label=_label(name, shape.extra),
        control=shape.control,
        meaning=_meaning(schema),
        hint=_hint(shape),
        required=shape.required,
        keyboard=_keyboard(shape),
        longest=schema.get("maxLength"),
        choices=_choices(shape),
        value=default,
        default=default,
        fields=[_field(f"{place}.{part}", part, inner) for part, inner in shape.parts.items()],
    )


def _filled(field: Field, typed: Mapping[str, str] | None, errors: Mapping[str, str]) -> Field:
    """Return the field with the typed text, and with the error that names it or a part that is no field."""
    inside = (f"{field.name}.", f"{field.name}[")
    error = errors.get(field.name, "")
    if field.control != "group":
        error = error or next((text for name, text in errors.items() if name.startswith(inside)), "")
    field = replace(field, error=error, fields=[_filled(one, typed, errors) for one in field.fields])
    if typed is None or field.control == "group":
        return field
    return replace(field, value=typed.get(field.name, "" if field.control == "checkbox" else field.default))


def _label(name: str, extra: Mapping[str, Any]) -> str:
    text = name.replace("_", " ")
    unit = " (seconds)" if extra.get("value") == "SECONDS" else ""
    return text[:1].upper() + text[1:] + unit


def _keyboard(shape: _Shape) -> Literal["", "numeric", "decimal"]:
    if shape.control != "number" or shape.extra.get("in_bytes") or _in_seconds(shape):  # a unit has letters
        return ""
    return "numeric" if shape.schema.get("type") == "integer" else "decimal"


def _in_seconds(shape: _Shape) -> bool:
    return shape.extra.get("value") == "SECONDS"


def _meaning(schema: JsonSchema) -> str:
    text = str(schema.get("description", ""))
    return f"No: {text.removeprefix('False: ')}" if text.startswith("False: ") else text


def _choices(shape: _Shape) -> Sequence[tuple[str, str]]:
    if shape.control != "choice":
        return ()
    known = [(_YES, "yes"), (_NO, "no")] if shape.schema.get("type") == "boolean" else []
    known = known or [(word, word) for word in map(_word, _words(shape.schema))]
    if shape.nullable:
        return [("", "not set"), *known]
    return [("", "choose one"), *known] if shape.required or shape.default is _LEFT_OUT else known


def _hint(shape: _Shape) -> str:
    """Return how to type it, as far as the control does not show it."""
    schema, example = shape.schema, str(shape.extra.get("example", ""))
    if shape.extra.get("in_bytes"):
        return "Bytes, or a size like 4GiB."
    if _in_seconds(shape):
        return f"{_range(schema)} Or with a unit, like 10m or 2h.".strip()
    match shape.control:
        case "number":
            text = _range(schema)
            return "" if text.rstrip(".") in schema.get("description", "") else text
        case "lines":
            words = [_word(word) for word in _words(shape.items.schema)] if shape.items else []
            return f"One a line: {', '.join(words)}." if words else "One a line."
        case "pairs":
            return f"One a line, like {example or 'name=value'}."
        case "json":
            return "As JSON."
        case "text" if schema.get("format") == "date-time":
            return f"Like {FORMS}."
        case "text" if "anyOf" in schema:
            words = [_word(word) for one in schema["anyOf"] for word in _words(one)]
            also = f"Also: {', '.join(words)}." if words and not _takes_a_list(schema) else ""
            return "Several with commas." if _takes_a_list(schema) else also
        case _:
            return ""


def _range(schema: JsonSchema) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    lower = f"at least {least:g}" if least else f"more than {above:g}" if above is not None else ""
    upper = f"less than {below:g}" if below is not None else ""
    if most is not None and most < _FAR:
        upper = f"at most {most:g}"
    if least is not None and upper.startswith("at most"):
        return f"{least:g} to {most:g}."
    text = ", ".join(filter(None, (lower, upper)))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _takes_a_list(schema: JsonSchema) -> bool:
    return any(one.get("type") == "array" for one in schema.get("anyOf", ()))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _as_text(shape: _Shape, value: Any) -> str:
    """Return a value as it would be typed."""
    if value is None or value is _LEFT_OUT:
        return ""
    match shape.control:
        case "checkbox":
            return _YES if value else ""
        case "lines" if shape.items:
            return "\n".join(_as_text(shape.items, one) for one in value)
        case "pairs" if shape.items:
            return "\n".join(f"{key}={_as_text(shape.items, one)}" for key, one in value.items())
        case "number" if isinstance(value, float) and value.is_integer():
            return str(int(value))
        case "json" if value in ({}, []) or isinstance(value, str):
            return value or ""
        case _:
            return _word(value)


def _texts(shape: _Shape, place: str, value: Any) -> dict[str, str]:
    """Return the texts of a field, or of all fields in a group; an unticked box has none."""
    if shape.control == "group":
        inside = value if isinstance(value, Mapping) else {}
        parts = ((f"{place}.{name}", part, inside.get(name, part.default)) for name, part in shape.parts.items())
        return {name: text for where, part, one in parts for name, text in _texts(part, where, one).items()}
    text = _as_text(shape, value)
    return {} if shape.control == "checkbox" and not text else {place: text}


# --- from what was typed to a value -------------------------------------------------------------------------------


def _value(shape: _Shape, place: str, typed: Mapping[str, str], now: datetime) -> Any:
    """Return the value, or `_LEFT_OUT` for the default. Raises `_InvalidText` for a text that is not a value."""
    if shape.control == "group":
        return _group(shape, place, typed, now)
    if shape.control == "checkbox":
        value: Any = typed.get(place, "") == _YES
    elif place not in typed or _untouched(shape, typed[place]):
        return _LEFT_OUT
    else:
        value = _typed(shape, typed[place].replace("\r\n", "\n"), now)
    same = value == shape.default and isinstance(value, bool) == isinstance(shape.default, bool)
    return _LEFT_OUT if same else value


def _untouched(shape: _Shape, text: str) -> bool:
    """Whether the shown default was left unchanged: read as a text, `1` may be another value."""
    return shape.default is not _LEFT_OUT and text.replace("\r\n", "\n") == _as_text(shape, shape.default)


def _group(shape: _Shape, place: str, typed: Mapping[str, str], now: datetime) -> Any:
    found = {}
    for name, part in shape.parts.items():
        try:
            value = _value(part, f"{place}.{name}", typed, now)
        except _InvalidText as wrong:
            raise _InvalidText(f"{name} {wrong}") from wrong
        if value is not _LEFT_OUT:
            found[name] = value
    return found if found or shape.required else _LEFT_OUT


def _typed(shape: _Shape, text: str, now: datetime) -> Any:
    """Return the value of a text that may be empty."""
    is_text = shape.control == "text" and shape.schema.get("type") == "string"
    bare = text if is_text and "format" not in shape.schema else text.strip()
    if bare:
        return _parsed(shape, bare, now)
    if shape.nullable:
        return None
    if shape.control in ("lines", "pairs") and not shape.required:
        return [] if shape.control == "lines" else {}
    return "" if is_text and shape.default is not _LEFT_OUT else _LEFT_OUT


def _parsed(shape: _Shape, text: str, now: datetime) -> Any:
    """Return the value of a text that is not empty."""
    schema = shape.schema
    if shape.extra.get("in_bytes"):
        return _read(parse_size, text, "a size such as 4GiB")
    if _in_seconds(shape):
        return _read(parse_seconds, text, "seconds, or a duration such as 10m")
    match shape.control:
        case "number" if schema["type"] == "integer":
            return _read(int, text, "a whole number")
        case "number":
            return _read(float, text, "a number")
        case "choice" | "checkbox" if schema.get("type") == "boolean":
            return {_YES: True, _NO: False}.get(text, text)
        case "choice":
            return next((word for word in _words(schema) if _word(word) == text), text)
        case "lines" if shape.items:
            return [_parsed(shape.items, line.strip(), now) for line in _lines(text)]
        case "pairs" if shape.items:
            return dict(_pair(shape.items, line.strip(), now) for line in _lines(text))
        case "text" if schema.get("format") == "date-time":
            return _read(lambda words: read_time(words, now).isoformat(), text, f"a time such as {FORMS}")
        case "text":
            return _parsed_as_any(schema, text)
        case _:
            return _json_or_text(text)


def _read(reader: Any, text: str, what: str) -> Any:
    try:
        return reader(text)
    except (ValueError, OverflowError):
        raise _InvalidText(f"has to be {what}, not {text!r}") from None


def _lines(text: str) -> Iterator[str]:
    yield from (line for line in text.split("\n") if line.strip())


def _pair(values: _Shape, line: str, now: datetime) -> tuple[str, Any]:
    """Split at the last `=` before a number, else at the first, because a text may contain more of them."""
    key, equals, text = line.rpartition("=") if values.control == "number" else line.partition("=")
    if not equals or not key:
        raise _InvalidText(f"has to have lines like name=value, not {line!r}")
    if values.nullable and text in ("", "none"):
        return key, None
    return key, _parsed(values, text, now)


def _parsed_as_any(schema: JsonSchema, text: str) -> Any:
    """Return the text, unless the schema allows another kind that it is: a number, true, or a list."""
    value = _json_or_text(text)
    kinds = {one.get("type") for one in schema.get("anyOf", ())}
    if "array" in kinds and isinstance(value, str) and "," in text:
        return [_json_or_text(part.strip()) for part in text.split(",")]
    if isinstance(value, bool):
        return value if "boolean" in kinds else text
    if isinstance(value, list):
        return value if "array" in kinds else text
    return value if isinstance(value, int | float) and kinds & {"integer", "number"} else text


def _json_or_text(text: str) -> Any:
    """Return the value of JSON, or the text if it is no JSON, as the command line reads the options of a type."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
