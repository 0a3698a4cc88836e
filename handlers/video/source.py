"""The facts about a video that are needed before any work: its picture, its clock, and its real end."""

import re
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import chain, islice, pairwise
from math import atan2, degrees, hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import av
import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream

from ...events.counted import counted
from ..media.damage import are_missing, gif_break, lacking_bytes
from .estimate import TrackInfo, VideoInfo
from .light import HDR, Light, light_of, with_dolby
from .mov_tables import keyframe_leads
from .opening import (
    UnusableInputError,
    as_fraction,
    decoded,
    is_input_fault,
    open_input,
    packets_of,
    picture_stream,
    seek,
    tolerant,
)

if TYPE_CHECKING:
    from av.packet import Packet

_KEEP_TIMES = ("mov", "matroska")
"""Formats that store when a picture is shown, not only when it is decoded."""
_BROADCAST = ("mpegts", "mpeg")
"""Formats whose recordings may begin anywhere."""
_HIGHEST_RATE = 1000
_QUARTER = 90
_SEARCHED_SIDE = 64
"""Side of the small picture that is searched for transparency: every gif could have some, few do."""
_SOLID = 250


class Crop(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the stored picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int
    of_width: int
    """Width of the whole picture."""
    of_height: int


class VideoSource(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the input's picture. Moments are integers in `time_base`."""

    path: Path
    width: int
    height: int
    rotation: int
    """Degrees counter-clockwise that set the picture upright: 0, 90, 180 or 270."""
    slant: int = 0
    """Degrees counter-clockwise, up to 45, by which it would have to be turned besides."""
    mirrored: bool
    """Whether top and bottom swap before that."""
    time_base: Fraction
    rate: Fraction
    """Average frames per second."""
    clock: Literal["pts", "dts"]
    start: int
    end: int
    """The end of the last frame."""
    last_shown: int
    """Duration of the last frame."""
    missing: float
    """Seconds after the end that the file states but does not hold."""
    jumps: bool
    """Whether the file ends with times that came before."""
    lacking: int
    """Bytes missing at the end, at least, by what the container states."""
    unshown: float = 0.0
    """Seconds before the first frame whose packets are damaged, so that no picture can be made of them."""
    keyless: float = 0.0
    """The same for a recording that begins between two keyframes, as broadcasts do: that is no damage."""
    untimed: int = 0
    """Frames before the first one that has a time."""
    keyframes: tuple[int, ...]
    """Empty if the container has no index."""
    pixel_aspect: Fraction
    colour: tuple[int, int, int]
    """Primaries, transfer and matrix, by FFmpeg's numbers; 2 is unknown."""
    full_range: bool
    light: Light = Light()
    """The facts that it states about light, if it has a high dynamic range or is of Dolby Vision."""
    spherical: bool = False
    """Whether it is marked as a picture all around whoever looks at it."""
    stereoscopic: bool = False
    """Whether it is marked as one picture for each eye, side by side for example."""
    sounds: tuple[TrackInfo, ...]
    """Its sound tracks."""
    beside: int
    """Approximate bytes of all that is neither picture nor sound."""
    codec: str
    """FFmpeg's name of the codec."""
    depth: int
    """Bits per colour value."""
    transparent: bool
    """Whether the first frame has transparent parts."""
    captions: bool
    """Whether the first frame carries closed captions, as television does."""
    interlaced: bool
    fine_colours: bool = False
    """Whether more than every fourth pixel has its own colour: 4:2:2, 4:4:4, RGB."""
    rgb: bool = False
    """Whether its pixels are stored as red, green and blue."""
    deinterlace: bool = False
    """Whether its frames must be deinterlaced when they are read."""
    squared: bool = False
    """Whether its pixels must be made square."""
    crop: Crop | None = None
    """The part of its frames that is wanted. `width` and `height` are those of this part."""
    finer: int = 1
    """How many units of `time_base` make one unit of the file's own clock."""
    frame_rate: Fraction | None = None
    """Frames per second of the result; None: each frame keeps its own time."""

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of its first picture, whatever part of it is wanted."""
        return (self.crop.of_width, self.crop.of_height) if self.crop else (self.width, self.height)

    @property
    def shown_rate(self) -> Fraction:
        """Frames per second of the result."""
        return self.frame_rate or self.rate

    @property
    def seconds(self) -> float:
        """Length of the picture in seconds."""
        return max(0.0, float((self.end - self.start) * self.time_base))

    def moment_at(self, seconds: float) -> int:
        """The moment `seconds` after the first frame."""
        return self.start + int(seconds / self.time_base)

    def seconds_at(self, moment: int) -> float:
        """Seconds from the first frame to `moment`."""
        return float((moment - self.start) * self.time_base)


def read_source(path: Path) -> VideoSource:
    """Read the first frames and the index, and find out what is needed to plan and to encode.

    The last result is cached, so that an attempt does not repeat its probe's reading.

    Raises:
        UnusableInputError: it can never be converted.
        OSError: it cannot be read.
    """
    now = path.stat()
    return _read_source(path, (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns))


@lru_cache(maxsize=1)
def _read_source(path: Path, _state: tuple[int, ...]) -> VideoSource:
    try:
        return _look_into(path, threads=0)
    except av.error.FFmpegError:  # with several threads, dav1d reports a damaged frame as a lack of memory
        return _look_into(path, threads=1)


def _look_into(path: Path, threads: int) -> VideoSource:
    source = _examine(path, threads, brief=True) or _examine(path, threads, brief=False)
    assert source is not None
    return source


def _examine(path: Path, threads: int, *, brief: bool) -> VideoSource | None:
    """None if a brief look does not show enough."""
    with open_input(path) as container:
        stream = picture_stream(container, path.name, threads)
        if not stream.time_base:
            raise UnusableInputError(f"{path.name}: the picture has no time base")
        # Before reading: some formats list only what was passed so far. MPEG lists all of it, keyframe or not.
        marks = [] if container.format.name == "mpeg" else _marks(stream)
        timed = any(name in container.format.name for name in _KEEP_TIMES)
        context, packet_moments = stream.codec_context, list[int]()
        packets = _collecting_moments(packets_of(container, stream), packet_moments)
        head = list(islice(packets, 1))
        packets = chain(head, packets)
        frames = _frames(stream, packets)
        sample = _brief_sample(frames, packets, reorders=context.has_b_frames) if brief and timed else _sample(frames)
        if sample is None:
            return None
        if not sample.moments:
            raise UnusableInputError(f"{path.name}: not one frame with a time can be decoded")
        first, start, rate = sample.first, sample.moments[0], _rate(stream)
        lost = (
            [moment for moment in packet_moments if packet_moments[0] <= moment < start]
            if sample.clock == "pts"
            else []
        )
        before = _seconds_before(lost, start, as_fraction(stream.time_base))
        begins_inside = container.format.name in _BROADCAST and not any(packet.is_keyframe for packet in head)
        ending = _end_of(container, stream, sample.moments, rate, sample.clock)
        marks = _matroska_marks(path, start) if "matroska" in container.format.name else marks
        leads = keyframe_leads(path, stream.id) if "mov" in container.format.name else []
        angle = _angle(first) if first else 0.0
        turn = round(angle / _QUARTER) * _QUARTER
        return VideoSource(
            path=path,
            width=first.width if first else context.width,  # the decoder may have passed a change of size
            height=first.height if first else context.height,
            rotation=turn % 360,
            slant=round(angle - turn),
            mirrored=first is not None and _is_mirrored(first),
            time_base=as_fraction(stream.time_base),
            rate=rate,
            clock=sample.clock,
            start=start,
            end=ending.end,
            last_shown=ending.last,
            missing=ending.missing,
            jumps=ending.jumps,
            lacking=lacking_bytes(path),
            unshown=0.0 if begins_inside else before,
            keyless=before if begins_inside else 0.0,
            untimed=sample.untimed,
            keyframes=_shown_marks(marks, leads, min([start, *lost]), range(start, ending.end), _hidden_lead(head)),
            pixel_aspect=as_fraction(stream.sample_aspect_ratio) or Fraction(1),
            colour=(context.color_primaries, context.color_trc, context.colorspace),
            full_range=first is not None and first.color_range == ColorRange.JPEG,
            light=_light(context, first),
            spherical=first is not None and first.side_data.get("SPHERICAL") is not None,
            stereoscopic=first is not None and _is_stereoscopic(first),
            sounds=tuple(_sound_info(track) for track in container.streams.audio),
            beside=_bytes_beside(container, float((ending.end - start) * as_fraction(stream.time_base))),
            codec=context.codec.canonical_name,
            depth=max((part.bits for part in first.format.components), default=8) if first else 8,
            transparent=_is_transparent(stream, first),
            captions=first is not None and first.side_data.get("A53_CC") is not None,
            interlaced=first is not None and first.interlaced_frame,
            fine_colours=first is not None and _has_fine_colours(first),
            rgb=first is not None and _is_rgb(first),
        )


def _light(context: VideoCodecContext, first: VideoFrame | None) -> Light:
    """The facts about light that the first frame and the container state."""
    light = light_of(first.side_data) if first and context.color_trc in HDR else Light()
    dolby = getattr(context, "coded_side_data", {}).get("dovi_conf")  # PyAV 18 does not tell
    return with_dolby(light, dolby) if dolby else light


def _is_stereoscopic(frame: VideoFrame) -> bool:
    stereo: Any = frame.side_data.get("STEREO3D")
    return stereo is not None and any(bytes(stereo)[:4])  # its first number is 0 if there is one picture


_STORED_BITRATE = ("BPS", "BPS-eng")
"""The tags in which mkvmerge states a track's bit rate."""
_SAMPLE_BITS = 16
_TEXT_BITRATE, _PICTURES_BITRATE = 1_000, 60_000
"""Assumed bits per second of subtitles whose size is not stated."""
_TEXT_CODECS = ("subrip", "ass", "ssa", "webvtt", "mov_text", "text")


def _sound_info(track: AudioStream) -> TrackInfo:
    """The facts about a sound track. Uncompressed or lossless sound without a stated bit rate counts as 16-bit."""
    context = track.codec_context
    if context is None:
        return TrackInfo()
    stated = _stated_bitrate(track) or context.bit_rate or 0
    lossless = context.codec.canonical_name.startswith(("pcm", "flac", "alac", "truehd", "mlp", "tta", "wavpack"))
    channels = max(1, context.channels)
    return TrackInfo(
        channels=channels, bitrate=stated or (lossless and channels * context.sample_rate * _SAMPLE_BITS) or 0
    )


def _stated_bitrate(track: Any) -> int:
    stated = next((track.metadata[name] for name in _STORED_BITRATE if name in track.metadata), "")
    return int(stated) if stated.isascii() and stated.isdigit() else 0


def _bytes_beside(container: InputContainer, seconds: float) -> int:
    """Approximate bytes of subtitles and attachments.

    `seconds`: the length of the picture. That of the file may be 49 days and more, where a subtitle has no end.
    """
    size = sum(len(attached.data) for attached in container.streams.attachments)
    for track in container.streams.subtitles:
        text = track.codec_context is not None and track.codec_context.codec.canonical_name in _TEXT_CODECS
        size += int(seconds * (_stated_bitrate(track) or (_TEXT_BITRATE if text else _PICTURES_BITRATE)) / 8)
    return size


def _frames(stream: VideoStream, packets: Iterator["av.Packet[VideoStream]"]) -> Iterator[VideoFrame]:
    for packet in chain(packets, [None]):
        try:
            yield from decoded(stream.decode, packet)
        except av.error.FFmpegError as error:
            if not is_input_fault(error):
                raise


def _has_fine_colours(frame: VideoFrame) -> bool:
    form = frame.format
    if _is_rgb(frame):
        return True
    coloured = sum(not part.is_alpha for part in form.components) > 1
    return coloured and form.chroma_width(_SIDE) * form.chroma_height(_SIDE) > _SIDE * _SIDE // 4


def _is_rgb(frame: VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.has_palette


_SIDE = 64


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The part of the display matrix that turns and mirrors the picture."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    across, down, _, back, up = struct.unpack_from("=5i", bytes(matrix))
    return across, down, back, up


def _angle(frame: VideoFrame) -> float:
    """Degrees by which a picture asks to be turned counter-clockwise. PyAV cuts them: of 89.999 it makes 89."""
    across, down, back, up = _display_matrix(frame)
    return -degrees(atan2(down * hypot(across, back), across * hypot(down, up)))


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix also mirrors the picture. The angle alone does not show that."""
    across, down, back, up = _display_matrix(frame)
    return across * up - down * back < 0


def has_second_picture(stream: VideoStream) -> bool:
    """Whether a VP8 or VP9 track keeps its transparency in a second picture, which is not decoded."""
    return any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())


def _is_transparent(stream: VideoStream, first: VideoFrame | None) -> bool:
    if has_second_picture(stream):
        return True
    if first is None or not any(part.is_alpha for part in first.format.components):
        return False
    small = first.reformat(_SEARCHED_SIDE, _SEARCHED_SIDE, format="rgba", interpolation=Interpolation.AREA).planes[0]
    rows, length = bytes(small), small.line_size
    return any(min(rows[row * length :][3 : 4 * _SEARCHED_SIDE : 4]) < _SOLID for row in range(_SEARCHED_SIDE))


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _HIGHEST_RATE:
            return as_fraction(rate)
    return Fraction(25)


def _marks(stream: VideoStream) -> list[int]:
    """Keyframes by the file's own index."""
    return [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]


def _matroska_marks(path: Path, start: int) -> list[int]:
    """Keyframes of a Matroska: only a seek reads its index, so the file is opened again."""
    with open_input(path) as container:
        stream = picture_stream(container, path.name)
        return _marks(stream) if seek(container, stream, start) else []


def _shown_marks(marks: list[int], leads: list[int], begin: int, film: range, ahead: int | None) -> tuple[int, ...]:
    """The moments of the keyframes that are shown.

    Args:
        marks: their moments in the file's index, which may be decoding times.
        leads: how far decoding runs ahead at each mark, up to a constant. If some are missing, all count as equal.
        begin: the moment of the first picture, shown or not.
        film: from the first frame to the end.
        ahead: how far decoding runs ahead at the first mark. None: the first mark is the first picture.
    """
    if not marks:
        return ()
    if ahead is None:
        ahead = max(0, begin - marks[0])
    if len(leads) != len(marks):
        leads = [0] * len(marks)
    shown = (mark + ahead + lead - leads[0] for mark, lead in zip(marks, leads, strict=True))
    return tuple(moment for moment in shown if moment in film)


def _hidden_lead(head: "Sequence[Packet[VideoStream]]") -> int | None:
    """How far decoding runs ahead, if an edit list hides the first picture; None if it hides nothing there."""
    for packet in head:
        if packet.is_discard and packet.pts is not None and packet.dts is not None:
            return packet.pts - packet.dts
    return None


# --- The beginning: the first frame, and which of a frame's two times rises ---

_SAMPLED = 60
"""Frames. By then, frames that are stored out of order have begun."""


def _collecting_moments(
    packets: "Iterator[Packet[VideoStream]]", moments: list[int]
) -> "Iterator[Packet[VideoStream]]":
    """Yield the packets, and note the moments of those that are shown."""
    for packet in packets:
        if packet.pts is not None and not packet.is_discard:
            moments.append(packet.pts)
        yield packet


_LONGEST_GAP = 10
"""Multiple of the usual gap. Longer gaps count as this long: a damaged time may be of another day."""


def _seconds_before(lost: Sequence[int], start: int, unit: Fraction) -> float:
    """Seconds from the first lost packet to the first frame; 0 if at most `_SLACK` or three frames.

    The packets show how long a frame usually lasts: a film that states no rate has the highest one.
    """
    gaps = sorted(after - before for before, after in pairwise(sorted({*lost, start})))
    if not gaps:
        return 0.0
    usual = gaps[len(gaps) // 2]
    seconds = float(sum(min(gap, _LONGEST_GAP * usual) for gap in gaps) * unit)
    return seconds if seconds > max(_SLACK, float(3 * usual * unit)) else 0.0


class _Sample(NamedTuple):
    """The facts that the beginning of the video shows."""

    first: VideoFrame | None
    clock: Literal["pts", "dts"]
    moments: list[int]
    """Moments; the first one is that of the first frame."""
    untimed: int = 0
    """Frames before the first one that has a time."""


def _brief_sample(
    frames: Iterator[VideoFrame], packets: Iterator["Packet[VideoStream]"], *, reorders: bool
) -> _Sample | None:
    """Decode one frame, and read the times of packets. None if these do not prove that frames come out in order.

    `frames` decodes `packets` as far as needed. `reorders`: frames are not shown in the order in which they are stored.
    """
    first = next(frames, None)
    if first is None or first.pts is None:
        return None
    moments = [packet.pts for packet in islice(packets, _SAMPLED) if not packet.is_discard]
    timed = [moment for moment in moments if moment is not None]
    # If frames are reordered and the times rise all the same, they are not display times.
    if len(set(timed)) < len(moments) or (reorders and _runs_forward(timed)):
        return None
    return _Sample(first, "pts", [first.pts, *timed])


def _sample(frames: Iterator[VideoFrame]) -> _Sample:
    """Decode as many frames as needed to see which of their two times rises."""
    first = next(frames, None)
    stamps = [(frame.pts, frame.dts) for frame in chain([first] if first else [], islice(frames, _SAMPLED - 1))]
    clock: Literal["pts", "dts"] = "pts" if _runs_forward([pts for pts, _ in stamps]) else "dts"
    timed = [moment for moment in (pts if clock == "pts" else dts for pts, dts in stamps) if moment is not None]
    untimed = next((number for number, stamp in enumerate(stamps) if stamp != (None, None)), 0)
    return _Sample(first, clock, timed, untimed)


def _runs_forward(moments: Sequence[int | None]) -> bool:
    """Whether all moments are known and rise. An AVI with B-frames gives display times that jump back."""
    timed = [moment for moment in moments if moment is not None]
    return len(timed) == len(moments) > 0 and all(before < after for before, after in pairwise(timed))


# --- The end: headers are wrong about it, and a file may have been cut ---

_BACK = 2.0
"""Seconds before the stated end at which packets are read; doubled until there are some. In a transport stream a seek
lands between frames, so the last frame in time may lie before it."""
_SLACK = 0.25
"""Seconds; also three frames. Headers are no more exact than that."""
_LATEST = 2**62
"""The latest moment that FFmpeg can seek to."""
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class _End(NamedTuple):
    """The end of the picture, on its own clock."""

    end: int
    """The end of the last frame."""
    last: int
    """Duration of the last frame."""
    missing: float
    """Seconds after it that the file states but does not hold: it was cut."""
    jumps: bool = False
    """Whether the last packets of the file have earlier times."""


class _Stated(NamedTuple):
    """The ends that the headers state, in seconds on the file's clock."""

    picture: float | None
    whole: float | None
    """The end of the longest track."""


class _Tail(NamedTuple):
    """The facts that the packets near the end show."""

    moment: int
    """The moment of the last frame in time."""
    lasting: int
    """Duration of the last packet in the file; 0: unknown. If frames are stored out of order, the durations of the
    other packets are distances between decoding times."""
    until: float
    """Where the last packet of any track ends, in seconds."""


def _end_of(
    container: InputContainer, stream: VideoStream, moments: Sequence[int], rate: Fraction, clock: Literal["pts", "dts"]
) -> _End:
    """Read the last packets, without decoding them. `moments`: those of the first frames."""
    unit = as_fraction(stream.time_base)
    usual = max(1, round(1 / (rate * unit)))
    stated = _stated(container, stream)
    limit = stated.picture or stated.whole
    promised = None if limit is None else min(int(limit / unit), _LATEST)
    for target in _targets(moments[0], promised, int(_BACK / unit)):
        tail = _read(container, stream, clock) if seek(container, stream, target) else None
        if tail is not None:
            break
    else:
        return _End(max(*moments, promised or 0), usual, 0.0)
    last, lasting = max(*moments, tail.moment), tail.lasting or usual
    end = last + lasting
    missing = stated.picture - float(end * unit) if stated.picture else (stated.whole or 0.0) - tail.until
    missing = missing if missing > max(_SLACK, 3 / float(rate)) else 0.0
    if missing and promised and container.format.name in _BROADCAST:
        # The missing seconds are FFmpeg's measurement, not the file's statement: the times of these packets begin anew.
        return _End(promised, usual, 0.0, jumps=True)
    if clock == "dts":  # frames come out later, by what the decoder holds back
        return _End(max(last + usual, 0 if missing else promised or 0), usual, missing)
    return _End(end, lasting, missing)


def _targets(first: int, stated: int | None, back: int) -> Iterator[int]:
    """Yield the moments to start reading at, each earlier than the last; finally the first frame."""
    while stated is not None and stated - back > first:
        yield stated - back
        back *= 2
    yield first


def _read(container: InputContainer, stream: VideoStream, clock: Literal["pts", "dts"]) -> _Tail | None:
    """Read all packets that follow. None if none of them belongs to a shown picture."""
    last: int | None = None
    lasting, until = 0, 0.0
    for packet in tolerant(container.demux()):
        moment = packet.dts if clock == "dts" or packet.pts is None else packet.pts
        if not packet.size or moment is None or packet.is_discard:
            continue
        until = max(until, float((moment + (packet.duration or 0)) * as_fraction(packet.time_base)))
        if packet.stream == stream:
            last, lasting = moment if last is None else max(last, moment), packet.duration or 0
    return None if last is None else _Tail(last, lasting, until)


def _stated(container: InputContainer, stream: VideoStream) -> _Stated:
    begin = float((stream.start_time or 0) * as_fraction(stream.time_base))
    ends = []
    if stream.duration:
        ends.append(begin + float(stream.duration * as_fraction(stream.time_base)))
    # For an avi FFmpeg cuts the length to what is there, but not this count. For an mp4 it includes hidden pictures.
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        ends.append(begin + float(stream.frames / as_fraction(stream.average_rate)))
    whole = ((container.start_time or 0) + container.duration) / av.time_base if container.duration else None
    if whole and (found := _CLOCK.match(stream.metadata.get("DURATION", ""))):  # in Matroska; it may be an older file's
        ends.append(min(whole, 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])))
    return _Stated(max(ends, default=None), whole)


# --- Facts about a source for results and estimates ---

_OUR_NAMES = {"hevc": "h265"}


def source_fields(source: VideoSource) -> dict[str, Any]:
    """The result's fields about the source: displayed size (in stored pixels, upright), length, codec."""
    lies = source.rotation in (90, 270)
    return {
        "source_width": source.height if lies else source.width,
        "source_height": source.width if lies else source.height,
        "source_duration": round(source.seconds, 3),
        "source_codec": _OUR_NAMES.get(source.codec, source.codec),
    }


def damage_notes(source: VideoSource) -> list[str]:
    """Notes if the picture begins later than the film, or ends before its stated end."""
    if not source.unshown:
        return _end_notes(source)
    return [f"the source is damaged: no picture can be made of its first {source.unshown:.1f} s", *_end_notes(source)]


def colour_notes(source: VideoSource) -> list[str]:
    """A note if the colours of its pictures are wrong."""
    return ["its colours are wrong: they need the metadata of Dolby Vision"] if source.light.dolby_alone else []


def slant_notes(source: VideoSource) -> list[str]:
    """A note if its pictures stay slanting."""
    if not source.slant:
        return []
    way = "counter-clockwise" if source.slant > 0 else "clockwise"
    return [f"the film asks to be turned by {abs(source.slant)}° more {way}, which is not done: only quarter turns are"]


def still_notes(source: VideoSource) -> list[str]:
    """Notes on what is wrong in pictures of its frames."""
    transparency = ["transparency dropped"] if source.transparent else []
    return [*slant_notes(source), *colour_notes(source), *transparency, *damage_notes(source)]


def begin_notes(source: VideoSource) -> list[str]:
    """Notes if the recording began between two keyframes, so that no player could show more of it, or without times."""
    notes = []
    if source.keyless:
        notes.append(f"no picture can be made of the first {source.keyless:.1f} s, which lack their keyframe")
    if source.untimed:
        notes.append(f"{counted(source.untimed, 'picture')} left out: they come before the first that has a time")
    return notes


def _end_notes(source: VideoSource) -> list[str]:
    if source.missing:
        return [f"the source was cut: it ends after {source.seconds:.1f} s of {source.seconds + source.missing:.1f} s"]
    if source.jumps:
        return ["the source ends with times that occurred before, as in files that were joined or are damaged"]
    if source.lacking:
        return [f"the source was cut: {are_missing(source.lacking)} at the end of its file"]
    if source.codec == "gif" and (place := gif_break(source.path)) is not None:
        return [f"the source is damaged: from byte {place:,} on it is invalid"]
    return []


def video_info(path: Path) -> VideoInfo:
    """The facts about a file that the estimates need. Raises UnusableInputError."""
    return info_of(read_source(path))


def info_of(source: VideoSource) -> VideoInfo:
    """The facts about a source that the estimates need."""
    frames = max(1.0, source.seconds * float(source.rate or Fraction(25)))
    return VideoInfo(
        width=source.width,
        height=source.height,
        duration=source.seconds,
        rate=float(source.rate),
        gop=frames / len(source.keyframes) if source.keyframes else min(frames, 250.0),
        depth=source.depth,
        high_range=source.colour[1] in HDR,
        sounds=source.sounds,
        beside=source.beside,
        indexed=bool(source.keyframes),
    )
