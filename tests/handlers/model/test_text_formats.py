"""Text formats as other programs write them: counted from the end, in another encoding, with broken lines."""

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import trimesh

from tasktrail.handlers import Rejected
from tasktrail.handlers.model import counting
from tasktrail.handlers.model.counting import count_faces
from tasktrail.handlers.model.preview import model_preview
from tasktrail.handlers.model.preview.estimate import estimate_for
from tasktrail.handlers.model.preview.options import ModelPreviewOptions
from tasktrail.testing import job_for, run_handler

RED = "0.9 0.1 0.1"
CORNERS = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACES = [(1, 3, 2), (1, 2, 4), (1, 4, 3), (2, 3, 4)]


def corners(shift: float = 0.0) -> str:
    return "".join(f"v {x + shift} {y} {z}\n" for x, y, z in CORNERS)


def faces(shape: str = "{}", offset: int = 0) -> str:
    return "".join(f"f {' '.join(shape.format(number + offset) for number in face)}\n" for face in FACES)


TWO = corners() + faces() + corners(3.0) + faces(offset=4)
"""Two tetrahedra, in the simplest form."""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(corners() + faces(offset=-5) + corners(3.0) + faces(offset=-5), id="counted from the end"),
        pytest.param(
            corners() + "vt 0 0\nvn 0 0 1\n" + faces("{}/-1/-1", -5) + corners(3.0) + faces("{}//-1", -5),
            id="with textures and normals",
        ),
        pytest.param(TWO.replace("\n", "\r\n"), id="windows"),
        pytest.param("\xef\xbb\xbf" + TWO, id="with a mark of UTF-8"),
        pytest.param(TWO.replace("\n", "\r"), id="old Macintosh"),
        pytest.param(TWO.replace("\n", "\r").replace(" 2\r", " \\\r2\r"), id="old Macintosh, broken lines"),
        pytest.param(("\ufeff# \u010av 9 9 9\n" + TWO).encode("utf-16-le").decode("latin-1"), id="UTF-16"),
        pytest.param(("\ufeff" + TWO).encode("utf-16-be").decode("latin-1"), id="UTF-16, the other way round"),
        pytest.param(TWO.replace(" 2\n", " \\\n2\n"), id="broken lines"),
        pytest.param(TWO.replace("f ", "f\t").replace("\n", " # so it is\n"), id="with comments"),
        pytest.param("mtllib a.mtl\no Terrain d\xe9j\xe0\n" + TWO + "usemtl Terraind\xfck\n", id="latin-1"),
    ],
)
def test_an_obj_comes_out_the_same_however_it_is_written(text: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "plain.obj").write_text(TWO)
    (tmp_path / "other.obj").write_bytes(text.encode("latin-1"))
    plain, expected = draw(tmp_path / "plain.obj", "plain.png")
    other, result = draw(tmp_path / "other.obj", "other.png")
    assert result["source_faces"] == expected["source_faces"] == 8
    assert result["source_bounds"] == [[0, 0, 0], [4, 1, 1]]
    assert np.array_equal(plain, other)


@pytest.mark.parametrize("suffix", ["stl", "obj", "ply", "off"])
def test_commas_in_numbers_are_named(suffix: str, prepare: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / f"box.{suffix}"
    how = {"file_type": "stl_ascii"} if suffix == "stl" else {"file_type": suffix}
    text = trimesh.creation.box().export(**how, **({"encoding": "ascii"} if suffix == "ply" else {}))
    head, mark, body = (text if isinstance(text, bytes) else text.encode()).rpartition(b"end_header")
    path.write_bytes(head + mark + body.replace(b".", b","))
    outcome = run_handler(model_preview, prepare(path))
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith(f"box.{suffix} has commas in its numbers")


def test_colours_of_the_vertices_of_an_obj_are_kept(draw: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "red.obj").write_text(corners().replace("\n", f" {RED}\n") + faces("{0}/{0}"))
    pixels, _ = draw(tmp_path / "red.obj")
    assert pixels[45, 60, 0] > 2 * pixels[45, 60, 2]


@pytest.mark.parametrize("suffix", ["stl", "ply", "off"])
def test_a_text_in_another_encoding_is_read(suffix: str, draw: Callable[..., Any], tmp_path: Path) -> None:
    box, name = trimesh.creation.box(), "Pi\xe8ce".encode("latin-1")
    path = tmp_path / f"box.{suffix}"
    if suffix == "stl":
        path.write_bytes(box.export(file_type="stl_ascii").encode().replace(b"solid", b"solid " + name, 1))
    elif suffix == "ply":
        head, end, body = box.export(file_type="ply").partition(b"end_header")
        path.write_bytes(head + b"comment " + name + b"\n" + end + body)
    else:
        path.write_bytes(box.export(file_type="off").encode().replace(b"OFF", b"OFF\n# " + name, 1))
    _, result = draw(path)
    assert result["source_faces"] == 12


@pytest.mark.parametrize(
    ("suffix", "change"),
    [*product(("stl", "ply", "off"), ("mark", "UTF-16", "old Macintosh")), ("stl", "capitals")],
)
def test_a_text_as_programs_of_windows_and_old_macintoshes_write_it_is_read(
    suffix: str, change: str, draw: Callable[..., Any], tmp_path: Path
) -> None:
    how = {"file_type": "stl_ascii"} if suffix == "stl" else {"file_type": suffix}
    text = trimesh.creation.box().export(**how, **({"encoding": "ascii"} if suffix == "ply" else {}))
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / f"plain.{suffix}").write_bytes(content)
    changed = (content.upper() if change == "capitals" else b"\xef\xbb\xbf" + content).replace(b"\n", b"\r\n")
    changed = changed.decode("utf-8-sig").encode("utf-16") if change == "UTF-16" else changed
    changed = content.replace(b"\n", b"\r") if change == "old Macintosh" else changed
    (tmp_path / f"other.{suffix}").write_bytes(changed)
    plain, other = (draw(tmp_path / f"{name}.{suffix}", f"{name}.png") for name in ("plain", "other"))
    assert np.array_equal(plain[0], other[0])
    assert plain[1]["source_faces"] == other[1]["source_faces"] == 12
    assert "notes" not in other[1]


def test_bytes_behind_the_last_face_of_an_stl_are_told(draw: Callable[..., Any], ball: Path, tmp_path: Path) -> None:
    """Some programs keep notes of their own there."""
    longer = tmp_path / "longer.stl"
    longer.write_bytes(ball.read_bytes() + b"made by hand")
    (plain, _), (pixels, result) = draw(ball, "plain.png"), draw(longer)
    assert np.array_equal(plain, pixels)
    assert result["source_faces"] == 1280
    assert result["notes"] == ["12 bytes behind the last face of the model are not read"]


def test_a_text_stl_is_read_once_whatever_its_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "box.stl"
    text = trimesh.creation.box().export(file_type="stl_ascii")
    path.write_text(text.replace("endf", "EndF").replace("\n", "\n" * 2_000_000, 1))
    reads: list[Path] = []
    blocks = counting._blocks

    def watched(path: Path) -> Iterator[bytes]:
        reads.append(path)
        yield from blocks(path)

    monkeypatch.setattr(counting, "_blocks", watched)
    assert count_faces(path).faces == 12
    assert reads == [path]


@pytest.mark.parametrize("form", ["obj", "off", "ascii", "binary_little_endian"])
def test_faces_of_four_corners_need_the_room_of_two_triangles(form: str, tmp_path: Path) -> None:
    side = 60
    points = [(x, y, 0) for x in range(side) for y in range(side)]
    quads = [(at, at + side, at + side + 1, at + 1) for at in range(side * (side - 1)) if (at + 1) % side]
    path = tmp_path / f"quads.{form if form in ('obj', 'off') else 'ply'}"
    path.write_bytes(text_of(form, points, quads))
    found = count_faces(path)
    assert found.faces == len(quads)
    assert found.triangles == pytest.approx(2 * len(quads), rel=0.03)
    job = job_for(ModelPreviewOptions(), path, tmp_path / "a.png")
    as_triangles = estimate_for(job, msgspec.structs.replace(found, faces=2 * len(quads), triangles=0))
    assert estimate_for(job, found).memory == pytest.approx(as_triangles.memory, rel=0.01)


def test_one_polygon_of_many_corners_says_nothing_of_the_other_faces(tmp_path: Path) -> None:
    path = tmp_path / "pipe.obj"
    faces = [f"f {at} {at + 1} {at + 2}" for at in range(1, 9_000)]
    faces[-1_000] = "f " + " ".join(map(str, range(1, 2_000)))
    path.write_text("\n".join([f"v {at} 0 0" for at in range(9_002)] + faces))
    assert count_faces(path).triangles == len(faces) - 1 + 1_997


@pytest.mark.parametrize("form", ["obj", "off", "ascii"])
@pytest.mark.parametrize("others", [0, 40])
def test_a_last_face_of_very_many_corners_counts_with_all_of_them(form: str, others: int, tmp_path: Path) -> None:
    """Its line is longer than what is usually looked at."""
    points = [(at, at * at, 0) for at in range(30_000)]
    faces = [(0, 1, 2)] * others + [tuple(range(30_000))]
    path = tmp_path / f"disc.{form if form in ('obj', 'off') else 'ply'}"
    path.write_bytes(text_of(form, points, faces))
    assert count_faces(path).triangles == others + 29_998


def test_the_usual_number_of_corners_is_sought_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sought for each of many faces, it took seconds."""
    asked: list[int] = []

    def middle(numbers: Sequence[int]) -> int:
        asked.append(len(numbers))
        return sorted(numbers)[len(numbers) // 2]

    monkeypatch.setattr(counting, "median", middle)
    (tmp_path / "in.obj").write_text(TWO)
    count_faces(tmp_path / "in.obj")
    assert asked == [2 * len(FACES)]


@pytest.mark.parametrize("zeros", [30, 400, 5_000])
def test_a_number_of_corners_may_have_any_length(zeros: int, tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n000000003{'1' * zeros} 1 2 3 4\n")
    assert count_faces(path).triangles in (1, 2)


@pytest.mark.parametrize("suffix", ["gltf", "glb"])
def test_a_gltf_of_the_first_version_is_refused_by_name(
    suffix: str, prepare: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / f"old.{suffix}"
    text = b'{"asset": {"version": "1.0"}, "buffers": {"b": {"uri": "b.bin"}}, "nodes": {}}'
    path.write_bytes(
        text if suffix == "gltf" else np.array([0x46546C67, 1, 20 + len(text), len(text), 0], "<u4").tobytes() + text
    )
    outcome = run_handler(model_preview, prepare(path))
    assert isinstance(outcome, Rejected)
    assert "glTF 1" in outcome.reason


def test_a_face_that_goes_on_over_very_many_lines_is_read_in_one_go(
    draw: Callable[..., tuple[Any, dict[str, Any]]], tmp_path: Path
) -> None:
    """Quadratic work on these blanks would take hours."""
    path = tmp_path / "continued.obj"
    path.write_bytes(b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3" + b"\\\n" * 1_000_000 + b"\n")

    _, result = draw(path)

    assert result["source_faces"] == 1


CUBE = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
BOTTOM: list[tuple[int, ...]] = [(0, 2, 6, 4)]
TOP: list[tuple[int, ...]] = [(1, 5, 7), (1, 7, 3)]
SIDES: list[tuple[int, ...]] = [(0, 4, 5, 1), (2, 3, 7, 6), (0, 1, 3, 2), (4, 6, 7, 5)]


def text_of(form: str, points: Sequence[tuple[int, int, int]], faces: Sequence[tuple[int, ...]]) -> bytes:
    """An OBJ, an OFF or, in any other form, a PLY of points and faces alone."""
    if form not in ("obj", "off"):
        return ply_of(form, points, faces)
    corners = [f"{'v ' if form == 'obj' else ''}{x} {y} {z}" for x, y, z in points]
    if form == "obj":
        lines = [*corners, *(f"f {' '.join(str(at + 1) for at in face)}" for face in faces)]
    else:
        lines = ["OFF", f"{len(points)} {len(faces)} 0", *corners]
        lines += [f"{len(face)} {' '.join(map(str, face))}" for face in faces]
    return "\n".join(lines).encode()


def ply_of(form: str, points: Sequence[tuple[int, int, int]], faces: Sequence[tuple[int, ...]]) -> bytes:
    """A PLY of points and faces alone."""
    head = f"ply\nformat {form} 1.0\nelement vertex {len(points)}\n" + "".join(
        f"property float {axis}\n" for axis in "xyz"
    )
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    if form == "ascii":
        rows: list[tuple[int, ...]] = [*points, *((len(face), *face) for face in faces)]
        return (head + "".join(" ".join(map(str, row)) + "\n" for row in rows)).encode()
    body = b"".join(struct.pack("<3f", *point) for point in points)
    return head.encode() + body + b"".join(struct.pack(f"<B{len(face)}i", len(face), *face) for face in faces)


def polygons(form: str, faces: list[tuple[int, ...]], colours: list[tuple[int, int, int]]) -> bytes:
    """Make a PLY whose faces have any number of corners, and a colour."""
    head = f"ply\nformat {form} 1.0\nelement vertex 8\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {len(faces)}\nproperty uchar red\nproperty list uchar int vertex_indices\n"
    head += "property uchar green\nproperty uchar blue\nend_header\n"
    order = ">" if form == "binary_big_endian" else "<"
    body = b""
    for corner in CUBE:
        body += b"%g %g %g\n" % corner if form == "ascii" else struct.pack(order + "3f", *corner)
    for face, (red, *others) in zip(faces, colours, strict=True):
        row = [red, len(face), *face, *others]
        kinds = f"{order}BB{len(face)}i2B"
        body += " ".join(map(str, row)).encode() + b"\n" if form == "ascii" else struct.pack(kinds, *row)
    return head.encode() + body


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("faces", [SIDES + BOTTOM + TOP, TOP + SIDES + BOTTOM, SIDES + BOTTOM])
def test_faces_of_a_ply_have_any_number_of_corners(
    form: str, faces: list[tuple[int, ...]], draw: Callable[..., Any], tmp_path: Path
) -> None:
    """trimesh assumes equal numbers in a binary file, and gives each polygon of a text file one colour."""
    path = tmp_path / "cube.ply"
    path.write_bytes(polygons(form, faces, [(220, 0, 0) if face in SIDES else (0, 0, 220) for face in faces]))
    side, result = draw(path, "side.png", view="front")
    bottom, _ = draw(path, "bottom.png", view="bottom")
    assert result["source_faces"] == sum(len(face) - 2 for face in faces)
    assert result["source_bounds"] == [[0, 0, 0], [1, 1, 1]]
    assert "notes" not in result
    assert side[45, 60, 0] > 2 * side[45, 60, 2]
    assert bottom[45, 60, 2] > 2 * bottom[45, 60, 0]


@pytest.mark.parametrize("corners", [3, 4])
def test_a_binary_ply_of_an_old_macintosh_is_read(corners: int, draw: Callable[..., Any], tmp_path: Path) -> None:
    """Lines of its header end with CR alone, and the first number behind it may begin with LF."""
    plain = ply_of("binary_little_endian", CUBE, [side[:corners] for side in SIDES])
    head, end, body = plain.partition(b"end_header\n")
    plain = head + end + (body := b"\n" + body[1:])
    (tmp_path / "plain.ply").write_bytes(plain)
    (tmp_path / "other.ply").write_bytes((head + end).replace(b"\n", b"\r") + body)
    before, after = (draw(tmp_path / f"{name}.ply", f"{name}.png") for name in ("plain", "other"))
    assert np.array_equal(before[0], after[0])
    assert before[1]["source_faces"] == after[1]["source_faces"]


def test_a_binary_ply_with_fewer_faces_than_it_promises_is_refused(prepare: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "cut.ply"
    whole = polygons("binary_little_endian", SIDES + TOP, [(9, 9, 9)] * 6)
    for cut in (1, 20, 60):
        path.write_bytes(whole[:-cut])
        outcome = run_handler(model_preview, prepare(path))
        assert isinstance(outcome, Rejected)
        assert "than the file holds" in outcome.reason
