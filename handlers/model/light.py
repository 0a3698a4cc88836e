"""How bright a place is: a soft sky, a lamp beside the eye that throws shadows, and less light in hollows."""

from typing import Any, NamedTuple

import numpy as np

from .camera import Camera
from .hits import Hits, Tracer

_SKY = np.array([0.55, 0.59, 0.65], dtype=np.float32)
_GROUND = np.array([0.20, 0.18, 0.17], dtype=np.float32)
_LAMP, _FILL, _SHINE, _RIM = 0.72, 0.12, 0.10, 0.05
_SHARPNESS = 36
_SPREAD = 0.10
"""Of the lamp: the larger, the softer the shadows."""
_REACH = 0.7
"""How far around a place the light is looked for, where the model has radius 1."""
_OFF = 2e-4
"""How far from the face such a ray starts, so that it does not meet the face itself."""
_RAYS = 8
"""A pixel, shared among its samples."""
_TABLE = 1024


class Place(NamedTuple):
    """Places on the model that are lit."""

    points: Any
    normals: Any
    """Smoothed, towards the eye."""
    plains: Any
    """Of the faces themselves, towards the eye."""
    directions: Any
    """Of the rays from the eye."""
    pixels: Any
    """Numbers of the pixels: they choose the rays, so each picture comes out the same every time."""
    samples: Any
    """Which of its pixel's samples each place is, from 0."""


def places_of(hits: Hits, origins: Any, directions: Any, plains: Any, normals: Any, grain: tuple[Any, Any]) -> Place:
    """Turn all that was hit towards the eye and step a little off the face."""
    along = directions[hits.rays]
    plains = np.where(np.einsum("ij,ij->i", plains, along)[:, None] > 0, -plains, plains)
    if normals is None:
        normals = plains
    else:
        normals = np.where(np.einsum("ij,ij->i", normals, plains)[:, None] < 0, -normals, normals)
    points = origins[hits.rays] + along * hits.distances[:, None] + plains * np.float32(_OFF)
    return Place(points.astype(np.float32), normals, plains, along, *grain)


def lit(place: Place, colours: Any, camera: Camera, tracer: Tracer | None, each: int) -> Any:
    """Linear light, float32 (n, 3), that comes from places of these colours; no tracer: without shadows.

    `each` is how many samples a pixel has.
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


def _shadows(place: Place, lamp: Any, tracer: Tracer | None, each: int) -> tuple[Any, Any]:
    """How much of the sky and of the lamp each place sees, 0 to 1."""
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


def _above(place: Place, directions: Any) -> Any:
    """The directions as unit vectors, those into the face turned out of it."""
    depth = np.einsum("ij,ij->i", directions, place.plains)
    directions = directions - (np.minimum(depth, 0) * 2)[:, None] * place.plains
    length = np.sqrt(np.einsum("ij,ij->i", directions, directions))
    return (directions / np.where(length > 0, length, 1)[:, None]).astype(np.float32)


def _scattered(seeds: Any) -> Any:
    """Seeds that lie together come out far apart."""
    mixed = seeds.astype(np.uint32) * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x85EBCA77)
    return (mixed >> np.uint32(22)).astype(np.int64)


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def _spread_over_a_ball() -> Any:
    """Points that lie evenly on the unit ball; any few at equal steps do so as well."""
    number = np.arange(_TABLE)
    height = 1 - (2 * number + 1) / _TABLE
    turn = number * (np.pi * (3 - np.sqrt(5)))
    radius = np.sqrt(1 - height**2)
    return np.stack((radius * np.cos(turn), radius * np.sin(turn), height), axis=1).astype(np.float32)


_BALL = _spread_over_a_ball()
