"""`tasktrail queue`, `top`, `why`, `stats`: running tasks, waiting tasks and their reasons, and how many tasks end."""

import os
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from ..config import DEFAULT_DATA
from ..events.counted import counted, plural
from ..words import duration, moment, percent, rate, size, sum_of
from .command import CliCommand, pass_session
from .failing import INTERRUPTED
from .parameters import TASK_ID, SecondsParam, WholeParam, as_of_option
from .progress import Signals
from .session import Session
from .terminal import Column, TerminalLayout, fitted, localized, plain, print_json, print_pairs, say

if TYPE_CHECKING:
    from ..actors.core.board import QueueBoard, Resources
    from ..actors.core.explanation import Lifting, Why
    from ..api.protocol import Reading
    from ..events.commands import SetLimits
    from ..projections.queries.stats import Ended, Stats


CONFIGURED_NOW = "Limits and windows of the configuration are those of today: earlier ones are not recorded."
WAITING_COLUMNS = (
    Column("PLACE", right=True),
    Column("ID", right=True),
    Column("TYPE"),
    Column("INPUT", "name"),
    Column("PRIORITY", right=True),
    Column("SINCE", leaves=1, extra=True),
    Column("USER", right=True, leaves=2, extra=True),
    Column("TERMS", "text", leaves=3),
    Column("HELD BACK BY", "text", leaves=4),
)


@click.command(
    "queue",
    cls=CliCommand,
    examples=[
        ("tasktrail queue", "the first fifty, with the terms of their priorities"),
        ("tasktrail queue --limit 500 --json", "more of them, for a program"),
        ("tasktrail queue --as-of -2h", "what ran and waited two hours ago"),
    ],
)
@click.option("--limit", type=WholeParam(0, 10_000), default=50, show_default=True, help="At most this many tasks.")
@as_of_option
@pass_session
def queue_command(session: Session, limit: int, as_of: int | datetime | None) -> None:
    """Show the order of the queue: what runs next, and what each priority is made of.

    With --as-of it also shows what ran then, and the resources reserved for it.
    """
    with session.reading() as reading:
        board = reading.queue(limit, as_of=as_of)
        stats = reading.stats(as_of=as_of)
    if session.as_json:
        print_json(board)
        return
    layout = session.layout(as_of)
    say(summary(board, stats))
    if as_of is not None and board.running:
        memory, temp = size(board.resources.reserved_memory), size(board.resources.reserved_temp)
        say(f"reserved for what runs: {memory} memory, {temp} temp")
        layout.table(_RUNNING, _running(board, layout))
        click.echo("")
    if board.entries:
        layout.table(WAITING_COLUMNS, rows(board, layout))
    if board.fair_share:
        say(
            "Fair share: the user with the fewest running tasks goes first, then the user whose last "
            "start is longest ago; among the tasks of one user, the priority decides. The order "
            "assumes that nothing ends meanwhile."
        )
    if as_of is not None:
        at = "" if board.at is None else f", {moment(board.at)}"
        ran = f" No service ran: the last one had stopped at position {board.stopped_at}." if board.stopped_at else ""
        say(
            f"This is the state as of position {board.position}{at}, as far as the log shows.{ran} "
            f"{CONFIGURED_NOW} Tasks that were forgotten since are left out."
        )
    elif not board.live:
        say(_without_service(board, stats.counts["running"], is_log_shared=session.is_log_shared()))


def _without_service(board: "QueueBoard", cut: int, *, is_log_shared: bool) -> str:
    """Say what holds although no service answered. `cut`: the tasks whose attempts have no recorded end."""
    if is_log_shared:
        return "No service was asked; this comes from the log, which a service on another machine may have."
    told = "No service runs: these tasks would wait for room if one did." if board.entries else "No service runs."
    if cut:
        have, them = plural(cut, "attempt has", "attempts have"), plural(cut, "it", "them")
        told += f" {cut:,} {have} no recorded end; the next start goes on with {them}."
    return told


def summary(board: "QueueBoard", stats: "Stats") -> str:
    """Describe how many tasks run and wait, and what is paused."""
    waiting = stats.counts["pending"] + stats.counts["retrying"]
    later = max(0, waiting - board.ready - board.blocked - board.aside)  # the two answers may be an event apart
    too_large = counted(board.aside, "needs", "need")
    aside = f"{too_large} more than can ever be free (see why), " if board.aside else ""
    paused = "".join(
        f"; {'drained' if pause.drained else 'draining' if pause.drain else 'paused'}: "
        + (
            f"type {pause.type}"
            if pause.type is not None
            else "all"
            if pause.user_id is None
            else f"user {pause.user_id}"
        )
        for pause in board.pauses
    )
    paused += "".join(f"; {state}: node {name}" for name, state in board.node_drains.items())
    return (
        f"{counted(len(board.running), 'runs', 'run')}, {counted(board.ready, 'waits', 'wait')} for room, "
        f"{board.blocked} for another task, {aside}"
        f"{later} for a time, a release or a handler{plain(paused)}"
    )


def rows(board: "QueueBoard", layout: TerminalLayout) -> list[tuple[str, ...]]:
    """Return a row for each task of the queue."""
    return [
        (
            str(one.place),
            str(one.task_id),
            one.type,
            PurePath(one.input_file).name,
            f"{one.effective_priority:.1f}",
            layout.when(one.waiting_since),
            str(one.user_id),
            sum_of(one.terms),
            plain(", ".join(one.shut_by)),
        )
        for one in board.entries
    ]


_WAITING_SHOWN = 15
_RUNNING = (
    Column("RUNNING", right=True),
    Column("TYPE"),
    Column("INPUT", "name"),
    Column("DONE", right=True),
    Column("FOR", right=True),
    Column("ATTEMPT", right=True, leaves=1, extra=True),
    Column("USER", right=True, leaves=2, extra=True),
    Column("PROMISED", right=True, leaves=3, extra=True),
    Column("MESSAGE", "text", leaves=4),
)


@click.command(
    "top",
    cls=CliCommand,
    examples=[
        ("tasktrail top", "a live view; Ctrl-C leaves it"),
        ("tasktrail top --once", "the same once, for a log or a mail"),
        ("tasktrail top --json", "once, for a program"),
    ],
)
@click.option("--once", is_flag=True, help="Show it once instead of live, as in a pipe.")
@click.option(
    "--every",
    type=SecondsParam(0.2, 3600),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Time between updates.",
)
@pass_session
def top_command(session: Session, every: float, *, once: bool) -> int:
    """Show what runs, what waits, the reserved resources, and how many tasks end."""
    with session.reading() as reading:
        if session.as_json:
            board, stats = ask(reading)
            print_json({"queue": board, "stats": stats})
        elif once or not sys.stdout.isatty():
            click.echo(screen(*ask(reading), session.layout()))
        else:
            return _live(reading, session, every)
    return 0


def ask(reading: "Reading") -> "tuple[QueueBoard, Stats]":
    """Ask for the queue and the numbers."""
    return reading.queue(_WAITING_SHOWN), reading.stats()


def _live(reading: "Reading", session: Session, every: float) -> int:
    from rich.live import Live
    from rich.text import Text

    shown = screen(*ask(reading), session.layout())
    with Signals() as signals, Live(Text(shown), auto_refresh=False, screen=True) as live:
        while signals.next(every) is None:
            lost, shown = ask_again(reading, shown, session.layout())
            live.update(Text(lost or shown), refresh=True)
    return INTERRUPTED


def ask_again(reading: "Reading", before: str, layout: TerminalLayout) -> tuple[str, str]:
    """Ask again. Returns a notice above the last screen if no service answers, else none; and the last good screen."""
    from ..events.errors import NotReady, ServiceUnreachable

    try:
        return "", screen(*ask(reading), layout)
    except (ServiceUnreachable, NotReady) as error:
        message = fitted(f"{plain(error.message)}; asking again. The last answer was:", layout.width)
        return f"{message}\n{before}", before


def screen(board: "QueueBoard", stats: "Stats", layout: TerminalLayout) -> str:
    """Return the whole screen as text."""
    lines = (
        summary(board, stats),
        _reserved(board.resources, live=board.live),
        _rates(stats),
        "",
        *layout.lines(_RUNNING, _running(board, layout)),
        "",
        *layout.lines(WAITING_COLUMNS, rows(board, layout)),
    )
    return fitted("\n".join(lines), layout.width)


def _reserved(resources: "Resources", *, live: bool) -> str:
    if not live:
        return "no service answers here: slots and the machine are unknown"
    sample = resources.sample
    memory = _used_of_limit(resources.reserved_memory, resources.max_memory)
    temp = _used_of_limit(resources.reserved_temp, resources.max_temp_size)
    free = f"{_free(sample.memory_available)} memory, {_free(sample.temp_free)} temp"
    free += " (LOW)" if sample.disk_low else ""
    cpu = "unknown" if sample.cpu_percent is None else f"{sample.cpu_percent:.0f} %"
    slots = min(resources.slots, resources.max_concurrent)
    reserved = f"{resources.held} of {counted(slots, 'slot')} · reserved memory {memory}, temp {temp}"
    return f"{reserved} · CPU {cpu}, free {free}"


def _free(count: int | None) -> str:
    return "unknown" if count is None else size(count)


def _used_of_limit(used: int, limit: int) -> str:
    return f"{size(used)} of {size(limit)}" if limit else size(used)


def _rates(stats: "Stats") -> str:
    minute, hour = stats.last_minute, stats.last_hour
    return (
        f"last full minute: {minute.completed} completed, {minute.failed} failed · "
        f"last hour: {hour.completed} completed, {hour.failed} failed, {rate(hour.per_minute)}"
    )


def _running(board: "QueueBoard", layout: TerminalLayout) -> Iterator[tuple[str, ...]]:
    for one in board.running:
        at = board.at or layout.now
        ran = duration(max(0.0, (at - one.started_at).total_seconds())) if one.started_at else ""
        yield (
            str(one.task_id),
            one.type,
            PurePath(one.input_file).name,
            "stopping" if one.stopping else percent(one.progress),
            ran,
            str(one.attempt),
            str(one.user_id),
            size(one.memory),
            localized(one.message),
        )


_AHEAD = (Column("ID", right=True), Column("TYPE"), Column("PRIORITY", right=True), Column("TERMS", "text", leaves=1))


@click.command(
    "why",
    cls=CliCommand,
    examples=[
        ("tasktrail why 3", "each reason with its numbers, its evidence and what lifts it"),
        ("tasktrail why 3 --json", "for a program"),
        ("tasktrail why 3 --as-of 'yesterday 12:00'", "what held it then"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@as_of_option
@pass_session
def why_command(session: Session, task_id: int, as_of: int | datetime | None) -> None:
    """Show why a task is not running. It starts when all the reasons are gone.

    Without a service, and with --as-of, the reasons come from the log alone; handlers and the machine are then unknown.
    """
    with session.reading() as reading:
        why = reading.why(task_id, as_of=as_of)
    if session.as_json:
        print_json(why)
    else:
        print_why(why, session)


def print_why(why: "Why", session: Session) -> None:
    """Print the answer in words."""
    if not why.waiting:
        say(f"task {why.task_id} is {why.status}: it is not waiting")
    else:
        say(
            f"task {why.task_id} is {why.status}, effective priority {why.effective_priority:.1f} = {sum_of(why.terms)}"
        )
        _reasons(why, session)
        _ahead(why, session)
    if why.remark:
        say(plain(why.remark))


def _reasons(why: "Why", session: Session) -> None:
    if not why.reasons:
        say("nothing in the log holds it" if not why.live else "nothing holds it back: it is about to start")
    for one in why.reasons:
        left = one.numbers.get("seconds", 0.0)
        in_words = f" ({duration(left)})" if left >= 60 else ""  # noqa: PLR2004 - a minute
        say(f"  {one.reason}: {plain(one.detail)}{in_words}", hang="  ")
        if one.lifts:
            say(f"    lifted by: {plain(one.lifts)}", hang="  ")
        for command in one.commands:
            click.echo(f"      {plain(as_line(command, session))}")  # one line, to be copied
        if one.evidence:
            say(f"    evidence: {plural(len(one.evidence), 'position')} {', '.join(map(str, one.evidence))}")


def _ahead(why: "Why", session: Session) -> None:
    if why.place is None:
        return
    say(f"place {why.place} in the queue" + (", behind:" if why.ahead else ""))
    rows = [(str(one.task_id), one.type, f"{one.effective_priority:.1f}", sum_of(one.terms)) for one in why.ahead]
    if rows:
        session.layout().table(_AHEAD, rows)
    if more := why.place - 1 - len(rows):
        say(f"and {more:,} more; `tasktrail queue` shows the order")


def as_line(command: "Lifting", session: Session) -> str:
    """Return `tasktrail resume --type work`, quoted for a shell, with the options that name the same service."""
    return shlex.join(("tasktrail", *_words(command), *_where(session)))


def _words(command: "Lifting") -> tuple[str, ...]:
    from ..events import AdjustTask, RetryTask, StartTask
    from ..events.commands import ResumeQueue, SetLimits, UndrainNode
    from ..events.recorded import timestamp

    match command:
        case StartTask(task_id=task_id):
            return ("start", str(task_id))
        case RetryTask(task_id=task_id, force=force):
            return ("retry", str(task_id), *(["--force"] if force else []))
        case AdjustTask(task_id=task_id, scheduled_for=at):
            return ("adjust", str(task_id), *(["--scheduled-for", timestamp(at)] if at else []))
        case ResumeQueue(type=str(name)):
            return ("resume", "--type", name)
        case ResumeQueue(user_id=int(user)):
            return ("resume", "--user-id", str(user))
        case ResumeQueue():
            return ("resume",)
        case UndrainNode(node=name):
            return ("nodes", "undrain", name)
        case SetLimits():
            return ("limits", *_limits(command))


def _limits(command: "SetLimits") -> tuple[str, ...]:
    plain = ("max_concurrent", "max_memory", "max_cpu", "max_temp_size")
    given = {name: getattr(command, name) for name in plain}
    words = [(f"--{name.replace('_', '-')}", f"{value:.17g}") for name, value in given.items() if value is not None]
    for flag, table in (("--type", command.types), ("--user", command.users), ("--label", command.labels)):
        words += [(flag, f"{name}={number}") for name, number in table.items()]
    words += [("--rate", f"{name}={rate}") for name, rate in command.rates.items()]
    return tuple(word for pair in words for word in pair)


def _where(session: Session) -> tuple[str, ...]:
    """Return the options that have to be typed again: those on the command line that the environment does not set."""
    words: tuple[str, ...] = ()
    if str(session.data) != os.environ.get("TASKTRAIL_DATA", DEFAULT_DATA):
        words += ("--data", str(session.data))
    if session.url and session.url != os.environ.get("TASKTRAIL_URL"):
        words += ("--url", session.url)
    return words


@click.command(
    "stats",
    cls=CliCommand,
    examples=[
        ("tasktrail stats", "how many tasks of which kind, how long they take, how many end"),
        ("tasktrail stats --as-of -1d", "the same of yesterday at this time"),
        ("tasktrail stats --json", "for a program"),
    ],
)
@as_of_option
@pass_session
def stats_command(session: Session, as_of: int | datetime | None) -> None:
    """Show how many tasks there are, how long they run, and how many end."""
    with session.reading() as reading:
        stats = reading.stats(as_of=as_of)
    if session.as_json:
        print_json(stats)
        return
    print_pairs([("tasks", str(stats.total)), *((name, str(number)) for name, number in stats.counts.items())])
    click.echo("")
    print_pairs(
        [
            ("attempts", str(stats.attempts)),
            ("retries", str(stats.retries)),
            ("ended in the last full minute", _ended(stats.last_minute)),
            ("ended in the last hour", _ended(stats.last_hour)),
            ("ended in the last day", _ended(stats.last_day)),
            ("position of the log", str(stats.position)),
        ]
    )
    if stats.by_type:
        click.echo("")
        _print_types(stats, session.layout())
        if any(kind.durations for kind in stats.by_type.values()):
            say("run times of completed tasks; they are kept in classes, so each figure may be up to 10 % too high")


def _ended(ended: "Ended") -> str:
    return f"{ended.completed} completed, {ended.failed} failed, {ended.cancelled} cancelled; {rate(ended.per_minute)}"


def _print_types(stats: "Stats", layout: TerminalLayout) -> None:
    statuses = tuple(stats.counts)
    numbers = (*(status.upper() for status in statuses), "MEAN", "P50", "P95", "LONGEST")
    columns = (Column("TYPE"), *(Column(name, right=True, leaves=place) for place, name in enumerate(numbers)))
    rows = []
    for name, kind in stats.by_type.items():
        took = kind.durations
        times = (took.mean, took.p50, took.p95, took.longest) if took else ()
        counts = (str(kind.counts[status]) for status in statuses)
        rows.append((name, *counts, *(duration(seconds) for seconds in times), *("",) * (4 - len(times))))
    layout.table(columns, rows)
