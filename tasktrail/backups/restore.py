"""Puts a backup in place. A copy is checked completely before it takes the place, and no old file is deleted."""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..actors.core.board import TokenBoard, boards_of_tokens
from ..actors.core.tokens import Tokens
from ..events.errors import BackupFailed, DataNotEmpty, InvalidPath, LogCorrupt, LogTooNew, OnlyInFiles
from ..events.existence import exists, is_dir, is_file
from ..events.log.address import is_address
from ..events.log.event_log import ReportProgress
from ..events.log.files import mark_of, rescued_logs
from ..events.log.lock import DataLock
from ..events.log.log_reader import LogReader
from ..events.log.opening import read_log
from ..events.system_events import AcceptedLoss
from ..paths import DataPaths, give_to_owner, path_of
from ..projections.verification import verify
from .archives import Added, copy_archives, is_plain, refuse_missing, remove
from .backup import called, copy_log, log_end, part_file
from .check import check_file, silent
from .evidence import Acceptance, note_loss, sync_copy
from .incremental import bases

_PAGE = 1000
"""Records that are read at a time."""
_OTHER_BACKUP = "Use another backup. Nothing was changed."


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """The log that was put in place, or would be."""

    data: str
    position: int
    """The last record of the log that is restored."""
    recorded_at: datetime | None
    """When that was recorded; later work is not in the log. None if the log is empty."""
    head: str
    """Its hash, in hex."""
    tasks: int
    size: int
    """Bytes."""
    replaced_position: int
    """Where the old log ended; 0 if there was none or it cannot be read."""
    kept: str
    """The folder to which the old files were moved; empty if there were none."""
    tokens: tuple[TokenBoard, ...]
    """The tokens that are valid by the restored log, also those that were revoked after the backup."""


def restore(
    source: str | Path,
    data: str | Path,
    *,
    force: bool = False,
    only_check: bool = False,
    temp_dir: Path | None = None,
    actor: str = "python",
    reason: str = "",
    progress: ReportProgress = silent,
) -> Restored:
    """Put a backup in place as the log of a data folder that no service works on.

    Args:
        source: a file that `back_up` made, or another data folder, whose log is taken.
        data: the data folder; it is made when missing.
        force: put an existing log aside. Without it a folder with a log is refused.
        only_check: check the backup as thoroughly, and change nothing.
        temp_dir: where temp files of tasks are, if not in the data folder.
        actor: who restores.
        reason: why. The next start records both if the replaced log had records that the backup lacks.
        progress: counts bytes; the first half is the copy, the second its check.

    Raises:
        InvalidPath: there is no backup at `source`, or its archives are not beside it.
        DataNotEmpty: the data folder has a log, and `force` is not set.
        DataInUse: a service works on the data folder.
        LogCorrupt: the backup is damaged. Nothing was changed.
        LogTooNew: a newer version has written it. Nothing was changed.
        BackupFailed: there is no room, or something cannot be moved.
    """
    paths = DataPaths(path_of(data, "data"), temp_dir)
    if is_address(paths.log) and not only_check:
        raise OnlyInFiles(
            f"The log of {paths.data} is on PostgreSQL, and a backup here is put in place as a file",
            remedy="Restore it into another data folder, and move it with `tasktrail migrate`.",
        )
    origin = _origin(path_of(source, "source"), paths)
    if only_check:
        with called(origin, origin, _OTHER_BACKUP):
            refuse_missing(origin)
            return _checked(origin, paths, 0, progress)
    with (
        _made(paths),
        DataLock(paths.lock, "restore"),
        part_file(paths.log) as part,
        called(part, origin, _OTHER_BACKUP),
    ):
        rescued = rescued_logs(paths.log)
        before, its_hash = max(log_end(log) for log in (paths.log, *rescued))
        if not force and (exists(paths.log) or exists(_wal(paths.log)) or rescued):
            raise DataNotEmpty(f"{paths.data} holds a log already, which ends at position {before}")
        refuse_missing(origin)
        copy_log(origin, part, lambda reached, goal: progress(reached, 2 * goal))
        added = copy_archives(origin, part)
        try:
            restored = _checked(part, paths, before, progress)
            _note(paths, part, Acceptance(actor=actor, reason=reason or "restored from a backup"), before, its_hash)
            kept = _put_aside(paths, added)
        except BaseException as error:
            remove(added, paths.archive)
            if isinstance(error, OSError):
                raise BackupFailed(f"{paths.data} cannot be changed: {error}") from error
            raise
        try:
            part.replace(paths.log)
            for log in rescued:  # not before: a start without a log would begin another one
                log.unlink()
            for path, replaced in added:  # not before: if the restore had failed, it would be back in its place
                if kept and replaced is not None and is_plain(Path(kept, paths.archive.name, path.name)):
                    replaced.unlink()
        except OSError as error:
            raise BackupFailed(f"{paths.data} cannot be changed: {error}") from error
        give_to_owner(paths)
        sync_copy(paths.data)
    return msgspec.structs.replace(restored, kept=kept)


@contextmanager
def _made(paths: DataPaths) -> Iterator[None]:
    """Make the data folder and what a lock needs. If the restore fails, what was not there before is removed."""
    folders = [folder for folder in (paths.temp, paths.data, *paths.data.parents) if not exists(folder)]
    no_lock = not exists(paths.lock)
    paths.make()
    try:
        yield
    except BaseException:
        if no_lock and not exists(paths.log):
            paths.lock.unlink(missing_ok=True)
        for folder in folders:
            with suppress(OSError):  # somebody has put something there meanwhile
                folder.rmdir()
        raise


def _origin(source: Path, paths: DataPaths) -> Path:
    origin = source / "log.db" if is_dir(source) else source
    if is_dir(source) and not exists(origin):
        newest = next(bases(source), None)
        remedy = "Name the file of a backup" + (f"; the newest there is {newest}." if newest else ", or a data folder.")
        raise InvalidPath(f"{source} is a folder without a log", field="src", remedy=remedy)
    if not is_file(origin):
        raise InvalidPath(f"There is no backup at {source}", field="src", remedy="`tasktrail backup` makes one.")
    if exists(paths.log) and origin.samefile(paths.log):
        raise InvalidPath(f"{source} is the log of this very data folder", field="src", remedy="Name a backup.")
    return origin


def _checked(part: Path, paths: DataPaths, before: int, progress: ReportProgress) -> Restored:
    """Check the copy as `tasktrail verify` would. Raises `LogCorrupt` or `LogTooNew`."""
    size = part.stat().st_size
    check_file(part)
    with closing(read_log(part)) as log:
        verification = verify(
            log, None, lambda reached, goal: progress(size + size * reached // max(goal, 1), 2 * size)
        )
        if not verification.ok:
            first = verification.findings[0]
            if first.code == "newer":
                raise LogTooNew(f"The backup, position {first.position}: {first.message}")
            raise LogCorrupt(
                f"The backup is damaged at position {first.position}: {first.message}", remedy=_OTHER_BACKUP
            )
        last = next(log.read(verification.position - 1, 1), None) if verification.position else None
        tokens = _valid_tokens(log, datetime.now(UTC))
    progress(2 * size, 2 * size)
    return Restored(
        data=str(paths.data),
        position=verification.position,
        recorded_at=last.recorded_at if last else None,
        head=verification.head,
        tasks=verification.tasks,
        size=size,
        replaced_position=before,
        kept="",
        tokens=tokens,
    )


def _valid_tokens(log: LogReader, now: datetime) -> tuple[TokenBoard, ...]:
    """Return the tokens that the log has added and not revoked, and that have not expired, by name."""
    tokens, version = Tokens(), 0
    while records := log.read_task_after(0, version, _PAGE):
        version = records[-1].version
        for record in records:
            tokens.apply(record, record.position)
    return tuple(board for board in boards_of_tokens(tokens) if board.expires_at is None or board.expires_at > now)


def _note(paths: DataPaths, part: Path, acceptance: Acceptance, before: int, its_hash: bytes) -> None:
    """If the restored log lacks records of the old one, note it, so that the next start records the loss."""
    with closing(read_log(part)) as log:
        last = next(log.read(before - 1, 1), None) if before else None
        if not before or (last is not None and last.position == before and last.hash == its_hash):
            return
        head = log.head().position
    loss = AcceptedLoss(known_position=before, known_hash=its_hash.hex(), log_position=head)
    note_loss(paths, msgspec.structs.replace(acceptance, loss=loss))


def _put_aside(paths: DataPaths, added: Sequence[Added]) -> str:
    """Move files that do not belong to the restored log to a folder of their own. Returns its name, or nothing.

    After a kill in the middle the old log is still in its place and whole; the next try does all of this again.
    """
    moves = [path for path in _files_of_another_log(paths) if exists(path)]
    rescued = rescued_logs(paths.log)
    if not moves and not rescued and not exists(paths.log) and not exists(_wal(paths.log)):
        return ""
    aside = paths.data / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    aside.mkdir(mode=0o700)
    for path in moves:
        target = aside / path.relative_to(paths.data) if path.is_relative_to(paths.data) else aside / "tmp" / path.name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.move(path, target)
    kept_wal = _wal(aside / paths.log.name)
    if exists(_wal(paths.log)):
        shutil.copy2(_wal(paths.log), kept_wal)  # SQLite deletes it when the file it belongs to is damaged
    if exists(paths.log):
        if _fold_write_ahead_log(paths.log):
            kept_wal.unlink(missing_ok=True)
        _link(paths.log, aside / paths.log.name)
    for log in rescued:
        _link(log, aside / log.name)
    _put_archives_aside(paths, aside, added)
    # The old write-ahead log together with the restored log would make a third log, which never existed.
    _wal(paths.log).unlink(missing_ok=True)
    Path(f"{paths.log}-shm").unlink(missing_ok=True)
    sync_copy(aside)
    return str(aside)


def _put_archives_aside(paths: DataPaths, aside: Path, added: Sequence[Added]) -> None:
    """Keep the old log's archives with it. The next start removes those that the restored log does not have."""
    if not is_dir(paths.archive):
        return
    restored = {one.path for one in added}
    names = {one.replaced: one.path.name for one in added}
    for path in paths.archive.iterdir():
        if path in restored or not is_plain(path):  # a folder or a pipe is no archive, and stays
            continue
        target = aside / paths.archive.name / names.get(path, path.name)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _link(path, target)  # not moved: until the restored log has its place, the old one needs them where they are


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copy2(path, target)


def _files_of_another_log(paths: DataPaths) -> Iterator[Path]:
    """Views, snapshots, the mark of the log's end and temp files that may not belong to the restored log."""
    yield from (Path(f"{paths.views}{end}") for end in ("", "-wal", "-shm"))
    yield paths.snapshots
    yield mark_of(paths.log)
    with suppress(OSError):
        yield from [path for path in paths.temp.iterdir() if path.name.isdecimal()]


def _fold_write_ahead_log(log: Path) -> bool:
    """Merge the write-ahead log of the old log into it; whether that worked."""
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(log, isolation_level=None)) as old:
        busy = old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy
    return False


def _wal(log: Path) -> Path:
    return Path(f"{log}-wal")
