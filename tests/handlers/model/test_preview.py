"""The drawing: every format, every view, colours, kinds of output."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
import trimesh
from PIL import Image

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers import Finished, Room
from tasktrail.handlers.model.counting import Counted
from tasktrail.handlers.model.preview import model_preview
from tasktrail.handlers.model.preview.estimate import estimate, estimate_for
from tasktrail.handlers.model.preview.options import ModelPreviewOptions, check
from tasktrail.handlers.model.preview.probe import probe
from tasktrail.testing import job_for, run_handler

BACKGROUND = (0xF2, 0xF3, 0xF5)


def covered(pixels: Any) -> Any:
    """Return where the model covers the plain background."""
    return np.abs(pixels[..., :3] - BACKGROUND).sum(axis=-1) > 12


def colour_of(pixel: Any) -> str:
    """Return whether it shows the red or the blue box."""
    return "red" if pixel[0] > 2 * pixel[2] else "blue" if pixel[2] > 2 * pixel[0] else "neither"


@pytest.mark.parametrize("suffix", ["stl", "obj", "ply", "off", "glb", "gltf", "3mf"])
def test_every_format_shows_the_same_ball(suffix: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    path = tmp_path / f"ball.{suffix}"
    if suffix == "gltf":
        path.write_bytes(mesh.export(file_type="gltf", embed_buffers=True)["model.gltf"])
    else:
        mesh.export(path)
    pixels, result = draw(path, up="z", view="front")
    seen = covered(pixels)
    assert result["source_faces"] == len(mesh.faces)
    assert np.allclose(result["source_bounds"], mesh.bounds, atol=1e-4)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    # A ball is round, stands in the middle and nearly fills the height.
    assert abs((rows[-1] - rows[0]) - (columns[-1] - columns[0])) <= 2
    assert abs(rows[0] - (89 - rows[-1])) <= 2
    assert 74 <= rows[-1] - rows[0] <= 90
    assert abs(seen.sum() / ((rows[-1] - rows[0] + 1) ** 2) - np.pi / 4) < 0.03


def test_a_text_stl_is_drawn(draw: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "text.stl"
    path.write_text(trimesh.creation.box().export(file_type="stl_ascii"))
    assert draw(path)[1]["source_faces"] == 12


@pytest.mark.parametrize(
    ("view", "left", "right"), [("front", "red", "blue"), ("back", "blue", "red"), ("top", "red", "blue")]
)
def test_views_look_from_where_their_names_say(
    view: str, left: str, right: str, draw: Callable[..., Any], two_boxes: Any, tmp_path: Path
) -> None:
    two_boxes.export(tmp_path / "boxes.ply")
    pixels, _ = draw(tmp_path / "boxes.ply", view=view)
    assert [colour_of(pixels[45, 30]), colour_of(pixels[45, 90])] == [left, right]


def test_the_right_side_of_two_boxes_in_a_row_shows_the_blue_one_alone(
    draw: Callable[..., Any], two_boxes: Any, tmp_path: Path
) -> None:
    two_boxes.export(tmp_path / "boxes.ply")
    pixels, _ = draw(tmp_path / "boxes.ply", azimuth=90.0, elevation=0.0, projection="parallel")
    seen = pixels[covered(pixels)]
    assert (seen[:, 2] > seen[:, 0]).mean() > 0.98


def test_the_up_axis_of_a_gltf_is_y_unless_it_is_told(draw: Callable[..., Any], tmp_path: Path) -> None:
    trimesh.creation.box((1, 4, 1)).export(tmp_path / "tower.glb")
    tall, _ = draw(tmp_path / "tower.glb", view="front")
    lying, _ = draw(tmp_path / "tower.glb", view="front", up="x")
    assert covered(tall).any(axis=1).sum() > 2 * covered(tall).any(axis=0).sum()
    assert covered(lying).any(axis=1).sum() < covered(lying).any(axis=0).sum()


def test_colours_of_vertices_run_into_each_other(draw: Callable[..., Any], tmp_path: Path) -> None:
    sheet = trimesh.Trimesh(
        [[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]],
        [[0, 1, 2], [0, 2, 3]],
        vertex_colors=[[255, 0, 0], [0, 0, 255], [0, 0, 255], [255, 0, 0]],
        process=False,
    )
    sheet.export(tmp_path / "sheet.ply")
    pixels, _ = draw(tmp_path / "sheet.ply", view="front", occlusion=False)
    left, middle, right = pixels[45, 28], pixels[45, 60], pixels[45, 92]
    assert left[0] > middle[0] > right[0]
    assert left[2] < middle[2] < right[2]


def test_the_texture_of_a_gltf_is_laid_on_the_right_way_up(draw: Callable[..., Any], tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64), (20, 200, 40))
    picture.paste((220, 40, 20), (0, 0, 64, 32))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    corners = [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]
    trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False).export(tmp_path / "card.glb")
    pixels, _ = draw(tmp_path / "card.glb", view="front")
    upper, lower = pixels[25, 60], pixels[65, 60]
    assert upper[0] > 3 * upper[1]
    assert lower[1] > 3 * lower[0]


def test_the_base_colour_of_a_material_is_used_and_the_option_overrules_it(
    draw: Callable[..., Any], tmp_path: Path
) -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[0, 200, 0, 255])
    ball.visual = trimesh.visual.TextureVisuals(material=material)
    ball.export(tmp_path / "green.glb")
    green, _ = draw(tmp_path / "green.glb")
    red, _ = draw(tmp_path / "green.glb", color="#ff0000")
    assert green[45, 60][1] > 2 * green[45, 60][0]
    assert red[45, 60][0] > 2 * red[45, 60][1]


def test_a_transparent_background_is_clear_and_the_model_is_not(ball: Path, draw: Callable[..., Any]) -> None:
    pixels, _ = draw(ball, background="transparent")
    assert pixels[0, 0, 3] == 0
    assert pixels[45, 60, 3] == 255
    assert len(np.unique(pixels[..., 3])) > 3  # edges are soft


def test_smooth_shading_hides_the_faces_and_flat_shading_shows_them(draw: Callable[..., Any], tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=1).export(tmp_path / "coarse.stl")
    steps = {}
    for shading in ("smooth", "auto", "flat"):
        pixels, _ = draw(tmp_path / "coarse.stl", shading=shading, occlusion=False)
        steps[shading] = np.abs(np.diff(pixels[45, 35:85, 1])).max()
    assert steps["smooth"] < steps["flat"] / 2
    assert steps["auto"] <= steps["flat"]


def test_edges_of_a_box_stay_sharp(draw: Callable[..., Any], tmp_path: Path) -> None:
    """Its corners share vertices; if they were smoothed, each face would run from light to dark."""
    trimesh.creation.box().export(tmp_path / "box.ply")
    auto, _ = draw(tmp_path / "box.ply", occlusion=False)
    flat, _ = draw(tmp_path / "box.ply", occlusion=False, shading="flat")
    assert np.abs(auto - flat).max() <= 2


def test_a_sheet_shows_each_view_in_its_place(draw: Callable[..., Any], two_boxes: Any, tmp_path: Path) -> None:
    two_boxes.export(tmp_path / "boxes.ply")
    pixels, _ = draw(tmp_path / "boxes.ply", kind="sheet", views=("front", "back"), width=240)
    assert pixels.shape == (90, 240, 4)
    assert pixels[45, 30][0] > pixels[45, 30][2]  # red is on the left from the front
    assert pixels[45, 150][2] > pixels[45, 150][0]  # and on the right from the back


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_a_turntable_turns_once_and_keeps_its_pace(
    suffix: str, prepare: Callable[..., Any], two_boxes: Any, tmp_path: Path
) -> None:
    two_boxes.export(tmp_path / "boxes.ply")
    context = prepare(tmp_path / "boxes.ply", f"out.{suffix}", kind="turntable", frames=4, fps=10, view="front")
    outcome = run_handler(model_preview, context)
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == 4
    left = []
    with Image.open(context.output_file) as animation:
        assert getattr(animation, "n_frames", 1) == 4
        for number in range(4):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == pytest.approx(100)
            left.append(np.asarray(animation.convert("RGB")).astype(int)[45, 38])
    assert left[0][0] > left[0][2]
    assert left[2][2] > left[2][0]


def test_a_turntable_as_mp4_has_all_its_frames(prepare: Callable[..., Any], ball: Path) -> None:
    context = prepare(ball, "out.mp4", kind="turntable", frames=6, fps=10)
    run_handler(model_preview, context)
    with av.open(str(context.output_file)) as video:
        frames = list(video.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(120, 90)] * 6
    assert float(frames[-1].time or 0) == pytest.approx(0.5)


def test_a_transparent_gif_is_clear_around_the_model_in_every_frame(prepare: Callable[..., Any], ball: Path) -> None:
    context = prepare(ball, "out.gif", kind="turntable", frames=3, background="transparent")
    run_handler(model_preview, context)
    with Image.open(context.output_file) as animation:
        for number in range(3):
            animation.seek(number)
            alpha = np.asarray(animation.convert("RGBA"))[..., 3]
            assert alpha[0, 0] == 0
            assert alpha[45, 60] == 255


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "gif"])
def test_stills_are_written_in_the_format_of_the_suffix(suffix: str, ball: Path, draw: Callable[..., Any]) -> None:
    pixels, result = draw(ball, f"out.{suffix}")
    assert pixels.shape == (90, 120, 4)
    assert result["format"] == {"jpg": "jpeg"}.get(suffix, suffix)


@pytest.mark.parametrize(
    ("options", "source", "output", "word"),
    [
        ({}, "a.step", "a.png", "3-D model"),
        ({}, "a.stl", "a.mp4", "kind image"),
        ({"kind": "turntable"}, "a.stl", "a.jpg", "kind turntable"),
        ({"background": "transparent"}, "a.stl", "a.jpg", "transparent"),
        ({"kind": "turntable", "width": 301}, "a.stl", "a.mp4", "even"),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(
    options: dict[str, Any], source: str, output: str, word: str
) -> None:
    with pytest.raises(InvalidPath, match=word):
        check(job_for(msgspec.convert(options, ModelPreviewOptions), f"/{source}", f"/{output}"))


def test_an_animation_beyond_all_measure_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="fewer or smaller"):
        msgspec.convert({"kind": "turntable", "frames": 360, "width": 4096, "height": 4096}, ModelPreviewOptions)


def test_progress_reads_first_and_draws_then_and_says_what_it_does(ball: Path, prepare: Callable[..., Any]) -> None:
    context = prepare(ball, "out.webp", kind="turntable", frames=3)
    run_handler(model_preview, context)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert any(percent < 50 and "1280 faces" in message for percent, message in context.reports)
    drawn = [percent for percent, message in context.reports if message.startswith("frame ")]
    assert drawn[0] < 50  # a small model is read at once
    assert drawn[-1] <= 95


def test_the_probe_counts_what_the_header_says_and_the_estimate_grows_with_it(
    ball: Path, prepare: Callable[..., Any], tmp_path: Path
) -> None:
    small = probe(prepare(ball).job)
    assert small.basis == {"format": "stl", "faces": 1280, "vertices": 3840, "exact": True}
    trimesh.creation.icosphere(subdivisions=5).export(tmp_path / "fine.stl")
    fine = probe(prepare(tmp_path / "fine.stl").job)
    assert fine.memory > small.memory
    assert fine.seconds > small.seconds
    assert probe(prepare(ball, "out.gif", kind="turntable").job).temp > small.temp


@pytest.mark.parametrize(
    ("kind", "faces", "size", "seconds"),
    [
        ("glb", 100_000, 1_800_000, 0.7),
        ("glb", 1_000_000, 18_000_000, 5.7),
        ("glb", 5_000_000, 90_000_000, 35),
        ("obj", 100_000, 3_800_000, 1.3),
        ("obj", 1_000_000, 40_600_000, 9.2),
        ("obj", 5_000_000, 215_000_000, 64),
        ("stl", 1_000_000, 50_000_000, 8.6),
        ("stl", 5_000_000, 250_000_000, 64),
        ("ply", 1_000_000, 19_000_000, 5.9),
        ("text ply", 100_000, 3_700_000, 1.3),
        ("text stl", 100_000, 30_000_000, 2.1),
        ("3mf", 100_000, 20_000_000, 1.7),
    ],
)
def test_the_time_of_large_models_is_about_what_was_measured(kind: str, faces: int, size: int, seconds: float) -> None:
    """Of a small picture, so that reading and preparing take nearly all of it; with the start of the libraries."""
    options = ModelPreviewOptions(width=100, height=75, antialias=1, occlusion=False)
    model = Counted(kind=kind, size=size, faces=faces, vertices=faces // 2)
    expected = estimate_for(job_for(options, "/a", "/a.png", size=size), model).seconds
    assert 0.75 * seconds < expected < 2 * seconds


def test_a_large_stl_gets_the_memory_that_was_measured() -> None:
    options = ModelPreviewOptions(width=100, height=75, antialias=1, occlusion=False)
    for faces, used in ((1_000_000, 594 << 20), (5_000_000, 2559 << 20)):
        model = Counted(kind="stl", size=50 * faces, faces=faces, vertices=3 * faces)
        assert used < estimate_for(job_for(options, "/a", "/a.png", size=1), model).memory < 1.3 * used


def test_the_first_guess_knows_the_format_by_the_suffix() -> None:
    zipped, plain = (
        estimate(job_for(ModelPreviewOptions(), f"/a.{kind}", "/a.png", size=10**6)) for kind in ("3mf", "stl")
    )
    assert zipped.basis["format"] == "3mf"
    assert zipped.memory > plain.memory, "a 3mf is unpacked, and its faces take less room in it"


@pytest.mark.parametrize("kind", ["stl", "ply"])
def test_a_file_that_would_be_too_large_in_binary_is_guessed_to_be_text(kind: str) -> None:
    """Text takes less memory for its size. The probe knows which it is, and refuses what does not fit."""
    job = job_for(ModelPreviewOptions(), f"/a.{kind}", "/a.png", size=10**9)
    binary = estimate(job)
    less = msgspec.structs.replace(job, room=Room(memory=binary.memory - 1))
    enough = msgspec.structs.replace(job, room=Room(memory=binary.memory))
    assert estimate(less).basis["format"] == f"text {kind}"
    assert estimate(less).memory < 0.85 * binary.memory
    assert estimate(enough) == binary
