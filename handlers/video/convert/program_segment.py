"""A segment that the ffmpeg program encodes, and the check that it is what it was given."""

from collections.abc import Callable

import av
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ...pieces import seal
from ..errors import ProgramFailedError
from ..program import Program
from .encoding import Encoding
from .feeding import Feed
from .picture import output_aspect, output_size
from .program_arguments import before_input, for_picture
from .saved import Segment, segment_name


class ProgramSegment:
    """One run of the program, which writes one segment file. Moments are relative to the segment's first frame."""

    def __init__(self, encoding: Encoding, program: Program, number: int, tick: Callable[[], None]) -> None:
        self.number = number
        self._encoding = encoding
        self._final = encoding.folder / segment_name(number)
        self._part = self._final.with_suffix(".part")
        self._moments: list[int] = []
        how = for_picture(
            encoding.target, encoding.look, encoding.source.time_base, output_aspect(encoding.source, encoding.options)
        )
        self._feed = Feed(before_input(program, encoding.target), how, self._part, tick)
        self._stream = self._add_stream()

    def _add_stream(self) -> VideoStream:
        encoding = self._encoding
        stream = self._feed.container.add_stream(
            "rawvideo", rate=encoding.source.rate, time_base=encoding.source.time_base
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = output_size(encoding.source, encoding.options)
        stream.pix_fmt = encoding.look.pixel_format
        return stream

    def encode(self, moment: int, frame: VideoFrame) -> None:
        """Hand over the next frame. Raises ProgramFailedError."""
        self._moments.append(moment)
        frame.pts = moment - self._moments[0]
        frame.time_base = self._encoding.source.time_base
        frame.pict_type = PictureType.NONE
        self._feed.push(self._stream, frame)

    def finish(self) -> Segment:
        """Wait for the end, compare, and make durable. Raises ProgramFailedError."""
        self._feed.push(self._stream, None)
        self._feed.finish()
        self._compare()
        size, digest = seal(self._part, self._final)
        return Segment(self.number, self._moments[0], self._moments[-1], len(self._moments), size, digest)

    def _compare(self) -> None:
        """Whether the file holds each frame at its moment, no more and no less, and begins with one to start from."""
        tick = self._encoding.source.time_base
        with av.open(str(self._part)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        times = sorted(round((packet.pts or 0) * packet.time_base / tick) for packet in packets)
        if [time - times[0] for time in times] != [moment - self._moments[0] for moment in self._moments]:
            raise ProgramFailedError(
                f"ffmpeg's {self._target} wrote {len(times)} frames of {len(self._moments)} in segment "
                f"{self.number + 1}, or at other times; take another encoder, or backend builtin"
            )
        if not packets[0].is_keyframe:
            raise ProgramFailedError(f"ffmpeg's {self._target} began segment {self.number + 1} without a keyframe")

    @property
    def _target(self) -> str:
        return self._encoding.target.video_encoder

    def discard(self) -> None:
        """Kill the program and leave nothing."""
        self._feed.discard()
