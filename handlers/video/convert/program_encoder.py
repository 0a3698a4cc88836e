"""Encodes with the ffmpeg program: decoded frames go in through a pipe, a finished file comes out.

The program gets only the name of the file that it writes, and sees no byte of the input, so a hostile input cannot
reach it. It is in the worker's process group, and ends by itself when the worker is gone, because its pipe then ends.
"""

import fcntl
import os
import platform
import re
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ....events.counted import counted
from ...attempt_output import pass_on
from ...contract import Unusable
from ...pieces import hash_of, seal
from ..program import Program, ask_program, environment
from .checkpoint import Segment, segment_name
from .options import HARDWARE_REMEDY, Target, on_one_thread
from .picture import PixelFormat, output_aspect
from .segments import Encoding
from .sound import SoundPlan
from .trial import TRIAL_SIDE, trial_pictures

_POLL = 0.1
"""Seconds between two checks whether the attempt must stop, while the program accepts no more data."""
_PIPE_SIZE = 1024 * 1024
"""Bytes in the pipe, if the system allows it; the usual 64 KiB are a fraction of a frame."""
_EXACT = 65535
"""Numerator and denominator of ratios are rounded to fit below it."""
_DEVICE_FORMATS = ("nv12", "p010le")
"""Formats that can be uploaded to a device whose encoder lists only its own surfaces."""
_TRIAL_TIMEOUT = 10.0
_LONGEST_CAUSE = 300

SILENT = ("-hide_banner", "-nostdin", "-v", "error")
_INPUT = ("-protocol_whitelist", "pipe", "-f", "nut", "-i", "pipe:0")
_MAPPED = ("-map", "0:0", "-map_metadata", "-1")
_VAAPI = ("-init_hw_device", "vaapi=device", "-filter_hw_device", "device")


class ProgramFailedError(RuntimeError):
    """The ffmpeg program failed, or its output does not match the frames that it was given."""


class ProgramBackend:
    """The ffmpeg program that was found on the search path."""

    def __init__(self, program: Program, target: Target) -> None:
        self._program = program
        self._target = target
        self.build = program.built
        self.notes = [f"encoded by the program ffmpeg {program.version}"]

    def pixel_formats(self) -> set[str]:
        """The names of pixel formats that the encoder supports, as the program lists them."""
        lines = ask_program(self._program.path, "-h", f"encoder={self._target.video_encoder}").splitlines()
        listed = next((line.partition(":")[2].split() for line in lines if "pixel formats:" in line), [])
        return {*listed, *_DEVICE_FORMATS} if "vaapi" in listed else set(listed)

    def require_hardware(self) -> None:
        """Encode one grey picture. Raises Unusable with a remedy."""
        raw = ["-f", "rawvideo", "-pix_fmt", "nv12", "-s", f"{TRIAL_SIDE}x{TRIAL_SIDE}", "-i", "pipe:0"]
        how = _picture_arguments(
            self._target, self._target.video_options, PixelFormat(name="nv12"), Fraction(1, 25), Fraction(1)
        )
        command = [*self._command(), *raw, "-frames:v", "1", *how, "-f", "null", "-"]
        picture = bytes([128]) * (TRIAL_SIDE * TRIAL_SIDE * 3 // 2)
        try:
            subprocess.run(
                command, input=picture, capture_output=True, check=True, timeout=_TRIAL_TIMEOUT, env=environment()
            )
        except (OSError, subprocess.SubprocessError) as error:
            output = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
            cause = _first_line(output) or error
            raise Unusable(
                f"ffmpeg's encoder {self._target.video_encoder} finds no device ({cause}): {HARDWARE_REMEDY}"
            ) from error

    @property
    def software(self) -> str:
        """The program and its build, and the library that reads."""
        built = hash_of(self.build, av.library_versions)
        return f"ffmpeg {self._program.version}, PyAV {av.__version__}, build {built[:8]}, {platform.machine()}"

    def stamp(self, target: Target, pixels: PixelFormat) -> str:
        """A hash, by the program, of its encoder's output for some pictures. Raises ProgramFailedError."""
        raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{TRIAL_SIDE}x{TRIAL_SIDE}", "-i", "pipe:0"]
        how = _picture_arguments(target, on_one_thread(target).video_options, pixels, Fraction(1, 25), Fraction(1))
        command = [*self._command(), *raw, *how, "-pix_fmt", pixels.name, "-f", "hash", "-"]
        try:
            done = subprocess.run(
                command,
                input=b"".join(trial_pictures()),
                capture_output=True,
                check=True,
                timeout=_TRIAL_TIMEOUT,
                env=environment(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            output = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
            raise ProgramFailedError(
                f"ffmpeg's encoder {target.video_encoder} takes no trial picture ({_first_line(output) or error})"
            ) from error
        return done.stdout.decode(errors="replace").strip()

    def segment_encoder(self, encoding: Encoding, number: int, tick: Callable[[], None]) -> "_ProgramSegmentEncoder":
        """Start the program for one segment."""
        return _ProgramSegmentEncoder(encoding, number, self._command(), tick)

    @contextmanager
    def sound_sink(self, part: Path, plan: SoundPlan, tick: Callable[[float], None]) -> Iterator["_ProgramSink"]:
        """Start the program for the sound."""
        sink = _ProgramSink(self._program, part, plan, tick)
        try:
            yield sink
            sink.feed.finish()
        except BaseException:  # whatever the error, the program must not keep running
            sink.feed.discard()
            raise

    def _command(self) -> list[str]:
        """The program, and the arguments before the input."""
        return [str(self._program.path), *SILENT, *(_VAAPI if _needs_upload(self._target) else ())]


def _picture_arguments(
    target: Target, options: Mapping[str, str], pixels: PixelFormat, time_base: Fraction, aspect: Fraction
) -> list[str]:
    """Arguments that encode a picture track: each frame once, at its own time.

    Colours are named twice: old versions take them from the options, newer ones from the frames. `aspect`: the shape of
    a pixel.
    """
    primaries, transfer, matrix = map(str, pixels.colour)
    filters = [
        f"setparams=range=tv:color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}",
        f"setsar=sar={aspect.numerator}/{aspect.denominator}:max={_EXACT}",
    ]
    if _needs_upload(target):
        filters.append("hwupload")
    arguments = ["-vf", ",".join(filters), "-c:v", target.video_encoder]
    for name, value in options.items():
        arguments += [f"-{name}:v" if name == "profile" else f"-{name}", value]
    if target.video_bitrate:
        arguments += ["-b:v", str(target.video_bitrate)]
    if target.video_codec == "h265":
        arguments += ["-tag:v", "hvc1"]  # Apple's players need it
    arguments += ["-color_range", "tv", "-color_primaries", primaries, "-color_trc", transfer, "-colorspace", matrix]
    return [*arguments, "-fps_mode", "passthrough", "-enc_time_base", f"{time_base.numerator}:{time_base.denominator}"]


def _into_piece(how: Sequence[str], part: Path) -> list[str]:
    """Arguments that write the first track from the pipe into a piece."""
    return [*_MAPPED, *how, "-fflags", "+bitexact", "-f", "mp4", f"file:{part}"]


def _needs_upload(target: Target) -> bool:
    """Whether frames must be uploaded to the device first; other encoders do that themselves."""
    return target.video_encoder.endswith("_vaapi")


def _first_line(output: str) -> str:
    """The first line, without the name of ffmpeg's component; the other lines are consequences."""
    return re.sub(r"^\[[^]]*\] ", "", output.partition("\n")[0]).rstrip(".")[:_LONGEST_CAUSE]


class _ProgramSegmentEncoder:
    """One run of the program, which writes one segment file."""

    def __init__(self, encoding: Encoding, number: int, command: Sequence[str], tick: Callable[[], None]) -> None:
        self.number = number
        self._encoding = encoding
        self._final = encoding.folder / segment_name(number)
        self._part = self._final.with_suffix(".part")
        self._moments: list[int] = []
        source, target = encoding.source, encoding.target
        aspect = output_aspect(source, encoding.options)
        how = _picture_arguments(target, encoding.encoder_options, encoding.pixels, source.time_base, aspect)
        self._feed = RunningProgram(command, _into_piece(how, self._part), self._part, tick)
        stream = self._feed.container.add_stream("rawvideo", rate=source.shown_rate, time_base=source.time_base)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = encoding.size
        stream.pix_fmt = encoding.pixels.name
        self._stream = stream

    def encode(self, moment: int, frame: VideoFrame) -> None:
        """Pass on the next frame. Raises ProgramFailedError."""
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
        """Check that the file holds exactly the given frames at their moments, and begins with a keyframe."""
        encoder, unit = self._encoding.target.video_encoder, self._encoding.source.time_base
        with av.open(str(self._part)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        times = sorted(round((packet.pts or 0) * packet.time_base / unit) for packet in packets)
        if [time - times[0] for time in times] != [moment - self._moments[0] for moment in self._moments]:
            raise ProgramFailedError(
                f"ffmpeg's {encoder} wrote {counted(len(times), 'frame')} of {len(self._moments)} in segment "
                f"{self.number + 1}, or at other times; take another encoder, or backend builtin"
            )
        if not packets[0].is_keyframe:
            raise ProgramFailedError(f"ffmpeg's {encoder} began segment {self.number + 1} without a keyframe")

    def discard(self) -> None:
        """Kill the program and leave no file."""
        self._feed.discard()


class _ProgramSink:
    def __init__(self, program: Program, part: Path, plan: SoundPlan, tick: Callable[[float], None]) -> None:
        self._plan = plan
        self._position = 0.0
        # The pipe carries no channel names, only their number.
        command = [str(program.path), *SILENT, "-channel_layout", plan.layout]
        how = ["-c:a", plan.encoder, "-b:a", str(plan.bitrate)]
        self.feed = RunningProgram(command, _into_piece(how, part), part, lambda: tick(self._position))

    def track(self, rate: int) -> AudioStream:
        track = self.feed.container.add_stream("pcm_f32le", rate=rate)
        assert isinstance(track, AudioStream)
        track.layout = self._plan.layout
        track.format = "flt"
        return track

    def push(self, track: AudioStream, frame: AudioFrame | None) -> None:
        self._position = (frame.time if frame else None) or self._position
        self.feed.push(track, frame)


class RunningProgram:
    """The running program. Frames must carry their times, which are kept exactly.

    Args:
        command: the program, and the arguments before the input.
        arguments: how to process the input, and where to write.
        output: the file that it writes, in the folder that it runs in; must not exist.
        tick: called while it waits; may raise to end the wait.
    """

    def __init__(
        self, command: Sequence[str], arguments: Sequence[str], output: Path, tick: Callable[[], None]
    ) -> None:
        self._tick = tick
        self._output = output
        self._cause = ""
        self._stderr = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115 - open as long as the program runs
        self._process = subprocess.Popen(
            [*command, *_INPUT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            cwd=output.parent,
            env=environment(),
        )
        assert self._process.stdin is not None
        self._pipe = _Pipe(self._process.stdin.fileno(), tick)
        self.container = av.open(self._pipe, "w", format="nut", options={"fflags": "+bitexact"}, buffer_size=_PIPE_SIZE)

    def push(self, stream: Any, frame: VideoFrame | AudioFrame | None) -> None:
        """Pass on one frame, or None after the last. Raises ProgramFailedError."""
        try:
            self.container.mux(stream.encode(frame))
        except BrokenPipeError:
            raise self._failure() from None
        self._pipe.raise_interruption()

    def finish(self) -> None:
        """Wait until the file is complete. Raises ProgramFailedError."""
        assert self._process.stdin is not None
        try:
            self.container.close()
        except BrokenPipeError:
            raise self._failure() from None
        self._pipe.raise_interruption()
        self._process.stdin.close()
        if self._wait():
            raise self._failure()
        self._pass_on()

    def discard(self) -> None:
        """Kill it, and leave nothing that it wrote."""
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
        """The error that describes its end. If the attempt must stop, `tick` raises that instead."""
        self._tick()
        code = self._wait()
        cause = self._pass_on()
        return ProgramFailedError(f"ffmpeg ended with {code} at {self._output.stem}: {cause or 'it said nothing'}")

    def _pass_on(self) -> str:
        """Print its messages, once, as the attempt's output. Returns the first line, which names the cause."""
        if not self._stderr.closed:
            with self._stderr:
                self._cause = "".join(pass_on(self._stderr)[:1])
        return self._cause


class _Pipe:
    """The program's standard input, as a file that PyAV writes to. While it waits, it checks for a stop."""

    def __init__(self, fd: int, tick: Callable[[], None]) -> None:
        self._fd = fd
        self._tick = tick
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)
        self._interruption: BaseException | None = None
        self.over = False
        """No one reads any more: further data is discarded."""
        os.set_blocking(fd, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # a user may have a limited total of pipe buffers
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and not self.over:
            if not self._ready.poll(_POLL * 1000):
                self._look()
                continue
            with suppress(BlockingIOError):
                rest = rest[os.write(self._fd, rest) :]
        return len(data)

    def _look(self) -> None:
        try:
            self._tick()
        except BaseException as error:  # noqa: BLE001 - FFmpeg calls `write`, and would lose what is raised here
            self._interruption, self.over = error, True

    def raise_interruption(self) -> None:
        """Raise the error that `tick` has raised while FFmpeg was writing."""
        if self._interruption is not None:
            raise self._interruption
