"""Where the picture really ends: headers are wrong about it, and a file may have been cut."""

import re
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
_SLACK = 0.25
"""Seconds, or three frames: headers are no more exact than that."""
_LATEST = 2**62
"""What FFmpeg can still seek to."""
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class Ending(NamedTuple):
    """What was found, on the picture's own clock."""

    end: int
    """Where the last frame ceases to be shown."""
    last: int
    """How long the last frame is shown."""
    missing: float
    """Seconds behind it that the file promises and does not hold: it was cut."""


class _Stated(NamedTuple):
    """What the headers say, in seconds on the clock of the file."""

    picture: float | None
    whole: float | None
    """The end of the longest track."""


class _Tail(NamedTuple):
    """What the packets near the end say."""

    moment: int
    """Of the last frame in time."""
    lasting: int
    """Duration of the packet that comes last in the file; 0: unknown. Where frames are stored out of order, the other
    packets' durations are distances between decoding times."""
    until: float
    """Where the last packet of any track ends, in seconds."""


def ending_of(
    container: InputContainer, stream: VideoStream, known: Sequence[int], rate: Fraction, clock: Literal["pts", "dts"]
) -> Ending:
    """Read the last packets, without decoding them. `known` are moments of the first frames."""
    unit = exact(stream.time_base)
    usual = max(1, round(1 / (rate * unit)))
    stated = _stated(container, stream)
    limit = stated.picture or stated.whole
    promised = None if limit is None else min(int(limit / unit), _LATEST)
    for target in _targets(known[0], promised, int(_BACK / unit)):
        tail = _read(container, stream, clock) if seek(container, stream, target) else None
        if tail is not None:
            break
    else:
        return Ending(max(*known, promised or 0), usual, 0.0)
    last, lasting = max(*known, tail.moment), tail.lasting or usual
    end = last + lasting
    missing = stated.picture - float(end * unit) if stated.picture else (stated.whole or 0.0) - tail.until
    missing = missing if missing > max(_SLACK, 3 / float(rate)) else 0.0
    if clock == "dts":  # frames come out later than that by what the decoder holds back
        return Ending(max(last + usual, 0 if missing else promised or 0), usual, missing)
    return Ending(end, lasting, missing)


def _targets(first: int, stated: int | None, back: int) -> Iterator[int]:
    """Where to begin reading; at last with the first frame."""
    while stated is not None and stated - back > first:
        yield stated - back
        back *= 2
    yield first


def _read(container: InputContainer, stream: VideoStream, clock: Literal["pts", "dts"]) -> _Tail | None:
    """All that follows; none: no packet of the picture."""
    last: int | None = None
    lasting, until = 0, 0.0
    for packet in tolerant(container.demux()):
        moment = packet.dts if clock == "dts" or packet.pts is None else packet.pts
        if not packet.size or moment is None:
            continue
        until = max(until, float((moment + (packet.duration or 0)) * exact(packet.time_base)))
        if packet.stream == stream:
            last, lasting = moment if last is None else max(last, moment), packet.duration or 0
    return None if last is None else _Tail(last, lasting, until)


def _stated(container: InputContainer, stream: VideoStream) -> _Stated:
    begin = float((stream.start_time or 0) * exact(stream.time_base))
    ends = []
    if stream.duration:
        ends.append(begin + float(stream.duration * exact(stream.time_base)))
    if stream.frames and stream.average_rate:  # FFmpeg cuts the length of an avi to what is there, but not this
        ends.append(begin + float(stream.frames / exact(stream.average_rate)))
    whole = ((container.start_time or 0) + container.duration) / av.time_base if container.duration else None
    if whole and (found := _CLOCK.match(stream.metadata.get("DURATION", ""))):  # matroska; may be that of an older file
        ends.append(min(whole, 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])))
    return _Stated(max(ends, default=None), whole)
