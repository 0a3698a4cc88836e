"""The log on PostgreSQL: one writer that assigns the positions, and commits that are on the server's disk."""

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

import psycopg
from msgspec.structs import astuple

from ...clock import boot_seconds
from ...context import NOTHING_KNOWN, Belongings
from ...errors import ConcurrencyError, Fenced, LogCorrupt, LogGone, LogTooNew, LogUnreachable
from ...ranges import spans_of
from ...recorded import STUB, Fact, Recorded
from ..address import read_address
from ..answers import is_as_written
from ..chain import checksum
from ..encryption import Decryption, Encryption, opened_digest
from ..event_log import Answer, Head
from ..files import HeadMark
from ..integrity import AT_ONCE
from ..linking import linked
from ..rows import COLUMNS
from ..stubs import DROPS, STUB_ROW, digest_of
from . import ownership
from .connection import (
    SAFETY,
    Conn,
    Database,
    Values,
    is_lost,
    is_refusal,
    primary_message,
    refuse_changed,
    refuse_unsafe,
    roll_back,
)
from .reader import PostgresqlLogReader
from .reading import Reading
from .sweeping import Sweep
from .texts import escaped, escaped_row

_COLUMNS = ", ".join((*COLUMNS, "hash"))
COPY_EVENTS = f"COPY tasktrail.events ({_COLUMNS}) FROM STDIN"
_INSERT_EVENT = f"INSERT INTO tasktrail.events ({_COLUMNS}) VALUES ({', '.join(['%s'] * 15)})"  # noqa: S608 - our own names
COPY_ANSWERS = "COPY tasktrail.answers (command_id, digest, task_id, position, sum) FROM STDIN"
_INSERT_ANSWER = (
    "INSERT INTO tasktrail.answers (command_id, digest, task_id, position, sum) VALUES (%s, %s, %s, %s, %s)"
)
_NEWEST = "SELECT version, event = %s FROM tasktrail.events WHERE task_id = %s ORDER BY version DESC LIMIT 1"
_EPOCH = f"SELECT epoch, {SAFETY} FROM tasktrail.owner"  # noqa: S608 - our own words
_FENCE = f"{_EPOCH} FOR KEY SHARE"
"""A take-over changes the epoch. It waits for transactions that hold this lock, and they wait for it."""
_FEW = 8
"""Up to this many rows are sent quicker one by one than by COPY, which takes more round trips."""
_ANSWER = "SELECT command_id, digest, task_id, position, sum FROM tasktrail.answers WHERE command_id = %s"
_AT = "SELECT hash FROM tasktrail.events WHERE position = %s"
_PUT_STUBS = f"""
    UPDATE tasktrail.events SET event = '{STUB}', {", ".join(f"{name} = %s" for name in COLUMNS[5:])}
    WHERE position BETWEEN %s AND %s
"""  # noqa: S608 - our own names
_DROP_ANSWERS = """
    DELETE FROM tasktrail.answers USING tasktrail.events
    WHERE events.position BETWEEN %s AND %s
        AND answers.command_id = events.command_id AND answers.position = events.position
"""
"""By command id: there is no index on positions, and there may be a million answers."""


class PostgresqlEventLog(Reading):
    """The log whose address is in the file `place`, which lies in the data folder. Opening it takes the epoch.

    The keys of users stay in the data folder, so a replica or a backup of the database never has a destroyed key.
    """

    def __init__(
        self,
        place: Path,
        *,
        now: datetime,
        encrypted: bool = False,
        master: Path | None = None,
        accept_lost_keys: bool = False,
    ) -> None:
        """As `open_log`."""
        self.rebuilt: tuple[str, ...] = ()
        self._place = place
        self._database = Database(read_address(place))
        self._decrypt = Decryption(place)
        self._conn: Conn | None = self._database.connect("log", writes=True)
        self._heart: ownership.Heart | None = None
        self._mark: HeadMark | None = None
        self._head: Head | None = None
        self._durable: Head | None = None
        """The last end known to be on the disk: no later state of the log may lack it."""
        self._sweep: Sweep | None = None
        self._epoch = 0
        try:
            self._pid = ownership.prepare(self._conn, self._database.name)
            before = ownership.lock(self._conn, self._database.name)
            self._heart = ownership.Heart(self._database, before)
            self._check()
            self._epoch = self._heart.epoch = ownership.take(self._conn, self._database.name, os.getpid(), now)
            if not accept_lost_keys:
                self.refuse_lost_keys()
            self._encryption = self._prepare_keys(encrypted=encrypted, master=master)
            self._mark = HeadMark(place)
            self._note(super().head())
            self._sweep = Sweep(self._database, due=bool(self.drops()))
        except psycopg.Error as error:
            self.close()
            raise self._database.explained(error, "cannot be opened") from error
        except BaseException:  # Ctrl-C too: an open connection would keep the log locked
            self.close()
            raise

    def _check(self) -> None:
        """Refuse a damaged log, or one of a newer version. A long log is checked in full while the service runs."""
        reader = PostgresqlLogReader(self._place)
        try:
            is_long = reader.head().position > AT_ONCE
            for fault in reader.quick_faults() if is_long else reader.faults():
                where = f"position {fault.position}: " if fault.position else ""
                kind = LogTooNew if fault.code == "newer" else LogCorrupt
                raise kind(f"{self._database.name}: {where}{fault.message}")
        finally:
            reader.close()

    def _prepare_keys(self, *, encrypted: bool, master: Path | None) -> Encryption | None:
        """The encryption of new records; None for a log in which nothing is or was encrypted."""
        keys = self._decrypt.keys
        if not encrypted and not keys.exist():
            return None
        keys.make(master)
        return Encryption(self._key_of, keys, new=encrypted)

    @property
    def epoch(self) -> int:
        """The number of this ownership of the log; grows with every service that opens it."""
        return self._epoch

    def last_owned(self) -> float:
        """Seconds since the last heartbeat that found this service's epoch; see `EventLog.last_owned`."""
        return boot_seconds() - self._heart.beaten_at if self._heart is not None else inf

    # --- the connection -----------------------------------------------------------------------------------------

    def _owned(self) -> Conn:
        """A connection that owns the log. A lost one is replaced, once the old session is surely gone.

        Raises `Fenced` when a newer service has the log, and `LogGone` when the log lacks acknowledged records.
        """
        if self._conn is not None and not is_lost(self._conn):
            return self._conn
        if not self._epoch:
            raise LogUnreachable(f"The connection to {self._database.name} was lost while it was opened")
        self._head = None
        conn = self._database.connect("log", writes=True)
        try:
            pid = refuse_unsafe(conn, self._database.name)
            if not ownership.resume(conn, self._database.name, self._epoch):
                raise Fenced(f"A newer service has taken {self._database.name}")
            self._refuse_older(conn)
        except psycopg.Error as error:
            conn.close()
            raise self._database.explained(error, "cannot be written") from error
        except BaseException:
            conn.close()
            raise
        self._conn, self._pid = conn, pid
        return conn

    def _refuse_older(self, conn: Conn) -> None:
        """Raise `LogGone` if the log lost its end in a fail-over: going on would contradict acknowledged records."""
        known = self._durable
        if known is None or not known.position:
            return
        if conn.execute(_AT, (known.position,)).fetchall() != [(known.hash,)]:
            raise LogGone(
                f"{self._database.name} lacks position {known.position}, which was acknowledged",
                remedy="Check whether the server is a replica that had fallen behind; the next start says what is "
                "missing, and how to go on without it.",
            )

    def _fetch(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        conn = self._owned()
        try:
            return conn.execute(statement, values or None, binary=True).fetchall()
        except psycopg.Error as error:
            raise self._database.explained(error, "cannot be read") from error
        except UnicodeDecodeError as error:
            raise self._database.broken_text(error) from error

    def _note(self, head: Head) -> None:
        self._head = self._durable = head
        if self._mark is not None:
            self._mark.write(head)

    def head(self) -> Head:
        """The end of the log. Read anew after a failed commit, which may have happened all the same."""
        self._owned()
        if self._head is None:
            self._note(super().head())
        assert self._head is not None
        return self._head

    # --- appending ----------------------------------------------------------------------------------------------

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """All or nothing, on the server's disk on return; see `EventLog.append`."""
        head = self.head()
        if head.position != expected:
            raise ConcurrencyError("The log has grown", current=head.position, expected=expected)
        encryption = self._encryption
        rows, records = linked(facts, head, encryption)
        answers = answers if encryption is None else encryption.finish(answers)
        dropping = [record for record in records if isinstance(record.event, DROPS)]
        self._commit(rows, [_kept_answer(answer) for answer in answers], dropping)
        if records:
            self._note(Head(records[-1].position, records[-1].hash))
        if dropping and self._sweep is not None:
            self._sweep.due = True
        return records

    def _commit(self, rows: list[tuple[Any, ...]], answers: list[tuple[Any, ...]], dropping: list[Recorded]) -> None:
        conn = self._owned()
        try:
            if not rows and not answers:
                self._refuse_fenced(conn.execute(_FENCE).fetchone())
            elif len(rows) <= _FEW and len(answers) <= _FEW and not dropping:
                self._send_few(conn, rows, answers)
            else:
                self._send_many(conn, rows, answers, dropping)
        except BaseException as error:
            self._head = None
            roll_back(conn)
            if isinstance(error, psycopg.Error):
                if is_refusal(error):  # it would fail again
                    raise type(error)(primary_message(error)) from None
                raise self._database.explained(error, "could not be written") from error
            raise

    def _refuse_fenced(self, owner: tuple[Any, ...] | None) -> None:
        if owner is None:
            raise LogCorrupt(f"{self._database.name} does not say who owns it")
        epoch, *safety = owner
        if epoch != self._epoch:
            raise Fenced(f"A newer service has taken {self._database.name}")
        refuse_changed(self._database.name, self._pid, tuple(safety))

    def _send_few(self, conn: Conn, rows: Sequence[tuple[Any, ...]], answers: Sequence[tuple[Any, ...]]) -> None:
        """Send in two round trips: all rows, then the commit."""
        with conn.pipeline():
            conn.execute("BEGIN")
            fence = conn.execute(_FENCE)
            for row in rows:
                conn.execute(_INSERT_EVENT, escaped_row(row))
            for answer in answers:
                conn.execute(_INSERT_ANSWER, answer)
        self._refuse_fenced(fence.fetchone())
        conn.execute("COMMIT")

    def _send_many(
        self, conn: Conn, rows: list[tuple[Any, ...]], answers: list[tuple[Any, ...]], dropping: list[Recorded]
    ) -> None:
        begun = conn.execute(f"BEGIN; {_FENCE}")
        begun.nextset()
        self._refuse_fenced(begun.fetchone())
        for record in dropping:  # the schema allows stubs only while the record that drops is the last one
            ahead = record.position - rows[0][0] + 1
            copy_in(conn, COPY_EVENTS, map(escaped_row, rows[:ahead]))
            rows = rows[ahead:]
            self._put_stubs(conn, record)
        copy_in(conn, COPY_EVENTS, map(escaped_row, rows))
        copy_in(conn, COPY_ANSWERS, answers)
        conn.execute("COMMIT")

    def _put_stubs(self, conn: Conn, record: Recorded) -> None:
        event = record.event
        assert isinstance(event, DROPS)
        if digest_of(self._left_of(event.positions)) != event.stubs:
            raise LogCorrupt(
                f"{self._database.name}: the records to be dropped at {record.position} do not match its digest"
            )
        for span in spans_of(event.positions):
            conn.execute(_DROP_ANSWERS, span)
            conn.execute(_PUT_STUBS, (*STUB_ROW, *span))

    # --- the rest -----------------------------------------------------------------------------------------------

    def answer(self, command_id: str) -> Answer | None:
        """The answer to a command id, if the command was accepted before."""
        rows = self._fetch(_ANSWER, (escaped(command_id),))
        if not rows:
            return None
        _, digest, task_id, position, total = rows[0]
        if not is_as_written((command_id, digest, task_id, position), total):
            raise LogCorrupt(f"Position {position}: the answer to {command_id} is not as it was written")
        return Answer(command_id, opened_digest(digest, command_id, self._decrypt.keys), task_id, position)

    def is_newest(self, task_id: int, version: int) -> bool:
        """Whether the last record of a task has this version, and was not dropped."""
        return (version, False) in self._fetch(_NEWEST, (STUB, task_id))

    def belongings(self, user_id: int, known: Belongings = NOTHING_KNOWN) -> Belongings:
        """The personal data of a user; see `EventLog.belongings`."""
        return self._belongings(user_id, known)

    def destroy(self, keys: Collection[str]) -> None:
        """Destroy these keys of users for ever."""
        self._decrypt.keys.destroy(keys)

    def delete_archived(self, limit: int) -> int:  # noqa: ARG002 - as the protocol says
        """Nothing is archived."""
        return 0

    def maintain(self) -> None:
        """Between appends: check that the log is ours, and have PostgreSQL remove dropped rows.

        So a service that was replaced while it had nothing to record ends, too. Raises `Fenced`.
        """
        conn = self._owned()
        try:
            self._refuse_fenced(conn.execute(_EPOCH).fetchone())
        except psycopg.Error as error:
            raise self._database.explained(error, "cannot be read") from error
        if self._sweep is not None:
            self._sweep.begin_if_due()

    def close(self) -> None:
        """Let go of the log: another service may take it at once."""
        if self._sweep is not None:
            self._sweep.stop()
        if self._heart is not None:
            self._heart.stop()
        if self._mark is not None:
            self._mark.close()
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
        self._decrypt.close()


def _kept_answer(answer: Answer) -> tuple[Any, ...]:
    row = astuple(answer)
    return (escaped(answer.command_id), *row[1:], checksum(row))


def copy_in(conn: Conn, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Send rows by COPY. Raises `psycopg.Error`."""
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
