"""Photos as cameras, phones and programs store them, and what Pillow sees in a file, to compare ours with."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyvips
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from tasktrail.handlers.image.opening import READ_FORMATS

assert "HEIF" in READ_FORMATS  # adds heic to Pillow

Save: TypeAlias = Callable[[Image.Image, Path, int], None]
_ORIENTATION, _GPS, _EXIF, _MAKER_NOTE = 0x0112, 0x8825, 0x8769, 0x927C
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class Kind(NamedTuple):
    """One way to store a photo."""

    suffix: str
    save: Save
    oriented: bool = True
    """Whether it can store an orientation."""
    slack: float = 1.5
    """The mean difference allowed between ours and Pillow's, of 255: libvips rounds differently."""


def camera_tags(orientation: int, *, much: bool = True) -> bytes:
    """Return EXIF as a camera writes it: with the place, a note of the maker's, and odd numbers."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    if much:
        exif.update({0x010F: "Kamera Werke", 0x0110: "KW-7 Mark II", 0x0131: "fw 1.02", 0x0132: "2024:05:17 18:03:22"})
        exif.update({0x011A: 72.0, 0x011B: 72.0, 0x0128: 2, 0x0213: 2, 0x013B: "Jörg", 0x8298: ""})
        exif.get_ifd(_GPS).update({1: "N", 2: (47.0, 22.0, 10.25), 3: "E", 4: (8.0, 32.0, 30.5), 5: b"\0", 6: 408.2})
        exif.get_ifd(_EXIF).update({0x829A: (1, 250), 0x829D: (28, 10), 0x8827: 400, 0x9003: "2024:05:17 18:03:22"})
        exif.get_ifd(_EXIF)[_MAKER_NOTE] = bytes(range(256)) * 8
    return exif.tobytes()


def profile(name: str) -> bytes:
    """Return a colour profile that libvips contains: p3, cmyk."""
    found: bytes = pyvips.Operation.call("profile_load", name)
    return found


def _pillow(mode: str = "RGB", *, icc: str = "", much: bool = True, **how: Any) -> Save:
    def save(picture: Image.Image, path: Path, orientation: int) -> None:
        stored = _inked(picture) if mode == "CMYK" else _in_mode(picture, mode)
        more: dict[str, Any] = {"icc_profile": profile(icc)} if icc else {}
        tags = camera_tags(orientation, much=much and path.suffix not in (".tif", ".tiff"))  # Pillow cannot write more
        stored.save(path, exif=tags, **more, **how)

    return save


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    match mode:
        case "RGBA":
            clear = picture.convert("RGBA")
            clear.putalpha(Image.linear_gradient("L").resize(picture.size))
            return clear
        case "LA":
            return _in_mode(picture, "RGBA").convert("LA")
        case "P":
            return picture.quantize(200)
        case "I;16":
            return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        case _:
            return picture.convert(mode)


def _inked(picture: Image.Image) -> Image.Image:
    """Write a picture for a printer, with a profile in the file."""
    inks = ImageCms.ImageCmsProfile(BytesIO(profile("cmyk")))
    inked = ImageCms.profileToProfile(picture, _SRGB, inks, outputMode="CMYK")
    assert inked is not None
    return inked


def _libvips(*, deep: bool = False, **how: Any) -> Save:
    """Write formats that Pillow cannot write."""

    def save(picture: Image.Image, path: Path, orientation: int) -> None:
        pixels = np.asarray(picture)
        image = pyvips.Image.new_from_array(pixels.astype(np.uint16) * 257 if deep else pixels)
        image = image.copy(interpretation="rgb16" if deep else "srgb")
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        image.write_to_file(str(path), **how)

    return save


def _tags_behind(picture: Image.Image, path: Path, orientation: int) -> None:
    picture.save(path)
    data = b"eXIf" + camera_tags(orientation).removeprefix(b"Exif\0\0")
    content = path.read_bytes()
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    path.write_bytes(content[:-12] + chunk + content[-12:])


def _with_preview(picture: Image.Image, path: Path, orientation: int) -> None:
    preview = picture.resize((160, 120)).convert("L")
    picture.save(path, "MPO", save_all=True, append_images=[preview], exif=camera_tags(orientation), quality=92)


def _transparent_colour(picture: Image.Image, path: Path, _orientation: int) -> None:
    picture.save(path, transparency=picture.getpixel((0, 0)))


def _with_text(picture: Image.Image, path: Path, orientation: int) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("Title", "Über dem See", "de", "Titel", zip=True)
    picture.save(path, exif=camera_tags(orientation), pnginfo=notes, dpi=(300, 300))


def _truncate_palette(picture: Image.Image, path: Path, _orientation: int) -> None:
    picture.quantize(7).save(path)


KINDS: dict[str, Kind] = {
    "jpeg of a phone": Kind(".jpg", _pillow(quality=88, icc="p3")),
    "jpeg of a camera": Kind(".JPG", _pillow(quality=97, subsampling="4:2:2", comment=b"OLYMPUS DIGITAL CAMERA")),
    "jpeg without more": Kind(".jpeg", _pillow(much=False, quality=60)),
    "jpeg 4:4:4": Kind(".jpg", _pillow(quality=90, subsampling="4:4:4")),
    "progressive jpeg": Kind(".jpg", _pillow(quality=85, progressive=True, optimize=True)),
    "jpeg with restarts": Kind(".jpg", _pillow(quality=85, restart_marker_rows=1)),
    "grey jpeg": Kind(".jpg", _pillow("L", quality=85)),
    "cmyk jpeg": Kind(".jpg", _pillow("CMYK", icc="cmyk", quality=95)),
    "jpeg with a preview": Kind(".jpg", _with_preview),
    "png": Kind(".png", _pillow()),
    "png with a profile": Kind(".png", _pillow(icc="p3")),
    "png with text": Kind(".png", _with_text),
    "png with alpha": Kind(".png", _pillow("RGBA")),
    "grey png with alpha": Kind(".png", _pillow("LA")),
    "grey png": Kind(".png", _pillow("L")),
    "png with a palette": Kind(".png", _pillow("P")),
    "png with few colours": Kind(".png", _truncate_palette, oriented=False),
    "png of one bit": Kind(".png", _pillow("1")),
    "png of 16 bits": Kind(".png", _libvips(deep=True)),
    "grey png of 16 bits": Kind(".png", _pillow("I;16")),
    "interlaced png": Kind(".png", _libvips(interlace=True)),
    "png with its tags behind": Kind(".png", _tags_behind),
    "png with a clear colour": Kind(".png", _transparent_colour, oriented=False),
    "webp": Kind(".webp", _pillow(quality=85)),
    "webp without loss": Kind(".webp", _pillow(lossless=True)),
    "webp with alpha": Kind(".webp", _pillow("RGBA", quality=85)),
    "webp with a profile": Kind(".webp", _pillow(quality=90, icc="p3")),
    "tiff": Kind(".tif", _pillow()),
    "tiff, lzw": Kind(".tiff", _pillow(compression="tiff_lzw")),
    "tiff, deflate": Kind(".tif", _pillow(compression="tiff_adobe_deflate")),
    "tiff, packbits": Kind(".tif", _pillow(compression="packbits")),
    "tiff, jpeg": Kind(".tif", _pillow(compression="jpeg", quality=90)),
    "tiff, lzma": Kind(".tif", _pillow(compression="lzma")),
    "tiff with alpha": Kind(".tif", _pillow("RGBA")),
    "cmyk tiff": Kind(".tif", _pillow("CMYK", icc="cmyk")),
    "tiff with a palette": Kind(".tif", _pillow("P")),
    "tiff of a fax": Kind(".tif", _pillow("1", compression="group4")),
    "grey tiff of 16 bits": Kind(".tif", _pillow("I;16")),
    "big tiff": Kind(".tif", _pillow(big_tiff=True)),
    "tiff in tiles": Kind(".tif", _libvips(tile=True, tile_width=128, tile_height=128, compression="deflate")),
    "tiff of 16 bits": Kind(".tif", _libvips(deep=True, compression="lzw")),
    "tiff with a pyramid": Kind(".tif", _libvips(tile=True, pyramid=True, subifd=True)),
    "gif": Kind(".gif", _pillow("P"), oriented=False),
    "bmp": Kind(".bmp", _pillow(), oriented=False),
    "bmp with a palette": Kind(".bmp", _pillow("P"), oriented=False),
    "grey bmp": Kind(".bmp", _pillow("L"), oriented=False),
    "bmp of one bit": Kind(".bmp", _pillow("1"), oriented=False),
    "avif": Kind(".avif", _pillow(quality=80, speed=9)),
    "avif 4:4:4": Kind(".avif", _pillow(quality=90, subsampling="4:4:4", speed=9)),
    "avif with alpha": Kind(".avif", _pillow("RGBA", quality=85, speed=9)),
    "avif of 10 bits": Kind(".avif", _libvips(deep=True, bitdepth=10, Q=85, effort=0), oriented=False, slack=2.5),
    "heic": Kind(".heic", _pillow(format="HEIF", quality=80)),
    "heic with a profile": Kind(".heic", _pillow(format="HEIF", quality=80, icc="p3")),
    "heic with alpha": Kind(".heic", _pillow("RGBA", format="HEIF", quality=80)),
}
"""Name → how it is stored."""


def seen(path: Path) -> Image.Image:
    """Return the first picture of the file by Pillow alone: upright, in sRGB, on white paper."""
    # Open the file instead of passing its name: Pillow mixes up width and height of a rotated tiff that it maps.
    with path.open("rb") as file, Image.open(file) as opened:
        opened.load()
        icc = opened.info.get("icc_profile")
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode == "P":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if icc and picture.mode in ("RGB", "RGBA", "CMYK"):
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        source = ImageCms.ImageCmsProfile(BytesIO(icc))
        converted = ImageCms.profileToProfile(picture, source, _SRGB, outputMode=mode)
        assert converted is not None
        picture = converted
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        paper = Image.new("RGBA", clear.size, "white")
        paper.alpha_composite(clear)
        picture = paper
    return picture.convert("RGB")


def difference(found: Image.Image, wanted: Image.Image) -> float:
    """Return the mean difference of the pixels, of 255; 255 for another size."""
    if found.size != wanted.size:
        return 255.0
    return float(np.abs(np.asarray(found, dtype=np.int16) - np.asarray(wanted, dtype=np.int16)).mean())
