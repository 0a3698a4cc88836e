"""Documents made here by a PDF writer of a few lines, so that tests know the content of each page."""

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from tasktrail.handlers import Outcome
from tasktrail.handlers.document import libreoffice
from tasktrail.handlers.document.preview import document_preview
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions
from tasktrail.testing import RecordingContext, run_handler

Context: TypeAlias = RecordingContext[DocumentPreviewOptions]
Size: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]

LETTER_SIZE = (612, 792)


def pdf_bytes(
    pages: Sequence[tuple[Size, Colour]], trailer: str = "", content: str = "", catalog: str = "", fonts: str = ""
) -> bytes:
    """Make a PDF whose pages have one colour each, with a black square in the upper left corner."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [f"<< /Type /Catalog /Pages 2 0 R {catalog} >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    for number, ((width, height), colour) in enumerate(pages):
        paint = " ".join(f"{value / 255:.4f}" for value in colour)
        drawing = (
            f"{paint} rg 0 0 {width} {height} re f 0 g 0 {height * 0.9} {width * 0.1} {height * 0.1} re f {content}"
        )
        box = f"/MediaBox [0 0 {width} {height}] /Resources << /Font << {fonts} >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} /Contents {4 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream")
    data, places = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode()


def page_colour(number: int) -> Colour:
    """Return the colour of page `number` (from 1) of `document`."""
    return (40 * number % 256, 255 - 20 * number % 256, 128)


@pytest.fixture
def document(tmp_path: Path) -> Callable[..., Path]:
    """Write a PDF with that many pages, each with a colour of its own."""

    def write(count: int = 1, size: Size = LETTER_SIZE, name: str = "in.pdf", **more: str) -> Path:
        path = tmp_path / name
        path.write_bytes(pdf_bytes([(size, page_colour(number)) for number in range(1, count + 1)], **more))
        return path

    return write


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Context]:
    """Make a context for a preview, with the options given by name."""

    def make(source: Path, output: str = "out.png", **options: Any) -> Context:
        how = {name: options.pop(name) for name in ("stop_after", "crash_after") if name in options}
        return RecordingContext(
            msgspec.convert(options, DocumentPreviewOptions),
            work_dir=tmp_path / f"work-{output}",
            input_file=source,
            output_file=tmp_path / output,
            **how,
        )

    return make


@pytest.fixture(scope="session")
def draw() -> Callable[[Context], Outcome]:
    """Run `document_preview` once."""
    return lambda context: run_handler(document_preview, context)


@pytest.fixture
def odt(tmp_path: Path) -> Callable[..., Path]:
    """Write an OpenDocument text of one paragraph."""

    def write(paragraph: str = "Hello", name: str = "in.odt", more: dict[str, bytes] | None = None) -> Path:
        spaces = " ".join(
            f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
            for short, long in (("office", "office"), ("text", "text"), ("draw", "drawing"), ("svg", "svg-compatible"))
        )
        content = (
            f'<?xml version="1.0"?><office:document-content {spaces} xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'office:version="1.2"><office:body><office:text><text:p>{paragraph}</text:p></office:text></office:body>'
            "</office:document-content>"
        )
        kind = "application/vnd.oasis.opendocument.text"
        entry = '<m:file-entry m:full-path="{}" m:media-type="{}"/>'
        manifest = (
            '<?xml version="1.0"?><m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            f"{entry.format('/', kind)}{entry.format('content.xml', 'text/xml')}</m:manifest>"
        )
        parts = {"mimetype": kind.encode(), "META-INF/manifest.xml": manifest.encode(), "content.xml": content.encode()}
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, data in {**parts, **(more or {})}.items():
                archive.writestr(part, data)
        return path

    return write


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without LibreOffice."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(libreoffice, "_PLACES", ())


@pytest.fixture
def pretender(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Put a shell script in the place of LibreOffice."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "soffice"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return program

    return install


def packed(path: Path, parts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def ooxml(main: str, kind: str) -> dict[str, str]:
    types = "http://schemas.openxmlformats.org/package/2006/content-types"
    office_rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    return {
        "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="rels" ContentType="application/vnd.openxml'
        'formats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/{main}" ContentType="{kind}"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{office_rels}/officeDocument" Target="{main}"/></Relationships>',
    }


@pytest.fixture
def documents(tmp_path: Path, odt: Callable[..., Path]) -> dict[str, Path]:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    docx = {
        **ooxml("word/document.xml", kind),
        "word/document.xml": f'<w:document xmlns:w="{word}"><w:body><w:p><w:r><w:t>Hello Word</w:t></w:r></w:p>'
        "</w:body></w:document>",
    }
    rtf = tmp_path / "in.rtf"
    rtf.write_text(r"{\rtf1\ansi Hello rich text\page second page}")
    return {"odt": odt("Hello text"), "docx": packed(tmp_path / "in.docx", docx), "rtf": rtf}
