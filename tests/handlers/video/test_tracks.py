"""Sound and subtitles of a conversion: kept where possible, and named where not."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from conversions import at_checkpoint, digest, saved_by
from full_films import LINES, RATE, Beside, Tone, make, picture_packets, timed
from sounds import without_last_length

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video.convert.result_check import check_result
from tasktrail.handlers.video.source import info_of, read_source
from tasktrail.testing import SimulatedCrash


def packets_of(path: Path, kind: str, number: int = 0) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == kind][number]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def loudest(path: Path, number: int = 0) -> tuple[int, list[float]]:
    """Return the frequency of the first channel and the loudness of each, in the sound track of this number."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=number) if frame.format.is_planar]
        rate = container.streams.audio[number].rate
    sound = np.concatenate(parts, axis=1)[:, rate // 2 : rate // 2 + rate]
    return int(np.abs(np.fft.rfft(sound[0])).argmax()), [float(np.sqrt((channel**2).mean())) for channel in sound]


def spoken(path: Path, number: int = 0) -> list[tuple[float, float, str]]:
    """Return start, length and text of each subtitle."""
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
        (".ts", Tone(codec="mp2"), "out.mkv", "mp2"),
        (".mkv", Tone(codec="wavpack"), "out.mkv", "wavpack"),
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
    assert outcome.result["notes"] == ["name of the program, if it has one, dropped"] * (suffix == ".ts")
    if suffix != ".ts":  # there each packet has a header of its own
        assert packets_of(context.output_file, "audio") == packets_of(source, "audio")
    original, result = look(source), look(context.output_file)
    assert result.samples == pytest.approx(original.samples, abs=1024)
    # Matroska has no times before zero: FFmpeg 8 delays the picture while AAC starts up, FFmpeg 9 skips that sound.
    before, after = (float(seen.times[0] - seen.sound_begins) for seen in (original, result))
    waits = (0.0, 1024 / RATE) if output.endswith(".mkv") else (0.0,)
    assert min(abs(after - before - wait) for wait in waits) < 0.003


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_sound_of_very_short_packets_is_copied_whole(
    *,
    suffix: str,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
    real_program: Path,
    tmp_path: Path,
) -> None:
    """In Matroska several packets of TrueHD have the same time."""
    source = tmp_path / f"in{suffix}"
    film = make(tmp_path / "film.mp4", [Tone()])
    encode = ("-c:v", "copy", "-c:a", "truehd", "-strict", "experimental")
    subprocess.run([real_program, "-v", "error", "-i", film, *encode, source], check=True)
    context = prepare(source, "out.mkv")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert (outcome.result["audio_codec"], outcome.result["audio_copied"]) == ("truehd", True)
    original, result = look(source), look(context.output_file)
    assert packets_of(context.output_file, "audio") == packets_of(source, "audio")
    assert result.samples == original.samples
    before, after = (float(seen.times[0] - seen.sound_begins) for seen in (original, result))
    assert abs(after - before) < 0.003
    context = prepare(source, "part.mkv", start=1.04)
    assert isinstance(convert(context), Finished)
    assert look(context.output_file).samples == pytest.approx(original.samples - 1.04 * RATE, abs=0.11 * RATE)
    outcome = convert(prepare(source, "small.mkv", target_size=200_000))
    assert isinstance(outcome, Finished)
    assert outcome.result["audio_codec"] == "aac"


@pytest.mark.parametrize(
    ("suffix", "codec", "output"),
    [
        (".mov", "pcm_s16be", "out.mkv"),
        (".mov", "pcm_s24le", "out.mov"),
        (".mkv", "pcm_s16le", "out.mov"),
        (".mkv", "pcm_f32le", "out.mkv"),
        (".mov", "pcm_s8", "out.mov"),
        (".mov", "pcm_u8", "out.mkv"),
        (".mov", "pcm_alaw", "out.mov"),
        (".mov", "pcm_mulaw", "out.mov"),
        (".mov", "pcm_f32be", "out.mov"),
        (".mov", "pcm_f64be", "out.mov"),
    ],
)
def test_uncompressed_sound_stays_as_it_is_where_the_container_holds_it(
    *,
    suffix: str,
    codec: str,
    output: str,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = make(tmp_path / f"in{suffix}", [Tone(codec=codec)])
    context = prepare(source, output)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == []
    assert (outcome.result["audio_codec"], outcome.result["audio_copied"]) == (codec, True)
    original, result = look(source), look(context.output_file)
    assert b"".join(packets_of(context.output_file, "audio")) == b"".join(packets_of(source, "audio"))
    assert result.samples == original.samples
    before, after = (float(seen.times[0] - seen.sound_begins) for seen in (original, result))
    assert abs(after - before) < 0.003


def section(table: int, number: int, body: bytes, pid: int = 0) -> bytes:
    """Return a table of a transport stream, with its checksum (CRC-32/MPEG-2), as one packet of this PID."""
    content = (
        bytes([table]) + (0xB000 | len(body) + 9).to_bytes(2, "big") + number.to_bytes(2, "big") + b"\xc1\0\0" + body
    )
    rest = 0xFFFFFFFF
    for byte in content:
        rest ^= byte << 24
        for _ in range(8):
            rest = (rest << 1 ^ (0x04C11DB7 if rest & 0x80000000 else 0)) & 0xFFFFFFFF
    head = b"\x47" + (0x4000 | pid).to_bytes(2, "big") + b"\x10\0"
    return (head + content + rest.to_bytes(4, "big")).ljust(188, b"\xff")


def broadcast(path: Path, sources: Iterable[Path]) -> Path:
    """Write films into one transport stream, each as a program, as a television channel sends them."""
    streams, programs = [], b""
    for number, source in enumerate(sources, 1):
        base = 0x100 * number
        own = path.with_suffix(f".{number}.ts")
        ids = {
            "mpegts_start_pid": str(base),
            "mpegts_pmt_start_pid": str(base + 0x80),
            "mpegts_service_id": str(number),
        }
        with av.open(str(source)) as read, av.open(str(own), "w", options=ids) as output:
            tracks = {each.index: output.add_stream_from_template(each, opaque=True) for each in read.streams}
            for packet in read.demux():
                if packet.size:
                    packet.stream = tracks[packet.stream_index]
                    output.mux(packet)
        whole = own.read_bytes()
        cells = [whole[place : place + 188] for place in range(0, len(whole), 188)]
        streams.append([cell for cell in cells if cell[1] & 0x1F or cell[2]])
        programs += number.to_bytes(2, "big") + (0xE000 | base + 0x80).to_bytes(2, "big")
    mixed = [cell for cells in zip_longest(*streams, fillvalue=b"") for cell in cells]
    path.write_bytes(section(0, 1, programs) + b"".join(mixed))
    return path


def test_of_several_programs_the_tracks_of_the_shown_picture_are_kept(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    subtitles = [("dvb_subtitle", "eng")]
    films = [make(tmp_path / "one.ts", [Tone()]), make(tmp_path / "two.ts", [Tone(880)], subtitles)]
    source = broadcast(tmp_path / "in.ts", films)
    context = prepare(source, "out.mkv")
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert outcome.result["notes"] == [
        "1 sound track dropped: of another program in the file",
        "1 subtitle track dropped: of another program in the file",
        "1 further moving picture dropped",
        "name of the program, if it has one, dropped",
    ]
    assert (outcome.result["audio_tracks"], outcome.result["subtitles"]) == (1, 0)
    assert loudest(context.output_file)[0] == 440
    context = prepare(source, "other.mkv", audio_track=2)
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert loudest(context.output_file)[0] == 880


def several_pictures(path: Path, defaults: Sequence[bool], lengths: Sequence[int]) -> Path:
    """Write a track of moving pictures for each of these, each higher than the one before."""
    with av.open(str(path), "w") as output:
        tracks = []
        for place, default in enumerate(defaults):
            track = output.add_stream("libx264", rate=25)
            assert isinstance(track, VideoStream)
            track.width, track.height, track.pix_fmt = 64, 48 + 16 * place, "yuv420p"
            track.disposition = Disposition.default if default else Disposition(0)
            tracks.append(track)
        for track, length in zip(tracks, lengths, strict=True):
            for moment in range(length):
                frame = VideoFrame.from_ndarray(np.zeros((track.height, track.width, 3), np.uint8), "rgb24")
                frame.pts = moment
                output.mux(track.encode(frame))
            output.mux(track.encode(None))
    return path


@pytest.mark.parametrize(
    ("defaults", "taken"), [((False, True, True), 1), ((False, False, False), 0), ((True, True, False), 0)]
)
def test_of_several_moving_pictures_the_first_default_one_is_taken(
    defaults: Sequence[bool], taken: int, prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """As players do. It was the first of all."""
    result = convert(prepare(several_pictures(tmp_path / "in.mkv", defaults, (5, 5, 5)))).result
    assert result["source_height"] == 48 + 16 * taken
    assert "2 further moving pictures dropped" in result["notes"]


@pytest.mark.parametrize("lengths", [(50, 100), (100, 50)])
def test_before_the_original_is_replaced_the_picture_that_was_taken_is_compared(
    lengths: Sequence[int], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """It was the first one: half of a result passed, and a whole one did not."""
    context = prepare(several_pictures(tmp_path / "in.mkv", (False, True), lengths), "out.mp4")
    result = convert(context).result
    context.output_file.replace(context.output_part)
    assert check_result(context, result) == ""
    several_pictures(tmp_path / "half.mp4", (True,), (lengths[1] // 2,)).replace(context.output_part)
    assert check_result(context, result) == f"the result has {lengths[1] // 2} of {lengths[1]} pictures"


def announced(path: Path, source: Path, carried: Sequence[int], programs: Sequence[Sequence[int]]) -> Path:
    """Write these tracks of a transport stream, and announce the programs of tracks, the last one first."""
    with av.open(str(source)) as read:
        kinds = {stream.id: b"\x1b" if stream.type == "video" else b"\x0f" for stream in read.streams}
    ids = [*kinds]
    listed, tables = b"", b""
    for number, tracks in enumerate(programs, 1):
        places = [(0xE000 | ids[track]).to_bytes(2, "big") for track in tracks]
        entries = [kinds[ids[track]] + place + b"\xf0\0" for track, place in zip(tracks, places, strict=True)]
        tables = section(2, number, places[0] + b"\xf0\0" + b"".join(entries), 0x20 + number) + tables
        listed += number.to_bytes(2, "big") + (0xE020 + number).to_bytes(2, "big")
    whole, wanted = source.read_bytes(), [ids[track] for track in carried]
    cells = [whole[place : place + 188] for place in range(0, len(whole), 188)]
    kept = [cell for cell in cells if int.from_bytes(cell[1:3], "big") & 0x1FFF in wanted]
    path.write_bytes(section(0, 1, listed) * bool(programs) + tables + b"".join(kept))
    return path


@pytest.fixture(scope="module")
def two_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transport stream of two pictures (tracks 0 and 2), with the sounds 440 (1) and 880 (3)."""
    folder = tmp_path_factory.mktemp("two")
    return broadcast(folder / "in.ts", [make(folder / f"{hertz}.ts", [Tone(hertz)]) for hertz in (440, 880)])


@pytest.mark.parametrize(
    ("carried", "programs", "kept"),
    [
        pytest.param([0, 1, 2, 3], [[2, 3], [0, 1]], [440], id="two films"),
        pytest.param([0, 1, 2], [[2, 1], [0, 1]], [440], id="shared sound"),
        pytest.param([0, 1, 2, 3], [[2, 3], [0, 1, 3]], [440, 880], id="shared second sound"),
        pytest.param([0, 1, 2, 3], [[2, 1, 3], [0, 3, 1]], [880, 440], id="both sounds shared"),
        pytest.param([0, 1, 2, 3], [[0, 1], [0, 2, 3]], [880, 440], id="shared picture"),
        pytest.param([0, 1, 3], [[3], [0, 1]], [440], id="radio"),
        pytest.param([0, 1, 3], [[3], [0, 1, 3]], [440, 880], id="sound that is also radio"),
        pytest.param([0, 1, 2, 3], [[2], [0, 1]], [440, 880], id="sound of no program"),
        pytest.param([0, 1, 3], [], [440, 880], id="no programs"),
    ],
)
def test_sound_is_dropped_only_if_it_is_not_of_the_program_that_is_shown(
    *,
    carried: list[int],
    programs: list[list[int]],
    kept: list[int],
    two_films: Path,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = announced(tmp_path / "in.ts", two_films, carried, programs)
    context = prepare(source, "out.mkv", video_codec="copy")
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert [loudest(context.output_file, number)[0] for number in range(outcome.result["audio_tracks"])] == kept
    sounds = len({1, 3} & {*carried})
    assert ("1 sound track dropped: of another program in the file" in outcome.result["notes"]) == (len(kept) < sounds)
    with av.open(str(context.output_file)) as container:
        assert not any(stream.disposition & Disposition.hearing_impaired for stream in container.streams)


def test_a_shared_sound_without_data_is_not_called_of_another_program(
    two_films: Path, prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """FFmpeg does not count it among the tracks of a program. It might have data later on."""
    source = announced(tmp_path / "in.ts", two_films, [0, 2], [[2, 1], [0, 1]])
    outcome = convert(prepare(source, "out.mkv", video_codec="copy"))
    assert isinstance(outcome, Finished), outcome
    assert "sound dropped: none of it can be decoded" in outcome.result["notes"]


@pytest.mark.parametrize(
    ("layout", "notes"), [("5.1", []), ("quad", ["mkv does not say which channels sound has: quad"])]
)
def test_channels_that_a_mkv_does_not_name_are_told(
    layout: str, notes: list[str], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mov", [Tone(codec="pcm_s16le", layout=layout)])
    for output, told in (("out.mkv", notes), ("out.mov", [])):
        outcome = convert(prepare(source, output))
        assert isinstance(outcome, Finished), outcome
        assert outcome.result["notes"] == told


def test_uncompressed_sound_is_encoded_where_the_file_is_to_be_small(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mov", [Tone(codec="pcm_s16le")])
    outcome = convert(prepare(source, "out.mov", target_size=200_000))
    assert isinstance(outcome, Finished), outcome
    assert outcome.result["audio_codec"] == "aac"
    assert "sound of pcm_s16le became aac" in outcome.result["notes"]


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
        ("out.webm", {}, 6, ["sound of aac became opus"]),
        ("out.mp4", {"audio_codec": "mp3"}, 2, ["6 channels of sound became 2"]),
        ("out.mp4", {"audio_channels": "mono"}, 1, ["6 channels of sound became 1"]),
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


def test_one_of_several_sound_tracks_can_be_chosen(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(), Tone(hertz=1000, language="deu")])
    context = prepare(source, audio_track=2)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == ["1 of 2 sound tracks kept, as asked"]
    assert loudest(context.output_file)[0] == 1000
    with av.open(str(context.output_file)) as container:
        assert container.streams.audio[0].language == "deu"
    refused = convert(prepare(source, "other.mp4", audio_track=3))
    assert isinstance(refused, Rejected)
    assert "2 sound tracks" in refused.reason


TWO = [Tone(title="Main", tags={"note": "a"}), Tone(hertz=1000, language="deu", codec="ac3", title="Comments")]


@pytest.mark.parametrize(
    ("output", "options", "codecs", "notes"),
    [
        ("out.mp4", {}, ["aac", "ac3"], ["tags of sound track 1 dropped: note: mp4 has no place for them"]),
        ("out.mov", {}, ["aac", "ac3"], ["tags of sound track 1 dropped: note: mov has no place for them"]),
        ("out.mkv", {}, ["aac", "ac3"], []),
        (
            "out.webm",
            {},
            ["opus", "opus"],
            ["sound track 1 of aac became opus", "sound track 2 of ac3 became opus"],
        ),
        (
            "out.mkv",
            {"audio_codec": "aac", "audio_channels": "mono"},
            ["aac", "aac"],
            ["2 channels of sound track 1 became 1", "2 channels of sound track 2 became 1"],
        ),
    ],
)
def test_all_sound_tracks_are_kept_each_with_its_words(
    *,
    output: str,
    options: dict[str, Any],
    codecs: list[str],
    notes: list[str],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    context = prepare(make(tmp_path / "in.mkv", TWO), output, preset="ultrafast", **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == notes
    assert outcome.result["audio_tracks"] == 2
    assert outcome.result["audio_codec"] == ", ".join(dict.fromkeys(codecs))
    with av.open(str(context.output_file)) as container:
        tracks = container.streams.audio
        assert [track.codec_context.codec.canonical_name for track in tracks] == codecs
        assert [(track.language or "")[:2] for track in tracks] == ["en", "ge" if output == "out.mov" else "de"]
        assert [track.metadata.get("title", track.metadata.get("name")) for track in tracks] == ["Main", "Comments"]
    assert loudest(context.output_file)[0] == 440
    assert loudest(context.output_file, 1)[0] == 1000


def test_copying_refuses_if_one_of_the_tracks_does_not_fit(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(), Tone(codec="flac")])
    refused = convert(prepare(source, "out.mov", audio_codec="copy"))
    assert isinstance(refused, Rejected)
    assert "sound track 2 of flac cannot be copied into mov" in refused.reason
    assert isinstance(convert(prepare(source, "out.mov", audio_codec="copy", audio_track=1)), Finished)


@pytest.mark.slow
def test_several_tracks_give_the_same_file_whatever_is_made_at_once_and_wherever_it_was_killed(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    tones = [Tone(), Tone(hertz=1000, codec="flac"), Tone(hertz=660, layout="5.1")]
    source = make(tmp_path / "in.mkv", tones, [("subrip", "eng"), ("ass", "deu")])
    made = set()
    for at_once in (1, 2, 3, 8):
        whole = prepare(source, "out.mov", segments_at_once=at_once)
        assert isinstance(convert(whole), Finished)
        made.add(digest(whole.output_file))
        if at_once == 2:
            assert len(saved_by(whole).audio) == 3
            for number in range(len(whole.checkpoints)):
                resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
                files = saved_by(resumed).files
                kept = {name: (resumed.work_dir / name).stat().st_mtime_ns for name in files}
                assert isinstance(convert(resumed), Finished)
                made.add(digest(resumed.output_file))
                assert {name: (resumed.work_dir / name).stat().st_mtime_ns for name in kept} == kept
        shutil.rmtree(whole.work_dir)
    assert len(made) == 1


def test_a_track_in_which_nothing_can_be_heard_is_named_and_not_tried_again(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(), Tone(codec="flac")])
    data = bytearray(source.read_bytes())
    for packet in packets_of(source, "audio", 1):
        place = data.find(packet)
        data[place : place + len(packet)] = bytes(len(packet))
    source.write_bytes(data)
    whole = prepare(source, audio_codec="aac")
    outcome = convert(whole)
    assert isinstance(outcome, Finished)
    assert "sound track 2 dropped: none of it can be decoded" in outcome.result["notes"]
    assert (outcome.result["audio_tracks"], saved_by(whole).silent) == (1, (2,))
    resumed = at_checkpoint(whole, len(whole.checkpoints) - 1, tmp_path / "resumed")
    convert(resumed)
    assert digest(resumed.output_file) == digest(whole.output_file)
    assert resumed.checkpoints == []


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


OVERLAPPING = """1
00:00:00,500 --> 00:00:02,500
long <i>ä</i> one

2
00:00:01,000 --> 00:00:01,500
short

3
00:00:01,000 --> 00:00:01,500
<i>both</i>

"""


@pytest.mark.parametrize("output", ["out.mp4", "out.mov"])
def test_lines_that_are_shown_at_the_same_time_are_one_below_the_other(
    output: str, prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """An mp4 shows a line until the next one: the second came late, and of two that began together one was missing."""
    source = make(tmp_path / "in.mkv", subtitles=[("subrip", "eng")], lines=OVERLAPPING)
    context = prepare(source, output, preset="ultrafast")
    assert isinstance(convert(context), Finished)
    with av.open(str(context.output_file)) as container:
        stream: Any = container.streams.subtitles[0]
        found = [
            (float(packet.pts * packet.time_base), float(packet.duration * packet.time_base), subtitle.ass.decode())
            for packet in container.demux(stream)
            if packet.size
            for subtitle in stream.decode(packet)
        ]
    said = [(start, length, text.split(",", 8)[-1]) for start, length, text in found]
    long = r"long {\i1}ä{\i0} one"
    assert [text.replace(r"{\r}", r"{\i0}") for _, _, text in said] == [
        long,
        rf"{long}\Nshort\N{{\i1}}both",
        long,
    ]
    assert [time for start, length, _ in said for time in (start, length)] == pytest.approx(
        [0.5, 0.5, 1.0, 0.5, 1.5, 1.0], abs=0.001
    )


def test_subtitles_whose_header_is_damaged_are_named_and_do_not_cost_the_film(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", subtitles=[("ass", "eng"), ("subrip", "eng")])
    data = source.read_bytes()
    place = data.rfind(b"\x63\xa2", 0, data.find(b"[Script Info]"))  # the element that holds the header
    source.write_bytes(data[:place] + b"\x63\xa9" + data[place + 2 :])
    outcome = convert(prepare(source, preset="ultrafast"))
    assert isinstance(outcome, Finished)
    assert (outcome.result["subtitles"], outcome.result["notes"]) == (
        1,
        ["1 subtitle track dropped: damaged", "subtitles rewritten as mov_text"],
    )


@pytest.mark.parametrize(("wanted", "told"), [({}, 2), ({"end": 1.5}, 1)])
def test_a_line_that_is_not_utf_8_is_named_where_it_cannot_be_rewritten(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path, wanted: dict[str, float], told: int
) -> None:
    """FFmpeg drops such a line, as if it did not exist."""
    source = make(tmp_path / "in.mkv", subtitles=[("subrip", "deu")])
    data = source.read_bytes()
    source.write_bytes(data.replace("Grüße".encode(), "Gr\xfc\xfc\xdf\xdfe".encode("latin-1")))
    context = prepare(source, preset="ultrafast", **wanted)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert [text for _, _, text in spoken(context.output_file) if text] == ["Hello you\nthere"]
    notes = ["subtitles rewritten as mov_text", "1 line of subtitles cannot be read and is left out"]
    assert outcome.result["notes"] == notes[:told]
    kept = prepare(source, "out.mkv", preset="ultrafast")
    assert convert(kept).result["notes"] == []
    assert packets_of(kept.output_file, "subtitle") == packets_of(source, "subtitle")


def test_a_last_packet_of_no_length_is_copied_so_that_it_is_heard(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    film = without_last_length(clips(suffix=".mov", audio="alac"), tmp_path / "in.mov")
    context = prepare(film, "out.mov")
    assert convert(context).result["audio_copied"]
    with av.open(str(context.output_file)) as made:
        assert sum(frame.samples for frame in made.decode(audio=0)) == 4 * 48000


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """Make a film that begins after two seconds, with a subtitle and a chapter before it, and another of each."""
    film = make(
        tmp_path / "early.mkv",
        [Tone()],
        [("subrip", "eng")],
        Beside(chapters=[(0, 1, "One"), (1, 4, "Two")]),
        "1\n00:00:00,400 --> 00:00:01,400\nHello\n\n2\n00:00:01,900 --> 00:00:02,700\nyou\n\n",
    )
    path = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(path), "w") as output:
        output.set_chapters(source.chapters())
        tracks = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.pts is not None:
                moved = 0 if packet.stream.type == "subtitle" else round(2 / packet.time_base)
                packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
                packet.stream = tracks[packet.stream_index]
                output.mux(packet)
    return path


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_what_is_over_before_the_film_begins_is_told(
    late: Path, prepare: Callable[..., Any], convert: Callable[..., Any], output: str
) -> None:
    context = prepare(late, output)
    notes = convert(context).result["notes"]
    assert [note for note in notes if "begins" in note] == [
        "1 line of subtitles is over before the film begins, and is left out",
        "1 chapter is over before the film begins, and is left out",
    ]
    with av.open(str(context.output_file)) as made:
        assert [chapter["metadata"]["title"] for chapter in made.chapters()] == ["Two"]


def test_what_is_over_before_the_part_that_is_wanted_is_not_told(
    late: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    assert not [note for note in convert(prepare(late, "out.mkv", start=0.5)).result["notes"] if "begins" in note]


def test_subtitles_that_cannot_be_kept_are_named(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", subtitles=[("hdmv_pgs_subtitle", "eng"), ("subrip", "eng")])
    outcome = convert(prepare(source))
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == [
        "1 subtitle track dropped: hdmv_pgs_subtitle does not go into mp4",
        "subtitles rewritten as mov_text",
    ]
    context = prepare(source, "out.mkv")
    assert convert(context).result["notes"] == []
    assert packets_of(context.output_file, "subtitle") == packets_of(source, "subtitle")
    none = convert(prepare(source, "none.mkv", subtitles="none"))
    assert none.result["notes"] == ["2 subtitle tracks dropped: as asked"]


def test_a_subtitle_that_stays_until_the_next_one_goes_into_an_mp4(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """It lasts 49 days, for FFmpeg; the conversion failed, because an mp4 cannot hold that."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        written = picture_packets(output)
        track: Any = output.add_mux_stream("dvd_subtitle")
        track.time_base = Fraction(1, 1000)
        for moment in (200, 1200):
            subtitle: Any = Packet(b"\0\x0a" + bytes(8))
            subtitle.stream, subtitle.time_base = track, Fraction(1, 1000)
            subtitle.pts = subtitle.dts = moment
            subtitle.duration = 2**32 - 1
            written.append((moment / 1000, subtitle))
        for _, packet in sorted(written, key=itemgetter(0)):
            output.mux(packet)
    for name in ("out.mp4", "out.mkv"):
        context = prepare(source, name)
        outcome = convert(context)
        assert isinstance(outcome, Finished)
        assert outcome.result["notes"] == []
        with av.open(str(context.output_file)) as made:
            packets = list(made.demux(made.streams.subtitles[0]))
        shown = [
            float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None and packet.size > 2
        ]
        assert [round(moment, 1) for moment in shown] == [0.2, 1.2]
    with_end = prepare(source, "part.mp4", end=2)
    assert isinstance(convert(with_end), Finished)


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


@pytest.mark.parametrize("options", [{}, {"audio_codec": "mp3"}, {"loudness": -20}])
def test_samples_that_are_no_numbers_are_made_finite_and_counted(
    options: dict[str, Any], tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        packets = picture_packets(output)
        track: Any = output.add_stream("pcm_f32le", rate=RATE)
        track.layout = "mono"
        for number in range(100):
            wave = np.full((1, 1024), 0.1, np.float32)
            if number == 50:
                wave[0, :4] = np.nan, np.inf, -np.inf, 3e38
            frame = av.AudioFrame.from_ndarray(wave, "flt", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, number * 1024, Fraction(1, RATE)
            packets += timed(track.encode(frame))
        for _, packet in sorted(packets, key=itemgetter(0)):
            output.mux(packet)
    outcome = convert(prepare(source, **options))
    assert isinstance(outcome, Finished), outcome
    assert any(note.startswith("4 samples of sound are no numbers") for note in outcome.result["notes"])


def test_a_bitrate_that_opus_cannot_hold_becomes_the_nearest_and_is_told(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = make(tmp_path / "in.mp4", [Tone()])
    outcome = convert(prepare(source, audio_codec="opus", audio_channels="mono", audio_bitrate=320_000))
    assert isinstance(outcome, Finished), outcome
    assert outcome.result["notes"] == [
        "2 channels of sound became 1",
        "sound: 320000 bits a second became 256000: opus of 1 channel and 48000 samples a second holds no more",
    ]


def test_mono_becomes_stereo_where_that_is_asked(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(make(tmp_path / "in.mp4", [Tone(layout="mono")]), audio_channels="stereo")
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert outcome.result["notes"] == []
    _, (left, right) = loudest(context.output_file)
    assert left == pytest.approx(right) == pytest.approx(0.0707, rel=0.35)


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
def test_chapters_without_a_title_keep_their_places(
    output: str, tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = make(tmp_path / "in.mkv", beside=Beside(chapters=[(0, 1, ""), (1, 3, "B")]))
    context = prepare(source, output)
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    with av.open(str(context.output_file)) as container:
        begins = [float(chapter["start"] * (chapter["time_base"] or 1)) for chapter in container.chapters()]
        titles = [chapter["metadata"].get("title", "") for chapter in container.chapters()]
    named = output != "out.mkv"
    assert (begins, titles) == ([0, 1], ["Chapter 1" if named else "", "B"])
    assert outcome.result["notes"] == ["1 chapter without a title was called by its number"] * named


@pytest.mark.parametrize(
    ("output", "language", "wanted", "notes"),
    [
        ("out.mp4", "en", "eng", []),
        ("out.mp4", "pt-BR", "por", []),
        ("out.mp4", "fre", "fre", []),
        ("out.mov", "de", "ger", []),
        ("out.mp4", "x-old", None, ["language x-old of the sound dropped: mp4 has no place for it"]),
        ("out.mov", "tlh", None, ["language tlh of the sound dropped: mov has no place for it"]),
        ("out.mkv", "en-US", "en-US", []),
    ],
)
def test_the_language_is_kept_however_the_source_writes_it(
    *,
    output: str,
    language: str,
    wanted: str | None,
    notes: list[str],
    tmp_path: Path,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    context = prepare(make(tmp_path / "in.mkv", [Tone(language=language)]), output, video_codec="copy")
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert outcome.result["notes"] == notes
    with av.open(str(context.output_file)) as container:
        assert container.streams.audio[0].language in (wanted, wanted or "und")


def test_a_rate_that_the_codec_cannot_hold_is_told(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        packets = picture_packets(output)
        track: Any = output.add_stream("flac", rate=96_000)
        track.layout = "mono"
        for number in range(60):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 96_000, number * 4608, Fraction(1, 96_000)
            packets += timed(track.encode(frame))
        for _, packet in sorted([*packets, *timed(track.encode(None))], key=itemgetter(0)):
            output.mux(packet)
    outcome = convert(prepare(source, audio_codec="aac"))
    assert outcome.result["notes"] == ["96000 samples a second of sound became 48000"]


def test_what_is_asked_of_sound_that_is_not_there_is_told(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(clips(audio="", seconds=1), audio_track=2, loudness=-20))
    assert outcome.result["notes"] == [
        "audio_track changes nothing: there is no sound",
        "loudness changes nothing: there is no sound",
    ]


def test_sound_of_a_file_without_exact_times_is_encoded_and_that_is_told(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(clips(suffix=".flv", seconds=1)))
    assert outcome.result["audio_copied"] is False
    told = "sound was encoded: such a file has no exact times of sound; audio_codec copy copies it"
    assert told in outcome.result["notes"]
    assert told not in convert(prepare(clips(suffix=".flv", seconds=1), "other.mp4", audio_codec="aac")).result["notes"]


@pytest.mark.parametrize(
    "options", [{}, {"loudness": -20.0}, {"start": 0.1, "end": 0.5}], ids=["as it is", "loudness", "a part"]
)
def test_eight_channels_are_converted(
    options: dict[str, Any], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", [Tone(layout="7.1", codec="aac")])
    context = prepare(source, "out.mkv", audio_codec="opus", **options)
    assert isinstance(convert(context), Finished)


def test_a_subtitle_without_an_end_needs_no_room(tmp_path: Path) -> None:
    """FFmpeg gives such a bitmap 49 days in a mkv, and so the file: the task waited for 135 GB of room."""
    source = make(
        tmp_path / "in.mkv", subtitles=[("subrip", "eng")], lines=LINES.replace("00:00:02,700", "500:00:00,000")
    )
    with av.open(str(source)) as container:
        assert (container.duration or 0) > 499 * 3600 * 1_000_000
    seen = info_of(read_source(source))
    assert seen.duration < 4
    assert seen.beside < 10_000
