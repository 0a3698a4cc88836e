"""The decoded frames of a source: all in order, only its keyframes, or those at chosen moments."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain

import av
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...events.counted import counted
from ..io_errors import error_text
from .opening import is_input_fault, open_input, packets_of, picture_stream, recovering, seek
from .source import VideoSource

_STEP_BACK = 5
"""Seconds, doubled each time. Near the end of a transport stream a seek may find no frame at all."""
_TOLERATED = 50
"""Undecodable packets and missing frames that are always tolerated; above that, one in four."""
SILENT = ("av1", "hevc")
"""Codecs with a frame in each packet whose decoders silently skip the frames that they cannot decode."""
LONGEST_JUMP = 1.0
"""Seconds. Frames whose times jump back by more belong to another piece of film."""
GIVE_TIMES = "give them times that rise, as `ffmpeg -i IN.ts -c copy OUT.mkv` does with a ts, and take that"
"""The remedy for such times."""
_GAP = 1.5
"""Distance between two frames, in frame times, from which on a frame is missing."""
_MOST_THREADS = 16
"""The most threads that FFmpeg uses by default. This many frames may be lost at the end."""


class UndecodableError(ValueError):
    """Too much of the video cannot be decoded, or is missing, for the rest to be useful; the text says why."""


class _OneThreadError(Exception):
    """Something cannot be decoded. Several threads report it packets later, and lose what follows at the end."""


class DecodePass:
    """One pass through a source: the number of decoding threads, and what could not be decoded.

    Args:
        threads: 0: as many as there are CPUs. From the first undecodable packet on it is one.
        before: how many frames lie before the place where it begins. They count as decoded.
        tick: called for each frame, also for skipped ones; it may raise to end the search.
        until: the last moment that is wanted; packets after it do not count. None: all are wanted.
    """

    def __init__(
        self,
        threads: int = 0,
        before: int = 0,
        tick: Callable[[], None] = lambda: None,
        until: int | None = None,
    ) -> None:
        self.threads = threads
        self.tick = tick
        self._before = before
        self._until = until
        self.late = 0
        """Frames that were left out because their times jump back, as in joined or damaged files."""
        self.begin()

    def begin(self, since: int | None = None, good: int = 0) -> None:
        """Count anew: packets later than `since`, on top of `good` ones. A wrong seek's packets do not count."""
        self._since = since
        self.refused: set[int] = set()
        """The moments of packets that the decoder refused or skipped."""
        self.good = good
        """Packets that were decoded."""
        self.bad = 0
        """Number of packets that the decoder refused or skipped."""

    def arrive(self) -> None:
        """Count every packet from now on: a damaged one may state an earlier time."""
        self._since = None

    def take(self, moment: int | None) -> None:
        """Count a packet that the decoder accepted."""
        self.good += self._counts(moment)

    def _counts(self, moment: int | None) -> bool:
        if moment is None:
            return True
        return (self._since is None or moment > self._since) and (self._until is None or moment <= self._until)

    def refuse(self, name: str, decoder: str, error: FFmpegError, moment: int | None) -> None:
        """Count a packet that the decoder refused. Raises UndecodableError if there are too many."""
        if moment in self.refused or not self._counts(moment):
            return
        if moment is not None:
            self.refused.add(moment)
        self.bad += 1
        if beyond_use(self.bad, self._before + self.good):
            raise undecodable(name, decoder, self.bad, self.good, f" ({error_text(error)})") from error

    def leave_out(self, name: str, decoder: str, moment: int) -> None:
        """Count a packet that the decoder accepted but skipped. Raises UndecodableError if there are too many."""
        if moment in self.refused or not self._counts(moment):
            return
        self.refused.add(moment)
        self.good, self.bad = self.good - 1, self.bad + 1
        if beyond_use(self.bad, self._before + self.good):
            raise undecodable(name, decoder, self.bad, self.good)


def undecodable(name: str, decoder: str, bad: int, good: int, detail: str = "") -> UndecodableError:
    """The error that says how many packets were refused, and of how many."""
    return UndecodableError(
        f"{name}: of {counted(bad + good, 'packet')} the decoder {decoder} refused {bad}, and nothing says whether "
        f"they are damaged, encrypted or of a kind that it does not know{detail}"
    )


def beyond_use(bad: float, good: float) -> bool:
    """Whether too many frames are bad or missing for the rest to be useful."""
    return bad > _TOLERATED + good // 4


def frames_after(
    source: VideoSource, moment: int | None, reading: DecodePass | None = None
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield all frames later than `moment`, or from the start, each with its own moment, strictly rising.

    The same frames come out whether the source is read in one go or from anywhere. A seek is trusted only if it yields
    a frame at or before `moment`, or the keyframe right after it; otherwise the next seek goes further back.

    Raises:
        UndecodableError: too many packets cannot be decoded.
    """
    reading = reading or DecodePass()
    came = 0
    try:
        for found, frame in _frames_after(source, moment, reading):
            moment, came = found, came + 1
            yield found, frame
    except _OneThreadError:
        reading.threads = 1
        yield from _frames_after(source, moment, reading, came)  # several threads count no packet as refused


def _frames_after(
    source: VideoSource, moment: int | None, reading: DecodePass, good: int = 0
) -> Iterator[tuple[int, VideoFrame]]:
    late = reading.late
    for target in _seek_targets(source, moment):
        reached = False
        reading.begin(moment, good)
        reading.late = late
        for found, frame in _prepared(source, target, reading):
            reading.tick()
            early = target is not None and not reached and moment is not None and found > moment
            if early and found != target:
                break
            reached = True
            if moment is not None and found >= moment:
                reading.arrive()
            if moment is None or found > moment:
                yield found, frame
            else:
                reading.late = late  # frames left out up to there were counted before
        if reached:
            return


def _seek_targets(source: VideoSource, moment: int | None) -> Iterator[int | None]:
    if moment is not None:
        # A keyframe depends on nothing before it; only a deinterlacer needs the frame before.
        if not source.deinterlace and source.keyframes[bisect_right(source.keyframes, moment) :][:1] == (moment + 1,):
            yield moment + 1
        back = 0
        while moment - back > source.start:
            yield moment - back
            back = max(2 * back, int(_STEP_BACK / source.time_base))
    yield None


def _prepared(source: VideoSource, target: int | None, reading: DecodePass) -> Iterator[tuple[int, VideoFrame]]:
    # By the times of decoding (dts) whole files always rise. Where the index of an MXF lacks a part, they do not.
    far = round(LONGEST_JUMP / source.time_base) if source.clock == "pts" else -1
    frames = _rising(_decode(source, target, reading), far, reading)
    return deinterlaced(frames, source.time_base) if source.deinterlace else frames


def _rising(
    frames: Iterator[tuple[int, VideoFrame]], far: int, reading: DecodePass
) -> Iterator[tuple[int, VideoFrame]]:
    """Leave out frames whose moments repeat or jump back, as in damaged files.

    Those that jump back by more than `far` are counted, and with a `far` of -1 all of them.
    """
    last: int | None = None
    late = 0
    for moment, frame in frames:
        if last is None or moment > last:
            reading.late += late
            last, late = moment, 0
            yield moment, frame
        elif late or last - moment > far:
            late += 1
    reading.late += late


def _decode(source: VideoSource, target: int | None, reading: DecodePass) -> Iterator[tuple[int, VideoFrame]]:
    with open_input(source.path) as container:
        stream = picture_stream(container, source.path.name, reading.threads)
        if target is not None and not seek(container, stream, target // source.finer):
            return
        packets = packets_of(container, stream, from_key=target is not None)
        last: int | None = None
        awaited = _Awaited(source)
        for frame in _tolerant(source, stream, awaited.of(packets), reading):
            moment = _moment(source, frame)
            if moment is None and source.clock == "dts" and last is not None:
                # The last frames come out when no packet is left to give them its time.
                moment = last + max(1, round(1 / (source.rate * source.time_base)))
            if moment is not None:
                last = moment
                left_out = awaited.missing_before(moment)
                if left_out and reading.threads != 1:  # a single thread may decode some of them
                    raise _OneThreadError
                for missing in left_out:
                    reading.leave_out(source.path.name, source.codec, missing)
                yield moment, frame
        rest = awaited.rest()
        if rest and reading.threads != 1:
            raise _OneThreadError
        for missing in rest if awaited.is_silent else ():
            reading.leave_out(source.path.name, source.codec, missing)


class _Awaited:
    """The moments of packets whose frame has not come out yet."""

    def __init__(self, source: VideoSource) -> None:
        self.is_silent = source.codec in SILENT and source.clock == "pts"
        """Whether a packet that never yields a frame was skipped by the decoder."""
        self._source = source
        self._moments: list[int] = []
        self._last: int | None = None

    def of(self, packets: Iterator["av.Packet[VideoStream]"]) -> Iterator["av.Packet[VideoStream]"]:
        """Yield the same packets, and wait for the frame of each."""
        for packet in packets:
            moment = _moment(self._source, packet)
            if moment is not None and not packet.is_discard:
                heappush(self._moments, moment)
            yield packet

    def missing_before(self, moment: int) -> list[int]:
        """The moments that a silent decoder has skipped between the last frame and the one at `moment`."""
        last, self._last = self._last, moment
        passed = []
        while self._moments and self._moments[0] <= moment:
            passed.append(heappop(self._moments))
        if last is None or not self.is_silent:
            return []
        # A packet may hold a hidden picture, which leaves no gap.
        gap = (moment - last) * self._source.time_base * self._source.rate > _GAP
        return [each for each in passed if last < each < moment] if gap else []

    def rest(self) -> list[int]:
        """The moments still waited for after the last frame."""
        return [each for each in self._moments if self._last is None or each > self._last]


def _moment(source: VideoSource, timed: "VideoFrame | av.Packet[VideoStream]") -> int | None:
    time = timed.pts if source.clock == "pts" else timed.dts
    return None if time is None else time * source.finer


def _tolerant(
    source: VideoSource, stream: VideoStream, packets: Iterator["av.Packet[VideoStream]"], reading: DecodePass
) -> Iterator[VideoFrame]:
    """Decode, and tolerate some damage."""
    decoder = stream.codec_context.codec.name  # PyAV 19 loses it if the decoder cannot be opened
    decode = recovering(stream)
    for packet in chain(packets, [None]):
        try:
            frames = decode(packet)
        except av.error.FFmpegError as error:
            if reading.threads != 1:  # it may concern another packet, and dav1d reports a lack of memory
                raise _OneThreadError from error
            if not is_input_fault(error):
                raise
            reading.refuse(source.path.name, decoder, error, None if packet is None else _moment(source, packet))
            continue
        if packet is not None:
            reading.take(_moment(source, packet))
        yield from frames


# --- Interlaced frames ---


_LEAST_WIDTH, _LEAST_HEIGHT = 3, 4


def has_fields(width: int, height: int) -> bool:
    """Whether a picture is large enough to consist of two fields; the filter refuses smaller ones."""
    return width >= _LEAST_WIDTH and height >= _LEAST_HEIGHT


def deinterlaced(frames: Iterator[tuple[int, VideoFrame]], time_base: Fraction) -> Iterator[tuple[int, VideoFrame]]:
    """Yield one whole picture for each frame, with the frame's own moment.

    A picture is made from its frame and the frames before and after. So it is the same wherever reading began, if one
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
    """Make the filter. `send_frame` gives one picture per frame. `deint=all`, because frames may lack their flags."""
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


# --- Keyframes ---


def keyframes_of(source: VideoSource) -> Iterator[tuple[int, VideoFrame]]:
    """Yield all keyframes that can be decoded, with their moments, strictly rising."""
    last: int | None = None
    try:
        for last, frame in _keyframes(source, 0):
            yield last, frame
    except _OneThreadError:
        for moment, frame in _keyframes(source, 1):
            if last is None or moment > last:
                yield moment, frame


def _keyframes(source: VideoSource, threads: int) -> Iterator[tuple[int, VideoFrame]]:
    last: int | None = None
    awaited = _Awaited(source)
    with open_input(source.path) as container:
        stream = picture_stream(container, source.path.name, threads)
        stream.codec_context.skip_frame = "NONKEY"
        packets = (packet for packet in packets_of(container, stream) if packet.is_keyframe)
        decode = recovering(stream)
        for packet in chain(awaited.of(packets), [None]):
            try:
                frames = decode(packet)
            except av.error.FFmpegError as error:
                if threads != 1:
                    raise _OneThreadError from error
                if not is_input_fault(error):
                    raise
                continue
            for frame in frames:
                moment = _moment(source, frame)
                if moment is not None and (last is None or moment > last):
                    last = moment
                    awaited.missing_before(moment)
                    yield moment, frame
        if threads != 1 and 0 < len(awaited.rest()) <= _MOST_THREADS:  # more is no loss by threads
            raise _OneThreadError


# --- Frames at chosen moments ---


_WORTH_A_SEEK = 5.0
"""Seconds. In a file without an index, a frame farther ahead than this is reached by a seek instead of by reading
on."""
_LAST_STEP = 2.0
"""Seconds before the end; doubled until a frame is found."""


def pick_frames(
    source: VideoSource, moments: Sequence[int], tick: Callable[[], None]
) -> Iterator[tuple[int, VideoFrame]]:
    """For each of the rising `moments`, find the first frame at or after it, or else the last frame.

    Yields one frame each, with its own moment; the same frame may come twice. If the source turns out to have no frame,
    it yields nothing. `tick` is called for each decoded frame; it may raise.
    """
    frames: Iterator[tuple[int, VideoFrame]] = iter(())
    reading = DecodePass(tick=tick)
    current: tuple[int, VideoFrame] | None = None
    for moment in moments:
        if current is None or current[0] < moment:
            if current is None or _jump_pays(source, current[0], moment):
                frames = frames_after(source, None if moment <= source.start else moment - 1, reading)
            current = next((found for found in frames if found[0] >= moment), None) or _last(source, moment, reading)
        if current is None:
            return
        yield current


def spread(source: VideoSource, count: int) -> list[int]:
    """Divide the video into `count` equal shares, and return the middle moment of each."""
    return [source.start + (source.end - source.start) * (2 * number + 1) // (2 * count) for number in range(count)]


def _jump_pays(source: VideoSource, here: int, there: int) -> bool:
    """Whether a seek would land ahead of the current place."""
    if not source.keyframes:
        return (there - here) * source.time_base > _WORTH_A_SEEK
    return bisect_right(source.keyframes, there) > bisect_right(source.keyframes, here)


def _last(source: VideoSource, moment: int, reading: DecodePass) -> tuple[int, VideoFrame] | None:
    """The last frame before `moment`, for a file that ends before its stated end."""
    back = max(1, int(_LAST_STEP / source.time_base))
    while True:
        start = moment - back
        last: tuple[int, VideoFrame] | None = None
        for found in frames_after(source, start if start > source.start else None, reading):
            last = found
        if last is not None or start <= source.start:
            return last
        back *= 2
