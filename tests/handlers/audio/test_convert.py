"""The output of `audio_convert`: the sound, its format, and the file's own tags."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import msgspec
import numpy as np
import pytest
from full_films import Beside, Tone, make
from sounds import hear, picture, tone, without_last_length, write

from tasktrail.events.errors import InvalidOptions, InvalidPath
from tasktrail.handlers import Finished, Outcome, Rejected, Stopped
from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.audio.convert.options import AudioConvertOptions, check
from tasktrail.testing import job_for, run_handler

Convert: TypeAlias = Callable[..., tuple[Path, Outcome]]
FORMATS = {
    ".mp3": ("mp3", "mp3"),
    ".m4a": ("mov,mp4,m4a,3gp,3g2,mj2", "aac"),
    ".opus": ("ogg", "opus"),
    ".ogg": ("ogg", "opus"),
    ".oga": ("ogg", "opus"),
    ".flac": ("flac", "flac"),
    ".wav": ("wav", "pcm_s16le"),
}
TAGS = {"title": "Ein Lied", "artist": "Jemand", "album": "Alles", "track": "3/9", "date": "2001", "genre": "Folk"}
CHAPTERS = ((0.0, 1.0, "one"), (1.0, 2.0, "two"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.wav", tone())


def told(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Finished), outcome
    return outcome.result


def test_gaps_that_are_closed_are_told(tmp_path: Path, convert: Convert) -> None:
    """A file of sound counts samples, so what follows a gap comes earlier, unless the packets are copied."""
    source = tmp_path / "in.mka"
    with av.open(str(source), "w") as output:
        track: Any = output.add_stream("aac", rate=48000)
        track.layout = "mono"
        for number in [*range(40), *range(90, 140), *range(200, 230)]:
            frame = av.AudioFrame.from_ndarray(np.full((1, 1024), 0.1, np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, number * 1024, Fraction(1, 48000)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    encoded, copied = (told(convert(source, name)[1]) for name in ("out.flac", "out.m4a"))
    closed = round(copied["duration"] - encoded["duration"], 2)
    assert 2.2 < closed < 2.4
    assert encoded["notes"] == [
        f"gaps of {closed:.2f} s in the sound are closed: what follows is heard so much earlier"
    ]
    assert copied["notes"] == []


@pytest.mark.parametrize(("codec", "form", "suffix"), [("flac", "s16", ".flac"), ("pcm_s16le", "s16", ".wav")])
def test_gaps_that_a_copy_closes_are_told(codec: str, form: str, suffix: str, tmp_path: Path, convert: Convert) -> None:
    """A flac, wav and mp3 count samples, and were shorter than their source without a word."""
    source = tmp_path / "in.mka"
    with av.open(str(source), "w") as output:
        track: Any = output.add_stream(codec, rate=48000)
        track.layout = "mono"
        for number in [*range(40), *range(90, 140)]:
            frame = av.AudioFrame.from_ndarray(np.full((1, 1024), 1000, np.int16), form, "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, number * 1024, Fraction(1, 48000)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    output_file, outcome = convert(source, f"out{suffix}")
    assert told(outcome)["copied"]
    assert hear(output_file).wave.size == 90 * 1024
    assert told(outcome)["notes"] == ["gaps of 1.07 s in the sound are closed: what follows is heard so much earlier"]


def broadcast(path: Path) -> Path:
    """Write 3.2 s of sound as a transport stream."""
    with av.open(str(path), "w") as output:
        track: Any = output.add_stream("aac", rate=48000)
        track.layout = "mono"
        for number in range(150):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1024), 0.1, np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, number * 1024, Fraction(1, 48000)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return path


def stamp(content: bytearray, number: int, seconds: float) -> None:
    """Change the time of a packet of sound (PES), given by its number, in a transport stream."""
    marks = [place for place in range(0, len(content), 188) if content[place + 1] & 0x40]
    starts = [content.find(b"\0\0\1\xc0", place, place + 188) for place in marks]
    place = [start for start in starts if start >= 0][number] + 9
    time = round(seconds * 90_000)
    parts = (0x21 | time >> 29 & 0xE, time >> 22 & 0xFF, time >> 14 & 0xFE | 1, time >> 7 & 0xFF, time << 1 & 0xFE | 1)
    content[place : place + 5] = bytes(parts)


def test_times_that_begin_anew_lose_no_sound_in_a_copy(tmp_path: Path, convert: Convert) -> None:
    """As in broadcasts that were joined. A copy left out all packets whose times had occurred, without a word."""
    source = broadcast(tmp_path / "in.ts")
    once, _ = convert(source, "once.m4a")
    source.write_bytes(source.read_bytes() * 2)
    twice, outcome = convert(source, "twice.m4a")
    assert told(outcome)["copied"]
    assert told(outcome)["duration"] == pytest.approx(6.4, abs=0.1)
    assert hear(twice).wave.size == pytest.approx(2 * hear(once).wave.size, abs=2 * 1024)
    _, part = convert(source, "part.m4a", start=4.0, end=5.0)
    assert told(part)["duration"] == pytest.approx(1, abs=0.05)


def test_one_time_that_jumps_back_makes_no_gap_in_a_copy(tmp_path: Path, convert: Convert) -> None:
    source = broadcast(tmp_path / "in.ts")
    _, whole = convert(source, "whole.m4a")
    content = bytearray(source.read_bytes())
    stamp(content, 100, 0.1)
    source.write_bytes(content)
    _, outcome = convert(source, "copy.m4a")
    assert told(outcome)["copied"]
    assert told(outcome)["duration"] == pytest.approx(told(whole)["duration"], abs=0.05)


def test_packets_that_only_come_late_are_no_gaps(tmp_path: Path, convert: Convert) -> None:
    """Recorders of live sound write some packets late and catch up. Each late one was counted as a gap."""
    source = tmp_path / "in.mka"
    with av.open(str(source), "w") as output:
        track: Any = output.add_stream("libopus", rate=48000)
        track.layout = "mono"
        last = -1
        packets: list[Any] = []
        for number in range(100):
            frame = av.AudioFrame.from_ndarray(np.full((1, 960), 1000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, number * 960, Fraction(1, 48000)
            packets += track.encode(frame)
        for number, packet in enumerate([*packets, *track.encode(None)]):
            late = Fraction(60 * (number // 5 % 2), 1000) / packet.time_base
            last = packet.pts = packet.dts = max(last + 1, packet.pts + round(late))
            output.mux(packet)
    result = told(convert(source, "out.flac")[1])
    assert result["duration"] == pytest.approx(2, abs=0.03)
    assert result["notes"] == ["gaps of 0.05 s in the sound are closed: what follows is heard so much earlier"]


@pytest.mark.parametrize("codec", ["auto", "alac"])
def test_an_m4a_says_the_language_and_the_time_of_recording(codec: str, tmp_path: Path, convert: Convert) -> None:
    """The notes said that the language had no place there, and the time was silently dropped."""
    beside = Beside(tags={"creation_time": "2011-11-11T11:11:11.000000Z"})
    source = make(tmp_path / "in.mkv", [Tone(language="deu")], (), beside)
    output, outcome = convert(source, "out.m4a", codec=codec)
    assert told(outcome)["notes"] == ["the moving picture is left out"]
    with av.open(str(output)) as made:
        assert made.streams.audio[0].language == "deu"
        assert made.metadata["creation_time"] == "2011-11-11T11:11:11.000000Z"


@pytest.mark.parametrize(
    ("layout", "note"),
    [
        ("2.1", "sound channels FL+FR+LFE became FL+FR+FC: what has no place there is mixed in, or left out"),
        ("4.0", "sound channels FL+FR+FC+BC became FL+FR+BL+BR: what has no place there is mixed in, or left out"),
        ("5.0(side)", ""),
        ("5.1(side)", ""),
    ],
)
def test_channels_that_the_codec_does_not_have_are_named(
    layout: str, note: str, tmp_path: Path, convert: Convert
) -> None:
    """A channel for low frequencies was silently dropped."""
    source = tmp_path / "in.wav"
    with av.open(str(source), "w") as output:
        track: Any = output.add_stream("pcm_s16le", rate=8000)
        track.codec_context.layout = layout
        frame = av.AudioFrame(format="s16", layout=layout, samples=8000)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate = 8000
        output.mux([*track.encode(frame), *track.encode(None)])
    _, outcome = convert(source, "out.flac")
    assert told(outcome).get("notes", []) == ([note] if note else [])


def test_a_wma_that_says_no_time_of_recording_gets_none(tmp_path: Path, convert: Convert) -> None:
    """FFmpeg writes 1970 there, and from release 9 on reads it as the time."""
    output, outcome = convert(write(tmp_path / "in.wma", tone(), codec="libmp3lame", form="fltp"), "out.flac")
    assert told(outcome).get("notes", []) == []
    with av.open(str(output)) as made:
        assert "creation_time" not in {name.lower() for name in made.metadata}


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_suffix_has_its_format_and_the_whole_sound(suffix: str, source: Path, convert: Convert) -> None:
    output, outcome = convert(source, f"out{suffix}")
    result, heard = told(outcome), hear(output)
    assert (heard.format, heard.codec) == FORMATS[suffix]
    assert result["codec"] == heard.codec
    assert result["duration"] == 2.0
    assert (result["sample_rate"], result["channels"]) == (heard.rate, len(heard.wave)) == (heard.rate, 2)
    assert heard.wave.shape[1] == pytest.approx(2 * heard.rate, abs=1024)  # a player of aac hears its last packet out
    assert heard.wave[0, heard.rate // 2 : heard.rate].max() == pytest.approx(0.5, abs=0.03)
    assert result["notes"] == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_work_gives_the_same_bytes(suffix: str, source: Path, convert: Convert) -> None:
    first, _ = convert(source, f"first{suffix}", codec="auto", bits="auto", cover="none", tags={"title": "x"})
    second, _ = convert(source, f"second{suffix}", codec="auto", bits="auto", cover="none", tags={"title": "x"})
    assert first.read_bytes() == second.read_bytes()


def test_sound_without_loss_stays_the_same_sample_by_sample(tmp_path: Path, convert: Convert) -> None:
    source = write(tmp_path / "in.wav", tone(channels=6, rate=96000), rate=96000, codec="pcm_s24le", form="s32")
    wanted = hear(source).wave
    for suffix, codec, name in ((".flac", "auto", "flac"), (".m4a", "alac", "alac"), (".wav", "pcm", "pcm_s24le")):
        output, outcome = convert(source, f"out{suffix}", codec=codec)
        assert told(outcome)["codec"] == name
        assert np.array_equal(hear(output).wave, wanted)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".m4a", "aac"), (".opus", "libopus")])
def test_what_fits_is_copied_as_it_is_unless_something_is_to_be_changed(
    suffix: str, codec: str, tmp_path: Path, convert: Convert
) -> None:
    rate = 48000
    source = write(tmp_path / f"in{suffix}", tone(rate=rate), rate=rate, codec=codec)
    output, outcome = convert(source, f"out{suffix}", tags={"title": "new"})
    assert told(outcome)["copied"]
    assert np.array_equal(hear(output).wave, hear(source).wave)
    assert hear(output).tags["title"] == "new"
    for options in ({"channels": "mono"}, {"bitrate": 64000}, {"start": 0.5}, {"codec": told(outcome)["codec"]}):
        assert not told(convert(source, f"anew{suffix}", **options)[1])["copied"], options


def test_vorbis_is_copied_into_ogg(tmp_path: Path, convert: Convert) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        track: Any = output.add_stream("vorbis", rate=44100, options={"strict": "experimental"})
        track.codec_context.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone()), "fltp", "stereo")
        frame.sample_rate = 44100
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    made, outcome = convert(source, "out.ogg")
    assert told(outcome)["copied"]
    assert hear(made).codec == "vorbis"


def test_a_copy_that_cannot_be_is_refused_with_what_to_do(source: Path, convert: Convert) -> None:
    _, outcome = convert(source, "out.mp3", codec="copy")
    assert isinstance(outcome, Rejected)
    assert "pcm_s16le cannot be copied into mp3: leave codec at auto" in outcome.reason


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".opus", ".ogg", ".flac"])
@pytest.mark.parametrize("way", ["encoded", "copied"])
def test_tags_chapters_and_cover_are_kept(suffix: str, way: str, tmp_path: Path, convert: Convert) -> None:
    cover = picture()
    source = write(
        tmp_path / "in.m4a", tone(rate=48000), rate=48000, codec="aac", tags=TAGS, chapters=CHAPTERS, cover=cover
    )
    if way == "copied":
        source, outcome = convert(source, f"first{suffix}", codec="auto")
    output, outcome = convert(source, f"out{suffix}", tags={"artist": "Other", "genre": ""})
    result, heard = told(outcome), hear(output)
    assert result["copied"] == (way == "copied" or suffix == ".m4a")
    assert {name: heard.tags.get(name) for name in TAGS} == {**TAGS, "artist": "Other", "genre": None}
    assert heard.covers == [cover]
    assert [(round(start, 2), title) for start, title in heard.chapters] == [(0.0, "one"), (1.0, "two")]
    assert result["notes"] == []


def test_what_wav_cannot_hold_is_told(tmp_path: Path, convert: Convert) -> None:
    tags = {**TAGS, "composer": "Wer"}
    source = write(tmp_path / "in.m4a", tone(), codec="aac", tags=tags, chapters=CHAPTERS, cover=picture())
    output, outcome = convert(source, "out.wav")
    assert hear(output).tags["title"] == "Ein Lied"
    assert told(outcome)["notes"] == [
        "the cover picture is left out: wav has no place for it",
        "2 chapters are left out: wav has no place for them",
        "tags left out, wav has no place for them: composer",
    ]


def test_nothing_is_kept_where_nothing_is_wanted(tmp_path: Path, convert: Convert) -> None:
    source = write(tmp_path / "in.m4a", tone(), codec="aac", tags=TAGS, chapters=CHAPTERS, cover=picture())
    output, outcome = convert(source, "out.flac", metadata="strip", cover="none", tags={"title": "just this"})
    heard = hear(output)
    assert {name: heard.tags[name] for name in heard.tags if name in TAGS} == {"title": "just this"}
    assert (heard.covers, heard.chapters, told(outcome)["notes"]) == ([], [], [])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_cut_is_exact_to_the_sample_and_moves_the_chapters(suffix: str, tmp_path: Path, convert: Convert) -> None:
    wave = tone(3.0, rate=48000)
    wave[:, : 48000 * 5 // 4] = 0  # the tone begins where the cut is
    source = write(tmp_path / "in.flac", wave, rate=48000, codec="flac")
    output, outcome = convert(source, f"out{suffix}", start=1.25, end=2.5)
    heard = hear(output)
    assert told(outcome)["duration"] == 1.25
    assert heard.wave.shape[1] == pytest.approx(60000, abs=1024)
    assert abs(heard.wave[0, :480]).max() > 0.3  # no silence of the source before it
    with_chapters = write(tmp_path / "in.m4a", wave, rate=48000, codec="aac", chapters=((0, 2, "a"), (2, 3, "b")))
    output, _ = convert(with_chapters, f"chapters{suffix}", start=1.25, end=2.5)
    if suffix != ".wav":
        assert [(round(start, 2), title) for start, title in hear(output).chapters] == [(0.0, "a"), (0.75, "b")]


def test_a_copied_cut_goes_by_packets_and_says_where(tmp_path: Path, convert: Convert) -> None:
    source = write(tmp_path / "in.mp3", tone(), codec="libmp3lame")
    output, outcome = convert(source, "out.mp3", codec="copy", start=0.5, end=1.0)
    (note,) = told(outcome)["notes"]
    assert note.startswith("cut between packets: 0.4")
    assert hear(output).wave.shape[1] == pytest.approx(22050, abs=2 * 1152)


def test_the_asked_track_is_taken_and_the_rest_of_a_film_is_told(tmp_path: Path, convert: Convert) -> None:
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        tracks: list[Any] = [output.add_stream("flac", rate=44100) for _ in range(2)]
        for track in tracks:
            track.codec_context.layout, track.codec_context.format = "mono", "s16"
        for number in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), "rgb24")))
        output.mux(stream.encode(None))
        for track, peak in zip(tracks, (0.2, 0.8), strict=True):
            wave = (32767 * tone(1.0, channels=1, peak=peak)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
            output.mux(track.encode(frame))
            output.mux(track.encode(None))
    output_file, outcome = convert(film, "out.wav", track=2)
    assert told(outcome)["notes"] == ["sound track 2 of 2 kept", "the moving picture is left out"]
    assert hear(output_file).wave.max() == pytest.approx(0.8, abs=0.01)
    _, refused = convert(film, "out.wav", track=3)
    assert refused == Rejected(reason="film.mkv has 2 sound tracks, not 3")


@pytest.mark.slow
def test_channels_and_rates_that_a_codec_has_not_are_changed_and_told(tmp_path: Path, convert: Convert) -> None:
    source = write(tmp_path / "in.wav", tone(channels=8, rate=96000), rate=96000)
    output, outcome = convert(source, "out.mp3")
    assert told(outcome)["notes"] == [
        "96000 samples a second became 48000: mp3 has no more",
        "8 sound channels became 2",
    ]
    heard = hear(output)
    assert (heard.rate, len(heard.wave)) == (48000, 2)
    assert abs(heard.wave).max() <= 1.0
    for suffix, rate in ((".m4a", 96000), (".opus", 48000), (".flac", 96000), (".wav", 96000)):
        output, outcome = convert(source, f"out{suffix}")
        assert (hear(output).rate, len(hear(output).wave)) == (rate, 8)


@pytest.mark.parametrize(("rate", "mp3", "opus"), [(37000, 44100, 48000), (11025, 11025, 48000), (8000, 8000, 48000)])
def test_odd_rates_become_the_next_that_a_codec_has(
    rate: int, mp3: int, opus: int, tmp_path: Path, convert: Convert
) -> None:
    source = write(tmp_path / "in.wav", tone(rate=rate), rate=rate)
    for suffix, wanted in ((".mp3", mp3), (".m4a", mp3), (".opus", opus), (".flac", rate), (".wav", rate)):
        output, outcome = convert(source, f"out{suffix}")
        heard = hear(output)
        assert heard.rate == wanted
        assert heard.wave.shape[1] == pytest.approx(2 * wanted, abs=1152)
        assert told(outcome)["notes"] == []


@pytest.mark.skipif(av.__version__.startswith("18."), reason="PyAV 18 frees such a layout twice, and dies of it")
@pytest.mark.parametrize("form", ["s16", "flt"])
def test_channels_that_come_in_another_order_are_put_in_the_usual_one(
    form: str, tmp_path: Path, convert: Convert
) -> None:
    left, right = tone(1.0, peak=0.1, channels=1), tone(1.0, peak=0.4, channels=1)
    stored = np.concatenate([right, left]).T.reshape(1, -1)
    stored = stored if form == "flt" else (stored * 32767).astype(np.int16)
    with av.open(str(tmp_path / "in.mov"), "w") as output:
        track: Any = output.add_stream({"s16": "pcm_s16le", "flt": "pcm_f32le"}[form], rate=44100)
        track.codec_context.layout = "FR+FL"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stored), form, "FR+FL")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        output.mux(track.encode(frame))
        output.mux(track.encode(None))
    path, outcome = convert(tmp_path / "in.mov", "out.flac")
    assert isinstance(outcome, Finished)
    assert np.abs(hear(path).wave).max(axis=1) == pytest.approx([0.1, 0.4], abs=0.001)


def test_options_of_the_sound_are_followed(tmp_path: Path, convert: Convert) -> None:
    source = write(tmp_path / "in.wav", tone(4.0))
    best, worst = (convert(source, f"q{quality}.mp3", quality=quality)[0].stat().st_size for quality in (0, 9))
    assert best > 1.5 * worst
    wide, narrow = (convert(source, f"{rate}.opus", bitrate=rate)[0].stat().st_size for rate in (128_000, 32_000))
    assert wide > 2 * narrow
    output, _ = convert(source, "mono.flac", channels="mono", sample_rate=22050, bits="24")
    assert (len(hear(output).wave), hear(output).rate) == (1, 22050)
    deep, shallow = (convert(source, f"{bits}.wav", bits=bits)[0].stat().st_size for bits in (24, 16))
    assert deep == pytest.approx(1.5 * shallow, rel=0.01)
    output, outcome = convert(source, "float.wav", bits="float")
    assert told(outcome)["codec"] == "pcm_f32le"
    output, _ = convert(write(tmp_path / "mono.wav", tone(channels=1)), "stereo.m4a", channels="stereo")
    assert len(hear(output).wave) == 2


@pytest.mark.parametrize(
    ("suffix", "rate", "asked", "held"),
    [
        (".opus", 48000, 1_000_000, 512_000),
        (".mp3", 44100, 1_000_000, 320_000),
        (".mp3", 22050, 1_000_000, 160_000),
        (".mp3", 44100, 6_000, 32_000),
        (".m4a", 44100, 1_000_000, 529_200),
    ],
)
def test_a_bitrate_that_a_codec_cannot_hold_becomes_the_nearest_and_is_told(
    *, suffix: str, rate: int, asked: int, held: int, tmp_path: Path, convert: Convert
) -> None:
    source = write(tmp_path / "in.wav", tone(rate=rate), rate=rate)
    _, outcome = convert(source, f"out{suffix}", bitrate=asked)
    (note,) = told(outcome)["notes"]
    assert note.startswith(f"{asked} bits a second became {held}: ")
    if suffix == ".mp3":
        assert told(outcome)["bitrate"] == pytest.approx(held, rel=0.1)


def test_times_may_begin_at_ten_hours(tmp_path: Path, convert: Convert) -> None:
    """Otherwise the sound would seem to last ten hours, and its progress would stay near 0."""
    write(tmp_path / "tone.wav", tone())
    with av.open(tmp_path / "tone.wav") as whole, av.open(tmp_path / "late.mka", "w") as late:
        track = late.add_stream_from_template(whole.streams.audio[0])
        for packet in whole.demux(audio=0):
            if packet.dts is not None:
                packet.pts = packet.dts = packet.dts + int(36_000 / packet.time_base)
                packet.stream = track
                late.mux(packet)
    _, outcome = convert(tmp_path / "late.mka", "out.mp3")
    assert isinstance(outcome, Finished)
    assert outcome.result["source_duration"] == pytest.approx(2, abs=0.1)
    assert outcome.result["duration"] == pytest.approx(2, abs=0.1)


def test_floating_point_samples_stay_in_wav_and_are_told_elsewhere(tmp_path: Path, convert: Convert) -> None:
    source = write(tmp_path / "in.wav", tone(), codec="pcm_f32le")
    assert told(convert(source, "out.wav", codec="pcm")[1])["codec"] == "pcm_f32le"
    assert told(convert(source, "out.flac")[1])["notes"] == ["floating-point samples became 24 bits"]


@pytest.mark.parametrize("output", ["out.mp3", "out.png"])
def test_a_stop_is_heard_at_once_and_leaves_nothing(output: str, source: Path, prepare: Callable[..., Any]) -> None:
    context = prepare(source, output, stop_after=3)
    assert isinstance(run_handler(audio_convert, context), Stopped)
    assert context.stops_asked == 4
    assert not context.output_file.exists()
    assert not context.output_part.exists()


@pytest.mark.parametrize(
    ("output", "options", "field"),
    [
        ("out.aac", {}, "output_file"),
        ("out", {}, "output_file"),
        ("out.mp3", {"codec": "aac"}, "options.codec"),
        ("out.flac", {"bitrate": 64000}, "options.bitrate"),
        ("out.m4a", {"quality": 2}, "options.quality"),
        ("out.mp3", {"bits": "24"}, "options.bits"),
        ("out.flac", {"bits": "float"}, "options.bits"),
        ("out.mp3", {"sample_rate": 96000}, "options.sample_rate"),
        ("out.mp3", {"true_peak": -2}, "options.true_peak"),
        ("out.mp3", {"width": 100}, "options.width"),
        ("out.mp3", {"tags": {"a=b": "c"}}, "options.tags"),
        ("out.png", {"loudness": -16}, "options.loudness"),
        ("out.png", {"tags": {"title": "c"}}, "options.tags"),
    ],
)
def test_options_that_do_not_go_together_are_refused(output: str, options: dict[str, Any], field: str) -> None:
    with pytest.raises((InvalidOptions, InvalidPath)) as refused:
        check(job_for(msgspec.convert(options, AudioConvertOptions), "/in.wav", f"/{output}"))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "options",
    [
        {"bitrate": 64000, "quality": 2},
        {"start": 3, "end": 2},
        {"codec": "copy", "channels": "mono"},
        {"codec": "copy", "loudness": -16},
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, AudioConvertOptions)


@pytest.mark.parametrize("output", ["out.flac", "out.opus", "out.ogg"])
def test_comment_and_description_do_not_run_into_each_other(
    convert: Callable[..., tuple[Path, Outcome]], tmp_path: Path, output: str
) -> None:
    tags = {"comment": "a remark", "description": "a long text"}
    path, outcome = convert(write(tmp_path / "in.m4a", tone(0.5), codec="aac", tags=tags), output)
    assert isinstance(outcome, Finished)
    assert hear(path).tags["comment"] == "a remark"
    assert any("tags left out" in note and note.endswith(": description") for note in outcome.result["notes"])


def test_a_last_packet_of_no_length_is_copied_so_that_it_is_heard(tmp_path: Path, convert: Convert) -> None:
    whole = write(tmp_path / "whole.mov", tone(2.0), codec="alac", form="s16p")
    output, outcome = convert(without_last_length(whole, tmp_path / "in.mov"), "out.m4a", codec="copy")
    assert isinstance(outcome, Finished)
    with av.open(str(output)) as made:
        assert sum(frame.samples for frame in made.decode(audio=0)) == 88200


def test_chapters_that_are_over_before_the_sound_begins_are_told(tmp_path: Path, convert: Convert) -> None:
    whole = write(tmp_path / "whole.mka", tone(3.0), codec="flac", form="s16", chapters=((0, 1, "A"), (1, 4, "B")))
    late = tmp_path / "late.mka"
    with av.open(str(whole)) as source, av.open(str(late), "w") as output:
        output.set_chapters(source.chapters())
        track = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.pts is not None and packet.time_base:
                packet.pts = packet.dts = packet.pts + round(2 / packet.time_base)
                packet.stream = track
                output.mux(packet)
    made, outcome = convert(late, "out.m4a")
    assert [title for _, title in hear(made).chapters] == ["B"]
    assert "1 chapter is over before the sound begins, and is left out" in told(outcome)["notes"]
    _, outcome = convert(late, "part.m4a", start=0.5)
    assert not [note for note in told(outcome)["notes"] if "begins" in note]


@pytest.mark.parametrize("suffix", [".m4a", ".mp3", ".opus"])
def test_chapters_without_a_title_keep_their_places(suffix: str, tmp_path: Path, convert: Convert) -> None:
    source = write(
        tmp_path / "in.mka", tone(3.0), codec="flac", form="s16", chapters=((0, 1, ""), (1, 2.5, "B"), (2.5, 3, ""))
    )
    output, outcome = convert(source, f"out{suffix}")
    assert [round(start, 2) for start, _ in hear(output).chapters] == [0, 1, 2.5]
    if suffix == ".m4a":
        assert [title for _, title in hear(output).chapters] == ["Chapter 1", "B", "Chapter 3"]
        assert "2 chapters without a title were called by their numbers" in told(outcome)["notes"]


def test_bits_that_are_lost_are_told(tmp_path: Path, convert: Convert) -> None:
    whole = write(tmp_path / "whole.wav", tone(), codec="pcm_s32le", form="s32")
    doubles = write(tmp_path / "doubles.wav", tone(), codec="pcm_f64le", form="dbl")
    assert told(convert(whole, "out.flac")[1])["notes"] == ["samples of more than 24 bits became 24 bits"]
    assert told(convert(whole, "16.flac", bits=16)[1])["notes"] == []
    assert told(convert(doubles, "out.wav", codec="pcm")[1])["notes"] == [
        "floating-point samples of 64 bits became 32 bits"
    ]


@pytest.mark.parametrize(("language", "wanted"), [("en", "eng"), ("pt-BR", "por"), ("ger", "ger")])
def test_the_language_is_kept_in_an_m4a_however_it_is_written(
    language: str, wanted: str, tmp_path: Path, convert: Convert
) -> None:
    source = write(tmp_path / "in.mka", tone(), codec="flac", form="s16", tags={"language": language})
    output, outcome = convert(source, "out.m4a")
    assert hear(output).tags["language"] == wanted
    assert told(outcome)["notes"] == []
