"""Objects of media libraries that must not be freed, because freeing them can hang. They end with their worker."""

_KEPT: list[object] = []


def abandon(thing: object) -> None:
    """Keep `thing`, and with it what it refers to, as long as this process lives. The worker is replaced for it."""
    _KEPT.append(thing)


def has_abandoned() -> bool:
    """Whether anything is kept so."""
    return bool(_KEPT)
