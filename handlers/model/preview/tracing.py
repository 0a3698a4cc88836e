"""Finds the face of a model that a ray meets first: by Embree, or by a z-buffer if there is no wheel of Embree."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from .camera import Camera


class Hits(NamedTuple):
    """The rays that meet the model, and where."""

    rays: Any
    """Numbers of these rays."""
    faces: Any
    shares: Any
    """Barycentric coordinates within the face, float32 (n, 3)."""
    distances: Any


class Tracer(Protocol):
    """Finds the faces that rays meet."""

    shadows: bool
    """Whether it can answer `blocked`."""

    def first(self, camera: Camera, rows: tuple[int, int], origins: Any, directions: Any) -> Hits:
        """The first face that each of the camera's rays in these rows meets."""

    def blocked(self, origins: Any, directions: Any, reach: float) -> Any:
        """Whether each ray meets anything within `reach`."""


_PAIRS = 500_000
"""Candidates that are tested together."""
_TINY = 1e-12


class Zbuffer:
    """Tests each face against the samples in the box around its place in the picture; the nearest wins."""

    shadows = False

    def __init__(self, vertices: Any, faces: Any) -> None:
        self._vertices = vertices.astype(np.float64)
        self._faces = faces
        self._seen_by: Camera | None = None
        self._boxes: Any = None

    def first(self, camera: Camera, rows: tuple[int, int], origins: Any, directions: Any) -> Hits:
        """The first face that each ray meets; the rays are the camera's in these rows."""
        nearest = np.full(len(origins), np.inf)
        owner = np.full(len(origins), -1, dtype=np.int64)
        shares = np.zeros((len(origins), 3), dtype=np.float32)
        for some_rays, some_faces in self._candidates(camera, rows):
            met, distance, share = self._meet(some_faces, origins[some_rays], directions[some_rays])
            rays, faces, distance, share = some_rays[met], some_faces[met], distance[met], share[met]
            order = np.lexsort((faces, distance, rays))
            best = order[np.flatnonzero(np.diff(rays[order], prepend=-1))]
            best = best[distance[best] < nearest[rays[best]]]
            chosen = rays[best]
            nearest[chosen], owner[chosen], shares[chosen] = distance[best], faces[best], share[best]
        hit = np.flatnonzero(owner >= 0)
        return Hits(hit, owner[hit], shares[hit], nearest[hit].astype(np.float32))

    def blocked(self, origins: Any, _directions: Any, _reach: float) -> Any:
        """No ray is blocked: the z-buffer knows no shadows."""
        return np.zeros(len(origins), dtype=bool)

    def _candidates(self, camera: Camera, rows: tuple[int, int]) -> Iterator[tuple[Any, Any]]:
        """Yield pairs: a ray, counted from the first row, and a face whose box holds it."""
        left, right, top, bottom = self._boxes_of(camera)
        top, bottom = np.maximum(top, rows[0]), np.minimum(bottom, rows[1])
        faces = np.flatnonzero((top < bottom) & (left < right))
        wide = (right - left)[faces]
        counts = wide * (bottom - top)[faces]
        ends = np.cumsum(counts)
        start = 0
        while start < len(faces):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
            some, count = faces[start:stop], counts[start:stop]
            face = np.repeat(some, count)
            within = np.arange(len(face)) - np.repeat(ends[start:stop] - count - before, count)
            width = np.repeat(wide[start:stop], count)
            row = np.repeat(top[some], count) + within // width - rows[0]
            yield row * camera.width + np.repeat(left[some], count) + within % width, face
            start = stop

    def _boxes_of(self, camera: Camera) -> Any:
        """Each face's box in the picture: left, right, top, bottom in whole samples; right and bottom are exclusive."""
        if self._seen_by is not camera:
            corners = camera.project(self._vertices)[self._faces]
            low = np.floor(corners.min(axis=1) - 0.5).astype(np.int64)
            high = np.ceil(corners.max(axis=1) + 0.5).astype(np.int64)
            limits = (camera.width, camera.height)
            low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
            self._boxes = (low[:, 0], high[:, 0], low[:, 1], high[:, 1])
            self._seen_by = camera
        return self._boxes

    def _meet(self, faces: Any, origins: Any, directions: Any) -> tuple[Any, Any, Any]:
        """Whether, where and at what distance ray and face meet, pair by pair (by Möller and Trumbore)."""
        corners = self._vertices[self._faces[faces]]
        first = corners[:, 0]
        along, beside = corners[:, 1] - first, corners[:, 2] - first
        across = np.cross(directions, beside)
        scale = np.einsum("ij,ij->i", along, across)
        usable = np.abs(scale) > _TINY
        scale = np.where(usable, scale, 1.0)
        off = origins - first
        u = np.einsum("ij,ij->i", off, across) / scale
        turned = np.cross(off, along)
        v = np.einsum("ij,ij->i", directions, turned) / scale
        distance = np.einsum("ij,ij->i", beside, turned) / scale
        met = usable & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
        return met, distance, np.stack((1 - u - v, u, v), axis=1).astype(np.float32)


def tracer_for(vertices: Any, faces: Any) -> Tracer:
    """Embree if its wheel is installed, otherwise the z-buffer."""
    try:
        from .embree import Embree  # noqa: PLC0415 - some machines have no wheel
    except ImportError:
        return Zbuffer(vertices, faces)
    return Embree(vertices, faces)
