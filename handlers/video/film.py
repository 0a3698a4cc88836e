"""A short mp4 out of pictures, for previews."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from .encoders import steady_x264

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
