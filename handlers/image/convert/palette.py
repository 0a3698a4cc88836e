"""The colours of a GIF: kept as they are where there are at most 256. Its writers choose others that are only near."""

import numpy as np
from PIL import Image

MOST_COLOURS = 256
_OPAQUE = 255


def exactly(picture: Image.Image) -> Image.Image | None:
    """The same picture with a palette of its own colours; none where there are too many, or half transparent ones."""
    values = np.array(picture.convert("RGBA"))
    clear = values[..., 3] == 0
    values[clear] = 0  # a colour that nobody sees is none
    if not ((values[..., 3] == _OPAQUE) | clear).all():
        return None
    found = Image.fromarray(values).getcolors(MOST_COLOURS)
    if found is None:
        return None
    colours = np.array([colour for _count, colour in found], dtype=np.uint8)
    packed = colours.view(np.uint32).ravel()
    order = np.argsort(packed)
    numbers = np.empty(values.shape[:2], dtype=np.uint8)
    for row, line in zip(values, numbers, strict=True):
        line[:] = np.searchsorted(packed[order], row.view(np.uint32).ravel())
    exact = Image.frombytes("P", picture.size, numbers.tobytes())
    exact.putpalette(colours[order, :3].tobytes())
    transparent = np.flatnonzero(colours[order, 3] == 0)
    exact.info = {"transparency": int(transparent[0])} if len(transparent) else {}
    return exact
