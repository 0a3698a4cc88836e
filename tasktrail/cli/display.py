"""Progress of tasks while it happens: bars on a terminal, a line for each step elsewhere."""

import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

import click

from .words import duration, localized, moment, percent, plain

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ..events import Task

_STEP = 10
"""Percent between two lines of a task whose state does not change."""
ENDED = ("completed", "failed", "cancelled")


class Display(AbstractContextManager["Display"], Protocol):
    """Where progress is shown."""

    def show(self, task: "Task") -> None:
        """Show the task as it is now. It may be called as often as one likes."""

    def say(self, text: str) -> None:
        """A line of its own beside the progress."""


def display_on(stream: TextIO) -> Display:
    """Bars when the stream is a terminal that can draw them, else lines."""
    if stream.isatty():
        return Bars(stream)
    return Lines(err=stream is sys.stderr)


def headline(task: "Task") -> str:
    """What the task is doing, in a few words."""
    match task.status:
        case "pending":
            if task.held:
                return "held"
            due = task.scheduled_for
            return f"waits until {moment(due)}" if due and due > datetime.now(UTC) else "waiting"
        case "retrying":
            return f"waits for its next attempt: {task.error or task.last_error}".rstrip(": ")
        case "failed":
            return f"failed: {task.error}"
        case "running":
            return localized(task.message) or "running"
        case status:
            return status


class Lines(Display):
    """For files and pipes: a line when the state changes, and every ten percent in between."""

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._shown: dict[int, tuple[str, int, int]] = {}

    def show(self, task: "Task") -> None:
        """Print a line if there is something new."""
        step = (task.status, task.attempt, int(task.progress // _STEP))
        if self._shown.get(task.id) == step:
            return
        self._shown[task.id] = step
        took = f" after {duration(task.duration)}" if task.status in ENDED and task.duration else ""
        self.say(f"task {task.id} {task.type} {percent(task.progress)} {plain(headline(task))}{took}")

    def say(self, text: str) -> None:
        """Print it."""
        click.echo(text, err=self._err)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""


class Bars(Display):
    """For terminals: a bar for each task, with percent, message, time spent and time left."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.table import Column

        self._bars: dict[int, tuple[TaskID, str]] = {}
        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:5.1f} %", markup=False),
            TextColumn("ran"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            console=Console(file=stream, highlight=False),
            expand=True,
            refresh_per_second=5,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, task: "Task") -> None:
        """Move the task's bar."""
        bar, status = self._bars.get(task.id, (None, ""))
        if bar is None:
            bar = self._progress.add_task("", total=100, start=False, name=_name(task))
        if task.status == "running" and status != "running":
            self._progress.start_task(bar)
        if task.status != "running" and status == "running":
            self._progress.stop_task(bar)
        self._bars[task.id] = (bar, task.status)
        self._progress.update(bar, completed=task.progress, description=plain(headline(task)))

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(text, markup=False)


def _name(task: "Task") -> str:
    return f"{task.id} {plain(PurePath(task.input_file).name) or task.type}"
