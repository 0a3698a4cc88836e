"""How many bytes a written picture takes. No image library here: the service imports this.

Fitted to photographs, drawings, screenshots and frames of films, so that nineteen of twenty stay below. What is in a
picture makes a factor of a hundred; how tightly the source's own file packs its pixels tells much of it.
"""

from math import pow  # noqa: A004 - always a float, where the operator may be complex
from typing import NamedTuple

_LOSSY_RATES = {"JPEG": 0.45, "WEBP": 0.33, "AVIF": 0.38, "HEIF": 0.38}
"""Bytes a pixel of a busy picture at quality 85."""
_LOSSLESS_RATES = {"GIF": 1.1, "PNG": 2.6, "TIFF": 3.0, "WEBP": 2.0, "AVIF": 2.6}
"""The same, where every pixel is kept."""
_PLAIN_RATES = {"BMP": 3.0}
"""Bytes a pixel of a format that packs nothing."""
_PACKS_AS = {"WEBP": 0.9}
_USUALLY_PACKS_AS = 1.4
"""Times the source's bytes a pixel that an encoder without loss takes for the same pixels."""
_HEADERS = 1_500
AVIF_ENCODER = 36
"""Bytes of memory a pixel that the encoder of AVIF takes."""
_PACKED_TIFFS = ("lzw", "deflate", "group", "packbits", "lzma", "zstd", "ccitt")

_BUSY_JPEG, _LEAST_BUSY = 0.5, 0.4
"""Bytes a pixel of a JPEG; and the share of a busy picture's bytes that the emptiest one takes."""
_BUSY_LOSSLESS = 2.6
"""Bytes a pixel of a PNG, say."""
_COLOURS_OF_AN_INDEX = 3
_LOSSY_BY_LOSSLESS, _LOSSLESS_BY_LOSSY = 0.42, 0.4
"""Powers of the one share that give the other."""
_FILLS_UP = 0.75
"""A picture made so many times smaller is busy to its share to the power of one by so many to the power of this."""


class Packing(NamedTuple):
    """How tightly a file packs its pixels."""

    lossless: bool
    density: float
    """Bytes a pixel, of three colours."""


def packing_of(kind: str | None, size: int, pixels: int, *, mode: str = "", compression: str = "") -> Packing | None:
    """What a picture's file tells; none where its size tells nothing.

    Args:
        kind: Pillow's name of the format.
        size: bytes of the file.
        pixels: of one frame; if there are more, they say the less.
        mode: Pillow's, of the pixels.
        compression: Pillow's word, of a TIFF.
    """
    density = size / max(1, pixels)
    if mode == "1":  # drawn in grey it has far more in it
        return None
    if kind == "JPEG":
        return Packing(lossless=False, density=density)
    if kind not in ("PNG", "GIF") and not (kind == "TIFF" and any(word in compression for word in _PACKED_TIFFS)):
        return None
    return Packing(lossless=True, density=density * (_COLOURS_OF_AN_INDEX if mode == "P" or kind == "GIF" else 1))


def written_bytes(
    kind: str,
    pixels: float,
    *,
    quality: int = 85,
    lossless: bool = False,
    packing: Packing | None = None,
    shrunk: float = 1.0,
    calm: float = 1.0,
) -> int:
    """Bytes of a picture in the format `kind`, one of Pillow's names.

    Args:
        kind: the format.
        pixels: of the picture, or of all frames.
        quality: as the options have it.
        lossless: whether every pixel is kept by a format that need not.
        packing: of the file that the picture comes from.
        shrunk: how many times as long its sides were there: the smaller a picture is made, the more is in each pixel.
        calm: 1, or less where pictures of that sort have less in them.
    """
    if kind in _PLAIN_RATES:
        return int(_PLAIN_RATES[kind] * pixels) + _HEADERS
    if lossless or kind not in _LOSSY_RATES:
        share = _lossless_share(kind, packing, max(1.0, shrunk))
        return int(_LOSSLESS_RATES[kind] * share * pixels) + _HEADERS
    # JPEG's steps are coarser by this much than at quality 85; the bytes follow with the power of 0.6.
    coarseness = max(0.02, 2 - quality / 50) / 0.3
    share = calm * _lossy_share(packing, max(1.0, shrunk))
    return int(_LOSSY_RATES[kind] * share * pow(coarseness, -0.6) * pixels) + _HEADERS


def _lossless_share(kind: str, packing: Packing | None, shrunk: float) -> float:
    """Of the bytes that the busiest picture takes."""
    if packing is None:
        return 1.0
    fills_up = pow(shrunk, -_FILLS_UP)
    if not packing.lossless:
        return pow(min(1.0, packing.density / _BUSY_JPEG), _LOSSLESS_BY_LOSSY * fills_up)
    as_dense = _PACKS_AS.get(kind, _USUALLY_PACKS_AS) * packing.density
    return pow(min(1.0, as_dense / _LOSSLESS_RATES[kind]), fills_up)


def _lossy_share(packing: Packing | None, shrunk: float) -> float:
    if packing is None:
        return 1.0
    if packing.lossless:
        return pow(min(1.0, packing.density / _BUSY_LOSSLESS), _LOSSY_BY_LOSSLESS * pow(shrunk, -_FILLS_UP))
    return min(1.0, max(_LEAST_BUSY, packing.density / _BUSY_JPEG * pow(shrunk, 1 / 3)))


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
