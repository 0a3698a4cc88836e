"""`tasktrail types`: what kinds of work there are, and the options of each."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..base import Command, pass_session
from ..failing import complain
from ..fields import TYPE
from ..output import print_json, print_pairs, say
from ..session import Session
from ..words import plain

if TYPE_CHECKING:
    from ...api.protocol import TypeInfo


@click.command(
    "types",
    cls=Command,
    examples=[
        ("tasktrail types", "all types with their options"),
        ("tasktrail types video_convert", "one of them"),
        ("tasktrail types --json", "a line of JSON for each, with the JSON schema of its options"),
    ],
)
@click.argument("names", nargs=-1, type=TYPE, metavar="[TYPE]…")
@pass_session
def command(session: Session, names: tuple[str, ...]) -> int:
    """List the task types with their options, defaults and limits, and what could not be loaded."""
    from ...handlers.registry import unknown_type

    found, errors = session.doors.types(session)
    known = [info.name for info in found]
    for name in names:
        if name not in known:
            raise unknown_type(name, known, errors)
    chosen = [info for info in found if not names or info.name in names]
    if session.as_json:
        for info in chosen:
            print_json(info)
    else:
        _print(chosen)
    return max((complain(error, as_json=session.as_json) for error in errors), default=0)


def _print(infos: Sequence["TypeInfo"]) -> None:
    for number, info in enumerate(infos):
        if number:
            click.echo("")
        needs = [word for word, needed in (("INPUT", info.needs_input), ("OUTPUT", info.needs_output)) if needed]
        resumes = "resumes after a crash" if info.resumable else "begins anew after a crash"
        say(f"{info.name} {' '.join(needs)}".rstrip() + f"  ({resumes})")
        say(f"  {plain(info.summary)}")
        if info.missing:
            say(f"  not installed: {', '.join(info.missing)}; install {info.install or 'them'}", hang="  ")
        print_pairs(option_lines(info.options), indent=4)
        for line in info.programs:
            say(f"  {plain(line)}", hang="  ")


def option_lines(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each option with its values, its default and what it is for, from the JSON schema."""
    definitions = schema.get("$defs", {})
    struct = _resolved(schema, definitions)
    for name, option in struct.get("properties", {}).items():
        default = f"; default {_json(option['default'])}" if option.get("default") is not None else ""
        needed = "; needed" if name in struct.get("required", ()) else ""
        says = f". {option['description']}" if "description" in option else ""
        yield name, plain(f"{allowed(option, definitions)}{default}{needed}{says}")


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    found: dict[str, Any] = definitions.get(reference.rpartition("/")[2], schema) if reference else schema
    return found


def allowed(option: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What values an option takes, in words."""
    option = {**_resolved(option, definitions), **option}
    if "anyOf" in option:
        branches = [allowed(branch, definitions) for branch in option["anyOf"] if branch.get("type") != "null"]
        return " or ".join(branches)
    if "enum" in option:
        return " | ".join(_json(value) for value in option["enum"])
    if "const" in option:
        return _json(option["const"])
    kind = option.get("type", "any JSON")
    if kind == "array" and isinstance(option.get("items"), dict):
        return f"list of {allowed(option['items'], definitions)}"
    low, high = option.get("minimum", option.get("exclusiveMinimum")), option.get("maximum")
    above = "above " if "exclusiveMinimum" in option else ""
    match low, high:
        case None, None:
            return str(kind)
        case _, None:
            return f"{kind}, {above or 'from '}{low}"
        case None, _:
            return f"{kind}, up to {high}"
        case _:
            return f"{kind}, {above}{low} to {high}"


def _json(value: Any) -> str:
    return value if isinstance(value, str) and value else msgspec.json.encode(value).decode()
