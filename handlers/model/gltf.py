"""glTF from untrusted sources: its JSON is checked here, and only the needed parts go on to the loader.

A glTF file may name other files and addresses, nest its nodes without end, and claim arrays of any size.
"""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from ...events.counted import plural
from ..contract import Unusable

Document: TypeAlias = dict[str, Any]

_MAGIC = 0x46546C67
_JSON = 0x4E4F534A
_MAX_JSON = 300_000_000
_MAX_INSTANCES = 100_000
_MAX_TEXTURE = 67_108_864
_PIXELS_A_BYTE = 12
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_FLOAT = 5126
_COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
_INSTANCES = "EXT_mesh_gpu_instancing"
_UNDERSTOOD = {"KHR_texture_transform", "KHR_mesh_quantization", "EXT_texture_webp"}
_LOOKS = "KHR_materials_"
"""Beginning of the extensions about materials, of which more than the base colour is never shown."""
_MOST_NAMES, _LONGEST_NAME = 5, 60
_SPECULAR = "KHR_materials_pbrSpecularGlossiness"
TEXTURED = "textured"
"""Name of a material with a texture, whether or not the texture can be read."""
ODD = "TASKTRAIL_odd"
"""Extension of a primitive that the loader has to rewrite: `fan`, `shares` and `moved`, as `_oddities` gives them."""
_PLACES = "TEXCOORD_0"
_MOVED = "KHR_texture_transform"
_NO_ARRAY: Document = {"componentType": _FLOAT, "count": 0, "type": "SCALAR"}
_KEPT = ("asset", "scene", "scenes", "nodes", "meshes", "accessors", "bufferViews", "buffers")


class Gltf(msgspec.Struct, frozen=True, kw_only=True):
    """A document that has passed the checks."""

    kind: Literal["glb", "gltf"]
    document: Document
    """The needed part of the JSON: no extensions, no animations, no cameras, no other files."""
    body: int
    """The byte at which the binary chunks of a .glb begin."""
    faces: int
    vertices: int
    pixels: int
    """Pixels of all textures, guessed from their file sizes."""
    loose: int
    """Primitives of points or lines, which are not drawn."""
    unread: tuple[str, ...]
    """What it needs for its shape, and is not read: extensions, and morph targets."""


def read_gltf(path: Path) -> Gltf:
    """Read and check the JSON of a .gltf or .glb.

    Raises:
        Unusable: it is not glTF 2, names another file, is compressed, or is invalid.
    """
    kind, text, body = _read(path)
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
        _check(document, path.name)
        faces, vertices, loose = _sizes(document)
        reduced, unread = _reduced(document), _unread(document)
        pixels = sum(min(_MAX_TEXTURE, _PIXELS_A_BYTE * length) for length in _picture_sizes(document))
    except Unusable:
        raise
    except (
        msgspec.DecodeError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RecursionError,
        ValueError,
    ) as error:
        raise Unusable(f"{path.name} is not valid glTF: {type(error).__name__}: {error}") from error
    return Gltf(
        kind=kind,
        document=reduced,
        body=body,
        faces=faces,
        vertices=vertices,
        pixels=pixels,
        loose=loose,
        unread=unread,
    )


def _read(path: Path) -> tuple[Literal["glb", "gltf"], bytes, int]:
    with path.open("rb") as file:
        head = file.read(20)
        if head[:4] != struct.pack("<I", _MAGIC):
            file.seek(0)
            text = file.read(_MAX_JSON + 1)
            if len(text) > _MAX_JSON:
                raise Unusable(f"{path.name} has more than {_MAX_JSON} bytes of JSON; pack it as .glb")
            return "gltf", text, 0
        if len(head) < 20:  # noqa: PLR2004 - three words of the file's header, two of the first chunk's
            raise Unusable(f"{path.name} ends within its header")
        _, version, whole, length, chunk = struct.unpack("<5I", head)
        if version == 1:
            raise Unusable(f"{path.name} is glTF 1, which is not read: save it as glTF 2")
        size = path.stat().st_size
        if version != 2 or chunk != _JSON or length > min(_MAX_JSON, max(whole, size)):  # noqa: PLR2004 - glTF 2
            raise Unusable(f"{path.name} is not a binary glTF 2 file")
        if missing := max(0, whole - size):
            bytes_are = plural(missing, "byte is", "bytes are")
            raise Unusable(f"{path.name} was cut: {missing:,} {bytes_are} missing at its end")
        return "glb", file.read(length), 20 + length


def _check(document: Document, name: str) -> None:
    """Refuse a document that names other files, cannot be decoded, or never ends."""
    if str(document.get("asset", {}).get("version", "2")).startswith("1"):
        raise Unusable(f"{name} is glTF 1, which is not read: save it as glTF 2")
    for thing in (*document.get("buffers", ()), *document.get("images", ())):
        uri = thing.get("uri")
        if uri is not None and not uri.startswith("data:"):
            raise Unusable(f"{name} refers to another file, {uri[:200]!r}: no other file is read; pack it as one .glb")
    used = _COMPRESSED & set(document.get("extensionsUsed", ())) | _COMPRESSED & set(
        document.get("extensionsRequired", ())
    )
    if used:
        raise Unusable(f"{name} is compressed with {', '.join(sorted(used))}, which is not read: save it uncompressed")
    views = document.get("bufferViews", ())
    for accessor in (document["accessors"][number] for number in sorted(_read_arrays(document))):
        if "sparse" in accessor:
            raise Unusable(f"{name} has sparse arrays, which are not read: save it without them")
        stored = views[accessor["bufferView"]]["byteLength"] if "bufferView" in accessor else 0
        if not 0 <= accessor["count"] <= stored:
            raise Unusable(f"{name} claims an array of {accessor['count']} where {stored} bytes are stored")
    nodes = document.get("nodes", ())
    parents = Counter(child for node in nodes for child in node.get("children", ()))
    if not all(0 <= child < len(nodes) for child in parents):  # Python would count from the end
        raise Unusable(f"{name} has nodes with children that are not there")
    if any(times > 1 for times in parents.values()) or len(_reached(nodes, parents)) != len(nodes):
        raise Unusable(f"{name} has nodes that contain themselves or stand in two places")
    if len(nodes) > _MAX_INSTANCES:
        raise Unusable(f"{name} has {len(nodes)} nodes; the limit is {_MAX_INSTANCES}")


def _reached(nodes: list[Document], parents: Counter[int]) -> set[int]:
    reached: set[int] = set()
    waiting = [number for number in range(len(nodes)) if number not in parents]
    while waiting:
        number = waiting.pop()
        reached.add(number)
        waiting += nodes[number].get("children", ())
    return reached


def _sizes(document: Document) -> tuple[int, int, int]:
    """Faces and vertices of all nodes together, and their primitives that are not drawn."""
    meshes, accessors = document.get("meshes", ()), document.get("accessors", ())
    sizes = []
    for mesh in meshes:
        faces = vertices = 0
        drawn = list(_drawn(mesh))
        for primitive in drawn:
            points = accessors[primitive["attributes"]["POSITION"]]["count"]
            corners = accessors[primitive["indices"]]["count"] if "indices" in primitive else points
            faces += corners // 3 if primitive.get("mode", _TRIANGLES) == _TRIANGLES else max(0, corners - 2)
            vertices += points
        sizes.append((faces, vertices, len(mesh["primitives"]) - len(drawn)))
    placed = [sizes[node["mesh"]] for node in document.get("nodes", ()) if "mesh" in node]
    return sum(faces for faces, _, _ in placed), sum(points for _, points, _ in placed), sum(one[2] for one in placed)


def _unread(document: Document) -> tuple[str, ...]:
    """Names of what the shape needs and is not read. Those of extensions are untrusted."""
    names = set(document.get("extensionsRequired", ())) | {_INSTANCES} & set(document.get("extensionsUsed", ()))
    needed = sorted(name for name in names - _UNDERSTOOD if not name.startswith(_LOOKS))[:_MOST_NAMES]
    shown = ["".join(sign if sign.isprintable() else "?" for sign in name[:_LONGEST_NAME]) for name in needed]
    shaped = [*document.get("meshes", ()), *document.get("nodes", ())]
    return *shown, *(["morph targets"] if any(any(each.get("weights", ())) for each in shaped) else [])


def _picture_sizes(document: Document) -> Iterator[int]:
    for image in document.get("images", ()):
        stored = "bufferView" in image
        yield document["bufferViews"][image["bufferView"]]["byteLength"] if stored else len(image.get("uri", ""))


def _read_arrays(document: Document) -> set[int]:
    """Numbers of the accessors that are read, without those of morph targets, animations, bones and normals."""
    primitives = [each for mesh in document.get("meshes", ()) for each in _drawn(mesh)]
    numbers = {number for primitive in primitives for number in _attributes(document, primitive).values()}
    return numbers | {primitive["indices"] for primitive in primitives if "indices" in primitive}


def _drawn(mesh: Document) -> Iterator[Document]:
    return (each for each in mesh["primitives"] if each.get("mode", _TRIANGLES) in (_TRIANGLES, _STRIP, _FAN))


def _attributes(document: Document, primitive: Document) -> dict[str, int]:
    """The arrays of the vertices that are read. The texture's places have one name, whichever the material takes."""
    stored, _, info = primitive["attributes"], *_base_texture(_material(document, primitive))
    number = info.get("extensions", {}).get(_MOVED, {}).get("texCoord", info.get("texCoord", 0)) if info else 0
    names = {"POSITION": "POSITION", f"TEXCOORD_{number}": _PLACES, "COLOR_0": "COLOR_0"}
    return {name: stored[key] for key, name in names.items() if key in stored}


def _material(document: Document, primitive: Document) -> Document:
    material: Document = document["materials"][primitive["material"]] if "material" in primitive else {}
    return material


def _oddities(document: Document, primitive: Document, attributes: dict[str, int]) -> Document:
    """What trimesh does not do by itself. Empty if there is nothing."""
    accessors, info = document["accessors"], _base_texture(_material(document, primitive))[1]
    whole = [key for key, number in attributes.items() if accessors[number]["componentType"] != _FLOAT]
    shares = [key for key in whole if accessors[attributes[key]].get("normalized") and key != "COLOR_0"]
    odd: Document = {"shares": shares} if shares else {}
    if info and _PLACES in attributes and (moved := info.get("extensions", {}).get(_MOVED)):
        odd["moved"] = _moved(**{key: moved[key] for key in ("offset", "rotation", "scale") if key in moved})
    return odd | ({"fan": True} if primitive.get("mode") == _FAN else {})


def _moved(
    offset: Sequence[float] = (0, 0), rotation: float = 0, scale: Sequence[float] = (1, 1)
) -> list[tuple[float, float, float]]:
    """The matrix for places in a texture: scaled, then turned as the examples of the extension are, then moved."""
    (x, y), (across, down) = map(float, offset), map(float, scale)
    cosine, sine = math.cos(rotation), math.sin(rotation)
    return [(cosine * across, sine * down, x), (-sine * across, cosine * down, y)]


def _reduced(document: Document) -> Document:
    """The geometry, and the materials' base colours and their textures."""
    reduced = {key: document[key] for key in _KEPT if key in document}
    read = _read_arrays(document)
    arrays = enumerate(document.get("accessors", ()))
    reduced["accessors"] = [array if number in read else _NO_ARRAY for number, array in arrays]
    reduced["meshes"] = [
        {"name": f"mesh{number}", "primitives": [_plain_primitive(document, each) for each in _drawn(mesh)]}
        for number, mesh in enumerate(document.get("meshes", ()))
    ]
    keys = ("mesh", "children", "matrix", "translation", "rotation", "scale")
    reduced["nodes"] = [{key: node[key] for key in keys if key in node} for node in document.get("nodes", ())]
    reduced["materials"] = [_base_colour(material) for material in document.get("materials", ())]
    reduced["textures"] = [_plain_texture(texture) for texture in document.get("textures", ())]
    reduced["images"] = document.get("images", [])
    return reduced


def _plain_primitive(document: Document, primitive: Document) -> Document:
    plain: Document = {key: primitive[key] for key in ("indices", "mode", "material") if key in primitive}
    plain["attributes"] = _attributes(document, primitive)
    odd = _oddities(document, primitive, plain["attributes"])
    return plain | ({"extensions": {ODD: odd}} if odd else {})


def _plain_texture(texture: Document) -> Document:
    source = texture.get("source", texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source"))
    return {} if source is None else {"source": source}


def _base_colour(material: Document) -> Document:
    factor, texture = _base_texture(material)
    base: Document = {}
    if factor is not None:
        base["baseColorFactor"] = factor
    if texture is not None:
        base["baseColorTexture"] = {"index": texture["index"]}
    return {"pbrMetallicRoughness": base, "name": "" if texture is None else TEXTURED}


def _base_texture(material: Document) -> tuple[Any, Any]:
    """The base colour's factor and texture; None where there is none."""
    metal = material.get("pbrMetallicRoughness", {})
    gloss = material.get("extensions", {}).get(_SPECULAR, {})
    factor = metal.get("baseColorFactor", gloss.get("diffuseFactor"))
    return factor, metal.get("baseColorTexture", gloss.get("diffuseTexture"))
