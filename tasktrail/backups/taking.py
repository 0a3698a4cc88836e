"""Taking a backup: the log of a data folder as one file, made beside its name and checked before it gets it."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..events.errors import BackupFailed, InvalidPath
from ..paths import DataPaths
from .copying import Progress, called, check_copy, copy_log, part_file, silent, sync
from .evidence import refuse_older_log


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was taken."""

    path: str
    position: int
    """The last record in it."""
    head: str
    """The hash of that record, in hex. Kept elsewhere, it shows later that the backup is still this one."""
    size: int
    """Bytes."""


def back_up(data: str | Path, destination: str | Path, progress: Progress = silent) -> Backup:
    """Copy the log of a data folder to a file, whether a service runs on it or not.

    Args:
        data: the data folder.
        destination: a file that does not exist yet; or a folder, in which the file gets a name with time and position.
        progress: is told how far it is, in bytes; the first half is the copy, the second its check.

    Raises:
        InvalidPath: there is no log, or the destination exists already or cannot be written to.
        LogCorrupt: the log is damaged. A backup of it would be no backup, so there is none.
        HistoryMissing: views, snapshots or the mark beside the log have seen records that it lacks.
        BackupFailed: it could not be written; then nothing is left of it.
    """
    paths = DataPaths(Path(data))
    if not paths.log.exists():
        raise InvalidPath(f"There is no log in {paths.data}", remedy="Check the data folder (--data).")
    refuse_older_log(paths)  # night after night it would replace good backups
    target, named = _target(Path(destination).absolute())
    with part_file(target) as part, called(part, target):
        head = copy_log(paths.log, part, lambda reached, goal: progress(reached, 2 * goal))
        size = part.stat().st_size
        check_copy(part, head, lambda reached, goal: progress(size + size * reached // goal, 2 * size))
        progress(2 * size, 2 * size)
        if not named:
            now = datetime.now(UTC)
            target = target.with_name(f"tasktrail-{now:%Y%m%dT%H%M%SZ}-{head.position}.db")
        _give_name(part, target)
    sync(target.parent)
    return Backup(path=str(target), position=head.position, head=head.hash.hex(), size=size)


def _target(destination: Path) -> tuple[Path, bool]:
    """The file to make, and whether that is its name already."""
    named = not destination.is_dir()
    target = destination if named else destination / "tasktrail-backup"
    if named and (target.exists() or target.is_symlink()):
        raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file, or a folder.")
    if not target.parent.is_dir():
        raise InvalidPath(f"There is no folder {target.parent}", field="dest", remedy="Make it first.")
    return target, named


def _give_name(part: Path, target: Path) -> None:
    """The name, unless somebody has taken it meanwhile: nothing is ever overwritten."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file, or a folder.") from error
    except OSError:  # a file system without hard links
        if target.exists():
            raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file.") from None
        try:
            part.rename(target)
        except OSError as error:
            raise BackupFailed(f"{target} cannot get its name: {error.strerror}") from error


def position_of(path: Path) -> tuple[int, bytes]:
    """Where a log ends that may be damaged; (0, b"") when that cannot be told."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as log:
            row = log.execute("SELECT position, hash FROM events ORDER BY position DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return 0, b""
    return (int(row[0]), bytes(row[1])) if row else (0, b"")
