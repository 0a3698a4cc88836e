"""Colours that are not drawn are reported: a worker opens no file except its input."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
FACET = "facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
SPACE = 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" unit="millimeter"'
MESH = (
    '<mesh><vertices><vertex x="0" y="0" z="0"/><vertex x="9" y="0" z="0"/><vertex x="0" y="9" z="0"/>'
    '<vertex x="0" y="0" z="9"/></vertices><triangles><triangle v1="0" v2="2" v3="1"/><triangle v1="0" v2="1" v3="3"/>'
    '<triangle v1="0" v2="3" v3="2"/><triangle v1="1" v2="2" v3="3"/></triangles></mesh>'
)
MATERIALS = '<basematerials id="5"><base name="red" displaycolor="#FF0000"/></basematerials>'
PLY = (
    "ply\nformat ascii 1.0\n{}element vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
)


def threemf(path: Path, materials: str) -> None:
    resources = f'<resources>{materials}<object id="1" type="model">{MESH}</object></resources>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("3D/3dmodel.model", f'<model {SPACE}>{resources}<build><item objectid="1"/></build></model>')


@pytest.mark.parametrize(
    ("name", "text", "notes"),
    [
        ("a.obj", "mtllib col.mtl\nusemtl red\n" + TRIANGLE, ["materials in col.mtl are not read"]),
        ("a.obj", "# mtllib col.mtl\n" + TRIANGLE, None),
        ("a.obj", "mtllib c\x1b[2Jl.mtl \r\n" + TRIANGLE, ["materials in c?[2Jl.mtl are not read"]),
        ("a.ply", PLY.format("comment TextureFile skin.png\n"), ["the texture skin.png is not read"]),
        ("a.ply", PLY.format(""), None),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", None),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2 255 0 0\n", ["colours of an off are not read"]),
        (
            "a.off",
            "COFF\n3 1 0\n0 0 0 255 0 0 255\n1 0 0 255 0 0 255\n0 1 0 9 9 9 9\n3 0 1 2\n",
            ["colours of an off are not read"],
        ),
        ("a.stl", "solid COLOR=1\n" + FACET + "endsolid\n", ["colours of an stl are not read"]),
        ("a.stl", "solid\n" + FACET + "endsolid\n", None),
        ("a.3mf", MATERIALS, ["colours of a 3mf are not read"]),
        ("a.3mf", "", None),
    ],
)
def test_colours_that_are_not_read_are_told(
    *, name: str, text: str, notes: list[str] | None, draw: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    if name.endswith(".3mf"):
        threemf(path, text)
    else:
        path.write_bytes(text.encode())
    assert draw(path)[1].get("notes") == notes


@pytest.mark.parametrize("harm", ["none", "nowhere", "damaged", "of another kind"])
def test_a_texture_that_cannot_be_read_is_told(harm: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    """It may be damaged, or of an unsupported kind, such as KTX2; but not a texture that no corner refers to."""
    box = trimesh.creation.box()
    picture = Image.new("RGB", (8, 8), "red")
    box.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2], image=picture)
    content = box.export(file_type="glb")
    (length,) = struct.unpack("<I", content[12:16])
    document, body = json.loads(content[20 : 20 + length]), content[20 + length :]
    if harm == "damaged":
        body = body.replace(b"\x89PNG", bytes(4))
    elif harm == "nowhere":
        del document["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"]
    elif harm == "of another kind":
        document["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<5I", 0x46546C67, 2, 20 + len(text) + len(body), len(text), 0x4E4F534A)
    (tmp_path / "a.glb").write_bytes(head + text + body)
    picture, result = draw(tmp_path / "a.glb")
    assert result.get("notes") == (None if harm in ("none", "nowhere") else ["the texture of 1 mesh cannot be read"])
    assert "notes" not in draw(tmp_path / "a.glb", "plain.png", color="#00ff00")[1]


def test_arrays_of_a_gltf_that_are_not_read_may_be_of_any_kind(draw: Callable[..., Any], tmp_path: Path) -> None:
    """Morph targets are often sparse, and sparse arrays are not supported for shapes."""
    content = trimesh.creation.box().export(file_type="glb")
    (length,) = struct.unpack("<I", content[12:16])
    document, body = json.loads(content[20 : 20 + length]), content[20 + length :]
    document["accessors"] += [
        {"componentType": 5126, "count": 8, "type": "VEC3", "sparse": {"count": 1, "indices": {}, "values": {}}},
        {"componentType": 5126, "count": 2_000_000_000, "type": "VEC3"},
    ]
    document["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": len(document["accessors"]) - 2}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<5I", 0x46546C67, 2, 20 + len(text) + len(body), len(text), 0x4E4F534A)
    (tmp_path / "plain.glb").write_bytes(content)
    (tmp_path / "morph.glb").write_bytes(head + text + body)
    plain, morph = draw(tmp_path / "plain.glb", "plain.png"), draw(tmp_path / "morph.glb", "morph.png")
    assert np.array_equal(plain[0], morph[0])
    assert plain[1]["source_faces"] == morph[1]["source_faces"] == 12


def test_nothing_is_told_where_a_colour_was_asked_for(draw: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text("mtllib col.mtl\n" + TRIANGLE)
    assert "notes" not in draw(path, color="#ff0000")[1]


@pytest.mark.parametrize("kind", ["obj", "ply"])
def test_points_and_lines_beside_the_faces_are_told(kind: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    edges = "element edge 2\nproperty int vertex1\nproperty int vertex2\nend_header"
    path.write_text(
        TRIANGLE + "l 1 2 3\np 2\n" if kind == "obj" else PLY.format("").replace("end_header", edges) + "0 1\n1 2\n"
    )
    assert draw(path)[1]["notes"] == ["2 parts of points or lines are left out: only faces are drawn"]


@pytest.mark.parametrize("kind", ["ply", "off"])
def test_faces_that_a_text_promises_and_does_not_hold_are_told(
    kind: str, draw: Callable[..., Any], tmp_path: Path
) -> None:
    """A file that was cut. For a binary file the size shows it, and it is refused."""
    ball = trimesh.creation.icosphere(2)
    text = ball.export(file_type=kind, **({"encoding": "ascii"} if kind == "ply" else {}))
    lines = (text if isinstance(text, bytes) else text.encode()).splitlines(keepends=True)
    path = tmp_path / f"ball.{kind}"
    path.write_bytes(b"".join(lines))
    assert "notes" not in draw(path)[1]

    path.write_bytes(b"".join(lines[:-40]))
    result = draw(path)[1]

    assert result["source_faces"] == 280
    assert result["notes"] == ["the model was cut or is damaged: it has 280 of the 320 faces that it promises"]


@pytest.mark.parametrize(
    ("kind", "end"), [("ply", "\n"), ("ply", "\r\n"), ("off", "\n"), ("off", "\r\n"), ("off", "\n\n")]
)
def test_missing_faces_of_four_corners_are_told(kind: str, end: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    """There are as many triangles as promised, so only the lines show it."""
    head = "OFF # a cube\n# of 6 faces\n8 6 12\n"
    if kind == "ply":
        head = "ply\nformat ascii 1.0\ncomment a cube\nelement vertex 8\nproperty float x\nproperty float y\n"
        head += "property float z\nelement face 6\nproperty list uchar int vertex_indices\nend_header\n"
    corners = [f"{x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    faces = ["4 0 1 3 2", "4 4 6 7 5", "4 0 4 5 1", "4 2 3 7 6", "4 0 2 6 4", "4 1 5 7 3"]
    path = tmp_path / f"cube.{kind}"
    for left, notes in ((6, None), (3, ["the model was cut or is damaged: it has 3 of the 6 faces that it promises"])):
        path.write_bytes((head + "\n".join([*corners, *faces[:left]]) + " " * 200 + "\n").replace("\n", end).encode())
        result = draw(path, f"{left}.png")[1]
        assert result["source_faces"] == 2 * left
        assert result.get("notes") == notes
