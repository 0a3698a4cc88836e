"""Samples of decoded sound as numbers: put back into frames, and held to what filters and encoders can bear."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.plane import AudioPlane

from ...events.counted import plural

_FLOATING = {"flt", "fltp", "dbl", "dblp"}
_MOST = 1000.0
"""Times full scale. With some ten times more, libmp3lame ends the process; with infinity most encoders fail."""
_KINDS = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}


def dtype_of(frame: AudioFrame) -> Any:
    """What numpy calls the samples of a frame."""
    return _KINDS[frame.format.name.rstrip("p")]


def sample_values(frame: AudioFrame) -> Any:
    """The samples, shaped as by `to_ndarray`, which fails for a frame of eight planes."""
    if not frame.format.is_planar:
        return frame.to_ndarray()
    return np.stack([np.frombuffer(memoryview(plane), dtype_of(frame), frame.samples) for plane in planes_of(frame)])


def planes_of(frame: AudioFrame) -> list[AudioPlane]:
    """The planes of a frame. PyAV looks for a null behind the last: of eight, 18 tells a ninth, and 19 none at all."""
    count = frame.layout.nb_channels if frame.format.is_planar else 1
    return [AudioPlane(frame, index) for index in range(count)]


def frame_of(values: Any, like: AudioFrame) -> AudioFrame:
    """A frame of these samples, which are stored as in `like`, and at the same rate."""
    lanes = np.ascontiguousarray(values)
    count = lanes.shape[1] if like.format.is_planar else lanes.size // like.layout.nb_channels
    made = AudioFrame(like.format.name, like.layout.name, count)
    for plane, lane in zip(planes_of(made), lanes, strict=True):
        plane.update(lane)
    made.sample_rate = like.sample_rate
    return made


def silence(like: AudioFrame, samples: int) -> AudioFrame:
    """So many samples of it, in the form of `like`."""
    channels = like.layout.nb_channels
    shape = (channels, samples) if like.format.is_planar else (1, channels * samples)
    return frame_of(np.full(shape, 128 if like.format.name.startswith("u8") else 0, dtype_of(like)), like)


class Finite:
    """Makes floating-point samples finite: what is no number becomes silence, what is beyond measure is held down."""

    def __init__(self) -> None:
        self._count = 0

    def frames(self, frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
        """The same frames, each with its time."""
        for frame in frames:
            yield self._held(frame) if frame.format.name in _FLOATING else frame

    def notes(self, called: str) -> tuple[str, ...]:
        """How many samples were changed, in words."""
        if not self._count:
            return ()
        samples, are = plural(self._count, "sample"), plural(self._count, "is no number", "are no numbers")
        said = f"{self._count:,} {samples} of {called} {are}, or above {_MOST:g} times full scale: made finite"
        return (said,)

    def _held(self, frame: AudioFrame) -> AudioFrame:
        values = sample_values(frame)
        if np.abs(values).max() <= _MOST:  # false where one is no number
            return frame
        self._count += int((~(np.abs(values) <= _MOST)).sum())
        held = np.clip(np.nan_to_num(values, nan=0.0, posinf=_MOST, neginf=-_MOST), -_MOST, _MOST)
        made = frame_of(held.astype(values.dtype), frame)
        made.pts, made.time_base = frame.pts, frame.time_base
        return made
