"""Samples as numbers, whatever their format in a frame and however many channels there are."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from av.audio.frame import AudioFrame

from tasktrail.handlers.media.samples import Finite, frame_of, sample_values

LAYOUTS = {"mono": 1, "stereo": 2, "5.1": 6, "6.1": 7, "7.1": 8, "hexadecagonal": 16}


def like(form: str, layout: str) -> AudioFrame:
    frame = AudioFrame(form, layout, 16)
    frame.sample_rate = 48000
    return frame


def numbered(form: str, layout: str, count: int) -> Any:
    channels, kind = LAYOUTS[layout], np.float32 if form.startswith("flt") else np.int16
    values = np.arange(channels * count, dtype=kind)
    return values.reshape(channels, count) if form.endswith("p") else values.reshape(1, -1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["fltp", "flt", "s16p", "s16"])
def test_samples_come_out_as_they_went_in(form: str, layout: str) -> None:
    values = numbered(form, layout, 24)
    made = frame_of(values, like(form, layout))
    assert (made.samples, made.sample_rate, made.layout.name) == (24, 48000, layout)
    assert np.array_equal(sample_values(made), values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_no_number_becomes_silence_in_the_last_channel_too(layout: str) -> None:
    values = numbered("fltp", layout, 24)
    values[-1, 5] = math.nan
    finite = Finite()
    frame = frame_of(values, like("fltp", layout))
    frame.time_base = Fraction(1, 48000)
    (held,) = finite.frames([frame])
    assert sample_values(held)[-1, 5] == 0
    assert finite.notes("sound")[0].startswith("1 sample of sound")
