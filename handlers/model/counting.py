"""Counts the faces of a model, by its header or a quick scan, and checks whether the header can be true."""

import codecs
import re
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

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
_PLY_SIZES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8}
_PLY_SIZES |= {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8}
_BLOCK = 1 << 20
_COUNT = re.compile(r"[0-9]{1,18}")
_OFF_HEADER = re.compile(rb"\s*([A-Z0-9]*OFF\s+(\d{1,18})\s+(\d{1,18})(?!\d))")
_LINE = re.compile(rb"\n[^\n#]")
_LINE_ENDS = bytes.maketrans(b"\r", b"\n")
_LONGEST = 60
"""Signs of a header's line that are quoted."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a model before it is loaded."""

    kind: str
    """The suffix, without the dot, or `text stl`; empty if unknown."""
    size: int
    """Bytes of the file, unpacked."""
    faces: int
    vertices: int
    pixels: int = 0
    """Pixels of the textures, guessed from their file sizes."""
    exact: bool = False
    """Whether the numbers are counted, not guessed from the size."""

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
    """The first bytes of a model, without the mark that some programs put before UTF-8."""
    with path.open("rb") as file:
        return file.read(_HEAD).removeprefix(codecs.BOM_UTF8)


def _stl(path: Path, size: int) -> Counted:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    promised = struct.unpack_from("<I", head, 80)[0] if len(head) >= _STL_HEADER else 0
    if len(head) >= _STL_HEADER and size == _STL_HEADER + _STL_FACE * promised:
        return Counted(kind="stl", size=size, faces=promised, vertices=3 * promised, exact=True)
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:5].lower() != b"solid" or b"\0" in head:
        raise Unusable(f"{path.name} promises {counted(promised, 'face')}, which do not fit its {size} bytes")
    with path.open("rb") as file:
        file.seek(max(0, size - _HEAD))
        tail = file.read().lower()
    if 0 <= tail.rfind(b"endsolid") < tail.rfind(b"endfacet") or b"endsolid" not in tail:
        raise Unusable(f"{path.name} was cut: its last word, endsolid, is missing")
    faces = _occurrences(path, b"endfacet") + _occurrences(path, b"ENDFACET")
    return Counted(kind="text stl", size=size, faces=faces, vertices=3 * faces, exact=True)


def _ply(path: Path, size: int) -> Counted:
    head, end, _ = beginning(path).partition(b"end_header")
    if not head.startswith(b"ply") or not end:
        raise Unusable(f"{path.name} has no PLY header")
    binary = b"format ascii" not in head
    counts: dict[str, int] = {}
    least = 0
    element = ""
    for line in head.decode("latin-1").splitlines():
        match line.split():
            case ["element", element, number]:
                if not _COUNT.fullmatch(number):
                    raise Unusable(f"{path.name} has no valid PLY header: {line.strip()[:_LONGEST]!r}")
                counts[element] = int(number)
            case ["property", "list", length, *_]:
                least += counts.get(element, 0) * (_PLY_SIZES.get(length, 1) if binary else 2)
            case ["property", kind, _]:
                least += counts.get(element, 0) * (_PLY_SIZES.get(kind, 1) if binary else 2)
    if least > size:
        raise Unusable(f"{path.name} promises {counts}, for which {size} bytes are too few")
    faces, vertices = counts.get("face", 0), counts.get("vertex", 0)
    return Counted(kind="ply", size=size, faces=faces, vertices=vertices, exact=True)


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
    return Counted(kind="off", size=size, faces=faces, vertices=vertices, exact=True)


def faces_there(path: Path, counted: Counted) -> int:
    """How many of its faces a text in PLY or OFF has: each has a line. For other files, all of them. Raises OSError."""
    head = beginning(path)
    if counted.kind == "off" and (found := _OFF_HEADER.match(re.sub(rb"#[^\n]*", b"", head))):
        before = _lines(BytesIO(found[1])) + counted.vertices
    elif counted.kind == "ply" and b"format ascii" in (header := head.partition(b"end_header")[0]):
        before = _lines(BytesIO(header + b"end_header"))
        for line in header.splitlines():
            match line.split():
                case [b"element", b"face", _]:
                    break
                case [b"element", _, number]:
                    before += int(number)
    else:
        return counted.faces
    with path.open("rb") as file:
        return max(0, min(counted.faces, _lines(file) - before))


def _lines(file: BinaryIO) -> int:
    """Lines with anything but a comment."""
    count, before = 0, b"\n"
    while block := file.read(_BLOCK):
        text = before + block.translate(_LINE_ENDS, b" \t")
        count += len(_LINE.findall(text))
        before = text[-1:]
    return count


def _obj(path: Path, size: int) -> Counted:
    faces = _occurrences(path, b"\nf ") + _occurrences(path, b"\nf\t")
    vertices = _occurrences(path, b"\nv ") + _occurrences(path, b"\nv\t")
    return Counted(kind="obj", size=size, faces=faces, vertices=vertices)


def _gltf(path: Path, size: int) -> Counted:
    model = read_gltf(path)
    return Counted(
        kind=model.kind, size=size, faces=model.faces, vertices=model.vertices, pixels=model.pixels, exact=True
    )


def _threemf(path: Path, _size: int) -> Counted:
    found = count_threemf(path)
    return Counted(kind="3mf", size=found.unpacked, faces=found.faces, vertices=found.vertices, exact=True)


def _occurrences(path: Path, word: bytes) -> int:
    """The number of occurrences of the word in the file, which is read in blocks."""
    with path.open("rb") as file:
        return sum(block.count(word) for block in _overlapping(file, len(word) - 1))


def _overlapping(file: BinaryIO, overlap: int) -> Iterator[bytes]:
    tail = b""
    while block := file.read(_BLOCK):
        yield tail + block
        tail = block[-overlap:]


_SCANS: dict[str, Callable[[Path, int], Counted]] = {
    "stl": _stl,
    "ply": _ply,
    "off": _off,
    "obj": _obj,
    "glb": _gltf,
    "gltf": _gltf,
    "3mf": _threemf,
}
