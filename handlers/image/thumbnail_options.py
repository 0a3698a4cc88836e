"""What `image_thumbnail` can be told, and what it then needs. No Pillow here: the service imports this."""

from math import sqrt
from typing import Annotated, Any, Literal

import msgspec

from ..contract import Estimate, Job
from ..media.estimate import Packing, written_bytes
from ..media.formats import format_of

_GUESSED_PIXELS = 90_000_000
"""At most, as long as only the file's size is known: few pictures have more, and the probe sees those that do."""


class ImageThumbnailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `image_thumbnail` can be told. The format is that of the output's suffix."""

    width: Annotated[int, msgspec.Meta(ge=1, le=8192, description="Width of the box, in pixels.")] = 320
    height: Annotated[int, msgspec.Meta(ge=1, le=8192, description="Height of the box, in pixels.")] = 320
    fit: Annotated[
        Literal["fit", "fill", "crop"],
        msgspec.Meta(
            description="fit: the whole picture inside the box, never enlarged. "
            "fill: exactly the box, what sticks out is cut off evenly. "
            "crop: the middle of the picture, not scaled."
        ),
    ] = "fit"
    quality: Annotated[int, msgspec.Meta(ge=1, le=100, description="For jpeg, webp and avif.")] = 85
    background: Annotated[
        str,
        msgspec.Meta(pattern="^#[0-9a-fA-F]{6}$", description="Laid under transparent parts in a jpeg, as #rrggbb."),
    ] = "#ffffff"


def estimate(job: Job[ImageThumbnailOptions]) -> Estimate:
    """Guess from the file size alone: a strongly compressed picture has some 20 pixels a byte."""
    pixels = min(_GUESSED_PIXELS, max(20 * job.input_size, 1_000_000))
    written = min(pixels, job.options.width * job.options.height)
    return estimate_for(job, pixels, pixels, written, basis={"size": job.input_size})


def estimate_for(
    job: Job[ImageThumbnailOptions],
    decoded: int,
    pixels: int,
    written: int,
    *,
    pixel_bytes: int = 4,
    packing: Packing | None = None,
    basis: dict[str, Any],
) -> Estimate:
    """What a picture needs of which `decoded` of all its `pixels` are held in memory, and `written` come out.

    `pixel_bytes` are those of a pixel that is held, in all its copies.
    """
    options = job.options
    temp = written_bytes(
        format_of(job.output_file),
        written,
        quality=options.quality,
        packing=packing,
        shrunk=sqrt(pixels / max(1, written)),
    )
    return Estimate(
        memory=56_000_000 + pixel_bytes * decoded + 8 * min(options.width * options.height, max(written, decoded)),
        temp=temp,
        seconds=0.1 + pixels / 260e6,
        basis=basis,
    )


def check(job: Job[ImageThumbnailOptions]) -> None:
    """Whether the output's suffix is one that can be written."""
    format_of(job.output_file)
