"""Samples of decoded sound as numbers: put back into frames, and kept within what filters and encoders can handle.

And whether a file says reliably when they are heard.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.plane import AudioPlane
from av.container import InputContainer

from ...events.counted import plural

_FLOATING = {"flt", "fltp", "dbl", "dblp"}
_MOST = 1000.0
"""Times full scale. With about ten times more, libmp3lame ends the process; with infinity most encoders fail."""
_STEADY = ("mov", "matroska", "mpegts")
_KINDS = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}


def has_steady_times(container: InputContainer) -> bool:
    """Whether the container has reliable times of sound, which show also where some is missing."""
    return any(name in container.format.name for name in _STEADY)


def dtype_of(frame: AudioFrame) -> Any:
    """The numpy type of a frame's samples."""
    return _KINDS[frame.format.name.rstrip("p")]


def sample_values(frame: AudioFrame) -> Any:
    """The samples, shaped like those of `to_ndarray`, which fails for a frame of eight planes."""
    if not frame.format.is_planar:
        return frame.to_ndarray()
    return np.stack([np.frombuffer(memoryview(plane), dtype_of(frame), frame.samples) for plane in planes_of(frame)])


def planes_of(frame: AudioFrame) -> list[AudioPlane]:
    """The planes of a frame. PyAV looks for a null after the last: of eight, PyAV 18 finds nine, and PyAV 19 none."""
    count = frame.layout.nb_channels if frame.format.is_planar else 1
    return [AudioPlane(frame, index) for index in range(count)]


def frame_of(values: Any, like: AudioFrame) -> AudioFrame:
    """A frame of these samples, in the format and at the rate of `like`."""
    lanes = np.ascontiguousarray(values)
    count = lanes.shape[1] if like.format.is_planar else lanes.size // like.layout.nb_channels
    made = AudioFrame(like.format.name, like.layout.name, count)
    for plane, lane in zip(planes_of(made), lanes, strict=True):
        plane.update(lane)
    made.sample_rate = like.sample_rate
    return made


def silence(like: AudioFrame, samples: int) -> AudioFrame:
    """Silence of this number of samples, in the form of `like`."""
    channels = like.layout.nb_channels
    shape = (channels, samples) if like.format.is_planar else (1, channels * samples)
    return frame_of(np.full(shape, 128 if like.format.name.startswith("u8") else 0, dtype_of(like)), like)


class Finite:
    """Makes floating-point samples finite: NaN becomes silence, and huge values are limited."""

    def __init__(self) -> None:
        self._count = 0

    def frames(self, frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
        """Yield the same frames, each with its time."""
        for frame in frames:
            yield self._held(frame) if frame.format.name in _FLOATING else frame

    def notes(self, called: str) -> tuple[str, ...]:
        """A note on how many samples were changed."""
        if not self._count:
            return ()
        samples, are = plural(self._count, "sample"), plural(self._count, "is no number", "are no numbers")
        note = f"{self._count:,} {samples} of {called} {are}, or above {_MOST:g} times full scale: made finite"
        return (note,)

    def _held(self, frame: AudioFrame) -> AudioFrame:
        values = sample_values(frame)
        if np.abs(values).max() <= _MOST:  # false if one is NaN
            return frame
        self._count += int((~(np.abs(values) <= _MOST)).sum())
        held = np.clip(np.nan_to_num(values, nan=0.0, posinf=_MOST, neginf=-_MOST), -_MOST, _MOST)
        made = frame_of(held.astype(values.dtype), frame)
        made.pts, made.time_base = frame.pts, frame.time_base
        return made
