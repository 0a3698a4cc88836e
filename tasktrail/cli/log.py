"""`tasktrail log`: the records as they are; and `log export`: in a format that other programs read."""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.core import ParameterSource

from ..events.counted import counted, plural
from ..words import size
from .command import CliCommand, CliCommandGroup, pass_session
from .export import export_options, write_export
from .parameters import GivenPathParam, WholeParam
from .progress import counting
from .session import Session
from .terminal import for_stream, plain, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..events import Recorded

_AT_ONCE = 500


@click.group(
    "log",
    cls=CliCommandGroup,
    examples=[
        ("tasktrail log > log.jsonl", "the whole history, for an archive or an auditor"),
        ("tasktrail log --after 120 --limit 10", "ten records from position 121 on"),
        ("tasktrail log --follow | jq .event", "what is there, and then what happens"),
        ("tasktrail log --event command_refused", "which commands were refused, whose and why"),
    ],
)
@click.option("--after", type=WholeParam(min=0), metavar="N", help="Begin after position N. Default: 0")
@click.option("--limit", type=WholeParam(min=0), metavar="N", help="Stop after this many records.")
@click.option("--event", metavar="NAME", help="Only these events: a name, or several with commas.")
@click.option("--follow", is_flag=True, help="Wait for more; Ctrl-C ends it.")
@pass_session
def log_command(session: Session, after: int | None, limit: int | None, event: str | None, *, follow: bool) -> None:
    """Print recorded events as JSON Lines, in the order of their positions."""
    if below := click.get_current_context().invoked_subcommand:
        if follow or (after, limit, event) != (None, None, None):
            raise click.UsageError(
                f"--after, --limit, --event and --follow are for `tasktrail log`, not for `log {below}`."
            )
        return
    from ..intake.event_names import event_tags

    after, wanted = after or 0, event_tags(() if event is None else event.split(","))
    encoder = msgspec.json.Encoder()
    write = sys.stdout.buffer.write
    with session.reading() as reading:
        if follow:
            records: Iterator[Recorded] = reading.follow(after, events=wanted)
        else:
            found = reading.log(after, None if wanted else limit)
            records = (record for record in found if record.name in wanted) if wanted else found
        for number, record in enumerate(islice(records, limit), 1):
            write(for_stream(encoder.encode(record.flat()) + b"\n", sys.stdout))
            if follow or number % _AT_ONCE == 0:
                sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()


@log_command.command(
    "export",
    cls=CliCommand,
    examples=[
        ("tasktrail log export --format cloudevents | gzip > log.gz", "the whole history, for other programs"),
        ("tasktrail log export --batch films --format csv --out films.csv", "what happened to the tasks of a batch"),
        ("tasktrail log export --as-of -1d --out log.jsonl --sign", "for an auditor, signed"),
        ("tasktrail log export --tiles /srv/www/log", "the tree of hashes, for the verifiers of others"),
    ],
)
@export_options("jsonl", "csv", "cloudevents", "parquet")
@click.option(
    "--tiles",
    metavar="DIR",
    type=GivenPathParam(file_okay=False),
    help="Instead, write the tree of hashes that seals refer to, for others who check proofs; no records.",
)
@pass_session
def export(session: Session, /, tiles: Path | None, **how: Any) -> None:
    """Write the records of the log, up to --as-of or to its end.

    With filters: only the records of the tasks that pass, and what the service noted about them. It reads the files,
    whether a service runs or not. With --url it asks the service; a token bound to a user gets only the records of that
    user's tasks.

    With --tiles it writes a tiled transparency log (C2SP) as of the newest seal: tile/0, tile/1 and so on, tile/entries
    with the hashes of the records, and the seal as `checkpoint`. Standard verifiers and mirrors read it, from the
    folder or from a web server. It holds only hashes: no path, name or address. Exporting to the same folder again adds
    what is new.
    """
    if tiles is None:
        write_export(session, "log", **how)
        return
    context = click.get_current_context()
    for param in context.command.params:
        if param.name in how and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--tiles is of the whole log, and takes no {param.opts[0]}.")
    session.files_only("log export --tiles")
    with counting("exporting") as progress:
        made = session.environment.tiles(session, tiles, progress)
    if session.as_json:
        print_json({"folder": str(tiles)} | made._asdict())
    else:
        new = f"{counted(made.files, 'file')} {plural(made.files, 'is', 'are')} new"
        say(f"{plain(str(tiles))}: the tree of {counted(made.size, 'record')}, {new}, {size(made.bytes)}")
