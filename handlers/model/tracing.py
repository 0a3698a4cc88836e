"""Which tracer there is on this machine."""

from typing import Any

from .hits import Tracer


def tracer_for(vertices: Any, faces: Any) -> Tracer:
    """Embree where its wheel is installed, else the z-buffer."""
    try:
        from .embree import Embree  # noqa: PLC0415 - there is no wheel for every machine
    except ImportError:
        from .zbuffer import Zbuffer  # noqa: PLC0415 - needed only here

        return Zbuffer(vertices, faces)
    return Embree(vertices, faces)
