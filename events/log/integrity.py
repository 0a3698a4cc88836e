"""Whether log.db is what the log's writer made: its schema, its structure and indexes, and each row as it is stored.

Nothing here raises on damage: a fault is told with the position it was found at, 0 where it has none.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from ..errors import LogTooNew, TasktrailError
from ..recorded import EVENT_TAGS, STUB
from ..system_events import SegmentArchived
from .archive_file import FRAME, ArchiveDamaged, ArchiveFile, file_digest
from .archives import Archives, KnownArchive, also_before, is_as_noted, noted_contents, segment_of, table_of
from .chain import GENESIS, checksum, link
from .rows import COLUMNS, from_row
from .schema import APPLIED, NAMES, SET, epoch_sum, expected, objects, sums_rows
from .stubs import Drop, StubCheck, read_drops
from .writers import newest_writer

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""SQLite's complaint may repeat what it found in a damaged schema, which Python then cannot read."""
_MOST = 100
"""Faults of one kind: a damaged file has easily one for each row."""
_PAGE = 5000
_AGAIN = 5
"""How often archives are looked at anew while a service changes them."""
_TYPES = (int, int, int, *(str,) * 7, int, int, int, str, bytes)
_SELECT = f"SELECT {', '.join(COLUMNS)}, hash FROM events"  # noqa: S608 - our own names
_NEXT = "SELECT position FROM events WHERE position > ? ORDER BY position LIMIT 1"
_MISSING_ROW = re.compile(r"row (\d+) missing from index (\S+)")
_INDEX = re.compile(
    r"(?:wrong # of entries in|non-unique entry in|rowid not at end-of-record for row \d+ of) index (\S+)"
)
_TREE = re.compile(r"Tree (\d+) ")
_UNANSWERED = """
    SELECT max(position) AS last, command_id FROM events
    WHERE position > ? AND command_id != '' AND NOT (command_id GLOB 'schedule:*' AND actor GLOB 'schedule:*')
        AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.command_id = events.command_id)
    GROUP BY command_id
    HAVING NOT EXISTS (SELECT 1 FROM events AS next WHERE next.position = last + 1 AND next.event = 'stub')
    ORDER BY 1
"""
"""What a schedule causes nobody waits for. An answer goes with the last record of its command."""
_MISLED = """
    SELECT answers.position, answers.command_id FROM answers
    LEFT JOIN events ON events.position = answers.position
    WHERE answers.position > ? AND events.command_id IS NOT answers.command_id
"""
_ANSWER_TO = "SELECT 1 FROM answers WHERE command_id = ?"
_EVENT_AT = "SELECT event FROM events WHERE position = ?"
_ARCHIVING = EVENT_TAGS[SegmentArchived]
_ARCHIVINGS = f"SELECT data FROM events WHERE event = '{_ARCHIVING}' AND position > ? ORDER BY position"  # noqa: S608 - our own names
_SUMMED = "SELECT command_id, digest, task_id, position, sum FROM answers"
_EPOCHS = "SELECT epoch, pid, host, started_at, sum FROM epochs ORDER BY epoch"


_ARCHIVED = msgspec.json.Decoder(SegmentArchived)


class Fault(NamedTuple):
    """One thing that is wrong."""

    position: int
    code: str
    """schema, file, index, archive, chain, gap, stub, unreadable or answer; newer for what a newer version wrote."""
    message: str


class Damage(NamedTuple):
    """Stands where a row should be."""

    position: int
    reason: str
    last: int = 0
    """Up to here nothing more is told; 0: only of this one."""

    @property
    def end(self) -> int:
        """The last position that it speaks of."""
        return max(self.position, self.last)


def schema_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """What differs from the schema that the migrations make, to the letter."""
    try:
        found, applied = objects(conn), conn.execute(APPLIED).fetchall()
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
    due = expected(len(names))
    for kind, name in due.keys() - found.keys():
        yield Fault(0, "schema", f"{kind} {name} is missing")
    for kind, name in found.keys() - due.keys():
        yield Fault(0, "schema", f"{kind} {name} does not belong there")
    for kind, name in found.keys() & due.keys():
        if found[kind, name] != due[kind, name]:
            yield Fault(0, "schema", f"{kind} {name} is not as it was made")


def newer_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Whether the service that started last may have recorded what this version cannot read."""
    try:
        writer = newest_writer(conn)
    except (*UNREADABLE, TypeError, TasktrailError):  # the other checks find out
        return
    if writer is not None and writer.lacks:
        yield Fault(writer.position, "newer", writer.fault)


def structure_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """What SQLite finds in the pages of the file: every table and index, and whether they say the same."""
    try:
        roots = dict(conn.execute("SELECT rootpage, name FROM sqlite_schema WHERE type = 'index'").fetchall())
        told = [line for (text,) in conn.execute(f"PRAGMA integrity_check({_MOST})") for line in text.splitlines()]
    except UNREADABLE as error:
        yield Fault(0, "file", f"its structure cannot be read: {error}")
        return
    for line in told:
        if line == "ok" or line.startswith("***"):
            continue
        row, index, tree = _MISSING_ROW.search(line), _INDEX.search(line), _TREE.search(line)
        if row:
            yield Fault(int(row[1]), "index", line)
        elif index or (tree and int(tree[1]) in roots):
            yield Fault(0, "index", line)
        else:
            yield Fault(0, "file", line)


def can_be_rebuilt(faults: list[Fault]) -> bool:
    """Whether the faults are such that an index only has to be made anew from its table.

    Not so when pages are lost or stand in two places: giving back the pages of such an index may take a table's.
    """
    return all(fault.code == "index" and not _TREE.search(fault.message) for fault in faults)


def damaged_indexes(faults: list[Fault]) -> tuple[str, ...]:
    """The indexes that the faults speak of, by name."""
    found = (_MISSING_ROW.search(fault.message) or _INDEX.search(fault.message) for fault in faults)
    return tuple(sorted({match[match.lastindex or 0] for match in found if match}))


def raw_rows(conn: sqlite3.Connection) -> Iterator[tuple[Any, ...] | Damage]:
    """The stored values of each record, undecoded, its hash last; `Damage` where there is none to be had.

    Text that is no UTF-8 comes with surrogates in it.
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
        # Larger each time, whatever a damaged file says.
        after = max(after + 1, page[-1][0]) if len(page) == _PAGE else None


def _archived_rows(conn: sqlite3.Connection, after: int) -> Generator[tuple[Any, ...] | Damage, None, int]:
    """Those in archives behind a position; answers with the position at which they end."""
    archives, last = Archives(conn), after
    try:
        segments = archives.segments()
    except (*UNREADABLE, TasktrailError):  # told by `archive_faults`
        return after
    for segment in segments:
        if segment.last <= after:
            continue
        last = segment.last
        try:
            file = archives.file(segment)
        except TasktrailError as error:
            yield Damage(segment.first, error.message, segment.last)
            continue
        for number in range(max(0, after + 1 - segment.first) // FRAME, len(file.index.frames)):
            try:
                yield from (row for row in _frame_of(archives, segment, file, number) if row[0] > after)
            except ArchiveDamaged as error:
                yield from error.sound
                yield Damage(error.position, error.reason, error.last)
            except OSError as error:
                begin = segment.first + number * FRAME
                yield Damage(begin, f"the archive cannot be read: {error}", min(begin + FRAME - 1, segment.last))
    return last


def _frame_of(archives: Archives, segment: KnownArchive, file: ArchiveFile, number: int) -> Iterable[tuple[Any, ...]]:
    """The rows of a frame, from the file that has taken the place of the one that was opened if it is gone."""
    try:
        return file.frame(number)
    except FileNotFoundError:
        try:
            return archives.file(segment).frame(number)
        except TasktrailError as error:
            raise FileNotFoundError(error.message) from error


def _one_by_one(conn: sqlite3.Connection, after: int) -> Generator[tuple[Any, ...] | Damage, None, int | None]:
    """A page of which something cannot be read; answers with the position it ends at, none at the end of the log."""
    for _ in range(_PAGE):
        try:
            found = conn.execute(_NEXT, (after,)).fetchone()
        except UNREADABLE as error:
            yield Damage(after + 1, f"the file cannot be read from here on: {error}")
            return _behind(conn, after)
        if found is None:
            return None
        if found[0] <= after:  # asked for a larger one: a damaged page may lead back, for ever
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


def _behind(conn: sqlite3.Connection, after: int) -> int | None:
    """From where on the file can be read again; None: nowhere. Looked for by doubling, then by halving."""

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
    """STRICT tables promise it, but an intruder may change the tables first, and a disk may change bits."""
    return tuple(map(type, row)) == _TYPES and not any(map(_is_broken, (*row[3:10], row[13])))


def _is_broken(value: str) -> bool:
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def chain_faults(conn: sqlite3.Connection, progress: Callable[[int], None] | None = None) -> Iterator[Fault]:
    """Gaps, broken links, stubs that nothing explains, and rows that cannot be decoded.

    It takes the memory of what was dropped, as ranges.
    """
    last, digest = 0, GENESIS
    stubs, wrong = stub_check(conn), list[Fault]()
    for row in raw_rows(conn):
        if isinstance(row, Damage):
            yield Fault(row.position, "unreadable", row.reason)
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
            yield Fault(last + 1, "gap", f"position {position} follows on {last}")
        elif row[3] != STUB and digest and link(digest, row[:14]) != row[14]:
            yield Fault(position, "chain", "the record or one before it was changed: its hash does not fit")
        else:
            yield from _decoding_faults(row)
        last, digest = position, row[14]
        if progress is not None and position % _PAGE == 0:
            progress(position)
    yield from wrong  # last: it may be the record that explains them which was changed
    for at, _dropped_at, message in stubs.faults():
        yield Fault(at, "stub", message)


def stub_check(conn: sqlite3.Connection) -> StubCheck:
    """A check of the stubs of a log against the records that say why they are there."""

    def drops(after: int) -> list[Drop]:
        try:
            return list(read_drops(conn, after, lenient=True))
        except (*UNREADABLE, TasktrailError):  # then no stub is explained; what cannot be read is told by others
            return []

    return StubCheck(drops)


def _decoding_faults(row: tuple[Any, ...]) -> Iterator[Fault]:
    try:
        from_row(row[:14], row[14])
    except TasktrailError as error:
        yield Fault(row[0], "newer" if isinstance(error, LogTooNew) else "unreadable", error.message)


def whole_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """All of the above and below: everything but the rules of the state machine. Some microseconds for each record."""
    yield from schema_faults(conn)
    yield from newer_faults(conn)
    yield from structure_faults(conn)
    yield from epoch_faults(conn)
    yield from archive_faults(conn)
    yield from chain_faults(conn)
    yield from answer_faults(conn)


def archive_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Archives that are not those that the log's records name. What is wrong inside of one `chain_faults` tells.

    A service that archives or forgets meanwhile changes table, records and files: then all is looked at once more.
    """
    found: list[Fault] = []
    for _ in range(_AGAIN):
        before, found = _table_now(conn), list(_archive_faults(conn))
        if not found or _table_now(conn) == before:
            break
    yield from found


def _table_now(conn: sqlite3.Connection) -> object:
    try:
        return table_of(conn)
    except UNREADABLE:
        return None


def _archive_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    events: dict[int, SegmentArchived] = {}
    all_known = True
    try:
        table = table_of(conn)
        for data in _archivings(conn):
            with suppress(msgspec.DecodeError, UnicodeError):  # told by others
                event = _ARCHIVED.decode(data)
                events[event.first] = event
        kinds, tasks = noted_contents(conn)
    except UNREADABLE as error:
        yield Fault(0, "archive", f"which archives there are cannot be read: {error}")
        return
    except TasktrailError:  # some of these records are in an archive that is damaged, which is told where it is read
        all_known = False
    due, newest = 1, -1
    for *row, found in table:
        if not is_as_noted(row, found):
            yield Fault(due, "archive", "what the log says of an archive is not as it was written")
            return
        segment = KnownArchive(*row)
        archived = events.pop(segment.first, None)
        known = archived is not None and segment_of(archived) == segment
        if segment.first != due or (all_known and not known):
            yield Fault(segment.first, "archive", "what is said of the archive is not what the log has recorded of it")
        elif fault := _file_fault(Archives(conn), segment):
            yield Fault(segment.first, "archive", fault)
        elif fault := _noted_fault(Archives(conn), segment, newest, kinds[segment.first], tasks[segment.first]):
            yield Fault(segment.first, "index", fault)
        newest = max(newest, segment.newest_task)
        due = segment.last + 1
    for event in events.values() if all_known else ():
        yield Fault(event.first, "archive", "the log has recorded an archive from here on, and does not know it")


def _archivings(conn: sqlite3.Connection) -> Iterator[str]:
    archives = Archives(conn)
    until = archives.until()
    yield from (row[13] for row in archives.of_kind(_ARCHIVING))
    yield from (data for (data,) in conn.execute(_ARCHIVINGS, (until,)))


def _file_fault(archives: Archives, segment: KnownArchive) -> str:
    try:
        file = archives.file(segment)
        if file_digest(file.path) == (segment.sha256, segment.size):
            return ""
        for _row in file.rows():
            pass
    except (ArchiveDamaged, TasktrailError, OSError):  # told where its rows are read
        return ""
    return f"the archive {segment.name} was changed or replaced: it does not have the SHA-256 that is recorded"


def _noted_fault(archives: Archives, segment: KnownArchive, newest: int, kinds: set[str], tasks: set[int]) -> str:
    """What is wrong with what is noted of an archive. `newest`: the newest task in those in front of it."""
    if not (kinds or tasks):
        return ""  # then it is looked into each time
    try:
        file = archives.file(segment)
    except TasktrailError:  # told where its rows are read
        return ""
    there = file.tasks()
    if max(there, default=0) != segment.newest_task:
        return f"the newest task in it is {max(there, default=0)}, not {segment.newest_task}"
    if kinds != file.kinds():
        return "which kinds of records the archive from here on has is not as it was noted"
    if not {0, *also_before(file, newest)} <= tasks <= {0, *there}:
        return "which tasks the archive from here on goes on with is not as it was noted"
    return ""


def unanswered(conn: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """The last position and the id of each command that led to records and has no answer.

    The records of a command stand in a row, so no more is kept in mind of archived ones than those without an answer.
    Raises `sqlite3.Error`, and `LogCorrupt` for what cannot be read of an archive.
    """
    missing = dict[str, int]()
    until, command_id = 0, ""
    for row in Archives(conn).rows():
        caused_by = "" if _is_of_a_schedule(row) else row[7]
        if command_id and caused_by != command_id:
            _look_for_answer(conn, missing, command_id, until, is_stub=row[3] == STUB)
        until, command_id = row[0], caused_by
    if command_id:
        follows = conn.execute(_EVENT_AT, (until + 1,)).fetchone()
        _look_for_answer(conn, missing, command_id, until, is_stub=follows == (STUB,))
    yield from ((position, command_id) for command_id, position in missing.items())
    yield from conn.execute(_UNANSWERED, (until,)).fetchall()


def _is_of_a_schedule(row: tuple[Any, ...]) -> bool:
    return bool(row[7].startswith("schedule:") and row[5].startswith("schedule:"))


def _look_for_answer(
    conn: sqlite3.Connection, missing: dict[str, int], command_id: str, last: int, *, is_stub: bool
) -> None:
    """Note a command without an answer. `is_stub`: a stub follows on its last record, and took the answer along."""
    missing.pop(command_id, None)
    if not is_stub and not conn.execute(_ANSWER_TO, (command_id,)).fetchone():
        missing[command_id] = last


def answer_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Answers that are not as they were written, point at what another command caused, or are missing."""
    try:
        for position, command_id in unanswered(conn):
            yield Fault(position, "answer", f"the answer to {command_id} is missing")
        archives = Archives(conn)
        misled = conn.execute(_MISLED, (archives.until(),))
        for position, command_id in chain(misled, _misled_into(archives, conn)):
            yield Fault(position, "answer", f"the answer to {command_id} points at what it did not cause")
        if has_sums(conn):
            for *row, found in conn.execute(_SUMMED):
                if not is_as_written(tuple(row), found):
                    yield Fault(row[3], "answer", f"the answer to {row[0]} is not as it was written")
    except (*UNREADABLE, TypeError, TasktrailError) as error:
        yield Fault(0, "file", f"the answers cannot be read: {error}")


def _misled_into(archives: Archives, conn: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    return ((row[2], row[0]) for row in _answered_by(archives, conn, "NULL") if row[3] != row[0])


def _answered_by(archives: Archives, conn: sqlite3.Connection, total: str) -> Iterator[tuple[Any, ...]]:
    """What `read_answered` tells, of answers that point into archives, in order of position."""
    answers = conn.execute(_POINTING.format(sum=total), (archives.until(),))
    rows, row, before = archives.rows(), None, None
    for command_id, task_id, position, digest, found in answers:
        while row is None or row[0] < position:
            before, row = row, next(rows)
        earlier = None if before is None else _own_if_stub(before, command_id)
        yield command_id, task_id, position, row[7], row[1], row[3], row[13], digest, earlier, found


def is_as_written(row: tuple[Any, ...], found: bytes) -> bool:
    """Whether the values of an answer fit their sum."""
    return tuple(map(type, row)) == (str, bytes, int, int) and checksum(row) == found


def has_sums(conn: sqlite3.Connection) -> bool:
    """Whether the log is of a version that sums the rows outside the chain. Raises `sqlite3.Error`."""
    return sums_rows(len(conn.execute(APPLIED).fetchall()))


def epoch_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Whether each service that took the log is there as it was written, from the first to the one that starts last."""
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
        # The list of migrations grows: it was that long at some time.
        if not any(found == epoch_sum(tuple(row), applied[:known]) for known in range(len(applied), -1, -1)):
            yield Fault(0, "epoch", f"epoch {number}, or the list of migrations, is not as it was written")
    if last is not None and isinstance(last[0], int) and last[0] > len(rows):
        yield Fault(
            0, "epoch", f"a service has started in epoch {last[0]}, and the last one that is known is {len(rows)}"
        )


def _archived_epoch(conn: sqlite3.Connection) -> tuple[Any] | None:
    """The epoch of the service that started last, where no record of one is left in the table of events."""
    with suppress(TasktrailError):  # told where it is read
        for row in Archives(conn).of_kind_backwards("service_started"):
            with suppress(ValueError, AttributeError, RecursionError):
                return (json.loads(row[13]).get("epoch"),)
    return None


# --- each answer beside the records that its command led to ---

_ANSWERED = """
    SELECT answers.command_id, answers.task_id, answers.position, events.command_id,
        events.task_id, events.event, events.data, answers.digest,
        CASE earlier.event WHEN 'stub' THEN answers.command_id ELSE earlier.command_id END, {sum}
    FROM answers
    LEFT JOIN events ON events.position = answers.position
    LEFT JOIN events AS earlier ON earlier.position = answers.position - 1
    WHERE answers.command_id > ? AND answers.position NOT BETWEEN 1 AND ? ORDER BY answers.command_id LIMIT ?
"""
_POINTING = """
    SELECT command_id, task_id, position, digest, {sum} FROM answers
    WHERE position BETWEEN 1 AND ? ORDER BY position, command_id
"""
_BACKWARDS = """
    SELECT command_id, task_id, event, data FROM events WHERE position <= ? AND position > ? ORDER BY position DESC
"""
_LAST_EPOCH = """
    SELECT json_extract(data, '$.epoch') FROM events WHERE event = 'service_started' AND json_valid(data)
    ORDER BY position DESC LIMIT 1
"""
_FIRST_DATA = "SELECT data FROM events WHERE task_id = ? AND version = 1"


def read_answered(conn: sqlite3.Connection, page: int, *, sums: bool) -> Iterator[tuple[Any, ...]]:
    """Each answer beside the record it points at, `page` at a time. Raises `sqlite3.Error` and `LogCorrupt`.

    (command id, task id, position, and of the record: command id, task id, event, data; the answer's digest; the
    command id of the record before, which may be its own where a stub stands there; the answer's sum, null without
    `sums`.)
    """
    statement = _ANSWERED.format(sum="answers.sum" if sums else "NULL")
    after = ""
    archives = Archives(conn)
    until = archives.until()
    yield from _answered_by(archives, conn, "sum" if sums else "NULL")
    while rows := conn.execute(statement, (after, until, page)).fetchall():
        for row in rows:
            if row[3] is None and until < row[2] <= archives.until():  # archived since
                yield _from_archive(archives, row)
            elif row[2] == until + 1 and (before := archives.row(until)) is not None:
                yield (*row[:8], _own_if_stub(before, row[0]), row[9])
            else:
                yield row
        if rows[-1][0] <= after:
            raise sqlite3.DatabaseError("the answers do not stand in the order of their command ids")
        after = rows[-1][0]


def _from_archive(archives: Archives, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    row, before = archives.row(answer[2]), archives.row(answer[2] - 1)
    assert row is not None
    earlier = None if before is None else _own_if_stub(before, answer[0])
    return (*answer[:3], row[7], row[1], row[3], row[13], answer[7], earlier, answer[9])


def _own_if_stub(row: tuple[Any, ...], command_id: str) -> object:
    return command_id if row[3] == STUB else row[7]


def first_of(conn: sqlite3.Connection, command_id: str, position: int) -> tuple[Any, ...] | None:
    """Task id, event and data of the first record that the command led to; the last is at `position`.

    They stand in a row. A stub right before them is taken for one of them: it may be. Raises `sqlite3.Error`.
    """
    first = None
    archives = Archives(conn)
    archived = ((row[7], row[1], row[3], row[13]) for row in archives.backwards(position))
    stored = conn.execute(_BACKWARDS, (position, archives.until()))
    for caused_by, *record in chain(stored, archived):
        if caused_by != command_id and record[1] != STUB:
            break
        first = tuple(record)
        if caused_by != command_id:
            break
    return first


def line_of(conn: sqlite3.Connection, task_id: int) -> list[int]:
    """The task, its parent, the parent of that, and so on. Raises `sqlite3.Error`."""
    line: list[int] = []
    one: object = task_id
    while isinstance(one, int) and one not in line:
        line.append(one)
        row = conn.execute(_FIRST_DATA, (one,)).fetchone()
        data = row[0] if row else next((row[13] for row in Archives(conn).of_task(one)), "{}")
        try:
            one = json.loads(data).get("parent_task_id")
        except (ValueError, AttributeError, RecursionError):
            break
    return line
