"""The files of a preview: its frames while it is made, and the final sheet or animation."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from PIL.TiffImagePlugin import IMAGEDESCRIPTION

from ...media.animation import write_animation
from ...media.pictures import save
from ..source import VideoSource
from .options import VideoPreviewOptions

TILE_SUFFIX = ".tif"
_FORMATS = ["TIFF"]


def write_frame(picture: Image.Image, moment: int, path: Path) -> None:
    """Write an RGB picture, and the moment when it was taken, in the source's ticks. Uncompressed.

    Compressing the frames took longer than reading the video. The moment is stored because the plan has only the wanted
    moments, and an attempt that resumes has not seen the earlier frames.
    """
    save(picture, path, "TIFF", description=str(moment))


def open_frame(path: Path) -> Image.Image:
    """Open the picture. The caller closes it."""
    return Image.open(path, formats=_FORMATS)


def tile_moment(path: Path) -> int:
    """The moment when the frame was taken."""
    with Image.open(path, formats=_FORMATS) as picture:
        return int(picture.tag_v2[IMAGEDESCRIPTION])  # type: ignore[attr-defined]  # a TIFF has tags


# --- The contact sheet ---


_TEXT, _SHADE = "#ffffff", (0, 0, 0, 150)
_HOUR, _MINUTE = 3600, 60


class PreviewTile(NamedTuple):
    """A finished tile, and its position in the video in seconds."""

    path: Path
    position: float


def size_of(options: VideoPreviewOptions, tile: tuple[int, int], count: int) -> tuple[int, int]:
    """Width and height of a sheet with `count` tiles."""
    width, height = tile
    rows = -(-count // options.columns)
    return (
        options.columns * width + (options.columns + 1) * options.gap,
        _header_height(_font(width)) * options.header + rows * height + (rows + 1) * options.gap,
    )


def draw_sheet(
    source: VideoSource, options: VideoPreviewOptions, tiles: Sequence[PreviewTile], tick: Callable[[int], None]
) -> Image.Image:
    """Lay the tiles out, row by row. `tick` is called with the number of tiles laid; it may raise."""
    with open_frame(tiles[0].path) as first:
        width, height = first.size
    font = _font(width)
    top = _header_height(font) * options.header
    sheet = Image.new("RGB", size_of(options, (width, height), len(tiles)), options.background)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, options.columns)
        with open_frame(tile.path) as picture:
            drawn = _stamped(picture.convert("RGB"), clock(tile.position), font) if options.timestamps else picture
            place = (options.gap + column * (width + options.gap), top + options.gap + row * (height + options.gap))
            sheet.paste(drawn, place)
        tick(number + 1)
    if options.header:
        _write_header(sheet, source, font, options.gap)
    return sheet


def _stamped(picture: Image.Image, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """The picture with the text in its lower right corner."""
    draw = ImageDraw.Draw(picture, "RGBA")
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x, y = picture.width - (right - left) - 6, picture.height - (bottom - top) - 6
    draw.rectangle((x - 3, y - 3, picture.width - 1, picture.height - 1), fill=_SHADE)
    draw.text((x - left, y - top), text, fill=_TEXT, font=font)
    return picture


def _font(width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font for tiles of this width."""
    return ImageFont.load_default(max(10, min(28, width // 20)))


def _header_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    _, top, _, bottom = font.getbbox("Ag")
    return 2 * (round(bottom - top) + 6)


def _write_header(
    sheet: Image.Image, source: VideoSource, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, gap: int
) -> None:
    """Write two lines. The built-in font has only ASCII: other letters become a question mark, line breaks a space."""
    name = " ".join(source.path.name.split()).encode("ascii", "replace").decode()
    facts = f"{clock(source.seconds)}  {source.width}x{source.height}  {float(source.rate):.4g} fps  {source.codec}"
    draw = ImageDraw.Draw(sheet)
    for line, text in enumerate((name, facts)):
        draw.text((gap + 4, 4 + line * _header_height(font) // 2), text, fill=_TEXT, font=font)


def clock(seconds: float) -> str:
    """`1:02:03`, `02:03`; with tenths below a minute."""
    if seconds < _MINUTE:
        return f"00:{seconds:04.1f}"
    hours, rest = divmod(round(seconds), _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


# --- The animation ---


_BEST_CRF, _WORST_CRF = 16, 44


def write_preview_animation(
    frames: Sequence[Path], path: Path, kind: str, options: VideoPreviewOptions, tick: Callable[[int], None]
) -> None:
    """Write GIF, WEBP or MP4. `tick` is called with the number of frames written; it may raise."""
    write_animation(
        _pictures(frames, tick),
        path,
        kind,
        count=len(frames),
        fps=options.fps,
        crf=round(_WORST_CRF - (_WORST_CRF - _BEST_CRF) * options.quality / 100),
        webp={"quality": options.quality, "method": 4},
        gif={"disposal": 1},
    )


def _pictures(frames: Sequence[Path], tick: Callable[[int], None]) -> Iterator[Image.Image]:
    """Open one frame at a time: the encoders request the next one when they are done with the last."""
    for number, path in enumerate(frames):
        tick(number)
        with open_frame(path) as picture:
            yield picture.convert("RGB")
