"""Measures the loudness of sound by EBU R128, and brings it to the requested level."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from math import inf, log10
from typing import NamedTuple

import av
import msgspec
from av.audio.frame import AudioFrame
from av.filter import Graph

from .samples import silence
from .sound_shape import Gain

_GATE = -70.0
"""LUFS. Quieter sound counts as silence, by the standard."""
_QUIETEST = -120.0
"""dBTP, for silence. Numbers in a result must be finite."""
_BEHIND = 0.2
"""Seconds of silence after the sound. The meter reports every tenth of a second, and so includes the last ones."""
NEAR = 0.2
"""LU. A result this near to the target is not encoded again."""
_PEAK_READING = 0.02
"""dB by which the meter may be wrong."""
_BELOW = 0.1
"""dB below the wanted peak that the limiter aims at, because of its inaccuracy."""
MOST_TRIES = 8
_SETTLED_AFTER = 5
"""Tries. After these only peaks are corrected: the two targets may push each other up for ever."""

LEVEL_TAGS = ("replaygain_", "r128_", "itunnorm")
"""First letters of the tags that state the old loudness."""
NOT_MEASURED = "not made louder: it is silent, or too short or too quiet to be measured"
_NEAR_ENOUGH, _PEAK_NEAR_ENOUGH = 0.5, 0.05
"""LU and dB by which the result may be off without a note."""
_MEASURING = 25.0
"""Percent of the work for measuring the source. Each try then takes half of the rest."""


class Loudness(msgspec.Struct, frozen=True):
    """A measurement."""

    integrated: float | None
    """LUFS; None: silent, or too short to measure."""
    range: float
    """LU."""
    true_peak: float
    """dBTP; infinity is given as 120, minus infinity as -120."""

    def fields(self) -> dict[str, float | None]:
        """The measurement, for the result."""
        measured = self.integrated
        return {
            "integrated": None if measured is None else round(measured, 1),
            "range": round(self.range, 1),
            "true_peak": round(self.true_peak, 1),
        }


class _Meter:
    def __init__(self, frame: AudioFrame) -> None:
        self._graph = graph = Graph()  # it owns its filters
        self._source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        )
        meter, self._sink = graph.add("ebur128", "metadata=1:peak=true:framelog=quiet"), graph.add("abuffersink")
        self._source.link_to(meter)
        meter.link_to(self._sink)
        graph.configure()
        self._metadata: dict[str, str] = {}
        self._silence = silence(frame, int(_BEHIND * frame.sample_rate))

    def push(self, frame: AudioFrame | None) -> None:
        if frame is not None:
            frame.pts = None
        self._source.push(frame)
        while True:
            try:
                self._metadata.update(self._sink.pull().metadata)
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    def result(self) -> Loudness:
        before = dict(self._metadata)
        self.push(self._silence)
        integrated = float(before.get("lavfi.r128.I", -inf))
        peak = float(self._metadata.get("lavfi.r128.true_peak", 0.0))
        return Loudness(
            integrated=integrated if integrated > _GATE else None,
            range=float(before.get("lavfi.r128.LRA", 0.0)),
            true_peak=min(-_QUIETEST, 20 * log10(peak)) if peak > 0 else _QUIETEST,
        )


def measured(frames: Iterable[AudioFrame]) -> Loudness:
    """Measure frames of one kind, whose samples are interleaved floating-point numbers."""
    meter: _Meter | None = None
    for frame in frames:
        meter = meter or _Meter(frame)
        meter.push(frame)
    return meter.result() if meter is not None else Loudness(None, 0.0, _QUIETEST)


def first_level(before: Loudness, target: float, peak: float) -> Gain:
    """The level to try first."""
    assert before.integrated is not None
    gain = target - before.integrated
    return Gain(gain, peak - _BELOW if before.true_peak + gain > peak else None)


def next_level(level: Gain, after: Loudness, target: float, peak: float, tries: int) -> Gain | None:
    """A better level, based on the last result; None if that was near enough, or cannot be improved.

    Args:
        level: the last one.
        after: the measurement of its result.
        target: LUFS.
        peak: dBTP.
        tries: how many were made.
    """
    over = after.true_peak - peak
    gain, ceiling = level
    if over > _PEAK_READING:
        ceiling = round(min(peak, peak if ceiling is None else ceiling) - over - _BELOW * tries / 2, 3)
    if after.integrated is not None and abs(target - after.integrated) > NEAR and tries <= _SETTLED_AFTER:
        gain += target - after.integrated
    return None if (gain, ceiling) == level or tries >= MOST_TRIES else Gain(gain, ceiling)


class Settled(NamedTuple):
    """The level that was settled on, and the measurement of its result."""

    level: Gain
    after: Loudness

    @property
    def gain(self) -> float:
        """Decibels, for the result."""
        return round(self.level.gain, 2)


def settle_level(
    level: Gain, tries: int, target: float, peak: float, attempt: Callable[[Gain, int], Loudness]
) -> Settled:
    """Try one level after the other until the result is near enough.

    Args:
        level: the first one.
        tries: how many were made before it.
        target: LUFS.
        peak: dBTP.
        attempt: makes the result with a level, given the number of tries before, and measures it.
    """
    while True:
        after = attempt(level, tries)
        better = next_level(level, after, target, peak, tries + 1)
        if better is None:
            return Settled(level, after)
        level, tries = better, tries + 1


def begin_of(tries: int) -> float:
    """Percent of the work done after this number of tries."""
    return float(100 - (100 - _MEASURING) * 0.5**tries)


def level_notes(settled: Settled, before: Loudness, target: float, peak: float) -> list[str]:
    """Notes on how far the result is from the target, and how the peaks were limited."""
    level, after = settled
    notes = []
    if level.ceiling is not None:
        over = before.true_peak + level.gain - level.ceiling
        notes.append(f"peaks were held down, by up to {over:.1f} dB, to stay below {peak:g} dBTP")
    if after.integrated is None:
        notes.append("its loudness cannot be measured any more")
    elif abs(after.integrated - target) > _NEAR_ENOUGH:
        notes.append(f"it is {after.integrated:.1f} LUFS and not {target:g}: with such peaks it cannot be louder")
    if after.true_peak > peak + _PEAK_NEAR_ENOUGH:
        notes.append(f"its true peak is {after.true_peak:.1f} dBTP: the codec adds that much")
    return notes
