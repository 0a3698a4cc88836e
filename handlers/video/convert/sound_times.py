"""Keeps decoded sound in step with the picture: gaps are filled, repeats are dropped, drift is stretched away.

An encoder counts samples. If a source has fewer or more samples than its times say, the sound would come too early or
too late from there on.
"""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, dropwhile, pairwise
from typing import Any, TypeVar

import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet

from ...media.samples import frame_of, sample_values, silence
from ..opening import as_fraction

_NEAR = Fraction(1, 20)
"""Seconds by which times may be off. Listeners do not notice less."""
_FAR = Fraction(1, 5)
"""Seconds. A larger offset is corrected at once, not by stretching."""
_SETTLING = 2
"""Seconds within which most of the accumulated drift is stretched away."""
_FARTHEST = 600
"""Seconds that a time may lie ahead if the file does not state its length. A damaged time may lie days ahead."""
_PIECE = 4096
"""Samples in a frame of silence."""
_ENDS = Fraction(1)
"""Seconds that sound may continue after the file's stated end."""

S = TypeVar("S", AudioFrame, "Packet[Any]")


class SoundSynchronizer:
    """Keeps one track of sound in step.

    Args:
        container: the opened file.
        span: the wanted part, from when to when. Notes are about this part.
        tick: called for each piece of silence with its moment; it may raise.
    """

    def __init__(
        self,
        container: InputContainer,
        span: tuple[Fraction | None, Fraction | None],
        tick: Callable[[float], None],
    ) -> None:
        length = container.duration
        self._ends = Fraction((container.start_time or 0) + length, 1_000_000) + _ENDS if length else None
        self._span = span
        self._tick = tick
        self._filled = self._dropped = self._stretched = self._drifted = Fraction(0)

    def notes(self, called: str) -> tuple[str, ...]:
        """Notes on the corrections."""
        corrections = {
            f"{float(self._filled):.2f} s of silence fill the gaps of {called}": self._filled,
            f"{float(self._dropped):.2f} s of {called} dropped: their times jump back": self._dropped,
            f"{called} was stretched by {float(self._stretched):.2f} s to keep step with the picture": self._stretched,
            f"{called} drifts from the picture by up to {float(self._drifted):.2f} s; "
            "with audio_codec aac it would be stretched": self._drifted,
        }
        return tuple(note for note, seconds in corrections.items() if abs(seconds) >= Fraction(1, 200))

    def frames(self, frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
        """Yield the frames, each at its own time, within the tolerance."""
        due: Fraction | None = None  # when the next sample is heard
        drifts = skips = False
        for frame, moment, length, leaps in self._placed(
            frames, lambda frame: Fraction(frame.samples, frame.sample_rate)
        ):
            due = moment if due is None else due
            off, last_end = moment - due, moment + length
            if leaps or skips or abs(off) > _FAR:
                missing = round(off * frame.sample_rate)
                self._filled += self._inside(due, moment)
                self._dropped += self._inside(moment, min(due, last_end))
                yield from self._silence(frame, due, missing)
                due += Fraction(max(0, missing), frame.sample_rate)
                skips = -missing >= frame.samples
                if skips:
                    continue
                frame = part_of(frame, max(0, -missing), frame.samples)  # noqa: PLW2901 - the rest of it
            elif drifts or abs(off) > _NEAR:
                drifts = True
                frame = _stretched(frame, round(off * length * frame.sample_rate / _SETTLING))  # noqa: PLW2901 - the same sound
                change = Fraction(frame.samples, frame.sample_rate) - length
                self._stretched += change if self._inside(moment, last_end) else 0
            due += Fraction(frame.samples, frame.sample_rate)
            yield frame

    def packets(
        self, packets: "Iterable[Packet[Any]]", rate: int, width: int, silent: int = 0
    ) -> "Iterator[Packet[Any]]":
        """Yield the packets of uncompressed sound for a mov, which counts samples. Drift is only noted.

        `width`: bytes of one moment of all channels. `silent`: the byte of silence.
        """
        due: Fraction | None = None  # when the next sample is heard
        skips = False
        timed = dropwhile(lambda packet: packet.pts is None, packets)
        for packet, moment, length, leaps in self._placed(timed, lambda packet: Fraction(packet.size // width, rate)):
            due = moment if due is None else due
            unit, off, last_end = as_fraction(packet.time_base), moment - due, moment + length
            corrects, skips = leaps or skips, (leaps or skips) and off < -_NEAR
            if skips:
                self._dropped += self._inside(moment, last_end)
                continue
            if corrects and off > 0:
                self._filled += self._inside(due, moment)
                missing = round(off * rate)
                for first in range(0, missing, _PIECE):
                    samples = min(_PIECE, missing - first)
                    filling: Packet[Any] = Packet(bytes([silent]) * (samples * width))
                    filling.pts, filling.time_base = round((due + Fraction(first, rate)) / unit), packet.time_base
                    filling.duration = round(Fraction(samples, rate) / unit)
                    yield filling
                due += Fraction(missing, rate)
            elif abs(off) > _NEAR and self._inside(moment, last_end):
                self._drifted = max(self._drifted, abs(off))
            packet.pts = round(due / unit)
            due += length
            yield packet

    def _placed(
        self, sounds: Iterable[S], length_of: Callable[[S], Fraction]
    ) -> Iterator[tuple[S, Fraction, Fraction, bool]]:
        """Yield each frame or packet, when it is heard, its length, and whether it leaps away from the one before."""
        last_end: Fraction | None = None  # by its own time
        for sound, following in pairwise(chain(sounds, [None])):
            assert sound is not None
            length = length_of(sound)
            moment = self._start_of(_moment(sound), _moment(following), length, last_end)
            leaps = last_end is not None and abs(moment - last_end) > _NEAR
            last_end = moment + length
            yield sound, moment, length, leaps

    def _start_of(
        self, moment: Fraction | None, after: Fraction | None, length: Fraction, last_end: Fraction | None
    ) -> Fraction:
        """When a frame or packet is heard. If its time jumps, it counts only if the next one continues from there."""
        if moment is None or last_end is None:
            return moment or last_end or Fraction(0)
        if abs(moment - last_end) <= _NEAR:
            return moment
        ends = last_end + _FARTHEST if self._ends is None else self._ends
        goes_on = after is None or abs(after - moment - length) <= _NEAR
        return moment if goes_on and moment <= ends else last_end

    def _inside(self, begin: Fraction, end: Fraction) -> Fraction:
        """The length of this span inside the wanted part."""
        first, last = self._span
        return max(
            Fraction(0), (end if last is None else min(end, last)) - (begin if first is None else max(begin, first))
        )

    def _silence(self, like: AudioFrame, begin: Fraction, samples: int) -> Iterator[AudioFrame]:
        for first in range(0, samples, _PIECE):
            self._tick(float(begin) + first / like.sample_rate)
            yield silence(like, min(_PIECE, samples - first))


def part_of(frame: AudioFrame, first: int, last: int) -> AudioFrame:
    """The samples from `first` up to, but not including, `last`."""
    if last - first == frame.samples:
        return frame
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    return frame_of(sample_values(frame)[:, first * width : last * width], frame)


def _stretched(frame: AudioFrame, more: int) -> AudioFrame:
    """The same sound with `more` samples; fewer if negative."""
    count = max(1, frame.samples + more)
    if count == frame.samples:
        return frame
    planar, values = frame.format.is_planar, sample_values(frame)
    lanes: Any = values if planar else values.reshape(frame.samples, -1).T
    places, moments = np.linspace(0, frame.samples - 1, count), np.arange(frame.samples)
    stretched = np.stack([np.interp(places, moments, lane) for lane in lanes])
    if np.issubdtype(values.dtype, np.integer):
        stretched = np.rint(stretched)
    stretched = stretched.astype(values.dtype)
    return frame_of(stretched if planar else stretched.T.reshape(1, -1), frame)


def _moment(sound: "AudioFrame | Packet[Any] | None") -> Fraction | None:
    return None if sound is None or sound.pts is None else sound.pts * as_fraction(sound.time_base)
