"""What holds for all tests."""

from collections.abc import Iterator

import pytest
import stay_home
from hypothesis import settings

# A shared machine stands still at times: how long one example takes says nothing. The suite's own timeout remains.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
stay_home.watch()


@pytest.fixture(autouse=True)
def _nobody_left_home() -> Iterator[None]:
    stay_home.left_home.clear()
    yield
    assert stay_home.left_home == []
