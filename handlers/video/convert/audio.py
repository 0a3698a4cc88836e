"""The sound, once and in one piece: encoded per segment it would click at every join."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from ...pieces import seal
from ..opening import is_damage, open_input, packets_of
from ..program import Program
from .saved import AudioTrack
from .sound_choice import SoundPlan
from .sound_sinks import Sink, open_part, open_sink

if TYPE_CHECKING:
    from av.packet import Packet

_RATES = {"aac": (48000, 44100, 32000, 24000, 22050, 16000), "mp3": (48000, 44100, 32000), "opus": (48000,)}


def convert_audio(
    path: Path, plan: SoundPlan, folder: Path, tick: Callable[[float], None], program: Program | None = None
) -> AudioTrack | None:
    """Copy or encode the chosen sound of `path` into `folder`; none if there is nothing in it to hear.

    `tick` is told the position in seconds; it may raise. What is encoded is so by `program`, if there is one.
    """
    final = folder / plan.file
    part = final.with_suffix(".part")
    with open_input(path) as container:
        stream = container.streams[plan.stream]
        assert isinstance(stream, AudioStream)
        try:
            if plan.copy:
                made = _copied(container, stream, plan, part, tick)
            else:
                made = _encoded(container, stream, plan, open_sink(part, plan, program, tick), tick)
        except BaseException:  # whatever ends it: half a track must not be taken for one
            part.unlink(missing_ok=True)
            raise
    if made is None:
        part.unlink(missing_ok=True)
        return None
    start, samples = made
    size, digest = seal(part, final)
    return AudioTrack(name=plan.file, start=start, samples=samples, size=size, sha256=digest)


def _copied(
    container: InputContainer, stream: AudioStream, plan: SoundPlan, part: Path, tick: Callable[[float], None]
) -> tuple[float, int] | None:
    """The packets as they are: (where sound begins in seconds, number of packets).

    Packets before the stated start are kept with negative times: decoders need them and players skip them.
    """
    assert stream.time_base is not None
    count, last, unit = 0, None, float(stream.time_base)
    begin = stream.start_time
    with open_part(part, plan) as output:
        track = output.add_stream_from_template(stream, opaque=True)
        for packet in packets_of(container, stream):
            if packet.pts is None or (last is not None and packet.pts <= last):
                continue
            begin = packet.pts if begin is None else begin
            last = packet.pts
            tick(packet.pts * unit)
            packet.pts -= begin
            packet.dts = packet.pts
            packet.stream = track
            count += _muxed(output, packet)
        if not count:
            return None
    return float((begin or 0) * stream.time_base), count


def _muxed(output: OutputContainer, packet: "Packet[AudioStream]") -> bool:
    """Write one packet; false for one that is too damaged to be understood."""
    try:
        output.mux(packet)
    except av.error.FFmpegError as error:
        if not is_damage(error):
            raise
        return False
    return True


def _encoded(
    container: InputContainer,
    stream: AudioStream,
    plan: SoundPlan,
    sink: AbstractContextManager[Sink],
    tick: Callable[[float], None],
) -> tuple[float, int] | None:
    """Decoded and encoded anew: (where sound begins in seconds, number of samples).

    Moments are counted in samples, because those of some sources jump.
    """
    frames = _decode(container, stream)
    first = next(frames, None)
    if first is None:
        return None
    samples = 0
    with sink as output:
        track = output.track(_rate(plan.codec, first.sample_rate))
        for frame in _resampled(chain([first], frames), track, tick):
            frame.pts = samples
            frame.time_base = Fraction(1, track.sample_rate)
            samples += frame.samples
            output.push(track, frame)
        output.push(track, None)
    return first.time or 0.0, samples


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
