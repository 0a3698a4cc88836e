"""The work of `audio_convert`: sound is copied, encoded, brought to a loudness, or drawn.

A file is written in one go. With `loudness`, the checkpoint keeps the measurements of the source and of each try.
"""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, TypeAlias

import av
import msgspec
from av.audio.frame import AudioFrame

from ....events import Checkpoint
from ...contract import Finished, Outcome, TaskContext, Unusable
from ...media.loudness import NOT_MEASURED, Loudness, begin_of, first_level, level_notes, measured, settle_level
from ...media.pictures import save
from ...media.result import output_fields
from ...media.sound_shape import Cut, Gain, Shape, shaped
from ...pieces import fingerprint, recalled
from .options import AudioConvertOptions, SoundContainer, codec_of, container_of, draws
from .source import Decoding, SoundSource, closed_notes, cut_sound_notes, read_sound
from .tags import Metadata, lost_tags, metadata_of
from .waveform import drawing, envelope_of
from .writing import EncodingPlan, WrittenTrack, copy, encode_track, plan_for

_REPORT_EVERY = 0.25
"""Seconds."""
_MEASURED_AT = begin_of(0)
"""Percent."""

PercentRange: TypeAlias = tuple[float, float]
"""The percent of the whole work at which a part begins and ends."""


class SavedLoudness(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the checkpoint."""

    fingerprint: str
    before: Loudness
    level: Gain
    """The level to try next."""
    tries: int = 0
    """How many tries were made."""


def run(context: TaskContext[AudioConvertOptions]) -> Outcome:
    """Convert the sound of `context.input_file` into `context.output_part`.

    Raises:
        Unusable: the input has no sound, or not what the options require, or is too damaged.
        OSError: a file cannot be read or written.
    """
    conversion = _Conversion(context, read_sound(context.input_file, context.options.track))
    return conversion.draw() if draws(context.output_file) else conversion.convert()


class _Conversion:
    """One attempt."""

    def __init__(self, context: TaskContext[AudioConvertOptions], source: SoundSource) -> None:
        self._context = context
        self._options = context.options
        self._source = source
        self._cut = Cut(self._options.start or 0.0, self._options.end)
        self._source_notes: list[str] = []
        """Notes about the sound itself, from its last decoding."""
        self._reported_at = float("-inf")

    def draw(self) -> Outcome:
        """Write a picture of the sound."""
        options, source, output = self._options, self._source, self._context.output_part
        shape = Shape("flt", source.layout, source.rate)
        envelope = envelope_of(self._frames(shape, None, "drawing", (0, 95)), options.width)
        assert envelope is not None
        save(drawing(envelope.columns(options.width), options), output, "PNG", optimize=True)
        result = output_fields(output, "png", width=options.width, height=options.height)
        return self._finished(result, source.notes, envelope.samples / source.rate)

    def convert(self) -> Outcome:
        """Write a sound file."""
        options, source, part = self._options, self._source, self._context.output_part
        container = container_of(self._context.output_file)
        fits = source.codec in container.copied
        if options.codec == "copy" and not fits:
            raise Unusable(f"sound of {source.codec} cannot be copied into {container.name}: leave codec at auto")
        metadata = metadata_of(source, options, self._cut, container)
        notes, own = [*source.notes, *metadata.notes], dict[str, Any]()
        copied = options.codec == "copy" or (options.codec == "auto" and fits and not options.alters)
        if copied:
            codec = source.codec
            made = copy(source, self._cut, container, metadata, part, self._ticker("copying", (0, 100)))
            if not made.seconds:
                raise Unusable(f"{source.path.name}: not one packet of sound can be copied from there")
            notes += closed_notes(made.closed)
            if self._cut.end is None:
                self._source_notes = cut_sound_notes(source, made.begin + made.seconds)
            if options.start or options.end is not None:
                notes.append(f"cut between packets: {made.seconds:.3f} s from {made.begin:.3f} s on")
        else:
            plan = plan_for(source, options, codec_of(options, container, self._context.output_file))
            codec = plan.codec
            notes += plan.notes
            if options.loudness is None:
                made = self._encode(plan, None, container, metadata, (0, 100))
            else:
                made, own, loudness_notes = self._level(options.loudness, plan, container, metadata)
                notes += loudness_notes
        notes += lost_tags(part, metadata, container)
        written = read_sound(part, None)
        # Copied packets may begin with some that players skip.
        seconds = min(made.seconds, written.seconds or made.seconds) if copied else made.seconds
        result = output_fields(part, container.name, width=0, height=0, frames=0, duration=seconds, codec=codec)
        own |= {
            "copied": copied,
            "sample_rate": written.rate,
            "channels": written.channels,
            "bitrate": round(8 * result["size"] / seconds) if seconds else 0,
        }
        return self._finished(result | own, notes, seconds)

    def _finished(self, result: dict[str, Any], notes: Any, seconds: float) -> Outcome:
        source = self._source
        fields = {
            "source_codec": source.codec,
            "source_duration": round(source.seconds, 3),
            "source_sample_rate": source.rate,
            "source_channels": source.channels,
            "notes": [*self._source_notes, *notes],
        }
        return Finished(result=result | fields, message=f"{seconds:.1f} s of sound")

    # --- Loudness ---

    def _level(
        self, target: float, plan: EncodingPlan, container: SoundContainer, metadata: Metadata
    ) -> tuple[WrittenTrack, dict[str, Any], list[str]]:
        """Encode and measure until the loudness is right. Returns the track, fields of the result, and notes."""
        peak = self._options.true_peak
        mark = fingerprint(
            self._source.path,
            msgspec.to_builtins(self._options),
            container.name,
            [av.__version__, av.library_versions],
            version=self._context.input_version,
        )
        saved = recalled(self._context.checkpoint, mark, SavedLoudness) or self._measure(mark, plan, target)
        before = saved.before
        if before.integrated is None:
            made = self._encode(plan, None, container, metadata, (_MEASURED_AT, 100))
            return made, {"loudness": before.fields(), "source_loudness": before.fields()}, [NOT_MEASURED]
        made = WrittenTrack(0.0)

        def attempt(level: Gain, tries: int) -> Loudness:
            nonlocal made
            if tries > saved.tries:
                self._save(msgspec.structs.replace(saved, level=level, tries=tries), begin_of(tries))
            middle = (begin_of(tries) + begin_of(tries + 1)) / 2
            made = self._encode(plan, level, container, metadata, (begin_of(tries), middle))
            return self._measured_result(container, (middle, begin_of(tries + 1)))

        settled = settle_level(saved.level, saved.tries, target, peak, attempt)
        fields = {"loudness": settled.after.fields(), "source_loudness": before.fields(), "gain": settled.gain}
        return made, fields, level_notes(settled, before, target, peak)

    def _measure(self, mark: str, plan: EncodingPlan, target: float) -> SavedLoudness:
        """Measure the source, in the channels and at the rate that the result will have."""
        shape = Shape("dbl", plan.shape.layout or self._source.layout, plan.shape.rate)
        before = measured(self._frames(shape, None, "measuring", (0, _MEASURED_AT)))
        level = Gain(0.0, None) if before.integrated is None else first_level(before, target, self._options.true_peak)
        saved = SavedLoudness(fingerprint=mark, before=before, level=level)
        self._save(saved, _MEASURED_AT)
        return saved

    def _save(self, saved: SavedLoudness, percent: float) -> None:
        checkpoint = Checkpoint(data=msgspec.to_builtins(saved))
        self._context.save_checkpoint(checkpoint, progress=percent, message="measured")

    def _measured_result(self, container: SoundContainer, span: PercentRange) -> Loudness:
        """Measure the finished file, as a player would decode it."""
        written = read_sound(self._context.output_part, None)
        decoding = Decoding(written, self._ticker(f"measuring the {container.name}", span))
        return measured(shaped(decoding.frames(), Shape("dbl", written.layout, written.rate), Cut()))

    # --- Reading ---

    def _encode(
        self, plan: EncodingPlan, level: Gain | None, container: SoundContainer, metadata: Metadata, span: PercentRange
    ) -> WrittenTrack:
        frames = self._frames(plan.shape, level, "encoding", span)
        return encode_track(self._source, frames, plan, container, metadata, self._context.output_part)

    def _frames(self, shape: Shape, level: Gain | None, what: str, span: PercentRange) -> Iterator[AudioFrame]:
        """Yield the wanted part of the sound in `shape`. Raises Unusable if there is none, or it is too damaged."""
        decoding = Decoding(self._source, self._ticker(what, span))
        count = 0
        frames = shaped(decoding.frames(), shape, self._cut, level)
        while (frame := self._next(frames, shape)) is not None:
            count += frame.samples
            yield frame
        self._source_notes = decoding.notes(to_the_end=not self._cut.is_over(decoding.seconds))
        if not count:
            raise Unusable(self._nothing(decoding.seconds, shape.rate))

    def _next(self, frames: Iterator[AudioFrame], shape: Shape) -> AudioFrame | None:
        try:
            return next(frames, None)
        except av.error.ArgumentError as error:  # the filters do not fit together
            source = self._source
            raise Unusable(
                f"{source.path.name}: its {source.channels} channels cannot be mixed into {shape.layout}, because "
                "nothing says where they belong; wav keeps them as they are"
            ) from error

    def _nothing(self, seconds: float, rate: int) -> str:
        name, start = self._source.path.name, self._cut.start
        if start and seconds <= start:
            return f"start {start:g} is after the end of {name}, which has {seconds:.3f} s of sound"
        where = " between start and end" if start or self._cut.end is not None else ""
        return f"{name}: there is less than one sample of sound{where}, at {rate} samples a second"

    def _ticker(self, what: str, span: PercentRange) -> Callable[[float], None]:
        """A function that takes the finished seconds: it reports progress, and ends the attempt on request."""
        length = max(0.001, min(self._source.seconds, self._cut.end or self._source.seconds))

        def tick(seconds: float) -> None:
            self._context.check_stop()
            if monotonic() - self._reported_at >= _REPORT_EVERY:
                self._reported_at = monotonic()
                self._context.progress(span[0] + (span[1] - span[0]) * min(1.0, seconds / length), what)

        return tick
