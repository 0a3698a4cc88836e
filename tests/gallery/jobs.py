"""The gallery's jobs: each task type on real files of at least three sources."""

from typing import Any

import msgspec
from held_out_files import PIER, TRAILER
from sample_files import (
    ASTRONAUT,
    CHARTS,
    CHINA,
    CITY,
    CITY_STILL,
    ELEPHANT,
    FIGURES,
    JOINT,
    LETTER,
    LOGO,
    MANUAL,
    MICE,
    MONKEY,
    NOTES,
    RABBIT,
    RETINA,
)

from tasktrail.demo.samples import AIRPLANE, BIKES, BUNNY, EARTH, GEOBASE, Sample


class Job(msgspec.Struct, frozen=True):
    """One task of the gallery."""

    type: str
    sample: Sample
    suffix: str
    options: dict[str, Any] = {}


JOBS = (
    Job("audio_convert", BUNNY, ".mp3", {"loudness": -16}),
    Job("audio_convert", TRAILER, ".m4a", {"loudness": -23}),
    Job("audio_convert", PIER, ".opus"),
    Job("audio_convert", TRAILER, ".png"),
    Job("image_thumbnail", EARTH, ".webp", {"width": 400, "height": 400}),
    Job("image_thumbnail", ASTRONAUT, ".jpg", {"width": 300, "height": 300, "fit": "fill"}),
    Job("image_thumbnail", CHINA, ".avif", {"width": 400, "height": 300}),
    Job("image_thumbnail", JOINT, ".png", {"width": 200, "height": 200}),
    Job("image_convert", RETINA, ".avif", {"width": 800}),
    Job("image_convert", CITY_STILL, ".jpg", {"quality": 80}),
    Job("image_convert", CHINA, ".tif", {"width": 300, "height": 200, "fit": "crop"}),
    Job("image_convert", ASTRONAUT, ".webp", {"lossless": True}),
    Job("image_convert", JOINT, ".webp", {"width": 160}),
    Job("video_thumbnail", BUNNY, ".jpg"),
    Job("video_thumbnail", CITY, ".webp", {"position": "50%", "width": 480}),
    Job("video_thumbnail", MICE, ".png", {"position": 3.0}),
    Job("video_preview", BUNNY, ".jpg", {"columns": 4, "rows": 3, "header": True}),
    Job("video_preview", BIKES, ".webp", {"kind": "animation", "width": 240}),
    Job("video_preview", CITY, ".gif", {"clips": 3, "width": 240}),
    Job("video_preview", MICE, ".mp4", {"clips": 3}),
    Job("video_convert", BUNNY, ".mp4", {"height": 360, "segment_seconds": 2}),
    Job("video_convert", BIKES, ".webm", {"width": 320}),
    Job("video_convert", CITY, ".mkv", {"video_codec": "h265", "width": 480}),
    Job("video_convert", MICE, ".mp4", {"video_codec": "av1"}),
    Job("document_convert", GEOBASE, ".pdf", {"pages": "2-4"}),
    Job("document_convert", NOTES, ".pdf"),
    Job("document_convert", MANUAL, ".pdf"),
    Job("document_convert", CHARTS, ".pdf"),
    Job("document_convert", LETTER, ".pdf"),
    Job("document_preview", GEOBASE, ".jpg", {"pages": "all", "width": 400}),
    Job("document_preview", FIGURES, ".png", {"dpi": 80}),
    Job("document_preview", LOGO, ".webp", {"width": 600}),
    Job("document_preview", NOTES, ".png", {"width": 700}),
    Job("document_preview", MANUAL, ".png", {"office": "auto"}),
    Job("document_preview", CHARTS, ".jpg", {"office": "auto"}),
    Job("document_preview", LETTER, ".jpg", {"office": "auto"}),
    Job("model_preview", AIRPLANE, ".png"),
    Job("model_preview", MONKEY, ".webp"),
    Job("model_preview", ELEPHANT, ".jpg"),
    Job("model_preview", RABBIT, ".gif", {"kind": "turntable", "frames": 12, "width": 400, "height": 400}),
)
