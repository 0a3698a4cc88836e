"""Where the video is cut. Times are in the source's unit."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import msgspec

MAX_SEGMENTS = 240
"""Keeps the checkpoint small: longer videos get longer segments."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed when the task first starts and kept in its checkpoint, so that a resume can never cut elsewhere."""

    clock: Literal["pts", "dts"]
    """Which of a frame's two timestamps runs forward in this source."""
    start: int
    end: int
    """Where the source says it ends. It may be wrong."""
    step: int
    """Wanted length of a segment."""
    cuts: tuple[int, ...]
    """First moment of the second, third, … segment."""

    def segment_of(self, moment: int) -> int:
        """The number of the segment a frame belongs to; also past the stated end, in double steps."""
        number = bisect_right(self.cuts, moment)
        if number < len(self.cuts):
            return number
        last_cut = self.cuts[-1] if self.cuts else self.start
        return number + max(0, (moment - last_cut) // (2 * self.step))

    @property
    def count(self) -> int:
        """How many segments are expected."""
        return len(self.cuts) + 1

    def share(self, moment: int) -> float:
        """How much of the source lies before `moment`, 0 to 1."""
        return min(1.0, max(0.0, (moment - self.start) / max(1, self.end - self.start)))


def choose_cuts(start: int, end: int, step: int, keyframes: Sequence[int]) -> tuple[int, ...]:
    """Cut about every `step`, on a keyframe where one is near, and leave no short rest."""
    cuts: list[int] = []
    position = start
    while True:
        cut = position + step
        following = bisect_right(keyframes, cut - 1)
        if following < len(keyframes) and keyframes[following] <= position + 2 * step:
            cut = keyframes[following]
        if end - cut < step / 2:
            return tuple(cuts)
        cuts.append(cut)
        position = cut


def step_for(start: int, end: int, wanted: int) -> int:
    """The segment length: as wanted, or longer where that would give too many segments."""
    return max(1, wanted, -(-(end - start) // MAX_SEGMENTS))
