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
    """The workers that are there, and what attempts hold of them: a whole one each, or, short ones, a share of one.

    A short attempt takes a free worker while there is one; only then it shares. With the end of an attempt there may be
    more such workers than attempts: the rest is free. Workers with labels are not shared, or short attempts that need
    none could keep them for ever from a task that does.
    """

    slots: int = 0
    offers: Counter[Offer] = msgspec.field(default_factory=Counter)
    """What workers offer → how many there are of that kind. Empty where none offers anything."""
    at_once: int = SHORT_AT_ONCE
    """Short attempts that share one worker."""
    shared: int = 0
    """Workers that short attempts hold."""
    short: int = 0
    """Attempts that hold them."""
    _alone: int = 0
    """Workers that are held by one attempt each."""
    _whole: Counter[Offer] = msgspec.field(default_factory=Counter)
    """These, by what they offer."""

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

    @property
    def held(self) -> int:
        """Workers that are held."""
        return self.shared + self._alone

    def free(self) -> Counter[Offer]:
        """What the workers offer that nobody holds."""
        if not self.offers:
            return Counter({(): self.slots - self.held})
        free = self.offers.copy()
        free.subtract(self._whole)
        free[()] -= self.shared
        return free

    def room(self, most: int) -> int:
        """How many more may be held, of `most` in all; below 0 when some are gone that are still held."""
        return min(self.slots, most) - self.held

    def has_room(self, most: int, *, short: bool) -> bool:
        """Whether there is a worker for one more attempt, or a share of one; labels aside."""
        room = self.room(most)
        if room != 0 or not short:
            return room > 0
        return self.short < self.at_once * self.shared and self._plain() >= 0

    def _plain(self) -> int:
        """How many workers that offer nothing are free; below 0 when some are gone that are still held."""
        return self.offers[()] - self._whole[()] - self.shared if self.offers else self.slots - self.held

    def place(self, label: str, most: int, *, short: bool) -> Offer | None:
        """What the worker offers that the next attempt gets; None: there is none for it."""
        if self.room(most) <= 0:
            free = None
        elif self.offers or label:
            free = pick(self.free(), label)
        else:
            free = ()
        if free is None and short and self.has_room(most, short=True):
            return ()
        return free

    def take(self, offer: Offer, most: int, *, short: bool) -> None:
        """An attempt begins in its place."""
        if not short:
            self._alone += 1
            self._whole[offer] += 1
            return
        is_full = self.short >= self.at_once * self.shared  # only where it began before the workers were told
        if is_full or (self.room(most) > 0 and self._plain() > 0):
            self.shared += 1
        self.short += 1

    def give_back(self, offer: Offer, *, short: bool) -> None:
        """It is over."""
        if not short:
            self._alone -= 1
            self._whole[offer] -= 1
            return
        self.short -= 1
        self.shared = min(self.shared, self.short)

    def standing(self, *, usable: bool) -> tuple[int, Counter[Offer]]:
        """How many there are, and of which kind, when nobody takes those away that are held although they are gone.

        `usable`: whether more of them may be held than are now.
        """
        held = self._whole.copy()
        held[()] += self.shared
        there = self.offers or Counter({(): self.slots})
        kinds = there | held if usable else held
        return (max(self.slots, self.held) if usable else self.held), kinds

    def copy(self) -> "Workers":
        """One that changes by itself."""
        return msgspec.structs.replace(self, offers=self.offers.copy(), _whole=self._whole.copy())
