"""Write one picture with Pillow, and limit the pixels of pictures that it reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..io_errors import writing


def write_picture(
    picture: Image.Image,
    path: Path | BytesIO,
    kind: str,
    *,
    quality: int = 85,
    background: str = "#ffffff",
    **kept: Any,
) -> None:
    """Write one picture, of mode L, RGB or RGBA.

    Args:
        picture: the picture.
        path: the file to write.
        kind: one of the values of `formats.WRITE_FORMATS`.
        quality: 1 to 100, for jpeg, webp and avif.
        background: laid under transparent parts if the format has no transparency, as #rrggbb.
        kept: further content of the file, by Pillow's names (icc_profile, exif).
    """
    if kind in ("JPEG", "BMP") and picture.mode == "RGBA":
        flat = Image.new("RGBA", picture.size, background)
        flat.alpha_composite(picture)
        picture = flat.convert("RGB")
    parameters: dict[str, Any] = {"quality": quality} if kind in ("JPEG", "WEBP", "AVIF", "HEIF") else {}
    if kind in ("JPEG", "PNG"):
        parameters["optimize"] = True
    save(picture, path, kind, **parameters, **kept)


def save(picture: Image.Image, path: Path | BytesIO, kind: str, **how: Any) -> None:
    """Save with Pillow. Errors caused by the disk name the disk, and no file is cut off without an error."""
    if isinstance(path, BytesIO):
        picture.save(path, format=kind, **how)
        return
    with writing(path):
        if kind != "JPEG":
            with path.open("w+b") as file:  # Pillow would leave its own file open when a stop comes between two frames
                picture.save(file, format=kind, **how)
            return
        # Pillow's JPEG encoder writes to the file itself, and does not notice when the disk takes only a part.
        packed = BytesIO()
        picture.save(packed, format=kind, **how)
        path.write_bytes(packed.getvalue())


@contextmanager
def pixel_limit(most: int | None) -> Iterator[None]:
    """Inside, Pillow refuses pictures and frames with more pixels. None: the caller checks the size itself."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None if most is None else most // 2  # up to twice its number, Pillow only warns
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
