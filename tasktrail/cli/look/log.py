"""`tasktrail log`: every recorded event, one JSON object a line."""

import sys
from itertools import islice

import click
import msgspec

from ..base import Command, pass_session
from ..session import Session
from ..words import Whole

_AT_ONCE = 500


@click.command(
    "log",
    cls=Command,
    examples=[
        ("tasktrail log > log.jsonl", "the whole history, for an archive or an auditor"),
        ("tasktrail log --after 120 --limit 10", "ten records from position 121 on"),
        ("tasktrail log --follow | jq .event", "what is there, and then what happens"),
    ],
)
@click.option("--after", type=Whole(min=0), default=0, metavar="N", help="Begin after position N. Default: 0")
@click.option("--limit", type=Whole(min=0), metavar="N", help="Stop after so many.")
@click.option("--follow", is_flag=True, help="Wait for more; Ctrl-C ends it.")
@pass_session
def command(session: Session, after: int, limit: int | None, *, follow: bool) -> None:
    """Print recorded events as JSON Lines, in the order of their positions."""
    encoder = msgspec.json.Encoder()
    write = sys.stdout.buffer.write
    with session.reading() as reading:
        records = reading.follow(after) if follow else reading.log(after, limit)
        for number, record in enumerate(islice(records, limit), 1):
            write(encoder.encode(record.flat()) + b"\n")
            if follow or number % _AT_ONCE == 0:
                sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()
