"""Fixtures of the Scheduler core's tests."""

from collections.abc import Callable

import pytest
from core_harness import Core


@pytest.fixture
def make_core() -> Callable[..., Core]:
    """A core with so many slots and such limits: `make_core(slots=2, max_memory=10)`."""
    return Core


@pytest.fixture
def core() -> Core:
    """A core with one slot and no limits to speak of."""
    return Core()
