"""The picture of sound: the whole range, and no peak is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sounds import tone, write

from tasktrail.handlers import Finished
from tasktrail.handlers.audio.convert.waveform import Envelope

BLUE, WHITE = (0, 0, 255), (255, 255, 255)


def columns_of(picture: Image.Image, colour: tuple[int, ...] = BLUE) -> list[tuple[int, int]]:
    """Return the first and last row of the colour in each column."""
    pixels = (np.asarray(picture.convert("RGB")) == colour).all(axis=2)
    return [(int(rows.argmax()), len(rows) - 1 - int(rows[::-1].argmax())) for rows in pixels.T]


@pytest.mark.parametrize("samples", [1, 7, 100, 999, 12345, 1_000_003])
@pytest.mark.parametrize("part", [1, 997, 65536])
def test_each_column_has_the_lowest_and_the_highest_sample_of_its_time(samples: int, part: int) -> None:
    """A block may lie in two columns, so a neighbour's sample may show in a column, but none of its own is missing."""
    if samples / part > 20_000:
        pytest.skip("the same as with larger parts, and slow")
    columns = 16
    sound = np.random.default_rng(samples).uniform(-1, 1, (2, samples)).astype(np.float32)
    envelope = Envelope(2, columns)
    for begin in range(0, samples, part):
        envelope.add(sound[:, begin : begin + part])
    found = envelope.columns(columns)
    slack = max(1, samples // (16 * columns))
    for column in range(columns):
        begin, end = column * samples // columns, -(-(column + 1) * samples // columns)
        inside, around = sound[:, begin:end], sound[:, max(0, begin - slack) : end + slack]
        assert (found[0, :, column] <= inside.min(axis=1)).all()
        assert (found[1, :, column] >= inside.max(axis=1)).all()
        assert (found[0, :, column] >= around.min(axis=1)).all()
        assert (found[1, :, column] <= around.max(axis=1)).all()


def test_long_sound_takes_no_more_than_short_sound() -> None:
    """Samples of an incomplete block are not kept: appending each frame to them would take longer and longer."""
    envelope = Envelope(2, 16)

    def held() -> int:
        return sum(each.nbytes for each in vars(envelope).values() if isinstance(each, np.ndarray))

    before = held()
    for _ in range(500):
        envelope.add(np.zeros((2, 997), np.float32))
    assert held() == before


def test_one_loud_sample_is_seen_in_its_column(tmp_path: Path, convert: Callable[..., Any]) -> None:
    wave = np.zeros((1, 441_000), np.float32)
    wave[0, 220_600] = 0.99
    source = write(tmp_path / "in.wav", wave)
    output, outcome = convert(source, "out.png", width=100, height=101, color="#0000ff")
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"], outcome.result["format"]) == (100, 101, "png")
    with Image.open(output) as picture:
        seen = columns_of(picture)
    assert seen[50][0] <= 1
    assert {rows for number, rows in enumerate(seen) if number != 50} == {(50, 50)}


def test_full_scale_fills_the_lane_and_half_of_it_half(tmp_path: Path, convert: Callable[..., Any]) -> None:
    source = write(tmp_path / "in.wav", tone(peak=0.5, channels=1), codec="pcm_f32le")
    output, _ = convert(source, "out.png", width=64, height=201, color="#0000ff", background="#ffffff")
    with Image.open(output) as picture:
        assert picture.mode == "RGB"
        assert set(columns_of(picture)) == {(50, 150)}


def test_channels_get_lanes_if_that_is_asked(tmp_path: Path, convert: Callable[..., Any]) -> None:
    wave = tone(channels=8, peak=0.9)
    wave[1:] = 0
    source = write(tmp_path / "in.wav", wave)
    output, _ = convert(source, "out.png", width=64, height=400, lanes="channels", color="#0000ff")
    with Image.open(output) as picture:
        rows = (np.asarray(picture.convert("RGB")) == BLUE).all(axis=2).sum(axis=1)
    assert (rows[5:45] > 0).all()
    assert [int((rows[lane * 50 : lane * 50 + 50] > 0).sum()) for lane in range(1, 8)] == [1] * 7


def test_the_background_may_be_transparent(tmp_path: Path, convert: Callable[..., Any]) -> None:
    source = write(tmp_path / "in.wav", tone())
    output, _ = convert(source, "out.png", width=64, height=64, background="transparent")
    with Image.open(output) as picture:
        assert picture.mode == "RGBA"
        assert picture.getpixel((0, 0))[3] == 0  # type: ignore[index]  # four values


def test_a_part_of_the_sound_is_drawn_over_the_whole_width(tmp_path: Path, convert: Callable[..., Any]) -> None:
    wave = np.concatenate((np.zeros((1, 44100), np.float32), tone(1.0, channels=1, peak=0.9)), axis=1)
    source = write(tmp_path / "in.wav", wave)
    output, _ = convert(source, "out.png", start=1, end=2, width=64, height=101, color="#0000ff")
    with Image.open(output) as picture:
        assert all(upper < 10 for upper, _ in columns_of(picture))
