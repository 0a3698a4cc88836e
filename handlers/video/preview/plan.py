"""The moments of the frames to take. The plan is kept in the task's folder, because finding scenes may take long."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from ...pieces import seal
from ..frames import frames_after, keyframes_of, spread
from ..scoring import FrameScorer, Luma
from ..source import VideoSource
from .options import PreviewKind, VideoPreviewOptions

_NAME = "plan.json"


class _SavedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The moments of all frames, rising, as saved in the task's folder."""

    fingerprint: str
    """The fingerprint of input, options and libraries."""
    moments: list[int]
    seal: str
    """Hash of the moments. A damaged plan is made again."""

    @property
    def whole(self) -> bool:
        """Whether the moments are the ones that were saved."""
        return self.seal == _hash(self.moments)


def planned_moments(
    source: VideoSource,
    options: VideoPreviewOptions,
    kind: PreviewKind,
    mark: str,
    folder: Path,
    tick: Callable[[int], None],
) -> list[int]:
    """The moments of the frames, from `folder` if an earlier attempt has saved them there.

    `tick` is called with the moment of each examined frame; it may raise.
    """
    path = folder / _NAME
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=_SavedPlan)
        if saved.fingerprint == mark and saved.whole:
            return saved.moments
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        pass
    moments = _choose(source, options, kind, tick)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(_SavedPlan(fingerprint=mark, moments=moments, seal=_hash(moments))))
    seal(part, path)
    return moments


def _choose(
    source: VideoSource, options: VideoPreviewOptions, kind: PreviewKind, tick: Callable[[int], None]
) -> list[int]:
    count = options.columns * options.rows if kind == "sheet" else options.clips
    if options.positions == "scenes":
        points = spread_over(scene_starts(source, count, tick), source.end, count)
    else:
        points = spread(source, count)
    if kind == "sheet":
        return points
    return _clips(source, options, points)


def _clips(source: VideoSource, options: VideoPreviewOptions, points: Sequence[int]) -> list[int]:
    """Place each clip around its point, within the video and after the clip before.

    If the video is too short for them, all are shortened.
    """
    step = max(1, round(1 / (options.fps * source.time_base)))
    each = max(1, min(options.frames_a_clip, (source.end - source.start) // (step * len(points))))
    moments: list[int] = []
    earliest = source.start
    for point in points:
        first = max(earliest, min(point - each * step // 2, source.end - each * step))
        moments += [min(source.end, first + number * step) for number in range(each)]
        earliest = moments[-1] + step
    return moments


def _hash(moments: list[int]) -> str:
    return hashlib.sha256(msgspec.json.encode(moments)).hexdigest()


# --- Scenes ---


_SIDE = 32
_JUMP = 22.0
"""If the brightness (of 255) changes by more than this on average from one frame to the next, there is a cut."""
_KEYFRAMES_EACH = 3
"""With fewer keyframes than this for each wanted frame, every frame is examined."""


def scene_starts(source: VideoSource, wanted: int, tick: Callable[[int], None]) -> list[int]:
    """The moments at which scenes begin. The first is the source's start.

    `tick` is called with the moment of each examined frame; it may raise.
    """
    few = len(source.keyframes) < _KEYFRAMES_EACH * wanted
    frames = frames_after(source, None) if few else keyframes_of(source)
    scorer, starts = FrameScorer(), [source.start]
    before: Luma | None = None
    for moment, frame in frames:
        tick(moment)
        luma = scorer.luma(frame, _SIDE)
        if before is not None and (before.shape != luma.shape or float(np.abs(luma - before).mean()) > _JUMP):
            starts.append(moment)
        before = luma
    return starts


def spread_over(starts: Sequence[int], end: int, count: int) -> list[int]:
    """Spread `count` moments over the scenes, rising and never at a cut.

    The longest scenes get one moment each. Each further moment goes to the scene with the most time per moment.
    """
    scenes = [(start, after) for start, after in pairwise([*starts, max(end, starts[-1] + 1)]) if after > start]
    chosen = sorted(sorted(scenes, key=lambda scene: scene[0] - scene[1])[:count])
    shares = [1] * len(chosen)
    while sum(shares) < count:
        lengths = [(after - start) / share for (start, after), share in zip(chosen, shares, strict=True)]
        shares[lengths.index(max(lengths))] += 1
    return [
        start + (after - start) * (2 * part + 1) // (2 * share)
        for (start, after), share in zip(chosen, shares, strict=True)
        for part in range(share)
    ]
