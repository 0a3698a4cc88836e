"""Writes docs/reference/configuration.md out of the keys themselves: `python -m tasktrail.config.reference`."""

from collections.abc import Iterable
from typing import Any

from ..actors.secret import Secret
from .load import TARGETS, Key, keys
from .settings import TARGET

HEAD = """---
type: reference
title: Configuration
---

# Configuration

tasktrail reads `tasktrail.toml` in the data folder, or the file named with `--config`, and then the environment, which
wins. A key that is set nowhere has its default. Unknown keys and wrong values are refused before anything starts; the
message names the key, the value, where it stands and what is allowed.

```toml
workers = 4
max_memory = "4GiB"
cleanup_after = "12h"
allow_endpoints = ["localhost:8080"]

[smtp]
host = "mail.example.org"
user = "tasks"
sender = "tasks@example.org"

[apprise]
team = "slack://TokenA/TokenB/TokenC/#builds"
```

Sizes are bytes or texts: `KB`, `MB`, `GB`, `TB` count in thousands, `KiB`, `MiB`, `GiB`, `TiB` in 1024. Durations are
seconds or texts with `ms`, `s`, `m`, `h`, `d` or `y` (365 days). In the environment a list is separated by commas.
Secrets belong into the environment or into a file that only the service can read; they are shown nowhere.

`tasktrail config show` prints what holds and where each value comes from. A running service reads its configuration
again on SIGHUP (`systemctl reload`). A key with `reload` in the last column has its new value then, one with `start`
keeps the old value until the next start, and the service says which those are. A configuration with an error changes
nothing.
"""


def reference() -> str:
    """The whole page."""
    everything = list(keys())
    top = [key for key in everything if "." not in key.name]
    smtp = [key for key in everything if key.name.startswith("smtp.")]
    target = [Key(f"{TARGETS}NAME", Secret, TARGET, Secret(""))]
    tables = (("Keys", top), ("Keys of [smtp]", smtp), ("Keys of [apprise]", target))
    return "\n".join([HEAD, *(line for title, rows in tables for line in (*_table(title, rows), ""))])


def _table(title: str, rows: Iterable[Key]) -> list[str]:
    lines = [f"## {title}", "", "| key | meaning | allowed | default | variable | holds |", "|---|---|---|---|---|---|"]
    for key in rows:
        name = key.name.rpartition(".")[2]
        default = key.rule.default or f"`{_literal(key.default)}`"
        holds = "reload" if key.rule.live else "start"
        lines.append(f"| `{name}` | {key.rule.says} | {key.rule.allowed} | {default} | `{key.variable}` | {holds} |")
    return lines


def _literal(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return "[]"
        case str():
            return f'"{value}"'
        case _:
            return str(value)


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - this program's output is the page
