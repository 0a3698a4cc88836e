"""Meshes with forged counts, invalid numbers, and addresses in them."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from crafting import Bait, Crafted, Make, cut, data, text
from papers import LAUGHS, XXE

_CORE = 'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"'
_MODEL = f'<model unit="millimeter" {_CORE}><resources><object id="1" type="model"><mesh><vertices>%s</vertices>'
_MODEL += (
    '<triangles><triangle v1="0" v2="1" v3="2"/></triangles></mesh></object></resources><build><item objectid="1"/>'
)
_MODEL += "</build></model>"
_POINTS = '<vertex x="0" y="0" z="0"/><vertex x="1" y="0" z="0"/><vertex x="0" y="1" z="0"/>'


def _three_mf(model: str | bytes, **more: bytes) -> Make:
    def make(path: Path, bait: Bait) -> None:
        filled = model
        if isinstance(filled, str):
            filled = filled.replace("{secret}", str(bait.secret)).replace("{trap}", bait.trap)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("3D/3dmodel.model", filled)
            for name, part in more.items():
                archive.writestr(name, part)

    return make


def _three_mf_bomb(path: Path, bait: Bait) -> None:
    _three_mf((_MODEL % "").encode() + b" " * 300_000_000)(path, bait)


def _gltf(uri: str, *, count: int = 3, length: int = 36) -> str:
    scene: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": count, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": length}],
        "buffers": [{"uri": uri, "byteLength": length}],
        "images": [{"uri": "{trap}/a.png"}, {"uri": "file://{secret}"}],
    }
    return json.dumps(scene)


def _circle_gltf() -> str:
    scene = json.loads(_gltf("data:application/octet-stream;base64," + "A" * 48))
    scene["nodes"] = [{"mesh": 0, "children": [1]}, {"children": [0]}]
    return json.dumps(scene)


def _stl(count: int, *triangles: tuple[float, ...]) -> bytes:
    body = b"".join(struct.pack("<12fH", *numbers, 0) for numbers in triangles)
    return bytes(80) + struct.pack("<I", count) + body


_NAN, _INF = float("nan"), float("inf")
_FLAT = (0.0,) * 12
_PLY = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
_PLY += "element face {}\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n{}\n"
_GLB = b"glTF" + struct.pack("<II", 2, 2**32 - 1) + struct.pack("<I", 2**31) + b"JSON{}"

_TEXT_STL = "solid x\nfacet normal 0 0 0\nouter loop\nvertex a b c\nendloop\nendfacet\nendsolid\n"
_TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"

SHAPES = [
    Crafted("count.stl", "shape", data(_stl(2**32 - 1))),
    Crafted("few.stl", "shape", data(_stl(10_000_000, _FLAT))),
    Crafted("flat.stl", "shape", data(_stl(2, _FLAT, _FLAT))),
    Crafted("nan.stl", "shape", data(_stl(1, (_NAN,) * 12))),
    Crafted("inf.stl", "shape", data(_stl(1, (_INF, -_INF, 1e38) * 4))),
    Crafted(
        "text.stl",
        "shape",
        text(_TEXT_STL),
    ),
    Crafted("material.obj", "shape", text("mtllib {secret}\nmtllib {trap}/a.mtl\n" + _TRIANGLE + "f 1 2 3\n")),
    Crafted("index.obj", "shape", text(_TRIANGLE + "f 1 2 99999999\nf -9 -8 -7\nf 0 0 0\n")),
    Crafted("wide.obj", "shape", data(b"v 0 0 0\nf " + b"1 " * 1_000_000)),
    Crafted("count.ply", "shape", text(_PLY.format(2**31, 2**31, "3 0 1 2"))),
    Crafted("index.ply", "shape", text(_PLY.format(3, 1, "3 0 1 2147483647"))),
    Crafted("uri.gltf", "shape", text(_gltf("{secret}"))),
    Crafted("climb.gltf", "shape", text(_gltf("../../../../../../{secret}"))),
    Crafted("remote.gltf", "shape", text(_gltf("{trap}/a.bin"))),
    Crafted("count.gltf", "shape", text(_gltf("data:application/octet-stream;base64,AAAA", count=2**31, length=2**31))),
    Crafted("circle.gltf", "shape", text(_circle_gltf())),
    Crafted("deep.gltf", "shape", text("[" * 100_000)),
    Crafted("length.glb", "shape", data(_GLB)),
    Crafted("bomb.3mf", "shape", _three_mf_bomb),
    Crafted("xxe.3mf", "shape", _three_mf(XXE + _MODEL % (_POINTS + "&x;&y;"))),
    Crafted("laughs.3mf", "shape", _three_mf(LAUGHS + _MODEL % (_POINTS + "&a10;"))),
    Crafted("slip.3mf", "shape", _three_mf(_MODEL % _POINTS, **{"../../../tmp/evil": b"x"})),
    Crafted("cut.3mf", "shape", cut(_three_mf(_MODEL % _POINTS), 0.5)),
]
