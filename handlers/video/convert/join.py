"""Join segments and sound into one file, without encoding anything again. The same parts give the same bytes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from heapq import merge
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.stream import Stream

from ..source import VideoSource
from .attachments import AttachmentWriter
from .checkpoint import AudioTrack, Segment
from .extras import Extras
from .metadata import TrackMetadata, write_chapters, write_metadata
from .options import Target
from .segments import decoding_times
from .subtitles import SubtitleWriter

if TYPE_CHECKING:
    from av.packet import Packet

Timed: TypeAlias = "tuple[float, Packet[Stream]]"
"""A packet with its decoding time in seconds."""


class Parts(NamedTuple):
    """The parts that a result is made of."""

    folder: Path
    segments: Sequence[Segment]
    audio: Sequence[AudioTrack]
    aspect: Fraction
    """Width by height of a pixel."""
    sound_metadata: Sequence[TrackMetadata]
    """Of each track of `audio`."""
    extras: Extras


def join(source: VideoSource, target: Target, parts: Parts, output: Path, tick: Callable[[float], None]) -> None:
    """Write `output`. `tick` is called with the position in the result, in seconds; it may raise."""
    sounds_begin = [Fraction(track.start).limit_denominator(1_000_000) for track in parts.audio]
    begin = min([parts.segments[0].first * source.time_base, *sounds_begin])
    with ExitStack() as opened:
        result = opened.enter_context(
            av.open(str(output), "w", format=target.container.format, options=target.container.options)
        )
        template = opened.enter_context(av.open(str(parts.folder / parts.segments[0].name)))
        picture = result.add_stream_from_template(template.streams.video[0], opaque=True)
        picture.time_base = source.time_base
        if target.video_codec == "h265" and target.container.format in ("mp4", "mov"):
            picture.codec_context.codec_tag = (
                "hvc1"  # what Apple's players ask for; it is not taken over from the segments
            )
        picture.codec_context.sample_aspect_ratio = parts.aspect  # the encoder of AV1 loses it
        picture.codec_context.framerate = source.rate  # a timecode is counted by it
        write_metadata(picture, parts.extras.picture, target.container.format)
        write_chapters(result, parts.extras.chapters, begin)
        result.metadata.update(parts.extras.tags)
        tracks = [_picture(parts, picture, source, begin)]
        for made, starts, metadata in zip(parts.audio, sounds_begin, parts.sound_metadata, strict=True):
            sound = opened.enter_context(av.open(str(parts.folder / made.name)))
            track = result.add_stream_from_template(sound.streams.audio[0], opaque=True)
            write_metadata(track, metadata, target.container.format)
            tracks.append(_sound(sound, track, starts - begin))
        writer = SubtitleWriter(source.path, parts.extras.subtitles, target.container, result, parts.folder)
        tracks.append(writer.packets(begin, lambda: tick(0.0)))
        attachments = AttachmentWriter(source.path, parts.extras.attachments, target.container.format, result)
        attachments.write(result)
        for moment, packet in merge(*tracks, key=itemgetter(0)):
            tick(moment)
            result.mux(packet)


def duration_of(path: Path) -> float:
    """Seconds, as a player would show it."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def _packets(container: InputContainer) -> Iterator["tuple[int, int, Packet[Stream]]"]:
    """Presentation time, decoding time and packet of a part; parts have one track."""
    for packet in container.demux(container.streams[0]):
        if packet.pts is not None and packet.dts is not None:
            yield packet.pts, packet.dts, packet


def _moments(parts: Parts, source: VideoSource) -> list[int]:
    """Presentation times of all pictures in the order they are decoded, on the source's clock."""
    moments: list[int] = []
    for segment in parts.segments:
        with av.open(str(parts.folder / segment.name)) as container:
            ratio = _unit(container) / source.time_base
            times = [round(presented * ratio) for presented, _, _ in _packets(container)]
        first = segment.first - min(times)
        moments += [first + time for time in times]
    return moments


def _picture(parts: Parts, track: Stream, source: VideoSource, begin: Fraction) -> Iterator[Timed]:
    """The packets of all segments, with times for the whole track."""
    moments = _moments(parts, source)
    times = zip(moments, decoding_times(moments), _durations(moments, source.last_shown), strict=True)
    origin, seconds = round(begin / source.time_base), _seconds(source.time_base, begin)
    for segment in parts.segments:
        with av.open(str(parts.folder / segment.name)) as container:
            for _, _, packet in _packets(container):
                presented, decoded, packet.duration = next(times)
                packet.stream = track
                packet.time_base = source.time_base
                packet.pts, packet.dts = presented - origin, decoded - origin
                yield seconds(decoded), packet


def _durations(presented: Sequence[int], last: int) -> list[int]:
    """How long each packet's picture is shown, where the last one in time is shown for `last`.

    The encoders' durations are of no use: an encoder cannot know how long its last frame is shown.

    The last packet in decoding order gets that, too: what an mp4 says of it is the only distance to no other packet.
    """
    ordered = sorted(presented)
    shown = {moment: after - moment for moment, after in pairwise(ordered)}
    return [*(shown.get(moment, last) for moment in presented[:-1]), last]


def _sound(container: InputContainer, track: Stream, start: Fraction) -> Iterator[Timed]:
    unit = _unit(container)
    offset, seconds = round(start / unit), _seconds(unit, Fraction(0))
    for presented, decoded, packet in _packets(container):
        packet.stream = track
        packet.pts, packet.dts = presented + offset, decoded + offset
        yield seconds(decoded + offset), packet


def _unit(container: InputContainer) -> Fraction:
    """The unit of a part's times, in seconds."""
    unit = container.streams[0].time_base
    assert unit is not None
    return unit


def _seconds(unit: Fraction, begin: Fraction) -> Callable[[int], float]:
    """A function that converts moments in `unit` to seconds after `begin`.

    It makes one division of integers, so that equal times stay equal.
    """
    up, back = unit.numerator * begin.denominator, begin.numerator * unit.denominator
    down = unit.denominator * begin.denominator
    return lambda moment: (moment * up - back) / down
