"""Untrusted documents are refused by name or drawn within the limits; they never read other files."""

import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasktrail.handlers import Finished, Rejected, Unusable
from tasktrail.handlers.document.archive import inspect_archive
from tasktrail.handlers.document.kinds import document_kind
from tasktrail.handlers.document.pages import pixels
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions
from tasktrail.handlers.document.preview.sizes import MAX_PAGE_PIXELS, MAX_PAGE_SIDE, choose_scale
from tasktrail.handlers.media.archives import MAX_ENTRIES

Document = Callable[..., Path]
Prepare = Callable[..., Any]
Draw = Callable[[Any], Any]

LOCK = "/Encrypt << /Filter /Standard /V 1 /R 2 /O (12345678901234567890123456789012) /P -44 "
LOCK += "/U (12345678901234567890123456789012) >> /ID [(a) (a)]"


def reason(outcome: object) -> str:
    assert isinstance(outcome, Rejected)
    return outcome.reason


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((1_000_000, 1_000_000), {"dpi": 72}),
        ((14_400, 14_400), {"dpi": 2400}),
        ((1, 14_400), {"dpi": 2400}),
        ((14_400, 1), {"width": 20_000}),
        ((14_400, 0.001), {}),
        ((1e-9, 1e9), {"height": 20_000}),
        ((0.5, 0.5), {"dpi": 2400}),
        ((3, 14_400), {"width": 20_000}),
    ],
)
def test_no_page_gets_more_pixels_than_the_limits_allow(size: tuple[float, float], options: dict[str, Any]) -> None:
    scale = choose_scale(*size, DocumentPreviewOptions(**options), 1024)
    width, height = pixels(*size, scale.factor)
    assert 1 <= width <= MAX_PAGE_SIDE
    assert 1 <= height <= MAX_PAGE_SIDE
    assert width * height <= MAX_PAGE_PIXELS * 1.001


@pytest.mark.parametrize("size", [(1_000_000, 1_000_000), (1, 14_400), (14_400, 1)])
def test_an_absurd_page_is_drawn_smaller_and_the_result_says_so(
    size: tuple[float, float], document: Document, prepare: Prepare, draw: Draw
) -> None:
    context = prepare(document(size=size), "out.jpg", dpi=2400, quality=10)
    result = draw(context).result
    assert result["reduced_pages"] == 1
    with Image.open(context.output_file) as picture:
        assert picture.width * picture.height <= MAX_PAGE_PIXELS
        assert max(picture.size) <= MAX_PAGE_SIDE


def test_a_sheet_beyond_the_limit_is_refused_before_a_page_is_drawn(
    document: Document, prepare: Prepare, draw: Draw
) -> None:
    context = prepare(document(40), pages="all", width=1500)
    assert "contact sheet of 40 pages" in reason(draw(context))
    assert context.reports == []


def test_an_encrypted_pdf_is_refused_with_what_to_do(document: Document, prepare: Prepare, draw: Draw) -> None:
    assert "encrypted: save it without a password" in reason(draw(prepare(document(trailer=LOCK))))


def test_what_is_no_document_is_rejected(prepare: Prepare, draw: Draw, tmp_path: Path) -> None:
    for name, content in {
        "empty.pdf": b"",
        "head.pdf": b"%PDF-1.7\n",
        "noise.pdf": b"%PDF-1.4\n" + os.urandom(5000),
        "program.bin": b"\x7fELF\0\0\0" + os.urandom(100),
        "zip.docx": b"PK\x03\x04" + os.urandom(500),
        "nothing.docx": b"PK\x05\x06" + bytes(18),
        "locked.docx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "old.bin": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    }.items():
        (tmp_path / name).write_bytes(content)
        context = prepare(tmp_path / name, f"{name}.png")
        assert name in reason(draw(context))
        assert not context.output_part.exists()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_pdf_is_drawn_or_rejected(
    share: float, document: Document, prepare: Prepare, draw: Draw, tmp_path: Path
) -> None:
    content = document(6).read_bytes()
    (tmp_path / "cut.pdf").write_bytes(content[: int(share * len(content))])
    outcome = draw(prepare(tmp_path / "cut.pdf", "out.zip", pages="all", width=40))
    assert isinstance(outcome, Finished) or "cut.pdf" in reason(outcome)


def test_a_pdf_of_cycles_and_forged_counts_ends(prepare: Prepare, draw: Draw, tmp_path: Path) -> None:
    for number, tree in enumerate(
        [
            b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 1000000000>>",
            b"<</Type/Pages/Kids[2 0 R]/Count 99999>>",
            b"<</Type/Pages/Kids[]/Count 5>>",
            b"<</Type/Pages/Kids[]/Count -5>>",
        ]
    ):
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(
            b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj" + tree + b"endobj trailer<</Root 1 0 R>>"
        )
        assert isinstance(draw(prepare(path, f"{number}.zip", pages="all")), Rejected)


def test_a_pdf_may_not_fetch_or_start_anything(
    document: Document, prepare: Prepare, draw: Draw, tmp_path: Path
) -> None:
    bait = "/OpenAction << /S /JavaScript /JS (app.launchURL\\('http://127.0.0.1:9/'\\)) >> "
    bait += f"/AA << /WC << /S /Launch /F ({tmp_path / 'x'}) >> >>"
    content = document().read_bytes().replace(b"/Type /Catalog", b"/Type /Catalog " + bait.encode())
    (tmp_path / "bait.pdf").write_bytes(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert isinstance(draw(prepare(tmp_path / "bait.pdf", width=50)), Finished)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "out.png", "work-out.png"])


# --- archives ------------------------------------------------------------------------------------------------------


def zipped(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in parts.items():
            target.writestr(name, data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(Unusable) as caught:
        inspect_archive(path)
    return str(caught.value)


def test_a_plain_office_document_passes(odt: Callable[..., Path]) -> None:
    inspect_archive(odt("x" * 100_000))


def test_a_bomb_is_refused_without_unpacking_it(odt: Callable[..., Path]) -> None:
    bomb = odt(more={"Pictures/bomb.bin": bytes(150_000_000)})
    assert bomb.stat().st_size < 400_000
    tracemalloc.start()
    try:
        assert "zip bomb" in refused(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_part_that_unpacks_to_more_than_it_claims_is_refused(odt: Callable[..., Path]) -> None:
    path = odt(more={"Pictures/liar.bin": bytes(5_000_000)})
    content = bytearray(path.read_bytes())
    claim = (5_000_000).to_bytes(4, "little")
    assert content.count(claim) == 2
    path.write_bytes(content.replace(claim, (1000).to_bytes(4, "little")))
    assert "damaged" in refused(path)


def test_too_many_parts_are_refused(odt: Callable[..., Path]) -> None:
    parts = {f"Pictures/{number}": b"" for number in range(MAX_ENTRIES)}
    assert "parts" in refused(odt(more=parts))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("before", [0, (1 << 20) - 5])
def test_xml_that_declares_entities_is_refused_wherever_it_stands(
    encoding: str, before: int, odt: Callable[..., Path]
) -> None:
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    noise = os.urandom(before // 2).hex() if before else ""
    assert "XML entities in styles.xml" in refused(odt(more={"styles.xml": (noise + laughs).encode(encoding)}))


_OF_A_MACRO = '<!DOCTYPE script:module PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "module.dtd">'


def test_a_document_with_macros_is_read_as_libreoffice_writes_it(odt: Callable[..., Path]) -> None:
    inspect_archive(odt(more={"Basic/Standard/Module1.xml": _OF_A_MACRO.encode()}))


@pytest.mark.parametrize(
    ("part", "declared"),
    [
        ("content.xml", _OF_A_MACRO),
        ("Basic/a.xml", _OF_A_MACRO.replace('">', '" [<!ENTITY a "ha">]>')),
        ("Basic/a.xml", _OF_A_MACRO + '<!ENTITY a "ha">'),
        ("Basic/a.xml", _OF_A_MACRO.replace("module.dtd", "file:///etc/passwd")),
        ("Dialogs/a.xml", _OF_A_MACRO + _OF_A_MACRO.replace("PUBLIC", "SYSTEM")),
    ],
)
def test_macros_are_no_place_for_entities(part: str, declared: str, odt: Callable[..., Path]) -> None:
    assert f"XML entities in {part}" in refused(odt(more={part: declared.encode()}))


def test_encrypted_documents_are_refused(odt: Callable[..., Path], tmp_path: Path) -> None:
    assert "encrypted" in refused(odt(more={"META-INF/manifest.xml": b"<m><m:encryption-data/></m>"}))
    path = zipped(tmp_path / "locked.zip", {"a": b"text"})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path)


def old_document(path: Path, *streams: str) -> Path:
    """Write what tells the kind of a file of an older office program: the names of its streams, here over 1 MB in."""
    names = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in ("Root Entry", *streams))
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust((1 << 20) - 160, b"\0") + names)
    return path


@pytest.mark.parametrize("name", ["a.docx", "a.doc", "a"])
def test_an_encrypted_document_of_office_is_refused_under_any_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=f"{name} is encrypted: save it without a password"):
        document_kind(old_document(tmp_path / name, "EncryptionInfo", "EncryptedPackage"))


@pytest.mark.parametrize(
    ("name", "stream", "kind"),
    [
        ("a.docx", "WordDocument", "doc"),
        ("a.xlsx", "Workbook", "xls"),
        ("a", "PowerPoint Document", "ppt"),
        ("a.doc", "no stream that we know", "doc"),
    ],
)
def test_an_older_document_is_known_under_another_name(name: str, stream: str, kind: str, tmp_path: Path) -> None:
    """Those named .docx were called encrypted."""
    assert document_kind(old_document(tmp_path / name, stream)) == kind


def test_a_damaged_archive_is_refused(odt: Callable[..., Path]) -> None:
    path = odt(more={"Pictures/noise.bin": os.urandom(50_000)})
    content = path.read_bytes()
    place = content.index(b"noise.bin") + 1000
    path.write_bytes(content[:place] + bytes(100) + content[place + 100 :])
    assert "damaged" in refused(path)
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(path)


def test_an_archive_that_points_before_its_own_beginning_is_damaged(odt: Callable[..., Path]) -> None:
    path = odt("a text")
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = (0x7FFF_FFFF).to_bytes(4, "little")  # the size of the directory
    path.write_bytes(data)
    with pytest.raises(Unusable, match="damaged"):
        inspect_archive(path)


def test_an_office_document_that_lacks_a_byte_is_damaged(
    odt: Callable[..., Path], prepare: Prepare, draw: Draw
) -> None:
    path = odt("a text")
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + whole[21:])  # the directory now points one byte too far
    assert "damaged" in reason(draw(prepare(path)))
