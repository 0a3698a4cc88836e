"""Where decoded sound goes: to an encoder of the library, or to the ffmpeg program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer

from ..program import Program
from .feeding import SILENT, Feed
from .program_arguments import for_sound
from .sound_choice import SoundPlan


class Sink(Protocol):
    """Takes the frames of one track."""

    def track(self, rate: int) -> AudioStream:
        """The track, of so many samples a second. Frames must come in its format."""

    def push(self, track: AudioStream, frame: AudioFrame | None) -> None:
        """The next frame; none: there are no more."""


def open_part(part: Path, plan: SoundPlan) -> OutputContainer:
    """The file that the track is written to."""
    kind = "mp4" if plan.file.endswith(".mp4") else "matroska"
    return av.open(str(part), "w", format=kind, options={"fflags": "+bitexact"})


@contextmanager
def open_sink(part: Path, plan: SoundPlan, program: Program | None, tick: Callable[[float], None]) -> Iterator[Sink]:
    """The way into `part`, which is whole when the context is left without an error."""
    if program is None:
        with open_part(part, plan) as output:
            yield _Library(output, plan)
        return
    sink = _Program(part, plan, program, tick)
    try:
        yield sink
        sink.feed.finish()
    except BaseException:  # whatever ends it: the program must not go on alone
        sink.feed.discard()
        raise


class _Library:
    def __init__(self, output: OutputContainer, plan: SoundPlan) -> None:
        self._output = output
        self._plan = plan

    def track(self, rate: int) -> AudioStream:
        track = self._output.add_stream(self._plan.encoder, rate=rate)
        assert isinstance(track, AudioStream)
        track.layout = self._plan.layout
        track.bit_rate = self._plan.bitrate
        return track

    def push(self, track: AudioStream, frame: AudioFrame | None) -> None:
        self._output.mux(track.encode(frame))


class _Program:
    def __init__(self, part: Path, plan: SoundPlan, program: Program, tick: Callable[[float], None]) -> None:
        self._plan = plan
        self._position = 0.0
        # The pipe carries no names of channels, only their number.
        command = [str(program.path), *SILENT, "-channel_layout", plan.layout]
        self.feed = Feed(command, for_sound(plan.encoder, plan.bitrate), part, lambda: tick(self._position))

    def track(self, rate: int) -> AudioStream:
        track = self.feed.container.add_stream("pcm_f32le", rate=rate)
        assert isinstance(track, AudioStream)
        track.layout = self._plan.layout
        track.format = "flt"
        return track

    def push(self, track: AudioStream, frame: AudioFrame | None) -> None:
        self._position = (frame.time if frame else None) or self._position
        self.feed.push(track, frame)
