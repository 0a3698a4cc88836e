"""Synthetic videos and a way to inspect the results, both through PyAV, so that no ffmpeg has to be installed."""

import os
import sys
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import av
import msgspec
import pytest
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tasktrail.handlers import Outcome
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import RecordingContext, run_handler

Context: TypeAlias = RecordingContext[VideoConvertOptions]
WIDTH, HEIGHT, RATE = 160, 120, 25


class Clip(NamedTuple):
    """A recipe for a source."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    options: Mapping[str, str] = MappingProxyType({})
    seconds: float = 4
    audio: str = "aac"
    """Encoder of the sound; empty: no sound."""
    audio_options: Mapping[str, str] = MappingProxyType({})
    uneven: bool = False
    """Leave frames out, in a pattern that makes the rate vary."""
    rotation: int = 0
    pixel_format: str = "yuv420p"
    container: Mapping[str, str] = MappingProxyType({})
    """Options of the container."""


class Seen(NamedTuple):
    """What a player would show."""

    times: list[Fraction]
    size: tuple[int, int]
    codec: str
    duration: float
    samples: int
    sound_begins: float | None
    first: VideoFrame
    corrupt: int


def _pictures(clip: Clip) -> list[VideoFrame]:
    source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={RATE}:duration={clip.seconds}"
    with av.open(source, "r", format="lavfi") as container:
        frames = list(container.decode(video=0))
    kept = [f for n, f in enumerate(frames) if not clip.uneven or (n % 7 not in (2, 3) and not 40 <= n < 62)]
    return [frame.reformat(format=clip.pixel_format) for frame in kept]


def make_clip(path: Path, clip: Clip) -> Path:
    """Write a source with a moving test picture and a 440 Hz tone."""
    with av.open(str(path), "w", options=dict(clip.container)) as output:
        picture = output.add_stream(clip.codec, rate=RATE, options=dict(clip.options))
        assert isinstance(picture, VideoStream)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, clip.pixel_format
        if clip.rotation:
            picture.set_display_rotation(clip.rotation)
        sound = output.add_stream(clip.audio, rate=48000, options=dict(clip.audio_options)) if clip.audio else None
        for frame in _pictures(clip):
            frame.pict_type = PictureType.NONE
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        if isinstance(sound, AudioStream):
            with av.open(f"sine=frequency=440:sample_rate=48000:duration={clip.seconds}", format="lavfi") as tone:
                for wave in tone.decode(audio=0):
                    output.mux(sound.encode(wave))
            output.mux(sound.encode(None))
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a source by its recipe, once a session."""
    made: dict[str, Path] = {}

    def clip(**recipe: Any) -> Path:
        wanted = Clip(**recipe)
        if repr(wanted) not in made:
            made[repr(wanted)] = make_clip(tmp_path_factory.mktemp("clip") / f"in{wanted.suffix}", wanted)
        return made[repr(wanted)]

    return clip


@pytest.fixture
def damage(tmp_path: Path) -> Callable[..., Path]:
    """Copy a film with some packets zeroed, by their numbers in decoding order."""

    def damaged(film: Path, *, picture: Collection[int] = (), sound: Collection[int] = ()) -> Path:
        content = bytearray(film.read_bytes())
        with av.open(str(film)) as container:
            for kind, numbers in (("video", picture), ("audio", sound)):
                container.seek(0)
                for number, packet in enumerate(container.demux(getattr(container.streams, kind))):
                    if number in numbers:
                        assert packet.pos is not None
                        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
        path = tmp_path / f"damaged{film.suffix}"
        path.write_bytes(content)
        return path

    return damaged


@pytest.fixture(scope="session")
def look() -> Callable[[Path], Seen]:
    """Decode a whole video."""

    def seen(path: Path) -> Seen:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            codec, duration = stream.codec_context.codec.canonical_name, (container.duration or 0) / av.time_base
        samples, begins = 0, None
        with av.open(str(path)) as container:
            for sound in container.decode(audio=0) if container.streams.audio else ():
                begins = sound.time if begins is None else begins
                samples += sound.samples
        times = [frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base]
        return Seen(
            times=times,
            size=(frames[0].width, frames[0].height),
            codec=codec,
            duration=duration,
            samples=samples,
            sound_begins=begins,
            first=frames[0],
            corrupt=sum(frame.is_corrupt for frame in frames) + len(frames) - len(times),
        )

    return seen


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Context]:
    """Make a context for a conversion, with the options given by name."""

    def context(source: Path, output: str = "out.mp4", **options: Any) -> Context:
        how = {name: options.pop(name) for name in ("stop_after", "crash_after") if name in options}
        return RecordingContext(
            msgspec.convert({"preset": "superfast", "segment_seconds": 1.0, **options}, VideoConvertOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / output,
            **how,
        )

    return context


@pytest.fixture(scope="session")
def convert() -> Callable[[Context], Outcome]:
    """Run `video_convert` once."""
    return lambda context: run_handler(video_convert, context)


@pytest.fixture(scope="session")
def real_program() -> Path:
    """Return an ffmpeg that is on no search path: that of the package imageio-ffmpeg, in the group bench."""
    return Path(pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_program: Path) -> Callable[..., Path]:
    """Put a program called ffmpeg first on the search path: the real one, or a Python script in front of it.

    The script finds the real one's path in `real`, and the arguments in `sys.argv`.
    """

    def put(script: str = "") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "ffmpeg"
        if script:
            program.write_text(f"#!{sys.executable}\nimport os, sys\nreal = {str(real_program)!r}\n{script}")
            program.chmod(0o755)
        else:
            program.symlink_to(real_program)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return program

    return put
