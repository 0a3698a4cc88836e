"""Which worker an attempt runs on: workers offer labels, and a task may need one of them.

A task that needs none runs anywhere. It takes the free worker with the fewest labels, so that those with labels stay
free for whoever needs them as long as others are there; no worker stands idle for that.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

Offer: TypeAlias = tuple[str, ...]
"""The labels of one worker, in order."""


def offers_of(labels: Mapping[str, int], slots: int) -> tuple[Offer, ...]:
    """What each of so many workers offers, when of each label so many do. Empty when none offers anything."""
    if not labels:
        return ()
    return tuple(tuple(sorted(name for name, number in labels.items() if slot < number)) for slot in range(slots))


def pick(free: Mapping[Offer, int], label: str) -> Offer | None:
    """What the worker offers that a task gets which needs `label`, or none; None: no such worker is free."""
    suiting = (offer for offer, number in free.items() if number > 0 and (not label or label in offer))
    return min(suiting, key=lambda offer: (len(offer), offer), default=None)


def labels_of(offers: Counter[Offer]) -> list[str]:
    """All that is offered."""
    return sorted({label for offer in offers for label in offer})


def offering(offers: Counter[Offer], label: str) -> int:
    """How many workers offer the label."""
    return sum(number for offer, number in offers.items() if label in offer)
