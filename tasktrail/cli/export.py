"""`tasktrail export`: the log, the tasks or their attempts in a form that other programs read."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..words import size
from .command import CliCommand, pass_session
from .progress import counting
from .session import Session
from .tasks import as_text_of, task_filters
from .terminal import plain, print_json, say

if TYPE_CHECKING:
    from ..api.protocol import Reading
    from ..exports.forms import Form
    from ..exports.rows import Export

_TELL_EVERY = 500
"""Rows between two looks at the bar."""


@click.command(
    "export",
    cls=CliCommand,
    examples=[
        ("tasktrail export tasks --out tasks.jsonl", "all tasks as they are now, an object a line"),
        ("tasktrail export attempts --type video_convert --format csv --out films.csv", "each try at a film"),
        ("tasktrail export tasks --as-of 2026-08-01T12:00:00Z --status failed", "what had failed by then"),
        ("tasktrail export log --format cloudevents | gzip > log.gz", "the whole history, for other programs"),
    ],
)
@click.argument("what", type=click.Choice(["log", "tasks", "attempts"]))
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "cloudevents"]),
    default="jsonl",
    help="cloudevents is for the log. Default: jsonl",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it there, whole or not at all; what is there is replaced. Default: standard output",
)
@task_filters
@pass_session
def export_command(
    session: Session, /, what: Any, form: Any, out: Path | None, as_of: int | datetime | None, **texts: str
) -> None:
    """Write the records of the log, the tasks, or the attempts of tasks, however many there are.

    All of it is as of one position, the end of the log unless --as-of names another. With filters it is the tasks that
    pass, and what belongs to them. It reads the files, whether a service runs or not; with --url it asks the service,
    which shows a token that is bound to a user the tasks of that user only.
    """
    from ..exports.file import Measured, whole_file
    from ..exports.forms import form_of
    from ..exports.rows import opened
    from ..projections import TaskFilters

    if form == "cloudevents" and what != "log":
        raise click.UsageError("--format cloudevents is for the log: a task is no event.")
    filters = TaskFilters.parse({**texts, "as_of": as_text_of(as_of)})
    file = whole_file(out) if out is not None else nullcontext(sys.stdout.buffer)
    with _reading(session) as (reading, source), opened(reading, what, filters) as export, file as opened_file:
        measured = Measured(opened_file)
        number = _write(export, form_of(form, what, source), measured.write, shown=out is not None)
        opened_file.flush()
    if out is None:
        return
    told = {"file": str(out), "rows": number, "position": export.position}
    told |= {"size": measured.size, "sha256": measured.sha256}
    if session.as_json:
        print_json(told)
    else:
        rows = {"log": "records"}.get(what, what)
        say(f"{plain(str(out))}: {number} {rows} as of position {export.position}, {size(measured.size)}")


@contextmanager
def _reading(session: Session) -> "Iterator[tuple[Reading, str]]":
    """Who answers, and how the log is called in CloudEvents."""
    if session.url:
        with session.reading() as reading:
            yield reading, session.url
        return
    from ..projections.notices import log_id

    reader = session.environment.files(session)
    try:
        first = next(iter(reader.log(0, 1)), None)
        yield reader, f"urn:tasktrail:{log_id(first)}" if first else "urn:tasktrail"
    finally:
        reader.close()


def _write(export: "Export", form: "Form", write: Callable[[bytes], None], *, shown: bool) -> int:
    """Write all rows; how many there were. `shown`: with a bar, where standard error is a terminal."""
    number = 0
    bar = counting("exporting") if shown or not sys.stdout.isatty() else nullcontext(lambda _reached, _goal: None)
    write(form.head)
    with bar as tell:
        for turn, (reached, row) in enumerate(export.rows):
            if turn % _TELL_EVERY == 0:
                tell(reached, export.goal)
            if row is not None:
                write(form.line(row))
                number += 1
    return number
