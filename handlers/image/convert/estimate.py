"""Estimates the needs of `image_convert`. No image library here: the service imports this."""

from math import sqrt
from typing import Any

import msgspec

from ...contract import Estimate, Job
from ...media.estimate import AVIF_ENCODER, Packing, fitted_pixels, written_bytes
from ..limits import MAX_IMAGE_PIXELS
from .options import MANY_FRAMES, ImageConvertOptions, bits_written, target_format

NO_BOX = 10_000_000
"""Pixels; stands for an unlimited side of the box."""
_BASE = 108_000_000
"""Resident bytes of a worker that has loaded the libraries, without a picture.

64 MB where they were installed a while ago. After a new install about 22 MB more of their files are resident, until
they have left the kernel's cache and were read again."""
_GIF_GROWS = 3
"""Bytes of a GIF's frames when each is kept separately, as a multiple of the GIF's."""
_SPEED, _AV1_SPEED = 20e6, 1e6
"""Pixels that are written per second."""
_AV1_LOOKS_AHEAD, _AV1_FRAME = 50, 25
"""Frames that the encoder holds, and the bytes per pixel of each."""
_ENCODER = {"JPEG": 6, "WEBP": 20, "AVIF": AVIF_ENCODER, "GIF": 16}
_USUAL_ENCODER = 5
"""Bytes per pixel in the encoder of a still: JPEG holds all coefficients, WebP planes and tokens of the whole
picture."""
_ALPHA, _WEBP_LOSSLESS = 20, 40
"""The alpha of WebP and AVIF is a separate picture; lossless WebP has hash chains over all pixels."""
_DEEP = 8
"""Bytes per pixel of a picture with more than eight bits per channel that is held as a whole."""
_DEEP_FILE = 2.3
"""The size of a picture with 16 bits per channel, as a multiple of one with 8: its lower bits are noise."""
_BYTE = 8
_CANVASES = 8
"""Bytes per pixel beside the frame that is read, because an animation's frames build on the earlier ones."""
_HELD = {"WEBP": 4, "PNG": 4, "AVIF": 4, "GIF": 1, "TIFF": 0}
"""Bytes per pixel of every frame: Pillow's writers hold all frames until the last one."""


class ImageHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The facts in a picture's header. Width and height are those of the stored picture."""

    format: str
    width: int
    height: int
    frames: int
    alpha: bool = False
    orientation: int = 1
    """The EXIF orientation, unless width and height already follow it."""
    left: int = 1
    """The orientation that remains to be applied when libvips has read the picture."""
    packing: Packing | None = None
    """How tightly the file packs the pixels."""
    bits: int = 8
    """Bits per channel, at least 8."""
    grey_bits: int = 8
    """Bits per pixel of a grey picture without transparency that has 1, 2 or 4, such as a scan; 8 for any other."""
    palette: bool = False
    """Whether its pixels are numbers of colours."""
    inks: bool = False
    """Whether it is CMYK."""
    brightness_apart: bool = False
    """Whether it is a TIFF in YCbCr that is not packed as a JPEG; libvips would take that for RGB."""
    profile: bool = False
    """Whether it has a colour profile."""
    grey_profile: bool = False
    """Whether it is grey by a colour profile."""
    cut: bool = False
    """Whether the file ends too early, exactly where a frame would begin."""
    beside: int = 0
    """The number of further pictures in a JPEG: previews, depth maps, the other eye."""
    tells: frozenset[str] = frozenset()
    """The kinds of metadata in the file: EXIF, GPS, XMP, IPTC, comments."""

    @property
    def sideways(self) -> bool:
        """Whether width and height swap when it is set upright."""
        return self.orientation > 4  # noqa: PLR2004 - as EXIF counts

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height

    def shrunk(self, written: int) -> float:
        """How many times longer its sides are than those of a picture of `written` pixels."""
        return sqrt(self.pixels / max(1, written))


def estimate(job: Job[ImageConvertOptions]) -> Estimate:
    """Guess from the file size alone: an ordinary picture has about 10 pixels per byte."""
    side = int(sqrt(min(MAX_IMAGE_PIXELS, max(10 * job.input_size, 1_000_000))))
    return estimate_for(job, ImageHeader(format="", width=side, height=side, frames=1), {"size": job.input_size})


def estimate_for(job: Job[ImageConvertOptions], header: ImageHeader, basis: dict[str, Any]) -> Estimate:
    """Estimate from the header. Worst case: the whole picture is decoded, and the encoder copies the result."""
    kind = target_format(job.output_file)
    frames = header.frames if job.options.frames == "all" and kind in MANY_FRAMES else 1
    written = min(written_pixels(job.options, header), max(MAX_IMAGE_PIXELS, header.pixels))
    deep = max(header.bits, bits_written(job.options, kind, header.bits)) > _BYTE
    memory = _BASE + (_DEEP if deep else 4) * header.pixels + _encoder_bytes(job.options, kind, header) * written
    if frames > 1:
        memory += 8_000_000 + _CANVASES * header.pixels + _HELD[kind] * frames * written
        memory += _AV1_FRAME * written * min(frames, _AV1_LOOKS_AHEAD) if kind == "AVIF" else 0
    return Estimate(
        memory=memory,
        temp=_output_bytes(job, kind, header, written, frames) + _kept_bytes(job, header, written, frames),
        seconds=0.1 + frames * (header.pixels / 130e6 + written / (_AV1_SPEED if kind == "AVIF" else _SPEED)),
        basis=basis,
    )


def _encoder_bytes(options: ImageConvertOptions, kind: str, header: ImageHeader) -> int:
    """Bytes that the encoder takes for each written pixel."""
    if kind == "WEBP" and options.lossless:
        return _WEBP_LOSSLESS
    return _ENCODER.get(kind, _USUAL_ENCODER) + (_ALPHA if header.alpha and kind in ("WEBP", "AVIF") else 0)


def written_pixels(options: ImageConvertOptions, header: ImageHeader) -> int:
    """Pixels of the output, or of each of its frames."""
    if options.width is None and options.height is None:
        return header.pixels
    size = (header.height, header.width) if header.sideways else (header.width, header.height)
    return fitted_pixels(
        size, (options.width or NO_BOX, options.height or NO_BOX), options.fit, enlarge=options.enlarge
    )


def _output_bytes(job: Job[ImageConvertOptions], kind: str, header: ImageHeader, written: int, frames: int) -> int:
    plain = written_bytes(
        kind,
        frames * written,
        quality=job.options.quality,
        lossless=job.options.lossless,
        packing=header.packing,
        shrunk=header.shrunk(written),
    )
    deep = kind != "AVIF" and frames == 1 and bits_written(job.options, kind, header.bits) > _BYTE
    return int(_DEEP_FILE * plain) if deep else plain


def _kept_bytes(job: Job[ImageConvertOptions], header: ImageHeader, written: int, frames: int) -> int:
    """Bytes of an animation's frames, which are PNG files until they are put together."""
    if frames == 1:
        return 0
    whole = written_bytes("PNG", frames * written, packing=header.packing, shrunk=header.shrunk(written))
    return min(whole, _GIF_GROWS * job.input_size) if header.format == "GIF" else whole
