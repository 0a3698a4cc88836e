"""Presets: named sets of options for common wishes. The configuration may add some, or replace these."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from ..events.commands import TaskFields
from ..events.errors import CONTRADICTION, InvalidOptions

F = TypeVar("F", bound=TaskFields)


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one task type. A task is recorded with the options that its preset meant, not with its name."""

    name: str
    type: str
    options: dict[str, Any] = {}
    summary: str = ""
    output_suffix: str = ""
    """The default suffix of an output, with its dot, where only its folder is given. Empty: the type's suffix."""


BUILT_IN = (
    Preset(
        name="web-1080p",
        type="video_convert",
        options={"video_codec": "h264", "max_width": 1920, "max_height": 1080, "crf": 22, "preset": "medium"},
        summary="A film for every browser, at most 1920x1080.",
        output_suffix=".mp4",
    ),
    Preset(
        name="web-720p",
        type="video_convert",
        options={"video_codec": "h264", "max_width": 1280, "max_height": 720, "crf": 23, "preset": "medium"},
        summary="A film for every browser, at most 1280x720.",
        output_suffix=".mp4",
    ),
    Preset(
        name="apple-hevc",
        type="video_convert",
        options={"video_codec": "hevc", "crf": 24, "preset": "medium", "audio_codec": "aac"},
        summary="A film in the codec that phones and computers of Apple record in.",
        output_suffix=".mov",
    ),
    Preset(
        name="archive-av1",
        type="video_convert",
        options={"video_codec": "av1", "crf": 30, "preset": "slow"},
        summary="A small film to keep, with all that can be kept; slow.",
        output_suffix=".mkv",
    ),
    Preset(
        name="podcast",
        type="audio_convert",
        options={"loudness": -16.0, "channels": "mono", "bitrate": 96_000},
        summary="Speech as loud as podcasts are, in one channel.",
        output_suffix=".mp3",
    ),
    Preset(
        name="contact-sheet",
        type="video_preview",
        summary="Pictures from all over a film on one sheet.",
        output_suffix=".jpg",
    ),
    Preset(
        name="web-image",
        type="image_convert",
        options={"width": 2048, "height": 2048, "quality": 80, "profile": "srgb", "depth": "8", "metadata": "strip"},
        summary="A picture for a page, at most 2048 pixels a side; it tells nothing of place and author.",
        output_suffix=".webp",
    ),
    Preset(
        name="web-thumbnail",
        type="image_thumbnail",
        options={"width": 400, "height": 400},
        summary="A small picture for a list.",
        output_suffix=".webp",
    ),
    Preset(
        name="document-pages",
        type="document_preview",
        options={"pages": "all", "dpi": 150},
        summary="All pages of a document as pictures in a zip archive.",
        output_suffix=".zip",
    ),
    Preset(
        name="turntable",
        type="model_preview",
        summary="A model that turns once.",
        output_suffix=".gif",
    ),
)


_PART_OF = {"video_part": "video_convert"}
"""Type → the type whose options and presets it shares, because it does a part of that type's work."""


class Presets:
    """All presets by name."""

    def __init__(self, own: Iterable[Preset] = ()) -> None:
        self.own = tuple(own)
        """The presets of the configuration."""
        self._presets = {preset.name: preset for preset in (*BUILT_IN, *self.own)}

    def __iter__(self) -> Iterator[Preset]:
        return iter(sorted(self._presets.values(), key=lambda preset: preset.name))

    def of(self, type_name: str) -> tuple[Preset, ...]:
        """The presets of a type."""
        return tuple(preset for preset in self if preset.type == type_name)

    def get(self, name: str) -> Preset:
        """The preset of that name. Raises `InvalidOptions`."""
        try:
            return self._presets[name]
        except KeyError:
            near = get_close_matches(name, self._presets, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidOptions(
                f"There is no preset {name!r}{hint}",
                field="preset",
                remedy="`tasktrail types` lists them; the key `presets` of the configuration adds some.",
            ) from None

    def with_preset(self, task: F) -> F:
        """The task with its preset's options filled in; the task's own options win.

        Raises `InvalidOptions` for a preset that does not exist, or belongs to another type.
        """
        if not task.preset:
            return task
        preset = self.get(task.preset)
        if preset.type not in (task.type, _PART_OF.get(task.type)):
            raise InvalidOptions(
                f"The preset {preset.name} is of {preset.type}, not of {task.type}",
                field="preset",
                remedy="`tasktrail types` lists the presets of each type.",
                status=CONTRADICTION,
            )
        return replace(task, options={**preset.options, **task.options}, preset="")
