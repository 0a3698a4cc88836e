"""Drawn pictures become a file."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from ..image.writing import write_picture
from .options import ModelPreviewOptions

_BEST_CRF, _CRF_STEP = 14, 0.3
"""x264's quality for 100, and how much it loses with each point below."""


def write_still(picture: Image.Image, path: Path, kind: str, options: ModelPreviewOptions) -> None:
    """Write one picture, without an alpha channel unless it is needed."""
    if options.background != "transparent":
        picture = picture.convert("RGB")
    write_picture(picture, path, kind, quality=options.quality)


def write_animation(frames: Iterator[Image.Image], path: Path, kind: str, options: ModelPreviewOptions) -> None:
    """Write an animation that runs for ever, or an mp4. Each frame is asked for when it is needed."""
    solid = options.background != "transparent"
    frames = (frame.convert("RGB") if solid else frame for frame in frames)
    if kind == "MP4":
        _write_mp4(frames, path, options)
        return
    if kind == "GIF":
        frames = (_with_palette(frame) for frame in frames)
    first = next(frames)
    how: dict[str, Any] = {"duration": round(1000 / options.fps), "loop": 0}
    if kind == "WEBP":
        how |= {"quality": options.quality, "method": 2, "minimize_size": False}
    if kind == "GIF":
        how |= {"disposal": 1 if solid else 2, "optimize": False}
    first.save(path, format=kind, save_all=True, append_images=frames, **how)


def _with_palette(frame: Image.Image) -> Image.Image:
    """256 colours of the frame's own; half-transparent edges become one or the other."""
    if frame.mode == "RGB":
        return frame.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    alpha = frame.getchannel("A").point(lambda value: 255 if value >= 128 else 0)  # noqa: PLR2004 - the middle
    plain = frame.convert("RGB").quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    plain.paste(255, mask=alpha.point(lambda value: 255 - value))
    plain.info["transparency"] = 255
    return plain


def _write_mp4(frames: Iterator[Image.Image], path: Path, options: ModelPreviewOptions) -> None:
    crf = round(_BEST_CRF + _CRF_STEP * (100 - options.quality))
    # mbtree is the one part of x264 that does not give the same bytes every time on every machine.
    how = {"crf": str(crf), "preset": "medium", "x264-params": "mbtree=0"}
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as output:
        stream = output.add_stream("libx264", rate=Fraction(options.fps), options=how)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = options.width, options.height, "yuv420p"
        for picture in chain(frames, [None]):
            output.mux(stream.encode(None if picture is None else _frame(picture)))


def _frame(picture: Image.Image) -> VideoFrame:
    return VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
