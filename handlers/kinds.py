"""The kind of a file, by its first bytes: a name may lie, and a folder holds anything.

It serves to choose what to do with a file, not to trust it: the handler reads the whole file and may refuse it. No
media library is imported here, because the service imports this module.
"""

import os
import stat
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["image", "video", "audio", "document", "model"]

READERS: dict[Kind, tuple[str, ...]] = {
    "image": ("image_thumbnail", "image_convert"),
    "video": ("video_convert", "video_preview", "video_thumbnail", "audio_convert"),
    "audio": ("audio_convert",),
    "document": ("document_preview", "document_convert"),
    "model": ("model_preview",),
}
"""The built-in types that read each kind. A worker knows only the types that it runs, so it cannot ask the registry."""

_IN_WORDS: dict[Kind, str] = {
    "image": "an image",
    "video": "a video",
    "audio": "sound",
    "document": "a document",
    "model": "a 3-D model",
}

_HEAD = 4096
_TS_PACKETS = ((0, 188), (4, 192))
"""Where a packet of a transport stream has its mark, and how far on the next one is. Camcorders put a time before
each."""

_GIF = b"GIF8"

_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (_GIF, "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"II+\0", "image"),  # BigTIFF
    (b"MM\0+", "image"),
    (b"BM", "image"),
    (b"\0\0\x01\0", "image"),  # ico
    (b"8BPS", "image"),
    (b"\0\0\0\x0cjP  \r\n", "image"),  # JPEG 2000
    (b"\xff\x0a", "image"),  # JPEG XL, bare
    (b"\0\0\0\x0cJXL ", "image"),
    (b"%PDF-", "document"),
    (b"{\\rtf", "document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document"),  # Office up to 2003
    (b"fLaC", "audio"),
    (b"ID3", "audio"),
    *((bytes((0xFF, layer)), "audio") for layer in b"\xe2\xe3\xf2\xf3\xfa\xfb"),  # mp3, in its three versions
    *((bytes((0xFF, layer)), "audio") for layer in b"\xe4\xe5\xf4\xf5\xfc\xfd\xe6\xe7\xf6\xf7"),  # mp2, mp1
    *((bytes((0xFF, layer)), "audio") for layer in b"\xf0\xf1\xf8\xf9"),  # aac
    (b"APETAGEX", "audio"),
    (b"caff", "audio"),
    (b"wvpk", "audio"),
    (b"MAC ", "audio"),
    (b"#!AMR", "audio"),
    (b"FLV\x01", "video"),
    (b"\0\0\x01\xba", "video"),  # MPEG program stream
    (b"\0\0\x01\xb3", "video"),
    (bytes.fromhex("060e2b34020501010d01020101"), "video"),  # MXF
    *((bytes((0x1F, 7, 0, standard)), "video") for standard in (0x3F, 0xBF)),  # DV: of NTSC, of PAL
    (b"glTF", "model"),
    (b"ply\n", "model"),
    (b"ply\r", "model"),
)
_RIFF: dict[bytes, Kind] = {b"WEBP": "image", b"AVI ": "video", b"WAVE": "audio"}
_BRANDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"crx "), "image"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P ", b"aax "), "audio"),
}
"""The brands of ISO media files (mp4 and its relatives) that are not video."""
_BOXES = frozenset((b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
"""The first boxes of a QuickTime file without a brand."""
_NAMES: dict[Kind, str] = {
    "image": "jpg jpeg png gif webp tif tiff bmp heic heif avif jp2 jxl ico psd",
    "video": "mp4 m4v mov mkv webm avi wmv flv mpg mpeg ts mts m2ts 3gp ogv vob mxf dv",
    "audio": "mp3 m4a m4b aac flac wav ogg oga opus wma aif aiff mka",
    "document": "pdf docx xlsx pptx odt ods odp doc xls ppt rtf txt text md markdown",
    "model": "stl obj ply glb gltf off 3mf",
}
_BY_NAME = {f".{suffix}": kind for kind, suffixes in _NAMES.items() for suffix in suffixes.split()}
_OF_SOUND_BY_NAME = frozenset((".mka", ".wma", ".m4a", ".m4b", ".oga", ".opus", ".mp3", ".aac"))
"""Suffixes of files whose format may hold pictures or only sound."""
_MODELS_BY_NAME = frozenset((".stl", ".obj", ".off", ".gltf", ".3mf"))
"""Models whose first bytes say little."""
_DV_BLOCK, _DV_SECTIONS = 80, 5
"""Bytes of a block of DV, and how many kinds of them there are."""
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""The first bytes of a text in UTF-16 or UTF-32."""
_TEXTS_BY_NAME = frozenset((".txt", ".text", ".md", ".markdown"))
_PACKED_DOCUMENTS = frozenset((".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp"))


def kind_by_name(path: PurePath) -> Kind | None:
    """The kind that a file's name suggests; its content may differ."""
    return _BY_NAME.get(path.suffix.lower())


def kind_of(path: Path) -> Kind | None:
    """The kind of a regular file. None if it is not a regular file, is empty, or has no known kind.

    Raises:
        OSError: it cannot be read.
    """
    kinds = kinds_of(path)
    return kinds[0] if kinds else None


def kinds_of(path: Path) -> tuple[Kind, ...]:
    """The kind of a regular file and, after it, any other as which it can be read: a gif is a video, too.

    Empty where `kind_of` is None.

    Raises:
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a device or a pipe may have effects
        return ()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may have become a pipe meanwhile
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ()
        head = os.read(fd, _HEAD)
    finally:
        os.close(fd)
    kind = _kind(head, path.suffix.lower()) if head else None
    if kind is None:
        return ()
    return (kind, "video") if head.startswith(_GIF) else (kind,)


def readers_of_another_kind(path: Path, accepts: tuple[Kind, ...]) -> str:
    """A clause that names the built-in types for the file, if it is of none of the kinds that a type `accepts`."""
    try:
        kinds = kinds_of(path) if accepts else ()
    except OSError:
        return ""
    if not kinds or not set(kinds).isdisjoint(accepts):
        return ""
    *others, last = READERS[kinds[0]]
    names = f"{', '.join(others)} and {last} read" if others else f"{last} reads"
    return f"it is {_IN_WORDS[kinds[0]]}, which {names}"


def _kind(head: bytes, suffix: str) -> Kind | None:
    if suffix in _TEXTS_BY_NAME and (b"\0" not in head or head.startswith(_WIDE_MARKS)):
        return "document"  # whatever its first bytes are
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] in (b"RIFF", b"RIFX"):
        return _RIFF.get(head[8:12])
    if head[:4] == b"RF64" or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX")):
        return "audio"
    if head[4:8] == b"ftyp":
        return "audio" if suffix in _OF_SOUND_BY_NAME else _BRANDS.get(head[8:12], "video")
    if head[:4] in (b"OggS", b"\x1aE\xdf\xa3", b"0&\xb2u"):  # Ogg; Matroska and webm; Windows Media
        only_sound = suffix in _OF_SOUND_BY_NAME or (head[:4] == b"OggS" and b"theora" not in head[:256])
        return "audio" if only_sound else "video"
    if head[4:8] in _BOXES or any(head[begin : begin + step + 1 : step] == b"GG" for begin, step in _TS_PACKETS):
        return "video"
    if head[:4] == b"PK\x03\x04":
        return "document" if suffix in _PACKED_DOCUMENTS else "model" if suffix == ".3mf" else None
    if suffix in _MODELS_BY_NAME:
        return "model"
    return "video" if suffix == ".dv" and _has_dv_blocks(head) else None


def _has_dv_blocks(head: bytes) -> bool:
    """Whether these are blocks of a DV that begins within a frame: each names one of five sections in three bits."""
    return (
        len(head) >= 2 * _DV_BLOCK
        and any(
            all(
                first >> 5 < _DV_SECTIONS and first & 0x10 and second & 7 == 7  # noqa: PLR2004 - bits that are always set
                for first, second in zip(head[begin::_DV_BLOCK], head[begin + 1 :: _DV_BLOCK], strict=False)
            )
            for begin in range(_DV_BLOCK)
        )
    )
