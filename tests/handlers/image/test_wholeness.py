"""Only a file whose own structure proves it is called damaged; one that a library cannot read is reported as such."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pyvips
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tasktrail.handlers import Finished, Outcome, Rejected
from tasktrail.handlers.image.convert import image_convert, still
from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.handlers.image.opening import READ_FORMATS
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.image.thumbnail.options import ImageThumbnailOptions
from tasktrail.handlers.media.damage import fault_in
from tasktrail.testing import RecordingContext, run_handler

assert "HEIF" in READ_FORMATS  # the writer of the samples below

KINDS: dict[str, dict[str, Any]] = {
    "a.jpg": {},
    "b.jpg": {"progressive": True, "quality": 100},
    "c.png": {},
    "d.webp": {},
    "e.webp": {"lossless": True, "exif": Image.Exif().tobytes()},
    "f.gif": {},
    "g.tif": {},
    "h.tif": {"compression": "tiff_lzw"},
    "i.tif": {"big_tiff": True},
    "j.bmp": {},
    "k.avif": {},
    "l.heic": {"format": "HEIF"},
}


def both(path: Path) -> list[Outcome]:
    """Return what the two types make of it."""
    convert = RecordingContext(
        ImageConvertOptions(), work_dir=path.parent, input_file=path, output_file=path.parent / "out.png"
    )
    thumbnail = RecordingContext(
        ImageThumbnailOptions(), work_dir=path.parent, input_file=path, output_file=path.parent / "small.png"
    )
    return [run_handler(image_convert, convert), run_handler(image_thumbnail, thumbnail)]


def sample(folder: Path, name: str) -> Path:
    noise = Image.merge("RGB", [Image.effect_noise((200, 150), 80) for _ in range(3)])
    noise.save(folder / name, **KINDS[name])
    return folder / name


def test_a_gif_that_was_cut_where_its_end_mark_might_be_is_no_whole_one(tmp_path: Path) -> None:
    path = sample(tmp_path, "f.gif")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].rstrip(b"\0") + b";")  # after a zero the mark is accepted
    assert "cut" in fault_in(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_picture_has_no_fault_and_one_that_was_cut_anywhere_has(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path, name)
    assert fault_in(path) == ""
    content = path.read_bytes()
    for part in range(1, 20):
        path.write_bytes(content[: len(content) * part // 20])
        assert "cut" in fault_in(path), part
    path.write_bytes(content[:-1])
    assert "cut" in fault_in(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_that_was_cut_is_called_damaged_by_both_types(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for outcome in both(path):
        assert isinstance(outcome, Rejected)
        assert f"{name} is damaged: it was cut" in outcome.reason
        assert outcome.reason.endswith("get it anew, or save as png what another program shows of it, and take that")


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_wrong_checksums_and_packing_in_a_png_are_proof(tmp_path: Path) -> None:
    path = sample(tmp_path, "c.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "invalid" in fault_in(path) or "checksum" in fault_in(path)
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    path.write_bytes(png_of((b"IHDR", head), (b"IDAT", b"no zlib stream"), (b"IEND", b"")))
    assert "invalid" in fault_in(path)
    path.write_bytes(png_of((b"IHDR", head), (b"IDAT", zlib.compress(bytes(72))[:-6]), (b"IEND", b"")))
    assert "end of its pixels is missing" in fault_in(path)


def odd_png(path: Path) -> None:
    """Make a PNG of three bits a pixel, which no decoder knows; everything else is valid."""
    head = struct.pack(">IIBBBBB", 8, 8, 3, 0, 0, 0, 0)
    path.write_bytes(png_of((b"IHDR", head), (b"IDAT", zlib.compress(bytes(32))), (b"IEND", b"")))


def odd_bmp(path: Path) -> None:
    """Make a BMP with a compression that is meant for printers."""
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 24, 4, 192, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54 + 192, 0, 0, 54) + head + bytes(192))


def odd_tiff(path: Path) -> None:
    """Make a TIFF with a compression number of its own."""
    Image.effect_noise((8, 8), 80).save(path)
    content = path.read_bytes()
    entry = struct.pack("<HHI", 259, 3, 1)
    assert content.count(entry) == 1
    place = content.index(entry) + 8
    path.write_bytes(content[:place] + struct.pack("<H", 60_123) + content[place + 2 :])


def odd_jpeg(path: Path) -> None:
    """Make a JPEG marked as the lossless kind, which photographs never are."""
    Image.effect_noise((64, 64), 80).save(path)
    path.write_bytes(path.read_bytes().replace(b"\xff\xc0", b"\xff\xcb", 1))


@pytest.mark.parametrize(
    ("name", "make"), [("in.png", odd_png), ("in.bmp", odd_bmp), ("in.tif", odd_tiff), ("in.jpg", odd_jpeg)]
)
def test_a_whole_file_of_a_kind_that_is_not_known_is_not_called_damaged(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    assert fault_in(tmp_path / name) == ""
    for outcome in both(tmp_path / name):
        assert isinstance(outcome, Rejected)
        assert f"{name} cannot be read by Pillow" in outcome.reason
        assert "nothing proves that it is damaged" in outcome.reason
        assert "save it as png" in outcome.reason


def test_an_image_of_a_format_that_is_not_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Image.effect_noise((8, 8), 80).save(tmp_path / "in.ico")
    for outcome in both(tmp_path / "in.ico"):
        assert isinstance(outcome, Rejected)
        assert "is not an image in one of JPEG, " in outcome.reason
        assert outcome.reason.endswith("save it as png with a program that reads it, and take that")


def test_broken_tags_do_not_spoil_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "by the sea", 0x0132: "2020:01:02 03:04:05"})
    tags = bytearray(exif.tobytes())
    for place in range(14, len(tags), 3):
        tags[place] ^= 0xA5
    for name in ("in.jpg", "in.png", "in.webp"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / name, exif=bytes(tags))
        assert all(isinstance(outcome, Finished) for outcome in both(tmp_path / name))
    notes = PngInfo()
    notes.add_text("Raw profile type exif", "\nexif\n   12\nno hexadecimal digits\n")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "raw.png", pnginfo=notes)
    assert all(isinstance(outcome, Finished) for outcome in both(tmp_path / "raw.png"))


def test_what_libvips_cannot_write_is_no_fault_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still, "_saver", lambda _kind, _options, _bits: ("jpegsave_target", {"unheard_of": True}))
    path = sample(tmp_path, "a.jpg")
    outcome = both(path)[0]
    assert isinstance(outcome, Rejected)
    assert "a.jpg can be read, but libvips cannot write it as png" in outcome.reason
    assert "take another format" in outcome.reason


def test_what_libvips_cannot_read_is_read_by_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation in the wrong order, as was once requested: libvips says that it cannot read the file."""

    def out_of_order(path: Path, *_: object, **__: object) -> pyvips.Image:
        return pyvips.Image.new_from_file(str(path), access="sequential").rot180()

    monkeypatch.setattr(still, "shaped_still", out_of_order)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 1200), "red").save(tmp_path / "in.jpg", exif=exif)
    outcome = both(tmp_path / "in.jpg")[0]
    assert isinstance(outcome, Finished)
    assert (outcome.result["width"], outcome.result["height"]) == (1200, 40)
