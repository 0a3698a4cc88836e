"""The decoders that results are checked with: Pillow, libvips, and an ffmpeg program of another build."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import pyvips
from PIL import Image

_MANY = (".gif", ".webp", ".tif", ".tiff")
"""The formats that libvips reads frame by frame."""


def by_pillow(path: Path, frame: int = 0) -> Image.Image:
    """Return one frame in RGB."""
    with Image.open(path) as opened:
        opened.seek(frame)
        return opened.convert("RGB")


def by_vips(source: Path | bytes, frame: int = 0) -> Image.Image:
    """Return one frame in RGB, from a file or from memory."""
    if isinstance(source, bytes):
        image = pyvips.Image.new_from_buffer(source, "")
    else:
        image = pyvips.Image.new_from_file(str(source), **({"page": frame} if source.suffix in _MANY else {}))
    return from_vips(image)


def from_vips(image: pyvips.Image) -> Image.Image:
    """Convert to Pillow's form, without transparency."""
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.extract_band(0, n=3)
    return Image.frombytes("RGB", (image.width, image.height), image.cast("uchar").write_to_memory())


def frames_by_pillow(path: Path) -> int:
    """Return the number of frames."""
    with Image.open(path) as opened:
        return int(getattr(opened, "n_frames", 1))


def frames_by_vips(path: Path) -> int:
    """Return the number of frames."""
    image = pyvips.Image.new_from_file(str(path))
    return int(image.get("n-pages")) if "n-pages" in image.get_fields() else 1


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of the values of two pictures of one size, of 255."""
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / (3 * one.width * one.height)


class Film(NamedTuple):
    """What the ffmpeg program sees."""

    frames: list[str]
    """A hash of each frame."""
    sizes: list[str]
    complaints: list[str]


def film_by_ffmpeg(path: Path) -> Film:
    """Decode every frame."""
    done = run_ffmpeg("-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-")
    lines = done.stdout.decode().splitlines()
    return Film(
        frames=[line.rpartition(",")[2] for line in lines if line and not line.startswith("#")],
        sizes=[line.rpartition(" ")[2] for line in lines if line.startswith("#dimensions")],
        complaints=done.stderr.decode().splitlines(),
    )


class Sound(NamedTuple):
    """What the ffmpeg program hears."""

    seconds: float
    loudness: float
    """LUFS."""
    complaints: list[str]


def sound_by_ffmpeg(path: Path) -> Sound:
    """Decode and measure every sample."""
    done = run_ffmpeg("-i", str(path), "-map", "0:a:0", "-ar", "48000", "-ac", "1", "-f", "s16le", "-")
    told = run_ffmpeg("-i", str(path), "-map", "0:a:0", "-af", "ebur128", "-f", "null", "-", level="info").stderr
    found = re.findall(rb"I: +(-?[0-9.]+) LUFS", told)
    loudness = float(found[-1]) if found else float("nan")
    return Sound(len(done.stdout) / 2 / 48000, loudness, done.stderr.decode().splitlines())


def motion_by_ffmpeg(path: Path) -> float:
    """Return how far the picture ever gets from the first one: mean difference of small grey frames, of 255."""
    size = 64 * 48
    raw = run_ffmpeg("-i", str(path), "-vf", "scale=64:48", "-f", "rawvideo", "-pix_fmt", "gray", "-").stdout
    first = raw[:size]
    later = (raw[start : start + size] for start in range(size, len(raw), size))
    return max((sum(abs(a - b) for a, b in zip(first, frame, strict=True)) / size for frame in later), default=0.0)


def run_ffmpeg(*arguments: str, level: str = "error") -> subprocess.CompletedProcess[bytes]:
    """Run it and return its messages."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", level, "-nostdin", *arguments]
    return subprocess.run(command, capture_output=True, check=False)
