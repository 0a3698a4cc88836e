"""The cuts of a video into segments, and the finished parts of a conversion. Times are in the source's unit."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from ...pieces import intact
from .quality import Tried
from .size import Sized

MAX_SEGMENTS = 240
"""A long video gets longer segments, not more."""


class SegmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The places where the video is cut. Fixed when the task first starts, so that a resume cannot cut elsewhere."""

    clock: Literal["pts", "dts"]
    """The one of a frame's two timestamps that rises in this source."""
    start: int
    end: int
    """The end that the source states. It may be wrong."""
    step: int
    """Wanted length of a segment."""
    cuts: tuple[int, ...]
    """First moment of the second, third, … segment."""
    after: int | None = None
    """Only frames later than this are wanted; None: all from the beginning of the source."""
    until: int | None = None
    """The last moment at which a frame may be shown; None: up to the end of the source, wherever that is."""

    def segment_of(self, moment: int) -> int:
        """The number of the segment that a frame belongs to; also past the stated end, in double steps."""
        number = bisect_right(self.cuts, moment)
        if number < len(self.cuts):
            return number
        last_cut = self.cuts[-1] if self.cuts else self.start
        return number + max(0, (moment - last_cut) // (2 * self.step))

    def edges(self, number: int) -> tuple[int, int]:
        """Begin and end of a segment; segments after the last cut share their place."""
        edges = [self.start, *self.cuts, self.end]
        number = min(number, self.count - 1)
        return edges[number], edges[number + 1]

    @property
    def count(self) -> int:
        """Number of expected segments."""
        return len(self.cuts) + 1

    def share(self, moment: int) -> float:
        """The share of the source that lies before `moment`, 0 to 1."""
        return min(1.0, max(0.0, (moment - self.start) / max(1, self.end - self.start)))


class Stretch(NamedTuple):
    """Adjacent segments that are read in one go."""

    number: int
    """Number of its first segment."""
    after: int | None
    """It begins after this moment; None: at the start of the source."""
    until: int | None
    """Its last moment; None: the end of the source, wherever that is."""


def stretches_of(
    plan: SegmentPlan,
    keyframes: Sequence[int],
    done: Sequence["Segment"] = (),
    *,
    apart: bool = True,
    share: range | None = None,
) -> list[Stretch]:
    """Group the unfinished segments into stretches, which begin at a keyframe or after a finished segment.

    Elsewhere a reader would have to decode from the keyframe before. Only the last segment may begin a stretch
    anywhere, so that no CPU waits for it at the end. All that follows the last cut belongs to it, even several
    segments.

    Without `apart`, adjacent segments stay together: a single reader need not open and seek for each. With `share`,
    only these segments count; they begin and end with a stretch of the whole film.
    """
    keys, finished = set(keyframes), {segment.number for segment in done}
    stretches: list[Stretch] = []
    for number in range(plan.count) if share is None else share:
        last = number == plan.count - 1
        after = plan.cuts[number - 1] - 1 if number else plan.after
        if last:
            after = max([segment.last for segment in done if segment.number >= number], default=after)
        elif number in finished:
            continue
        until = plan.until if last else plan.cuts[number] - 1
        follows = bool(number and stretches) and stretches[-1].until == after
        begins = plan.cuts[number - 1] in keys or (last and len(stretches) > 1) if number else False
        if follows and not (apart and begins):
            stretches[-1] = stretches[-1]._replace(until=until)
        else:
            stretches.append(Stretch(number, after, until))
    return stretches


def shares_of(plan: SegmentPlan, keyframes: Sequence[int], parts: int) -> list[range]:
    """Split the segments into `parts` adjacent groups so that the longest group is as short as possible.

    The last groups may be empty.
    """
    begins = [stretch.number for stretch in stretches_of(plan, keyframes)]
    ends = [*begins[1:], plan.count]
    lengths = [plan.edges(end - 1)[1] - plan.edges(begin)[0] for begin, end in zip(begins, ends, strict=True)]
    least, most = max(lengths), sum(lengths)
    while least < most:
        middle = (least + most) // 2
        if len(_within(lengths, middle)) <= parts:
            most = middle
        else:
            least = middle + 1
    shares, first = [], 0
    for count in _within(lengths, most):
        shares.append(range(begins[first], ends[first + count - 1]))
        first += count
    return [*shares, *[range(plan.count, plan.count)] * (parts - len(shares))]


def _within(lengths: Sequence[int], most: int) -> list[int]:
    """Lengths are grouped in order so that no sum exceeds `most`: how many are in each group."""
    counts, total = [0], 0
    for length in lengths:
        if counts[-1] and total + length > most:
            counts.append(0)
            total = 0
        counts[-1] += 1
        total += length
    return counts


def choose_cuts(start: int, end: int, step: int, keyframes: Sequence[int]) -> tuple[int, ...]:
    """Cut about every `step`, on a keyframe if one is near, without a short rest at the end.

    The last piece is halved: otherwise it may be encoded alone at the end while the other CPUs wait.
    """
    cuts: list[int] = []
    position = start
    while True:
        cut = position + step
        following = bisect_right(keyframes, cut - 1)
        if following < len(keyframes) and keyframes[following] <= position + 2 * step:
            cut = keyframes[following]
        if end - cut < step / 2:
            break
        cuts.append(cut)
        position = cut
    if cuts and end - position >= step:
        cuts.append(_half_way(position, end, keyframes))
    return tuple(cuts)


def _half_way(start: int, end: int, keyframes: Sequence[int]) -> int:
    """The middle, or a keyframe near it."""
    middle = (start + end) // 2
    following = bisect_right(keyframes, middle)
    near = min(keyframes[max(0, following - 1) : following + 1], key=lambda key: abs(key - middle), default=middle)
    return near if abs(near - middle) <= (end - start) // 8 else middle


def step_for(start: int, end: int, wanted: int) -> int:
    """The wanted segment length, or a longer one if that would give too many segments."""
    return max(1, wanted, -(-(end - start) // (MAX_SEGMENTS - 1)))


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A finished segment; written as an array, because there are many."""

    number: int
    first: int
    last: int
    frames: int
    size: int
    sha256: str
    late: int = 0
    """Frames left out before the first frame of the next segment, because their times jump back."""
    resized: int = 0
    """Frames that have another size in the source than its first picture."""

    @property
    def name(self) -> str:
        """File name in the work folder."""
        return segment_name(self.number)

    def intact(self, folder: Path) -> bool:
        """Whether the file still is the one that was finished."""
        return intact(folder / self.name, self.size, self.sha256)


class SoundLevel(msgspec.Struct, frozen=True, kw_only=True):
    """The loudness of a sound track before and after, for the result."""

    before: dict[str, float | None]
    after: dict[str, float | None]
    gain: float
    """Decibels."""
    notes: tuple[str, ...] = ()


class AudioTrack(msgspec.Struct, frozen=True, kw_only=True):
    """A finished track of sound."""

    stream: int
    """Number of the stream in the source."""
    name: str
    start: float
    """Seconds on the source's clock."""
    samples: int
    size: int
    sha256: str
    level: SoundLevel | None = None
    """Set if the track was brought to a loudness."""
    notes: tuple[str, ...] = ()
    """Notes on how it was kept in step with the picture, and its samples finite."""

    def intact(self, folder: Path) -> bool:
        """Whether the file still is the one that was finished."""
        return intact(folder / self.name, self.size, self.sha256)


class FinishedPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A newly finished part: one of these fields is set, with the packets refused on the way."""

    segment: Segment | None = None
    refused: tuple[int, ...] = ()
    """The moments of packets that the decoder refused meanwhile, if they were not known."""
    sound: AudioTrack | None = None
    silent: int | None = None
    """The number of a sound stream that turned out to be empty."""
    tried: Tried | None = None
    sampled: Sized | None = None
    passed: Sized | None = None
    """A pass over the whole film that missed the wanted size: its segments are worthless now."""


class SavedConversion(msgspec.Struct, frozen=True, kw_only=True):
    """The finished parts of a conversion."""

    fingerprint: str
    plan: SegmentPlan
    audio: tuple[AudioTrack, ...] = ()
    """In the order of the source."""
    silent: tuple[int, ...] = ()
    """Numbers of sound streams that turned out to be empty."""
    segments: tuple[Segment, ...] = ()
    refused: tuple[int, ...] = ()
    """The moments of the picture's packets that cannot be decoded."""
    tried: tuple[Tried, ...] = ()
    """Measurements of the search for the rate factor, which follows from them."""
    sampled: tuple[Sized, ...] = ()
    """For a wanted size: the results of rate factors on samples."""
    passes: tuple[Sized, ...] = ()
    """The passes over the whole film that missed the wanted size. The next one follows from them."""

    @property
    def frames(self) -> int:
        """Frames in the finished segments."""
        return sum(segment.frames for segment in self.segments)

    @property
    def late(self) -> int:
        """Frames left out because their times jump back."""
        return sum(segment.late for segment in self.segments)

    @property
    def resized(self) -> int:
        """Frames that have another size in the source than its first picture."""
        return sum(segment.resized for segment in self.segments)

    @property
    def last_moment(self) -> int | None:
        """The moment up to which all is finished; None before the first segment."""
        last = None
        for number, segment in enumerate(self.segments):
            if segment.number != number:
                break
            last = segment.last
        return last

    @property
    def files(self) -> list[str]:
        """Names of all finished files."""
        return [*(track.name for track in self.audio), *(segment.name for segment in self.segments)]

    def has_sound(self, stream: int) -> bool:
        """Whether this sound stream is done."""
        return stream in self.silent or any(track.stream == stream for track in self.audio)

    def unknown_of(self, refused: Iterable[int]) -> tuple[int, ...]:
        """The moments of refused packets that are not listed here yet."""
        return tuple(sorted(set(refused).difference(self.refused)))

    def after(self, change: FinishedPart) -> "SavedConversion":
        """The same with one more change. A segment or track that is made anew replaces the old one."""
        segments, audio, silent = self.segments, self.audio, self.silent
        if change.passed is not None:
            segments = ()
        if (segment := change.segment) is not None:
            kept = [each for each in segments if each.number != segment.number]
            segments = tuple(sorted([*kept, segment], key=lambda each: each.number))
        if (sound := change.sound) is not None:
            others = [each for each in audio if each.stream != sound.stream]
            audio = tuple(sorted([*others, sound], key=lambda each: each.stream))
        if change.silent is not None:
            silent = tuple(sorted({*silent, change.silent}))
        return SavedConversion(
            fingerprint=self.fingerprint,
            plan=self.plan,
            audio=audio,
            silent=silent,
            segments=segments,
            refused=tuple(sorted({*self.refused, *change.refused})) if change.refused else self.refused,
            tried=self.tried if change.tried is None else (*self.tried, change.tried),
            sampled=self.sampled if change.sampled is None else (*self.sampled, change.sampled),
            passes=self.passes if change.passed is None else (*self.passes, change.passed),
        )

    def intact(self, folder: Path) -> "SavedConversion":
        """The same without missing or damaged parts. After the last cut, a segment is dropped if the one before is."""
        kept: list[Segment] = []
        for segment in self.segments:
            behind = segment.number >= self.plan.count
            if segment.intact(folder) and (not behind or (kept and kept[-1].number == segment.number - 1)):
                kept.append(segment)
        audio = tuple(track for track in self.audio if track.intact(folder))
        return msgspec.structs.replace(self, segments=tuple(kept), audio=audio)


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"segment-{number:05}.mp4"
