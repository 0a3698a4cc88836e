"""The options of `image_convert`. No image library here: the service imports this."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from ....events.errors import InvalidOptions, InvalidPath
from ...contract import Job
from ...media.formats import HEIC_SUFFIXES, WRITE_FORMATS, has_heic
from ..limits import MAX_IMAGE_PIXELS

MAX_IMAGE_FRAMES = 10_000

CONVERT_FORMATS = {**WRITE_FORMATS, ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
"""Suffix → Pillow's name of the format."""
MOST_BITS = {"PNG": 16, "TIFF": 16, "AVIF": 12}
"""Bits per channel that a format, or its encoder, can hold; the others hold 8."""
VIPS_READS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"})
PILLOW_WRITES = frozenset({"HEIF", "BMP"})
"""Formats that Pillow writes, which holds the whole picture; libvips writes the others."""
MANY_FRAMES = frozenset({"GIF", "WEBP", "TIFF", "AVIF", "PNG"})
"""Formats that can hold an animation or several pages."""
_LOSSLESS = frozenset({"PNG", "WEBP", "AVIF", "TIFF"})

_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class ImageConvertOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `image_convert`. The format is that of the output's suffix."""

    width: Annotated[_Side | None, msgspec.Meta(description="Width of the box, in pixels; none: as it comes.")] = None
    height: Annotated[_Side | None, msgspec.Meta(description="Height of the box, in pixels; none: as it comes.")] = None
    fit: Annotated[
        Literal["fit", "fill", "crop"],
        msgspec.Meta(
            description="fit: the whole picture inside the box. fill: exactly the box, what sticks out is cut off "
            "evenly. crop: the middle of the picture, not scaled. fill and crop need width and height."
        ),
    ] = "fit"
    enlarge: Annotated[bool, msgspec.Meta(description="Whether `fit` may make a small picture larger.")] = False
    quality: Annotated[int, msgspec.Meta(ge=1, le=100, description="For jpeg, webp, avif and heic.")] = 85
    lossless: Annotated[bool, msgspec.Meta(description="Every pixel kept exactly, for webp and avif.")] = False
    profile: Annotated[
        Literal["keep", "srgb"],
        msgspec.Meta(
            description="keep: pixels and colour profile as they are. srgb: pixels converted by the profile, which is "
            "then left out."
        ),
    ] = "keep"
    depth: Annotated[
        Literal["auto", "8", "16"],
        msgspec.Meta(description="Bits a channel; auto: as the source, if the format can. 16: png and tiff."),
    ] = "auto"
    metadata: Annotated[
        Literal["keep", "strip"],
        msgspec.Meta(
            description="EXIF (with author and place), XMP, IPTC and comments, as far as the format can hold them. "
            "The picture is set upright anyway."
        ),
    ] = "keep"
    background: Annotated[
        str,
        msgspec.Meta(
            pattern="^#[0-9a-fA-F]{6}$", description="Laid under transparent parts in a jpeg or bmp, as #rrggbb."
        ),
    ] = "#ffffff"
    frames: Annotated[
        Literal["all", "first"],
        msgspec.Meta(description="Of an animation or a file of several pages, where the output can hold them."),
    ] = "all"


def target_format(output_file: Path) -> str:
    """Pillow's name of the format that the suffix means. Raises InvalidPath if it cannot be written here."""
    suffix = output_file.suffix.lower()
    if suffix in HEIC_SUFFIXES:
        if has_heic():
            return "HEIF"
        raise InvalidPath(
            f"{output_file.name!r} cannot be written: HEIC needs the package pillow-heif",
            field="output_file",
            remedy="Install tasktrail[heic], or choose another format.",
        )
    kind = CONVERT_FORMATS.get(suffix)
    if kind is None:
        raise InvalidPath(
            f"A picture cannot be written to {output_file.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join([*CONVERT_FORMATS, *HEIC_SUFFIXES])}.",
        )
    return kind


def check(job: Job[ImageConvertOptions]) -> None:
    """Raise InvalidOptions or InvalidPath if the options contradict each other, or the output's format."""
    options, kind = job.options, target_format(job.output_file)
    if options.fit != "fit" and (options.width is None or options.height is None):
        raise InvalidOptions(f"fit={options.fit!r} needs width and height", field="options.fit")
    if options.fit == "fill" and (options.width or 1) * (options.height or 1) > MAX_IMAGE_PIXELS:
        raise InvalidOptions(
            f"fit='fill' would make {options.width}x{options.height} pixels; at most {MAX_IMAGE_PIXELS:,} are possible",
            field="options.width",
        )
    if options.lossless and kind not in _LOSSLESS:
        raise InvalidOptions(f"{job.output_file.suffix} has no lossless form", field="options.lossless")
    if options.depth == "16" and MOST_BITS.get(kind, 8) < 16:  # noqa: PLR2004
        raise InvalidOptions(
            f"{job.output_file.suffix} cannot hold 16 bits a channel",
            field="options.depth",
            remedy="Take png or tiff, or depth=auto: an avif then has up to 12.",
        )


def bits_written(options: ImageConvertOptions, kind: str, source: int) -> int:
    """Bits per channel of an output with one frame; `source`: bits per channel of the input."""
    return min(MOST_BITS.get(kind, 8), source) if options.depth == "auto" else int(options.depth)
