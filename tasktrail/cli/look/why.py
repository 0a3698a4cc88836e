"""`tasktrail why`: all reasons why a task is not running, and what is ahead of it."""

from typing import TYPE_CHECKING

import click

from ..as_line import as_line
from ..base import Command, pass_session
from ..layout import Column
from ..output import print_json, say
from ..session import Session
from ..words import TASK_ID, duration, plain

if TYPE_CHECKING:
    from ...actors.core.explanation import Why
    from ...events.task_events import PriorityTerms

_AHEAD = (Column("ID", right=True), Column("TYPE"), Column("PRIORITY", right=True), Column("TERMS", "text", leaves=1))


@click.command(
    "why",
    cls=Command,
    examples=[
        ("tasktrail why 3", "each reason with its numbers, its evidence and what would lift it"),
        ("tasktrail why 3 --json", "for a program"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@pass_session
def command(session: Session, task_id: int) -> None:
    """Tell why a task is not running. With all the reasons gone it starts; while one is left it waits.

    Without a service the reasons come from the log alone; slots, handlers and the machine are then unknown.
    """
    with session.reading() as reading:
        why = reading.why(task_id)
    if session.as_json:
        print_json(why)
    else:
        show(why, session)


def show(why: "Why", session: Session) -> None:
    """The answer in words."""
    if not why.waiting:
        say(f"task {why.task_id} is {why.status}: it waits for nothing")
    else:
        say(
            f"task {why.task_id} is {why.status}, effective priority {why.effective_priority:.1f} = {sum_of(why.terms)}"
        )
        _reasons(why, session)
        _ahead(why, session)
    if why.remark:
        say(why.remark)


def _reasons(why: "Why", session: Session) -> None:
    if not why.reasons:
        say("nothing in the log holds it" if not why.live else "nothing holds it: it is about to start")
    for one in why.reasons:
        left = one.numbers.get("seconds", 0.0)
        in_words = f" ({duration(left)})" if left >= 60 else ""  # noqa: PLR2004 - a minute
        say(f"  {one.reason}: {plain(one.detail)}{in_words}", hang="  ")
        if one.lifts:
            say(f"    lifted by: {plain(one.lifts)}", hang="  ")
        for command in one.commands:
            click.echo(f"      {plain(as_line(command, session))}")  # one line, to be copied
        if one.evidence:
            say(f"    evidence: position {', '.join(map(str, one.evidence))}")


def _ahead(why: "Why", session: Session) -> None:
    if why.place is None:
        return
    say(f"place {why.place} in the queue" + (", behind:" if why.ahead else ""))
    rows = [(str(one.task_id), one.type, f"{one.effective_priority:.1f}", sum_of(one.terms)) for one in why.ahead]
    if rows:
        session.paper().table(_AHEAD, rows)
    if more := why.place - 1 - len(rows):
        say(f"and {more:,} more; `tasktrail queue` shows the order")


def sum_of(terms: "PriorityTerms") -> str:
    """The terms of a priority as a sum: `5 base + 10 user + 1.5 wait - 20 long`."""
    parts = [f"{terms.base} base"]
    if terms.user:
        parts.append(f"+ {terms.user} user")
    parts.append(f"+ {terms.wait:.1f} wait")
    if terms.duration:
        parts.append(f"- {-terms.duration} long")
    return " ".join(parts)
