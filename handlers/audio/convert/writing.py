"""Writes the result: encoded frames or copied packets, with the file's descriptive data."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import msgspec
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition

from ...io_errors import writing
from ...media.bitrates import held_bitrate
from ...media.chapters import write_chapters
from ...media.languages import three_letters
from ...media.samples import has_steady_times
from ...media.sound_shape import Cut, Shape, rearranged
from ...video.opening import as_fraction, lasting, packets_of, write_packet
from .options import AudioConvertOptions, Codec, SoundContainer
from .source import GAP, SoundSource, open_sound
from .tags import Metadata, as_comments

_BEGUN_ANEW = 1.0
"""Seconds. If times jump back by more, they begin anew; by less, packets are there twice."""
_MP3_LAMBDA = 118
"""FFmpeg's unit of quality."""
_WIDE = ("pcm_s32", "pcm_u32", "pcm_s64")
"""First letters of codecs whose integers have more than 24 bits."""
_FORMATS = {
    "libmp3lame": "fltp",
    "aac": "fltp",
    "libopus": "flt",
    "pcm_s16le": "s16",
    "pcm_s24le": "s32",
    "pcm_f32le": "flt",
}
"""The sample format that each encoder needs."""


class EncodingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the track is encoded."""

    codec: str
    encoder: str
    shape: Shape
    bits: int
    """Bits per stored sample; 0 for lossy codecs."""
    bitrate: int
    options: dict[str, str]
    notes: tuple[str, ...] = ()


def plan_for(source: SoundSource, options: AudioConvertOptions, codec: Codec) -> EncodingPlan:
    """Choose rate, channels and bits, and note the losses."""
    notes = []
    rate = _rate(codec, options.sample_rate or source.rate)
    if rate < source.rate and options.sample_rate is None:
        notes.append(f"{source.rate} samples a second became {rate}: {codec.name} has no more")
    channels, layout = source.channels, ""
    if options.channels != "auto":
        channels = 2 if options.channels == "stereo" else 1
        layout = "stereo" if options.channels == "stereo" else "mono"
    elif codec.layouts:
        channels = max(count for count in codec.layouts if count <= channels)
        layout = codec.layouts[channels]
        if channels < source.channels:
            notes.append(f"{source.channels} sound channels became {channels}")
        notes += rearranged(source.layout, layout)
    encoder, form, bits = codec.encoder, "", 0
    if codec.lossless:
        encoder, form, bits, bits_notes = _stored(codec, source, str(options.bits))
        notes += bits_notes
    else:
        form = _FORMATS[encoder]
    bitrate = 0
    if options.quality is None and codec.bitrate:
        bitrate, bitrate_notes = held_bitrate(codec.name, options.bitrate or codec.bitrate * channels, channels, rate)
        notes += bitrate_notes if options.bitrate else ()
    how = {} if options.quality is None else {"flags": "+qscale", "global_quality": str(options.quality * _MP3_LAMBDA)}
    return EncodingPlan(
        codec=encoder if codec.name == "pcm" else codec.name,
        encoder=encoder,
        shape=Shape(form, layout, rate),
        bits=bits,
        bitrate=bitrate,
        options=how,
        notes=tuple(notes),
    )


def _rate(codec: Codec, wanted: int) -> int:
    """The wanted rate if the codec has it; otherwise the nearest higher one, or else its highest."""
    if not codec.rates or wanted in codec.rates:
        return wanted
    return min((rate for rate in codec.rates if rate > wanted), default=max(codec.rates))


def _stored(codec: Codec, source: SoundSource, asked: str) -> tuple[str, str, int, list[str]]:
    """Encoder, sample format, bits and notes, for lossless codecs."""
    floating = asked == "float" or (asked == "auto" and source.floating and codec.name == "pcm")
    if floating:
        doubles = ["floating-point samples of 64 bits became 32 bits"] if source.codec.startswith("pcm_f64") else []
        return "pcm_f32le", "flt", 32, doubles if asked == "auto" else []
    bits = source.bits if asked == "auto" else int(asked)
    notes = ["floating-point samples became 24 bits"] if asked == "auto" and source.floating else []
    if asked == "auto" and source.codec.startswith(_WIDE):
        notes.append("samples of more than 24 bits became 24 bits")
    if codec.name == "pcm":
        encoder = f"pcm_s{bits}le"
        return encoder, _FORMATS[encoder], bits, notes
    form = "s16" if bits == 16 else "s32"  # noqa: PLR2004 - bits
    return codec.encoder, form + ("p" if codec.name == "alac" else ""), bits, notes


class WrittenTrack(NamedTuple):
    """The facts about a written track."""

    seconds: float
    """Seconds that it plays."""
    begin: float = 0.0
    """Seconds of the source that are left out before it."""
    closed: float = 0.0
    """Seconds of the gaps between copied packets that the container does not keep."""


@contextmanager
def _result(part: Path, container: SoundContainer, metadata: Metadata) -> Iterator[OutputContainer]:
    with writing(part), av.open(str(part), "w", format=container.format, options=dict(container.options)) as output:
        tags = as_comments(metadata) if container.comments else metadata.tags
        output.metadata.update(tags)
        if not container.comments and metadata.chapters:
            write_chapters(output, metadata.chapters, Fraction(0), None)
        yield output


def _set_language(track: Any, container: SoundContainer, metadata: Metadata) -> None:
    """Set the track's language in an m4a; in other containers it is an ordinary tag."""
    if container.name == "m4a" and (language := three_letters(metadata.tags.get("language", ""))):
        track.metadata["language"] = language


@contextmanager
def _cover_track(
    source: SoundSource, container: SoundContainer, metadata: Metadata, output: OutputContainer
) -> Iterator[Any]:
    """A function that writes the cover picture, to be called when all tracks exist."""
    if metadata.cover is None or container.comments:
        yield lambda: None
        return
    with open_sound(source.path) as opened:
        stream: Any = opened.streams[metadata.cover.stream]
        track: Any = output.add_stream_from_template(stream, opaque=True)
        track.disposition = Disposition.attached_pic
        track.metadata["comment"] = "Cover (front)"  # FFmpeg's name of this kind of picture

        def write() -> None:
            packet: Any = Packet(metadata.cover.data)  # type: ignore[union-attr]  # see above
            packet.stream = track
            packet.pts = packet.dts = 0
            packet.is_keyframe = True
            output.mux(packet)

        yield write


def encode_track(
    source: SoundSource,
    frames: Iterable[AudioFrame],
    plan: EncodingPlan,
    container: SoundContainer,
    metadata: Metadata,
    part: Path,
) -> WrittenTrack:
    """Encode the frames, which are in the plan's shape, into `part`."""
    samples = 0
    with _result(part, container, metadata) as output:
        track: Any = output.add_stream(plan.encoder, rate=plan.shape.rate, options=dict(plan.options))
        _set_language(track, container, metadata)
        context = track.codec_context
        context.layout = plan.shape.layout or source.layout
        context.format = plan.shape.format
        if plan.bitrate:
            context.bit_rate = plan.bitrate
        with _cover_track(source, container, metadata, output) as write_cover:
            waiting = write_cover
            for frame in frames:
                if waiting is not None:
                    waiting()
                    waiting = None
                samples += frame.samples
                output.mux(track.encode(frame))
            if samples:
                output.mux(track.encode(None))
    return WrittenTrack(samples / plan.shape.rate)


def copy(
    source: SoundSource,
    cut: Cut,
    container: SoundContainer,
    metadata: Metadata,
    part: Path,
    tick: Callable[[float], None],
) -> WrittenTrack:
    """Copy the packets that begin inside the cut, unchanged."""
    count = origin = begin = end = closed = 0
    with open_sound(source.path) as opened, _result(part, container, metadata) as output:
        stream: Any = opened.streams[source.index]
        track: Any = output.add_stream_from_template(stream, opaque=True)
        track.disposition = Disposition.default
        _set_language(track, container, metadata)
        unit = as_fraction(stream.time_base)
        closes = container.counts and has_steady_times(opened)
        with _cover_track(source, container, metadata, output) as write_cover:
            for moment, packet in _inside(opened, stream, cut, tick):
                if not count:
                    write_cover()
                    # Packets before the stated start get negative times: decoders need them, and players skip them.
                    origin = moment if cut.start or stream.start_time is None else stream.start_time
                    begin = moment
                packet.pts = packet.dts = moment - origin
                if closes and count and (packet.pts - end) * unit > GAP:
                    closed += packet.pts - end
                # A packet that comes too early catches up with late ones: it does not step back.
                end = max(end, packet.pts) + (packet.duration or 0)
                packet.stream = track
                count += write_packet(output, packet)
        first = begin if stream.start_time is None else stream.start_time
    return WrittenTrack(
        float(end * unit) if count else 0.0, max(0.0, float((begin - first) * unit)), float(closed * unit)
    )


def _inside(
    opened: InputContainer, stream: AudioStream, cut: Cut, tick: Callable[[float], None]
) -> Iterator["tuple[int, Packet[AudioStream]]"]:
    """Time and packet, for packets that begin inside the cut, each later than the one before.

    Where times begin anew, as in files that were joined, they go on after the packet before, until they are again what
    they would have been.
    """
    unit, begin, last, due, ahead = as_fraction(stream.time_base), stream.start_time, None, 0, 0
    for packet in lasting(packets_of(opened, stream)):
        moment = packet.dts if packet.pts is None else packet.pts
        if moment is None:
            continue
        if last is not None and abs(moment - due) * unit < _BEGUN_ANEW:
            ahead = 0
        moment += ahead
        if last is not None and (last - moment) * unit > _BEGUN_ANEW:
            ahead, moment = ahead + due - moment, due
        if last is not None and moment <= last:
            continue
        begin = moment if begin is None else begin
        seconds = float((moment - begin) * unit)
        if cut.is_over(seconds):
            return
        last, due = moment, moment + (packet.duration or 0)
        tick(seconds)
        if seconds >= cut.start or not cut.start:
            yield moment, packet
