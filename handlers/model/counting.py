"""Counts the faces of a model, by its header or a quick scan, and checks whether the header can be true."""

import codecs
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from ...events.counted import counted
from ..contract import Unusable
from ..inputs import refuse_empty
from .gltf import read_gltf
from .threemf import count_threemf

MAX_FACES = 20_000_000
MAX_MODEL_BYTES = 4_000_000_000
_STL_HEADER = 84
_STL_FACE = 50
_HEAD = 65_536
PLY_KINDS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
PLY_KINDS |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"}
PLY_KINDS |= {"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
PLY_KINDS |= {"int64": "i8", "uint64": "u8", "float16": "f2"}
"""Types of a PLY, as numpy names them. Those of the last line are in no specification, but trimesh reads them."""
_TRIANGLE = 3
"""Corners."""
_BLOCK = 1 << 20
_COUNT = re.compile(r"[0-9]{1,18}")
_OFF_HEADER = re.compile(rb"\s*([A-Z0-9]*OFF\s+(\d{1,18})\s+(\d{1,18})(?!\d))")
_LINE = re.compile(rb"\n[^\n#]")
_ALIKE = bytes.maketrans(b"\r\t", b"\n ")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST = 60
"""Signs of a header's line that are quoted."""
_DIGITS = 9
"""Of a number of corners that are looked at."""
_FAR_FROM_USUAL = 4
"""A polygon with more than this many times the usual number of corners counts for itself."""
_LAST_LINES = 16
"""How many of a text's last lines are looked at, at least."""
_LONGEST_TAIL = 1 << 23
"""The most bytes in which they are searched for: a line may hold a polygon of any size."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a model before it is loaded."""

    kind: str
    """The suffix, without the dot, or `text stl` or `text ply`; empty if unknown."""
    size: int
    """Bytes of the file, unpacked."""
    faces: int
    vertices: int
    pixels: int = 0
    """Pixels of the textures, guessed from their file sizes."""
    triangles: int = 0
    """Triangles of all faces; 0: as many as faces."""
    loose: int = 0
    """Points and lines beside the faces, which are not drawn; of a glTF, its primitives of them."""
    unread: tuple[str, ...] = ()
    """Names of what a glTF needs for its shape, and is not read."""
    left: int = 0
    """Bytes behind the last face of a binary stl, which are not read."""
    exact: bool = False
    """Whether faces and vertices are counted, not guessed from the size."""

    @property
    def basis(self) -> dict[str, Any]:
        """The facts for `Estimate.basis`."""
        return {"format": self.kind, "faces": self.faces, "vertices": self.vertices, "exact": self.exact}


def count_faces(path: Path) -> Counted:
    """Count the faces of a model file, and refuse a file whose claims cannot be true.

    Raises:
        Unusable: it is not such a file, claims more than it holds, has no faces, or too many.
        OSError: it cannot be read.
    """
    refuse_empty(path)
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise Unusable(f"{path.name} has {size} bytes; the limit is {MAX_MODEL_BYTES}")
    kind = path.suffix.lower().removeprefix(".")
    scan = _SCANS.get(kind)
    if scan is None:
        raise Unusable(f"{path.name} is not named like a 3-D model")
    counted = scan(path, size)
    if counted.faces <= 0:
        raise Unusable(f"{path.name} has no faces to draw")
    if counted.faces > MAX_FACES:
        raise Unusable(f"{path.name} has {counted.faces} faces; the limit is {MAX_FACES}")
    return counted


def beginning(path: Path) -> bytes:
    """The first bytes of a model, as `in_utf8` gives them."""
    with path.open("rb") as file:
        return in_utf8(file.read(_HEAD))


def in_utf8(text: bytes) -> bytes:
    """A text without the mark that programs of Windows put before it, and from UTF-16 if the mark says so."""
    if text.startswith(_UTF16):
        return text.decode("utf-16", "replace").encode()
    return text.removeprefix(codecs.BOM_UTF8)


def stl_end(path: Path) -> int:
    """The byte at which the faces of a binary stl end, by its header. 0 if it is a text or nothing of the kind."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
    end = _STL_HEADER + _STL_FACE * _stl_promise(head)
    return end if size >= _STL_HEADER and (end == size or (_STL_HEADER < end < size and not _is_solid(head))) else 0


def _stl_promise(head: bytes) -> int:
    return int(struct.unpack_from("<I", head, 80)[0]) if len(head) >= _STL_HEADER else 0


def _is_solid(head: bytes) -> bool:
    """Whether this is how a text stl begins; a binary one may have its first word."""
    text = in_utf8(head)
    return text.lstrip()[:5].lower() == b"solid" and b"\0" not in text


def _stl(path: Path, size: int) -> Counted:
    if end := stl_end(path):
        faces = (end - _STL_HEADER) // _STL_FACE
        return Counted(kind="stl", size=size, faces=faces, vertices=3 * faces, left=size - end, exact=True)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not _is_solid(head):
        promised = counted(_stl_promise(head), "face")
        raise Unusable(f"{path.name} promises {promised}, which do not fit its {size} bytes")
    tail = _tail(path).lower()
    if 0 <= tail.rfind(b"endsolid") < tail.rfind(b"endfacet") or b"endsolid" not in tail:
        raise Unusable(f"{path.name} was cut: its last word, endsolid, is missing")
    (faces,) = _count_words(path, b"endfacet")
    return Counted(kind="text stl", size=size, faces=faces, vertices=3 * faces, exact=True)


class PlyElement(NamedTuple):
    """An element of a PLY header."""

    name: str
    records: int
    parts: list[tuple[str, str, str]]
    """The properties: name, numpy's name of the type, and that of the length's, which is empty unless it is a list."""

    @property
    def least(self) -> int:
        """Bytes of a record whose lists are empty."""
        return sum(int((length or kind)[1]) for _, kind, length in self.parts)


class PlyHeader(NamedTuple):
    """The header of a PLY."""

    head: bytes
    """All of it up to its last word, `end_header`."""
    elements: list[PlyElement]

    @property
    def binary(self) -> bool:
        """Whether numbers are stored in binary."""
        return b"format ascii" not in self.head

    def records(self, name: str) -> int:
        """How many records of this name it promises."""
        return sum(element.records for element in self.elements if element.name == name)


def ply_header(path: Path) -> PlyHeader:
    """Read the header of a PLY. Raises Unusable, OSError."""
    head, end, _ = beginning(path).partition(b"end_header")
    if not head.startswith(b"ply") or not end:
        raise Unusable(f"{path.name} has no PLY header")
    elements: list[PlyElement] = []
    for line in head.decode("latin-1").splitlines():
        match line.split():
            case ["element", name, number] if _COUNT.fullmatch(number):
                elements.append(PlyElement(name, int(number), []))
            case ["property", "list", length, kind, name] if elements and {length, kind} <= PLY_KINDS.keys():
                elements[-1].parts.append((name, PLY_KINDS[kind], PLY_KINDS[length]))
            case ["property", kind, name] if elements and kind in PLY_KINDS:
                elements[-1].parts.append((name, PLY_KINDS[kind], ""))
            case ["element" | "property", *_]:
                raise Unusable(f"{path.name} has no valid PLY header: {line.strip()[:_LONGEST]!r}")
    return PlyHeader(head, elements)


def _ply(path: Path, size: int) -> Counted:
    header = ply_header(path)
    needs = [(each.least if header.binary else 2 * len(each.parts)) * each.records for each in header.elements]
    if sum(needs) > size:
        promised = {element.name: element.records for element in header.elements}
        raise Unusable(f"{path.name} promises {promised}, for which {size} bytes are too few")
    faces, vertices = header.records("face"), header.records("vertex")
    if header.binary:
        triangles = max(faces, round(faces * (_binary_corners(header, size - sum(needs)) - 2)))
    else:
        triangles = _triangles(path, faces)
    loose = header.records("edge")
    kind = "ply" if header.binary else "text ply"
    return Counted(kind=kind, size=size, faces=faces, vertices=vertices, triangles=triangles, loose=loose, exact=True)


def _binary_corners(header: PlyHeader, rest: int) -> float:
    """Corners of a face on average, if its lists hold `rest` bytes. If others hold some of them, it has fewer."""
    for element in header.elements:
        # Beside the corners there may be places in a texture, of two numbers each.
        sizes = [int(kind[1]) * (1 if "vert" in name else 2) for name, kind, length in element.parts if length]
        if element.name == "face" and element.records and sizes:
            return rest / sum(sizes) / element.records
    return _TRIANGLE


def _triangles(path: Path, faces: int) -> int:
    """Triangles of a text's faces, by the corners of the last ones; as many as faces, if the last lines are no faces.

    A few polygons of very many corners, such as the end of a pipe, say nothing about the other faces.
    """
    lines = (line.split() for line in _tail(path).splitlines()[1:])
    corners = [
        int(words[0][:_DIGITS]) if words[0].isdigit() else len(words) - 1
        for words in lines
        if words and (words[0] == b"f" or (words[0].isdigit() and len(words) > int(words[0][:_DIGITS]) >= _TRIANGLE))
    ]
    if not corners:
        return faces
    most = _FAR_FROM_USUAL * median(corners)
    far = [number for number in corners if number > most]
    usual = (sum(corners) - sum(far)) / (len(corners) - len(far))
    return max(faces, round((faces - len(far)) * (usual - 2)) + sum(far) - 2 * len(far))


def _tail(path: Path) -> bytes:
    """The last bytes of a text; so many that they hold some lines, unless those are too long for that."""
    size, length = path.stat().st_size, _HEAD
    with path.open("rb") as file:
        sixteen = file.read(2) in _UTF16
        while True:
            file.seek(max(0, size - length))
            tail = file.read()
            ends = max(tail.count(b"\n"), tail.count(b"\r"))
            if ends >= _LAST_LINES or length >= min(size, _LONGEST_TAIL):
                return tail.replace(b"\0", b"") if sixteen else tail
            length = min(8 * length, _LONGEST_TAIL)


def _off(path: Path, size: int) -> Counted:
    head = re.sub(rb"#[^\n]*", b"", beginning(path))
    found = _OFF_HEADER.match(head)
    if found is None:
        raise Unusable(f"{path.name} has no OFF header")
    vertices, faces = int(found[2]), int(found[3])
    if 2 * 3 * vertices + 2 * 4 * faces > size:
        raise Unusable(
            f"{path.name} promises {counted(vertices, 'vertex', 'vertices')} and {counted(faces, 'face')}, "
            f"too many for {size} bytes"
        )
    triangles = _triangles(path, faces)
    return Counted(kind="off", size=size, faces=faces, vertices=vertices, triangles=triangles, exact=True)


def faces_there(path: Path, counted: Counted) -> int:
    """How many of its faces a text in PLY or OFF has: each has a line. For other files, all of them. Raises OSError."""
    if counted.kind == "off" and (found := _OFF_HEADER.match(re.sub(rb"#[^\n]*", b"", beginning(path)))):
        before = _lines([found[1]]) + counted.vertices
    elif counted.kind == "text ply":
        header = ply_header(path)
        before = _lines([header.head + b"end_header"])
        before += sum(element.records for element in takewhile(lambda each: each.name != "face", header.elements))
    else:
        return counted.faces
    return max(0, min(counted.faces, _lines(_blocks(path)) - before))


def _lines(blocks: Iterable[bytes]) -> int:
    """Lines with anything but a comment."""
    count, before = 0, b"\n"
    for block in blocks:
        text = before + block.replace(b"\r", b"\n").translate(None, b" \t")
        count += len(_LINE.findall(text))
        before = text[-1:]
    return count


def _obj(path: Path, size: int) -> Counted:
    faces, vertices, points, lines = _count_words(path, b"\nf ", b"\nv ", b"\np ", b"\nl ")
    triangles, loose = _triangles(path, faces), points + lines
    return Counted(kind="obj", size=size, faces=faces, vertices=vertices, triangles=triangles, loose=loose)


def _gltf(path: Path, size: int) -> Counted:
    model = read_gltf(path)
    return Counted(
        kind=model.kind,
        size=size,
        faces=model.faces,
        vertices=model.vertices,
        pixels=model.pixels,
        loose=model.loose,
        unread=model.unread,
        exact=True,
    )


def _threemf(path: Path, _size: int) -> Counted:
    model = count_threemf(path)
    return Counted(kind="3mf", size=model.unpacked, faces=model.faces, vertices=model.vertices, exact=True)


def _count_words(path: Path, *words: bytes) -> list[int]:
    """How often each word is in the text, in small letters and with one kind of blanks and of line ends.

    All words have the same length, so that none is counted twice where two blocks meet.
    """
    counts, tail = [0] * len(words), b"\n"
    for block in _blocks(path):
        text = tail + block.translate(_ALIKE).lower()
        for number, word in enumerate(words):
            counts[number] += text.count(word)
        tail = text[1 - len(words[0]) :]
    return counts


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a text in blocks; those of UTF-16 as UTF-8."""
    with path.open("rb") as file:
        decoder = codecs.getincrementaldecoder("utf-16")("replace") if file.read(2) in _UTF16 else None
        file.seek(0)
        while block := file.read(_BLOCK):
            yield block if decoder is None else decoder.decode(block).encode()


_SCANS: dict[str, Callable[[Path, int], Counted]] = {
    "stl": _stl,
    "ply": _ply,
    "off": _off,
    "obj": _obj,
    "glb": _gltf,
    "gltf": _gltf,
    "3mf": _threemf,
}
