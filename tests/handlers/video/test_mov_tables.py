"""The display times of keyframes, by the tables of an mp4 or mov; and senseless tables."""

import struct
import tracemalloc
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
    """A segment that begins a few frames before a keyframe would decode the whole group before it for these frames."""
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
    """Any byte of the tables may be changed, and the file may end anywhere."""
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


def test_the_tables_of_a_long_film_take_little_memory(tmp_path: Path) -> None:
    """Each frame may have an entry. As a list they took more memory than the rest of an attempt."""
    frames, film = 300_000, tmp_path / "film.mp4"
    leads = b"".join(struct.pack(">Ii", 1, number % 7) for number in range(1, frames + 1))
    keyframes = range(1, frames + 1, 250)
    film.write_bytes(_film(stss=b"".join(struct.pack(">I", number) for number in keyframes), ctts=leads))
    tracemalloc.start()
    try:
        assert keyframe_leads(film, 1) == [number % 7 for number in keyframes]
        assert tracemalloc.get_traced_memory()[1] < 3 * len(leads)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("numbers", [(0, 1), (1, 1), (3, 2), (2, 5)])
def test_keyframes_that_do_not_rise_or_are_no_samples_tell_nothing(numbers: tuple[int, ...], tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(_film(stss=struct.pack(">2I", *numbers), ctts=struct.pack(">IiIi", 1, 0, 3, 7)))
    assert keyframe_leads(film, 1) == []
    film.write_bytes(_film(stss=struct.pack(">2I", 1, 4), ctts=struct.pack(">IiIi", 1, 0, 3, 7)))
    assert keyframe_leads(film, 1) == [0, 7]


def _film(*, stss: bytes, ctts: bytes) -> bytes:
    """Make the tables of a film with one track, and nothing else of it."""

    def box(kind: bytes, *contents: bytes) -> bytes:
        content = b"".join(contents)
        return struct.pack(">I4s", 8 + len(content), kind) + content

    def table(kind: bytes, entries: bytes, size: int) -> bytes:
        return box(kind, struct.pack(">II", 0, len(entries) // size), entries)

    header = box(b"tkhd", struct.pack(">4I", 0, 0, 0, 1))
    tables = box(b"stbl", table(b"stss", stss, 4), table(b"ctts", ctts, 8))
    return box(b"moov", box(b"trak", header, box(b"mdia", box(b"minf", tables))))
