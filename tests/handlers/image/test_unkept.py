"""Content of a picture's file that is not carried over is reported, and keeps the original."""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tasktrail.handlers import Finished, Rejected, Unusable
from tasktrail.handlers.image.convert import image_convert, result_check
from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.handlers.image.convert.probe import read_header
from tasktrail.handlers.image.convert.result_check import check_result
from tasktrail.handlers.image.convert.unkept import unkept_in
from tasktrail.testing import RecordingContext, run_handler

FILM = b"\0\0\0\x18ftypmp42" + bytes(40)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description %s/></x:xmpmeta>'

Why = Callable[..., str]


@pytest.fixture
def why(tmp_path: Path) -> Why:
    def convert(source: Path, suffix: str, **options: Any) -> str:
        """Convert, and return why the original stays."""
        context = RecordingContext(
            msgspec.convert(options, ImageConvertOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / f"out{suffix}",
        )
        outcome = run_handler(image_convert, context)
        assert isinstance(outcome, Finished), outcome
        context.output_file.rename(context.output_part)
        return check_result(context, outcome.result)

    return convert


def noise(mode: str = "RGB") -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise((60, 40), 60)] * 3).convert(mode)


def with_segment(jpeg: Path, mark: int, content: bytes) -> None:
    data = jpeg.read_bytes()
    jpeg.write_bytes(data[:2] + struct.pack(">BBH", 0xFF, mark, len(content) + 2) + content + data[2:])


def photoshop(number: int) -> bytes:
    return b"Photoshop 3.0\0" + struct.pack(">4sHHL", b"8BIM", number, 0, 4) + b"path"


@pytest.mark.parametrize(
    ("mark", "content", "words"),
    [
        (0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\0\0", ""),
        (0xEC, b"Ducky\0", ""),
        (0xED, photoshop(0x0404), ""),
        (0xED, photoshop(0x040C), ""),
        (0xED, photoshop(2000), "clipping paths"),
        (0xED, photoshop(4000), "Photoshop's resource 4000"),
        (0xE1, b"FLIR\0\1", "the segment APP1 'FLIR'"),
        (0xEB, b"JP\0\0", "the segment APP11 'JP'"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40), "the second part of XMP"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % b'hdrgm:Version="1.0"', "the gain map for bright screens"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % b'GCamera:MotionPhoto="1"', "the film of a motion photo"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % b'dc:title="sea"', ""),
    ],
)
def test_segments_of_a_jpeg_that_are_on_no_list_are_told(
    why: Why, tmp_path: Path, mark: int, content: bytes, words: str
) -> None:
    noise().save(tmp_path / "in.jpg")
    with_segment(tmp_path / "in.jpg", mark, content)
    assert why(tmp_path / "in.jpg", ".jpg") == (f"not carried over: {words}" if words else "")


@pytest.mark.parametrize("name", ["in.jpg", "in.png", "in.gif", "in.webp"])
def test_a_film_behind_the_picture_keeps_the_original(why: Why, tmp_path: Path, name: str) -> None:
    noise("L").save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole + bytes(9))
    assert why(tmp_path / name, ".png") == "", "this is filling"
    (tmp_path / name).write_bytes(whole + b"x")
    assert why(tmp_path / name, ".png") == "not carried over: 1 byte after the picture's end"
    (tmp_path / name).write_bytes(whole + FILM)
    told = f"not carried over: {len(FILM)} bytes after the picture's end, a film"
    assert why(tmp_path / name, ".png", metadata="strip") == told, "nobody has asked to leave this out"


def test_what_only_says_something_may_be_asked_to_be_left_out(why: Why, tmp_path: Path) -> None:
    noise().save(tmp_path / "in.jpg")
    with_segment(tmp_path / "in.jpg", 0xEB, b"JP\0\0")
    assert why(tmp_path / "in.jpg", ".jpg", metadata="strip") == ""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        (b"gAMA", struct.pack(">L", 45_455), ""),
        (b"gAMA", struct.pack(">L", 100_000), "the colours of the chunk gAMA"),
        (b"cICP", b"\x09\x10\0\1", "the chunk cICP"),
        (b"prVW", b"layers", "the chunk prVW"),
        (b"tIME", bytes(7), ""),
    ],
)
def test_chunks_of_a_png_that_are_on_no_list_are_told(
    why: Why, tmp_path: Path, kind: bytes, content: bytes, words: str
) -> None:
    noise().save(tmp_path / "in.png")
    data = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(data[:33] + chunk(kind, content) + data[33:])
    assert why(tmp_path / "in.png", ".webp") == (f"not carried over: {words}" if words else "")


def test_parts_of_a_webp_and_of_a_gif_that_are_on_no_list_are_told(why: Why, tmp_path: Path) -> None:
    noise().save(tmp_path / "in.webp")
    data = (tmp_path / "in.webp").read_bytes() + b"DEEP\4\0\0\0map."
    (tmp_path / "in.webp").write_bytes(data[:4] + struct.pack("<L", len(data) - 8) + data[8:])
    assert why(tmp_path / "in.webp", ".png") == "not carried over: the part 'DEEP'"
    noise("P").save(tmp_path / "in.gif")
    data = (tmp_path / "in.gif").read_bytes()
    (tmp_path / "in.gif").write_bytes(data[:-1] + b"!\xff\x0bSOMEPROGRAM\4data\0;")
    assert why(tmp_path / "in.gif", ".png") == "not carried over: the part 'SOMEPROGRAM'"


@pytest.mark.parametrize(
    ("tag", "kind", "value", "words"),
    [
        (270, 2, "a scan", ""),
        (37_724, 7, b"Adobe Photoshop Document Data Block\0", "layers"),
        (33_550, 12, (1.0, 1.0, 0.0), "the tag 33550"),
        (34_377, 7, photoshop(2001)[14:], "clipping paths"),
    ],
)
def test_tags_of_a_tiff_that_are_on_no_list_are_told(
    why: Why, tmp_path: Path, tag: int, kind: int, value: Any, words: str
) -> None:
    tags = ImageFileDirectory_v2()
    tags[tag] = value
    tags.tagtype[tag] = kind
    noise().save(tmp_path / "in.tif", tiffinfo=tags)
    assert why(tmp_path / "in.tif", ".tif") == (f"not carried over: {words}" if words else "")


def pages(path: Path, second: Image.Image, **more: Any) -> Path:
    noise().save(path, save_all=True, append_images=[second], **more)
    return path


def test_what_only_further_pages_have_is_told(why: Why, tmp_path: Path) -> None:
    deep = Image.frombytes("I;16", (60, 40), bytes(4800))
    told = "not carried over: more than 8 bits a channel of further pages"
    assert why(pages(tmp_path / "deep.tif", deep), ".tif") == told
    assert why(tmp_path / "deep.tif", ".png", frames="first").startswith("only the first"), "which says it all"
    told = "not carried over: the inks of further pages"
    assert why(pages(tmp_path / "inks.tif", noise("CMYK")), ".tif") == told
    assert why(pages(tmp_path / "plain.tif", noise("L")), ".tif") == ""


def test_numbers_on_a_further_page_are_refused_as_on_the_first(tmp_path: Path) -> None:
    context = RecordingContext(
        ImageConvertOptions(),
        work_dir=tmp_path / "work",
        input_file=pages(tmp_path / "in.tif", noise("F")),
        output_file=tmp_path / "out.tif",
    )
    outcome = run_handler(image_convert, context)
    assert isinstance(outcome, Rejected)
    assert ", page 2 holds floating-point numbers" in outcome.reason


@pytest.mark.parametrize("name", ["in.jpg", "in.png", "in.webp", "in.gif", "in.tif", "big.tif", "in.bmp", "in.avif"])
def test_a_file_that_makes_no_sense_is_told_as_far_as_it_does(tmp_path: Path, name: str) -> None:
    more: dict[str, Any] = {"big_tiff": True} if name == "big.tif" else {}
    noise("L").save(tmp_path / name, **more)
    whole, draw = (tmp_path / name).read_bytes(), random.Random(7)
    kind = read_header(tmp_path / name).format
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(draw.randrange(1, 9)):
            broken[draw.randrange(min(len(broken), 400))] = draw.choice((0, 1, 127, 255, draw.randrange(256)))
        (tmp_path / "broken").write_bytes(broken[: draw.choice((len(broken), draw.randrange(len(broken))))])
        assert len(unkept_in(tmp_path / "broken", kind, pages=True)) <= 20


def test_an_avif_with_colours_or_pictures_beside_it_is_told(why: Why, tmp_path: Path) -> None:
    noise().save(tmp_path / "in.avif")
    assert why(tmp_path / "in.avif", ".png") == ""
    data = (tmp_path / "in.avif").read_bytes()
    place = data.index(b"nclx") + 4
    (tmp_path / "in.avif").write_bytes(data[:place] + struct.pack(">HH", 9, 16) + data[place + 4 :])
    assert "brightness of kind 16" in why(tmp_path / "in.avif", ".png")
    Image.new("RGBA", (40, 40), (9, 9, 9, 99)).save(tmp_path / "alpha.avif")
    assert why(tmp_path / "alpha.avif", ".png") == ""
    data = (tmp_path / "alpha.avif").read_bytes()
    (tmp_path / "alpha.avif").write_bytes(data.replace(b"auxiliary:alpha", b"auxiliary:depth"))
    assert "auxiliary:depth" in why(tmp_path / "alpha.avif", ".png")


def test_a_result_that_is_too_large_for_pillow_is_checked(
    why: Why, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was converted completely, and then the task failed."""
    monkeypatch.setattr(result_check, "MAX_PILLOW_PIXELS", 100)
    noise().save(tmp_path / "in.png")
    assert why(tmp_path / "in.png", ".jpg") == ""
    Image.new("RGBA", (40, 40)).save(tmp_path / "in.png")
    assert why(tmp_path / "in.png", ".jpg") == "transparent parts became #ffffff"


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_a_result_that_cannot_be_decoded_is_an_error(tmp_path: Path, suffix: str) -> None:
    context = RecordingContext(
        ImageConvertOptions(), work_dir=tmp_path, input_file=tmp_path / "in.png", output_file=tmp_path / f"out{suffix}"
    )
    noise().save(tmp_path / "in.png")
    noise().save(context.output_part, format="BMP" if suffix == ".bmp" else "JPEG")
    data = context.output_part.read_bytes()
    context.output_part.write_bytes(data[: len(data) // 2])
    with pytest.raises(Unusable, match="it was cut"):
        check_result(context, {"frames": 1})


@pytest.mark.parametrize(("alpha", "words"), [(255, ""), (254, "transparent parts became #ffffff")])
def test_only_transparency_that_can_be_seen_keeps_the_original(
    why: Why, tmp_path: Path, alpha: int, words: str
) -> None:
    Image.new("RGBA", (40, 40), (9, 9, 9, alpha)).save(tmp_path / "in.png")
    assert why(tmp_path / "in.png", ".jpg") == words
    assert why(tmp_path / "in.png", ".webp") == ""


@pytest.mark.parametrize("source", ["in.jpg", "in.png", "in.tif", "in.bmp"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp", ".avif"])
def test_a_resolution_stays(why: Why, tmp_path: Path, source: str, suffix: str) -> None:
    """The resolution of a jpeg without EXIF was dropped."""
    noise().save(tmp_path / source, dpi=(300, 300))
    assert why(tmp_path / source, suffix) == ""
    written = next(tmp_path.glob(".out*"))
    with Image.open(written) as picture:
        found = picture.info.get("dpi") or (picture.getexif()[0x011A], picture.getexif()[0x011B])
    assert [round(float(one)) for one in found] == [300, 300]


def test_the_resolution_of_all_pages_stays(why: Why, tmp_path: Path) -> None:
    assert why(pages(tmp_path / "in.tif", noise("L"), dpi=(300, 300)), ".tif") == ""
    with Image.open(next(tmp_path.glob(".out*"))) as picture:
        for number in range(2):
            picture.seek(number)
            assert picture.info["dpi"] == (300, 300)


def test_a_resolution_that_is_lost_is_told_where_somebody_has_chosen_it(why: Why, tmp_path: Path) -> None:
    for number, told in ((72, ""), (300, "not kept in gif: resolution")):
        noise("L").save(tmp_path / "in.png", dpi=(number, number))
        assert why(tmp_path / "in.png", ".gif") == told
