"""The wanted picture out of a decoded frame: upright, scaled, 8-bit 4:2:0."""

from fractions import Fraction

from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from ..probe import Source
from .options import VideoConvertOptions

PIXEL_FORMAT = "yuv420p"
_TURNS = {90: ["cclock"], 180: ["clock", "clock"], 270: ["clock"]}
"""Rotation counter-clockwise → values of FFmpeg's transpose filter."""


def output_size(source: Source, options: VideoConvertOptions) -> tuple[int, int]:
    """Width and height of the result. Both even, as 4:2:0 needs."""
    width, height = upright_size(source)
    if options.scale is not None:
        return _even(width * options.scale), _even(height * options.scale)
    if options.width and options.height:
        return _even(options.width), _even(options.height)
    if options.width:
        return _even(options.width), _even(Fraction(height * options.width, width))
    if options.height:
        return _even(Fraction(width * options.height, height)), _even(options.height)
    return _even(width), _even(height)


def upright_size(source: Source) -> tuple[int, int]:
    """Width and height as seen."""
    sideways = source.rotation in (90, 270)
    return (source.height, source.width) if sideways else (source.width, source.height)


def output_aspect(source: Source, options: VideoConvertOptions) -> Fraction:
    """The shape of the result's pixels: the source's, unless both sides were given, which then mean square ones."""
    if options.width and options.height:
        return Fraction(1)
    return 1 / source.pixel_aspect if source.rotation in (90, 270) else source.pixel_aspect


def _even(side: float | Fraction) -> int:
    return max(2, 2 * round(side / 2))


class Shaper:
    """Shapes the frames of one source; keeps scaler and turner between frames."""

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        self._scaler = VideoReformatter()
        sideways = source.rotation in (90, 270)
        self._size = (size[1], size[0]) if sideways else size
        self._turner = _turner(self._size, source) if source.rotation else None

    def shape(self, frame: VideoFrame) -> VideoFrame:
        """The frame as the encoder wants it. Range is always limited, as players expect."""
        shaped = self._scaler.reformat(
            frame,
            *self._size,
            format=PIXEL_FORMAT,
            interpolation=Interpolation.BICUBIC,
            dst_color_range=ColorRange.MPEG,
        )
        if self._turner is None:
            return shaped
        self._turner.push(shaped)
        turned = self._turner.pull()
        assert isinstance(turned, VideoFrame)
        return turned


def _turner(size: tuple[int, int], source: Source) -> Graph:
    """Scaled frames go in, so that it need not care for changes of the source."""
    graph = Graph()
    node = graph.add_buffer(width=size[0], height=size[1], format=VideoFormat(PIXEL_FORMAT), time_base=source.time_base)
    for direction in _TURNS[source.rotation]:
        following = graph.add("transpose", direction)
        node.link_to(following)
        node = following
    node.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
