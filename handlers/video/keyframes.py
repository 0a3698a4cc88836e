"""Only the frames that need no other: a quick look through a whole video."""

from collections.abc import Iterator
from itertools import chain

import av
from av.video.frame import VideoFrame

from .opening import is_damage, open_input, packets_of, picture_of
from .probe import Source


def keyframes_of(source: Source) -> Iterator[tuple[int, VideoFrame]]:
    """All keyframes that can be decoded, with their moments, strictly rising."""
    last: int | None = None
    with open_input(source.path) as container:
        stream = picture_of(container, source.path.name)
        stream.codec_context.skip_frame = "NONKEY"
        for packet in chain(packets_of(container, stream), [None]):
            if packet is not None and not packet.is_keyframe:
                continue
            try:
                frames = stream.decode(packet)
            except av.error.FFmpegError as error:
                if not is_damage(error):
                    raise
                continue
            for frame in frames:
                moment = frame.pts if source.clock == "pts" else frame.dts
                if moment is not None and (last is None or moment > last):
                    last = moment
                    yield moment, frame
