"""Positions in a video as people write them."""

import math
import re
from typing import NamedTuple

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d+)?)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_MINUTE, _HOUR = 60, 3600
_WHOLE = 100.0


class Position(NamedTuple):
    """Either seconds from the start or a share of the length."""

    value: float
    relative: bool

    def seconds(self, length: float) -> float:
        """Seconds from the start of a video of this length."""
        return self.value * length if self.relative else self.value


def position_of(text: float | str) -> Position:
    """Read seconds, `minutes:seconds`, `hours:minutes:seconds` or a percentage. Raises ValueError."""
    if isinstance(text, int | float):
        if not math.isfinite(text) or text < 0:
            raise ValueError(f"a position of {text} seconds does not exist: give 0 or more")
        return Position(float(text), relative=False)
    if found := _SHARE.fullmatch(text.strip()):
        share = float(found[1])
        if share > _WHOLE:
            raise ValueError(f"a position of {share:g}% lies behind the end: give 0% to 100%")
        return Position(share / _WHOLE, relative=True)
    if found := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return Position(hours * _HOUR + minutes * _MINUTE + seconds, relative=False)
    raise ValueError(f"{text!r} is no position: give seconds, hours:minutes:seconds, or a percentage such as 25%")
