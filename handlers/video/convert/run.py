"""The course of `video_convert`: plan, sound (0-5 %), picture by segments (5-95 %), join (95-100 %).

Each stage leaves a durable file and a checkpoint, so the next attempt begins where the last one was.
"""

import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

import av
import msgspec

from ...contract import Estimate, Finished, Job, Outcome, Stopped, TaskContext, Unusable
from ...media.result import describe
from ...pieces import fingerprint
from ..frames import beyond_use, has_fields
from ..opening import (
    EncoderFailedError,
    StopAskedError,
    UndecodableError,
    open_input,
    picture_of,
)
from ..probe import Source, cut_notes, picture_in, probe, told_of
from ..program import Program
from .backend import formats_of, open_backend
from .checkpoint import (
    Plan,
    Saved,
    Segment,
    choose_cuts,
    recall,
    remove_leftovers,
    step_for,
)
from .encoding import Encoding
from .estimate import estimate_for
from .join import Parts, duration_of, join
from .marks import Marks, chapters_of, lost_marks, marks_of, track_notes
from .options import Target, VideoConvertOptions, choose_target, holds_aspect
from .picture import choose_look, output_aspect, output_size, picture_notes
from .segments import encode_segments
from .sound import choose_sound, convert_audio
from .subtitles import choose_subtitles

_SOUND_SHARE = 5.0
_PICTURE_UNTIL = 95.0
_TELL_EVERY = 0.1
"""Seconds. To find the words for each frame would cost more than to hand it on."""
_FAULTS = 3
"""So often in an attempt a segment is encoded anew because its encoder failed."""


def look(job: Job[VideoConvertOptions]) -> Estimate:
    """A better estimate. Raises UnusableInputError."""
    return estimate_for(job, picture_in(job.input_file))


def convert(context: TaskContext[VideoConvertOptions]) -> Outcome:
    """Convert `context.input_file` into `context.output_part`, going on from `context.checkpoint`.

    Raises:
        Unusable: the input is no video, or lacks what the options ask for, or the machine does.
        UndecodableError: too much of the picture cannot be decoded, or is missing.
        EncoderFailedError: the encoder failed again and again.
        OSError: a file cannot be read or written.
    """
    options = context.options
    target = choose_target(options, context.output_file)
    program = open_backend(options, target)
    source = probe(context.input_file)
    _refuse_a_rest(source)
    wanted = options.deinterlace == "always" or (options.deinterlace == "auto" and source.interlaced)
    whole = wanted and has_fields(source.width, source.height)
    try:
        prepared = msgspec.structs.replace(source, deinterlace=whole, squared=not holds_aspect(target))
        return _Conversion(context, prepared, target, program).run()
    except StopAskedError:
        context.output_part.unlink(missing_ok=True)
        return Stopped()


def _refuse_a_rest(source: Source) -> None:
    """A file that was cut is held to the measure of one that is damaged inside."""
    if beyond_use(source.missing * source.rate, source.seconds * source.rate):
        raise UndecodableError(f"{source.path.name}: {'; '.join(cut_notes(source))}")


class _Conversion:
    """One attempt."""

    def __init__(
        self, context: TaskContext[VideoConvertOptions], source: Source, target: Target, program: Program | None
    ) -> None:
        self._context = context
        self._source = source
        self._target = target
        self._program = program
        self._look = choose_look(source, formats_of(program, target.video_encoder), target.video_codec)
        with open_input(source.path) as container:
            self._sound = choose_sound(container, context.options, target)
            self._subtitles = choose_subtitles(container, context.options, target.container)
            self._left_out = track_notes(container)
            self._picture_marks = marks_of(picture_of(container, source.path.name))
            self._chapters = chapters_of(container)
        self._saved = self._recall_or_plan()
        self._began = time.monotonic()
        self._told = float("-inf")
        self._encoded = 0
        self._faults: list[str] = []

    def _recall_or_plan(self) -> Saved:
        options = self._context.options
        mark = fingerprint(
            self._source.path,
            msgspec.to_builtins(options),
            msgspec.to_builtins(self._target),
            [av.__version__, av.library_versions],
            self._program.built if self._program else "",
        )
        saved = recall(self._context.checkpoint, mark)
        if saved is not None:
            self._source = msgspec.structs.replace(self._source, clock=saved.plan.clock)
            return saved
        return Saved(fingerprint=mark, plan=_plan(self._source, options.segment_seconds))

    def run(self) -> Outcome:
        """Do what is left to do."""
        remove_leftovers(self._context.work_dir, self._saved)
        self._convert_sound()
        self._redo_lost_segments()
        self._encode(self._saved.last_moment, None)
        if not self._saved.segments:
            raise Unusable(f"not one picture of {self._source.path.name} can be decoded")
        self._join()
        return Finished(result=self._describe(), message=f"{self._saved.frames} frames")

    def _stop_if_asked(self) -> None:
        if self._context.should_stop():
            raise StopAskedError

    def _is_time_to_tell(self) -> bool:
        now = time.monotonic()
        if now - self._told < _TELL_EVERY:
            return False
        self._told = now
        return True

    def _save(self, saved: Saved, progress: float, message: str) -> None:
        self._saved = saved
        self._context.save_checkpoint(saved.as_checkpoint(self._source.time_base), progress=progress, message=message)

    def _convert_sound(self) -> None:
        if self._sound is None:
            return
        track = self._saved.audio
        if self._saved.audio_done and (track is None or track.intact(self._context.work_dir)):
            return
        track = convert_audio(self._source.path, self._sound, self._context.work_dir, self._sound_tick, self._program)
        saved = msgspec.structs.replace(self._saved, audio=track, audio_done=True)
        self._save(saved, _SOUND_SHARE, "sound is ready")

    def _sound_tick(self, seconds: float) -> None:
        self._stop_if_asked()
        if self._is_time_to_tell():
            share = self._saved.plan.share(int(seconds / self._source.time_base))
            self._context.progress(_SOUND_SHARE * share, f"sound, {seconds:.0f} s")

    def _redo_lost_segments(self) -> None:
        """Encode again what is missing or damaged among the finished segments, and nothing else."""
        before: int | None = None
        for segment in self._saved.segments:
            self._stop_if_asked()
            if not segment.intact(self._context.work_dir):
                self._encode(before, segment.last)
            before = segment.last

    def _encode(self, after: int | None, until: int | None) -> None:
        """Encode what lies after `after`, up to and with `until`. A segment whose encoder fails is begun anew."""
        while True:
            try:
                with closing(self._segments(after, until)) as segments:
                    for segment in segments:
                        after = segment.last
                        self._save(self._saved.with_segment(segment), self._percent(after), self._where(after))
            except EncoderFailedError as fault:
                if len(self._faults) == _FAULTS:
                    raise
                self._faults.append(f"{fault}; it was encoded anew")
            else:
                return

    def _segments(self, after: int | None, until: int | None) -> Generator[Segment, None, None]:
        """The segments as they are finished; how far the one in work is, is told meanwhile."""
        encoding = Encoding(
            source=self._source,
            target=self._target,
            look=self._look,
            options=self._context.options,
            plan=self._saved.plan,
            folder=self._context.work_dir,
            program=self._program,
        )
        with closing(encode_segments(encoding, after, until, self._stop_if_asked)) as steps:
            for step in steps:
                match step:
                    case Segment():
                        yield step
                    case moment:
                        self._encoded += 1
                        if self._is_time_to_tell():
                            self._context.progress(self._percent(moment), self._where(moment))

    def _percent(self, moment: int) -> float:
        return _SOUND_SHARE + (_PICTURE_UNTIL - _SOUND_SHARE) * self._saved.plan.share(moment)

    def _where(self, moment: int) -> str:
        plan = self._saved.plan
        number = plan.segment_of(moment) + 1
        speed = self._encoded / max(0.001, time.monotonic() - self._began)
        return f"encoding segment {number} of {max(number, plan.count)}, {speed:.0f} fps"

    def _join(self) -> None:
        plan = self._saved.plan
        length = max(0.001, float((plan.end - plan.start) * self._source.time_base))

        def tick(seconds: float) -> None:
            self._stop_if_asked()
            if self._is_time_to_tell():
                self._context.progress(_PICTURE_UNTIL + 5 * min(1.0, seconds / length), "joining")

        parts = Parts(
            self._context.work_dir,
            self._saved.segments,
            self._saved.audio,
            output_aspect(self._source, self._context.options),
            self._picture_marks,
            self._sound.marks if self._sound else Marks(),
            self._chapters,
            self._subtitles,
        )
        join(self._source, self._target, parts, self._context.output_part, tick)
        self._context.progress(100, "joining")

    def _describe(self) -> dict[str, Any]:
        output = self._context.output_part
        width, height = output_size(self._source, self._context.options)
        result = describe(
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
            **told_of(self._source),
        }

    def _notes(self) -> list[str]:
        """What was changed or left out."""
        sound = list(self._sound.notes) if self._sound else []
        if self._sound is None and self._source.has_audio:
            sound = ["sound dropped as asked"] if not self._target.audio_codec else ["sound dropped: unknown codec"]
        elif self._sound and not self._saved.audio:
            sound = ["sound dropped: none of it can be decoded"]
        elif self._sound:
            sound += lost_marks("sound", self._sound.marks, self._target.container.format)
        picture = picture_notes(self._source, self._look, self._context.options)
        picture += lost_marks("picture", self._picture_marks, self._target.container.format)
        picture += [f"encoded by the program ffmpeg {self._program.version}"] if self._program else []
        return [*cut_notes(self._source), *picture, *self._faults, *sound, *self._subtitles.notes, *self._left_out]


def _plan(source: Source, segment_seconds: float) -> Plan:
    step = step_for(source.start, source.end, int(segment_seconds / source.time_base))
    cuts = choose_cuts(source.start, source.end, step, source.keyframes)
    return Plan(clock=source.clock, start=source.start, end=source.end, step=step, cuts=cuts)
