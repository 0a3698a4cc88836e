"""The limits that hold now: the configuration, with the operators' changes laid over it. A fold of the log."""

from msgspec.structs import replace

from ...events.system_events import LimitsChanged
from .admission import UNLIMITED, Limits

_BYTES = frozenset({"max_memory", "max_temp_size"})
_PLAIN = (
    "max_concurrent",
    "max_memory",
    "max_cpu",
    "max_temp_size",
    "max_per_type",
    "max_per_user",
    "max_per_label",
    "fair_share",
)
_TABLES = ("types", "users", "labels")


class LimitBook:
    """What is configured, what was changed and where that is recorded, and what follows from both."""

    def __init__(self, configured: Limits) -> None:
        self.configured = configured
        self.changes = LimitsChanged()
        """All changes since the last reset, laid over each other."""
        self.now = configured
        self.positions: dict[tuple[str, str], int] = {}
        """(limit, name in its table or nothing) → where it was set last."""

    def configure(self, configured: Limits) -> None:
        """Another configuration; the changes stay on top of it."""
        self.configured = configured
        self.now = laid_over(configured, self.changes)

    def restore(self, changes: LimitsChanged, positions: dict[tuple[str, str], int]) -> None:
        """The changes as they were folded before."""
        self.changes, self.positions = changes, positions
        self.now = laid_over(self.configured, changes)

    def apply(self, event: LimitsChanged, position: int) -> None:
        """Fold one change."""
        if event.reset:
            self.positions = {}
        self.changes = self.changed_by(event)
        for name in _PLAIN:
            if getattr(event, name) is not None:
                self.positions[name, ""] = position
        for table in _TABLES:
            self.positions.update({(table, name): position for name in getattr(event, table)})
        self.now = laid_over(self.configured, self.changes)

    def changed_by(self, event: LimitsChanged) -> LimitsChanged:
        """What the changes come to with one more."""
        return merged(LimitsChanged() if event.reset else self.changes, event)

    def recorded(self, name: str, key: str = "") -> tuple[int, ...]:
        """Where a limit was set last; empty when it is configured."""
        position = self.positions.get((name, key))
        return () if position is None else (position,)


def merged(old: LimitsChanged, new: LimitsChanged) -> LimitsChanged:
    """Two changes as one; the newer wins."""
    plain = {name: getattr(new, name) for name in _PLAIN if getattr(new, name) is not None}
    tables = {name: {**getattr(old, name), **getattr(new, name)} for name in _TABLES}
    return replace(old, **plain, **tables)


def laid_over(configured: Limits, changes: LimitsChanged) -> Limits:
    """The limits that follow from the configuration and the changes."""
    plain = {name: getattr(changes, name) for name in _PLAIN if getattr(changes, name) is not None}
    for name in _BYTES & plain.keys():
        plain[name] = plain[name] or UNLIMITED
    return replace(
        configured,
        **plain,
        types=_table(configured.types, changes.types),
        users=_table(configured.users, changes.users),
        labels=_table(configured.labels, changes.labels),
    )


def _table(configured: dict[str, int], changes: dict[str, int | None]) -> dict[str, int]:
    both = {**configured, **changes}
    return {name: number for name, number in both.items() if number is not None}
