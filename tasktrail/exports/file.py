"""Writes an export to a file, which appears whole under its name, or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import NamedTuple

from ..backups.backup import part_file
from ..events.errors import BackupFailed, InvalidPath
from ..events.existence import exists, is_file
from ..events.log.event_log import ReportProgress
from .forms import FileForm, FormName, form_of
from .parquet import to_parquet
from .rows import Export, What

_REPORT_EVERY = 500
"""Rows between two reports of the progress."""


class Written(NamedTuple):
    """The content of a file."""

    rows: int
    size: int
    """Bytes."""
    sha256: str
    """The hash of all bytes, in hex."""


def write_rows(export: Export, form: FileForm, write: Callable[[bytes], object], progress: ReportProgress) -> int:
    """Write all rows, one by one. Returns their number."""
    number = 0
    write(form.head)
    for turn, (reached, row) in enumerate(export.rows):
        if turn % _REPORT_EVERY == 0:
            progress(reached, export.goal)
        if row is not None:
            write(form.line(row))
            number += 1
    return number


def write_file(
    out: Path,
    export: Export,
    name: FormName,
    what: What,
    source: str,
    progress: ReportProgress,
    *,
    as_written: bool = False,
    sign: Callable[[Written], object] = lambda _written: None,
) -> Written:
    """Write all rows to a file. An older file of this name is replaced; only the owner may read the new one.

    Args:
        out: the file.
        export: the rows.
        name: the form.
        what: the kind of rows.
        source: which log they are of.
        progress: called with the progress.
        as_written: leave texts in CSV as they are, even if a spreadsheet takes them for formulas.
        sign: called with what was written, before the file gets its name. If this raises, it does not get it.

    Raises:
        InvalidPath: the file cannot be written there. Then nothing is.
    """
    with whole_file(out) as part:
        if name == "parquet":
            written = _parquet(part, export, what, progress)
        else:
            written = _in_lines(part, export, form_of(name, what, source, as_written=as_written), progress)
        sign(written)
        return written


def _in_lines(part: Path, export: Export, form: FileForm, progress: ReportProgress) -> Written:
    digest, size = sha256(), 0
    with part.open("wb") as file:

        def write(content: bytes) -> None:
            nonlocal size
            file.write(content)
            digest.update(content)
            size += len(content)

        rows = write_rows(export, form, write, progress)
    return Written(rows, size, digest.hexdigest())


def _parquet(part: Path, export: Export, what: What, progress: ReportProgress) -> Written:
    """Write JSON Lines to another file, convert them to Parquet, and delete that file."""
    with part_file(part.with_name(f"{part.name}.lines")) as lines:
        with lines.open("wb") as file:
            rows = write_rows(export, form_of("jsonl", what, ""), file.write, progress)
        to_parquet(lines, part, what)
    with part.open("rb") as file:
        return Written(rows, part.stat().st_size, file_digest(file, "sha256").hexdigest())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a hidden file beside `path`. It gets that name at the end; after an error, or Ctrl-C, it is removed.

    An older file of this name is replaced; only the owner may read the new one. Raises `InvalidPath`.
    """
    if exists(path) and not is_file(path):
        raise InvalidPath(f"{str(path)!r} is there, and is no file", field="out", remedy="Name a file.")
    path = path.resolve()
    try:
        with part_file(path) as part:
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
    except (BackupFailed, OSError) as error:
        message = (
            error.message if isinstance(error, BackupFailed) else f"{path} cannot be written: {error.strerror or error}"
        )
        raise InvalidPath(message, field="out", remedy="Name a file in a folder with room on its disk.") from error
