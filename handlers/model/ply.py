"""Binary PLY made into triangles, because trimesh expects all faces to have as many corners as the first."""

from array import array
from struct import Struct
from typing import Any

import numpy as np

from ..contract import Unusable
from .counting import PLY_KINDS, PlyElement, PlyHeader

NOT_THERE = "faces of the model have corners that are not there"
_PLY_NAMES = {kind: name for name, kind in reversed(PLY_KINDS.items())}
_CORNERS = ("vertex_indices", "vertex_index")
_COLOURS = ("red", "green", "blue", "alpha")
_TRIANGLE = 3


def triangles_of_ply(header: PlyHeader, whole: bytes) -> bytes | None:
    """The binary model with triangles only, with the faces' colours; None if it needs no change.

    Raises:
        Unusable: the file has fewer faces than its header claims, or is invalid.
    """
    order = ">" if b"format binary_big_endian" in header.head else "<"
    elements = header.elements
    names = [element.name for element in elements]
    if "face" not in names or any(
        length for element in elements[: names.index("face")] for *_, length in element.parts
    ):
        return None
    place = whole.index(b"\n", len(header.head)) + 1
    before = b""
    for element in elements[: names.index("face")]:
        size = element.records * sum(np.dtype(kind).itemsize for _, kind, _ in element.parts)
        before += whole[place : place + size] if element.name == "vertex" else b""
        place += size
    faces = elements[names.index("face")]
    table = _face_table(whole, place, faces, order)
    if table is None:
        return None
    triangles: bytes = table.tobytes()
    return _header(elements, table, order).encode("latin-1") + before + triangles


def _header(elements: list[PlyElement], table: Any, order: str) -> str:
    lines = ["ply", f"format binary_{'big' if order == '>' else 'little'}_endian 1.0"]
    for element in elements:
        if element.name == "vertex":
            lines.append(f"element vertex {element.records}")
            lines += [f"property {_PLY_NAMES[kind]} {name}" for name, kind, _ in element.parts]
    lines += [f"element face {len(table)}", "property list uchar int vertex_indices"]
    lines += [f"property {_PLY_NAMES[table.dtype[name].str[1:]]} {name}" for name in table.dtype.names[2:]]
    return "\n".join([*lines, "end_header\n"])


def _face_table(whole: bytes, place: int, faces: PlyElement, order: str) -> Any:
    """The triangles as records of a file; None if all faces are triangles already, or have no vertices."""
    corners = next((number for number, (name, *_) in enumerate(faces.parts) if name in _CORNERS), None)
    if corners is None or not faces.parts[corners][2] or not faces.records:
        return None
    starts, lengths = _walk(whole, place, faces._replace(records=1), order)
    counts = [int(many[0]) for many in lengths]
    size = _size_if_all_have(counts, whole, place, faces, order)
    if size and counts[corners] == _TRIANGLE:
        return None
    if size:
        starts = [one[0] + size * np.arange(faces.records) for one in starts]
        lengths = [np.full(faces.records, count) for count in counts]
    else:
        starts, lengths = _walk(whole, place, faces, order)
    data = np.frombuffer(whole, dtype=np.uint8)

    def numbers(starts: Any, kind: str, count: int) -> Any:
        each = np.dtype(order + kind)
        return data[starts[:, None] + np.arange(count * each.itemsize)].view(each)

    triangles, owners = [np.empty((0, 3), dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for count in np.unique(lengths[corners]):
        if count >= _TRIANGLE:
            chosen = np.flatnonzero(lengths[corners] == count)
            ring = numbers(starts[corners][chosen], faces.parts[corners][1], count).astype(np.int64)
            first = np.broadcast_to(ring[:, :1], ring[:, 2:].shape)
            triangles.append(np.stack((first, ring[:, 1:-1], ring[:, 2:]), axis=2).reshape(-1, 3))
            owners.append(np.repeat(chosen, count - 2))
    every, owner = np.concatenate(triangles), np.concatenate(owners)
    if len(every) and not 0 <= every.min() <= every.max() <= np.iinfo(np.int32).max:
        raise Unusable(NOT_THERE)
    coloured = [(number, name, kind) for number, (name, kind, _) in enumerate(faces.parts) if name in _COLOURS]
    columns = [("n", "u1"), ("v", order + "i4", 3), *((name, order + kind) for _, name, kind in coloured)]
    table = np.empty(len(every), columns)
    table["n"], table["v"] = _TRIANGLE, every
    for number, name, kind in coloured:
        table[name] = numbers(starts[number], kind, 1)[owner, 0]
    return table


def _size_if_all_have(counts: list[int], whole: bytes, place: int, faces: PlyElement, order: str) -> int:
    """Bytes of one face, if all lists are as long as `counts` says; else 0."""
    columns: list[Any] = []
    for number, (count, (_, kind, length)) in enumerate(zip(counts, faces.parts, strict=True)):
        columns += [(f"length{number}", order + length)] if length else []
        columns.append((f"part{number}", order + kind, count))
    record = np.dtype(columns)
    if place + faces.records * record.itemsize > len(whole):
        return 0
    table = np.frombuffer(whole, record, faces.records, place)
    lists = [number for number, (*_, length) in enumerate(faces.parts) if length]
    return record.itemsize if all((table[f"length{number}"] == counts[number]).all() for number in lists) else 0


def _walk(whole: bytes, place: int, faces: PlyElement, order: str) -> tuple[list[Any], list[Any]]:
    """For each property, its place in the file and its number of values, one entry per face."""
    starts: list[array[int]] = [array("q") for _ in faces.parts]
    lengths: list[array[int]] = [array("q") for _ in faces.parts]
    plan = [
        (start, many, np.dtype(kind).itemsize, Struct(order + np.dtype(length).char) if length else None)
        for start, many, (_, kind, length) in zip(starts, lengths, faces.parts, strict=True)
    ]
    for _ in range(faces.records):
        for start, many, size, length in plan:
            count = 1
            if length is not None:
                count = int(length.unpack_from(whole, place)[0]) if place + length.size <= len(whole) else -1
                place += length.size
            start.append(place)
            many.append(count)
            place += size * count
            if count < 0 or place > len(whole):
                raise Unusable("the faces of the model have more corners than the file holds, or fewer than none")
    return [np.array(one) for one in starts], [np.array(one) for one in lengths]
