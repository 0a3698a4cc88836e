"""Draws a subtitle track into the picture: it is read once, and its lines are drawn at their times.

Bitmaps are drawn unchanged. Text is drawn in one style: white with a black outline, centred at the bottom, in as many
rows as it has. The drawing depends only on the line and the picture's size, so it is the same in any order of frames.
"""

import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import av
import msgspec
import numpy as np
import PIL
from av.container import InputContainer
from av.subtitles.subtitle import AssSubtitle, BitmapSubtitle
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

from ....events.counted import counted, plural
from ...contract import Unusable
from ...document.fonts import Ruler, can_shape, font_names, load_font, runs_to_left
from ..light import HDR
from ..opening import decoded, is_input_fault, open_input, tolerant
from ..source import VideoSource
from ..tones import paper_white
from .options import CONTAINERS, VideoConvertOptions, parse_numbers
from .picture import PixelFormat, output_size, scaled_size, upright_size
from .subtitles import TEXT_CODECS, unread_notes

_SIZE, _LEAST_SIZE = 0.052, 8
"""Size of text: a share of the picture's height, and the least number of pixels."""
_OUTLINE = 0.09
"""As a share of the text's size."""
_MARGIN, _WIDEST = 0.05, 0.9
"""Shares of the picture's height and width."""
_SPACING = 1.25
_LONGEST = 30
"""Seconds that a line without an end is shown if no other follows."""
_MOST_LINES = 50_000
_MOST_BYTES = 200_000_000
"""Of all bitmaps of a track, compressed."""
_PGS = "hdmv_pgs_subtitle"
_FOR_EVER = 0xFFFFFFFF
_TOP = ("7", "8", "9")
_PLAIN_TAGS = re.compile(r"\\(?:[ib][01]|an\d)")
_KEPT_FRAMES = 4
_LARGE = (1280, 577)
"""An untagged picture with a side from these on counts as BT.709, a smaller one as BT.601."""


class Styled(NamedTuple):
    """A piece of text of one style."""

    text: str
    italic: bool


class CueText(NamedTuple):
    """The text of a line; each row is made of pieces."""

    rows: tuple[tuple[Styled, ...], ...]
    top: bool


class Bitmap(NamedTuple):
    """A picture of a line, and its place on the canvas of the subtitles."""

    x: int
    y: int
    width: int
    height: int
    canvas: tuple[int, int]
    packed: bytes
    """Red, green, blue and opacity of each pixel, compressed."""


class Cue(NamedTuple):
    """A text or bitmap and its display time; seconds on the source's clock."""

    start: Fraction
    end: Fraction
    shown: CueText | Bitmap


class BurnedTrack(NamedTuple):
    """The track that is drawn, and notes."""

    stream: int
    """Number of the stream in the file."""
    number: int
    """Its number among the subtitles, from 1."""
    lines: tuple[Cue, ...]
    notes: tuple[str, ...]

    @property
    def mark(self) -> list[str]:
        """All that its look depends on, besides the source."""
        return [*font_names(), PIL.__version__]


def choose_burned(
    container: InputContainer, source: VideoSource, options: VideoConvertOptions, tick: Callable[[], None]
) -> BurnedTrack | None:
    """Read the track that must be drawn, if any. `tick` is called for each packet; it may raise.

    Raises Unusable if it does not exist, or cannot be decoded.
    """
    number, name = options.burn_subtitles, source.path.name
    if number is None:
        return None
    streams = container.streams.subtitles
    if number > len(streams):
        raise Unusable(f"{name} has {counted(len(streams), 'subtitle track')}, not {number}")
    stream: Any = streams[number - 1]
    if stream.codec_context is None:
        raise Unusable(f"subtitle track {number} of {name} is of a kind that cannot be decoded, and so not drawn")
    codec = stream.codec_context.codec.canonical_name
    if codec not in (*TEXT_CODECS, _PGS):
        kept = codec in CONTAINERS[".mkv"].copied_subtitles
        raise Unusable(
            f"subtitle track {number} of {name} is of {codec}, and only text and the bitmaps of Blu-rays can be drawn: "
            + ("write a mkv, which keeps it as it is" if kept else "leave burn_subtitles out")
        )
    lines, foreign, unread = _read(source, stream.index, tick)
    if not lines:
        raise Unusable(f"nothing can be read in subtitle track {number} of {name}")
    notes = [f"subtitle track {number} became part of the picture"]
    if foreign or codec in ("ass", "ssa"):
        notes.append("its fonts, colours and places were left out: text is drawn in one style")
    notes += unread_notes(unread, f"subtitle track {number}")
    characters = sorted({each for line in lines if isinstance(line.shown, CueText) for each in _characters(line.shown)})
    ruler = Ruler("plain")
    if lacking := [each for each in characters if not each.isspace() and ruler.lacks(each)]:
        many = f"{counted(len(lacking), 'character')} {plural(len(lacking), 'is', 'are')}"
        notes.append(f"{many} in no font here: {''.join(lacking[:10])}")
    if not can_shape() and any(map(runs_to_left, characters)):
        notes.append("text that runs to the left is drawn in the order of its letters: libraqm is not there")
    return BurnedTrack(stream.index, number, lines, tuple(notes))


def _characters(text: CueText) -> str:
    return "".join(piece.text for row in text.rows for piece in row)


# --- Reading ---


class _Decoded(NamedTuple):
    start: Fraction
    end: Fraction | None
    """None: until the next line."""
    shown: tuple[CueText | Bitmap, ...]


def _read(source: VideoSource, index: int, tick: Callable[[], None]) -> tuple[tuple[Cue, ...], bool, int]:
    """All lines, whether some have formatting that is left out, and how many lines cannot be read."""
    found: list[_Decoded] = []
    foreign, size, unread = False, 0, 0
    with open_input(source.path) as opened:
        stream: Any = opened.streams[index]
        context = stream.codec_context
        screen, codec = _Screen((source.width, source.height)), context.codec.canonical_name
        for packet in tolerant(opened.demux(stream)):
            tick()
            if packet.pts is None or not packet.size:
                continue
            if codec == _PGS:
                screen.read(bytes(packet))
            try:
                subtitle = decoded(context.decode2, packet)
            except av.error.FFmpegError as error:
                if not is_input_fault(error):
                    raise
                unread += 1
                continue
            if subtitle is None:
                continue
            start = packet.pts * packet.time_base + Fraction(subtitle.start_display_time, 1000)
            shown: list[CueText | Bitmap] = []
            for each in subtitle:
                if isinstance(each, BitmapSubtitle):
                    bitmap = _bitmap_of(each, screen)
                    shown += [bitmap] if bitmap else []
                    size += len(bitmap.packed) if bitmap else 0
                elif isinstance(each, AssSubtitle):
                    text, has_formatting = _text_of(each)
                    foreign = foreign or has_formatting
                    shown += [text] if text.rows else []
            found.append(_Decoded(start, _end_of(packet, subtitle), tuple(shown)))
            if len(found) > _MOST_LINES or size > _MOST_BYTES:
                raise Unusable(f"the subtitles of {source.path.name} are too many to be drawn")
    return tuple(_timed(sorted(found, key=lambda each: each.start))), foreign, unread


def _end_of(packet: Any, decoded: Any) -> Fraction | None:
    begin: Fraction = packet.pts * packet.time_base
    if 0 < decoded.end_display_time < _FOR_EVER:
        return begin + Fraction(decoded.end_display_time, 1000)
    length: Fraction = packet.duration * packet.time_base if packet.duration else Fraction(0)
    return begin + length if length else None


def _timed(found: Sequence[_Decoded]) -> Iterator[Cue]:
    """Give each line its end. A bitmap is shown at most until the next line: an empty one ends it."""
    ends: list[Fraction] = []
    following: Fraction | None = None
    begun: Fraction | None = None
    for each in reversed(found):
        if each.start != begun:
            following, begun = begun, each.start
        end = each.start + _LONGEST if each.end is None else each.end
        if following is not None and (each.end is None or any(isinstance(shown, Bitmap) for shown in each.shown)):
            end = min(end, following)
        ends.append(end)
    for each, end in zip(found, reversed(ends), strict=True):
        for shown in each.shown:
            if end > each.start:
                yield Cue(each.start, end, shown)


def _text_of(subtitle: AssSubtitle) -> tuple[CueText, bool]:
    """The text, and whether it has formatting that is left out."""
    raw = subtitle.ass.decode("utf-8", "replace")
    raw = raw.split(",", 8)[-1] if raw else subtitle.text.decode("utf-8", "replace")
    italic = top = foreign = drawing = False
    rows: list[list[Styled]] = [[]]
    for piece in re.split(r"(\{\\[^}]*\})", raw):
        if piece.startswith("{\\"):
            for tag in re.findall(r"\\[^\\}]+", piece):
                italic = {r"\i1": True, r"\i0": False, r"\r": False}.get(tag, italic)
                top = top or (tag.startswith(r"\an") and tag[3:] in _TOP)
                drawing = tag[2:] != "0" if re.fullmatch(r"\\p\d", tag) else drawing
                foreign = foreign or not _PLAIN_TAGS.fullmatch(tag)
            continue
        if drawing:
            continue
        first, *others = re.split(r"\\[Nn]|\r?\n", piece.replace(r"\h", " "))
        rows[-1].append(Styled(first, italic))
        rows += [[Styled(other, italic)] for other in others]
    filled = [tuple(each for each in row if each.text) for row in rows]
    return CueText(tuple(row for row in filled if any(each.text.strip() for each in row)), top), foreign


def _bitmap_of(subtitle: BitmapSubtitle, screen: "_Screen") -> Bitmap | None:
    width, height = subtitle.width, subtitle.height
    if width <= 0 or height <= 0 or not subtitle.planes:
        return None
    plane: Any = subtitle.planes[0]
    colours = screen.colours()
    packed = zlib.compress(colours[np.frombuffer(plane, np.uint8, width * height)].tobytes(), 1)
    return Bitmap(subtitle.x, subtitle.y, width, height, screen.size, packed)


_COLOURS, _SCREEN = 0x14, 0x16
_NEW_EPOCH = 0x80
_HIGH_DEFINITION = 577
"""From this number of rows on, colours are those of BT.709."""


class _Screen:
    """The screen and colours that PGS packets state, which PyAV does not pass on."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._current = 0
        self._palettes: dict[int, Any] = {}
        """Number of a palette → brightness, red and blue difference, and opacity of each of 256 colours."""

    def read(self, packet: bytes) -> None:
        """Read a packet's segments; palettes are kept until a new epoch."""
        place = 0
        while place + 3 <= len(packet):
            kind, length = packet[place], int.from_bytes(packet[place + 1 : place + 3], "big")
            self._take(kind, packet[place + 3 : place + 3 + length])
            place += 3 + length

    def _take(self, kind: int, content: bytes) -> None:
        if kind == _SCREEN and len(content) >= 10:  # noqa: PLR2004 - its fixed fields
            width, height = int.from_bytes(content[:2], "big"), int.from_bytes(content[2:4], "big")
            self.size = (width, height) if width and height else self.size
            if content[7] & 0xC0 == _NEW_EPOCH:
                self._palettes.clear()
            self._current = content[9]
        elif kind == _COLOURS and len(content) >= 2:  # noqa: PLR2004 - its number and version
            entries = np.frombuffer(content[2 : 2 + (len(content) - 2) // 5 * 5], np.uint8).reshape(-1, 5)
            palette = self._palettes.setdefault(content[0], np.zeros((256, 4)))
            palette[entries[:, 0]] = entries[:, 1:]

    def colours(self) -> Any:
        """Red, green, blue and opacity of each of the 256 colours."""
        palette = self._palettes.get(self._current, np.zeros((256, 4)))
        red, blue = _MATRICES[1 if self.size[1] >= _HIGH_DEFINITION else 6]
        light = (palette[:, 0] - 16) / 219
        reds = light + 2 * (1 - red) * (palette[:, 1] - 128) / 224
        blues = light + 2 * (1 - blue) * (palette[:, 2] - 128) / 224
        greens = (light - red * reds - blue * blues) / (1 - red - blue)
        shown = np.stack([reds, greens, blues, palette[:, 3] / 255], axis=-1)
        return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8)


# --- Drawing ---


class _Patch(NamedTuple):
    """A part of the picture: its place, and the values and opacity (0 to 1) of each plane."""

    x: int
    y: int
    planes: tuple[tuple[Any, Any], ...]


class Burner:
    """Draws the lines of one track on the finished frames of one conversion. Any number of threads may share it."""

    def __init__(
        self, track: BurnedTrack, source: VideoSource, options: VideoConvertOptions, pixels: PixelFormat
    ) -> None:
        self._lines = track.lines
        self._starts = [ceil(line.start / source.time_base) for line in track.lines]
        self._ends = [ceil(line.end / source.time_base) for line in track.lines]
        self._longest = max(end - start for start, end in zip(self._starts, self._ends, strict=True))
        self._source = source
        self._pixels = pixels
        self._room = output_size(source, options)
        self._size = scaled_size(source, options)
        self._options = options
        self._patch_of = lru_cache(_KEPT_FRAMES)(self._drawn)

    def burned(self, frame: VideoFrame, moment: int) -> VideoFrame:
        """The frame with the lines shown at its moment; the same frame if there are none."""
        first = bisect_right(self._starts, moment - self._longest)
        begun = bisect_right(self._starts, moment)
        shown = tuple(number for number in range(first, begun) if moment < self._ends[number])
        patch = self._patch_of(shown) if shown else None
        return frame if patch is None else _blended(frame, patch)

    def _drawn(self, numbers: tuple[int, ...]) -> _Patch | None:
        sheet = Image.new("RGBA", self._room)
        texts = [line.shown for number in numbers if isinstance((line := self._lines[number]).shown, CueText)]
        for number in numbers:
            if isinstance(bitmap := self._lines[number].shown, Bitmap):
                self._put(sheet, bitmap)
        for top in (True, False):
            rows = [row for text in texts if text.top == top for row in text.rows]
            _write(sheet, rows, top=top)
        box = sheet.getbbox()
        if box is None:
            return None
        left, upper = box[0] // 2 * 2, box[1] // 2 * 2
        right, lower = min(self._room[0], -(-box[2] // 2) * 2), min(self._room[1], -(-box[3] // 2) * 2)
        return _patch(left, upper, np.asarray(sheet.crop((left, upper, right, lower)), np.float64), self._colours())

    def _put(self, sheet: Image.Image, bitmap: Bitmap) -> None:
        """Draw a bitmap, scaled and moved with the picture, and moved inside if it would be cut off."""
        size = self._source.stored_size
        whole = msgspec.structs.replace(self._source, width=size[0], height=size[1], crop=None)
        seen, full = upright_size(self._source), upright_size(whole)
        left, top = parse_numbers(self._options.crop)[2:] if self._options.crop else (0, 0)
        across, down = self._size[0] / seen[0], self._size[1] / seen[1]
        x = (bitmap.x * full[0] / bitmap.canvas[0] - left) * across
        y = (bitmap.y * full[1] / bitmap.canvas[1] - top) * down
        width = max(1, round(bitmap.width * full[0] / bitmap.canvas[0] * across))
        height = max(1, round(bitmap.height * full[1] / bitmap.canvas[1] * down))
        share = min(1.0, self._size[0] / width, self._size[1] / height)
        width, height = max(1, round(width * share)), max(1, round(height * share))
        raw = zlib.decompress(bitmap.packed)
        made = Image.frombytes("RGBA", (bitmap.width, bitmap.height), raw)
        made = made.resize((width, height), Image.Resampling.LANCZOS)
        bars = [(room - size) // 4 * 2 for room, size in zip(self._room, self._size, strict=True)]
        place = (
            bars[0] + min(max(0, round(x)), self._size[0] - width),
            bars[1] + min(max(0, round(y)), self._size[1] - height),
        )
        sheet.alpha_composite(made, place)

    def _colours(self) -> "_Colours":
        _, transfer, matrix = self._pixels.colour
        guessed = 1 if self._room[0] >= _LARGE[0] or self._room[1] >= _LARGE[1] else 6  # as players do
        shares = _MATRICES.get(matrix, _MATRICES[guessed])
        return _Colours(self._pixels.name, transfer if transfer in HDR else 0, shares)


def _write(sheet: Image.Image, rows: Sequence[tuple[Styled, ...]], *, top: bool) -> None:
    """Write rows of text, centred, at the bottom or the top. Rows that are too wide are broken."""
    if not rows:
        return
    size = max(_LEAST_SIZE, round(_SIZE * sheet.height))
    rows = [part for row in rows for part in _broken(row, size, _WIDEST * sheet.width)]
    step, margin = round(_SPACING * size), round(_MARGIN * sheet.height)
    y = margin if top else sheet.height - margin - step * len(rows)
    pen, outline = ImageDraw.Draw(sheet), max(1, round(_OUTLINE * size))
    for row in rows:
        width = sum(_width(piece, size) for piece in row)
        x = (sheet.width - width) / 2
        for piece in row:
            pen.text(
                (x, y), piece.text, font=_font(piece, size), fill="white", stroke_width=outline, stroke_fill="black"
            )
            x += _width(piece, size)
        y += step


def _font(piece: Styled, size: float) -> Any:
    shaped = can_shape() and any(map(runs_to_left, piece.text))
    return load_font("italic" if piece.italic else "plain", size, shaped=shaped)


def _width(piece: Styled, size: float) -> float:
    return float(_font(piece, size).getlength(piece.text))


def _broken(row: tuple[Styled, ...], size: float, most: float) -> list[tuple[Styled, ...]]:
    """The row, broken between words into as many rows as needed."""
    if sum(_width(piece, size) for piece in row) <= most:
        return [row]
    made: list[list[Styled]] = [[]]
    used = 0.0
    for piece in row:
        for word in re.findall(r"\s*\S+|\s+$", piece.text):
            width = _width(Styled(word, piece.italic), size)
            if made[-1] and used + width > most:
                made.append([])
                used = 0.0
            made[-1].append(Styled(word if made[-1] else word.lstrip(), piece.italic))
            used += width
    return [tuple(each) for each in made if each]


# --- Colours ---


_MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""FFmpeg's number → the shares of red and blue in brightness."""


class _Colours(NamedTuple):
    """How a picture stores its colours."""

    pixel_format: str
    transfer: int
    """0: that of ordinary films."""
    shares: tuple[float, float]


def _patch(x: int, y: int, pixels: Any, colours: _Colours) -> _Patch:
    """Convert red, green, blue and opacity, 0 to 255, into the planes of the picture."""
    opacity, values = pixels[..., 3] / 255, pixels[..., :3] / 255
    if colours.transfer:
        values = paper_white(values, colours.transfer)
    red, blue = colours.shares
    brightness = values @ np.array([red, 1 - red - blue, blue])
    bluish = (values[..., 2] - brightness) / (2 * (1 - blue))
    reddish = (values[..., 0] - brightness) / (2 * (1 - red))
    unit = 4 if "10" in colours.pixel_format else 1
    scale = 64 if colours.pixel_format.startswith("p010") else 1  # p010 keeps its bits at the upper end
    light = unit * scale * (16 + 219 * brightness)
    small = _halved(opacity)
    tint = [
        unit * scale * (128 + 224 * _halved(part * opacity) / np.maximum(small, 1e-9)) for part in (bluish, reddish)
    ]
    if colours.pixel_format.startswith(("nv12", "p010")):
        both = np.stack(tint, axis=-1).reshape(tint[0].shape[0], -1)
        return _Patch(x, y, ((light, opacity), (both, np.repeat(small, 2, axis=1))))
    return _Patch(x, y, ((light, opacity), (tint[0], small), (tint[1], small)))


def _halved(values: Any) -> Any:
    rows, columns = values.shape
    return values.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))


def _blended(frame: VideoFrame, patch: _Patch) -> VideoFrame:
    """A new frame; the given one stays unchanged, because it may be shown again."""
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    made.color_trc, made.color_primaries = frame.color_trc, frame.color_primaries
    kind = np.uint16 if "10" in frame.format.name else np.uint8
    together = len(patch.planes) == 2  # noqa: PLR2004 - both colours in one plane
    planes = zip(frame.planes, made.planes, patch.planes, strict=True)
    for number, (plane, target, (values, opacity)) in enumerate(planes):
        source = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        blended = np.frombuffer(memoryview(target), kind).reshape(target.height, -1)
        shared = min(source.shape[1], blended.shape[1])
        blended[:, :shared] = source[:, :shared]
        top = patch.y // (2 if number else 1)
        left = patch.x // (2 if number and not together else 1)
        part = blended[top : top + values.shape[0], left : left + values.shape[1]]
        part[:] = np.round(part + (values - part) * opacity)
    return made
