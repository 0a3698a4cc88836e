"""`tasktrail config`: every key of the configuration, what it is set to, and where."""

from typing import TYPE_CHECKING, Any

import click
import msgspec

from .base import Command, pass_session
from .failing import DONE, complain
from .layout import Column
from .output import as_text, print_json, say
from .session import Session

if TYPE_CHECKING:
    from ..config.load import Setting

_COLUMNS = (
    Column("KEY"),
    Column("VALUE", "text"),
    Column("FROM", "name"),
    Column("ALLOWED", "text", leaves=1),
)


@click.command(
    "config",
    cls=Command,
    examples=[
        ("tasktrail config", "what a service that starts on ./tasktrail-data now would work with"),
        ("tasktrail config --data /srv/tasks --json", "a line of JSON for each key, with what it means"),
    ],
)
@pass_session
def command(session: Session) -> int:
    """Print every key of the configuration: its value now, where that is set, and what is allowed.

    A configuration that cannot be used is told first; then the keys are shown with their defaults.
    """
    session.files_only("config")
    from ..config.load import defaults, settings
    from ..events.errors import ConfigurationError

    code = DONE
    try:
        found = settings(session.data, file=session.config)
    except ConfigurationError as error:
        code, found = complain(error, as_json=session.as_json), defaults()
        if not session.as_json:
            say("These are the keys there are, with their defaults:", err=True)
    if session.as_json:
        for setting in found:
            print_json(_as_json(setting))
        return code
    rows = ((one.key.name, _value(one), one.origin, one.key.rule.allowed.replace("`", "")) for one in found)
    session.paper().table(_COLUMNS, rows)
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
    }


def _value(setting: "Setting") -> str:
    if setting.origin == "default" and setting.key.rule.default:
        return setting.key.rule.default.replace("`", "")
    return as_text(_shown(setting.value))


def _shown(value: Any) -> Any:
    """For printing; a secret only says that it is set."""
    from ..actors.secret import Secret

    def hidden(one: Any) -> str:
        return "" if isinstance(one, Secret) and not one else repr(one)

    return msgspec.to_builtins(value, enc_hook=hidden)
