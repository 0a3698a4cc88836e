"""The work of `image_thumbnail`: decode no more than needed, scale, set upright, convert to sRGB, write."""

import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ..contract import Finished, Rejected, Stopped, TaskContext
from ..pieces import settled
from .formats import format_of
from .writing import write_picture

if TYPE_CHECKING:
    from .thumbnail_options import ImageThumbnailOptions

Size: TypeAlias = tuple[int, int]

READ_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
"""What is opened at all. Pillow's other readers start programs (EPS) or are seldom used and seldom tested."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the turn that sets the picture upright. From 5 on, width and height change places."""

_DRAFT_MARGIN = 2
"""A JPEG is decoded at least this many times larger than wanted, so that the last step is a good filter."""


def make_thumbnail(context: TaskContext["ImageThumbnailOptions"]) -> Finished | Stopped | Rejected:
    """Write the thumbnail to `context.output_part`.

    Raises:
        OSError: a file cannot be read or written for a reason that is not the picture's.
    """
    options = context.options
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    try:
        picture = _load(context.input_file, options)
    except _UnreadableError as error:
        return Rejected(reason=str(error))
    if context.should_stop():
        return Stopped()
    context.progress(60, f"scaling {picture.width}x{picture.height}")
    small = _to_srgb(_upright(_shrink(picture, options), picture.orientation), picture.profile)
    context.progress(80, f"writing {kind.lower()}")
    write_picture(small, context.output_part, kind, quality=options.quality, background=options.background)
    return Finished(result=_describe(context.output_part, small, picture, kind))


class _UnreadableError(Exception):
    """The file is not a picture we can read, and never will be. Does not leave this module."""


class _Picture(NamedTuple):
    """A decoded picture, still lying as stored; width and height are those of the whole picture set upright."""

    image: Image.Image
    width: int
    height: int
    orientation: int
    profile: bytes | None


def _load(path: Path, options: "ImageThumbnailOptions") -> _Picture:
    """Decode the first picture of the file, no larger than needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is odd in a picture that can still be read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=READ_FORMATS) as image:
                return _decode(image, options)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _UnreadableError(f"{path.name} is too large: {error}") from error
        except UnidentifiedImageError as error:
            raise _UnreadableError(f"{path.name} is not an image in one of {', '.join(READ_FORMATS)}") from error
        except OSError as error:
            if error.errno is not None:  # the disk's fault, not the picture's
                raise
            raise _UnreadableError(f"{path.name} is damaged: {error}") from error
        except (SyntaxError, ValueError, EOFError, RuntimeError, struct.error) as error:
            raise _UnreadableError(f"{path.name} is damaged: {error}") from error


def _decode(image: ImageFile, options: "ImageThumbnailOptions") -> _Picture:
    width, height = image.size
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    over_box = _scaled(image.size, _box(options, orientation), options.fit)
    image.draft(None, (over_box[0] * _DRAFT_MARGIN, over_box[1] * _DRAFT_MARGIN))
    image.load()
    if _sideways(orientation):
        width, height = height, width
    return _Picture(image, width, height, orientation, image.info.get("icc_profile"))


def _sideways(orientation: int) -> bool:
    return orientation in (5, 6, 7, 8)


def _box(options: "ImageThumbnailOptions", orientation: int) -> Size:
    """The wanted box, turned the way the picture is stored."""
    return (options.height, options.width) if _sideways(orientation) else (options.width, options.height)


def _scaled(source: Size, box: Size, fit: str) -> Size:
    """The size the whole picture takes in the box, or over it when it has to fill it."""
    ratios = (box[0] / source[0], box[1] / source[1])
    ratio = max(ratios) if fit == "fill" else min(1.0, *ratios)
    return max(1, round(source[0] * ratio)), max(1, round(source[1] * ratio))


def _shrink(picture: _Picture, options: "ImageThumbnailOptions") -> Image.Image:
    box = _box(options, picture.orientation)
    whole = _plain_mode(picture.image)
    if options.fit == "fill":
        return ImageOps.fit(whole, box, Image.Resampling.LANCZOS)
    return whole.resize(_scaled(whole.size, box, "fit"), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _plain_mode(picture: Image.Image) -> Image.Image:
    """Palettes, bits and deep greys as modes that a filter can work on."""
    match picture.mode:
        case "L" | "RGB" | "RGBA" | "CMYK":
            return picture
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        case "1" | "I" | "F":
            return picture.convert("L")
        case _:
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Apply the colour profile, if it works, and forget it with all other metadata."""
    if profile and picture.mode != "L":
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode)
            picture = converted or picture
        except (ImageCms.PyCMSError, OSError, ValueError):  # a broken profile says nothing about the pixels
            pass
    if picture.mode == "CMYK":
        picture = picture.convert("RGB")
    picture.info = {}
    return picture


def _describe(path: Path, small: Image.Image, picture: _Picture, kind: str) -> dict[str, Any]:
    size, digest = settled(path)
    return {
        "size": size,
        "width": small.width,
        "height": small.height,
        "format": kind.lower(),
        "source_width": picture.width,
        "source_height": picture.height,
        "sha256": digest,
    }
