"""Evidence in a data folder of records that its log lacks: an older log was put in place, or its end was lost.

Views and snapshots are folds of the log and never ahead of it, even after a kill or a power cut: a record is on the
disk before it is folded. So a log that lacks what they have seen is not the one they were made from.
"""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from ..actors.logger import get_logger
from ..actors.snapshot_file import SnapshotUnusable, header_of, is_whole
from ..events.errors import ACCEPT_LOSS, BackupFailed, HistoryMissing, InvalidPath, LogUnreachable, TasktrailError
from ..events.existence import exists
from ..events.log.address import is_address, read_address, shown
from ..events.log.files import mark_of, own_file, read_mark, read_small, refuse_rescued, rescued_logs
from ..events.log.gaps import clear_gaps
from ..events.log.log_reader import LogReader
from ..events.log.opening import has_no_log, is_begun, read_log
from ..events.recorded import timestamp
from ..events.system_events import AcceptedLoss, ServiceStarted
from ..paths import DataPaths
from ..projections import Verification
from ..projections.findings import Finding, order
from ..projections.views.rebuild import known_end
from ..projections.views.schema import delete_files

logger = get_logger()

_SNAPSHOTS = ("scheduler", "outbox")
_GONE_FROM_SERVER = (
    "Lead the address to a server that has these records: the former primary, or the replica that is furthest ahead. "
    f"{ACCEPT_LOSS} If a service with another data folder has accepted it already, delete `views.db*`, the "
    "folder `snapshots` and `log.postgresql-head` in this one instead."
)
"""The remedy where the log is on PostgreSQL."""
_OF_ANOTHER_LOG = (
    "If {} is of another log, delete it: the next start makes it anew. `tasktrail verify --seals DIR`, with seals that "
    "were kept elsewhere, shows whether the log is the right one. If it is not: {}"
)
"""The remedy where a file contradicts the log, and either may be the wrong one: the file, and what to do otherwise."""


class KnownRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a file has seen."""

    file: str
    position: int
    hash: str
    """In hex."""
    recorded_at: datetime | None = None


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """Who goes on without the missing records, and why."""

    actor: str
    reason: str
    loss: AcceptedLoss | None = None
    """The loss, if a restore has accepted it before the start."""


Missing: TypeAlias = tuple[KnownRecord, int, datetime | None]
"""The latest record that the log should have but lacks, where the log ends, and when that end was recorded."""


def missing_record(paths: DataPaths) -> Missing | None:
    """Return the latest record that the log should have but lacks, where the log ends, and when that end was recorded.

    Returns None if nothing is missing, as far as is known. A log that cannot be read is refused when it is opened.
    Raises `LogUnreachable` if the server does not answer, since it is then not known what the log lacks.
    """
    records = [one for one in _known_records(paths) if one.position]
    if not records:
        return None
    try:
        if not is_begun(paths.log):
            return max(records, key=_position), 0, None
        with closing(read_log(paths.log)) as log:
            missing = [one for one in records if not _holds(log, one)]
            if missing:
                head = log.head().position
                last = next(log.read(head - 1, 1), None) if head else None
                return max(missing, key=_position), head, last.recorded_at if last else None
    except LogUnreachable:
        raise
    except TasktrailError:
        pass
    return None


def _position(record: KnownRecord) -> int:
    return record.position


def _known_records(paths: DataPaths) -> Iterator[KnownRecord]:
    end = known_end(paths.views)
    if end is not None:
        yield KnownRecord(
            file=str(paths.views), position=end.position, hash=end.hash.hex(), recorded_at=end.recorded_at
        )
    for path in (paths.snapshots / kind for kind in _SNAPSHOTS):
        with suppress(SnapshotUnusable):
            header = header_of(path)
            if is_whole(path):
                yield KnownRecord(file=str(path), position=header.position, hash=header.hash)
    mark = read_mark(paths.log)
    if mark is not None:
        yield KnownRecord(file=str(mark_of(paths.log)), position=mark.position, hash=mark.hash.hex())


def _holds(log: LogReader, record: KnownRecord) -> bool:
    found = next(log.read(record.position - 1, 1), None)
    return found is not None and found.position == record.position and found.hash.hex() == record.hash


def need_log(paths: DataPaths, address: str = "") -> None:
    """Raise an error if the folder has no log. `address`: that of the log, as the configuration has it.

    Raises:
        LogGone: a service has saved the log when it was deleted.
        HistoryMissing: other files know of its records.
        InvalidPath: there never was a log, as far as is known.
    """
    if has_no_log(paths.log):
        refuse_rescued(paths.log)
        refuse_older_log(paths)
        if address:
            raise InvalidPath(
                f"No service has used the log at {shown(address)} from {paths.data} yet",
                remedy="Start one with `tasktrail serve`: the folder then says where its log is.",
            )
        raise InvalidPath(f"There is no log in {paths.data}", remedy="Check --data; `tasktrail serve` starts one.")


def refuse_older_log(paths: DataPaths) -> None:
    """Raise `HistoryMissing` if views or snapshots know of records that the log lacks."""
    found = missing_record(paths)
    if found is not None:
        raise _missing(paths, *found)


def with_missing(verification: Verification, paths: DataPaths, missing: Missing | None) -> Verification:
    """Add what is missing to the findings of a check of the log, before those about the same and later positions.

    `missing`: the answer of `missing_record`.
    """
    if missing is None:
        return verification
    error = _missing(paths, *missing)
    record, head, _since = missing
    finding = Finding(
        position=min(record.position, head + 1),
        code="missing",
        message=error.message,
        remedy=error.advice,
    )
    # The sort is stable: what is missing stands before its consequences.
    findings = sorted((finding, *verification.findings), key=order)
    return msgspec.structs.replace(verification, ok=False, findings=tuple(findings))


def accept_loss(paths: DataPaths, acceptance: Acceptance | None) -> Acceptance | None:
    """Return the loss that a start has to record, if there is one. Raises `HistoryMissing` if it is not accepted.

    A loss that a restore has noted is accepted. So is a loss that the log records already, because a start was cut
    short after that.
    """
    noted = _note(paths)
    if noted is not None and (noted.loss is None or _is_recorded(paths, noted.loss)):
        _note_path(paths).unlink(missing_ok=True)
        noted = None
    found = missing_record(paths)
    if found is None:
        if acceptance is not None:
            logger.warning("no lost records were given up: none is missing")
        return noted
    record, head, _since = found
    loss = AcceptedLoss(known_position=record.position, known_hash=record.hash, log_position=head)
    if acceptance is not None:
        return msgspec.structs.replace(acceptance, loss=loss)
    if noted is not None and noted.loss and record.position <= noted.loss.known_position:
        return noted
    if head and _is_recorded(paths, loss):
        _remove_other_history(paths)
        return None
    raise _missing(paths, *found)


def _missing(paths: DataPaths, record: KnownRecord, head: int, since: datetime | None) -> HistoryMissing:
    is_there, on_server = exists(paths.log), is_address(paths.log)
    place = shown(read_address(paths.log)) if on_server and is_there else paths.log
    seen = f", recorded at {timestamp(record.recorded_at)}" if record.recorded_at else ""
    if since:
        ends = f"ends at position {head}, recorded at {timestamp(since)}"
    else:
        ends = "holds no record" if is_there else "is not there"
    if record.position <= head:
        message = (
            f"{record.file} has seen another record at position {record.position}{seen} than {place}, which {ends}"
        )
    else:
        message = f"{place} {ends}; {record.file} has seen position {record.position}{seen}"
    for rescued in rescued_logs(paths.log):
        message += f"; {rescued} holds what a service saved when the log was deleted or replaced under it"
    remedy = _GONE_FROM_SERVER if on_server else HistoryMissing.remedy
    if record.position <= head:
        remedy = _OF_ANOTHER_LOG.format(record.file, remedy)
    return HistoryMissing(message, remedy=remedy)


def _is_recorded(paths: DataPaths, loss: AcceptedLoss) -> bool:
    """Whether the log records the loss, or has lost nothing because the restore that noted the loss failed."""
    if not is_begun(paths.log):
        return False
    with closing(read_log(paths.log)) as log:
        if _holds(log, KnownRecord(file="", position=loss.known_position, hash=loss.known_hash)):
            return True
        return any(
            isinstance(record.event, ServiceStarted)
            and record.event.accepted_loss is not None
            and (record.event.accepted_loss.known_position, record.event.accepted_loss.known_hash)
            == (loss.known_position, loss.known_hash)
            for record in log.read()
        )


def forget_recorded(paths: DataPaths, acceptance: Acceptance) -> None:
    """Remove the files that know of a loss once it is in the log. Until then they are its only trace."""
    if acceptance.loss is not None and _is_recorded(paths, acceptance.loss):
        _remove_other_history(paths)


def _remove_other_history(paths: DataPaths) -> None:
    """Remove the views and snapshots of the other history, and the note of a restore."""
    # The file that knows most goes last: if this is cut short, the next start still finds the loss.
    for known in sorted(_known_records(paths), key=_position):
        if Path(known.file) != mark_of(paths.log):  # the running service writes the mark anew
            delete_files(Path(known.file))
    _note_path(paths).unlink(missing_ok=True)


# --- the note that a restore leaves for the next start --------------------------------------------------------------


def note_loss(paths: DataPaths, acceptance: Acceptance) -> None:
    """Leave a note, so that the next start records what was lost. Raises `BackupFailed`."""
    note = _note_path(paths)
    part = note.with_name(f"{note.name}.part")
    try:
        with os.fdopen(own_file(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(msgspec.json.encode(acceptance))
        sync_copy(part)
        part.replace(note)
    except OSError as error:
        raise BackupFailed(f"{note} cannot be written: {error.strerror}") from error
    sync_copy(paths.data)


def _note(paths: DataPaths) -> Acceptance | None:
    try:
        return msgspec.json.decode(read_small(_note_path(paths)), type=Acceptance)
    except (OSError, msgspec.DecodeError):
        return None


def _note_path(paths: DataPaths) -> Path:
    return paths.data / "accepted-loss.json"


def clear_copy(path: Path) -> None:
    """Clear the remains of rows that SQLite leaves in the free room of pages: they may be of forgotten tasks.

    Raises `BackupFailed`.
    """
    try:
        with path.open("r+b") as file:
            clear_gaps(file.fileno())
    except OSError as error:
        raise BackupFailed(f"{path} cannot be written: {error.strerror}") from error


def sync_copy(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk. Raises `BackupFailed`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise BackupFailed(f"{path} cannot be brought to the disk: {error.strerror}") from error
