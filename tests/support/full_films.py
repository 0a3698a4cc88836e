"""Films with sound tracks, subtitles, chapters, tags, attachments and a cover, made with PyAV."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import PictureType, VideoFrame

from tasktrail.handlers.media.samples import planes_of

SECONDS = 3
RATE = 48000


class Tone(NamedTuple):
    """A sound track of one sine; the second channel and those after are louder."""

    hertz: int = 440
    layout: str = "stereo"
    codec: str = "aac"
    language: str = "eng"
    title: str = ""
    marks: Disposition = Disposition(0)
    tags: Mapping[str, str] = MappingProxyType({})


LINES = "1\n00:00:00,400 --> 00:00:01,400\nHello <i>you</i>\nthere\n\n2\n00:00:01,900 --> 00:00:02,700\nGrüße, 世界\n\n"


def waves(tone: Tone) -> list[AudioFrame]:
    """Return its samples as frames of 1024."""
    time = np.arange(SECONDS * RATE) / RATE
    channels = av.AudioLayout(tone.layout).nb_channels
    sine = np.sin(2 * np.pi * tone.hertz * time).astype(np.float32)
    whole = np.stack([sine * 0.1 * (1 + channel) for channel in range(channels)])
    frames = []
    for start in range(0, whole.shape[1] - 1023, 1024):
        frame = AudioFrame("fltp", tone.layout, 1024)
        for plane, lane in zip(planes_of(frame), whole[:, start : start + 1024], strict=True):
            plane.update(lane.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        frames.append(frame)
    return frames


def timed(packets: Iterable[Any]) -> list[tuple[float, Any]]:
    return [(float(packet.dts * packet.time_base), packet) for packet in packets]


def picture_packets(output: OutputContainer, matrix: Sequence[int] = ()) -> list[tuple[float, Any]]:
    stream = output.add_stream("libx264", rate=25, options={"g": "25", "bf": "2"})
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    if matrix:
        stream.set_display_matrix(list(matrix))
    packets = []
    with av.open(f"testsrc2=size=160x120:rate=25:duration={SECONDS}", format="lavfi") as test:
        for frame in test.decode(video=0):
            shown = frame.reformat(format="yuv420p")
            shown.pict_type = PictureType.NONE
            packets += timed(stream.encode(shown))
    return packets + timed(stream.encode(None))


def sound_packets(output: OutputContainer, tone: Tone) -> list[tuple[float, Any]]:
    track: Any = output.add_stream(tone.codec, rate=RATE)
    track.layout = tone.layout
    track.metadata.update({"language": tone.language, **tone.tags, **({"title": tone.title} if tone.title else {})})
    track.disposition = tone.marks
    return [each for wave in (*waves(tone), None) for each in timed(track.encode(wave))]


def subtitle_packets(output: OutputContainer, codec: str, language: str, text: Path) -> list[tuple[float, Any]]:
    """Return packets of the lines above; a bitmap codec gets bytes that these tests never decode."""
    packets = []
    bitmap = codec in ("hdmv_pgs_subtitle", "dvb_subtitle")
    with av.open(str(text)) as lines:
        source: Any = lines.streams.subtitles[0]
        source.codec_context.open(strict=False)
        track: Any = output.add_mux_stream(codec) if bitmap else output.add_stream(codec)
        if not bitmap:
            track.codec_context.subtitle_header = source.codec_context.subtitle_header
        track.time_base = Fraction(1, 1000)
        track.metadata["language"] = language
        for packet in [packet for packet in lines.demux(source) if packet.size]:
            content = source.codec_context.decode2(packet)
            raw = b"\x16\x00\x0b" + bytes(11) if bitmap else bytes(track.codec_context.encode_subtitle(content))
            written: Any = Packet(raw)
            written.stream, written.time_base = track, Fraction(1, 1000)
            written.pts = written.dts = packet.pts
            written.duration = packet.duration
            packets.append(written)
    return timed(packets)


def cover_of(codec: str = "mjpeg") -> bytes:
    """Return a small picture as a file, jpeg or png."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width = context.height = 32
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
    context.time_base = Fraction(1, 25)
    frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), "rgb24")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


class Beside(NamedTuple):
    """What a film has beside its tracks."""

    tags: Mapping[str, str] = MappingProxyType({})
    chapters: Sequence[tuple[float, float, str]] = ()
    attachments: Mapping[str, tuple[str, bytes]] = MappingProxyType({})
    """Name → kind and content; only in an mkv."""
    matrix: Sequence[int] = ()
    """How the picture has to be turned for display; only in an mp4."""


def make(
    path: Path,
    tones: Sequence[Tone] = (),
    subtitles: Sequence[tuple[str, str]] = (),
    beside: Beside | None = None,
    lines: str = LINES,
) -> Path:
    """Make a film with these sound tracks and (codec, language) subtitles."""
    text = path.with_suffix(".srt")
    text.write_text(lines, encoding="utf-8")
    with av.open(str(path), "w") as output:
        _add_beside(output, beside or Beside())
        packets = picture_packets(output, beside.matrix if beside else ())
        for tone in tones:
            packets += sound_packets(output, tone)
        for codec, language in subtitles:
            packets += subtitle_packets(output, codec, language, text)
        for name, (kind, data) in (beside or Beside()).attachments.items():
            output.add_attachment(name, kind, data)
        for _, packet in sorted(packets, key=itemgetter(0)):
            output.mux(packet)
    return path


def _add_beside(output: OutputContainer, beside: Beside) -> None:
    output.metadata.update(beside.tags)
    unit = Fraction(1, 1000)
    chapters: Any = [
        {"id": number, "start": round(1000 * start), "end": round(1000 * end), "time_base": unit}
        | {"metadata": {"title": title}}
        for number, (start, end, title) in enumerate(beside.chapters, start=1)
    ]
    if chapters:
        output.set_chapters(chapters)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def dolby(profile: int, base: int) -> bytes:
    """Return the mark of Dolby Vision, with the kind of picture that it is to all others; 0: it is none."""
    return _box(b"dvvC", struct.pack(">BBHB19x", 1, 0, profile << 9 | 6 << 3 | 5, base << 4))


_PROJECTION = _box(b"proj", _box(b"prhd", bytes(16)) + _box(b"equi", bytes(20)))
SPHERICAL = _box(b"sv3d", _box(b"svhd", bytes(4) + b"camera\0") + _PROJECTION)
SIDE_BY_SIDE = _box(b"st3d", bytes(4) + b"\2")


def marked(source: Path, path: Path, marks: bytes) -> Path:
    """The film, a mp4 or mov whose index lies at the end, with marks in the description of its picture."""
    content = bytearray(source.read_bytes())
    entry = content.index(b"stsd") + 12
    place = entry + int.from_bytes(content[entry : entry + 4], "big")
    starts = [content.rindex(name, 0, entry) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")]
    for at in (*starts, entry):
        content[at : at + 4] = (int.from_bytes(content[at : at + 4], "big") + len(marks)).to_bytes(4, "big")
    content[place:place] = marks
    path.write_bytes(content)
    return path
