"""Copies a log, as of one position, into one file, and checks the copy from its first record to its last.

SQLite copies page by page inside one read transaction. So commits go on meanwhile, and are not in the copy. They stay
in the write-ahead log until the copy is done; the service notices nothing else.
"""

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..config.load import load_config
from ..events import Head
from ..events.errors import BackupFailed, BaseUnfit, InvalidPath, LogCorrupt, OnlyInFiles, TasktrailError
from ..events.existence import exists, is_dir
from ..events.log.address import is_address
from ..events.log.archives import folder_of
from ..events.log.chain import GENESIS
from ..events.log.event_log import ReportProgress
from ..events.log.opening import has_no_log
from ..events.log.schema import TABLES, refuse_masked
from ..paths import DataPaths, path_of
from .archives import archives_of, check_archives, copy_archives, remove
from .check import check_copy, head_of, is_log_damage, open_log_as_it_is, refuse_written, silent
from .evidence import clear_copy, need_log, refuse_older_log, sync_copy
from .incremental import OtherTables, add_since, bases, refuse_base

_PAGES = 2048
"""Pages that are copied at once: 8 MB."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_THERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def part_file(path: Path) -> Iterator[Path]:
    """Give a new file beside `path`, for its owner only. It is removed afterwards unless it was renamed.

    A file or link that is already there, left by a killed process or put there by somebody, is removed first. It is not
    written to: a link may lead anywhere, and a file may be open elsewhere. Raises `BackupFailed` while another process
    writes to it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        held = _made(part)
    except BlockingIOError as error:
        raise _busy(path) from error
    except OSError as error:
        raise BackupFailed(f"Nothing can be written beside {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = part.lstat()
        except OSError as error:
            raise _busy(path) from error
        if not os.path.samestat(there, os.fstat(held)):  # another process took it for a leftover before it was locked
            raise _busy(path)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)
    finally:
        os.close(held)


def _made(part: Path) -> int:
    """Make the file. Raises `OSError`, and `BlockingIOError` if another process has locked the one that is there."""
    try:
        return os.open(part, _NEW, 0o600)
    except FileExistsError:
        with suppress(FileNotFoundError):  # its writer has just removed it
            _remove_leftovers(part)
    return os.open(part, _NEW, 0o600)


def _remove_leftovers(part: Path) -> None:
    if not stat.S_ISREG(part.lstat().st_mode):
        part.unlink()
        return
    descriptor = os.open(part, _THERE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
    finally:
        os.close(descriptor)


def _busy(path: Path) -> BackupFailed:
    return BackupFailed(f"{path} is being written by another process", remedy="Wait until it is done.")


def copy_log(source: Path, part: Path, progress: ReportProgress = silent) -> Head:
    """Copy the log as it is now into an empty file, bring that to the disk, and return where it ends.

    `progress` counts bytes. Raises `LogCorrupt` when the source is no log or cannot be read, `BackupFailed` when the
    copy cannot be written.
    """
    log, frozen = open_log_as_it_is(source)
    with closing(log):
        log.execute("BEGIN")
        head = head_of(log, source)
        size = log.execute("PRAGMA page_size").fetchone()[0]

        def report_copied(_status: int, remaining: int, total: int) -> None:
            os.fsync(written.fileno())
            progress((total - remaining) * size, total * size)

        try:
            # Piece by piece: if a commit of the service had to wait for the whole copy, the service would stand still.
            with part.open("rb") as written, closing(sqlite3.connect(part, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")
                copy.execute("PRAGMA journal_mode = OFF")
                log.backup(copy, pages=_PAGES, progress=report_copied)
                # The copy is a single file; without this SQLite would expect a write-ahead log beside it.
                copy.execute("PRAGMA journal_mode = DELETE")
            if frozen:
                refuse_written(source)
            clear_copy(part)
        except sqlite3.Error as error:
            if is_log_damage(error):
                raise LogCorrupt(f"{source} cannot be copied: {error}") from error
            raise BackupFailed(f"{source} cannot be copied to {part.parent}: {error}") from error
        except OSError as error:
            raise BackupFailed(f"{source} cannot be copied to {part.parent}: {error.strerror}") from error
    sync_copy(part)
    return head


@contextmanager
def called(part: Path, name: Path, remedy: str = "") -> Iterator[None]:
    """Make errors name the file that the hidden one stands for. Errors about damage get the remedy."""
    try:
        yield
    except TasktrailError as error:
        error.message = error.message.replace(str(part), str(name))
        if isinstance(error, LogCorrupt) and remedy:
            error.advice = remedy
        raise


# --- backups --------------------------------------------------------------------------------------------------


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was taken."""

    path: str
    position: int
    """The last record in it."""
    head: str
    """The hash of that record, in hex. Kept elsewhere, it shows later that the backup is unchanged."""
    size: int
    """Bytes."""
    base: str = ""
    """The earlier backup that it was made from; empty if the whole log was copied."""
    records_added: int
    """How many records were copied from the log: those that `base` lacks."""
    bytes_added: int
    """How many bytes larger it is than `base`."""
    checked_from: int = 1
    """The first position that was read back and checked. Everything before it is as it was in `base`."""
    note: str = ""
    """Why `base` is not the requested one, or is empty; empty if all went as requested."""
    archives: int = 0
    """How many archives belong to it. They are in the folder `archive` beside it; backups there share them."""
    archives_added: int = 0
    """How many of them are new there."""


def back_up(
    data: str | Path,
    destination: str | Path,
    progress: ReportProgress = silent,
    *,
    base: str | Path | None = None,
    check: bool = False,
) -> Backup:
    """Copy the log of a data folder to a file, whether a service runs on it or not.

    Args:
        data: the data folder.
        destination: a file that does not exist yet; or a folder, in which the file gets a name with time and position.
        progress: counts bytes; the first half is the copy, the second its check.
        base: an earlier backup, which is copied and gets only what is new in the log; or a folder, whose newest backup
            that fits is taken. If none fits, or the log's tables have changed since, the whole log is copied, and
            `note` says why.
        check: read all of the file back, also what came from `base`.

    Raises:
        InvalidPath: there is no log, no `base`, or the destination exists already or cannot be written to.
        BaseUnfit: `base` is a file, and is damaged, or the log does not go on from where it ends.
        LogCorrupt: the log is damaged, so no backup is made.
        HistoryMissing: views, snapshots or the mark beside the log have seen records that it lacks.
        BackupFailed: it could not be written, or another backup with archives is being written to this folder; then
            nothing is left of it.
    """
    paths = DataPaths(path_of(data, "data"))
    wanted = path_of(destination, "destination").absolute()
    if str(destination).endswith(("/", "/.")) and not _is_folder(wanted):  # a `Path` ends with neither
        raise InvalidPath(f"There is no folder {wanted}", field="destination", remedy="Make it first.")
    earlier = path_of(base, "base").absolute() if base is not None else None
    paths.refuse_unusable()
    if is_address(paths.log):
        raise OnlyInFiles(
            f"The log of {paths.data} is on PostgreSQL, and a backup here is the copy of a file",
            remedy="Back up the database with PostgreSQL's own means (pg_basebackup, pg_dump), or copy the log into a "
            "file with `tasktrail migrate`. Keep the data folder's keys.db and master key, too.",
        )
    if has_no_log(paths.log):  # only then is the configuration needed
        need_log(paths, load_config(paths.data).log)
    refuse_older_log(paths)  # else nightly backups of it would replace the good ones
    target, named = _target(wanted)
    with part_file(target) as part, called(part, target), ExitStack() as held:
        taken = _copy(paths.log, part, earlier, lambda reached, goal: progress(reached, 2 * goal))
        size = part.stat().st_size
        after = 0 if check else taken.before.position
        archives = archives_of(part)
        if archives:  # one backup at a time: another could rely on archives that this one removes when it fails
            held.enter_context(part_file(folder_of(part)))
        added = copy_archives(paths.log, part)
        try:
            check_archives(part)
            check_copy(
                part, taken.head, lambda reached, goal: progress(size + size * reached // goal, 2 * size), after=after
            )
            progress(2 * size, 2 * size)
            if not named:
                now = datetime.now(UTC)
                target = target.with_name(f"tasktrail-{now:%Y%m%dT%H%M%SZ}-{taken.head.position}.db")
            _give_name(part, target)
        except BaseException:
            remove(added, folder_of(part))
            raise
    sync_copy(target.parent)
    return Backup(
        path=str(target),
        position=taken.head.position,
        head=taken.head.hash.hex(),
        size=size,
        base=taken.base,
        records_added=taken.head.position - taken.before.position,
        bytes_added=size - taken.base_size,
        checked_from=after + 1,
        note=taken.note,
        archives=len(archives),
        archives_added=len(added),
    )


class _Copy(NamedTuple):
    head: Head
    before: Head = Head(0, GENESIS)
    """Where `base` ends."""
    base: str = ""
    base_size: int = 0
    note: str = ""


def _copy(log: Path, part: Path, base: Path | None, progress: ReportProgress) -> _Copy:
    """Copy the log to an empty file: from an earlier backup if there is one that fits, or as a whole."""
    if base is None:
        return _Copy(copy_log(log, part, progress))
    earlier, note = _fitting(log, base)
    if earlier is not None:
        try:
            size = earlier.stat().st_size
            before, head = add_since(log, earlier, part, progress)
            return _Copy(head, before, str(earlier), size, note)
        except BaseUnfit as error:
            if earlier == base:
                raise
            note = error.message
            os.truncate(part, 0)
    return _Copy(copy_log(log, part, progress), note=note)


def _fitting(log: Path, base: Path) -> tuple[Path | None, str]:
    """Return the backup to begin with, if one fits, and why it is not the first choice."""
    note = ""
    for earlier in bases(base):
        try:
            refuse_base(log, earlier)
        except BaseUnfit as error:
            if earlier == base and not isinstance(error, OtherTables):
                raise
            note = note or error.message
        else:
            return earlier, note
    return None, note or f"No file in {base} has the name of a backup, tasktrail-TIME-POSITION.db"


def _target(destination: Path) -> tuple[Path, bool]:
    """Return the file to make, and whether its name is final."""
    named = not _is_folder(destination)
    target = destination if named else destination / "tasktrail-backup"
    if named and (exists(target) or target.is_symlink()):
        raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file, or a folder.")
    if not is_dir(target.parent):
        raise InvalidPath(f"There is no folder {target.parent}", field="dest", remedy="Make it first.")
    return target, named


def _is_folder(destination: Path) -> bool:
    """Whether it is a folder. Raises InvalidPath if the system does not tell, as of a folder that is closed."""
    try:
        return is_dir(destination)
    except OSError as error:
        raise InvalidPath(
            f"{destination} can be no backup: {error.strerror}",
            field="destination",
            remedy="Name another file, or a folder.",
        ) from error


def _give_name(part: Path, target: Path) -> None:
    """Give the file its name, unless the name has been taken meanwhile: nothing is ever overwritten."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file, or a folder.") from error
    except OSError:  # a file system without hard links
        if exists(target):
            raise InvalidPath(f"{target} exists already", field="dest", remedy="Name another file.") from None
        try:
            part.rename(target)
        except OSError as error:
            raise BackupFailed(f"{target} cannot get its name: {error.strerror}") from error


def log_end(path: Path) -> tuple[int, bytes]:
    """Return where a log, perhaps a damaged one, ends; (0, b"") if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as log:
            refuse_masked(log, TABLES)
            row = log.execute("SELECT position, hash FROM events ORDER BY position DESC LIMIT 1").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return 0, b""
    return (int(row[0]), bytes(row[1])) if row else (0, b"")
