"""Which way each corner of each face looks: as its neighbours do, unless there is an edge between them."""

from typing import Any

import numpy as np

_EDGE = 0.766
"""Cosine of 40 degrees: faces that meet at more are not smoothed into each other."""
_ROUNDS = 4
"""Groups of faces round a vertex that are told apart: a corner of a box has three."""
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


def face_normals(vertices: Any, faces: Any) -> tuple[Any, Any]:
    """Unit normals and areas, float32; of faces without area the normal is up."""
    first = vertices[faces[:, 0]]
    cross = np.cross(vertices[faces[:, 1]] - first, vertices[faces[:, 2]] - first)
    length = np.sqrt(np.einsum("ij,ij->i", cross, cross))
    flat = length <= 0
    cross[flat] = (0, 0, 1)
    return cross / np.where(flat, 1, length)[:, None], length


def corner_normals(vertices: Any, faces: Any, shading: str) -> Any:
    """float32 (m, 3, 3); none for flat shading, where the face's own normal serves."""
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
    """Smooth, at each vertex, the corners that look about as one of them does; the others are left for later."""
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
    bits = (vertices + np.float32(0)).view(np.uint32).astype(np.uint64)  # the sum makes +0 of -0
    mixed = np.zeros(len(vertices), dtype=np.uint64)
    for axis, factor in enumerate(_MIX):
        mixed = (mixed ^ bits[:, axis]) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed, return_inverse=True)[1].astype(np.int32)
