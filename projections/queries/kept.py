"""The numbers for a list that the views keep: of all tasks, and of the groups that it asks for, now and then.

A group is the tasks of one user, of one label or of one batch.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ..views.checksums import sound
from ..views.shares import GROUPED_BY, Share, read_shares
from ..views.tallies import read_numbers
from .filters import BY_VALUE, STATUSES, Counts, TaskFilters, values_in, values_of


class KeptNumbers:
    """The numbers for one list as of a position. What the list does not ask for is not read."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        filters: TaskFilters,
        counts: Counts,
        position: int | None = None,
        types: Sequence[str] | None = None,
    ) -> None:
        """`counts`: of all tasks. `types`: their types by number. All as of the position; without one, now."""
        self._conn = conn
        self._filters = filters
        self._counts = counts
        self._position = position
        self._types = types
        self._shares: dict[str, list[Share]] = {}

    def size(self, field: str) -> int | None:
        """How many tasks have one of the values of a field; none where that is not kept, or not asked for."""
        shares = self._of(field)
        return sum(sum(share.values()) for share in shares) if shares else None

    def standing(self, field: str) -> dict[str, int]:
        """How many tasks of the types that are asked for, with one of the values of a field, are in each status."""
        return self._sum(self._of(field), self._kinds())

    def field_with_fewest(self) -> str:
        """The field of which one value is asked for that the fewest tasks have; empty if there is none."""
        sizes = {field: self.size(field) for field in GROUPED_BY if len(values_in(self._filters, field)) == 1}
        return min(sizes, key=lambda field: sizes[field] or 0, default="")

    def total(self) -> int | None:
        """How many tasks pass; none where more is asked for than is kept."""
        numbers = self.by_status()
        if numbers is None:
            return None
        return sum(numbers[status] for status in values_of(self._filters.status) or STATUSES)

    def by_status(self) -> dict[str, int] | None:
        """How many tasks pass but for their status, in each; none where more is asked for than is kept."""
        if self._filters.search.strip():
            return None
        asked = [field for field in BY_VALUE if values_in(self._filters, field)]
        if not asked:
            return self._sum([self._counts], values_of(self._filters.type))
        shares = self._of(asked[0]) if len(asked) == 1 else []
        return self._sum(shares, self._kinds()) if shares else None

    def _of(self, field: str) -> list[Share]:
        """The numbers of each value."""
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
        """The numbers of the types that are asked for."""
        asked = values_of(self._filters.type)
        if asked and self._types is None:
            self._types = read_numbers(self._conn, self._at()).types
        types = {name: kind for kind, name in enumerate(self._types or ())}
        return tuple(types.get(name, -1) for name in asked)

    @staticmethod
    def _sum(numbers: Sequence[Mapping[tuple[Any, str], int]], kinds: Sequence[object]) -> dict[str, int]:
        """By status, of some types or of all."""
        found = dict.fromkeys(STATUSES, 0)
        for some in numbers:
            for (kind, status), number in some.items():
                if not kinds or kind in kinds:
                    found[status] += number
        return found
