"""Which frames are taken. Found once; kept in the work folder, because finding scenes can take long."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ...pieces import seal
from ..picking import spread
from ..probe import Source
from .options import Kind, VideoPreviewOptions
from .scenes import scene_starts, spread_over

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
