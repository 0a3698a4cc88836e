"""The table of docs/reference/access.md agrees with the checks of routes and commands."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from tasktrail.events import Command
from tasktrail.events.system_events import Role
from tasktrail.http.app import ROUTES
from tasktrail.http.permissions import COMMAND_NEEDS, Need

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "access.md").read_text(encoding="utf-8")
ROLES: tuple[str, ...] = get_args(Role)


def row(name: str, need: Need) -> str:
    """Return a line of the table: a cross for each permitted role, and whether a token bound to a user is permitted."""
    marks = ["×" if need.nobody or role in need.roles else "" for role in ROLES]
    bound = "yes" if need.nobody else "no" if need.whole else "own tasks"
    return f"| `{name}` | {' | '.join(marks)} | {bound} |"


def rows() -> Iterator[str]:
    for route in ROUTES:
        for path in sorted(route.paths):
            plain = path.replace(":int}", "}").replace(":str}", "}")
            for method in sorted(map(str, route.http_methods)):
                yield row(f"{method} {plain}", route.opt["needs"])
    assert set(get_args(Command)) == set(COMMAND_NEEDS), (
        "say what it needs in COMMANDS of tasktrail/http/permissions.py"
    )
    for kind in get_args(Command):
        yield row(kind.__struct_config__.tag, COMMAND_NEEDS[kind])


def test_the_table_says_what_every_route_and_command_needs() -> None:
    wanted = list(rows())
    assert [line for line in wanted if line not in PAGE] == [], "add these rows to docs/reference/access.md"
    assert [line for line in PAGE.splitlines() if line.startswith("| `") and "×" in line and line not in wanted] == []
