"""Which worker an attempt runs on: workers offer labels, and a task may need one of them.

A task that needs none runs anywhere. It takes the free worker with the fewest labels, so that those with labels stay
free for whoever needs them as long as others are there; no worker stands idle for that.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

Offer: TypeAlias = tuple[str, ...]
"""The labels of one worker, in order."""
SHORT_AT_ONCE = 16
"""Attempts of short types that hold one worker together. It runs them one after another."""


def offers_of(labels: Mapping[str, int], slots: int) -> tuple[Offer, ...]:
    """What each of so many workers offers, when of each label so many do. Empty when none offers anything."""
    if not labels:
        return ()
    return tuple(tuple(sorted(name for name, number in labels.items() if slot < number)) for slot in range(slots))


def pick(free: Mapping[Offer, int], label: str) -> Offer | None:
    """What the worker offers that a task gets which needs `label`, or none; None: no such worker is free."""
    suiting = (offer for offer, number in free.items() if number > 0 and (not label or label in offer))
    return min(suiting, key=_fewest_first, default=None)


def _fewest_first(offer: Offer) -> tuple[int, Offer]:
    return len(offer), offer


def labels_of(offers: Counter[Offer]) -> list[str]:
    """All that is offered."""
    return sorted({label for offer in offers for label in offer})


def offering(offers: Counter[Offer], label: str) -> int:
    """How many workers offer the label."""
    return sum(number for offer, number in offers.items() if label in offer)


class Workers(msgspec.Struct):
    """The workers that are there, and what attempts hold of them: a whole one each, or, short ones, a share of one."""

    slots: int = 0
    offers: Counter[Offer] = msgspec.field(default_factory=Counter)
    """What workers offer → how many there are of that kind. Empty where none offers anything."""
    at_once: int = SHORT_AT_ONCE
    """Short attempts that hold one worker together."""
    held: int = 0
    """Workers that are held."""
    _whole: Counter[Offer] = msgspec.field(default_factory=Counter)
    """Workers that are held by one attempt each."""
    _short: Counter[Offer] = msgspec.field(default_factory=Counter)
    """Short attempts, by what their workers offer."""

    def change(self, slots: int, offers: Iterable[Offer]) -> None:
        """So many workers are there now, and this is what each offers."""
        self.slots, self.offers = slots, Counter(offers)

    def add(self, offer: Offer, number: int) -> None:
        """So many more are there that offer this, or fewer."""
        if offer and not self.offers:
            self.offers[()] = self.slots
        if offer or self.offers:
            self.offers[offer] += number
        self.slots += number

    def take(self, offer: Offer, *, short: bool) -> None:
        """An attempt begins."""
        if not short:
            self._whole[offer] += 1
            self.held += 1
            return
        if not self._short[offer] % self.at_once:
            self.held += 1
        self._short[offer] += 1

    def give_back(self, offer: Offer, *, short: bool) -> None:
        """It is over."""
        if not short:
            self._whole[offer] -= 1
            self.held -= 1
            return
        self._short[offer] -= 1
        if not self._short[offer] % self.at_once:
            self.held -= 1

    def free(self) -> Counter[Offer]:
        """What the workers offer that nobody holds."""
        if not self.offers:
            return Counter({(): self.slots - self.held})
        free = self.offers.copy()
        free.subtract(self._whole)
        free.subtract({offer: -(-number // self.at_once) for offer, number in self._short.items()})
        return free

    def shared(self) -> Offer | None:
        """What a worker offers that short attempts hold and that has room for another one.

        Workers that are gone, and still held, have none.
        """
        roomy = [offer for offer, number in self._short.items() if number % self.at_once]
        if not self.offers or not roomy:
            return min(roomy, default=None) if self.held <= self.slots else None
        free = self.free()
        return min((offer for offer in roomy if free[offer] >= 0), key=_fewest_first, default=None)

    def place(self, label: str, *, short: bool) -> Offer | None:
        """What the worker offers that the next attempt gets; None: there is none for it."""
        shared = self.shared() if short else None
        return pick(self.free(), label) if shared is None else shared

    def copy(self) -> "Workers":
        """One that changes by itself."""
        copies = {name: getattr(self, name).copy() for name in ("offers", "_whole", "_short")}
        return msgspec.structs.replace(self, **copies)
