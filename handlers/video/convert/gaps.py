"""Finds where the picture of a film stands still because its source has no frames there.

A reader may silently skip a damaged part; only a gap in the frames' times shows it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, pairwise
from statistics import median

from ....events.counted import plural

_SHORTEST = Fraction(1, 4)
"""Seconds. Cameras drop a frame now and then."""
_TIMES = 3
"""A gap is longer than this many usual frame times."""
_STEADY = 0.9
"""Share of frames with the usual duration that a film needs before missing frames can be recognised."""
_FEWEST = 25
"""Frames after the first. With fewer, the usual duration is unknown."""
_TICK = Fraction(1, 500)
"""Seconds by which rounded times differ."""


def gap_notes(pieces: Sequence[Sequence[int]], unit: Fraction, refused: Sequence[int]) -> tuple[str, ...]:
    """A note on how long frames are missing, if they are.

    Args:
        pieces: the moments of all frames, each piece later than the one before.
        unit: of a moment, in seconds.
        refused: the moments of packets that cannot be decoded, which another note covers.
    """
    moments = list(chain.from_iterable(sorted(piece) for piece in pieces))
    shown = [after - before for before, after in pairwise(moments)]
    if len(shown) < _FEWEST:
        return ()
    usual = median(shown)
    near = max(usual / 10, float(_TICK / unit))
    if sum(abs(each - usual) <= near for each in shown) < _STEADY * len(shown):
        return ()
    refused_moments = sorted(refused)
    lengths = (
        after - before - (bisect_left(refused_moments, after) - bisect_right(refused_moments, before)) * usual
        for before, after in pairwise(moments)
        if after - before > _TIMES * usual
    )
    gaps = [length for length in lengths if length > _TIMES * usual and length * unit >= _SHORTEST]
    missing = float(sum(length - usual for length in gaps) * unit)
    places = f"{len(gaps)} {plural(len(gaps), 'place')}"
    note = f"the picture stands still for {missing:.2f} s in {places}: there is no frame in the source"
    return (note,) if gaps else ()
