"""Fixtures of the Scheduler core's tests."""

from collections.abc import Callable, Iterator

import pytest
from core_harness import Core

from tasktrail.actors.core import tasks


@pytest.fixture(autouse=True, scope="package")
def few_fresh_tasks() -> Iterator[None]:
    """Keep all but a few tasks as bytes, like those of a long queue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "FRESH", 3)
        yield


@pytest.fixture
def make_core() -> Callable[..., Core]:
    """Make a core with a number of slots and limits: `make_core(slots=2, max_memory=10)`."""
    return Core


@pytest.fixture
def core() -> Core:
    """A core with one slot and hardly any limits."""
    return Core()
