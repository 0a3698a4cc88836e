"""Jobs of every type on real files, long enough to be killed, cancelled or timed in the middle."""

from pathlib import Path
from typing import Any

import msgspec
from PIL import Image
from sample_files import CITY, JOINT, MANUAL
from sounds import lively, write

from tasktrail.demo.samples import AIRPLANE, BUNNY, EARTH, GEOBASE, fetch, repeat
from tasktrail.handlers.document.libreoffice import find_libreoffice
from tasktrail.handlers.video.program import find_program


class LongJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `name` is its own among all; a type may have several."""

    name: str
    type: str
    input_file: Path
    suffix: str
    options: dict[str, Any] = {}
    resumes: bool = True
    lacks: str = ""
    """The missing program that the job needs; such a job cannot run."""


def make_jobs(samples: Path, folder: Path, *, repeats: int = 4) -> list[LongJob]:
    """The jobs, with inputs made of samples: a video of `repeats` times five seconds, a picture of 33 megapixels."""
    files = fetch([AIRPLANE, BUNNY, CITY, EARTH, GEOBASE, JOINT], samples)
    video, picture, sound = folder / "long.mp4", folder / "large.png", folder / "long.wav"
    write(sound, lively(60.0))
    repeat(files[BUNNY], video, repeats)
    with Image.open(files[EARTH]) as earth:
        earth.convert("RGB").resize((8192, 4096), Image.Resampling.BICUBIC).save(picture, compress_level=1)
    others = _others(files[GEOBASE], files[AIRPLANE])
    return [*_images(picture, files[JOINT]), *_videos(video, files[CITY]), *_sounds(sound), *others]


def make_more_jobs(samples: Path, folder: Path) -> list[LongJob]:
    """Make jobs for other ways through the same types; a job without its program is included."""
    files = fetch([AIRPLANE, BUNNY, GEOBASE, MANUAL], samples)
    video = folder / "program.mp4"
    repeat(files[BUNNY], video, 2)
    return [
        LongJob(
            name="document_preview (office)",
            type="document_preview",
            input_file=files[MANUAL],
            suffix=".zip",
            options={"pages": "1-50", "dpi": 200},  # LibreOffice takes as long as the drawing
            lacks="" if find_libreoffice() else "LibreOffice",
        ),
        LongJob(
            name="document_convert",
            type="document_convert",
            input_file=files[MANUAL],
            suffix=".pdf",
            options={"pages": "1-50"},
            resumes=False,  # nearly all of the time is that of LibreOffice, before there is a piece
            lacks="" if find_libreoffice() else "LibreOffice",
        ),
        LongJob(
            name="document_preview (tiff)",
            type="document_preview",
            input_file=files[GEOBASE],
            suffix=".tiff",
            options={"pages": "all", "dpi": 150},
        ),
        LongJob(
            name="video_convert (program)",
            type="video_convert",
            input_file=video,
            suffix=".mkv",
            options={"backend": "ffmpeg", "height": 360, "segment_seconds": 2, "preset": "medium"},
            lacks="" if find_program() else "the program ffmpeg",
        ),
        LongJob(
            name="model_preview (sheet)",
            type="model_preview",
            input_file=files[AIRPLANE],
            suffix=".png",
            options={"kind": "sheet", "width": 1600, "height": 1200, "antialias": 3},
        ),
    ]


def _images(picture: Path, animation: Path) -> list[LongJob]:
    return [
        LongJob(name="image_thumbnail", type="image_thumbnail", input_file=picture, suffix=".webp", resumes=False),
        LongJob(
            name="image_convert",
            type="image_convert",
            input_file=picture,
            suffix=".webp",
            options={"width": 4096},
            resumes=False,
        ),
        LongJob(name="image_convert (frames)", type="image_convert", input_file=animation, suffix=".webp"),
    ]


def _videos(video: Path, clip: Path) -> list[LongJob]:
    return [
        LongJob(
            name="video_thumbnail",
            type="video_thumbnail",
            input_file=clip,
            suffix=".jpg",
            options={"candidates": 40},
            resumes=False,
        ),
        LongJob(
            name="video_preview (sheet)",
            type="video_preview",
            input_file=video,
            suffix=".jpg",
            options={"columns": 8, "rows": 8},
        ),
        LongJob(
            name="video_preview (animation)",
            type="video_preview",
            input_file=video,
            suffix=".mp4",
            options={"clips": 10, "width": 640},
        ),
        LongJob(
            name="video_convert",
            type="video_convert",
            input_file=video,
            suffix=".mp4",
            options={"height": 360, "segment_seconds": 2, "preset": "medium"},
        ),
    ]


def _sounds(sound: Path) -> list[LongJob]:
    return [
        LongJob(name="audio_convert", type="audio_convert", input_file=sound, suffix=".m4a", resumes=False),
        LongJob(
            name="audio_convert (loudness)",
            type="audio_convert",
            input_file=sound,
            suffix=".mp3",
            options={"loudness": -14},
            resumes=False,
        ),
    ]


def _others(document: Path, mesh: Path) -> list[LongJob]:
    return [
        LongJob(
            name="document_preview",
            type="document_preview",
            input_file=document,
            suffix=".zip",
            options={"pages": "all", "dpi": 200},
        ),
        LongJob(
            name="model_preview",
            type="model_preview",
            input_file=mesh,
            suffix=".webp",
            options={"kind": "turntable", "frames": 12, "width": 400, "height": 400},
        ),
    ]
