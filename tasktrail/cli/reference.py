"""`tasktrail types` and `config show`: every option of the task types, and every key of the configuration."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .command import CliCommand, CliGroup, everywhere, pass_session
from .failing import DONE, complain
from .parameters import TYPE
from .session import Session
from .terminal import Column, as_text, plain, print_json, print_pairs, say

if TYPE_CHECKING:
    from ..api.protocol import TypeInfo
    from ..config.load import Setting
    from ..handlers.presets import Preset


@click.command(
    "types",
    cls=CliCommand,
    examples=[
        ("tasktrail types", "all types with their options"),
        ("tasktrail types video_convert", "one of them"),
        ("tasktrail types --json", "a line of JSON for each, with the JSON schema of its options"),
    ],
)
@click.argument("names", nargs=-1, type=TYPE, metavar="[TYPE]…")
@pass_session
def types_command(session: Session, names: tuple[str, ...]) -> int:
    """List the task types with their options, defaults and limits, and what could not be loaded."""
    from ..handlers.registry import unknown_type

    infos, errors = session.environment.types(session)
    known = [info.name for info in infos]
    for name in names:
        if name not in known:
            raise unknown_type(name, known, errors, (preset for info in infos for preset in info.presets))
    chosen = [info for info in infos if not names or info.name in names]
    if session.as_json:
        for info in chosen:
            print_json(info)
    else:
        _print_types(chosen)
    return max((complain(error, as_json=session.as_json) for error in errors), default=0)


def _print_types(infos: Sequence["TypeInfo"]) -> None:
    for number, info in enumerate(infos):
        if number:
            click.echo("")
        needs = [word for word, needed in (("INPUT", info.needs_input), ("OUTPUT", info.needs_output)) if needed]
        resumes = "resumes after a crash" if info.resumable else "begins anew after a crash"
        say(f"{plain(info.name)} {' '.join(needs)}".rstrip() + f"  ({resumes})")
        if info.summary:
            say(f"  {plain(info.summary)}")
        if info.missing:
            say(plain(f"  not installed: {', '.join(info.missing)}; install {info.install or 'them'}"), hang="  ")
        print_pairs(option_lines(info.options), indent=4)
        if info.presets:
            say("  presets:")
            print_pairs(((plain(preset.name), _preset(preset)) for preset in info.presets), indent=4)
        for line in info.programs:
            say(f"  {plain(line)}", hang="  ")


def _preset(preset: "Preset") -> str:
    means = ", ".join(f"{name}={value}" for name, value in preset.options.items())
    return plain(f"{preset.summary} {means}".strip() + (f"; to {preset.output_suffix}" if preset.output_suffix else ""))


def option_lines(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each option with its values, its default and its purpose, from the JSON schema."""
    definitions = schema.get("$defs", {})
    struct = _resolved(schema, definitions)
    for name, option in struct.get("properties", {}).items():
        default = f"; default {_json(option['default'])}" if option.get("default") not in (None, {}) else ""
        needed = "; needed" if name in struct.get("required", ()) else ""
        says = f". {option['description']}" if "description" in option else ""
        yield plain(name), plain(f"{allowed(option, definitions)}{default}{needed}{says}")


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    found: dict[str, Any] = definitions.get(reference.rpartition("/")[2], schema) if reference else schema
    return found


def allowed(option: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Describe the values that an option takes."""
    option = {**_resolved(option, definitions), **option}
    if "anyOf" in option:
        branches = [allowed(branch, definitions) for branch in option["anyOf"] if branch.get("type") != "null"]
        return " or ".join(branches)
    if "enum" in option:
        return " | ".join(dict.fromkeys(_json(value) for value in option["enum"]))  # 16 and "16" look alike
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


_KEYS = (
    Column("KEY"),
    Column("VALUE", "text"),
    Column("FROM", "name"),
    Column("ALLOWED", "text", leaves=1),
)


@click.group("config", cls=CliGroup, params=everywhere(root=False), invoke_without_command=True)
@click.pass_context
def config_command(ctx: click.Context) -> int:
    """Show the configuration, as `config show` does."""
    return DONE if ctx.invoked_subcommand else ctx.invoke(show_config)


@config_command.command(
    "show",
    cls=CliCommand,
    examples=[
        ("tasktrail config show", "what a service that starts on ./tasktrail-data now would work with"),
        ("tasktrail config show --data /srv/tasks --json", "a line of JSON for each key, with what it means"),
    ],
)
@pass_session
def show_config(session: Session) -> int:
    """Print every key of the configuration: its value now, where that is set, and what is allowed.

    If the configuration cannot be used, that is reported first; then the keys are shown with their defaults.
    """
    session.files_only("config")
    from ..config.load import defaults, settings
    from ..events.errors import ConfigurationError

    code = DONE
    try:
        shown = settings(session.data, file=session.config)
    except ConfigurationError as error:
        code, shown = complain(error, as_json=session.as_json), defaults()
        if not session.as_json:
            say("These are all keys, with their defaults:", err=True)
    if session.as_json:
        for setting in shown:
            print_json(_as_json(setting))
        return code
    rows = ((one.key.name, _value(one), one.origin, one.key.rule.allowed.replace("`", "")) for one in shown)
    session.layout().table(_KEYS, rows)
    return code


def _as_json(setting: "Setting") -> dict[str, Any]:
    key = setting.key
    return {
        "key": key.name,
        "value": _shown(setting.value),
        "from": setting.origin,
        "variable": key.variable,
        "allowed": key.rule.allowed,
        "meaning": key.rule.says,
        "holds": "reload" if key.rule.live else "start",
    }


def _value(setting: "Setting") -> str:
    if setting.origin == "default" and setting.key.rule.default:
        return setting.key.rule.default.replace("`", "")
    return as_text(_shown(setting.value))


def _shown(value: Any) -> Any:
    """Prepare a value for printing; a secret is shown only as being set."""
    from ..actors.secret import Secret

    def hidden(one: Any) -> str:
        return "" if isinstance(one, Secret) and not one else repr(one)

    return msgspec.to_builtins(value, enc_hook=hidden)
