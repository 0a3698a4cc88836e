"""Fixtures of the Scheduler core's tests."""

from collections.abc import Callable, Iterator

import pytest
from core_harness import Core

from tasktrail.actors.core import tasks


@pytest.fixture(autouse=True, scope="package")
def few_fresh_tasks() -> Iterator[None]:
    """All but a few tasks are held as bytes, as those of a long queue are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "FRESH", 3)
        yield


@pytest.fixture
def make_core() -> Callable[..., Core]:
    """A core with so many slots and such limits: `make_core(slots=2, max_memory=10)`."""
    return Core


@pytest.fixture
def core() -> Core:
    """A core with one slot and no limits to speak of."""
    return Core()
