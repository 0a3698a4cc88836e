"""Decides whether a converted picture may take the place of its original."""

from collections.abc import Mapping
from typing import Any

from ...contract import TaskContext
from ...media.damage import unreadable
from ..limits import MAX_IMAGE_PIXELS, MAX_PILLOW_PIXELS
from ..opening import blame_picture, open_picture
from .options import VIPS_READS, ImageConvertOptions, target_format
from .still import VipsCannotError, decode_still

_OPAQUE = 255
_WITHOUT_ALPHA = frozenset({"JPEG", "BMP"})


def check_result(context: TaskContext[ImageConvertOptions], result: Mapping[str, Any]) -> str:
    """Say why not; empty if it may. Raises Unusable if the result cannot be decoded.

    Notes list what was lost, so a picture with notes stays.
    """
    kind = target_format(context.output_file)
    if int(result["frames"]) == 1 and kind in VIPS_READS:
        try:
            decode_still(context, context.output_part)
        except VipsCannotError as error:
            raise unreadable(context.output_part, "libvips", str(error)) from error
    else:
        _decode_with_pillow(context, int(result["frames"]))
    lost = list(result.get("notes", ()))
    if kind in _WITHOUT_ALPHA and _shines_through(context):
        lost.append(f"transparent parts became {context.options.background}")
    return "; ".join(lost)


def _decode_with_pillow(context: TaskContext[ImageConvertOptions], frames: int) -> None:
    part = context.output_part
    with open_picture(part, MAX_PILLOW_PIXELS) as image, blame_picture(part):
        for number in range(frames):
            context.check_stop()
            image.seek(number)
            image.load()


def _shines_through(context: TaskContext[ImageConvertOptions]) -> bool:
    """Whether any pixel of the original is transparent: many programs add an unused alpha channel."""
    with open_picture(context.input_file, MAX_IMAGE_PIXELS) as image, blame_picture(context.input_file):
        if not image.has_transparency_data:
            return False
        if image.width * image.height > MAX_PILLOW_PIXELS:  # too large to be checked as a whole
            return True
        context.check_stop()
        return image.convert("RGBA").getchannel("A").getextrema() != (_OPAQUE, _OPAQUE)
