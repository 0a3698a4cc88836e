"""Drawn pictures become a file."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ..media.animation import frame_times, with_palette, write_film
from ..media.pictures import save, write_picture
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
        crf = round(_BEST_CRF + _CRF_STEP * (100 - options.quality))
        write_film(frames, path, (options.width, options.height), Fraction(options.fps), crf=crf, preset="medium")
        return
    if kind == "GIF":
        frames = (with_palette(frame) for frame in frames)
    first = next(frames)
    how: dict[str, Any] = {"duration": frame_times(options.frames, options.fps, kind), "loop": 0}
    if kind == "WEBP":
        how |= {"quality": options.quality, "method": 2, "minimize_size": False}
    if kind == "GIF":
        how |= {"disposal": 1 if solid else 2, "optimize": False}
    save(first, path, kind, save_all=True, append_images=frames, **how)
