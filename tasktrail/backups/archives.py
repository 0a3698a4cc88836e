"""The archives that belong to a copy of a log. They lie in a folder beside it, as they do beside the log.

An archive's name says what is in it, so copies of several days share the archives that they have in common.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from ..events.counted import counted, plural
from ..events.errors import BackupFailed, InvalidPath, LogCorrupt
from ..events.existence import exists
from ..events.log.archive_faults import archive_faults
from ..events.log.archive_file import file_digest, plain_status
from ..events.log.archives import PUT_BACK, Archives, KnownArchive, folder_of
from ..events.log.files import PRIVATE_FOLDER, create_private
from ..events.log.sqlite_errors import meaning_of
from .check import open_log
from .evidence import sync_copy


class Added(NamedTuple):
    """An archive that was copied beside a log or a copy of it."""

    path: Path
    replaced: Path | None
    """What stood in its place and was no such archive; it is kept."""


def archives_of(log: Path) -> list[KnownArchive]:
    """The archives of a log or a copy. Raises `LogCorrupt`; `BackupFailed` or `OutcomeUnknown` if it cannot be read."""
    with closing(open_log(log)) as conn:
        return Archives(conn).segments()


def refuse_missing(copy: Path) -> None:
    """Raise `InvalidPath` if some of a backup's archives are missing beside it. Also raises what `archives_of` does."""
    segments, folder = archives_of(copy), folder_of(copy)
    if missing := [one.name for one in segments if not exists(folder / one.name)]:
        raise InvalidPath(
            f"Of {counted(len(segments), 'archive')} of the backup {copy}, {len(missing)} "
            f"{plural(len(missing), 'is', 'are')} missing in {folder}: {missing[0]}",
            field="src",
            remedy="Bring the folder `archive` that lies beside the backup where it was taken. Nothing was changed.",
        )


def copy_archives(log: Path, copy: Path) -> list[Added]:
    """Copy the archives of a log that are not yet beside a copy of it. Returns the new ones, which are on the disk.

    Raises `LogCorrupt` if an archive is damaged or missing, `LogNotWritable` or `DiskFailed` if it cannot be read,
    `BackupFailed` if it cannot be written.
    """
    segments, added = archives_of(copy), list[Added]()
    folder = folder_of(copy)
    try:
        for segment in segments:
            target = folder / segment.name
            if not _is_there(target, segment):
                folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
                _copy(folder_of(log) / segment.name, target, segment, added)
    except BaseException as error:
        remove(added, folder)
        if isinstance(error, OSError):
            if error.filename and Path(error.filename).parent == folder_of(log):
                raise meaning_of(error)(f"An archive cannot be read: {error}") from error
            raise BackupFailed(f"An archive cannot be copied to {folder}: {error}") from error
        raise
    if added:
        sync_copy(folder)
        sync_copy(folder.parent)
    return added


def is_plain(path: Path) -> bool:
    """Whether a file is there, or a link to one. Raises `OSError` if the system does not tell."""
    try:
        plain_status(path)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _is_there(target: Path, segment: KnownArchive) -> bool:
    """Whether a file is that archive. Anything else in its place, such as a pipe, makes room for it."""
    return is_plain(target) and file_digest(target) == (segment.sha256, segment.size)


def remove(added: Sequence[Added], folder: Path) -> None:
    """Undo a copy: put back what made room, and delete the folder if it is then empty."""
    for path, replaced in added:
        if replaced is None:
            path.unlink(missing_ok=True)
        elif os.path.lexists(replaced):  # if not, it still has its place
            path.unlink(missing_ok=True)
            replaced.rename(path)
    with suppress(OSError):  # it was never made, or others are in there
        folder.rmdir()


def _free_name(path: Path) -> Path:
    """A name beside it that nothing has: what made room earlier is kept as well."""
    names = (path.with_name(f"{path.name}.replaced{f'-{number}' if number else ''}") for number in count())
    return next(name for name in names if not os.path.lexists(name))


def _copy(source: Path, target: Path, segment: KnownArchive, added: list[Added]) -> None:
    try:
        size = plain_status(source).st_size
    except FileNotFoundError as error:
        raise LogCorrupt(
            f"Position {segment.first}: the archive {source} is missing",
            remedy="If tasks were forgotten just now, repeat it. If not, put the file from a backup in its place.",
        ) from error
    except ValueError as error:
        raise LogCorrupt(f"Position {segment.first}: the archive {source} {error}", remedy=PUT_BACK) from error
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)  # somebody may have put a link there, which must not be written through
    try:
        if size == segment.size:  # what has another size need not be copied to be refused
            create_private(part)
            shutil.copyfile(source, part)
        if size != segment.size or file_digest(part) != (segment.sha256, segment.size):
            raise LogCorrupt(f"Position {segment.first}: the archive {source} was changed", remedy=PUT_BACK)
        sync_copy(part)
        replaced = _free_name(target) if os.path.lexists(target) else None
        added.append(Added(target, replaced))
        if replaced is not None:
            target.rename(replaced)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def check_archives(copy: Path) -> None:
    """Raise `LogCorrupt` unless the archives beside a copy are those that its records name."""
    with closing(open_log(copy)) as conn:
        fault = next(archive_faults(conn), None)
    if fault is not None:
        raise LogCorrupt(f"Position {fault.position}: {fault.message}")
