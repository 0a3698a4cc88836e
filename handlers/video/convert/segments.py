"""The picture, piece by piece: each segment is a file of its own that starts with a keyframe and needs no other."""

import os
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import av
from av.codec.context import ThreadType
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from ...contract import Unusable, abandon
from ...pieces import seal
from ..frames import frames_after
from ..opening import EncoderFailedError
from .checkpoint import Segment, segment_name
from .encoding import Encoding
from .picture import Shaper, output_aspect, output_size
from .program_encoder import ProgramSegment
from .timing import decoding_times

if TYPE_CHECKING:
    from av.packet import Packet

os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to standard error, past every logger

_HANGS = "libsvtav1"
"""Freed before its end, this encoder drains itself, and waits for ever where it has lost its way."""
_HELD = 16
"""Segments with fewer frames than an encoder reorders are where encoders' decoding times go wrong."""


def encode_segments(
    encoding: Encoding, after: int | None, until: int | None, tick: Callable[[], None]
) -> Generator[int | Segment, None, None]:
    """Encode what lies after `after`, up to and with `until`; none means the start and the end of the source.

    Yields the moment of each frame as it is encoded, and each finished segment once it is durable. The caller may stop
    between any two: the unfinished segment is then thrown away. `tick` is called for each decoded frame; it may raise.
    """
    shaper = Shaper(encoding.source, output_size(encoding.source, encoding.options), encoding.look)
    encoder: _SegmentEncoder | ProgramSegment | None = None
    try:
        for moment, frame in frames_after(encoding.source, after, tick):
            if until is not None and moment > until:
                break
            number = encoding.plan.segment_of(moment)
            if encoder is not None and number != encoder.number:
                finished, encoder = encoder.finish(), None
                yield finished
            if encoder is None:
                encoder = _encoder_for(encoding, number, tick)
            encoder.encode(moment, shaper.shape(frame))
            yield moment
        if encoder is not None:
            finished, encoder = encoder.finish(), None
            yield finished
    finally:
        if encoder is not None:
            encoder.discard()


def _encoder_for(encoding: Encoding, number: int, tick: Callable[[], None]) -> "_SegmentEncoder | ProgramSegment":
    if encoding.program is None:
        return _SegmentEncoder(encoding, number)
    return ProgramSegment(encoding, encoding.program, number, tick)


class _SegmentEncoder:
    """A fresh encoder that writes one segment file. Its moments are relative to the segment's first frame."""

    def __init__(self, encoding: Encoding, number: int) -> None:
        self.number = number
        self._encoding = encoding
        self._final = encoding.folder / segment_name(number)
        self._part = self._final.with_suffix(".part")
        self._container = av.open(str(self._part), "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream = self._add_stream()
        self._held: list[Packet[VideoStream]] = []
        self._moments: list[int] = []
        self._returned: list[int | None] = []

    def _add_stream(self) -> VideoStream:
        encoding = self._encoding
        stream = self._container.add_stream(
            encoding.target.video_encoder,
            rate=encoding.source.rate,
            options=dict(encoding.target.video_options),
            time_base=encoding.source.time_base,
            bit_rate=encoding.target.video_bitrate,
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = output_size(encoding.source, encoding.options)
        stream.pix_fmt = encoding.look.pixel_format
        # The default, slices, makes each picture larger.
        stream.thread_type = ThreadType.FRAME
        context = stream.codec_context
        context.sample_aspect_ratio = output_aspect(encoding.source, encoding.options)
        context.color_primaries, context.color_trc, context.colorspace = encoding.look.colour
        context.color_range = ColorRange.MPEG
        if encoding.target.video_codec == "h265":
            context.codec_tag = "hvc1"  # what Apple's players ask for
        try:
            context.open(strict=False)
        except av.error.ArgumentError as error:
            raise Unusable(
                f"the encoder {encoding.target.video_encoder} does not take pictures of {stream.width}x{stream.height} "
                f"with these options ({error.strerror})"
            ) from error
        return stream

    def encode(self, moment: int, frame: VideoFrame) -> None:
        self._moments.append(moment)
        frame.pts = moment - self._moments[0]
        frame.time_base = self._encoding.source.time_base
        frame.pict_type = PictureType.NONE  # else the encoder would copy the source's choice
        self._take(self._stream.encode(frame))

    def finish(self) -> Segment:
        """Flush, compare, close and make durable. Raises EncoderFailedError."""
        self._take(self._stream.encode(None))
        self._compare()
        self._release()
        self._container.close()
        size, digest = seal(self._part, self._final)
        return Segment(self.number, self._moments[0], self._moments[-1], len(self._moments), size, digest)

    def _take(self, packets: list["Packet[VideoStream]"]) -> None:
        self._returned += [packet.pts for packet in packets]
        self._held += packets
        if len(self._moments) > _HELD:
            self._mux()

    def _mux(self) -> None:
        try:
            self._container.mux(self._held)
        except av.error.ArgumentError as error:
            raise EncoderFailedError(f"{self._told()} packets in an impossible order") from error
        self._held = []

    def _compare(self) -> None:
        """On a busy machine SVT-AV1 has been seen to return packets that cannot be written."""
        given = [moment - self._moments[0] for moment in self._moments]
        returned = [moment for moment in self._returned if moment is not None]
        if len(self._returned) != len(given) or sorted(returned) != given:
            raise EncoderFailedError(f"{self._told()} other moments than those of the {len(given)} frames it got")

    def _told(self) -> str:
        return f"the encoder {self._encoding.target.video_encoder} gave, for segment {self.number + 1},"

    def _release(self) -> None:
        """Of a very short segment no packet has been written yet. x265 invents its decoding times: set them."""
        presented = [packet.pts for packet in self._held if packet.pts is not None]
        if len(self._moments) <= _HELD:
            for packet, decoded in zip(self._held, decoding_times(presented), strict=True):
                packet.dts = decoded
        self._mux()

    def discard(self) -> None:
        if self._encoding.target.video_encoder == _HANGS:
            abandon(self._stream)
        with suppress(av.error.FFmpegError):
            self._container.close()
        self._part.unlink(missing_ok=True)
