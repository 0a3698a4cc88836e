"""Look at the input without trusting it."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import av
import msgspec
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream

from ..media.damage import lacking_bytes
from .ending import ending_of
from .errors import UnusableInputError
from .opening import exact, is_damage, open_input, packets_of, picture_of, seek
from .sampling import brief_sample, sample

_KEEP_TIMES = ("mov", "matroska")
"""Formats that keep when a picture is shown, and not only when it is decoded."""
_HIGHEST_RATE = 1000
_QUARTER = 90
_LOOKED_AT = 64
"""Side of the small picture on which transparency is looked for: every gif could have it, few do."""
_SOLID = 250


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about the input's picture. Moments are integers in `time_base`."""

    path: Path
    width: int
    height: int
    rotation: int
    """Degrees counter-clockwise that set the picture upright: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether top and bottom change places before that."""
    time_base: Fraction
    rate: Fraction
    """Average frames a second."""
    clock: Literal["pts", "dts"]
    start: int
    end: int
    """Where the last frame ceases to be shown."""
    last_shown: int
    """How long the last frame is shown."""
    missing: float
    """Seconds behind the end that the file promises and does not hold."""
    lacking: int
    """Bytes at the end, at least, that the container speaks of and that are not there."""
    keyframes: tuple[int, ...]
    """As far as the container has an index; else empty."""
    pixel_aspect: Fraction
    colour: tuple[int, int, int]
    """Primaries, transfer, matrix, by FFmpeg's numbers; 2 is unknown."""
    full_range: bool
    has_audio: bool
    codec: str
    """FFmpeg's name of it."""
    depth: int
    """Bits of a colour value."""
    transparent: bool
    """Whether something would shine through it; seen on the first frame."""
    interlaced: bool
    deinterlace: bool = False
    """Whether its frames are to be made whole as they are read."""
    squared: bool = False
    """Whether its pixels are to be made square."""

    @property
    def seconds(self) -> float:
        """How long the picture lasts."""
        return max(0.0, float((self.end - self.start) * self.time_base))

    def moment_at(self, seconds: float) -> int:
        """The moment so many seconds after the first frame."""
        return self.start + int(seconds / self.time_base)

    def seconds_at(self, moment: int) -> float:
        """Seconds from the first frame to `moment`."""
        return float((moment - self.start) * self.time_base)


def probe(path: Path) -> Source:
    """Find out what is needed to plan and to encode; reads the first frames and the index.

    The last answer is kept: an attempt that has looked for its estimate does not look again.

    Raises:
        UnusableInputError: it can never be converted.
        OSError: it cannot be read.
    """
    now = path.stat()
    return _probe(path, (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns))


@lru_cache(maxsize=1)
def _probe(path: Path, _state: tuple[int, ...]) -> Source:
    found = _look(path, brief=True) or _look(path, brief=False)
    assert found is not None
    return found


def _look(path: Path, *, brief: bool) -> Source | None:
    """None where a brief look says too little."""
    with open_input(path) as container:
        stream = picture_of(container, path.name)
        if stream.time_base is None:
            raise UnusableInputError(f"{path.name}: the picture has no time base")
        # Before reading: some formats list what they happened to pass. MPEG lists all of it, keyframe or not.
        marks = [] if container.format.name == "mpeg" else _marks(stream)
        timed = any(name in container.format.name for name in _KEEP_TIMES)
        context, packets = stream.codec_context, packets_of(container, stream)
        frames = _frames(stream, packets)
        found = brief_sample(frames, packets, reorders=context.has_b_frames) if brief and timed else sample(frames)
        if found is None:
            return None
        if not found.known:
            raise UnusableInputError(f"{path.name}: not one frame with a time can be decoded")
        first, start, rate = found.first, found.known[0], _rate(stream)
        ending = ending_of(container, stream, found.known, rate, found.clock)
        return Source(
            path=path,
            width=context.width,
            height=context.height,
            rotation=round(first.rotation / _QUARTER) * _QUARTER % 360 if first else 0,
            mirrored=first is not None and _is_mirrored(first),
            time_base=exact(stream.time_base),
            rate=rate,
            clock=found.clock,
            start=start,
            end=ending.end,
            last_shown=ending.last,
            missing=ending.missing,
            lacking=lacking_bytes(path),
            keyframes=_shifted(_matroska_marks(path, start) if "matroska" in container.format.name else marks, start),
            pixel_aspect=exact(stream.sample_aspect_ratio) or Fraction(1),
            colour=(context.color_primaries, context.color_trc, context.colorspace),
            full_range=first is not None and first.color_range == ColorRange.JPEG,
            has_audio=bool(container.streams.audio),
            codec=context.codec.canonical_name,
            depth=max((part.bits for part in first.format.components), default=8) if first else 8,
            transparent=_is_transparent(stream, first),
            interlaced=first is not None and first.interlaced_frame,
        )


def _frames(stream: VideoStream, packets: Iterator["av.Packet[VideoStream]"]) -> Iterator[VideoFrame]:
    for packet in chain(packets, [None]):
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError as error:
            if not is_damage(error):
                raise


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether the matrix that turns the picture does more than turn it: the angle alone does not tell."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    across, down, _, back, up = struct.unpack_from("=5i", bytes(matrix))
    return bool(across * up - down * back < 0)


def _is_transparent(stream: VideoStream, first: VideoFrame | None) -> bool:
    if stream.metadata.get("alpha_mode") == "1":  # VP8 and VP9 keep it in a second picture, which is not decoded
        return True
    if first is None or not any(part.is_alpha for part in first.format.components):
        return False
    small = first.reformat(_LOOKED_AT, _LOOKED_AT, format="rgba", interpolation=Interpolation.AREA).planes[0]
    rows, length = bytes(small), small.line_size
    return any(min(rows[row * length :][3 : 4 * _LOOKED_AT : 4]) < _SOLID for row in range(_LOOKED_AT))


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _HIGHEST_RATE:
            return exact(rate)
    return Fraction(25)


def _marks(stream: VideoStream) -> list[int]:
    """Keyframes by the index that the file itself has."""
    return [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]


def _matroska_marks(path: Path, start: int) -> list[int]:
    """Matroska's index is read only when somebody seeks. The file is opened anew: it lists what it has passed."""
    with open_input(path) as container:
        stream = picture_of(container, path.name)
        return _marks(stream) if seek(container, stream, start) else []


def _shifted(marks: list[int], start: int) -> tuple[int, ...]:
    """The index counts in decoding time, which runs ahead of presentation by the same span everywhere."""
    ahead = max(0, start - marks[0]) if marks else 0
    return tuple(mark + ahead for mark in marks)
