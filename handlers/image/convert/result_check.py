"""Whether a converted picture may take the place of its original."""

from collections.abc import Mapping
from typing import Any

from ...contract import TaskContext
from ..limits import MAX_PILLOW_PIXELS
from ..opening import blame_picture, open_picture
from .options import ImageConvertOptions


def check_result(context: TaskContext[ImageConvertOptions], result: Mapping[str, Any]) -> str:
    """Why not, in words; empty where it may. Raises Unusable where the result cannot be decoded.

    Whatever is in its notes is lost, so a picture with notes stays.
    """
    part = context.output_part
    with open_picture(part, MAX_PILLOW_PIXELS) as image, blame_picture(part):
        for number in range(int(result["frames"])):
            context.check_stop()
            image.seek(number)
            image.load()
    return "; ".join(result.get("notes", ()))
