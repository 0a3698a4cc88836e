"""Finds the route that a request with an unknown address perhaps meant."""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

_LONGEST = 200
"""Characters of an address that is compared at all: the comparison runs in the event loop."""
_LEAST = 0.74
"""How alike a word has to be, from 0 to 1: `notices` is not to be taken for `nodes`."""
_NO_NUMBER = 0.8
"""How well any word that is no number stands for one."""
_VERSION = "v1"
_IN_FRONT = 2
"""How many words in front of an address may be too many, as in `/api/v2/tasks`."""


def nearest_route(path: str, routes: Iterable[str]) -> str:
    """Return the address that was perhaps meant, with the values of `path`; empty if there is none.

    Args:
        path: where nothing answers.
        routes: the paths of all routes, as `/v1/tasks/{task_id:int}/why`.
    """
    if len(path) > _LONGEST:
        return ""
    best, nearest = 0.0, ""
    for route in routes:
        wanted = route.strip("/").split("/")
        for given, lost in _readings(path):
            if len(given) != len(wanted):
                continue
            pairs = [_compared(one, two) for one, two in zip(given, wanted, strict=True)]
            address = "/" + "/".join(word for _alike, word in pairs)
            alike = min(alike for alike, _word in pairs) - lost
            if alike > best and alike >= _LEAST and address != path:
                best, nearest = alike, address
    return nearest


def _readings(path: str) -> Iterator[tuple[list[str], float]]:
    """Yield the words of the path as they may be meant, and how much less likely that is."""
    words = path.strip("/").split("/")
    for left_out in range(min(_IN_FRONT, len(words) - 1) + 1):
        rest = words[left_out:]
        yield rest, left_out / 100
        yield [_VERSION, *rest], (left_out + 1) / 100


def _compared(given: str, wanted: str) -> tuple[float, str]:
    """Return how alike two words of an address are, and the word to name."""
    name, _colon, kind = wanted.strip("{}").partition(":")
    if not wanted.startswith("{"):
        return SequenceMatcher(None, given, wanted).ratio(), wanted
    if kind == "int" and not (given.isascii() and given.isdigit()):
        return _NO_NUMBER, f"{{{name}}}"
    return (1.0 if given else 0.0), given
