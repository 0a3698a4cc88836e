"""A model becomes pixels, some rows at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .camera import Camera
from .hits import Tracer
from .light import lit, places_of
from .loading import Model
from .normals import corner_normals
from .options import ModelPreviewOptions
from .paint import linear_of, srgb

_STEP = 120_000
"""Samples that are worked on together: memory follows from it, and how soon a stop is noticed."""


class Painter:
    """All that the pictures of one model have in common."""

    def __init__(self, model: Model, tracer: Tracer, options: ModelPreviewOptions) -> None:
        self._model = model
        self._tracer = tracer
        self._options = options
        self._normals = corner_normals(model.vertices, model.faces, options.shading)
        self._ends = np.array([part.first_face for part in model.parts[1:]])

    def draw(self, camera: Camera, first: int, last: int, tick: Callable[[float], None]) -> Any:
        """The rows from `first` up to but not with `last`, uint8 (rows, width, 4).

        `tick` is told what share of the rows is done; what it raises ends the drawing.
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
        """Linear light and coverage of each sample, the light times the coverage."""
        origins, directions = camera.rays(first, last)
        hits = self._tracer.first(camera, (first, last), origins, directions)
        light = np.zeros((len(origins), 4), dtype=np.float32)
        if len(hits.rays):
            corners = self._model.faces[hits.faces]
            plains, normals = self._normals_at(hits.faces, corners, hits.shares)
            place = places_of(hits, origins, directions, plains, normals, self._grain(hits.rays, first, camera.width))
            colours = self._colours_at(hits.faces, corners, hits.shares)
            tracer = self._tracer if self._options.occlusion else None
            light[hits.rays, :3] = lit(place, colours, camera, tracer, self._options.antialias**2)
            light[hits.rays, 3] = 1
        return light

    def _grain(self, rays: Any, first: int, width: int) -> tuple[Any, Any]:
        """The pixel of each ray, and which of its samples the ray is."""
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
        """Lay the light over the background and turn it into sRGB."""
        colour, cover = light[..., :3], light[..., 3:]
        if self._options.background == "transparent":
            plain = colour / np.where(cover > 0, cover, 1)
            return np.concatenate((srgb(plain), np.rint(cover * 255).astype(np.uint8)), axis=-1)
        whole = srgb(colour + linear_of(self._options.background) * (1 - cover))
        return np.concatenate((whole, np.full_like(whole[..., :1], 255)), axis=-1)
