"""Passes over the whole film until the file has the wanted size.

Each pass encodes all of it at one rate factor. Samples give the first rate factor. The result of a pass gives the next
one, and two passes are usually enough. The file is joined and measured after each pass, so no forecast is needed.
"""

from typing import Any

import msgspec

from ...contract import TaskContext, Unusable
from ..source import VideoSource
from .burning import Burner
from .checkpoint import FinishedPart, SavedConversion, SegmentPlan
from .journal import Journal
from .making import PICTURE_UNTIL, SOUND_SHARE
from .options import MAX_CRF, USUAL_CRF, Target, VideoConvertOptions, choose_target, with_crf
from .picture import PixelFormat
from .quality import FINEST_CRF
from .sampling import Sampling, covered
from .segments import VideoBackend
from .size import SAMPLED_TRIES, USUAL_PASSES, FactorRange, Sized, factor_range, first_pass, next_pass, next_sampled

_HOPELESS = 1.25
"""If the samples need this many times the available bytes at the coarsest rate factor, no pass is tried."""
_OF_A_FRAME, _OF_A_FILE = 16, 2000
"""Approximate bytes of the container for each frame, and for everything else."""


def fitting_for(
    context: TaskContext[VideoConvertOptions],
    source: VideoSource,
    pixels: PixelFormat,
    backend: VideoBackend,
) -> "Fitting | None":
    """The passes that the options require, or None."""
    options = context.options
    wanted = options.target_size is not None or options.passes > 1
    return Fitting(context, source, pixels, backend) if wanted else None


class Fitting:
    """The passes of one attempt."""

    def __init__(
        self,
        context: TaskContext[VideoConvertOptions],
        source: VideoSource,
        pixels: PixelFormat,
        backend: VideoBackend,
    ) -> None:
        self._context = context
        self._source = source
        self._pixels = pixels
        self._backend = backend
        self._codec = choose_target(context.options, context.output_file).video_codec
        codec = self._codec
        self._bounds: FactorRange = factor_range(codec, USUAL_CRF[codec], FINEST_CRF[codec], MAX_CRF[codec])
        self._made: Sized | None = None
        """The result of the last pass."""

    def prepare(
        self, source: VideoSource, saved: SavedConversion, journal: Journal, burner: Burner | None
    ) -> SavedConversion:
        """Find the first rate factor on samples, and save each measurement.

        The sound must be finished. Raises Unusable if the samples show that the size cannot be reached.
        """
        self._source = source
        room = self._room(saved)
        sampling = Sampling(self._context, source, self._pixels, self._backend, burner=burner)
        while (crf := next_sampled(saved.sampled, room, self._bounds)) is not None:
            picture = self._sampled(crf, saved, sampling)
            change = FinishedPart(sampled=Sized(crf, picture))
            saved = saved.after(change)
            message = f"crf {crf:g} would give about {picture} bytes of picture"
            journal.save(saved, change, self._sampled_percent(saved, 0.0), message)
        smallest = min(saved.sampled, key=lambda one: one.picture)
        if smallest.crf >= self._bounds.coarsest and smallest.picture > _HOPELESS * room:
            needed = smallest.picture + self._bytes_besides_picture(saved)
            self._refuse(f"the smallest that {self._codec} gives, with crf {smallest.crf:g}, is about {needed} bytes")
        return saved

    def _sampled(self, crf: float, saved: SavedConversion, sampling: Sampling) -> int:
        """Bytes of the whole picture, by the samples."""

        def tell(part: float) -> None:
            self._context.progress(self._sampled_percent(saved, part), f"trying crf {crf:g} on samples")

        measured = sampling.measure(self._target(crf), saved.plan, tell)
        return round(sum(each.size for each in measured) / covered(saved.plan, self._source))

    def target(self, saved: SavedConversion) -> Target:
        """The encoding in the current pass of `saved`."""
        return self._target(self._crf(saved))

    def span(self, saved: SavedConversion) -> tuple[float, float]:
        """Percent at which the pass begins and ends: each takes half of the rest, since their number is unknown."""
        begin = self._sampled_until(saved.plan)
        rest = (PICTURE_UNTIL - begin) / 2 ** len(saved.passes)
        return PICTURE_UNTIL - rest, PICTURE_UNTIL - rest / 2

    def next(self, saved: SavedConversion, journal: Journal, size: int) -> SavedConversion | None:
        """The state for the next pass, if this one's file has `size` bytes; None: that file is the result.

        Raises Unusable if even the coarsest rate factor gives too much.
        """
        asked = self._asked(saved.plan)
        picture = sum(segment.size for segment in saved.segments)
        beside = size - picture if self._context.options.target_size is not None else 0
        made = self._made = Sized(self._crf(saved), picture, beside)
        passes = (*saved.passes, made)
        if next_pass(saved.sampled, passes, asked, self._bounds) is not None:
            change = FinishedPart(passed=made)
            saved = saved.after(change)
            message = f"pass {len(passes)}: crf {made.crf:g} gives {made.size} bytes"
            journal.save(saved, change, self.span(saved)[0], message)
            return saved
        if made.size > asked:
            self._refuse(
                f"the smallest that {self._codec} gives, with crf {made.crf:g}, is {made.size} bytes, {made.beside} of "
                "them beside the picture"
            )
        return None

    def describe(self, saved: SavedConversion) -> dict[str, Any]:
        """Facts for the result: the wanted size, and the result of each pass."""
        assert self._made is not None
        asked = self._asked(saved.plan)
        return {
            "asked": asked,
            "reached": self._made.size,
            "crf": self._made.crf,
            "passes": [[one.crf, one.size] for one in (*saved.passes, self._made)],
        }

    def _crf(self, saved: SavedConversion) -> float:
        if not saved.passes:
            return first_pass(saved.sampled, self._room(saved), self._bounds)
        crf = next_pass(saved.sampled, saved.passes, self._asked(saved.plan), self._bounds)
        assert crf is not None
        return crf

    def _target(self, crf: float) -> Target:
        """The target with this rate factor. Encoders accept fractions, which our options do not have."""
        target = choose_target(with_crf(self._context.options, 0), self._context.output_file)
        return msgspec.structs.replace(target, video_options={**target.video_options, "crf": f"{crf:g}"})

    def _asked(self, plan: SegmentPlan) -> int:
        """Bytes that the file may have; for a bit rate, bytes of the picture."""
        options = self._context.options
        if options.target_size is not None:
            return options.target_size
        return max(1, int((options.video_bitrate or 0) / 8 * self._seconds(plan)))

    def _bytes_besides_picture(self, saved: SavedConversion) -> int:
        """Approximate bytes of sound and container, where they count. The first pass shows the rest."""
        if self._context.options.target_size is None:
            return 0
        sound = sum(track.size for track in saved.audio)
        return int(sound + _OF_A_FRAME * self._seconds(saved.plan) * float(self._source.shown_rate)) + _OF_A_FILE

    def _room(self, saved: SavedConversion) -> int:
        """Approximate bytes that the picture may have."""
        return max(1, self._asked(saved.plan) - self._bytes_besides_picture(saved))

    def _seconds(self, plan: SegmentPlan) -> float:
        return float((plan.end - plan.start) * self._source.time_base)

    def _sampled_until(self, plan: SegmentPlan) -> float:
        """Percent at which the samples are done; before them comes the sound."""
        work = SAMPLED_TRIES * covered(plan, self._source)
        return SOUND_SHARE + (PICTURE_UNTIL - SOUND_SHARE) * work / (work + USUAL_PASSES)

    def _sampled_percent(self, saved: SavedConversion, part: float) -> float:
        """Percent when `part` of the current rate factor's samples is done."""
        done = min(1.0, (len(saved.sampled) + part) / SAMPLED_TRIES)
        return SOUND_SHARE + (self._sampled_until(saved.plan) - SOUND_SHARE) * done

    def _refuse(self, why: str) -> None:
        options = self._context.options
        asked = (
            f"target_size {options.target_size}" if options.target_size else f"video_bitrate {options.video_bitrate}"
        )
        raise Unusable(
            f"{self._source.path.name}: {asked} is too small: {why}. Ask for more, or for a smaller picture "
            "(max_width), a lower frame_rate, less sound (audio_bitrate), or another codec"
        )
