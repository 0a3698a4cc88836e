"""Fonts for text pages: those of the system where there are any, else the one built into Pillow (Latin only)."""

from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import ImageFont

Face: TypeAlias = Literal["plain", "bold", "mono"]
AnyFont: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FOLDERS = (
    "/usr/share/fonts/truetype/dejavu",
    "/usr/share/fonts/dejavu",
    "/usr/share/fonts/TTF",
    "/usr/share/fonts/dejavu-sans-fonts",
    "/usr/share/fonts/dejavu-sans-mono-fonts",
    "/usr/share/fonts/truetype/liberation",
    "/usr/share/fonts/liberation-sans",
    "/usr/share/fonts/liberation-mono",
    "/System/Library/Fonts/Supplemental",
    "/Library/Fonts",
)
_FILES: dict[Face, tuple[str, ...]] = {
    "plain": ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf"),
    "bold": ("DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf", "Arial Bold.ttf"),
    "mono": ("DejaVuSansMono.ttf", "LiberationMono-Regular.ttf", "Courier New.ttf"),
}
_MEASURED_AT = 100.0


@cache
def font_file(face: Face) -> Path | None:
    """The file of a face; none for the font built into Pillow."""
    found = (Path(folder, name) for name in _FILES[face] for folder in _FOLDERS)
    return next((path for path in found if path.is_file()), None)


def font_names() -> list[str]:
    """What the look of a text page depends on; empty names for the built-in font."""
    return [str(font_file(face) or "") for face in ("plain", "bold", "mono")]


def load_font(face: Face, size: float) -> AnyFont:
    """The face in so many pixels."""
    size = max(1.0, size)
    path = font_file(face)
    if path is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


class Ruler:
    """How wide text is, as a share of the font's size. Remembers each character: lines are many, characters few."""

    def __init__(self, face: Face) -> None:
        self._font = load_font(face, _MEASURED_AT)
        self._widths: dict[str, float] = {}

    def width(self, character: str) -> float:
        """Of one character."""
        known = self._widths.get(character)
        if known is None:
            known = self._widths[character] = self._font.getlength(character) / _MEASURED_AT
        return known
