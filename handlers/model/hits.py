"""What rays meet, and what whoever finds that out has to offer."""

from typing import Any, NamedTuple, Protocol

from .camera import Camera


class Hits(NamedTuple):
    """What the rays that meet something meet."""

    rays: Any
    """Their numbers."""
    faces: Any
    shares: Any
    """How near the place is to each corner of the face, float32 (n, 3), together 1."""
    distances: Any


class Tracer(Protocol):
    """Finds out which faces rays meet."""

    shadows: bool
    """Whether `blocked` knows anything."""

    def first(self, camera: Camera, rows: tuple[int, int], origins: Any, directions: Any) -> Hits:
        """The first face that each of the camera's rays in these rows meets."""

    def blocked(self, origins: Any, directions: Any, reach: float) -> Any:
        """Whether each ray meets anything within its reach."""
