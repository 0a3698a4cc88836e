"""What holds for all tests."""

import os
from collections.abc import Iterator

import pytest
import stay_home
from hypothesis import settings

# A shared machine stands still at times: how long one example takes says nothing. The suite's own timeout remains.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
stay_home.watch()


@pytest.fixture(autouse=True)
def _in_ordinary_time() -> Iterator[None]:
    """As root, the AV1 encoder makes its caller a real-time process, and whatever that starts starves all others."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(autouse=True)
def _nobody_left_home() -> Iterator[None]:
    stay_home.left_home.clear()
    yield
    assert stay_home.left_home == []
