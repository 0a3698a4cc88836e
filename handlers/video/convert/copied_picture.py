"""The source's picture, copied: its packets go into another container, and nothing is encoded."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from av.container import OutputContainer
from av.stream import Stream

from ....events.counted import counted, plural
from ...contract import Unusable
from ..frames import GIVE_TIMES, LONGEST_JUMP
from ..opening import open_input, packets_of, picture_stream, seek
from ..source import VideoSource, has_second_picture, read_source
from .options import CONTAINERS, Target
from .reshaping import WantedPart

if TYPE_CHECKING:
    from pathlib import Path

    from av.packet import Packet
    from av.video.stream import VideoStream

_DEEPEST = 16
"""The most pictures that any codec stores before one that is shown earlier."""
_OUR_NAMES = {"hevc": "h265"}


def refuse_uncopyable(source: VideoSource, target: Target) -> None:
    """Raise Unusable, with a remedy, if the container cannot hold the picture unchanged."""
    form, name = target.container.format, source.path.name
    if source.codec not in target.container.copied_video:
        codec = _OUR_NAMES.get(source.codec, source.codec)
        takers = [suffix for suffix, other in CONTAINERS.items() if source.codec in other.copied_video]
        elsewhere = f"write {' or '.join(takers)}, or " if takers else ""
        raise Unusable(
            f"{name}: a picture of {codec} cannot be copied into {form}: {elsewhere}leave video_codec at auto"
        )
    if source.clock == "dts":
        raise Unusable(
            f"{name} does not say when its pictures are shown, only in which order they are decoded, so they cannot be "
            "copied: leave video_codec at auto"
        )


class _Timed(NamedTuple):
    packet: "Packet[Any]"
    shown: int
    decoded: int


class CopiedPicture:
    """The packets of the source's picture, with their own times.

    It begins at the last keyframe that is shown by the start of the window, since a decoder can begin nowhere else.
    Pictures that the source's edit list hides at the beginning stay hidden if the result has an edit list, too.
    """

    def __init__(self, source: VideoSource, target: Target, window: WantedPart) -> None:
        self._source = source
        self._window = window
        self._target = target
        self.count = 0
        """Pictures that were written."""
        self.notes: list[str] = []
        self._first, hidden = self._keyframe()
        """Moment of the first copied picture."""
        self._stays_hidden = hidden and not window.cut_before and target.container.format in ("mp4", "mov")
        early = float((window.start - self._first) * source.time_base)
        if (window.cut_before or (hidden and not self._stays_hidden)) and early > 0:
            place = "start" if window.cut_before else "the picture that the source shows first"
            self.notes.append(f"begins {early:.3f} s before {place}: a copied picture can only begin at a keyframe")

    @property
    def begin(self) -> Fraction:
        """When the first picture is shown, in seconds on the source's clock."""
        return (self._source.start if self._stays_hidden else self._first) * self._source.time_base

    def _keyframe(self) -> tuple[int, bool]:
        """The first keyframe's moment, or that of the last one before the window; and whether an edit list hides it."""
        first = self._first_keyframe(by_seek=True) if self._window.cut_before else None
        self._by_seek = first is not None and first[0] <= self._window.start
        if not self._by_seek:
            first = self._first_keyframe(by_seek=False)
        if first is None:
            raise Unusable(f"{self._source.path.name} has no keyframe with a time: nothing can be copied")
        return first

    def _first_keyframe(self, *, by_seek: bool) -> tuple[int, bool] | None:
        first: tuple[int, bool] | None = None
        with open_input(self._source.path) as container:
            stream = picture_stream(container, self._source.path.name)
            if by_seek:
                seek(container, stream, self._window.start)
            for packet in packets_of(container, stream, from_key=True):
                if packet.pts is None or not packet.is_keyframe:
                    continue
                if first is not None and (not self._window.cut_before or packet.pts > self._window.start):
                    break
                first = packet.pts, packet.is_discard
        return first

    def add(self, result: OutputContainer, opened: ExitStack) -> Stream:
        """Add the track to the result."""
        container = opened.enter_context(open_input(self._source.path))
        stream: Any = picture_stream(container, self._source.path.name)
        track: Any = result.add_stream_from_template(stream, opaque=True)
        track.time_base = self._source.time_base
        if has_second_picture(stream) and self._target.container.format in ("matroska", "webm"):
            track.metadata["alpha_mode"] = "1"  # players ignore that picture without it
        if tag := self._tag(stream, container.format.name):
            track.codec_context.codec_tag = tag
        return track  # type: ignore[no-any-return]  # its own type of stream

    def _tag(self, stream: Any, form: str) -> str:
        """The tag by which a mov names the codec, if it says more than the codec itself; otherwise empty."""
        tag = stream.codec_context.codec_tag if "mov" in form else ""
        match self._source.codec:
            case "prores":
                return str(tag)
            case "hevc" if self._target.container.format in ("mp4", "mov"):
                return str(tag) if tag == "hev1" else "hvc1"  # Apple's players need the second
            case _:
                return ""

    def packets(self, track: Stream, begin: Fraction) -> "Iterator[tuple[float, Packet[Stream]]]":
        """Yield the packets with their decoding times, in seconds of the result."""
        unit = self._source.time_base
        origin = round(begin / unit)
        for packet, shown, decoded in self._timed():
            self.count += not (self._stays_hidden and shown < self._source.start)
            packet.stream = track
            packet.time_base = unit
            packet.pts, packet.dts = shown - origin, decoded - origin
            yield float(decoded * unit - begin), packet

    def _timed(self) -> Iterator[_Timed]:
        """Yield each packet with both times; decoding times rise and never exceed the display time."""
        last: int | None = None
        moved = 0
        for packet, shown, stored in self._known():
            if self._window.cut_behind and stored >= self._window.end:
                break
            decoded = stored if last is None else max(stored, last + 1)
            if (back := float((decoded - stored) * self._source.time_base)) > LONGEST_JUMP:
                raise Unusable(
                    f"{self._source.path.name}: the times of its pictures jump back by {back:.1f} s, so they cannot be "
                    f"copied: {GIVE_TIMES}"
                )
            moved += decoded != stored
            last = decoded
            yield _Timed(packet, max(shown, decoded), decoded)
        if moved:
            self.notes.append(f"times of {counted(moved, 'picture')} moved: they did not rise")

    def _known(self) -> Iterator[_Timed]:
        """Yield packets from the first keyframe on. Some files do not state when their first pictures are decoded."""
        usual = max(1, round(1 / (self._source.rate * self._source.time_base)))
        waiting: list[Packet[Any]] = []
        untimed = early = 0
        with open_input(self._source.path) as container:
            stream = picture_stream(container, self._source.path.name)
            if self._by_seek:
                seek(container, stream, self._window.start)
            begun = False
            for packet in self._without_hidden_end(packets_of(container, stream)):
                begun = begun or (packet.is_keyframe and packet.pts == self._first)
                if not begun:
                    early += not self._window.cut_before
                elif self._window.cut_before and packet.pts is not None and packet.pts < self._first:
                    continue  # it needs a picture that is left out
                elif packet.pts is None:
                    untimed += 1
                elif packet.dts is None:
                    waiting.append(packet)
                else:
                    yield from self._before(waiting, packet.dts, usual)
                    waiting = []
                    yield _Timed(packet, packet.pts, packet.dts)
            if waiting:
                yield from self._before(waiting, (waiting[-1].pts or 0) + usual, usual)
        if early:
            them = plural(early, "it", "them")
            self.notes.append(
                f"{counted(early, 'picture')} before the first keyframe dropped: nothing can be shown of {them}"
            )
        if untimed:
            self.notes.append(f"{counted(untimed, 'picture')} without a time dropped")

    def _without_hidden_end(self, packets: "Iterator[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
        """Leave out what an edit list hides after the last picture. Raises Unusable if it hides something between.

        Hidden packets that are stored before the last pictures stay: those need them for decoding.
        """
        hidden: list[Packet[VideoStream]] = []
        ends: int | None = None
        for packet in packets:
            if packet.is_discard and packet.pts is not None and packet.pts > self._source.start:
                ends = packet.pts if ends is None else min(ends, packet.pts)
                hidden += [packet] if len(hidden) <= _DEEPEST else []
                continue
            if ends is not None and (len(hidden) > _DEEPEST or (packet.pts is not None and packet.pts >= ends)):
                raise Unusable(
                    f"{self._source.path.name}: its edit list hides pictures between others, so they cannot be "
                    "copied: leave video_codec at auto"
                )
            yield from hidden
            yield packet
            hidden = []

    @staticmethod
    def _before(waiting: "list[Packet[Any]]", moment: int, usual: int) -> Iterator[_Timed]:
        """The packets before one that is decoded at `moment`, with their times."""
        for back, packet in zip(range(len(waiting), 0, -1), waiting, strict=True):
            assert packet.pts is not None
            yield _Timed(packet, packet.pts, min(packet.pts, moment - back * usual))


def lost_picture_notes(source: VideoSource, result: "Path", container: str) -> list[str]:
    """Read the result, and list the facts about the picture that it no longer states."""
    made = read_source(result)
    pairs = {
        "rotation": (source.rotation, made.rotation),
        "mirroring": (source.mirrored, made.mirrored),
        "shape of pixels": (source.pixel_aspect, made.pixel_aspect),
        "transparency": (source.transparent, made.transparent),
        "colours": (source.colour, made.colour),
        "mark as spherical": (source.spherical, made.spherical),
        "mark as stereoscopic": (source.stereoscopic, made.stereoscopic),
    }
    lost = [what for what, (before, after) in pairs.items() if before != after]
    notes = [f"{', '.join(lost)} of the picture dropped: {container} has no place for it"] if lost else []
    if source.light.dolby and not made.light.dolby:
        notes.append("no longer marked as Dolby Vision: mp4 and mkv keep the mark")
    return notes
