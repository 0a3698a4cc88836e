"""`tasktrail whatif`: the recorded history, replayed under other limits or another policy."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..events.counted import counted, plural
from ..whatif.question import PolicyChange
from ..words import duration, moment
from .command import CliCommand, pass_session
from .fields import options_of
from .parameters import PointParam
from .progress import counting
from .session import Session
from .terminal import Column, TerminalLayout, print_json, print_pairs, say

if TYPE_CHECKING:
    from ..whatif.answer import Changed, Fidelity, TypeRow, WhatIf
    from ..whatif.timeline import Measures


_NUMBERS = ("TASKS", "STARTED", "WAIT P50", "WAIT P95", "WAIT MAX", "MAKESPAN", "USED", "OVERTAKEN")
_MEASURES = (
    Column("TYPE"),
    Column("PLAYED"),
    *(Column(name, right=True, leaves=place) for place, name in enumerate(_NUMBERS)),
)
_MOVES = (
    Column("ID", right=True),
    Column("LIFE", right=True, leaves=2, extra=True),
    Column("TYPE"),
    Column("STARTED", leaves=3),
    Column("WOULD START", leaves=4),
    Column("MOVES", right=True),
)

_FLAGS = {
    "types": "--type-limit",
    "users": "--user-limit",
    "labels": "--label-limit",
    "worker_labels": "--worker-label",
    "rates": "--rate",
    "windows": "--windows",
    "user_bonus": "--no-user-bonus",
}


@click.command(
    "whatif",
    cls=CliCommand,
    examples=[
        ("tasktrail whatif", "does the Scheduler's core make the recorded starts of the log again?"),
        ("tasktrail whatif --max-concurrent 4 --workers 4", "and with four at once?"),
        ("tasktrail whatif --type-limit video_convert=1 --fair-share", "one conversion at a time, users in turn"),
        ("tasktrail whatif --workers 8 --from 2026-08-01T00:00:00Z --json", "of one day's log, for a program"),
    ],
)
@options_of(
    PolicyChange,
    "max_concurrent",
    "workers",
    "max_memory",
    "max_temp_size",
    "max_per_type",
    "max_per_user",
    "max_per_label",
    "types",
    "users",
    "labels",
    "worker_labels",
    "rates",
    "windows",
    "fair_share",
    "user_bonus",
    "backfill_bound",
    flags=_FLAGS,
)
@click.option(
    "--from", "begin", type=PointParam(), metavar="WHEN", help="Play from this position or time on. Default: all"
)
@click.option("--to", "end", type=PointParam(), metavar="WHEN", help="Play to it. Default: until all is done")
@options_of(PolicyChange, "rows")
@pass_session
def whatif_command(session: Session, /, **given: Any) -> None:
    """Compare the recorded history with what another policy would have made of it.

    It reads the log in the data folder, whether a service runs or not, and changes nothing. It assumes that each
    attempt runs as long as recorded.
    """
    session.files_only("whatif")
    tables = ("types", "users", "labels", "worker_labels")
    if any(not number for name in tables for _, number in given[name]):
        raise click.UsageError("A limit is at least 1: one that is left out stays as it was recorded.")
    if any(rate is None for _, rate in given["rates"]):
        raise click.UsageError("A rate is starts per time, e.g. 10/m: one that is left out stays as it was recorded.")
    question = {name: dict(value) if name in (*tables, "rates") else value for name, value in given.items()}
    with counting("playing") as progress:
        given = {name: value for name, value in question.items() if value is not None}
        answer = session.environment.whatif(session, given, progress)
    if session.as_json:
        print_json(answer)
    else:
        _print(answer, session.layout())


def _print(answer: "WhatIf", layout: TerminalLayout) -> None:
    say(
        f"positions {answer.first_position} to {answer.last_position}, "
        f"{moment(answer.began_at)} to {moment(answer.ended_at)}, {counted(answer.records, 'record')}"
    )
    say(_fidelity(answer.fidelity))
    click.echo("")
    layout.table(_MEASURES, [line for row in answer.rows for line in _lines(row)])
    if answer.moved is not None:
        moved = answer.moved
        click.echo("")
        say(
            f"starts: {moved.earlier} earlier, {moved.later} later, {moved.same} at the same time, "
            f"{moved.only_then} additional, {moved.no_more} missing"
        )
    if answer.changed:
        click.echo("")
        layout.table(_MOVES, map(_move, answer.changed))
    click.echo("")
    print_pairs(_notes(answer))


def _fidelity(fidelity: "Fidelity") -> str:
    summary = f"{fidelity.same} of {fidelity.recorded_starts} recorded starts come out the same"
    if fidelity.exact:
        return f"{summary}, to the microsecond and in the same order"
    first = fidelity.first_difference
    if first is None:
        return summary
    start = first.recorded or first.replayed
    task = f"task {start.task_id}, attempt {start.attempt}" if start else ""
    return f"{summary}; the first difference is start {first.number}: {task}"


def _lines(row: "TypeRow") -> Iterator[tuple[str, ...]]:
    name = row.type or "all"
    yield (name, "recorded", *_cells(row.recorded))
    yield ("", "replayed", *_cells(row.replayed))
    if row.asked is not None:
        yield ("", "asked", *_cells(row.asked))


def _cells(one: "Measures") -> tuple[str, ...]:
    waits = (one.wait_p50, one.wait_p95, one.wait_max, one.makespan)
    times = ("-" if seconds is None else duration(seconds) for seconds in waits)
    used = "-" if one.utilisation is None else f"{one.utilisation * 100:.1f} %"
    return (str(one.tasks), str(one.started), *times, used, str(one.overtaken))


def _move(one: "Changed") -> tuple[str, ...]:
    seconds = one.moved
    moves = "-" if seconds is None else f"{'-' if seconds < 0 else '+'}{duration(abs(seconds))}"
    started, would = moment(one.replayed) or "never", moment(one.asked) or "never"
    return (str(one.task_id), str(one.life), one.type, started, would, moves)


def _notes(answer: "WhatIf") -> Iterator[tuple[str, str]]:
    for name, played in (("replayed", answer.replayed), ("asked", answer.asked)):
        if played is not None:
            lengths = f"{counted(played.guessed, 'attempt')} with a guessed run time"
            places = f"{counted(played.refused, 'command')} refused in the replay"
            it = plural(played.passed_over, "it", "they")
            left = f"{counted(played.passed_over, 'task')} passed over because {it} did not fit"
            yield (name, f"{lengths}, {places}, {left}")
    for assumption in answer.assumptions:
        yield ("assumed", assumption)
