"""`document_convert`, with LibreOffice where it is installed, and otherwise with a script in its place."""

import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pypdfium2
import pytest
from PIL import Image

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers import Finished, Rejected, Unusable
from tasktrail.handlers.document import libreoffice
from tasktrail.handlers.document.convert import document_convert
from tasktrail.handlers.document.convert.options import DocumentConvertOptions, check
from tasktrail.handlers.document.convert.probe import probe
from tasktrail.handlers.document.html import markdown_html, text_html
from tasktrail.testing import RecordingContext, SimulatedCrash, job_for, run_handler

from .conftest import packed

needs_libreoffice = pytest.mark.skipif(
    libreoffice.find_libreoffice() is None, reason=f"LibreOffice is not there. {libreoffice.INSTALL_LIBREOFFICE}"
)
GIVES_OUT = 'for last; do :; done; cp {} "$(dirname "$last")/../out/document.pdf"'


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Any]:
    """Make a PDF of a document once, with the options given by name."""

    def make(source: Path, output: str = "out.pdf", checkpoint: Any = None, **options: Any) -> RecordingContext[Any]:
        crash_after = options.pop("crash_after", None)
        return RecordingContext(
            msgspec.convert(options, DocumentConvertOptions),
            work_dir=tmp_path / f"work-{output}",
            input_file=source,
            output_file=tmp_path / output,
            checkpoint=checkpoint,
            **({} if crash_after is None else {"crash_after": crash_after}),
        )

    return make


def done(context: RecordingContext[Any]) -> dict[str, Any]:
    outcome = run_handler(document_convert, context)
    assert isinstance(outcome, Finished), outcome
    return outcome.result


def page_sizes(path: Path) -> list[tuple[float, float]]:
    with pypdfium2.PdfDocument(path) as pdf:
        return [pdf.get_page_size(number) for number in range(len(pdf))]


def words(path: Path) -> list[str]:
    """Return the text of each page."""
    with pypdfium2.PdfDocument(path) as pdf:
        return [" ".join(page.get_textpage().get_text_bounded().split()) for page in pdf]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_only_a_pdf_is_written() -> None:
    with pytest.raises(InvalidPath, match=r"not converted to 'a\.docx'") as caught:
        check(job_for(DocumentConvertOptions(), "/a.pdf", "/a.docx"))
    assert "document_preview" in caught.value.advice


@pytest.mark.usefixtures("absent")
def test_without_libreoffice_only_a_pdf_is_taken() -> None:
    check(job_for(DocumentConvertOptions(), "/a.PDF", "/out.pdf"))
    for name in ("/a.odt", "/a.md", "/a"):
        with pytest.raises(InvalidPath, match="needs LibreOffice") as caught:
            check(job_for(DocumentConvertOptions(), name, "/out.pdf"))
        assert "apt install" in caught.value.advice
        assert "A PDF needs none if its name ends in .pdf" in caught.value.advice


@pytest.mark.usefixtures("absent")
def test_without_libreoffice_each_kind_is_told_what_can_do_without(odt: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "text.pdf").write_text("words")
    (tmp_path / "rich.pdf").write_text("{\\rtf1 words}")
    for path, told in (
        (odt(name="odt.pdf"), "document_preview with the option office=thumbnail"),
        (tmp_path / "text.pdf", "document_preview draws it without"),
        (tmp_path / "rich.pdf", ""),
    ):
        with pytest.raises(Unusable, match="needs LibreOffice") as caught:
            probe(job_for(DocumentConvertOptions(), path, "/out.pdf"))
        assert str(caught.value).partition("libreoffice)")[2].removeprefix("; ").startswith(told)
        assert ("document_preview" in str(caught.value)) == bool(told)


@pytest.mark.parametrize("pages", ["0", "3-1", "one"])
def test_pages_are_checked_when_the_command_arrives(pages: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"pages": pages}, DocumentConvertOptions)


def test_a_page_that_a_pdf_does_not_have_is_refused_before_any_work(
    document: Callable[..., Path], convert: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = run_handler(document_convert, convert(document(2), pages="2-,9"))
    assert isinstance(outcome, Rejected)
    assert "there is no page 9: the document has 2" in str(outcome)
    job = job_for(DocumentConvertOptions(pages="9"), input_file=document(2), output_file=tmp_path / "out.pdf")
    with pytest.raises(Exception, match="no page 9"):
        probe(job)


@pytest.mark.parametrize("name", ["long.txt", "long.md"])
def test_a_text_that_is_too_long_for_libreoffice_is_refused(
    name: str, convert: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text("word " * 900_000)
    outcome = run_handler(document_convert, convert(path))
    assert isinstance(outcome, Rejected)
    assert f"{name} has more than" in str(outcome)


# --- pages of a PDF --------------------------------------------------------------------------------------------------


def test_pages_are_taken_in_the_order_asked_for(document: Callable[..., Path], convert: Callable[..., Any]) -> None:
    source = document(5)
    context = convert(source, pages="4,2-3")
    result = done(context)
    assert (result["pages"], result["source_pages"], result["source_format"]) == (3, 5, "pdf")
    assert "notes" not in result
    with pypdfium2.PdfDocument(source) as before, pypdfium2.PdfDocument(context.output_file) as after:
        shown = [picture(after, number) for number in range(3)]
        assert shown == [picture(before, number) for number in (3, 1, 2)]


def picture(pdf: Any, number: int) -> bytes:
    return bytes(pdf[number].render(scale=0.2).to_pil().tobytes())


def test_a_whole_pdf_is_copied_as_it_is(document: Callable[..., Path], convert: Callable[..., Any]) -> None:
    """A folder of documents may have PDFs in it; none of it is lost, as it would be if PDFium wrote it anew."""
    source = document(2)
    for number, pages in enumerate(("all", "1-", "1-2")):
        context = convert(source, f"out{number}.pdf", pages=pages)
        assert "copied as it is" in done(context)["notes"][0]
        assert context.output_file.read_bytes() == source.read_bytes()


def test_what_pages_alone_do_not_have_is_told(document: Callable[..., Path], convert: Callable[..., Any]) -> None:
    source = document(
        3,
        catalog="/Outlines << /Count 1 /First << /Title (One) /Dest [3 0 R /Fit] >> >> /Names << /EmbeddedFiles "
        "<< /Names [(a) << /Type /Filespec /F (a) /EF << >> >>] >> >>",
    )
    notes = done(convert(source, pages="1"))["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "the table of contents (bookmarks) is left out",
        "1 file inside the PDF is left out",
    ]


FORM = """%PDF-1.5
1 0 obj << /Type /Catalog /Pages 2 0 R /AcroForm << /NeedAppearances true /DA (/Helv 14 Tf 0 g) /Fields [5 0 R]
/DR << /Font << /Helv 6 0 R >> >> >> >> endobj
2 0 obj << /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >> endobj
3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Annots [5 0 R] >> endobj
4 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] >> endobj
5 0 obj << /Type /Annot /Subtype /Widget /FT /Tx /T (f) /V (filled in) /Rect [20 50 300 90] /DA (/Helv 14 Tf 0 g)
/F 4 /P 3 0 R >> endobj
6 0 obj << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> endobj
trailer << /Root 1 0 R >>
%%EOF
"""


def test_a_form_stays_as_it_looked(convert: Callable[..., Any], tmp_path: Path) -> None:
    """The fields of a document belong to all of it: pages alone showed nothing of what was filled in."""
    source = tmp_path / "form.pdf"
    source.write_text(FORM)
    context = convert(source, pages="1")
    assert "its form is on the pages as it looked" in done(context)["notes"][0]
    assert words(context.output_file) == ["filled in"]


def test_pages_with_layers_are_refused_as_hidden_ones_would_be_seen(
    document: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    source = document(2, catalog="/OCProperties << /OCGs [] /D << >> >>")
    outcome = run_handler(document_convert, convert(source, pages="1"))
    assert isinstance(outcome, Rejected)
    assert "has layers" in outcome.reason
    assert done(convert(source, "whole.pdf"))["pages"] == 2


def test_pages_of_a_protected_pdf_are_refused(
    document: Callable[..., Path], convert: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner's password need not be known to read it; what he allows would not hold for pages taken from it."""
    monkeypatch.setattr("tasktrail.handlers.document.pdf.FPDF_GetSecurityHandlerRevision", lambda _pdf: 6)
    outcome = run_handler(document_convert, convert(document(2), pages="1"))
    assert isinstance(outcome, Rejected)
    assert "protected by a password of its owner" in outcome.reason


def test_many_pages_are_reckoned_with(document: Callable[..., Path], tmp_path: Path) -> None:
    few, many = (
        probe(job_for(DocumentConvertOptions(pages=pages), input_file=document(300), output_file=tmp_path / "out.pdf"))
        for pages in ("1", "2-")
    )
    assert many.memory > few.memory + 298 * 1000
    assert many.temp > few.temp


def test_a_text_of_nothing_but_links_takes_no_longer_than_another() -> None:
    """Each link looked through all before it."""
    page = markdown_html("[a](b) [c](https://d/) " * 20_000, "t")
    assert page.count('<a href="https://d/">c</a>') == 20_000
    assert page.count("</a>") == 20_000


# --- with a script in the place of LibreOffice -----------------------------------------------------------------------


def test_after_a_crash_the_pdf_is_there(
    odt: Callable[..., Path],
    document: Callable[..., Path],
    convert: Callable[..., Any],
    pretender: Callable[[str], Path],
) -> None:
    program = pretender(GIVES_OUT.format(document(3)))
    context = convert(odt(), pages="2-", crash_after=1)
    with pytest.raises(SimulatedCrash):
        run_handler(document_convert, context)
    program.write_text("#!/bin/sh\nexit 1\n")
    assert done(context.resumed())["pages"] == 2
    assert len(page_sizes(context.output_file)) == 2


def test_a_text_reaches_libreoffice_as_html_that_names_no_other_file(
    document: Callable[..., Path], convert: Callable[..., Any], pretender: Callable[[str], Path], tmp_path: Path
) -> None:
    pretender(f'for last; do :; done; cp "$last" {tmp_path}/seen.html; {GIVES_OUT.format(document(1))}')
    source = tmp_path / "-a & b.md"
    source.write_text("# T\n\n![its text](secret.png) [near](other.html) [far](https://example.org/) <b>raw</b>\n")
    result = done(convert(source))
    assert (result["source_format"], result["pages"]) == ("markdown", 1)
    seen = (tmp_path / "seen.html").read_text()
    assert "<title>-a &amp; b</title>" in seen
    assert "secret" not in seen
    assert "other.html" not in seen
    assert '<p>its text near <a href="https://example.org/">far</a> &lt;b&gt;raw&lt;/b&gt;</p>' in seen


def asked_for(page: int, characters: str) -> str:
    """Return what fontconfig prints when LibreOffice asks for characters, all on the page of 256, that a font lacks."""
    words = [sum(1 << ord(one) % 32 for one in characters if ord(one) // 32 == 8 * page + place) for place in range(8)]
    row = " ".join(f"{word:08x}" for word in words)
    return (
        f'Match Pattern has 3 elts (size 16)\n\tfamily: "Arial"(s)\n\tcharset: \n\t{page:04x}: {row}\n(s)\n\n'
        'Best score 0\nPattern has 1 elts (size 16)\n\tfamily: "Arial"(s)\n\tcharset: \n\t0021: '
        f"{' '.join(['ffffffff'] * 8)}\n(s)\n\n"
    )


@pytest.mark.parametrize("name", ["in.odt", "in.md"])
def test_characters_on_the_pages_that_no_font_has_are_told(
    name: str,
    odt: Callable[..., Path],
    document: Callable[..., Path],
    convert: Callable[..., Any],
    pretender: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """They became boxes without a word. It is LibreOffice that says which characters it has set, whatever the file."""
    printed = asked_for(4, "Ж") + "convert a as b\n" + asked_for(0x30, "、") + asked_for(0x30, "かな")
    printed += asked_for(0x6F, "漢") + asked_for(0x1F4, "👧") + asked_for(0xF0, "\uf0b7") + asked_for(0x20, "\u200d")
    made = GIVES_OUT.format(document(1))
    fonts = pretender(f"{made}; cat <<'.'\n{printed}.").with_name("fc-list")
    fonts.write_text("#!/bin/sh\necho ':charset=20-7e a0-ff 5b57'\necho ':charset=6f22'\n")
    fonts.chmod(0o755)
    source = tmp_path / "in.md"
    source.write_text("one \\u304b")
    source = odt() if name == "in.odt" else source
    context = convert(source, crash_after=1)
    with pytest.raises(SimulatedCrash):
        run_handler(document_convert, context)
    note = "no font on this machine has 3 characters of it, drawn as boxes or not at all, such as か な 👧"
    assert done(context.resumed())["notes"] == [note]
    fonts.write_text("#!/bin/sh\nexit 1\n")
    assert "notes" not in done(convert(source, "again.pdf"))


@pytest.mark.parametrize(
    ("fonts", "told"),
    [
        (("Arial", "OpenSymbol"), [", drawn as boxes or not at all, such as 、"]),
        (("OpenSymbol", "Arial"), [" or more, drawn as boxes or not at all, such as U+F0B7"]),
        ((), []),
    ],
)
def test_a_character_that_libreoffice_only_measures_or_has_itself_is_told_if_a_page_has_it(
    fonts: Sequence[str],
    told: list[str],
    odt: Callable[..., Path],
    document: Callable[..., Path],
    convert: Callable[..., Any],
    pretender: Callable[[str], Path],
) -> None:
    """A symbol of Wingdings was called a box, which LibreOffice draws; a comma that no font has was not told."""
    system = "/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >>"
    of_page = " ".join(
        f"/F{place} << /Type /Font /Subtype /Type0 /BaseFont /{name} /Encoding /UniJIS-UCS2-H "
        f"/DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /{name} {system} >>] >>"
        for place, name in enumerate(fonts)
    )
    shown = "".join(f"BT /F{place} 9 Tf 9 9 Td <0041{('3001', 'f0b7')[place]}> Tj ET " for place in range(len(fonts)))
    made = GIVES_OUT.format(document(2, content=shown, fonts=of_page))
    asked = asked_for(0x30, "、") + asked_for(0xF0, "\uf0b7")
    lister = pretender(f"{made}; cat <<'.'\nconvert a as b\n{asked}.").with_name("fc-list")
    lister.write_text("#!/bin/sh\necho ':charset=20-7e'\n")
    lister.chmod(0o755)
    notes = [f"no font on this machine has 1 character of it{one}" for one in told]
    assert done(convert(odt())).get("notes", []) == notes


def test_a_failure_of_libreoffice_names_the_input(
    convert: Callable[..., Any], pretender: Callable[[str], Path], tmp_path: Path
) -> None:
    pretender("exit 1")
    source = tmp_path / "a.md"
    source.write_text("words")
    with pytest.raises(libreoffice.OfficeFailedError, match=r"no PDF of a\.md"):
        run_handler(document_convert, convert(source))


def test_html_has_the_text_and_nothing_of_it_acts() -> None:
    text = "a < b & c\n\tx\f<script>\n"
    page = text_html(text, "<t>")
    assert "<title>&lt;t&gt;</title>" in page
    assert '<pre>\na &lt; b &amp; c\n\tx</pre><pre style="page-break-before: always">&lt;script&gt;</pre>' in page
    text = "---\ntitle: <x>\n---\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n[![p](a.png)](b.html) [m](MAILTO:a@b)"
    page = markdown_html(text, "t")
    assert "<pre>title: &lt;x&gt;\n</pre>" in page
    assert '<table border="1"' in page
    assert "b.html" not in page
    assert '<p>p <a href="MAILTO:a@b">m</a></p>' in page


@pytest.mark.parametrize("between", [" ", "_"])
def test_no_line_is_longer_than_what_libreoffice_sets_quickly(between: str) -> None:
    """One line of 1 MB took more CPU time than an attempt may use, eight times as much as the same text in lines."""
    text = between.join(["lorem", "ipsum"] * 10_000)
    page = text_html(f"{text}\nshort\f{text}", "t")
    body = page[page.index("<pre>") :]
    assert max(map(len, body.split("\n"))) < 20_500
    pieces = [piece for piece in re.sub("<[^>]*>", "\n", body).split("\n") if piece]
    assert "".join(pieces) == f"{text}short{text}"
    if between == " ":
        assert all(piece.endswith((" ", "ipsum", "short")) for piece in pieces)


# --- with LibreOffice ------------------------------------------------------------------------------------------------


@needs_libreoffice
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "pages"), [("odt", ["Hello text"]), ("docx", ["Hello Word"]), ("rtf", ["second page"])]
)
def test_office_documents_become_pdfs(
    kind: str, pages: list[str], documents: dict[str, Path], convert: Callable[..., Any]
) -> None:
    context = convert(documents[kind], pages="2" if kind == "rtf" else "all")
    result = done(context)
    assert result["source_format"] == kind
    assert words(context.output_file) == pages


@needs_libreoffice
@pytest.mark.slow
def test_texts_become_pages_of_a4(convert: Callable[..., Any], tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("\n\nGröße — fi\u00adrst\n\f\n\nsecond page\n", encoding="utf-16")
    context = convert(text, "text.pdf")
    assert done(context)["source_format"] == "text"
    assert [page.replace("\u00ad", "").replace("\ufffe", "") for page in words(context.output_file)] == [
        "Größe — first",
        "second page",
    ]
    notes = tmp_path / "a.md"
    Image.new("RGB", (100, 100), (255, 0, 0)).save(tmp_path / "secret.png")
    notes.write_text(f"# Title\n\nSome *text* ![of it]({tmp_path}/secret.png)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    context = convert(notes, "notes.pdf")
    done(context)
    assert words(context.output_file) == ["Title Some text of it a b 1 2"]
    assert [(round(width), round(height)) for width, height in page_sizes(context.output_file)] == [(595, 842)]


@needs_libreoffice
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fc-list") is None, reason="fontconfig's fc-list is not there")
def test_only_characters_that_are_drawn_are_looked_for_in_fonts(
    odt: Callable[..., Path], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """The last plane is for private use: no font of a machine has these."""
    notes = tmp_path / "a.md"
    notes.write_text("seen &#x10FFF0; and &lt;\n\n[text](https://example.org/\U0010fff1)\n")
    told = "no font on this machine has 1 character of it or more, drawn as boxes or not at all, such as U+10FFF0"
    assert done(convert(notes, "notes.pdf"))["notes"] == [told]
    assert done(convert(odt("seen \U0010fff0"), "office.pdf"))["notes"] == [told]


@needs_libreoffice
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fc-list") is None, reason="fontconfig's fc-list is not there")
@pytest.mark.parametrize(
    ("chars", "lost"),
    [(["F0FC"], []), (["F020"], []), (["F0FC", "F020"], []), (["F043"], ["U+F043"]), (["F0FC", "F043"], ["U+F043"])],
)
def test_a_symbol_is_told_if_libreoffice_has_only_a_box_for_it_in_its_own_font(
    chars: list[str], lost: list[str], documents: dict[str, Path], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """It draws a tick of Wingdings and its space, but for a raised thumb it has a box (25.2) or a blank (26.8).

    PDFium tells of a blank that stands beside a drawn symbol, and not of one that stands alone.
    """
    with zipfile.ZipFile(documents["docx"]) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    text = parts["word/document.xml"]
    symbols = "".join(f'<w:r><w:sym w:font="Wingdings" w:char="{char}"/></w:r>' for char in chars)
    parts["word/document.xml"] = text.replace("<w:r>", f"{symbols}<w:r>")
    assert parts["word/document.xml"] != text
    path = packed(tmp_path / "symbols.docx", parts)
    told = [note for note in done(convert(path)).get("notes", []) if "no font" in note]
    assert [note.rpartition(" ")[2] for note in told] == lost
