"""Subtitles: copied if the container can hold their codec, rewritten if they are text, otherwise left out and noted."""

import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from heapq import merge
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream

from ....events.counted import counted, plural
from ..opening import is_input_fault, of_shown_program, open_input, picture_stream, tolerant
from .metadata import OTHER_PROGRAM, TrackMetadata, lost_disposition_notes, track_metadata, write_metadata
from .options import Container, VideoConvertOptions

if TYPE_CHECKING:
    from av.stream import Stream

TEXT_CODECS = ("subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text")
_MOV_TEXT = "mov_text"
_CLOCK = Fraction(1, 1000)
_ENDLESS = 2**32 - 1
"""Milliseconds by which FFmpeg marks a subtitle that stays until the next one. An mp4 cannot hold them."""


class Subtitles(NamedTuple):
    """The subtitle tracks that are kept, and notes about the others."""

    kept: tuple[int, ...] = ()
    """Numbers of the streams in the file."""
    metadata: tuple[TrackMetadata, ...] = ()
    """Metadata of each of them."""
    notes: tuple[str, ...] = ()


class SubtitlePacket(NamedTuple):
    """One packet, ready to be written. Its data is in a file: the bitmaps of a whole film may fill the memory."""

    track: int
    """Place in `kept`."""
    start: Fraction
    """Seconds on the source's clock."""
    duration: Fraction
    place: int
    """Where its data begins in the file with all data."""
    size: int


class _Shown(NamedTuple):
    """A packet of the result, in milliseconds of the result."""

    track: int
    start: int
    end: int
    data: tuple[tuple[int, int], ...]
    """Place and size of each line's data in the file with all data."""


def choose_subtitles(opened: InputContainer, options: VideoConvertOptions, container: Container) -> Subtitles:
    """Choose the tracks of `opened` to keep, and note what happens to the others."""
    burned = options.burn_subtitles or 0
    tracks = [stream for number, stream in enumerate(opened.streams.subtitles, 1) if number != burned]
    if options.subtitles == "none":
        return Subtitles(notes=_dropped(len(tracks), "as asked"))
    streams = of_shown_program(opened, tracks)
    supported = [stream for stream in streams if _fits(stream, container)]
    fitting = [
        stream for stream in supported if _codec(stream) in container.copied_subtitles or _readable(stream, container)
    ]
    rewritten = sum(_codec(stream) not in container.copied_subtitles for stream in fitting)
    others = sorted({_codec(stream) or "an unknown codec" for stream in streams if stream not in supported})
    notes = _dropped(len(tracks) - len(streams), OTHER_PROGRAM)
    notes += _dropped(len(streams) - len(supported), f"{', '.join(others)} does not go into {container.format}")
    notes += _dropped(len(supported) - len(fitting), "damaged")
    if rewritten:
        notes += (f"subtitles rewritten as {container.subtitles}",)
    metadata = tuple(track_metadata(stream, options.metadata) for stream in fitting)
    lost = [note for each in metadata for note in lost_disposition_notes("subtitle track", each, container.format)]
    notes += tuple(dict.fromkeys(lost))
    return Subtitles(tuple(stream.index for stream in fitting), metadata, notes)


def _dropped(count: int, why: str) -> tuple[str, ...]:
    return (f"{count} subtitle track{'s' * (count > 1)} dropped: {why}",) if count else ()


def _codec(stream: SubtitleStream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else ""


def _fits(stream: SubtitleStream, container: Container) -> bool:
    codec = _codec(stream)
    return codec in container.copied_subtitles or codec in TEXT_CODECS


def _readable(stream: Any, container: Container) -> bool:
    """Whether the header of a text track is intact enough for rewriting it in another codec."""
    try:
        stream.codec_context.open(strict=False)
        encoder: Any = av.CodecContext.create(container.subtitles, "w")
        encoder.subtitle_header = stream.codec_context.subtitle_header
        encoder.time_base = _CLOCK
        encoder.open()
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise
        return False
    return True


class SubtitleWriter:
    """Adds the subtitle tracks to the result, then gives their packets in the order of time.

    Args:
        path: the source.
        chosen: the tracks to keep.
        container: of the result.
        output: the result.
        folder: for a temporary file.
    """

    def __init__(
        self, path: Path, chosen: Subtitles, container: Container, output: OutputContainer, folder: Path
    ) -> None:
        self._path = path
        self._chosen = chosen
        self._folder = folder
        self._tracks: list[Any] = []
        self._encoders: list[Any] = []
        self._unread: list[tuple[Fraction, Fraction]] = []
        """Display times of lines that cannot be read."""
        self.notes: tuple[str, ...] = ()
        """Notes on lines that cannot be read; set once all packets were given."""
        self.early = 0
        """Lines that end before the result begins."""
        self._joins = container.subtitles == _MOV_TEXT
        if not chosen.kept:
            return
        with open_input(path) as opened:
            for index, metadata in zip(chosen.kept, chosen.metadata, strict=True):
                self._add(opened.streams[index], metadata, container, output)

    def _add(self, stream: Any, metadata: TrackMetadata, container: Container, output: OutputContainer) -> None:
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
        write_metadata(track, metadata, container.format)
        self._tracks.append(track)

    def packets(
        self, begin: Fraction, end: Fraction | None, film_end: Fraction, tick: Callable[[], None]
    ) -> "Iterator[tuple[float, Packet[Stream]]]":
        """Yield the packets with their times in the result, from `begin` to `end` on the source's clock, in seconds.

        `film_end`: where the source's picture ends; a line without a stated duration is shown up to there.

        Lines that cross `begin` or `end` are cut there. This reads the whole source. `tick` is called for each packet,
        also of the picture; it may raise.
        """
        if not self._tracks:
            return
        with tempfile.TemporaryFile(dir=self._folder) as data:
            lines = self._lines(data, film_end, tick)
            unread = sum(until >= begin and (end is None or start < end) for start, until in self._unread)
            self.notes = unread_notes(unread, "subtitles")
            self.early = sum(_is_early(line, begin) for line in lines)
            tracks = [_within(lines, number, begin, end) for number in range(len(self._tracks))]
            tracks = [
                _in_turn(track) if encoder is not None and self._joins else track
                for encoder, track in zip(self._encoders, tracks, strict=True)
            ]
            for shown in merge(*tracks, key=attrgetter("start")):
                packet: Packet[Any] = Packet(_joined(list(_read(data, shown.data))))
                packet.stream = self._tracks[shown.track]
                packet.time_base = _CLOCK
                packet.pts = packet.dts = shown.start
                packet.duration = shown.end - shown.start
                yield float(shown.start * _CLOCK), packet

    def _lines(self, data: IO[bytes], film_end: Fraction, tick: Callable[[], None]) -> list[SubtitlePacket]:
        """Write all lines into `data`, in the order of the source; return their facts in the order of time."""
        lines: list[SubtitlePacket] = []
        with open_input(self._path) as opened:
            picture = picture_stream(opened, self._path.name)
            places = {index: place for place, index in enumerate(self._chosen.kept)}
            for packet in tolerant(opened.demux(picture, *(opened.streams[index] for index in places))):
                tick()
                place = places.get(packet.stream_index)
                if place is None or packet.pts is None or not packet.size:
                    continue
                content = self._content(place, packet)
                start, duration = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
                if content is None:
                    self._unread.append((start, start + duration))
                elif content:
                    lines.append(SubtitlePacket(place, start, duration, data.tell(), len(content)))
                    data.write(content)
        return _ended(sorted(lines, key=lambda line: (line.start, line.track)), film_end)

    def _content(self, place: int, packet: Any) -> bytes | None:
        """The packet's data, copied or rewritten; empty if it has no content, and None if it cannot be read."""
        encoder = self._encoders[place]
        if encoder is None:
            return bytes(packet)
        try:
            decoded = packet.stream.codec_context.decode2(packet)
            return bytes(encoder.encode_subtitle(decoded)) if decoded is not None else b""
        except av.error.FFmpegError as error:
            if not is_input_fault(error):
                raise
            return None


def unread_notes(lines: int, called: str) -> tuple[str, ...]:
    """A note about lines that cannot be read, if any: damaged ones, or text that is not UTF-8."""
    left = plural(lines, "is", "are")
    return (f"{counted(lines, 'line')} of {called} cannot be read and {left} left out",) if lines else ()


def _ended(lines: list[SubtitlePacket], film_end: Fraction) -> list[SubtitlePacket]:
    """The lines with a duration each: those without last until the next of their track, or the film's end."""
    ended, following = [], dict[int, Fraction]()
    for line in reversed(lines):
        if line.duration >= _ENDLESS * _CLOCK:
            until = following.get(line.track, film_end)
            ended.append(line._replace(duration=max(Fraction(0), until - line.start)))
        else:
            ended.append(line)
        following[line.track] = line.start
    return ended[::-1]


def _is_early(line: SubtitlePacket, begin: Fraction) -> bool:
    """Whether it ends before the result begins."""
    return line.start + line.duration < begin or (line.start < begin and not line.duration)


def _within(lines: Iterable[SubtitlePacket], track: int, begin: Fraction, end: Fraction | None) -> Iterator[_Shown]:
    """Yield the lines of one track that are shown in the result, which begins and ends at these seconds."""
    for line in lines:
        until = line.start + line.duration
        if line.track != track or _is_early(line, begin) or (end is not None and line.start >= end):
            continue
        until = until if end is None else min(until, end)
        start, until = max(Fraction(0), line.start - begin), until - begin
        yield _Shown(track, round(start / _CLOCK), round(until / _CLOCK), ((line.place, line.size),))


def _in_turn(lines: Iterable[_Shown]) -> Iterator[_Shown]:
    """Yield a track's lines, with simultaneous lines merged: an mp4 can show only one at a time."""
    now = 0
    at_once: list[_Shown] = []
    for line in chain(lines, [None]):
        while at_once and (line is None or now < line.start):
            ends = min(each.end for each in at_once)
            ends = ends if line is None else min(ends, line.start)
            yield _Shown(at_once[0].track, now, ends, tuple(data for each in at_once for data in each.data))
            now = ends
            at_once = [each for each in at_once if each.end > now]
        if line is None:
            return
        now = line.start
        if line.end > now:
            at_once.append(line)
        else:
            yield line


def _read(data: IO[bytes], places: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    for place, size in places:
        data.seek(place)
        yield data.read(size)


# --- Samples of mov_text: the text's length, the text, and boxes; the one for styles counts letters of the text ---

_STYLE = 12
"""Bytes of a style; the first four are its begin and end."""
_LONGEST_TEXT = 0xFFFF


def _joined(samples: Sequence[bytes]) -> bytes:
    """The texts of several samples, one below the other, with their styles; duplicates come once.

    Other boxes, which are for karaoke, are left out. A single sample stays unchanged.
    """
    samples = list(dict.fromkeys(samples))
    if len(samples) == 1:
        return samples[0]
    text, styles = b"", b""
    for sample in samples:
        size = int.from_bytes(sample[:2], "big")
        gap, words = b"\n" if text else b"", sample[2 : 2 + size]
        if len(text + gap + words) > _LONGEST_TEXT:
            break
        text += gap
        before = len(text.decode("utf-8", "replace"))
        for begin, end, style in _styles(sample[2 + size :]):
            styles += struct.pack(">HH", before + begin, before + end) + style
        text += words
    box = struct.pack(">I4sH", 10 + len(styles), b"styl", len(styles) // _STYLE) + styles if styles else b""
    return len(text).to_bytes(2, "big") + text + box


def _styles(boxes: bytes) -> Iterator[tuple[int, int, bytes]]:
    """First and last letter of each style, and its data."""
    while len(boxes) > 10:  # noqa: PLR2004 - the header of a box of styles
        size, name, count = struct.unpack_from(">I4sH", boxes)
        if name == b"styl":
            for place in range(10, min(len(boxes), 10 + _STYLE * count, size) - _STYLE + 1, _STYLE):
                begin, end = struct.unpack_from(">HH", boxes, place)
                yield begin, end, boxes[place + 4 : place + _STYLE]
        boxes = boxes[max(8, size) :]
