"""From a file to triangles. trimesh reads the formats; it is given an open file and no way to any other."""

import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import trimesh
from trimesh.resolvers import Resolver

from ..contract import Unusable
from ..faults import text_of
from .counting import MAX_FACES
from .fans import divided_evenly
from .gltf import read_gltf
from .paint import ByFace, Paint, paint_of
from .texts import open_model

Y_UP = ("glb", "gltf", "obj")
_TURNS = {
    "x": np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.float64),
    "y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float64),
    "z": np.eye(3),
}
"""What makes z of the axis that points up."""


class Part(NamedTuple):
    """Triangles that are painted in one way."""

    first_face: int
    first_vertex: int
    paint: Paint


class Model(NamedTuple):
    """A model that stands upright, in the middle, and just fits into a ball of radius 1."""

    vertices: Any
    """float32, (n, 3); z points up, y to the back."""
    faces: Any
    """int32, (m, 3)."""
    parts: list[Part]
    bounds: list[list[float]]
    """Smallest and largest x, y, z, as in the file."""
    read: int
    """Faces in the file, as triangles; those with corners that are no numbers included, which are left out."""


class _NoFiles(Resolver):
    """Finds nothing, whatever a model asks for."""

    def __init__(self) -> None:
        """There is nothing to remember."""

    def get(self, key: str) -> NoReturn:
        """Refuse."""
        raise FileNotFoundError(key)

    def keys(self) -> tuple[str, ...]:
        """None."""
        return ()

    def write(self, name: str, _data: object) -> NoReturn:
        """Refuse."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> "_NoFiles":
        """Itself: there is no other place."""
        del namespace
        return self


def load_model(path: Path, up: str, colour: str | None) -> Model:
    """Read a model that `counting.count` has passed.

    Raises:
        Unusable: it cannot be read as what its suffix says, or nothing of it can be drawn.
        OSError: the disk's fault, not the model's.
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
    except Exception as error:  # what is no model, or an odd one, may trip its reader anywhere
        raise _unread(path, error) from error


def _unread(path: Path, error: Exception) -> Unusable:
    """Whose fault it is, the reader's words do not tell."""
    told = f"{path.name} cannot be read by trimesh ({type(error).__name__}: {text_of(error)})"
    return Unusable(f"{told}: save it anew with the program it comes from, as stl or ply for example")


def _read(path: Path, kind: str) -> trimesh.Scene:
    how: dict[str, Any] = {"file_type": kind, "resolver": _NoFiles(), "process": False}
    if kind in ("glb", "gltf"):
        source, how["file_type"] = _tame_gltf(path)
        return trimesh.load_scene(source, **how)
    if kind == "obj":
        how |= {"skip_materials": True, "maintain_order": True}
    with open_model(path, kind) as file:
        return trimesh.load_scene(file, **how)


def _tame_gltf(path: Path) -> tuple[io.BytesIO, str]:
    """The same file with nothing but geometry and base colours in its JSON."""
    found = read_gltf(path)
    text = msgspec.json.encode(found.document)
    if found.kind == "gltf":
        return io.BytesIO(text), "gltf"
    text += b" " * (-len(text) % 4)
    with path.open("rb") as file:
        file.seek(found.body)
        body = file.read()
    head = np.array([0x46546C67, 2, 20 + len(text) + len(body), len(text), 0x4E4F534A], dtype="<u4").tobytes()
    return io.BytesIO(head + text + body), "glb"


def _assemble(scene: trimesh.Scene, kind: str, colour: str | None) -> Model | None:
    """All that stands in the scene as one list of triangles."""
    vertices, faces, parts = [], [], []
    points = corners = read = 0
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
        if not isinstance(paint, ByFace):  # its colours go by the face's number
            drawn = divided_evenly(placed, drawn)
        parts.append(Part(corners, points, paint))
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
    return Model(every, faces[0] if len(faces) == 1 else np.concatenate(faces), parts, [], read)


def _placed(mesh: trimesh.Trimesh, matrix: Any) -> tuple[Any, Any]:
    """Vertices where they stand, and the numbers of the faces whose corners are all there and finite."""
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    if not np.array_equal(matrix, np.eye(4)):
        vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(mesh.faces)
    inside = ((faces >= 0) & (faces < len(vertices))).all(axis=1)
    if not inside.all():
        raise Unusable("faces of the model have corners that are not there")
    finite: Any = np.isfinite(vertices).all(axis=1)
    if finite.all():
        return vertices, np.arange(len(faces))
    whole = np.flatnonzero(finite[faces].all(axis=1))
    return np.where(finite[:, None], vertices, 0.0), whole


def _upright(model: Model, axis: str) -> Model:
    """Turn, centre and scale; only vertices that faces use count for the size."""
    used = np.zeros(len(model.vertices), dtype=bool)
    used[model.faces.ravel()] = True
    low = model.vertices.min(axis=0, where=used[:, None], initial=np.inf)
    high = model.vertices.max(axis=0, where=used[:, None], initial=-np.inf)
    # Halves first: the difference of two huge coordinates may be too large for a float.
    centre, radius = low / 2 + high / 2, float(np.hypot.reduce(high / 2 - low / 2))
    if not np.isfinite(radius) or radius <= 0:
        raise Unusable("the model has no extent, or one beyond all measure")
    placed = (((model.vertices - centre) / radius) @ _TURNS[axis].T).astype(np.float32)
    placed[~used] = 0
    return model._replace(vertices=placed, bounds=[low.tolist(), high.tolist()])
