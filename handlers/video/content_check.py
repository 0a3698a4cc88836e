"""Checks that a film or sound file holds all that its original holds. Both are decoded from end to end."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import av
import msgspec
from av.container import InputContainer

from ...events.counted import counted, plural
from ..contract import Unusable
from .frames import SILENT
from .opening import as_fraction, is_input_fault, moving_pictures, recovering, tolerant

_SLACK = 0.5
"""Seconds that a track may be shorter. Sound encoders add and cut some at both ends."""
_FEW = 2
"""Pictures that may be missing at the ends."""


class Content(msgspec.Struct):
    """The content found in a file."""

    pictures: int = 0
    picture_seconds: float = 0.0
    sounds: tuple[float, ...] = ()
    """Seconds of each sound track."""
    subtitles: int = 0
    attachments: int = 0
    covers: int = 0
    bad: int = 0
    """Packets that cannot be decoded."""
    doubtful: bool = False
    """Something could not be decoded, and several threads report too little about it: one thread must read the file
    again."""


class RequiredContent(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of the original that the result must have."""

    seconds: float
    """How long it must be."""
    pictures: bool = False
    """Whether every picture is needed; otherwise only pictures for as many seconds."""
    sounds: bool = True
    """Whether every sound track is needed; otherwise one of them."""
    silent: bool = False
    """Whether the result must have no sound."""
    beside: tuple[Literal["subtitles", "attachments", "covers"], ...] = ()
    """Other parts that it must have."""


def content_of(container: InputContainer, tick: Callable[[float], None], threads: int = 0) -> Content:
    """Decode everything. `tick` is called with the seconds that were read; it may raise.

    `threads`: for the picture; 0: as many as there are CPUs.
    """
    content = Content()
    moving = moving_pictures(container)[:1]
    content.covers = len(container.streams.video) - len(moving)
    content.subtitles = len(container.streams.subtitles)
    content.attachments = len(container.streams.attachments)
    seconds = {stream.index: 0.0 for stream in container.streams.audio}
    first = last = None
    awaited = set[Any]()
    for stream in moving:
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
    tracks: list[Any] = [*moving, *container.streams.audio]
    decoders = {stream.index: recovering(stream) for stream in tracks}
    ends: list[Any] = [(stream, None) for stream in tracks]
    packets = ((packet.stream, packet) for packet in tolerant(container.demux(tracks)) if packet.size)
    for stream, packet in chain(packets, ends):
        due = None
        if packet is not None and stream in moving and packet.pts is not None and not packet.is_discard:
            due = packet.pts * as_fraction(stream.time_base)
            awaited.add(due)
        try:
            frames = decoders[stream.index](packet)
        except av.error.FFmpegError as error:
            if stream in moving and threads != 1:
                return Content(doubtful=True)
            if not is_input_fault(error):
                raise
            content.bad += packet is not None
            awaited.discard(due)
            continue
        for frame in frames:
            if stream.type == "video":
                content.pictures += 1
                if frame.pts is not None:
                    moment = frame.pts * as_fraction(stream.time_base)  # PyAV 18: the last frames have another
                    awaited.discard(moment)
                    first = moment if first is None else min(first, moment)
                    last = moment if last is None else max(last, moment)
                    tick(float(moment))
            elif frame.sample_rate:
                seconds[stream.index] += frame.samples / frame.sample_rate
                if not moving:
                    tick(seconds[stream.index])
    left_out = 0
    if moving and first is not None and moving[0].codec_context.codec.canonical_name in SILENT:
        left_out = sum(moment > first for moment in awaited)
    content.bad += left_out
    content.doubtful = threads != 1 and (left_out > 0 or any(last is None or moment > last for moment in awaited))
    content.picture_seconds = float((last or 0) - (first or 0))
    content.sounds = tuple(seconds.values())
    return content


def _missing_content(original: Content, result: Content, wanted: RequiredContent) -> str:
    """Say what the result lacks of the original; empty if nothing.

    Raises:
        Unusable: the result itself cannot be decoded.
    """
    if result.bad:
        raise Unusable(
            f"{result.bad:,} {plural(result.bad, 'packet')} of the result cannot be decoded; the original stays"
        )
    if original.bad:
        packets, are = plural(original.bad, "packet"), plural(original.bad, "is", "are")
        return f"{original.bad:,} {packets} of the original cannot be decoded, and {are} not in the result"
    if wanted.pictures and result.pictures < original.pictures - _FEW:
        return f"the result has {result.pictures:,} of {original.pictures:,} {plural(original.pictures, 'picture')}"
    long = min(wanted.seconds, original.picture_seconds)
    if result.picture_seconds < long - _SLACK:
        return f"the pictures of the result last {result.picture_seconds:.1f} s of {long:.1f} s"
    heard = [seconds for seconds in original.sounds if seconds]
    made = [seconds for seconds in result.sounds if seconds]
    if wanted.silent:
        heard = []
    elif not wanted.sounds:
        heard, made = heard[:1], heard[:1] and made
    if len(made) < len(heard):
        return f"the result has {len(made)} of {counted(len(heard), 'sound track')}"
    if wanted.sounds:
        for number, (before, after) in enumerate(zip(heard, made, strict=False), 1):
            if after < (long := min(before, wanted.seconds)) - _SLACK:
                return f"sound track {number} of the result lasts {after:.1f} s of {long:.1f} s"
    for name in wanted.beside:
        if (there := getattr(result, name)) < (before := getattr(original, name)):
            return f"the result has {there} of {before} {name}"
    return ""


def compare_contents(
    original: Path,
    result: Path,
    opener: Callable[[Path], Any],
    wanted: RequiredContent,
    tick: Callable[[str, float], None],
) -> str:
    """Decode both, and say what is missing. `tick` gets the name of the file that is read, and the seconds done."""
    made = _content_in(result, opener, lambda seconds: tick("result", seconds))
    read = _content_in(original, opener, lambda seconds: tick("original", seconds))
    return _missing_content(read, made, wanted)


def _content_in(path: Path, opener: Callable[[Path], Any], tick: Callable[[float], None]) -> Content:
    with opener(path) as container:
        content = content_of(container, tick)
    if content.doubtful:
        with opener(path) as container:
            return content_of(container, tick, threads=1)
    return content


__all__ = ["Content", "RequiredContent", "compare_contents", "content_of"]
