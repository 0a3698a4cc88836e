"""Commands whose names are taken, but that cannot answer. They say so with a typed error."""

import click

from .base import Command

_INSTEAD = {
    "why": "`tasktrail show ID` tells the state, `tasktrail history ID` how it came about.",
    "queue": "`tasktrail list --status pending,retrying --sort=-effective_priority` lists what waits, in its order.",
    "top": "`tasktrail watch` shows what runs, `tasktrail stats` the numbers.",
}


def announced(name: str) -> click.Command:
    """A command of this name, left out of the help, that refuses whatever follows."""

    def refuse(words: tuple[str, ...]) -> None:  # noqa: ARG001 - click hands them over
        from ..events.errors import NotYet

        raise NotYet(f"`tasktrail {name}` is not part of this version", remedy=_INSTEAD[name])

    words = click.Argument(["words"], nargs=-1)
    return Command(name, params=[words], callback=refuse, hidden=True, help="Not part of this version.")
