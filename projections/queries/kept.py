"""The kept numbers for a list: over all tasks, and over the groups in its filters, for now and for the past.

A group is the tasks of one user, of one label or of one batch.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..views.checksums import sound
from ..views.schema import BY_VALUE
from ..views.shares import GROUPED_BY, Share, read_shares
from ..views.tallies import read_numbers
from .filters import STATUSES, TaskFilters, values_in, values_of
from .stats import Counts


class KeptNumbers:
    """The numbers for one list at a position. Only numbers that the list needs are read."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        filters: TaskFilters,
        counts: Counts,
        position: int | None = None,
        types: Sequence[str] | None = None,
    ) -> None:
        """`counts`: over all tasks. `types`: their types by number. Both at the position, or now if there is none."""
        self._conn = conn
        self._filters = filters
        self._counts = counts
        self._position = position
        self._types = types
        self._shares: dict[str, list[Share]] = {}

    def size(self, field: str) -> int | None:
        """The number of tasks that match a field; None if it is not kept, or the filters do not have the field."""
        shares = self._shares_of(field)
        return sum(sum(share.values()) for share in shares) if shares else None

    def standing(self, field: str) -> dict[str, int]:
        """The number of tasks in each status that match a field and the filtered types."""
        return self._sum(self._shares_of(field), self._kinds())

    def groups(self, field: str, statuses: Iterable[str]) -> dict[object, tuple[int, int]]:
        """Value of a field → number of its tasks, and how many of these are in the statuses and of the filtered types.

        Values without such tasks are left out.
        """
        groups: dict[object, tuple[int, int]] = {}
        for value, share in zip(values_in(self._filters, field), self._shares_of(field), strict=True):
            standing = self._sum([share], self._kinds())
            if found := sum(standing[status] for status in statuses):
                groups[value] = (sum(share.values()), found)
        return groups

    def field_with_fewest(self) -> str:
        """Of the filtered fields with kept numbers, the one that the fewest tasks match; empty if there is none."""
        sizes = {field: self.size(field) for field in GROUPED_BY if values_in(self._filters, field)}
        return min(sizes, key=lambda field: sizes[field] or 0, default="")

    def total(self) -> int | None:
        """The number of tasks that pass; None if the kept numbers do not suffice for the filters."""
        numbers = self.by_status()
        if numbers is None:
            return None
        return sum(numbers[status] for status in values_of(self._filters.status) or STATUSES)

    def by_status(self) -> dict[str, int] | None:
        """The number of tasks in each status that pass all other filters; None if the kept numbers do not suffice."""
        if self._filters.search.strip():
            return None
        asked = [field for field in BY_VALUE if values_in(self._filters, field)]
        if not asked:
            return self._sum([self._counts], values_of(self._filters.type))
        shares = self._shares_of(asked[0]) if len(asked) == 1 else []
        return self._sum(shares, self._kinds()) if shares else None

    def _shares_of(self, field: str) -> list[Share]:
        """The numbers for each value of a field."""
        if field not in GROUPED_BY:
            return []
        if field not in self._shares:
            values = values_in(self._filters, field)
            self._shares[field] = read_shares(self._conn, field, values, self._at()) if values else []
        return self._shares[field]

    def _at(self) -> int:
        if self._position is None:
            ((_one, self._position, *_rest),) = sound(self._conn.execute("SELECT * FROM progress"))
        return self._position

    def _kinds(self) -> tuple[int, ...]:
        """The numbers of the filtered types."""
        names = values_of(self._filters.type)
        if names and self._types is None:
            self._types = read_numbers(self._conn, self._at()).types
        types = {name: kind for kind, name in enumerate(self._types or ())}
        return tuple(types.get(name, -1) for name in names)

    @staticmethod
    def _sum(numbers: Sequence[Mapping[tuple[Any, str], int]], kinds: Sequence[object]) -> dict[str, int]:
        """The sums by status, for some types or for all."""
        sums = dict.fromkeys(STATUSES, 0)
        for some in numbers:
            for (kind, status), number in some.items():
                if not kinds or kind in kinds:
                    sums[status] += number
        return sums
