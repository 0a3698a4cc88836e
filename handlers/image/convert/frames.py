"""Converts animations and multi-page files: each frame becomes a piece, and at the end they are put together."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image, PngImagePlugin
from PIL import __version__ as pillow_version
from PIL.ImageFile import ImageFile

from ....events.counted import counted, plural
from ...contract import TaskContext, Unusable
from ...io_errors import writing
from ...media.animation import frame_times
from ...media.formats import check_sides
from ...media.pictures import save
from ...pieces import Pieces, fingerprint
from ..limits import MAX_PILLOW_PIXELS
from ..opening import blame_picture, hidden_frames, open_picture, refuse_numbers
from ..shaping import PixelSize, to_srgb
from .estimate import ImageHeader
from .metadata import NO_METADATA, KeptMetadata, add_to_tiff, for_pillow, metadata_of
from .options import ImageConvertOptions
from .palette import exact_palette, fewer_colours
from .still import WrittenStill, holdable, shaped_by_pillow

_FRAMES_UNTIL = 70.0
_USUAL_DURATION = 100
"""Milliseconds that a frame is shown if the source gives no time."""
_DURATION = "duration"
_MOST_PLAYS = 65_535
_TIMED = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats that store how long each frame is shown."""


def convert_frames(context: TaskContext[ImageConvertOptions], kind: str, header: ImageHeader) -> WrittenStill:
    """Write all frames of the input to `output_part`; the size is that of the first frame."""
    count, options = header.frames, holdable(context.options, header, kind, several=True)
    decided = (msgspec.to_builtins(context.options), kind, pillow_version)
    mark = fingerprint(context.input_file, *decided, version=context.input_version)
    pieces = Pieces(context, mark, stem="frame")
    with open_picture(context.input_file, MAX_PILLOW_PIXELS) as source:
        plays, hidden, moves = _plays(source), hidden_frames(source), source.format in _TIMED
        kept = metadata_of(source) if context.options.metadata == "keep" else NO_METADATA
        for number in pieces.missing(count):
            context.check_stop()
            frame = _frame(source, context.input_file, number + hidden, options)
            check_sides(frame.size, kind)
            _keep_frame(frame, pieces, number, count, source.info.get(_DURATION) or _USUAL_DURATION)
    pieces.save(_FRAMES_UNTIL, f"{counted(count, 'frame')} {plural(count, 'is', 'are')} ready")
    return _compose(context, kind, _Frames(context, pieces, count, kind), plays, kept, moves=moves)


def _plays(source: ImageFile) -> int:
    """How many times it plays; 0: for ever. A GIF stores its number of repeats, and plays once without it."""
    said = source.info.get("loop")
    if source.format == "GIF":
        return 1 if said is None else said and min(said + 1, _MOST_PLAYS)
    return int(said or 0)


def _as_repeats(plays: int) -> dict[str, int]:
    """The same as the `loop` parameter of Pillow's GIF writer."""
    return {} if plays == 1 else {"loop": max(0, plays - 1)}


def _frame(source: ImageFile, path: Path, number: int, options: ImageConvertOptions) -> Image.Image:
    with blame_picture(path):
        source.seek(number)
        refuse_numbers(source, f"{path.name}, page {number + 1}")
        stored = source.copy()
    frame = shaped_by_pillow(stored, options)
    if frame.mode == "CMYK":  # a PNG cannot hold CMYK; earlier pages had none
        return to_srgb(frame, frame.info.get("icc_profile"))
    return frame


def _keep_frame(frame: Image.Image, pieces: Pieces, number: int, count: int, duration: float) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text(_DURATION, str(duration))
    profile = frame.info.get("icc_profile")
    save(frame, pieces.part(number), "PNG", compress_level=1, pnginfo=notes, icc_profile=profile)
    pieces.keep(number, _FRAMES_UNTIL * (number + 1) / count, f"frame {number + 1} of {count}")


_LOOKS = {"PNG": 2}
"""How often Pillow asks for the frames, if not once: for an animated png it looks at their modes first."""


class _Frames:
    """The finished frames. They are read when the encoder asks for them, so that only one is in memory at a time."""

    def __init__(self, context: TaskContext[ImageConvertOptions], pieces: Pieces, count: int, kind: str) -> None:
        self._context = context
        self._pieces = pieces
        self._count = count
        self._reads = count * _LOOKS.get(kind, 1)
        self._read = 0

    def __iter__(self) -> Iterator[Image.Image]:
        for number in range(1, self._count):
            yield self.frame(number)

    def frame(self, number: int) -> Image.Image:
        self._context.check_stop()
        percent = _FRAMES_UNTIL + (100 - _FRAMES_UNTIL) * min(1.0, self._read / self._reads)
        self._read += 1
        self._context.progress(percent, f"writing frame {number + 1} of {self._count}")
        with Image.open(self._pieces.path(number), formats=("PNG",)) as frame:
            frame.load()
        frame.info.pop(_DURATION)
        return frame

    def sizes(self) -> set[PixelSize]:
        """The different sizes among the frames."""
        sizes = set()
        for number in range(self._count):
            with Image.open(self._pieces.path(number), formats=("PNG",)) as frame:
                sizes.add(frame.size)
        return sizes

    def durations(self) -> list[float]:
        """Milliseconds that each frame is shown."""
        durations = []
        for number in range(self._count):
            with Image.open(self._pieces.path(number), formats=("PNG",)) as frame:
                durations.append(float(frame.info[_DURATION]))
        return durations


def _compose(
    context: TaskContext[ImageConvertOptions],
    kind: str,
    frames: _Frames,
    plays: int,
    kept: KeptMetadata,
    *,
    moves: bool,
) -> WrittenStill:
    options = context.options
    if kind != "TIFF" and len(frames.sizes()) > 1:
        name = context.input_file.name
        raise Unusable(f"{name} has pages of different sizes, and an animation only one: take tiff, or frames=first")
    durations = frame_times(accumulate(frames.durations(), initial=0.0), kind)
    every: dict[str, dict[str, Any]] = {
        "GIF": {"duration": durations, "disposal": 2, "optimize": False} | _as_repeats(plays),
        "WEBP": {"duration": durations, "loop": plays, "quality": options.quality, "lossless": options.lossless},
        "PNG": {"duration": durations, "loop": plays},
        "AVIF": {"duration": durations, "quality": 100 if options.lossless else options.quality},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    reduced = 0

    def with_palette(frame: Image.Image) -> Image.Image:
        nonlocal reduced
        exact = exact_palette(frame)
        reduced += exact is None
        return exact or frame

    first = frames.frame(0)
    further: Iterable[Image.Image] = frames
    if kind == "GIF":
        first, further = with_palette(first), map(with_palette, frames)
    told = for_pillow(kept, kind)
    if kind == "TIFF":
        told.pop("exif", None)  # libtiff accepts no directories from Pillow
    if kind == "WEBP" and "icc_profile" in first.info:  # the other writers find it themselves
        told["icc_profile"] = first.info["icc_profile"]
    try:
        save(first, context.output_part, kind, save_all=True, append_images=further, **every[kind], **told)
    except OverflowError as error:  # the durations become known only now: Pillow merges equal frames
        if kind != "GIF":
            raise
        raise Unusable(
            f"{context.input_file.name} shows a frame for more than 655.35 s, which a gif cannot say: "
            "take webp, png or avif, or frames=first"
        ) from error
    if kind == "TIFF":
        with writing(context.output_part):
            add_to_tiff(context.output_part, kept.exif, kept.iptc)
    lost = [fewer_colours(reduced)] if reduced else []
    if kind == "AVIF" and plays:
        lost.append(f"it plays for ever, and not {counted(plays, 'time')}: avif cannot hold the number")
    if kind == "TIFF" and moves:
        lost.append("it no longer moves: tiff cannot hold how long a frame is shown")
    return WrittenStill(first.size, 0.0 if kind == "TIFF" else sum(durations) / 1000, tuple(lost))
