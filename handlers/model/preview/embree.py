"""Embree, which finds the face that a ray meets first, on the CPU. It has no wheel for some machines."""

from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from .camera import Camera
from .tracing import Hits


class Embree:
    """Traces rays against all faces."""

    shadows = True

    def __init__(self, vertices: Any, faces: Any) -> None:
        self._scene = EmbreeScene(robust=True)
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(vertices), np.ascontiguousarray(faces))

    def first(self, _camera: Camera, _rows: tuple[int, int], origins: Any, directions: Any) -> Hits:
        """The first face that each ray meets."""
        found = self._scene.run(origins, directions, output=True)
        rays = np.flatnonzero(found["primID"] >= 0)
        u, v = found["u"][rays], found["v"][rays]
        return Hits(rays, found["primID"][rays], np.stack((1 - u - v, u, v), axis=1), found["tfar"][rays])

    def blocked(self, origins: Any, directions: Any, reach: float) -> Any:
        """Whether each ray meets anything within `reach`."""
        limits = np.full(len(origins), reach, dtype=np.float32)
        return self._scene.run(origins, directions, limits, query="OCCLUDED") >= 0
