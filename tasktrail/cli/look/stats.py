"""`tasktrail stats`: numbers over all tasks."""

from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..layout import Column
from ..output import Paper, print_json, print_pairs
from ..session import Session
from ..words import duration, rate

if TYPE_CHECKING:
    from ...projections.queries.stats import Ended, Stats


@click.command(
    "stats",
    cls=Command,
    examples=[
        ("tasktrail stats", "how many tasks of which kind, how long they take, how many end"),
        ("tasktrail stats --json", "for a program"),
    ],
)
@pass_session
def command(session: Session) -> None:
    """Show how many tasks there are, how long they run, and how many come to an end."""
    with session.reading() as reading:
        stats = reading.stats()
    if session.as_json:
        print_json(stats)
        return
    print_pairs([("tasks", str(stats.total)), *((name, str(number)) for name, number in stats.counts.items())])
    click.echo("")
    print_pairs(
        [
            ("attempts", str(stats.attempts)),
            ("retries", str(stats.retries)),
            ("ended in the last minute", _ended(stats.last_minute)),
            ("ended in the last hour", _ended(stats.last_hour)),
            ("ended in the last day", _ended(stats.last_day)),
            ("position of the log", str(stats.position)),
        ]
    )
    if stats.by_type:
        click.echo("")
        _print_types(stats, session.paper())


def _ended(ended: "Ended") -> str:
    return f"{ended.completed} completed, {ended.failed} failed, {ended.cancelled} cancelled; {rate(ended.per_minute)}"


def _print_types(stats: "Stats", paper: Paper) -> None:
    statuses = tuple(stats.counts)
    numbers = (*(status.upper() for status in statuses), "MEAN", "P50", "P95", "LONGEST")
    columns = (Column("TYPE"), *(Column(name, right=True, leaves=place) for place, name in enumerate(numbers)))
    rows = []
    for name, kind in stats.by_type.items():
        took = kind.durations
        times = (took.mean, took.p50, took.p95, took.longest) if took else ()
        counts = (str(kind.counts[status]) for status in statuses)
        rows.append((name, *counts, *(duration(seconds) for seconds in times), *("",) * (4 - len(times))))
    paper.table(columns, rows)
