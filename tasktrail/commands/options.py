"""From the options of a command to the Struct of its type, or to a refusal that names the option."""

from difflib import get_close_matches
from typing import Any

import msgspec

from ..events.errors import InvalidOptions
from ..handlers.contract import TaskType
from .wording import told


def convert_options(task_type: TaskType, options: dict[str, Any]) -> msgspec.Struct:
    """The options as the type's handler sees them. Raises InvalidOptions."""
    _refuse_unknown(task_type, options)
    try:
        return msgspec.convert(options, task_type.options)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`") or _blamed(task_type, options, text)
        subject = f"option {name} of {task_type.name}" if name else f"options of {task_type.name}"
        said = told(subject, text, name, task_type.options)
        raise InvalidOptions(said, field=f"options.{name}" if name else "options") from error


def _blamed(task_type: TaskType, options: dict[str, Any], text: str) -> str:
    """Which option is meant: what a type's own rules refuse comes without a name.

    It is the first that the text names, best one without which the others would do; or such a one that is not named.
    """
    named = sorted((name for name in options if name in text), key=text.find)
    cures = [name for name in options if _do(task_type, {key: options[key] for key in options if key != name})]
    best = [name for name in named if name in cures] or named or cures
    return best[0] if best else ""


def _do(task_type: TaskType, options: dict[str, Any]) -> bool:
    try:
        msgspec.convert(options, task_type.options)
    except msgspec.ValidationError:
        return False
    return True


def _refuse_unknown(task_type: TaskType, options: dict[str, Any]) -> None:
    """Name the option that the type does not have, and the nearest that it has."""
    config = task_type.options.__struct_config__
    if not config.forbid_unknown_fields:
        return
    known = task_type.options.__struct_encode_fields__
    for name in options:
        if name not in known and name != config.tag_field:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidOptions(f"{task_type.name} has no option {name!r}{hint}", field=f"options.{name}")
