"""Encodes with FFmpeg as a library, through PyAV."""

import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av._core import library_meta
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.codec.context import ThreadType
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from ....events.counted import counted
from ...contract import Unusable, abandon
from ...media.x264 import steady_x264
from ...pieces import hash_of, seal
from .checkpoint import Segment, segment_name
from .options import HARDWARE_REMEDY, Target, on_one_thread
from .picture import PixelFormat, output_aspect
from .segments import EncoderFailedError, Encoding, decoding_times
from .sound import SoundPlan, open_part
from .trial import TRIAL_SIDE, trial_pictures

if TYPE_CHECKING:
    from av.packet import Packet

os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to standard error, bypassing all loggers

_HANGS = "libsvtav1"
"""If this encoder is freed early it drains itself, and may then wait for ever in a bad state."""
_TOO_QUICK = 11
"""From this preset of SVT-AV1 on it may write undecodable pictures: our ultrafast and superfast."""
_HELD = 16
"""In segments with fewer frames than encoders reorder, their decoding times are wrong."""


class LibraryBackend:
    """The library that PyAV includes."""

    build = ""
    notes: list[str] = []  # noqa: RUF012 - empty for all

    def __init__(self, target: Target) -> None:
        self._encoder = target.video_encoder

    def pixel_formats(self) -> set[str]:
        """The names of pixel formats that the encoder supports."""
        return {video_format.name for video_format in Codec(self._encoder, "w").video_formats or ()}

    @property
    def software(self) -> str:
        """The library and its build."""
        version = ".".join(map(str, av.library_versions["libavcodec"]))
        built = hash_of({name: meta["configuration"] for name, meta in library_meta.items()}, av.library_versions)
        return f"PyAV {av.__version__} with libavcodec {version}, build {built[:8]}, {platform.machine()}"

    def stamp(self, target: Target, pixels: PixelFormat) -> str:
        """A hash of the encoder's output for some frames. x264 and x265 also write their own version into it."""
        options = on_one_thread(target).video_options
        context = av.CodecContext.create(target.video_encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width = context.height = TRIAL_SIDE
        context.pix_fmt, context.options = pixels.name, {**options, **steady_x264(TRIAL_SIDE)}
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.bit_rate = target.video_bitrate
        made = hashlib.sha256()
        for number, picture in enumerate(trial_pictures()):
            frame = VideoFrame.from_bytes(picture, TRIAL_SIDE, TRIAL_SIDE, format="rgba")
            frame.pts, frame.time_base = number, context.time_base
            for packet in context.encode(frame.reformat(format=pixels.name)):
                made.update(bytes(packet))
        for packet in context.encode(None):
            made.update(bytes(packet))
        made.update(context.extradata or b"")
        return made.hexdigest()

    def segment_encoder(self, encoding: Encoding, number: int, _tick: Callable[[], None]) -> "LibrarySegmentEncoder":
        """Make an encoder for one segment."""
        return LibrarySegmentEncoder(encoding, number)

    @contextmanager
    def sound_sink(self, part: Path, plan: SoundPlan, _tick: Callable[[float], None]) -> Iterator["_LibrarySink"]:
        """Make an encoder for the sound."""
        with open_part(part, plan) as output:
            yield _LibrarySink(output, plan)


def require_hardware(encoder: str) -> None:
    """Open the encoder briefly. Raises Unusable with a remedy."""
    try:
        context = av.CodecContext.create(encoder, "w")
    except UnknownCodecError:
        raise Unusable(f"this build of FFmpeg has no encoder {encoder}: {HARDWARE_REMEDY}") from None
    assert isinstance(context, VideoCodecContext)
    context.width = context.height = TRIAL_SIDE
    names = [video_format.name for video_format in context.codec.video_formats or ()]
    context.pix_fmt = "yuv420p" if "yuv420p" in names else "nv12"
    context.time_base = context.framerate = Fraction(1, 25)
    try:
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        raise Unusable(
            f"the encoder {encoder} finds no device here ({getattr(error, 'strerror', error)}): {HARDWARE_REMEDY}"
        ) from error


class LibrarySegmentEncoder:
    """Writes one segment file."""

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
            rate=encoding.source.shown_rate,
            options=encoding.encoder_options,
            time_base=encoding.source.time_base,
            bit_rate=encoding.target.video_bitrate,
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = encoding.size
        stream.pix_fmt = encoding.pixels.name
        stream.thread_type = ThreadType.FRAME  # the default, slices, makes each picture larger
        context = stream.codec_context
        context.sample_aspect_ratio = output_aspect(encoding.source, encoding.options)
        context.color_primaries, context.color_trc, context.colorspace = encoding.pixels.colour
        context.color_range = ColorRange.MPEG
        if encoding.target.video_codec == "h265":
            context.codec_tag = "hvc1"  # Apple's players need it
        try:
            context.open(strict=False)
        except av.error.ArgumentError as error:
            raise Unusable(
                f"the encoder {encoding.target.video_encoder} does not take pictures of {stream.width}x{stream.height} "
                f"with these options ({error.strerror})"
            ) from error
        return stream

    def encode(self, moment: int, frame: VideoFrame) -> None:
        """Take the next frame. Raises EncoderFailedError."""
        self._moments.append(moment)
        frame.pts = moment - self._moments[0]
        frame.time_base = self._encoding.source.time_base
        frame.pict_type = PictureType.NONE  # otherwise the encoder would copy the source's choice
        self._take(self._stream.encode(frame))

    def finish(self) -> Segment:
        """Flush, compare, close and make durable. Raises EncoderFailedError."""
        self._take(self._stream.encode(None))
        self._compare()
        self._release()
        self._container.close()
        self._decode_if_doubtful()
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
            raise self._failure("packets in an impossible order") from error
        self._held = []

    def _compare(self) -> None:
        """Check the packets: on a busy machine SVT-AV1 has returned some that cannot be written."""
        expected = [moment - self._moments[0] for moment in self._moments]
        returned = [moment for moment in self._returned if moment is not None]
        if len(self._returned) != len(expected) or sorted(returned) != expected:
            raise self._failure(f"other times than those of the {counted(len(expected), 'frame')} it got")

    def _decode_if_doubtful(self) -> None:
        """Decode the segment if needed: at its fastest presets SVT-AV1 has written undecodable pictures."""
        target = self._encoding.target
        if target.video_encoder != _HANGS or int(target.video_options["preset"]) < _TOO_QUICK:
            return
        try:
            with av.open(str(self._part)) as container:
                good = sum(1 for _ in container.decode(video=0))
        except av.error.FFmpegError:
            good = 0
        if good != len(self._moments):
            raise self._failure("pictures that cannot be decoded: take a slower preset or a higher crf")

    def _failure(self, returned: str) -> EncoderFailedError:
        encoder = self._encoding.target.video_encoder
        text = f"the encoder {encoder} gave, for segment {self.number + 1}, {returned}"
        return EncoderFailedError(text, self.number)

    def _release(self) -> None:
        """Write the packets of a very short segment with new decoding times, because x265 invents some."""
        presented = [packet.pts for packet in self._held if packet.pts is not None]
        if len(self._moments) <= _HELD:
            for packet, decoded in zip(self._held, decoding_times(presented), strict=True):
                packet.dts = decoded
        self._mux()

    def discard(self) -> None:
        """Stop, and leave no file."""
        if self._encoding.target.video_encoder == _HANGS:
            abandon(self._stream)
        with suppress(av.error.FFmpegError):
            self._container.close()
        self._part.unlink(missing_ok=True)


class _LibrarySink:
    def __init__(self, output: OutputContainer, plan: SoundPlan) -> None:
        self._output = output
        self._plan = plan

    def track(self, rate: int) -> AudioStream:
        track = self._output.add_stream(self._plan.encoder, rate=rate)
        assert isinstance(track, AudioStream)
        track.layout = self._plan.layout
        track.bit_rate = self._plan.bitrate
        return track

    def push(self, track: AudioStream, frame: AudioFrame | None) -> None:
        self._output.mux(track.encode(frame))
