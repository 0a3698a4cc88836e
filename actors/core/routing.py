"""Chooses the worker of an attempt: workers offer labels, and a task may need one of them.

A task that needs none runs anywhere. It takes the free worker with the fewest labels, so that workers with labels stay
free for tasks that need them. But no worker is kept idle for that.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

Offer: TypeAlias = tuple[str, ...]
"""The labels of one worker, in order."""
SHORT_AT_ONCE = 16
"""How many attempts of short types share one worker. It runs them one after another."""


def offers_of(labels: Mapping[str, int], slots: int) -> tuple[Offer, ...]:
    """What each of `slots` workers offers. `labels`: label → how many workers offer it. Empty without labels."""
    if not labels:
        return ()
    return tuple(tuple(sorted(name for name, number in labels.items() if slot < number)) for slot in range(slots))


def pick(free: Mapping[Offer, int], label: str) -> Offer | None:
    """The offer of the worker for a task that needs `label` ("" for none); None if no such worker is free."""
    suiting = (offer for offer, number in free.items() if number > 0 and (not label or label in offer))
    return min(suiting, key=_fewest_first, default=None)


def _fewest_first(offer: Offer) -> tuple[int, Offer]:
    return len(offer), offer


def labels_of(offers: Counter[Offer]) -> list[str]:
    """All labels that are offered."""
    return sorted({label for offer in offers for label in offer})


def offering(offers: Counter[Offer], label: str) -> int:
    """How many workers offer the label."""
    return sum(number for offer, number in offers.items() if label in offer)


class Workers(msgspec.Struct):
    """The current workers, and what attempts hold of them: a whole one each, or, for short attempts, a share of one.

    A short attempt takes a free worker while there is one, and shares only if there is none. When attempts end, shared
    workers that exceed the short attempts become free. Workers with labels are not shared; otherwise short attempts
    that need no label could keep them for ever from a task that needs one.
    """

    slots: int = 0
    offers: Counter[Offer] = msgspec.field(default_factory=Counter)
    """Offer → how many workers have it. Empty if none offers a label."""
    at_once: int = SHORT_AT_ONCE
    """Short attempts that may share one worker."""
    shared: int = 0
    """Workers that short attempts hold."""
    short: int = 0
    """Short attempts that hold them."""
    _alone: int = 0
    """Workers that are held by one attempt each."""
    _whole: Counter[Offer] = msgspec.field(default_factory=Counter)
    """Offer → how many of `_alone` have it."""

    def change(self, slots: int, offers: Iterable[Offer]) -> None:
        """Set the current workers: their number, and what each offers."""
        self.slots, self.offers = slots, Counter(offers)

    def add(self, offer: Offer, number: int) -> None:
        """Add workers with this offer; a negative number takes them away."""
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
        """Offer → how many workers with it are held by no attempt."""
        if not self.offers:
            return Counter({(): self.slots - self.held})
        free = self.offers.copy()
        free.subtract(self._whole)
        free[()] -= self.shared
        return free

    def room(self, most: int) -> int:
        """How many more may be held, of `most` in all; below 0 if held workers are gone."""
        return min(self.slots, most) - self.held

    def has_room(self, most: int, *, short: bool) -> bool:
        """Whether there is a worker for one more attempt, or a share of one, regardless of labels."""
        room = self.room(most)
        if room != 0 or not short:
            return room > 0
        return self.short < self.at_once * self.shared and self._free_without_labels() >= 0

    def _free_without_labels(self) -> int:
        """How many workers without labels are free; below 0 if held workers are gone."""
        return self.offers[()] - self._whole[()] - self.shared if self.offers else self.slots - self.held

    def place(self, label: str, most: int, *, short: bool) -> Offer | None:
        """The offer of the worker that the next attempt gets; None if there is no worker for it."""
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
        """Take the place of an attempt that begins."""
        if not short:
            self._alone += 1
            self._whole[offer] += 1
            return
        is_full = self.short >= self.at_once * self.shared  # only if it began before the workers were reported
        if is_full or (self.room(most) > 0 and self._free_without_labels() > 0):
            self.shared += 1
        self.short += 1

    def give_back(self, offer: Offer, *, short: bool) -> None:
        """Give the place of an ended attempt back."""
        if not short:
            self._alone -= 1
            self._whole[offer] -= 1
            return
        self.short -= 1
        self.shared = min(self.shared, self.short)

    def standing(self, *, usable: bool) -> tuple[int, Counter[Offer]]:
        """How many workers count, in all and by offer: the present ones, and those that are held although gone.

        `usable`: whether more of them may be held; otherwise only the held ones count.
        """
        held = self._whole.copy()
        held[()] += self.shared
        present = self.offers or Counter({(): self.slots})
        kinds = present | held if usable else held
        return (max(self.slots, self.held) if usable else self.held), kinds

    def copy(self) -> "Workers":
        """An independent copy."""
        return msgspec.structs.replace(self, offers=self.offers.copy(), _whole=self._whole.copy())
