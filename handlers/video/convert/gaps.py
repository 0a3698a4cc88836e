"""Where the picture of a film stands still, since its source has no frames there.

A reader may leap over a damaged part and tell nothing of it; a gap in the times of the frames is all that shows it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, pairwise
from statistics import median

from ....events.counted import plural

_SHORTEST = Fraction(1, 4)
"""Seconds. Cameras leave out a frame now and then."""
_TIMES = 3
"""A gap is so many times as long as a frame is shown usually."""
_STEADY = 0.9
"""Share of the frames that are shown as long as usual, in a film of which one can tell that some are missing."""
_FEWEST = 25
"""Frames after the first. Of fewer nobody can tell how long one is shown usually."""
_TICK = Fraction(1, 500)
"""Seconds by which times differ that are rounded."""


def gap_notes(pieces: Sequence[Sequence[int]], unit: Fraction, refused: Sequence[int]) -> tuple[str, ...]:
    """A note about how long there is no frame, where there should be some.

    Args:
        pieces: the moments of all frames, each piece later than the one before.
        unit: of a moment, in seconds.
        refused: the moments of packets that cannot be decoded, which are told of already.
    """
    moments = list(chain.from_iterable(sorted(piece) for piece in pieces))
    shown = [after - before for before, after in pairwise(moments)]
    if len(shown) < _FEWEST:
        return ()
    usual = median(shown)
    near = max(usual / 10, float(_TICK / unit))
    if sum(abs(each - usual) <= near for each in shown) < _STEADY * len(shown):
        return ()
    known = sorted(refused)
    lengths = (
        after - before - (bisect_left(known, after) - bisect_right(known, before)) * usual
        for before, after in pairwise(moments)
        if after - before > _TIMES * usual
    )
    gaps = [length for length in lengths if length > _TIMES * usual and length * unit >= _SHORTEST]
    missing = float(sum(length - usual for length in gaps) * unit)
    places = f"{len(gaps)} {plural(len(gaps), 'place')}"
    told = f"the picture stands still for {missing:.2f} s in {places}: there is no frame in the source"
    return (told,) if gaps else ()
