"""How the checks report that the core did what it must never do."""

from typing import NoReturn


class BrokenInvariantError(AssertionError):
    """A promise of the design does not hold. The text begins with its number, where it has one."""


def broken(what: str) -> NoReturn:
    """Raise. For checks made so often that their text must not be built in vain."""
    raise BrokenInvariantError(what)


def must(condition: object, what: str) -> None:
    """Raise when an invariant does not hold."""
    if not condition:
        raise BrokenInvariantError(what)
