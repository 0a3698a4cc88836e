"""The log in memory, beyond the contract."""

from datetime import UTC, datetime

import pytest

from tasktrail.events import Created, Fact
from tasktrail.events.errors import Fenced
from tasktrail.events.log.memory import MemoryEventLog

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_an_owner_is_fenced_once_a_newer_one_has_come() -> None:
    old = MemoryEventLog()
    old.append([Fact(1, 1, Created(type="noop"), NOW, life=1)], expected=0)
    newer = old.taken_over()
    assert (old.epoch, newer.epoch) == (1, 2)
    with pytest.raises(Fenced):
        old.append([Fact(2, 1, Created(type="noop"), NOW, life=1)], expected=1)
    newer.append([Fact(3, 1, Created(type="noop"), NOW, life=1)], expected=1)
    assert [record.task_id for record in newer.read()] == [1, 3]
