"""Changes a decoded picture with Pillow: sets it upright, scales it, and brings it into a plain mode and into sRGB."""

import struct
from functools import cache
from io import BytesIO
from typing import TypeAlias

from PIL import Image, ImageCms

PixelSize: TypeAlias = tuple[int, int]

EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the turn that sets the picture upright. From 5 on, width and height swap."""
BROKEN_TAGS = (struct.error, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError)
"""Errors that Pillow raises on invalid tags."""


def exif_of(picture: Image.Image) -> Image.Exif:
    """The picture's tags; none if they are invalid, which says nothing about the pixels. Decodes nothing."""
    try:
        # A PNG's own method decodes everything to find tags after the pixels, which `open_picture` has found already.
        if picture.format == "PNG":
            return Image.Image.getexif(picture)
        return picture.getexif()
    except BROKEN_TAGS:
        return Image.Exif()


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. A TIFF counts as upright: Pillow gives its turned size and turns it on loading."""
    return 1 if picture.format == "TIFF" else _orientation_in(exif_of(picture))


def orientation_left(picture: Image.Image) -> int:
    """The EXIF orientation that remains when libvips has loaded the picture: it turns an AVIF, but not a TIFF."""
    return 1 if picture.format == "AVIF" else _orientation_in(exif_of(picture))


def _orientation_in(exif: Image.Exif) -> int:
    found = exif.get(EXIF_ORIENTATION, 1)
    return int(found) if found in _UPRIGHT else 1


def lies_sideways(orientation: int) -> bool:
    """Whether width and height swap when the picture is set upright."""
    return orientation in (5, 6, 7, 8)


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture, turned upright by its `orientation`."""
    turn = _UPRIGHT.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def scaled(source: PixelSize, box: PixelSize, fit: str, *, enlarge: bool = False) -> PixelSize:
    """The size of the whole picture inside the box (`fit`), or covering it (`fill`)."""
    ratios = (box[0] / source[0], box[1] / source[1])
    ratio = max(ratios) if fit == "fill" else min(ratios) if enlarge else min(1.0, *ratios)
    return max(1, round(source[0] * ratio)), max(1, round(source[1] * ratio))


def middle(picture: Image.Image, box: PixelSize) -> Image.Image:
    """The middle of the picture, in this size or as much as there is."""
    width, height = min(picture.width, box[0]), min(picture.height, box[1])
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def plain_mode(picture: Image.Image) -> Image.Image:
    """The picture in a mode that filters support; a colour that stands for transparency becomes transparent."""
    match picture.mode:
        case "1" | "L" | "RGB" if "transparency" in picture.info:
            return picture.convert("RGBA")
        case "L" | "RGB" | "RGBA" | "CMYK":
            return picture
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        case "1":
            return picture.convert("L")
        case _:
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB, converted by its colour profile if that works; without the profile and all metadata."""
    if profile and picture.mode != "L":
        picture = _by_profile(picture, profile)
    if picture.mode == "CMYK":
        picture = _by_profile(picture, _usual_inks())
    picture.info = {}
    return picture


def _by_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):  # a broken profile says nothing about the pixels
        return picture
    return converted or picture


@cache
def _usual_inks() -> bytes:
    """The profile of libvips for CMYK without a profile, so that a thumbnail has the colours of a conversion."""
    import pyvips  # noqa: PLC0415 - few pictures are CMYK, and the others need no second library

    return bytes(pyvips.Operation.call("profile_load", "cmyk"))
