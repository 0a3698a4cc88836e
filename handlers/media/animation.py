"""Animations out of pictures: GIF and WebP by Pillow, mp4 by FFmpeg."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from math import isqrt
from pathlib import Path

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from .pictures import pixel_limit
from .x264 import steady_x264

_LOOKED_AT = 8000
"""Pixels from which the colours of a frame are chosen."""
_GRID = {"GIF": 10}
"""Milliseconds; other formats count each one."""


def frame_times(count: int, fps: float, kind: str) -> list[int]:
    """Milliseconds that each of `count` frames is shown, rounded so that no error adds up."""
    grid = _GRID.get(kind, 1)
    ends = [round(number * 1000 / fps / grid) * grid for number in range(count + 1)]
    return [max(grid, end - begin) for begin, end in pairwise(ends)]


def with_palette(frame: Image.Image) -> Image.Image:
    """An RGB or RGBA frame in 256 colours of its own; half-transparent edges become one or the other.

    The colours are chosen on a smaller copy: a tenth of the time, and no difference to be seen.
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
    """How many frames a finished file has: the encoders make one of several that are alike."""
    with pixel_limit(None), Image.open(path, formats=[kind]) as picture:
        return int(getattr(picture, "n_frames", 1))


FILM_CODEC = "h264"
_BT709 = 1


def even_size(width: int, height: int) -> tuple[int, int]:
    """A picture's size, cut to what 4:2:0 can hold."""
    return max(2, width - width % 2), max(2, height - height % 2)


def write_film(
    pictures: Iterable[Image.Image], path: Path, size: tuple[int, int], rate: Fraction, *, crf: int, preset: str
) -> None:
    """Write RGB pictures of one size, `size` or a pixel more, in the colours that players expect."""
    with av.open(
        str(path.absolute()), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}
    ) as output:
        how = {"crf": str(crf), "preset": preset, **steady_x264()}
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
