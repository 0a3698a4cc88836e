"""A hundred thousand records are played in seconds."""

import time
from random import Random

import pytest
from asking import ask_about
from recorded_world import World


@pytest.mark.slow
def test_a_hundred_thousand_records_are_played_in_seconds(record_property: pytest.FixtureRequest) -> None:
    rng = Random(3)
    world = World(slots=8, max_concurrent=8, length=lambda _run: 0.5 + 8 * rng.random())
    while world.log.head().position < 100_000:
        world.create(type=rng.choice(("work", "long")), priority=rng.randrange(10), user_id=rng.randrange(20))
        world.go_on(1.1 * rng.random())
    records = world.records
    before = time.process_time()
    answer = ask_about(records, world.limits, 8)
    seconds = time.process_time() - before
    record_property("records_per_second", round(len(records) / seconds))  # type: ignore[operator]  # it is a function
    assert answer.fidelity.exact
    assert seconds < 20
