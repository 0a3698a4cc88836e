"""Turns a decoded frame into the wanted picture: upright, scaled, 4:2:0 of 8 or 10 bits."""

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import msgspec
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ...contract import Unusable
from ..light import HDR
from ..source import VideoSource
from ..tones import ToneMapper
from .options import Target, VideoConvertOptions, parse_numbers
from .quality import quality_of

_STANDARD = (1, 1, 1)
"""BT.709 as primaries, transfer and matrix."""
_UNSPECIFIED = 2
_WIDE = 9
"""BT.2020, as primaries and as matrix."""
_BYTE = 8
_SCALING = Interpolation.BICUBIC
_X265_WIDTH = 50
"""x265 writes past its memory for narrower pictures."""
_JUDGED_SIDE = 16
"""A comparison needs blocks of 8x8 colour pixels; without one it gives no number."""
_XPSNR_PIXELS = 2025
"""The filter divides by zero on smaller pictures."""
_TURNS = {0: [], 90: ["cclock"], 180: ["clock", "clock"], 270: ["clock"]}
"""Rotation counter-clockwise → values of FFmpeg's transpose filter."""


class PixelFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How the result's pixels are stored."""

    name: str = "yuv420p"
    colour: tuple[int, int, int] = (_UNSPECIFIED, _UNSPECIFIED, _UNSPECIFIED)
    """Primaries, transfer, matrix."""
    standard_range: bool = False
    """Whether high dynamic range becomes standard, as requested or because eight bits are too few for it."""

    @property
    def deep(self) -> bool:
        """Whether it has more than eight bits."""
        return "10" in self.name


def choose_pixel_format(
    source: VideoSource, formats: Collection[str], codec: str, options: VideoConvertOptions
) -> PixelFormat:
    """Keep ten bits if encoder, players and profile can, and the colours as they are tagged.

    `formats`: those that the encoder accepts. Raises Unusable if high dynamic range must be kept but cannot be.
    """
    profile = options.profile
    wanted: list[str] = [name for name in ("yuv420p", "nv12") if name in formats] or ["yuv420p"]
    deep_enough = source.depth > _BYTE and codec != "h264"  # few players decode H.264 with ten bits
    if profile == "main10" or (deep_enough and profile is None):
        wanted = [name for name in ("yuv420p10le", "p010le") if name in formats] + wanted
    deep = "10" in wanted[0]
    high = source.colour[1] in HDR
    if high and not deep and options.hdr == "keep":
        raise Unusable(
            f"{source.path.name}: high dynamic range cannot be kept, because this encoder of {codec} makes no "
            "pictures of ten bits: take video_codec h265 or av1, or leave hdr at auto"
        )
    if high and (not deep or options.hdr == "sdr"):
        return PixelFormat(name=wanted[0], colour=_STANDARD, standard_range=True)
    primaries, transfer, matrix = source.colour
    if source.rgb:  # it has no matrix, whatever it states
        matrix = _WIDE if primaries == _WIDE else _STANDARD[2]
    return PixelFormat(name=wanted[0], colour=(primaries, transfer, matrix))


def output_size(source: VideoSource, options: VideoConvertOptions) -> tuple[int, int]:
    """Width and height of the result, with its bars."""
    if options.pad is None:
        return scaled_size(source, options)
    width, height = parse_numbers(options.pad)
    return width, height


def refuse_if_no_room(source: VideoSource, options: VideoConvertOptions) -> None:
    """Raise Unusable if the picture is larger than the padded size."""
    made, room = scaled_size(source, options), output_size(source, options)
    if made[0] > room[0] or made[1] > room[1]:
        raise Unusable(
            f"{source.path.name}: the picture is {made[0]}x{made[1]} after scaling, larger than pad {options.pad}: "
            f"make it smaller with max_width={room[0]} and max_height={room[1]}"
        )


def refuse_if_too_small(source: VideoSource, options: VideoConvertOptions, target: Target) -> None:
    """Raise Unusable if the encoder, or the quality's meter, would fail on such a small picture."""
    width, height = output_size(source, options)
    so_small = f"{source.path.name}: a picture of {width}x{height} is too small"
    if target.video_encoder == "libx265" and width < _X265_WIDTH:
        raise Unusable(
            f"{so_small} for the encoder of h265: take another video_codec, or a width of {_X265_WIDTH} or more"
        )
    metric = quality_of(options.quality).metric if options.quality else ""
    if metric in ("ssim", "xpsnr") and min(width, height) < _JUDGED_SIDE:
        raise Unusable(f"{so_small} to measure {metric}: give crf, or sides of {_JUDGED_SIDE} pixels or more")
    if metric == "xpsnr" and width * height < _XPSNR_PIXELS:
        raise Unusable(f"{so_small} to measure xpsnr: give crf or ssim, or {_XPSNR_PIXELS} pixels or more")


def scaled_size(source: VideoSource, options: VideoConvertOptions) -> tuple[int, int]:
    """Width and height of the picture without bars. Both even, as 4:2:0 needs."""
    width, height = upright_size(source)
    if _too_large((width, height), options):
        return _within((width, height), options)
    if options.scale is not None:
        return _even(width * options.scale), _even(height * options.scale)
    if options.width and options.height:
        return _even(options.width), _even(options.height)
    if options.width:
        return _even(options.width), _even(Fraction(height * options.width, width))
    if options.height:
        return _even(Fraction(width * options.height, height)), _even(options.height)
    return _even(width), _even(height)


def _too_large(size: tuple[int, int], options: VideoConvertOptions) -> bool:
    """Whether a picture of this size must be shrunk to fit into the box of the options."""
    return any(most is not None and side > most for side, most in zip(size, _box(options), strict=True))


def _box(options: VideoConvertOptions) -> tuple[int | None, int | None]:
    return options.max_width, options.max_height


def _within(size: tuple[int, int], options: VideoConvertOptions) -> tuple[int, int]:
    """The largest size of this shape that fits into the box."""
    most = [side if limit is None else limit - limit % 2 for side, limit in zip(size, _box(options), strict=True)]
    share = min(Fraction(most[0], size[0]), Fraction(most[1], size[1]))
    return min(_even(size[0] * share), most[0]), min(_even(size[1] * share), most[1])


def upright_size(source: VideoSource) -> tuple[int, int]:
    """Width and height as displayed. If pixels are made square, their shorter side grows."""
    sideways = source.rotation in (90, 270)
    width, height = (source.height, source.width) if sideways else (source.width, source.height)
    if not source.squared:
        return width, height
    aspect = _upright_aspect(source)
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def output_aspect(source: VideoSource, options: VideoConvertOptions) -> Fraction:
    """The shape of the result's pixels: the source's, unless they are made square, or both sides were given."""
    if source.squared or (options.width and options.height):
        return Fraction(1)
    return _upright_aspect(source)


def _upright_aspect(source: VideoSource) -> Fraction:
    """Width by height of a displayed pixel."""
    return 1 / source.pixel_aspect if source.rotation in (90, 270) else source.pixel_aspect


def _even(side: float | Fraction) -> int:
    return max(2, 2 * round(side / 2))


class Shaper:
    """Shapes the frames of one source; keeps scaler and filters between frames.

    Args:
        source: the frames' source.
        options: the wanted shape.
        pixels: the result's pixel format.
        folder: for a short-lived temporary file.
        threads: for mapping tones; 0: as many as there are CPUs.
    """

    def __init__(
        self, source: VideoSource, options: VideoConvertOptions, pixels: PixelFormat, folder: Path, threads: int
    ) -> None:
        self._scaler = VideoReformatter()
        self._source = source
        self._pixels = pixels
        size = scaled_size(source, options)
        sideways = source.rotation in (90, 270)
        self._size = (size[1], size[0]) if sideways else size
        filters = _turns(source) + _bars(size, output_size(source, options))
        self._finisher = _graph(self._size, pixels.name, source.time_base, filters) if filters else None
        self._matrix = Colorspace(pixels.colour[2]) if source.rgb or pixels.standard_range else None
        """The matrix for computing brightness and colour, if the source has none of its own."""
        self._tones: ToneMapper | None = None
        if pixels.standard_range:
            self._tones = ToneMapper(source, self._size, _SCALING, folder, threads)
        self._cropper: Graph | None = None
        self._cropped: tuple[int, int, str] | None = None

    def shape(self, frame: VideoFrame) -> VideoFrame:
        """The frame as the encoder needs it. The range is always limited, as players expect."""
        frame = self._crop(frame)
        shaped = self._scaler.reformat(
            self._tones.mapped(frame) if self._tones else frame,
            *self._size,
            format=self._pixels.name,
            interpolation=_SCALING,
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
        )
        return shaped if self._finisher is None else _through(self._finisher, shaped)

    def _crop(self, frame: VideoFrame) -> VideoFrame:
        """The wanted part of the frame. If a source changes its size midway, the same share of it."""
        crop = self._source.crop
        if crop is None:
            return frame
        kind = (frame.width, frame.height, frame.format.name)
        if self._cropper is None or kind != self._cropped:
            across, down = Fraction(frame.width, crop.of_width), Fraction(frame.height, crop.of_height)
            width, height = max(1, int(crop.width * across)), max(1, int(crop.height * down))
            how = f"{width}:{height}:{int(crop.x * across)}:{int(crop.y * down)}:exact=1"
            self._cropper = _graph(kind[:2], kind[2], self._source.time_base, [("crop", how)])
            self._cropped = kind
        return _through(self._cropper, frame)


def _through(graph: Graph, frame: VideoFrame) -> VideoFrame:
    graph.push(frame)
    made = graph.pull()
    assert isinstance(made, VideoFrame)
    return made


def _turns(source: VideoSource) -> list[tuple[str, str | None]]:
    # `vflip` only counts rows backwards, which drawing and some encoders do not support; `copy` moves the pixels.
    mirror: list[tuple[str, str | None]] = [("vflip", None), ("copy", None)] if source.mirrored else []
    return mirror + [("transpose", direction) for direction in _TURNS[source.rotation]]


def _bars(size: tuple[int, int], room: tuple[int, int]) -> list[tuple[str, str | None]]:
    """Black bars around the picture, which is centred as far as whole colour pixels allow."""
    left, top = ((whole - part) // 4 * 2 for whole, part in zip(room, size, strict=True))
    return [] if size == room else [("pad", f"{room[0]}:{room[1]}:{left}:{top}:color=black")]


def _graph(
    size: tuple[int, int], pixel_format: str, time_base: Fraction, filters: list[tuple[str, str | None]]
) -> Graph:
    """A chain of filters for frames of one size."""
    graph = Graph()
    node = graph.add_buffer(width=size[0], height=size[1], format=VideoFormat(pixel_format), time_base=time_base)
    for name, how in filters:
        following = graph.add(name, how)
        node.link_to(following)
        node = following
    node.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def picture_notes(source: VideoSource, pixels: PixelFormat, options: VideoConvertOptions, codec: str) -> list[str]:
    """Notes on changes in the picture, for the result, which has this codec."""
    notes = _size_notes(source, options)
    if source.captions and (codec != "h264" or options.backend == "ffmpeg"):
        notes.append("closed captions dropped: only h264 by the built-in backend keeps them")
    if source.spherical:
        notes.append("no longer marked as spherical (360 degrees): players show it flat")
    if source.stereoscopic and (codec != "h264" or options.backend == "ffmpeg"):
        notes.append("no longer marked as stereoscopic: only h264 by the built-in backend keeps it")
    if source.transparent:
        notes.append("transparency dropped")
    if source.fine_colours:
        notes.append("colours finer than 4:2:0 became 4:2:0")
    if source.depth > 8 and not pixels.deep:  # noqa: PLR2004 - more than a byte
        notes.append(f"{source.depth} bits a colour became 8")
    if source.depth > 10 and pixels.deep:  # noqa: PLR2004 - the encoders' limit
        notes.append(f"{source.depth} bits a colour became 10")
    if pixels.standard_range:
        peak = source.light.peak(source.colour[1])
        notes.append(f"high dynamic range became standard (BT.709), tones mapped from a peak of {peak:g} cd/m²")
    if source.full_range:
        notes.append("full colour range became limited")
    notes += _turn_notes(source, options)
    if source.deinterlace:
        notes.append("deinterlaced")
    elif source.interlaced:
        notes.append("interlaced pictures kept as they are, without the flag")
    return notes


def _turn_notes(source: VideoSource, options: VideoConvertOptions) -> list[str]:
    """Notes on turns that the source itself requires; those of `rotate` come in addition."""
    notes = ["mirrored, as the source says"] if source.mirrored else []
    own = (source.rotation + options.rotate) % 360
    return notes + ([f"turned upright by {own} degrees"] if own else [])


def _size_notes(source: VideoSource, options: VideoConvertOptions) -> list[str]:
    """Notes on sides that became even, if they were given or are the source's, not computed from the other side."""
    aspect = source.pixel_aspect
    shape = f"pixels of {aspect.numerator}:{aspect.denominator} became square"
    notes = [shape] if source.squared and aspect != 1 else []
    if options.scale is not None:
        return notes
    if _too_large(upright_size(source), options):
        return notes
    whole = options.width is None and options.height is None
    wanted = upright_size(source) if whole else (options.width, options.height)
    sides = zip(("width", "height"), wanted, scaled_size(source, options), strict=True)
    changed = [f"{name} {asked} became {made}" for name, asked, made in sides if asked not in (None, made)]
    return notes + ([f"{', '.join(changed)}: sides have to be even"] if changed else [])
