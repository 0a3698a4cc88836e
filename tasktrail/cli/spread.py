"""`--spread`: one film, converted on many nodes and shown as one task."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ..words import percent
from .fields import F
from .parameters import OPEN, PartsParam
from .progress import Display
from .terminal import plain

if TYPE_CHECKING:
    from ..actors.core.explanation import Why
    from ..api.protocol import Tasks
    from ..api.spreading import Spreading
    from ..events import CreateGraph, CreateTask, Task

_JOIN_FROM = 90.0
"""Percentage of the whole at which all parts are done and the join begins."""
_MOST = 16
"""The most parts for `auto`, because each part begins by looking through the whole file."""


def spread_option(function: F) -> F:
    """Add `--spread`."""
    return click.option(
        "--spread",
        type=PartsParam(),
        metavar="N|auto",
        help="For video_convert: make the film in N parts, each on any node, and join them; the bytes are "
        "the same. auto: as many parts as attempts may run at once.",
    )(function)


def spread_as_asked(tasks: "Tasks", wanted: "CreateTask", parts: int) -> "Spreading":
    """Return the command to send; `parts` as the option gives it. Raises what `spread_over` raises."""
    from ..api.spreading import spread_over

    return spread_over(wanted, parts or _concurrent_attempts(tasks))


def try_spread(tasks: "Tasks", wanted: "CreateTask", parts: int, display: Display) -> "CreateGraph | None":
    """Return the tasks of the parts and the film; None, with the reason shown, if one task converts it."""
    from ..events import CreateGraph

    spreading = spread_as_asked(tasks, wanted, parts)
    if isinstance(spreading.command, CreateGraph):
        return spreading.command
    display.say(f"one task converts it: {spreading.not_spread}")
    return None


def _concurrent_attempts(tasks: "Tasks") -> int:
    return max(1, min(_MOST, tasks.limits().limits.max_concurrent))


def parts_of(tasks: "Tasks", task: "Task") -> list["Task"]:
    """Return the tasks of the film's parts, in order; none if the task is not a film in parts."""
    from ..handlers.video.convert.spread import part_file

    parts = task.options.get("parts")
    if task.type != "video_convert" or not isinstance(parts, int):
        return []
    makers = [tasks.get_task(task_id) for task_id in task.depends_on[:parts]]
    called = [str(part_file(Path(task.output_file), part, parts)) for part in range(1, parts + 1)]
    own = [maker.output_file for maker in makers if maker.type == "video_part"]
    return makers if own == called and len(makers) == len(called) else []


class FilmWithParts:
    """Shows a film and its parts as one task. It has the methods that `until_ended` calls."""

    def __init__(self, tasks: "Tasks") -> None:
        self._tasks = tasks

    def get_task(self, task_id: int) -> "Task":
        """Return the film with the combined progress of its parts."""
        film = self._tasks.get_task(task_id)
        if film.status not in OPEN:
            return film
        if film.attempt:
            done = _JOIN_FROM + (100 - _JOIN_FROM) * film.progress / 100
            return msgspec.structs.replace(film, progress=done)
        return as_one(film, parts_of(self._tasks, film))

    def why(self, task_id: int) -> "Why":
        """Return what keeps the first waiting part from starting, or the film if no part waits."""
        parts = parts_of(self._tasks, self._tasks.get_task(task_id))
        waiting = (part.id for part in parts if part.status in ("pending", "retrying"))
        return self._tasks.why(next(waiting, task_id))

    def wait(self, task_id: int, timeout: float | None = None) -> "Task":
        """Wait until the film ends. Raises `WaitTimeout`."""
        return self._tasks.wait(task_id, timeout)


def as_one(film: "Task", parts: Sequence["Task"]) -> "Task":
    """Return the film before it is joined, with the progress of its parts, combined and each."""
    done = sum(100.0 if part.status == "completed" else part.progress for part in parts) / max(1, len(parts))
    listed = ", ".join(f"{number} {_progress_in_words(part)}" for number, part in enumerate(parts, 1))
    runs = any(part.attempt for part in parts)
    return msgspec.structs.replace(
        film,
        status="running" if runs else film.status,
        attempt=1 if runs else 0,
        progress=_JOIN_FROM * done / 100,
        message=f"parts: {listed}" if runs else film.message,
    )


def _progress_in_words(part: "Task") -> str:
    return {"completed": "done", "pending": "waits"}.get(part.status, percent(part.progress))


def failed_parts(tasks: "Tasks", film: "Task") -> list[str]:
    """Return lines that say which parts failed, and how to retry them without making the others again."""
    parts = parts_of(tasks, film)
    failed = [(number, part) for number, part in enumerate(parts, 1) if part.status == "failed"]
    lines = [f"  part {number} of {len(parts)} is task {part.id}: {plain(part.error)}" for number, part in failed]
    if failed:
        ids = " ".join(str(part.id) for _, part in failed)
        lines.append(f"  `tasktrail retry {ids} {film.id}` makes these again and keeps the others.")
    return lines
