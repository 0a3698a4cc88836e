"""Flat faces of very many corners, divided so that rays find their triangles.

The loader divides a polygon into a fan: every triangle reaches from the first corner to the far side. Of thousands of
such slivers the boxes all lie over each other, and a ray has to be tried on most of them.
"""

from itertools import pairwise
from typing import Any

import numpy as np

LEAST = 64
"""Triangles of a fan that is worth it."""
_FLAT = 1e-5
"""How far a corner may lie off the plane, as a share of the fan's extent."""
_CONVEX = 1e-3
"""Share of the area that the polygon may lack to be convex."""


def divided_evenly(vertices: Any, faces: Any) -> Any:
    """The same surface: each large fan that is a flat convex polygon is cut corner by corner, every second one at once.

    Args:
        vertices: float64 (n, 3).
        faces: (m, 3). The answer has as many.
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
    """As nearly as can be seen: files round their numbers. A ring that winds twice has more area than its hull."""
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
    """Twice the area of the smallest convex polygon round the points: below and above, from left to right."""
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
    """Triangles (n - 2, 3) of a convex polygon with n corners, turning as it does."""
    triangles = []
    while len(ring) > 2:  # noqa: PLR2004 - what is left is an edge
        triangles.append(np.stack((ring[:-2:2], ring[1:-1:2], ring[2::2]), axis=1))
        ring = np.concatenate((ring[::2], ring[-1:])) if len(ring) % 2 == 0 else ring[::2]
    return np.concatenate(triangles)
