"""An office document as one page: the small picture of its first page that most of them contain."""

from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..contract import Unusable
from ..media.archives import open_zip
from .archive import inspect_archive
from .pages import pixels

_PLACES = (
    "Thumbnails/thumbnail.png",
    "docProps/thumbnail.jpeg",
    "docProps/thumbnail.jpg",
    "docProps/thumbnail.png",
)
_MAX_BYTES = 8_000_000
_MAX_PIXELS = 25_000_000


def read_thumbnail(path: Path) -> Image.Image:
    """Decode the thumbnail in an archive that has been inspected.

    Raises:
        Unusable: it has none, or it cannot be read.
    """
    with open_zip(path) as archive:
        place = next((name for name in _PLACES if name in archive.namelist()), None)
        if place is None:
            raise Unusable(f"{path.name} carries no thumbnail: it takes LibreOffice to draw it")
        with archive.open(place) as part:
            data = part.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise Unusable(f"the thumbnail in {path.name} is too large")
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise Unusable(f"the thumbnail in {path.name} is too large")
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unusable(f"the thumbnail in {path.name} cannot be read: {error}") from error


class ThumbnailPage:
    """A document of one page: its thumbnail, at one pixel per point.

    Raises:
        Unusable: there is none, or the archive is harmful or damaged.
    """

    count = 1
    most = 1.0

    def __init__(self, path: Path) -> None:
        inspect_archive(path)
        self._picture = read_thumbnail(path)

    def close(self) -> None:
        """Do nothing: no file is open."""

    def size(self, _number: int) -> tuple[float, float]:
        """Width and height of the picture."""
        return float(self._picture.width), float(self._picture.height)

    def draw(self, _number: int, factor: float, background: str) -> Image.Image:
        """The picture, with the background behind transparent parts."""
        paper = Image.new("RGB", self._picture.size, background)
        paper.paste(self._picture, mask=self._picture if self._picture.mode == "RGBA" else None)
        return paper.resize(pixels(*self.size(1), factor), Image.Resampling.LANCZOS)

    def notes(self, _numbers: list[int]) -> list[str]:
        """No notes."""
        return []
