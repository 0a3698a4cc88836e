"""Checks that the archives of a log are those that its records name, and that their index is right."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from ..errors import TasktrailError
from ..recorded import EVENT_TAGS
from ..system_events import SegmentArchived
from .archive_file import ArchiveDamaged, file_digest, other_file
from .archives import Archives, KnownArchive, matches_sum, noted_contents, segment_of, table_of, tasks_up_to
from .faults import UNREADABLE, Fault

_ARCHIVING = EVENT_TAGS[SegmentArchived]
_ARCHIVINGS = f"SELECT data FROM events WHERE event = '{_ARCHIVING}' AND position > ? ORDER BY position"  # noqa: S608 - our own names
_ARCHIVED = msgspec.json.Decoder(SegmentArchived)
_NOTE_ANEW = "a start fills the index again if its tables archived_kinds and archived_tasks are empty"
_AGAIN = 5
"""How often archives are checked anew while a service changes them."""


def archive_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    """Archives that are not those that the log's records name. `chain_faults` reports the faults inside them.

    A service that archives or forgets meanwhile changes table, records and files. Then the check is repeated.
    """
    faults: list[Fault] = []
    for _ in range(_AGAIN):
        before, faults = _table_now(conn), list(_archive_faults(conn))
        if not faults or _table_now(conn) == before:
            break
    yield from faults


def _table_now(conn: sqlite3.Connection) -> object:
    try:
        return table_of(conn)
    except UNREADABLE:
        return None


def _archive_faults(conn: sqlite3.Connection) -> Iterator[Fault]:
    events: dict[int, SegmentArchived] = {}
    archives = Archives(conn, any_file=True)
    all_known = True
    try:
        table = table_of(conn)
        kinds, tasks = noted_contents(conn)
        for data in _archivings(conn, archives):
            with suppress(msgspec.DecodeError, UnicodeError):  # other checks report it
                event = _ARCHIVED.decode(data)
                events[event.first] = event
    except UNREADABLE as error:
        yield Fault(0, "archive", f"the list of archives cannot be read: {error}")
        return
    except TasktrailError:  # some of these records are in a damaged archive, which is reported where it is read
        all_known = False
    due, newest = 1, -1
    for *row, found in table:
        if not matches_sum(row, found):
            yield Fault(due, "archive", "the entry of an archive is not as it was written")
            return
        segment = KnownArchive(*row)
        archived = events.pop(segment.first, None)
        known = archived is not None and segment_of(archived) == segment
        if segment.first == due and all_known and archived is None:
            message = f"the log lacks the record of the archive from {segment.first} to {segment.last}"
            yield Fault(_end(conn, segment) + 1, "gap", message)
        elif segment.first != due or (all_known and not known):
            yield Fault(segment.first, "archive", "the archive's entry differs from the log's record of it")
        elif fault := _file_fault(archives, segment):
            yield Fault(segment.first, "archive", fault)
        elif fault := _index_fault(archives, segment, newest, kinds[segment.first], tasks[segment.first]):
            yield Fault(segment.first, "index", fault)
        newest = max(newest, segment.newest_task)
        due = segment.last + 1
    if {*kinds, *tasks} - {row[0] for row in table}:
        yield Fault(0, "index", f"the index has kinds or tasks of an archive that the log does not have; {_NOTE_ANEW}")
    for event in events.values() if all_known else ():
        yield Fault(event.first, "archive", "the log has a record of an archive from here on, but no entry for it")


def _archivings(conn: sqlite3.Connection, archives: Archives) -> Iterator[str]:
    until = archives.until()
    yield from (row[13] for row in archives.of_kind(_ARCHIVING))
    yield from (data for (data,) in conn.execute(_ARCHIVINGS, (until,)))


def _end(conn: sqlite3.Connection, segment: KnownArchive) -> int:
    """The last position, behind which the record of an archive may have been cut off."""
    end = None
    with suppress(*UNREADABLE):  # other checks report it
        (end,) = conn.execute("SELECT max(position) FROM events").fetchone()
    return max(end, segment.last) if isinstance(end, int) else segment.last


def _file_fault(archives: Archives, segment: KnownArchive) -> str:
    try:
        file = archives.file(segment)
        if file_digest(file.path) == (segment.sha256, segment.size):
            return ""
        for _row in file.rows():
            pass
    except (ArchiveDamaged, TasktrailError, OSError):  # reported where its rows are read
        return ""
    return other_file(segment.name)


def _index_fault(archives: Archives, segment: KnownArchive, newest: int, kinds: set[str], tasks: set[int]) -> str:
    """The fault of an archive's index, in words, or "". `newest`: the newest task of all archives before it."""
    if not (kinds or tasks):
        return ""  # without an index, each search opens it
    try:
        file = archives.file(segment)
    except TasktrailError:  # reported where its rows are read
        return ""
    file_tasks = file.tasks()
    if max(file_tasks, default=0) != segment.newest_task:
        return f"the newest task in it is {max(file_tasks, default=0)}, not {segment.newest_task}"
    if kinds != file.kinds():
        return f"the kinds of records in the archive from here on differ from those in the index; {_NOTE_ANEW}"
    if not {0, *tasks_up_to(file, newest)} <= tasks <= {0, *file_tasks}:
        return f"the tasks that the archive from here on continues differ from those in the index; {_NOTE_ANEW}"
    return ""
