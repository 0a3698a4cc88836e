"""Models that lie, grow, repeat themselves or ask for other files are refused by name, soon, and reach nothing."""

import json
import struct
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tasktrail.handlers import Finished, Rejected, Unusable
from tasktrail.handlers.model import gltf
from tasktrail.handlers.model.preview import model_preview
from tasktrail.handlers.model.preview.probe import probe
from tasktrail.testing import run_handler

FORGED_PLY = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 900000000\nproperty float x\nproperty float y\n"
    b"property float z\nelement face 900000000\nproperty list uchar int vertex_indices\nend_header\n"
)
STL_OF_A_POINT = b"\0" * 80 + struct.pack("<I", 1) + struct.pack("<12f", 0, 0, 1, *[5.0] * 9) + b"\0\0"
TEXT_STL = (
    b"solid\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid\n"
)
CORE = 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"'
TETRAHEDRON = (
    '<mesh><vertices><vertex x="0" y="0" z="0"/><vertex x="1" y="0" z="0"/><vertex x="0" y="1" z="0"/>'
    '<vertex x="0" y="0" z="1"/></vertices><triangles><triangle v1="0" v2="2" v3="1"/><triangle v1="0" v2="1" v3="3"/>'
    '<triangle v1="1" v2="2" v3="3"/><triangle v1="0" v2="3" v3="2"/></triangles></mesh>'
)


@pytest.fixture
def refused(prepare: Callable[..., Any]) -> Callable[[Path], str]:
    """Draw a model that must be refused, and return the reason. The probe and the handler must both refuse it."""

    def reason(path: Path) -> str:
        context = prepare(path)
        outcome = run_handler(model_preview, context)
        assert isinstance(outcome, Rejected)
        assert not context.output_file.exists()
        assert not context.output_part.exists()
        return outcome.reason

    return reason


@pytest.fixture
def trap() -> Iterator[tuple[str, list[str]]]:
    """Start a server that nothing must connect to; return its address, and the requests it got."""
    asked: list[str] = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Trap)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def glb(document: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    whole = struct.pack("<3I", 0x46546C67, 2, 20 + len(text) + (8 + len(body) if body else 0))
    whole += struct.pack("<2I", len(text), 0x4E4F534A) + text
    return whole + (struct.pack("<2I", len(body), 0x004E4942) + body if body else b"")


def triangle(**changes: Any) -> dict[str, Any]:
    """Return the JSON of a glTF with one triangle in its binary chunk."""
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "scene": 0,
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    }
    return {**document, **changes}


BODY = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype="<f4").tobytes()


def threemf(path: Path, model: str | bytes, **more: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", model)
        for name, text in more.items():
            archive.writestr(name, text)
    return path


def plate(objects: str, items: str = '<item objectid="1"/>', head: str = "") -> str:
    return f"{head}<model {CORE}><resources>{objects}</resources><build>{items}</build></model>"


def test_the_harmless_ones_are_drawn(prepare: Callable[..., Any], tmp_path: Path) -> None:
    """So the refusals below are because of the change made there, not because of the rest of the file."""
    (tmp_path / "a.glb").write_bytes(glb(triangle(), BODY))
    threemf(tmp_path / "a.3mf", plate(f'<object id="1">{TETRAHEDRON}</object>'))
    for name in ("a.glb", "a.3mf"):
        assert isinstance(run_handler(model_preview, prepare(tmp_path / name, f"{name}.png")), Finished)


def test_an_stl_that_promises_more_than_it_holds(refused: Callable[[Path], str], tmp_path: Path) -> None:
    path = tmp_path / "forged.stl"
    for promised in (0, 13, 4_000_000_000):
        path.write_bytes(b"\0" * 80 + struct.pack("<I", promised) + b"\0" * 600)
        assert "forged.stl promises" in refused(path)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.stl", b"", "is empty"),
        ("none.stl", b"solid nothing\nendsolid\n", "no faces"),
        ("cut.stl", TEXT_STL[: len(TEXT_STL) // 2], "was cut"),
        ("last.stl", TEXT_STL[: -len("endsolid\n")], "was cut"),
        ("second.stl", TEXT_STL + TEXT_STL[:-9], "was cut"),
        ("noise.stl", bytes(range(256)) * 40, "promises"),
        ("noise.ply", b"\x01\x02" * 500, "no PLY header"),
        (
            "forged.ply",
            FORGED_PLY,
            "too few",
        ),
        ("count.ply", b"ply\nformat ascii 1.0\nelement face \xb2\nend_header\n", "valid PLY header"),
        (
            "digits.ply",
            b"ply\nformat ascii 1.0\nelement face " + b"9" * 5000 + b"\nend_header\n",
            "no valid PLY header",
        ),
        ("points.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n", "no faces"),
        ("forged.off", b"OFF\n900000000 900000000 0\n0 0 0\n", "too many"),
        ("noise.off", b"hello", "no OFF header"),
        ("digits.off", b"OFF\n3 " + b"9" * 5000 + b" 0\n0 0 0\n", "no OFF header"),
        ("points.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
        ("zero.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "not there"),
        ("zeros.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2/1 00/1\n", "not there"),
        ("before.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -4 -2 -1\n", "not there"),
        ("beyond.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 900\n", "beyond.obj"),
        ("noise.glb", b"glTF" + b"\xff" * 100, "not a binary glTF"),
        ("cut.glb", b"glTF\2", "ends within"),
        ("text.gltf", b"hello", "not valid glTF"),
        ("list.gltf", b"[]", "not valid glTF"),
        ("none.3mf", b"hello", "no zip file"),
        ("point.stl", STL_OF_A_POINT, "no size"),
    ],
)
def test_what_is_no_model(name: str, content: bytes, word: str, refused: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert word in refused(tmp_path / name)


@pytest.mark.parametrize("place", ["buffer", "image"])
def test_a_gltf_that_names_another_file_or_address(
    place: str, refused: Callable[[Path], str], trap: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = trap
    (tmp_path / "secret.bin").write_bytes(BODY)
    for uri in ("secret.bin", "../secret.bin", str(tmp_path / "secret.bin"), f"{address}/a.bin", "file:///etc/passwd"):
        if place == "buffer":
            document = triangle(buffers=[{"byteLength": 36, "uri": uri}])
            (tmp_path / "a.gltf").write_text(json.dumps(document))
            assert "no other file is read; pack it as one .glb" in refused(tmp_path / "a.gltf")
        else:
            (tmp_path / "a.glb").write_bytes(glb(triangle(images=[{"uri": uri}]), BODY))
            assert "refers to another file" in refused(tmp_path / "a.glb")
    assert asked == []


def test_an_obj_that_names_another_file_is_drawn_without_it(
    prepare: Callable[..., Any], trap: tuple[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "a.mtl").write_text("newmtl a\nKd 1 0 0\nmap_Kd secret.png\n")
    watched: list[str] = []
    watching = [True]
    # An audit hook cannot be removed, only silenced.
    sys.addaudithook(lambda event, args: watched.append(str(args[0])) if event == "open" and watching else None)
    for number, library in enumerate(("a.mtl", "../a.mtl", "/etc/passwd", f"{trap[0]}/a.mtl")):
        path = tmp_path / f"{number}.obj"
        path.write_text(f"mtllib {library}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n")
        assert isinstance(run_handler(model_preview, prepare(path, f"{number}.png")), Finished)
    watching.clear()
    assert any(path.endswith("0.obj") for path in watched)
    assert not any("a.mtl" in path or "passwd" in path for path in watched)
    assert trap[1] == []


def test_a_ply_that_names_a_texture_is_drawn_without_it(prepare: Callable[..., Any], tmp_path: Path) -> None:
    text = trimesh.creation.box().export(file_type="ply", encoding="ascii").decode()
    (tmp_path / "a.ply").write_text(text.replace("element vertex", "comment TextureFile ../secret.png\nelement vertex"))
    assert isinstance(run_handler(model_preview, prepare(tmp_path / "a.ply")), Finished)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"accessors": [{"componentType": 5126, "count": 2_000_000_000, "type": "VEC3"}]}, "claims an array"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": 1 << 40, "type": "VEC3"}]}, "claims"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": -3, "type": "VEC3"}]}, "claims"),
        ({"nodes": [{"mesh": 0, "children": [0]}]}, "contain themselves"),
        ({"nodes": [{"children": [1, 1]}, {"mesh": 0}]}, "two places"),
        ({"nodes": [{"children": [2]}, {"children": [2]}, {"mesh": 0}]}, "two places"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "sparse": {}}]}, "sparse"),
        ({"nodes": [{"mesh": 7}]}, "not valid glTF"),
        ({"nodes": [{"mesh": 0, "children": [7]}]}, "not there"),
        ({"nodes": [{"mesh": 0, "children": [-1]}]}, "not there"),
        ({"extensionsUsed": ["KHR_draco_mesh_compression"]}, "compressed"),
        (
            {
                "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 0}, "material": 0}]}],
                "materials": [
                    {
                        "pbrMetallicRoughness": {
                            "baseColorTexture": {"index": 0, "extensions": {"KHR_texture_transform": {"offset": [1]}}}
                        }
                    }
                ],
            },
            "not valid glTF",
        ),
        ({"bufferViews": [{"buffer": 0, "byteLength": 36, "byteOffset": 1 << 40}]}, "cannot be read"),
    ],
)
def test_a_gltf_that_makes_no_sense(
    changes: dict[str, Any], word: str, refused: Callable[[Path], str], tmp_path: Path
) -> None:
    (tmp_path / "a.glb").write_bytes(glb(triangle(**changes), BODY))
    reason = refused(tmp_path / "a.glb")
    assert word in reason
    assert "Unusable" not in reason


def test_a_gltf_whose_names_are_no_utf8(refused: Callable[[Path], str], tmp_path: Path) -> None:
    text = json.dumps(triangle(asset={"version": "2.0", "generator": "Pi*ce"})).encode()
    (tmp_path / "a.gltf").write_bytes(text.replace(b"*", b"\xe8"))
    assert "not valid glTF" in refused(tmp_path / "a.gltf")


def test_copies_of_a_mesh_count(
    refused: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gltf, "_MAX_INSTANCES", 99)
    (tmp_path / "a.glb").write_bytes(glb(triangle(nodes=[{"mesh": 0}] * 100, scenes=[{"nodes": [*range(100)]}]), BODY))
    assert "100 nodes" in refused(tmp_path / "a.glb")


def test_a_texture_that_is_a_bomb_or_of_a_dangerous_kind_is_left_out(
    prepare: Callable[..., Any], tmp_path: Path
) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", 0)
    for number, picture in enumerate((bomb, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"noise")):
        padded = picture + b"\0" * (-len(picture) % 4)
        document = triangle(
            images=[{"bufferView": 1, "mimeType": "image/png"}],
            textures=[{"source": 0}],
            materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            bufferViews=[{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 60, "byteLength": len(padded)}],
            accessors=[
                {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
                {"bufferView": 2, "componentType": 5126, "count": 3, "type": "VEC2"},
            ],
            meshes=[{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0}]}],
        )
        document["bufferViews"].append({"buffer": 0, "byteOffset": 36, "byteLength": 24})
        document["buffers"] = [{"byteLength": 60 + len(padded)}]
        (tmp_path / f"{number}.glb").write_bytes(glb(document, BODY + b"\0" * 24 + padded))
        assert isinstance(run_handler(model_preview, prepare(tmp_path / f"{number}.glb", f"{number}.png")), Finished)


def test_a_3mf_with_a_doctype_in_any_encoding(refused: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    outside = f'<!DOCTYPE model [<!ENTITY x SYSTEM "file://{tmp_path}/secret.txt">]>'
    laughs = '<!DOCTYPE m [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    tree = plate(f'<object id="1" name="&x;">{TETRAHEDRON}</object>')
    for head in (outside, laughs):
        assert "DOCTYPE" in refused(threemf(tmp_path / "a.3mf", head + tree))
        assert "DOCTYPE" in refused(threemf(tmp_path / "a.3mf", (head + tree).encode("utf-16")))
    odd = f'<?xml version="1.0" encoding="UTF-7"?>{tree}'
    assert "a.3mf" in refused(threemf(tmp_path / "a.3mf", odd))


def test_a_3mf_that_unpacks_to_too_much(refused: Callable[[Path], str], tmp_path: Path) -> None:
    assert "times its size" in refused(threemf(tmp_path / "a.3mf", "<model>" + " " * 30_000_000))
    entries = {f"{number}.txt": "" for number in range(5001)}
    assert "5002 entries" in refused(threemf(tmp_path / "b.3mf", plate(""), **entries))
    path = threemf(tmp_path / "c.3mf", plate(""))
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2") + 24
    content[at : at + 4] = struct.pack("<I", 900_000_000)
    path.write_bytes(content)
    assert "would unpack to" in refused(path)


def test_a_3mf_whose_objects_multiply_or_hold_themselves(refused: Callable[[Path], str], tmp_path: Path) -> None:
    doubled = ""
    for number in range(1, 40):
        twice = f'<component objectid="{number + 1}"/>' * 2
        doubled += f'<object id="{number}"><components>{twice}</components></object>'
    last = f'<object id="40">{TETRAHEDRON}</object>'
    assert "repeats its objects" in refused(threemf(tmp_path / "a.3mf", plate(doubled + last)))
    ring = f'<object id="1">{TETRAHEDRON}<components><component objectid="1"/></components></object>'
    assert "repeats its objects" in refused(threemf(tmp_path / "b.3mf", plate(ring)))


def test_objects_of_a_3mf_stand_in_several_files(draw: Callable[..., Any], tmp_path: Path) -> None:
    """As slicers write them: each part of an object is an object in another file, where ids begin anew."""
    production = 'xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06"'

    def model(objects: str, items: str = "") -> str:
        return f"<model {CORE} {production}><resources>{objects}</resources><build>{items}</build></model>"

    def used(file: str, number: int, x: int) -> str:
        place = f'p:path="/3D/Objects/{file}.model" objectid="{number}"'
        return f'<component {place} transform="1 0 0 0 1 0 0 0 1 {x} 0 0"/>'

    part = f'<object id="1" p:UUID="a">{TETRAHEDRON}</object><object id="2">{TETRAHEDRON}</object>'
    whole = f'<object id="1"><components>{used("a", 1, 0)}{used("a", 2, 5)}</components></object>'
    whole += f'<object id="2"><components>{used("b", 1, 10)}</components></object>'
    threemf(
        tmp_path / "parts.3mf",
        model(
            whole, '<item objectid="1"/><item objectid="2"/><item objectid="1" transform="1 0 0 0 1 0 0 0 1 0 7 0"/>'
        ),
        **{"3D/Objects/a.model": model(part), "3D/Objects/b.model": model(part)},
    )
    _, result = draw(tmp_path / "parts.3mf")
    assert result["source_faces"] == 5 * 4
    assert result["source_bounds"] == [[0, 0, 0], [11, 8, 1]]


def test_objects_of_a_3mf_in_several_files_multiply(refused: Callable[[Path], str], tmp_path: Path) -> None:
    def doubled(number: int) -> str:
        twice = f'<component objectid="{number + 1}"/>' * 2
        return f'<object id="{number}"><components>{twice}</components></object>'

    half = "".join(map(doubled, range(1, 10)))
    there = '<object id="10"><components><component path="/3D/b.model" objectid="1"/></components></object>'
    more = {"3D/b.model": plate(half + f'<object id="10">{TETRAHEDRON}</object>', "")}
    assert "repeats its objects" in refused(threemf(tmp_path / "a.3mf", plate(half + there), **more))


def test_a_zip_without_a_model(refused: Callable[[Path], str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.3mf", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    assert "not a 3MF" in refused(tmp_path / "a.3mf")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.999])
def test_a_binary_gltf_that_was_cut_is_called_so(kept: float, refused: Callable[[Path], str], tmp_path: Path) -> None:
    content = trimesh.creation.icosphere().export(file_type="glb")
    left = int(len(content) * kept)
    (tmp_path / "a.glb").write_bytes(content[:left])
    assert refused(tmp_path / "a.glb") == f"a.glb was cut: {len(content) - left:,} bytes are missing at its end"


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_huge_and_tiny_models_are_drawn_like_others(
    factor: float, draw: Callable[..., Any], ball: Path, tmp_path: Path
) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.vertices *= factor
    mesh.export(tmp_path / "scaled.stl")
    plain, _ = draw(ball)
    scaled, _ = draw(tmp_path / "scaled.stl")
    assert (np.abs(plain - scaled).max(axis=-1) < 40).mean() > 0.97


def test_faces_with_corners_that_are_no_numbers_are_left_out_and_told(
    draw: Callable[..., Any], refused: Callable[[Path], str], tmp_path: Path
) -> None:
    path = tmp_path / "a.stl"
    content = bytearray(trimesh.creation.box().export(file_type="stl"))
    content[84 + 12 : 84 + 16] = struct.pack("<f", float("nan"))
    content[134 + 12 : 134 + 16] = struct.pack("<f", float("inf"))
    path.write_bytes(content)
    result = draw(path, "whole.png")[1]
    assert result["source_faces"] == 10
    assert result["notes"] == ["2 faces are left out: they have corners that are no numbers"]
    for face in range(12):
        content[84 + 50 * face + 12 : 84 + 50 * face + 16] = struct.pack("<f", float("nan"))
    path.write_bytes(content)
    assert "can be drawn" in refused(path)


@pytest.mark.parametrize("name", ["-rf.stl", "50%d.stl", "@list.stl", "new\nline.stl", "http:a.stl", "ü \udcff.stl"])
def test_odd_names_are_names_like_others(name: str, ball: Path, prepare: Callable[..., Any]) -> None:
    path = ball.rename(ball.with_name(name))
    assert isinstance(run_handler(model_preview, prepare(path)), Finished)


def test_the_probe_refuses_without_reading_the_model(tmp_path: Path, prepare: Callable[..., Any]) -> None:
    (tmp_path / "a.stl").write_bytes(b"\0" * 84)
    with pytest.raises(Unusable, match="no faces"):
        probe(prepare(tmp_path / "a.stl").job)


def test_a_missing_input_is_an_error_that_may_pass(prepare: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_handler(model_preview, prepare(tmp_path / "nowhere.stl"))


@pytest.mark.parametrize("last", ["v 2 0 0\nf 1 2 3\n", "f 1 2 2\n", "v 0.3 0.1 0.7\nv 0.6 0.2 1.4\nf 1 3 4\n"])
def test_a_model_of_lines_is_refused(last: str, refused: Callable[[Path], str], tmp_path: Path) -> None:
    """Some programs write a line as a face. The picture was empty."""
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 1 0 0\n" + last)
    assert "without an area" in refused(path)
