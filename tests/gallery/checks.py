"""Is a result what it says it is? Decided by other decoders than the one that wrote it."""

import subprocess
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pyvips
from PIL import Image, ImageStat

VIDEOS = frozenset({".mp4", ".webm", ".mkv", ".mov"})
_BLANK = 1.0
"""A picture whose values spread less than this shows nothing."""
_ALIKE = 3.0
"""Mean difference of two decoders' pixels, of 255, that rounding explains."""


def check(path: Path, result: dict[str, Any]) -> list[str]:
    """What is wrong with the file; empty when nothing is."""
    if path.suffix in VIDEOS:
        return _check_video(path, result)
    if path.suffix == ".zip":
        return _check_archive(path)
    return _check_picture(path, result)


def _check_picture(path: Path, result: dict[str, Any]) -> list[str]:
    with Image.open(path) as opened:
        by_pillow = opened.convert("RGB")
    by_vips = _by_vips(path)
    problems = []
    if by_pillow.size != (result["width"], result["height"]):
        problems.append(f"Pillow sees {by_pillow.size}")
    if by_vips.size != by_pillow.size:
        problems.append(f"libvips sees {by_vips.size}")
    elif _difference(by_pillow, by_vips) > _ALIKE:
        problems.append(f"the decoders differ by {_difference(by_pillow, by_vips):.1f}")
    return problems + _blank(by_pillow)


def _by_vips(path: Path) -> Image.Image:
    image = pyvips.Image.new_from_file(str(path)).colourspace("srgb")
    if image.hasalpha():
        image = image.extract_band(0, n=3)
    return Image.frombytes("RGB", (image.width, image.height), image.cast("uchar").write_to_memory())


def _difference(one: Image.Image, other: Image.Image) -> float:
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / (3 * one.width * one.height)


def _blank(picture: Image.Image) -> list[str]:
    return [] if max(ImageStat.Stat(picture).stddev) > _BLANK else ["the picture shows nothing"]


def _check_archive(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        pages = [Image.open(BytesIO(archive.read(name))).convert("RGB") for name in archive.namelist()]
    return [problem for page in pages for problem in _blank(page)] or ([] if pages else ["there is no page in it"])


def _check_video(path: Path, result: dict[str, Any]) -> list[str]:
    """Decode every frame with the ffmpeg program, another build than the one that the product brings."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    frames = [line for line in lines if line and not line.startswith("#")]
    sizes = [line.rpartition(" ")[2] for line in lines if line.startswith("#dimensions")]
    problems = [f"ffmpeg says: {line}" for line in done.stderr.splitlines()[:3]]
    if len(frames) != result["frames"]:
        problems.append(f"ffmpeg counts {len(frames)} frames, the result says {result['frames']}")
    if sizes != [f"{result['width']}x{result['height']}"]:
        problems.append(f"ffmpeg sees {sizes}")
    if len({line.rpartition(",")[2] for line in frames}) < len(frames) / 4:
        problems.append("most frames are the same")
    return problems
