"""The work of `video_convert`: plan, sound (5 %), picture by segments (90 %), join (5 %).

Sound and segments are made side by side, as far as the machine has room. Each leaves a durable file and a checkpoint,
so the next attempt begins where the last one was. The files are the same however many are made at once.
"""

import time
from collections.abc import Generator
from contextlib import closing
from threading import Lock
from typing import Any, TypeAlias

import av
import msgspec

from ....events.errors import InvalidOptions
from ...contract import Finished, Job, Outcome, TaskContext, Unusable
from ...media.result import output_fields
from ...pieces import fingerprint, recalled, remove_others
from ..frames import Reading, UndecodableError, beyond_use, has_fields, undecodable
from ..opening import open_input, picture_stream
from ..source import VideoSource, cut_notes, info_of, read_source, source_fields
from .checkpoint import (
    AudioTrack,
    SavedConversion,
    Segment,
    SegmentPlan,
    Stretch,
    choose_cuts,
    step_for,
    stretches_of,
)
from .estimate import segments_at_once
from .join import Parts, duration_of, join
from .library_encoder import LibraryBackend, require_hardware
from .metadata import TrackMetadata, chapters_of, dropped_track_notes, lost_disposition_notes, track_metadata
from .options import (
    Target,
    VideoConvertOptions,
    choose_target,
    holds_aspect,
    on_one_thread,
    require_program,
    segment_length,
)
from .picture import choose_pixel_format, output_aspect, output_size, picture_notes
from .program_encoder import ProgramBackend
from .segments import EncoderFailedError, Encoding, VideoBackend, encode_segments
from .side_by_side import Tick, Work, side_by_side
from .sound import SoundPlan, choose_sound, convert_sound
from .subtitles import choose_subtitles

_SOUND_SHARE = 5.0
_PICTURE_UNTIL = 95.0
_REPORT_EVERY = 0.1
"""Seconds between two reports of progress. To word one for each frame would cost more than to report it."""
_FAULTS = 3
"""How often in an attempt a segment is encoded again because its encoder failed."""
_LAYOUT = 2
"""Other segments than an earlier version of this module made have another number."""

Step: TypeAlias = "Segment | _SoundMade | int"
"""What is finished; a number is the moment of a frame."""


class _SoundMade(msgspec.Struct):
    track: AudioTrack | None


def run(context: TaskContext[VideoConvertOptions]) -> Outcome:
    """Convert `context.input_file` into `context.output_part`, going on from `context.checkpoint`.

    Raises:
        Unusable: the input is no video, or lacks what the options ask for, or the machine does.
        UndecodableError: too much of the picture cannot be decoded, or is missing.
        EncoderFailedError: the encoder failed again and again.
        OSError: a file cannot be read or written.
    """
    options = context.options
    target = choose_target(options, context.output_file)
    backend = _open_backend(options, target)
    source = read_source(context.input_file)
    _refuse_if_cut(source)
    wanted = options.deinterlace == "always" or (options.deinterlace == "auto" and source.interlaced)
    whole = wanted and has_fields(source.width, source.height)
    prepared = msgspec.structs.replace(source, deinterlace=whole, squared=not holds_aspect(target))
    return _Conversion(context, prepared, target, backend).run()


def _open_backend(options: VideoConvertOptions, target: Target) -> VideoBackend:
    """The library, or the program if it is asked for. Raises Unusable where it, or the hardware, is missing."""
    if options.backend == "builtin":
        if options.encoder != "software":
            require_hardware(target.video_encoder)
        return LibraryBackend(target)
    try:
        backend = ProgramBackend(require_program(options, target), target)
    except InvalidOptions as error:  # it was there when the task was created
        raise Unusable(str(error)) from error
    if options.encoder != "software":
        backend.require_hardware()
    return backend


def _refuse_if_cut(source: VideoSource) -> None:
    """Refuse a file of which too much was cut off, by the same measure as one that is damaged inside."""
    if beyond_use(source.missing * source.rate, source.seconds * source.rate):
        raise UndecodableError(f"{source.path.name}: {'; '.join(cut_notes(source))}")


class _Conversion:
    """One attempt."""

    def __init__(
        self, context: TaskContext[VideoConvertOptions], source: VideoSource, target: Target, backend: VideoBackend
    ) -> None:
        self._context = context
        self._source = source
        self._target = target
        self._backend = backend
        self._pixels = choose_pixel_format(source, backend.pixel_formats(), target.video_codec)
        with open_input(source.path) as container:
            self._sound = choose_sound(container, context.options, target)
            self._subtitles = choose_subtitles(container, context.options, target.container)
            self._left_out = dropped_track_notes(container)
            self._picture_metadata = track_metadata(picture_stream(container, source.path.name))
            self._chapters = chapters_of(container)
        self._saved = self._recall_or_plan()
        self._job = Job(
            options=context.options,
            input_file=context.input_file,
            output_file=context.output_file,
            input_size=context.input_file.stat().st_size,
            room=context.room,
        )
        self._began = time.monotonic()
        self._reported = float("-inf")
        self._encoded = 0
        self._sound_until = 0.0
        """Seconds on the source's clock."""
        self._reached: dict[int, int] = {}
        """Number of a segment → the last moment of it that is encoded."""
        self._stretches: list[Stretch] = []
        self._read: dict[Stretch, Reading] = {}
        self._counting = Lock()
        self._faults: list[tuple[int, str]] = []
        """Numbers of segments, and what their encoders did."""

    def _recall_or_plan(self) -> SavedConversion:
        options = self._context.options
        mark = fingerprint(
            self._source.path,
            msgspec.to_builtins(msgspec.structs.replace(options, segments_at_once=None)),
            msgspec.to_builtins(self._target),
            _LAYOUT,
            [av.__version__, av.library_versions],
            self._backend.build,
        )
        saved = recalled(self._context.checkpoint, mark, SavedConversion)
        if saved is not None:
            self._source = msgspec.structs.replace(self._source, clock=saved.plan.clock)
            return saved
        length = segment_length(options, self._source.seconds)
        return SavedConversion(fingerprint=mark, plan=_plan(self._source, length))

    def run(self) -> Outcome:
        """Do what is left to do."""
        self._saved = self._saved.intact(self._context.work_dir)
        remove_others(self._context.work_dir, ("segment-*", "sound.*"), keep=self._saved.files)
        self._convert()
        if not self._saved.segments:
            raise Unusable(f"not one picture of {self._source.path.name} can be decoded")
        self._join()
        return Finished(result=self._describe(), message=f"{self._saved.frames} frames")

    def _convert(self) -> None:
        """Make the sound and the segments that are missing, and save each as it is finished."""
        plan, keyframes = self._saved.plan, self._source.keyframes
        split = len(stretches_of(plan, keyframes)) > 1
        at_once = segments_at_once(self._job, info_of(self._source)) if split else 1
        encoding = Encoding(
            source=self._source,
            target=on_one_thread(self._target) if split else self._target,
            pixels=self._pixels,
            options=self._context.options,
            plan=plan,
            folder=self._context.work_dir,
        )
        works: list[Work[Step]] = []
        if self._sound is not None and not self._saved.audio_done:
            works.append(self._sound_work(self._sound))
        self._reached = {segment.number: segment.last for segment in self._saved.segments}
        self._stretches = stretches_of(plan, keyframes, self._saved.segments)
        threads = 1 if min(at_once, len(self._stretches)) > 1 else 0
        works += [self._stretch_work(stretch, encoding, threads) for stretch in self._stretches]
        with closing(side_by_side(works, at_once, self._look_after)) as steps:
            for step in steps:
                match step:
                    case _SoundMade(track=track):
                        saved = msgspec.structs.replace(self._saved, audio=track, audio_done=True)
                        self._save(saved, "sound is ready")
                    case Segment():
                        self._save(self._saved.with_segment(step), self._where())
                    case moment:
                        self._encoded += 1
                        self._reached[plan.segment_of(moment)] = moment
                        self._report()

    def _look_after(self) -> None:
        """What the attempt's own thread does every now and then."""
        self._context.check_stop()
        self._report()

    def _report(self) -> None:
        if (self._encoded or self._sound_until) and self._report_is_due():
            self._context.progress(self._percent(), self._where())

    def _report_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY:
            return False
        self._reported = now
        return True

    def _save(self, saved: SavedConversion, message: str) -> None:
        self._saved = saved
        checkpoint = saved.as_checkpoint(self._source.time_base)
        self._context.save_checkpoint(checkpoint, progress=self._percent(), message=message)

    def _sound_work(self, sound: SoundPlan) -> Work[Step]:
        def work(tick: Tick) -> Generator[Step, None, None]:
            def told(seconds: float) -> None:
                self._sound_until = seconds
                tick()

            track = convert_sound(self._source.path, sound, self._context.work_dir, self._backend, told)
            yield _SoundMade(track)

        return work

    def _stretch_work(self, stretch: Stretch, encoding: Encoding, threads: int) -> Work[Step]:
        def work(tick: Tick) -> Generator[Step, None, None]:
            after = stretch.after
            while True:
                reading = Reading(threads, self._frames_before(after), tick)
                steps = encode_segments(encoding, self._backend, after, stretch.until, reading)
                try:
                    with closing(steps):
                        for step in steps:
                            after = step.last if isinstance(step, Segment) else after
                            yield step
                except EncoderFailedError as fault:
                    self._tolerate(fault)
                else:
                    break
            with self._counting:
                self._read[stretch] = reading
                self._refuse_if_beyond_use()

        return work

    def _refuse_if_beyond_use(self) -> None:
        """Judge what was read from the start on without a gap, so that the order of ends does not matter."""
        bad = good = 0
        for stretch in self._stretches:
            if (reading := self._read.get(stretch)) is None:
                return
            bad, good = bad + reading.bad, good + reading.good
            if beyond_use(bad, self._frames_before(stretch.after) + reading.good):
                raise undecodable(self._source.path.name, self._source.codec, bad, good)

    def _frames_before(self, moment: int | None) -> int:
        """About how many frames lie before a moment, by the rate that the source states."""
        seconds = 0.0 if moment is None else self._source.seconds_at(moment)
        return max(0, int(seconds * self._source.rate))

    def _tolerate(self, fault: EncoderFailedError) -> None:
        """Raise the fault if there were too many of them."""
        with self._counting:
            if len(self._faults) == _FAULTS:
                raise fault
            self._faults.append((fault.number, f"{fault}; it was encoded anew"))

    def _percent(self) -> float:
        plan = self._saved.plan
        made = 0
        for number, moment in self._reached.items():
            begin, end = plan.edges(number)
            made += max(0, min(moment, end) - begin)
        picture = min(1.0, made / max(1, plan.end - plan.start))
        heard = plan.share(int(self._sound_until / self._source.time_base))
        sound = 1.0 if self._saved.audio_done or self._sound is None else heard
        return _SOUND_SHARE * sound + (_PICTURE_UNTIL - _SOUND_SHARE) * picture

    def _where(self) -> str:
        """What is at work, in words."""
        plan, finished = self._saved.plan, {segment.number for segment in self._saved.segments}
        if not self._encoded:
            return f"sound, {self._sound_until:.0f} s"
        at_work = sorted(self._reached.keys() - finished) or [max(self._reached)]
        named = f"segments {', '.join(str(number + 1) for number in at_work)}"
        named = named if len(at_work) > 1 else f"segment {at_work[0] + 1}"
        speed = self._encoded / max(0.001, time.monotonic() - self._began)
        return f"encoding {named} of {max(at_work[-1] + 1, plan.count)}, {speed:.0f} fps"

    def _join(self) -> None:
        plan = self._saved.plan
        length = max(0.001, float((plan.end - plan.start) * self._source.time_base))

        def tick(seconds: float) -> None:
            self._context.check_stop()
            if self._report_is_due():
                self._context.progress(_PICTURE_UNTIL + 5 * min(1.0, seconds / length), "joining")

        parts = Parts(
            self._context.work_dir,
            self._saved.segments,
            self._saved.audio,
            output_aspect(self._source, self._context.options),
            self._picture_metadata,
            self._sound.metadata if self._sound else TrackMetadata(),
            self._chapters,
            self._subtitles,
        )
        join(self._source, self._target, parts, self._context.output_part, tick)
        self._context.progress(100, "joining")

    def _describe(self) -> dict[str, Any]:
        output = self._context.output_part
        width, height = output_size(self._source, self._context.options)
        result = output_fields(
            output,
            {"matroska": "mkv"}.get(self._target.container.format, self._target.container.format),
            width=width,
            height=height,
            frames=self._saved.frames,
            duration=duration_of(output),
            codec=self._target.video_codec,
        )
        return result | {
            "audio_codec": self._sound.codec if self._sound and self._saved.audio else "",
            "audio_copied": bool(self._sound and self._saved.audio and self._sound.copy),
            "subtitles": len(self._subtitles.kept),
            "segments": len(self._saved.segments),
            "notes": self._notes(),
            **source_fields(self._source),
        }

    def _notes(self) -> list[str]:
        """What was changed or left out, in words."""
        sound = list(self._sound.notes) if self._sound else []
        if self._sound is None and self._source.has_audio:
            sound = ["sound dropped as asked"] if not self._target.audio_codec else ["sound dropped: unknown codec"]
        elif self._sound and not self._saved.audio:
            sound = ["sound dropped: none of it can be decoded"]
        elif self._sound:
            sound += lost_disposition_notes("sound", self._sound.metadata, self._target.container.format)
        picture = picture_notes(self._source, self._pixels, self._context.options)
        picture += lost_disposition_notes("picture", self._picture_metadata, self._target.container.format)
        picture += self._backend.notes
        faults = [said for _, said in sorted(self._faults)]
        return [*cut_notes(self._source), *picture, *faults, *sound, *self._subtitles.notes, *self._left_out]


def _plan(source: VideoSource, segment_seconds: float) -> SegmentPlan:
    step = step_for(source.start, source.end, int(segment_seconds / source.time_base))
    cuts = choose_cuts(source.start, source.end, step, source.keyframes)
    return SegmentPlan(clock=source.clock, start=source.start, end=source.end, step=step, cuts=cuts)
