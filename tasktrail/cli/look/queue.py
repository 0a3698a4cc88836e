"""`tasktrail queue`: what waits for room, in the order in which it will run."""

from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..layout import Column
from ..output import Paper, print_json, say
from ..session import Session
from ..words import Whole, plain
from .why import sum_of

if TYPE_CHECKING:
    from ...actors.core.board import QueueBoard
    from ...projections import Stats

WAITING = (
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
    cls=Command,
    examples=[
        ("tasktrail queue", "the first fifty, with the terms of their priorities"),
        ("tasktrail queue --limit 500 --json", "more of them, for a program"),
    ],
)
@click.option("--limit", type=Whole(0, 10_000), default=50, show_default=True, help="At most so many tasks.")
@pass_session
def command(session: Session, limit: int) -> None:
    """Show the order of the queue: what runs next, and what each priority is made of."""
    with session.reading() as reading:
        board = reading.queue(limit)
        stats = reading.stats()
    if session.as_json:
        print_json(board)
        return
    say(headline(board, stats))
    if board.entries:
        paper = session.paper()
        paper.table(WAITING, rows(board, paper))
    if board.fair_share:
        say(
            "Fair share: the user with the least running goes first, then the one whose last start is longest ago. So "
            "they would start if nothing that runs ended before; the priority decides among the tasks of one user."
        )
    if not board.live:
        say("No service runs: this is what would wait for room if one did.")


def headline(board: "QueueBoard", stats: "Stats") -> str:
    """How many run and wait, and what is paused."""
    waiting = stats.counts["pending"] + stats.counts["retrying"]
    later = max(0, waiting - board.ready - board.blocked - board.aside)  # the numbers may be an event apart
    aside = f"{board.aside} need more than there is at best (see why), " if board.aside else ""
    paused = "".join(
        f"; {'draining' if pause.drain else 'paused'}: "
        + (
            f"type {pause.type}"
            if pause.type is not None
            else "all"
            if pause.user_id is None
            else f"user {pause.user_id}"
        )
        for pause in board.pauses
    )
    return (
        f"{len(board.running)} run, {board.ready} wait for room, {board.blocked} for another task, {aside}"
        f"{later} for a time, a release or a handler{plain(paused)}"
    )


def rows(board: "QueueBoard", paper: Paper) -> list[tuple[str, ...]]:
    """A row for each task of the queue."""
    return [
        (
            str(one.place),
            str(one.task_id),
            one.type,
            PurePath(one.input_file).name,
            f"{one.effective_priority:.1f}",
            paper.when(one.waiting_since),
            str(one.user_id),
            sum_of(one.terms),
            plain(", ".join(one.shut_by)),
        )
        for one in board.entries
    ]
