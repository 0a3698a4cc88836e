"""The picture formats that are written, by the output's suffix, and HEIC. No Pillow here: the service imports this."""

from importlib.util import find_spec
from pathlib import PurePath

from ...events.errors import InvalidPath
from ..contract import Unusable

WRITE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF"}
"""Suffix → Pillow's name of the format."""
MAX_SIDES = {"JPEG": 65_500, "GIF": 65_535, "WEBP": 16_383, "AVIF": 16_384}
"""Pixels on one side that a format, or its encoder, can hold. The other formats hold every picture that can be read."""
HEIC_SUFFIXES = (".heic", ".heif")
"""Written only where `has_heic`."""
_HEIC_STRIP = (32, 4_208)
"""If one side has fewer pixels than the first number, HEIC's encoder takes at most the second number on the other."""


def format_of(output_file: PurePath) -> str:
    """Pillow's name of the format that the suffix means. Raises InvalidPath if it is not in `WRITE_FORMATS`."""
    kind = WRITE_FORMATS.get(output_file.suffix.lower())
    if kind is None:
        raise InvalidPath(
            f"A picture cannot be written to {output_file.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join(WRITE_FORMATS)}.",
        )
    return kind


def check_sides(size: tuple[int, int], kind: str) -> None:
    """Raise `Unusable` for a picture too large for the format, before its encoder fails with an unclear message."""
    most, short = MAX_SIDES.get(kind), ""
    if kind == "HEIF" and min(size) < _HEIC_STRIP[0]:
        most, short = _HEIC_STRIP[1], f" where the other has fewer than {_HEIC_STRIP[0]}"
    if most is not None and max(size) > most:
        raise Unusable(
            f"{kind.lower()} cannot hold a picture of {size[0]}x{size[1]} pixels, only {most:,} a side{short}: "
            "take png or tiff, or give a smaller width or height"
        )


def has_heic() -> bool:
    """Whether the optional package for HEIC, `pillow-heif`, is installed. It is not loaded."""
    return find_spec("pillow_heif") is not None
