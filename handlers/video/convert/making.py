"""Makes the sound tracks and segments of a conversion side by side, as far as the machine has room.

Each leaves a durable file and a checkpoint. The files are the same however many are made at once, in any order.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from threading import Lock
from typing import TypeAlias

import msgspec

from ...contract import Job, TaskContext
from ...side_by_side import TickFunction, Work, side_by_side
from ..frames import DecodePass, beyond_use, undecodable
from ..source import VideoSource, info_of
from .burning import Burner
from .checkpoint import AudioTrack, FinishedPart, SavedConversion, Segment, Stretch, stretches_of
from .estimate import segments_at_once
from .journal import Journal
from .options import Target, VideoConvertOptions, on_one_thread
from .picture import PixelFormat
from .segments import EncoderFailedError, Encoding, VideoBackend, encode_segments
from .sound import SoundPlan, SoundRange, convert_sound
from .spread import film_of

SOUND_SHARE = 5.0
PICTURE_UNTIL = 95.0
COPY_FROM = 50.0
"""Percent at which a copied picture begins: it is written with all else when the sound is done."""
_REPORT_EVERY = 0.1
"""Seconds between two progress reports. Wording one for each frame would cost more than sending it."""
_NAMED = 4
_FAULTS = 3
"""How often per attempt a segment is encoded again because its encoder failed."""

Step: TypeAlias = "_SegmentMade | _SoundMade | _Encoded"


class _Encoded(msgspec.Struct):
    """The progress of a segment's encoding."""

    moment: int
    """The moment of its latest frame."""
    frames: int
    """Frames since the last report, of this segment or another."""


class _SegmentMade(msgspec.Struct):
    segment: Segment
    refused: set[int]
    """Moments of packets that the decoder refused before the segment's end, and perhaps some after it."""


class _SoundMade(msgspec.Struct):
    stream: int
    track: AudioTrack | None
    """None: the track turned out to be empty."""


class Throttle:
    """Lets only one report through per interval."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def due(self) -> bool:
        """Whether the last report is long enough ago."""
        now = time.monotonic()
        if now - self._last < _REPORT_EVERY:
            return False
        self._last = now
        return True


class Making:
    """Makes the parts that `saved` lacks, in one attempt."""

    def __init__(
        self,
        context: TaskContext[VideoConvertOptions],
        source: VideoSource,
        target: Target,
        pixels: PixelFormat,
        backend: VideoBackend,
        sounds: Sequence[SoundPlan],
        span: SoundRange,
        saved: SavedConversion,
        journal: Journal,
        percent: tuple[float, float],
        *,
        picture: bool = True,
        burner: Burner | None = None,
        share: range | None = None,
    ) -> None:
        """Progress goes from the first `percent` to the second. `picture`: whether to make it, unless it is copied.

        `share`: only these segments are made; None: all.
        """
        self._percents = percent
        self._saved = saved
        self._journal = journal
        self._context = context
        self._source = source
        self._backend = backend
        self._sounds = sounds
        self._span = span
        plan, keyframes = saved.plan, source.keyframes
        split = len(stretches_of(plan, keyframes)) > 1
        self._at_once = segments_at_once(job_of(context), info_of(source)) if split else 1
        picture = picture and not target.copied
        if not picture:
            self._at_once = min(context.room.cores, len(sounds))
        self._encoding = Encoding(
            source=source,
            target=on_one_thread(target) if split else target,
            pixels=pixels,
            options=context.options,
            plan=plan,
            folder=context.work_dir,
            burner=burner,
        )
        apart = self._at_once > 1
        self._stretches = stretches_of(plan, keyframes, saved.segments, apart=apart, share=share) if picture else []
        self._read: dict[Stretch, DecodePass] = {}
        self._counting = Lock()
        self._faults: list[tuple[int, str]] = []
        """Numbers of segments, and the faults of their encoders."""
        self._joined: Stretch | None = None
        """The last stretch, if it is read together with the one before it."""
        self._pace = Throttle()
        self._began = time.monotonic()
        self._encoded = 0
        """Frames encoded."""
        self._wanted = plan.end - plan.start
        if share is not None:
            self._wanted = plan.edges(share[-1])[1] - plan.edges(share[0])[0] if share else 0
        self._sound_reached = {sound.stream: 0.0 for sound in sounds}
        """Number of a sound stream → how far it is, in seconds on the source's clock."""
        self._reached = {segment.number: segment.last for segment in saved.segments}
        """Number of a segment → the last moment of it that is encoded."""

    @property
    def faults(self) -> list[str]:
        """The encoders' faults, in words."""
        return [fault for _, fault in sorted(self._faults)]

    @property
    def read(self) -> tuple[int, int]:
        """The numbers of packets that the decoder refused, and accepted."""
        readings = list(self._read.values())
        return sum(reading.bad for reading in readings), sum(reading.good for reading in readings)

    def run(self) -> SavedConversion:
        """Make the missing sound and segments, and save each when it is finished."""
        works: list[Work[Step]] = []
        works += [self._sound_work(sound) for sound in self._sounds if not self._saved.has_sound(sound.stream)]
        threads = 1 if min(self._at_once, len(self._stretches)) > 1 else 0
        works += [self._stretch_work(stretch, threads) for stretch in self._stretches]
        team = side_by_side(works, self._at_once, self._look_after, _is_finished, now=self._context.cores)
        with closing(team) as steps:
            for step in steps:
                match step:
                    case _SoundMade(stream=stream, track=track):
                        self._save(
                            FinishedPart(silent=stream) if track is None else FinishedPart(sound=track),
                            "sound is ready",
                        )
                    case _SegmentMade(segment=segment, refused=refused):
                        self._reached[segment.number] = segment.last
                        change = FinishedPart(segment=segment, refused=self._saved.unknown_of(refused))
                        self._save(change, self._where())
                    case _Encoded(moment=moment, frames=frames):
                        self._encoded += frames
                        self._reached[self._saved.plan.segment_of(moment)] = moment
                        self._report()
        refused = {moment for reading in self._read.values() for moment in reading.refused}
        return self._saved.after(FinishedPart(refused=tuple(refused)))  # some may have no segment to be saved with

    def _look_after(self) -> None:
        """Called regularly in the attempt's own thread."""
        self._context.check_stop()
        self._report()

    def _report(self) -> None:
        if (self._encoded or any(self._sound_reached.values())) and self._pace.due():
            self._context.progress(self._percent(), self._where())

    def _save(self, change: FinishedPart, message: str) -> None:
        self._saved = self._saved.after(change)
        self._journal.save(self._saved, change, self._percent(), message)

    def _sound_work(self, sound: SoundPlan) -> Work[Step]:
        def work(tick: TickFunction) -> Generator[Step, None, None]:
            def report(seconds: float) -> None:
                self._sound_reached[sound.stream] = seconds
                tick()

            track = convert_sound(self._source.path, sound, self._span, self._context.work_dir, self._backend, report)
            yield _SoundMade(sound.stream, track)

        return work

    def _stretch_work(self, listed: Stretch, threads: int) -> Work[Step]:
        def work(tick: TickFunction) -> Generator[Step, None, None]:
            if (stretch := self._begun(listed)) is None:
                return
            after, throttle, frames = stretch.after, Throttle(), 0
            while True:
                reading = DecodePass(threads, self._frames_before(after), tick, stretch.until)
                steps = encode_segments(self._encoding, self._backend, after, stretch.until, reading)
                try:
                    with closing(steps):
                        for step in steps:
                            if isinstance(step, Segment):
                                after = step.last
                                yield _SegmentMade(step, set(reading.refused))
                                continue
                            frames += 1
                            if throttle.due():
                                yield _Encoded(step, frames)
                                frames = 0
                except EncoderFailedError as fault:
                    self._tolerate(fault)
                else:
                    break
            with self._counting:
                self._read[stretch] = reading
                self._refuse_if_beyond_use()

        return work

    def _begun(self, stretch: Stretch) -> Stretch | None:
        """The stretch to read now; None if it has been read already.

        The last one is read separately only if a CPU would otherwise be idle, because that costs decoding.
        """
        with self._counting:
            if stretch == self._joined:
                return None
            if self._context.cores() > 1 or self._stretches[-2:-1] != [stretch]:
                return stretch
            last = self._stretches[-1]
            if last.after != stretch.until:
                return stretch
            self._joined, both = last, stretch._replace(until=last.until)
            self._stretches[-2:] = [both]
            return both

    def _refuse_if_beyond_use(self) -> None:
        """Judge the stretches read from the start without a gap, so that the order of finishing does not matter."""
        bad = good = 0
        for stretch in self._stretches:
            if (reading := self._read.get(stretch)) is None:
                return
            bad, good = bad + reading.bad, good + reading.good
            if beyond_use(bad, self._frames_before(stretch.after) + reading.good):
                raise undecodable(self._source.path.name, self._source.codec, bad, good)

    def _frames_before(self, moment: int | None) -> int:
        """Approximate number of frames before a moment, by the source's stated rate."""
        seconds = 0.0 if moment is None else self._source.seconds_at(moment)
        return max(0, int(seconds * self._source.rate))

    def _tolerate(self, fault: EncoderFailedError) -> None:
        """Raise the fault if there were too many."""
        with self._counting:
            if len(self._faults) == _FAULTS:
                raise fault
            self._faults.append((fault.number, f"{fault}; it was encoded again"))

    def _percent(self) -> float:
        plan = self._saved.plan
        made = 0
        for number, moment in self._reached.items():
            begin, end = plan.edges(number)
            made += max(0, min(moment, end) - begin)
        picture = min(1.0, made / max(1, self._wanted))
        sound = (
            sum(map(self._share_of_sound, self._sound_reached)) / len(self._sound_reached)
            if self._sound_reached
            else 1.0
        )
        if self._encoding.target.copied:
            return COPY_FROM * sound
        made_share = (SOUND_SHARE * sound + (PICTURE_UNTIL - SOUND_SHARE) * picture) / PICTURE_UNTIL
        return self._percents[0] + (self._percents[1] - self._percents[0]) * made_share

    def _share_of_sound(self, stream: int) -> float:
        """The finished share of a sound track, 0 to 1."""
        if self._saved.has_sound(stream):
            return 1.0
        return self._saved.plan.share(int(self._sound_reached[stream] / self._source.time_base))

    def _where(self) -> str:
        """The current work, in words."""
        plan, finished = self._saved.plan, {segment.number for segment in self._saved.segments}
        if not self._encoded:
            return f"sound, {max([0.0, *self._sound_reached.values()]):.0f} s"
        at_work = sorted(self._reached.keys() - finished) or [max(self._reached)]
        named = f"segment{'s' * (len(at_work) > 1)} {', '.join(str(number + 1) for number in at_work)}"
        named = named if len(at_work) <= _NAMED else f"{len(at_work)} segments"
        speed = self._encoded / max(0.001, time.monotonic() - self._began)
        return f"encoding {named} of {max(at_work[-1] + 1, plan.count)}, {speed:.0f} fps"


def _is_finished(step: Step) -> bool:
    """Whether the step is a file. Its work waits for a checkpoint: a kill must not cost two files of one work."""
    return not isinstance(step, _Encoded)


def job_of(context: TaskContext[VideoConvertOptions]) -> Job[VideoConvertOptions]:
    """The job that the estimate was made for."""
    return Job(
        options=context.options,
        input_file=context.input_file,
        output_file=film_of(context.output_file),
        input_size=context.input_file.stat().st_size,
        room=context.room,
    )
