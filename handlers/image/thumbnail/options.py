"""The options of `image_thumbnail`. No Pillow here: the service imports this."""

from typing import Annotated, Literal

import msgspec

from ...contract import Job
from ...media.formats import format_of


class ImageThumbnailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `image_thumbnail`. The format is that of the output's suffix."""

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


def check(job: Job[ImageThumbnailOptions]) -> None:
    """Raise `InvalidPath` if the output's suffix cannot be written."""
    format_of(job.output_file)
