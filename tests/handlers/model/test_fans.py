"""Faces of very many corners: the same surface, in triangles that rays can hit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.handlers.model.loading import LEAST, divided_evenly


def ring(corners: int, *, squeeze: float = 1.0, digits: int = 12) -> Any:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points = np.stack((np.cos(angles), squeeze * np.sin(angles), 0.3 * np.cos(angles)), axis=1)
    return np.round(points, digits)


def fan(corners: int, first: int = 0) -> Any:
    numbers = np.arange(1, corners - 1)
    return np.stack((np.zeros_like(numbers), numbers, numbers + 1), axis=1) + first


def area(vertices: Any, faces: Any) -> float:
    first = vertices[faces[:, 0]]
    cross = np.cross(vertices[faces[:, 1]] - first, vertices[faces[:, 2]] - first)
    return float(np.linalg.norm(cross, axis=1).sum() / 2)


@given(corners=st.integers(LEAST + 2, 2000), squeeze=st.floats(0.1, 1.0))
def test_a_convex_polygon_is_the_same_surface_in_as_many_triangles(corners: int, squeeze: float) -> None:
    vertices, faces = ring(corners, squeeze=squeeze), fan(corners)

    divided = divided_evenly(vertices, faces)

    assert divided.shape == faces.shape
    assert (divided != faces).any()
    assert sorted(set(divided.ravel())) == list(range(corners))
    assert area(vertices, divided) == pytest.approx(area(vertices, faces), rel=1e-6)
    normals = np.cross(
        vertices[divided[:, 1]] - vertices[divided[:, 0]], vertices[divided[:, 2]] - vertices[divided[:, 0]]
    )
    assert (normals @ normals.sum(axis=0) > 0).all(), "each looks the same way"


def test_its_triangles_reach_less_far() -> None:
    vertices, faces = ring(100_000, digits=5), fan(100_000)

    def reach(of: Any) -> float:
        return float(np.ptp(vertices[of], axis=1).mean())

    assert reach(divided_evenly(vertices, faces)) < reach(faces) / 100


@pytest.mark.parametrize("what", ["cone", "star", "twice", "small", "nan"])
def test_what_is_no_flat_convex_polygon_stays_as_it_was(what: str) -> None:
    vertices, faces = ring(500), fan(500)
    if what == "cone":
        vertices[0] = (0, 0, 5)
    elif what == "star":
        vertices[::2] *= 0.5
    elif what == "twice":
        vertices = np.concatenate((vertices[::2], vertices[1::2]))
    elif what == "small":
        faces = faces[: LEAST - 1]
    else:
        vertices[7] = np.nan

    assert (divided_evenly(vertices, faces) == faces).all()


def test_the_picture_of_a_plate_of_very_many_corners_is_that_of_one_of_some(
    draw: Callable[..., tuple[Any, dict[str, Any]]], tmp_path: Path
) -> None:
    pictures = []
    for corners in (LEAST - 2, 50_000):
        path = tmp_path / f"{corners}.off"
        points = "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in ring(corners))
        path.write_text(f"OFF\n{corners} 1 0\n{points}{corners} {' '.join(map(str, range(corners)))}\n")
        pictures.append(draw(path)[0])

    few, many = pictures
    assert (np.abs(few - many).max(axis=2) > 40).mean() < 0.02
