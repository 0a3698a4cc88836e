"""The head that tests start: a second one beside it leaves the first one reachable."""

import os

import pytest
from ray_head import RayHead

pytestmark = pytest.mark.ray


def test_another_head_that_is_closed_leaves_the_variables_as_they_were(ray_address: str) -> None:
    before = dict(os.environ)
    assert ray_address

    another = RayHead(cpus=0)
    during = dict(os.environ)
    another.close()

    assert during != before
    assert dict(os.environ) == before
