"""A document as pages: each has a size in points, 72 per inch, and is drawn at a scale. No Pillow is loaded here."""

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

A4 = (595.0, 842.0)
"""Points."""
POINTS_AN_INCH = 72


class Pages(Protocol):
    """An open document. Pages count from 1."""

    count: int
    most: float
    """The highest useful scale, in pixels per point."""

    def close(self) -> None:
        """Release the document."""

    def size(self, number: int) -> tuple[float, float]:
        """Width and height of a page in points. Raises Unusable."""

    def draw(self, number: int, factor: float, background: str) -> "Image.Image":
        """Draw a page at `factor` pixels per point, as a picture of mode RGB. Raises Unusable."""

    def notes(self, numbers: list[int]) -> list[str]:
        """Notes, for people, on what these pages cannot show correctly."""


def pixels(width: float, height: float, factor: float) -> tuple[int, int]:
    """Width and height in pixels of a page drawn at `factor` pixels per point."""
    return max(1, math.ceil(width * factor)), max(1, math.ceil(height * factor))
