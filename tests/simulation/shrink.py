"""Makes a failure short: leaves out steps as long as the same promise is broken without them."""

import time
from collections.abc import Callable, Sequence

from simulation import play
from story import Story


def kind(error: Exception) -> tuple[str, ...]:
    """Return what identifies a failure: the number of the promise, and the first plain words about it."""
    number, _, rest = str(error).partition(": ")
    words = [word.strip(",.:") for word in (rest or number).split()]
    return (type(error).__name__, number if rest else "", *[word for word in words if word.isalpha()][:2])


def failure(seed: int, only: Sequence[int], story: Story | None = None) -> Exception | None:
    """Return the failure when only these steps of a world are played; None if there is none."""
    try:
        play(seed, only=only, story=story)
    except Exception as error:  # noqa: BLE001 - whatever breaks, breaks
        return error
    return None


def shorter(steps: Sequence[int], still_fails: Callable[[Sequence[int]], bool], seconds: float) -> list[int]:
    """Return fewer steps that still fail: pieces are left out, large ones first, until none can be or time is up."""
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
    """Return the steps of a world that its failure needs, as far as that can be found in this many seconds."""
    wanted = kind(error)

    def still_fails(only: Sequence[int]) -> bool:
        found = failure(seed, only)
        return found is not None and kind(found) == wanted

    every = range(1, steps + 1)
    return shorter(every, still_fails, seconds) if still_fails(every) else list(every)
