"""Playing a hundred thousand records takes time that grows with their number and not faster."""

import time
from random import Random

import pytest
from asking import ask_about
from recorded_world import World

from tasktrail.events import Recorded
from tasktrail.whatif.answer import WhatIf


@pytest.mark.long
def test_the_work_for_each_record_does_not_grow_with_their_number(record_property: pytest.FixtureRequest) -> None:
    rng = Random(3)
    world = World(slots=8, max_concurrent=8, length=lambda _run: 0.5 + 8 * rng.random())
    while world.log.head().position < 100_000:
        world.create(type=rng.choice(("work", "long")), priority=rng.randrange(10), user_id=rng.randrange(20))
        world.go_on(1.1 * rng.random())
    records = world.records
    quarter, _ = _play(records[: len(records) // 4], world)
    whole, answer = _play(records, world)
    record_property("records_per_second", round(len(records) / whole))  # type: ignore[operator]  # it is a function
    assert answer.fidelity.exact
    assert whole < 2 * 4 * quarter


def _play(records: list[Recorded], world: World) -> tuple[float, WhatIf]:
    before = time.process_time()
    answer = ask_about(records, world.limits, 8)
    return time.process_time() - before, answer
