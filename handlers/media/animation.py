"""Animations made of pictures: GIF and WebP by Pillow, mp4 by FFmpeg."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import accumulate, chain, pairwise
from math import isqrt
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from .pictures import pixel_limit, save
from .x264 import steady_x264

_LOOKED_AT = 8000
"""Pixels on which the choice of a frame's colours is based."""
_GRID = {"GIF": 10}
"""The unit of frame times, in milliseconds; 1 for other formats."""


def write_animation(
    frames: Iterator[Image.Image],
    path: Path,
    kind: str,
    *,
    count: int,
    fps: float,
    crf: int,
    webp: Mapping[str, Any],
    gif: Mapping[str, Any],
) -> None:
    """Write an animation that loops for ever, or an mp4. Each frame is requested when it is needed.

    Args:
        frames: pictures of one size, RGB, or RGBA where the format has transparency.
        path: the file to write.
        kind: GIF, WEBP or MP4.
        count: how many frames there are.
        fps: frames per second.
        crf: x264's quality, for mp4.
        webp: parameters of Pillow's writer, for webp.
        gif: the same, for gif.
    """
    if kind == "GIF":
        frames = map(_with_palette, frames)
    first = next(frames)
    if kind == "MP4":
        rate = Fraction(fps).limit_denominator(1000)
        _write_mp4(chain([first], frames), path, even_size(*first.size), rate, crf=crf)
        return
    how = gif if kind == "GIF" else webp
    times = frame_times([number * 1000 / fps for number in range(count + 1)], kind)
    save(first, path, kind, save_all=True, append_images=frames, duration=times, loop=0, **how)


def frame_times(ends: Iterable[float], kind: str) -> list[int]:
    """The display time of each frame, in milliseconds, rounded so that errors do not add up.

    Args:
        ends: when the first frame begins, and when each one ends.
        kind: the format.
    """
    grid = _GRID.get(kind, 1)
    rounded = (round(end / grid) for end in ends)
    shown_until = accumulate(rounded, lambda before, end: max(before + 1, end))  # each is shown for at least one unit
    return [(end - begin) * grid for begin, end in pairwise(shown_until)]


def _with_palette(frame: Image.Image) -> Image.Image:
    """An RGB or RGBA frame in its own 256 colours; half-transparent edges become opaque or clear.

    The colours are chosen from a smaller copy: that takes a tenth of the time, and no one sees a difference.
    """
    if frame.mode == "RGB":
        return frame.quantize(palette=_palette_of(frame, 256), dither=Image.Dither.NONE)
    alpha = frame.getchannel("A").point(lambda value: 255 if value >= 128 else 0)  # noqa: PLR2004 - the middle
    solid = frame.convert("RGB")
    plain = solid.quantize(palette=_palette_of(solid, 255), dither=Image.Dither.NONE)
    plain.paste(255, mask=alpha.point(lambda value: 255 - value))
    plain.info["transparency"] = 255
    return plain


def _palette_of(frame: Image.Image, colours: int) -> Image.Image:
    shrunk = frame.reduce(max(1, isqrt(frame.width * frame.height // _LOOKED_AT)))
    return shrunk.quantize(colours, method=Image.Quantize.MEDIANCUT)


def frames_in(path: Path, kind: str) -> int:
    """Number of frames in a finished file. The encoders merge equal frames, so it may be lower than written."""
    with pixel_limit(None), Image.open(path, formats=[kind]) as picture:
        return int(getattr(picture, "n_frames", 1))


MP4_CODEC = "h264"
_BT709 = 1


def even_size(width: int, height: int) -> tuple[int, int]:
    """A picture's size, cut to even numbers, as 4:2:0 needs."""
    return max(2, width - width % 2), max(2, height - height % 2)


def _write_mp4(pictures: Iterable[Image.Image], path: Path, size: tuple[int, int], rate: Fraction, *, crf: int) -> None:
    """Write RGB pictures of one size, at most a pixel larger than `size`, in the colours that players expect."""
    with av.open(
        str(path.absolute()), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}
    ) as output:
        how = {"crf": str(crf), "preset": "medium", **steady_x264(size[0])}
        stream = output.add_stream("libx264", rate=rate, options=how)
        assert isinstance(stream, VideoStream)
        stream.thread_type = ThreadType.FRAME
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = ColorRange.MPEG
        stream.width, stream.height = size
        for number, picture in enumerate(pictures):
            frame = VideoFrame.from_ndarray(np.asarray(picture.crop((0, 0, *size))), "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
