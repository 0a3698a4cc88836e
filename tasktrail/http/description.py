"""The description at /openapi.json: what a request may hold, as far as a schema can express it.

Litestar describes the routes and msgspec the commands. This module adds what is checked later: rules of single fields,
and what only this service knows, such as its task types. A request that keeps to the description never gets status 400;
other refusals have a status of their own (`events/errors.py`).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, get_args
from zoneinfo import available_timezones

import msgspec
from litestar import Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from ..actors.delivery.mail import LONGEST_ADDRESS, ONE_ADDRESS
from ..api.bulk import RETRYABLE
from ..api.served import Served
from ..batches.request import NewBatch
from ..events import Accepted, Command
from ..events.commands import MAX_GRAPH, LocalName
from ..events.recorded import EVENT_TAGS, SERVICE_ACTORS
from ..events.values import MAX_INTEGER, MIN_INTEGER
from ..handlers.contract import TaskType, missing_packages
from ..handlers.presets import Presets
from ..projections.queries.filters import MAX_LIMIT, MAX_TEXT, MAX_VALUES, SORTS, STATUSES
from .commands import COMMANDS, ArchiveRecords, ErasureWanted, ForgetTasks, RetryTasks
from .permissions import SEE
from .problems import MEDIA_TYPE
from .requests import LARGEST, MAX_COMMANDS
from .streams import EVENT_STREAM, JSON_LINES

if TYPE_CHECKING:
    from ..config.settings import Config

Schema: TypeAlias = dict[str, Any]
_REF = "#/components/schemas/{name}"


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). `code` is stable; `remedy` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str
    """The argument at fault, when there is one."""
    remedy: str


class Known(msgspec.Struct, frozen=True):
    """The parts of the description that differ from service to service."""

    types: tuple[TaskType, ...]
    """The types whose tasks are accepted."""
    presets: Presets
    max_user_level: int
    targets: tuple[str, ...]
    """The targets of notices that the configuration names."""
    allow_endpoints: tuple[str, ...]
    """Hosts that notices may be sent to although they are not public."""

    @classmethod
    def of(cls, service: Served) -> "Known":
        """Return what holds for the service now."""
        config = service.config
        return cls(
            tuple(one for one in service.source.registry if not missing_packages(one)),
            service.source.registry.presets,
            config.max_user_level,
            tuple(sorted(config.apprise)),
            config.allow_endpoints,
        )


# --- the rules of single fields, as patterns that every reader of JSON schemas understands ---

_PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"
_FOLDERS = r"(/(?!\.\.(/|$))[^/\x00]*)*"
_ELSEWHERE = r"(s3|https?|file)://[^\x00-\x1f\x7f-\x9f]+"
_FOLDER = rf"^{_FOLDERS}$"
_INPUT = rf"^({_FOLDERS}|{_ELSEWHERE})$"
_OUTPUT = rf"^({_FOLDERS}/(?!\.\.?$)[^/\x00]+|{_ELSEWHERE})?$"
_LOCAL_NAME = r"^[\p{L}_][\p{L}\p{N}_.-]*$"
_PYTHONS: Mapping[str, str] = {get_args(LocalName)[1].pattern: _LOCAL_NAME}
"""Patterns that other regex engines read differently from Python → their replacement."""
_MOMENT = (
    r"^(197[1-9]|19[89]\d|[2-8]\d{3}|9[0-8]\d\d)-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
_FIELD = "[0-9A-Za-z*,/#-]+"
_CRON = f"^ *({_FIELD}( +{_FIELD}){{4,5}})? *$"
"""Five or six fields. A pattern for what may stand in each would be too long to read."""
_HOST = r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?"
_BEHIND_HOST = '([/?][!"$-~]*)?'


def _any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" for letter in word)


_TOKEN = rf"^(?!({'|'.join(map(_any_case, sorted(SERVICE_ACTORS)))})$)[A-Za-z0-9][A-Za-z0-9._@+-]*$"


def _exactly(text: str) -> str:
    """Escape a text for a pattern. `re.escape` would escape more, which other regex engines do not understand."""
    return re.sub(r"[.*+?^$(){}|[\]\\]", r"\\\g<0>", text)


def _address(allowed: Sequence[str]) -> str:
    """Return the pattern of addresses that notices can be sent to: public ones, or those that the operator allows."""
    forms = [rf"https://{_HOST}(:(443|8443))?"]
    for entry in allowed:
        host, colon, port = entry.rpartition(":")
        named = bool(colon) and port.isdigit()
        forms.append(f"https?://{_exactly(entry)}" if named else rf"https?://{_exactly(entry)}(:[1-9]\d{{0,3}})?")
        if named and port in ("80", "443"):
            forms.append(f"{'http' if port == '80' else 'https'}://{_exactly(host)}")
    return f"^(({'|'.join(forms)}){_BEHIND_HOST})?$"


def _texts_of(known: Known) -> dict[str, Schema]:
    """Return field → the rule of its text, besides msgspec's."""
    address: Schema = {"pattern": _address(known.allow_endpoints)}
    return {
        "input_file": {"pattern": _INPUT},
        "output_file": {"pattern": _OUTPUT},
        "original_folder": {"pattern": _FOLDER},
        "notify_webhook": address,
        "callback_url": address,
        "notify_email": {"pattern": ONE_ADDRESS, "maxLength": LONGEST_ADDRESS},
        "token": {"pattern": _TOKEN},
        "cron": {"pattern": _CRON},
        "timezone": _ref("TimeZone"),
    }


@cache
def _zones() -> list[str]:
    return sorted(available_timezones())


def _refined(schema: Schema, text: Schema) -> Schema:
    """Return a field's schema with the rule `text` added to its texts that have no rule yet."""
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return {**schema, choices: [_refined(one, text) for one in schema[choices]]}
    match schema:
        case {"type": "array", "items": items}:
            return {**schema, "items": _refined(items, text)}
        case {"type": "string", "format": "date-time"}:
            return {**schema, "pattern": _MOMENT}
        case {"type": "string", "pattern": pattern}:
            return {**schema, "pattern": _PYTHONS.get(pattern, pattern)}
        case {"type": "string"}:
            return {**schema, **text}
    return schema


# --- commands ---

_COMMANDS: tuple[type[msgspec.Struct], ...] = get_args(Command)
_NAMES = tuple(command.__name__ for command in _COMMANDS)
# It does not say that its parts are such values, too: there are no others, and client generators stop at a schema that
# refers to itself. No schema can tell 1e20, which is a float for us, from the same number written out.
_PLAIN_JSON: Schema = {"description": "Anything. Numbers without a dot and an exponent have at most 64 bits."}


def _one_of(*names: str) -> Schema:
    return {"oneOf": [_ref(name) for name in names]}


def _components(known: Known) -> dict[str, Schema]:
    """Return the schemas of all commands, of their parts, and of the options of all task types."""
    _, parts = msgspec.json.schema_components(
        (*_COMMANDS, NewBatch, RetryTasks, ErasureWanted, ForgetTasks, ArchiveRecords, Accepted, Problem),
        ref_template=_REF,
    )
    parts = deepcopy(parts)
    texts = _texts_of(known)
    for name in (
        *_NAMES,
        "NewBatch",
        "FileTask",
        "RetryTasks",
        "ErasureWanted",
        "ForgetTasks",
        "ArchiveRecords",
        "GraphTask",
    ):
        _refine(parts[name], texts)
    for task in (parts["CreateTask"], parts["GraphTask"], parts["NewBatch"]):
        task["properties"]["user_level"]["maximum"] = known.max_user_level
        task["properties"]["notify_targets"] |= (
            {"items": {"enum": list(known.targets)}} if known.targets else {"maxItems": 0}
        )
    _describe_files(parts, known)
    parts["TimeZone"] = {"enum": _zones()}
    options, rules = _of_types(known.types, known.presets)
    parts |= options
    one_of_types: Schema = {"enum": [one.name for one in known.types]} if known.types else {"not": {}}
    for task in (parts["CreateTask"], parts["GraphTask"]):
        task["properties"]["type"] |= one_of_types
        if rules:
            task["allOf"] = rules
    parts["NewTask"] = {**_fields_of(parts["CreateTask"]), "title": "NewTask"}
    fields = parts["NewTask"]["properties"]
    of_a_schedule = {"depends_on": {**fields["depends_on"], "maxItems": 0}, **_OF_A_SCHEDULE}
    parts["ScheduledTask"] = {**parts["NewTask"], "title": "ScheduledTask", "properties": {**fields, **of_a_schedule}}
    parts["AddSchedule"] |= _ONE_RHYTHM
    parts["AddSchedule"]["properties"]["task"] = _ref("ScheduledTask")
    parts["AddToken"] |= _ADMINS_ARE_BOUND_TO_NO_USER
    parts["AdjustTask"] |= _SOME_CHANGE
    parts["Checkpoint"] = _storable(parts["Checkpoint"])
    parts["PlainJson"] = _PLAIN_JSON
    parts["RetryTasks"]["properties"] |= _filters(parts["RetryTasks"]["properties"])
    return parts


_ABSOLUTE: Schema = {"type": "string", "minLength": 1, "maxLength": 4096, "pattern": r"^/[^\x00]*$"}
_PATTERN_OF_OUTPUTS: Schema = {**_ABSOLUTE, "pattern": r"^/[^\x00-\x1f\x7f-\x9f]*$"}
_INPUTS: Schema = {"type": "array", "minItems": 1}
_OF_A_BATCH: Schema = {
    # An impossible path is refused by itself, in the answer.
    "inputs": {**_INPUTS, "items": {"type": "string", "maxLength": 4096}, "maxItems": MAX_GRAPH},
    "to": _PATTERN_OF_OUTPUTS,
    "input_file": {"type": "string", "maxLength": 0},
    "output_file": {"type": "string", "maxLength": 0},
    "unique": {"type": "string", "maxLength": 0},
}
"""Fields of a batch. Each of its tasks has its own files."""
_OF_A_SOURCE: Schema = {
    **{name: {"type": "string", "maxLength": 0} for name in ("input_file", "output_file", "unique", "batch")},
    "scheduled_for": {"type": "null"},
    "deadline": {"type": "null"},
}
"""Fields of a source's task. Such tasks come at all times."""


def _describe_files(parts: dict[str, Schema], known: Known) -> None:
    """Describe commands about many files: their tasks share all but the paths, and need not name their type."""
    its_type = {
        "type": {"enum": ["", *(one.name for one in known.types)]},
        "preset": {"enum": ["", *(preset.name for preset in known.presets)]},
    }
    parts["NewBatch"]["properties"] |= {**_OF_A_BATCH, **its_type}
    of_a_source = {"inputs": {**_INPUTS, "items": _ABSOLUTE, "maxItems": 100}, "to": _PATTERN_OF_OUTPUTS}
    parts["AddSource"]["properties"] |= of_a_source
    task = parts["FileTask"]
    task["properties"] |= {**_OF_A_SOURCE, **its_type}
    for name in ("user_level", "notify_targets"):
        task["properties"][name] = parts["NewBatch"]["properties"][name]


def _refine(command: Schema, texts: Mapping[str, Schema]) -> None:
    for name, field in command["properties"].items():
        if name not in ("command", "options"):
            command["properties"][name] = _refined(field, texts.get(name, {"pattern": _PLAIN}))


# Rules between fields stand in `if` and `then`, which client generators pass over. Of a choice beside the fields
# (`oneOf`, `anyOf`, a lone `allOf`) they make a type that lacks the fields.
_ONE_RHYTHM: Schema = {
    "if": {"required": ["cron"], "properties": {"cron": {"minLength": 1}}},
    "then": {"properties": {"every": {"type": "null"}}},
    "else": {"required": ["every"], "properties": {"every": {"type": "number"}}},
}
_ADMINS_ARE_BOUND_TO_NO_USER: Schema = {
    "if": {"properties": {"role": {"const": "admin"}}},
    "then": {"properties": {"user_id": {"type": "null"}}},
}

_SOME_CHANGE: Schema = {
    "if": {"properties": {"scheduled_for": {"type": "null"}, "held": {"type": "null"}}},
    "then": {"required": ["priority"], "properties": {"priority": {"type": "integer"}}},
}


def _of_types(types: Sequence[TaskType], presets: Presets) -> tuple[dict[str, Schema], list[Schema]]:
    """Return the options of each type, whose names get a prefix to keep them apart; and what its new tasks need."""
    refs, parts = msgspec.json.schema_components(
        [one.options for one in types], ref_template=_REF.format(name="options.{name}")
    )
    rules: list[Schema] = []
    for one, its in zip(types, refs, strict=True):
        needed = [name for name in ("input_file", "output_file") if getattr(one, f"needs_{name[:-5]}")]
        names = [preset.name for preset in presets.of(one.name)]
        fields = {
            "options": its,
            "preset": {"enum": ["", *names]},
            **{name: {"minLength": 1} for name in needed},
        }
        then = {"properties": fields, "required": needed} if needed else {"properties": fields}
        rules.append({"if": {"properties": {"type": {"const": one.name}}}, "then": then})
    return {f"options.{name}": _storable(part) for name, part in parts.items()}, rules


_SAYS_NOTHING = frozenset({"title", "description", "default", "examples"})


def _storable(schema: Schema) -> Schema:
    """Return the schema with the bounds of what can be recorded, where it has none of its own."""
    if schema.keys() <= _SAYS_NOTHING:
        return {**schema, **_ref("PlainJson")}
    inner: Schema = {}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            inner[key] = _storable(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            inner[key] = [_storable(one) for one in schema[key]]
    match schema:
        case {"type": "integer"}:
            return {"minimum": MIN_INTEGER, "maximum": MAX_INTEGER, **schema}
        case {"properties": fields}:
            inner["properties"] = {name: _storable(field) for name, field in fields.items()}
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        inner["additionalProperties"] = _ref("PlainJson")
    if schema.get("type") == "array" and "items" not in schema:
        inner["items"] = _ref("PlainJson")
    return {**_for_client_generators(schema), **inner}


def _for_client_generators(schema: Schema) -> Schema:
    """Return an equivalent schema where client generators stop at msgspec's."""
    rest = dict(schema)
    if "prefixItems" in schema and schema.get("items") is False:  # a schema that is no object; `maxItems` says the same
        del rest["items"]
    choice = schema.get("enum", [])
    kinds = list(dict.fromkeys(map(type, choice)))
    if kinds[1:]:
        del rest["enum"]
        rest["anyOf"] = [{"enum": [one for one in choice if type(one) is kind]} for kind in kinds]
    return rest


_OF_A_SCHEDULE: Schema = {
    "parent_task_id": {"type": "null"},
    "scheduled_for": {"type": "null"},
    "deadline": {"type": "null"},
}
"""Fields of a schedule's task, which waits for no other. Each run makes such a task."""


def _fields_of(command: Schema, named: Collection[str] = ()) -> Schema:
    """Return the body of a command's route: without `named`, the fields in the path; `command` may be left out."""
    fields = {name: part for name, part in command["properties"].items() if name not in named}
    needed = [name for name in command["required"] if name not in ("command", *named)]
    return {**command, "properties": fields, "required": needed}


def _bodies(parts: Mapping[str, Schema]) -> dict[str, Schema]:
    any_command = _one_of(*_NAMES)
    item = {"anyOf": [any_command, {"description": "Whatever is no command is answered by its problem."}]}
    return {
        "/v1/commands": {"oneOf": [any_command, {"type": "array", "items": item, "maxItems": MAX_COMMANDS}]},
        "/v1/tasks": _ref("NewTask"),
        "/v1/tasks/retry": _ref("RetryTasks"),
        "/v1/users/{user_id}/erase": _fields_of(parts["ErasureWanted"], ("user_id",)),
        "/v1/forget": _fields_of(parts["ForgetTasks"]),
        "/v1/archive": _fields_of(parts["ArchiveRecords"]),
        "/v1/batches": _fields_of(parts["NewBatch"]),
        **{
            re.sub(r":\w+}", "}", path): _fields_of(parts[kind.__name__], re.findall(r"{(\w+):", path))
            for path, kind in COMMANDS.items()
        },
    }


# --- questions ---


def _list_of(entry: str) -> str:
    """Return the pattern of one value, or several with commas; empty ones beside it do not count."""
    return f"^[ ,]*({entry})( *, *({entry})?)* *$"


_NUMBER = "[0-9]{1,15}"
_STATUS = _list_of("|".join(STATUSES))
_NAMING = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s,][^\x00-\x1f\x7f-\x9f]*$"
"""`_PLAIN`, and not only commas and spaces."""
_SEARCHED = r"^[^\x00-\x1f\x7f-\x9f]*[\p{L}\p{N}][^\x00-\x1f\x7f-\x9f]*$"
_SEARCH: Schema = {"type": "string", "maxLength": MAX_TEXT, "pattern": _SEARCHED}
_SORT: Schema = {"enum": [*SORTS, *(f"-{name}" for name in SORTS)]}
OPENAPI = "/openapi.json"
_POSITION_OR_TIME: Schema = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
        {"type": "string", "format": "date-time", "pattern": _MOMENT},
    ]
}
_EVENTS = "|".join(sorted(EVENT_TAGS.values()))


def _several(entry: str, **more: Any) -> Schema:
    return {"type": "array", "items": {"type": "string", "pattern": entry, **more}, "maxItems": MAX_VALUES}


_PARAMETERS: dict[str, Schema] = {
    "status": _several(_STATUS),
    **dict.fromkeys(("type", "label", "batch"), _several(_NAMING, maxLength=MAX_TEXT)),
    **dict.fromkeys(("user_id", "document_id", "parent_task_id"), _several(_list_of(_NUMBER))),
    "search": _SEARCH,
    "sort": _SORT,
    "as_of": _POSITION_OR_TIME,
    "from": _POSITION_OR_TIME,
    "to": _POSITION_OR_TIME,
    "event": {"type": "array", "items": {"type": "string", "pattern": f"^({_EVENTS})(,({_EVENTS}))*$"}, "minItems": 1},
    "task_id": {"type": "integer", "minimum": 1, "maximum": LARGEST},
    "batch_name": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^/\x00-\x1f\x7f-\x9f]+$"},
    "schedule": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^/\x00-\x1f\x7f-\x9f]+$"},
    "source": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^/\x00-\x1f\x7f-\x9f]+$"},
    "token": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^/\x00-\x1f\x7f-\x9f]+$"},
}
"""Name → the schema of a parameter, in all routes."""
_NEEDED = frozenset({"from"})
"""Required parameters that are optional for Litestar, so that the refusal is our typed error."""
_IN_PATHS: dict[str, Schema] = {"user_id": {"type": "integer", "minimum": 1, "maximum": LARGEST}}
"""The same in paths only: there it names one user, while a filter may list several."""
_OF_LISTS: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    "offset": {"type": "integer", "minimum": 0, "maximum": LARGEST},
}
"""The same for `GET /v1/tasks` only."""


def _filters(fields: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the schemas of the filters in the body of `/v1/tasks/retry`."""
    number: Schema = {"type": "integer", "minimum": 0, "maximum": LARGEST}
    word = "|".join(RETRYABLE)
    either = {
        "status": (
            {"type": "string", "pattern": _list_of(word)},
            {"type": "string", "pattern": f"^ *({word})? *$"},
        ),
        **dict.fromkeys(
            ("type", "label", "batch"),
            tuple({"type": "string", "maxLength": MAX_TEXT, "pattern": pattern} for pattern in (_NAMING, _PLAIN)),
        ),
        **dict.fromkeys(("user_id", "document_id", "parent_task_id"), (number, number)),
    }
    described = {
        name: {**fields[name], "anyOf": [one, {"type": "array", "items": item, "maxItems": MAX_VALUES}]}
        for name, (one, item) in either.items()
    }
    return {**described, "search": {**fields["search"], **_SEARCH, "pattern": f"{_SEARCHED}|^$"}}


def _parameter(path: str, parameter: Schema) -> Schema:
    """Return a parameter with its name's schema. Litestar puts the bounds of an optional one in the wrong place."""
    name = parameter["name"]
    rules = _OF_LISTS.get(name) if path == "/v1/tasks" else None
    rules = _IN_PATHS.get(name) if parameter["in"] == "path" else rules
    rules = rules or _PARAMETERS.get(name)
    if rules is not None:
        return {**parameter, "required": parameter["required"] or name in _NEEDED, "schema": rules}
    schema = parameter["schema"]
    for one in schema.get("oneOf", ()):
        if one["type"] != "null":
            one |= {key: schema.pop(key) for key in ("minimum", "maximum") if key in schema}
            if name == "seconds":
                one["exclusiveMinimum"] = 0
    return parameter


# --- answers ---

_MANY_ANSWERS = {"oneOf": [_one_of("Accepted"), {"type": "array", "items": _one_of("Accepted", "Problem")}]}
_LOCATION = {"Location": {"description": "Where the new task is, if it is one", "schema": {"type": "string"}}}
_LOCATED = ("/v1/tasks", "/v1/commands")
_PROBLEM = {MEDIA_TYPE: {"schema": _ref("Problem")}}
_LINES: Schema = {"schema": {}}
_STREAMED: dict[str, Schema] = {
    "/v1/events": {JSON_LINES: _LINES, EVENT_STREAM: _LINES},
    "/v1/tasks/{task_id}/events": {
        "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
        JSON_LINES: _LINES,
        EVENT_STREAM: _LINES,
    },
}
_REFUSALS: Mapping[str, tuple[str, str]] = {
    "400": ("NotAsDescribed", "The request is not as described here"),
    "401": ("Unauthorized", "The caller is not authenticated"),
    "403": ("Forbidden", "The caller may not do this"),
    "404": ("NotThere", "It does not exist, or not for this caller"),
    "408": ("TooSlow", "The request has not arrived in time"),
    "409": ("Conflict", "The current state does not allow it; a later one may"),
    "413": ("TooMuch", "It is more than one request may be, or asks for more than there can be"),
    "415": ("NotJson", "The body is not declared as plain JSON"),
    "422": ("Contradiction", "It contradicts itself, or what its task type asks for, in a way that no schema can tell"),
    "429": ("TooMany", "Too many requests"),
    "503": ("NotNow", "The service is not ready or busy; or it is unknown whether a command was recorded"),
    "default": ("Fault", "An error"),
}
"""Status → the name of the answer, and what it means."""


def described(document: Schema, known: Known) -> Schema:
    """Return the whole description, made from Litestar's."""
    parts = _components(known)
    bodies = _bodies(parts)
    document["components"]["schemas"] |= parts
    document["components"]["responses"] = {
        name: {"description": text, "content": _PROBLEM} for name, text in _REFUSALS.values()
    }
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token, or the secret of the data folder."}
    }
    document["security"] = [{"bearer": []}]
    for path, method, operation in _operations(document):
        operation["parameters"] = [_parameter(path, one) for one in operation.get("parameters", ())]
        refusals = _REFUSALS if path != "/healthz" else {name: _REFUSALS[name] for name in ("400", "default")}
        operation["responses"] |= {
            status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in refusals.items()
        }
        if path == "/healthz":
            operation["security"] = []
        if method == "get" and path in _STREAMED:
            operation["responses"]["200"]["content"] = _STREAMED[path]
        if method == "post" and path in bodies:
            operation["requestBody"] = {
                "required": path in _LOCATED or bool(bodies[path].get("required") or "if" in bodies[path]),
                "content": {"application/json": {"schema": bodies[path]}},
            }
    for path in _LOCATED:
        document["paths"][path]["post"]["responses"]["202"]["headers"] = _LOCATION
    document["paths"]["/v1/commands"]["post"]["responses"]["202"]["content"] = {
        "application/json": {"schema": _MANY_ANSWERS}
    }
    erasure = document["paths"]["/v1/users/{user_id}/erase"]["post"]["responses"]
    erasure["202"]["content"] = {"application/json": {"schema": _ref("Accepted")}}
    erasure["200"] = {
        "description": "How much it would be, with `dry_run`.",
        "content": {"application/json": {"schema": _ref("Erasable")}},
    }
    return document


def _operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


class Described(OpenAPIRenderPlugin):
    """Serves the description as JSON."""

    def __init__(self, service: Served) -> None:
        super().__init__(path="/", media_type="application/json")  # type: ignore[arg-type]  # the RFC's, not Litestar's
        self._service = service
        self._made: tuple[Config, bytes] | None = None

    def render(self, _request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the description, made anew after the configuration was read again."""
        config = self._service.config
        if self._made is None or self._made[0] is not config:
            plain = msgspec.json.decode(msgspec.json.encode(openapi_schema))
            self._made = config, msgspec.json.encode(described(plain, Known.of(self._service)))
        return self._made[1]


def openapi_config(version: str, service: Served) -> OpenAPIConfig:
    """Return Litestar's settings. The plugin serves the router's root itself, so no other page of Litestar appears."""
    return OpenAPIConfig(
        title="tasktrail",
        version=version,
        path=OPENAPI,
        render_plugins=[Described(service)],
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, _method, _path: handler.handler_name,
        openapi_router=Router(OPENAPI, route_handlers=[], include_in_schema=False, opt={"needs": SEE}),
    )
