"""Makes a task type from a function: the signature gives its options, the docstring says what they mean.

The function's return value is recorded as the task's result, which is always an object. An object stays as it is. Any
other value is kept as `{"value": …}`. So is an object that would read back as something else: an empty one, or one with
`value` as its only key. None becomes the empty object. So every value comes back as it was.
"""

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping
from copy import deepcopy
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from .contract import Finished, Rejected, Stopped, TaskContext
from .errors import BadAnswer, InvalidFunction

_VALUE = "value"
_OUTCOMES = (Finished, Stopped, Rejected)


class ParameterRole(Enum):
    """The role of a parameter that is not an option."""

    INPUT = "input_file"
    OUTPUT = "output_file"
    CONTEXT = "context"


InputFile: TypeAlias = Annotated[Path, ParameterRole.INPUT]
"""Marks the parameter that gets the task's input file."""
OutputFile: TypeAlias = Annotated[Path, ParameterRole.OUTPUT]
"""Marks the parameter that gets the file to write; the file takes its final name when the function has returned."""


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that a function's signature gives."""

    options: type[msgspec.Struct]
    roles: dict[str, ParameterRole]
    """Parameter → its role, for those that are not options."""
    required: frozenset[str]
    """Parameters without a default."""
    returns: Any
    """The type of the result; `Any` if it is not annotated."""
    signature: inspect.Signature

    def name_of(self, role: ParameterRole) -> str:
        """The parameter with this role; empty when there is none."""
        return next((name for name, found in self.roles.items() if found is role), "")

    def call(self, function: Callable[..., Any], context: TaskContext[Any]) -> Any:
        """Call the function for an attempt."""
        arguments = {name: getattr(context.options, name) for name in self.options.__struct_fields__}
        for name, role in self.roles.items():
            match role:
                case ParameterRole.CONTEXT:
                    arguments[name] = context
                case ParameterRole.INPUT if context.input_file.name or name in self.required:
                    arguments[name] = context.input_file
                case ParameterRole.OUTPUT if context.output_file.name or name in self.required:
                    arguments[name] = context.output_part
        bound = self.signature.bind_partial()
        bound.arguments.update({name: arguments[name] for name in self.signature.parameters if name in arguments})
        return function(*bound.args, **bound.kwargs)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name, without those left out. Raises TypeError, as the call would.

        The context is not among them: the attempt supplies it.
        """
        parameters = self.signature.parameters.values()
        own = [parameter for parameter in parameters if self.roles.get(parameter.name) is not ParameterRole.CONTEXT]
        return dict(inspect.Signature(own).bind(*args, **kwargs).arguments)


def runner(function: Callable[..., Any], shape: FunctionSpec) -> Callable[[TaskContext[Any]], Any]:
    """Wrap the function so that an attempt can call it: its arguments come from the task.

    A call raises `BadAnswer` for a value of another kind than the annotation says, if it cannot be read as that either:
    whoever asks for the result later, or depends on it, could not read it.
    """

    def run(context: TaskContext[Any]) -> Any:
        answer = shape.call(function, context)  # a coroutine if it is `async def`; the caller awaits it
        return awaited(answer) if inspect.iscoroutine(answer) else checked(answer)

    async def awaited(answer: Coroutine[Any, Any, Any]) -> Finished | Stopped | Rejected:
        return checked(await answer)

    def checked(answer: Any) -> Finished | Stopped | Rejected:
        outcome = recorded_result(answer)
        if outcome is not answer and not _is_a(answer, shape.returns):
            _check_result(function.__name__, outcome, shape.returns)
        return outcome

    return run


def shape_of(function: Callable[..., Any], name: str) -> FunctionSpec:
    """Read a function's signature. Raises `InvalidFunction`, which says what to write instead."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidFunction(f"{name} yields, and a task has one result", remedy="Return a list.")
    try:
        signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise InvalidFunction(
            f"The annotations of {name} cannot be read: {error}",
            remedy="Import what they name where the module is imported, not below `if TYPE_CHECKING`.",
        ) from error
    descriptions = _descriptions_of(function)
    roles: dict[str, ParameterRole] = {}
    fields: list[tuple[str, Any, Any]] = []
    required = set()
    for parameter in signature.parameters.values():
        hint = _hint_of(parameter, hints, name)
        if parameter.default is parameter.empty:
            required.add(parameter.name)
        role = _role_of(hint)
        if role is None:
            fields.append(_field(parameter, hint, descriptions.get(parameter.name, ""), name))
        elif role in roles.values():
            raise InvalidFunction(f"Two parameters of {name} are its {role.value}", remedy=_ONE_OF_A_KIND[role])
        else:
            roles[parameter.name] = role
    returns = _returned(hints.get("return", Any), name)
    options = _struct(name, fields)
    return FunctionSpec(
        options=options, roles=roles, required=frozenset(required), returns=returns, signature=signature
    )


_ONE_OF_A_KIND = {
    ParameterRole.INPUT: "Keep one. Another is a `str`, and `@task(reads=(...))` names the folder that it is in.",
    ParameterRole.OUTPUT: "Keep one. Another is a `str`, and `@task(writes=(...))` names the folder that it is in.",
    ParameterRole.CONTEXT: "Keep one.",
}


def _struct(name: str, fields: list[tuple[str, Any, Any]]) -> type[msgspec.Struct]:
    title = "".join(part.capitalize() for part in re.split(r"\W|_", name)) or "Task"
    try:
        return msgspec.defstruct(f"{title}Options", fields, frozen=True, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError, RuntimeError) as error:  # the last for names that Python changes in a class
        raise InvalidFunction(f"The parameters of {name} make no options: {error}") from error


def _hint_of(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> Any:
    which = f"Parameter {parameter.name!r} of {name}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InvalidFunction(
            f"{which} takes any number of arguments, which no options can be made of",
            remedy="Name each parameter; several values of one kind are a `list[...]`.",
        )
    if parameter.name not in hints:
        is_method = parameter.name in ("self", "cls")
        method = " If this is a method: make it a function, or a `@staticmethod`." if is_method else ""
        raise InvalidFunction(
            f"{which} has no annotation, so its values cannot be checked",
            remedy=f"Write its type, as in `{parameter.name}: str` or `{parameter.name}: int = 320`.{method}",
        )
    return hints[parameter.name]


def _role_of(hint: Any) -> ParameterRole | None:
    """The role that an annotation names, also as `InputFile | None`."""
    inner = [part for part in get_args(hint) if part is not type(None)] if _is_union(hint) else [hint]
    if len(inner) != 1:
        return None
    if inner[0] is TaskContext or get_origin(inner[0]) is TaskContext:
        return ParameterRole.CONTEXT
    return next((part for part in getattr(inner[0], "__metadata__", ()) if isinstance(part, ParameterRole)), None)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _field(parameter: inspect.Parameter, hint: Any, description: str, name: str) -> tuple[str, Any, Any]:
    which = f"Parameter {parameter.name!r} of {name}"
    _check_type(hint, which)
    if description and not any(isinstance(part, msgspec.Meta) and part.description for part in get_args(hint)[1:]):
        hint = Annotated[hint, msgspec.Meta(description=description)]
    default = parameter.default
    if default is parameter.empty:
        return parameter.name, hint, msgspec.NODEFAULT
    try:
        msgspec.convert(msgspec.to_builtins(default), hint)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise InvalidFunction(
            f"The default of {which[0].lower()}{which[1:]}, {default!r}, is not what its annotation allows: {error}",
            remedy="Correct one of the two; a parameter that may be left out is `int | None = None`.",
        ) from error
    if isinstance(default, list | dict | set | bytearray):
        return parameter.name, hint, msgspec.field(default_factory=lambda: deepcopy(default))
    return parameter.name, hint, default


def _check_type(hint: Any, which: str, *, paths: str = "") -> None:
    """Refuse a type that JSON cannot carry there and back. `paths`: the advice for a type that is or holds a path."""
    try:
        msgspec.json.schema(hint)
    except (TypeError, ValueError) as error:
        raise InvalidFunction(
            f"{which} is {_name(hint)}, which JSON cannot carry",
            remedy=(paths or _path_advice(hint)) if _holds(hint, Path) else _type_advice(hint),
        ) from error


def _path_advice(hint: Any) -> str:
    if hint is Path or (_is_union(hint) and Path in get_args(hint)):
        return "Annotate it with InputFile or OutputFile, or take a `str`."
    return (
        "A task has one InputFile and one OutputFile. Take other paths as `str`; `@task(reads=(...), writes=(...))` "
        "names the folders that they are in."
    )


def _type_advice(hint: Any) -> str:
    if _is_union(hint) and all(_is_carried(part) for part in get_args(hint)):
        return "A union takes one dataclass or Struct, or several Structs that each have a `tag` of their own."
    return "Use numbers, text, lists, dicts, dates, enums, dataclasses or msgspec Structs."


def _holds(hint: Any, kind: type) -> bool:
    return hint is kind or any(_holds(part, kind) for part in get_args(hint))


def _is_carried(hint: Any) -> bool:
    try:
        msgspec.json.schema(hint)
    except (TypeError, ValueError):
        return False
    return True


def _name(hint: Any) -> str:
    """An annotation as it is written in source."""
    if any(hint == role for role in (InputFile, OutputFile)):
        return "InputFile" if hint == InputFile else "OutputFile"
    if hint is type(None):
        return "None"
    if _is_union(hint):
        return " | ".join(map(_name, get_args(hint)))
    if isinstance(get_origin(hint), type) and get_args(hint):
        return f"{get_origin(hint).__name__}[{', '.join(map(_name, get_args(hint)))}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _returned(hint: Any, name: str) -> Any:
    """The type of the result: what a coroutine returns, without the outcomes that have no result."""
    if _is_union(hint):
        kept = [part for part in get_args(hint) if part not in _OUTCOMES]
        if len(kept) < len(get_args(hint)):
            hint = Union[tuple(kept)] if kept else Any  # noqa: UP007 - made of a list
    elif hint in _OUTCOMES:
        return Any
    if hint is Any or hint is None:
        return hint
    if _has_sets(hint):
        raise InvalidFunction(
            f"The result of {name} is {_name(hint)}, and JSON knows no sets", remedy="Return a sorted list."
        )
    _check_type(hint, f"The result of {name}", paths="Return it as a `str`.")
    return hint


def _has_sets(hint: Any) -> bool:
    return hint in (set, frozenset) or get_origin(hint) in (set, frozenset) or any(map(_has_sets, get_args(hint)))


# --- the docstring --------------------------------------------------------------------------------------------------

_GOOGLE = re.compile(r"^(\s+)(\w+)(?:\s*\(.*?\))?:\s*(.*)$")
_SPHINX = re.compile(r"^\s*:param(?:\s+\S+)?\s+(\w+):\s*(.*)$")


def _descriptions_of(function: Callable[..., Any]) -> dict[str, str]:
    """Parameter → its description in the docstring, from an `Args:` section or `:param name:`."""
    descriptions: dict[str, str] = {}
    name, section, depth = "", False, 0
    for line in (inspect.getdoc(function) or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if found := _SPHINX.match(line):
            name, depth = found[1], indent
            descriptions[name] = found[2].strip()
        elif line.strip() in ("Args:", "Arguments:", "Parameters:"):
            section, name = True, ""
        elif not line.strip() or (section and not indent):
            section, name = section and not line.strip(), ""
        elif section and (found := _GOOGLE.match(line)) and (not name or indent <= depth):
            name, depth = found[2], indent
            descriptions[name] = found[3].strip()
        elif name and indent > depth:
            descriptions[name] = f"{descriptions[name]} {line.strip()}".strip()
    return descriptions


# --- the result -----------------------------------------------------------------------------------------------------


def recorded_result(answer: Any) -> Finished | Stopped | Rejected:
    """The outcome that a function's answer means; the module's docstring says how its value is kept."""
    if isinstance(answer, Finished | Stopped | Rejected):
        return answer
    if answer is None:
        return Finished()
    kept = answer
    if not isinstance(answer, dict | list | tuple | set | frozenset | str | int | float):
        try:
            kept = msgspec.to_builtins(answer, str_keys=True)  # a Struct or dataclass is an object, a date is text
        except (TypeError, ValueError):
            kept = answer  # refused with a clear message when it is recorded
    if not isinstance(kept, dict) or not kept or list(kept) == [_VALUE]:
        kept = {_VALUE: kept}
    return Finished(result=kept)


def value_of(result: Mapping[str, Any]) -> Any:
    """The returned value, as plain JSON."""
    if not result:
        return None
    return result[_VALUE] if list(result) == [_VALUE] else dict(result)


def typed_value(result: Mapping[str, Any], returns: Any) -> Any:
    """The returned value as the annotated type. Raises `msgspec.ValidationError`."""
    value = value_of(result)
    return value if returns is Any else msgspec.json.decode(msgspec.json.encode(value), type=returns)


def _check_result(name: str, outcome: Any, returns: Any) -> None:
    try:
        typed_value(outcome.result, returns)
    except msgspec.ValidationError as error:
        raise BadAnswer(
            f"{name} is annotated to return {_name(returns)}, and what it returned is not that: {error}",
            remedy="Correct the function or its annotation, restart the service, and retry the task.",
        ) from error
    except Exception:  # noqa: BLE001 - of a class of the user, which is made here to try it
        return  # what is no JSON at all is refused with a clear message when it is recorded


def _is_a(answer: Any, hint: Any) -> bool:
    """Whether a type checker would take the value, as far as its class shows: an int for a float, a subclass too."""
    if hint is Any or hint is None:
        return hint is Any or answer is None
    if _is_union(hint):
        return any(_is_a(answer, part) for part in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is float:
        return isinstance(answer, int | float)
    try:
        return isinstance(kind, type) and isinstance(answer, kind)
    except TypeError:  # such as a TypedDict
        return False
