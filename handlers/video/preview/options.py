"""The options of `video_preview`. No media library here: the service imports this."""

import math
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from ....events.errors import InvalidOptions, InvalidPath
from ...contract import Job, refuse_unused
from ...media.formats import WRITE_FORMATS

PreviewKind: TypeAlias = Literal["sheet", "animation"]

SHEET_FORMATS = {suffix: kind for suffix, kind in WRITE_FORMATS.items() if kind != "GIF"}
ANIMATION_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".mp4": "MP4"}
_OF_SHEETS = ("columns", "rows", "gap", "timestamps", "header", "background")
_OF_ANIMATIONS = ("clips", "clip_seconds", "fps")
MAX_PREVIEW_FRAMES = 1000
MAX_GIF_FPS = 50
"""A gif counts hundredths of a second, and players slow down a frame that is shown for only one."""
MAX_PREVIEW_PIXELS = 134_217_728
"""Pixels of a sheet, or of all frames of an animation together."""


class VideoPreviewOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `video_preview`. The format is that of the output's suffix."""

    kind: Annotated[
        Literal["auto", "sheet", "animation"],
        msgspec.Meta(description="auto: an animation for gif and mp4, a sheet for anything else."),
    ] = "auto"
    positions: Annotated[
        Literal["even", "scenes"],
        msgspec.Meta(description="Where frames are taken: evenly, or spread over the scenes that are found."),
    ] = "even"
    columns: Annotated[int, msgspec.Meta(ge=1, le=20, description="Sheet: tiles side by side.")] = 4
    rows: Annotated[int, msgspec.Meta(ge=1, le=50, description="Sheet: tiles one below the other.")] = 4
    width: Annotated[int, msgspec.Meta(ge=16, le=4096, description="Of a tile or of the animation, in pixels.")] = 320
    gap: Annotated[int, msgspec.Meta(ge=0, le=100, description="Sheet: pixels between tiles.")] = 4
    timestamps: Annotated[bool, msgspec.Meta(description="Sheet: write its position on each tile.")] = True
    header: Annotated[bool, msgspec.Meta(description="Sheet: name, length, size and codec above the tiles.")] = False
    background: Annotated[
        str, msgspec.Meta(pattern="^#[0-9a-fA-F]{6}$", description="Sheet: behind the tiles, as #rrggbb.")
    ] = "#101010"
    clips: Annotated[int, msgspec.Meta(ge=1, le=100, description="Animation: so many pieces of the video.")] = 6
    clip_seconds: Annotated[
        float, msgspec.Meta(ge=0, le=60, description="Animation: length of each piece; 0: one frame of each.")
    ] = 1.0
    fps: Annotated[float, msgspec.Meta(ge=0.2, le=60, description="Animation: frames a second.")] = 8.0
    quality: Annotated[int, msgspec.Meta(ge=1, le=100, description="For jpeg, webp, avif and mp4.")] = 80

    def __post_init__(self) -> None:
        """Refuse a preview with too many frames or pixels.

        Raises:
            ValueError: msgspec turns it into a `ValidationError`.
        """
        if self.clips * self.frames_a_clip > MAX_PREVIEW_FRAMES:
            raise ValueError(f"clips x clip_seconds x fps is more than {MAX_PREVIEW_FRAMES} frames: lower one of them")
        if self.columns * self.rows * self.width * self.width > 2 * MAX_PREVIEW_PIXELS:
            raise ValueError("the sheet would be too large: lower columns, rows or width")

    @property
    def frames_a_clip(self) -> int:
        """Frames of one piece of the animation."""
        return max(1, math.ceil(self.clip_seconds * self.fps - 1e-9))

    def frames_of(self, kind: PreviewKind) -> int:
        """Number of frames that are taken from the video."""
        return self.columns * self.rows if kind == "sheet" else self.clips * self.frames_a_clip


def preview_kind(options: VideoPreviewOptions, output_file: Path) -> tuple[PreviewKind, str]:
    """The kind of preview, and the name of its format.

    Raises:
        InvalidPath: there is no format for this suffix.
        InvalidOptions: the format cannot hold this kind.
    """
    suffix = output_file.suffix.lower()
    if suffix not in SHEET_FORMATS and suffix not in ANIMATION_FORMATS:
        raise InvalidPath(
            f"A preview cannot be written to {output_file.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join({**SHEET_FORMATS, **ANIMATION_FORMATS})}.",
        )
    kind: PreviewKind = "sheet" if suffix in SHEET_FORMATS else "animation"
    if options.kind != "auto":
        kind = options.kind
    formats = SHEET_FORMATS if kind == "sheet" else ANIMATION_FORMATS
    if suffix not in formats:
        raise InvalidOptions(
            f"kind {kind!r} does not go into {suffix}",
            field="options.kind",
            remedy=f"Leave kind out, or give the output one of {', '.join(formats)}.",
        )
    return kind, formats[suffix]


def check(job: Job[VideoPreviewOptions]) -> None:
    """Check that suffix, kind and the other options fit together. Raises InvalidPath or InvalidOptions."""
    kind, form = preview_kind(job.options, job.output_file)
    if kind == "sheet":
        refuse_unused(job.options, _OF_ANIMATIONS, "in a sheet")
    else:
        refuse_unused(job.options, _OF_SHEETS, "in an animation")
    if form == "GIF" and job.options.fps > MAX_GIF_FPS:
        raise InvalidOptions(
            f"a gif has at most {MAX_GIF_FPS} frames a second",
            field="options.fps",
            remedy="Lower fps, or write webp or mp4.",
        )
