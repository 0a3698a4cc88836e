"""Moves the log of a data folder from its file into a database of PostgreSQL, and back: same positions, same hashes.

A database gets all of it in one commit; a file gets its name only when it is whole. So after a kill the move is begun
again, or finished if only names were left to change.
"""

from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from ..actors.archiver import rewrite_archive
from ..events.counted import counted
from ..events.errors import DataNotEmpty, InvalidPath, KeysUnreadable, LogCorrupt, LogTooNew, TasktrailError
from ..events.existence import exists
from ..events.log.address import NAME, check_address, read_address, shown, write_address
from ..events.log.archives import folder_of, segment_of
from ..events.log.chain import GENESIS, link_row
from ..events.log.event_log import Head, ReportProgress
from ..events.log.files import mark_of, sync
from ..events.log.key_check import unreadable_records
from ..events.log.keys import Keys
from ..events.log.linking import linked
from ..events.log.lock import DataLock
from ..events.log.log_reader import LogReader
from ..events.log.opening import need_client, read_log
from ..events.log.sqlite_filling import fill as fill_file
from ..events.ranges import NumberRange, overlaps, spans_of
from ..events.recorded import EVENT_TAGS, STUB, Fact
from ..events.system_events import SegmentArchived
from ..paths import DataPaths, give_to_owner, path_of
from .backup import part_file
from .evidence import refuse_older_log

_FILE = "log.db"


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """A log that was moved."""

    source: str
    target: str
    position: int
    head: str
    """The hash of the last record, in hex."""
    kept: str
    """Where the old log is now; nothing reads it."""
    without_keys: str = ""
    """What is wrong with the keys in the data folder, if the log holds personal data that needs them; or why that is
    not known."""


def migrate(source: str | Path, target: str | Path, *, progress: ReportProgress) -> Migrated:
    """Move the log. One of the two is a data folder, the other the address of a database.

    The data folder then says where its log is, and keeps all else. The old log stays, a file under another name.

    Raises:
        InvalidPath: these two are not a folder and an address, or there is no log to move.
        DataNotEmpty: the target holds another log.
        DataInUse: a service works on the log.
        HistoryMissing, LogCorrupt, LogTooNew: the log is not whole, and stays where it is.
    """
    into_database, out_of_database = _is_address(target), _is_address(source)
    if into_database == out_of_database:
        raise InvalidPath(
            "One of the two has to be a data folder, and the other the address of a database",
            remedy="From file to file a log is copied by `tasktrail backup`, from database to database by pg_dump.",
        )
    need_client()
    address = str(target if into_database else source)
    check_address(address)
    paths = DataPaths(path_of(source if into_database else target, "from" if into_database else "to"))
    paths.refuse_unusable()
    if into_database and not exists(paths.data / _FILE):
        raise InvalidPath(f"There is no log in {paths.data}", field="from", remedy="Name the data folder.")
    paths.make()
    with DataLock(paths.lock, "migrate"):
        moved = (_into_database if into_database else _into_file)(paths, address, progress)
        give_to_owner(paths)
        wrong = _wrong_keys(paths.data / (NAME if into_database else _FILE))
        return msgspec.structs.replace(moved, without_keys=wrong)


def _wrong_keys(place: Path) -> str:
    """Return what is wrong with the keys of users; nothing if they are there, or are not needed.

    Raises nothing: the log is moved already.
    """
    try:
        with closing(read_log(place)) as log, closing(Keys(place)) as keys:
            log.refuse_lost_keys()
            if place.name != _FILE or not keys.exist():  # a log in a database has looked at each key
                return ""
            lost = unreadable_records(log, keys)
    except KeysUnreadable as error:
        return f"{error.message}: no service starts before `keys.db` and its master key are put there"
    except TasktrailError as error:
        return f"The keys of personal data could not be looked at: {error.message}. `tasktrail doctor` looks again"
    if not lost.number:
        return ""
    return (
        f"{keys.path} lacks keys: the personal data of {counted(lost.number, 'record')} cannot be read, the first at "
        f"position {lost.first}. Put the `keys.db` there that has all of them, with its master key, before a service "
        "starts: it would take the others for destroyed"
    )


def _is_address(text: str | Path) -> bool:
    return "://" in str(text)


def _into_database(paths: DataPaths, address: str, progress: ReportProgress) -> Migrated:
    from ..events.log.postgresql.moving import fill, owned_log

    file, place = paths.data / _FILE, paths.data / NAME
    if exists(place) and read_address(place) != address:
        raise DataNotEmpty(f"The log of {paths.data} is at {shown(read_address(place))}", field="to")
    if not exists(place):
        refuse_older_log(paths)
    now = datetime.now(UTC)
    with owned_log(address, now, begin=True) as database, closing(read_log(file)) as log:
        head = log.head()
        if _end_of(place, address) != head:
            _refuse_unsound(log, file, progress)
            mark_of(place).unlink(missing_ok=True)  # it may be of an earlier log there, whose records are gone
            fill(database, _checked(log, head, progress), _answers(log), log.epochs(), now)
    write_address(place, address)
    kept = _set_aside(file, now)
    return Migrated(
        source=str(file), target=shown(address), position=head.position, head=head.hash.hex(), kept=str(kept)
    )


def _into_file(paths: DataPaths, address: str, progress: ReportProgress) -> Migrated:
    from ..events.log.postgresql.moving import owned_log
    from ..events.log.postgresql.reader import PostgresqlLogReader

    file, place = paths.data / _FILE, paths.data / NAME
    if exists(place) and read_address(place) != address:
        raise DataNotEmpty(f"The log of {paths.data} is at {shown(read_address(place))}, not there", field="to")
    now = datetime.now(UTC)
    with owned_log(address, now, begin=False), closing(PostgresqlLogReader(place, address)) as log:
        head = log.head()
        if not head.position:
            raise InvalidPath(f"There is no log at {shown(address)}", field="from")
        if not exists(file):
            if exists(place):
                refuse_older_log(paths)
            _refuse_unsound(log, Path(shown(address)), progress)
            archivings = _archived_anew(log, head, file, now)
            with part_file(file) as part:
                fill_file(part, chain(_checked(log, head, progress), archivings), _answers(log), log.epochs())
                with closing(read_log(part)) as copy:
                    _refuse_unsound(copy, part, lambda _reached, _goal: None)
                mark_of(file).unlink(missing_ok=True)
                _set_parts_aside(file, _aside(file, "left", now))  # left by a killed move, and of another time
                part.replace(file)
            sync(paths.data)
        with closing(read_log(file)) as there:
            if not _is_copy(there, head):
                raise DataNotEmpty(f"{file} holds another log already", field="to")
            head = there.head()
    kept = ""
    if exists(place):
        kept = str(_set_aside(place, now))
    return Migrated(source=shown(address), target=str(file), position=head.position, head=head.hash.hex(), kept=kept)


def _archived_anew(log: LogReader, head: Head, file: Path, now: datetime) -> list[tuple[Any, ...]]:
    """Write the archives that are missing, or still have what was forgotten in the database.

    Returns the rows that record them, to be stored after `head`. Archives that are written as they were need none.
    """
    last = head.position
    archivings = {
        event.first: (position, event)
        for position in reversed(log.newest_of(EVENT_TAGS[SegmentArchived], 0, last, last))
        for event in (record.event for record in log.read(position - 1, 1))
        if isinstance(event, SegmentArchived)
    }
    drops = log.drops()
    anew = list[SegmentArchived]()
    for position, event in archivings.values():
        span, segment = NumberRange(event.first, event.last), segment_of(event)
        later = (drop.event for drop in drops if drop.position > position)
        is_stale = any(overlaps(span, spans_of(drop.positions)) for drop in later)
        if is_stale or not exists(folder_of(file) / segment.name):
            written = rewrite_archive(log, file, segment)
            if written.sha256 != segment.sha256:
                anew.append(written)
    if not anew:
        return []
    (end,) = log.read(last - 1, 1)
    version = log.version_at(0, last)
    facts = [
        Fact(0, version + number, event, max(now, end.recorded_at), "migrate") for number, event in enumerate(anew, 1)
    ]
    return linked(facts, head, None)[0]


def _is_copy(log: LogReader, head: Head) -> bool:
    """Whether a log is the one that ends with `head`, or goes on only with the archives that a move has recorded."""
    if [row[3] for row in log.hashes(head.position - 1, 1)] != [head.hash]:
        return False
    return all(isinstance(record.event, SegmentArchived) for record in log.read(head.position))


def _end_of(place: Path, address: str) -> Head:
    from ..events.log.postgresql.reader import PostgresqlLogReader

    with closing(PostgresqlLogReader(place, address)) as log:
        return log.head()


def _refuse_unsound(log: LogReader, where: Path, progress: ReportProgress) -> None:
    """Raise `LogCorrupt` or `LogTooNew` if the log has a fault."""
    head = log.head().position
    progress(0, 2 * head)
    for fault in log.faults():
        kind = LogTooNew if fault.code == "newer" else LogCorrupt
        raise kind(f"{where}: position {fault.position}: {fault.message}")


def _checked(log: LogReader, head: Head, progress: ReportProgress) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as they are stored, and check the hash chain once more on the way."""
    previous = GENESIS
    for row in log.rows(0, head.position):
        if row[3] != STUB and link_row(previous, row[:14]) != row[14]:
            raise LogCorrupt(f"Position {row[0]} was changed while it was copied")
        previous = row[14]
        progress(head.position + row[0], 2 * head.position)
        yield row
    if previous != head.hash:
        raise LogCorrupt("The log has changed while it was copied")


def _answers(log: LogReader) -> Iterator[tuple[str, bytes, int, int]]:
    return ((row[0], row[7], row[1], row[2]) for row in log.answered())


def _set_aside(path: Path, now: datetime) -> Path:
    """Rename the log that was moved, with its write-ahead log, so that nothing opens it by mistake."""
    if not exists(path):
        return path
    aside = _aside(path, "moved", now)
    path.rename(aside)
    _set_parts_aside(path, aside)
    sync(path.parent)
    return aside


def _aside(path: Path, why: str, now: datetime) -> Path:
    return path.with_name(f"{path.name}.{why}-{now:%Y%m%dT%H%M%SZ}")


def _set_parts_aside(path: Path, aside: Path) -> None:
    for end in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(f"{path.name}{end}").rename(f"{aside}{end}")
