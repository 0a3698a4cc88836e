"""Samples of decoded sound as numbers: put back into frames, and held to what filters and encoders can bear."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame

_FLOATING = {"flt", "fltp", "dbl", "dblp"}
_MOST = 1000.0
"""Times full scale. With some ten times more, libmp3lame ends the process; with infinity most encoders fail."""
_PLANES = 8
"""PyAV reads past the eighth plane of a frame."""


def frame_of(values: Any, like: AudioFrame) -> AudioFrame:
    """A frame of these samples, which are stored as in `like`, and at the same rate."""
    made = AudioFrame.from_ndarray(np.ascontiguousarray(values), like.format.name, like.layout.name)
    made.sample_rate = like.sample_rate
    return made


class Finite:
    """Makes floating-point samples finite: what is no number becomes silence, what is beyond measure is held down."""

    def __init__(self) -> None:
        self._count = 0

    def frames(self, frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
        """The same frames, each with its time."""
        for frame in frames:
            form = frame.format
            readable = not form.is_planar or frame.layout.nb_channels <= _PLANES
            yield self._held(frame) if form.name in _FLOATING and readable else frame

    def notes(self, called: str) -> tuple[str, ...]:
        """How many samples were changed, in words."""
        if not self._count:
            return ()
        said = f"{self._count:,} samples of {called} are no numbers, or above {_MOST:g} times full scale: made finite"
        return (said,)

    def _held(self, frame: AudioFrame) -> AudioFrame:
        values = frame.to_ndarray()
        if np.abs(values).max() <= _MOST:  # false where one is no number
            return frame
        self._count += int((~(np.abs(values) <= _MOST)).sum())
        held = np.clip(np.nan_to_num(values, nan=0.0, posinf=_MOST, neginf=-_MOST), -_MOST, _MOST)
        made = frame_of(held.astype(values.dtype), frame)
        made.pts, made.time_base = frame.pts, frame.time_base
        return made
