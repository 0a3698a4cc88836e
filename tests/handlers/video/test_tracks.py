"""Sound and subtitles of a conversion: kept where they can be, and named where they cannot."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType

from tasktrail.handlers import Finished, Rejected
from tasktrail.testing import SimulatedCrash

SECONDS = 3
RATE = 48000


class Tone(NamedTuple):
    """A sound track of one sine; the second channel and those after are louder."""

    hertz: int = 440
    layout: str = "stereo"
    codec: str = "aac"
    language: str = "eng"


LINES = "1\n00:00:00,400 --> 00:00:01,400\nHello <i>you</i>\nthere\n\n2\n00:00:01,900 --> 00:00:02,700\nGrüße, 世界\n\n"


def waves(tone: Tone) -> list[AudioFrame]:
    """Its samples as frames of 1024."""
    time = np.arange(SECONDS * RATE) / RATE
    channels = av.AudioLayout(tone.layout).nb_channels
    sine = np.sin(2 * np.pi * tone.hertz * time).astype(np.float32)
    whole = np.stack([sine * 0.1 * (1 + channel) for channel in range(channels)])
    frames = []
    for start in range(0, whole.shape[1] - 1023, 1024):
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(whole[:, start : start + 1024]), "fltp", tone.layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        frames.append(frame)
    return frames


def timed(packets: Iterable[Any]) -> list[tuple[float, Any]]:
    return [(float(packet.dts * packet.time_base), packet) for packet in packets]


def picture_packets(output: OutputContainer) -> list[tuple[float, Any]]:
    stream = output.add_stream("libx264", rate=25, options={"g": "25", "bf": "2"})
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
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
    track.metadata["language"] = tone.language
    return [each for wave in (*waves(tone), None) for each in timed(track.encode(wave))]


def subtitle_packets(output: OutputContainer, codec: str, language: str, text: Path) -> list[tuple[float, Any]]:
    """Of the lines above; a bitmap codec gets bytes that nobody decodes here."""
    packets = []
    bitmap = codec == "hdmv_pgs_subtitle"
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


def make(path: Path, tones: Sequence[Tone] = (), subtitles: Sequence[tuple[str, str]] = ()) -> Path:
    """A film with these sound tracks and (codec, language) subtitles."""
    text = path.with_suffix(".srt")
    text.write_text(LINES, encoding="utf-8")
    with av.open(str(path), "w") as output:
        packets = picture_packets(output)
        for tone in tones:
            packets += sound_packets(output, tone)
        for codec, language in subtitles:
            packets += subtitle_packets(output, codec, language, text)
        for _, packet in sorted(packets, key=itemgetter(0)):
            output.mux(packet)
    return path


def packets_of(path: Path, kind: str, number: int = 0) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == kind][number]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def loudest(path: Path) -> tuple[int, list[float]]:
    """The frequency of the first channel and the loudness of each."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0) if frame.format.is_planar]
        rate = container.streams.audio[0].rate
    sound = np.concatenate(parts, axis=1)[:, rate // 2 : rate // 2 + rate]
    return int(np.abs(np.fft.rfft(sound[0])).argmax()), [float(np.sqrt((channel**2).mean())) for channel in sound]


def spoken(path: Path, number: int = 0) -> list[tuple[float, float, str]]:
    """Start, length and text of each subtitle."""
    found = []
    with av.open(str(path)) as container:
        stream: Any = container.streams.subtitles[number]
        for packet in container.demux(stream):
            for subtitle in stream.decode(packet) if packet.size else ():
                text = subtitle.dialogue.decode()
                for mark in ("{\\i1}", "{\\i0}", "{\\r}"):
                    text = text.replace(mark, "")
                base = packet.time_base
                found.append((float(packet.pts * base), float(packet.duration * base), text))
    return found


@pytest.mark.parametrize(
    ("suffix", "tone", "output", "codec"),
    [
        (".mp4", Tone(), "out.mkv", "aac"),
        (".ts", Tone(), "out.mp4", "aac"),
        (".mkv", Tone(codec="ac3"), "out.mov", "ac3"),
        (".mkv", Tone(codec="flac"), "out.mp4", "flac"),
        (".mkv", Tone(codec="libopus"), "out.webm", "opus"),
    ],
)
def test_sound_that_fits_is_copied_byte_for_byte_and_in_its_place(
    *,
    suffix: str,
    tone: Tone,
    output: str,
    codec: str,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = make(tmp_path / f"in{suffix}", [tone])
    context = prepare(source, output)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert (outcome.result["audio_codec"], outcome.result["audio_copied"]) == (codec, True)
    assert outcome.result["notes"] == []
    if suffix != ".ts":  # there each packet has a header of its own
        assert packets_of(context.output_file, "audio") == packets_of(source, "audio")
    original, result = look(source), look(context.output_file)
    assert result.samples == pytest.approx(original.samples, abs=1024)
    # Matroska has no times before zero: FFmpeg 8 lets the picture wait while AAC starts up, FFmpeg 9 skips that sound.
    before, after = (float(seen.times[0] - seen.sound_begins) for seen in (original, result))
    waits = (0.0, 1024 / RATE) if output.endswith(".mkv") else (0.0,)
    assert min(abs(after - before - wait) for wait in waits) < 0.003


@pytest.mark.slow
def test_sound_is_encoded_when_something_is_asked_of_it(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mp4", [Tone()])
    for options in ({"audio_bitrate": 64_000}, {"audio_channels": "mono"}, {"audio_codec": "mp3"}):
        context = prepare(source, **options)
        outcome = convert(context)
        assert isinstance(outcome, Finished)
        assert outcome.result["audio_copied"] is False
        assert loudest(context.output_file)[0] == 440
        context.output_file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "options", "channels", "notes"),
    [
        ("out.mp4", {"audio_codec": "aac"}, 6, []),
        ("out.webm", {}, 6, []),
        ("out.mp4", {"audio_codec": "mp3"}, 2, ["6 sound channels became 2"]),
        ("out.mp4", {"audio_channels": "mono"}, 1, ["6 sound channels became 1"]),
    ],
)
def test_all_channels_are_kept_where_the_codec_can_hold_them(
    *,
    output: str,
    options: dict[str, Any],
    channels: int,
    notes: list[str],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    context = prepare(make(tmp_path / "in.mp4", [Tone(layout="5.1")]), output, **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == notes
    with av.open(str(context.output_file)) as container:
        assert container.streams.audio[0].channels == channels


def test_one_of_several_sound_tracks_is_chosen_and_the_others_are_named(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(), Tone(hertz=1000, language="deu")])
    context = prepare(source, audio_track=2)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["1 of 2 sound tracks kept"]
    assert loudest(context.output_file)[0] == 1000
    with av.open(str(context.output_file)) as container:
        assert container.streams.audio[0].language == "deu"
    refused = convert(prepare(source, "other.mp4", audio_track=3))
    assert isinstance(refused, Rejected)
    assert "2 sound tracks" in refused.reason


def test_a_copy_that_the_container_cannot_hold_is_refused(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    refused = convert(prepare(make(tmp_path / "in.mp4", [Tone()]), "out.webm", audio_codec="copy"))
    assert isinstance(refused, Rejected)
    assert "aac cannot be copied into webm" in refused.reason


@pytest.mark.parametrize(
    ("suffix", "written", "output", "read", "notes"),
    [
        (".mkv", "subrip", "out.mp4", "mov_text", ["subtitles rewritten as mov_text"]),
        (".mkv", "subrip", "out.webm", "webvtt", ["subtitles rewritten as webvtt"]),
        (".mkv", "subrip", "out.mkv", "subrip", []),
        (".mkv", "ass", "out.mkv", "ass", []),
        (".mkv", "ass", "out.mov", "mov_text", ["subtitles rewritten as mov_text"]),
        (".mp4", "mov_text", "out.mkv", "subrip", ["subtitles rewritten as subrip"]),
    ],
)
def test_text_subtitles_are_kept(
    *,
    suffix: str,
    written: str,
    output: str,
    read: str,
    notes: list[str],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = make(tmp_path / f"in{suffix}", subtitles=[(written, "eng"), (written, "fra")])
    context = prepare(source, output, preset="ultrafast")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert (outcome.result["notes"], outcome.result["subtitles"]) == (notes, 2)
    with av.open(str(context.output_file)) as container:
        tracks = container.streams.subtitles
        assert [track.language for track in tracks] == ["eng", "fra"]
        assert {track.codec_context.codec.canonical_name for track in tracks} == {read}
    for number in (0, 1):
        (start, length, first), (later, _, second) = spoken(context.output_file, number)
        assert (start, length, later) == pytest.approx((0.4, 1.0, 1.9), abs=0.01)
        assert (first.replace("\\N", "\n"), second) == ("Hello you\nthere", "Grüße, 世界")


def test_subtitles_that_cannot_be_kept_are_named(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", subtitles=[("hdmv_pgs_subtitle", "eng"), ("subrip", "eng")])
    outcome = convert(prepare(source))
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == [
        "1 subtitle tracks dropped: hdmv_pgs_subtitle does not go into mp4",
        "subtitles rewritten as mov_text",
    ]
    context = prepare(source, "out.mkv")
    assert convert(context).result["notes"] == []
    assert packets_of(context.output_file, "subtitle") == packets_of(source, "subtitle")
    none = convert(prepare(source, "none.mkv", subtitles="none"))
    assert none.result["notes"] == ["2 subtitle tracks dropped: as asked"]


@pytest.mark.slow
def test_resuming_with_copied_sound_and_subtitles_gives_the_same_file(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(layout="5.1")], [("subrip", "eng")])
    whole = prepare(source)
    convert(whole)
    expected = hashlib.sha256(whole.output_file.read_bytes()).hexdigest()
    for number in range(1, len(whole.checkpoints) + 1):
        for path in [whole.output_file, *whole.work_dir.iterdir()]:
            path.unlink()
        context = prepare(source, crash_after=number)
        with pytest.raises(SimulatedCrash):
            convert(context)
        assert isinstance(convert(context.resumed()), Finished)
        assert hashlib.sha256(whole.output_file.read_bytes()).hexdigest() == expected
