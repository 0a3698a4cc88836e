"""Small pictures of files, made by the built-in types: a page shows them for inputs and outputs.

These types are in no registry, and no task has them. The service gives them to separate workers (`actors/pictures.py`).
They are sandboxed and bounded like any attempt, and write only into their work folder.
"""

from pathlib import Path, PurePath
from typing import Any

import msgspec

from .contract import Bounds, Estimate, Finished, Job, Outcome, TaskContext, TaskType
from .document.kinds import MARKDOWN_SUFFIXES, OFFICE
from .document.preview import document_preview
from .document.preview.options import DocumentPreviewOptions
from .image.thumbnail import image_thumbnail
from .image.thumbnail.options import ImageThumbnailOptions
from .media.formats import HEIC_SUFFIXES, WRITE_FORMATS, has_heic
from .model.preview import model_preview
from .model.preview.options import READ_SUFFIXES, ModelPreviewOptions
from .video.thumbnail import video_thumbnail
from .video.thumbnail.options import VideoThumbnailOptions

PICTURE_NAME = "picture.jpg"
"""The file's name in the work folder."""
PICTURE_SIDE = 480
"""Pixels of the longer side."""
MEMORY = 768 * 1024 * 1024
"""Bytes that making one picture may take."""
CPU_SECONDS = 20.0

_IMAGES = frozenset((*WRITE_FORMATS, ".tif", ".tiff", ".bmp"))
_FILMS = frozenset(
    (
        ".3gp",
        ".avi",
        ".dv",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    )
)
_DOCUMENTS = frozenset((".pdf", ".txt", *MARKDOWN_SUFFIXES, *(f".{kind}" for kind in OFFICE)))


class _Drawing:
    """The attempt as the built-in type sees it: with options for a small picture, and without checkpoints."""

    def __init__(self, context: TaskContext[Any], options: msgspec.Struct) -> None:
        self._context = context
        self.options = options
        self.checkpoint = None
        self.output_part = context.work_dir / PICTURE_NAME
        self.output_file = self.output_part

    def save_checkpoint(self, *_: object, **__: object) -> None:
        """Do nothing: a picture is always begun anew."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _picture_of(name: str, inner: TaskType, options: msgspec.Struct) -> TaskType:
    def run(context: TaskContext[Any]) -> Outcome:
        ended = inner.handle(_Drawing(context, options))
        return ended if not isinstance(ended, dict) and ended is not None else Finished()

    def probe(job: Job[Any]) -> Estimate:
        job = msgspec.structs.replace(job, options=options, output_file=Path(PICTURE_NAME))
        return Estimate(memory=inner.probe_input(job).memory)

    return TaskType(
        name=name,
        summary=inner.summary,
        run=run,
        probe=probe,
        needs_input=True,
        bounds=Bounds(cpu_seconds=CPU_SECONDS, cpu_per_megabyte=0, memory_floor=MEMORY, memory_factor=1.0),
        preload=inner.late_modules,
        packages=inner.packages,
    )


image_picture = _picture_of(
    "image_picture", image_thumbnail, ImageThumbnailOptions(width=PICTURE_SIDE, height=PICTURE_SIDE)
)
video_picture = _picture_of(
    "video_picture", video_thumbnail, VideoThumbnailOptions(width=PICTURE_SIDE, height=PICTURE_SIDE, candidates=4)
)
document_picture = _picture_of(
    "document_picture", document_preview, DocumentPreviewOptions(width=PICTURE_SIDE, height=PICTURE_SIDE, office="auto")
)
model_picture = _picture_of(
    "model_picture",
    model_preview,
    ModelPreviewOptions(width=PICTURE_SIDE, height=PICTURE_SIDE * 3 // 4, occlusion=False),
)

PICTURE_HOMES = {
    kind.name: f"{__name__}:{kind.name}" for kind in (image_picture, video_picture, document_picture, model_picture)
}


def picture_type(file: PurePath) -> str:
    """The name of the type that makes a picture of a file of this name; empty if none does. Opens nothing."""
    suffix = file.suffix.lower()
    if suffix in _IMAGES or (suffix in HEIC_SUFFIXES and has_heic()):
        return image_picture.name
    for kind, suffixes in ((video_picture, _FILMS), (document_picture, _DOCUMENTS), (model_picture, READ_SUFFIXES)):
        if suffix in suffixes:
            return kind.name
    return ""
