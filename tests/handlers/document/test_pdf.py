"""PDF pages as every kind of output, checked with Pillow, and with poppler where it is installed."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image, ImageChops, ImageStat

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers import Finished, Rejected, Stopped
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions, check
from tasktrail.testing import job_for

Document = Callable[..., Path]
Prepare = Callable[..., Any]
Draw = Callable[[Any], Any]


def page_colour(number: int) -> tuple[int, int, int]:
    return (40 * number % 256, 255 - 20 * number % 256, 128)


def assert_page(picture: Image.Image, number: int, tolerance: int = 3) -> None:
    """Check that it shows that page of the fixture's document, the right way up."""
    shown = picture.convert("RGB")
    for place, colour in (
        ((0.5, 0.5), page_colour(number)),
        ((0.04, 0.04), (0, 0, 0)),
        ((0.04, 0.9), page_colour(number)),
    ):
        seen = shown.getpixel((int(place[0] * shown.width), int(place[1] * shown.height)))
        assert isinstance(seen, tuple)
        assert all(abs(a - b) <= tolerance for a, b in zip(seen, colour, strict=True)), (number, place, seen, colour)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif"])
def test_the_first_page_becomes_a_picture_that_the_result_describes(
    suffix: str, document: Document, prepare: Prepare, draw: Draw
) -> None:
    context = prepare(document(3), f"out{suffix}", width=200)
    outcome = draw(context)
    content = context.output_file.read_bytes()
    assert outcome == Finished(
        result={
            "size": len(content),
            "width": 200,
            "height": 259,
            "format": {".jpg": "jpeg"}.get(suffix, suffix[1:]),
            "codec": {".jpg": "jpeg"}.get(suffix, suffix[1:]),
            "frames": 1,
            "duration": 0.0,
            "pages": 1,
            "source_pages": 3,
            "source_format": "pdf",
            "renderer": "pdfium",
            "sha256": hashlib.sha256(content).hexdigest(),
        },
        message="1 of 3 pages",
    )
    with Image.open(context.output_file) as picture:
        assert picture.size == (200, 259)
        assert_page(picture, 1, 12)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (792, 1024)),
        ({"dpi": 72}, (612, 792)),
        ({"dpi": 144}, (1224, 1584)),
        ({"width": 306}, (306, 396)),
        ({"height": 396}, (306, 396)),
        ({"width": 5000, "height": 396}, (306, 396)),
    ],
)
def test_the_size_is_that_of_the_box_or_the_resolution(
    options: dict[str, Any], size: tuple[int, int], document: Document, prepare: Prepare, draw: Draw
) -> None:
    context = prepare(document(), **options)
    draw(context)
    with Image.open(context.output_file) as picture:
        assert picture.size == size


def test_a_page_of_any_size_fits_its_box_to_the_pixel(document: Document, prepare: Prepare, draw: Draw) -> None:
    for number, size in enumerate([(595.28, 841.89), (841.89, 595.28), (200.1, 333.3), (1000.7, 1000.9), (7, 3)]):
        context = prepare(document(size=size, name=f"{number}.pdf"), f"{number}.png", width=333, height=333)
        draw(context)
        with Image.open(context.output_file) as picture:
            assert max(picture.size) == 333


def test_one_page_may_be_given_as_a_number(document: Document, prepare: Prepare, draw: Draw) -> None:
    context = prepare(document(3), pages=2)
    assert draw(context).result["pages"] == 1
    with Image.open(context.output_file) as picture:
        assert_page(picture, 2)


@pytest.mark.parametrize(("page_format", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_a_zip_holds_a_picture_of_each_page_under_its_number(
    page_format: str, suffix: str, document: Document, prepare: Prepare, draw: Draw
) -> None:
    context = prepare(document(5), "out.zip", pages="2-3,5", width=100, page_format=page_format)
    assert draw(context).result["pages"] == 3
    with zipfile.ZipFile(context.output_file) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"page-00{number}.{suffix}" for number in (2, 3, 5)]
        for number in (2, 3, 5):
            with Image.open(BytesIO(archive.read(f"page-00{number}.{suffix}"))) as picture:
                assert picture.format == page_format.upper()
                assert_page(picture, number, 12)


def test_a_tiff_has_a_page_for_each(document: Document, prepare: Prepare, draw: Draw) -> None:
    context = prepare(document(4), "out.tif", pages="all", dpi=50)
    assert draw(context).result["format"] == "tiff"
    with Image.open(context.output_file) as picture:
        assert picture.n_frames == 4  # type: ignore[attr-defined]
        assert picture.info["dpi"] == (50, 50)
        for number in range(1, 5):
            picture.seek(number - 1)
            assert_page(picture, number)


def test_several_pages_in_a_picture_are_a_contact_sheet(document: Document, prepare: Prepare, draw: Draw) -> None:
    context = prepare(document(5), pages="all", width=100, columns=3, gap=10)
    outcome = draw(context)
    with Image.open(context.output_file) as sheet:
        assert sheet.size == (outcome.result["width"], outcome.result["height"]) == (3 * 110 + 10, 2 * 140 + 10)
        for number in range(1, 6):
            row, column = divmod(number - 1, 3)
            left, top = 10 + 110 * column, 10 + 140 * row
            assert_page(sheet.crop((left, top, left + 100, top + 130)), number)


def test_the_pages_of_a_sheet_are_in_the_middle_of_equal_cells(
    tmp_path: Path, prepare: Prepare, draw: Draw, document: Document
) -> None:
    wide = document(1, (792, 612), "wide.pdf")
    Image.new("RGB", (300, 100), "red").save(
        tmp_path / "mixed.pdf", save_all=True, append_images=[Image.new("RGB", (100, 300), "blue")]
    )
    assert wide.exists()
    context = prepare(tmp_path / "mixed.pdf", pages="all", width=90, height=90, columns=2, gap=0)
    draw(context)
    with Image.open(context.output_file) as sheet:
        assert sheet.size == (180, 90)
        assert (sheet.getpixel((45, 45)), sheet.getpixel((135, 45))) == ((254, 0, 0), (0, 0, 254))
        assert sheet.getpixel((45, 5)) == sheet.getpixel((95, 45)) == (223, 223, 223)


def test_the_paper_has_the_colour_asked_for(tmp_path: Path, prepare: Prepare, draw: Draw) -> None:
    empty = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    empty += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 50 50]>>endobj trailer<</Root 1 0 R>>"
    (tmp_path / "empty.pdf").write_bytes(empty)
    context = prepare(tmp_path / "empty.pdf", background="#ffeedd")
    draw(context)
    with Image.open(context.output_file) as picture:
        assert picture.getcolors() == [(1024 * 1024, (0xFF, 0xEE, 0xDD))]


def test_progress_counts_pages_and_never_goes_back(document: Document, prepare: Prepare, draw: Draw) -> None:
    context = prepare(document(4), "out.zip", pages="all", width=50)
    draw(context)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert percents[-1] <= 100
    assert "page 3 of 4" in [message for _, message in context.reports]


@pytest.mark.parametrize("stop_after", [0, 1, 3, 5])
def test_it_goes_home_between_two_pages_and_leaves_no_output(
    stop_after: int, document: Document, prepare: Prepare, draw: Draw
) -> None:
    context = prepare(document(4), "out.zip", pages="all", width=50, stop_after=stop_after)
    assert isinstance(draw(context), Stopped)
    assert not context.output_part.exists()
    assert not context.output_file.exists()
    assert context.stops_asked == stop_after + 1


def test_names_that_look_like_something_else_are_files(document: Document, prepare: Prepare, draw: Draw) -> None:
    for number, name in enumerate(["-v.pdf", "50%.pdf", "@list.pdf", "a\nb.pdf", "http:x.pdf", "ä ö.pdf"]):
        assert isinstance(draw(prepare(document(name=name), f"{number}.png", width=20)), Finished)


def test_the_content_says_what_a_file_is_and_not_its_name(document: Document, prepare: Prepare, draw: Draw) -> None:
    assert draw(prepare(document(name="letter.txt"), width=20)).result["source_format"] == "pdf"


def test_an_output_nobody_can_write_is_refused_with_the_suffixes_there_are() -> None:
    with pytest.raises(InvalidPath, match=r"\.tiff, \.zip"):
        check(job_for(DocumentPreviewOptions(), "/in.pdf", "/out.docx"))


def test_a_missing_input_is_an_error_that_may_pass(prepare: Prepare, draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        draw(prepare(tmp_path / "nowhere.pdf"))


def test_importing_the_type_loads_no_library_of_documents() -> None:
    script = "import sys, tasktrail.handlers.document.preview; sys.exit(bool({'PIL', 'pypdfium2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="poppler is not installed (apt install poppler-utils)")
def test_poppler_draws_the_same_page(document: Document, prepare: Prepare, draw: Draw, tmp_path: Path) -> None:
    curves = "1 0 0 RG 8 w 100 100 m 500 700 l S 0 0 1 rg 300 300 m 500 300 500 500 300 500 c f"
    source = document(content=curves)
    context = prepare(source, dpi=72)
    draw(context)
    subprocess.run(["pdftoppm", "-r", "72", "-png", "-singlefile", source, tmp_path / "other"], check=True)
    with Image.open(context.output_file) as ours, Image.open(tmp_path / "other.png") as theirs:
        assert ours.size == theirs.size
        difference = ImageStat.Stat(ImageChops.difference(ours.convert("RGB"), theirs.convert("RGB"))).mean
    assert max(difference) < 1.5


def test_a_rejected_document_leaves_nothing(prepare: Prepare, draw: Draw, document: Document) -> None:
    context = prepare(document(2), pages="9")
    outcome = draw(context)
    assert isinstance(outcome, Rejected)
    assert "no page 9" in outcome.reason
    assert not context.output_part.exists()


@pytest.mark.parametrize(("output", "options"), [("out.webp", {}), ("out.zip", {"page_format": "webp"})])
def test_a_page_is_drawn_no_longer_than_its_format_can_hold(
    document: Callable[..., Path], prepare: Callable[..., Any], draw: Callable[..., Any], output: str, options: Any
) -> None:
    result = draw(prepare(document(size=(20, 2000)), output, dpi=720, **options)).result
    assert (result["height"], result["reduced_pages"]) == (16_383, 1)


def test_a_document_that_had_to_be_mended_says_so(document: Document, prepare: Prepare, draw: Draw) -> None:
    path = document(3)
    whole = draw(prepare(path, "whole.zip", pages="all"))
    assert isinstance(whole, Finished)
    assert "notes" not in whole.result

    path.write_bytes(path.read_bytes().rpartition(b"startxref")[0])
    mended = draw(prepare(path, "mended.zip", pages="all"))

    assert isinstance(mended, Finished)
    assert mended.result["pages"] == 3
    assert "as in a file that was cut" in mended.result["notes"][0]


@pytest.mark.parametrize(
    ("catalog", "note"),
    [
        (
            "/Collection << /View /D >> /Names << /EmbeddedFiles << /Names [(a.txt) << /F (a.txt) >>] >> >>",
            "1 file inside the PDF is not drawn",
        ),
        (
            "/AcroForm << /XFA (x) /Fields [] >> /NeedsRendering true",
            "its form is in XFA, which is not drawn: the pages may only ask for another program",
        ),
    ],
)
def test_what_no_page_shows_is_told(
    *,
    catalog: str,
    note: str,
    document: Document,
    prepare: Prepare,
    draw: Draw,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The page of a portfolio, or of a form in XFA, often says only that another program is needed."""
    outcome = draw(prepare(document(catalog=catalog)))
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == [note]
    assert caplog.messages == []  # pypdfium2 tells how to build it with XFA


def test_a_document_without_pages_is_told_as_such(tmp_path: Path, prepare: Prepare, draw: Draw) -> None:
    """The message said that it could not be opened, with the error 'Success'."""
    path = tmp_path / "none.pdf"
    pypdfium2.PdfDocument.new().save(path)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nnonsense\n%%EOF")
    for _ in range(2):
        outcome = draw(prepare(path))
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "none.pdf has no pages"
        assert isinstance(draw(prepare(tmp_path / "broken.pdf")), Rejected)  # PDFium keeps reporting its error


def test_a_page_that_shows_nothing_is_refused(document: Document, prepare: Prepare, draw: Draw) -> None:
    path = document(1)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"/MediaBox", b"/CropBox[9000 9000 9100 9100]/MediaBox"))
    assert path.read_bytes() != whole
    outcome = draw(prepare(path))
    assert isinstance(outcome, Rejected)
    assert "shows nothing" in outcome.reason
