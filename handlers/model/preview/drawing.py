"""Turns a model into pixels: the normals of its faces, the light that falls on them, and the picture."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..loading import Model
from ..paint import linear_of, srgb
from .camera import Camera
from .options import ModelPreviewOptions
from .tracing import Hits, Tracer

_STEP = 120_000
"""Samples that are processed together. This determines the memory needed, and how soon a stop is noticed."""


class Painter:
    """Draws the pictures of one model."""

    def __init__(self, model: Model, tracer: Tracer, options: ModelPreviewOptions) -> None:
        self._model = model
        self._tracer = tracer
        self._options = options
        self._normals = corner_normals(model.vertices, model.faces, options.shading)
        self._ends = np.array([part.first_face for part in model.parts[1:]])

    def draw(self, camera: Camera, first: int, last: int, tick: Callable[[float], None]) -> Any:
        """Draw the rows from `first` to before `last`, uint8 (rows, width, 4).

        `tick` is called with the finished share of the rows; it may raise.
        """
        times = self._options.antialias
        width = camera.width // times
        step = max(1, _STEP // (camera.width * times))
        picture = np.empty((last - first, width, 4), dtype=np.uint8)
        for row in range(first, last, step):
            end = min(last, row + step)
            light = self._samples(camera, row * times, end * times)
            mean = np.einsum("abcde->ace", light.reshape(end - row, times, width, times, 4)) / np.float32(times**2)
            picture[row - first : end - first] = self._finished(mean)
            tick((end - first) / (last - first))
        return picture

    def _samples(self, camera: Camera, first: int, last: int) -> Any:
        """Linear light times coverage, and coverage, of each sample."""
        origins, directions = camera.rays(first, last)
        hits = self._tracer.first(camera, (first, last), origins, directions)
        light = np.zeros((len(origins), 4), dtype=np.float32)
        if len(hits.rays):
            corners = self._model.faces[hits.faces]
            plains, normals = self._normals_at(hits.faces, corners, hits.shares)
            place = lit_points(hits, origins, directions, plains, normals, self._grain(hits.rays, first, camera.width))
            colours = self._colours_at(hits.faces, corners, hits.shares)
            tracer = self._tracer if self._options.occlusion else None
            light[hits.rays, :3] = lit(place, colours, camera, tracer, self._options.antialias**2)
            light[hits.rays, 3] = 1
        return light

    def _grain(self, rays: Any, first: int, width: int) -> tuple[Any, Any]:
        """The pixel of each ray, and the ray's number among the pixel's samples."""
        times = self._options.antialias
        row, column = rays // width + first, rays % width
        return row // times * (width // times) + column // times, row % times * times + column % times

    def _normals_at(self, faces: Any, corners: Any, shares: Any) -> tuple[Any, Any]:
        at = self._model.vertices[corners]
        plains = np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0])
        length = np.sqrt(np.einsum("ij,ij->i", plains, plains))
        plains /= np.where(length > 0, length, 1)[:, None]
        if self._normals is None:
            return plains, None
        normals = np.einsum("nkc,nk->nc", self._normals[faces], shares)
        length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
        return plains, np.where((length > 0)[:, None], normals / np.where(length > 0, length, 1)[:, None], plains)

    def _colours_at(self, faces: Any, corners: Any, shares: Any) -> Any:
        colours = np.empty((len(faces), 3), dtype=np.float32)
        owners = np.searchsorted(self._ends, faces, side="right")
        for number in np.unique(owners):
            part, own = self._model.parts[number], owners == number
            colours[own] = part.paint.at(faces[own] - part.first_face, corners[own] - part.first_vertex, shares[own])
        return colours

    def _finished(self, light: Any) -> Any:
        """Blend the light with the background and convert it to sRGB."""
        colour, cover = light[..., :3], light[..., 3:]
        if self._options.background == "transparent":
            plain = colour / np.where(cover > 0, cover, 1)
            return np.concatenate((srgb(plain), np.rint(cover * 255).astype(np.uint8)), axis=-1)
        whole = srgb(colour + linear_of(self._options.background) * (1 - cover))
        return np.concatenate((whole, np.full_like(whole[..., :1], 255)), axis=-1)


# --- The normals of faces and corners ---

_EDGE = 0.766
"""Cosine of 40 degrees: faces that meet at a larger angle are not smoothed."""
_ROUNDS = 4
"""Groups of faces around a vertex that are distinguished: a corner of a box has three."""
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


def face_normals(vertices: Any, faces: Any) -> tuple[Any, Any]:
    """Unit normals and areas, float32; a face without area has the normal up."""
    first = vertices[faces[:, 0]]
    cross = np.cross(vertices[faces[:, 1]] - first, vertices[faces[:, 2]] - first)
    length = np.sqrt(np.einsum("ij,ij->i", cross, cross))
    flat = length <= 0
    cross[flat] = (0, 0, 1)
    return cross / np.where(flat, 1, length)[:, None], length


def corner_normals(vertices: Any, faces: Any, shading: str) -> Any:
    """Corner normals, float32 (m, 3, 3); None for flat shading, which uses the faces' own normals."""
    if shading == "flat":
        return None
    normals, areas = face_normals(vertices, faces)
    welded = _weld(vertices)[faces].ravel()
    edge = _EDGE if shading == "auto" else -2.0
    corners = np.repeat(normals, 3, axis=0)
    left = np.arange(len(corners))
    for _ in range(_ROUNDS if shading == "auto" else 1):
        left = _smooth_group(corners, left, normals, areas, welded, edge)
        if not len(left):
            break
    return corners.reshape(-1, 3, 3)


def _smooth_group(corners: Any, left: Any, normals: Any, areas: Any, welded: Any, edge: float) -> Any:
    """Smooth, at each vertex, the corners with a normal similar to one of them; return the others."""
    places, owners = welded[left], left // 3
    leader = np.zeros(int(welded.max()) + 1, dtype=np.int32)
    leader[places] = owners
    alike = np.einsum("ij,ij->i", normals[owners], normals[leader[places]]) > edge
    group, places, owners = left[alike], places[alike], owners[alike]
    total = np.empty((len(leader), 3), dtype=np.float32)
    for axis in range(3):
        total[:, axis] = np.bincount(places, normals[owners, axis] * areas[owners], len(leader))
    length = np.sqrt(np.einsum("ij,ij->i", total, total))
    smooth = length[places] > 0
    corners[group[smooth]] = (total / np.where(length > 0, length, 1)[:, None])[places[smooth]]
    return left[~alike]


def _weld(vertices: Any) -> Any:
    """Vertex → number of its place: files repeat vertices for each face, or where colours change."""
    bits = (vertices + np.float32(0)).view(np.uint32).astype(np.uint64)  # the sum turns -0 into +0
    mixed = np.zeros(len(vertices), dtype=np.uint64)
    for axis, factor in enumerate(_MIX):
        mixed = (mixed ^ bits[:, axis]) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed, return_inverse=True)[1].astype(np.int32)


# --- Light ---

_SKY = np.array([0.55, 0.59, 0.65], dtype=np.float32)
_GROUND = np.array([0.20, 0.18, 0.17], dtype=np.float32)
_LAMP, _FILL, _SHINE, _RIM = 0.72, 0.12, 0.10, 0.05
_SHARPNESS = 36
_SPREAD = 0.10
"""Size of the lamp: the larger, the softer the shadows."""
_REACH = 0.7
"""Length of the rays that test how open a place is; the model has radius 1."""
_OFF = 2e-4
"""The distance from the face at which such a ray starts, so that it does not meet the face itself."""
_RAYS = 8
"""Rays per pixel, shared among its samples."""
_TABLE = 1024


class LitPoints(NamedTuple):
    """Places on the model that are lit."""

    points: Any
    normals: Any
    """Smoothed normals, towards the eye."""
    plains: Any
    """Normals of the faces themselves, towards the eye."""
    directions: Any
    """Directions of the rays from the eye."""
    pixels: Any
    """Numbers of the pixels: they choose the rays, so that a picture is the same every time."""
    samples: Any
    """The number of each place's sample within its pixel, from 0."""


def lit_points(
    hits: Hits, origins: Any, directions: Any, plains: Any, normals: Any, grain: tuple[Any, Any]
) -> LitPoints:
    """Turn the normals of all hits towards the eye, and move the places slightly off their faces."""
    along = directions[hits.rays]
    plains = np.where(np.einsum("ij,ij->i", plains, along)[:, None] > 0, -plains, plains)
    if normals is None:
        normals = plains
    else:
        normals = np.where(np.einsum("ij,ij->i", normals, plains)[:, None] < 0, -normals, normals)
    points = origins[hits.rays] + along * hits.distances[:, None] + plains * np.float32(_OFF)
    return LitPoints(points.astype(np.float32), normals, plains, along, *grain)


def lit(place: LitPoints, colours: Any, camera: Camera, tracer: Tracer | None, each: int) -> Any:
    """Linear light, float32 (n, 3), from places of these colours; without a tracer there are no shadows.

    `each` is the number of samples per pixel.
    """
    right, up, toward = (np.asarray(each, dtype=np.float32) for each in (camera.right, camera.up, camera.toward))
    lamp = _unit(-0.45 * right + 0.65 * up + 0.75 * toward)
    fill = _unit(0.8 * right - 0.1 * up + 0.5 * toward)
    open_sky, shade = _shadows(place, lamp, tracer, each)
    height = (0.5 + 0.5 * place.normals[:, 2])[:, None]
    light = (_GROUND + (_SKY - _GROUND) * height) * open_sky[:, None]
    light += (_LAMP * np.clip(place.normals @ lamp, 0, 1) * shade)[:, None]
    light += (_FILL * np.clip(place.normals @ fill, 0, 1) * open_sky)[:, None]
    facing = np.clip(-np.einsum("ij,ij->i", place.normals, place.directions), 0, 1)
    halfway = lamp - place.directions
    halfway /= np.sqrt(np.einsum("ij,ij->i", halfway, halfway))[:, None]
    gloss = np.clip(np.einsum("ij,ij->i", place.normals, halfway), 0, 1) ** _SHARPNESS
    extra = _SHINE * gloss * shade + _RIM * (1 - facing) ** 3 * open_sky
    return colours * light + extra[:, None]


def _shadows(place: LitPoints, lamp: Any, tracer: Tracer | None, each: int) -> tuple[Any, Any]:
    """The share of the sky and of the lamp that each place sees, 0 to 1."""
    count = len(place.points)
    if tracer is None or not tracer.shadows:
        return np.ones(count, dtype=np.float32), np.ones(count, dtype=np.float32)
    rays = max(1, _RAYS // each)
    start = _scattered(place.pixels) + place.samples * (_TABLE // each)
    open_sky = np.zeros(count, dtype=np.float32)
    for ray in range(rays):
        away = _above(place, place.normals + _BALL[(start + ray * (_TABLE // each // rays)) % _TABLE])
        open_sky += ~tracer.blocked(place.points, away, _REACH)
    away = _above(place, lamp + _SPREAD * _BALL[(start + _TABLE // 3) % _TABLE])
    return open_sky / rays, 1 - tracer.blocked(place.points, away, 4.0).astype(np.float32)


def _above(place: LitPoints, directions: Any) -> Any:
    """The directions as unit vectors; those that point into the face are mirrored out of it."""
    depth = np.einsum("ij,ij->i", directions, place.plains)
    directions = directions - (np.minimum(depth, 0) * 2)[:, None] * place.plains
    length = np.sqrt(np.einsum("ij,ij->i", directions, directions))
    return (directions / np.where(length > 0, length, 1)[:, None]).astype(np.float32)


def _scattered(seeds: Any) -> Any:
    """Numbers that are far apart even for neighbouring seeds."""
    mixed = seeds.astype(np.uint32) * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x85EBCA77)
    return (mixed >> np.uint32(22)).astype(np.int64)


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def _spread_over_a_ball() -> Any:
    """Points spread evenly on the unit sphere; so are any few of them at equal steps."""
    number = np.arange(_TABLE)
    height = 1 - (2 * number + 1) / _TABLE
    work = number * (np.pi * (3 - np.sqrt(5)))
    radius = np.sqrt(1 - height**2)
    return np.stack((radius * np.cos(work), radius * np.sin(work), height), axis=1).astype(np.float32)


_BALL = _spread_over_a_ball()
