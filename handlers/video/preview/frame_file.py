"""A frame of the preview as a piece on the disk, with its own moment. Not packed: that took longer than the video."""

from pathlib import Path

from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION

from ...media.pictures import save

SUFFIX = ".tif"
_FORMATS = ["TIFF"]


def write_frame(picture: Image.Image, moment: int, path: Path) -> None:
    """Write an RGB picture and the moment, in the source's own ticks, that it was taken at.

    The plan has the moments that were wanted, and an attempt that goes on has not seen the frames of the one before.
    """
    save(picture, path, "TIFF", description=str(moment))


def open_frame(path: Path) -> Image.Image:
    """The picture, to be closed by the caller."""
    return Image.open(path, formats=_FORMATS)


def moment_of(path: Path) -> int:
    """The moment that it was taken at."""
    with Image.open(path, formats=_FORMATS) as picture:
        return int(picture.tag_v2[IMAGEDESCRIPTION])  # type: ignore[attr-defined]  # a TIFF has tags
