"""Subtitles: copied where the container has their codec, rewritten where they are text, else left out and named."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream

from ..opening import is_input_fault, open_input, picture_stream
from .metadata import lost_disposition_notes, track_metadata, write_metadata
from .options import Container, VideoConvertOptions

if TYPE_CHECKING:
    from av.stream import Stream

_TEXT = ("subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text")
_CLOCK = Fraction(1, 1000)
MAX_SUBTITLE_TRACKS = 32
MAX_SUBTITLE_BYTES = 64 * 1024 * 1024
"""Bytes of all subtitles together, which are held in memory until they are written."""


class Subtitles(NamedTuple):
    """The subtitle tracks that are kept, and notes about the others."""

    kept: tuple[int, ...] = ()
    """Numbers of the streams in the file."""
    notes: tuple[str, ...] = ()


class SubtitlePacket(NamedTuple):
    """One packet, ready to be written."""

    track: int
    """Place in `kept`."""
    start: Fraction
    """Seconds on the source's clock."""
    duration: Fraction
    data: bytes


def choose_subtitles(opened: InputContainer, options: VideoConvertOptions, container: Container) -> Subtitles:
    """Choose which of the tracks of `opened` are kept, and note what happens to the others."""
    streams = opened.streams.subtitles
    if options.subtitles == "none":
        return Subtitles(notes=_dropped(len(streams), "as asked"))
    fitting = [stream for stream in streams if _fits(stream, container)][:MAX_SUBTITLE_TRACKS]
    rewritten = sum(_codec(stream) not in container.copied_subtitles for stream in fitting)
    others = sorted({_codec(stream) or "an unknown codec" for stream in streams if stream not in fitting})
    notes = _dropped(len(streams) - len(fitting), f"{', '.join(others)} does not go into {container.format}")
    if rewritten:
        notes += (f"subtitles rewritten as {container.subtitles}",)
    lost = [
        note
        for stream in fitting
        for note in lost_disposition_notes("subtitle track", track_metadata(stream), container.format)
    ]
    notes += tuple(dict.fromkeys(lost))
    return Subtitles(tuple(stream.index for stream in fitting), notes)


def _dropped(count: int, why: str) -> tuple[str, ...]:
    return (f"{count} subtitle tracks dropped: {why}",) if count else ()


def _codec(stream: SubtitleStream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else ""


def _fits(stream: SubtitleStream, container: Container) -> bool:
    codec = _codec(stream)
    return codec in container.copied_subtitles or codec in _TEXT


class SubtitleWriter:
    """Adds the subtitle tracks to the result, then gives their packets in the order of time."""

    def __init__(self, path: Path, chosen: Subtitles, container: Container, output: OutputContainer) -> None:
        self._path = path
        self._chosen = chosen
        self._tracks: list[Any] = []
        self._encoders: list[Any] = []
        if not chosen.kept:
            return
        with open_input(path) as opened:
            for index in chosen.kept:
                self._add(opened.streams[index], container, output)

    def _add(self, stream: Any, container: Container, output: OutputContainer) -> None:
        if _codec(stream) in container.copied_subtitles:
            track = output.add_stream_from_template(stream)
            self._encoders.append(None)
        else:
            track = output.add_stream(container.subtitles)
            context: Any = track.codec_context
            stream.codec_context.open(strict=False)
            context.subtitle_header = stream.codec_context.subtitle_header
            track.time_base = _CLOCK
            self._encoders.append(context)
        write_metadata(track, track_metadata(stream), container.format)
        self._tracks.append(track)

    def lines(self, tick: Callable[[], None]) -> list[SubtitlePacket]:
        """Read all of them. `tick` is called for each packet, also of the picture; it may raise."""
        found: list[SubtitlePacket] = []
        if not self._tracks:
            return found
        size = 0
        with open_input(self._path) as opened:
            picture = picture_stream(opened, self._path.name)
            places = {index: place for place, index in enumerate(self._chosen.kept)}
            for packet in _all_packets(opened, [picture, *(opened.streams[index] for index in places)]):
                tick()
                place = places.get(packet.stream_index)
                if place is None or packet.pts is None or not packet.size:
                    continue
                line = self._line(place, packet)
                if line is not None:
                    size += len(line.data)
                    if size > MAX_SUBTITLE_BYTES:
                        break
                    found.append(line)
        return sorted(found, key=lambda line: (line.start, line.track))

    def _line(self, place: int, packet: Any) -> SubtitlePacket | None:
        start, duration = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
        encoder = self._encoders[place]
        if encoder is None:
            return SubtitlePacket(place, start, duration, bytes(packet))
        try:
            decoded = packet.stream.codec_context.decode2(packet)
            data = bytes(encoder.encode_subtitle(decoded)) if decoded is not None else b""
        except av.error.FFmpegError as error:
            if not is_input_fault(error):
                raise
            return None
        return SubtitlePacket(place, start, duration, data) if data else None

    def packets(self, lines: list[SubtitlePacket], begin: Fraction) -> "Iterator[tuple[float, Packet[Stream]]]":
        """The packets with their times in the result."""
        for line in lines:
            start = line.start - begin
            if start < 0:
                continue
            packet: Packet[Any] = Packet(line.data)
            packet.stream = self._tracks[line.track]
            packet.time_base = _CLOCK
            packet.pts = packet.dts = round(start / _CLOCK)
            packet.duration = round(line.duration / _CLOCK)
            yield float(start), packet


def _all_packets(container: InputContainer, streams: list[Any]) -> Iterator[Any]:
    try:
        yield from container.demux(*streams)
    except IndexError:  # PyAV 18, where more tracks turn up on the way
        return
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise
