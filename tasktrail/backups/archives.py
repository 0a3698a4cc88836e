"""The archives that belong to a copy of a log. They lie in a folder beside it, as they do beside the log.

An archive's name says what is in it, so copies of several days share the archives that they have in common.
"""

import shutil
from contextlib import closing, suppress
from pathlib import Path

from ..events.counted import counted, plural
from ..events.errors import BackupFailed, InvalidPath, LogCorrupt
from ..events.existence import exists
from ..events.log.archive_faults import archive_faults
from ..events.log.archive_file import file_digest
from ..events.log.archives import PUT_BACK, Archives, KnownArchive, folder_of
from ..events.log.files import PRIVATE_FOLDER, create_private
from ..events.log.sqlite_errors import meaning_of
from .check import open_log
from .evidence import sync_copy


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


def copy_archives(log: Path, copy: Path) -> list[Path]:
    """Copy the archives of a log that are not yet beside a copy of it. Returns the new ones, which are on the disk.

    Raises `LogCorrupt` if an archive is damaged or missing, `LogNotWritable` or `DiskFailed` if it cannot be read,
    `BackupFailed` if it cannot be written.
    """
    segments, added = archives_of(copy), list[Path]()
    folder = folder_of(copy)
    try:
        for segment in segments:
            target = folder / segment.name
            if not (exists(target) and file_digest(target) == (segment.sha256, segment.size)):
                folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
                _copy(folder_of(log) / segment.name, target, segment)
                added.append(target)
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


def remove(added: list[Path], folder: Path) -> None:
    """Delete the files that were copied to a folder, and the folder if it is then empty."""
    for path in added:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it was never made, or others are in there
        folder.rmdir()


def _copy(source: Path, target: Path, segment: KnownArchive) -> None:
    if not exists(source):
        raise LogCorrupt(
            f"Position {segment.first}: the archive {source} is missing",
            remedy="If tasks were forgotten just now, repeat it. If not, put the file from a backup in its place.",
        )
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)  # somebody may have put a link there, which must not be written through
    try:
        create_private(part)
        shutil.copyfile(source, part)
        if file_digest(part) != (segment.sha256, segment.size):
            raise LogCorrupt(f"Position {segment.first}: the archive {source} was changed", remedy=PUT_BACK)
        sync_copy(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def check_archives(copy: Path) -> None:
    """Raise `LogCorrupt` unless the archives beside a copy are those that its records name."""
    with closing(open_log(copy)) as conn:
        fault = next(archive_faults(conn), None)
    if fault is not None:
        raise LogCorrupt(f"Position {fault.position}: {fault.message}")
