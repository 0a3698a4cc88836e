"""Outputs get the names that the pattern gives."""

from pathlib import Path

import pytest

from tasktrail.events.errors import InvalidPath, InvalidValue
from tasktrail.intake.naming import Naming, full_pattern, literal_folder


@pytest.mark.parametrize(
    ("to", "output"),
    [
        ("/out/{stem}.webp", "/out/film.webp"),
        ("/out/{folder}/{stem}{suffix}", "/out/a/b/film.mov"),
        ("/out/{number:04}-{stem}.mp4", "/out/0007-film.mp4"),
        ("/out/{stem}-{height}p.mp4", "/out/film-720p.mp4"),
        ("/out/{stem}-{crf}.mp4", "/out/film-28.mp4"),
        ("/out/{type}/{stem}.mp4", "/out/video_convert/film.mp4"),
        ("/out/{{stem}}.mp4", "/out/{stem}.mp4"),
    ],
)
def test_parts_in_braces_are_filled_in(to: str, output: str) -> None:
    naming = Naming(to)
    assert naming.output(Path("/in/a/b/film.mov"), "a/b", 7, "video_convert", {"max_height": 720, "crf": 28}) == output
    assert naming.fixed == "/out"


def test_a_file_at_the_top_leaves_no_empty_folder() -> None:
    assert Naming("/out/{folder}/{stem}.png").output(Path("/in/a.pdf"), "", 1, "t", {}) == "/out/a.png"


def test_a_value_makes_no_folders() -> None:
    assert Naming("/out/{pages}.png").output(Path("/in/a.pdf"), "", 1, "t", {"pages": "../1"}) == "/out/.._1.png"


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("/out/{stem", "cannot be read"),
        ("/out/{}", "no placeholder"),
        ("/out/{stem!r}", "no placeholder"),
        ("/out/{stem:>20}", "no placeholder"),
        ("/out/{stem.upper}", "no placeholder"),
        ("/out/{0}", "no placeholder"),
        ("/out/{hieght}.mp4", r"did you mean \{height\}"),
        ("/out/{number:x-}.mp4", "number"),
        ("/out/{number:0300000000}.mp4", "no placeholder"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(to: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words) as refused:
        Naming(to).output(Path("/in/a.mov"), "", 1, "t", {"height": 720})
    assert refused.value.field == "to"


_BEFORE_3_14 = pytest.mark.skipif(Path("...jpg").stem != "..", reason="since Python 3.14 it has no suffix")


@pytest.mark.parametrize("name", [pytest.param("...jpg", marks=_BEFORE_3_14), "x" * 250 + ".jpg"])
def test_a_name_does_not_climb_out_of_its_folder_and_makes_no_endless_path(name: str) -> None:
    with pytest.raises(InvalidPath):
        Naming("/out/{stem}/" + "{stem}/" * 20 + "x.webp").output(Path("/in") / name, "", 1, "t", {})


@pytest.mark.parametrize(
    ("to", "pattern", "folder"),
    [
        ("/o{{x}}/", "/o{{x}}/{folder}/{stem}.png", "/o{x}/"),
        ("/o{{x}}", "/o{{x}}/{folder}/{stem}.png", "/o{x}"),
        ("/o{{x}}.jpg", "/o{{x}}.jpg", "/o{x}.jpg"),
        ("/o{{x}}/{stem}.jpg", "/o{{x}}/{stem}.jpg", "/o{x}"),
        ("/o/y{stem}/z.jpg", "/o/y{stem}/z.jpg", "/o"),
    ],
)
def test_a_folder_may_have_braces_in_its_name(to: str, pattern: str, folder: str) -> None:
    assert full_pattern(to, ".png") == pattern
    assert literal_folder(to) == folder


def test_the_folder_of_all_outputs_may_hold_braces() -> None:
    assert Naming("/a/{{b/c/{stem}.jpg").fixed == "/a/{b/c"
