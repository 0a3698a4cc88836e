"""The options of `model_preview`. No 3-D library here: the service imports this."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from ....events.errors import InvalidPath
from ...contract import Job, refuse_unused
from ...media.formats import WRITE_FORMATS

View: TypeAlias = Literal["iso", "front", "back", "left", "right", "top", "bottom"]
HexColour: TypeAlias = Annotated[str, msgspec.Meta(pattern="^#[0-9a-fA-F]{6}$")]

READ_SUFFIXES = (".stl", ".obj", ".ply", ".off", ".glb", ".gltf", ".3mf")
TURNTABLE_FORMATS = {".webp": "WEBP", ".gif": "GIF", ".mp4": "MP4"}
"""Suffix → format of a turntable."""
_IDLE = {
    "image": ("views", "frames", "fps"),
    "sheet": ("view", "azimuth", "elevation", "frames", "fps"),
    "turntable": ("views",),
}
"""Kind → options that have no effect on it."""
_NO_ALPHA = {"JPEG", "MP4"}
MAX_ANIMATED_PIXELS = 500_000_000
"""Pixels of all frames of a turntable together."""


class ModelPreviewOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `model_preview`. The format is that of the output's suffix."""

    kind: Annotated[
        Literal["image", "sheet", "turntable"],
        msgspec.Meta(description="One picture, several views in one picture, or an animation of a whole turn."),
    ] = "image"
    width: Annotated[int, msgspec.Meta(ge=16, le=4096, description="Pixels, of a sheet as a whole.")] = 800
    height: Annotated[int, msgspec.Meta(ge=16, le=4096, description="Pixels, of a sheet as a whole.")] = 600
    view: Annotated[
        View, msgspec.Meta(description="Where one looks from; a turntable starts there, at a height of its own.")
    ] = "iso"
    azimuth: Annotated[
        Annotated[float, msgspec.Meta(ge=-360, le=360)] | None,
        msgspec.Meta(
            description="Degrees round the up axis, 0 is the front, 90 the right side; instead of the view's."
        ),
    ] = None
    elevation: Annotated[
        Annotated[float, msgspec.Meta(ge=-90, le=90)] | None,
        msgspec.Meta(description="Degrees above the ground; instead of the view's."),
    ] = None
    views: Annotated[
        Annotated[tuple[View, ...], msgspec.Meta(min_length=1, max_length=16)],
        msgspec.Meta(description="The views of a sheet, row by row."),
    ] = ("iso", "front", "right", "top")
    frames: Annotated[int, msgspec.Meta(ge=2, le=360, description="Frames of a turntable.")] = 36
    fps: Annotated[int, msgspec.Meta(ge=1, le=50, description="Frames a second of a turntable.")] = 12
    projection: Annotated[
        Literal["perspective", "parallel"], msgspec.Meta(description="parallel: as in a technical drawing.")
    ] = "perspective"
    up: Annotated[
        Literal["auto", "x", "y", "z"],
        msgspec.Meta(description="Which axis points up. auto: y for glTF and OBJ, z for the others."),
    ] = "auto"
    background: Annotated[
        Annotated[str, msgspec.Meta(pattern="^(#[0-9a-fA-F]{6}|transparent)$")],
        msgspec.Meta(description="As #rrggbb, or `transparent`."),
    ] = "#f2f3f5"
    color: Annotated[
        HexColour | None, msgspec.Meta(description="Of the whole model, as #rrggbb; none: the model's own colours.")
    ] = None
    shading: Annotated[
        Literal["auto", "smooth", "flat"],
        msgspec.Meta(description="auto: smooth, but sharp where faces meet at more than 40 degrees."),
    ] = "auto"
    occlusion: Annotated[
        bool, msgspec.Meta(description="Shadows, and less light in hollows; false is about three times as fast.")
    ] = True
    antialias: Annotated[
        int, msgspec.Meta(ge=1, le=4, description="Each pixel is the mean of the square of this many samples.")
    ] = 2
    quality: Annotated[int, msgspec.Meta(ge=1, le=100, description="For jpeg, webp, avif and mp4.")] = 85

    def __post_init__(self) -> None:
        """Refuse a turntable with too many pixels.

        Raises:
            ValueError: there are too many; msgspec turns it into a `ValidationError`.
        """
        if self.kind == "turntable" and self.frames * self.width * self.height > MAX_ANIMATED_PIXELS:
            raise ValueError(
                f"{self.frames} frames of {self.width}x{self.height} are more than {MAX_ANIMATED_PIXELS} pixels: "
                "make them fewer or smaller"
            )

    @property
    def pictures(self) -> int:
        """Number of pictures that are drawn."""
        return {"image": 1, "sheet": len(self.views), "turntable": self.frames}[self.kind]

    @property
    def samples(self) -> int:
        """The number of rays from the eye, over all pictures."""
        times = self.frames if self.kind == "turntable" else 1
        return times * self.width * self.height * self.antialias**2


def format_for(options: ModelPreviewOptions, output_file: Path) -> str:
    """The format that the output's suffix means. Raises InvalidPath if this kind of preview has no such format."""
    known = TURNTABLE_FORMATS if options.kind == "turntable" else WRITE_FORMATS
    kind = known.get(output_file.suffix.lower())
    if kind is None:
        raise InvalidPath(
            f"A preview of kind {options.kind} cannot be written to {output_file.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join(known)}.",
        )
    return kind


def check(job: Job[ModelPreviewOptions]) -> None:
    """Check that the suffixes of input and output are supported, and that the output can hold what the options require.

    Raises:
        InvalidOptions: some are for another kind of preview.
        InvalidPath: a suffix is not supported, the format has no transparency, or an mp4 would have odd sides.
    """
    options, output_file = job.options, job.output_file
    if job.input_file.suffix.lower() not in READ_SUFFIXES:
        raise InvalidPath(
            f"{job.input_file.name!r} is not named like a 3-D model",
            field="input_file",
            remedy=f"Give it the suffix of its format: {', '.join(READ_SUFFIXES)}.",
        )
    kind = format_for(options, output_file)
    refuse_unused(options, _IDLE[options.kind], f"in a preview of kind {options.kind}")
    if kind in _NO_ALPHA and options.background == "transparent":
        raise InvalidPath(
            f"{output_file.name!r} cannot be transparent", field="output_file", remedy="Write png, webp or gif."
        )
    if kind == "MP4" and (options.width % 2 or options.height % 2):
        raise InvalidPath(
            f"{output_file.name!r} cannot be {options.width}x{options.height}: an mp4 has even sides",
            field="output_file",
            remedy="Make width and height even, or write webp.",
        )
