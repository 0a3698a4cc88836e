"""The sound, once and in one piece: encoded per segment it would click at every join."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from ...pieces import seal
from ..probe import is_damage, open_input, packets_of
from .saved import AudioTrack
from .target import Target

NAME = "sound.mp4"
_RATES = {"aac": (48000, 44100, 32000, 24000, 22050, 16000), "mp3": (48000, 44100, 32000), "opus": (48000,)}
_STEREO = 2


def convert_audio(path: Path, target: Target, folder: Path, tick: Callable[[float], None]) -> AudioTrack | None:
    """Encode the sound of `path` into `folder`; none if there is none that can be decoded.

    Moments are counted in samples, because those of some sources jump. `tick` is told the position in seconds.
    """
    final = folder / NAME
    part = final.with_suffix(".part")
    with open_input(path) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            return None
        frames = _decode(container, stream)
        first = next(frames, None)
        if first is None:
            return None
        start = first.time or 0.0
        try:
            samples = _encode(first, frames, target, part, tick)
        except BaseException:  # whatever ends it: half a track must not be taken for one
            part.unlink(missing_ok=True)
            raise
    size, digest = seal(part, final)
    return AudioTrack(name=NAME, start=start, samples=samples, size=size, sha256=digest)


def _decode(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """What can be decoded; a bad packet costs its own piece of sound only."""
    for packet in chain(packets_of(container, stream), [None]):
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            if not is_damage(error):
                raise
            continue
        yield from frames


def _encode(
    first: AudioFrame, rest: Iterator[AudioFrame], target: Target, part: Path, tick: Callable[[float], None]
) -> int:
    samples = 0
    with av.open(str(part), "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(target.audio_encoder, rate=_rate(target.audio_codec, first.sample_rate))
        assert isinstance(stream, AudioStream)
        stream.layout = "stereo" if first.layout.nb_channels >= _STEREO else "mono"
        stream.bit_rate = target.audio_bitrate
        for frame in _resampled(chain([first], rest), stream, tick):
            frame.pts = samples
            frame.time_base = Fraction(1, stream.sample_rate)
            samples += frame.samples
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return samples


def _resampled(
    frames: Iterable[AudioFrame], stream: AudioStream, tick: Callable[[float], None]
) -> Iterator[AudioFrame]:
    """Frames in the encoder's format. Where the source changes its own in the middle, a new resampler takes over."""
    resampler: AudioResampler | None = None
    kind: tuple[str, str, int] | None = None
    for frame in frames:
        tick(frame.time or 0.0)
        frame.pts = None
        current = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or current != kind:
            if resampler is not None:
                yield from resampler.resample(None)
            resampler = AudioResampler(stream.format, stream.layout, stream.sample_rate)
            kind = current
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def _rate(codec: str, wanted: int) -> int:
    """The source's own rate if the codec has it, else its best."""
    return wanted if wanted in _RATES[codec] else _RATES[codec][0]
