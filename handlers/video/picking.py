"""Frames at chosen moments, read with as few steps as the file allows."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from av.video.frame import VideoFrame

from .frames import frames_after
from .probe import Source

_WORTH_A_SEEK = 5.0
"""Seconds ahead from which on a file without an index is searched anew instead of being read on."""
_LAST_STEP = 2.0
"""Seconds before the end; doubled until a frame is found."""


def pick(source: Source, moments: Sequence[int], tick: Callable[[], None]) -> Iterator[tuple[int, VideoFrame]]:
    """For each of the rising `moments` the first frame at or after it, or the last frame of all.

    Yields one frame each, with its own moment; the same frame may come twice. `tick` is called for each frame that is
    decoded and may raise. Yields nothing more once the source turns out to have no frame at all.
    """
    frames: Iterator[tuple[int, VideoFrame]] = iter(())
    current: tuple[int, VideoFrame] | None = None
    for moment in moments:
        if current is None or current[0] < moment:
            if current is None or _jump_pays(source, current[0], moment):
                frames = frames_after(source, None if moment <= source.start else moment - 1, tick)
            current = next((found for found in frames if found[0] >= moment), None) or _last(source, moment, tick)
        if current is None:
            return
        yield current


def spread(source: Source, count: int) -> list[int]:
    """So many moments, each in the middle of its equal share of the video."""
    return [source.start + (source.end - source.start) * (2 * number + 1) // (2 * count) for number in range(count)]


def _jump_pays(source: Source, here: int, there: int) -> bool:
    """Whether a seek would land ahead of where reading has come."""
    if not source.keyframes:
        return (there - here) * source.time_base > _WORTH_A_SEEK
    return bisect_right(source.keyframes, there) > bisect_right(source.keyframes, here)


def _last(source: Source, moment: int, tick: Callable[[], None]) -> tuple[int, VideoFrame] | None:
    """The last frame before `moment`: the file ends before it says it does."""
    back = max(1, int(_LAST_STEP / source.time_base))
    while True:
        start = moment - back
        last: tuple[int, VideoFrame] | None = None
        for found in frames_after(source, start if start > source.start else None, tick):
            last = found
        if last is not None or start <= source.start:
            return last
        back *= 2
