"""Animations: how long each frame is shown, and how many there are in the end."""

import os
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from .opening import pixel_limit

_LOOKED_AT = 8000
"""Pixels from which the colours of a frame are chosen."""
_GIF_END = b";"
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


def gif_is_whole(path: Path) -> bool:
    """Whether a gif has its end mark. One that was cut between two frames can be read, and only lacks the others."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) == _GIF_END:  # that is how all but a few end
            return True
        file.seek(10)
        _skip_colours(file, file.read(3)[:1])
        while mark := file.read(1):
            if mark == _GIF_END:
                return True
            if mark == b",":
                _skip_colours(file, file.read(9)[8:])
            file.read(1)  # how its pixels are packed, or which kind of extension it is
            while length := file.read(1)[:1].strip(b"\0"):
                file.seek(length[0], os.SEEK_CUR)
    return False


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), os.SEEK_CUR)


def frames_in(path: Path, kind: str) -> int:
    """How many frames a finished file has: the encoders make one of several that are alike."""
    with pixel_limit(None), Image.open(path, formats=[kind]) as picture:
        return int(getattr(picture, "n_frames", 1))
