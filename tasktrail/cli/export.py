"""`tasktrail export`: the log, the tasks or their attempts in a form that other programs read."""

import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
    from collections.abc import Callable, Iterator

    from ..api.protocol import Reading


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
    type=click.Choice(["jsonl", "csv", "cloudevents", "parquet"]),
    default="jsonl",
    help="cloudevents is for the log, parquet for --out. Default: jsonl",
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
    from ..exports.file import write_file, write_rows
    from ..exports.forms import form_of
    from ..exports.parquet import check_parquet
    from ..exports.rows import opened
    from ..projections import TaskFilters

    if form == "cloudevents" and what != "log":
        raise click.UsageError("--format cloudevents is for the log: a task is no event.")
    if form == "parquet":
        if out is None:
            raise click.UsageError("--format parquet needs --out.")
        check_parquet()
    filters = TaskFilters.parse({**texts, "as_of": as_text_of(as_of)})
    with _reading(session) as (reading, source), opened(reading, what, filters) as export, _bar(out) as tell:
        if out is None:
            write_rows(export, form_of(form, what, source), sys.stdout.buffer.write, tell)
            sys.stdout.buffer.flush()
            return
        written = write_file(out, export, form, what, source, tell)
    if session.as_json:
        print_json({"file": str(out), "position": export.position} | written._asdict())
    else:
        one = {"log": "record", "tasks": "task", "attempts": "attempt"}[what]
        rows = f"{written.rows} {one}{'' if written.rows == 1 else 's'}"
        say(f"{plain(str(out))}: {rows} as of position {export.position}, {size(written.size)}")


def _bar(out: Path | None) -> "AbstractContextManager[Callable[[int, int], None]]":
    """A bar on standard error, unless rows are on the same screen."""
    return nullcontext(lambda _reached, _goal: None) if out is None and sys.stdout.isatty() else counting("exporting")


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
