"""Brings the frames of a source into the encoder's form: cut, resampled, mixed, made louder, peaks held down."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

_OVER = 4
"""Factor of oversampling to find peaks between samples."""
_LOOK_AHEAD, _RECOVERY = 5, 80
"""Milliseconds in which the limiter closes and opens."""


class Gain(NamedTuple):
    """How much louder the sound is made."""

    gain: float
    """Decibels."""
    ceiling: float | None
    """dBFS that no peak passes; None: all samples are multiplied, and nothing else changes."""


class Shape(NamedTuple):
    """The form that frames are brought into."""

    format: str
    """FFmpeg's name of the sample format."""
    layout: str
    """FFmpeg's name of the channel layout; empty: the source's."""
    rate: int


class Cut(NamedTuple):
    """The part that is kept, in seconds from the first sample."""

    start: float = 0.0
    end: float | None = None

    def is_over(self, seconds: float) -> bool:
        """Whether nothing after `seconds` is kept."""
        return self.end is not None and seconds >= self.end


def rearranged(before: str, after: str) -> tuple[str, ...]:
    """A note if the number of channels stays the same but their positions change; none if a position is unknown.

    Args:
        before: FFmpeg's name of the source's layout.
        after: its name of the new layout.
    """
    was, become = _channels(before), _channels(after)
    if len(was) != len(become) or "NONE" in was or _places(was) == _places(become):
        return ()
    change = f"{'+'.join(was)} became {'+'.join(become)}"
    return (f"sound channels {change}: what has no place there is mixed in, or left out",)


def _channels(layout: str) -> list[str]:
    try:
        return [channel.name for channel in av.AudioLayout(layout).channels]
    except ValueError:  # PyAV 18 names layouts that it does not know
        return []


def _places(channels: list[str]) -> set[str]:
    """The positions. Side channels count as back channels unless there are both; a downmix counts as stereo."""
    names = set(channels)
    same = {"DL": "FL", "DR": "FR"} | ({} if {"BL", "SL"} <= names else {"SL": "BL", "SR": "BR"})
    return {same.get(name, name) for name in names}


def shaped(frames: Iterable[AudioFrame], shape: Shape, cut: Cut, level: Gain | None = None) -> Iterator[AudioFrame]:
    """Bring the frames into `shape`, with times counted in samples from 0.

    If the source changes its format midway, a new chain of filters takes over.
    """
    count = 0
    for frame in _chained(frames, shape, cut, level):
        frame.pts, frame.time_base = count, Fraction(1, shape.rate)
        count += frame.samples
        yield frame


def _chained(frames: Iterable[AudioFrame], shape: Shape, cut: Cut, level: Gain | None) -> Iterator[AudioFrame]:
    chain: _Chain | None = None
    seconds = 0.0
    for frame in frames:
        if cut.is_over(seconds):
            break
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if chain is None or chain.kind != kind:
            if chain is not None:
                yield from chain.push(None)
            chain = _Chain(kind, shape, Cut(cut.start - seconds, None if cut.end is None else cut.end - seconds), level)
        seconds += frame.samples / frame.sample_rate
        yield from chain.push(frame)
    if chain is not None:
        yield from chain.push(None)


class _Chain:
    """Filters for frames of one kind."""

    def __init__(self, kind: tuple[str, str, int], shape: Shape, cut: Cut, level: Gain | None) -> None:
        self.kind = kind
        _, layout, rate = kind
        self._graph = graph = Graph()  # it owns its filters
        self._source = graph.add_abuffer(sample_rate=rate, format=kind[0], layout=layout, time_base=Fraction(1, rate))
        last: Any = self._source
        for name, arguments in _filters(layout, rate, shape, cut, level):
            node = graph.add(name, arguments)
            last.link_to(node)
            last = node
        self._sink = graph.add("abuffersink")
        last.link_to(self._sink)
        graph.configure()

    def push(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """Push a frame, or the end, and yield what is ready."""
        if frame is not None:
            frame.pts = None
        self._source.push(frame)
        while True:
            try:
                ready = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(ready, AudioFrame)
            yield ready


def _filters(layout: str, rate: int, shape: Shape, cut: Cut, level: Gain | None) -> Iterator[tuple[str, str]]:
    first, end = max(0, round(cut.start * rate)), None if cut.end is None else max(0, round(cut.end * rate))
    if first or end is not None:
        yield "atrim", f"start_sample={first}" + ("" if end is None else f":end_sample={end}")
    layout = shape.layout or layout
    # When mixing down, the weights are reduced so that no sum exceeds the range of a sample.
    mixed = f"ochl={layout}:rematrix_maxval=1"
    if level is None:
        yield "aresample", f"osr={shape.rate}:osf={shape.format}:{mixed}"
        return
    yield "aresample", f"osr={shape.rate}:osf=dblp:{mixed}"
    yield "volume", f"volume={level.gain!r}dB:precision=double"
    if level.ceiling is not None:
        limit = min(1.0, max(0.0625, 10 ** (level.ceiling / 20)))
        yield "aresample", f"osr={_OVER * shape.rate}:osf=dbl"
        yield "alimiter", f"limit={limit!r}:level=0:attack={_LOOK_AHEAD}:release={_RECOVERY}:latency=1"
    yield "aresample", f"osr={shape.rate}:osf={shape.format}"
