"""What the result of every type begins with: the file that came out, in the same words everywhere."""

from pathlib import Path
from typing import Any

from ..pieces import settled


def describe(
    path: Path, form: str, *, width: int, height: int, frames: int = 1, duration: float = 0.0, codec: str = ""
) -> dict[str, Any]:
    """Make the output durable and describe it. What is about the input goes beside it, under names with `source_`.

    Args:
        path: the finished output.
        form: its format.
        width: of its picture, or the largest of its pictures, in pixels.
        height: the same.
        frames: how many pictures can be taken out of it.
        duration: how long it plays, in seconds; 0 for what does not move.
        codec: how its pictures are coded; empty: as the format says.
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
