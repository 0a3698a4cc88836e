"""Office documents are zip archives of XML: looked over before any program opens them."""

import re
import zipfile
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..archives import MAX_ENTRIES, MAX_RATIO, MAX_UNPACKED, SMALL, open_zip
from ..contract import Unusable
from .sizes import pixels

_CHUNK = 1 << 20
_FORBIDDEN = (b"<!DOCTYPE", b"<!ENTITY")
_LONGEST = max(map(len, _FORBIDDEN))
_ODF_KEYS = b"encryption-data"
_SLIDE = re.compile(r"ppt/slides/slide\d+\.xml")
_STATISTICS = ("docProps/app.xml", "meta.xml")
_MAX_STATISTICS = 100_000
_PAGES = re.compile(rb"<Pages>(\d{1,6})</Pages>|page-count=\"(\d{1,6})\"")
_THUMBNAILS = (
    "Thumbnails/thumbnail.png",
    "docProps/thumbnail.jpeg",
    "docProps/thumbnail.jpg",
    "docProps/thumbnail.png",
)
_MAX_THUMBNAIL = 8_000_000
_MAX_THUMBNAIL_PIXELS = 25_000_000


def inspect_archive(path: Path) -> None:
    """Refuse bombs and XML that declares entities. Reads all of it once, in small steps; nothing is unpacked.

    Stricter than `preflight`: another program will unpack it, which need not believe the sizes in the directory.

    Raises:
        Unusable: it is one, or damaged, or encrypted.
        OSError: it cannot be read.
    """
    limit = min(MAX_UNPACKED, max(SMALL, MAX_RATIO * path.stat().st_size))
    with open_zip(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise Unusable(f"{path.name} has {len(entries)} parts; up to {MAX_ENTRIES} are read")
        unpacked = 0
        for entry in entries:
            if entry.flag_bits & 1:
                raise Unusable(f"{path.name} is encrypted: save it without a password first")
            unpacked += _read_through(archive, entry, path.name, limit - unpacked)


def _read_through(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, limit: int) -> int:
    """Bytes the part unpacks to: those that come, not those it claims."""
    size, before = 0, b""
    with archive.open(entry) as part:
        while chunk := part.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise Unusable(f"{name} unpacks to far more than a document has: a zip bomb")
            seen = before + chunk.replace(b"\0", b"")  # XML may be in UTF-16
            if entry.filename.endswith((".xml", ".rels", ".vml", ".rdf")):
                if any(mark in seen for mark in _FORBIDDEN):
                    raise Unusable(f"{name} declares XML entities in {entry.filename}, as no office program does")
                if entry.filename == "META-INF/manifest.xml" and _ODF_KEYS in seen:
                    raise Unusable(f"{name} is encrypted: save it without a password first")
            before = seen[-_LONGEST:]
    return size


def page_hint(path: Path) -> int | None:
    """How many pages the document itself says it has; none when it does not. It may be wrong. Raises Unusable."""
    with open_zip(path) as archive:
        names = archive.namelist()
        slides = sum(1 for name in names if _SLIDE.fullmatch(name))
        if slides:
            return slides
        for name in _STATISTICS:
            if name in names:
                with archive.open(name) as part:
                    found = _PAGES.search(part.read(_MAX_STATISTICS))
                if found:
                    return int(found[1] or found[2])
    return None


def read_thumbnail(path: Path) -> Image.Image:
    """The small picture of the first page that the document carries.

    Raises:
        Unusable: it has none, or one that cannot be read.
    """
    with open_zip(path) as archive:
        found = next((name for name in _THUMBNAILS if name in archive.namelist()), None)
        if found is None:
            raise Unusable(f"{path.name} carries no thumbnail: it takes LibreOffice to draw it")
        with archive.open(found) as part:
            data = part.read(_MAX_THUMBNAIL + 1)
    if len(data) > _MAX_THUMBNAIL:
        raise Unusable(f"the thumbnail in {path.name} is too large")
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > _MAX_THUMBNAIL_PIXELS:
                raise Unusable(f"the thumbnail in {path.name} is too large")
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unusable(f"the thumbnail in {path.name} cannot be read: {error}") from error


class ThumbnailPage:
    """A document of one page: its own thumbnail, a pixel a point.

    Raises:
        Unusable: there is none.
    """

    count = 1
    most = 1.0

    def __init__(self, path: Path) -> None:
        inspect_archive(path)
        self._picture = read_thumbnail(path)

    def close(self) -> None:
        """Nothing is open."""

    def size(self, _number: int) -> tuple[float, float]:
        """Of the picture."""
        return float(self._picture.width), float(self._picture.height)

    def draw(self, _number: int, factor: float, background: str) -> Image.Image:
        """The picture, on the background where it has holes."""
        paper = Image.new("RGB", self._picture.size, background)
        paper.paste(self._picture, mask=self._picture if self._picture.mode == "RGBA" else None)
        return paper.resize(pixels(*self.size(1), factor), Image.Resampling.LANCZOS)
