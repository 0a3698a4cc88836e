"""Frames decoded in parallel take memory, so huge frames get fewer threads."""

import os
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tasktrail.handlers.video import opening


@pytest.mark.parametrize(("pixels", "threads"), [(64 * 48 * 3, 3), (64 * 48 - 1, 1), (64 * 48 * 1000, 0)])
def test_huge_frames_get_fewer_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pixels: int, threads: int
) -> None:
    monkeypatch.setattr(opening, "_PIXELS_AT_ONCE", pixels)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        frame = av.VideoFrame(64, 48, "yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        made.mux([*stream.encode(frame), *stream.encode(None)])

    with opening.open_input(path) as container:
        assert opening.picture_stream(container, path.name).codec_context.thread_count == threads
