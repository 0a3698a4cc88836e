"""Estimates the needs of a drawing. The numbers are fitted to measurements, with a margin."""

import math

import msgspec

from ...contract import Estimate, Job
from ..counting import Counted
from .options import ModelPreviewOptions, format_for


class _Cost(msgspec.Struct, frozen=True):
    """The cost of reading one format."""

    face: float
    """Bytes of memory per triangle."""
    byte: float
    """Bytes of memory per byte of the file: text is parsed in memory."""
    seconds: float
    """Seconds to read a triangle."""


_COSTS = {
    "stl": _Cost(480, 1.0, 5.5e-6),
    "text stl": _Cost(290, 6.5, 12.0e-6),
    "ply": _Cost(320, 2.0, 1.2e-6),
    "text ply": _Cost(320, 2.0, 6.0e-6),
    "off": _Cost(290, 5.0, 4.5e-6),
    "obj": _Cost(270, 3.0, 6.0e-6),
    "glb": _Cost(290, 2.0, 1.0e-6),
    "gltf": _Cost(290, 4.0, 2.0e-6),
    "3mf": _Cost(290, 16.0, 10.0e-6),
}
_UNKNOWN = _Cost(480, 3.0, 5.5e-6)
_BASE = 115_000_000
"""Interpreter and libraries with Python 3.13, which takes more than 3.11."""
_STEP = 40_000_000
"""Bytes for the rays of one step, whatever the picture's size."""
_BYTES_A_FACE = {"stl": 50, "ply": 19, "off": 28, "obj": 40, "glb": 20, "gltf": 28, "3mf": 9}
"""The least bytes of a face, if only the file's size is known. Text takes more."""
_BYTES_A_FACE_OF_TEXT = {"stl": 200, "ply": 30}
"""Of the kinds that may be either, with which a file is guessed to be text if there is no room for it otherwise."""
_ZIPPED = 10
"""The unpacked size of a 3mf, which is a zip archive of text, as a multiple of its file's."""
_PIECE, _PAINTED_PIECE = 0.6, 1.5
"""Bytes per pixel of a picture that stays on the disk until all are finished; the second number is for textured
models."""
_WRITTEN = {"PNG": 0.6, "GIF": 0.3, "MP4": 0.1}
_WRITTEN_LOSSY = 0.2
"""Bytes per pixel of the output. Much of it is background."""
_PREPARED, _PREPARED_MORE, _CACHED = 2.5e-6, 0.6e-6, 100_000
"""Seconds to prepare a triangle, and how many more for each doubling beyond the triangles that caches hold."""
_RAYS = 4.5e6
_RAYS_WITH_SHADOWS = 2.0e6


BAND = 2_000_000
"""Samples in a piece of a large picture: two or three seconds of work."""
_MOST_AT_ONCE = 16


def estimate(job: Job[ModelPreviewOptions]) -> Estimate:
    """Guess from the suffix and the file size."""
    kind, size = job.input_file.suffix.lower().removeprefix("."), job.input_size
    faces = size // _BYTES_A_FACE.get(kind, min(_BYTES_A_FACE.values()))
    size *= _ZIPPED if kind == "3mf" else 1
    guess = estimate_for(job, Counted(kind=kind, size=size, faces=faces, vertices=faces))
    if kind in _BYTES_A_FACE_OF_TEXT and guess.memory > job.room.memory > 0:  # to refuse it is for the probe
        faces = size // _BYTES_A_FACE_OF_TEXT[kind]
        guess = estimate_for(job, Counted(kind=f"text {kind}", size=size, faces=faces, vertices=faces))
    return guess


def estimate_for(job: Job[ModelPreviewOptions], model: Counted) -> Estimate:
    """Estimate from the facts about the model."""
    options = job.options
    cost = _COSTS.get(model.kind, _UNKNOWN)
    pixels = options.width * options.height
    animated = options.frames if options.kind == "turntable" else 1
    at_once = drawn_at_once(job, model)
    triangles = model.triangles or model.faces
    speed = (_RAYS_WITH_SHADOWS if options.occlusion else _RAYS) / (1 + math.log2(1 + triangles / 1000) / 20)
    prepared = _PREPARED + _PREPARED_MORE * math.log2(1 + triangles / _CACHED)
    return Estimate(
        memory=_memory(job, model, at_once),
        temp=int(_bytes_a_pixel(job, model) * pixels * animated) + 20_000,
        seconds=0.7
        + triangles * (cost.seconds + prepared)
        + options.samples / speed / at_once
        + pixels * animated / 8e6,
        basis=model.basis,
    )


def drawn_at_once(job: Job[ModelPreviewOptions], model: Counted) -> int:
    """How many pictures, or parts of a large one, are drawn side by side: as many as there is room for."""
    parts = max(job.options.pictures, job.options.samples // BAND)
    wanted = max(1, min(job.room.cores, parts, _MOST_AT_ONCE))
    while wanted > 1 and job.room.memory and _memory(job, model, wanted) > job.room.memory:
        wanted -= 1
    return wanted


def _memory(job: Job[ModelPreviewOptions], model: Counted, at_once: int) -> int:
    cost, pixels = _COSTS.get(model.kind, _UNKNOWN), job.options.width * job.options.height
    animated = job.options.frames if job.options.kind == "turntable" else 1
    return int(
        _BASE
        + _STEP * at_once
        + cost.face * (model.triangles or model.faces)
        + cost.byte * model.size
        + 7 * model.pixels
        + (8 * at_once + 4 * animated) * pixels
    )


def _bytes_a_pixel(job: Job[ModelPreviewOptions], model: Counted) -> float:
    """Bytes of temp space per pixel, for the pieces and the output together."""
    written = _WRITTEN.get(format_for(job.options, job.output_file), _WRITTEN_LOSSY)
    return (_PAINTED_PIECE if model.pixels else _PIECE) + written
