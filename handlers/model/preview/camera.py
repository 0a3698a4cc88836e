"""The viewpoint of a picture, and the ray through each of its samples."""

import math
from typing import Any, NamedTuple

import numpy as np

from .options import ModelPreviewOptions

DIRECTIONS = {
    "iso": (35.0, 25.0),
    "front": (0.0, 0.0),
    "right": (90.0, 0.0),
    "back": (180.0, 0.0),
    "left": (270.0, 0.0),
    "top": (0.0, 90.0),
    "bottom": (0.0, -90.0),
}
"""View → azimuth, elevation in degrees."""
_SLOPE = math.tan(math.radians(14))
"""Tangent of half the narrower angle of view: a long lens distorts little."""
_MARGIN = 1.08
_RINGS = 64
_TURNS = 24


class Camera(NamedTuple):
    """A viewpoint. The model lies in a ball of radius 1 around the origin; the eye is outside."""

    right: Any
    up: Any
    toward: Any
    """From the model to the eye. All three are unit vectors, float64."""
    centre: Any
    """The point in the middle of the picture."""
    distance: float
    """From the centre to the eye."""
    slope: float
    """Half the picture's height at distance 1; 0 for a parallel projection."""
    half: float
    """Half the picture's height at the centre."""
    width: int
    height: int
    """In samples."""

    def rays(self, first: int, last: int) -> tuple[Any, Any]:
        """Origins and unit directions, float32, of the samples in the rows from `first` to before `last`."""
        x = (np.arange(self.width) + 0.5 - self.width / 2) * (2 / self.height)
        y = (self.height / 2 - np.arange(first, last) - 0.5) * (2 / self.height)
        across = (x[None, :, None] * self.right + y[:, None, None] * self.up).reshape(-1, 3)
        eye = self.centre + self.distance * self.toward
        if self.slope:
            directions = across * self.slope - self.toward
            directions /= np.sqrt(np.einsum("ij,ij->i", directions, directions))[:, None]
            return np.broadcast_to(eye, directions.shape).astype(np.float32), directions.astype(np.float32)
        origins = eye + across * self.half
        return origins.astype(np.float32), np.broadcast_to(-self.toward, origins.shape).astype(np.float32)

    def project(self, points: Any) -> Any:
        """The places of points in the picture, (n, 2), in samples from the upper left corner."""
        off = points - self.centre
        depth = self.distance - off @ self.toward
        scale = self.height / 2 / (self.slope * depth if self.slope else np.full(len(points), self.half))
        return np.stack((self.width / 2 + off @ self.right * scale, self.height / 2 - off @ self.up * scale), axis=1)


def cameras(options: ModelPreviewOptions, vertices: Any) -> list[Camera]:
    """One camera for each picture, so near that the model fills it."""
    azimuth, elevation = DIRECTIONS[options.view]
    azimuth = azimuth if options.azimuth is None else options.azimuth
    elevation = elevation if options.elevation is None else options.elevation
    match options.kind:
        case "image":
            return [_framed(options, cell(options), azimuth, elevation, vertices)]
        case "sheet":
            return [_framed(options, cell(options), *DIRECTIONS[view], vertices) for view in options.views]
        case "turntable":
            # One distance for the whole turn, so that the model's size stays the same.
            swept = _swept(vertices)
            still = _framed(options, cell(options), azimuth, elevation, swept)
            return [_turned(still, azimuth + 360 * n / options.frames, elevation) for n in range(options.frames)]


def view_grid(options: ModelPreviewOptions) -> tuple[int, int]:
    """Columns and rows of a sheet."""
    if options.kind != "sheet":
        return 1, 1
    columns = math.ceil(math.sqrt(len(options.views)))
    return columns, math.ceil(len(options.views) / columns)


def cell(options: ModelPreviewOptions) -> tuple[int, int]:
    """Width and height of one picture, in pixels."""
    columns, rows = view_grid(options)
    return max(1, options.width // columns), max(1, options.height // rows)


def _basis(azimuth: float, elevation: float) -> tuple[Any, Any, Any]:
    turn, rise = math.radians(azimuth), math.radians(elevation)
    right = np.array([math.cos(turn), math.sin(turn), 0.0])
    level = np.array([math.sin(turn), -math.cos(turn), 0.0])
    toward = level * math.cos(rise) + np.array([0, 0, math.sin(rise)])
    return right, np.cross(toward, right), toward


def _turned(camera: Camera, azimuth: float, elevation: float) -> Camera:
    right, up, toward = _basis(azimuth, elevation)
    return camera._replace(right=right, up=up, toward=toward, centre=camera.centre[2] * np.array([0, 0, 1.0]))


def _framed(
    options: ModelPreviewOptions, size: tuple[int, int], azimuth: float, elevation: float, points: Any
) -> Camera:
    """Place the camera as near as possible with all points in the picture, and centre them."""
    right, up, toward = _basis(azimuth, elevation)
    width, height = size[0] * options.antialias, size[1] * options.antialias
    slope = _SLOPE * max(1.0, height / width)
    perspective = options.projection == "perspective"
    x, y, z = points @ right, points @ up, points @ toward
    # An eye at depth d sees a point if |x - cx| <= slope_x (d - z): each side gives the cone that touches the points.
    across, down = (_middle(x, z, slope * width / height), _middle(y, z, slope)) if perspective else (
        _flat(x, height / width), _flat(y, 1.0)
    )  # fmt: skip
    distance = max(across[1], down[1]) * _MARGIN if perspective else 4.0
    distance = max(distance, float(z.max()) + 0.05)
    half = slope * distance if perspective else max(across[1], down[1]) * _MARGIN
    centre = across[0] * right + down[0] * up
    return Camera(right, up, toward, centre, distance, slope if perspective else 0.0, max(half, 1e-6), width, height)


def _middle(side: Any, depth: Any, slope: float) -> tuple[float, float]:
    """Sideways position and distance of an eye that sees all points between two lines of this slope."""
    low, high = float((side / slope - depth).min()), float((side / slope + depth).max())
    return slope * (low + high) / 2, (high - low) / 2


def _flat(side: Any, scale: float) -> tuple[float, float]:
    low, high = float(side.min()), float(side.max())
    return (low + high) / 2, (high - low) / 2 * scale


def _swept(vertices: Any) -> Any:
    """Points of the body that the model sweeps out in a turn: the widest ring of each of many slices."""
    slices = np.clip(((vertices[:, 2] + 1) / 2 * _RINGS).astype(np.int64), 0, _RINGS - 1)
    reach = np.hypot(vertices[:, 0], vertices[:, 1])
    points = []
    for number in np.unique(slices):
        inside = slices == number
        radius, heights = reach[inside].max(), vertices[inside, 2]
        for turn in np.linspace(0, 2 * math.pi, _TURNS, endpoint=False):
            at = (radius * math.cos(turn), radius * math.sin(turn))
            points += [(*at, heights.min()), (*at, heights.max())]
    return np.array(points)
