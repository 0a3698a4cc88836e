"""3MF from untrusted sources: a zip file of XML, in which objects may consist of objects without limit."""

import re
import zipfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from ..contract import Unusable
from ..media.archives import open_zip, preflight

_MAX_INSTANCES = 100_000
_TAG = re.compile(rb"<(?:\w+:)?(object|component|item)\b([^>]*)>")
_ID = re.compile(rb"""\b(?:objectid|id)\s*=\s*["']([^"']*)["']""")
_ELSEWHERE = re.compile(rb"""\bpath\s*=\s*["']([^"']*)["']""")
"""The file of the archive that has the object; where it is not said, the one that names it."""
_TRIANGLE = re.compile(rb"<(?:\w+:)?triangle\b")
_VERTEX = re.compile(rb"<(?:\w+:)?vertex\b")

_HOLDERS = frozenset({"mesh", "vertices", "triangles", "components"})
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
    if not any(map(_is_first, names)):
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


def _is_first(name: str) -> bool:
    return name.lower().lstrip("/").startswith("3d/3dmodel.model")


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
        if elsewhere := _ELSEWHERE.search(tag[2]):
            name = elsewhere[1] + b":" + name
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


# --- Objects in several files of the archive ---


def in_one_file(path: Path) -> BytesIO | None:
    """The archive with all objects in 3D/3dmodel.model; None if they are there already.

    Ids are unique only within a file of the archive. trimesh expects them to be unique in the whole archive, and takes
    all meshes of another file for one object. Only what is drawn is copied.

    Args:
        path: a file that has passed `count_threemf`.

    Raises:
        Unusable: it is damaged, or the objects multiply beyond the limit.
    """
    with open_zip(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".model")]
        if len(names) < 2:  # noqa: PLR2004 - there are others
            return None
        first = next(name for name in names if _is_first(name))
        joined = _Joined(first)
        for name in names:
            parser = expat.ParserCreate(namespace_separator="}")
            parser.StartElementHandler = partial(joined.begin, name)
            parser.EndElementHandler = joined.end
            with archive.open(name) as file:
                try:
                    parser.ParseFile(file)
                except (expat.ExpatError, KeyError, ValueError) as error:
                    what = f"{type(error).__name__}: {error}"
                    raise Unusable(f"{path.name}: {name} is not a valid model ({what})") from error
    text = joined.text()
    if _instances(_uses(text)) > _MAX_INSTANCES:
        raise Unusable(f"{path.name} repeats its objects more than {_MAX_INSTANCES} times")
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("3D/3dmodel.model", text)
    return whole


class _Joined:
    """The objects of several files, as one model."""

    def __init__(self, first: str) -> None:
        """Start empty. The file `first` says what stands on the plate."""
        self._first = first
        self._numbers: dict[tuple[str, str], int] = {}
        self._objects: list[str] = []
        self._items: list[str] = []

    def begin(self, file: str, tag: str, values: dict[str, str]) -> None:
        """An element begins. Raises KeyError or ValueError if it lacks what it must have."""
        match tag.rpartition("}")[2]:
            case "object":
                self._objects.append(f'<object id="{self._number(file, values["id"])}">')
            case "vertex":
                self._objects.append(
                    '<vertex x="{!r}" y="{!r}" z="{!r}"/>'.format(*(float(values[key]) for key in "xyz"))
                )
            case "triangle":
                self._objects.append(
                    '<triangle v1="{}" v2="{}" v3="{}"/>'.format(*(int(values[f"v{n}"]) for n in (1, 2, 3)))
                )
            case "component":
                self._objects.append(self._use("component", file, values))
            case "item" if file == self._first:
                self._items.append(self._use("item", file, values))
            case name if name in _HOLDERS:
                self._objects.append(f"<{name}>")

    def end(self, tag: str) -> None:
        """An element ends."""
        if (name := tag.rpartition("}")[2]) in _HOLDERS or name == "object":
            self._objects.append(f"</{name}>")

    def text(self) -> bytes:
        """The model."""
        return "".join(
            ["<model><resources>", *self._objects, "</resources><build>", *self._items, "</build></model>"]
        ).encode()

    def _use(self, tag: str, file: str, values: dict[str, str]) -> str:
        place = next((value for key, value in values.items() if key.rpartition("}")[2] == "path"), file)
        turn = " ".join(repr(float(each)) for each in values.get("transform", "").split())
        turned = f' transform="{turn}"' if turn else ""
        return f'<{tag} objectid="{self._number(place, values["objectid"])}"{turned}/>'

    def _number(self, file: str, name: str) -> int:
        return self._numbers.setdefault((file.lstrip("/"), name), len(self._numbers) + 1)
