"""Checks whether a result is what it claims, with other decoders than the one that wrote it."""

import zipfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from decoders import (
    by_pillow,
    by_vips,
    difference,
    film_by_ffmpeg,
    frames_by_pillow,
    frames_by_vips,
    motion_by_ffmpeg,
    sound_by_ffmpeg,
)
from PIL import Image, ImageStat

VIDEOS = frozenset({".mp4", ".webm", ".mkv", ".mov"})
SOUNDS = frozenset({".mp3", ".m4a", ".opus", ".ogg", ".flac", ".wav"})
_SAME_LENGTH = 0.05
"""Seconds that decoders differ by, at the end of a codec with packets."""
_SAME_LOUDNESS = 0.5
"""LU."""
_BLANK = 1.0
"""A picture whose values spread less than this shows nothing."""
_ALIKE = 3.0
"""Mean difference of two decoders' pixels, of 255, that rounding explains."""
_STILL = 1.0
"""The same for the first frame and the one farthest from it, where nothing moves except an encoder's noise."""


def check(path: Path, result: dict[str, Any]) -> list[str]:
    """Return what is wrong with the file; empty when nothing is."""
    if path.suffix in VIDEOS:
        return _check_video(path, result)
    if path.suffix in SOUNDS:
        return _check_sound(path, result)
    if path.suffix == ".zip":
        return _check_archive(path, result)
    return _check_picture(path, result)


def _check_picture(path: Path, result: dict[str, Any]) -> list[str]:
    wanted = 1 if result.get("kind") == "sheet" else result.get("frames", 1)
    size = result["width"], result["height"]
    problems = [
        f"{name} sees {found} frames, the result says {wanted}"
        for name, found in (("Pillow", frames_by_pillow(path)), ("libvips", frames_by_vips(path)))
        if found != wanted
    ]
    if problems:
        return problems
    frames = [by_pillow(path, number) for number in range(wanted)]
    if wanted > 1 and sum(one.tobytes() != other.tobytes() for one, other in pairwise(frames)) < wanted / 4:
        problems.append("most frames are the same")
    for number in {0, wanted - 1}:
        problems += _agree(frames[number], by_vips(path, number), size)
    return problems + _blank(frames[0])


def _agree(one: Image.Image, other: Image.Image, size: tuple[int, int]) -> list[str]:
    """Check that Pillow and libvips see the same picture, with the reported size."""
    if not one.size == other.size == size:
        return [f"Pillow sees {one.size}, libvips {other.size}, the result says {size}"]
    apart = difference(one, other)
    return [f"the decoders differ by {apart:.1f}"] if apart > _ALIKE else []


def _blank(picture: Image.Image) -> list[str]:
    return [] if max(ImageStat.Stat(picture).stddev) > _BLANK else ["the picture shows nothing"]


def _check_archive(path: Path, result: dict[str, Any]) -> list[str]:
    problems = []
    with zipfile.ZipFile(path) as archive:
        pages = [archive.read(name) for name in archive.namelist()]
    if not pages or len(pages) != result["pages"]:
        problems.append(f"there are {len(pages)} pages in it, the result says {result['pages']}")
    for page in pages:
        picture = Image.open(BytesIO(page)).convert("RGB")
        problems += _agree(picture, by_vips(page), picture.size) + _blank(picture)
    return problems


def _check_sound(path: Path, result: dict[str, Any]) -> list[str]:
    """Decode and measure it with the ffmpeg program."""
    sound = sound_by_ffmpeg(path)
    problems = [f"ffmpeg says: {line}" for line in sound.complaints[:3]]
    if abs(sound.seconds - result["duration"]) > _SAME_LENGTH:
        problems.append(f"ffmpeg hears {sound.seconds:.3f} s, the result says {result['duration']}")
    wanted = (result.get("loudness") or {}).get("integrated")
    if wanted is not None and abs(sound.loudness - wanted) > _SAME_LOUDNESS:
        problems.append(f"ffmpeg measures {sound.loudness} LUFS, the result says {wanted}")
    return problems


def _check_video(path: Path, result: dict[str, Any]) -> list[str]:
    """Decode every frame with the ffmpeg program, another build than the one in the product."""
    film = film_by_ffmpeg(path)
    problems = [f"ffmpeg says: {line}" for line in film.complaints[:3]]
    if len(film.frames) != result["frames"]:
        problems.append(f"ffmpeg counts {len(film.frames)} frames, the result says {result['frames']}")
    if film.sizes != [f"{result['width']}x{result['height']}"]:
        problems.append(f"ffmpeg sees {film.sizes}")
    if motion_by_ffmpeg(path) < _STILL:
        problems.append("nothing moves in it")
    return problems
