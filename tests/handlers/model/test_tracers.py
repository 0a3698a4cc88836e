"""Two implementations that find what a ray hits, made from different parts, agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tasktrail.handlers.model.loading import load_model
from tasktrail.handlers.model.preview.camera import DIRECTIONS, Camera, cameras
from tasktrail.handlers.model.preview.embree import Embree
from tasktrail.handlers.model.preview.options import ModelPreviewOptions
from tasktrail.handlers.model.preview.tracing import Zbuffer, tracer_for


@pytest.fixture
def knot(tmp_path: Path) -> Any:
    """Make a ring with a rod through it, which covers itself from every side."""
    ring = trimesh.creation.torus(1.0, 0.3, major_sections=24, minor_sections=12)
    rod = trimesh.creation.cylinder(0.2, 3, sections=12)
    trimesh.util.concatenate([ring, rod]).export(tmp_path / "knot.stl")
    return load_model(tmp_path / "knot.stl", "z", None)


def seen(tracer: Any, camera: Camera, first: int, last: int) -> tuple[Any, Any]:
    origins, directions = camera.rays(first, last)
    hits = tracer.first(camera, (first, last), origins, directions)
    depth = np.full(len(origins), np.inf)
    depth[hits.rays] = hits.distances
    face = np.full(len(origins), -1)
    face[hits.rays] = hits.faces
    return depth, face


@pytest.mark.parametrize("projection", ["perspective", "parallel"])
@pytest.mark.parametrize("view", DIRECTIONS)
def test_embree_and_the_z_buffer_agree_on_outline_depth_and_faces(view: str, projection: str, knot: Any) -> None:
    options = ModelPreviewOptions(width=160, height=120, view=view, projection=projection, antialias=1)  # type: ignore[arg-type] # names come as text
    camera = cameras(options, knot.vertices)[0]
    depth, face = seen(Embree(knot.vertices, knot.faces), camera, 0, 120)
    other_depth, other_face = seen(Zbuffer(knot.vertices, knot.faces), camera, 0, 120)
    outline, other_outline = np.isfinite(depth), np.isfinite(other_depth)
    assert outline.sum() > 1000
    assert (outline != other_outline).mean() < 0.0005
    both = outline & other_outline
    # A ray along an edge may hit it in one and miss it in the other.
    assert (np.abs(depth[both] - other_depth[both]) < 1e-4).mean() > 0.998
    assert (face[both] == other_face[both]).mean() > 0.99


def test_rows_drawn_apart_are_those_of_the_whole_picture(knot: Any) -> None:
    camera = cameras(ModelPreviewOptions(width=80, height=60, antialias=1), knot.vertices)[0]
    tracer = Zbuffer(knot.vertices, knot.faces)
    whole, _ = seen(tracer, camera, 0, 60)
    parts = [seen(tracer, camera, row, min(60, row + 7))[0] for row in range(0, 60, 7)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_model_fills_the_picture_and_stays_inside(knot: Any) -> None:
    for view in DIRECTIONS:
        camera = cameras(ModelPreviewOptions(width=200, height=150, view=view, antialias=1), knot.vertices)[0]  # type: ignore[arg-type] # a name of VIEWS
        places = camera.project(knot.vertices.astype(np.float64))
        low, high = places.min(axis=0), places.max(axis=0)
        assert (low >= 0).all()
        assert (high <= (200, 150)).all()
        assert max((high - low) / (200, 150)) > 0.85


def test_a_turntable_never_leaves_the_picture(knot: Any) -> None:
    options = ModelPreviewOptions(kind="turntable", frames=12, width=200, height=150, antialias=1)
    for camera in cameras(options, knot.vertices):
        places = camera.project(knot.vertices.astype(np.float64))
        assert (places >= 0).all()
        assert (places <= (200, 150)).all()


def test_without_the_wheel_of_embree_the_z_buffer_draws(knot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tasktrail.handlers.model.preview.embree", None)
    assert isinstance(tracer_for(knot.vertices, knot.faces), Zbuffer)
