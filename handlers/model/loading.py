"""Loads a model as triangles. trimesh reads the formats; it gets an open file and no access to any other."""

import io
import re
import warnings
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import msgspec
import numpy as np
import trimesh
from trimesh.exchange.gltf.extensions import register_handler
from trimesh.resolvers import Resolver

from ..contract import Unusable
from ..io_errors import error_text
from .counting import MAX_FACES, in_utf8, ply_header, stl_end
from .gltf import ODD, TEXTURED, read_gltf
from .paint import ByFace, Paint, Plain, paint_of
from .ply import NOT_THERE, triangles_of_ply
from .threemf import in_one_file

Y_UP = ("glb", "gltf", "obj")
_TURNS = {
    "x": np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.float64),
    "y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float64),
    "z": np.eye(3),
}
"""Axis that points up → the matrix that turns it to z."""

_TEXTS = (".stl", ".obj", ".ply", ".off")
_DECIMAL_COMMAS = re.compile(rb"\d,\d+[ \t]+-?\d+,\d")
_HEAD = 1 << 16
_FACES_AT_ONCE = 100_000
_NO_AREA = 1e-12
"""The area, in a model of radius 1, up to which a face is a line: its coordinates are rounded."""


class Submesh(NamedTuple):
    """Triangles with the same paint."""

    first_face: int
    first_vertex: int
    paint: Paint


class Model(NamedTuple):
    """A model that stands upright, is centred, and just fits into a ball of radius 1."""

    vertices: Any
    """float32, (n, 3); z points up, y to the back."""
    faces: Any
    """int32, (m, 3)."""
    parts: list[Submesh]
    bounds: list[list[float]]
    """Smallest and largest x, y, z, in the file's coordinates."""
    read: int
    """Faces in the file, as triangles. Includes faces with a corner that is not finite, which are left out of the
    model."""
    bare: int
    """Meshes whose texture cannot be read."""


class _NoFiles(Resolver):
    """Finds no file, whatever a model requests."""

    def __init__(self) -> None:
        """Do nothing: there is no state."""

    def get(self, key: str) -> NoReturn:
        """Refuse."""
        raise FileNotFoundError(key)

    def keys(self) -> tuple[str, ...]:
        """No names: there are no files."""
        return ()

    def write(self, name: str, _data: object) -> NoReturn:
        """Refuse."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> "_NoFiles":
        """Itself: there is no other place."""
        del namespace
        return self


def load_model(path: Path, up: str, colour: str | None) -> Model:
    """Read a model that has passed `counting.count_faces`.

    Raises:
        Unusable: it cannot be read by its suffix's format, or has nothing to draw.
        OSError: the disk is at fault, not the model.
    """
    kind = path.suffix.lower().removeprefix(".")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            scene = _read(path, kind)
            model = _assemble(scene, kind, colour)
            if model is None:
                raise Unusable(f"{path.name} has no faces that can be drawn")
            axis = up if up != "auto" else "y" if kind in Y_UP else "z"
            return _upright(model, axis)
    except (Unusable, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unread(path, error) from error
    except Exception as error:  # the reader may fail anywhere on an invalid or odd file
        raise _unread(path, error) from error


def _unread(path: Path, error: Exception) -> Unusable:
    """The error for an unreadable file; the reader's message does not say what is at fault."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if path.suffix.lower() in _TEXTS and _DECIMAL_COMMAS.search(head):
        return Unusable(f"{path.name} has commas in its numbers: save it again with points, as programs do in English")
    reason = f"{path.name} cannot be read by trimesh ({type(error).__name__}: {error_text(error)})"
    return Unusable(f"{reason}: save it again with the program it comes from, as stl or ply for example")


def _read(path: Path, kind: str) -> trimesh.Scene:
    how: dict[str, Any] = {"file_type": kind, "resolver": _NoFiles(), "process": False}
    if kind in ("glb", "gltf"):
        source, how["file_type"] = _reduced_gltf(path)
        _failed.clear()
        scene = trimesh.load_scene(source, **how)
        if _failed:
            raise _failed.pop()
        return scene
    if kind == "obj":
        how |= {"skip_materials": True, "maintain_order": True}
    with open_model(path, kind) as file:
        return trimesh.load_scene(file, **how)


def _reduced_gltf(path: Path) -> tuple[io.BytesIO, str]:
    """The same file, with only geometry and base colours in its JSON."""
    model = read_gltf(path)
    text = msgspec.json.encode(model.document)
    if model.kind == "gltf":
        return io.BytesIO(text), "gltf"
    text += b" " * (-len(text) % 4)
    with path.open("rb") as file:
        file.seek(model.body)
        body = file.read()
    head = np.array([0x46546C67, 2, 20 + len(text) + len(body), len(text), 0x4E4F534A], dtype="<u4").tobytes()
    return io.BytesIO(head + text + body), "glb"


_failed: list[Exception] = []
"""Why a primitive could not be rewritten: trimesh only logs what its handlers raise, and the faces would be missing."""


def _rewrite_oddities(found: dict[str, Any]) -> None:
    """Rewrite a primitive before trimesh reads it, or note in `_failed` why it cannot be."""
    try:
        _without_oddities(found)
    except Exception as error:
        _failed.append(error)
        raise


def _without_oddities(found: dict[str, Any]) -> None:
    """Rewrite a primitive; `gltf` has found out what is odd. Arrays may have other users."""
    odd, primitive, arrays = found["data"], found["primitive"], found["accessors"]
    attributes = primitive["attributes"]
    for key in odd.get("shares", ()):
        values = arrays[attributes[key]]
        attributes[key] = len(arrays)
        arrays.append(np.maximum(values / np.iinfo(values.dtype).max, -1))
    if "moved" in odd:
        matrix, places = np.array(odd["moved"]), arrays[attributes["TEXCOORD_0"]]
        attributes["TEXCOORD_0"] = len(arrays)
        arrays.append(places @ matrix[:, :2].T + matrix[:, 2])
    if "fan" in odd:
        ring = arrays[primitive["indices"]].ravel() if "indices" in primitive else None
        ring = np.arange(len(arrays[attributes["POSITION"]])) if ring is None else ring
        primitive |= {"mode": 4, "indices": len(arrays)}
        arrays.append(np.stack((np.broadcast_to(ring[:1], ring[2:].shape), ring[1:-1], ring[2:]), axis=1))


register_handler(ODD, scope="primitive_preprocess")(_rewrite_oddities)


def _assemble(scene: trimesh.Scene, kind: str, colour: str | None) -> Model | None:
    """All meshes of the scene as one list of triangles."""
    vertices, faces, parts = [], [], []
    points = corners = read = bare = 0
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        mesh = scene.geometry[name]
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        read += len(mesh.faces)
        placed, whole = _placed(mesh, np.asarray(matrix))
        if not len(whole):
            continue
        paint, drawn = paint_of(mesh, kind, colour, whole), np.asarray(mesh.faces)[whole]
        material, places = getattr(mesh.visual, "material", None), getattr(mesh.visual, "uv", None)
        textured = places is not None and getattr(material, "name", "") == TEXTURED
        bare += isinstance(paint, Plain) and colour is None and textured
        if not isinstance(paint, ByFace):  # its colours depend on the faces' numbers
            drawn = divided_evenly(placed, drawn)
        parts.append(Submesh(corners, points, paint))
        vertices.append(placed)
        faces.append((drawn + points).astype(np.int32))
        points += len(placed)
        corners += len(whole)
        if corners > MAX_FACES:
            raise Unusable(f"the model has more than {MAX_FACES} faces when its copies are counted")
    scene.geometry.clear()
    if not parts:
        return None
    every = vertices[0] if len(vertices) == 1 else np.concatenate(vertices)
    return Model(every, faces[0] if len(faces) == 1 else np.concatenate(faces), parts, [], read, bare)


def _placed(mesh: trimesh.Trimesh, matrix: Any) -> tuple[Any, Any]:
    """The placed vertices, and the numbers of the faces whose corners are all finite."""
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    if not np.array_equal(matrix, np.eye(4)):
        vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(mesh.faces)
    inside = ((faces >= 0) & (faces < len(vertices))).all(axis=1)
    if not inside.all():
        raise Unusable(NOT_THERE)
    finite: Any = np.isfinite(vertices).all(axis=1)
    if finite.all():
        return vertices, np.arange(len(faces))
    whole = np.flatnonzero(finite[faces].all(axis=1))
    return np.where(finite[:, None], vertices, 0.0), whole


def _upright(model: Model, axis: str) -> Model:
    """Turn, centre and scale the model; only vertices that faces use count for the size."""
    used = np.zeros(len(model.vertices), dtype=bool)
    used[model.faces.ravel()] = True
    low = model.vertices.min(axis=0, where=used[:, None], initial=np.inf)
    high = model.vertices.max(axis=0, where=used[:, None], initial=-np.inf)
    # Halve first: the difference of two huge coordinates may overflow.
    centre, radius = low / 2 + high / 2, float(np.hypot.reduce(high / 2 - low / 2))
    if not np.isfinite(radius) or radius <= 0:
        raise Unusable("the model has no size, or one too large to compute with")
    turned = ((model.vertices - centre) / radius) @ _TURNS[axis].T
    if not _has_area(turned, model.faces):
        raise Unusable("the model has only faces without an area, which show nothing")
    placed = turned.astype(np.float32)
    placed[~used] = 0
    return model._replace(vertices=placed, bounds=[low.tolist(), high.tolist()])


def _has_area(vertices: Any, faces: Any) -> bool:
    """Whether some face is more than a line; nearly always one of the first is."""
    for first in range(0, len(faces), _FACES_AT_ONCE):
        one, two, three = (vertices[faces[first : first + _FACES_AT_ONCE, corner]] for corner in range(3))
        if np.abs(np.cross(two - one, three - one)).max() > _NO_AREA:
            return True
    return False


# --- Text formats: reduced to plain text before trimesh reads them ---

_PLAIN = bytes(range(128)).replace(b"\t", b" ") + b"?" * 128
"""ASCII as it is, and a question mark for anything else: names and comments come in any encoding, and are not used."""
_OTHER_LINES = re.compile(rb"^(?![ \t]*[vf][ \t])[^\n]*\n?", re.MULTILINE)
_OTHER_WORDS = re.compile(rb"/[^\s]*|#[^\n]*")
"""Textures and normals of a corner, and comments."""
_BLANKS = re.compile(rb"[ \t]{2,}")
"""A line may have any number of continuations, and each search would go through all that follow."""
_FROM_THE_END = re.compile(rb"^[ \t]*f[^\n]*[ \t]-", re.MULTILINE)
_NO_CORNER = re.compile(rb"^[ \t]*f[^\n]*[ \t]0+(?!\S)", re.MULTILINE)
"""A face with vertex 0. They count from 1, and trimesh would take 0 for the last one."""
_EDGES = re.compile(rb"(element +)edge\b")
"""Edges in the header of a PLY. trimesh would make paths of them, for which it needs scipy."""


def open_model(path: Path, kind: str) -> BinaryIO:
    """Open the file in a form that trimesh can read. `kind` is its suffix, without the dot."""
    if kind == "3mf" and (joined := in_one_file(path)):
        return joined
    if kind == "obj":
        return BytesIO(_plain_obj(in_utf8(path.read_bytes())))
    if kind == "ply":
        header, whole = ply_header(path), path.read_bytes()
        text = in_utf8(whole)
        if header.binary and b"\n" not in header.head:
            end = len(header.head) + len(b"end_header\r")
            text = _in_lines(text[:end]) + text[end:]
        if header.binary and (triangles := triangles_of_ply(header, text)):
            return BytesIO(triangles)
        text = text if header.binary else _in_lines(text)
        size = len(header.head)
        plain = _EDGES.sub(rb"\1unread", text[:size].translate(_PLAIN))
        if plain != header.head or text is not whole:
            return BytesIO(plain + text[size:])
    if kind == "off" or (kind == "stl" and not stl_end(path)):
        text = _in_lines(in_utf8(path.read_bytes()))
        return BytesIO(text if text.isascii() else text.translate(_PLAIN))
    if kind == "stl" and (end := stl_end(path)) < path.stat().st_size:
        with path.open("rb") as file:
            return BytesIO(file.read(end))
    return path.open("rb")


def _in_lines(text: bytes) -> bytes:
    """The text with line ends that trimesh knows: old Macintoshes wrote CR alone."""
    return text if b"\n" in text else text.replace(b"\r", b"\n")


def _plain_obj(text: bytes) -> bytes:
    """Keep only the lines of vertices and faces, with numbers that count from the beginning."""
    text = text.translate(_PLAIN).replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\\\n", b" ")
    text = _BLANKS.sub(b" ", text)
    text = _OTHER_WORDS.sub(b"", _OTHER_LINES.sub(b"", text))
    if _NO_CORNER.search(text):
        raise Unusable(NOT_THERE)
    return _from_the_beginning(text) if _FROM_THE_END.search(text) else text


def _from_the_beginning(text: bytes) -> bytes:
    """Count vertices from the beginning: -1 is the last one before the face, but trimesh takes the file's last."""
    lines, corners = [], 0
    for line in text.split(b"\n"):
        words = line.split()
        if words[:1] == [b"v"]:
            corners += 1
        elif b"-" in line:
            words[1:] = [b"%d" % _corner(int(word), corners) if word.startswith(b"-") else word for word in words[1:]]
            line = b" ".join(words)  # noqa: PLW2901 - the rewritten line
        lines.append(line)
    return b"\n".join(lines)


def _corner(from_the_end: int, corners: int) -> int:
    number = from_the_end + corners + 1
    if number < 1:
        raise Unusable(NOT_THERE)
    return number


# --- Flat faces with very many corners ---

LEAST = 64
"""Smallest number of triangles for which a fan is divided."""
_FLAT = 1e-5
"""How far a corner may lie off the plane, as a share of the fan's extent."""
_CONVEX = 1e-3
"""Share of the area by which a polygon may miss its convex hull and still count as convex."""


def divided_evenly(vertices: Any, faces: Any) -> Any:
    """Divide each large fan that is a flat convex polygon evenly: cut off every second corner, again and again.

    trimesh divides a polygon into a fan: every triangle reaches from the first corner to the far side. The boxes of
    thousands of such slivers all overlap, and a ray must be tested against most of them.

    Args:
        vertices: float64 (n, 3).
        faces: (m, 3). The answer has as many, and they cover the same surface.
    """
    if len(faces) < LEAST:
        return faces
    goes_on = (faces[1:, 0] == faces[:-1, 0]) & (faces[1:, 1] == faces[:-1, 2])
    bounds = np.concatenate(([0], np.flatnonzero(~goes_on) + 1, [len(faces)]))
    large = np.flatnonzero(np.diff(bounds) >= LEAST)
    if not len(large):
        return faces
    faces = faces.copy()
    for first, end in zip(bounds[large], bounds[large + 1], strict=True):
        ring = np.concatenate((faces[first, :2], faces[first:end, 2]))
        if _is_flat_and_convex(vertices[ring]):
            faces[first:end] = _cut(ring)
    return faces


def _is_flat_and_convex(ring: Any) -> bool:
    """Whether the ring is flat and convex, within rounding. A ring that winds twice has more area than its hull."""
    ring = ring - ring.mean(axis=0)
    extent = float(np.abs(ring).max())
    if not np.isfinite(extent) or extent <= 0:
        return False
    ring = ring / extent
    spokes = ring[1:] - ring[0]
    normal = np.cross(spokes[:-1], spokes[1:]).sum(axis=0)  # twice the area
    area = float(np.linalg.norm(normal))
    if area <= _FLAT:
        return False
    normal /= area
    if np.abs((ring - ring[0]) @ normal).max() > _FLAT:
        return False
    across = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    across /= np.linalg.norm(across)
    points = np.stack((ring @ across, ring @ np.cross(normal, across)), axis=1)
    return bool(abs(_hull_area(points) - area) <= _CONVEX * area)


def _hull_area(points: Any) -> float:
    """Twice the area of the points' convex hull: its lower and upper chain, from left to right."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    forward: list[list[float]] = points[order].tolist()
    total = 0.0
    for chain in (forward, forward[::-1]):
        hull: list[list[float]] = []
        for x, y in chain:
            while len(hull) > 1:
                (ax, ay), (bx, by) = hull[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                hull.pop()
            hull.append([x, y])
        total += sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(hull))
    return total


def _cut(ring: Any) -> Any:
    """Triangles (n - 2, 3) of a convex polygon with n corners, with the same orientation."""
    triangles = []
    while len(ring) > 2:  # noqa: PLR2004 - an edge is left
        triangles.append(np.stack((ring[:-2:2], ring[1:-1:2], ring[2::2]), axis=1))
        ring = np.concatenate((ring[::2], ring[-1:])) if len(ring) % 2 == 0 else ring[::2]
    return np.concatenate(triangles)
