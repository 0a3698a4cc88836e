"""Opening a picture that nobody vouches for: few formats, its size known before anything is decoded."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ..contract import Unusable
from ..faults import text_of
from ..inputs import refuse_empty
from ..media.damage import exif_behind_pixels, is_picture, unreadable
from ..media.estimate import Packing, packing_of
from ..media.pictures import pixel_limit
from .heic import has_heic


def _heic_formats() -> tuple[str, ...]:
    """Teach Pillow HEIC where the package for it is installed."""
    if not has_heic():
        return ()
    import_module("pillow_heif").register_heif_opener()
    return ("HEIF",)


READ_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", *_heic_formats())
"""What is opened at all. Pillow's other readers start programs (EPS) or are seldom used and seldom tested."""

MAX_SIDE = 65_535
MAX_PILLOW_PIXELS = 178_956_970
"""Of a picture that Pillow decodes. It holds it whole, at up to 4 bytes a pixel and more."""

_NUMBERS = {"F": "floating-point numbers", "I": "32-bit numbers"}
"""Modes of measurements (heights, temperatures, masks): nothing in the file says which number is black or white."""


@contextmanager
def open_picture(path: Path, max_pixels: int) -> Iterator[ImageFile]:
    """The file, its header read and nothing decoded yet. Decode it inside of `blame_picture`.

    Raises:
        Unusable: not a picture of `READ_FORMATS`, one that cannot be read, of numbers, or of more than `max_pixels`.
        OSError: the disk's fault.
    """
    refuse_empty(path)
    # A file, not a name: Pillow would map an uncompressed picture, and the worker would die if that file were cut.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in a picture that can still be read; its size is checked below
        with blame_picture(path), pixel_limit(None):
            opened = Image.open(file, formats=READ_FORMATS)
            if opened.format == "PNG" and "exif" not in opened.info and (exif := exif_behind_pixels(file)):
                opened.info["exif"] = exif
        with opened as image, pixel_limit(max_pixels):
            check_pixels(path.name, image.size, max_pixels)
            if image.mode in _NUMBERS:
                raise Unusable(
                    f"{path.name} holds {_NUMBERS[image.mode]}, not a picture: scale them to 8 or 16 bits first"
                )
            yield image


def check_pixels(name: str, size: tuple[int, int], most: int) -> None:
    """Raise `Unusable` for a picture of more pixels than are read, or decoded."""
    if size[0] * size[1] > most or max(size) > MAX_SIDE:
        raise Unusable(
            f"{name} is too large: {size[0]}x{size[1]} pixels; at most {most:,} are possible here, {MAX_SIDE:,} a side"
        )


def format_in(image: ImageFile) -> str:
    """Pillow's name of the format; many cameras put further pictures behind that of a JPEG, which stays one."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def packing_in(image: ImageFile, size: int) -> Packing | None:
    """How tightly the file, of so many bytes, packs the picture. To be asked before a smaller one is drafted."""
    compression = str(image.info.get("compression", ""))
    return packing_of(format_in(image), size, image.width * image.height, mode=image.mode, compression=compression)


_CUT_SHORT = (TypeError, IndexError, KeyError)
"""What Pillow ends with where a header stops in the middle."""


@contextmanager
def blame_picture(path: Path) -> Iterator[None]:
    """Turn what Pillow raises while it decodes `path` into `Unusable`; let the disk's faults pass.

    Nothing but decoding belongs inside: it would be taken for the picture's fault.
    """
    try:
        yield
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"{path.name} is too large: a frame claims more pixels than the picture may have") from error
    except UnidentifiedImageError as error:
        if is_picture(path):
            raise unreadable(path, "Pillow", "it does not know this form of the format") from error
        raise Unusable(f"{path.name} is not an image in one of {', '.join(READ_FORMATS)}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise unreadable(path, "Pillow", text_of(error)) from error
    except (SyntaxError, ValueError, EOFError, RuntimeError, struct.error, *_CUT_SHORT) as error:
        raise unreadable(path, "Pillow", text_of(error) or type(error).__name__) from error
