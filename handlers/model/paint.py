"""The colours of a model: a single one, one per face, one per vertex, or a texture. All are linear light, 0 to 1."""

from typing import Any, Protocol

import numpy as np
import trimesh
from PIL import Image

DEFAULT = "#aeb9c6"
"""The colour of a model that has no colours."""
_MAX_TEXTURE = 67_108_864
_TEXTURE_SIDE = 4096
_FORMATS = {"PNG", "JPEG", "WEBP"}
_QUAD = 4
"""Corners."""


class Paint(Protocol):
    """The colours of a part of the model."""

    def at(self, faces: Any, vertices: Any, shares: Any) -> Any:
        """Colours, float32 (n, 3).

        Args:
            faces: numbers within the part, (n,).
            vertices: the numbers, within the part, of each face's three corners, (n, 3).
            shares: the weight of each corner at the place, (n, 3); the sum is 1.
        """


class Plain:
    """One colour."""

    def __init__(self, linear: Any) -> None:
        self._linear = np.asarray(linear, dtype=np.float32)[:3]

    def at(self, faces: Any, _vertices: Any, _shares: Any) -> Any:
        """The colour, once per face."""
        return np.broadcast_to(self._linear, (len(faces), 3))


class ByFace:
    """One colour per face."""

    def __init__(self, colours: Any) -> None:
        self._colours = colours

    def at(self, faces: Any, _vertices: Any, _shares: Any) -> Any:
        """The colour of each face."""
        return linear(self._colours[faces])


class ByVertex:
    """Colours that blend from corner to corner."""

    def __init__(self, colours: Any, *, already_linear: bool) -> None:
        self._colours = colours
        self._already_linear = already_linear

    def at(self, _faces: Any, vertices: Any, shares: Any) -> Any:
        """The corners' colours, mixed."""
        corners = self._colours[vertices]
        corners = corners.astype(np.float32) / 255 if self._already_linear else linear(corners)
        return np.einsum("nkc,nk->nc", corners, shares)


class Textured:
    """A picture laid over the model, repeated beyond its edges, and interpolated between its pixels."""

    def __init__(self, picture: Any, places: Any, factor: Any) -> None:
        self._picture = picture
        self._places = places
        self._factor = np.asarray(factor, dtype=np.float32)[:3]

    def at(self, _faces: Any, vertices: Any, shares: Any) -> Any:
        """The four nearest pixels, mixed."""
        height, width = self._picture.shape[:2]
        place = np.einsum("nkc,nk->nc", self._places[vertices], shares)
        place = np.where(np.isfinite(place), place, 0)
        place -= np.floor(place)
        x, y = place[:, 0] * width - 0.5, (1 - place[:, 1]) * height - 0.5
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        across, down = (x - left)[:, None], (y - top)[:, None]
        columns, rows = (left % width, (left + 1) % width), (top % height, (top + 1) % height)
        upper = self._pixel(rows[0], columns[0]) * (1 - across) + self._pixel(rows[0], columns[1]) * across
        lower = self._pixel(rows[1], columns[0]) * (1 - across) + self._pixel(rows[1], columns[1]) * across
        return ((upper * (1 - down) + lower * down) * self._factor).astype(np.float32)

    def _pixel(self, row: Any, column: Any) -> Any:
        return linear(self._picture[row, column])


def paint_of(mesh: trimesh.Trimesh, kind: str, colour: str | None, faces: Any) -> Paint:
    """The paint of the mesh; `faces` are the numbers of the drawn ones."""
    if colour is not None:
        return Plain(linear_of(colour))
    visual = mesh.visual
    if isinstance(visual, trimesh.visual.ColorVisuals):
        if visual.kind == "face":
            colours = np.asarray(visual.face_colors, dtype=np.uint8)
            if len(colours) != len(mesh.faces):
                colours = colours[_polygons(mesh)]
            return ByFace(colours[faces, :3])
        if visual.kind == "vertex":
            colours = np.asarray(visual.vertex_colors, dtype=np.uint8)[:, :3]
            return ByVertex(colours, already_linear=kind in ("glb", "gltf"))
        return Plain(linear_of(DEFAULT))
    material = getattr(visual, "material", None)
    factor = getattr(material, "baseColorFactor", None)
    factor = np.ones(3) if factor is None else np.asarray(factor, dtype=np.float32)[:3] / 255
    picture = _pixels(getattr(material, "baseColorTexture", None))
    uv = getattr(visual, "uv", None)
    if picture is not None and uv is not None and np.shape(uv) == (len(mesh.vertices), 2):
        return Textured(picture, np.asarray(uv, dtype=np.float32), factor)
    return Plain(factor) if isinstance(material, trimesh.visual.material.PBRMaterial) else Plain(linear_of(DEFAULT))


def _polygons(mesh: trimesh.Trimesh) -> Any:
    """Of each triangle the number of its polygon in a PLY of text.

    trimesh puts triangles first, then the first halves of all quads, then their second halves, then the others' fans.
    """
    columns = mesh.metadata["_ply_raw"]["face"]["data"]
    corners = np.array([len(one) for one in columns["vertex_index" if "vertex_index" in columns else "vertex_indices"]])
    quads, large = np.flatnonzero(corners == _QUAD), np.flatnonzero(corners > _QUAD)
    return np.concatenate((np.flatnonzero(corners == _QUAD - 1), quads, quads, np.repeat(large, corners[large] - 2)))


def _pixels(image: Any) -> Any:
    """The texture's pixels. None, which draws no texture, if it has another format, is too large or damaged."""
    if not isinstance(image, Image.Image) or image.format not in _FORMATS:
        return None
    if image.width * image.height > _MAX_TEXTURE:
        return None
    try:
        image.draft("RGB", (_TEXTURE_SIDE, _TEXTURE_SIDE))
        rgb = image.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    rgb.thumbnail((_TEXTURE_SIDE, _TEXTURE_SIDE))
    return np.asarray(rgb)


def linear_of(colour: str) -> Any:
    """#rrggbb as linear light."""
    return linear(np.frombuffer(bytes.fromhex(colour[1:]), dtype=np.uint8))


def linear(values: Any) -> Any:
    """Bytes of sRGB as linear light."""
    return _LINEAR[values]


def srgb(values: Any) -> Any:
    """Linear light as sRGB bytes, rounded."""
    steps = np.clip(values, 0, 1) * (len(_SRGB) - 1) + 0.5
    return _SRGB[steps.astype(np.int32)]


def _decode(values: Any) -> Any:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004 - sRGB


def _encode(values: Any) -> Any:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)  # noqa: PLR2004 - sRGB


_LINEAR = _decode(np.arange(256) / 255).astype(np.float32)
_SRGB = np.rint(_encode(np.arange(16384) / 16383) * 255).astype(np.uint8)
