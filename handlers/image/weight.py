"""How many bytes a written picture takes. No image library here: the service imports this.

Fitted to photographs, drawings and frames of films, so that nineteen of twenty stay below. What is in a picture makes a
factor of ten; only a source that is a JPEG itself tells how busy it is.
"""

from math import pow  # noqa: A004 - always a float, where the operator may be complex

_RATES = {"JPEG": 0.45, "WEBP": 0.33, "AVIF": 0.38, "HEIF": 0.38, "GIF": 1.0, "PNG": 2.6, "TIFF": 3.0}
"""Bytes a pixel of a busy picture, at quality 85 where there is one."""
_WITH_QUALITY = frozenset({"JPEG", "WEBP", "AVIF", "HEIF"})
_HEADERS = 2_000
_BUSY_JPEG = 0.5
"""Bytes a pixel."""
_LEAST_BUSY = 0.4


def written_bytes(kind: str, pixels: float, *, quality: int = 85, lossless: bool = False, busyness: float = 1.0) -> int:
    """Bytes of a picture in the format `kind`, one of Pillow's names.

    Args:
        kind: the format.
        pixels: of the picture, or of all frames.
        quality: as the options have it.
        lossless: whether every pixel is kept by a format that need not.
        busyness: 1, or less where it is known that the picture has little in it.
    """
    if lossless and kind in _WITH_QUALITY:
        kind = "PNG"
    if kind not in _WITH_QUALITY:
        return int(_RATES[kind] * pixels) + _HEADERS
    # JPEG's steps are coarser by this much than at quality 85; the bytes follow with the power of 0.6.
    coarseness = max(0.02, 2 - quality / 50) / 0.3
    return int(_RATES[kind] * busyness * pow(coarseness, -0.6) * pixels) + _HEADERS


def busyness_of(source_kind: str | None, size: int, pixels: int, shrunk: float = 1.0) -> float:
    """How busy a picture is by what its file takes; `shrunk` so many times, there is more in each pixel."""
    if source_kind != "JPEG":
        return 1.0
    return min(1.0, max(_LEAST_BUSY, size / max(1, pixels) / _BUSY_JPEG * pow(max(1.0, shrunk), 1 / 3)))


def fitted_pixels(source: tuple[int, int], box: tuple[int, int], fit: str, *, enlarge: bool = False) -> int:
    """Pixels of a picture of this size, upright, in the box."""
    if fit == "crop":
        return min(source[0], box[0]) * min(source[1], box[1])
    if fit != "fit":
        return box[0] * box[1]
    ratio = min(box[0] / max(1, source[0]), box[1] / max(1, source[1]))
    if not enlarge:
        ratio = min(1.0, ratio)
    return max(1, int(source[0] * source[1] * ratio**2))
