"""The work of `video_convert`: plan, sound (0-5 %), picture by segments (5-95 %), join (95-100 %).

Each stage leaves a durable file and a checkpoint, so the next attempt begins where the last one was.
"""

import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

import av
import msgspec

from ....events.errors import InvalidOptions
from ...contract import Finished, Outcome, TaskContext, Unusable
from ...media.result import output_fields
from ...pieces import fingerprint, recalled, remove_others
from ..frames import UndecodableError, beyond_use, has_fields
from ..opening import open_input, picture_stream
from ..source import VideoSource, cut_notes, read_source, source_fields
from .checkpoint import SavedConversion, Segment, SegmentPlan, choose_cuts, step_for
from .join import Parts, duration_of, join
from .library_encoder import LibraryBackend, require_hardware
from .metadata import TrackMetadata, chapters_of, dropped_track_notes, lost_disposition_notes, track_metadata
from .options import Target, VideoConvertOptions, choose_target, holds_aspect, require_program
from .picture import choose_pixel_format, output_aspect, output_size, picture_notes
from .program_encoder import ProgramBackend
from .segments import EncoderFailedError, Encoding, VideoBackend, encode_segments
from .sound import choose_sound, convert_sound
from .subtitles import choose_subtitles

_SOUND_SHARE = 5.0
_PICTURE_UNTIL = 95.0
_REPORT_EVERY = 0.1
"""Seconds between two reports of progress. To word one for each frame would cost more than to report it."""
_FAULTS = 3
"""How often in an attempt a segment is encoded again because its encoder failed."""


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
        self._began = time.monotonic()
        self._reported = float("-inf")
        self._encoded = 0
        self._faults: list[str] = []

    def _recall_or_plan(self) -> SavedConversion:
        options = self._context.options
        mark = fingerprint(
            self._source.path,
            msgspec.to_builtins(options),
            msgspec.to_builtins(self._target),
            [av.__version__, av.library_versions],
            self._backend.build,
        )
        saved = recalled(self._context.checkpoint, mark, SavedConversion)
        if saved is not None:
            self._source = msgspec.structs.replace(self._source, clock=saved.plan.clock)
            return saved
        return SavedConversion(fingerprint=mark, plan=_plan(self._source, options.segment_seconds))

    def run(self) -> Outcome:
        """Do what is left to do."""
        remove_others(self._context.work_dir, ("segment-*", "sound.*"), keep=self._saved.files)
        self._convert_sound()
        self._redo_lost_segments()
        self._encode(self._saved.last_moment, None)
        if not self._saved.segments:
            raise Unusable(f"not one picture of {self._source.path.name} can be decoded")
        self._join()
        return Finished(result=self._describe(), message=f"{self._saved.frames} frames")

    def _report_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY:
            return False
        self._reported = now
        return True

    def _save(self, saved: SavedConversion, progress: float, message: str) -> None:
        self._saved = saved
        self._context.save_checkpoint(saved.as_checkpoint(self._source.time_base), progress=progress, message=message)

    def _convert_sound(self) -> None:
        if self._sound is None:
            return
        track = self._saved.audio
        if self._saved.audio_done and (track is None or track.intact(self._context.work_dir)):
            return
        track = convert_sound(self._source.path, self._sound, self._context.work_dir, self._backend, self._sound_tick)
        saved = msgspec.structs.replace(self._saved, audio=track, audio_done=True)
        self._save(saved, _SOUND_SHARE, "sound is ready")

    def _sound_tick(self, seconds: float) -> None:
        self._context.check_stop()
        if self._report_is_due():
            share = self._saved.plan.share(int(seconds / self._source.time_base))
            self._context.progress(_SOUND_SHARE * share, f"sound, {seconds:.0f} s")

    def _redo_lost_segments(self) -> None:
        """Encode again what is missing or damaged among the finished segments, and nothing else."""
        before: int | None = None
        for segment in self._saved.segments:
            self._context.check_stop()
            if not segment.intact(self._context.work_dir):
                self._encode(before, segment.last)
            before = segment.last

    def _encode(self, after: int | None, until: int | None) -> None:
        """Encode what lies after `after`, up to and with `until`. A segment whose encoder fails is begun again."""
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
        """Yield the segments as they are finished, and report progress meanwhile."""
        encoding = Encoding(
            source=self._source,
            target=self._target,
            pixels=self._pixels,
            options=self._context.options,
            plan=self._saved.plan,
            folder=self._context.work_dir,
        )
        with closing(encode_segments(encoding, self._backend, after, until, self._context.check_stop)) as steps:
            for step in steps:
                match step:
                    case Segment():
                        yield step
                    case moment:
                        self._encoded += 1
                        if self._report_is_due():
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
        return [*cut_notes(self._source), *picture, *self._faults, *sound, *self._subtitles.notes, *self._left_out]


def _plan(source: VideoSource, segment_seconds: float) -> SegmentPlan:
    step = step_for(source.start, source.end, int(segment_seconds / source.time_base))
    cuts = choose_cuts(source.start, source.end, step, source.keyframes)
    return SegmentPlan(clock=source.clock, start=source.start, end=source.end, step=step, cuts=cuts)
