"""The frames of one or more segments: the source's own, or at a constant rate."""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from math import floor

from av.video.frame import VideoFrame

from ..frames import DecodePass, frames_after
from ..source import VideoSource

LONGEST_STILL = 600
"""Seconds for which one frame is repeated. A damaged time may lie days ahead; a longer gap stays a gap."""


def wanted_frames(
    source: VideoSource, start: int, after: int | None, until: int | None, reading: DecodePass
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield frames later than `after` and not later than `until`, with their moments, strictly rising.

    With its own frame rate, the result has a frame at each place of a grid that begins at `start`, and a source frame
    may come twice, or not at all. It is the same wherever reading began, because reading begins at a keyframe.
    """
    paced = source.frame_rate is not None
    for moment, frame in _paced(source, start, after, reading) if paced else frames_after(source, after, reading):
        if until is not None and moment > until:
            return
        yield moment, frame


def _paced(source: VideoSource, start: int, after: int | None, reading: DecodePass) -> Iterator[tuple[int, VideoFrame]]:
    """Yield, at each place of the grid, the last frame shown by then, within half a step, as ffmpeg does."""
    assert source.frame_rate is not None
    step = 1 / (source.frame_rate * source.time_base)

    def place(number: int) -> int:
        return start + round(number * step)

    number = 0 if after is None else max(0, floor((after - start) / step))
    while after is not None and place(number) <= after:
        number += 1
    still = LONGEST_STILL / source.time_base
    held: VideoFrame | None = None
    since, ends = start, Fraction(start)
    for moment, frame in frames_after(source, _before_keyframe(source, place(number)), reading):
        while place(number) + step / 2 <= moment:
            if held is None or place(number) - since > still:
                number = max(number + 1, floor((moment - start) / step) - 1)
                continue
            yield place(number), held
            number += 1
        held, since, ends = frame, moment, Fraction(moment + source.last_shown)
    # A film that ends before the first half step still has one frame.
    while held is not None and (number == 0 or place(number) + step / 2 <= min(ends, since + still)):
        yield place(number), held
        number += 1


def _before_keyframe(source: VideoSource, moment: int) -> int | None:
    """The moment just before the last keyframe shown by `moment`; None: use the start of the source."""
    passed = bisect_right(source.keyframes, moment)
    return source.keyframes[passed - 1] - 1 if passed else None
