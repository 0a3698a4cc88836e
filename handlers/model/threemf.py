"""3MF from untrusted sources: a zip file of XML, in which objects may consist of objects without limit."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..contract import Unusable
from ..media.archives import preflight

_MAX_INSTANCES = 100_000
_TAG = re.compile(rb"<(?:\w+:)?(object|component|item)\b([^>]*)>")
_ID = re.compile(rb"""\b(?:objectid|id)\s*=\s*["']([^"']*)["']""")
_TRIANGLE = re.compile(rb"<(?:\w+:)?triangle\b")
_VERTEX = re.compile(rb"<(?:\w+:)?vertex\b")

_COLOURS = re.compile(rb"<(?:\w+:)?(?:base|color|texture2d)\b")
"""Matches the content of a basematerials, a colorgroup or a texture group."""


class ThreemfCounts(NamedTuple):
    """The counts of an archive."""

    faces: int
    """Each object counts once, however often it is used."""
    vertices: int
    unpacked: int
    """Bytes."""


def count_threemf(path: Path) -> ThreemfCounts:
    """Check the archive, count the triangles, and check that the objects do not multiply beyond the limit.

    Raises:
        Unusable: it is not such an archive, or is harmful.
    """
    names = [name for name in preflight(path) if name.lower().endswith(".model")]
    if not any(name.lower().lstrip("/").startswith("3d/3dmodel.model") for name in names):
        raise Unusable(f"{path.name} has no 3D/3dmodel.model: it is not a 3MF file")
    faces = vertices = unpacked = 0
    with zipfile.ZipFile(path) as archive:
        for name in names:
            text = _read(archive, name, path)
            faces += sum(1 for _ in _TRIANGLE.finditer(text))
            vertices += sum(1 for _ in _VERTEX.finditer(text))
            unpacked += len(text)
            if _instances(_uses(text)) > _MAX_INSTANCES:
                raise Unusable(f"{path.name} repeats its objects more than {_MAX_INSTANCES} times")
    return ThreemfCounts(faces, vertices, unpacked)


def has_colours(path: Path) -> bool:
    """Whether a file that has passed `count_threemf` has materials, colours or textures."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".model")]
        return any(_COLOURS.search(_read(archive, name, path)) for name in names)


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        text = archive.read(name)
    except (zipfile.BadZipFile, EOFError, zipfile.zlib.error) as error:  # type: ignore[attr-defined] # not in its stub
        raise Unusable(f"{path.name} is damaged: {error}") from error
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = text.decode("utf-16", "replace").encode()
    return text


def _uses(text: bytes) -> dict[bytes, list[bytes]]:
    """Object → the objects that it consists of; the empty name is the plate that all stand on."""
    uses: dict[bytes, list[bytes]] = {b"": []}
    current = b""
    for tag in _TAG.finditer(text):
        found = _ID.search(tag[2])
        name = found[1] if found else b""
        match tag[1]:
            case b"object":
                current = name
                uses.setdefault(current, [])
            case b"component":
                uses[current].append(name)
            case _:
                uses[b""].append(name)
    return uses


def _instances(uses: dict[bytes, list[bytes]]) -> int:
    """The number of objects on the plate if all are expanded; more than the limit if that never ends."""
    totals: dict[bytes, int] = {}
    for name in _deepest_first(uses):
        totals[name] = 1 + sum(totals.get(used, _MAX_INSTANCES if used in uses else 1) for used in uses[name])
    return totals[b""]


def _deepest_first(uses: dict[bytes, list[bytes]]) -> Iterator[bytes]:
    """Yield each object after those that it consists of; within a cycle, in any order."""
    done: set[bytes] = set()
    for root in uses:
        waiting = [(root, False)]
        while waiting:
            name, ready = waiting.pop()
            if ready:
                yield name
            elif name in uses and name not in done:
                done.add(name)
                waiting.append((name, True))
                waiting += [(used, False) for used in uses[name]]
