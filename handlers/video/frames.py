"""The frames of the input in order, from the start or from where an earlier attempt had come."""

from collections.abc import Callable, Iterator
from itertools import chain

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..faults import text_of
from .errors import UndecodableError
from .interlacing import deinterlaced
from .opening import is_damage, open_input, packets_of, picture_of, seek
from .probe import Source

_STEP_BACK = 5
"""Seconds; doubled each time. Near the end of a transport stream a seek may find no frame at all."""
_FORGIVEN = 50
"""Undecodable packets and missing frames that are always forgiven; beyond that, one in four."""


def _no_tick() -> None:
    """For callers that cannot be stopped."""


def beyond_use(bad: float, good: float) -> bool:
    """Whether too much is bad or missing for the rest to be of use."""
    return bad > _FORGIVEN + good // 4


def frames_after(
    source: Source, moment: int | None, tick: Callable[[], None] = _no_tick
) -> Iterator[tuple[int, VideoFrame]]:
    """All frames later than `moment`, each with its own moment, strictly rising; none: from the start.

    The same frames come out whether the source is read in one go or from anywhere. Whatever a seek promises, it is
    believed only if it yields a frame at or before `moment`; otherwise it is tried again from further back. `tick` is
    called for each frame, also for those that are skipped: it may raise to end the search.

    Raises:
        UndecodableError: too many packets cannot be decoded.
    """
    for target in _seek_targets(source, moment):
        reached = False
        for found, frame in _prepared(source, target):
            tick()
            if target is not None and not reached and moment is not None and found > moment:
                break
            reached = True
            if moment is None or found > moment:
                yield found, frame
        if reached:
            return


def _seek_targets(source: Source, moment: int | None) -> Iterator[int | None]:
    if moment is not None:
        back = 0
        while moment - back > source.start:
            yield moment - back
            back = max(2 * back, int(_STEP_BACK / source.time_base))
    yield None


def _prepared(source: Source, target: int | None) -> Iterator[tuple[int, VideoFrame]]:
    frames = _rising(_decode(source, target))
    return deinterlaced(frames, source.time_base) if source.deinterlace else frames


def _rising(frames: Iterator[tuple[int, VideoFrame]]) -> Iterator[tuple[int, VideoFrame]]:
    """Damaged files repeat moments or jump back: such frames are left out."""
    last: int | None = None
    for moment, frame in frames:
        if last is None or moment > last:
            last = moment
            yield moment, frame


def _decode(source: Source, target: int | None) -> Iterator[tuple[int, VideoFrame]]:
    with open_input(source.path) as container:
        stream = picture_of(container, source.path.name)
        if target is not None and not seek(container, stream, target):
            return
        packets = packets_of(container, stream, from_key=target is not None)
        last: int | None = None
        for frame in _tolerant(stream, packets, source.path.name):
            moment = frame.pts if source.clock == "pts" else frame.dts
            if moment is None and source.clock == "dts" and last is not None:
                # The last frames come out when no packet is left to lend them its time.
                moment = last + max(1, round(1 / (source.rate * source.time_base)))
            if moment is not None:
                last = moment
                yield moment, frame


def _tolerant(stream: VideoStream, packets: Iterator["av.Packet[VideoStream]"], name: str) -> Iterator[VideoFrame]:
    """Decode, and forgive some damage."""
    bad = good = 0
    for packet in chain(packets, [None]):
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            if not is_damage(error):
                raise
            bad += 1
            if beyond_use(bad, good):
                decoder = stream.codec_context.codec.name
                raise UndecodableError(
                    f"{name}: of {bad + good} packets the decoder {decoder} refused {bad}, and nothing says whether "
                    f"they are damaged, encrypted or of a kind that it does not know ({text_of(error)})"
                ) from error
            continue
        good += 1
        yield from frames
