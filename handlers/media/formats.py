"""Which picture formats are written, by the output's suffix. No Pillow here: the service imports this."""

from pathlib import PurePath

from ...events.errors import InvalidPath
from ..contract import Unusable

WRITE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF"}
"""Suffix → Pillow's name of the format."""
MAX_SIDES = {"JPEG": 65_500, "GIF": 65_535, "WEBP": 16_383, "AVIF": 16_384}
"""Pixels a side that a format, or its encoder, can hold; none: as many as we read."""
MAX_PIXELS = 512_000_000
"""Of a picture that is read. Larger ones are refused from their header."""
_HEIC_STRIP = (32, 4_208)
"""Where one side has fewer pixels, the encoder of HEIC takes no more than this of the other."""


def format_of(output_file: PurePath) -> str:
    """Pillow's name of the format that the suffix asks for. Raises InvalidPath when it is none of `WRITE_FORMATS`."""
    kind = WRITE_FORMATS.get(output_file.suffix.lower())
    if kind is None:
        raise InvalidPath(
            f"A picture cannot be written to {output_file.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join(WRITE_FORMATS)}.",
        )
    return kind


def check_sides(size: tuple[int, int], kind: str) -> None:
    """Refuse a picture that the format cannot hold, before its encoder says so in words of its own. Raises Unusable."""
    most, short = MAX_SIDES.get(kind), ""
    if kind == "HEIF" and min(size) < _HEIC_STRIP[0]:
        most, short = _HEIC_STRIP[1], f" where the other has fewer than {_HEIC_STRIP[0]}"
    if most is not None and max(size) > most:
        raise Unusable(
            f"{kind.lower()} cannot hold a picture of {size[0]}x{size[1]} pixels, only {most:,} a side{short}: "
            "take png or tiff, or give a smaller width or height"
        )
