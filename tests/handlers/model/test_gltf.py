"""glTF as other programs pack it: triangles in a row, small numbers, a texture that is moved, turned or laid anew."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasktrail.handlers.contract import Unusable
from tasktrail.handlers.model import loading
from tasktrail.handlers.model.loading import load_model

KINDS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype="<f4")
UPRIGHT = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], dtype="<f4")


def write_glb(
    path: Path, primitives: list[dict[str, Any]], *, normalized: bool = False, picture: bytes = b"", **more: Any
) -> Path:
    """A glb of one mesh: numpy arrays in the primitives are stored; those of integers are normalised if it is said."""
    body, views, accessors = b"", [], []

    def store(content: bytes) -> int:
        nonlocal body
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(content)})
        body += content + b"\0" * (-len(content) % 4)
        return len(views) - 1

    def array(values: Any) -> int:
        columns = 1 if values.ndim == 1 else values.shape[1]
        accessor = {"bufferView": store(values.tobytes()), "count": len(values), "type": SHAPES[columns]}
        accessor["componentType"] = KINDS[values.dtype.name]
        if normalized and columns > 1 and values.dtype.kind in "iu":
            accessor["normalized"] = True
        accessors.append(accessor)
        return len(accessors) - 1

    stored = []
    for primitive in primitives:
        one = {**primitive, "attributes": {key: array(values) for key, values in primitive["attributes"].items()}}
        if "indices" in primitive:
            one["indices"] = array(primitive["indices"])
        stored.append(one)
    document: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}]}
    document |= {"nodes": [{"mesh": 0}], "meshes": [{"primitives": stored}], **more}
    if picture:
        document |= {"images": [{"bufferView": store(picture), "mimeType": "image/png"}], "textures": [{"source": 0}]}
    document |= {"accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(body)}]}
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<5I", 0x46546C67, 2, 28 + len(text) + len(body), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<2I", len(body), 0x004E4942) + body)
    return path


def quarters(path: Path) -> bytes:
    """A picture of four colours: red, green; blue, white."""
    picture = Image.new("RGB", (64, 64), "white")
    for box, colour in (((0, 0, 32, 32), "red"), ((32, 0, 64, 32), "lime"), ((0, 32, 32, 64), "blue")):
        picture.paste(colour, box)
    picture.save(path)
    return path.read_bytes()


def seen(pixels: Any) -> list[str]:
    """The colours of the four quarters of the square that is drawn, in the order of the picture's."""
    names = {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}
    places = ((25, 40), (25, 80), (65, 40), (65, 80))
    return [names.get(tuple(pixels[place][:3] > 100), "white") for place in places]


@pytest.mark.parametrize("indices", [None, "uint8", "uint32"])
@pytest.mark.parametrize(
    ("mode", "order"), [(4, [0, 1, 2, 0, 2, 3]), (5, [0, 1, 3, 2]), (6, [0, 1, 2, 3])], ids=["list", "strip", "fan"]
)
def test_triangles_come_one_by_one_in_strips_and_in_fans(
    mode: int, order: list[int], indices: str | None, draw: Callable[..., Any], tmp_path: Path
) -> None:
    """Beside another part, so that there is something to draw in any case."""
    small = {"attributes": {"POSITION": SQUARE[:3] / 100}}
    part: dict[str, Any] = {"attributes": {"POSITION": SQUARE}, "mode": mode, "indices": np.array(order, indices)}
    if indices is None:
        part = {"attributes": {"POSITION": SQUARE[order]}, "mode": mode}
    pixels, result = draw(write_glb(tmp_path / "a.glb", [small, part]), view="front")
    assert result["source_faces"] == 3
    assert result["source_bounds"] == [[-1, -1, 0], [1, 1, 0]]
    assert (pixels[20:70, 35:85, :3].max(axis=-1) < 235).all(), "the whole square is covered"


def test_points_and_lines_beside_the_faces_are_told(draw: Callable[..., Any], tmp_path: Path) -> None:
    faces: dict[str, Any] = {"attributes": {"POSITION": SQUARE[:3]}}
    loose: list[dict[str, Any]] = [{"attributes": {"POSITION": SQUARE}, "mode": mode} for mode in range(4)]
    for parts, notes in (
        ([faces], None),
        ([faces, loose[0]], ["1 part of points or lines is left out: only faces are drawn"]),
        ([faces, *loose], ["4 parts of points or lines are left out: only faces are drawn"]),
    ):
        path = write_glb(tmp_path / f"{len(parts)}.glb", parts)
        assert draw(path, f"{len(parts)}.png", color="#ff0000")[1].get("notes") == notes


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"extensionsUsed": ["EXT_mesh_gpu_instancing"]}, "EXT_mesh_gpu_instancing"),
        ({"extensionsRequired": ["ODD_\x1b[2J", "KHR_mesh_quantization", "KHR_materials_unlit"]}, "ODD_?[2J"),
        ({"nodes": [{"mesh": 0, "weights": [0, 0.5]}]}, "morph targets"),
        ({"extensionsUsed": ["KHR_lights_punctual"], "nodes": [{"mesh": 0, "weights": [0, 0]}]}, ""),
    ],
)
def test_what_the_shape_needs_and_is_not_read_is_told(
    more: dict[str, Any], told: str, draw: Callable[..., Any], tmp_path: Path
) -> None:
    path = write_glb(tmp_path / "a.glb", [{"attributes": {"POSITION": SQUARE[:3]}}], **more)
    notes = [f"not read, although the model needs it: {told}"] if told else None
    assert draw(path, "a.png", color="#ff0000")[1].get("notes") == notes


@pytest.mark.parametrize(("kind", "unit"), [("int16", 32767), ("uint16", 65535), ("int8", 127), ("uint8", 255)])
def test_normalised_numbers_of_a_shape_are_shares_of_one(
    kind: str, unit: int, draw: Callable[..., Any], tmp_path: Path
) -> None:
    """As KHR_mesh_quantization has them: the node's matrix gives them their size."""
    corners = np.array([[0, 0, 0], [unit, 0, 0], [0, unit, 0]], dtype=kind)
    padded = np.concatenate((corners, np.zeros((1, 3), dtype=kind)))  # whole words, whatever the kind
    part = {"attributes": {"POSITION": padded}, "indices": np.array([0, 1, 2], "uint32")}
    for name, normalized, size in (("shares", True, 5), ("numbers", False, 5 * unit)):
        nodes = [{"mesh": 0, "scale": [5, 5, 5]}]
        path = write_glb(tmp_path / f"{name}.glb", [part], normalized=normalized, nodes=nodes)
        assert np.allclose(draw(path, f"{name}.png")[1]["source_bounds"], [[0, 0, 0], [size, size, 0]])


@pytest.mark.parametrize("kind", ["float32", "uint8", "uint16"])
def test_places_in_a_texture_may_be_small_numbers(kind: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    places = UPRIGHT if kind == "float32" else (UPRIGHT * np.iinfo(kind).max).astype(kind)
    part = {"attributes": {"POSITION": SQUARE, "TEXCOORD_0": places}, "mode": 6, "material": 0}
    materials = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    path = write_glb(
        tmp_path / "a.glb", [part], normalized=True, picture=quarters(tmp_path / "a.png"), materials=materials
    )
    assert seen(draw(path, view="front")[0]) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ({"offset": [0.5, 0]}, ["green", "red", "white", "blue"]),
        ({"offset": [0, 0.5]}, ["blue", "white", "red", "green"]),
        ({"scale": [0.5, 0.5]}, ["red"] * 4),
        ({"scale": [0.5, 0.5], "offset": [0.5, 0]}, ["green"] * 4),
        ({"rotation": np.pi / 2}, ["blue", "red", "white", "green"]),
        ({"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5]}, ["blue"] * 4),
        ({"texCoord": 1}, ["white", "blue", "green", "red"]),
        ({}, ["red", "green", "blue", "white"]),
    ],
)
def test_a_texture_is_moved_turned_and_scaled(
    moved: dict[str, Any], expected: list[str], draw: Callable[..., Any], tmp_path: Path
) -> None:
    """By KHR_texture_transform, as programs write it that put many textures into one picture."""
    places = {"TEXCOORD_0": UPRIGHT, "TEXCOORD_1": UPRIGHT[[2, 3, 0, 1]]}
    part = {"attributes": {"POSITION": SQUARE, **places}, "mode": 6, "material": 0}
    texture = {"index": 0, "extensions": {"KHR_texture_transform": moved}}
    path = write_glb(
        tmp_path / "a.glb",
        [part],
        picture=quarters(tmp_path / "a.png"),
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": texture}}],
    )
    assert seen(draw(path, view="front")[0]) == expected


def test_a_texture_may_lie_by_the_second_places(draw: Callable[..., Any], tmp_path: Path) -> None:
    places = {"TEXCOORD_0": UPRIGHT * 0, "TEXCOORD_1": UPRIGHT}
    part = {"attributes": {"POSITION": SQUARE, **places}, "mode": 6, "material": 0}
    materials = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": 1}}}]
    path = write_glb(tmp_path / "a.glb", [part], picture=quarters(tmp_path / "a.png"), materials=materials)
    assert seen(draw(path, view="front")[0]) == ["red", "green", "blue", "white"]


def test_faces_that_cannot_be_rewritten_are_not_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only trimesh hears of the error, and it goes on without the faces."""
    path = write_glb(tmp_path / "a.glb", [{"attributes": {"POSITION": SQUARE}, "mode": 6}])
    assert len(load_model(path, "auto", None).faces) == 2

    def fail(_found: dict[str, Any]) -> None:
        raise MemoryError

    monkeypatch.setattr(loading, "_without_oddities", fail)
    with pytest.raises(MemoryError):
        load_model(path, "auto", None)
    monkeypatch.undo()
    assert len(load_model(path, "auto", None).faces) == 2


@pytest.mark.parametrize("moved", [{"offset": ["a", "b"]}, {"scale": [1]}, {"rotation": "half"}])
def test_a_texture_that_is_moved_by_no_numbers_is_refused(moved: dict[str, Any], tmp_path: Path) -> None:
    part = {"attributes": {"POSITION": SQUARE, "TEXCOORD_0": UPRIGHT}, "material": 0}
    texture = {"index": 0, "extensions": {"KHR_texture_transform": moved}}
    materials = [{"pbrMetallicRoughness": {"baseColorTexture": texture}}]
    path = write_glb(tmp_path / "a.glb", [part], picture=quarters(tmp_path / "a.png"), materials=materials)
    with pytest.raises(Unusable, match="is not valid glTF"):
        load_model(path, "auto", None)
