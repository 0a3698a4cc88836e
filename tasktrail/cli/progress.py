"""Progress of tasks and long checks: polling, display, and stopping at Ctrl-C."""

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO, TypeVar

import click

from ..events.counted import counted
from ..events.errors import AnotherProgram, NotReady, ServiceUnreachable, TasktrailError, WaitTimeout
from ..words import duration, moment, percent
from .terminal import localized, plain

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ..actors.core.explanation import Obstacle, Why
    from ..api.protocol import Reading
    from ..api.service import TaskService
    from ..events import Task


class Signals:
    """While it is entered, SIGINT, SIGTERM and `more` are queued. Only the main thread may enter it.

    A SIGINT that the process ignores stays ignored: a shell without job control, as in a script, starts what ends with
    `&` in that way, so that Ctrl-C ends the script and not its service.

    The system may deliver a signal to any thread, but Python runs its handler only in the main thread, once that goes
    on. So the queue is a socket to which Python writes the number, which wakes the main thread from any wait.
    """

    def __init__(self, *more: int) -> None:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        self._numbers = (*(() if ignored else (signal.SIGINT,)), signal.SIGTERM, *more)
        self._before: dict[int, Any] = {}
        self.last: int | None = None
        """The signal that `next` returned last."""

    def __enter__(self) -> Self:
        self._out, self._in = socket.socketpair()
        self._in.settimeout(0)
        self._wakes_before = signal.set_wakeup_fd(self._in.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, _ignore)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakes_before)
        self._in.close()
        self._out.close()

    def wake(self) -> None:
        """Make `next` return None. Thread-safe."""
        with suppress(OSError):  # no one waits any more, or the socket is full of such bytes
            self._in.send(b"\0")

    def next(self, timeout: float | None = 0.0) -> int | None:
        """Return the number of the next signal; None if none comes within `timeout` seconds, or on `wake`.

        With None it waits without a limit.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            self._out.settimeout(None if until is None else max(0.0, until - time.monotonic()))
            try:
                (number,) = self._out.recv(1)
            except (TimeoutError, BlockingIOError):
                return None
            if number in self._numbers:
                self.last = number
                return number
            if not number:
                return None


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Without a handler the signal would end the process."""


_STEP = 10
"""Percent between two lines of a task whose state does not change."""
ENDED = ("completed", "failed", "cancelled")


class Display(AbstractContextManager["Display"], Protocol):
    """Where progress is shown."""

    shows_reasons: bool = True
    """Whether it shows what keeps a task waiting."""

    def show(self, task: "Task", held_by: "Sequence[Obstacle]" = ()) -> None:
        """Show the task as it is now, and what keeps it waiting if that is known. May be called any number of times."""

    def say(self, text: str) -> None:
        """Show a line of its own beside the progress."""


def display_on(stream: TextIO) -> Display:
    """Return bars if the stream is a terminal, else lines."""
    if stream.isatty():
        return Bars(stream)
    return Lines(err=stream is sys.stderr)


def headline(task: "Task") -> str:
    """Describe what the task is doing, in a few words."""
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


def is_unexplained(task: "Task") -> bool:
    """Whether the task waits for something that its headline does not say."""
    return task.status == "retrying" or (task.status == "pending" and headline(task) == "waiting")


def waits(task: "Task", held_by: "Sequence[Obstacle]") -> str:
    """Describe what the task is doing; of a waiting one also what keeps it waiting, in a few words."""
    text = headline(task)
    return f"{text}{':' if text == 'waiting' else ';'} {in_short(held_by)}" if held_by else text


def in_short(held_by: "Sequence[Obstacle]") -> str:
    """Describe the first reason to wait, and how many others there are."""
    others = f" (and {counted(len(held_by) - 1, 'other reason')})" if len(held_by) > 1 else ""
    return f"{held_by[0].detail}{others}" if held_by else ""


# As texts, because the module of `WaitReason` takes long to import.
STAYING = frozenset({"Held", "Paused", "Window", "WorkerLabel", "NoNodeFits", "NodeDraining", "NoHandler"})
"""The reasons to wait that no work that is going on will end."""


def name_lasting_obstacles(inside: "TaskService", task_id: int, say: Callable[[str], None]) -> None:
    """Name the obstacles that will not end by themselves here: no other process can ask the service inside."""
    for obstacle in inside.why(task_id).reasons:
        if obstacle.reason in STAYING:
            lifted = f"; lifted by {obstacle.lifts}" if obstacle.lifts else ""
            say(f"task {task_id} waits: {plain(obstacle.detail + lifted)}")


class Lines(Display):
    """For files and pipes: a line for each change of state, and every ten percent in between."""

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._shown: dict[int, tuple[str, int, int]] = {}
        self._reasons: dict[int, set[str]] = {}

    def show(self, task: "Task", held_by: "Sequence[Obstacle]" = ()) -> None:
        """Print a line if there is something new. Each reason to wait is printed once, since reasons come and go."""
        step = (task.status, task.attempt, int(task.progress // _STEP))
        if self._shown.get(task.id) != step:
            self._reasons[task.id] = set()
        elif not held_by or held_by[0].reason in self._reasons[task.id]:
            return
        self._shown[task.id] = step
        self._reasons[task.id].update(one.reason for one in held_by[:1])
        took = f" after {duration(task.duration)}" if task.status in ENDED and task.duration else ""
        self.say(f"task {task.id} {task.type} {percent(task.progress)} {plain(waits(task, held_by))}{took}")

    def say(self, text: str) -> None:
        """Print the text."""
        click.echo(text, err=self._err)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


_ROOM_FOR_A_BAR, _ROOM_FOR_TIMES = 72, 60
"""The narrowest terminals with a bar, and with the time spent and left, beside a short name."""


class Bars(Display):
    """For terminals: a bar for each task, with percent, message, time spent and time left.

    A narrow terminal gets fewer of them: columns that do not fit would all be cut, the percent too.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.table import Column

        console = Console(file=stream, highlight=False)
        bar = (BarColumn(bar_width=12),)
        ran = (TextColumn("ran"), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn(compact=True))
        self._bars: dict[int, tuple[TaskID, str]] = {}
        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            *(bar if console.width >= _ROOM_FOR_A_BAR else ()),
            TextColumn("{task.percentage:5.1f} %", markup=False),
            *((*ran, *left) if console.width >= _ROOM_FOR_TIMES else ()),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            console=console,
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

    def show(self, task: "Task", held_by: "Sequence[Obstacle]" = ()) -> None:
        """Move the task's bar."""
        bar, status = self._bars.get(task.id, (None, ""))
        if bar is None:
            bar = self._progress.add_task("", total=100, start=False, name=_name(task))
        if task.status == "running" and status != "running":
            self._progress.start_task(bar)
        if task.status != "running" and status == "running":
            self._progress.stop_task(bar)
        self._bars[task.id] = (bar, task.status)
        self._progress.update(bar, completed=task.progress, description=plain(waits(task, held_by)))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, markup=False)


def _name(task: "Task") -> str:
    return f"{task.id} {plain(PurePath(task.input_file).name) or task.type}"


T = TypeVar("T")

LOOK_EVERY = 0.4
"""Seconds between two polls of a task."""
_PATIENCE = 15.0
"""Seconds that a service may be away, for example to restart, before that is an error."""


class Poller:
    """Polls tasks. For a while it tolerates that the service does not answer, as during a restart."""

    def __init__(self, display: Display, clock: Callable[[], float] = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._away_since: float | None = None
        self._reasons = Reasons(clock)

    def at(self, reading: "TaskSource | Reading", task_id: int) -> "Task | None":
        """Ask for the task and show it. None while the service does not answer."""
        task = self.ask(lambda: reading.get_task(task_id))
        if task is not None:
            self.show(reading, task)
        return task

    def show(self, reading: "TaskSource | Reading", task: "Task") -> None:
        """Show the task, with what keeps it waiting."""
        self._display.show(task, self._reasons.of(reading, task) if self._display.shows_reasons else ())

    def ask(self, question: Callable[[], T]) -> T | None:
        """Return the answer, or None while the service does not answer. Raises the error after `_PATIENCE` seconds."""
        try:
            answer = question()
        except (ServiceUnreachable, NotReady) as error:
            if not isinstance(error, AnotherProgram) and self._patient():
                return None
            raise
        self._away_since = None
        return answer

    def _patient(self) -> bool:
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
            self._display.say("the service does not answer; waiting for it")
        return now - self._away_since < _PATIENCE


class Reasons:
    """Remembers what keeps tasks waiting, and asks again seldom enough that it costs the service little."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[int, float] = {}
        """Task → when it was asked about, the longest ago first."""
        self._known: dict[int, tuple[Obstacle, ...]] = {}
        self._rests_until = 0.0

    def of(self, reading: "TaskSource | Reading", task: "Task") -> "Sequence[Obstacle]":
        """Return what was last known to keep the task waiting; nothing while its headline says all."""
        if not is_unexplained(task):
            self._asked.pop(task.id, None)
            self._known.pop(task.id, None)
            return ()
        now = self._clock()
        asked = self._asked.setdefault(task.id, now)  # most tasks start before there is anything to ask
        if task.id == next(iter(self._asked)) and now >= max(asked + _WHY_EVERY, self._rests_until):
            with suppress(TasktrailError):  # the next look at the task says what is wrong
                found = (one for one in reading.why(task.id).reasons if one.reason not in IN_THE_HEADLINE)
                self._known[task.id] = tuple(sorted(found, key=lambda one: one.reason not in STAYING))
            del self._asked[task.id]
            self._asked[task.id] = self._clock()
            self._rests_until = self._asked[task.id] + _REST * (self._asked[task.id] - now)
        return self._known.get(task.id, ())


_WHY_EVERY = 1.0
"""Seconds before the service is asked, or asked again, why a task waits."""
_REST = 20
"""For how many times the length of its last answer the service is not asked why: a long queue makes it long."""
IN_THE_HEADLINE = frozenset({"NotBefore", "RetryDelay"})


class TaskSource(Protocol):
    """Where one can ask for a task and wait for it."""

    def get_task(self, task_id: int, /) -> "Task":
        """Return the task as it is now."""

    def why(self, task_id: int, /) -> "Why":
        """Return all that keeps the task waiting."""

    def wait(self, task_id: int, /, timeout: float | None = None) -> "Task":
        """Return the task once it has ended. Raises `WaitTimeout`."""


def until_ended(tasks: TaskSource, task_id: int, display: Display, signals: Signals) -> "Task | None":
    """Wait until the task has ended, and return it; return None if a signal comes first."""
    poller = Poller(display)
    while True:
        task = poller.at(tasks, task_id)
        if task is not None and task.status in ENDED:
            return task
        if task is None:
            signal = signals.next(LOOK_EVERY)
        else:
            _wait_a_little(tasks, task_id)
            signal = signals.next()
        if signal is not None:
            return None


def _wait_a_little(tasks: TaskSource, task_id: int) -> None:
    """Wait until the task ends, at most `LOOK_EVERY`."""
    try:
        tasks.wait(task_id, timeout=LOOK_EVERY)
    except (WaitTimeout, ServiceUnreachable, NotReady):
        return


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar, and yield a function that takes the number reached and the number to reach."""
    if not sys.stderr.isatty():
        yield lambda _reached, _goal: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(label, total=None)
        yield lambda reached, goal: progress.update(bar, completed=reached, total=goal)


@contextmanager
def waiting(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is waited for: on a terminal in one changing line, else only once."""
    if quiet:
        yield lambda _words: None
        return
    if not sys.stderr.isatty():
        printed: list[str] = []

        def say_once(words: str) -> None:
            if not printed:
                printed.append(words)
                click.echo(words, err=True)

        yield say_once
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    text = TextColumn("{task.description}", markup=False)
    with Progress(text, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task("")
        yield lambda words: progress.update(line, description=words, refresh=True)
