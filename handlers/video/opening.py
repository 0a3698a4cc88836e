"""Opens files as videos: the formats that are read at all, and the faults that are the file's own."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.container.streams import StreamContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ...events.counted import plural
from ..contract import Unusable
from ..inputs import refuse_empty
from ..media.damage import are_missing, lacking_bytes
from ..media.tag_text import plain_text
from .mxf import has_index


class UnusableInputError(Unusable):
    """The file is not a video, or holds nothing that can be shown."""


FILM_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpegts,mpeg,mxf,dv,ogg,flv,gif"
"""The formats that are opened. Playlists are excluded: they could name other files on this machine."""
_READ = "mp4, mov, 3gp, mkv, webm, avi, wmv, ts, mpg, mxf, dv, ogg, flv, gif"
"""The same formats, under the names that people use."""

MAX_SIDE = 16384
MAX_FRAME_PIXELS = 8192 * 8192
"""Larger pictures are refused, by the header and by the decoder: a frame takes at least 1.5 bytes per pixel."""
_PIXELS_AT_ONCE = 16 * 3840 * 2160
"""Pixels of all frames that are decoded in parallel. FFmpeg itself only considers the number of processors."""
ANY_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
"""PyAV 18 refuses titles that are not UTF-8 unless this is given; PyAV 19 does not."""
_NO_TIME = ("creation_time", "1970-01-01T00:00:00.000000Z")
"""FFmpeg 9 reports this for a wmv or wma that FFmpeg wrote without a time."""
_DISC_MARK, _DISCS = 32_769, (b"CD001", b"BEA01")
"""The place of the mark of ISO 9660 and UDF, and these marks."""
_CONFINED = {"protocol_whitelist": "file", "format_whitelist": FILM_FORMATS}
"""Also for files that we wrote: a segment may be from another node."""

_Track = TypeVar("_Track", VideoStream, AudioStream)
_Stream = TypeVar("_Stream", bound=Stream)
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def open_input(path: Path) -> InputContainer:
    """Open a file as a video, without access to other files. Raises as `open_confined` does."""
    others = "`ffmpeg -i IN OUT.mkv` makes a mkv of most others"
    refusal = f"{path.name} is not a video in a format that is read here ({_READ}; {others})"
    return open_confined(path, FILM_FORMATS, refusal, UnusableInputError)


def open_confined(path: Path, formats: str, refusal: str, unusable: type[Unusable] = Unusable) -> InputContainer:
    """Open a file in one of the formats; it cannot refer to other files or addresses.

    Args:
        path: the file.
        formats: FFmpeg's names of the allowed formats.
        refusal: the message for a file in none of them.
        unusable: the error to raise then.

    Raises:
        Unusable: it is empty, the image of a disc, an MXF without an index, or in none of the formats.
        OSError: it cannot be read.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    with path.open("rb") as file:  # the system's error must not count as FFmpeg's, about the content
        file.seek(_DISC_MARK)
        is_disc = file.read(5) in _DISCS
    refuse_empty(path)
    if is_disc:  # FFmpeg would find the films and menus inside, and show them as one film
        raise unusable(
            f"{path.name} is the image of a disc: unpack it, and take the film's file (of a DVD its VOB files, joined)"
        )
    try:
        container: InputContainer = av.open(str(path.absolute()), "r", options=options, **ANY_METADATA)
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise
        raise unusable(_in_words(path, error, refusal)) from error
    if container.format.name == "mxf" and not has_index(path):  # FFmpeg would guess times
        container.close()
        raise unusable(
            f"{path.name} lacks its end or a part of its index, as if it was cut, never ended or damaged: save what is "
            "there with `ffmpeg -i IN.mxf -map '0:v?' -map '0:a?' -c copy OUT.mov`, and take that"
        )
    for part in (container, *container.streams):
        stored = part.metadata.items()
        plain = ((plain_text(name), plain_text(value)) for name, value in stored if (name, value) != _NO_TIME)
        readable = {name: _one_time(name, value) for name, value in plain}
        part.metadata.clear()
        part.metadata.update(readable)
    return container


def _one_time(name: str, value: str) -> str:
    """Keep one of two creation times. FFmpeg 9 joins both in one tag, which it cannot read again."""
    return value.partition(";")[0] if name == "creation_time" else value


def open_result(path: Path) -> InputContainer:
    """Open a file of our own for its packets, tags or length.

    Without `skip_frame`, FFmpeg would decode a picture for facts that are not needed, which takes longer than all else.
    """
    return av.open(str(path), options={**_CONFINED, "skip_frame": "all"})


def open_as_template(path: Path) -> InputContainer:
    """Open a film that was read before, or a part of one, to write sound tracks like its own.

    FFmpeg 9 adds the sound that an edit list hides to the codec's delay, and hides as much of what is written into
    Matroska.
    """
    options = {**_CONFINED, "ignore_editlist": "1"}
    opened: InputContainer = av.open(str(path.absolute()), "r", options=options, **ANY_METADATA)
    return opened


def _in_words(path: Path, error: av.error.FFmpegError, refusal: str) -> str:
    """Say why the file cannot be opened. FFmpeg returns EINVAL for a format that is not in the list."""
    if isinstance(error, av.error.ArgumentError):
        return refusal
    if missing := lacking_bytes(path):
        return f"{path.name} was cut: {are_missing(missing)} at its end: copy it again from where it is whole"
    return f"{refusal}, or FFmpeg cannot make sense of it; if it should be one, write it again with what made it"


def is_input_fault(error: av.error.FFmpegError) -> bool:
    """Whether the file's content is at fault, not the machine. Some readers report EPERM for a damaged file."""
    return not isinstance(error, OSError | MemoryError) or error.errno == errno.EPERM


def write_packet(output: OutputContainer, packet: "av.Packet[Any]") -> bool:
    """Write one packet. False if it is too damaged to be understood."""
    try:
        output.mux(packet)
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise
        return False
    return True


def moving_pictures(container: InputContainer) -> list[VideoStream]:
    """The pictures of a file without its covers. The first is the one that is shown: a default one, as players do."""
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return sorted(moving, key=lambda stream: not stream.disposition & Disposition.default)


def of_shown_program(container: InputContainer, tracks: Sequence[_Stream]) -> list[_Stream]:
    """The tracks that may belong to the shown picture: a transport stream may carry several programs.

    Programs may share tracks, and a track may be in none. A track is left out only if FFmpeg finds it in another
    program, and not in the shown one.
    """
    moving, streams = moving_pictures(container), container.streams
    if not moving:
        return list(tracks)
    shown = moving[0]
    return [
        track
        for track in tracks
        if _goes_with(streams, shown, track)
        or _goes_with(streams, track, shown)
        or not _goes_with(streams, track, track)  # FFmpeg finds no sound before it knows its rate
    ]


def _goes_with(streams: StreamContainer, track: Stream, other: Stream) -> bool:
    """Whether `track` is in the first program that `other` is in, or `other` is in none.

    FFmpeg tells only the best track of a kind. It prefers the default one to those for the impaired, so the tracks are
    marked as such while it is asked.
    """
    kind: Any = track.type
    marks = {stream: stream.disposition for stream in streams if stream.type == kind}
    for stream in marks:
        stream.disposition = Disposition.default if stream is track else Disposition.hearing_impaired
    try:
        return streams.best(kind, other) is track
    finally:
        for stream, mark in marks.items():
            stream.disposition = mark


def picture_stream(container: InputContainer, name: str, threads: int = 0) -> VideoStream:
    """The moving picture of a file, to be decoded by `threads` threads; 0: as many as there are CPUs.

    Raises:
        UnusableInputError: there is none, its codec is unknown, or it is too large.
    """
    moving = moving_pictures(container)
    if not moving:
        raise UnusableInputError(f"{name} has no moving picture")
    stream = moving[0]
    context = stream.codec_context
    if context is None or not context.width or not context.height:
        raise UnusableInputError(f"{name}: the picture's codec is not known here")
    if context.width * context.height > MAX_FRAME_PIXELS or max(context.width, context.height) > MAX_SIDE:
        raise UnusableInputError(
            f"{name} is {context.width}x{context.height}: too large, "
            f"at most {MAX_FRAME_PIXELS} pixels and {MAX_SIDE} to a side"
        )
    context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # a stream may grow after its header
    stream.thread_type = "AUTO"
    at_once = max(1, _PIXELS_AT_ONCE // (context.width * context.height))
    if at_once < (threads or os.cpu_count() or 1):  # each thread decodes its own frame
        context.thread_count = at_once
    elif threads:
        context.thread_count = threads
    return stream


def packets_of(container: InputContainer, stream: _Track, *, from_key: bool = False) -> Iterator["av.Packet[_Track]"]:
    """Yield packets to decode, without empty ones; with `from_key`, from the first keyframe on.

    A read error caused by the file ends them like the end of the file.
    """
    for packet in tolerant(container.demux(stream)):
        from_key = from_key and not packet.is_keyframe
        if packet.size and not from_key:
            yield packet


def lasting(packets: Iterator["av.Packet[AudioStream]"]) -> Iterator["av.Packet[AudioStream]"]:
    """Yield packets to copy; a packet without a duration gets that of the one before.

    The last packet of a mov often has none. FFmpeg 9 does not show it if it ends with its track.
    """
    usual = 0
    for packet in packets:
        usual = packet.duration or usual
        packet.duration = usual
        yield packet


def tolerant(packets: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the packets up to the end, or to a read error caused by the file."""
    try:
        yield from packets
    except IndexError:  # PyAV 18, at the end of a file that gained tracks midway
        return
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise


def decoded(decode: Callable[[Any], _Made], packet: "av.Packet[Any] | None") -> _Made:
    """The frames that the decoder makes from a packet.

    A decoder that cannot be opened raises FFmpegError each time. In PyAV 19 it loses its codec, and the second time
    raises ValueError for an unknown codec, which becomes FFmpegError here.

    Raises:
        FFmpegError: the decoder refuses the packet.
    """
    try:
        return decode(packet)
    except av.error.FFmpegError:
        raise
    except ValueError as error:
        raise av.error.InvalidDataError(av.error.tag_to_code(b"INDA"), "The decoder cannot be begun") from error


def recovering(stream: VideoStream | AudioStream) -> "Callable[[av.Packet[Any] | None], list[Any]]":
    """`decoded` for a stream. After a refused packet of AV1, the decoder is restarted at the next keyframe.

    Otherwise dav1d would refuse that keyframe, too, and most of what follows, to the end of the film.
    """
    is_upset = False

    def decode(packet: "av.Packet[Any] | None") -> list[Any]:
        nonlocal is_upset
        if is_upset and packet is not None and packet.is_keyframe:
            is_upset = False
            if stream.codec_context.is_open and stream.codec_context.codec.canonical_name == "av1":
                stream.codec_context.flush_buffers()
        try:
            return decoded(stream.decode, packet)
        except av.error.FFmpegError:
            is_upset = True
            raise

    return decode


def left_out_note(packets: int, called: str) -> str:
    """A note on how many packets of a track the decoder refused."""
    return (
        f"{packets:,} {plural(packets, 'packet')} of {called} cannot be decoded and "
        f"{plural(packets, 'is', 'are')} left out"
    )


def seek(container: InputContainer, stream: VideoStream | AudioStream, moment: int) -> bool:
    """Go to the last keyframe at or before `moment`, by the container's index. False if it cannot seek."""
    try:
        container.seek(moment, stream=stream)
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise
        return False
    return True


def as_fraction(ratio: Any) -> Fraction:
    """A ratio of PyAV as a fraction. PyAV 19 has its own type for it; None becomes 0."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(0)
