"""The options of `video_thumbnail`. No media library here: the service imports this."""

import math
import re
from typing import Annotated, Literal, NamedTuple

import msgspec

from ...contract import Job, refuse_unused
from ...media.formats import format_of

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d+)?)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_PATTERN = r"^best$|^ *((100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?) *%|(([0-9]+:)?[0-9]{1,2}:)?[0-9]+(\.[0-9]+)?) *$"
"""The same for the schema."""
_MINUTE, _HOUR = 60, 3600
_WHOLE = 100.0


class VideoPosition(NamedTuple):
    """A position in a video: seconds from the start, or a share of the length."""

    value: float
    relative: bool

    def seconds(self, length: float) -> float:
        """Seconds from the start of a video of this length."""
        return self.value * length if self.relative else self.value


def parse_position(text: float | str) -> VideoPosition:
    """Read seconds, `minutes:seconds`, `hours:minutes:seconds` or a percentage. Raises ValueError."""
    if isinstance(text, int | float):
        if not math.isfinite(text) or text < 0:
            raise ValueError(f"a position of {text} seconds does not exist: give 0 or more")
        return VideoPosition(float(text), relative=False)
    if found := _SHARE.fullmatch(text.strip()):
        share = float(found[1])
        if share > _WHOLE:
            raise ValueError(f"a position of {share:g}% is after the end: give 0% to 100%")
        return VideoPosition(share / _WHOLE, relative=True)
    if found := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return VideoPosition(hours * _HOUR + minutes * _MINUTE + seconds, relative=False)
    raise ValueError(f"{text!r} is no position: give seconds, hours:minutes:seconds, or a percentage such as 25%")


class VideoThumbnailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `video_thumbnail`. The format is that of the output's suffix."""

    position: Annotated[
        Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0})]
        | Annotated[str, msgspec.Meta(extra_json_schema={"pattern": _PATTERN})],
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
        """Refuse an invalid position.

        Raises:
            ValueError: msgspec turns it into a `ValidationError`.
        """
        if self.position != "best":
            parse_position(self.position)

    @property
    def where(self) -> VideoPosition | None:
        """The wanted position; None for the best frame."""
        return None if self.position == "best" else parse_position(self.position)


def check(job: Job[VideoThumbnailOptions]) -> None:
    """Check that the output's suffix can be written, and that every option has an effect.

    Raises InvalidPath or InvalidOptions.
    """
    format_of(job.output_file)
    if job.options.where is not None:
        refuse_unused(job.options, ("candidates",), "where a position is given")
