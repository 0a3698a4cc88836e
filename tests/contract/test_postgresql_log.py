"""The promises of a log on PostgreSQL beyond the contract: the same bytes as a file, and always one writer."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from abandoned_servers import USERS, end_abandoned_servers, server_lock
from histories import BEGIN, Journal, random_history, with_two_drops
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_questions import questions
from log_services import wait_for
from postgresql_server import connect, needs_postgresql, new_place, own_server, server_folder

from tasktrail.events import Answer, Created, Fact
from tasktrail.events.errors import (
    ConcurrencyError,
    ConfigurationError,
    DataInUse,
    Fenced,
    KeysUnreadable,
    LogCorrupt,
    LogGone,
    LogLocked,
    LogNotWritable,
    LogTooNew,
    LogUnreachable,
)
from tasktrail.events.log.address import NAME, check_address, read_address, write_address
from tasktrail.events.log.event_log import EventLog, already_appended
from tasktrail.events.log.opening import is_begun, open_log, read_log
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import ErasureFinished, ServiceStarted, UserErased
from tasktrail.events.task_events import is_erased
from tasktrail.projections.verification import verify

pytestmark = needs_postgresql
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def created(task_id: int, command_id: str = "") -> Fact:
    return Fact(task_id, 1, Created(type="noop"), NOW, "alice", command_id=command_id)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with new_place(tmp_path) as place:
        yield place


def opened(place: Path) -> EventLog:
    return open_log(place, now=NOW)


@pytest.fixture
def log(place: Path) -> Iterator[EventLog]:
    with closing(opened(place)) as log:
        yield log


def database(place: Path) -> str:
    return read_address(place).removeprefix("postgresql:///").partition("?")[0]


def run(place: Path, statement: str) -> list[Any]:
    """Run it in the log's database, as another user."""
    with connect(database(place)) as conn:
        cursor = conn.execute(statement)
        return cursor.fetchall() if cursor.description else []


def silence(place: Path) -> None:
    """Act as if the log's owner had sent no heartbeat for long."""
    run(place, "UPDATE tasktrail.owner SET beat = clock_timestamp() - interval '1 minute'")


# --- the same log as in a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_all_questions_are_answered_as_by_a_file(place: Path, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "log.db"
    with closing(opened(place)) as first, closing(SqliteEventLog(path, now=BEGIN)) as second:
        for log in (first, second):
            journal = Journal(log)
            random_history(journal, 300, seed=seed)
            journal.forget(*journal.over()[:3])
            journal.create()
    tasks = sorted(journal.states)
    with closing(read_log(place)) as one, closing(SqliteLogReader(path)) as other:
        asked = [questions(log, (5, len(journal.records) // 2), tasks) for log in (one, other)]
        for number, (mine, due) in enumerate(zip(*asked, strict=True)):
            assert mine == due, number
        assert list(one.faults()) == []
        found = verify(one)
        assert (found.findings, found.head, found.records) == ((), other.head().hash.hex(), len(journal.records))


def test_a_nul_in_a_text_survives(log: EventLog, place: Path) -> None:
    odd = "a\0b\x1b0c\x1b"
    answer = Answer(odd, b"d", 1, 1)
    fact = Fact(1, 1, Created(type="noop"), NOW, odd, odd, odd, odd, odd)
    [record] = log.append([fact], [answer], expected=0)
    assert list(log.read()) == [record]
    system = Fact(0, 1, ErasureFinished(erasure=1), NOW, odd, odd, odd, odd, odd)
    log.append([system], expected=1)
    assert list(log.read_to_fold(1)) == list(log.read(1))
    assert log.answer(odd) == answer
    with closing(read_log(place)) as reader:
        assert list(reader.faults()) == []
        assert next(reader.raw_rows())[5:10] == (odd,) * 5


# --- one writer ------------------------------------------------------------------------------------------------------


def test_a_log_that_a_living_service_has_is_refused(log: EventLog, place: Path) -> None:
    with pytest.raises(DataInUse, match="The service with pid"):
        opened(place)
    log.append([created(1)], expected=0)


@pytest.mark.slow
def test_a_service_that_has_lost_one_of_its_two_sessions_is_not_replaced(log: EventLog, place: Path) -> None:
    held = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database())"
    )
    with closing(import_module("tasktrail.events.log.postgresql.watch").OwnerWatch(place)) as watch:
        for session in ("log", "heart"):
            while run(place, held) != [(2,)]:
                pass
            run(
                place,
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                f"WHERE datname = current_database() AND application_name = 'tasktrail {session}'",
            )
            assert not watch.is_free()
            with pytest.raises(DataInUse):
                opened(place)
            with suppress(LogUnreachable):
                log.append([], expected=0)
            log.append([], expected=0)


def test_a_look_that_the_server_keeps_waiting_finds_no_free_log_and_the_next_one_looks_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(place).close()
    watch = import_module("tasktrail.events.log.postgresql.watch")
    monkeypatch.setattr(watch, "_LOOK_WITHIN", 0.05)
    with database_set(place, "lock_timeout", "7"), closing(watch.OwnerWatch(place)) as looks:
        with connect(database(place)) as other, other.transaction():
            other.execute("LOCK TABLE tasktrail.owner")
            assert not looks.is_free()
        monkeypatch.undo()
        assert looks.is_free()
        assert looks._conn.execute("SHOW lock_timeout").fetchall() == [("0",)]


def test_of_two_starts_after_a_long_silence_one_gets_the_log_and_is_left_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(place).close()
    silence(place)
    ownership = import_module("tasktrail.events.log.postgresql.ownership")
    has_lock = ownership._has_lock
    others = list[threading.Thread]()
    refused = list[BaseException]()

    def start() -> None:
        try:
            opened(place)
        except DataInUse as error:
            refused.append(error)

    def locked(conn: Any) -> bool:
        got: bool = has_lock(conn)
        if got and not others:  # the other one comes before the first beat
            others.append(threading.Thread(target=start))
            others[0].start()
            while not run(
                place,
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory%' "
                "AND state = 'idle' AND datname = current_database() OFFSET 1",
            ):
                pass
        return got

    monkeypatch.setattr(ownership, "_has_lock", locked)
    with closing(opened(place)) as log:
        others[0].join(60)
        log.append([created(1)], expected=0)
    assert len(refused) == 1


def test_a_service_whose_heart_has_stopped_is_replaced_and_appends_nothing_more(log: EventLog, place: Path) -> None:
    log.append([created(1)], expected=0)
    log._heart.stop()  # type: ignore[attr-defined]
    silence(place)
    with closing(opened(place)) as newer:
        assert newer.epoch == log.epoch + 1
        with pytest.raises(LogUnreachable):  # its session was ended; at first it is unknown whether it appended
            log.append([created(2)], expected=1)
        with pytest.raises(Fenced):
            log.append([created(2)], expected=1)
        with pytest.raises(Fenced):
            log.append([], expected=1)  # orders alone
        newer.append([created(2)], expected=1)


def test_a_service_is_sure_of_its_log_as_long_as_its_heart_finds_its_epoch(log: EventLog, place: Path) -> None:
    heart = log._heart  # type: ignore[attr-defined]
    heart.stop()
    heart._beat()
    assert 0 <= log.last_owned() < 60
    run(place, "UPDATE tasktrail.owner SET epoch = epoch + 1")

    heart._beat()

    assert log.last_owned() == math.inf


def test_the_epoch_alone_fences_a_service_that_still_has_its_session(log: EventLog, place: Path) -> None:
    log.append([created(1)], expected=0)
    log.maintain()
    run(place, "UPDATE tasktrail.owner SET epoch = epoch + 1")
    with pytest.raises(Fenced):
        log.maintain()
    for facts in ([created(2)], [created(number) for number in range(2, 40)], []):
        with pytest.raises(Fenced):
            log.append(facts, expected=1)
    assert run(place, "SELECT count(*) FROM tasktrail.events") == [(1,)]


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["append", "append", "many", "take over"]))))
def test_of_two_writers_one_wins_each_position_and_there_are_no_gaps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    with ExitStack() as stack:
        place = stack.enter_context(new_place(tmp_path_factory.mktemp("log")))
        writers = [stack.enter_context(closing(opened(place)))]
        owner, won, tasks = 0, list[int](), count(1)
        for number, step in [(1, "take over"), *steps]:
            if step == "take over":
                writers[owner]._heart.stop()  # type: ignore[attr-defined]
                silence(place)
                writers.append(stack.enter_context(closing(opened(place))))
                owner = len(writers) - 1
                continue
            which = owner if number else owner - 1
            facts = [created(next(tasks)) for _ in range(20 if step == "many" else 1)]
            try:
                won += [one.task_id for one in writers[which].append(facts, expected=len(won))]
            except (Fenced, ConcurrencyError, LogUnreachable):
                assert which != owner
            else:
                assert which == owner
        records = list(writers[owner].read())
        assert [record.task_id for record in records] == won
        assert [record.position for record in records] == list(range(1, len(won) + 1))


def test_what_is_written_behind_the_writers_back_is_a_conflict(log: EventLog, place: Path) -> None:
    run(place, "INSERT INTO tasktrail.events SELECT 1, 9, 1, 'x', '', '', '', '', '', '', 0, 0, 0, '{}', ''")
    with pytest.raises(ConcurrencyError):
        log.append([created(1)], expected=0)
    assert run(place, "SELECT task_id FROM tasktrail.events") == [(9,)]


def test_who_reads_beside_appends_misses_nothing(log: EventLog, place: Path) -> None:
    most, seen = 400, list[int]()

    def follow() -> None:
        with closing(read_log(place)) as reader:
            while len(seen) < most:
                seen.extend(record.position for record in reader.read(len(seen)))

    reading = threading.Thread(target=follow)
    reading.start()
    done = 0
    for size in [1, 3, 16] * 40:
        size = min(size, most - done)  # noqa: PLW2901 - the last ones
        log.append([created(number) for number in range(done + 1, done + size + 1)], expected=done)
        done += size
    reading.join(60)
    assert seen == list(range(1, most + 1))


# --- what was dropped ------------------------------------------------------------------------------------------------


def swept(place: Path) -> int:
    counted = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relid = 'tasktrail.events'::regclass"
    return int(run(place, counted)[0][0])


def until_swept(log: EventLog) -> None:
    log._sweep.thread.join(60)  # type: ignore[attr-defined]


def test_what_was_dropped_is_swept_also_when_a_kill_came_before(place: Path) -> None:
    with closing(opened(place)) as log:
        journal = Journal(log)
        random_history(journal, 100, seed=1)
        log.maintain()
        assert log._sweep.thread is None  # type: ignore[attr-defined]
        journal.forget(*journal.over()[:2])
    assert swept(place) == 0
    with closing(opened(place)) as log:
        log.maintain()
        until_swept(log)
        assert swept(place) == 1
        log.maintain()
        journal.log = log
        journal.forget(*journal.over()[:1])
        log.maintain()
        until_swept(log)
        assert swept(place) == 2


def test_no_append_waits_for_a_sweep_and_one_that_was_cut_off_is_done_again(place: Path) -> None:
    with closing(opened(place)) as log:
        journal = Journal(log)
        random_history(journal, 100, seed=1)
        journal.forget(*journal.over()[:2])
        with connect(database(place)) as other:
            other.execute("BEGIN; LOCK TABLE tasktrail.events IN SHARE UPDATE EXCLUSIVE MODE")
            log.maintain()
            journal.create()
            while not other.execute("SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted").fetchall():
                pass
            until_swept(log)
        with pytest.raises(LogLocked):
            log.maintain()
        log.maintain()
        until_swept(log)
        assert swept(place) == 1


# --- lost connections ------------------------------------------------------------------------------------------------


class Proxy:
    """Stands between a log and its server, and cuts the connection at the COMMIT when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.cut = ""
        """`before`: the server does not get it; `after`: the reply is swallowed."""
        self.cuts = 0
        self._name = ".s.PGSQL.5432"
        self._threads = list[threading.Thread]()
        self._ends = list[socket.socket]()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / self._name))
        self._listening.listen()
        self._begin(self._accept)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(server_folder() / self._name))
                self._ends += [client, server]
                self._begin(self._pass_on, client, server, "before")
                self._begin(self._pass_on, server, client, "after")

    def _pass_on(self, source: socket.socket, target: socket.socket, when: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.cut == when and b"COMMIT\0" in data:
                    self.cut, self.cuts = "", self.cuts + 1
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (*self._ends, self._listening):
            end.close()


@contextmanager
def behind_a_proxy(place: Path, folder: Path) -> Iterator[tuple[Path, Proxy]]:
    with closing(Proxy(folder)) as proxy:
        write_address(folder / NAME, f"postgresql:///{database(place)}?host={folder}&user=postgres")
        yield folder / NAME, proxy


@pytest.mark.parametrize("number", [1, 50])
@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
def test_a_connection_lost_during_commit_loses_and_repeats_nothing(
    place: Path, tmp_path_factory: pytest.TempPathFactory, when: str, number: int, *, there: bool
) -> None:
    folder = tmp_path_factory.mktemp("x")
    with behind_a_proxy(place, folder) as (through, proxy), closing(opened(through)) as log:
        log.append([created(1)], expected=0)
        proxy.cut = when
        facts = [created(task_id) for task_id in range(2, number + 2)]
        with pytest.raises(LogUnreachable):
            log.append(facts, expected=1)
        assert proxy.cuts == 1
        records = already_appended(log, facts, 1)
        assert (records is not None) == there
        if records is None:
            records = log.append(facts, expected=1)
        assert [one.task_id for one in log.read()] == list(range(1, number + 2))
        log.append([created(900)], expected=number + 1)
        with closing(read_log(place)) as reader:
            assert list(reader.faults()) == []


def test_a_service_whose_session_was_ended_goes_on(log: EventLog, place: Path) -> None:
    log.append([created(1)], expected=0)
    with closing(read_log(place)) as reader:
        assert reader.head().position == 1
        run(
            place,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        with pytest.raises(LogUnreachable):
            log.append([created(2)], expected=1)
        assert log.append([created(2)], expected=1)[0].position == 2
        assert reader.head().position == 2


def test_what_is_read_in_one_go_is_of_one_connection_which_the_next_server_may_not_be(
    log: EventLog, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.events.log.postgresql.reading.PAGE", 1)
    log.append([created(1), created(2)], expected=0)
    with closing(read_log(place)) as reader:
        records = reader.read()
        assert next(records).position == 1
        run(
            place,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        with pytest.raises(LogUnreachable, match="lost after position 1, in the middle of reading"):
            next(records)
        assert [one.position for one in reader.read()] == [1, 2]


def test_a_log_that_has_lost_its_end_in_a_fail_over_is_not_written(log: EventLog, place: Path) -> None:
    log.append([created(1), created(2)], expected=0)
    run(
        place,
        "ALTER TABLE tasktrail.events DISABLE TRIGGER ALL; DELETE FROM tasktrail.events WHERE position = 2;"
        "ALTER TABLE tasktrail.events ENABLE TRIGGER ALL; SELECT pg_terminate_backend(pid, 5000) "
        "FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()",
    )
    with suppress(LogUnreachable):
        log.append([created(3)], expected=2)
    with pytest.raises(LogGone, match="lacks position 2, which was acknowledged"):
        log.head()


def test_a_replica_that_does_not_know_of_the_service_is_not_taken_for_one_with_a_newer(
    log: EventLog, place: Path
) -> None:
    run(
        place,
        "UPDATE tasktrail.owner SET epoch = 0; SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid != pg_backend_pid()",
    )
    with suppress(LogUnreachable):
        log.append([created(1)], expected=0)
    with pytest.raises(LogGone, match="epoch 1, and the last known epoch is 0"):
        log.head()


# --- what is refused -------------------------------------------------------------------------------------------------


def test_records_cannot_be_changed_or_deleted(log: EventLog, place: Path) -> None:
    log.append([created(1)], expected=0)
    for statement in ("UPDATE tasktrail.events SET actor = ''", "DELETE FROM tasktrail.events"):
        with pytest.raises(Exception, match="append-only"):
            run(place, statement)
    with pytest.raises(Exception, match="append-only"):
        run(place, "TRUNCATE tasktrail.events")


OTHER_TRIGGER = """
    CREATE OR REPLACE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE ON tasktrail.events
    FOR EACH ROW WHEN (OLD.position < 0) EXECUTE FUNCTION tasktrail.refuse_change()
"""
OTHER_INDEX = """
    DROP INDEX tasktrail.one_end_a_life;
    CREATE UNIQUE INDEX one_end_a_life ON tasktrail.events (task_id, life, version)
"""
OTHER_ROWS = """
    DROP INDEX tasktrail.one_end_a_life;
    CREATE UNIQUE INDEX one_end_a_life ON tasktrail.events (task_id, life) WHERE terminal = 2
"""
OTHER_EXPRESSION = """
    DROP INDEX tasktrail.adjustments;
    CREATE INDEX adjustments ON tasktrail.events ((length(data))) WHERE event = 'adjusted'
"""


SLY_TRIGGER = """
    CREATE FUNCTION tasktrail.keep_none() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER sly BEFORE INSERT ON tasktrail.answers FOR EACH ROW EXECUTE FUNCTION tasktrail.keep_none()
"""

FOREIGN_KEY = """
    CREATE TABLE tasktrail.sly (id BIGINT PRIMARY KEY);
    INSERT INTO tasktrail.sly VALUES (1);
    ALTER TABLE tasktrail.answers ADD FOREIGN KEY (task_id) REFERENCES tasktrail.sly ON DELETE CASCADE
"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TRIGGER events_are_not_changed ON tasktrail.events", "events_are_not_changed is missing"),
        ("ALTER TABLE tasktrail.events DISABLE TRIGGER events_are_not_cut", "switched off"),
        (
            OTHER_TRIGGER,
            "events_are_not_changed is missing, switched off, or not as it was made",
        ),
        ("ALTER TABLE tasktrail.events SET UNLOGGED", "table events is not logged"),
        (
            OTHER_INDEX,
            "index one_end_a_life is missing, invalid, or not as it was made",
        ),
        (OTHER_ROWS, "index one_end_a_life is missing, invalid, or not as it was made"),
        (OTHER_EXPRESSION, "index adjustments is missing, invalid, or not as it was made"),
        ("DROP INDEX tasktrail.one_version_once", "index one_version_once is missing"),
        (SLY_TRIGGER, "trigger sly of table answers does not belong there"),
        (
            "CREATE RULE sly AS ON INSERT TO tasktrail.answers DO INSTEAD NOTHING",
            "rule sly of table answers does not belong there",
        ),
        (
            "ALTER TABLE tasktrail.events ENABLE ROW LEVEL SECURITY",
            "row-level security of table events is switched on: rows may be hidden",
        ),
        (
            "CREATE TABLE tasktrail.more () INHERITS (tasktrail.answers)",
            "table tasktrail.more inherits from table answers: its rows are read as well",
        ),
        (FOREIGN_KEY, "answers refers to table tasktrail.sly: its rows may be changed or deleted with those"),
        (
            "UPDATE tasktrail.migrations SET number = 7",
            r"the migrations that were applied have the numbers \[7\], not \[1\]",
        ),
        ("UPDATE tasktrail.epochs SET pid = 9", "epoch 1 is not as it was written"),
        ("UPDATE tasktrail.owner SET epoch = 7", r"the owner is \[7\], and the last known epoch is 1"),
        ("UPDATE tasktrail.answers SET task_id = 2", "the answer to c1 is not as it was written"),
        ("DELETE FROM tasktrail.answers", "the answer to c1 is missing"),
        (
            "INSERT INTO tasktrail.answers SELECT '', digest, task_id, position, sum FROM tasktrail.answers",
            "position 1: an answer names no command",
        ),
        (
            "SET session_replication_role = replica; UPDATE tasktrail.events SET actor = 'eve'",
            "position 1: the record or one before it was changed",
        ),
    ],
)
def test_what_was_changed_behind_the_log_is_found_at_the_start(place: Path, statement: str, said: str) -> None:
    with closing(opened(place)) as log:
        log.append([created(1, "c1")], [Answer("c1", b"d", 1, 1)], expected=0)
    run(place, statement)
    with pytest.raises(LogCorrupt, match=said):
        opened(place)
    with closing(read_log(place)) as reader:
        assert len(list(reader.faults())) == 1


def test_a_setting_of_the_function_that_refuses_changes_is_found(place: Path) -> None:
    """With another search path, its `=` may be someone else's."""
    opened(place).close()
    run(place, "ALTER FUNCTION tasktrail.refuse_change() SET search_path = public, pg_catalog")
    with closing(read_log(place)) as reader:
        assert [fault.message.split(" is ")[0] for fault in reader.faults()] == [
            "trigger events_are_not_changed",
            "trigger events_are_not_cut",
        ]


# --- what a damaged or altered database answers ----------------------------------------------------------------------

NO_CHECKS = """
    SET session_replication_role = replica;
    ALTER TABLE tasktrail.events DROP CONSTRAINT events_pkey, DROP CONSTRAINT events_position_check;
    ALTER TABLE tasktrail.events ALTER position DROP NOT NULL, ALTER actor DROP NOT NULL, ALTER data DROP NOT NULL;
"""


NO_NUMBER = """
    ALTER TABLE tasktrail.events ALTER position TYPE numeric;
    UPDATE tasktrail.events SET position = 'NaN' WHERE position = 4
"""


def put_broken_text(place: Path, statement: str) -> None:
    """Use `{0}` for a text that is not UTF-8, which the server does not check again."""
    run(
        place,
        f"""SET session_replication_role = replica; CREATE CAST (bytea AS text) WITHOUT FUNCTION;
        {statement.format("decode('c3', 'hex')::text")}; DROP CAST (bytea AS text)""",
    )


def behind_the_index(place: Path, table: str, statement: str) -> None:
    """Change rows without changing an index: a reader that uses an index finds other values than it says."""
    hears = f"UPDATE pg_index SET indislive = {{0}}, indisready = {{0}} WHERE indrelid = 'tasktrail.{table}'::regclass"
    with connect(database(place)) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(hears.format("false"))
        conn.execute(statement)
        conn.execute(hears.format("true"))
        for way in ("seqscan", "sort", "bitmapscan"):
            conn.execute(f"ALTER DATABASE {database(place)} SET enable_{way} = off")


@pytest.fixture
def known(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a log with some records and answers, read in pages of two."""
    for module in ("reader", "reading"):
        monkeypatch.setattr(f"tasktrail.events.log.postgresql.{module}.PAGE", 2)
    monkeypatch.setattr("tasktrail.events.log.postgresql.reader._FEW", 2)
    with closing(opened(place)) as log:
        journal = Journal(log)
        for number in range(1, 7):
            journal.create(command_id=f"c{number}")
    yield place
    for way in ("seqscan", "sort", "bitmapscan"):
        run(place, f"ALTER DATABASE {database(place)} RESET enable_{way}")


def found_in(place: Path) -> list[tuple[int, str, str]]:
    """Return the findings of `verify`, which the check of the log at a start finds as well."""
    with closing(read_log(place)) as reader:
        findings = verify(reader).findings
        assert bool(findings) == bool(list(reader.faults()))
        return [(one.position, one.code, one.message) for one in findings]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("statement", "at"),
    [
        ("UPDATE tasktrail.events SET position = 1 WHERE position = 4", 4),
        ("UPDATE tasktrail.events SET position = 1", 2),
        ("UPDATE tasktrail.events SET position = 9000 WHERE position = 4", 4),
    ],
)
def test_a_check_ends_where_an_index_leads_back_again_and_again(known: Path, statement: str, at: int) -> None:
    behind_the_index(known, "events", statement)
    assert (at, "gap") in {(position, code) for position, code, _ in found_in(known)} | {
        (position, "gap") for position, _, message in found_in(known) if "where a later one is due" in message
    }
    with closing(read_log(known)) as reader, pytest.raises(LogCorrupt, match=f"Position {at} of the log is missing"):
        list(reader.read())


@pytest.mark.timeout(60)
def test_a_check_of_answers_ends_where_an_index_leads_back_again_and_again(known: Path) -> None:
    behind_the_index(known, "answers", "UPDATE tasktrail.answers SET command_id = 'a'")
    assert {code for _, code, _ in found_in(known)} == {"answer"}
    with closing(read_log(known)) as reader, pytest.raises(LogCorrupt, match="do not stand in the order"):
        list(reader.answered())


@pytest.mark.timeout(60)
def test_the_first_record_of_a_command_is_not_looked_for_without_end(known: Path) -> None:
    behind_the_index(known, "events", "UPDATE tasktrail.events SET position = 9, command_id = 'c' WHERE position > 1")
    with closing(read_log(known)) as reader, pytest.raises(LogCorrupt, match="do not stand in the order"):
        reader.first_of("c", 6)


@pytest.mark.timeout(60)
def test_a_check_ends_where_a_record_far_behind_the_end_cannot_be_read(known: Path) -> None:
    put_broken_text(
        known,
        f"""INSERT INTO tasktrail.events SELECT {2**62}, 99, 1, event, recorded_at, {{0}}, reason, command_id,
        correlation_id, causation_id, attempt, life, terminal, data, hash FROM tasktrail.events WHERE position = 6""",
    )
    assert (2**62, "unreadable") in [one[:2] for one in found_in(known)]


@pytest.mark.parametrize("column", ["actor", "data", "event", "recorded_at", "command_id"])
def test_a_text_that_is_none_is_found_and_refused(known: Path, column: str) -> None:
    put_broken_text(known, f"UPDATE tasktrail.events SET {column} = {{0}} WHERE position = 4")
    first = found_in(known)[0]
    assert first[:2] == (4, "unreadable")
    assert "no UTF-8" in first[2]
    with closing(read_log(known)) as reader, pytest.raises(LogCorrupt, match="no UTF-8"):
        list(reader.read())
    with pytest.raises(LogCorrupt, match="no UTF-8"):
        opened(known)


def test_a_service_that_reads_a_text_that_is_none_says_so(known: Path) -> None:
    with closing(opened(known)) as log:
        put_broken_text(known, "UPDATE tasktrail.events SET actor = {0} WHERE position = 4")
        with pytest.raises(LogCorrupt, match="no UTF-8"):
            list(log.read())


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE tasktrail.events SET actor = NULL WHERE position = 4", (4, "unreadable")),
        ("UPDATE tasktrail.events SET data = NULL WHERE position = 4", (4, "unreadable")),
        ("UPDATE tasktrail.events SET position = NULL WHERE position = 4", (4, "gap")),
        ("UPDATE tasktrail.events SET position = NULL WHERE position = 6", (0, "file")),
        ("UPDATE tasktrail.events SET position = -1 WHERE position = 6", (0, "file")),
        (NO_NUMBER, (0, "unreadable")),
        ("ALTER TABLE tasktrail.events ALTER hash TYPE text USING 'x'", (1, "unreadable")),
        ("ALTER TABLE tasktrail.events RENAME hash TO h", (1, "unreadable")),
        ("ALTER TABLE tasktrail.events RENAME position TO p", (1, "unreadable")),
        ("DROP TABLE tasktrail.events", (1, "unreadable")),
    ],
)  # fmt: skip
def test_tables_that_may_hold_what_no_log_holds_are_checked_and_not_read(
    known: Path, statement: str, found: tuple[int, str]
) -> None:
    run(known, NO_CHECKS + statement)
    said = found_in(known)
    assert (0, "schema") in [one[:2] for one in said]
    assert found in [one[:2] for one in said]
    with closing(read_log(known)) as reader:
        for question in (reader.head, lambda: list(reader.read()), lambda: list(reader.read_to_fold())):
            with pytest.raises(LogCorrupt, match="missing"):
                question()
    with pytest.raises(LogCorrupt):
        opened(known)


@pytest.mark.parametrize("others", ["", ", tasktrail.events", ", tasktrail.answers, tasktrail.owner"])
def test_a_log_without_the_table_of_its_migrations_is_not_taken_for_none(known: Path, others: str) -> None:
    """Readers said that there was no log, and to begin one; a service asked to send its command again."""
    run(known, f"DROP TABLE tasktrail.migrations{others}")
    for use in (read_log, opened, is_begun):
        with pytest.raises(LogCorrupt, match=r"tasktrail\.migrations is missing") as refused:
            use(known)
        assert refused.value.advice == "Restore the database from its backup."
    run(known, "DROP SCHEMA tasktrail CASCADE")
    assert not is_begun(known)


@pytest.fixture
def with_stubs(place: Path) -> Path:
    """Make a log in which some tasks were forgotten."""
    with closing(opened(place)) as log:
        journal = Journal(log)
        random_history(journal, 60, seed=5)
        journal.forget(*journal.over()[:4])
    return place


@pytest.mark.parametrize("table", ["answers", "epochs", "owner"])
def test_a_table_that_is_gone_is_one_finding_and_stubs_are_still_explained(with_stubs: Path, table: str) -> None:
    with closing(read_log(with_stubs)) as reader:
        head = reader.head()
    run(with_stubs, f"DROP TABLE tasktrail.{table}")
    assert found_in(with_stubs) == [(0, "schema", f"table {table} is missing")]
    with closing(read_log(with_stubs)) as reader:
        assert reader.head() == head, "what is in the other tables can be read"
        if table == "answers":
            with pytest.raises(LogCorrupt, match="table answers is missing"):
                list(reader.answered())


def test_a_column_that_is_not_as_it_was_made_does_not_leave_stubs_without_explanation(with_stubs: Path) -> None:
    run(with_stubs, "ALTER TABLE tasktrail.events ALTER actor DROP NOT NULL")
    said = found_in(with_stubs)
    assert said[0] == (0, "schema", "column actor of table events is missing, or not as it was made")
    assert "stub" not in {code for _, code, _ in said}


def test_the_stubs_of_other_drops_are_checked_beside_a_drop_that_is_no_text(place: Path) -> None:
    with closing(opened(place)) as log:
        (_first, broken), (second, _at) = with_two_drops(Journal(log))
        stub = next(one.position for one in log.read() if one.task_id == second)
    put_broken_text(place, f"UPDATE tasktrail.events SET data = {{0}} WHERE position = {broken}")
    assert [one[:2] for one in found_in(place)] == [(broken, "unreadable")]
    change = f"UPDATE tasktrail.events SET hash = 'x' WHERE position = {stub}"
    run(place, f"SET session_replication_role = replica; {change}")
    left = f"it is not the stub that the record at {broken + 1} has left here"
    assert (stub, "stub", left) in found_in(place)


def test_tables_that_were_emptied_are_one_finding_each(known: Path) -> None:
    run(known, "SET session_replication_role = replica; DELETE FROM tasktrail.events")
    message = "the table events is empty, and 6 answers point at later records, the last at 6"
    assert found_in(known) == [(1, "answer", message)]
    with pytest.raises(LogCorrupt, match="position 1: the answer to c1 points at a position where there is no record"):
        opened(known)


def test_answers_of_which_many_are_gone_are_one_finding(known: Path) -> None:
    run(known, "DELETE FROM tasktrail.answers WHERE position % 2 = 0")
    [(position, code, message)] = found_in(known)
    assert (position, code) == (2, "answer")
    assert message.startswith("3 commands, first c2, have led to records, and their answers are missing")


def test_an_epoch_of_other_types_is_not_as_it_was_written(known: Path) -> None:
    run(known, "ALTER TABLE tasktrail.epochs ALTER started_at TYPE timestamptz USING started_at::timestamptz")
    assert (0, "epoch", "epoch 1 is not as it was written") in found_in(known)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("table", ["events", "answers", "epochs", "owner", "migrations"])
def test_what_stands_in_the_place_of_a_table_is_not_asked(known: Path, table: str) -> None:
    run(
        known,
        f"""ALTER TABLE tasktrail.{table} RENAME TO kept; CREATE VIEW tasktrail.{table} AS
        WITH RECURSIVE c (x) AS (SELECT 1::bigint UNION ALL SELECT x + 1 FROM c)
        SELECT kept.* FROM c, tasktrail.kept WHERE x < 0""",
    )
    for look in (read_log, opened):
        with pytest.raises(LogCorrupt, match=rf"tasktrail\.{table} is not a table"):
            look(known)


def test_tables_and_references_of_others_are_no_fault(place: Path) -> None:
    """A reference has triggers of its own, which PostgreSQL makes."""
    opened(place).close()
    run(place, "CREATE TABLE tasktrail.notes (position BIGINT REFERENCES tasktrail.events (position), note TEXT)")
    opened(place).close()
    assert found_in(place) == []


@pytest.mark.parametrize("beat", ["infinity", "-infinity", "290000-01-01", "0001-01-01 BC"])
def test_a_heartbeat_that_is_no_time_of_a_clock_keeps_nobody_from_the_log(place: Path, beat: str) -> None:
    opened(place).close()
    run(place, f"UPDATE tasktrail.owner SET beat = '{beat}'")
    with closing(import_module("tasktrail.events.log.postgresql.watch").OwnerWatch(place)) as watch:
        assert watch.is_free()
    assert found_in(place) == []
    opened(place).close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("beat", ["infinity", "2099-01-01"])
def test_a_living_service_is_met_although_its_heartbeat_goes_back(log: EventLog, place: Path, beat: str) -> None:
    """As after the clock of the server was set back: a start waited until the clock had caught up."""
    run(place, f"UPDATE tasktrail.owner SET beat = '{beat}'")
    with pytest.raises(DataInUse, match="The service with pid"):
        opened(place)
    log.append([created(1)], expected=0)


def test_a_function_that_lets_changes_pass_is_found(place: Path) -> None:
    opened(place).close()
    run(
        place,
        "CREATE OR REPLACE FUNCTION tasktrail.refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN NEW; END'",
    )
    with pytest.raises(LogCorrupt, match="the log can be changed"):
        opened(place)


def test_a_log_of_a_newer_version_is_refused(place: Path) -> None:
    opened(place).close()
    run(place, "INSERT INTO tasktrail.migrations VALUES (2, 'split_log')")
    with pytest.raises(LogTooNew, match="split_log"):
        opened(place)


@pytest.mark.parametrize("at_once", [0, 20_000])
def test_a_log_that_a_newer_version_has_written_is_refused_however_long_it_is(
    place: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.events.log.postgresql.log.AT_ONCE", at_once)
    forms = {"progressed": {"speed": "float"}}
    start = ServiceStarted(version="9.0", epoch=1, pid=1, host="here", schema="f" * 16, forms=forms)
    with closing(opened(place)) as log:
        log.append([Fact(0, 1, start, NOW)], expected=0)
    with pytest.raises(LogTooNew, match=r"tasktrail 9\.0 has worked on this log"):
        opened(place)


def test_a_database_without_a_log_is_not_read(place: Path) -> None:
    with pytest.raises(LogCorrupt, match="holds no log"):
        read_log(place)


def test_a_server_that_is_not_there_is_told_without_its_parameters(tmp_path: Path) -> None:
    write_address(tmp_path / NAME, f"postgresql:///x?host={tmp_path}")
    attempts: tuple[Callable[[Path], Any], ...] = (opened, read_log)
    for attempt in attempts:
        with pytest.raises(LogUnreachable, match="postgresql:///x cannot be reached"):
            attempt(tmp_path / NAME)


def test_a_server_that_takes_no_writes_is_told_from_one_that_does_not_answer(place: Path) -> None:
    opened(place).close()
    run(place, f"ALTER DATABASE {database(place)} SET default_transaction_read_only = on")
    try:
        with pytest.raises(LogUnreachable, match="read-only") as refused:
            opened(place)
        with closing(read_log(place)) as reader:
            assert list(reader.faults()) == []
    finally:
        with connect() as conn:
            conn.execute(f"ALTER DATABASE {database(place)} RESET ALL")
    assert refused.value.advice.startswith("The server answers and takes no writes")
    opened(place).close()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("?passwort=secret", "does not understand the address"),
        ("?secret", "does not understand the address"),
        ("?sslmode=%zzsecret", "does not understand the address"),
        ("?connect_timeout=soon", "bad value for connect_timeout: 'soon'"),
    ],
)
def test_an_address_that_its_client_library_does_not_understand_is_to_be_mended(
    tmp_path: Path, parameters: str, said: str
) -> None:
    """It was taken for a commit with an unknown outcome: to be sent again."""
    write_address(tmp_path / NAME, f"postgresql:///x{parameters}")
    attempts: tuple[Callable[[Path], Any], ...] = (opened, read_log)
    for attempt in attempts:
        with pytest.raises(ConfigurationError, match=f"^postgresql:///x .*{said}") as refused:
            attempt(tmp_path / NAME)
        assert "secret" not in str(refused.value)
        assert refused.value.field == "log"
        assert refused.value.advice.startswith("Write it as `postgresql://USER@HOST:PORT/DATABASE?NAME=VALUE`")


@contextmanager
def database_set(place: Path, name: str, value: str) -> Iterator[None]:
    run(place, f"ALTER DATABASE {database(place)} SET {name} = {value}")
    try:
        yield
    finally:
        run(place, f"ALTER DATABASE {database(place)} RESET ALL")


@pytest.mark.parametrize(("before", "used"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")])
def test_a_commit_is_on_the_disk_whatever_is_set_for_the_database_or_later(place: Path, before: str, used: str) -> None:
    with database_set(place, "synchronous_commit", before), closing(opened(place)) as log:
        assert log._fetch("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'") == [  # type: ignore[attr-defined]
            (used, "session")  # so what is reloaded does not change it
        ]


def test_a_server_that_does_not_fsync_any_more_is_not_written_to(
    log: EventLog, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        told = import_module("tasktrail.events.log.postgresql.connection").SAFETY.replace(
            "current_setting('fsync')", "'off'"
        )
        patch.setattr("tasktrail.events.log.postgresql.log._FENCE", f"SELECT 1, {told} FROM tasktrail.owner")
        for number in (1, 40):
            with pytest.raises(LogNotWritable, match="runs with fsync off"):
                log.append([created(task_id) for task_id in range(1, number + 1)], expected=0)
    assert run(place, "SELECT count(*) FROM tasktrail.events") == [(0,)]
    log.append([created(1)], expected=0)


def test_a_pooler_that_changes_the_session_is_not_written_through(log: EventLog) -> None:
    log._pid = 1  # type: ignore[attr-defined]
    with pytest.raises(LogNotWritable, match="a pooler"):
        log.append([created(1)], expected=0)
    with pytest.raises(LogNotWritable, match="a pooler"):
        log.maintain()


def test_nobody_asks_a_replica(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    psycopg = import_module("psycopg")
    connection = import_module("tasktrail.events.log.postgresql.connection")
    asked = list[str]()

    def connected(told: str, **_: object) -> Any:
        asked.append(told.partition("target_session_attrs=")[2].split()[0])
        raise psycopg.OperationalError

    address = f"{read_address(place)}&target_session_attrs=any"
    for writes in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr("psycopg.connect", connected)
            with pytest.raises(LogUnreachable):
                connection.Database(address).connect("x", writes=writes)
    assert asked == ["primary", "read-write"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_encoding", "'LATIN1'"),
        ("DateStyle", "'SQL, DMY'"),
        ("statement_timeout", "7"),
    ],
)
def test_what_is_set_for_the_database_changes_nothing(place: Path, name: str, value: str) -> None:
    with database_set(place, name, value), closing(opened(place)) as log:
        log.append([created(1, "\u4efb")], expected=0)
        with closing(read_log(place)) as reader:
            assert next(reader.read()).command_id == "\u4efb"
        assert log._fetch("SELECT pg_sleep(0.02)::text")  # type: ignore[attr-defined]
        with pytest.raises(DataInUse):
            opened(place)


def test_what_the_server_refuses_is_told_without_values_and_is_no_trouble_that_passes(
    log: EventLog, place: Path
) -> None:
    run(place, "ALTER TABLE tasktrail.events ADD CHECK (actor != 'hush')")
    with pytest.raises(import_module("psycopg").errors.CheckViolation) as violation:
        log.append([Fact(1, 1, Created(type="noop"), NOW, "hush")], expected=0)
    assert "hush" not in str(violation.value)
    log.append([created(1)], expected=0)
    run(place, "INSERT INTO tasktrail.events SELECT 2, 9, 1, 'x', '', 'x', '', '', '', '', 0, 0, 0, '{}', ''")
    with pytest.raises(ConcurrencyError) as refused:
        log.append([created(2)], expected=1)
    assert "(position)=(2)" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@host/db",
        "postgres://host/db?password=secret",
        "postgresql://:@host/db",
        "postgresql://me:se#secret@host/db",
        "postgresql://me:se?secret@host/db",
        "postgresql://me:se/secret@host/db",
        "postgresql://me:secret@x@host/db",
        "postgresql://host/db#?password=secret",
        "postgresql://host/db?pass%77ord=secret",
        "postgresql://host/db?oauth_client_secret=secret",
        "postgresql://host/db?scram_client_key=secret",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        write_address(tmp_path / NAME, address)
    assert "secret" not in str(refusal.value)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me@[::1]:5432,other:5433/db?sslmode=verify-full",
        "postgresql:///db?host=/run/postgresql&user=me",
        "postgresql://?service=tasks",
        "postgresql://me%40here@host/a%23b",
    ],
)
def test_an_address_without_a_password_is_taken(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("text", ["", "log.db", "mysql://host/db", "postgresql://host/db\nx", "postgresql://ho\tst/db"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        check_address(text)


def test_keys_of_users_stay_in_the_data_folder(place: Path) -> None:
    with closing(open_log(place, now=NOW, encrypted=True)) as log:
        log.append([Fact(1, 1, Created(type="noop", user_id=7, label="mine"), NOW, "alice")], expected=0)
        assert b"mine" not in str(run(place, "SELECT data FROM tasktrail.events")).encode()
        there = log.belongings(7)
        assert (there.tasks, len(there.keys)) == ((1,), 1)
    other = place.parent / "other"
    other.mkdir()
    shutil.copy(place, other)
    with pytest.raises(KeysUnreadable, match=r"keys\.db is not there"):
        opened(other / NAME)
    with closing(open_log(other / NAME, now=NOW, encrypted=True, accept_lost_keys=True)) as log:
        log.append([Fact(2, 1, Created(type="noop", user_id=7, label="mine"), NOW, "alice")], expected=1)
        created = [record.event for record in log.read() if isinstance(record.event, Created)]
        assert [is_erased(one) for one in created] == [True, False]


def test_keys_that_nobody_has_destroyed_are_missed(place: Path) -> None:
    def of_user(user_id: int) -> Fact:
        return Fact(user_id, 1, Created(type="noop", user_id=user_id, label="mine"), NOW, "alice")

    other = place.parent / "other"
    with closing(open_log(place, now=NOW, encrypted=True)) as log:
        log.append([of_user(1), of_user(2)], expected=0)
        shutil.copytree(place.parent, other)
        erased = log.belongings(1).keys
        log.append([Fact(0, 1, UserErased(keys=erased, tasks=(1,)), NOW)], expected=2)
        log.destroy(erased)
    with closing(open_log(other / NAME, now=NOW, encrypted=True)) as log:  # it has all that are in use, and one more
        log.append([of_user(3)], expected=3)
    with pytest.raises(KeysUnreadable, match=r"lacks 1 key .*--accept-lost-keys"):
        opened(place)
    shutil.copy(other / "keys.db", place.parent)
    shutil.copy(other / "master-key", place.parent)
    opened(place).close()


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.crash
def test_a_server_that_is_killed_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with own_server() as (server, address):
        write_address(tmp_path / NAME, address)
        with closing(opened(tmp_path / NAME)) as log:
            done, kills = 0, 0
            while kills < 3:
                size = (1, 3, 30)[done % 3]
                facts = [created(number) for number in range(done + 1, done + size + 1)]
                try:
                    log.append(facts, expected=done)
                except LogUnreachable:
                    server.start_again()
                    kills += 1
                    if already_appended(log, facts, done) is None:
                        log.append(facts, expected=done)
                done += size
                if done % 7 == 0:
                    server.kill()
            assert [record.task_id for record in log.read()] == list(range(1, done + 1))
        with closing(read_log(tmp_path / NAME)) as reader:
            assert list(reader.faults()) == []


def test_the_server_of_a_run_that_is_killed_ends_with_it() -> None:
    """As when pytest or the machine's owner kills a process: nothing of its own can clean up."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.Popen(
        [sys.executable, "-c", "import postgresql_server as s; print(s.server_pid(), s.server_folder()); input()"],
        env=alone | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        server = psutil.Process(int(pid))
        assert Path(folder).is_dir()
        run.kill()
    server.wait(60)
    wait_for(lambda: not Path(folder).exists())


def test_a_run_deletes_what_a_dead_one_left_while_no_other_starts_or_deletes_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_lock()  # it lies in the folder for temporary files
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        pass
    for name, users in (("dead", [dead.pid]), ("at-work", [os.getpid()]), ("died-while-it-deleted", [])):
        (folder := tmp_path / f"tasktrail-postgresql-{name}").mkdir()
        (folder / USERS).write_text(json.dumps(users))
    (tmp_path / "tasktrail-postgresql-begins").mkdir()
    (tmp_path / "tasktrail-postgresql-half-deleted" / "base").mkdir(parents=True)
    got, rmtree = list[str](), shutil.rmtree

    def delete(folder: Path, **how: Any) -> None:
        program = "from abandoned_servers import server_lock; print(server_lock().acquire(blocking=False))"
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        got.append(subprocess.check_output([sys.executable, "-c", program], env=env, text=True))
        rmtree(folder, **how)

    monkeypatch.setattr("abandoned_servers.shutil.rmtree", delete)
    end_abandoned_servers()
    assert got == ["False\n"] * 3
    assert {left.name for left in tmp_path.iterdir()} == {
        "tasktrail-postgresql-at-work",
        "tasktrail-postgresql-begins",
    }


def followed(place: Path, until: int, seen: list[int]) -> None:
    """Read the tail until that many records have come, each once and in order."""
    with closing(read_log(place)) as reader:
        while len(seen) < until:
            seen += [record.position for record in reader.read(seen[-1] if seen else 0)]


def test_who_follows_the_tail_misses_nothing_of_four_who_append_at_once(place: Path) -> None:
    total, each, seen = 400, 100, list[int]()
    with closing(opened(place)) as log, ExitStack() as stack:
        turn, numbers = threading.Lock(), count(1)

        def append() -> None:
            for _ in range(each):
                with turn:  # the Scheduler's: positions are given out, and committed, one after the other
                    task_id = next(numbers)
                    log.append([created(task_id)], expected=task_id - 1)

        reader = threading.Thread(target=followed, args=(place, total, seen))
        for one in [reader, *(threading.Thread(target=append) for _ in range(4))]:
            one.start()
            stack.callback(one.join, 60)
    assert seen == list(range(1, total + 1))


def test_positions_from_a_sequence_would_be_missed_which_is_why_the_writer_gives_them_out(place: Path) -> None:
    """The control of the test above: a reader that has passed a number never sees it if it commits late."""
    name = database(place)
    with connect(name) as setup:
        setup.execute("CREATE TABLE naive (position bigserial PRIMARY KEY, who text)")
    try:
        with connect(name) as slow, connect(name) as quick, connect(name) as tail:
            seen = list[int]()

            def look() -> None:
                rows = tail.execute("SELECT position FROM naive WHERE position > %s ORDER BY 1", (max([0, *seen]),))
                seen.extend(row[0] for row in rows.fetchall())

            with slow.transaction():
                slow.execute("INSERT INTO naive (who) VALUES ('slow')")
                quick.execute("INSERT INTO naive (who) VALUES ('quick')")
                look()
            look()
            there = [row[0] for row in tail.execute("SELECT position FROM naive ORDER BY 1").fetchall()]
            assert (there, seen) == ([1, 2], [2])
    finally:
        with connect(name) as setup:
            setup.execute("DROP TABLE naive")
