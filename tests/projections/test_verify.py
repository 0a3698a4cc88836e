"""A change of a log is found by the chain, or, if the chain was repaired, by the rules."""

import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archiving import archive
from forgery import forging, opened, put_endless_view
from histories import BEGIN, Journal, random_history, with_two_drops
from sqlite_utils import Database

from tasktrail.events import Cancelled, CancelTask, Completed, Created, Event, Fact, Failed, Retried, Started
from tasktrail.events.errors import LogCorrupt, LogTooNew
from tasktrail.events.log.chain import GENESIS, checksum, link
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.migrations import migrations
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.schema import TABLES
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.ranges import NumberRange, is_within
from tasktrail.events.recorded import record_at
from tasktrail.events.system_events import Deduplicated, RetentionRule, TasksForgotten, UserErased
from tasktrail.events.task_events import ERASED, TAGS
from tasktrail.projections import TaskViews, Verification, legal_transitions, rebuild_views
from tasktrail.projections.findings import RESTORE
from tasktrail.projections.legal_transitions import _LAW, Lawbook
from tasktrail.projections.verification import verify
from tasktrail.projections.views.checksums import teach
from tasktrail.projections.views.schema import NAMES as VIEWED
from tasktrail.projections.views.text_index import unread_part

RECORDS = 40
STARTED, COMPLETED, CREATED = "event = 'started'", "event = 'completed'", "event = 'created'"
RETRIED = "event = 'retried' AND data NOT LIKE '%manual%'"
TWENTIETH = "position = 20"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log on disk and its views, never changed: tests take copies."""
    folder = tmp_path_factory.mktemp("sound")
    log = SqliteEventLog(folder / "log.db", now=BEGIN)
    journal = Journal(log)
    seed = 0
    while len(journal.records) < RECORDS:
        random_history(journal, 5, seed=seed)
        seed += 1
    log.close()
    with closing(SqliteLogReader(folder / "log.db")) as reader:
        rebuild_views(reader, folder / "views.db")
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def checked(folder: Path, *, views: bool = True) -> Verification:
    with closing(SqliteLogReader(folder / "log.db")) as reader, closing(Keys(folder / "log.db")) as keys:
        return verify(reader, folder / "views.db" if views else None, keys=keys)


def by_hand(path: Path, *statements: str) -> None:
    """Run such a person's statements."""
    with forging(path) as conn:
        for statement in statements:
            conn.execute(statement)


def test_a_changed_name_of_a_field_is_not_taken_for_one_of_a_newer_version(folder: Path) -> None:
    where = f"position = (SELECT min(position) FROM events WHERE {CREATED})"
    by_hand(folder / "log.db", f"""UPDATE events SET data = replace(data, '"type"', '"typm"') WHERE {where}""")
    found = checked(folder)
    assert [one.code for one in found.findings] == ["chain", "unreadable"]
    assert not any("Install that version" in one.remedy for one in found.findings)
    with closing(SqliteLogReader(folder / "log.db")) as reader, pytest.raises(LogTooNew) as refused:
        list(reader.read())
    assert "the record was changed: run `tasktrail verify`" in refused.value.advice


def rehashed(path: Path) -> None:
    """Make the chain fit the present rows, as a forger does who knows how it is made."""
    with forging(path) as conn:
        digest = GENESIS
        for row in conn.execute(f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY position").fetchall():
            digest = link(digest, row)
            conn.execute("UPDATE events SET hash = ? WHERE position = ?", (digest, row[0]))


def rows(folder: Path) -> list[tuple[Any, ...]]:
    conn = sqlite3.connect(folder / "log.db")
    found = conn.execute(f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY position").fetchall()
    conn.close()
    return found


def codes(found: Verification) -> set[str]:
    return {finding.code for finding in found.findings}


def test_a_sound_log_and_its_views_pass(folder: Path) -> None:
    found = checked(folder)
    assert found.findings == ()
    assert found.ok
    assert found.records == found.position == found.views_position == len(rows(folder))
    assert found.answers > 0
    reader = SqliteLogReader(folder / "log.db")
    assert found.head == reader.head().hash.hex()
    reader.close()


def test_an_empty_log_is_sound(tmp_path: Path) -> None:
    SqliteEventLog(tmp_path / "log.db", now=BEGIN).close()
    found = checked(tmp_path, views=False)
    assert (found.ok, found.records, found.views_position) == (True, 0, None)


@pytest.mark.parametrize("column", [*COLUMNS[1:], "hash"])
def test_any_changed_value_of_any_column_is_found_at_its_position(folder: Path, column: str) -> None:
    changes = {"hash": "zeroblob(32)", "recorded_at": "'2026-01-31T12:00:00.000001Z'", "terminal": "1 - terminal"}
    text = {"event", "actor", "reason", "command_id", "correlation_id", "causation_id", "data"}
    change = changes.get(column, f"{column} || ' '" if column in text else f"{column} + 1000")
    position = RECORDS // 2
    by_hand(folder / "log.db", f"UPDATE events SET {column} = {change} WHERE position = {position}")
    found = checked(folder)
    assert not found.ok
    assert "chain" in codes(found)
    assert position in {finding.position for finding in found.findings}
    assert found.views_position is None


@pytest.mark.parametrize("position", range(1, RECORDS + 1))
def test_a_change_of_any_row_is_found(folder: Path, position: int) -> None:
    by_hand(folder / "log.db", f"UPDATE events SET reason = 'another' WHERE position = {position}")
    assert [(finding.position, finding.code) for finding in checked(folder).findings] == [(position, "chain")]


@pytest.mark.parametrize("position", range(1, RECORDS))
def test_a_deleted_row_is_found(folder: Path, position: int) -> None:
    by_hand(folder / "log.db", f"DELETE FROM events WHERE position = {position}")
    assert (position, "gap") in {(finding.position, finding.code) for finding in checked(folder).findings}


@pytest.mark.parametrize("position", range(1, RECORDS))
def test_a_deleted_row_is_found_although_the_rest_moved_up(folder: Path, position: int) -> None:
    moves = [
        f"UPDATE events SET position = {later - 1} WHERE position = {later}"
        for later in range(position + 1, RECORDS + 9)
    ]
    by_hand(folder / "log.db", f"DELETE FROM events WHERE position = {position}", *moves)
    assert not checked(folder, views=False).ok


@pytest.mark.parametrize("position", range(1, RECORDS))
def test_two_swapped_rows_are_found(folder: Path, position: int) -> None:
    move = "UPDATE events SET position = {} WHERE position = {}"
    by_hand(
        folder / "log.db",
        move.format(10_000, position),
        move.format(position, position + 1),
        move.format(position + 1, 10_000),
    )
    assert "chain" in codes(checked(folder, views=False))


def test_an_inserted_row_is_found(folder: Path) -> None:
    columns = ", ".join(COLUMNS[3:])
    insert = f"INSERT INTO events (position, task_id, version, {columns}, hash)"
    by_hand(
        folder / "log.db",
        f"{insert} SELECT 10000, task_id, 500, {columns}, hash FROM events WHERE event = 'progressed' LIMIT 1",
    )
    assert {"gap", "version"} <= codes(checked(folder))


@pytest.mark.parametrize("position", [0, -7, -(2**63)])
def test_a_row_in_front_of_the_first_is_found(folder: Path, position: int) -> None:
    """No walk through the log passes there, but a question for a task's history gets it from an index."""
    with forging(folder / "log.db") as conn:
        row = conn.execute("SELECT * FROM events WHERE task_id = 1 ORDER BY version DESC LIMIT 1").fetchone()
        ghost = (position, 1, row[2] + 1, *row[3:12], 0, *row[13:])
        conn.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(ghost))})", ghost)
    found = checked(folder)
    assert [(one.position, one.code) for one in found.findings] == [(0, "file")]
    assert str(position) in found.findings[0].message
    with pytest.raises(LogCorrupt, match="before the first"):
        SqliteEventLog(folder / "log.db", now=BEGIN)


def test_rows_cut_off_at_the_end_are_found_by_the_views_and_the_answers(folder: Path) -> None:
    """The chain alone cannot see it: that takes a head kept elsewhere, which is why the head is part of the result."""
    before = checked(folder).head
    by_hand(folder / "log.db", f"DELETE FROM events WHERE position > {RECORDS // 2}")
    found = checked(folder)
    assert found.head != before
    assert codes(found) == {"answer"}
    by_hand(folder / "log.db", f"DELETE FROM answers WHERE position > {RECORDS // 2}")
    found = checked(folder)
    assert codes(found) <= {"views", "illegal"}
    assert not found.ok
    # They may be the only trace of the lost records, so rebuilding them is bad advice.
    assert not [one for one in found.findings if "rebuild" in one.remedy]


# Changes by a forger who repairs the chain: the new value, in the first record that fits, and a word of the finding.
FORGERIES = {
    "completed without having run": ("event = 'completed', data = '{}', terminal = 1", STARTED, "cannot be completed"),
    "started twice": ("event = 'started', data = '{}', terminal = 0", COMPLETED, "cannot be started"),
    "an end taken back": ("event = 'progressed', data = '{\"progress\":1}'", COMPLETED, "marked terminal"),
    "a task created twice": ("event = 'created', data = '{\"type\":\"x\"}'", STARTED, "cannot be created"),
    "a failure without its retry": ("event = 'started', data = '{}'", RETRIED, "cannot be started"),
    "an attempt renumbered": ("attempt = 7", STARTED, "is in attempt"),
    "a life renumbered": ("life = 9", STARTED, "is in life"),
    "time turned back": ("recorded_at = '2020-01-01T00:00:00.000000Z'", TWENTIETH, "before the record"),
    "a time without a zone": ("recorded_at = '2026-01-31T12:00:00'", TWENTIETH, "time zone"),
    "a time written otherwise": ("recorded_at = replace(recorded_at, 'T', ' ')", TWENTIETH, "as no log writes it"),
    "a time of another zone": ("recorded_at = replace(recorded_at, 'Z', '-01:00')", TWENTIETH, "as no log writes it"),
    "a time beyond the calendar": ("recorded_at = '9999-12-31T23:59:59.999999Z'", TWENTIETH, "1970 and 9900"),
    "a time before all clocks": ("recorded_at = '0001-01-01T00:00:00.000000Z'", TWENTIETH, "1970 and 9900"),
    "a time that is none": ("recorded_at = 'noon'", TWENTIETH, "no readable time"),
    "an end not marked": ("terminal = 0", COMPLETED, "marked terminal"),
    "an end marked that is none": ("terminal = 1", STARTED, "marked terminal"),
    "an event of nobody's": ("task_id = 0, version = 999", "event = 'progressed'", "service's own"),
    "a service's event under a task": ("task_id = 1", "event = 'service_started'", "under task 0"),
    "a task out of turn": ("task_id = 5000", CREATED, "is due"),
    "a version left out": ("version = version + 5", "task_id = 1 AND version = 2", "is due"),
    "no json": ("data = '{'", TWENTIETH, "cannot be read"),
    "json of another kind": ("data = '[1]'", CREATED, "cannot be read"),
    "an event of a later version": ("event = 'paused'", TWENTIETH, "does not know"),
    "a waiting task that failed as if it ran": (
        'event = \'failed\', terminal = 1, data = \'{"outcome":"failed","error":"x","final":true}\'',
        STARTED,
        "says failed",
    ),
    "a cancellation that lies": (
        "data = CASE data WHEN '{}' THEN '{\"attempt_running\":true}' ELSE '{}' END",
        "event = 'cancelled'",
        "says otherwise",
    ),
    "a parent that does not exist": ('data = \'{"type":"x","parent_task_id":99}\'', CREATED, "does not exist"),
    "an epoch used twice": ("data = json_set(data, '$.epoch', 0)", "event = 'service_started'", "epoch"),
    "a finished task adjusted": ("data = json_set(data, '$.task_id', 99)", "event = 'adjusted'", "cannot be adjusted"),
    "a delivery for nobody": ("data = json_set(data, '$.task_id', 99)", "event = 'delivery_attempted'", "not exist"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_history_with_a_mended_chain_breaks_the_rules(folder: Path, forgery: str) -> None:
    change, where, word = FORGERIES[forgery]
    damage = f"UPDATE events SET {change} WHERE position = (SELECT min(position) FROM events WHERE {where})"
    by_hand(folder / "log.db", "DROP INDEX one_end_a_life", "DROP INDEX one_version_once", damage)
    rehashed(folder / "log.db")
    found = checked(folder)
    assert not found.ok
    assert "chain" not in codes(found)
    assert any(word in finding.message for finding in found.findings)


def test_a_whole_task_taken_out_with_the_chain_mended_is_found(folder: Path) -> None:
    by_hand(folder / "log.db", "DELETE FROM events WHERE task_id = 2")
    with forging(folder / "log.db") as conn:
        for number, (position,) in enumerate(conn.execute("SELECT position FROM events ORDER BY 1").fetchall(), 1):
            conn.execute("UPDATE events SET position = ? WHERE position = ?", (number, position))
    rehashed(folder / "log.db")
    found = checked(folder)
    assert not found.ok
    assert any("task 3 is created where task 2 is due" in finding.message for finding in found.findings)


def test_a_number_that_is_left_out_is_told_once(folder: Path) -> None:
    """Otherwise each later task is a finding, and hides all others."""
    by_hand(folder / "log.db", "DELETE FROM events WHERE task_id = 2")
    found = [one for one in checked(folder).findings if "is created where" in one.message]
    assert [one.message for one in found] == ["task 3 is created where task 2 is due"]


def test_a_harmless_change_with_the_chain_mended_shows_in_the_head_alone(folder: Path) -> None:
    """The honest limit of a chain without a key: the owner of the file can write another sound history."""
    before = checked(folder, views=False).head
    by_hand(folder / "log.db", "UPDATE events SET reason = 'another' WHERE position = 5")
    rehashed(folder / "log.db")
    after = checked(folder, views=False)
    assert after.ok
    assert after.head != before


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("position = 99999", "beyond the end"),
        ("position = position + 1", "points at an event of"),
        ("task_id = task_id + 1", "names task"),
        ("command_id = 'made up'", "made up"),
        ("digest = zeroblob(6)", "not as it was written"),
        ("sum = zeroblob(8)", "not as it was written"),
    ],
)
def test_a_changed_answer_is_found(folder: Path, change: str, word: str) -> None:
    by_hand(folder / "log.db", f"UPDATE answers SET {change} WHERE command_id = 'create-0'")
    found = checked(folder)
    assert codes(found) == {"answer"}
    assert any(word in finding.message for finding in found.findings)


@pytest.mark.parametrize("own", [False, True])
def test_an_answer_without_the_id_of_a_command_is_found(folder: Path, own: bool) -> None:  # noqa: FBT001 - one case each
    """Each page of answers begins after an id: the first page has none before it, not even an empty one."""
    with closing(opened(folder / "log.db")) as conn:
        digest, task_id, position, total = conn.execute(
            "SELECT digest, task_id, position, sum FROM answers WHERE command_id = 'create-0'"
        ).fetchone()
        if own:  # one that knows how sums are made, and points at a record that no command has caused
            position = conn.execute("SELECT min(position) FROM events WHERE command_id = ''").fetchone()[0]
            total = checksum(("", digest, task_id, position))
        conn.execute("INSERT INTO answers VALUES ('', ?, ?, ?, ?)", (digest, task_id, position, total))
    (found,) = checked(folder).findings
    assert (found.position, found.code, found.message) == (position, "answer", "an answer names no command")


def test_an_answer_to_a_record_that_is_gone_does_not_point_behind_the_end(folder: Path) -> None:
    gone = "SELECT position FROM answers WHERE command_id = 'create-0'"
    by_hand(folder / "log.db", f"DELETE FROM events WHERE position = ({gone})")
    told = [finding.message for finding in checked(folder).findings if finding.code == "answer"]
    assert any("points at a position where there is no record" in message for message in told)
    assert not any("beyond the end" in message for message in told)


def test_answers_that_are_all_gone_are_one_finding(folder: Path) -> None:
    with closing(SqliteLogReader(folder / "log.db")) as log:
        commands, first = sum(1 for _ in log.answered()), min(row[2] for row in log.answered())
    by_hand(folder / "log.db", "DELETE FROM answers")
    (found,) = checked(folder).findings
    assert (found.position, found.code) == (first, "answer")
    assert found.message.startswith(f"the table answers is empty, and {commands} commands, from here on, have led to")
    assert found.remedy == RESTORE


def test_answers_of_which_many_are_gone_are_one_finding(folder: Path) -> None:
    with closing(opened(folder / "log.db")) as conn:
        gone = conn.execute("DELETE FROM answers WHERE position % 2 = 0 RETURNING position, command_id").fetchall()
    assert len(gone) > 2
    (found,) = checked(folder).findings
    (first, command_id) = min(gone)
    assert (found.position, found.code) == (first, "answer")
    assert found.message.startswith(f"{len(gone)} commands, first {command_id}, have led to records, and their answers")


@pytest.mark.parametrize("kept", [0, 1, RECORDS // 2])
def test_a_log_that_lacks_its_end_is_one_finding_however_many_answers_point_there(folder: Path, kept: int) -> None:
    by_hand(folder / "log.db", f"DELETE FROM events WHERE position > {kept}")
    with closing(SqliteLogReader(folder / "log.db")) as log:
        beyond = [row[2] for row in log.answered() if row[2] > kept]
    assert len(beyond) > 2
    (found,) = checked(folder, views=False).findings
    assert (found.position, found.code) == (kept + 1, "answer")
    what = f"the log ends at position {kept}" if kept else "the table events is empty"
    assert found.message == f"{what}, and {len(beyond)} answers point at later records, the last at {max(beyond)}"


def test_a_log_of_which_only_archives_are_left_ends_where_they_end(tmp_path: Path) -> None:
    """It was said to end before its first record."""
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        random_history(journal, 40, seed=5)
        archive(journal, 10)
    by_hand(tmp_path / "log.db", "DELETE FROM events")
    (told,) = (one for one in checked(tmp_path, views=False).findings if one.code == "answer")
    assert told.position == 11
    assert told.message.startswith("the log ends at position 10, and ")


def test_one_answer_that_points_beyond_the_end_is_found_where_the_log_ends(folder: Path) -> None:
    with closing(SqliteLogReader(folder / "log.db")) as log:
        last, command_id = max((row[2], row[0]) for row in log.answered())
    cut = f"DELETE FROM events WHERE position >= {last - 1}"
    by_hand(folder / "log.db", cut, f"DELETE FROM answers WHERE position = {last - 1}")
    (found,) = checked(folder, views=False).findings
    assert (found.position, found.code) == (last - 1, "answer")
    assert found.message.startswith(f"the log ends at position {last - 2}, and the answer to {command_id} points at")


def test_a_gap_is_one_finding_more_however_many_answers_point_into_it(folder: Path) -> None:
    by_hand(folder / "log.db", "DELETE FROM events WHERE position <= 20")
    with closing(SqliteLogReader(folder / "log.db")) as log:
        inside = sorted((row[2], row[0]) for row in log.answered() if row[2] <= 20)
    told = [(one.position, one.message) for one in checked(folder).findings if one.code == "answer"]
    first, command_id = inside[0]
    message = f"{len(inside)} answers, first that to {command_id}, point at positions where there is no record"
    assert told == [(first, message)]


def test_a_deleted_answer_is_found_where_it_was_due(folder: Path) -> None:
    with closing(opened(folder / "log.db")) as conn:
        [[position]] = conn.execute("DELETE FROM answers WHERE command_id = 'create-0' RETURNING position")
    found = checked(folder)
    assert [(finding.position, finding.code) for finding in found.findings] == [(position, "answer")]


@pytest.mark.parametrize("is_archived", [False, True])
@pytest.mark.parametrize(("seconds", "due"), [(0, []), (1, [(1, "answer")])])
def test_a_deleted_answer_is_found_before_a_stub_of_another_time(
    tmp_path: Path, *, is_archived: bool, seconds: int, due: list[tuple[int, str]]
) -> None:
    """The stub may have been of the same command, which would have had no answer any more, only at the same time."""
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        journal.create(command_id="kept")
        journal.at += timedelta(seconds=seconds)
        gone = journal.create(command_id="gone")
        journal.send(CancelTask(task_id=gone))
        journal.forget(gone)
        if is_archived:
            archive(journal, len(journal.records) - 1)
    assert checked(tmp_path, views=False).findings == ()
    by_hand(tmp_path / "log.db", "DELETE FROM answers WHERE command_id = 'kept'")
    assert [(one.position, one.code) for one in checked(tmp_path, views=False).findings] == due


def test_a_time_in_the_future_is_one_finding_and_not_one_for_each_record_behind_it(folder: Path) -> None:
    by_hand(folder / "log.db", "UPDATE events SET recorded_at = '2027' || substr(recorded_at, 5) WHERE position = 20")
    told = [(one.position, one.code) for one in checked(folder, views=False).findings]
    assert told == [(20, "chain"), (21, "time")]


def test_a_drop_that_stands_there_twice_does_not_cast_doubt_on_the_stubs_of_the_first(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        (_one, first), (_other, second) = with_two_drops(Journal(log))
    by_hand(
        tmp_path / "log.db",
        f"""INSERT INTO events SELECT {second + 1}, task_id, version + 2, event, recorded_at, actor, reason, command_id,
        correlation_id, causation_id, attempt, life, terminal, data, hash FROM events WHERE position = {first}""",
    )
    found = checked(tmp_path, views=False).findings
    assert found[0].position == second + 1
    assert {one.message.rpartition(" (")[2] for one in found if one.code == "stub"} == {f"position {second + 1})"}


def test_stubs_whose_last_one_is_gone_are_as_they_were_up_to_there(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        _first, (gone, _at) = with_two_drops(Journal(log))
        last = max(one.position for one in log.read() if one.task_id == gone)
    by_hand(tmp_path / "log.db", f"DELETE FROM events WHERE position = {last}")
    found = checked(tmp_path, views=False).findings
    assert (found[0].position, found[0].code) == (last, "gap")
    assert [one.position for one in found if one.code == "stub"] == [last]


def test_a_drop_that_is_no_text_leaves_only_its_own_stubs_without_explanation(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        (first, broken), _second = with_two_drops(Journal(log))
        lost = {one.position for one in log.read() if one.task_id == first}
    by_hand(tmp_path / "log.db", f"UPDATE events SET data = CAST(x'c3' AS TEXT) WHERE position = {broken}")
    found = checked(tmp_path, views=False)
    told = [one.message for one in found.findings if one.code == "stub"]
    assert found.findings[0].position == broken
    assert {int(one.rpartition("(position ")[2].rstrip(")")) for one in told} == lost
    assert found.stubs > len(lost)


@pytest.mark.parametrize("column", ["data", "command_id"])
def test_a_text_that_is_no_text_does_not_keep_answers_from_being_checked(folder: Path, column: str) -> None:
    """The finding was that the answers cannot be read, at no position."""
    with closing(opened(folder / "log.db")) as conn:
        [[position]] = conn.execute("SELECT max(position) FROM answers")
        conn.execute("DELETE FROM answers WHERE command_id = 'create-0'")
    by_hand(
        folder / "log.db", f"UPDATE events SET {column} = CAST({column} || x'c3' AS TEXT) WHERE position = {position}"
    )
    found = [(one.position, one.code) for one in checked(folder, views=False).findings]
    assert found[0][1] == "answer"
    assert (position, "unreadable") in found
    assert 0 not in dict(found)


SCHEMAS = {
    "a dropped trigger": "DROP TRIGGER events_are_not_changed",
    "a dropped unique index": "DROP INDEX one_end_a_life",
    "a trigger of somebody else's": "CREATE TRIGGER sly AFTER INSERT ON events BEGIN DELETE FROM answers; END",
    "a trigger that does something else": (
        "DROP TRIGGER events_are_not_deleted; "
        "CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events BEGIN SELECT 1; END"
    ),
    "an index of another kind": (
        "DROP INDEX one_version_once; CREATE INDEX one_version_once ON events (task_id, version)"
    ),
    "a foreign index": "CREATE INDEX quick ON events (actor)",
    "a foreign view": "CREATE VIEW peek AS SELECT * FROM events",
    "a foreign table": "CREATE TABLE mine (a)",
    "a table that is not strict": (
        "CREATE TABLE other AS SELECT * FROM epochs; DROP TABLE epochs; ALTER TABLE other RENAME TO epochs"
    ),
    "a list of migrations that is gone": 'DROP TABLE "_sqlite_migrations"',
    "a list of migrations with another column": 'ALTER TABLE "_sqlite_migrations" RENAME COLUMN name TO title',
    "a migration that is not noted": """DELETE FROM "_sqlite_migrations" WHERE name = 'find_adjustments'""",
    "a migration of nobody's": """UPDATE "_sqlite_migrations" SET migration_set = 'x' WHERE id = 2""",
    "a version of the user's": "PRAGMA user_version = 3",
    "another program's mark": "PRAGMA application_id = 77",
}


@pytest.mark.parametrize("change", SCHEMAS)
def test_a_schema_that_is_not_to_the_letter_is_found(folder: Path, change: str) -> None:
    with closing(opened(folder / "log.db")) as conn:
        conn.executescript(SCHEMAS[change])
    assert "schema" in codes(checked(folder))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE epochs SET pid = pid + 1 WHERE epoch = 1",
        "UPDATE epochs SET started_at = '2026-01-31T12:00:01.000000Z' WHERE epoch = 1",
        "UPDATE epochs SET sum = zeroblob(8) WHERE epoch = 1",
        "DELETE FROM epochs WHERE epoch = 1",
        "DELETE FROM epochs WHERE epoch = (SELECT max(epoch) FROM epochs)",
        "DELETE FROM epochs",
        "UPDATE \"_sqlite_migrations\" SET applied_at = '2026-01-31 12:00:00+00:00' WHERE id = 1",
    ],
)
def test_changed_epochs_are_found(folder: Path, change: str) -> None:
    by_hand(folder / "log.db", change)
    assert codes(checked(folder)) == {"epoch"}


def test_a_log_of_the_first_version_is_sound_without_sums(sound: Path, tmp_path: Path) -> None:
    old = Database(tmp_path / "log.db")
    migrations.apply(old, stop_before="sum_rows")
    old.conn.execute("ATTACH ? AS new", (str(sound / "log.db"),))
    for table, columns in (("events", "*"), ("answers", "command_id, digest, task_id, position")):
        old.conn.execute(f"INSERT INTO main.{table} SELECT {columns} FROM new.{table}")
    old.conn.execute("INSERT INTO main.epochs SELECT epoch, pid, host, started_at FROM new.epochs")
    old.conn.commit()
    old.close()
    before = checked(tmp_path, views=False)
    assert (before.ok, before.records) == (True, checked(sound).records)

    SqliteEventLog(tmp_path / "log.db", now=BEGIN).close()
    by_hand(tmp_path / "log.db", "UPDATE answers SET digest = zeroblob(6) WHERE command_id = 'create-0'")
    after = checked(tmp_path, views=False)
    assert codes(after) == {"answer"}
    assert after.head == before.head


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_one_bit_in_an_index_is_found_with_the_position_of_its_record(folder: Path) -> None:
    path = folder / "log.db"
    with closing(opened(path)) as conn:
        [[root]] = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'one_version_once'")
    page = path.read_bytes()[(root - 1) * 4096 : root * 4096]
    first = int.from_bytes(page[8:10], "big")  # the cell of the smallest key, which is task 0's first version
    flipped(path, (root - 1) * 4096 + first + page[first])  # its last byte: the position
    found = checked(folder)
    assert "index" in codes(found)
    assert any(finding.position for finding in found.findings if finding.code == "index")


def test_text_that_is_no_text_is_found_at_its_position_and_the_rest_is_read(folder: Path) -> None:
    by_hand(folder / "log.db", "UPDATE events SET actor = CAST(X'ff80' AS TEXT) WHERE position = 30")
    found = checked(folder)
    assert [finding.position for finding in found.findings if finding.code == "unreadable"] == [30]
    assert found.records == checked(folder).position


@pytest.mark.parametrize("data", ['{"personal":"', '{"personal":"0123', '{"personal":"0123456789abcdef:'])
def test_what_is_left_of_encrypted_data_is_found_at_its_position(folder: Path, data: str) -> None:
    by_hand(folder / "log.db", f"UPDATE events SET data = '{data}' WHERE position = 30")
    found = checked(folder)
    assert {(one.position, one.code) for one in found.findings} >= {(30, "chain"), (30, "unreadable")}
    assert found.records == found.position


def test_damage_of_a_page_is_told_at_its_first_position_and_what_lies_behind_is_checked(folder: Path) -> None:
    path = folder / "log.db"
    by_hand(path, "UPDATE events SET reason = 'another' WHERE position = (SELECT max(position) FROM events)")
    with closing(opened(path)) as conn:
        conn.execute("CREATE VIRTUAL TABLE temp.pages USING dbstat (main)") if has_dbstat(conn) else pytest.skip()
        leaves = conn.execute("SELECT pageno FROM temp.pages WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path")
        page = leaves.fetchall()[1][0]
        [[last]] = conn.execute("SELECT max(position) FROM events")
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : (page - 1) * 4096 + 8] = bytes(8)
    path.write_bytes(content)
    found = checked(folder)
    positions = [finding.position for finding in found.findings if finding.code in ("unreadable", "chain", "gap")]
    assert 1 < positions[0] < last
    assert positions[-1] == last
    with closing(SqliteLogReader(path)) as reader:
        assert [record.position for record in reader.read(0, positions[0] - 1)] == list(range(1, positions[0]))


def has_dbstat(conn: sqlite3.Connection) -> bool:
    """Return whether this SQLite was built with the table that shows the use of each page."""
    return ("ENABLE_DBSTAT_VTAB",) in conn.execute("PRAGMA compile_options").fetchall()


def judged(*events: tuple[int, Event]) -> list[str]:
    """Return the rules that a history of tasks in their first life, and of the service (0), breaks."""
    law = Lawbook()
    found: list[str] = []
    for position, (task_id, event) in enumerate(events, 1):
        fact = Fact(task_id, 1, event, BEGIN, life=1 if task_id else 0)
        found += law.judge(record_at(fact, position, b""))
    return found


def test_every_event_of_a_task_has_its_row_in_the_law() -> None:
    moves = {move for _before, move in _LAW}
    forgotten = [tag for tag in TAGS.values() if not any(re.match(rf"{tag}\b", move) for move in moves)]
    assert forgotten == [], "verify would fail at them: add rows to _LAW in projections/legal_transitions.py"


def test_a_run_beyond_the_calendar_is_found() -> None:
    """No schedule could continue after it."""
    never = datetime.max.replace(tzinfo=UTC)
    told = "it is the run of a time that is not between the years 1970 and 9900"
    assert [judged((1, Created(type="noop", schedule="s", fire_time=at))) for at in (BEGIN, never)] == [[], [told]]


def test_two_open_tasks_of_one_key_are_found() -> None:
    one, other = Created(type="noop", unique="k"), Created(type="noop", unique="k", user_id=1)
    assert judged((1, one), (2, other), (1, Cancelled()), (3, one), (0, Deduplicated(task_id=3))) == []
    assert judged((1, one), (2, one)) == [
        "task 2 is open and has the same key as task 1, which is open, too",
    ]


def forgetting(tasks: str) -> tuple[int, Event]:
    return 0, TasksForgotten(tasks=tasks, positions="", stubs="", rule=RetentionRule(older_than=0.0))


def test_what_is_needed_changes_with_those_that_refer_to_it() -> None:
    told = "task 1 is forgotten, and task {}, which is open, refers to it".format
    one, both = Created(type="noop"), Created(type="noop", depends_on=(1,), parent_task_id=1)
    again = Retried(cause="manual")
    assert judged((1, one), (2, both), (3, both), forgetting("1-9999999999")) == [], "they go with it"
    assert judged((1, one), (2, both), (3, both), forgetting("1-2")) == [told(3)]
    assert judged((1, one), (2, both), (3, both), (2, Cancelled()), forgetting("1")) == [told(3)]
    assert judged((1, one), (2, both), (2, Cancelled()), forgetting("1")) == []
    assert told(2) in judged((1, one), (2, both), (2, Cancelled()), (2, again), forgetting("1"))


def test_what_is_forgotten_is_not_compared_with_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log forgets some hundred tasks at a time, and a hundred thousand may wait meanwhile."""
    compared: list[int] = []

    def note(number: int, spans: Sequence[NumberRange]) -> bool:
        compared.append(number)
        return is_within(number, spans)

    monkeypatch.setattr(legal_transitions, "is_within", note)
    waiting = [(number, Created(type="noop", depends_on=(number - 1,))) for number in range(2, 200)]
    assert judged((1, Created(type="noop")), *waiting, forgetting("1000-1003"), forgetting("1004")) == []
    assert len(compared) <= 5


class OneByOne(dict[Any, Any]):
    """Answers by number only, and refuses to be iterated."""

    def values(self) -> Any:
        raise AssertionError("all tasks are looked at")

    items = __iter__ = values


def test_all_tasks_are_not_looked_at_for_each_record_that_is_missing() -> None:
    """Somebody may have deleted every third of a million records."""
    law = Lawbook()
    law._tracks = OneByOne()
    to_be_retried = Failed(outcome="failed", error="no", error_type="OSError", final=False)
    other = "task 2 is in attempt 2, the record says 1"

    def judge(position: int, task_id: int, event: Event, attempt: int = 0) -> list[str]:
        return list(law.judge(record_at(Fact(task_id, 1, event, BEGIN, attempt=attempt, life=1), position, b"")))

    for task_id in (1, 2):
        assert judge(2 * task_id, task_id, Created(type="noop")) == []
        assert judge(2 * task_id + 1, task_id, Started(), 1) == []
    assert judge(6, 1, to_be_retried, 1) == []
    law.lose_retries()
    assert judge(8, 1, Started(), 2) == []
    assert judge(9, 2, Started(), 1) == ["task 2 is running and cannot be started", other]
    assert judge(10, 1, to_be_retried, 2) == []
    law.lose_all()
    assert list(law.end()) == []
    assert judge(12, 2, Completed(), 1) == []
    assert judge(13, 2, Completed(), 1) == ["task 2 is completed and cannot be completed"]
    assert judge(14, 5, Created(type="noop")) == []
    assert judge(15, 6, Started(), 1) == ["task 6 is new and cannot be started"]
    assert judge(16, 4, Started(), 1) == []
    assert judge(17, 1, Retried(cause="rule"), 2) == []
    assert judge(18, 5, Cancelled()) == []


def test_an_answer_that_is_no_open_task_with_a_key_is_found() -> None:
    keyed, plain = Created(type="noop", unique="k"), Created(type="noop")
    words = "is the answer to a command, and is not open with a key"
    assert judged((1, keyed), (1, Cancelled()), (0, Deduplicated(task_id=1))) == [f"task 1 {words}"]
    assert judged((1, plain), (0, Deduplicated(task_id=1))) == [f"task 1 {words}"]


def test_an_answer_whose_task_is_encrypted_has_to_be_open_and_its_key_is_not_asked_for() -> None:
    hidden, answer = Created(type="noop", input_file=ERASED, output_file=ERASED), (0, Deduplicated(task_id=1))
    words = "is the answer to a command, and is not open with a key"
    assert judged((1, hidden), answer) == []
    assert judged((1, hidden), (1, Cancelled()), answer) == [f"task 1 {words}"]
    assert judged((1, hidden), (0, Deduplicated(task_id=2))) == [f"task 2 {words}"]


def test_a_log_that_stops_in_the_middle_of_a_retry_is_found(folder: Path) -> None:
    conn = sqlite3.connect(folder / "log.db")
    [[retried]] = conn.execute(f"SELECT min(position) FROM events WHERE {RETRIED}")
    conn.close()
    by_hand(
        folder / "log.db",
        f"DELETE FROM events WHERE position >= {retried}",
        f"DELETE FROM answers WHERE position >= {retried}",
    )
    found = checked(folder, views=False)
    assert [(finding.position, finding.code) for finding in found.findings] == [(retried - 1, "illegal")]


_A_TEXT_FOR_A_POSITION = """
    DROP TABLE forgotten;
    CREATE TABLE forgotten (first, last, position, rule, checksum);
    INSERT INTO forgotten VALUES (1, 9, 'image_thumbnail', '', 0)
"""
"""As when a page of another table stands there."""


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE tasks SET status = 'running' WHERE id = 2", ["task 2: status is 'running'"]),
        ("UPDATE tasks SET state = json_set(state, '$.progress', 99.5) WHERE id = 2", ["task 2: progress is 99.5"]),
        ("UPDATE tasks SET spec = '{' WHERE id = 2", ["task 2: its state cannot be read"]),
        ("UPDATE tasks SET queue_key = 1.5 WHERE id = 2", ["task 2: queue_key is 1.5"]),
        ("DELETE FROM tasks WHERE id = 2", ["task 2 is missing"]),
        ("UPDATE tasks SET id = 2000 WHERE id = 2", ["task 2 is missing", "task 2000 is there"]),
        ("UPDATE counts SET number = number + 1", ["table counts"]),
        ("DELETE FROM ends", ["table ends"]),
        ("UPDATE minutes SET longest_wait = longest_wait + 1", ["table minutes"]),
        ("INSERT INTO ends VALUES (29000000, 'completed', 0, NULL)", ["table ends"]),
        ("DELETE FROM durations", ["table durations"]),
        ("INSERT INTO durations VALUES ('video_convert', 200, 0, NULL)", ["table durations"]),
        ("INSERT INTO totals VALUES ('zzz', 1, 1, NULL)", ["table totals"]),
        ("INSERT INTO search (rowid, type) VALUES (9999, 'zebra')", ["table search"]),
        ("UPDATE search_data SET block = zeroblob(length(block)) WHERE id > 10", ["cannot be compared"]),
        ("INSERT INTO search_data VALUES (99 << 37 | 1, x'00')", ["table search has a page", "that no search reads"]),
        ("INSERT INTO past_search_data VALUES (99, x'00')", ["table past_search has a page"]),
        (
            "INSERT INTO search_data SELECT max(id) + 1, block FROM search_data",
            ["table search has a page", "that no search reads"],
        ),
        ("INSERT INTO search_data VALUES (1 << 37 | 1 << 36 | 1, x'00')", ["table search has a page"]),
        ("INSERT INTO search_data VALUES (99 << 37 | 1 << 36, x'00')", ["table search has a page"]),
        ("UPDATE past_search_data SET block = x'0000000000' WHERE id = 10", ["structure of an odd form"]),
        ("UPDATE past_search_data SET block = CAST(block || x'05' AS BLOB) WHERE id = 10", ["an odd form"]),
        (f"UPDATE search_data SET block = CAST(block || x'{'80' * 200_000}' AS BLOB) WHERE id = 10", ["an odd form"]),
        ("INSERT INTO search_config VALUES ('more', 1)", ["table search_config"]),
        ("INSERT INTO past_search_config VALUES ('more', 1)", ["table past_search_config"]),
        ("INSERT INTO text_moves (rowid, error) VALUES (9999, 'zebra')", ["table text_moves"]),
        ("INSERT INTO text_moves_config VALUES ('more', 1)", ["table text_moves_config"]),
        ("UPDATE search_config SET v = 4 WHERE k = 'automerge'", ["table search_config"]),
        ("UPDATE search_data SET block = x'00' WHERE id = 1", ["search_data"]),
        ("INSERT INTO search_idx VALUES (99, 'zebra', 2)", ["table search has an entry of segment 99"]),
        ("INSERT INTO search_idx SELECT max(segid), 'zebra', 2 FROM search_idx", ["table search has an entry"]),
        ("INSERT INTO search_idx SELECT max(segid), 'zebra', 2000 FROM search_idx", ["table search has an entry"]),
        ("INSERT INTO search_idx SELECT max(segid), 'zebra', -2 FROM search_idx", ["table search has an entry"]),
        ("UPDATE progress SET hash = zeroblob(32)", ["another log"]),
        ("UPDATE progress SET position = 99999", ["does not hold"]),
        ("UPDATE progress SET recorded_at = '2026-01-01T00:00:00.000000Z'", ["table progress"]),
        ("UPDATE progress SET log = 'another'", ["table progress"]),
        ("DROP TABLE tasks", ["cannot be compared"]),
        ("DROP TABLE progress", ["cannot be read"]),
        ("DELETE FROM progress", ["does not say how far it has come"]),
        ("UPDATE notices SET state = 'delivered' WHERE state != 'delivered'", ["notices"]),
        ("INSERT INTO notes VALUES (1, 1, NULL)", ["notes"]),
        ("INSERT INTO dependants VALUES (1, 2, NULL)", ["dependants"]),
        ("INSERT INTO disabled VALUES ('https://x.test/', 1, '', '', NULL)", ["disabled"]),
        ("UPDATE totals SET type = CAST(x'f0' AS TEXT) WHERE type = 'video_convert'", ["cannot be compared"]),
        ("UPDATE tasks SET status = CAST(x'f0' AS TEXT) WHERE id = 2", ["cannot be compared"]),
        ("CREATE INDEX more ON tasks (label, status)", ["index more does not belong there"]),
        (_A_TEXT_FOR_A_POSITION, ["cannot be compared"]),
        ("DROP TABLE forgotten; PRAGMA user_version = 3", ["was built by another version"]),
    ],
)
def test_views_that_differ_from_the_fold_are_found(folder: Path, statement: str, words: list[str]) -> None:
    by_hand(folder / "views.db", *statement.split(";"))
    found = checked(folder)
    assert codes(found) == {"views"}
    for word in words:
        assert any(word in finding.message for finding in found.findings), found.findings


def test_a_text_index_whose_parts_are_being_merged_is_sound() -> None:
    """SQLite merges step by step, and keeps the pages of a part that it has read to its end until the merge ends."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE VIRTUAL TABLE search USING fts5 (type, content='', columnsize=0)")
        conn.execute("INSERT INTO search (search, rank) VALUES ('pgsz', 64), ('automerge', 0), ('usermerge', 2)")
        for first in (1000, 5000):
            rows = ((number, f"a{number}") for number in range(first, first + 200))
            with conn:
                conn.execute("BEGIN")
                conn.executemany("INSERT INTO search (rowid, type) VALUES (?, ?)", rows)
        steps = 0
        while conn.execute("SELECT count(DISTINCT segid) FROM search_idx").fetchone() != (1,):
            conn.execute("INSERT INTO search (search, rank) VALUES ('merge', 4)")
            assert unread_part(conn, "search") == ""
            steps += 1
        assert steps > 1


def test_a_record_of_an_erasure_does_not_hide_views_of_tasks_that_can_be_read(folder: Path) -> None:
    log = SqliteEventLog(folder / "log.db", now=BEGIN)
    records = list(log.read())
    journal = Journal(log, at=records[-1].recorded_at)
    journal._system_version = max((record.version for record in records if not record.task_id), default=0)
    journal.record(0, UserErased(keys=("0123456789abcdef",), tasks=(1, 2, 3)))
    log.close()
    by_hand(folder / "views.db", "UPDATE tasks SET status = 'running' WHERE id = 2")
    assert any("task 2: status is 'running'" in one.message for one in checked(folder).findings)


def test_a_forgotten_task_does_not_hide_what_views_say_of_others(tmp_path: Path) -> None:
    """Views older than a record of forgetting are rebuilt, and until then not compared as a whole."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 80, seed=5)
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        rebuild_views(reader, tmp_path / "views.db")
    gone = journal.over()[0]
    journal.forget(gone)
    log.close()
    found = checked(tmp_path)
    assert (found.findings, found.views_position) == ((), None)
    other = next(task_id for task_id in journal.states if task_id != gone)
    by_hand(tmp_path / "views.db", f"UPDATE tasks SET changed = changed + 1 WHERE id = {other}")
    assert [one.message.split(":")[0] for one in checked(tmp_path).findings] == [f"task {other}"]
    by_hand(tmp_path / "views.db", f"DELETE FROM tasks WHERE id = {gone}")
    assert [one.message.split(":")[0] for one in checked(tmp_path).findings] == [f"task {other}"]


def test_views_that_know_what_was_forgotten_are_compared_as_a_whole(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 80, seed=5)
    journal.forget(journal.over()[0])
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        rebuild_views(reader, tmp_path / "views.db")
    log.close()
    assert checked(tmp_path).views_position == len(journal.records)
    by_hand(tmp_path / "views.db", "UPDATE tallies SET base = base + 1")
    assert [one.message.split(" has")[0] for one in checked(tmp_path).findings] == ["table tallies"]


def test_views_do_not_say_by_themselves_that_they_have_what_was_forgotten(tmp_path: Path) -> None:
    """Records that the log does not call forgotten exist, and the views are compared with them."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    random_history(journal, 80, seed=5)
    gone = journal.over()[0]
    journal.forget(gone)
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        rebuild_views(reader, tmp_path / "views.db")
    log.close()
    with closing(teach(opened(tmp_path / "views.db"))) as conn:
        conn.execute("UPDATE forgotten SET last = last + 2")
        conn.execute("UPDATE counts SET number = number + 1")
    found = [one.message.split(" has")[0] for one in checked(tmp_path).findings]
    assert found == ["table forgotten"]


def test_for_views_that_a_full_disk_keeps_from_being_read_room_is_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
        raise error

    monkeypatch.setattr("tasktrail.projections.queries.reader.connect_read_only", full)
    (finding,) = checked(folder).findings
    assert (finding.code, "disk I/O error" in finding.message) == ("views", True)
    assert finding.remedy.startswith("Free disk space")


def test_words_that_the_index_holds_and_does_not_find_are_found(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    for number in range(400):
        journal.create(input_file=f"/in/{number**5}.mp4")
    log.close()
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        rebuild_views(reader, tmp_path / "views.db")
    assert checked(tmp_path).ok
    by_hand(tmp_path / "views.db", "DELETE FROM search_idx WHERE pgno = (SELECT max(pgno) FROM search_idx)")
    (finding,) = checked(tmp_path).findings
    assert re.match(r"table search lists the word '.+', and does not find it", finding.message)


def test_a_word_that_stands_at_another_place_of_its_text_is_found(folder: Path) -> None:
    conn = sqlite3.connect(folder / "views.db")
    conn.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, search, instance)")
    before = conn.execute("SELECT * FROM temp.words").fetchall()
    ((number, block),) = conn.execute("SELECT id, block FROM search_data WHERE id > 10 ORDER BY id LIMIT 1").fetchall()
    for at in range(10, len(block)):  # a byte for the place of a word in a text, and not for the word or the text
        changed = block[:at] + bytes([block[at] ^ 4]) + block[at + 1 :]
        conn.execute("UPDATE search_data SET block = ? WHERE id = ?", (changed, number))
        with suppress(sqlite3.Error):
            after = conn.execute("SELECT * FROM temp.words").fetchall()
            if after != before and [row[:2] for row in after] == [row[:2] for row in before]:
                break
    else:
        pytest.fail("there is no such byte")
    conn.commit()
    conn.close()
    (finding,) = checked(folder).findings
    assert finding.message.startswith("table search has (")


def test_rows_that_stand_out_of_order_are_told_where_they_stand(folder: Path) -> None:
    """Elsewhere their content is right: nothing is wrong there."""
    path = folder / "log.db"
    with closing(opened(path)) as conn:
        conn.execute("CREATE VIRTUAL TABLE temp.pages USING dbstat (main)") if has_dbstat(conn) else pytest.skip()
        leaves = conn.execute("SELECT pageno FROM temp.pages WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path")
        first, _, third, *_ = (page for (page,) in leaves)
    content = bytearray(path.read_bytes())
    content[(third - 1) * 4096 : third * 4096] = content[(first - 1) * 4096 : first * 4096]
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as conn:
        positions = [position for position, _ in conn.execute("SELECT position, data FROM events ORDER BY position")]
    place = next(number for number in range(1, len(positions)) if positions[number] < positions[number - 1])
    found = checked(folder, views=False).findings
    assert min(finding.position for finding in found if finding.position) == place + 1


def test_rows_of_another_table_among_the_records_are_told_where_they_stand(folder: Path) -> None:
    path = folder / "log.db"
    with closing(opened(path)) as conn:
        conn.execute("CREATE VIRTUAL TABLE temp.pages USING dbstat (main)") if has_dbstat(conn) else pytest.skip()
        select = "SELECT pageno FROM temp.pages WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        third = conn.execute(select, ("events",)).fetchall()[2][0]
        ((epochs,),) = conn.execute(select, ("epochs",)).fetchall()
    content = bytearray(path.read_bytes())
    content[(third - 1) * 4096 : third * 4096] = content[(epochs - 1) * 4096 : epochs * 4096]
    path.write_bytes(content)
    (gap, *_) = [finding for finding in checked(folder, views=False).findings if finding.code == "gap"]
    assert re.fullmatch(r"position 1 comes right after position (\d+)", gap.message)
    assert gap.message.endswith(f" {gap.position - 1}")


def test_views_whose_tables_or_indexes_are_made_otherwise_are_found(folder: Path) -> None:
    conn = sqlite3.connect(folder / "views.db")
    conn.execute("DROP INDEX tasks_by_label")
    conn.execute("DROP TRIGGER counts_changed")
    conn.execute("PRAGMA writable_schema = ON")
    conn.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, 'bucket INTEGER', 'bucket  INTEGER') WHERE name = 'durations'"
    )
    conn.commit()
    conn.close()
    assert [finding.message for finding in checked(folder).findings] == [
        "the index tasks_by_label is missing",
        "the table durations is not as it was made",
        "the trigger counts_changed is missing",
    ]


def test_views_that_lag_behind_are_compared_where_they_stand(folder: Path) -> None:
    (folder / "views.db").unlink()
    reader = SqliteLogReader(folder / "log.db")
    views = TaskViews(folder / "views.db")
    views.apply(list(reader.read(0, 17)))
    views.close()
    reader.close()
    found = checked(folder)
    assert (found.ok, found.views_position) == (True, 17)


@pytest.mark.parametrize("content", [b"", b"no database " * 500])
def test_views_that_cannot_be_read_are_a_finding(folder: Path, content: bytes) -> None:
    (folder / "views.db").write_bytes(content)
    assert codes(checked(folder)) == {"views"}


def damaged_bytes(path: Path) -> Iterator[tuple[int, bytes]]:
    content = path.read_bytes()
    for start in range(4096, len(content), 1111):
        changed = bytearray(content)
        changed[start] ^= 0xFF
        yield start, bytes(changed)


def test_a_flipped_byte_anywhere_is_a_finding_or_of_no_effect_but_never_an_exception(
    sound: Path, tmp_path: Path
) -> None:
    whole = checked(sound, views=False)
    for number, (_start, content) in enumerate(damaged_bytes(sound / "log.db")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "log.db").write_bytes(content)
        found = checked(folder, views=False)
        assert not found.ok or (found.head, found.records) == (whole.head, whole.records)


@pytest.mark.slow
def test_wherever_the_answers_page_points_verify_tells_and_does_not_break(folder: Path) -> None:
    """A row that begins in the middle of others may have no value at all, and no position either."""
    path = folder / "log.db"
    with closing(opened(path)) as conn:
        [[root]] = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'answers'")
    content = path.read_bytes()
    base = (root - 1) * 4096
    for number in range(int.from_bytes(content[base + 3 : base + 5], "big")):
        for bit in range(12):
            changed = bytearray(content)
            changed[base + 8 + 2 * number + (bit < 8)] ^= 1 << bit % 8
            path.write_bytes(changed)
            assert not checked(folder, views=False).ok


def test_a_table_of_another_shape_is_found(folder: Path) -> None:
    """STRICT keeps wrong types out, but not somebody who replaces the table."""
    by_hand(
        folder / "log.db",
        "CREATE TABLE other AS SELECT * FROM events",
        "UPDATE other SET actor = 17, life = 'two', hash = 'text' WHERE position = 9",
        "DROP TABLE events",
        "ALTER TABLE other RENAME TO events",
    )
    found = checked(folder)
    assert (9, "unreadable") in {(finding.position, finding.code) for finding in found.findings}


@pytest.mark.parametrize("table", TABLES)
def test_a_view_without_end_in_place_of_a_table_of_the_log_is_refused(folder: Path, table: str) -> None:
    put_endless_view(folder / "log.db", table)
    with pytest.raises(LogCorrupt, match=f"{table}, a view has its name"):
        checked(folder)
    with pytest.raises(LogCorrupt, match=f"{table} is missing: a view has its name"):
        SqliteEventLog(folder / "log.db", now=BEGIN)


@pytest.mark.parametrize("table", VIEWED)
def test_a_view_without_end_in_place_of_a_table_of_the_views_is_found(folder: Path, table: str) -> None:
    put_endless_view(folder / "views.db", table)
    found = checked(folder)
    assert codes(found) == {"views"}
    assert [f"{table}, a view has its name" in one.message for one in found.findings] == [True], found.findings
    TaskViews(folder / "views.db").close()
    with closing(SqliteLogReader(folder / "log.db")) as reader:
        rebuild_views(reader, folder / "views.db")
    assert checked(folder).ok


def test_the_number_of_findings_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.projections.findings.LIMIT", 5)
    by_hand(folder / "log.db", "UPDATE events SET reason = 'x', hash = zeroblob(32)")
    found = checked(folder)
    assert len(found.findings) == 5
    assert found.more > 0


def test_progress_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.projections.verification._EVERY", 10)
    told: list[tuple[int, int]] = []
    reader = SqliteLogReader(folder / "log.db")
    verify(reader, None, lambda position, head: told.append((position, head)))
    head = reader.head().position
    assert told == [(position, head) for position in range(10, head + 1, 10)]
    reader.close()


def test_positions_that_are_texts_are_told(folder: Path) -> None:
    texts = ", ".join(("position || 'x' AS position", *COLUMNS[1:], "hash"))
    by_hand(folder / "log.db", "ALTER TABLE events RENAME TO kept", f"CREATE TABLE events AS SELECT {texts} FROM kept")
    assert "unreadable" in codes(checked(folder, views=False))
