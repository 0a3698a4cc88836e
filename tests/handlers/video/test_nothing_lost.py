"""Every property of the input is in the output, or was asked away, or is in the notes: all are compared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition
from full_films import Beside, Tone, cover_of, make, picture_packets
from properties import differences, properties_of

from tasktrail.handlers import Finished

FONT = b"\x00\x01\x00\x00 not much of a font"
BESIDE = Beside(
    tags={
        "title": "At the sea",
        "artist": "Ann",
        "comment": "first cut",
        "creation_time": "2011-11-11T11:11:11.000000Z",
        "foo": "bar",
    },
    chapters=[(0, 1.4, "One"), (1.4, 3, "Two")],
    attachments={"serif.ttf": ("font/ttf", FONT), "cover.jpg": ("image/jpeg", cover_of())},
)
TONES = [
    Tone(title="Main", marks=Disposition.default),
    Tone(1000, language="deu", codec="ac3", title="Comments", marks=Disposition.comment, tags={"note": "b"}),
]
SUBTITLES = [("subrip", "eng"), ("ass", "deu")]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an mkv with everything that a film can have."""
    return make(tmp_path_factory.mktemp("full") / "in.mkv", TONES, SUBTITLES, BESIDE)


@pytest.fixture
def compare(prepare: Callable[..., Any], convert: Callable[..., Any]) -> Callable[..., Any]:
    """Convert, and return the differences and the notes."""

    def compared(source: Path, output: str, **options: Any) -> tuple[dict[str, tuple[Any, Any]], list[str], Path]:
        context = prepare(source, output, preset="ultrafast", **options)
        outcome = convert(context)
        assert isinstance(outcome, Finished)
        return differences(source, context.output_file), outcome.result["notes"], context.output_file

    return compared


ENCODED = {"video 1 profile"}
"""The changes that re-encoding the picture causes."""
REWRITTEN = {"subtitle 1 codec", "subtitle 2 codec"}
NO_ATTACHMENTS = {"attachment 1 name", "attachment 1 kind", "attachment 1 content"}
FIRST_IS_DEFAULT = {"subtitle 1 marks", "video 1 marks"}
"""In mp4 and mov the first track of a kind is marked as default if none is."""


@pytest.mark.parametrize(
    ("output", "changed", "notes"),
    [
        ("out.mkv", ENCODED, []),
        (
            "out.mp4",
            {*ENCODED, *REWRITTEN, *FIRST_IS_DEFAULT, *NO_ATTACHMENTS, "tag foo", "audio 2 tag note"},
            [
                "subtitles rewritten as mov_text",
                "attachment serif.ttf dropped: mp4 has no place for it",
                "tags dropped: foo: mp4 has no place for them",
                "tags of sound track 2 dropped: note: mp4 has no place for them",
            ],
        ),
        (
            "out.mov",
            {
                *(*ENCODED, *REWRITTEN, *FIRST_IS_DEFAULT, *NO_ATTACHMENTS, "cover 1 codec"),
                *("tag foo", "audio 2 tag note", "audio 2 marks", "audio 2 language", "subtitle 2 language"),
            },
            [
                "sound track 2 is no longer marked as comment: mov has no place for it",
                "subtitles rewritten as mov_text",
                "cover picture cover.jpg dropped: mov has no place for it",
                "attachment serif.ttf dropped: mov has no place for it",
                "tags dropped: foo: mov has no place for them",
                "tags of sound track 2 dropped: note: mov has no place for them",
            ],
        ),
        (
            "out.webm",
            {
                *(*ENCODED, *REWRITTEN, *NO_ATTACHMENTS, "cover 1 codec", "video 1 codec"),
                *("audio 1 codec", "audio 2 codec", "audio 2 marks"),
                "video 1 colour",  # the limited range is tagged now
            },
            [
                "sound track 1 of aac became opus",
                "sound track 2 of ac3 became opus",
                "sound track 2 is no longer marked as comment: webm has no place for it",
                "subtitles rewritten as webvtt",
                "cover picture cover.jpg dropped: webm has no place for it",
                "attachment serif.ttf dropped: webm has no place for it",
            ],
        ),
    ],
)
def test_every_difference_is_known_and_every_loss_is_noted(
    compare: Callable[..., Any], full: Path, output: str, changed: set[str], notes: list[str]
) -> None:
    found, said, _ = compare(full, output)
    assert (found.keys(), said) == (changed, notes)


def test_from_mp4_to_mkv_and_back_all_is_kept(compare: Callable[..., Any], full: Path) -> None:
    _, _, mp4 = compare(full, "first.mp4")
    found, notes, mkv = compare(mp4, "second.mkv")
    assert (found.keys(), notes) == ({*REWRITTEN}, ["subtitles rewritten as subrip"])
    found, notes, _ = compare(mkv, "third.mp4")
    assert (found.keys(), notes) == ({*REWRITTEN}, ["subtitles rewritten as mov_text"])


def test_a_cover_of_an_mp4_is_the_same_picture_as_in_the_mkv(compare: Callable[..., Any], tmp_path: Path) -> None:
    beside = Beside(attachments={"poster.png": ("image/png", cover_of("png"))})
    source = make(tmp_path / "in.mkv", [Tone()], (), beside)
    _, notes, mp4 = compare(source, "out.mp4")
    assert notes == []
    _, notes, mkv = compare(mp4, "back.mkv")
    assert notes == []
    assert properties_of(mkv)["cover 1 codec"] == "png"
    assert cover_of("png") in mkv.read_bytes()


def test_a_damaged_cover_is_named_and_does_not_cost_the_film(compare: Callable[..., Any], tmp_path: Path) -> None:
    beside = Beside(attachments={"cover.jpg": ("image/jpeg", b"no picture"), "a.ttf": ("font/ttf", b"font")})
    source = make(tmp_path / "in.mkv", [Tone()], (), beside)
    assert "cover picture cover.jpg dropped: damaged" in compare(source, "out.mp4")[1]
    _, notes, mkv = compare(source, "out.mkv")
    assert notes == []
    assert b"no picture" in mkv.read_bytes()


def test_tags_can_be_stripped_and_the_words_of_tracks_stay(compare: Callable[..., Any], full: Path) -> None:
    found, notes, _ = compare(full, "out.mkv", metadata="strip")
    tags = {f"tag {name}" for name in BESIDE.tags}
    assert found.keys() == {*ENCODED, *tags, "audio 2 tag note"}
    assert notes == ["tags dropped, as asked"]


def test_subtitles_of_any_number_and_size_are_kept(compare: Callable[..., Any], tmp_path: Path) -> None:
    """There were at most 32 tracks, and 64 MiB of all of them; the rest was silently lost."""
    source = make(tmp_path / "in.mkv", [Tone()], [("subrip", "eng")] * 40)
    found, notes, _ = compare(source, "out.mkv")
    assert (found.keys(), notes) == (ENCODED, [])


@pytest.mark.slow
def test_a_timecode_is_kept_where_it_can_be_counted(compare: Callable[..., Any], tmp_path: Path) -> None:
    for code, kept in (("01:02:03:04", True), ("01:02:03;04", False), ("nonsense", False)):
        source = make(tmp_path / "in.mkv", [Tone()], (), Beside(tags={"timecode": code}))
        _, notes, mp4 = compare(source, "out.mp4")
        assert notes == ([] if kept else [f"timecode {code} dropped"])
        assert (properties_of(mp4).get("video 1 tag timecode") == code) is kept
        _, notes, mkv = compare(source, "out.mkv")
        assert (notes, properties_of(mkv)["video 1 tag timecode"]) == ([], code)


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
def test_a_time_of_recording_that_is_told_twice_is_kept(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path, output: str
) -> None:
    """In the header of an mp4, and in a tag. FFmpeg 9 joins both by a semicolon."""
    source, when = tmp_path / "in.mp4", "2011-11-11T11:11:11.000000Z"
    with av.open(str(source), "w", options={"movflags": "use_metadata_tags"}) as made:
        made.metadata["creation_time"] = when
        for _moment, packet in picture_packets(made):
            made.mux(packet)
    assert source.read_bytes().count(when.encode()) == 1
    context = prepare(source, output)
    assert convert(context).result["notes"] == []
    with av.open(str(context.output_file)) as made:
        assert {name.lower(): value for name, value in made.metadata.items()}["creation_time"] == when
