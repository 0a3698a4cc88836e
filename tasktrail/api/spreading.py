"""One film on many nodes: a command for one conversion becomes a graph of its parts and the task that joins them."""

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec

from ..events import CreateGraph, CreateTask, GraphTask
from ..events.commands import TaskFields
from ..events.errors import CONTRADICTION, InvalidOptions, InvalidValue
from ..handlers.urls import is_url
from ..intake.paths import with_plain_paths

FILM = "film"
"""The name, in the graph, of the task that joins the parts."""
_OF_THE_FILM = (
    *("notify_email", "notify_webhook", "callback_url", "notify_on", "notify_targets"),
    *("original", "original_folder"),
)
OF_THE_PARTS = ("scheduled_for", "held", "deadline", "queue_timeout")
"""Fields about when the work may begin. Only the parts get them: the film waits for its parts anyway."""
_FOLDED = re.compile(r"[\s,/\x00-\x1f\x7f-\x9f]+")
_LONGEST = 150
_NAME_MAX = 255
"""Bytes of a file's name."""


class SpreadFilm(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that make a film."""

    task_id: int
    """The task that joins the parts; its end is the film's."""
    parts: tuple[int, ...] = ()
    """The tasks of the parts, in their order; empty if the film is not spread."""
    batch: str = ""
    """The name that all of them share: to cancel, retry or list them."""
    not_spread: str = ""
    """Why a single task converts the film; empty if it is spread."""


class Spreading(NamedTuple):
    """The command to send, and the reason if it is a single task."""

    command: CreateGraph | CreateTask
    not_spread: str = ""

    @property
    def film(self) -> TaskFields:
        """The task whose end is the film's."""
        if isinstance(self.command, CreateTask):
            return self.command
        return self.command.tasks[-1]


def spread_over(film: CreateTask, parts: int) -> Spreading:
    """Make the graph that converts the film in `parts` parts. Where that is impossible or useless, return `film`.

    Raises:
        InvalidOptions: it is no conversion of a film, or has the option `parts` itself, or a `unique` key.
        InvalidValue: the number of parts is out of range.
    """
    from ..handlers.video.convert.options import MAX_PARTS

    if film.type != "video_convert":
        raise InvalidOptions(
            f"{film.type} cannot be spread over nodes, only video_convert can",
            field="type",
            remedy="Leave the spreading out.",
            status=CONTRADICTION,
        )
    if "parts" in film.options:
        raise InvalidOptions("parts is set by the spreading itself", field="options.parts", remedy="Leave it out.")
    if not 1 <= parts <= MAX_PARTS:
        raise InvalidValue(f"A film has 1 to {MAX_PARTS} parts, not {parts}", field="parts")
    film = with_plain_paths(film)
    if is_url(film.input_file) or is_url(film.output_file):
        return Spreading(film, "its input or output is elsewhere, and parts lie beside the film")
    if why := "one part is the whole film" if parts == 1 else _why_not(film, parts):
        return Spreading(film, why)
    if film.unique:
        raise InvalidOptions(
            "unique holds for one task, and a spread film is several tasks",
            field="unique",
            remedy="Leave it out, or leave the spreading out.",
            status=CONTRADICTION,
        )
    shared = {name: getattr(film, name) for name in TaskFields.__struct_fields__}
    shared["batch"] = film.batch or _batch(film)
    options = {**film.options, "parts": parts}
    makers = [_part(film, shared, options, part, parts) for part in range(1, parts + 1)]
    begin = {name: getattr(CreateTask(type="video_convert"), name) for name in OF_THE_PARTS}
    policies = film.on_dependency_failure
    others = (policies,) * len(film.depends_on) if isinstance(policies, str) else policies
    joins = GraphTask(
        **{**shared, **begin, "options": options, "on_dependency_failure": (*["fail"] * parts, *others)},
        name=FILM,
        parent=film.parent_task_id,
        depends_on=(*(maker.name for maker in makers), *film.depends_on),
    )
    return Spreading(
        CreateGraph(
            tasks=(*makers, joins),
            command_id=film.command_id,
            actor=film.actor,
            reason=film.reason,
            correlation_id=film.correlation_id,
            traceparent=film.traceparent,
        )
    )


def spread_film_of(graph: CreateGraph, ids: Mapping[str, int]) -> SpreadFilm:
    """Return the tasks that were created from the graph."""
    *makers, joins = graph.tasks
    return SpreadFilm(task_id=ids[joins.name], parts=tuple(ids[maker.name] for maker in makers), batch=joins.batch)


def _part(film: CreateTask, shared: dict[str, Any], options: dict[str, Any], part: int, parts: int) -> GraphTask:
    from ..handlers.video.convert.spread import part_file

    own = {name: getattr(CreateTask(type="video_part"), name) for name in _OF_THE_FILM}
    return GraphTask(
        **{
            **shared,
            **own,
            "type": "video_part",
            "output_file": str(part_file(Path(film.output_file), part, parts)),
            "options": {**options, "part": part},
            "overwrite": True,  # what an earlier try has left under this name
            "estimated_time": film.estimated_time / parts,
        },
        name=f"part-{part}",
        parent=film.parent_task_id,
        depends_on=film.depends_on,
    )


def _why_not(film: CreateTask, parts: int) -> str:
    """Say why a single task has to convert the film; empty if not. Wrong options are refused later."""
    from ..handlers.video.convert.options import VideoConvertOptions, why_not_spread
    from ..handlers.video.convert.spread import part_file

    if len(os.fsencode(part_file(Path(film.output_file), parts, parts).name)) > _NAME_MAX:
        return "its name is so long that the parts could have none"
    try:
        return why_not_spread(msgspec.convert(film.options, VideoConvertOptions))
    except msgspec.ValidationError:
        return ""


def _batch(film: CreateTask) -> str:
    """A name for this film's tasks alone; the same when the command is repeated."""
    name = _FOLDED.sub("_", Path(film.output_file).name)[:_LONGEST] or "film"
    tail = sha256(film.command_id.encode()).hexdigest()[:6] if film.command_id else token_hex(3)
    return f"{name}-{tail}"
