"""The work of `model_preview`: read the model (up to 50 %), draw it piece by piece (to 95 %), join the pieces."""

import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from PIL import Image

from ....events.counted import plural
from ...contract import Finished, Job, Outcome, TaskContext
from ...media.animation import MP4_CODEC, frames_in, write_animation
from ...media.pictures import save, write_picture
from ...media.result import output_fields
from ...pieces import Pieces, fingerprint
from ...side_by_side import TickFunction, side_by_side
from ..counting import Counted, beginning, count_faces, faces_there
from ..loading import Model, load_model
from ..threemf import has_colours
from .camera import Camera, cameras, cell, view_grid
from .drawing import Painter
from .estimate import BAND, drawn_at_once
from .options import ModelPreviewOptions, format_for
from .tracing import tracer_for

_BEST_CRF, _CRF_STEP = 14, 0.3
"""x264's crf for quality 100, and its increase for each point below."""


def write_still(picture: Image.Image, path: Path, kind: str, options: ModelPreviewOptions) -> None:
    """Write one picture, without an alpha channel unless it is needed."""
    if options.background != "transparent":
        picture = picture.convert("RGB")
    write_picture(picture, path, kind, quality=options.quality)


def write_turntable(frames: Iterator[Image.Image], path: Path, kind: str, options: ModelPreviewOptions) -> None:
    """Write an animation of a whole turn."""
    solid = options.background != "transparent"
    write_animation(
        (frame.convert("RGB") if solid else frame for frame in frames),
        path,
        kind,
        count=options.frames,
        fps=options.fps,
        crf=round(_BEST_CRF + _CRF_STEP * (100 - options.quality)),
        webp={"quality": options.quality, "method": 2, "minimize_size": False},
        gif={"disposal": 1 if solid else 2, "optimize": False},
    )


# --- What is not drawn ---


_HEAD = 65_536
"""Bytes at the beginning in which exporters name the other file."""
_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]*[^\s])", re.MULTILINE)
_TEXTURE = re.compile(rb"^comment[ \t]+TextureFile[ \t]+([^\r\n]*[^\s])", re.MULTILINE | re.IGNORECASE)
_COLOURED_CORNERS = re.compile(rb"\s*(?:ST)?CN?OFF")
_DIGITS = 9
"""Of a number of corners that are looked at."""
_STL_NAME = 80
"""Bytes at the beginning of a binary stl, where programs say that its faces have colours."""
_LONGEST = 100


def missing_faces(path: Path, counted: Counted) -> list[str]:
    """A note if a text has fewer faces than its header promises (such a binary file is refused) or an stl goes on."""
    if counted.left:
        return [f"{counted.left:,} {plural(counted.left, 'byte')} behind the last face of the model are not read"]
    there = faces_there(path, counted)
    if there >= counted.faces:
        return []
    faces = f"{counted.faces:,} {plural(counted.faces, 'face')}"
    return [f"the model was cut or is damaged: it has {there:,} of the {faces} that it promises"]


def unread_colours(path: Path) -> list[str]:
    """Notes on materials and textures that are not read. An attempt opens no file except its input."""
    match path.suffix.lower():
        case ".obj":
            return [f"materials in {name} are not read" for name in _names(path, _LIBRARY)]
        case ".ply":
            return [f"the texture {name} is not read" for name in _names(path, _TEXTURE)]
        case ".3mf" if has_colours(path):
            return ["colours of a 3mf are not read"]
        case ".off" if _off_has_colours(path):
            return ["colours of an off are not read"]
        case ".stl" if b"COLOR=" in beginning(path)[:_STL_NAME]:
            return ["colours of an stl are not read"]
    return []


def _off_has_colours(path: Path) -> bool:
    """By its first word, which tells of colours of the corners, or by the last face, which has its own behind it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _HEAD))
        words = file.read().strip().rpartition(b"\n")[2].partition(b"#")[0].split()
    coloured = bool(words) and words[0].isdigit() and len(words) > int(words[0][:_DIGITS]) + 1
    return coloured or _COLOURED_CORNERS.match(beginning(path)) is not None


def _names(path: Path, named: re.Pattern[bytes]) -> list[str]:
    """Names of other files; untrusted, and in any encoding."""
    head = beginning(path).replace(b"\r", b"\n")
    names = [name.decode("utf-8", "replace")[:_LONGEST] for name in named.findall(head)[:1]]
    return ["".join(sign if sign.isprintable() else "?" for sign in name) for name in names]


# --- The work ---


_STYLE = 2
"""Raise this number when the same model would give other pixels."""
_FOUND, _READ, _DRAWN = 5.0, 50.0, 95.0
"""Percent when the faces are counted, when they are read if that is nearly all of the work, and when all is drawn."""
_FACE = 4
"""Samples that are drawn in the time in which a face is read."""


class Band(NamedTuple):
    """One piece of the work: some rows of a picture."""

    picture: int
    first: int
    last: int


def run(context: TaskContext[ModelPreviewOptions]) -> Outcome:
    """Draw `context.input_file` into `context.output_part`, continuing from `context.checkpoint`.

    Raises:
        Unusable: the model cannot be drawn.
        OSError: a file cannot be read or written.
    """
    return _Drawing(context).run()


def bands(options: ModelPreviewOptions) -> list[Band]:
    """The pieces: whole pictures, or parts of large stills."""
    width, height = cell(options)
    rows = height if options.kind == "turntable" else max(1, BAND // (width * options.antialias**2))
    return [
        Band(picture, first, min(height, first + rows))
        for picture in range(options.pictures)
        for first in range(0, height, rows)
    ]


class _Drawing:
    """One attempt."""

    def __init__(self, context: TaskContext[ModelPreviewOptions]) -> None:
        self._context = context
        self._options = context.options
        self._format = format_for(context.options, context.output_file)
        self._bands = bands(context.options)
        self._read = _READ

    def run(self) -> Outcome:
        """Do the remaining work."""
        context = self._context
        context.progress(0, f"looking into {context.input_file.name}")
        counted = count_faces(context.input_file)
        self._context.check_stop()
        self._read = _FOUND + (_READ - _FOUND) * self._share_of_reading(counted.faces)
        context.progress(_FOUND, f"reading {counted.faces} {plural(counted.faces, 'face')}")
        model = load_model(context.input_file, self._options.up, self._options.color)
        self._context.check_stop()
        tracer = tracer_for(model.vertices, model.faces)
        mark = fingerprint(
            context.input_file,
            context.input_file.suffix.lower(),
            msgspec.to_builtins(self._options),
            [_STYLE, type(tracer).__name__, version("trimesh"), np.__version__],
            version=context.input_version,
        )
        pieces = Pieces(context, mark, stem="view")
        if len(pieces) < len(self._bands):
            self._draw(pieces, model, Painter(model, tracer, self._options), counted)
        del tracer
        self._write(pieces)
        faces = len(model.faces)
        return Finished(result=self._describe(model, counted), message=f"{faces} {plural(faces, 'face')}")

    def _draw(self, pieces: Pieces, model: Model, painter: Painter, counted: Counted) -> None:
        """Draw the missing pieces, side by side. Only this thread keeps pieces and reports progress."""
        self._context.check_stop()
        views = cameras(self._options, model.vertices)
        began, before = time.monotonic(), len(pieces)
        shares: dict[int, float] = {}

        def tick() -> None:
            self._context.check_stop()
            done = len(pieces) + sum(list(shares.values()))
            pace = (done - before) / max(1e-3, time.monotonic() - began)
            self._context.progress(self._percent(done), self._where(min(shares, default=len(self._bands) - 1), pace))

        def work(number: int, tick: TickFunction) -> Generator[int, None, None]:
            self._draw_piece(painter, views, pieces, number, shares, tick)
            yield number

        works = [partial(work, number) for number in pieces.missing(len(self._bands))]
        team = side_by_side(works, self._at_once(counted), tick, lambda _number: True, now=self._context.cores)
        with closing(team) as finished:
            for number in finished:
                del shares[number]
                done = len(pieces) + 1
                pace = (done - before) / max(1e-3, time.monotonic() - began)
                pieces.keep(number, self._percent(done + sum(list(shares.values()))), self._where(number, pace))
        pieces.save(_DRAWN, "all pictures are drawn")

    def _draw_piece(
        self,
        painter: Painter,
        views: Sequence[Camera],
        pieces: Pieces,
        number: int,
        shares: dict[int, float],
        tick: TickFunction,
    ) -> None:
        """Draw one piece into its file, in any thread; `shares` gives each piece's progress."""
        band = self._bands[number]
        shares[number] = 0.0

        def step(share: float) -> None:
            shares[number] = share
            tick()

        picture = painter.draw(views[band.picture], band.first, band.last, step)
        save(Image.fromarray(picture), pieces.part(number), "PNG", compress_level=1)

    def _at_once(self, counted: Counted) -> int:
        context = self._context
        job = Job(
            options=self._options,
            input_file=context.input_file,
            output_file=context.output_file,
            room=context.room,
        )
        return drawn_at_once(job, counted)

    def _percent(self, done: float) -> float:
        return self._read + (_DRAWN - self._read) * done / len(self._bands)

    def _share_of_reading(self, faces: int) -> float:
        """The share of the work, 0 to 1. A turntable of a small model takes nearly all its time to be drawn."""
        width, height = cell(self._options)
        samples = self._options.pictures * width * height * self._options.antialias**2
        return _FACE * faces / (_FACE * faces + samples)

    def _where(self, number: int, pace: float) -> str:
        band = self._bands[number]
        if self._options.kind == "turntable":
            return f"frame {number + 1} of {len(self._bands)}, {pace:.1f} a second"
        if self._options.kind == "sheet":
            return f"view {band.picture + 1} of {self._options.pictures}"
        return f"rows {band.first} to {band.last} of {self._options.height}"

    def _pictures(self, pieces: Pieces) -> Iterator[Image.Image]:
        """The finished pictures, one after another."""
        if self._options.kind == "turntable":
            for number in range(len(self._bands)):
                self._context.check_stop()
                self._context.progress(_DRAWN + 5 * number / len(self._bands), f"writing frame {number + 1}")
                with Image.open(pieces.path(number), formats=("PNG",)) as frame:
                    yield frame.copy()
            return
        yield self._sheet(pieces)

    def _sheet(self, pieces: Pieces) -> Image.Image:
        plain = self._options.background
        colour = (0, 0, 0, 0) if plain == "transparent" else (*bytes.fromhex(plain[1:]), 255)
        whole = Image.new("RGBA", (self._options.width, self._options.height), colour)
        columns, _ = view_grid(self._options)
        width, height = cell(self._options)
        for number, band in enumerate(self._bands):
            self._context.check_stop()
            with Image.open(pieces.path(number), formats=("PNG",)) as part:
                down, across = divmod(band.picture, columns)
                whole.paste(part, (across * width, down * height + band.first))
        return whole

    def _write(self, pieces: Pieces) -> None:
        self._context.progress(_DRAWN, f"writing {self._format.lower()}")
        pictures = self._pictures(pieces)
        if self._options.kind == "turntable":
            write_turntable(pictures, self._context.output_part, self._format, self._options)
        else:
            write_still(next(pictures), self._context.output_part, self._format, self._options)
        self._context.check_stop()

    def _describe(self, model: Model, counted: Counted) -> dict[str, Any]:
        options, part, film = self._options, self._context.output_part, self._format == "MP4"
        result = output_fields(
            part,
            self._format.lower(),
            width=options.width,
            height=options.height,
            frames=options.frames if film else frames_in(part, self._format),
            duration=options.frames / options.fps if options.kind == "turntable" else 0.0,
            codec=MP4_CODEC if film else "",
        )
        result |= {
            "source_faces": len(model.faces),
            "source_vertices": len(model.vertices),
            "source_bounds": model.bounds,
        }
        notes = missing_faces(self._context.input_file, counted)
        if odd := model.read - len(model.faces):
            faces, have = plural(odd, "face is", "faces are"), plural(odd, "it has", "they have")
            notes.append(f"{odd:,} {faces} left out: {have} corners that are no numbers")
        if counted.loose:
            parts, are = plural(counted.loose, "part"), plural(counted.loose, "is", "are")
            notes.append(f"{counted.loose:,} {parts} of points or lines {are} left out: only faces are drawn")
        if counted.unread:
            notes.append(f"not read, although the model needs it: {', '.join(counted.unread)}")
        if model.bare:
            meshes = plural(model.bare, "mesh", "meshes")
            notes.append(f"the texture of {model.bare:,} {meshes} cannot be read")
        notes += [] if options.color else unread_colours(self._context.input_file)
        return result | ({"notes": notes} if notes else {})
