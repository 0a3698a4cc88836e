"""Damaged, cut, empty, odd or silent inputs: converted, or refused by name."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from crafting import Bait
from noises import NOISES
from sounds import hear, tone, without_alac, write

from tasktrail.handlers import Finished, Rejected

OUTPUTS = (".mp3", ".m4a", ".opus", ".ogg", ".flac", ".wav", ".png")


def wav(
    path: Path, *, channels: int = 1, rate: int = 44100, samples: bytes = b"\0\x40", size: int | None = None
) -> Path:
    """Make a wav by hand; `size` is the number of sample bytes in its header."""
    size = len(samples) if size is None else size
    head = struct.pack("<HHIIHH", 1, channels, rate, (2 * rate * channels) & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    path.write_bytes(
        b"RIFF"
        + struct.pack("<I", (36 + size) & 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + head
        + b"data"
        + struct.pack("<I", size)
        + samples
    )
    return path


def refused(outcome: Any) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def test_sound_whose_decoder_cannot_be_begun_is_refused(tmp_path: Path, convert: Callable[..., Any]) -> None:
    path = tmp_path / "strange.mkv"
    path.write_bytes(without_alac(write(tmp_path / "whole.mkv", tone(1.0), codec="alac", form="s16p")))
    assert refused(convert(path, "out.mp3")[1]).startswith("strange.mkv: its sound ")


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_what_has_no_sound_is_refused_by_name(suffix: str, tmp_path: Path, convert: Callable[..., Any]) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no sound at all\n" * 1000)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:4,\nx.ts\n#EXT-X-ENDLIST\n")
    wav(tmp_path / "none.wav", samples=b"")
    with av.open(str(tmp_path / "silent.mp4"), "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    for name, words in (
        ("empty.mp3", "is empty"),
        ("text.mp3", "is no file with sound"),
        ("list.m3u8", "is no file with sound"),
        ("silent.mp4", "has no sound"),
        ("none.wav", ""),
    ):
        reason = refused(convert(tmp_path / name, f"out{suffix}")[1])
        assert reason.startswith(name)
        assert words in reason
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_one_sample_is_converted_or_refused_by_name(suffix: str, tmp_path: Path, convert: Callable[..., Any]) -> None:
    source = wav(tmp_path / "one.wav")
    _, outcome = convert(source, f"out{suffix}")
    if not isinstance(outcome, Finished):
        assert refused(outcome).startswith("one.wav: there is less than one sample of sound")
    elif suffix in (".flac", ".wav"):
        assert hear(tmp_path / f"out{suffix}").wave.tolist() == [[0.5]]


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
@pytest.mark.parametrize(("suffix", "codec"), [(".wav", "pcm_s16le"), (".flac", "flac"), (".mp3", "libmp3lame")])
@pytest.mark.parametrize("way", ["encoded", "copied"])
def test_of_a_cut_file_what_is_there_is_taken_and_told_or_it_is_refused(
    *, way: str, kept: float, suffix: str, codec: str, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    whole = write(tmp_path / f"whole{suffix}", tone(20.0), codec=codec).read_bytes()
    source = tmp_path / f"cut{suffix}"
    source.write_bytes(whole[: int(len(whole) * kept)])
    output, outcome = convert(source, "out.flac", codec="flac") if way == "encoded" else convert(source, f"out{suffix}")
    if isinstance(outcome, Finished):
        assert outcome.result["copied"] == (way == "copied")
        assert outcome.result["duration"] == pytest.approx(kept * 20, rel=0.1)
        if way == "encoded":  # a copy has half a packet at its end, as the source has
            assert hear(output).wave.shape[1] == pytest.approx(kept * 20 * 44100, rel=0.1)
        assert any(note.startswith("the source was cut") for note in outcome.result["notes"])
    else:
        assert kept < 0.75
        assert refused(outcome).startswith(f"cut{suffix} was cut")
        assert "save what is there with `ffmpeg -i IN -vn -c copy OUT.mka`" in refused(outcome)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (44100, 2), (22050, 1), (22050, 2), (8000, 1)])
def test_an_mp3_that_counts_its_frames_says_that_it_was_cut(
    rate: int, channels: int, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    options: dict[str, Any] = {"rate": rate, "codec": "libmp3lame", "tags": {"title": "x" * 300}}
    whole = write(tmp_path / "whole.mp3", tone(4.0, rate=rate, channels=channels), **options)
    _, outcome = convert(whole, "whole.flac")
    assert not any("cut" in note for note in outcome.result.get("notes", ()))
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 85 // 100])
    _, outcome = convert(cut, "cut.flac")
    assert any(note.startswith("the source was cut: it ends after 3.") for note in outcome.result["notes"])


@pytest.mark.parametrize("what", ["plain", "joined"])
def test_an_mp3_that_does_not_count_all_its_frames_is_not_said_to_be_cut(
    what: str, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    """Its length is guessed from its first frames, and is far off where the bit rate varies."""
    wave = np.concatenate([tone(2.0) * 0, tone(6.0)], axis=1)
    made, _ = convert(write(tmp_path / "whole.wav", wave), "whole.mp3", quality=0)
    content, source = made.read_bytes(), tmp_path / "source.mp3"
    source.write_bytes(content.replace(b"Xing", bytes(4), 1) if what == "plain" else 2 * content)
    _, outcome = convert(source, "out.flac")
    assert outcome.result["source_duration"] > outcome.result["duration"] + 1
    assert not any("cut" in note for note in outcome.result.get("notes", ()))


def test_bad_packets_cost_their_own_piece_and_are_counted(tmp_path: Path, convert: Callable[..., Any]) -> None:
    content = bytearray(write(tmp_path / "in.mp4", tone(10.0), codec="aac").read_bytes())
    chance = random.Random(1)
    place, end = content.index(b"mdat") + 200, content.index(b"moov")
    for _ in range(40):
        content[chance.randrange(place, end)] ^= 0xFF
    (tmp_path / "bad.mp4").write_bytes(content)
    output, outcome = convert(tmp_path / "bad.mp4", "out.wav")
    assert isinstance(outcome, Finished)
    assert hear(output).wave.shape[1] > 8 * 44100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_broken_bytes_are_done_or_refused_by_name(seed: int, tmp_path: Path, convert: Callable[..., Any]) -> None:
    chance = random.Random(seed)
    suffix, codec = ((".mp3", "libmp3lame"), (".m4a", "aac"), (".flac", "flac"), (".opus", "libopus"))[seed % 4]
    content = bytearray(write(tmp_path / f"in{suffix}", tone(rate=48000), rate=48000, codec=codec).read_bytes())
    for _ in range(60):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if seed % 3 == 0:
        del content[len(content) * 3 // 4 :]
    (tmp_path / f"broken{suffix}").write_bytes(content)
    for output, options in (("a.mp3", {"loudness": -16}), ("b.m4a", {}), ("c.png", {}), ("d.opus", {"codec": "auto"})):
        _, outcome = convert(tmp_path / f"broken{suffix}", output, **options)
        assert isinstance(outcome, Finished) or f"broken{suffix}" in refused(outcome)


@pytest.mark.parametrize(
    ("channels", "rate"), [(0, 44100), (65535, 44100), (65, 44100), (2, 0), (1, 1), (2, 4_000_000_000), (1, 768_001)]
)
def test_headers_beyond_all_measure_are_refused(
    channels: int, rate: int, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    source = wav(tmp_path / "odd.wav", channels=channels, rate=rate, samples=bytes(1 << 18))
    for suffix in (".mp3", ".wav", ".png"):
        assert refused(convert(source, f"out{suffix}")[1]).startswith("odd.wav")


@pytest.mark.parametrize("channels", [3, 4, 7, 9, 12, 64])
def test_odd_numbers_of_channels_are_mixed_or_kept(channels: int, tmp_path: Path, convert: Callable[..., Any]) -> None:
    """Nothing says where that many channels are; a number that cannot be mixed is refused by name."""
    source = wav(tmp_path / "many.wav", channels=channels, samples=bytes(range(256)) * channels * 40)
    for suffix in OUTPUTS:
        _, outcome = convert(source, f"out{suffix}")
        assert isinstance(outcome, Finished) or refused(outcome).startswith("many.wav")
    _, outcome = convert(source, "loud.wav", loudness=-20)
    assert isinstance(outcome, Finished) or refused(outcome).startswith("many.wav")


def test_a_header_that_promises_an_endless_file_is_no_cut(tmp_path: Path, convert: Callable[..., Any]) -> None:
    """Programs that write into a pipe cannot go back and write the length."""
    source = wav(tmp_path / "piped.wav", samples=bytes(88200), size=0xFFFFFFFF)
    _, outcome = convert(source, "out.flac")
    assert isinstance(outcome, Finished)
    assert (outcome.result["duration"], outcome.result["notes"]) == (1.0, [])


def test_a_cover_that_no_player_could_show_is_left_out_and_told(tmp_path: Path, convert: Callable[..., Any]) -> None:
    """60,000 pixels a side: the sound is converted all the same."""
    (cover,) = (crafted for crafted in NOISES if crafted.name == "cover.mp3")
    cover.make(tmp_path / "in.mp3", Bait(tmp_path, ""))
    for suffix in (".mp3", ".m4a", ".ogg", ".flac"):
        output, outcome = convert(tmp_path / "in.mp3", f"out{suffix}")
        assert isinstance(outcome, Finished)
        assert outcome.result["notes"] == [
            "1 picture is left out: only jpeg and png of up to 16 MB and 100 megapixels are kept"
        ]
        assert hear(output).covers == []


@pytest.mark.parametrize("codec", ["auto", "copy"])
def test_a_start_behind_the_end_is_refused_with_the_length(
    codec: str, tmp_path: Path, convert: Callable[..., Any]
) -> None:
    source = write(tmp_path / "in.wav", tone())
    reason = refused(convert(source, "out.wav", start=5, codec=codec)[1])
    assert reason.startswith("in.wav" if codec == "copy" else "start 5 is after the end of in.wav, which has 2.000 s")
    assert isinstance(convert(source, "out.wav", start=1, end=5, codec=codec)[1], Finished)


def test_sound_that_changes_its_format_on_the_way_is_one_sound(tmp_path: Path, convert: Callable[..., Any]) -> None:
    one = write(tmp_path / "one.mp3", tone(channels=1, rate=32000), rate=32000, codec="libmp3lame")
    two = write(tmp_path / "two.mp3", tone(channels=2), codec="libmp3lame")
    source = tmp_path / "both.mp3"
    source.write_bytes(one.read_bytes() + two.read_bytes())
    for suffix in (".wav", ".opus", ".png"):
        _, outcome = convert(source, f"out{suffix}")
        assert isinstance(outcome, Finished)
    assert hear(tmp_path / "out.wav").wave.shape[1] == pytest.approx(4 * 32000, rel=0.1)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        *((suffix, {}) for suffix in OUTPUTS if suffix != ".wav"),
        (".wav", {"codec": "pcm"}),
        *((suffix, {"loudness": -20}) for suffix in OUTPUTS if suffix != ".png"),
    ],
)
def test_samples_that_are_no_numbers_are_made_finite_and_counted(
    suffix: str, options: dict[str, Any], tmp_path: Path, convert: Callable[..., Any]
) -> None:
    wave = tone(1.0)
    wave[0, 1000:1004] = np.nan, np.inf, -np.inf, 3e38
    output, outcome = convert(write(tmp_path / "in.wav", wave, codec="pcm_f32le"), f"out{suffix}", **options)
    assert isinstance(outcome, Finished), outcome
    assert any(note.startswith("4 samples of sound are no numbers") for note in outcome.result["notes"])
    if suffix != ".png":
        assert np.isfinite(hear(output).wave).all()
    if options.get("loudness"):
        assert all(abs(outcome.result[name]["true_peak"]) <= 120 for name in ("loudness", "source_loudness"))
