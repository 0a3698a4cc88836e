"""When keyframes are shown, by the tables of an mp4 or mov; and what is made of tables that make no sense."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import av
import pytest

from tasktrail.handlers.video.mov_tables import keyframe_leads
from tasktrail.handlers.video.source import read_source

OPEN: dict[str, dict[str, Any]] = {
    "hevc": {"codec": "libx265", "options": {"x265-params": "keyint=25:open-gop=1:bframes=4:log-level=none"}},
    "h264": {"options": {"g": "25", "bf": "3", "x264-params": "open-gop=1:b-adapt=0"}},
    "mpeg2": {"codec": "mpeg2video", "options": {"g": "25", "bf": "2"}},
    "closed": {"options": {"g": "25", "bf": "3"}},
    "without B-frames": {"options": {"g": "25", "bf": "0"}},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", OPEN)
def test_keyframes_are_known_by_the_moment_they_are_shown(name: str, suffix: str, clips: Callable[..., Path]) -> None:
    """A segment that begins a few frames before one would decode the whole group of pictures before it for these."""
    film = clips(suffix=suffix, **OPEN[name])
    with av.open(str(film)) as container:
        shown = [packet.pts for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    assert len(shown) > 2
    assert list(read_source(film).keyframes) == shown


def test_a_track_without_leads_or_with_another_number_has_none(clips: Callable[..., Path]) -> None:
    assert keyframe_leads(clips(**OPEN["hevc"]), 1)
    assert keyframe_leads(clips(**OPEN["hevc"]), 7) == []
    assert keyframe_leads(clips(**OPEN["without B-frames"]), 1) == []


def test_damaged_tables_are_no_trouble(clips: Callable[..., Path], tmp_path: Path) -> None:
    """Any byte of the tables may be another one, and the file may end anywhere."""
    whole = clips(**OPEN["hevc"]).read_bytes()
    moov = whole.index(b"moov") - 4
    chance, film = Random(1), tmp_path / "film.mp4"
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            content[chance.randrange(moov, len(content))] = chance.choice((0, 1, 8, 127, 255, chance.randrange(256)))
        film.write_bytes(content[: chance.choice((len(content), chance.randrange(moov, len(content))))])
        assert all(isinstance(lead, int) for lead in keyframe_leads(film, 1))


def test_of_a_file_of_nothing_but_boxes_some_are_looked_at(clips: Callable[..., Path], tmp_path: Path) -> None:
    whole, film = clips(**OPEN["hevc"]), tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\10free" * 1_000 + whole.read_bytes())
    assert keyframe_leads(film, 1) == keyframe_leads(whole, 1)
    film.write_bytes(b"\0\0\0\10free" * 20_000 + whole.read_bytes())
    assert keyframe_leads(film, 1) == []
