"""The requested quality, the samples that measure it, and the next rate factor (crf) to try.

No media library here: the service imports this.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import floor
from typing import NamedTuple

import msgspec

BEST = {"vmaf": 100.0, "xpsnr": 100.0, "ssim": 1.0}
"""Metric → the score of a picture equal to the source's; for xpsnr, in dB, the cap of our scale."""
QUALITY_PATTERN = r"^(vmaf|xpsnr|ssim):\d{1,3}(\.\d{1,6})?$"
FINEST_CRF = {"h264": 1, "h265": 1, "vp9": 1, "av1": 5}
"""0 means lossless to some encoders, in a profile that few players support. Below 4, SVT-AV1 has written undecodable
pictures."""
USUAL_TRIES = 5
"""About how many rate factors are tried."""
_FIRST_STEP = 4

_SAMPLE, _SAMPLE_EVERY = 4.0, 120.0
"""Seconds."""
_FEWEST, _MOST = 4, 30
_KEYFRAME_NEAR = 10.0
"""Seconds that a sample may move back to begin at a keyframe, which saves decoding up to it."""


class Quality(NamedTuple):
    """A quality."""

    metric: str
    value: float


def quality_of(text: str) -> Quality:
    """Parse a valid `quality`."""
    metric, _, value = text.partition(":")
    return Quality(metric, float(value))


# --- The search ---


class Tried(msgspec.Struct, frozen=True, array_like=True):
    """The score of a rate factor on the samples; an array in the checkpoint."""

    crf: int
    score: float


def next_crf(tried: Sequence[Tried], asked: float, usual: int, finest: int, coarsest: int) -> int | None:
    """The rate factor to try next; None: the search is over. It depends only on the earlier tries.

    Scores are assumed to fall as the rate factor rises. Steps grow until one score reaches the goal and another misses
    it. Then the next try is where the line between the two crosses the goal.
    """
    if not tried:
        return usual
    good, bad = _reaches(tried, asked), _misses(tried, asked)
    step = _FIRST_STEP * 2 ** (len(tried) - 1)
    if bad is None:
        assert good is not None
        return min(coarsest, good.crf + step) if good.crf < coarsest else None
    if good is None:
        return max(finest, bad.crf - step) if bad.crf > finest else None
    if bad.crf - good.crf <= 1:
        return None
    met = (good.score - asked) / (good.score - bad.score)
    return min(bad.crf - 1, max(good.crf + 1, good.crf + floor(met * (bad.crf - good.crf))))


def best_tried(tried: Sequence[Tried], asked: float) -> Tried | None:
    """The highest rate factor that reaches the goal and lies below all that miss it; None if there is none."""
    return _reaches(tried, asked)


def _misses(tried: Sequence[Tried], asked: float) -> Tried | None:
    return min((one for one in tried if one.score < asked), key=lambda one: one.crf, default=None)


def _reaches(tried: Sequence[Tried], asked: float) -> Tried | None:
    bad = _misses(tried, asked)
    good = [one for one in tried if one.score >= asked and (bad is None or one.crf < bad.crf)]
    return max(good, key=lambda one: one.crf, default=None)


# --- The samples ---


class FilmSample(NamedTuple):
    """A part of the video, on its own clock: later than `after`, up to and including `until`."""

    after: int
    until: int


def sampling_of(seconds: float) -> tuple[int, float]:
    """The number of samples for a video of this many seconds, and the length of each, in seconds."""
    length = min(_SAMPLE, seconds)
    count = min(_MOST, max(_FEWEST, round(seconds / _SAMPLE_EVERY)), int(seconds / length) if length > 0 else 1)
    return max(1, count), length


def samples_of(start: int, end: int, unit: float, keyframes: Sequence[int]) -> list[FilmSample]:
    """The samples of the part from `start` to before `end`, each from the middle of an equal share.

    Args:
        start: a moment on the video's clock.
        end: likewise.
        unit: seconds of a tick.
        keyframes: moments, rising.
    """
    count, seconds = sampling_of((end - start) * unit)
    length = max(1, int(seconds / unit))
    samples: list[FilmSample] = []
    free = start
    for number in range(count):
        middle = start + (end - start) * (2 * number + 1) // (2 * count)
        begin = max(free, middle - length // 2)
        passed = bisect_right(keyframes, begin)
        key = keyframes[passed - 1] if passed else begin
        if key >= free and (begin - key) * unit <= _KEYFRAME_NEAR:
            begin = key
        samples.append(FilmSample(begin - 1, min(end, begin + length) - 1))
        free = samples[-1].until + 1
    return samples
