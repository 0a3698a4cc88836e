"""Encoded sound stays at its times, in sync with the picture."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.packet import Packet
from conversions import at_checkpoint, digest
from full_films import picture_packets, timed

from tasktrail.handlers import Finished
from tasktrail.handlers.video.convert.sound_times import SoundSynchronizer

RATE = 48000
LENGTH = 1200
"""Samples of a frame: 25 ms."""


def loud(moment: float, form: str = "s16", layout: str = "mono", value: int = 8000) -> AudioFrame:
    """Make a frame of one value, at a time in seconds."""
    planar, channels = form.endswith("p"), av.AudioLayout(layout).nb_channels
    kind = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}[form.rstrip("p")]
    frame = AudioFrame.from_ndarray(
        np.full((channels, LENGTH) if planar else (1, LENGTH * channels), value, kind), form, layout
    )
    frame.sample_rate, frame.pts, frame.time_base = RATE, round(moment * RATE), Fraction(1, RATE)
    return frame


def row(begin: float, end: float, length: float = LENGTH / RATE) -> list[AudioFrame]:
    """Make frames whose times are `length` seconds apart."""
    return [loud(begin + number * length) for number in range(round((end - begin) / length))]


def kept(
    frames: Iterable[AudioFrame],
    *,
    seconds: float | None = 100.0,
    span: tuple[Fraction | None, Fraction | None] = (None, None),
) -> tuple[Any, tuple[str, ...]]:
    """Return all samples of the result for a film of this length, and the notes."""
    film: Any = SimpleNamespace(start_time=0, duration=seconds and round(seconds * 1_000_000))
    in_step = SoundSynchronizer(film, span, lambda _: None)
    values = [frame.to_ndarray()[0] for frame in in_step.frames(frames)]
    return np.concatenate(values), in_step.notes("sound")


def test_sound_without_gaps_passes_untouched() -> None:
    frames = row(0.5, 3)
    in_step = SoundSynchronizer(SimpleNamespace(start_time=0, duration=None), (None, None), lambda _: None)  # type: ignore[arg-type]  # what it asks for
    assert all(one is other for one, other in zip(in_step.frames(iter(frames)), frames, strict=True))
    assert in_step.notes("sound") == ()


def test_a_gap_becomes_silence() -> None:
    values, notes = kept([*row(0, 1), *row(3, 4)])
    assert len(values) == 4 * RATE
    assert np.array_equal(np.flatnonzero(values == 0), np.arange(RATE, 3 * RATE))
    assert notes == ("2.00 s of silence fill the gaps of sound",)


@pytest.mark.parametrize("form", ["u8", "u8p", "s16", "s16p", "s32", "s32p", "flt", "fltp", "dbl", "dblp"])
def test_silence_is_silent_in_every_format(form: str) -> None:
    frames = [
        *(loud(n / 40, form, "stereo", 200) for n in range(4)),
        *(loud(1 + n / 40, form, "stereo", 200) for n in range(4)),
    ]
    values, _ = kept(frames)
    assert len(values) == round(1.1 * RATE) * (1 if form.endswith("p") else 2)
    assert values[len(values) // 2] == (128 if form.startswith("u8") else 0)


def test_what_comes_twice_is_left_out() -> None:
    values, notes = kept([*row(0, 2), *row(1.5, 3)])
    assert len(values) == 3 * RATE
    assert notes == ("0.50 s of sound dropped: their times jump back",)


@pytest.mark.parametrize("share", [1.01, 0.99, 1.001])
def test_drift_is_stretched_away_without_a_hole(share: float) -> None:
    values, notes = kept(row(0, 60, share * LENGTH / RATE))
    assert len(values) / RATE == pytest.approx(60, abs=0.06)
    assert values.min() == values.max() == 8000
    assert len(notes) == 1
    assert "sound was stretched by" in notes[0]


def test_times_that_are_rounded_are_no_gaps() -> None:
    values, notes = kept([loud(round(n * LENGTH / RATE + 0.004 * (-1) ** n, 2)) for n in range(400)])
    assert (len(values), notes) == (400 * LENGTH, ())


def test_one_damaged_time_moves_nothing() -> None:
    frames = row(0, 2)
    frames[20].pts = 90 * RATE
    frames[40].pts = 0
    frames[60].pts = None
    values, notes = kept(frames)
    assert (len(values), notes) == (2 * RATE, ())


@pytest.mark.parametrize(("seconds", "wanted"), [(4.0, 2.0), (None, 2.0), (5000.0, 3001.0)])
def test_a_time_behind_the_end_of_the_file_is_not_believed(seconds: float | None, wanted: float) -> None:
    values, _ = kept([*row(0, 1), *row(3000, 3001)], seconds=seconds)
    assert len(values) == wanted * RATE


def test_notes_are_about_the_part_that_is_wanted() -> None:
    _, notes = kept([*row(0, 1), *row(3, 4)], span=(Fraction(2), Fraction(7, 2)))
    assert notes == ("1.00 s of silence fill the gaps of sound",)
    assert kept([*row(0, 1), *row(3, 4)], span=(Fraction(3), None))[1] == ()


# --- Whole films ---


def film(path: Path, parts: Sequence[tuple[float, float]], codec: str = "pcm_s16le", pace: float = 1.0) -> Path:
    """Make a film of 3 seconds, with a tone between two times. `pace`: how much faster the times run."""
    with av.open(str(path), "w") as output:
        packets = picture_packets(output)
        track: Any = output.add_stream(codec, rate=RATE)
        track.layout = "mono"
        for begin, end in parts:
            for first in range(round(begin * RATE), round(end * RATE), 1152):
                wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(first, first + 1152) / RATE)
                frame = AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, round(first * pace), Fraction(1, RATE)
                packets += timed(track.encode(frame))
        packets += timed(track.encode(None))
        for _, packet in sorted(packets, key=lambda each: each[0]):
            output.mux(packet)
    return path


def heard_at(path: Path) -> list[float]:
    """Return the tenths of a second, counted from the first picture, that have sound."""
    with av.open(str(path)) as container:
        begin = next(frame.time or 0 for frame in container.decode(video=0))
    energy: dict[int, float] = {}
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            values = frame.to_ndarray()[0].astype(float) - (128 if frame.format.name == "u8" else 0)
            for first in range(0, len(values), 48):
                tenth = int(((frame.time or 0) - begin + first / frame.sample_rate) * 10)
                energy[tenth] = max(energy.get(tenth, 0.0), float(np.abs(values[first : first + 48]).max()))
    return [tenth / 10 for tenth, peak in sorted(energy.items()) if peak > 0.2]


@pytest.mark.parametrize(
    ("name", "codec", "output", "options", "wanted"),
    [
        ("in.mkv", "pcm_s16le", "out.mp4", {}, [(0.1, 0.8), (2.2, 2.8)]),
        ("in.mkv", "pcm_s16le", "out.mp4", {"start": 1.5}, [(0.7, 1.3)]),
        ("in.mkv", "pcm_s16le", "out.mp4", {"start": 0.5, "end": 2.5, "loudness": -20}, [(0.1, 0.3), (1.7, 1.9)]),
        ("in.mkv", "pcm_s16le", "out.mov", {}, [(0.1, 0.8), (2.2, 2.8)]),
        ("in.mkv", "pcm_s16le", "out.mov", {"start": 0.5, "end": 2.5}, [(0.1, 0.3), (1.7, 1.9)]),
        ("in.mkv", "pcm_u8", "out.mov", {}, [(0.1, 0.8), (2.2, 2.8)]),
        ("in.ts", "mp2", "out.mp4", {}, [(0.2, 0.8), (2.2, 2.8)]),
    ],
)
def test_a_gap_of_the_source_is_a_gap_of_the_result(
    *,
    name: str,
    codec: str,
    output: str,
    options: dict[str, Any],
    wanted: list[tuple[float, float]],
    tmp_path: Path,
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    context = prepare(film(tmp_path / name, [(0, 0.96), (2.16, 3)], codec), output, **options)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert any("s of silence fill the gaps of sound" in note for note in outcome.result["notes"])
    heard = heard_at(context.output_file)
    for tenth in range(30):
        if any(begin <= tenth / 10 <= end for begin, end in wanted):
            assert tenth / 10 in heard
        elif not any(begin - 0.2 <= tenth / 10 <= end + 0.2 for begin, end in wanted):
            assert tenth / 10 not in heard


def sound_of(path: Path) -> tuple[list[float], bytes]:
    """Return when each packet is heard after the first one, and all samples."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        begin = packets[0].pts or 0
        times = [float(((packet.pts or 0) - begin) * packet.time_base) for packet in packets if packet.time_base]
        return times, b"".join(map(bytes, packets))


@pytest.mark.parametrize("pace", [1.05, 0.95])
def test_copied_sound_that_drifts_has_no_gaps(
    pace: float, tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """It was cut, or got pieces of silence, although nothing is missing or doubled."""
    source = film(tmp_path / "in.mkv", [(0, 2.4)], pace=pace)
    times, samples = sound_of(source)
    outputs = [prepare(source, name) for name in ("out.mov", "out.mkv")]
    in_mov, in_mkv = (convert(context).result["notes"] for context in outputs)
    assert in_mov == ["sound drifts from the picture by up to 0.12 s; with audio_codec aac it would be stretched"]
    assert in_mkv == []
    assert [sound_of(context.output_file)[1] for context in outputs] == [samples, samples]
    assert sound_of(outputs[1].output_file)[0] == pytest.approx(times, abs=0.003)


def test_copied_sound_keeps_its_gaps_where_packets_have_times(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = film(tmp_path / "in.mkv", [(0, 0.96), (2.16, 3)])
    context = prepare(source, "out.mkv")
    assert convert(context).result["notes"] == []
    times, samples = sound_of(context.output_file)
    assert samples == sound_of(source)[1]
    assert times == pytest.approx(sound_of(source)[0], abs=0.003)


def test_a_damaged_time_of_copied_sound_moves_nothing() -> None:
    packets: list[Any] = [Packet(bytes([1]) * 2 * LENGTH) for _ in range(100)]
    for number, packet in enumerate(packets):
        packet.pts, packet.time_base = number * LENGTH, Fraction(1, RATE)
    packets[20].pts, packets[40].pts, packets[60].pts = 90 * RATE, 0, None
    film: Any = SimpleNamespace(start_time=0, duration=100_000_000)
    in_step = SoundSynchronizer(film, (None, None), lambda _: None)
    assert [packet.pts for packet in in_step.packets(iter(packets), RATE, 2)] == [n * LENGTH for n in range(100)]
    assert in_step.notes("sound") == ()


def test_a_kill_leaves_gaps_and_notes_as_they_are(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    whole = prepare(film(tmp_path / "in.mkv", [(0, 0.96), (2.16, 3)]), segments_at_once=1)
    done = convert(whole)
    for number in range(len(whole.checkpoints)):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        assert convert(resumed).result == done.result
        assert digest(resumed.output_file) == digest(whole.output_file)
