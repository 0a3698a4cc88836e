"""One decoded picture as the options want it, with Pillow."""

from PIL import Image

from ..shaping import Size, lies_sideways, middle, orientation_of, plain_mode, scaled, to_srgb, upright
from .options import ImageConvertOptions

_HUGE = 10_000_000


def shape(picture: Image.Image, options: ImageConvertOptions) -> Image.Image:
    """The picture upright, in its new size and colours. Its profile stays in `info` where it is to be kept."""
    orientation = orientation_of(picture)
    profile = picture.info.get("icc_profile")
    plain = plain_mode(picture)
    box = (options.width or _HUGE, options.height or _HUGE)
    if lies_sideways(orientation):
        box = box[::-1]
    sized = _sized(plain, box, options)
    turned = upright(sized, orientation)
    if options.colour == "srgb":
        return to_srgb(turned, profile)
    turned.info = {"icc_profile": profile} if profile else {}
    return turned


def _sized(picture: Image.Image, box: Size, options: ImageConvertOptions) -> Image.Image:
    if options.width is None and options.height is None:
        return picture
    if options.fit == "crop":
        return middle(picture, box)
    whole = scaled(picture.size, box, options.fit, enlarge=options.enlarge)
    if whole != picture.size:
        picture = picture.resize(whole, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return middle(picture, box) if options.fit == "fill" else picture
