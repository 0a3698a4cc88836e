"""The work of `video_preview`: choose moments (0-10 %), a file for each frame (10-85 %), compose (85-100 %)."""

from pathlib import Path
from typing import Any

import av
import msgspec
import PIL.Image

from ....events.counted import counted
from ...contract import Finished, Outcome, TaskContext, Unusable
from ...media.animation import MP4_CODEC, even_size, frames_in
from ...media.formats import check_sides
from ...media.pictures import write_picture
from ...media.result import output_fields
from ...pieces import Pieces, fingerprint
from ..frames import pick_frames
from ..source import VideoSource, read_source, source_fields, still_notes
from ..stills import StillRenderer, seen_size
from .options import MAX_PREVIEW_PIXELS, VideoPreviewOptions, preview_kind
from .output import (
    TILE_SUFFIX,
    PreviewTile,
    draw_sheet,
    size_of,
    tile_moment,
    write_frame,
    write_preview_animation,
)
from .plan import planned_moments

_PLANNED, _TAKEN = 10.0, 85.0


def run(context: TaskContext[VideoPreviewOptions]) -> Outcome:
    """Write the preview to `context.output_part`, continuing with the frames of an earlier attempt.

    Raises:
        Unusable: there is no frame, the file is not a video, or the preview would be too large.
        OSError: a file cannot be read or written.
    """
    context.progress(0, f"reading {context.input_file.name}")
    mark = _mark(context)
    return _Preview(context, read_source(context.input_file), mark).run()


def _mark(context: TaskContext[VideoPreviewOptions]) -> str:
    """The fingerprint of all that the plan and the frames depend on.

    It is computed before anything is read. If the file changes meanwhile, the old content's results must not get the
    fingerprint of the new content.
    """
    kind, _ = preview_kind(context.options, context.output_file)
    versions = (av.library_versions, PIL.__version__)
    decided = (kind, msgspec.to_builtins(context.options), *versions)
    return fingerprint(context.input_file, *decided, version=context.input_version)


class _Preview:
    """One attempt."""

    def __init__(self, context: TaskContext[VideoPreviewOptions], source: VideoSource, mark: str) -> None:
        self._context = context
        self._source = source
        self._options = context.options
        self._kind, self._format = preview_kind(context.options, context.output_file)
        width, height = seen_size(source)
        self._renderer = StillRenderer(
            source,
            (self._options.width, max(1, round(self._options.width * height / width))),
            "fill",
            context.work_dir,
        )
        tile = self._renderer.size[0] * self._renderer.size[1]
        if tile * self._options.frames_of(self._kind) > MAX_PREVIEW_PIXELS:
            raise Unusable(
                f"the preview would have more than {MAX_PREVIEW_PIXELS} pixels: lower width or the number of frames"
            )
        self._mark = mark
        self._pieces = Pieces(context, self._mark, stem="frame", suffix=TILE_SUFFIX)

    def run(self) -> Outcome:
        """Do the remaining work."""
        moments = planned_moments(
            self._source, self._options, self._kind, self._mark, self._context.work_dir, self._tick_for_scan
        )
        if self._kind == "sheet":
            check_sides(size_of(self._options, self._renderer.size, len(moments)), self._format)
        self._take(moments)
        paths = [self._pieces.path(number) for number in range(len(moments))]
        taken = [tile_moment(path) for path in paths]
        self._compose(paths, taken)
        return Finished(result=self._describe(taken), message=counted(len(taken), "frame"))

    def _tick_for_scan(self, moment: int) -> None:
        self._context.check_stop()
        share = self._source.seconds_at(moment) / max(0.001, self._source.seconds)
        self._context.progress(
            _PLANNED * min(1.0, share), f"looking for scenes, {self._source.seconds_at(moment):.0f} s"
        )

    def _take(self, moments: list[int]) -> None:
        """Make the frames that no earlier attempt has made."""
        count = len(moments)
        missing = list(self._pieces.missing(count))
        found = pick_frames(self._source, [moments[number] for number in missing], self._context.check_stop)
        for number, (moment, frame) in zip(missing, found, strict=False):
            write_frame(self._renderer.render(frame), moment, self._pieces.part(number))
            done = len(self._pieces) + 1
            self._pieces.keep(number, _PLANNED + (_TAKEN - _PLANNED) * done / count, f"frame {done} of {count}")
        self._pieces.save(_TAKEN, f"frame {count} of {count}")
        if len(self._pieces) < count:
            raise Unusable(f"not one picture of {self._source.path.name} can be decoded")

    def _compose(self, paths: list[Path], moments: list[int]) -> None:
        def tick(number: int) -> None:
            self._context.check_stop()
            self._context.progress(_TAKEN + (100 - _TAKEN) * number / len(moments), f"writing {self._format.lower()}")

        part = self._context.output_part
        if self._kind == "animation":
            write_preview_animation(paths, part, self._format, self._options, tick)
            return
        tiles = [
            PreviewTile(path, self._source.seconds_at(moment)) for path, moment in zip(paths, moments, strict=True)
        ]
        sheet = draw_sheet(self._source, self._options, tiles, tick)
        write_picture(sheet, part, self._format, quality=self._options.quality)

    def _describe(self, moments: list[int]) -> dict[str, Any]:
        part, film = self._context.output_part, self._format == "MP4"
        width, height = even_size(*self._renderer.size) if film else _size_of(part, self._format)
        result = output_fields(
            part,
            self._format.lower(),
            width=width,
            height=height,
            frames=len(moments) if film else frames_in(part, self._format),
            duration=len(moments) / self._options.fps if self._kind == "animation" else 0.0,
            codec=MP4_CODEC if film else "",
        )
        positions = [round(self._source.seconds_at(moment), 3) for moment in moments]
        notes = still_notes(self._source)
        result |= source_fields(self._source) | {"kind": self._kind, "source_positions": positions}
        return result | ({"notes": notes} if notes else {})


def _size_of(path: Path, kind: str) -> tuple[int, int]:
    with PIL.Image.open(path, formats=[kind]) as picture:
        return picture.size
