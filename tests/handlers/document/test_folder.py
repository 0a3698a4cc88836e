"""A file for each page: the names, and the result's entries about them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.document.preview import run as preview_run
from tasktrail.handlers.document.preview.naming import PageNames
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions, layout_of
from tasktrail.handlers.process.report_limits import RESULT_LIMIT

Document = Callable[..., Path]
Prepare = Callable[..., Any]
Draw = Callable[[Any], Any]


@pytest.mark.parametrize(("page_format", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_a_folder_has_a_picture_of_each_page(
    document: Document, prepare: Prepare, draw: Draw, page_format: str, suffix: str
) -> None:
    context = prepare(document(4), "pages", pages="2-3,1", width=60, page_format=page_format)
    outcome = draw(context)
    assert isinstance(outcome, Finished)
    files = sorted(context.output_file.iterdir())
    assert [path.name for path in files] == [f"page-00{number}{suffix}" for number in (1, 2, 3)]
    for path in files:
        with Image.open(path) as picture:
            assert picture.width == 60
    result = outcome.result
    assert sorted(result["files"]) == [path.name for path in files]
    assert (result["format"], result["codec"], result["pages"], result["frames"]) == ("folder", page_format, 3, 3)
    assert result["size"] == sum(path.stat().st_size for path in files)
    listed = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    assert result["sha256"] == hashlib.sha256(listed.encode()).hexdigest()


def test_an_archive_calls_its_pages_the_same(document: Document, prepare: Prepare, draw: Draw) -> None:
    outcome = draw(prepare(document(2), "out.zip", pages="all", width=60, page_name="{stem}_{page:02}"))
    assert isinstance(outcome, Finished)
    stem = outcome.result["files"][0].partition("_")[0]
    assert outcome.result["files"] == [f"{stem}_01.png", f"{stem}_02.png"]


@pytest.mark.parametrize("output", ["pages", "out.zip"])
def test_a_result_names_as_many_files_as_it_has_room_for(
    output: str, document: Document, prepare: Prepare, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_run, "_LISTED", 3 * len('"page-001.png",'))
    outcome = draw(prepare(document(4), output, pages="all", width=60))
    assert isinstance(outcome, Finished)
    assert outcome.result["files"] == [f"page-00{number}.png" for number in (1, 2, 3)]
    assert outcome.result["pages"] == 4
    assert outcome.result["notes"] == ["files has the first 3 of 4 names"]
    assert "notes" not in draw(prepare(document(3), f"three-{output}", pages="all", width=60)).result


def test_the_longest_list_of_names_fits_a_result() -> None:
    names = preview_run._listed(["\n" * 240 + ".png"] * 10_000)
    assert len(msgspec.json.encode(names)) <= RESULT_LIMIT // 2


@pytest.mark.parametrize(
    ("pattern", "last", "name"),
    [
        ("page-{page}", 9, "page-007"),
        ("page-{page}", 1234, "page-0007"),
        ("{page:1}", 9, "7"),
        ("{stem}-{page:04}", 9, "a b-0007"),
        ("{{x}}{page}", 9, "{x}007"),
        ("\u0645\u06cc\u200c\u0631\u0648\u0645 {page}", 9, "\u0645\u06cc\u200c\u0631\u0648\u0645 007"),
    ],
)
def test_pages_are_called_as_the_pattern_says(pattern: str, last: int, name: str) -> None:
    assert PageNames(pattern).of(7, last, "a b") == name


@pytest.mark.parametrize(
    "pattern",
    [
        *("page", "{page", "a/{page}", ".{page}", "{number}{page}", "{page!r}", "{page:x}", "{stem:3}{page}"),
        *(f"{sign}{{page}}" for sign in "\0\n\r\t\x1b\x7f\x85\u2028"),
        "{page}\n",
    ],
)
def test_a_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"page_name": pattern}, DocumentPreviewOptions)


def test_a_name_that_is_too_long_is_refused(document: Document, prepare: Prepare, draw: Draw) -> None:
    source = document(1)
    long = source.rename(source.with_name("x" * 240 + ".pdf"))
    outcome = draw(prepare(long, "pages", width=60, page_name="{stem}-{page}"))
    assert isinstance(outcome, Rejected)
    assert "page_name" in outcome.reason


@pytest.mark.parametrize("name", ["{page}.png", "a-{page:03}.jpg"])
def test_a_pattern_as_the_output_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(InvalidPath) as refused:
        layout_of(Path("/out") / name)
    assert "page_name" in refused.value.advice
