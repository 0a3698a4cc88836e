"""The short form of `make corpus`, and its report of an unexplained difference."""

import shutil

import pytest
from corpus import main
from kept import Case, differences, reason

NEEDED = pytest.mark.skipif(not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not here")


@NEEDED
@pytest.mark.slow
def test_every_property_of_a_few_films_is_kept_asked_for_or_noted(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--films", "5", "--sounds", "1", "--seed", "1", "--jobs", "1", "--short"])
    assert code == 0, capsys.readouterr().out


def case(notes: list[str], **after: str) -> Case:
    before = {
        "format": {"format_name": "mov"},
        "audio 1": {"codec_name": "aac", "channels": "6", "tag language": "deu"},
    }
    return Case(
        type="video_convert",
        options={"video_codec": "copy"},
        suffix=".mp4",
        before=before,
        after={"format": {"format_name": "mov"}, "audio 1": {**before["audio 1"], **after}},
        notes=notes,
    )


@pytest.mark.parametrize(
    ("after", "notes", "explained"),
    [
        ({"channels": "2"}, [], False),
        ({"channels": "2"}, ["6 channels of sound became 2"], True),
        ({"tag language": "eng"}, [], False),
        ({"tag language": "ger"}, [], True),
        ({"codec_name": "mp3"}, [], False),
        ({"something new": "1"}, [], False),
    ],
)
def test_a_difference_is_explained_or_is_a_fault(after: dict[str, str], notes: list[str], explained: bool) -> None:  # noqa: FBT001
    (found,) = differences(case(notes, **after))
    assert bool(reason(found)) is explained


def test_a_track_that_is_gone_is_a_fault() -> None:
    gone = case([])
    del gone.after["audio 1"]
    assert [(each.track, each.key, reason(each)) for each in differences(gone)] == [("audio 1", "track", "")]
