"""`tasktrail export`: the tasks or their attempts in a format that other programs read. Also for `log export`."""

import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..events.counted import counted
from ..events.existence import exists
from ..words import size
from .command import CliCommand, pass_session
from .failing import json_bytes
from .fields import with_options
from .parameters import TargetParam
from .progress import counting
from .session import Session
from .tasks import as_text_of, task_filters
from .terminal import for_stream, plain, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..api.protocol import Reading
    from ..exports.file import Written

F = TypeVar("F", bound="Callable[..., Any]")
_PACKED = ("gz", "bz2", "xz", "zst", "zip")


def export_options(*forms: str) -> "Callable[[F], F]":
    """Add the options for the format, the file, and the tasks."""

    def add(function: F) -> F:
        return with_options(
            task_filters(function),
            click.option(
                "--format",
                "form",
                type=click.Choice(forms),
                help="parquet needs --out. Default: as FILE is named, .csv or .parquet; else jsonl",
            ),
            click.option(
                "--out",
                metavar="FILE",
                type=TargetParam(dir_okay=False),
                help="Write to FILE, whole or not at all, and replace what is there. Default, or -: standard output",
            ),
            click.option(
                "--as-written",
                is_flag=True,
                help="CSV: write formulas as they are. Default: an apostrophe before each",
            ),
            click.option(
                "--sign", is_flag=True, help="Write FILE.intoto.json, too: a signed statement of what FILE holds."
            ),
        )

    return add


@click.command(
    "export",
    cls=CliCommand,
    examples=[
        ("tasktrail export tasks --out tasks.jsonl", "all tasks as they are now, an object a line"),
        ("tasktrail export attempts --type video_convert --out films.csv", "each try at a film"),
        ("tasktrail export tasks --as-of -1d --status failed --out failed.jsonl --sign", "for an auditor, signed"),
    ],
)
@click.argument("what", type=click.Choice(["tasks", "attempts"]))
@export_options("jsonl", "csv", "parquet")
@pass_session
def export_command(session: Session, /, what: Any, **how: Any) -> None:
    """Write the tasks, or their attempts, in a format for other programs. For records: `tasktrail log export`.

    All of it is as of one position: the end of the log, or --as-of. With filters: only the tasks that pass, and their
    attempts. It reads the files, whether a service runs or not. With --url it asks the service; a token bound to a user
    gets only the tasks of that user.
    """
    write_export(session, what, **how)


def write_export(
    session: Session,
    what: Any,
    *,
    form: Any,
    out: Path | None,
    as_of: int | datetime | None,
    as_written: bool,
    sign: bool,
    **texts: str,
) -> None:
    """Write what was asked for, and print what was written. Without a `form`, the file's name decides."""
    from ..exports.file import whole_file, write_file, write_rows
    from ..exports.forms import form_of
    from ..exports.parquet import check_parquet
    from ..exports.rows import opened
    from ..projections import TaskFilters

    out = None if out == Path("-") else out
    named = out.suffix.lower().removeprefix(".") if out is not None else ""
    if named in _PACKED:
        raise click.UsageError(
            f"A file that ends in .{named} would not be packed: leave out --out, and pipe the rows to a packer."
        )
    form = form or (named if named in ("csv", "parquet") else "jsonl")
    if sign:
        session.files_only("export --sign")
        if out is None:
            raise click.UsageError("--sign needs --out: the statement is about a file.")
    if form == "parquet":
        if out is None:
            raise click.UsageError("--format parquet needs --out.")
        check_parquet()
    if as_written and form != "csv":
        raise click.UsageError("--as-written is for --format csv.")
    filters = TaskFilters.parse({**texts, "as_of": as_text_of(as_of)})
    options = {name: text for name, text in texts.items() if text} | ({"as_of": filters.as_of} if filters.as_of else {})
    options |= {"as_written": True} if as_written else {}
    signing = session.environment.export_signer(session) if sign else nullcontext()
    with (
        signing as signer,
        _reading(session) as (reading, source),
        opened(reading, what, filters, folded=sign) as export,
        _bar(out) as progress,
    ):
        if out is None:
            stdout = sys.stdout.buffer

            def write(lines: bytes) -> None:
                stdout.write(for_stream(lines, stdout))

            write_rows(export, form_of(form, what, source, as_written=as_written), write, progress)
            sys.stdout.buffer.flush()
            return
        beside = out.with_name(f"{out.name}.intoto.json")
        statement = beside if signer else None
        # Both files get their names at the end, or neither: what cannot be signed is not exported.
        with whole_file(statement) if statement else nullcontext() as part:

            def write_statement(written: "Written") -> None:
                if signer and part:
                    query = {"of": what, "format": form} | options
                    envelope = signer.signed(out.name, written.sha256, export.position, query, written.rows)
                    part.write_bytes(json_bytes(envelope) + b"\n")

            written = write_file(out, export, form, what, source, progress, as_written=as_written, sign=write_statement)
    if session.as_json:
        summary = {"file": str(out), "position": export.position} | written._asdict()
        print_json(summary | ({"statement": str(statement)} if statement else {}))
    else:
        one = {"log": "record", "tasks": "task", "attempts": "attempt"}[what]
        rows = counted(written.rows, one)
        say(f"{plain(str(out))}: {rows} as of position {export.position}, {size(written.size)}")
        _say_what_is_signed(beside, signed=bool(statement))


def _say_what_is_signed(statement: Path, *, signed: bool) -> None:
    """Tell of the statement beside the file: the new one, or one that is left from an earlier export."""
    if signed:
        say(f"signed: {plain(str(statement))}")
    elif exists(statement):
        say(f"{plain(str(statement))} is of an earlier export: remove it, or sign this one with --sign")


def _bar(out: Path | None) -> "AbstractContextManager[Callable[[int, int], None]]":
    """Show a bar on standard error, unless rows are printed on the same screen."""
    return nullcontext(lambda _reached, _goal: None) if out is None and sys.stdout.isatty() else counting("exporting")


@contextmanager
def _reading(session: Session) -> "Iterator[tuple[Reading, str]]":
    """Open the service or the files; the second value is the log's name in CloudEvents."""
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
