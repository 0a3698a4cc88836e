"""Joins picture, sound and all else into one file, without encoding again. The same parts give the same bytes."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from ....events.counted import plural
from ...contract import Unusable
from ...media.chapters import early_notes, write_chapters
from ..frames import GIVE_TIMES
from ..opening import as_fraction, open_as_template, open_input, open_result
from ..source import VideoSource
from .attachments import AttachmentWriter
from .checkpoint import AudioTrack, Segment
from .extras import Extras
from .gaps import gap_notes
from .metadata import TrackMetadata, write_metadata
from .options import Container, Target
from .segments import packet_times
from .subtitles import SubtitleWriter

if TYPE_CHECKING:
    from av.packet import Packet

_MOST_TICKS = 2**31 - 1
"""The most ticks that an mp4 or mov can hold from one packet to the next."""

Timed: TypeAlias = "tuple[float, Packet[Stream]]"
"""A packet with its decoding time in seconds."""


class Picture(Protocol):
    """The source of the picture's packets."""

    @property
    def begin(self) -> Fraction:
        """When the first picture is shown, in seconds on the source's clock."""

    def add(self, result: OutputContainer, opened: ExitStack) -> Stream:
        """Add the track to the result. Files opened for it may stay open until the result is complete."""

    def packets(self, track: Stream, begin: Fraction) -> Iterator[Timed]:
        """Yield the packets in decoding order, with their times in a result that begins at `begin`."""


class Parts(NamedTuple):
    """The parts that a result is made of."""

    folder: Path
    picture: Picture
    audio: Sequence[AudioTrack]
    sound_metadata: Sequence[TrackMetadata]
    """Of each track in `audio`."""
    extras: Extras
    end: Fraction | None
    """Where the result ends, in seconds on the source's clock; None: where its tracks end."""
    whole: bool
    """Whether nothing is cut off at its beginning."""


def join(
    source: VideoSource, container: Container, parts: Parts, output: Path, tick: Callable[[float], None]
) -> tuple[str, ...]:
    """Write `output`. Returns notes about subtitles and chapters that were left out.

    `tick` is called with the position in the result, in seconds; it may raise.
    """
    sounds_begin = [Fraction(track.start).limit_denominator(1_000_000) for track in parts.audio]
    begin = min([parts.picture.begin, *sounds_begin])
    with ExitStack() as opened:
        result = opened.enter_context(av.open(str(output), "w", format=container.format, options=container.options))
        picture: Any = parts.picture.add(result, opened)
        picture.codec_context.framerate = source.shown_rate  # a timecode counts by it
        write_metadata(picture, parts.extras.picture, container.format)
        early = write_chapters(result, parts.extras.chapters, begin, parts.end)
        result.metadata.update(parts.extras.tags)
        tracks = [_without_long_pauses(parts.picture.packets(picture, begin), picture, source, container)]
        for made, starts, metadata in zip(parts.audio, sounds_begin, parts.sound_metadata, strict=True):
            sound = opened.enter_context(av.open(str(parts.folder / made.name)))
            model = opened.enter_context(open_as_template(parts.folder / made.name))
            track = result.add_stream_from_template(model.streams.audio[0], opaque=True)
            write_metadata(track, metadata, container.format)
            tracks.append(_sound(sound, track, starts - begin, hides=container.format in ("mp4", "mov")))
        writer = SubtitleWriter(source.path, parts.extras.subtitles, container, result, parts.folder)
        tracks.append(writer.packets(begin, parts.end, source.end * source.time_base, lambda: tick(0.0)))
        attachments = AttachmentWriter(source.path, parts.extras.attachments, container.format, result)
        attachments.write(result)
        for moment, packet in merge(*tracks, key=itemgetter(0)):
            tick(moment)
            result.mux(packet)
    notes = writer.notes
    if parts.whole:
        lines = plural(writer.early, "line of subtitles", "lines of subtitles")
        notes += early_notes(writer.early, lines, "film")
        notes += early_notes(early, plural(early, "chapter"), "film")
    return notes


def _without_long_pauses(
    packets: Iterator[Timed], track: Stream, source: VideoSource, container: Container
) -> Iterator[Timed]:
    """The same. Raises Unusable at a pause too long for mp4 and mov: FFmpeg fails there, or writes other times."""
    last: float | None = None
    for moment, packet in packets:
        shown = float((packet.duration or 0) * as_fraction(packet.time_base))
        pause = max(shown, 0.0 if last is None else moment - last)
        if container.format in ("mp4", "mov") and pause > _MOST_TICKS * as_fraction(track.time_base):
            raise Unusable(
                f"{source.path.name}: the times of its pictures jump ahead by {pause:,.0f} s, and a {container.format} "
                f"holds no such pause: {GIVE_TIMES}, or write a mkv"
            )
        last = moment
        yield moment, packet


def duration_of(path: Path) -> float:
    """Seconds, as a player would show them."""
    with open_result(path) as container:
        return (container.duration or 0) / av.time_base


def _packets(container: InputContainer) -> Iterator["tuple[int, int, Packet[Stream]]"]:
    """Display time, decoding time and packet of a part, which has one track."""
    for packet in container.demux(container.streams[0]):
        if packet.pts is not None and packet.dts is not None:
            yield packet.pts, packet.dts, packet


class EncodedPicture:
    """The picture made of segments, one after the other.

    Args:
        source: the encoded source.
        target: how it was encoded.
        folder: the segments' folder.
        segments: all of them, in order.
        aspect: width by height of a pixel.
        end: where the wanted part of the source ends; None: where the source does.
        refused: the moments of packets of the source that cannot be decoded.
    """

    def __init__(
        self,
        source: VideoSource,
        target: Target,
        folder: Path,
        segments: Sequence[Segment],
        aspect: Fraction,
        end: int | None,
        refused: Sequence[int],
    ) -> None:
        self.notes: tuple[str, ...] = ()
        """Where the source lacks frames; set once all packets were given."""
        self._refused = refused
        self._source = source
        self._target = target
        self._paths = [folder / segment.name for segment in segments]
        self._segments = segments
        self._aspect = aspect
        self._last_shown = _last_duration(source, segments[-1].last, end)
        self.begin = segments[0].first * source.time_base

    def add(self, result: OutputContainer, opened: ExitStack) -> Stream:
        """Add a track like that of the first segment."""
        template = opened.enter_context(open_input(self._paths[0]))
        track = result.add_stream_from_template(template.streams.video[0], opaque=True)
        track.time_base = self._source.time_base
        if self._target.video_codec == "h265" and self._target.container.format in ("mp4", "mov"):
            # Apple's players need it, and it is not copied from the segments
            track.codec_context.codec_tag = "hvc1"
        track.codec_context.sample_aspect_ratio = self._aspect  # the encoder of AV1 loses it
        return track

    def packets(self, track: Stream, begin: Fraction) -> Iterator[Timed]:
        """Yield the packets of all segments, with times for the whole track."""
        unit = self._source.time_base
        moments = self._moments()
        if self._source.frame_rate is None and self._source.codec != "gif":  # a gif has intended pauses
            self.notes = gap_notes(moments, unit, self._refused)
        times = packet_times(moments, self._last_shown)
        origin, seconds = round(begin / unit), _seconds(unit, begin)
        for path in self._paths:
            with open_result(path) as container:
                for _, _, packet in _packets(container):
                    presented, decoded, packet.duration = next(times)
                    packet.stream = track
                    packet.time_base = unit
                    packet.pts, packet.dts = presented - origin, decoded - origin
                    yield seconds(decoded), packet

    def _moments(self) -> list[Sequence[int]]:
        """For each segment, the display times of its pictures in decoding order, on the source's clock."""
        moments: list[Sequence[int]] = []
        for segment, path in zip(self._segments, self._paths, strict=True):
            with open_result(path) as container:
                ratio = _unit(container) / self._source.time_base
                times = [round(presented * ratio) for presented, _, _ in _packets(container)]
            first = segment.first - min(times)
            moments.append(array("q", [first + time for time in times]))  # eight bytes each: there may be millions
        return moments


def _last_duration(source: VideoSource, last: int, end: int | None) -> int:
    """How long the last picture is shown. If it stands still at the end of the wanted part, it is shown up to there."""
    usual = round(1 / (source.shown_rate * source.time_base))
    if source.frame_rate is not None:
        return usual
    if end is None:
        return source.last_shown
    return usual if end - last <= 2 * usual else end - last


def _sound(container: InputContainer, track: Stream, start: Fraction, *, hides: bool) -> Iterator[Timed]:
    """`hides`: whether the result can hide packets. If not, one hidden packet is kept, because decoders need it."""
    unit = _unit(container)
    offset, seconds = round(start / unit), _seconds(unit, Fraction(0))
    for presented, decoded, packet in _packets(container):
        if not hides and packet.is_discard and presented + 2 * (packet.duration or 0) <= 0:
            continue
        packet.stream = track
        packet.pts, packet.dts = presented + offset, decoded + offset
        yield seconds(decoded + offset), packet


def _unit(container: InputContainer) -> Fraction:
    """The unit of a part's times, in seconds."""
    return as_fraction(container.streams[0].time_base)


def _seconds(unit: Fraction, begin: Fraction) -> Callable[[int], float]:
    """A function that converts moments in `unit` to seconds after `begin`.

    It does one division of integers, so that equal times stay equal.
    """
    up, back = unit.numerator * begin.denominator, begin.numerator * unit.denominator
    down = unit.denominator * begin.denominator
    return lambda moment: (moment * up - back) / down
