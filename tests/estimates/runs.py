"""The runs that the estimates are tested on: every type on real files, with options that change its need.

The formulas were fitted to the first set. The second has other files, of other packages, and other options; nothing is
fitted to it, so it shows how good the estimates are on new files.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import held_out_files
import sample_files

from tasktrail.demo.samples import BUNNY, Sample

Options: TypeAlias = dict[str, Any]
Ways: TypeAlias = dict[str, tuple[tuple[Sample, ...], tuple[tuple[str, Options], ...]]]


class Run(NamedTuple):
    """One task."""

    type: str
    sample: Sample
    suffix: str
    options: Options
    held_out: bool


_FITTED: Ways = {
    "audio_convert": (
        (BUNNY,),
        ((".mp3", {}), (".m4a", {"codec": "aac"}), (".opus", {"loudness": -16}), (".flac", {}), (".png", {})),
    ),
    "image_thumbnail": (
        sample_files.IMAGES,
        ((".jpg", {}), (".webp", {"width": 1200, "height": 1200}), (".avif", {"width": 400, "fit": "fill"})),
    ),
    "image_convert": (
        sample_files.IMAGES,
        ((".png", {}), (".webp", {"width": 1000}), (".avif", {"width": 800}), (".jpg", {"quality": 90})),
    ),
    "video_thumbnail": (
        sample_files.VIDEOS,
        ((".jpg", {}), (".png", {"position": 2.0}), (".webp", {"position": "50%"})),
    ),
    "video_preview": (
        sample_files.VIDEOS,
        (
            (".jpg", {"columns": 4, "rows": 3}),
            (".webp", {"kind": "animation", "width": 240}),
            (".gif", {"clips": 3, "width": 240}),
            (".mp4", {"clips": 3}),
        ),
    ),
    "video_convert": (
        sample_files.VIDEOS,
        (
            (".mp4", {}),
            (".mkv", {"video_codec": "h265", "width": 480}),
            (".webm", {"width": 320}),
            (".mp4", {"video_codec": "av1", "preset": "veryfast", "width": 320}),
            (".mp4", {"preset": "medium", "scale": 0.5}),
        ),
    ),
    "document_convert": ((*sample_files.DOCUMENTS, *sample_files.OFFICE), ((".pdf", {}), (".pdf", {"pages": "1"}))),
    "document_preview": (
        (*sample_files.DOCUMENTS, *sample_files.OFFICE),
        ((".png", {}), (".jpg", {"pages": "1", "width": 1200}), (".webp", {"width": 400})),
    ),
    "model_preview": (
        sample_files.MODELS,
        ((".png", {}), (".jpg", {"width": 1000, "height": 1000}), (".gif", {"kind": "turntable"})),
    ),
}
_HELD_OUT: Ways = {
    "audio_convert": (
        (held_out_files.TRAILER, held_out_files.PIER, held_out_files.SNOW),
        ((".mp3", {"loudness": -14}), (".m4a", {}), (".ogg", {}), (".wav", {}), (".png", {"width": 3000})),
    ),
    "image_thumbnail": (
        held_out_files.IMAGES,
        (
            (".jpg", {}),
            (".png", {"width": 640, "height": 640}),
            (".webp", {"width": 500, "height": 400, "fit": "fill", "quality": 95}),
        ),
    ),
    "image_convert": (
        held_out_files.IMAGES,
        (
            (".jpg", {"quality": 75}),
            (".webp", {"lossless": True}),
            (".tif", {"width": 700}),
            (".avif", {"width": 500}),
            (".gif", {"width": 400}),
        ),
    ),
    "video_thumbnail": (
        held_out_files.VIDEOS,
        ((".jpg", {}), (".png", {"position": "25%", "width": 1280}), (".avif", {"candidates": 5, "width": 320})),
    ),
    "video_preview": (
        held_out_files.VIDEOS,
        (
            (".png", {"columns": 3, "rows": 5, "width": 400}),
            (".webp", {"positions": "scenes", "header": True}),
            (".gif", {"clips": 4, "clip_seconds": 0.5, "fps": 12}),
            (".mp4", {"width": 480}),
        ),
    ),
    "video_convert": (
        held_out_files.VIDEOS,
        (
            (".mp4", {}),
            (".mkv", {"video_codec": "h265", "height": 360}),
            (".webm", {"height": 240}),
            (".mp4", {"video_codec": "av1", "preset": "superfast", "width": 400}),
            (".mov", {"preset": "fast", "crf": 20, "scale": 0.75, "segment_seconds": 3}),
            (".mkv", {"video_bitrate": 800_000, "height": 480, "audio_codec": "none"}),
        ),
    ),
    "document_convert": (
        (*held_out_files.DOCUMENTS, *held_out_files.OFFICE),
        ((".pdf", {}), (".pdf", {"pages": "1"})),
    ),
    "document_preview": (
        (*held_out_files.DOCUMENTS, *held_out_files.OFFICE),
        (
            (".png", {}),
            (".zip", {"pages": "all", "dpi": 100}),
            (".tif", {"pages": "1-3", "width": 1600}),
            (".webp", {"pages": "1-12", "width": 300}),
        ),
    ),
    "model_preview": (
        held_out_files.MODELS,
        (
            (".png", {"width": 640, "height": 480, "antialias": 3}),
            (".webp", {"kind": "sheet", "width": 1200, "height": 900}),
            (".mp4", {"kind": "turntable", "frames": 24, "width": 480, "height": 480}),
        ),
    ),
}


def runs() -> Iterator[Run]:
    """Return all of them, by type; of each type first the runs that its formula was fitted to."""
    for task_type, fitted in _FITTED.items():
        for held_out, (samples, ways) in ((False, fitted), (True, _HELD_OUT[task_type])):
            for sample in samples:
                for suffix, options in ways:
                    yield Run(task_type, sample, suffix, options, held_out)
