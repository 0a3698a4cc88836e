"""The fields of a result that describe the output, the same for every type."""

from pathlib import Path
from typing import Any

from ..pieces import settled


def output_fields(
    path: Path, form: str, *, width: int, height: int, frames: int = 1, duration: float = 0.0, codec: str = ""
) -> dict[str, Any]:
    """Make the output durable, and describe it. Fields about the input are added with names in `source_`.

    Args:
        path: the finished output.
        form: its format.
        width: width of its picture, or of its largest picture, in pixels.
        height: height of the same picture.
        frames: number of pictures in it.
        duration: how long it plays, in seconds; 0 if it does not move.
        codec: the codec of its pictures; empty if the format implies it.
    """
    size, digest = settled(path)
    return {
        "size": size,
        "sha256": digest,
        "format": form,
        "codec": codec or form,
        "width": width,
        "height": height,
        "frames": frames,
        "duration": round(duration, 3),
    }
