"""A segment encoded by the ffmpeg program instead of the library, and the check that it holds what was given.

Decoded frames go in through a pipe, a finished file comes out. The program is given no name but that of the file that
it writes, and sees no byte of the input, so a hostile input cannot reach it. It is in the worker's process group, and
ends by itself when the worker is gone, because its pipe then ends.
"""

import fcntl
import os
import select
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ...pieces import seal
from ...printed import pass_on
from ..opening import ProgramFailedError
from ..program import Program, environment
from .checkpoint import Segment, segment_name
from .encoding import Encoding
from .options import Target
from .picture import Look, output_aspect, output_size

_EXACT = 65535
"""Ratios are rounded to what fits below it."""
_VAAPI = ("-init_hw_device", "vaapi=device", "-filter_hw_device", "device")


def before_input(program: Program, target: Target) -> list[str]:
    """The program, and what holds for all of it."""
    return [str(program.path), *SILENT, *(_VAAPI if _uploads(target) else ())]


def for_picture(target: Target, look: Look, time_base: Fraction, aspect: Fraction = Fraction(1)) -> list[str]:
    """How a picture track is encoded: each frame once, at its own time.

    Colours are named twice: old versions take them from the switches, newer ones from the frames. `aspect` is the
    shape of a pixel.
    """
    primaries, transfer, matrix = map(str, look.colour)
    filters = [
        f"setparams=range=tv:color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}",
        f"setsar=sar={aspect.numerator}/{aspect.denominator}:max={_EXACT}",
    ]
    if _uploads(target):
        filters.append("hwupload")
    arguments = ["-vf", ",".join(filters), "-c:v", target.video_encoder]
    for name, value in target.video_options.items():
        arguments += [f"-{name}", value]
    if target.video_bitrate:
        arguments += ["-b:v", str(target.video_bitrate)]
    if target.video_codec == "h265":
        arguments += ["-tag:v", "hvc1"]  # what Apple's players ask for
    arguments += ["-color_range", "tv", "-color_primaries", primaries, "-color_trc", transfer, "-colorspace", matrix]
    return [*arguments, "-fps_mode", "passthrough", "-enc_time_base", f"{time_base.numerator}:{time_base.denominator}"]


def for_sound(encoder: str, bitrate: int) -> list[str]:
    """How a sound track is encoded."""
    return ["-c:a", encoder, "-b:a", str(bitrate)]


def _uploads(target: Target) -> bool:
    """Whether frames have to be brought to the device first; other encoders do it themselves."""
    return target.video_encoder.endswith("_vaapi")


# --- One run of the program ---


_POLL = 0.1
"""Seconds between two looks at whether somebody wants it to stop, while the program does not take more."""
_ROOM = 1024 * 1024
"""Bytes in the pipe, where the system allows it; the usual 64 KiB are a fraction of a frame."""

S = TypeVar("S", VideoStream, AudioStream)


class Feed:
    """The running program. Frames must carry their times; they are kept exactly.

    Args:
        command: the program, and what stands before the input.
        arguments: what to do with the input.
        output: the file that it writes; must not exist.
        tick: called while it waits; may raise to end the wait.
    """

    def __init__(
        self, command: Sequence[str], arguments: Sequence[str], output: Path, tick: Callable[[], None]
    ) -> None:
        self._tick = tick
        self._output = output
        self._told: list[str] = []
        self._said = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115 - open as long as the program runs
        self._process = subprocess.Popen(
            [*command, *_INPUT, *arguments, "-fflags", "+bitexact", "-f", "mp4", f"file:{output}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            cwd=output.parent,
            env=environment(),
        )
        assert self._process.stdin is not None
        self._pipe = _Pipe(self._process.stdin.fileno(), tick)
        self.container = av.open(self._pipe, "w", format="nut", options=_BITEXACT, buffer_size=_ROOM)

    def push(self, stream: Any, frame: VideoFrame | AudioFrame | None) -> None:
        """Hand over one frame; none: there are no more. Raises ProgramFailedError."""
        try:
            self.container.mux(stream.encode(frame))
        except BrokenPipeError:
            raise self._failure() from None

    def finish(self) -> None:
        """Wait until the file is whole. Raises ProgramFailedError."""
        assert self._process.stdin is not None
        try:
            self.container.close()
        except BrokenPipeError:
            raise self._failure() from None
        self._process.stdin.close()
        if self._wait():
            raise self._failure()
        self._pass_on()

    def discard(self) -> None:
        """Kill it, and leave nothing of what it wrote."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._pipe.over = True
        with suppress(av.error.FFmpegError, OSError):
            self.container.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._pass_on()
        self._output.unlink(missing_ok=True)

    def _wait(self) -> int:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(_POLL)
            self._tick()

    def _failure(self) -> ProgramFailedError:
        """What to say of its end. Where somebody wants the attempt to stop, that is said instead, by `tick`."""
        self._tick()
        code = self._wait()
        said = self._pass_on()
        return ProgramFailedError(f"ffmpeg ended with {code} at {self._output.stem}: {said or 'it said nothing'}")

    def _pass_on(self) -> str:
        """Let the attempt's output have what it said, once; the first line, for the others follow from it."""
        if not self._said.closed:
            with self._said:
                self._told = pass_on(self._said)[:1]
        return "".join(self._told)


SILENT = ("-hide_banner", "-nostdin", "-v", "error")
_INPUT = ("-protocol_whitelist", "pipe", "-f", "nut", "-i", "pipe:0", "-map", "0:0", "-map_metadata", "-1")
_BITEXACT = {"fflags": "+bitexact"}


class _Pipe:
    """The program's standard input, as a file that PyAV writes to. It never waits without looking up."""

    def __init__(self, fd: int, tick: Callable[[], None]) -> None:
        self._fd = fd
        self._tick = tick
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)
        self.over = False
        """Nobody reads any more: what is still written is thrown away."""
        os.set_blocking(fd, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # a user may have only so much room in pipes
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _ROOM)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and not self.over:
            if not self._ready.poll(_POLL * 1000):
                self._tick()
                continue
            with suppress(BlockingIOError):
                rest = rest[os.write(self._fd, rest) :]
        return len(data)


# --- A segment ---


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
