"""Where a video's scenes begin, and how frames are spread over them."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from ..frames import frames_after
from ..judging import Judge, Luma
from ..keyframes import keyframes_of
from ..probe import Source

_SIDE = 32
_JUMP = 22.0
"""Mean change of brightness, of 255, from one look to the next that is taken for a cut."""
_LOOKS_A_FRAME = 3
"""Fewer keyframes than this for each wanted frame, and every frame is looked at."""


def scene_starts(source: Source, wanted: int, tick: Callable[[int], None]) -> list[int]:
    """Moments at which the picture becomes another one; the first is the source's start.

    `tick` is told the moment of each look; it may raise.
    """
    few = len(source.keyframes) < _LOOKS_A_FRAME * wanted
    looks = frames_after(source, None) if few else keyframes_of(source)
    judge, starts = Judge(), [source.start]
    before: Luma | None = None
    for moment, frame in looks:
        tick(moment)
        luma = judge.luma(frame, _SIDE)
        if before is not None and (before.shape != luma.shape or float(np.abs(luma - before).mean()) > _JUMP):
            starts.append(moment)
        before = luma
    return starts


def spread_over(starts: Sequence[int], end: int, count: int) -> list[int]:
    """So many rising moments: the longest scenes first get one each, then longer ones more. Never at a cut."""
    scenes = [(start, after) for start, after in pairwise([*starts, max(end, starts[-1] + 1)]) if after > start]
    chosen = sorted(sorted(scenes, key=lambda scene: scene[0] - scene[1])[:count])
    shares = [1] * len(chosen)
    while sum(shares) < count:
        lengths = [(after - start) / share for (start, after), share in zip(chosen, shares, strict=True)]
        shares[lengths.index(max(lengths))] += 1
    return [
        start + (after - start) * (2 * part + 1) // (2 * share)
        for (start, after), share in zip(chosen, shares, strict=True)
        for part in range(share)
    ]
