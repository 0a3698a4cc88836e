"""Checks that log.db is as the log's writer made it: its schema, its structure and indexes, and each stored row.

Nothing here raises on damage: a `Fault` reports it with its position, or 0 if it has none.
"""

import json
import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any

from ..errors import LogCorrupt, LogTooNew, TasktrailError
from ..ranges import NumberRange
from ..recorded import STUB
from .answers import answer_faults
from .archive_faults import archive_faults
from .archive_file import FRAME, ArchiveDamaged, ArchiveFile
from .archives import Archives, KnownArchive
from .chain import GENESIS, link
from .faults import UNREADABLE, Damage, Fault, without_place
from .rows import COLUMNS, from_row
from .schema import APPLIED, NAMES, SET, TABLES, epoch_sum, expected, is_newest, masked_in, objects, sums_rows
from .sqlite_errors import meaning_of
from .stubs import Drop, StubCheck, read_drops
from .writers import newest_writer

AT_ONCE = 20_000
"""A log of at most this many records is checked whole when it is opened."""
_MOST = 100
"""The most faults of one kind that are reported: a damaged file can easily have one for each row."""
_PAGE = 5000
_TYPES = (int, int, int, *(str,) * 7, int, int, int, str, bytes)
_SELECT = f"SELECT {', '.join(COLUMNS)}, hash FROM events"  # noqa: S608 - our own names
_NEXT = "SELECT position FROM events WHERE position > ? ORDER BY position LIMIT 1"
_IN_FRONT = f"SELECT position FROM events WHERE position < 1 ORDER BY position DESC LIMIT {_MOST}"  # noqa: S608 - ours
_LEFT_BEHIND = f"{_SELECT} WHERE position > ? AND position <= ? ORDER BY position LIMIT {_PAGE}"
_MISSING_ROW = re.compile(r"row (\d+) missing from index (\S+)")
_INDEX = re.compile(
    r"(?:wrong # of entries in|non-unique entry in|rowid not at end-of-record for row \d+ of) index (\S+)"
)
_TREE = re.compile(r"Tree (\d+) ")
_EPOCHS = "SELECT epoch, pid, host, started_at, sum FROM epochs ORDER BY epoch"
_LAST_EPOCH = """
    SELECT json_extract(data, '$.epoch') FROM events WHERE event = 'service_started' AND json_valid(data)
    ORDER BY position DESC LIMIT 1
"""


def schema_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Every difference from the schema that the migrations make."""
    try:
        existing = objects(conn)
        if masked := masked_in(existing, TABLES):  # reading it may never end
            yield Fault(0, "schema", f"table {masked} is missing: a view has its name")
            return
        applied = conn.execute(APPLIED).fetchall()
        marks = [
            conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("encoding", "user_version", "application_id")
        ]
    except UNREADABLE as error:
        yield Fault(0, "schema", f"the schema cannot be read: {error}")
        return
    if marks != ["UTF-8", 0, 0]:
        yield Fault(0, "schema", f"encoding, user_version and application_id are {marks}, not UTF-8, 0 and 0")
    names = [row[2] for row in applied]
    if len(names) > len(NAMES) and (*names[: len(NAMES)],) == NAMES:
        yield Fault(0, "newer", f"a newer version has given it tables that this one does not know: {names[len(NAMES)]}")
        return
    if [(row[0], row[1]) for row in applied] != [(number, SET) for number in range(1, len(applied) + 1)] or (
        (*names,) != NAMES[: len(names)]
    ):
        yield Fault(0, "schema", f"the migrations that were applied are {names}, not {list(NAMES)}")
        return
    if len(names) == len(NAMES) and is_newest(existing):
        return
    due = expected(len(names))
    for kind, name in due.keys() - existing.keys():
        yield Fault(0, "schema", f"{kind} {name} is missing")
    for kind, name in existing.keys() - due.keys():
        yield Fault(0, "schema", f"{kind} {name} does not belong there")
    for kind, name in existing.keys() & due.keys():
        if existing[kind, name] != due[kind, name]:
            yield Fault(0, "schema", f"{kind} {name} is not as it was made")


def newer_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Whether the service that started last may have recorded what this version cannot read."""
    try:
        writer = newest_writer(conn)
    except (*UNREADABLE, TypeError, TasktrailError):  # the other checks report it
        return
    if writer is not None and writer.lacks:
        yield Fault(writer.position, "newer", writer.fault)


def structure_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Faults that SQLite finds in the pages of the file: in tables and indexes, and where these disagree."""
    try:
        roots = dict(conn.execute("SELECT rootpage, name FROM sqlite_schema WHERE type = 'index'").fetchall())
        lines = [line for (text,) in conn.execute(f"PRAGMA integrity_check({_MOST})") for line in text.splitlines()]
    except UNREADABLE as error:
        yield Fault(0, "file", f"its structure cannot be read: {error}")
        return
    for line in lines:
        if line == "ok" or line.startswith("***"):
            continue
        row, index, tree = _MISSING_ROW.search(line), _INDEX.search(line), _TREE.search(line)
        if row:
            yield Fault(int(row[1]), "index", line)
        elif index or (tree and int(tree[1]) in roots):
            yield Fault(0, "index", line)
        else:
            yield Fault(0, "file", line)


def faults_in_front(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Rows at positions below the first: a search by task finds them, a walk through the log does not."""
    try:
        found = conn.execute(_IN_FRONT).fetchall()
    except UNREADABLE as error:
        yield Fault(0, "file", f"the part before the first record cannot be read: {error}")
        return
    yield from (Fault(0, "file", f"a record stands at position {position}, before the first") for (position,) in found)


def stray_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Rows that no walk through the log meets: before the first position, or altered copies of archived records.

    A crash can leave rows that are archived already. A history is read from them if they are all of it.
    """
    yield from faults_in_front(conn)
    archives, after, reported = Archives(conn, any_file=True), 0, 0
    with suppress(TasktrailError):  # `archive_faults` reports unreadable archives
        try:
            until = archives.until()
            while page := conn.execute(_LEFT_BEHIND, (after, until)).fetchall():
                archived = {row[0]: row for row in archives.within([NumberRange(page[0][0], page[-1][0])])}
                for row in page:
                    if archived.get(row[0]) != row and reported < _MOST and _is_another(conn, archives, row[0]):
                        reported += 1
                        yield Fault(
                            row[0], "chain", "the record is archived, but the table has another one at its position"
                        )
                if page[-1][0] <= after:
                    raise sqlite3.DatabaseError("the records do not stand in the order of their positions")
                after = page[-1][0]
        except UNREADABLE as error:
            yield Fault(0, "file", f"what is left of archived records cannot be read: {error}")


def _is_another(conn: sqlite3.Connection, archives: Archives, position: int) -> bool:
    """Whether the row still differs: a service deletes such rows, and may forget what they hold."""
    row = conn.execute(f"{_SELECT} WHERE position = ?", (position,)).fetchone()
    return row is not None and row != archives.row(position)


def can_be_rebuilt(faults: list[Fault]) -> bool:
    """Whether rebuilding indexes from their tables would cure all faults.

    It would not if pages are lost or are in two places: freeing the pages of such an index may free a table's.
    """
    return all(fault.code == "index" and not _TREE.search(fault.message) for fault in faults)


def damaged_indexes(faults: list[Fault]) -> tuple[str, ...]:
    """The names of the indexes that the faults are about."""
    found = (_MISSING_ROW.search(fault.message) or _INDEX.search(fault.message) for fault in faults)
    return tuple(sorted({match[match.lastindex or 0] for match in found if match}))


def raw_rows(conn: sqlite3.Connection) -> Iterator[tuple[Any, ...] | Damage]:
    """The stored values of each record, undecoded, its hash last; `Damage` for records that cannot be read.

    Text that is not UTF-8 comes with surrogates in it.
    """
    after: int | None = yield from _archived_rows(conn, 0)
    while after is not None:
        try:
            page = conn.execute(f"{_SELECT} WHERE position > ? ORDER BY position LIMIT {_PAGE}", (after,)).fetchall()
        except UNREADABLE:
            after = yield from _one_by_one(conn, after)
            continue
        if not page or page[0][0] != after + 1:
            reached = yield from _archived_rows(conn, after)  # a service may have archived them since
            if reached > after:
                after = reached
                continue
        yield from page
        # Grows each time, even if a damaged file returns smaller positions.
        after = max(after + 1, page[-1][0]) if len(page) == _PAGE else None


def _archived_rows(conn: sqlite3.Connection, after: int) -> Generator[tuple[Any, ...] | Damage, None, int]:
    """The rows in archives after a position; returns the position at which they end."""
    archives, last = Archives(conn, any_file=True), after
    try:
        segments, _altered = archives.segments_before_fault()  # reported by `archive_faults`
    except (*UNREADABLE, TasktrailError):  # so is this
        return after
    for segment in segments:
        if segment.last <= after:
            continue
        last = segment.last
        try:
            file = archives.file(segment)
        except TasktrailError as error:
            refused = None if isinstance(error, LogCorrupt) else error
            message = without_place(error.message, segment.first)
            yield Damage(segment.first, message, segment.last, "archive", refused)
            continue
        for number in range(max(0, after + 1 - segment.first) // FRAME, len(file.index.frames)):
            try:
                yield from (row for row in _frame_of(archives, segment, file, number) if row[0] > after)
            except ArchiveDamaged as error:
                yield from error.sound
                yield Damage(error.position, error.reason, error.last, "archive")
            except OSError as error:
                begin = segment.first + number * FRAME
                end = min(begin + FRAME - 1, segment.last)
                message = f"An archive cannot be read: {error}"
                refused = None if isinstance(error, FileNotFoundError) else meaning_of(error)(message)
                yield Damage(begin, message, end, "archive", refused)
    return last


def _frame_of(archives: Archives, segment: KnownArchive, file: ArchiveFile, number: int) -> Iterable[tuple[Any, ...]]:
    """The rows of a frame. If the opened file is gone, they come from the file that has replaced it."""
    try:
        return file.frame(number)
    except FileNotFoundError:
        try:
            return archives.file(segment).frame(number)
        except TasktrailError as error:
            raise FileNotFoundError(error.message) from error


def _one_by_one(conn: sqlite3.Connection, after: int) -> Generator[tuple[Any, ...] | Damage, None, int | None]:
    """The rows of a page that cannot be read whole; returns the position at which it ends, None at the log's end."""
    for _ in range(_PAGE):
        try:
            found = conn.execute(_NEXT, (after,)).fetchone()
        except UNREADABLE as error:
            yield Damage(after + 1, f"the file cannot be read from here on: {error}")
            return _next_readable(conn, after)
        if found is None:
            return None
        if found[0] <= after:  # not larger, as was asked for: a damaged page may lead back, for ever
            yield Damage(
                after + 1, f"position {found[0]} stands where a later one is due: the rest cannot be read in order"
            )
            return None
        after = found[0]
        yield _row(conn, after)
    return after


def _row(conn: sqlite3.Connection, position: int) -> tuple[Any, ...] | Damage:
    conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        row = conn.execute(f"{_SELECT} WHERE position = ?", (position,)).fetchone()
    except UNREADABLE as error:
        return Damage(position, f"the record cannot be read: {error}")
    finally:
        conn.text_factory = str
    return row or Damage(position, "the record cannot be found by its position")


def _next_readable(conn: sqlite3.Connection, after: int) -> int | None:
    """The position from which the file can be read again; None if there is none. It doubles steps, then halves them."""

    def can_read(position: int) -> bool:
        try:
            conn.execute(_NEXT, (position,)).fetchone()
        except UNREADABLE:
            return False
        return True

    bad, good = after, after + 1
    while not can_read(good):
        bad, good = good, good + 2 * (good - after)
        if good > 1 << 40:
            return None
    while good - bad > 1:
        middle = (good + bad) // 2
        bad, good = (bad, middle) if can_read(middle) else (middle, good)
    return good


def is_well_typed(row: tuple[Any, ...]) -> bool:
    """Whether all values have their types. STRICT tables ensure it, unless they were altered or the disk flips bits."""
    return tuple(map(type, row)) == _TYPES and not any(map(_is_broken, (*row[3:10], row[13])))


def _is_broken(value: str) -> bool:
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def chain_faults(rows: Iterable[tuple[Any, ...] | Damage], stubs: StubCheck) -> Iterator[Fault]:
    """Gaps, broken links, unexplained stubs, and rows that cannot be decoded.

    It keeps the dropped positions in memory, as ranges. A record that the system cannot read is not a fault of the log:
    its error is raised.
    """
    last, digest = 0, GENESIS
    wrong = list[Fault]()
    for row in rows:
        if isinstance(row, Damage):
            if row.error is not None:
                raise row.error
            yield Fault(row.position, row.code, row.reason)
            stubs.lose(row.position, row.end)
            last, digest = row.end, b""
            continue
        position = row[0]
        if not is_well_typed(row):
            yield Fault(position, "unreadable", "a value is not of the type that a log stores, or is no UTF-8")
            last, digest = position, row[14] if isinstance(row[14], bytes) else b""
            continue
        if (fault := stubs.see(row)) is not None and len(wrong) < _MOST:
            wrong.append(Fault(position, "stub", fault.message))
        if position != last + 1:
            yield Fault(last + 1, "gap", f"position {position} comes right after position {last}")
        elif row[3] != STUB and digest and link(digest, row[:14]) != row[14]:
            yield Fault(position, "chain", "the record or one before it was changed: its hash does not fit")
        else:
            yield from _decoding_faults(row)
        last, digest = position, row[14]
    yield from wrong  # last: maybe the record that explains them was changed, which is reported before
    for late in stubs.faults():
        yield Fault(late.position, "stub", late.message)


def stub_check(conn: sqlite3.Connection) -> StubCheck:
    """A check of the stubs of a log against the records that say why they are there."""

    def drops(after: int) -> list[Drop]:
        try:
            return list(read_drops(conn, after, lenient=True))
        except (*UNREADABLE, TasktrailError):  # then no stub is explained; other checks report the unreadable record
            return []

    return StubCheck(drops)


def _decoding_faults(row: tuple[Any, ...]) -> Iterator[Fault]:
    try:
        from_row(row[:14], row[14])
    except TasktrailError as error:
        code = "newer" if isinstance(error, LogTooNew) else "unreadable"
        yield Fault(row[0], code, without_place(error.message, row[0]))


def whole_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """All checks except the rules of the state machine. They take some microseconds for each record."""
    yield from schema_faults(conn)
    yield from newer_faults(conn)
    yield from structure_faults(conn)
    yield from epoch_faults(conn)
    yield from archive_faults(conn)
    yield from stray_faults(conn)
    yield from chain_faults(raw_rows(conn), stub_check(conn))
    yield from answer_faults(conn)


def epoch_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Epochs that are missing or altered, from the first service that took the log to the last one."""
    try:
        applied = conn.execute(APPLIED).fetchall()
        if not sums_rows(len(applied)):
            return
        rows = conn.execute(_EPOCHS).fetchall()
        last = conn.execute(_LAST_EPOCH).fetchone() or _archived_epoch(conn)
    except UNREADABLE as error:
        yield Fault(0, "epoch", f"the epochs cannot be read: {error}")
        return
    for number, (*row, found) in enumerate(rows, 1):
        if row[0] != number:
            yield Fault(0, "epoch", f"epoch {number} is missing: epoch {row[0]} stands in its place")
            return
        # The sum covers the list of migrations as it was then, which may have been shorter.
        if not any(found == epoch_sum(tuple(row), applied[:known]) for known in range(len(applied), -1, -1)):
            yield Fault(0, "epoch", f"epoch {number}, or the list of migrations, is not as it was written")
    if last is not None and isinstance(last[0], int) and last[0] > len(rows):
        yield Fault(0, "epoch", f"a service has started in epoch {last[0]}, and the last known epoch is {len(rows)}")


def _archived_epoch(conn: sqlite3.Connection) -> tuple[Any] | None:
    """The epoch of the service that started last, if the table of events has no record of any."""
    with suppress(TasktrailError):  # reported by the check that reads it
        for row in Archives(conn).of_kind_backwards("service_started"):
            with suppress(ValueError, AttributeError, RecursionError):
                return (json.loads(row[13]).get("epoch"),)
    return None
