"""Plays the records of a generated world and asks about them."""

from collections.abc import Iterable
from typing import Any

from recorded_world import World

from tasktrail.actors.core.limits import Limits
from tasktrail.events import Recorded
from tasktrail.whatif.answer import WhatIf, compare_policies
from tasktrail.whatif.policy import Policy
from tasktrail.whatif.question import PolicyChange
from tasktrail.whatif.recording import Bound, RecordingBuilder


def ask(world: World, *, begin: Bound = None, end: Bound = None, **asked: Any) -> WhatIf:
    """Play a world's records under the policy that it was made with, and under the one asked about."""
    return ask_about(world.records, world.limits, world.slots, begin=begin, end=end, **asked)


def ask_about(
    records: Iterable[Recorded],
    limits: Limits,
    slots: int,
    *,
    begin: Bound = None,
    end: Bound = None,
    **asked: Any,
) -> WhatIf:
    """Play any records."""
    reader = RecordingBuilder(begin, end)
    for record in records:
        reader.read(record)
    recorded = Policy(configured=limits, workers=slots)
    changed = Policy(configured=limits, workers=slots, change=PolicyChange(**asked))
    return compare_policies(reader.finished(), recorded, changed, to_the_end=end is None)
