"""The beginning of a video: its first frame, and which of a frame's two times runs forward."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from av.video.frame import VideoFrame

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_SAMPLED = 60
"""Frames. Those that are stored out of order have begun by then."""


class Sample(NamedTuple):
    """What was found out."""

    first: VideoFrame | None
    clock: Literal["pts", "dts"]
    known: list[int]
    """Moments; in front that of the first frame."""


def brief_sample(
    frames: Iterator[VideoFrame], packets: Iterator["Packet[VideoStream]"], *, reorders: bool
) -> Sample | None:
    """One frame, and the times of packets. None where these do not prove that frames come out in order.

    `frames` decodes `packets` as far as it must. `reorders`: frames are not shown in the order they are stored.
    """
    first = next(frames, None)
    if first is None or first.pts is None:
        return None
    moments = [packet.pts for packet in islice(packets, _SAMPLED)]
    known = [moment for moment in moments if moment is not None]
    # Where the order differs and times rise all the same, these are no times of presentation.
    if len(set(known)) < len(moments) or (reorders and _runs_forward(known)):
        return None
    return Sample(first, "pts", [first.pts, *known])


def sample(frames: Iterator[VideoFrame]) -> Sample:
    """Decode as many as it takes to see it."""
    first = next(frames, None)
    stamps = [(frame.pts, frame.dts) for frame in chain([first] if first else [], islice(frames, _SAMPLED - 1))]
    clock: Literal["pts", "dts"] = "pts" if _runs_forward([pts for pts, _ in stamps]) else "dts"
    known = [moment for moment in (pts if clock == "pts" else dts for pts, dts in stamps) if moment is not None]
    return Sample(first, clock, known)


def _runs_forward(moments: Sequence[int | None]) -> bool:
    """AVI with B-frames hands out presentation times that jump back; its decoding times then are the right ones."""
    known = [moment for moment in moments if moment is not None]
    return len(known) == len(moments) > 0 and all(before < after for before, after in pairwise(known))
