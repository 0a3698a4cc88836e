"""Decoding times and durations for packets whose presentation times are known.

Those of the encoders are relative to a segment, or wrong: an encoder cannot know how long its last frame is shown.
"""

from collections.abc import Sequence
from itertools import pairwise


def decoding_times(presented: Sequence[int]) -> list[int]:
    """One strictly rising decoding time for each packet, never later than its presentation.

    `presented` are distinct presentation times in decoding order. Sorted and moved back by the largest distance a
    packet is ahead of its place, they serve as decoding times; before the first, the smallest gap is repeated.
    """
    ordered = sorted(presented)
    place = {moment: index for index, moment in enumerate(ordered)}
    depth = max((index - place[moment] for index, moment in enumerate(presented)), default=0)
    gap = min((after - before for before, after in pairwise(ordered)), default=1)
    lead = [ordered[0] - gap * back for back in range(depth, 0, -1)]
    return (lead + ordered)[: len(ordered)]


def durations(presented: Sequence[int], last: int) -> list[int]:
    """How long each packet's picture is shown, where the last one in time is shown for `last`.

    The last packet in decoding order gets that, too: what an mp4 says of it is the only distance to no other packet.
    """
    ordered = sorted(presented)
    shown = {moment: after - moment for moment, after in pairwise(ordered)}
    return [*(shown.get(moment, last) for moment in presented[:-1]), last]
