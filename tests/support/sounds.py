"""Synthetic sound and a way to look at the results; both through PyAV, so that no ffmpeg has to be installed."""

from collections.abc import Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from av.packet import Packet
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

from tasktrail.handlers.media.loudness import Loudness, measured

Wave: TypeAlias = NDArray[np.float32]
"""Samples from -1 to 1; its shape is (channels, samples)."""
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


class Heard(NamedTuple):
    """What a player would meet."""

    wave: Wave
    rate: int
    codec: str
    format: str
    tags: dict[str, str]
    covers: list[bytes]
    chapters: list[tuple[float, str]]
    loudness: Loudness


def tone(
    seconds: float = 2.0, *, channels: int = 2, rate: int = 44100, hertz: float = 440.0, peak: float = 0.5
) -> Wave:
    """A sine; each channel is a little quieter than the one before."""
    moments = np.arange(round(seconds * rate)) / rate
    sine = peak * np.sin(2 * np.pi * hertz * moments)
    return np.stack([sine * 0.9**channel for channel in range(channels)]).astype(np.float32)


def lively(seconds: float = 4.0, rate: int = 44100) -> Wave:
    """Quiet noise with loud bursts: peaks that stand far above the loudness."""
    chance = np.random.default_rng(7)
    moments = np.arange(round(seconds * rate)) / rate
    return ((0.03 + 0.9 * (moments % 1.0 < 0.1)) * chance.uniform(-1, 1, (2, moments.size))).astype(np.float32)


def picture(colour: str = "red") -> bytes:
    """A cover, as jpeg."""
    file = BytesIO()
    Image.new("RGB", (32, 24), colour).save(file, "JPEG")
    return file.getvalue()


def write(
    path: Path,
    wave: Wave,
    *,
    rate: int = 44100,
    codec: str = "pcm_s16le",
    form: str = "",
    tags: Mapping[str, str] = MappingProxyType({}),
    chapters: tuple[tuple[float, float, str], ...] = (),
    cover: bytes = b"",
) -> Path:
    """Write a source."""
    kind = "mp4" if path.suffix == ".m4a" else None  # PyAV says that an m4a has no pictures
    with av.open(str(path), "w", format=kind, options={"fflags": "+bitexact"}) as output:
        output.metadata.update(tags)
        if chapters:
            listed: Any = [
                {
                    "id": number,
                    "start": round(1000 * start),
                    "end": round(1000 * end),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
                for number, (start, end, title) in enumerate(chapters, 1)
            ]
            output.set_chapters(listed)
        track: Any = output.add_stream(codec, rate=rate)
        track.codec_context.layout = LAYOUTS[len(wave)]
        if form:
            track.codec_context.format = form
        front: Any = None
        if cover:
            front = output.add_stream("mjpeg")
            front.width, front.height, front.pix_fmt = 32, 24, "yuvj420p"
            front.disposition = Disposition.attached_pic
        output.start_encoding()
        if cover:
            packet: Any = Packet(cover)
            packet.stream, packet.pts, packet.dts = front, 0, 0
            output.mux(packet)
        for begin in range(0, wave.shape[1], 1024):
            part = np.ascontiguousarray(wave[:, begin : begin + 1024].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, "flt", LAYOUTS[len(wave)])
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return path


def hear(path: Path) -> Heard:
    """Decode a file wholly."""
    parts, packed, covers = [], [], []
    with av.open(str(path)) as opened:
        stream = opened.streams.audio[0]
        tags = {name.lower(): value for part in (stream, opened) for name, value in part.metadata.items()}
        chapters = [
            (float(chapter["start"] * (chapter["time_base"] or 1)), chapter["metadata"].get("title", ""))
            for chapter in opened.chapters()
        ]
        resampler = av.AudioResampler("flt")
        for packet in opened.demux():
            if packet.stream.type == "video" and packet.size:
                covers.append(bytes(packet))
            elif packet.stream == stream:
                for frame in packet.decode():
                    packed += resampler.resample(frame)  # type: ignore[arg-type]  # only sound is decoded
        parts = [part.to_ndarray().reshape(-1, part.layout.nb_channels).T for part in packed]
        rate, codec, form = stream.rate, stream.codec_context.codec.canonical_name, opened.format.name
    return Heard(np.concatenate(parts, axis=1), rate or 0, codec, form, tags, covers, chapters, measured(packed))


def without_alac(path: Path) -> bytes:
    """A file whose sound is in Apple's lossless codec, with nonsense where it says what a decoder has to know."""
    with av.open(str(path)) as opened:
        told = opened.streams.audio[0].codec_context.extradata
    assert told
    content, known = path.read_bytes(), told[-24:]  # mkv leaves out the head of the box
    assert content.count(known) == 1
    return content.replace(known, b"\xff" * len(known))


def without_last_length(source: Path, path: Path) -> Path:
    """A mov with the tracks of a file, which does not say how long the last packet of sound is heard."""
    with av.open(str(source)) as opened, av.open(str(path), "w", options={"use_editlist": "0"}) as output:
        tracks = {stream.index: output.add_stream_from_template(stream) for stream in opened.streams}
        packets = [packet for packet in opened.demux() if packet.dts is not None]
        [packet for packet in packets if packet.stream.type == "audio"][-1].duration = 0
        for packet in packets:
            packet.stream = tracks[packet.stream_index]
            output.mux(packet)
    return path
