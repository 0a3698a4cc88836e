"""The course of `image_convert`: look at the header, then one picture through libvips or many through Pillow."""

from pathlib import Path
from typing import Any

import msgspec
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ...contract import Estimate, Finished, Job, Outcome, Stopped, TaskContext, Unusable
from ...describing import describe
from ...media.damage import gif_is_whole, unreadable
from ...media.formats import MAX_PIXELS
from ...media.pictures import pixel_limit
from ..opening import MAX_PILLOW_PIXELS, blame_picture, format_in, open_picture, packing_in
from ..pages import pages_in
from ..shaping import Size, orientation_left, orientation_of
from .costs import Header, estimate_for
from .errors import StopAskedError
from .frames import convert_frames
from .metadata import names_in
from .notes import notes_on
from .options import MANY_FRAMES, MAX_FRAMES, ImageConvertOptions, format_of
from .still import VipsCannotError, convert_still
from .stills_pillow import convert_still_with_pillow

_VIPS_READS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"})
_BYTE = 8


def read_header(path: Path) -> Header:
    """Look at the picture. Raises `Unusable`, or OSError for the disk's faults."""
    with open_picture(path, MAX_PIXELS) as image, blame_picture(path):
        return _header_of(image, path)


def _written_header(path: Path, kind: str, source: Header) -> Header:
    """The same of a finished output, which is believed. What Pillow cannot read is taken to have lost nothing."""
    try:
        with pixel_limit(None), Image.open(path, formats=[kind]) as image:
            return _header_of(image, path)
    except UnidentifiedImageError:  # a tiff of sixteen bits of grey and alpha
        return msgspec.structs.replace(source, format=kind)


def _header_of(image: ImageFile, path: Path) -> Header:
    return Header(
        format=format_in(image),
        width=image.width,
        height=image.height,
        frames=pages_in(image, path),
        alpha=image.has_transparency_data,
        orientation=orientation_of(image),
        left=orientation_left(image),
        packing=packing_in(image, path.stat().st_size),
        deep=any(";16" in str(tile.args) for tile in image.tile) or image.info.get("bit_depth", 8) > _BYTE,
        inks=image.mode == "CMYK",
        cut=image.format == "GIF" and not gif_is_whole(path),
        beside=getattr(image, "n_frames", 1) - 1 if image.format == "MPO" else 0,
        tells=names_in(image),
    )


def probe(job: Job[ImageConvertOptions]) -> Estimate:
    """An estimate from the picture's real size and number of frames."""
    header = read_header(job.input_file)
    basis = {"format": header.format, "width": header.width, "height": header.height, "frames": header.frames}
    return estimate_for(job, header, basis)


def convert(context: TaskContext[ImageConvertOptions]) -> Outcome:
    """Convert `context.input_file` into `context.output_part`.

    Raises:
        Unusable: the input is no picture that can be read.
        OSError: a file cannot be read or written for a reason that is not the picture's.
    """
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    header = read_header(context.input_file)
    if context.should_stop():
        return Stopped()
    several = header.frames > 1 and context.options.frames == "all" and kind in MANY_FRAMES
    if several:
        _refuse_frames(context, kind, header)
    try:
        if several:
            (width, height), duration = convert_frames(context, kind, header.frames)
        else:
            (width, height), duration = _convert_one(context, kind, header), 0.0
    except StopAskedError:
        context.output_part.unlink(missing_ok=True)
        return Stopped()
    written = _written_header(context.output_part, kind, header)
    frames = written.frames if several else 1
    result = describe(
        context.output_part, kind.lower(), width=width, height=height, frames=frames, duration=duration
    ) | _source(header)
    if notes := notes_on(context.options, header, written, several=several):
        result["notes"] = notes
    return Finished(result=result)


def _source(header: Header) -> dict[str, Any]:
    """What the result says of the input; its size as it is seen."""
    upright = (header.height, header.width) if header.sideways else (header.width, header.height)
    return {
        "source_format": header.format.lower(),
        "source_width": upright[0],
        "source_height": upright[1],
        "source_frames": header.frames,
    }


def _refuse_frames(context: TaskContext[ImageConvertOptions], kind: str, header: Header) -> None:
    """Raise `Unusable` for an animation that cannot be converted as asked."""
    name = context.input_file.name
    if header.frames > MAX_FRAMES:
        raise Unusable(f"{name} has {header.frames:,} frames, at most {MAX_FRAMES:,} are converted")
    if kind == "AVIF" and context.options.lossless:
        raise Unusable(f"{name} has {header.frames} frames, and an avif of several is never lossless: take webp or png")


def _coloured_wrongly(header: Header) -> bool:
    """Whether libvips would give the outer pixels wrong colours: of a turned AVIF with an odd side, libheif does."""
    odd = header.width % 2 or header.height % 2
    return header.format == "AVIF" and header.orientation != 1 and bool(odd) and header.pixels <= MAX_PILLOW_PIXELS


def _convert_one(context: TaskContext[ImageConvertOptions], kind: str, header: Header) -> Size:
    """Through libvips where it can. Pillow has another look at what libvips refuses, and has the last word."""
    if header.format not in _VIPS_READS or kind == "HEIF" or _coloured_wrongly(header):
        return convert_still_with_pillow(context, kind)
    try:
        return convert_still(context, kind, header.left, inks=header.inks)
    except VipsCannotError as error:
        context.output_part.unlink(missing_ok=True)
        if header.pixels > MAX_PILLOW_PIXELS:
            raise unreadable(context.input_file, "libvips", str(error)) from error
        return convert_still_with_pillow(context, kind)
