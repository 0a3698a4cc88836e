"""The search for the rate factor that gives the requested quality.

The samples are encoded as the film will be, and compared with the frames that the encoder got. Each rate factor has a
checkpoint, which determines the next one. So a resume repeats no measurement, and has the same result.
"""

from typing import Any

import msgspec

from ...contract import TaskContext, Unusable
from ..source import VideoSource, info_of
from .burning import Burner
from .checkpoint import FinishedPart, SavedConversion, SegmentPlan
from .estimate import segments_at_once
from .journal import Journal
from .making import PICTURE_UNTIL, job_of
from .meters import Meter, combined, open_meter
from .options import MAX_CRF, USUAL_CRF, Target, VideoConvertOptions, choose_target, with_crf
from .picture import PixelFormat
from .quality import FINEST_CRF, USUAL_TRIES, Tried, best_tried, next_crf, quality_of, sampling_of
from .sampling import Sampling, covered
from .segments import VideoBackend


def search_for(
    context: TaskContext[VideoConvertOptions], source: VideoSource, pixels: PixelFormat, backend: VideoBackend
) -> "QualitySearch | None":
    """The search that the options require, or None. Raises Unusable if there is no meter."""
    quality = context.options.quality
    return None if quality is None else QualitySearch(context, source, pixels, backend, quality)


class QualitySearch:
    """The search in one attempt."""

    def __init__(
        self,
        context: TaskContext[VideoConvertOptions],
        source: VideoSource,
        pixels: PixelFormat,
        backend: VideoBackend,
        quality: str,
    ) -> None:
        self._context = context
        self._source = source
        self._pixels = pixels
        self._backend = backend
        self._asked = quality_of(quality)
        self._codec = choose_target(context.options, context.output_file).video_codec
        at_once = segments_at_once(job_of(context), info_of(source))
        self._meter: Meter = open_meter(self._asked.metric, max(1, context.room.cores // at_once))
        self.build = self._meter.build
        """Identifies the meter's build, if it is not the library."""

    def run(
        self, source: VideoSource, saved: SavedConversion, journal: Journal, burner: Burner | None
    ) -> SavedConversion:
        """Measure the missing rate factors, and save each one."""
        self._source = source
        sampling = Sampling(self._context, source, self._pixels, self._backend, self._meter, burner)
        bounds = USUAL_CRF[self._codec], FINEST_CRF[self._codec], MAX_CRF[self._codec]
        while (crf := next_crf(saved.tried, self._asked.value, *bounds)) is not None:
            score = self._measure(crf, saved, sampling)
            change = FinishedPart(tried=Tried(crf, score))
            saved = saved.after(change)
            journal.save(saved, change, self._percent(saved, 0.0), f"crf {crf} gives {self._asked.metric} {score:.4g}")
        return saved

    def share(self, plan: SegmentPlan) -> float:
        """About the percent of the whole work that the search takes."""
        work = USUAL_TRIES * covered(plan, self._source)
        return PICTURE_UNTIL * work / (work + 1)

    def target(self, saved: SavedConversion) -> Target:
        """The encoding of the film. Raises Unusable if no rate factor reaches the quality."""
        return self._target(self._best_tried(saved).crf)

    def describe(self, saved: SavedConversion) -> dict[str, Any]:
        """Facts for the result: the requested and the measured quality."""
        count, length = sampling_of(float((saved.plan.end - saved.plan.start) * self._source.time_base))
        best = self._best_tried(saved)
        return {
            "metric": self._asked.metric,
            "asked": self._asked.value,
            "reached": best.score,
            "crf": best.crf,
            "samples": count,
            "sample_seconds": round(length, 3),
            "tried": [list(msgspec.structs.astuple(one)) for one in saved.tried],
            "by": self._meter.by,
        }

    def _measure(self, crf: int, saved: SavedConversion, sampling: Sampling) -> float:
        """The rate factor's score on all samples."""

        def tell(part: float) -> None:
            self._context.progress(self._percent(saved, part), f"trying crf {crf} on samples")

        measured = sampling.measure(self._target(crf), saved.plan, tell)
        return combined(self._asked.metric, [each.likeness for each in measured])

    def _percent(self, saved: SavedConversion, part: float) -> float:
        """Percent when `part` of the current rate factor is done."""
        return self.share(saved.plan) * min(1.0, (len(saved.tried) + part) / USUAL_TRIES)

    def _target(self, crf: int) -> Target:
        return choose_target(with_crf(self._context.options, crf), self._context.output_file)

    def _best_tried(self, saved: SavedConversion) -> Tried:
        best = best_tried(saved.tried, self._asked.value)
        if best is None:
            finest = min(saved.tried, key=lambda one: one.crf)
            metric = self._asked.metric
            raise Unusable(
                f"{self._source.path.name}: {metric} {self._asked.value:g} is beyond {self._codec}: on the samples crf "
                f"{finest.crf}, its finest, gives {metric} {finest.score:.6g}. Ask for less, or take another codec or "
                "a slower preset"
            )
        return best
