"""Make a failure short: leave out steps as long as the same promise is broken without them."""

import time
from collections.abc import Callable, Sequence

from simulation import play
from story import Story


def kind(error: Exception) -> tuple[str, ...]:
    """What counts as the same failure: the promise by its number, and the first plain words said about it."""
    number, _, rest = str(error).partition(": ")
    words = [word.strip(",.:") for word in (rest or number).split()]
    return (type(error).__name__, number if rest else "", *[word for word in words if word.isalpha()][:2])


def failure(seed: int, only: Sequence[int], story: Story | None = None) -> Exception | None:
    """What goes wrong when only these steps of a world are played; none if nothing does."""
    try:
        play(seed, only=only, story=story)
    except Exception as error:  # noqa: BLE001 - whatever breaks, breaks
        return error
    return None


def shorter(steps: Sequence[int], still_fails: Callable[[Sequence[int]], bool], seconds: float) -> list[int]:
    """Fewer steps that still fail: pieces are left out, large ones first, until none can be or time is up."""
    kept = list(steps)
    until = time.monotonic() + seconds
    size = len(kept) // 2
    while size >= 1:
        at = len(kept)
        while at > 0:
            rest = kept[: max(0, at - size)] + kept[at:]
            if time.monotonic() > until:
                return kept
            if still_fails(rest):
                kept = rest
            at -= size
        size = min(size, len(kept)) // 2
    return kept


def shrink(seed: int, steps: int, error: Exception, seconds: float = 20.0) -> list[int]:
    """The steps of a world that are needed for its failure, as far as they can be told in so many seconds."""
    wanted = kind(error)

    def still_fails(only: Sequence[int]) -> bool:
        found = failure(seed, only)
        return found is not None and kind(found) == wanted

    every = range(1, steps + 1)
    return shorter(every, still_fails, seconds) if still_fails(every) else list(every)
