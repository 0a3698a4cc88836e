"""What `video_thumbnail` can be told, and what it then needs. No media library here: the service imports this."""

from typing import Annotated, Literal

import msgspec

from ...contract import Estimate, Job
from ...idle import refuse_idle
from ...media.estimate import fitted_pixels, written_bytes
from ...media.formats import format_of
from ..figures import ASSUMED, Picture, reading_memory, reading_seconds
from ..position import Position, position_of

_SMOOTHNESS = 0.93
"""Frames of films have a little less in them than photographs."""


class VideoThumbnailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `video_thumbnail` can be told. The format is that of the output's suffix."""

    position: Annotated[
        float | str,
        msgspec.Meta(description='best, seconds (12.5 or "1:02:03.5"), or a share of the length ("25%").'),
    ] = "best"
    candidates: Annotated[
        int, msgspec.Meta(ge=1, le=100, description="best: so many frames, evenly spread, are compared.")
    ] = 12
    width: Annotated[int, msgspec.Meta(ge=1, le=8192, description="Width of the box, in pixels.")] = 640
    height: Annotated[int, msgspec.Meta(ge=1, le=8192, description="Height of the box, in pixels.")] = 640
    fit: Annotated[
        Literal["fit", "fill"],
        msgspec.Meta(
            description="fit: the whole picture inside the box, never enlarged. "
            "fill: exactly the box, what sticks out is cut off evenly."
        ),
    ] = "fit"
    quality: Annotated[int, msgspec.Meta(ge=1, le=100, description="For jpeg, webp and avif.")] = 85

    def __post_init__(self) -> None:
        """Refuse a position that means nothing.

        Raises:
            ValueError: msgspec makes a `ValidationError` of it.
        """
        if self.position != "best":
            position_of(self.position)

    @property
    def where(self) -> Position | None:
        """The wanted position; none: the best one."""
        return None if self.position == "best" else position_of(self.position)


def estimate(job: Job[VideoThumbnailOptions]) -> Estimate:
    """Guess from the file size alone."""
    return estimate_for(job, ASSUMED.of_size(job.input_size))


def estimate_for(job: Job[VideoThumbnailOptions], picture: Picture) -> Estimate:
    """What a picture of this video needs."""
    options = job.options
    box = fitted_pixels((picture.width, picture.height), (options.width, options.height), options.fit)
    frames = 1 if options.where else options.candidates
    return Estimate(
        memory=reading_memory(picture) + 12 * box,
        temp=written_bytes(format_of(job.output_file), box, quality=options.quality, calm=_SMOOTHNESS),
        seconds=0.2 + frames * reading_seconds(picture) + box / 15e6,
        basis=picture.basis(),
    )


def check(job: Job[VideoThumbnailOptions]) -> None:
    """Whether the output's suffix is one that can be written, and all options are of use.

    Raises InvalidPath or InvalidOptions.
    """
    format_of(job.output_file)
    if job.options.where is not None:
        refuse_idle(job.options, ("candidates",), "where a position is given")
