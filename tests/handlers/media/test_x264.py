"""libx264 gives the same bytes on each run."""

import random
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from tasktrail.handlers.media import x264
from tasktrail.handlers.media.x264 import steady_x264

HEIGHT, FRAMES = 96, 30
CAREFUL = {"x264-params": "asm=AVX2"}


def encoded(width: int, options: dict[str, str]) -> bytes:
    """Encode a moving picture with noise on it."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, HEIGHT, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"preset": "veryfast", "threads": "1", **options}
    down, across = np.mgrid[0 : HEIGHT + FRAMES, 0 : width + FRAMES]
    waves = 128 + 60 * np.sin(across / 17) + 50 * np.cos(down / 11)
    scene = np.clip(waves + np.random.default_rng(1).normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
    packets = []
    for number in range(FRAMES):
        grey = np.ascontiguousarray(scene[number : number + HEIGHT, number : number + width])
        frame = av.VideoFrame.from_ndarray(grey, format="gray").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += context.encode(frame)
    return b"".join(bytes(packet) for packet in [*packets, *context.encode(None)])


def soil_memory() -> None:
    """Leave other bytes than before in the memory that is allocated next."""
    junk = [random.randbytes(1000) * random.randint(10, 3000) for _ in range(10)]
    del junk


@pytest.mark.parametrize(("width", "whole"), [(80, False), (114, True), (128, True), (854, False), (1920, True)])
def test_avx512_is_kept_from_rows_that_end_within_eight_blocks(
    monkeypatch: pytest.MonkeyPatch, *, width: int, whole: bool
) -> None:
    monkeypatch.setattr(x264, "_has_avx512", lambda: True)
    assert steady_x264(width) == ({} if whole else CAREFUL)
    monkeypatch.setattr(x264, "_has_avx512", lambda: False)
    assert steady_x264(width) == {}


@pytest.mark.parametrize("width", [114, 128, 176, 240, 256, 304])
def test_the_same_pictures_give_the_same_bytes(width: int) -> None:
    first = encoded(width, steady_x264(width))
    for _ in range(5):
        soil_memory()
        assert encoded(width, steady_x264(width)) == first


@pytest.mark.skipif(not x264._has_avx512(), reason="this CPU has one kind of code only")
@pytest.mark.parametrize("width", [114, 128, 256])
def test_both_kinds_of_code_give_the_same_bytes(width: int) -> None:
    assert encoded(width, {}) == encoded(width, CAREFUL)
