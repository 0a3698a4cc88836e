"""The published file's own information about its tracks, read byte by byte: all that its container can hold is kept."""

from collections.abc import Callable
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any

import av
import pytest
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import PictureType
from containers import Contents, contents_of

from tasktrail.handlers import Finished
from tasktrail.handlers.video.opening import as_fraction

SECONDS, BT601 = 2, 6
OUTPUTS = ["mp4", "m4v", "mov", "mkv", "webm"]
TAGS = {"title": "At the sea", "artist": "Ann"}
H265 = [("mp4", "hvc1"), ("m4v", "hvc1"), ("mov", "hvc1"), ("mkv", "V_MPEGH/ISO/HEVC")]


def timed(packets: Any) -> list[tuple[float, Any]]:
    return [(float(packet.dts * packet.time_base), packet) for packet in packets]


def picture(output: Any, rotation: int) -> list[tuple[float, Any]]:
    """Make 160x120 of pixels of 4:3, in the colours of a DVD."""
    stream = output.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    context = stream.codec_context
    context.sample_aspect_ratio = Fraction(4, 3)
    context.color_primaries = context.color_trc = context.colorspace = BT601
    context.color_range = 1
    stream.metadata.update({"language": "deu", "title": "Camera 1", "timecode": "01:02:03:04"})
    stream.disposition = Disposition.default | Disposition.original
    if rotation:
        stream.set_display_rotation(rotation)
    packets = []
    with av.open(f"testsrc2=size=160x120:rate=25:duration={SECONDS}", format="lavfi") as test:
        for frame in test.decode(video=0):
            shown = frame.reformat(format="yuv420p")
            shown.pict_type = PictureType.NONE
            packets += timed(stream.encode(shown))
    return packets + timed(stream.encode(None))


def sound(output: Any) -> list[tuple[float, Any]]:
    track = output.add_stream("aac", rate=48000)
    track.metadata.update({"language": "fra", "title": "Commentary"})
    track.disposition = Disposition.default | Disposition.comment
    packets = []
    with av.open(f"sine=frequency=440:sample_rate=48000:duration={SECONDS}", format="lavfi") as tone:
        for wave in tone.decode(audio=0):
            packets += timed(track.encode(wave))
    return packets + timed(track.encode(None))


def subtitles(output: Any, text: Path) -> list[tuple[float, Any]]:
    text.write_text("1\n00:00:00,400 --> 00:00:01,400\nHello\n\n", encoding="utf-8")
    with av.open(str(text)) as lines:
        source: Any = lines.streams.subtitles[0]
        track = output.add_stream_from_template(source)
        track.metadata.update({"language": "spa", "title": "Signs"})
        track.disposition = Disposition.default | Disposition.forced | Disposition.hearing_impaired
        packets = []
        for packet in [packet for packet in lines.demux(source) if packet.size]:
            written: Any = Packet(bytes(packet))
            written.stream, written.time_base = track, packet.time_base
            written.pts = written.dts = packet.pts
            written.duration = packet.duration
            packets.append(written)
    return timed(packets)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a film with all possible information about itself."""
    made: dict[int, Path] = {}

    def make(rotation: int = 0) -> Path:
        if rotation not in made:
            path = tmp_path_factory.mktemp("film") / "in.mkv"
            with av.open(str(path), "w") as output:
                output.metadata.update(TAGS)
                unit = Fraction(1, 1000)
                chapters: Any = [
                    {"id": 1, "start": 0, "end": 1000, "time_base": unit, "metadata": {"title": "One"}},
                    {"id": 2, "start": 1000, "end": 2000, "time_base": unit, "metadata": {"title": "Two"}},
                ]
                output.set_chapters(chapters)
                packets = [*picture(output, rotation), *sound(output), *subtitles(output, path.with_suffix(".srt"))]
                for _, packet in sorted(packets, key=itemgetter(0)):
                    output.mux(packet)
            made[rotation] = path
        return made[rotation]

    return make


@pytest.fixture
def published(film: Callable[..., Path], prepare: Any, convert: Any) -> Callable[..., tuple[Contents, Path, list[str]]]:
    def make(suffix: str, rotation: int = 0, **options: Any) -> tuple[Contents, Path, list[str]]:
        context = prepare(film(rotation), f"out.{suffix}", **options)
        outcome = convert(context)
        assert isinstance(outcome, Finished)
        return contents_of(context.output_file), context.output_file, outcome.result["notes"]

    return make


def test_the_source_says_what_the_tests_below_rely_on(film: Callable[..., Path]) -> None:
    said = contents_of(film())
    assert [track.language for track in said.tracks] == ["deu", "fra", "spa"]
    assert said.only("subtitle").marks == {"default", "forced", "hearing impaired"}
    assert said.only("video").colour == (BT601, BT601, BT601)
    assert said.chapters == [(0, "One"), (1, "Two")]


@pytest.mark.parametrize(("suffix", "tag"), H265)
def test_h265_bears_the_tag_that_apples_players_ask_for(published: Any, suffix: str, tag: str) -> None:
    """The parts had it, and the published file did not: its tag was hev1."""
    said, _, _ = published(suffix, video_codec="h265", preset="ultrafast")
    assert said.only("video").codec == tag


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [
        ("mp4", {"h264": "avc1", "h265": "hvc1", "vp9": "vp09", "av1": "av01"}),
        ("mov", {"h264": "avc1", "h265": "hvc1"}),
        ("mkv", {"h264": "V_MPEG4/ISO/AVC", "h265": "V_MPEGH/ISO/HEVC", "vp9": "V_VP9", "av1": "V_AV1"}),
        ("webm", {"vp9": "V_VP9", "av1": "V_AV1"}),
    ],
)
def test_every_codec_keeps_shape_colours_and_tag_in_every_container(
    published: Any, suffix: str, codecs: dict[str, str]
) -> None:
    for codec, tag in codecs.items():
        said, path, notes = published(suffix, video_codec=codec, preset="ultrafast")
        video = said.only("video")
        assert video.codec == tag
        assert video.colour == (BT601, BT601, BT601), codec
        assert video.full_range is not True
        assert not video.turned
        assert not video.interlaced
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            shown = (stream.width, stream.height, as_fraction(stream.sample_aspect_ratio) or 1)
        if suffix in ("mkv", "webm") and codec in ("vp9", "av1"):  # nothing there gives the shape of a pixel
            assert shown == (212, 120, 1)
            assert "pixels of 4:3 became square" in notes
        else:
            assert shown == (160, 120, Fraction(4, 3))
            assert video.aspect == ((4, 3) if suffix in ("mp4", "mov") else None)


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_a_turned_picture_is_upright_in_itself_and_not_by_a_word(published: Any, suffix: str) -> None:
    said, path, _ = published(suffix, rotation=90)
    assert not said.only("video").turned
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        aspect = container.streams.video[0].sample_aspect_ratio or 1
    assert frame.rotation == 0
    assert frame.width * aspect / frame.height == pytest.approx(120 / (160 * 4 / 3), rel=0.01)


LANGUAGES: dict[str, list[Any]] = {
    "mp4": ["deu", "fra", "spa"],
    "m4v": ["deu", "fra", "spa"],
    "mov": [2, 1, 6],  # German, French, Spanish, as QuickTime counts
    "mkv": ["deu", "fra", "spa"],
    "webm": ["deu", "fra", "spa"],
}
MARKS = {
    "mp4": ({"default"}, {"default", "commentary"}, {"default", "forced-subtitle", "caption"}),
    "mov": ({"default"}, {"default"}, {"default"}),
    "mkv": ({"default", "original"}, {"default", "comment"}, {"default", "forced", "hearing impaired"}),
    "webm": ({"default"}, {"default"}, {"default", "forced"}),
}
NO_PLACE = {
    "mp4": {"the picture is no longer marked as original: mp4 has no place for it"},
    "mov": {
        "the picture is no longer marked as original: mov has no place for it",
        "the sound is no longer marked as comment: mov has no place for it",
        "the subtitle track is no longer marked as forced, hearing impaired: mov has no place for it",
    },
    "mkv": set(),
    "webm": {
        "the picture is no longer marked as original: webm has no place for it",
        "the sound is no longer marked as comment: webm has no place for it",
        "the subtitle track is no longer marked as hearing impaired: webm has no place for it",
    },
}


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_languages_titles_marks_and_chapters_are_kept_or_named(published: Any, suffix: str) -> None:
    said, path, notes = published(suffix)
    tracks = [said.only(kind) for kind in ("video", "audio", "subtitle")] if suffix in ("mkv", "webm") else said.tracks
    assert [track.language for track in tracks[:3]] == LANGUAGES[suffix]
    assert [track.title for track in tracks[:3]] == ["Camera 1", "Commentary", "Signs"]
    of = suffix.replace("m4v", "mp4")
    assert [track.marks for track in tracks[:3]] == list(MARKS[of])
    assert {note for note in notes if "no longer marked" in note} == NO_PLACE[of]
    assert said.chapters == [(0, "One"), (1, "Two")]
    assert not [note for note in notes if "dropped" in note]
    with av.open(str(path)) as container:
        assert {name: container.metadata.get(name.upper(), container.metadata.get(name)) for name in TAGS} == TAGS
        said_of_picture = {name.lower(): value for name, value in container.streams.video[0].metadata.items()}
    assert said_of_picture["timecode"] == "01:02:03:04"


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_where_no_track_is_marked_as_default_the_first_of_its_kind_is_in_mp4_and_mov(
    prepare: Any, convert: Any, tmp_path: Path, suffix: str
) -> None:
    with av.open(str(tmp_path / "plain.mkv"), "w", options={"default_mode": "passthrough"}) as output:
        packets = picture(output, 0)
        output.streams[0].disposition = Disposition(0)
        for _, packet in packets:
            output.mux(packet)
    assert contents_of(tmp_path / "plain.mkv").only("video").marks == frozenset()
    context = prepare(tmp_path / "plain.mkv", f"out.{suffix}")
    assert isinstance(convert(context), Finished)
    marks = contents_of(context.output_file).only("video").marks
    assert marks == ({"default"} if suffix in ("mp4", "mov") else set())


def test_chapters_follow_a_picture_that_begins_late(prepare: Any, convert: Any, tmp_path: Path) -> None:
    """Times count from the beginning of the result, and a chapter that ends before it is left out."""
    late = tmp_path / "late.mkv"
    with av.open(str(late), "w") as output:
        unit = Fraction(1, 1000)
        chapters: Any = [
            {"id": 1, "start": 0, "end": 9_000, "time_base": unit, "metadata": {"title": "before"}},
            {"id": 2, "start": 9_000, "end": 11_000, "time_base": unit, "metadata": {"title": "across"}},
            {"id": 3, "start": 11_000, "end": 12_000, "time_base": unit, "metadata": {"title": "behind"}},
        ]
        output.set_chapters(chapters)
        for _, packet in picture(output, 0):
            shift = round(10 / packet.time_base)
            packet.pts += shift
            packet.dts += shift
            output.mux(packet)
    context = prepare(late, "out.mkv")
    assert isinstance(convert(context), Finished)
    assert contents_of(context.output_file).chapters == [(0, "across"), (1, "behind")]
