"""`burn_subtitles`: text and bitmaps become part of the picture, at the times and places where players show them."""

from collections.abc import Callable
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from full_films import Beside, make, picture_packets

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video.convert import burning as module
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.burning import Bitmap, CueText
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.handlers.video.light import HLG, PQ
from tasktrail.handlers.video.tones import paper_white, pq_value
from tasktrail.testing import job_for

RATE = 25
ONE = 1 << 16
SHOWN = [number for number in range(75) if 0.4 <= number / RATE < 1.4 or 1.9 <= number / RATE < 2.7]
"""The frames of the film that have a line."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a film with the same lines in two tracks."""
    return make(tmp_path_factory.mktemp("burned") / "in.mkv", [], [("subrip", "eng"), ("ass", "deu")], Beside())


def pictures(path: Path) -> Any:
    """Return the brightness of all frames."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)])


def changed(one: Any, other: Any) -> list[int]:
    """Return the numbers of the frames that differ by more than another encoding explains."""
    return [number for number, apart in enumerate(abs(one - other).max(axis=(1, 2))) if apart > 60]


@pytest.mark.parametrize("track", [1, 2])
def test_a_line_of_text_is_shown_from_its_first_frame_to_its_last_and_in_no_other(
    track: int, film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    plain, burned = prepare(film, "plain.mp4", crf=8), prepare(film, "burned.mp4", crf=8, burn_subtitles=track)
    convert(plain)
    outcome = convert(burned)
    assert isinstance(outcome, Finished)
    before, after = pictures(plain.output_file), pictures(burned.output_file)
    assert changed(before, after) == SHOWN
    assert changed(before[:, :60], after[:, :60]) == []  # text is at the bottom
    assert outcome.result["subtitles"] == 1
    notes = outcome.result["notes"]
    assert f"subtitle track {track} became part of the picture" in notes
    assert any("drawn in one style" in note for note in notes) == (track == 2)


@pytest.mark.slow
def test_a_quality_is_measured_with_the_lines_in_the_picture(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """If only the samples had them, or only the reference, no crf would come near the value."""
    plain = convert(prepare(film, "plain.mp4", quality="xpsnr:45")).result["quality"]
    burned = convert(prepare(film, "burned.mp4", quality="xpsnr:45", burn_subtitles=1)).result["quality"]
    assert burned["reached"] >= 45
    assert burned["tried"] != plain["tried"]


def test_the_file_is_the_same_however_many_segments_are_made_at_once(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    made = []
    for at_once in (1, 3):
        context = prepare(
            film, f"out{at_once}.mp4", burn_subtitles=1, segment_seconds=0.5, segments_at_once=at_once, pad="200:160"
        )
        convert(context)
        made.append(context.output_file.read_bytes())
    assert made[0] == made[1]


def test_a_part_at_another_rate_has_the_lines_at_their_own_times(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    how: dict[str, Any] = {"crf": 8, "start": 1, "end": 2.5, "frame_rate": 50}
    plain, burned = prepare(film, "plain.mp4", **how), prepare(film, "burned.mp4", **how, burn_subtitles=1)
    convert(plain)
    convert(burned)
    wanted = [number for number in range(75) if number / 50 + 1 < 1.4 or number / 50 + 1 >= 1.9]
    assert changed(pictures(plain.output_file), pictures(burned.output_file)) == wanted


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_line_leaves_a_picture_that_is_mirrored_top_to_bottom_as_it_is(
    codec: str, tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """It was flipped while a line was shown, and the av1 encoder refused it completely."""
    source = make(tmp_path / "in.mp4", [], [("mov_text", "eng")], Beside(matrix=(ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30)))
    plain, burned = (
        prepare(source, f"{name}.mp4", video_codec=codec, preset="veryfast", crf=8, burn_subtitles=track)
        for name, track in (("plain", None), ("burned", 1))
    )
    assert isinstance(convert(plain), Finished)
    assert isinstance(convert(burned), Finished)
    before, after = pictures(plain.output_file), pictures(burned.output_file)
    assert set(SHOWN) <= set(changed(before, after))
    assert changed(before[:, :60], after[:, :60]) == []


class Uncopied(list[Any]):
    """A list of which no part may be copied."""

    def __getitem__(self, place: Any) -> Any:
        assert not isinstance(place, slice)
        return super().__getitem__(place)


def test_how_long_lines_are_shown_is_found_in_one_way_through_them() -> None:
    """The rest of the list was copied for each line, which took seconds for a long track."""
    bitmap, text = Bitmap(0, 0, 1, 1, (1, 1), b""), CueText((), top=False)
    told: list[tuple[int, int | None, tuple[CueText | Bitmap, ...]]] = [
        (0, 9, (bitmap,)),
        (2, None, (text,)),
        (2, 9, (bitmap, text)),
        (3, 9, (text,)),
        (4, None, ()),
        (5, None, (text,)),
    ]
    lines = Uncopied(
        module._Decoded(Fraction(start), None if end is None else Fraction(end), shown) for start, end, shown in told
    )
    found = [(int(line.start), int(line.end)) for line in module._timed(lines)]
    assert found == [(0, 2), (2, 3), (2, 3), (2, 3), (3, 9), (5, 35)]


# --- Bitmaps ---


def part(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(2, "big") + content


def two(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


BOX = 20, 90, 40, 10
"""x, y, width and height of a white bar."""


def shown_bar(canvas: tuple[int, int]) -> bytes:
    """Return a packet of PGS that shows the bar."""
    x, y, width, height = BOX
    screen = two(*canvas) + b"\x10" + two(1) + b"\x80\x00\x00\x01" + two(0) + b"\x00\x00" + two(x, y)
    row = bytes([0, 0x80 | width, 1, 0, 0])
    content = two(width, height) + row * height
    picture = two(0) + b"\x00\xc0" + len(content).to_bytes(3, "big") + content
    colours = b"\x00\x00" + bytes([1, 235, 128, 128, 255])
    window = b"\x01\x00" + two(x, y, width, height)
    return part(0x16, screen) + part(0x17, window) + part(0x14, colours) + part(0x15, picture) + part(0x80, b"")


def nothing(canvas: tuple[int, int]) -> bytes:
    """Return a packet that clears the bar."""
    return part(0x16, two(*canvas) + b"\x10" + two(2) + b"\x00\x00\x00\x00") + part(0x80, b"")


@pytest.fixture
def barred(tmp_path: Path) -> Path:
    """Make a film with a bar from 0.8 s to 1.6 s."""
    path = tmp_path / "barred.mkv"
    with av.open(str(path), "w") as output:
        packets = picture_packets(output)
        track: Any = output.add_mux_stream("hdmv_pgs_subtitle")
        track.time_base = Fraction(1, 1000)
        for moment, content in ((800, shown_bar((160, 120))), (1600, nothing((160, 120)))):
            packet: Any = Packet(content)
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = moment
            packets.append((moment / 1000, packet))
        for _, packet in sorted(packets, key=itemgetter(0)):
            output.mux(packet)
    return path


def test_a_bitmap_is_drawn_at_its_place_until_it_is_taken_away(
    barred: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(barred, crf=8, width=320, burn_subtitles=1)
    assert isinstance(convert(context), Finished)
    frames = pictures(context.output_file)
    inside = frames[:, 184:196, 44:116].min(axis=(1, 2))
    assert [number for number, darkest in enumerate(inside) if darkest > 220] == list(range(20, 40))
    assert frames[20:40, 170:176, 44:116].min() < 150  # above it


def test_a_bitmap_that_would_be_cropped_away_is_moved_inside(
    barred: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(barred, crf=8, crop="160:80:0:0", burn_subtitles=1)
    convert(context)
    assert pictures(context.output_file)[20:40, 72:78, 24:56].min() > 220


# --- Light, and refusals ---


def test_white_is_white_paper_in_high_dynamic_range() -> None:
    white = np.ones((1, 3))
    assert np.allclose(paper_white(white, PQ), pq_value(203.0), atol=1e-3)
    assert np.allclose(paper_white(white, HLG), 0.75, atol=0.01)
    assert np.allclose(paper_white(0 * white, PQ), 0, atol=1e-3)


def test_a_line_that_cannot_be_read_is_named(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.mkv", subtitles=[("subrip", "deu")])
    source.write_bytes(source.read_bytes().replace("Grüße".encode(), "Gr\xfc\xfc\xdf\xdfe".encode("latin-1")))
    outcome = convert(prepare(source, preset="ultrafast", burn_subtitles=1))
    assert "1 line of subtitle track 1 cannot be read and is left out" in outcome.result["notes"]


def test_a_track_that_is_not_there_is_rejected(
    film: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(film, burn_subtitles=3))
    assert isinstance(outcome, Rejected)
    assert "has 2 subtitle tracks, not 3" in outcome.reason


def test_bitmaps_of_television_are_not_drawn_but_kept_in_a_mkv(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    refused = convert(prepare(make(tmp_path / "in.ts", [], [("dvb_subtitle", "eng")]), burn_subtitles=1))
    assert isinstance(refused, Rejected)
    assert "is of dvb_subtitle" in refused.reason
    assert refused.reason.endswith("can be drawn: write a mkv, which keeps it as it is")


def test_bitmaps_of_divx_are_neither_drawn_nor_kept(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = tmp_path / "in.avi"
    with av.open(str(clips(codec="mpeg4", audio="", suffix=".avi"))) as film, av.open(str(source), "w") as output:
        tracks = [output.add_stream_from_template(film.streams.video[0], opaque=True) for _ in range(2)]
        for packet in [packet for packet in film.demux(video=0) if packet.size]:
            packet.stream = tracks[0]
            output.mux(packet)
    content = source.read_bytes()
    place = content.rindex(b"strh", 0, content.index(b"movi"))  # the second track becomes one of subtitles
    source.write_bytes(content[:place] + content[place:].replace(b"FMP4", b"DXSB", 2))
    refused = convert(prepare(source, "out.mkv", burn_subtitles=1))
    assert isinstance(refused, Rejected)
    assert "is of xsub" in refused.reason
    assert refused.reason.endswith("can be drawn: leave burn_subtitles out")


def test_a_picture_that_is_copied_cannot_be_drawn_on() -> None:
    check = video_convert.check
    assert check
    with pytest.raises(InvalidOptions, match="burn_subtitles"):
        check(job_for(VideoConvertOptions(video_codec="copy", burn_subtitles=1), "/in.mkv", "/out.mkv"))
