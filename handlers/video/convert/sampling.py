"""Encodes samples of the film as the film will be, and measures their size and similarity to the frames."""

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import msgspec
from av.video.frame import VideoFrame

from ...contract import TaskContext, Unusable
from ...side_by_side import TickFunction, Work, side_by_side
from ..frames import DecodePass
from ..source import VideoSource, info_of
from .burning import Burner
from .checkpoint import SegmentPlan, stretches_of
from .estimate import segments_at_once
from .making import Throttle, job_of
from .meters import Likeness, Meter
from .options import Target, VideoConvertOptions, on_one_thread
from .pacing import wanted_frames
from .picture import PixelFormat, Shaper
from .quality import FilmSample, samples_of, sampling_of
from .segments import EncoderFailedError, Encoding, VideoBackend, encode_segments

_ENCODED_ANEW = 3
"""How often a sample is encoded at most, if its encoder fails."""


class Measured(NamedTuple):
    """The measurement of one sample."""

    likeness: Likeness
    size: int
    """Bytes."""
    frames: int


class _FrameDone(NamedTuple):
    """A frame was encoded or compared."""


_FRAME_DONE = _FrameDone()
_Step: TypeAlias = "Measured | _FrameDone"


class Sampling:
    """Encodes the samples of a film, as often as requested.

    Args:
        context: the running attempt.
        source: the film as the encoders see it.
        pixels: the result's pixel format.
        backend: the encoders.
        meter: compares; None: only sizes are wanted.
        burner: draws subtitles into the picture, if wanted.
    """

    def __init__(
        self,
        context: TaskContext[VideoConvertOptions],
        source: VideoSource,
        pixels: PixelFormat,
        backend: VideoBackend,
        meter: Meter | None = None,
        burner: Burner | None = None,
    ) -> None:
        self._context = context
        self._source = source
        self._pixels = pixels
        self._backend = backend
        self._meter = meter
        self._burner = burner
        self._at_once = segments_at_once(job_of(context), info_of(source))
        self._frames = 0
        """Frames done. Only for progress: other threads change it, too."""

    def measure(self, target: Target, plan: SegmentPlan, tell: Callable[[float], None]) -> list[Measured]:
        """Measure all samples, in a fixed order. `tell` is called with the finished share, 0 to 1.

        Raises Unusable if they hold no picture.
        """
        source = self._source
        samples = samples_of(plan.start, plan.end, float(source.time_base), source.keyframes)
        length = sum(sample.until - sample.after for sample in samples) * source.time_base
        frames = max(1.0, (2 if self._meter else 1) * float(length * source.shown_rate))
        split = len(stretches_of(plan, source.keyframes)) > 1
        target = on_one_thread(target) if split else target
        works = [self._work(number, sample, target, plan) for number, sample in enumerate(samples)]
        measured: list[Measured] = []
        self._frames = 0
        throttle = Throttle()

        def report() -> None:
            self._context.check_stop()
            if throttle.due():
                tell(min(1.0, self._frames / frames))

        team = side_by_side(works, min(self._at_once, len(samples)), report, now=self._context.cores)
        with closing(team) as steps:
            for step in steps:
                if isinstance(step, Measured):
                    measured.append(step)
                else:
                    self._frames += 1
                    report()
        if not any(each.frames for each in measured):
            raise Unusable(f"no picture that can be decoded begins in the samples of {source.path.name}: give crf")
        return sorted(measured)  # a sum in another order may differ

    def _work(self, number: int, sample: FilmSample, target: Target, plan: SegmentPlan) -> Work[_Step]:
        folder = self._context.work_dir / f"sample-{number:05}"

        def work(tick: TickFunction) -> Generator[_Step, None, None]:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield from self._encoded_and_compared(sample, target, plan, folder, tick)
            finally:
                shutil.rmtree(folder)

        return work

    def _encoded_and_compared(
        self, sample: FilmSample, target: Target, plan: SegmentPlan, folder: Path, tick: TickFunction
    ) -> Generator[_Step, None, None]:
        encoding = Encoding(
            source=self._source,
            target=target,
            pixels=self._pixels,
            options=self._context.options,
            plan=msgspec.structs.replace(plan, cuts=(), step=plan.end - plan.start),  # makes a sample one segment
            folder=folder,
            burner=self._burner,
        )
        for left in reversed(range(_ENCODED_ANEW)):
            made = None
            try:
                for step in encode_segments(encoding, self._backend, *sample, self._reading(sample, tick)):
                    if isinstance(step, int):
                        yield _FRAME_DONE
                    else:
                        made = step
            except EncoderFailedError:
                if not left:
                    raise
            else:
                break
        if made is None:
            yield Measured(Likeness((), 0), 0, 0)
            return
        likeness = Likeness((), 0)
        if self._meter is not None:
            pairs = self._pairs(sample, plan, folder / made.name, tick)
            likeness = self._meter.measure(pairs, folder / "report.json", tick)
        yield Measured(likeness, made.size, made.frames)

    def _reading(self, sample: FilmSample, tick: TickFunction) -> DecodePass:
        before = max(0, int(self._source.seconds_at(sample.after) * self._source.rate))
        return DecodePass(1 if self._at_once > 1 else 0, before, tick)

    def _pairs(
        self, sample: FilmSample, plan: SegmentPlan, made: Path, tick: TickFunction
    ) -> Iterator[tuple[VideoFrame, VideoFrame]]:
        """Yield each frame as the encoder got it, with its decoded result."""
        reading = self._reading(sample, tick)
        shaper = Shaper(self._source, self._context.options, self._pixels, made.parent, reading.threads)
        references = wanted_frames(self._source, plan.start, *sample, reading)
        with av.open(str(made)) as container:
            results = container.decode(video=0)
            for moment, frame in references:
                try:
                    result = next(results)
                except (StopIteration, av.error.FFmpegError) as error:
                    raise EncoderFailedError(
                        f"the encoder wrote {made.name} in a form that cannot be decoded", 0
                    ) from error
                self._frames += 1
                shaped = shaper.shape(frame)
                yield self._burner.burned(shaped, moment) if self._burner else shaped, result


def covered(plan: SegmentPlan, source: VideoSource) -> float:
    """The share of the film that the samples cover, 0 to 1."""
    seconds = float((plan.end - plan.start) * source.time_base)
    count, length = sampling_of(seconds)
    return min(1.0, count * length / max(0.001, seconds))
