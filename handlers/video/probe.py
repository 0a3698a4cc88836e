"""Look at the input without trusting it."""

import errno
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import av
import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from .errors import UnusableInputError
from .sampling import brief_sample, sample

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,gif"
"""What is opened at all: no playlists and no lists of files, which could name other files of this machine."""

MAX_SIDE = 16384
MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused, by the header and by the decoder: a frame takes 1.5 bytes a pixel and more."""
_ANY_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
"""PyAV 18 has to be told that titles need not be UTF-8; PyAV 19 knows."""
_KEEP_TIMES = ("mov", "matroska")
"""Formats that keep when a picture is shown, and not only when it is decoded."""
_HIGHEST_RATE = 1000
_QUARTER = 90


S = TypeVar("S", VideoStream, AudioStream)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about the input's picture. Moments are integers in `time_base`."""

    path: Path
    width: int
    height: int
    rotation: int
    """Degrees counter-clockwise that set the picture upright: 0, 90, 180 or 270."""
    time_base: Fraction
    rate: Fraction
    """Average frames a second."""
    clock: Literal["pts", "dts"]
    start: int
    end: int
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
    interlaced: bool
    deinterlace: bool = False
    """Whether its frames are to be made whole as they are read."""

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


def open_input(path: Path) -> InputContainer:
    """Open a file as a video, confined to itself.

    Raises:
        UnusableInputError: it is none of the formats that are opened.
        OSError: it cannot be read.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    with path.open("rb"):  # so that what the system says of the file is not taken for what FFmpeg says of its content
        pass
    try:
        container: InputContainer = av.open(str(path.absolute()), "r", options=options, **_ANY_METADATA)
    except av.error.FFmpegError as error:
        if not is_damage(error):
            raise
        raise UnusableInputError(
            f"{path.name} is not a video in a format that is read here: {error.strerror}"
        ) from error
    return container


def is_damage(error: av.error.FFmpegError) -> bool:
    """Whether the file's content is to blame and not the machine; some readers say EPERM where they mean nonsense."""
    return not isinstance(error, OSError | MemoryError) or error.errno == errno.EPERM


def picture_of(container: InputContainer, name: str) -> VideoStream:
    """The moving picture of a file.

    Raises:
        UnusableInputError: there is none, its codec is unknown, or it is too large.
    """
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise UnusableInputError(f"{name} has no moving picture")
    stream = moving[0]
    context = stream.codec_context
    if context is None or not context.width or not context.height:
        raise UnusableInputError(f"{name}: the picture's codec is not known here")
    if context.width * context.height > MAX_PIXELS or max(context.width, context.height) > MAX_SIDE:
        raise UnusableInputError(
            f"{name} is {context.width}x{context.height}: too large, "
            f"at most {MAX_PIXELS} pixels and {MAX_SIDE} to a side"
        )
    context.options = {"max_pixels": str(MAX_PIXELS)}  # a stream may grow behind its header
    stream.thread_type = "AUTO"
    return stream


def packets_of(container: InputContainer, stream: S, *, from_key: bool = False) -> Iterator["av.Packet[S]"]:
    """Packets to decode, without empty ones; with `from_key`, from the first keyframe on.

    A read error that is the file's own ends them as its end would: what came before is complete.
    """
    try:
        for packet in container.demux(stream):
            from_key = from_key and not packet.is_keyframe
            if packet.size and not from_key:
                yield packet
    except IndexError:  # PyAV 18, at the end of a file in which more tracks turned up on the way
        return
    except av.error.FFmpegError as error:
        if not is_damage(error):
            raise


def seek(container: InputContainer, stream: VideoStream, moment: int) -> bool:
    """Go to the last keyframe at or before `moment`, as far as the container knows; false where it cannot seek."""
    try:
        container.seek(moment, stream=stream)
    except av.error.FFmpegError as error:
        if not is_damage(error):
            raise
        return False
    return True


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
        first, start = found.first, found.known[0]
        return Source(
            path=path,
            width=context.width,
            height=context.height,
            rotation=round(first.rotation / _QUARTER) * _QUARTER % 360 if first else 0,
            time_base=_exact(stream.time_base),
            rate=_rate(stream),
            clock=found.clock,
            start=start,
            end=_end(container, stream, found.known),
            keyframes=_shifted(_matroska_marks(path, start) if "matroska" in container.format.name else marks, start),
            pixel_aspect=_exact(stream.sample_aspect_ratio) or Fraction(1),
            colour=(context.color_primaries, context.color_trc, context.colorspace),
            full_range=first is not None and first.color_range == ColorRange.JPEG,
            has_audio=bool(container.streams.audio),
            codec=context.codec.canonical_name,
            depth=max((part.bits for part in first.format.components), default=8) if first else 8,
            interlaced=first is not None and first.interlaced_frame,
        )


def _frames(stream: VideoStream, packets: Iterator["av.Packet[VideoStream]"]) -> Iterator[VideoFrame]:
    for packet in chain(packets, [None]):
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError as error:
            if not is_damage(error):
                raise


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _HIGHEST_RATE:
            return _exact(rate)
    return Fraction(25)


def _exact(ratio: Any) -> Fraction:
    """PyAV 19 has a ratio type of its own where 18 has fractions; both may be none."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(0)


def _end(container: InputContainer, stream: VideoStream, known: Sequence[int]) -> int:
    """Where the picture ends: as the file says, else by reading through it without decoding."""
    assert stream.time_base is not None
    if stream.duration:
        return max(known[0], (stream.start_time or 0) + stream.duration)
    if container.duration:
        first = container.start_time or 0
        return max(known[0], int(Fraction(first + container.duration, av.time_base) / stream.time_base))
    # The first packets, which gave the known moments, have been read already.
    moments = (packet.pts if packet.pts is not None else packet.dts for packet in packets_of(container, stream))
    return max((moment for moment in moments if moment is not None), default=max(known))


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
