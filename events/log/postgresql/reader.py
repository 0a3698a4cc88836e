"""Reads a log on PostgreSQL, for proofs, seals, verification and queries."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from ...context import NOTHING_KNOWN, Belongings
from ...errors import LogCorrupt, LogUnreachable, TasktrailError
from ...ranges import to_ranges
from ...recorded import STUB, Recorded
from ...task_events import Completed
from ..address import read_address
from ..answers import NAMES_NO_COMMAND, is_as_written, misled_to
from ..archives import KnownArchive
from ..encryption import Decryption
from ..event_log import Epoch, Erasable
from ..faults import Damage, Fault
from ..integrity import chain_faults
from ..personal import BEGINS, KEY_LENGTH
from ..reading import refuse_gap
from ..stubs import DROPPING, Drop, StubCheck, digest_of
from ..writers import Writer, writer_of
from . import ownership
from .connection import RESTORE, Conn, Database, Values, is_lost
from .reading import DROPS, PAGE, SELECT, Reading, drops_in
from .schema import has_log, schema_faults, table_faults
from .texts import escaped, unescaped, unescaped_row

T = TypeVar("T")

_POSITIONS = "SELECT position FROM tasktrail.events WHERE task_id = ANY(%s)"
_COMPLETED = """
    SELECT position FROM tasktrail.events
    WHERE event = 'completed' AND (strpos(data, %s) > 0 OR starts_with(data, %s)) ORDER BY position DESC
"""
_NEWEST_START = """
    SELECT position, data FROM tasktrail.events
    WHERE task_id = 0 AND event = 'service_started' ORDER BY version DESC LIMIT 1
"""
_ENCRYPTED_WITH = f"""
    SELECT count(*) FROM tasktrail.events
    WHERE starts_with(data, '{BEGINS}') AND substr(data, {len(BEGINS) + 1}, {KEY_LENGTH}) = ANY(%s)
"""  # noqa: S608 - our own words
_VERSION_AT = "SELECT coalesce(max(version), 0) FROM tasktrail.events WHERE task_id = %s AND position <= %s"
_STATUS_SINCE = """
    SELECT position FROM tasktrail.events WHERE task_id = %s AND event NOT IN ('progressed', 'checkpointed')
    ORDER BY version DESC LIMIT 1
"""
_UNANSWERED = """
    SELECT last, command_id FROM (
        SELECT max(position) AS last, command_id FROM tasktrail.events
        WHERE command_id != '' AND NOT (starts_with(command_id, 'schedule:') AND starts_with(actor, 'schedule:'))
        GROUP BY command_id
    ) AS caused
    WHERE NOT EXISTS (SELECT 1 FROM tasktrail.answers WHERE answers.command_id = caused.command_id)
        AND NOT EXISTS (
            SELECT 1 FROM tasktrail.events AS own JOIN tasktrail.events AS next ON next.position = own.position + 1
            WHERE own.position = last AND next.event = 'stub' AND next.recorded_at = own.recorded_at
        )
    ORDER BY 1
"""
"""Commands of a schedule have no answer, as nobody waits for one.

An answer points at its command's last record. If that was dropped, so was the answer: a stub of the same time may have
been this record, as all records of a command have one time.
"""
_ANSWERED = """
    SELECT answers.command_id, answers.task_id, answers.position, events.command_id,
        events.task_id, events.event, events.data, answers.digest,
        CASE earlier.event WHEN 'stub' THEN answers.command_id ELSE earlier.command_id END, answers.sum
    FROM tasktrail.answers
    LEFT JOIN tasktrail.events ON events.position = answers.position
    LEFT JOIN tasktrail.events AS earlier ON earlier.position = answers.position - 1
    {after}ORDER BY answers.command_id LIMIT %s
"""
_AFTER = "WHERE answers.command_id > %s "
_IN_FRONT = "SELECT position FROM tasktrail.events WHERE position < 1 OR position IS NULL LIMIT 50"
_NEXT_POSITIONS = "SELECT position FROM tasktrail.events WHERE position > %s ORDER BY position LIMIT %s"
_BACKWARDS = """
    SELECT position, command_id, task_id, event, data FROM tasktrail.events
    WHERE position <= %s ORDER BY position DESC LIMIT %s
"""
_DROP_POSITIONS = (
    f"SELECT position FROM tasktrail.events WHERE event = '{DROPPING}' AND position > %s ORDER BY position"  # noqa: S608 - our own names
)
_DROP_AT = "SELECT position, data FROM tasktrail.events WHERE position = %s"
_SIZE = "SELECT pg_total_relation_size('tasktrail.events') + pg_total_relation_size('tasktrail.answers')"
_EPOCHS = "SELECT epoch, pid, host, started_at FROM tasktrail.epochs ORDER BY epoch"
_FEW = 50


def is_begun(place: Path) -> bool:
    """Whether the database has a log. Raises `LogUnreachable`, and `LogCorrupt` if only parts of one are there."""
    database = Database(read_address(place))
    with closing(database.connect("reader")) as conn:
        try:
            return has_log(conn)
        except psycopg.Error as error:
            raise database.explained(error, "cannot be read") from error


def _is_behind(position: object, after: int) -> bool:
    """Whether it is a number after `after`. A damaged index may lead back, for ever."""
    return type(position) is int and position > after


def _out_of_order(after: int, position: object) -> Damage:
    return Damage(after + 1, f"position {position} stands where a later one is due: the rest cannot be read in order")


def _unescaped_if_valid(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row of a stored event; a row with values that no log stores is returned as it is."""
    try:
        return unescaped_row(row)
    except TypeError:
        return row


class PostgresqlLogReader(Reading):
    """The log whose address is in a file. A lost connection is replaced at the next query."""

    def __init__(self, place: Path, address: str = "") -> None:
        """`address` is used instead of the one in the file, which then need not exist. Keys lie beside it anyway."""
        self._place = place
        self._database = Database(address or read_address(place))
        self._decrypt = Decryption(place)
        self._conn: Conn | None = None
        self._altered: dict[str, str] = {}
        """Table → its fault, in words: it may hold values that no log holds."""
        try:
            self._refuse_none()
            self._altered = dict(reversed(self._ask(lambda conn: list(table_faults(conn)))))  # the first of each
        except BaseException:
            self.close()
            raise

    def _refuse_none(self) -> None:
        if not self._ask(has_log):
            raise LogCorrupt(
                f"{self._database.name} holds no log",
                remedy="Check the address in DATA/log.postgresql; `tasktrail serve` begins a log where there is none.",
            )

    def _ask(self, question: Callable[[Conn], T]) -> T:
        """Run a query; run it once more if the connection turns out to be lost."""
        for again in (True, False):
            if self._conn is None:
                self._conn = self._database.connect("reader")
                self._connections += 1
            conn = self._conn
            try:
                return question(conn)
            except psycopg.Error as error:
                if not is_lost(conn):
                    raise self._database.explained(error, "cannot be read") from error
                self._conn = None
                if not again:
                    raise LogUnreachable(f"{self._database.name} cannot be read: {error}") from error
            except UnicodeDecodeError as error:
                raise self._database.broken_text(error) from error
        raise AssertionError("the second time ends it")

    def _fetch(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        for table, fault in self._altered.items():
            if f"tasktrail.{table}" in statement:
                raise LogCorrupt(f"{self._database.name} cannot be read: {fault}", remedy=RESTORE)
        return self._fetch_as_it_is(statement, values)

    def _fetch_as_it_is(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows that may hold values that no log holds."""
        return self._ask(lambda conn: conn.execute(statement, values or None, binary=True).fetchall())

    def to_drop(self, tasks: Iterable[int], others: Iterable[int] = ()) -> tuple[str, str]:
        """The `positions` and `stubs` of an event that drops all records of `tasks`, and the positions `others`."""
        found = {*others, *(row[0] for row in self._fetch(_POSITIONS, (list(tasks),)))}
        positions = to_ranges(found)
        return positions, digest_of(self._left_of(positions))

    def stub_check(self) -> StubCheck:
        """Compares stubs with the records that say why they are there."""

        def drops(after: int) -> list[Drop]:
            try:
                return drops_in(self._fetch_as_it_is(DROPS, (after,)))
            except LogUnreachable:
                raise
            except TasktrailError:  # other checks report the unreadable record; only its own stubs are not explained
                return drops_in(self._drops_one_by_one(after))

        return StubCheck(drops)

    def _drops_one_by_one(self, after: int) -> Iterator[tuple[Any, ...]]:
        """The rows that `DROPS` selects, without those that cannot be read."""
        for position in self._readable(_DROP_POSITIONS, (after,)):
            yield from self._readable(_DROP_AT, position)

    def _readable(self, statement: str, values: Values) -> list[tuple[Any, ...]]:
        """Rows as they are; none if they cannot be read. Raises `LogUnreachable`."""
        try:
            return self._fetch_as_it_is(statement, values)
        except LogUnreachable:
            raise
        except TasktrailError:
            return []

    def rows_of(self, task_id: int, until: int) -> list[tuple[Any, ...]]:
        """The raw stored values of a task's records up to a position, each with its hash last."""
        wanted = f"{SELECT} WHERE task_id = %s AND position <= %s ORDER BY version"
        rows = list(map(unescaped_row, self._fetch(wanted, (task_id, until))))
        refuse_gap(task_id, 0, rows)
        return rows

    def with_result(self, digest: str) -> list[int]:
        """The tasks that completed with a file of this SHA-256, the newest first. It scans the log."""
        found = list[int]()
        for (position,) in self._fetch(_COMPLETED, (digest, BEGINS)):
            (record,) = self.read(position - 1, 1)
            if isinstance(record.event, Completed) and record.event.made_sha256 == digest:
                found.append(record.task_id)
        return found

    def newest_writer(self) -> Writer | None:
        """The service that started last; None if there is none, or its record cannot be read."""
        with suppress(TasktrailError):
            rows = self._fetch(_NEWEST_START)
            return writer_of(*rows[0]) if rows else None
        return None

    def read_task_after(self, task_id: int, version: int, limit: int) -> list[Recorded]:
        """The next records of one task after a version: a long life is read piece by piece."""
        wanted = f"{SELECT} WHERE task_id = %s AND version > %s ORDER BY version LIMIT %s"
        rows = self._fetch(wanted, (task_id, version, limit))
        refuse_gap(task_id, version, rows)
        return self._records(rows)

    def last_of(self, task_id: int) -> Recorded | None:
        """The latest event of a task."""
        rows = self._fetch(f"{SELECT} WHERE task_id = %s ORDER BY version DESC LIMIT 1", (task_id,))
        return self._records(rows)[0] if rows else None

    def erasable(self, user_id: int) -> Erasable:
        """How much an erasure of a user would take. It scans all records."""
        there = self.belongings(user_id)
        records = self._fetch(_ENCRYPTED_WITH, (list(there.keys),))[0][0] if there.keys else 0
        return Erasable(user_id=user_id, tasks=len(there.tasks), records=records, plain=there.plain)

    def belongings(self, user_id: int) -> Belongings:
        """The personal data of a user; see `EventLog.belongings`."""
        return self._belongings(user_id, NOTHING_KNOWN)

    def version_at(self, task_id: int, position: int) -> int:
        """The last version of a task up to a position; 0 when there was none."""
        return int(self._fetch(_VERSION_AT, (task_id, position))[0][0])

    def segments(self) -> list[KnownArchive]:
        """No archives: PostgreSQL has all records in its tables."""
        return []

    def has_sums(self) -> bool:
        """True: on PostgreSQL answers have had sums from the first version on."""
        return True

    def unanswered(self) -> Iterator[tuple[int, str]]:
        """The last position and the id of each command that led to records and has no answer."""
        return ((row[0], unescaped(row[1])) for row in self._fetch(_UNANSWERED))

    def answered(self, *, sums: bool = True) -> Iterator[tuple[Any, ...]]:
        """Each answer with the record that it points at, undecoded; see `read_answered`. Null where there is none."""
        statement, after = _ANSWERED.format(after=""), tuple[str, ...]()
        while page := self._fetch(statement, (*after, PAGE)):
            for command_id, task_id, position, caused_by, *record, before, total in page:
                one, by, earlier = (
                    None if text is None else unescaped(text) for text in (command_id, caused_by, before)
                )
                yield (one, task_id, position, by, *record, earlier, total if sums else None)
            last = (page[-1][0],)
            if last <= after:
                raise LogCorrupt("The answers do not stand in the order of their command ids", remedy=RESTORE)
            statement, after = _ANSWERED.format(after=_AFTER), last

    def epochs(self) -> list[Epoch]:
        """The services that have had the log."""
        return [Epoch(*row) for row in self._fetch(_EPOCHS)]

    def first_of(self, command_id: str, position: int) -> tuple[Any, ...] | None:
        """Task id, event and data of the first of a command's records, the last of which is at `position`.

        These records are adjacent. A stub right before them counts as one, because it may be.
        """
        first, caused = None, escaped(command_id)
        while rows := self._fetch(_BACKWARDS, (position, _FEW)):
            for _, by, *record in rows:
                if by != caused and record[1] != STUB:
                    return first
                first = tuple(record)
                if by != caused:
                    return first
            if rows[-1][0] > position:
                raise LogCorrupt("The records do not stand in the order of their positions", remedy=RESTORE)
            position = rows[-1][0] - 1
        return first

    def line_of(self, task_id: int) -> list[int]:
        """The task, its parent, that one's parent, and so on."""
        line: list[int] = []
        one: object = task_id
        while isinstance(one, int) and one not in line:
            line.append(one)
            try:
                one = json.loads(self._first_data(one) or "{}").get("parent_task_id")
            except (ValueError, AttributeError, RecursionError):
                break
        return line

    def status_since(self, task_id: int) -> int:
        """Position of the record that gave a task its present status; 0: there is no such task."""
        rows = self._fetch(_STATUS_SINCE, (task_id,))
        return int(rows[0][0]) if rows else 0

    # --- checks -------------------------------------------------------------------------------------------------

    def file_faults(self) -> Iterator[Fault]:
        """Faults of the tables and of the epochs. PostgreSQL itself takes care of its pages.

        Raises `LogUnreachable`.
        """
        is_faulty = False
        for part in (self._schema_faults, self._epoch_faults, self._faults_in_front):
            try:
                for fault in part():
                    is_faulty = True
                    yield fault
            except LogUnreachable:  # not damage
                raise
            except TasktrailError as error:
                if not is_faulty:  # else it is a consequence of what was reported
                    yield Fault(0, "schema", f"the schema cannot be read: {error.message}")
                    return

    def _schema_faults(self) -> list[Fault]:
        return self._ask(lambda conn: list(schema_faults(conn)))

    def _epoch_faults(self) -> list[Fault]:
        return [Fault(0, "epoch", wrong) for wrong in self._ask(ownership.epoch_faults)]

    def _faults_in_front(self) -> list[Fault]:
        return [
            Fault(0, "file", f"a record stands at position {position}, before the first")
            for (position,) in self._fetch_as_it_is(_IN_FRONT)
        ]

    def quick_faults(self) -> Iterator[Fault]:
        """Faults that are found quickly, however long the log is."""
        yield from self.file_faults()
        writer = self.newest_writer()
        if writer is not None and writer.lacks:
            yield Fault(writer.position, "newer", writer.fault)

    def faults(self) -> Iterator[Fault]:
        """All faults of the log and its rows; `verify` also checks the rules and the views."""
        yield from self.quick_faults()
        yield from chain_faults(self.raw_rows(), self.stub_check())
        try:
            yield from self._answer_faults()
        except LogUnreachable:
            raise
        except TasktrailError as error:
            yield Fault(0, "file", f"the answers cannot be read: {error.message}")

    def _answer_faults(self) -> Iterator[Fault]:
        for position, command_id in self.unanswered():
            yield Fault(position, "answer", f"the answer to {command_id} is missing")
        for command_id, task_id, position, caused_by, *_record, digest, _before, total in self.answered():
            if not command_id:
                yield Fault(position, "answer", NAMES_NO_COMMAND)
                continue
            if caused_by != command_id:
                yield Fault(position, "answer", f"the answer to {command_id} {misled_to(caused_by)}")
            if not is_as_written((command_id, digest, task_id, position), total):
                yield Fault(position, "answer", f"the answer to {command_id} is not as it was written")

    def raw_rows(self) -> Iterator[tuple[Any, ...] | Damage]:
        """The raw stored values of each record, undecoded, its hash last: what a verifier works on.

        A page that cannot be read is read record by record. Raises `LogUnreachable`.
        """
        wanted = f"{SELECT} WHERE position > %s ORDER BY position LIMIT %s"
        after: int | None = 0
        while after is not None:
            try:
                page = self._fetch_as_it_is(wanted, (after, PAGE))
            except LogUnreachable:
                raise
            except TasktrailError:
                after = yield from self._one_by_one(after)
                continue
            yield from map(_unescaped_if_valid, page)
            if len(page) < PAGE:
                return
            if not _is_behind(page[-1][0], after):
                yield _out_of_order(after, page[-1][0])
                return
            after = page[-1][0]

    def _one_by_one(self, after: int) -> Generator[tuple[Any, ...] | Damage, None, int | None]:
        """The rows of a page that cannot be read whole; returns the position of its end, None at the log's end."""
        try:
            positions = [row[0] for row in self._fetch_as_it_is(_NEXT_POSITIONS, (after, PAGE))]
        except LogUnreachable:
            raise
        except TasktrailError as error:
            yield Damage(after + 1, f"the log cannot be read from here on: {error.message}")
            return None
        for position in positions:
            if not _is_behind(position, after):
                yield _out_of_order(after, position)
                return None
            after = position
            yield self._row(position)
        return after if len(positions) == PAGE else None

    def _row(self, position: int) -> tuple[Any, ...] | Damage:
        try:
            rows = self._fetch_as_it_is(f"{SELECT} WHERE position = %s", (position,))
        except LogUnreachable:
            raise
        except TasktrailError as error:
            return Damage(position, f"the record cannot be read: {error.message}")
        return _unescaped_if_valid(rows[0]) if rows else Damage(position, "the record cannot be found by its position")

    def size(self) -> int:
        """Bytes on the server's disk, with indexes."""
        return int(self._fetch(_SIZE)[0][0])

    def close(self) -> None:
        """Let go of the connection."""
        self._decrypt.close()
        if self._conn is not None:
            self._conn.close()
            self._conn = None
