"""Finds the rate factor (crf) that gives a film of the wanted size.

No media library here: the service imports this.
"""

from collections.abc import Sequence
from math import ceil, log2
from typing import NamedTuple

import msgspec

SAMPLED_TRIES = 3
"""Rate factors that are tried on samples before the first pass."""
USUAL_PASSES = 2
_MOST_PASSES = 4
"""Passes after which a film that is small enough is accepted, even if it could be larger."""
_FULL_ENOUGH = 0.95
"""A film with at least this share of the wanted size is not made again to use the rest."""
_AIM = 0.98
"""The share of the size to aim at, because a forecast may be slightly wrong."""
_NEAR = 0.03
_HALVED_BY = {"h264": 7.0, "h265": 7.0, "vp9": 13.0, "av1": 9.0}
"""How much the rate factor must rise to halve the size, before anything was measured."""
_GRID = {"h264": 0.1, "h265": 0.1, "vp9": 1.0, "av1": 1.0}
"""Smallest differences between rate factors that an encoder distinguishes."""
_STEEPEST, _FLATTEST = 0.1, 10.0
"""Factors of the usual slope; a measured slope outside of them is chance."""


class Sized(msgspec.Struct, frozen=True, array_like=True):
    """The result of a rate factor; an array in the checkpoint."""

    crf: float
    picture: int
    """Bytes of the picture; for samples, scaled to the whole film."""
    beside: int = 0
    """Bytes of all else in the file: sound, subtitles, attachments, the container's own."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.picture + self.beside


class FactorRange(NamedTuple):
    """The rate factors of a codec."""

    usual: float
    finest: float
    coarsest: float
    grid: float
    halved_by: float


def factor_range(codec: str, usual: float, finest: float, coarsest: float) -> FactorRange:
    """The range for our name of a codec."""
    return FactorRange(usual, finest, coarsest, _GRID[codec], _HALVED_BY[codec])


def next_sampled(sampled: Sequence[Sized], asked: int, bounds: FactorRange) -> float | None:
    """The rate factor to try next on samples; None: enough is known. `asked`: bytes that the picture may have."""
    if not sampled:
        return bounds.usual
    if len(sampled) == SAMPLED_TRIES or abs(sampled[-1].picture / asked - 1) < _NEAR:
        return None
    crf = _forecast(sampled, asked, bounds)
    return None if any(one.crf == crf for one in sampled) else crf


def first_pass(sampled: Sequence[Sized], asked: int, bounds: FactorRange) -> float:
    """The rate factor of the first pass over the whole film, by the samples."""
    return _forecast(sampled, _AIM * asked, bounds)


def next_pass(sampled: Sequence[Sized], passes: Sequence[Sized], asked: int, bounds: FactorRange) -> float | None:
    """The rate factor of the next pass; None: the last pass is the result if it fits, or no film is small enough.

    Args:
        sampled: the samples' results. Their sizes may be wrong, but hardly how the size depends on the crf.
        passes: those made so far, in order; at least one.
        asked: bytes that the file may have.
        bounds: the codec's range.
    """
    last = passes[-1]
    large = max((one for one in passes if one.size > asked), key=_crf, default=None)
    small = min((one for one in passes if one.size <= asked and one.crf > _crf(large)), key=_crf, default=None)
    line = [large, small] if large and small else passes[-2:] if len(passes) > 1 else sampled[-2:]
    crf = _met(last, _AIM * max(1, asked - last.beside), _halved_by(line, bounds), bounds)
    if last.size > asked:
        if last.crf >= bounds.coarsest:
            return None
        crf = max(crf, last.crf + bounds.grid * 2 ** (len(passes) - 1))
        return _on_grid(min(crf, small.crf) if small else crf, bounds)
    if last.size >= _FULL_ENOUGH * asked or len(passes) >= _MOST_PASSES:
        return None
    crf = _on_grid(max(crf, _crf(large) + bounds.grid), bounds)
    return crf if crf < last.crf else None


def _crf(made: Sized | None) -> float:
    return made.crf if made else 0.0


def _forecast(measured: Sequence[Sized], asked: float, bounds: FactorRange) -> float:
    """The rate factor for the wanted picture size, by the nearest measurement and the slope to the next one."""
    nearest = sorted(measured, key=lambda one: (abs(log2(max(1, one.picture) / asked)), one.crf))
    return _met(nearest[0], asked, _halved_by(nearest[:2], bounds), bounds)


def _halved_by(measured: Sequence[Sized], bounds: FactorRange) -> float:
    """How much the crf must rise to halve the size, by two measurements, or the usual amount."""
    if len(measured) == 2:  # noqa: PLR2004 - a line takes two
        halvings = log2(max(1, measured[0].picture) / max(1, measured[1].picture))
        seen = (measured[1].crf - measured[0].crf) / halvings if halvings else 0.0
        if _STEEPEST * bounds.halved_by < seen < _FLATTEST * bounds.halved_by:
            return seen
    return bounds.halved_by


def _met(near: Sized, asked: float, halved_by: float, bounds: FactorRange) -> float:
    """The rate factor where a line through a measurement reaches the wanted size."""
    return _on_grid(near.crf + halved_by * log2(max(1, near.picture) / asked), bounds)


def _on_grid(crf: float, bounds: FactorRange) -> float:
    """The next rate factor that the encoder distinguishes, towards smaller films."""
    on_grid = round(ceil(crf / bounds.grid - 1e-6) * bounds.grid, 3)
    return min(bounds.coarsest, max(bounds.finest, on_grid))
