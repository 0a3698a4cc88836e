"""The demo's long video, made of a short real clip; and the proof that a converted one is whole."""

from pathlib import Path
from typing import Any

import av
import msgspec


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """What decoding a video from its first to its last frame found."""

    frames: int
    duration: float
    """Seconds from the first frame to the end of the last."""
    width: int
    height: int
    codec: str


def repeat(clip: Path, target: Path, times: int) -> None:
    """The clip so many times in a row, its packets copied as they are."""
    part = target.with_suffix(f".part{target.suffix}")
    with av.open(str(part), "w") as output:
        streams: dict[int, Any] = {}
        with av.open(str(clip)) as source:
            for stream in source.streams:
                if stream.type in ("video", "audio"):
                    streams[stream.index] = output.add_stream_from_template(stream)
        offset = 0.0
        for _ in range(times):
            offset = _append(clip, output, streams, offset)
    part.replace(target)


def _append(clip: Path, output: Any, streams: dict[int, Any], offset: float) -> float:
    """Copy the clip behind what is there; where the next copy begins, in seconds."""
    with av.open(str(clip)) as source:
        lengths = [float(s.duration * s.time_base) for s in source.streams if s.duration and s.time_base]
        for packet in source.demux([source.streams[index] for index in streams]):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(offset / float(packet.time_base))
            packet.dts += shift
            packet.pts += shift
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    return offset + max(lengths)


def decode(path: Path) -> Decoded:
    """Decode every video frame. Raises av.FFmpegError on the first that cannot be."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames, end = 0, 0.0
        for frame in container.decode(stream):
            frames += 1
            if frame.time is not None:
                end = max(end, frame.time + float(1 / (stream.average_rate or 25)))
        context = stream.codec_context
        return Decoded(frames=frames, duration=end, width=context.width, height=context.height, codec=context.name)
