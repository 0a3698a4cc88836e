"""The animation out of its frames: gif and webp through Pillow, mp4 through FFmpeg."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from ..encoders import steady_x264
from .options import VideoPreviewOptions

_BT709 = 1
_BEST_CRF, _WORST_CRF = 16, 44


def write_animation(
    frames: Sequence[Path], path: Path, kind: str, options: VideoPreviewOptions, tick: Callable[[int], None]
) -> None:
    """Write GIF, WEBP or MP4. `tick` is told how many frames have been handed over; it may raise."""
    if kind == "MP4":
        _write_mp4(frames, path, options, tick)
        return
    pictures = _pictures(frames, tick)
    first = next(pictures)
    parameters: dict[str, Any] = {"quality": options.quality, "method": 4} if kind == "WEBP" else {"disposal": 1}
    duration = max(1, round(1000 / options.fps))
    first.save(path, kind, save_all=True, append_images=pictures, duration=duration, loop=0, **parameters)


def _pictures(frames: Sequence[Path], tick: Callable[[int], None]) -> Iterator[Image.Image]:
    """One at a time: the encoders ask for the next when they are done with the one before."""
    for number, path in enumerate(frames):
        tick(number)
        with Image.open(path, formats=["PNG"]) as picture:
            yield picture.convert("RGB")


def _write_mp4(frames: Sequence[Path], path: Path, options: VideoPreviewOptions, tick: Callable[[int], None]) -> None:
    with av.open(
        str(path.absolute()), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}
    ) as output:
        rate = Fraction(options.fps).limit_denominator(1000)
        crf = round(_WORST_CRF - (_WORST_CRF - _BEST_CRF) * options.quality / 100)
        stream = output.add_stream("libx264", rate=rate, options={"crf": str(crf), **steady_x264()})
        assert isinstance(stream, VideoStream)
        stream.thread_type = ThreadType.FRAME
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = ColorRange.MPEG
        width, height = stream.width, stream.height = _even_size(frames[0])
        for number, picture in enumerate(_pictures(frames, tick)):
            pixels = np.asarray(picture.crop((0, 0, width, height)))
            frame = VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _even_size(path: Path) -> tuple[int, int]:
    """The picture's size, cut to what 4:2:0 can hold."""
    with Image.open(path, formats=["PNG"]) as picture:
        return max(2, picture.width - picture.width % 2), max(2, picture.height - picture.height % 2)
