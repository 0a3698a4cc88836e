"""Which frames are taken. The plan is kept in the work folder, because finding scenes can take long."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from ...pieces import seal
from ..frames import frames_after, keyframes_of, spread
from ..scoring import FrameScorer, Luma
from ..source import Source
from .options import Kind, VideoPreviewOptions

_NAME = "plan.json"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Moments of all frames, rising."""

    fingerprint: str
    """Of input, options and library."""
    moments: list[int]
    seal: str
    """Hash of the moments: a damaged plan is made anew."""

    @property
    def whole(self) -> bool:
        """Whether the moments are those that were written."""
        return self.seal == _hash(self.moments)


def plan(
    source: Source, options: VideoPreviewOptions, kind: Kind, mark: str, folder: Path, tick: Callable[[int], None]
) -> list[int]:
    """The moments of the frames, from `folder` if an earlier attempt has left them there."""
    path = folder / _NAME
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=Plan)
        if saved.fingerprint == mark and saved.whole:
            return saved.moments
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        pass
    moments = _choose(source, options, kind, tick)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(Plan(fingerprint=mark, moments=moments, seal=_hash(moments))))
    seal(part, path)
    return moments


def _choose(source: Source, options: VideoPreviewOptions, kind: Kind, tick: Callable[[int], None]) -> list[int]:
    count = options.columns * options.rows if kind == "sheet" else options.clips
    if options.positions == "scenes":
        points = spread_over(scene_starts(source, count, tick), source.end, count)
    else:
        points = spread(source, count)
    if kind == "sheet":
        return points
    return _clips(source, options, points)


def _clips(source: Source, options: VideoPreviewOptions, points: Sequence[int]) -> list[int]:
    """Each clip lies around its point, as far as the video reaches and without running into the clip before.

    All are shortened where the video is too short for them.
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
"""Mean change of brightness, of 255, from one look to the next that is taken for a cut."""
_LOOKS_A_FRAME = 3
"""Fewer keyframes than this for each wanted frame, and every frame is looked at."""


def scene_starts(source: Source, wanted: int, tick: Callable[[int], None]) -> list[int]:
    """Moments at which the picture becomes another one; the first is the source's start.

    `tick` is told the moment of each look; it may raise.
    """
    few = len(source.keyframes) < _LOOKS_A_FRAME * wanted
    looks = frames_after(source, None) if few else keyframes_of(source)
    judge, starts = FrameScorer(), [source.start]
    before: Luma | None = None
    for moment, frame in looks:
        tick(moment)
        luma = judge.luma(frame, _SIDE)
        if before is not None and (before.shape != luma.shape or float(np.abs(luma - before).mean()) > _JUMP):
            starts.append(moment)
        before = luma
    return starts


def spread_over(starts: Sequence[int], end: int, count: int) -> list[int]:
    """So many rising moments: the longest scenes first get one each, then longer ones more. Never at a cut."""
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
