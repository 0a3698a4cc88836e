"""Reads the headers of the input and of the finished output, and estimates from the input's."""

from pathlib import Path

import msgspec
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from ...contract import Estimate, Job, Unusable
from ...media.damage import gif_is_whole
from ...media.pictures import pixel_limit
from ..limits import MAX_IMAGE_PIXELS, MAX_PILLOW_PIXELS
from ..opening import blame_picture, format_in, open_picture, packing_in, pages_in, pictures_beside
from ..shaping import orientation_left, orientation_of
from .estimate import ImageHeader, estimate_for, written_pixels
from .metadata import names_in
from .options import MANY_FRAMES, PILLOW_WRITES, VIPS_READS, ImageConvertOptions, target_format

_GREY = ("L", "LA", "I;16", "I;16B", "I;16L", "I;16N")
_YCBCR = 6
"""The number of these colours in a TIFF."""
_HEAD = 65_536
"""Bytes at the start of an AVIF; they include the coding parameters."""
_HIGH, _TWELVE = 0x40, 0x20


def probe(job: Job[ImageConvertOptions]) -> Estimate:
    """Estimate from the picture's real size and number of frames. Raises Unusable."""
    header = read_header(job.input_file)
    check_written(job.input_file.name, job.options, header, target_format(job.output_file))
    basis = {"format": header.format, "width": header.width, "height": header.height, "frames": header.frames}
    return estimate_for(job, header, basis)


def read_header(path: Path) -> ImageHeader:
    """Read the header of the input. Raises `Unusable`, or OSError if the disk is at fault."""
    with open_picture(path, MAX_IMAGE_PIXELS) as image, blame_picture(path):
        return _header_of(image, path)


def check_written(name: str, options: ImageConvertOptions, header: ImageHeader, kind: str) -> None:
    """Raise `Unusable` for a picture that would be made larger than one that is read may be."""
    written = written_pixels(options, header)
    several = header.frames > 1 and options.frames == "all" and kind in MANY_FRAMES
    by_pillow = several or kind in PILLOW_WRITES or header.format not in VIPS_READS or header.brightness_apart
    most = MAX_PILLOW_PIXELS if by_pillow else MAX_IMAGE_PIXELS
    if written > max(most, header.pixels):
        raise Unusable(
            f"{name} would be made larger, to {written:,} pixels; at most {most:,} are possible here: "
            "give a smaller width or height"
        )


def written_header(path: Path, kind: str, source: ImageHeader) -> ImageHeader:
    """Read the header of a finished output, which is trusted. If Pillow cannot read it, nothing counts as lost."""
    try:
        with pixel_limit(None), Image.open(path, formats=[kind]) as image:
            return _header_of(image, path)
    except UnidentifiedImageError:  # a tiff of sixteen bits of grey and alpha
        return msgspec.structs.replace(source, format=kind)


def _has_brightness_apart(image: ImageFile) -> bool:
    photometric = image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) if isinstance(image, TiffImageFile) else None
    return photometric == _YCBCR and "jpeg" not in image.info.get("compression", "")


def _header_of(image: ImageFile, path: Path) -> ImageHeader:
    return ImageHeader(
        format=format_in(image),
        width=image.width,
        height=image.height,
        frames=pages_in(image, path),
        alpha=image.has_transparency_data,
        orientation=orientation_of(image),
        left=orientation_left(image),
        packing=packing_in(image, path.stat().st_size),
        bits=_bits_in(image, path),
        grey_bits=_grey_bits_in(image),
        palette=_has_palette(image),
        inks=image.mode == "CMYK",
        brightness_apart=_has_brightness_apart(image),
        profile="icc_profile" in image.info,
        grey_profile=image.mode in _GREY and "icc_profile" in image.info,
        cut=image.format == "GIF" and not gif_is_whole(path),
        beside=pictures_beside(image),
        tells=names_in(image),
    )


def _grey_bits_in(image: ImageFile) -> int:
    if image.mode not in ("1", "L") or image.has_transparency_data:
        return 8
    coding = str([tile.args for tile in image.tile])
    return 1 if image.mode == "1" else next((bits for bits in (2, 4) if f"'L;{bits}" in coding), 8)


def _has_palette(image: ImageFile) -> bool:
    """Of a GIF, only if its first frame fills it: what is around a smaller one has no number."""
    fills = image.format != "GIF" or all(tile.extents == (0, 0, *image.size) for tile in image.tile)
    return image.mode == "P" and fills


def _bits_in(image: ImageFile, path: Path) -> int:
    """Bits per channel, at least 8."""
    if image.format == "AVIF":
        with path.open("rb") as file:
            _before, found, coding = file.read(_HEAD).partition(b"av1C")
        if not found or len(coding) < 3 or not coding[2] & _HIGH:  # noqa: PLR2004
            return 8
        return 12 if coding[2] & _TWELVE else 10
    if any(";16" in str(tile.args) for tile in image.tile):
        return 16
    return max(8, int(image.info.get("bit_depth", 8)))  # for a HEIC
