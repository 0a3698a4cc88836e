"""The picture, segment by segment: each is a separate file that starts with a keyframe and needs no other.

A `VideoBackend` encodes a segment: FFmpeg as a library, or the ffmpeg program.
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
    """The encoder's output for this segment does not match the frames that it was given."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """All that a segment's encoding depends on, besides the backend."""

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
        """The encoder's options, besides rate and size."""
        steady = steady_x264(self.size[0]) if self.target.video_encoder == "libx264" else {}
        return {**self.target.video_options, **steady}


class SegmentEncoder(Protocol):
    """Writes one segment file. Moments in it are relative to the segment's first frame."""

    number: int

    def encode(self, moment: int, frame: VideoFrame) -> None:
        """Take the next frame."""

    def finish(self) -> Segment:
        """Check that the file holds each frame at its moment, and make it durable."""

    def discard(self) -> None:
        """Stop, and leave no file."""


class VideoBackend(SoundBackend, Protocol):
    """The encoders of picture and sound."""

    build: str
    """Identifies the program's build, because another build encodes differently. Empty for the library."""
    notes: list[str]
    """For the result."""

    @property
    def software(self) -> str:
        """Name and version of the encoder, for people. Nodes where it differs do not share a film."""

    def stamp(self, target: Target, pixels: PixelFormat) -> str:
        """A hash of the encoder's output for some frames; for `Origin.encoder`."""

    def pixel_formats(self) -> set[str]:
        """The names of pixel formats that the picture's encoder supports."""

    def segment_encoder(self, encoding: Encoding, number: int, tick: Callable[[], None]) -> SegmentEncoder:
        """Make an encoder for the segment of this number. `tick` is called while it waits; it may raise."""


def encode_segments(
    encoding: Encoding, backend: VideoBackend, after: int | None, until: int | None, reading: DecodePass
) -> Generator[int | Segment, None, None]:
    """Encode the part after `after`, up to and including `until`; None means the source's start or end.

    Yields the moment of each encoded frame, and each finished segment once it is durable. The caller may stop between
    any two: the unfinished segment is then discarded. `reading.tick` is called for each decoded frame; it may raise.
    """
    shaper = Shaper(encoding.source, encoding.options, encoding.pixels, encoding.folder, reading.threads)
    encoder: SegmentEncoder | None = None
    last: VideoFrame | None = None
    shaped: VideoFrame | None = None
    late = resized = 0
    is_begun = after is None
    size = encoding.source.stored_size

    def finish(encoder: SegmentEncoder) -> Segment:
        nonlocal late, resized
        before, late = late, reading.late
        others, resized = resized, 0
        return msgspec.structs.replace(encoder.finish(), late=late - before, resized=others)

    try:
        for moment, frame in wanted_frames(encoding.source, encoding.plan.start, after, until, reading):
            if not is_begun:  # frames left out up to here count for the segment before
                late, is_begun = reading.late, True
            number = encoding.plan.segment_of(moment)
            if encoder is not None and number != encoder.number:
                finished, encoder = finish(encoder), None
                yield finished
            if encoder is None:
                encoder = backend.segment_encoder(encoding, number, reading.tick)
            if shaped is None or frame is not last:
                last, shaped = frame, shaper.shape(frame)
            resized += (frame.width, frame.height) != size
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
    """Yield the times of all packets of a track; the last one in time is shown for `last`.

    `pieces` are distinct display times in decoding order. Each piece is later in time than the one before, so that only
    one needs sorting at a time. Sorted display times serve as decoding times. They are moved back by the most places
    that a packet is ahead of its turn; before the first, the smallest gap is repeated.

    The encoders' durations are not used: an encoder cannot know how long its last frame is shown. The last packet in
    decoding order gets `last`, too: its duration in an mp4 is the only one that is no distance to another packet.
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
    """The most places by which a packet is ahead of its turn, and the smallest gap between two moments."""
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
    """Strictly rising decoding times, one per packet, never later than its display time.

    `presented` are distinct display times in decoding order.
    """
    return [times.decoded for times in packet_times([presented], 1)] if presented else []
