"""Whole pictures out of interlaced ones."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame

_LEAST_WIDTH, _LEAST_HEIGHT = 3, 4


def has_fields(width: int, height: int) -> bool:
    """Whether a picture is large enough to be made of two; the filter refuses smaller ones."""
    return width >= _LEAST_WIDTH and height >= _LEAST_HEIGHT


def deinterlaced(frames: Iterator[tuple[int, VideoFrame]], time_base: Fraction) -> Iterator[tuple[int, VideoFrame]]:
    """One whole picture for each frame, with the frame's own moment.

    A picture is made of its frame, the one before and the one after. So it is the same wherever reading began, if one
    frame before it was read.
    """
    moments: deque[int] = deque()
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    for moment, frame in frames:
        current = (frame.width, frame.height, frame.format.name)
        if graph is None or current != shape:
            if graph is not None:
                yield from _rest(graph, moments)
            graph, shape = _graph(frame, time_base), current
        frame.pts, frame.time_base = moment, time_base
        moments.append(moment)
        graph.vpush(frame)
        yield from _ready(graph, moments)
    if graph is not None:
        yield from _rest(graph, moments)


def _graph(frame: VideoFrame, time_base: Fraction) -> Graph:
    """`send_frame`: as many pictures as frames. `deint=all`: the caller has decided, flags may be missing."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=all"), graph.add("buffersink")).configure()
    return graph


def _rest(graph: Graph, moments: deque[int]) -> Iterator[tuple[int, VideoFrame]]:
    graph.vpush(None)
    yield from _ready(graph, moments)
    moments.clear()


def _ready(graph: Graph, moments: deque[int]) -> Iterator[tuple[int, VideoFrame]]:
    while moments:
        try:
            picture = graph.vpull()
        except (BlockingIOError, EOFError, FFmpegError):
            return
        yield moments.popleft(), picture
