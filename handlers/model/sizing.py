"""How much memory, temp space and time a model takes. The numbers are fitted to measurements, with room to spare."""

import math
from typing import Any

import msgspec

from ..contract import Estimate
from .options import ModelPreviewOptions


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What a look into a model has shown."""

    kind: str
    """The suffix, without the dot; empty when it is not known."""
    size: int
    """Bytes of the file, unpacked."""
    faces: int
    vertices: int
    exact: bool = False
    """Counted, not guessed from the size."""

    @property
    def basis(self) -> dict[str, Any]:
        """For people."""
        return {"format": self.kind, "faces": self.faces, "vertices": self.vertices, "exact": self.exact}


class _Cost(msgspec.Struct, frozen=True):
    """Of reading one format."""

    face: float
    """Bytes of memory a face."""
    byte: float
    """Bytes of memory a byte of the file: text is taken apart in memory."""
    seconds: float
    """To read and prepare a face."""


_COSTS = {
    "stl": _Cost(620, 1.0, 2.6e-6),
    "ply": _Cost(420, 1.0, 2.0e-6),
    "off": _Cost(420, 8.0, 4.0e-6),
    "obj": _Cost(420, 9.0, 6.0e-6),
    "glb": _Cost(420, 2.0, 2.0e-6),
    "gltf": _Cost(420, 4.0, 3.0e-6),
    "3mf": _Cost(420, 30.0, 9.0e-6),
}
_UNKNOWN = _Cost(620, 3.0, 5.0e-6)
_BASE = 100_000_000
_STEP = 45_000_000
"""For the rays of one step, whatever the size of the picture."""
_BYTES_A_FACE = 40
"""When nothing but the size is known: a binary STL has 50, a PLY 28, an OBJ 78."""
_FACES_PREPARED = 0.6e6
_RAYS = 2.5e6
_RAYS_WITH_SHADOWS = 1.1e6


def estimate(options: ModelPreviewOptions, input_size: int) -> Estimate:
    """Guess from the file size alone."""
    faces = input_size // _BYTES_A_FACE
    return estimate_for(options, Counted(kind="", size=input_size, faces=faces, vertices=faces))


def estimate_for(options: ModelPreviewOptions, model: Counted) -> Estimate:
    """From what is known of the model."""
    cost = _COSTS.get(model.kind, _UNKNOWN)
    pixels = options.width * options.height
    animated = options.frames if options.kind == "turntable" else 1
    speed = (_RAYS_WITH_SHADOWS if options.occlusion else _RAYS) / (1 + math.log2(1 + model.faces / 1000) / 20)
    return Estimate(
        memory=int(_BASE + _STEP + cost.face * model.faces + cost.byte * model.size + 12 * pixels),
        temp=2 * pixels * animated + 500_000,
        seconds=0.7
        + model.faces * (cost.seconds + 1 / _FACES_PREPARED)
        + options.samples / speed
        + pixels * animated / 8e6,
        basis=model.basis,
    )
