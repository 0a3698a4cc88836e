"""Small files that are expensive to process. Each maker takes a size, so that a campaign can vary it."""

import random
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from papers import page_of, pdf_of

MakeOfSize: TypeAlias = Callable[[Path, int], None]


class Costly(NamedTuple):
    """A kind of file. The suffix of its name decides how it is read."""

    name: str
    task_type: str
    make: MakeOfSize
    short: int
    """A size that is quickly made and already expensive."""
    full: int
    output: str = ".png"


def _tiling(path: Path, fineness: int) -> None:
    """Make a page filled with a pattern whose tile is a fraction of a point."""
    step = 1 / fineness
    tile = b"0 0 9 9 re f " * 3
    pattern = (
        b"<</Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 9 9]/XStep %f/YStep %f/Resources<<>>"
        b"/Length %d>>stream\n%s\nendstream" % (step, step, len(tile), tile)
    )
    content = b"/Pattern cs /P scn 0 0 9999 9999 re f"
    path.write_bytes(pdf_of([*page_of(b"0 0 9999 9999", content, b"/Resources<</Pattern<</P 5 0 R>>>>"), pattern]))


def _deflated(path: Path, megabytes: int) -> None:
    """Make a page whose content unpacks to that many megabytes of operators that draw nothing."""
    packer = zlib.compressobj(9)
    block = b"q Q " * 250_000
    body = b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()
    again = zlib.compress(body, 9)
    pages = page_of(b"0 0 99 99")
    pages[3] = b"<</Length %d/Filter[/FlateDecode/FlateDecode]>>stream\n%s\nendstream" % (len(again), again)
    path.write_bytes(pdf_of(pages))


def _deflated_picture(path: Path, side: int) -> None:
    """Make an empty picture on a page, with that many pixels a side."""
    packer = zlib.compressobj(9)
    row = bytes(side * 3)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    image = b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceRGB/BitsPerComponent 8" % (side, side)
    image += b"/Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(body), body)
    content = b"q 99 0 0 99 0 0 cm /X Do Q"
    path.write_bytes(pdf_of([*page_of(b"0 0 99 99", content, b"/Resources<</XObject<</X 5 0 R>>>>"), image]))


def _forms(path: Path, width: int) -> None:
    """Make forms within forms, each drawn several times by the one above: `width` to the power of 9 drawings."""
    levels = 9
    objects = page_of(b"0 0 99 99", b"/F Do " * width, b"/Resources<</XObject<</F 5 0 R>>>>")
    for level in range(levels):
        inner = b"/F Do " * width if level < levels - 1 else b"0 0 9 9 re f "
        below = b"/Resources<</XObject<</F %d 0 R>>>>" % (6 + level) if level < levels - 1 else b""
        objects.append(
            b"<</Type/XObject/Subtype/Form/BBox[0 0 99 99]%s/Length %d>>stream\n%s\nendstream"
            % (below, len(inner), inner)
        )
    path.write_bytes(pdf_of(objects))


def _directories(path: Path, count: int) -> None:
    """Make a tiff of that many pages of one pixel."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    entries = [(tag, 3, 1, value) for tag, value in tags.items()]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    step = len(body) + 4
    out = bytearray(b"II*\0" + struct.pack("<I", 12) + b"\x80\0\0\0")
    for number in range(count):
        following = 12 + step * (number + 1) if number + 1 < count else 0
        out += body + struct.pack("<I", following)
    path.write_bytes(out)


def _continued(path: Path, lines: int) -> None:
    """Make an obj whose only face continues over that many empty lines."""
    path.write_bytes(b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3" + b"\\\n" * lines + b"\n")


def _ring(corners: int) -> bytes:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return b"".join(b"%.5f %.5f 0\n" % (x, y) for x, y in zip(np.cos(angles), np.sin(angles), strict=True))


def _polygon_off(path: Path, corners: int) -> None:
    face = b"%d " % corners + b" ".join(b"%d" % number for number in range(corners))
    path.write_bytes(b"OFF\n%d 1 0\n" % corners + _ring(corners) + face + b"\n")


def _polygon_ply(path: Path, corners: int) -> None:
    face = b"%d " % corners + b" ".join(b"%d" % number for number in range(corners))
    head = b"ply\nformat ascii 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\n" % corners
    head += b"element face 1\nproperty list int int vertex_indices\nend_header\n"
    path.write_bytes(head + _ring(corners) + face + b"\n")


def _polygon_obj(path: Path, corners: int) -> None:
    points = b"".join(b"v " + line + b"\n" for line in _ring(corners).splitlines())
    path.write_bytes(points + b"f " + b" ".join(b"%d" % number for number in range(1, corners + 1)) + b"\n")


def _many_polygons_obj(path: Path, most: int) -> None:
    """Make a face of every number of corners, from 3 on."""
    points = b"".join(b"v " + line + b"\n" for line in _ring(most).splitlines())
    faces = (b"f " + b" ".join(b"%d" % at for at in range(1, count + 1)) for count in range(3, most))
    path.write_bytes(points + b"\n".join(faces) + b"\n")


def _references(path: Path, lines: int) -> None:
    """Make Markdown of one paragraph of that many link definitions."""
    path.write_bytes(b"".join(b"[%d]: <b>\n" % number for number in range(lines)))


def _open_marks(path: Path, count: int) -> None:
    """Make Markdown with marks that are opened and never closed."""
    path.write_bytes(b"__a " * count)


def _brackets(path: Path, count: int) -> None:
    path.write_bytes(b"[" * count + b"a" + b"](" * count)


def _columns(path: Path, rows: int) -> None:
    """Make Markdown of a table with a mark opened in each cell."""
    path.write_bytes(b"| __a | `b | *c |\n" * rows)


def _references_held(path: Path, side: int) -> None:
    """Make a film whose decoder has to keep as many large pictures as its codec allows."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "x264-params": "ref=16:bframes=0:keyint=60:scenecut=0", "crf": "51"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        frame = av.VideoFrame(side, side, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(20):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _noise_gif(path: Path, frames: int) -> None:
    """Make a gif of that many frames of one pixel on a large canvas."""
    side = 4000
    out = bytearray(b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6))
    for _ in range(frames):
        out += b"\x21\xf9\x04\x09\x02\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    path.write_bytes(out + b";")


COSTLY = [
    Costly("tiling.pdf", "document_preview", _tiling, 40, 1000),
    Costly("forms.pdf", "document_preview", _forms, 6, 12),
    Costly("deflated.pdf", "document_preview", _deflated, 400, 1900),
    Costly("deflated-picture.pdf", "document_preview", _deflated_picture, 8000, 20_000),
    Costly("directories.tiff", "image_convert", _directories, 40_000, 200_000),
    Costly("directories.tif", "image_thumbnail", _directories, 40_000, 200_000),
    Costly("frames.gif", "image_convert", _noise_gif, 2000, 20_000, ".webp"),
    Costly("continued.obj", "model_preview", _continued, 100_000, 2_000_000),
    Costly("polygon.off", "model_preview", _polygon_off, 40_000, 400_000),
    Costly("polygon.ply", "model_preview", _polygon_ply, 40_000, 400_000),
    Costly("polygon.obj", "model_preview", _polygon_obj, 40_000, 400_000),
    Costly("polygons.obj", "model_preview", _many_polygons_obj, 700, 3000),
    Costly("references.md", "document_preview", _references, 60_000, 1_000_000),
    Costly("marks.md", "document_preview", _open_marks, 20_000, 1_000_000),
    Costly("brackets.md", "document_preview", _brackets, 20_000, 1_000_000),
    Costly("columns.md", "document_preview", _columns, 20_000, 200_000),
    Costly("held.mp4", "video_thumbnail", _references_held, 2048, 8192),
]


def sibling(one: Costly, seed: int, *, full: bool) -> int:
    """Return another random size of it."""
    most = one.full if full else one.short
    return max(2, int(most * random.Random(f"{one.name}{seed}").uniform(0.1, 1.0)))
