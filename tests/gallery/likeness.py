"""Checks whether a result shows what its source shows, where pixels can decide: pictures, a frame, a whole film."""

import re
from pathlib import Path
from typing import Any

import pyvips
from decoders import by_pillow, difference, film_by_ffmpeg, from_vips, run_ffmpeg
from PIL import Image

_ALIKE = 6.0
"""Mean difference of pixels, of 255, that another filter and a lossy format explain."""
_SSIM = 0.9
"""Of the whole film; usual qualities give 0.96 and more."""


def compare(task_type: str, source: Path, output: Path, result: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Return what the result lacks of the source. Empty also where type or options leave nothing to compare."""
    if task_type in ("image_thumbnail", "image_convert") and options.get("fit", "fit") == "fit":
        return _apart(output, _scaled(source, result))
    if task_type == "video_thumbnail":
        return _apart(output, _frame_at(source, result))
    if task_type == "video_convert":
        return _film_apart(source, output, result)
    return []


def _apart(output: Path, wanted: Image.Image) -> list[str]:
    found = by_pillow(output)
    if found.size != wanted.size:
        return [f"it is {found.size}, the source scaled by another library {wanted.size}"]
    apart = difference(found, wanted)
    return [f"it differs from the source by {apart:.1f}"] if apart > _ALIKE else []


def _scaled(source: Path, result: dict[str, Any]) -> Image.Image:
    """Scale by libvips, upright."""
    return from_vips(
        pyvips.Image.thumbnail(
            str(source), result["width"], height=result["height"], size="force", output_profile="srgb"
        )
    )


def _frame_at(source: Path, result: dict[str, Any]) -> Image.Image:
    """Return the frame by the ffmpeg program, which reads up to it: its seeking is a frame off in MPEG program streams.

    The position is given in milliseconds, so the frame may begin a little earlier.
    """
    size = result["width"], result["height"]
    moment = max(0.0, result["source_position"] - 0.002)
    raw = run_ffmpeg(
        *("-i", str(source), "-ss", f"{moment:.3f}", "-frames:v", "1", "-vf", f"scale={size[0]}:{size[1]}"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    ).stdout
    return Image.frombytes("RGB", size, raw) if len(raw) == 3 * size[0] * size[1] else Image.new("RGB", (1, 1))


def _film_apart(source: Path, output: Path, result: dict[str, Any]) -> list[str]:
    problems = []
    there, here = len(film_by_ffmpeg(source).frames), len(film_by_ffmpeg(output).frames)
    if there != here:
        problems.append(f"the source has {there} frames, the result {here}")
    ours = "[0:v]setpts=N/25/TB,format=yuv420p[a]"
    theirs = f"[1:v]setpts=N/25/TB,scale={result['width']}:{result['height']},format=yuv420p[b]"
    graph = f"{ours};{theirs};[a][b]ssim"
    said = run_ffmpeg("-i", str(output), "-i", str(source), "-lavfi", graph, "-f", "null", "-", level="info").stderr
    found = re.search(rb"SSIM .*All:([0-9.]+)", said)
    ssim = float(found[1]) if found else 0.0
    return problems if ssim > _SSIM else [*problems, f"SSIM with the source is {ssim:.3f}"]
