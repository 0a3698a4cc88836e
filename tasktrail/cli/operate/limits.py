"""`tasktrail limits`: show what may run at once, or change it."""

from typing import TYPE_CHECKING, Any

import click

from ..base import Command, pass_session
from ..fields import who_and_why
from ..output import print_json, print_pairs
from ..session import Session
from ..words import Number, Whole, moment, plain, size
from .pauses import send, who

if TYPE_CHECKING:
    from ...actors.core.board import LimitsBoard

_BYTES = frozenset({"max_memory", "max_temp_size", "temp_low", "temp_high"})


class Bytes(click.ParamType[int]):
    """Bytes, or a text such as `4GiB`."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the size."""
        from ...config.values import parse_size

        try:
            return value if isinstance(value, int) else parse_size(value)
        except ValueError:
            self.fail(f"{value!r} is not a size like 4GiB.", param, ctx)


class Quota(click.ParamType[tuple[str, int | None]]):
    """`name=number`, or `name=none` to take the number away."""

    name = "name=number"

    def __init__(self, *, numbered: bool = False) -> None:
        self._numbered = numbered

    def convert(
        self, value: str | tuple[str, int | None], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        """Split at the last `=`."""
        if isinstance(value, tuple):
            return value
        name, equals, number = value.rpartition("=")
        if not equals or not name or not (number == "none" or number.isdecimal()):
            self.fail(f"{value!r} is not name=number or name=none.", param, ctx)
        if self._numbered and not name.isdecimal():
            self.fail(f"{name!r} is no user: users have numbers, e.g. 7=3.", param, ctx)
        return name, None if number == "none" else int(number)


@click.command(
    "limits",
    cls=Command,
    examples=[
        ("tasktrail limits", "what holds now, and who has paused what"),
        ("tasktrail limits --max-concurrent 2 --reason 'backup runs'", "at most two tasks at once, from now on"),
        ("tasktrail limits --type video_convert=1 --user 7=3", "numbers of their own; =none takes them away"),
        ("tasktrail limits --reset", "the configuration holds again"),
    ],
)
@click.option("--max-concurrent", type=Whole(1, 1024), help="Tasks at once.")
@click.option("--max-memory", type=Bytes(), help="Memory that may be promised in all, e.g. 4GiB; 0: no limit.")
@click.option("--max-cpu", type=Number(1, 100), help="No start while the CPU use is above, in percent.")
@click.option("--max-temp-size", type=Bytes(), help="Temp space that may be promised in all; 0: no limit.")
@click.option("--max-per-type", type=Whole(min=0), help="Tasks of one type at once; 0: any number.")
@click.option("--max-per-user", type=Whole(min=0), help="Tasks of one user at once; 0: any number.")
@click.option("--max-per-label", type=Whole(min=0), help="Tasks of one label at once; 0: any number.")
@click.option("--type", "types", type=Quota(), multiple=True, help="A number for one type, e.g. video_convert=1.")
@click.option("--user", "users", type=Quota(numbered=True), multiple=True, help="A number for one user, e.g. 7=3.")
@click.option("--label", "labels", type=Quota(), multiple=True, help="A number for one label, e.g. night=2.")
@click.option("--fair-share/--no-fair-share", default=None, help="Users take turns, or not.")
@click.option("--reset", is_flag=True, default=None, help="Forget all earlier changes first.")
@who_and_why
@pass_session
def command(session: Session, /, reason: str | None, actor: str | None, **limits: Any) -> None:
    """Show the limits, or change them while the service runs; each change is recorded and holds over restarts."""
    tables = ("types", "users", "labels")
    given = {name: dict(value) if name in tables else value for name, value in limits.items()}
    given = {name: value for name, value in given.items() if value not in (None, {})}
    if any(number == 0 for name in tables for number in given.get(name, {}).values()):
        raise click.UsageError("A limit is at least 1. `tasktrail pause` stops a type or a user.")
    if given:
        from ...events.commands import SetLimits

        send(session, SetLimits, {**given, **who(reason, actor)})
        return
    with session.reading() as reading:
        board = reading.limits()
    if session.as_json:
        print_json(board)
    else:
        print_pairs(pairs(board))


def pairs(board: "LimitsBoard") -> list[tuple[str, str]]:
    """The limits and the pauses in words."""
    changed = board.changes
    rows = []
    for name in board.limits.__struct_fields__:
        value = getattr(board.limits, name)
        mark = " (changed)" if getattr(changed, name, None) not in (None, {}) else ""
        rows.append((name, f"{_in_words(name, value)}{mark}"))
    for pause in board.pauses:
        scope = f"type {pause.type}" if pause.type is not None else f"user {pause.user_id}"
        everything = pause.type is None and pause.user_id is None
        told = f"{'everything' if everything else scope} since {moment(pause.since)} by {pause.actor or '-'}"
        why = f": {pause.reason}" if pause.reason else ""
        rows.append(("drained" if pause.drained else "draining" if pause.drain else "paused", plain(told + why)))
    return rows


def _in_words(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return plain(", ".join(f"{key}={number}" for key, number in value.items())) or "-"
        case 0:
            return "no limit" if name.startswith("max") else "-"
        case _:
            return size(value) if name in _BYTES else f"{value:g}"
