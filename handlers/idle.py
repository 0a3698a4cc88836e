"""Options that are for another kind of work than the one at hand."""

from collections.abc import Iterable

import msgspec

from ..events.errors import InvalidOptions


def refuse_idle(options: msgspec.Struct, names: Iterable[str], here: str) -> None:
    """Refuse those of `names` that differ from their default, because they would do nothing.

    Args:
        options: of a type whose options all have defaults.
        names: the options without effect.
        here: where that is so: `in a sheet`.

    Raises:
        InvalidOptions: with the first of them as field.
    """
    usual = type(options)()
    for name in names:
        if getattr(options, name) != getattr(usual, name):
            raise InvalidOptions(f"{name} has no effect {here}", field=f"options.{name}", remedy="Leave it out.")
