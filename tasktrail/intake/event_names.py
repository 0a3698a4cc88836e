"""The names of events to which a caller restricts a stream."""

from collections.abc import Iterable
from difflib import get_close_matches

from ..events.errors import InvalidValue
from ..events.recorded import EVENT_TAGS


def event_tags(names: Iterable[str]) -> frozenset[str]:
    """Return the tags of the named events. Raises `InvalidValue` for a name that does not exist."""
    all_names = sorted(EVENT_TAGS.values())
    given = frozenset([names] if isinstance(names, str) else names)
    for name in sorted(given.difference(all_names), key=str):
        near = get_close_matches(str(name), all_names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidValue(
            f"event: there is no event {name!r}{hint}", field="event", remedy=f"The events are {', '.join(all_names)}."
        )
    return given
