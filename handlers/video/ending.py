"""Where the picture really ends: headers are wrong about it, and a file may have been cut."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from .opening import exact, seek, tolerant

_BACK = 2.0
"""Seconds before the stated end from which on packets are read; doubled until there are some. In a transport stream a
seek lands between frames, so the last one in time may lie before it."""


class Ending(NamedTuple):
    """What was found, on the picture's own clock."""

    end: int
    """Where the last frame ceases to be shown."""
    last: int
    """How long the last frame is shown."""


class _Tail(NamedTuple):
    """What the packets near the end say."""

    moment: int
    """Of the last frame in time."""
    lasting: int
    """Duration of the packet that comes last in the file; 0: unknown. Where frames are stored out of order, the other
    packets' durations are distances between decoding times."""


def ending_of(
    container: InputContainer, stream: VideoStream, known: Sequence[int], rate: Fraction, clock: Literal["pts", "dts"]
) -> Ending:
    """Read the last packets, without decoding them. `known` are moments of the first frames."""
    unit = exact(stream.time_base)
    usual = max(1, round(1 / (rate * unit)))
    stated = _stated(container, stream)
    for target in _targets(known[0], None if stated is None else int(stated / unit), int(_BACK / unit)):
        tail = _read(container, stream, clock) if seek(container, stream, target) else None
        if tail is not None:
            break
    else:
        return Ending(max([*known, int((stated or 0) / unit)]), usual)
    last = max([*known, tail.moment])
    if clock == "dts":  # frames come out later than that by what the decoder holds back
        return Ending(max(last + usual, int((stated or 0) / unit)), usual)
    lasting = tail.lasting or usual
    return Ending(last + lasting, lasting)


def _targets(first: int, stated: int | None, back: int) -> Iterator[int]:
    """Where to begin reading; at last with the first frame."""
    while stated is not None and stated - back > first:
        yield stated - back
        back *= 2
    yield first


def _read(container: InputContainer, stream: VideoStream, clock: Literal["pts", "dts"]) -> _Tail | None:
    """All that follows; none: no packet of the picture."""
    last: int | None = None
    lasting = 0
    for packet in tolerant(container.demux(stream)):
        moment = packet.dts if clock == "dts" or packet.pts is None else packet.pts
        if packet.size and moment is not None:
            last, lasting = moment if last is None else max(last, moment), packet.duration or 0
    return None if last is None else _Tail(last, lasting)


def _stated(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Where the picture ends by the headers, in seconds on the clock of the file."""
    if stream.duration:
        return ((stream.start_time or 0) + stream.duration) * exact(stream.time_base)
    if container.duration:
        return Fraction((container.start_time or 0) + container.duration, av.time_base)
    return None
