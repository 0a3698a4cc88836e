"""Measures how similar two pictures are, in one number: by a library filter, or by an ffmpeg program with libvmaf."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import isfinite, log10, pow  # noqa: A004 - always a float, where the operator may be complex
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import av
import msgspec
from av.error import FFmpegError
from av.filter import Graph
from av.filter.filter import filters_available
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ....events.errors import InvalidOptions
from ...contract import Unusable
from ..program import Program
from .options import require_vmaf
from .program_encoder import SILENT, RunningProgram
from .quality import BEST

Pairs: TypeAlias = Iterable[tuple[VideoFrame, VideoFrame]]
"""A frame as the encoder got it, and its decoded result. Both have the same size and format."""

_UNIT = Fraction(1, 25)
"""Frames are compared one by one; their times do not matter."""
_KEYS = {
    "ssim": ("lavfi.ssim.All",),
    "xpsnr": ("lavfi.xpsnr.xpsnr.y", "lavfi.xpsnr.xpsnr.u", "lavfi.xpsnr.xpsnr.v"),
}
_HD, _LARGER_THAN_HD = (1920, 1080), 2560 * 1440
"""VMAF has two sizes: pictures are judged at full HD, and those above 2560x1440 by the model for 4K."""


class Likeness(NamedTuple):
    """The similarity of one sample. `combined` combines several."""

    means: tuple[float, ...]
    """Averages over its frames, of values that may be averaged: for xpsnr the distances in brightness and both
    colours."""
    frames: int


class Meter(Protocol):
    """Measures by one metric."""

    by: str
    """Name and version of what measures, for the result."""
    build: str
    """Identifies the measuring build: another one may find another rate factor."""

    def measure(self, pairs: Pairs, report: Path, tick: Callable[[], None]) -> Likeness:
        """Compare. `report` is a file for its use, which is removed at the end. `tick` may raise."""


def open_meter(metric: str, threads: int) -> Meter:
    """The meter for `metric`, with this number of threads per sample. Raises Unusable if it is missing."""
    if metric != "vmaf":
        return _LibraryMeter(metric)
    try:
        return _ProgramMeter(require_vmaf(), threads)
    except InvalidOptions as error:  # it was there when the task was created
        raise Unusable(str(error)) from error


def combined(metric: str, likenesses: Sequence[Likeness]) -> float:
    """One score for all samples, as if they were one film; higher is better.

    Raises Unusable if the metric gives no number.
    """
    counted = [each for each in likenesses if each.frames]
    frames = sum(each.frames for each in counted)
    sums = zip(*([mean * each.frames for mean in each.means] for each in counted), strict=True)
    means = [sum(column) / frames for column in sums]
    if not all(map(isfinite, means)):
        raise Unusable(f"these pictures have no {metric}: give crf instead of quality, or another metric")
    score: float = means[0]
    if metric == "xpsnr":  # averaged as the filter does for a film; the worst of three, as in ab-av1
        score = min(BEST[metric] if mean <= 0 else -20 * log10(mean) for mean in means)
    return round(min(BEST[metric], score), 6)


class _LibraryMeter:
    """A filter of the FFmpeg that PyAV includes."""

    def __init__(self, metric: str) -> None:
        if metric not in filters_available:
            raise Unusable(f"this build of FFmpeg has no filter {metric}: install PyAV from its wheel on PyPI")
        self._metric = metric
        self.by = f"PyAV {av.__version__}"
        self.build = ""  # the library is in the fingerprint anyway

    def measure(self, pairs: Pairs, _report: Path, tick: Callable[[], None]) -> Likeness:
        """Compare."""
        comparison: _Comparison | None = None
        for number, (reference, made) in enumerate(pairs):
            tick()
            comparison = comparison or _Comparison(self._metric, reference)
            comparison.take(number, reference, made)
        return comparison.end() if comparison else Likeness((), 0)


class _Comparison:
    def __init__(self, metric: str, like: VideoFrame) -> None:
        self._metric = metric
        self._graph = Graph()
        self._inputs = [
            self._graph.add_buffer(
                width=like.width,
                height=like.height,
                format=VideoFormat(like.format.name),
                time_base=_UNIT,
                name=name,
            )
            for name in ("made", "reference")
        ]
        judge = self._graph.add(metric)
        for place, entry in enumerate(self._inputs):
            entry.link_to(judge, 0, place)
        judge.link_to(self._graph.add("buffersink"))
        self._graph.configure()
        self._sums = [0.0] * len(_KEYS[metric])
        self._frames = 0

    def take(self, number: int, reference: VideoFrame, made: VideoFrame) -> None:
        """Take the next pair."""
        for entry, frame in zip(self._inputs, (made, reference), strict=True):
            frame.pts, frame.time_base = number, _UNIT
            entry.push(frame)
        self._pull()

    def end(self) -> Likeness:
        """The means of all pairs."""
        for entry in self._inputs:
            entry.push(None)
        self._pull()
        return Likeness(tuple(total / self._frames for total in self._sums), self._frames)

    def _pull(self) -> None:
        while True:
            try:
                metadata = self._graph.vpull().metadata
            except (BlockingIOError, EOFError, FFmpegError):
                return
            self._frames += 1
            for place, key in enumerate(_KEYS[self._metric]):
                self._sums[place] += self._countable(float(metadata[key]))

    def _countable(self, score: float) -> float:
        """A value that can be averaged. Decibels cannot, and are infinite for equal pictures; their distance can."""
        if self._metric != "xpsnr":
            return score
        return pow(10.0, -score / 20) if isfinite(score) else 0.0


class _Pooled(msgspec.Struct):
    mean: float


class _Vmaf(msgspec.Struct):
    pooled_metrics: dict[str, _Pooled]


class _ProgramMeter:
    """The ffmpeg program: it gets both pictures in one stream through a pipe, and writes a report."""

    def __init__(self, program: Program, threads: int) -> None:
        self._program = program
        self._threads = threads
        self.by = f"the program ffmpeg {program.version}, libvmaf"
        self.build = program.built

    def measure(self, pairs: Pairs, report: Path, tick: Callable[[], None]) -> Likeness:
        """Compare. Raises ProgramFailedError."""
        feed: RunningProgram | None = None
        tracks: list[VideoStream] = []
        frames = 0
        try:
            for reference, made in pairs:
                if feed is None:
                    how = ["-lavfi", self._filters(reference, report.name), "-f", "null", "-"]
                    feed = RunningProgram([str(self._program.path), *SILENT], how, report, tick)
                    tracks = [_raw_track(feed, reference) for _ in range(2)]
                for track, frame in zip(tracks, (made, reference), strict=True):
                    frame.pts, frame.time_base = frames, _UNIT
                    feed.push(track, frame)
                frames += 1
            if feed is None:
                return Likeness((), 0)
            for track in tracks:
                feed.push(track, None)
            feed.finish()
        except BaseException:  # whatever the error, the program must not keep running
            if feed is not None:
                feed.discard()
            raise
        scores = msgspec.json.decode(report.read_bytes(), type=_Vmaf)
        report.unlink()
        return Likeness((scores.pooled_metrics["vmaf"].mean,), frames)

    def _filters(self, like: VideoFrame, report: str) -> str:
        """The filters. Smaller pictures are enlarged, because people rated full HD for VMAF's model."""
        model = "vmaf_4k_v0.6.1" if like.width * like.height > _LARGER_THAN_HD else "vmaf_v0.6.1"
        judge = f"libvmaf=log_path={report}:log_fmt=json:n_threads={self._threads}:model=version={model}"
        if like.width >= _HD[0] or like.height >= _HD[1]:
            return f"[0:0][0:1]{judge}"
        fitted = f"scale={_HD[0]}:{_HD[1]}:force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bicubic"
        return f"[0:0]{fitted}[made];[0:1]{fitted}[reference];[made][reference]{judge}"


def _raw_track(feed: RunningProgram, like: VideoFrame) -> VideoStream:
    track = feed.container.add_stream("rawvideo", rate=round(1 / _UNIT), time_base=_UNIT)
    assert isinstance(track, VideoStream)
    track.width, track.height, track.pix_fmt = like.width, like.height, like.format.name
    return track
