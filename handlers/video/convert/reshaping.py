"""The source as the encoders see it: the wanted part, turned, cropped and paced."""

from fractions import Fraction
from math import ceil, lcm
from typing import NamedTuple

import msgspec

from ...contract import Unusable
from ..source import Crop, VideoSource
from .options import VideoConvertOptions, exact_rate, parse_numbers

_MOST_TICKS = 2**31 - 1
"""Most ticks per second that files can count."""
_FINE = 1_000_000
_MICRO = 1_000_000


class WantedPart(NamedTuple):
    """The part of the source that is wanted, on its own clock."""

    start: int
    end: int
    """Just after the last frame."""
    cut_before: bool
    """Whether something before the part is left out."""
    cut_behind: bool

    @property
    def after(self) -> int | None:
        """Frames must come later than this; None: all from the beginning of the file."""
        return self.start - 1 if self.cut_before else None

    @property
    def until(self) -> int | None:
        """The last moment at which a frame may be shown; None: up to the end of the file, wherever that is."""
        return self.end - 1 if self.cut_behind else None


def wanted_part(source: VideoSource, options: VideoConvertOptions) -> WantedPart:
    """The part between `start` and `end`. Raises Unusable if it has nothing of the source."""
    start = source.start + _ticks(options.start or 0.0, source)
    end = source.end if options.end is None else min(source.end, source.start + _ticks(options.end, source))
    if start >= end:
        raise Unusable(
            f"{source.path.name} is {source.seconds:.3f} s long: nothing of it comes after start {options.start:g}"
        )
    return WantedPart(start, end, bool(options.start), options.end is not None and end < source.end)


def _ticks(seconds: float, source: VideoSource) -> int:
    return ceil(Fraction(seconds).limit_denominator(_MICRO) / source.time_base)


def reshaped(source: VideoSource, options: VideoConvertOptions) -> VideoSource:
    """The source, turned, cropped and paced by the options. Raises Unusable for a crop that exceeds the picture."""
    turned = msgspec.structs.replace(source, rotation=(source.rotation - options.rotate) % 360)
    return _paced(_cropped(turned, options), options)


def _cropped(source: VideoSource, options: VideoConvertOptions) -> VideoSource:
    """Convert the crop, which is given on the displayed picture, to a place on the stored one."""
    if not options.crop:
        return source
    width, height, left, top = parse_numbers(options.crop)
    sideways = source.rotation in (90, 270)
    seen = (source.height, source.width) if sideways else (source.width, source.height)
    if left + width > seen[0] or top + height > seen[1]:
        raise Unusable(
            f"{source.path.name}, as seen, is {seen[0]}x{seen[1]}: crop {options.crop} does not lie within it"
        )
    across, down = (height, width) if sideways else (width, height)
    x, y = {
        0: (left, top),
        90: (source.width - top - height, left),
        180: (source.width - left - width, source.height - top - height),
        270: (top, source.height - left - width),
    }[source.rotation]
    if source.mirrored:  # mirroring, top to bottom, comes before turning
        y = source.height - y - down
    crop = Crop(x=x, y=y, width=across, height=down, of_width=source.width, of_height=source.height)
    return msgspec.structs.replace(source, width=across, height=down, crop=crop)


def _paced(source: VideoSource, options: VideoConvertOptions) -> VideoSource:
    """Count moments in a unit that fits both the source's and the result's frames, if there is one."""
    if options.frame_rate is None:
        return source
    rate = exact_rate(options.frame_rate)
    unit = source.time_base
    ticks = lcm(unit.denominator, rate.numerator)
    finer = ticks // unit.denominator * unit.numerator if ticks <= _MOST_TICKS else max(1, int(unit * _FINE))
    return msgspec.structs.replace(
        source,
        time_base=unit / finer,
        finer=finer,
        frame_rate=rate,
        start=source.start * finer,
        end=source.end * finer,
        last_shown=source.last_shown * finer,
        keyframes=tuple(moment * finer for moment in source.keyframes),
    )
