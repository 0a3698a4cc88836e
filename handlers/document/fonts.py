"""Fonts for text pages: the system's if there are any, otherwise the one built into Pillow (ASCII only)."""

from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias
from unicodedata import bidirectional

from PIL import ImageFont, features

from ...events.existence import is_file

Face: TypeAlias = Literal["plain", "bold", "italic", "mono"]
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
    "italic": ("DejaVuSans-Oblique.ttf", "LiberationSans-Italic.ttf", "Arial Italic.ttf"),
    "mono": ("DejaVuSansMono.ttf", "LiberationMono-Regular.ttf", "Courier New.ttf"),
}
FACES: tuple[Face, ...] = tuple(_FILES)
INSTALL_FONTS = (
    "Install the fonts DejaVu or Liberation (Debian and Ubuntu: apt install fonts-dejavu-core; Fedora: dnf install "
    "dejavu-sans-fonts dejavu-sans-mono-fonts)"
)
_MEASURED_AT = 100.0
_NO_CHARACTER = "\U0010fffe"
"""No font has this character, so it shows what a font draws for missing ones."""
_TO_LEFT = ("R", "AL")


@cache
def font_file(face: Face) -> Path | None:
    """The file of a face; None for the font built into Pillow."""
    places = (Path(folder, name) for name in _FILES[face] for folder in _FOLDERS)
    path = next((path for path in places if is_file(path)), None)
    return font_file("plain") if path is None and face == "italic" else path  # often not installed with the others


def font_names() -> list[str]:
    """All that the look of a text page depends on. The built-in font has an empty name."""
    return [*(str(font_file(face) or "") for face in FACES), "shaped" if can_shape() else ""]


@cache
def can_shape() -> bool:
    """Whether letters of scripts that run to the left can be ordered and shaped."""
    return bool(features.check("raqm") and features.check("fribidi"))


def runs_to_left(character: str) -> bool:
    """Whether the character belongs to a script that runs to the left."""
    return bidirectional(character) in _TO_LEFT


def load_font(face: Face, size: float, *, shaped: bool = False) -> AnyFont:
    """The face at `size` pixels; `shaped` for scripts that run to the left."""
    size = max(1.0, size)
    path = font_file(face)
    if path is None:
        return ImageFont.load_default(size)
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    return ImageFont.truetype(path, size, layout_engine=engine)


class Ruler:
    """Measures text as a multiple of the font's size. It caches characters: a text has many lines but few of them."""

    def __init__(self, face: Face) -> None:
        self._font = load_font(face, _MEASURED_AT)
        self._widths: dict[str, float] = {}
        self._lacking: dict[str, bool] = {}
        self._box = self._shape(_NO_CHARACTER)

    def width(self, character: str) -> float:
        """The width of one character."""
        width = self._widths.get(character)
        if width is None:
            width = self._widths[character] = self._font.getlength(character) / _MEASURED_AT
        return width

    def lacks(self, character: str) -> bool:
        """Whether the font has no glyph for the character."""
        if character.isascii() or character.isspace():
            return False
        is_lacking = self._lacking.get(character)
        if is_lacking is None:
            is_lacking = self._lacking[character] = self._shape(character) == self._box
        return is_lacking

    def _shape(self, character: str) -> tuple[tuple[int, int], bytes]:
        mask = self._font.getmask(character)
        return mask.size, bytes(mask)
