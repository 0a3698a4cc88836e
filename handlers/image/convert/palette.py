"""The palette of a GIF: up to 256 colours are kept exactly, because GIF writers would choose only similar ones."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ....events.counted import counted

_MOST_COLOURS = 256
_OPAQUE = 255
_STRIP = 1_000_000
"""Pixels that are processed at a time, to hold little beside the picture."""


def exact_palette(picture: Image.Image) -> Image.Image | None:
    """The same picture with a palette of its own colours; None if it has too many, or half-transparent ones."""
    found: set[int] = set()
    for strip in _strips(picture):
        counted = Image.fromarray(strip).getcolors(_MOST_COLOURS)
        if counted is None or any(colour[3] not in (0, _OPAQUE) for _count, colour in counted):  # type: ignore[index]  # it is RGBA
            return None
        found |= {int.from_bytes(bytes(colour), "little") for _count, colour in counted}  # type: ignore[arg-type]  # it is RGBA
        if len(found) > _MOST_COLOURS:
            return None
    colours = np.array(sorted(found), dtype="<u4")
    exact = Image.new("P", picture.size)
    top = 0
    for strip in _strips(picture):
        numbers = np.searchsorted(colours, strip.view("<u4")[..., 0]).astype(np.uint8)
        exact.paste(Image.fromarray(numbers), (0, top))
        top += len(numbers)
    exact.putpalette(colours.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    if 0 in found:
        exact.info = {"transparency": 0}  # it is the smallest number
    return exact


def fewer_colours(frames: int = 0) -> str:
    """The note for a picture without an exact palette, or for this number of frames."""
    of = f" of {counted(frames, 'frame')}" if frames else ""
    return f"the colours{of} became {_MOST_COLOURS}, opaque or clear: a gif has no others"


def _strips(picture: Image.Image) -> Iterator[NDArray[np.uint8]]:
    """Its rows as RGBA, in strips. Fully transparent pixels lose their colour."""
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        strip = np.array(picture.crop((0, top, picture.width, min(top + rows, picture.height))).convert("RGBA"))
        strip[strip[..., 3] == 0] = 0
        yield strip
