"""The number of pages of a picture."""

import struct
from pathlib import Path

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasktrail.handlers import Unusable
from tasktrail.handlers.image.opening import _tiff_pages, open_picture, pages_in


def directories(count: int, *, order: str = "<", last: int = 0) -> bytes:
    """Make a TIFF of `count` pages of one pixel; the last one says where the next one is."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    mark = b"II" if order == "<" else b"MM"
    body = struct.pack(f"{order}H", len(tags))
    for tag, value in tags.items():
        body += struct.pack(f"{order}HHI", tag, 3, 1) + struct.pack(f"{order}HH", value, 0)
    out = bytearray(mark + struct.pack(f"{order}HI", 42, 12) + b"\x80\0\0\0")
    for number in range(count):
        following = 12 + (len(body) + 4) * (number + 1) if number + 1 < count else last
        out += body + struct.pack(f"{order}I", following)
    return bytes(out)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_count_is_that_of_pillow(tmp_path: Path, count: int, order: str) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(directories(count, order=order))

    with Image.open(path) as image:
        assert pages_in(image, path) == count == getattr(image, "n_frames")  # noqa: B009 - the class does not declare it


@pytest.mark.parametrize("big", [False, True])
def test_what_pillow_has_written_is_counted(tmp_path: Path, *, big: bool) -> None:
    path = tmp_path / "a.tiff"
    pages = [Image.new("RGB", (3, 2), (shade, 0, 0)) for shade in range(5)]
    pages[0].save(path, save_all=True, append_images=pages[1:], big_tiff=big)

    with Image.open(path) as image:
        assert pages_in(image, path) == 5


@pytest.mark.parametrize("big", [False, True])
def test_smaller_copies_of_the_picture_are_no_pages(tmp_path: Path, *, big: bool) -> None:
    """Viewers of large pictures want them. They were taken for pages, of which a png or a webp has no use."""
    path = tmp_path / "a.tiff"
    pyvips.Image.black(600, 400).write_to_file(str(path), tile=True, pyramid=True, bigtiff=big)

    with Image.open(path) as image:
        assert getattr(image, "n_frames") > 1  # noqa: B009 - the class does not declare it
        assert pages_in(image, path) == 1


def raw(colours: int, *, order: str = "<", below: bool = True) -> bytes:
    """Make a TIFF with a preview of one pixel; what `colours` says is in a directory below it, or in the first one."""
    preview = directories(1, order=order)
    tags = {254: 1, 256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1, 330: len(preview)}
    if not below:
        tags[262] = colours
    sub = struct.pack(f"{order}HHHI", 1, 262, 3, 1) + struct.pack(f"{order}HHI", colours, 0, 0)
    first = struct.pack(f"{order}H", len(tags))
    for tag, value in tags.items():
        form, value_of = ("I", (value,)) if tag == 330 else ("HH", (value, 0))
        first += struct.pack(f"{order}HHI{form}", tag, 4 if tag == 330 else 3, 1, *value_of)
    place = struct.pack(f"{order}I", len(preview) + len(sub))
    return preview[:4] + place + preview[8:] + sub + first + bytes(4)


@pytest.mark.parametrize(
    "content",
    [
        raw(32803),
        raw(34892, order=">"),
        raw(32803, below=False),
        b"II*\0\x10\0\0\0CR\x02\0" + bytes(4) + directories(1)[12:],
    ],
)
def test_the_raw_data_of_a_camera_are_refused(content: bytes, tmp_path: Path) -> None:
    """Its small preview was taken for the picture, and the original could have been replaced by that."""
    path = tmp_path / "in.dng"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=r"in\.dng is the raw data of a camera"), open_picture(path, 10_000):
        pass


def test_a_directory_below_the_first_makes_no_raw_data(tmp_path: Path) -> None:
    (tmp_path / "in.tif").write_bytes(raw(1))
    pyvips.Image.black(600, 400).write_to_file(str(tmp_path / "pyramid.tif"), tile=True, pyramid=True, subifd=True)
    for name in ("in.tif", "pyramid.tif"):
        with open_picture(tmp_path / name, 1_000_000) as image:
            assert image.format == "TIFF"


def test_very_many_pages_are_counted_in_one_go(tmp_path: Path) -> None:
    """Pillow's own count of these would take minutes."""
    path = tmp_path / "a.tiff"
    path.write_bytes(directories(200_000))

    with Image.open(path) as image:
        assert pages_in(image, path) == 200_000


@pytest.mark.parametrize("last", [10_000, 400])
def test_a_file_that_was_cut_between_two_pages_is_refused(tmp_path: Path, last: int) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(directories(3, last=last)[:401])

    with Image.open(path) as image, pytest.raises(Unusable, match="was cut: its page 4 lies after"):
        pages_in(image, path)


def test_pages_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(directories(3, last=12))

    with Image.open(path) as image, pytest.raises(Unusable, match="in a circle"):
        pages_in(image, path)


@given(st.binary(max_size=200), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"]))
def test_a_broken_chain_is_counted_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "broken.tiff"
    path.write_bytes(head + rest)

    with path.open("rb") as file:
        try:
            assert 1 <= _tiff_pages(file, path.name, path.stat().st_size) <= len(rest) + 16
        except Unusable:
            return
