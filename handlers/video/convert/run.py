"""The work of `video_convert`: plan, sound tracks (5 %), picture by segments (90 %), join (5 %).

Each part leaves a durable file and a checkpoint, so the next attempt continues where the last one stopped.
"""

from collections.abc import Sequence
from typing import Any

import av
import msgspec

from ....events.counted import counted, plural
from ....events.errors import InvalidOptions
from ...contract import Finished, Outcome, TaskContext, Unusable
from ...media.result import output_fields
from ...pieces import fingerprint, fingerprint_anywhere, hash_of, remove_others
from ..frames import GIVE_TIMES, UndecodableError, beyond_use, has_fields, undecodable
from ..opening import left_out_note, open_input
from ..source import VideoSource, begin_notes, damage_notes, read_source, slant_notes, source_fields
from .burning import Burner, choose_burned
from .checkpoint import FinishedPart, SavedConversion, SegmentPlan, choose_cuts, shares_of, step_for, stretches_of
from .copied_picture import CopiedPicture, lost_picture_notes, refuse_uncopyable
from .extras import choose_extras
from .fitting import fitting_for
from .join import EncodedPicture, Parts, duration_of, join
from .journal import Journal
from .library_encoder import LibraryBackend, require_hardware
from .making import COPY_FROM, PICTURE_UNTIL, SOUND_SHARE, Making, Throttle
from .mastering import light_notes, with_light
from .metadata import lost_disposition_notes, lost_tag_notes
from .options import Target, VideoConvertOptions, choose_target, holds_aspect, require_program, segment_length
from .parts import Origin, Part, PartRecord, PartUnusable, open_part, write_part
from .picture import (
    choose_pixel_format,
    output_aspect,
    output_size,
    picture_notes,
    refuse_if_no_room,
    refuse_if_too_small,
)
from .program_encoder import ProgramBackend, ProgramFailedError
from .reshaping import WantedPart, reshaped, wanted_part
from .search import search_for
from .segments import VideoBackend
from .sound import SoundPlan, SoundRange, choose_sounds
from .spread import VideoPartOptions, bytes_depend_on, film_of, part_file

_LAYOUT = 5
"""Changes whenever this module makes other segments than before."""
_WRITTEN_FROM = 98.0
"""Percent of a part's task at which all segments exist, and the file is written."""
_FEWEST = 2
"""Stretches that a film needs to be worth spreading."""


def run(context: TaskContext[VideoConvertOptions]) -> Outcome:
    """Convert `context.input_file` into `context.output_part`, continuing from `context.checkpoint`.

    Raises:
        Unusable: the input is not a video, or it or the machine lacks what the options require.
        UndecodableError: too much of the picture cannot be decoded, or is missing.
        EncoderFailedError: the encoder failed again and again.
        PartMissing: a part of a film that was spread does not exist.
        OSError: a file cannot be read or written.
    """
    return _conversion(context).run()


def run_part(context: TaskContext[VideoPartOptions]) -> Outcome:
    """Make a part of a film, as a file for the node that joins it. Raises what `run` raises."""
    return _conversion(context).run_part(context.options.part, context.options.parts or 1)


def _conversion(context: TaskContext[Any]) -> "_Conversion":
    options = context.options
    target = choose_target(options, film_of(context.output_file))
    backend = _open_backend(options, target)
    source = read_source(context.input_file)
    _refuse_if_incomplete(source)
    wanted_part(source, options)
    if target.copied:
        refuse_uncopyable(source, target)
        return _Conversion(context, source, target, backend)
    wanted = options.deinterlace == "always" or (options.deinterlace == "auto" and source.interlaced)
    whole = wanted and has_fields(source.width, source.height)
    prepared = msgspec.structs.replace(reshaped(source, options), deinterlace=whole, squared=not holds_aspect(target))
    refuse_if_no_room(prepared, options)
    refuse_if_too_small(prepared, options, target)
    return _Conversion(context, prepared, target, backend)


def _open_backend(options: VideoConvertOptions, target: Target) -> VideoBackend:
    """The library, or the program if requested. Raises Unusable if it, or the hardware, is missing."""
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


def _refuse_if_incomplete(source: VideoSource) -> None:
    """Refuse a file that lacks too much at its ends, by the same limit as for damage inside."""
    if beyond_use((source.unshown + source.missing) * source.rate, source.seconds * source.rate):
        raise UndecodableError(
            f"{source.path.name}: {'; '.join(damage_notes(source))}: get it whole, or save what is there with "
            "`ffmpeg -i IN -c copy OUT.mkv`, and take that"
        )


class _Conversion:
    """One attempt."""

    def __init__(
        self, context: TaskContext[VideoConvertOptions], source: VideoSource, target: Target, backend: VideoBackend
    ) -> None:
        self._context = context
        self._source = source
        self._backend = backend
        formats = () if target.copied else backend.pixel_formats()
        self._pixels = choose_pixel_format(source, formats, target.video_codec, context.options)
        self._target = target
        self._window = wanted_part(source, context.options)
        self._copied = CopiedPicture(source, target, self._window) if target.copied else None
        with open_input(source.path) as container:
            self._sounds = choose_sounds(container, context.options, target)
            self._extras = choose_extras(container, source, context.options, target)
            self._burned = choose_burned(container, source, context.options, context.check_stop)
        self._search = None if target.copied else search_for(context, source, self._pixels, backend)
        self._fitting = None if target.copied else fitting_for(context, source, self._pixels, backend)
        self._journal = Journal(context, source.time_base)
        self._saved = self._recall_or_plan()
        self._faults: list[str] = []
        self._notes_beside: tuple[str, ...] = ()
        self._notes_of_gaps: tuple[str, ...] = ()

    def _recall_or_plan(self) -> SavedConversion:
        options = self._context.options
        mark = fingerprint(
            self._source.path,
            bytes_depend_on(options),
            msgspec.to_builtins(self._target),
            _LAYOUT,
            [av.__version__, av.library_versions],
            self._backend.build,
            self._search.build if self._search else "",
            self._burned.mark if self._burned else "",
            version=self._context.input_version,
        )
        saved = self._journal.recall(mark)
        if saved is not None:
            self._source = msgspec.structs.replace(self._source, clock=saved.plan.clock)
            return saved
        length = segment_length(options, float((self._window.end - self._window.start) * self._source.time_base))
        return SavedConversion(fingerprint=mark, plan=_plan(self._source, self._window, length))

    def run(self) -> Outcome:
        """Do the remaining work."""
        self._saved = self._saved.intact(self._context.work_dir)
        self._clean_up()
        if self._context.options.parts is not None:
            self._take_parts(self._context.options.parts)
        if self._search is not None:
            self._saved = self._search.run(self._source, self._saved, self._journal, self._burner())
            self._target = self._search.target(self._saved)
        if self._fitting is not None:
            self._saved = self._making((0.0, PICTURE_UNTIL), picture=False).run()
            self._saved = self._fitting.prepare(self._source, self._saved, self._journal, self._burner())
        while True:
            self._make()
            self._refuse_if_late()
            self._join()
            size = self._context.output_part.stat().st_size
            again = self._fitting.next(self._saved, self._journal, size) if self._fitting else None
            if again is None:
                break
            self._saved = again
            self._clean_up()
        self._context.progress(100, self._joining)
        return Finished(result=self._describe(), message=counted(self._frames, "frame"))

    def _refuse_if_late(self) -> None:
        """Refuse a film of which too much would be left out, by the same limit as for damage."""
        # With its own frame rate, the result has more or fewer frames than the source.
        late, frames = self._saved.late, round(self._saved.frames * self._source.rate / self._source.shown_rate)
        if beyond_use(late, frames):
            raise Unusable(
                f"{self._source.path.name}: the times of its pictures jump back, as in files that were joined or are "
                f"damaged, and {late:,} of {late + frames:,} would be left out: {GIVE_TIMES}"
            )

    def run_part(self, part: int, parts: int) -> Outcome:
        """Do the remaining work of a part, and write it for the task that joins the parts."""
        self._saved = self._saved.intact(self._context.work_dir)
        self._clean_up()
        made = self._origin()
        record, why = PartRecord(part=part, parts=parts, made=made), self._why_not_spread() or made.differs(made)
        if not why:
            share = shares_of(self._saved.plan, self._source.keyframes, parts)[part - 1]
            making = self._making((0.0, _WRITTEN_FROM), sounds=(), share=share)
            self._saved = making.run()
            bad, good = making.read
            record = msgspec.structs.replace(
                record,
                segments=self._saved.segments,
                bad=bad,
                good=good,
                refused=self._saved.refused,
                faults=tuple(making.faults),
            )
        size, written, throttle = sum(segment.size for segment in self._saved.segments), 0, Throttle()

        def tick(count: int) -> None:
            nonlocal written
            self._context.check_stop()
            written += count
            if throttle.due():
                done = _WRITTEN_FROM + (100 - _WRITTEN_FROM) * written / max(1, size)
                self._context.progress(done, f"writing part {part} of {parts}")

        write_part(self._context.output_part, record, self._context.work_dir, tick)
        message = f"{counted(len(self._saved.segments), 'segment')} of {self._saved.plan.count}"
        result = {
            "part": part,
            "parts": parts,
            "segments": len(self._saved.segments),
            "frames": self._saved.frames,
            "mark": record.mark,
            "notes": [f"not spread: {why}"] if why else list(record.faults),
        }
        return Finished(result=result, message=f"not spread: {why}" if why else message)

    def _why_not_spread(self) -> str:
        """Say why this film cannot be made in parts; empty if it can."""
        if not self._source.keyframes:
            return "the file does not say where its keyframes are, so it is read and encoded in one go"
        if len(stretches_of(self._saved.plan, self._source.keyframes)) < _FEWEST:
            return "the film is short, or has so few keyframes that it is encoded in one go"
        return ""

    def _origin(self) -> Origin:
        """All that the film's bytes depend on, on this node."""
        try:
            trial = self._backend.stamp(self._target, self._pixels)
        except (av.error.FFmpegError, ProgramFailedError):
            trial = ""
        return Origin(
            film=self._context.input_version or fingerprint_anywhere(self._source.path),
            options=hash_of(bytes_depend_on(self._context.options), msgspec.to_builtins(self._target), _LAYOUT),
            cuts=hash_of(msgspec.to_builtins(self._saved.plan)),
            fonts=hash_of(self._burned.mark if self._burned else []),
            software=self._backend.software,
            encoder=trial,
        )

    def _take_parts(self, parts: int) -> None:
        """Take over the segments of the parts, each with a checkpoint, as if this task had made them.

        A part that does not match this film, these options or this node's software is skipped, and so are damaged
        segments: they are made here. Raises PartMissing.
        """
        if why := self._why_not_spread():
            self._faults.append(f"not spread: {why}")
            return
        origin: Origin | None = None
        bad = good = 0
        for part, share in enumerate(shares_of(self._saved.plan, self._source.keyframes, parts), 1):
            if self._finished_segments.issuperset(share):
                continue
            path = part_file(self._context.output_file, part, parts)
            try:
                with open_part(path, part, parts) as opened:
                    origin = origin or self._origin()
                    if why := origin.differs(opened.record.made) or self._why_not_its_result(opened.record):
                        raise PartUnusable(why)
                    self._take(opened, share)
            except PartUnusable as unfit:
                self._faults.append(f"part {part} of {parts} was made again here: {unfit}")
            else:
                bad, good = bad + opened.record.bad, good + opened.record.good
        length = float((self._saved.plan.end - self._saved.plan.start) * self._source.time_base)
        if beyond_use(bad, max(good, length * self._source.rate)):  # nothing is known about parts taken earlier
            raise undecodable(self._source.path.name, self._source.codec, bad, good)

    def _take(self, opened: Part, share: range) -> None:
        """Take over the segments of a part, and note how many are damaged."""
        plan, record, lost = self._saved.plan, opened.record, 0
        self._faults += record.faults
        for segment in record.segments:
            behind = segment.number >= plan.count and share.stop == plan.count
            if segment.number in self._finished_segments or not (segment.number in share or behind):
                continue
            if not opened.take(segment, self._context.work_dir, self._tick):
                lost += 1
                if segment.number >= plan.count - 1:
                    break  # segments after the last cut build on this one: all are made again
                continue
            change = FinishedPart(segment=segment, refused=self._saved.unknown_of(record.refused))
            self._saved = self._saved.after(change)
            done = (PICTURE_UNTIL - SOUND_SHARE) * min(1.0, len(self._saved.segments) / plan.count)
            self._journal.save(self._saved, change, done, f"part {record.part} of {record.parts}")
        self._saved = self._saved.after(FinishedPart(refused=record.refused))  # if no segment was left
        if lost:
            self._faults.append(
                f"part {record.part} of {record.parts} was damaged: {lost} of its pieces were made again"
            )

    def _why_not_its_result(self, record: PartRecord) -> str:
        """Say why the file is not its task's result, if this task depends on such a task."""
        results = [result for result in self._context.dependencies.values() if isinstance(result, dict)]
        marks = [
            one.get("mark") for one in results if (one.get("part"), one.get("parts")) == (record.part, record.parts)
        ]
        return "it is not what its task has made" if marks and record.mark not in marks else ""

    @property
    def _finished_segments(self) -> set[int]:
        """The numbers of the segments that exist."""
        return {segment.number for segment in self._saved.segments}

    def _tick(self, _count: int) -> None:
        self._context.check_stop()

    def _clean_up(self) -> None:
        """Remove all files that are not known to be finished."""
        remove_others(self._context.work_dir, ("segment-*", "sound-*"), keep=self._saved.files)

    def _make(self) -> None:
        """Make the missing sound and segments."""
        percent = 0.0, PICTURE_UNTIL
        if self._search is not None:
            percent = self._search.share(self._saved.plan), PICTURE_UNTIL
        if self._fitting is not None:
            self._target, percent = self._fitting.target(self._saved), self._fitting.span(self._saved)
        making = self._making(percent)
        self._saved, self._faults = making.run(), [*self._faults, *making.faults]
        if not self._saved.segments and not self._target.copied:
            raise Unusable(self._why_no_picture())

    def _why_no_picture(self) -> str:
        """Say why there is no picture. One that begins earlier may still be shown there."""
        name, options = self._source.path.name, self._context.options
        if not self._window.cut_before and not self._window.cut_behind:
            return f"not one picture of {name} can be decoded"
        until = "" if options.end is None else f" and before {options.end:g} s"
        return (
            f"no picture of {name} that can be decoded begins at {options.start or 0:g} s or later{until}: take an "
            "earlier start, or give frame_rate, which shows the picture before again"
        )

    def _making(
        self,
        percent: tuple[float, float],
        *,
        picture: bool = True,
        sounds: Sequence[SoundPlan] | None = None,
        share: range | None = None,
    ) -> Making:
        return Making(
            self._context,
            self._source,
            with_light(self._target, self._source, self._pixels),
            self._pixels,
            self._backend,
            self._sounds.kept if sounds is None else sounds,
            self._span,
            self._saved,
            self._journal,
            percent,
            picture=picture,
            burner=self._burner(),
            share=share,
        )

    def _burner(self) -> Burner | None:
        if self._burned is None:
            return None
        return Burner(self._burned, self._source, self._context.options, self._pixels)

    @property
    def _span(self) -> SoundRange:
        """The wanted part of the sound. If the picture is copied, the sound begins with its keyframe."""
        window, unit = self._window, self._source.time_base
        start = self._copied.begin if self._copied else window.start * unit
        return SoundRange(start if window.cut_before else None, window.end * unit if window.cut_behind else None)

    @property
    def _joining(self) -> str:
        """The name of the final step."""
        return "copying" if self._target.copied else "joining"

    @property
    def _frames(self) -> int:
        return self._copied.count if self._copied else self._saved.frames

    def _join(self) -> None:
        plan = self._saved.plan
        length = max(0.001, float((plan.end - plan.start) * self._source.time_base))
        throttle = Throttle()

        before = COPY_FROM if self._target.copied else PICTURE_UNTIL

        def tick(seconds: float) -> None:
            self._context.check_stop()
            if throttle.due() and self._fitting is None:  # no one knows whether this is the last time
                self._context.progress(before + (100 - before) * min(1.0, max(0.0, seconds) / length), self._joining)

        picture = self._picture()
        parts = Parts(
            self._context.work_dir,
            picture,
            self._saved.audio,
            [sound.metadata for sound in self._sounds_in_result()],
            self._extras,
            self._span.end,
            whole=not self._window.cut_before,
        )
        self._notes_beside = join(self._source, self._target.container, parts, self._context.output_part, tick)
        self._notes_of_gaps = () if self._copied else tuple(picture.notes)

    def _picture(self) -> CopiedPicture | EncodedPicture:
        if self._copied:
            return self._copied
        aspect = output_aspect(self._source, self._context.options)
        end = self._window.end if self._window.cut_behind else None
        saved = self._saved
        return EncodedPicture(
            self._source, self._target, self._context.work_dir, saved.segments, aspect, end, saved.refused
        )

    def _sounds_in_result(self) -> list[SoundPlan]:
        """The sound tracks in the result; the others turned out to be empty."""
        made = {track.stream for track in self._saved.audio}
        return [sound for sound in self._sounds.kept if sound.stream in made]

    def _describe(self) -> dict[str, Any]:
        output = self._context.output_part
        source = source_fields(read_source(self._source.path))
        width, height = output_size(self._source, self._context.options)
        if self._target.copied:
            width, height = source["source_width"], source["source_height"]
        result = output_fields(
            output,
            {"matroska": "mkv"}.get(self._target.container.format, self._target.container.format),
            width=width,
            height=height,
            frames=self._frames,
            duration=duration_of(output),
            codec=source["source_codec"] if self._target.copied else self._target.video_codec,
        )
        heard = self._sounds_in_result()
        return result | {
            "audio_codec": ", ".join(dict.fromkeys(sound.codec for sound in heard)),
            "audio_copied": bool(heard) and all(sound.copy for sound in heard),
            "audio_tracks": len(heard),
            **self._levels(),
            "subtitles": len(self._extras.subtitles.kept),
            "attachments": len(self._extras.attachments.kept),
            "segments": len(self._saved.segments),
            "notes": self._notes(),
            **({"quality": self._search.describe(self._saved)} if self._search else {}),
            **({"parts": self._context.options.parts} if self._context.options.parts else {}),
            **({"passes": self._fitting.describe(self._saved)} if self._fitting else {}),
            **source,
        }

    def _levels(self) -> dict[str, Any]:
        """The loudness of the sound tracks before and after, if requested."""
        levels = [track.level for track in self._saved.audio if track.level is not None]
        if not levels:
            return {}
        return {
            "loudness": [level.after for level in levels],
            "source_loudness": [level.before for level in levels],
            "gain": [level.gain for level in levels],
        }

    def _encodes(self) -> bool:
        """Whether anything was encoded."""
        return not self._target.copied or any(not sound.copy for sound in self._sounds_in_result())

    def _notes(self) -> list[str]:
        """Notes on all that was changed or left out."""
        form, extras, heard = self._target.container.format, self._extras, self._sounds_in_result()
        if self._copied:
            picture = [*self._copied.notes, *lost_picture_notes(self._source, self._context.output_part, form)]
        else:
            picture = [*begin_notes(self._source), *slant_notes(self._source)]
            picture += picture_notes(self._source, self._pixels, self._context.options, self._target.video_codec)
            picture += light_notes(self._target, self._source, self._pixels)
            picture += self._burned.notes if self._burned else ()
        part = self._window.cut_before or self._window.cut_behind
        nothing = "nothing of it in the part that is wanted" if part else "none of it can be decoded"
        sound: list[str] = []
        for each in self._sounds.kept:
            if each in heard:
                made = next(track for track in self._saved.audio if track.stream == each.stream)
                sound += [
                    *each.notes,
                    *made.notes,
                    *(made.level.notes if made.level else ()),
                    *lost_disposition_notes(each.called, each.metadata, form),
                ]
            else:
                sound.append(f"{each.called} dropped: {nothing}")
        tracks = [("picture", extras.picture), *((each.called, each.metadata) for each in heard)]
        tracks += [("subtitle track", metadata) for metadata in extras.subtitles.metadata]
        lost = lost_tag_notes(self._context.output_part, form, extras.tags, tracks)
        return [
            *damage_notes(self._source),
            *picture,
            *(self._backend.notes if self._encodes() else ()),
            *self._faults,
            *self._left_out(),
            *self._notes_of_gaps,
            *self._sounds.notes,
            *sound,
            *extras.notes,
            *self._notes_beside,
            *lost,
        ]

    def _left_out(self) -> list[str]:
        """Notes on how much of the wanted picture could not be decoded, or is not as it was."""
        after, until = self._saved.plan.after, self._saved.plan.until
        refused = sum(
            (after is None or moment > after) and (until is None or moment <= until) for moment in self._saved.refused
        )
        notes = [left_out_note(refused, "the picture")] if refused else []
        if late := self._saved.late:
            left = f"{counted(late, 'picture')} {plural(late, 'is', 'are')} left out"
            notes.append(f"{left}: their times jump back, as in files that were joined or are damaged")
        if resized := self._saved.resized:
            have = f"{counted(resized, 'picture')} {plural(resized, 'has', 'have')}"
            notes.append(f"{have} another size than the first, and {plural(resized, 'is', 'are')} stretched to it")
        return notes


def _plan(source: VideoSource, window: WantedPart, segment_seconds: float) -> SegmentPlan:
    step = step_for(window.start, window.end, int(segment_seconds / source.time_base))
    cuts = choose_cuts(window.start, window.end, step, source.keyframes)
    return SegmentPlan(
        clock=source.clock,
        start=window.start,
        end=window.end,
        step=step,
        cuts=cuts,
        after=window.after,
        until=window.until,
    )
