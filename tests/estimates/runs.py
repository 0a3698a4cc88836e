"""What the estimates are held against: every type on every real sample, with options that change what it needs."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from sample_files import DOCUMENTS, IMAGES, MODELS, OFFICE, VIDEOS

from tasktrail.samples import Sample

Options: TypeAlias = dict[str, Any]


class Run(NamedTuple):
    """One task."""

    type: str
    sample: Sample
    suffix: str
    options: Options


_WAYS: dict[str, tuple[tuple[Sample, ...], tuple[tuple[str, Options], ...]]] = {
    "image_thumbnail": (
        IMAGES,
        ((".jpg", {}), (".webp", {"width": 1200, "height": 1200}), (".avif", {"width": 400, "fit": "fill"})),
    ),
    "image_convert": (
        IMAGES,
        ((".png", {}), (".webp", {"width": 1000}), (".avif", {"width": 800}), (".jpg", {"quality": 90})),
    ),
    "video_thumbnail": (VIDEOS, ((".jpg", {}), (".png", {"position": 2.0}), (".webp", {"position": "50%"}))),
    "video_preview": (
        VIDEOS,
        (
            (".jpg", {"columns": 4, "rows": 3}),
            (".webp", {"kind": "animation", "width": 240}),
            (".gif", {"clips": 3, "width": 240}),
            (".mp4", {"clips": 3}),
        ),
    ),
    "video_convert": (
        VIDEOS,
        (
            (".mp4", {}),
            (".mkv", {"video_codec": "h265", "width": 480}),
            (".webm", {"width": 320}),
            (".mp4", {"video_codec": "av1", "preset": "veryfast", "width": 320}),
            (".mp4", {"preset": "medium", "scale": 0.5}),
        ),
    ),
    "document_preview": (
        (*DOCUMENTS, *OFFICE),
        ((".png", {}), (".jpg", {"pages": "1", "width": 1200}), (".webp", {"width": 400})),
    ),
    "model_preview": (
        MODELS,
        ((".png", {}), (".jpg", {"width": 1000, "height": 1000}), (".gif", {"kind": "turntable"})),
    ),
}


def runs() -> Iterator[Run]:
    """All of them, those of one type after those of the other."""
    for task_type, (samples, ways) in _WAYS.items():
        for sample in samples:
            for suffix, options in ways:
                yield Run(task_type, sample, suffix, options)
