"""`tasktrail watch`: live progress of tasks until they end.

On a terminal it draws a picture: a line of totals, and the running, waiting and failed tasks. It fits the screen
however many tasks there are: `picture` is given the size, leaves rows out, and says how many.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

import click
import msgspec

from ..events.errors import ServiceUnreachable
from ..expectation import means_of, seconds_left, whole_of
from ..words import about, duration, percent
from .command import CliCommand, pass_session
from .failing import DONE, INTERRUPTED, REFUSED
from .parameters import OPEN, TASK_ID
from .progress import ENDED, LOOK_EVERY, Display, Lines, Poller, Signals, headline, in_short
from .session import Session
from .terminal import Column, localized, plain, print_json, say, table_rows, width_of, wrapped

if TYPE_CHECKING:
    from ..actors.core.explanation import Obstacle
    from ..api.protocol import Reading
    from ..events import Task
    from ..projections import Stats


_COLUMNS = (
    Column("ID", right=True),
    Column("STATUS"),
    Column("DONE", right=True),
    Column("RAN", right=True),
    Column("LEFT", right=True),
    Column("INPUT", "name"),
    Column("TYPE", leaves=1, extra=True),
    Column("MESSAGE", "text", leaves=2),
)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The combined progress of all watched tasks."""

    total: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    left: float | None = None
    """Seconds until all are done: of running tasks by their own pace, of others by their type; None if unknown."""


class Screen(Protocol):
    """Where the picture is drawn."""

    def size(self) -> tuple[int, int]:
        """Return the columns and lines."""

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines drawn last."""

    def above(self, text: str) -> None:
        """Print a line that stays, above the picture."""


class Board(Display):
    """Remembers the tasks that it is given, and draws them all together."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._tasks: dict[int, Task] = {}
        self._held_by: dict[int, Sequence[Obstacle]] = {}

    def show(self, task: "Task", held_by: "Sequence[Obstacle]" = ()) -> None:
        """Remember the task as it is now."""
        self._tasks[task.id] = task
        self._held_by[task.id] = held_by

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        self._screen.above(plain(text))

    def draw(self, totals: Totals, means: Mapping[str, float], now: datetime) -> None:
        """Draw the remembered tasks."""
        width, height = self._screen.size()
        tasks = self._tasks.values()
        self._screen.draw(picture(tasks, totals, means, now, width=width, height=height, held_by=self._held_by))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the code that opened the screen closes it."""


class Terminal(AbstractContextManager["Terminal"]):
    """A screen on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def size(self) -> tuple[int, int]:
        """Return the columns and lines; one line less, which is for the cursor."""
        return width_of(self._stream) or self._console.width, max(2, self._console.height - 1)

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines drawn last."""
        from rich.text import Text

        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)

    def above(self, text: str) -> None:
        """Print a line that stays, above the picture."""
        self._console.print(text)


def picture(
    tasks: Iterable["Task"],
    totals: Totals,
    means: Mapping[str, float],
    now: datetime,
    *,
    width: int,
    height: int,
    held_by: "Mapping[int, Sequence[Obstacle]]" = {},  # noqa: B006 - never changed
) -> list[str]:
    """Return at most `height` lines of at most `width` columns.

    Args:
        tasks: the known tasks; there may be more, which `totals` counts.
        totals: of all watched tasks.
        means: type → mean seconds of its tasks.
        now: the time, for running tasks.
        width: columns of the screen.
        height: lines of the screen.
        held_by: id → what keeps the task waiting, as far as it is known.
    """
    listed = list(tasks)
    lines = wrapped(totals_in_words(totals), width)[: max(1, height)]
    failed = sorted((task for task in listed if task.status == "failed"), key=lambda task: task.id, reverse=True)
    room = height - len(lines) - 1
    ends = _failed(failed, totals.failed, width, min(room // 3 if _open(listed) else room, room))
    shown = _open(listed)[: max(0, room - len(ends))]
    cells = [_cells(task, means, now, in_short(held_by.get(task.id, ()))) for task in shown]
    rows = _rows(cells, totals, width, room - len(ends))
    return [*lines, *([""] if rows or ends else []), *rows, *ends]


def totals_in_words(totals: Totals) -> str:
    """Return the line of totals: `3 of 40 done, 2 failed, about 12 min left`."""
    words = [f"{totals.completed} of {totals.total} done"]
    words += [f"{totals.failed} failed"] if totals.failed else []
    words += [f"{totals.cancelled} cancelled"] if totals.cancelled else []
    ended = totals.completed + totals.failed + totals.cancelled
    words += [f"{about(totals.left)} left"] if totals.left is not None and ended < totals.total else []
    return ", ".join(words)


def totals_of(tasks: Iterable["Task"], means: Mapping[str, float], now: datetime) -> Totals:
    """Return the totals of named tasks."""
    listed = list(tasks)
    count = {status: sum(task.status == status for task in listed) for status in ENDED}
    unfinished = _open(listed)
    running = [_expected(task, means, now) for task in unfinished if task.status == "running"]
    others = [_expected(task, means, now) for task in unfinished if task.status != "running" and not _is_held(task)]
    waiting = None if None in others else sum(filter(None, others))
    return Totals(total=len(listed), left=_seconds_of_all(running, waiting, len(running)), **count)


def totals_since(first: "Stats", stats: "Stats", sample: Iterable["Task"], now: datetime) -> Totals:
    """Return the totals of tasks unfinished at the first look, or newer. `sample`: running tasks, some that wait."""
    ended = {status: max(0, stats.counts[status] - first.counts[status]) for status in ENDED}
    unfinished = sum(stats.counts[status] for status in OPEN)
    return Totals(total=unfinished + sum(ended.values()), left=_seconds_left(stats, list(sample), now), **ended)


def _seconds_left(stats: "Stats", sample: Sequence["Task"], now: datetime) -> float | None:
    """Estimate the seconds until all tasks that may start are done. No one knows when held ones will be released."""
    means = means_of(stats)
    running = [task for task in sample if task.status == "running"]
    held = Counter(task.type for task in sample if _is_held(task))
    waiting = {
        name: max(0, kind.counts["pending"] + kind.counts["retrying"] - held[name])
        for name, kind in stats.by_type.items()
    }
    if any(number and name not in means for name, number in waiting.items()):
        return None
    work = sum(number * means.get(name, 0.0) for name, number in waiting.items())
    return _seconds_of_all([_expected(task, means, now) for task in running], work, stats.counts["running"])


def _seconds_of_all(running: Sequence[float | None], waiting: float | None, at_once: int) -> float | None:
    """Estimate the seconds until all is done, with `at_once` tasks at once; at least the longest running one's."""
    spans = [span for span in running if span is not None]
    if waiting is None or len(spans) < len(running):
        return None
    return max([(sum(spans) + waiting) / max(1, at_once), *spans])


def _is_held(task: "Task") -> bool:
    return task.held and task.status == "pending"


def _expected(task: "Task", means: Mapping[str, float], now: datetime) -> float | None:
    """Estimate the seconds of work left. A later attempt may have begun at a checkpoint, if there is one."""
    ran = (now - task.started_at).total_seconds() if task.status == "running" and task.started_at else 0.0
    began = 0.0 if task.attempt <= 1 or task.checkpoint is None else None
    return seconds_left(task.progress, ran, whole_of(task, means), began=began)


def _open(tasks: Iterable["Task"]) -> list["Task"]:
    """Return the unfinished tasks: the running ones first, then the waiting ones."""
    unfinished = [task for task in tasks if task.status not in ENDED]
    return sorted(unfinished, key=lambda task: (task.status != "running", task.status == "pending", task.id))


def _rows(cells: Sequence[tuple[str, ...]], totals: Totals, width: int, room: int) -> list[str]:
    """Return the table, with as many tasks as there is room for, and how many are left out."""
    more = totals.total - totals.completed - totals.failed - totals.cancelled
    if not cells or room < _LEAST:
        return _rest(more, room)
    waiting = [cell if cell[1] == "running" else (*cell[:-1], "") for cell in cells]
    for columns, shown in ((_COLUMNS, cells), (_COLUMNS, waiting), (_COLUMNS[:-1], [cell[:-1] for cell in cells])):
        found = list(table_rows(columns, shown, width))
        if sum(map(len, found)) + (more > len(cells)) <= room:
            break  # else the reasons to wait are left out first, then all messages
    lines = list(found[0])
    for number, row in enumerate(found[1:]):
        if len(lines) + len(row) + (more > number + 1) > room:
            return [*lines, *_rest(more - number, room - len(lines))]
        lines += row
    return [*lines, *_rest(more - len(cells), room - len(lines))]


_LEAST = 4
"""Lines of a table with one task, its headings and a last line."""


def _rest(number: int, room: int) -> list[str]:
    return [f"and {number} more"] if number > 0 and room > 0 else []


def _cells(task: "Task", means: Mapping[str, float], now: datetime, reason: str) -> tuple[str, ...]:
    ran = time_left = ""
    runs = task.status == "running"
    if runs and task.started_at:
        seconds = max(0.0, (now - task.started_at).total_seconds())
        ran = duration(seconds) if seconds >= 60 else f"{seconds:.0f} s"  # noqa: PLR2004 - a minute; tenths would flicker
        expected = _expected(task, means, now)
        time_left = about(expected).removeprefix("about ") if expected else ""
    status = "waiting" if task.status == "pending" and not task.held else headline(task) if not runs else "running"
    cells = (
        str(task.id),
        "retrying" if task.status == "retrying" else status,
        percent(task.progress) if runs or task.progress else "",
        ran,
        time_left,
        PurePath(task.input_file).name,
        task.type,
        localized(task.message) if runs else reason,
    )
    return tuple(map(plain, cells))


def _failed(tasks: Sequence["Task"], number: int, width: int, room: int) -> list[str]:
    """List the failed tasks, newest first, each with its error, as far as there is room."""
    lines: list[str] = []
    for shown, task in enumerate(tasks):
        name = PurePath(task.input_file).name
        text = f"failed: {task.id} {task.type}{f' {name}' if name else ''}: {task.error}"
        wrapped_text = wrapped(plain(text), width, hang="  ")
        if len(lines) + len(wrapped_text) + (number > shown + 1) > room:
            rest = f"and {number - shown} more failed; `tasktrail list --status failed` shows them"
            return [*lines, *wrapped(rest, width)][: max(0, room)]
        lines += wrapped_text
    return lines


_AT_ONCE = 100


@click.command(
    "watch",
    cls=CliCommand,
    examples=[
        ("tasktrail watch", "all that runs or waits, until nothing does"),
        ("tasktrail watch 3 4", "two tasks until both have ended; exit code 1 if one did not complete"),
        ("tasktrail watch 3 --json", "the task as a line of JSON at every change"),
    ],
)
@click.argument("ids", nargs=-1, type=TASK_ID, metavar="[ID…]")
@pass_session
def watch_command(session: Session, ids: tuple[int, ...]) -> int:
    """Show live progress of the tasks, or of all unfinished ones, until they end. Ctrl-C leaves; the tasks go on.

    Exit code 1: one of the tasks failed or was cancelled. 3: no service or other program works on them.
    """
    with ExitStack() as stack:
        session.await_start()
        signals = stack.enter_context(Signals())
        reading, live = stack.enter_context(session.reading_and_live())
        display = stack.enter_context(_display(session, stack))
        watch = Watch(reading, display, ids)
        while watch.look():
            if isinstance(display, Board):
                watch.draw(display, session.environment.now())
            if not live and not session.is_worked_on():
                raise _nothing_moves(session)
            if signals.next(LOOK_EVERY) is not None:
                return INTERRUPTED
        if isinstance(display, Board):
            watch.draw(display, session.environment.now())
    if not watch.tasks:
        say("nothing runs or waits", err=True)
    return DONE if watch.all_completed else REFUSED


def _nothing_moves(session: Session) -> ServiceUnreachable:
    """Return the error that says why watching is useless: while nothing works on the tasks, the files do not change."""
    from ..paths import DataPaths

    if session.is_log_shared():
        return DataPaths(session.data).no_service()
    return ServiceUnreachable(f"No service runs on {session.data}, so nothing moves")


def _display(session: Session, stack: ExitStack) -> Display:
    if session.as_json:
        return Changes()
    if not sys.stdout.isatty():
        return Lines(err=False)
    return Board(stack.enter_context(Terminal(sys.stdout)))


class Watch:
    """The watched tasks: the named ones, or all unfinished ones, new tasks included."""

    def __init__(self, reading: "Reading", display: Display, ids: Sequence[int]) -> None:
        self.tasks: dict[int, Task] = {}
        self._reading = reading
        self._display = display
        self._ids = ids
        self._poller = Poller(display)
        self._first: Stats | None = None

    @property
    def all_completed(self) -> bool:
        """Whether all tasks are completed."""
        return all(task.status == "completed" for task in self.tasks.values())

    def look(self) -> bool:
        """Look at each task once. Returns whether there is more to come."""
        listed = set() if self._ids else self._look_at_all()
        for task_id in self._ids or tuple(self.tasks):
            known = self.tasks.get(task_id)
            if task_id in listed or (known is not None and known.status in ENDED):
                continue
            if task := self._poller.at(self._reading, task_id):
                self.tasks[task_id] = task
        seen_all = len(self.tasks) >= len(set(self._ids))
        return not seen_all or any(task.status not in ENDED for task in self.tasks.values())

    def draw(self, board: Board, now: datetime) -> None:
        """Draw the tasks as last seen, with the totals of all."""
        stats = self._poller.ask(self._reading.stats)
        if stats is None:
            return
        self._first = self._first or stats
        means, known = means_of(stats), self.tasks.values()
        totals = totals_of(known, means, now) if self._ids else totals_since(self._first, stats, known, now)
        board.draw(totals, means, now)

    def _look_at_all(self) -> set[int]:
        """Show the running and the first waiting tasks. Returns their ids."""
        from ..projections import TaskFilters

        seen = set()
        for statuses in (("running",), ("retrying", "pending")):
            filters = TaskFilters(status=statuses, sort="id", limit=_AT_ONCE)
            page = self._poller.ask(partial(self._reading.list_tasks, filters))
            for task in page[0] if page else ():
                self.tasks[task.id] = task
                self._poller.show(self._reading, task)
                seen.add(task.id)
        return seen


class Changes(Lines):
    """Prints every change of a task as a line of JSON."""

    shows_reasons = False  # they are not part of a task

    def __init__(self) -> None:
        super().__init__(err=True)
        self._versions: dict[int, int] = {}

    def show(self, task: "Task", held_by: "Sequence[Obstacle]" = ()) -> None:  # noqa: ARG002 - never given
        """Print the task if it has changed."""
        if self._versions.get(task.id) != task.version:
            self._versions[task.id] = task.version
            print_json(task)
