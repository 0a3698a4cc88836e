"""Convert an animation or a file of several pages: each frame becomes a piece, and at the end they are put together."""

from collections.abc import Iterator
from typing import Any

import msgspec
from PIL import Image, PngImagePlugin
from PIL import __version__ as pillow_version
from PIL.ImageFile import ImageFile

from ...contract import TaskContext, Unusable
from ...io_errors import writing
from ...media.formats import check_sides
from ...media.pictures import save
from ...pieces import Pieces, fingerprint
from ..limits import MAX_PILLOW_PIXELS
from ..opening import blame_picture, open_picture
from ..shaping import PixelSize
from .metadata import add_exif, metadata_for_pillow
from .options import ImageConvertOptions
from .still import shaped_by_pillow

_FRAMES_UNTIL = 70.0
_USUAL_DURATION = 100
"""Milliseconds that a frame is shown if the source does not say it."""
_DURATION = "duration"


def convert_frames(context: TaskContext[ImageConvertOptions], kind: str, count: int) -> tuple[PixelSize, float]:
    """Write all `count` frames of the input to `output_part`; the size of the first frame, and the seconds of all."""
    mark = fingerprint(context.input_file, msgspec.to_builtins(context.options), kind, pillow_version)
    pieces = Pieces(context, mark, stem="frame")
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as source:
        loop = int(source.info.get("loop", 0))
        kept = metadata_for_pillow(source) if context.options.metadata == "keep" else {}
        for number in pieces.missing(count):
            context.check_stop()
            _keep_frame(context, source, pieces, number, count, kind)
    pieces.save(_FRAMES_UNTIL, f"{count} frames are ready")
    return _compose(context, kind, _Frames(context, pieces, count), loop, kept)


def _keep_frame(
    context: TaskContext[ImageConvertOptions], source: ImageFile, pieces: Pieces, number: int, count: int, kind: str
) -> None:
    with blame_picture(context.input_file):
        source.seek(number)
        stored = source.copy()
    frame = shaped_by_pillow(stored, context.options)
    check_sides(frame.size, kind)
    if frame.mode == "CMYK":  # a PNG cannot hold it
        frame = frame.convert("RGB")
    notes = PngImagePlugin.PngInfo()
    notes.add_text(_DURATION, str(round(source.info.get(_DURATION) or _USUAL_DURATION)))
    profile = frame.info.get("icc_profile")
    save(frame, pieces.part(number), "PNG", compress_level=1, pnginfo=notes, icc_profile=profile)
    pieces.keep(number, _FRAMES_UNTIL * (number + 1) / count, f"frame {number + 1} of {count}")


class _Frames:
    """The finished frames. They are read as the encoder asks for them, so that only one is in memory at a time."""

    def __init__(self, context: TaskContext[ImageConvertOptions], pieces: Pieces, count: int) -> None:
        self._context = context
        self._pieces = pieces
        self._count = count

    def __iter__(self) -> Iterator[Image.Image]:
        for number in range(1, self._count):
            yield self.frame(number)

    def frame(self, number: int) -> Image.Image:
        self._context.check_stop()
        percent = _FRAMES_UNTIL + (100 - _FRAMES_UNTIL) * number / self._count
        self._context.progress(percent, f"writing frame {number + 1} of {self._count}")
        with Image.open(self._pieces.path(number), formats=("PNG",)) as frame:
            frame.load()
        frame.info.pop(_DURATION)
        return frame

    def sizes(self) -> set[PixelSize]:
        """The different sizes among the frames."""
        found = set()
        for number in range(self._count):
            with Image.open(self._pieces.path(number), formats=("PNG",)) as frame:
                found.add(frame.size)
        return found

    def durations(self) -> list[int]:
        """Milliseconds that each frame is shown."""
        found = []
        for number in range(self._count):
            with Image.open(self._pieces.path(number), formats=("PNG",)) as frame:
                found.append(int(frame.info[_DURATION]))
        return found


def _compose(
    context: TaskContext[ImageConvertOptions], kind: str, frames: _Frames, loop: int, kept: dict[str, bytes]
) -> tuple[PixelSize, float]:
    options = context.options
    if kind != "TIFF" and len(frames.sizes()) > 1:
        name = context.input_file.name
        raise Unusable(f"{name} has pages of different sizes, and an animation only one: take tiff, or frames=first")
    durations = frames.durations()
    every: dict[str, dict[str, Any]] = {
        "GIF": {"duration": durations, "loop": loop, "disposal": 2, "optimize": False},
        "WEBP": {"duration": durations, "loop": loop, "quality": options.quality, "lossless": options.lossless},
        "PNG": {"duration": durations, "loop": loop},
        "AVIF": {"duration": durations, "quality": 100 if options.lossless else options.quality},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    first = frames.frame(0)
    exif = kept.pop("exif", b"") if kind == "TIFF" else b""  # libtiff takes no directories from Pillow
    save(first, context.output_part, kind, save_all=True, append_images=frames, **every[kind], **kept)
    if exif:
        with writing(context.output_part):
            add_exif(context.output_part, exif)
    return first.size, 0.0 if kind == "TIFF" else sum(durations) / 1000
