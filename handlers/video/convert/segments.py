"""The picture, segment by segment: each is a file of its own that starts with a keyframe and needs no other.

What encodes a segment is a `VideoBackend`: FFmpeg as a library, or the ffmpeg program.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from av.video.frame import VideoFrame

from ...media.x264 import steady_x264
from ..frames import DecodePass
from ..source import VideoSource
from .burning import Burner
from .checkpoint import Segment, SegmentPlan
from .options import Target, VideoConvertOptions
from .pacing import wanted_frames
from .picture import PixelFormat, Shaper, output_size
from .sound import SoundBackend


class EncoderFailedError(RuntimeError):
    """The encoder gave back something else than the frames it was given, for the segment of this number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """All that the encoding of a segment depends on, beside the backend."""

    source: VideoSource
    target: Target
    pixels: PixelFormat
    options: VideoConvertOptions
    plan: SegmentPlan
    folder: Path
    burner: Burner | None = None
    """Draws subtitles on finished frames."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        return output_size(self.source, self.options)

    @property
    def encoder_options(self) -> dict[str, str]:
        """What the encoder is told, beside rate and size."""
        steady = steady_x264(self.size[0]) if self.target.video_encoder == "libx264" else {}
        return {**self.target.video_options, **steady}


class SegmentEncoder(Protocol):
    """Writes one segment file. Its moments are relative to the segment's first frame."""

    number: int

    def encode(self, moment: int, frame: VideoFrame) -> None:
        """Take the next frame."""

    def finish(self) -> Segment:
        """Check that the file holds each frame at its moment, and make it durable."""

    def discard(self) -> None:
        """Stop, and leave no file."""


class VideoBackend(SoundBackend, Protocol):
    """What encodes picture and sound."""

    build: str
    """Identifies the build of the program, because another build encodes differently. Empty for the library."""
    notes: list[str]
    """For the result."""

    @property
    def software(self) -> str:
        """What encodes, with its version, for people. Nodes where it differs do not share a film."""

    def stamp(self, target: Target, pixels: PixelFormat) -> str:
        """What the encoder makes of some frames, hashed; for `Origin.encoder`."""

    def pixel_formats(self) -> set[str]:
        """How the encoder of the picture can store pixels."""

    def segment_encoder(self, encoding: Encoding, number: int, tick: Callable[[], None]) -> SegmentEncoder:
        """A fresh encoder for the segment of this number. `tick` is called while it waits; it may raise."""


def encode_segments(
    encoding: Encoding, backend: VideoBackend, after: int | None, until: int | None, reading: DecodePass
) -> Generator[int | Segment, None, None]:
    """Encode what lies after `after`, up to and with `until`; none means the start and the end of the source.

    Yields the moment of each frame as it is encoded, and each finished segment once it is durable. The caller may stop
    between any two: the unfinished segment is then thrown away. `reading.tick` is called for each decoded frame; it may
    raise.
    """
    shaper = Shaper(encoding.source, encoding.options, encoding.pixels, encoding.folder, reading.threads)
    encoder: SegmentEncoder | None = None
    last: VideoFrame | None = None
    shaped: VideoFrame | None = None
    late = 0
    is_begun = after is None

    def finish(encoder: SegmentEncoder) -> Segment:
        nonlocal late
        before, late = late, reading.late
        return msgspec.structs.replace(encoder.finish(), late=late - before)

    try:
        for moment, frame in wanted_frames(encoding.source, encoding.plan.start, after, until, reading):
            if not is_begun:  # what was left out up to here was counted with the segment before
                late, is_begun = reading.late, True
            number = encoding.plan.segment_of(moment)
            if encoder is not None and number != encoder.number:
                finished, encoder = finish(encoder), None
                yield finished
            if encoder is None:
                encoder = backend.segment_encoder(encoding, number, reading.tick)
            if shaped is None or frame is not last:
                last, shaped = frame, shaper.shape(frame)
            encoder.encode(moment, encoding.burner.burned(shaped, moment) if encoding.burner else shaped)
            yield moment
        if encoder is not None:
            finished, encoder = finish(encoder), None
            yield finished
    finally:
        if encoder is not None:
            encoder.discard()


class PacketTimes(NamedTuple):
    """The times of a packet, in the unit of its track."""

    presented: int
    decoded: int
    duration: int
    """How long its picture is shown."""


def packet_times(pieces: Sequence[Sequence[int]], last: int) -> Iterator[PacketTimes]:
    """The times of all packets of a track, where the last one in time is shown for `last`.

    `pieces` are distinct presentation times in decoding order; each piece is later in time than the one before, so that
    no more than one needs to be sorted at a time. Sorted and moved back by the largest distance a packet is ahead of
    its place, they serve as decoding times; before the first, the smallest gap is repeated.

    The encoders' durations are of no use: an encoder cannot know how long its last frame is shown. The last packet in
    decoding order gets `last`, too: what an mp4 says of it is the only distance to no other packet.
    """
    depth, gap = _reordering(pieces)
    first = min(pieces[0])
    held = deque(first - gap * back for back in range(depth, 0, -1))
    for piece, following in zip_longest(pieces, pieces[1:]):
        ordered = sorted(piece)
        shown = {moment: after - moment for moment, after in pairwise(ordered)}
        shown[ordered[-1]] = last if following is None else min(following) - ordered[-1]
        held.extend(ordered)
        for number, moment in enumerate(piece, start=1):
            ends = following is None and number == len(piece)
            yield PacketTimes(moment, held.popleft(), last if ends else shown[moment])


def _reordering(pieces: Sequence[Sequence[int]]) -> tuple[int, int]:
    """By how many places a packet is ahead of its own at most, and the smallest gap between two moments."""
    depth, gap = 0, 0
    before: int | None = None
    for piece in pieces:
        ordered = sorted(piece)
        place = {moment: index for index, moment in enumerate(ordered)}
        furthest = max(index - place[moment] for index, moment in enumerate(piece))
        depth = max(depth, furthest)
        moments = ordered if before is None else chain([before], ordered)
        smallest = min((after - earlier for earlier, after in pairwise(moments)), default=0)
        gap = min(gap or smallest, smallest or gap)
        before = ordered[-1]
    return depth, gap or 1


def decoding_times(presented: Sequence[int]) -> list[int]:
    """One strictly rising decoding time for each packet, never later than its presentation.

    `presented` are distinct presentation times in decoding order.
    """
    return [times.decoded for times in packet_times([presented], 1)] if presented else []
