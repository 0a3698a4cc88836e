"""Decoding times for packets whose presentation times are known. Encoders' own are relative to a segment, or wrong."""

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
