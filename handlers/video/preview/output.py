"""The files of a preview: its frames while it is made, and the sheet or the animation in the end."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont
from PIL.TiffImagePlugin import IMAGEDESCRIPTION

from ...media.animation import even_size, frame_times, with_palette, write_film
from ...media.pictures import save
from ..source import Source
from .options import VideoPreviewOptions

SUFFIX = ".tif"
_FORMATS = ["TIFF"]


def write_frame(picture: Image.Image, moment: int, path: Path) -> None:
    """Write an RGB picture and the moment, in the source's own ticks, that it was taken at.

    The plan has the moments that were wanted, and an attempt that goes on has not seen the frames of the one before.
    """
    save(picture, path, "TIFF", description=str(moment))


def open_frame(path: Path) -> Image.Image:
    """The picture, to be closed by the caller."""
    return Image.open(path, formats=_FORMATS)


def moment_of(path: Path) -> int:
    """The moment that it was taken at."""
    with Image.open(path, formats=_FORMATS) as picture:
        return int(picture.tag_v2[IMAGEDESCRIPTION])  # type: ignore[attr-defined]  # a TIFF has tags


# --- The contact sheet ---


_TEXT, _SHADE = "#ffffff", (0, 0, 0, 150)
_HOUR, _MINUTE = 3600, 60


class Tile(NamedTuple):
    """A finished tile and where in the video it was taken, in seconds."""

    path: Path
    position: float


def size_of(options: VideoPreviewOptions, tile: tuple[int, int], count: int) -> tuple[int, int]:
    """Pixels of the sheet that `count` tiles make."""
    width, height = tile
    rows = -(-count // options.columns)
    return (
        options.columns * width + (options.columns + 1) * options.gap,
        _header_height(_font(width)) * options.header + rows * height + (rows + 1) * options.gap,
    )


def compose(
    source: Source, options: VideoPreviewOptions, tiles: Sequence[Tile], tick: Callable[[int], None]
) -> Image.Image:
    """Lay the tiles out, row by row. `tick` is told how many are laid; it may raise."""
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
    """For tiles so many pixels wide."""
    return ImageFont.load_default(max(10, min(28, width // 20)))


def _header_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    _, top, _, bottom = font.getbbox("Ag")
    return 2 * (round(bottom - top) + 6)


def _write_header(
    sheet: Image.Image, source: Source, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, gap: int
) -> None:
    """Two lines. The built-in font has ASCII only; what it lacks becomes a question mark, line breaks a space."""
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


def write_animation(
    frames: Sequence[Path], path: Path, kind: str, options: VideoPreviewOptions, tick: Callable[[int], None]
) -> None:
    """Write GIF, WEBP or MP4. `tick` is told how many frames have been handed over; it may raise."""
    pictures = _pictures(frames, tick)
    first = next(pictures)
    if kind == "MP4":
        crf = round(_WORST_CRF - (_WORST_CRF - _BEST_CRF) * options.quality / 100)
        rate = Fraction(options.fps).limit_denominator(1000)
        write_film(chain([first], pictures), path, even_size(*first.size), rate, crf=crf, preset="medium")
        return
    parameters: dict[str, Any] = {"quality": options.quality, "method": 4} if kind == "WEBP" else {"disposal": 1}
    if kind == "GIF":
        first, pictures = with_palette(first), map(with_palette, pictures)
    times = frame_times(len(frames), options.fps, kind)
    save(first, path, kind, save_all=True, append_images=pictures, duration=times, loop=0, **parameters)


def _pictures(frames: Sequence[Path], tick: Callable[[int], None]) -> Iterator[Image.Image]:
    """One at a time: the encoders ask for the next when they are done with the one before."""
    for number, path in enumerate(frames):
        tick(number)
        with open_frame(path) as picture:
            yield picture.convert("RGB")
