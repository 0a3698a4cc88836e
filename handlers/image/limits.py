"""Limits on the size of pictures that are read. No Pillow here: the service imports this."""

from ..contract import Unusable

MAX_IMAGE_PIXELS = 512_000_000
"""Pixels of a picture. A larger one is refused from its header."""
MAX_PILLOW_PIXELS = 178_956_970
"""Pixels of a picture that Pillow may decode: it holds the whole picture, at 4 bytes per pixel or more."""
MAX_IMAGE_SIDE = 65_535


def check_pixels(name: str, size: tuple[int, int], most: int) -> None:
    """Raise `Unusable` for a picture of more than `most` pixels, or with a side that is too long."""
    if size[0] * size[1] > most or max(size) > MAX_IMAGE_SIDE:
        raise Unusable(
            f"{name} is too large: {size[0]}x{size[1]} pixels; at most {most:,} are possible here, "
            f"{MAX_IMAGE_SIDE:,} a side"
        )
