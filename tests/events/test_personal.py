"""Personal data of a record is encrypted on its way into a log, and comes out as it was, or as fixed values."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from archiving import archive
from forgery import put_endless_view
from histories import BEGIN, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Answer, Cancelled, Created, Fact, Failed
from tasktrail.events.context import Belongings
from tasktrail.events.errors import ChangedMeanwhile, KeysUnreadable, LogCorrupt
from tasktrail.events.forms import known_forms
from tasktrail.events.log.event_log import Erasable, already_appended
from tasktrail.events.log.keys import Keys, _masters_in, _write_masters
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.personal import BEGINS, PERSONAL, divided, erased, readable_row, stored
from tasktrail.events.log.rows import from_row, to_row
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.state import fold
from tasktrail.events.system_events import DeliveryAttempted, ScheduleAdded, SourceAdded, UserErased
from tasktrail.events.task_events import ERASED, Completed, Estimated
from tasktrail.projections import rebuild_views
from tasktrail.projections.findings import REMEDIES
from tasktrail.projections.verification import verify

KEY = "0123456789abcdef"


def opened(path: Path, **how: Any) -> SqliteEventLog:
    return SqliteEventLog(path, now=BEGIN, encrypted=True, **how)


def history(path: Path, user: int = 7, **how: Any) -> list[Fact]:
    """A random history, as it was handed in, in which every task belongs to one user."""
    plain = MemoryEventLog()
    random_history(Journal(plain), 150, seed=3)
    facts = [_of(user, record) for record in plain.read()]
    with closing(opened(path, **how)) as log:
        for number, fact in enumerate(facts):
            log.append([fact], expected=number)
    return facts


def _of(user: int, record: Fact) -> Fact:
    fact = Fact(*(getattr(record, field) for field in Fact.__struct_fields__))
    fact = msgspec.structs.replace(fact, command_id="")  # there are no answers
    if not isinstance(fact.event, Created):
        return fact
    event = msgspec.structs.replace(fact.event, user_id=user, options={"secret": "s3cret"}, label="s3cret")
    return msgspec.structs.replace(fact, event=event, actor="s3cret", reason="s3cret")


def findings(log: SqliteLogReader) -> list[str]:
    """Return the findings, except for the epochs, which belong to the history's own services."""
    return [one.message for one in verify(log).findings if one.code != "epoch"]


def rows_of(path: Path) -> Iterator[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        yield from conn.execute("SELECT * FROM events ORDER BY position").fetchall()


def test_a_log_reads_as_it_was_written_and_its_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    facts = history(path)
    with closing(SqliteLogReader(path)) as log:
        for record, fact in zip(log.read(), facts, strict=True):
            assert to_row(record, record.position) == to_row(fact, record.position)
        assert findings(log) == []
    assert b"s3cret" not in path.read_bytes()
    assert {row[13][: len(BEGINS)] for row in rows_of(path) if row[3] == "created"} == {BEGINS}


def test_without_the_key_every_task_folds_to_the_same_life(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    facts = history(path)
    tasks = {fact.task_id for fact in facts if fact.task_id}
    encrypted = [row for row in rows_of(path) if row[13].startswith(BEGINS)]
    with closing(SqliteLogReader(path)) as log:
        assert log.erasable(7) == Erasable(user_id=7, tasks=len(tasks), records=len(encrypted), plain=0)
        with closing(Keys(path)) as other:
            (key,) = other.of_user(7)
            other.destroy([key])
        assert log.erasable(7) == Erasable(user_id=7, tasks=0, records=0, plain=0)
        for task_id in tasks:
            records = log.read_task(task_id)
            now = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # task events
            before = fold(task_id, ((f.event, f.recorded_at) for f in facts if f.task_id == task_id))  # type: ignore[misc]  # task events
            assert now is not None
            assert before is not None
            assert (now.status, now.version, now.attempt, now.life) == (
                before.status,
                before.version,
                before.attempt,
                before.life,
            )
            assert (now.spec.input_file, now.spec.user_id, now.spec.label) == (ERASED, 0, "")
            assert (now.spec.type, now.spec.priority) == (before.spec.type, before.spec.priority)
            assert records[0].actor == records[0].reason == ERASED
        assert findings(log) == []
    (path.parent / "keys.db").unlink()
    with closing(SqliteLogReader(path)) as log:  # as of a copy without any keys
        assert findings(log) == []
        assert [record.event.user_id for record in log.read() if isinstance(record.event, Created)][:1] == [0]


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text() | st.integers(-5, 5) | st.none()), st.integers(0, 9))
def test_what_is_divided_is_put_together_again(actor: str, reason: str, result: dict[str, Any], memory: int) -> None:
    estimate = Estimated(memory=memory, basis=result) if memory else None
    event = Completed(result=result, message=reason, estimate=estimate)
    row = to_row(Fact(1, 2, event, BEGIN, actor, reason), 9)
    bare, secret = divided(row)
    back = from_row(stored(bare, KEY, "box"), b"", lambda one: readable_row(one, secret))
    assert (back.event, back.actor, back.reason) == (event, actor, reason)
    gone = from_row(stored(bare, KEY, ""), b"")
    assert isinstance(gone.event, Completed)
    assert (gone.event.result, gone.event.message) == ({}, ERASED)
    assert gone.event.estimate == (Estimated(memory=memory) if memory else None)


@pytest.mark.parametrize("tag", PERSONAL)
def test_every_erased_event_is_one_that_can_be_read(tag: str) -> None:
    known = known_forms()[tag]
    of_tasks = known_forms()["created"]
    assert all(path in known or path.removeprefix("task.") in of_tasks for path in PERSONAL[tag])
    assert "personal" not in known  # the name of the encrypted text
    event = next(cls for cls, name in EVENT_TAGS.items() if name == tag)
    examples: dict[type[Any], dict[str, Any]] = {
        ScheduleAdded: {"schedule": "s", "task": Created(type="noop", options={"a": 1}), "starting_at": BEGIN},
        SourceAdded: {"source": "s", "inputs": ("/in",), "to": "x"},
    }
    given = examples.get(event) or {
        field.name: _example(field) for field in msgspec.structs.fields(event) if field.required
    }
    row = to_row(Fact(1, 1, event(**given), BEGIN, "somebody", "something"), 1)
    bare, _ = divided(row)
    found = from_row(stored(bare, KEY, ""), b"")
    assert (type(found.event), found.actor, found.reason) == (event, ERASED, ERASED)


def _example(field: msgspec.structs.FieldInfo) -> Any:
    kind = field.type
    choices = getattr(kind, "__args__", None)
    if choices and isinstance(choices[0], str):
        return choices[0]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind()
    kind = getattr(kind, "__origin__", kind)  # without its bounds
    return BEGIN if kind is datetime else kind()


def test_what_the_service_itself_does_stays_under_its_name() -> None:
    row = to_row(Fact(1, 1, Failed(outcome="failed", error="x", final=True), BEGIN, "scheduler", ""), 1)
    bare, secret = divided(row)
    assert (bare[5], bare[6]) == ("scheduler", "")
    assert b"scheduler" not in secret
    assert erased(stored(bare, KEY, ""))[5] == "scheduler"


def test_an_encrypted_text_cannot_be_moved_to_another_record(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        log.append([created(1), created(2)], expected=0)
    rows = list(rows_of(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("DROP TRIGGER events_are_not_changed")
        conn.execute("UPDATE events SET data = ? WHERE position = 2", (rows[0][13],))
    with closing(SqliteLogReader(path)) as log, pytest.raises(LogCorrupt, match="Position 2"):
        list(log.read())


def created(task_id: int, user: int = 7, command_id: str = "", **fields: Any) -> Fact:
    return Fact(task_id, 1, Created(type="noop", user_id=user, **fields), BEGIN, "ada", command_id=command_id)


def test_tasks_of_nobody_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        log.append([created(1, user=0, label="told")], expected=0)
    assert "told" in next(rows_of(path))[13]


def test_the_digest_of_a_command_is_encrypted_with_what_it_led_to(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        log.append([created(1, command_id="one")], [Answer("one", b"d" * 32, 1, 1)], expected=0)
        assert log.answer("one") == Answer("one", b"d" * 32, 1, 1)
        log.destroy(log.belongings(7).keys)
        assert log.answer("one") == Answer("one", b"", 1, 1)
    with closing(sqlite3.connect(path)) as conn:
        assert b"d" * 32 not in conn.execute("SELECT digest FROM answers").fetchone()[0]


def test_an_append_that_was_told_as_failed_is_recognized(tmp_path: Path) -> None:
    facts = [created(1), created(2)]
    with closing(opened(tmp_path / "log.db")) as log:
        records = log.append(facts, expected=0)
        assert already_appended(log, facts, 0) == records
        assert already_appended(log, [created(1), created(2, label="x")], 0) is None


def test_nothing_new_is_encrypted_with_a_key_that_is_to_be_destroyed(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "log.db")) as log:
        log.append([created(1, label="old")], expected=0)
        (doomed,) = log.belongings(7).keys
        log.append([Fact(0, 1, UserErased(keys=(doomed,), tasks=(1,)), BEGIN)], expected=1)
        log.append([created(2, label="new")], expected=2)
        log.destroy((doomed,))
        later = DeliveryAttempted(notice_id="n", task_id=1, channel="webhook", target="https://x", ok=True)
        (record,) = log.append([Fact(0, 2, later, BEGIN + timedelta(1), "notifier")], expected=3)
        assert isinstance(record.event, DeliveryAttempted)
        assert record.event.target == ERASED
        read = [record.event for record in log.read()]
        assert [event.label for event in read if isinstance(event, Created)] == ["", "new"]
        assert isinstance(read[3], DeliveryAttempted)
        assert read[3].target == ERASED
    assert "https://x" not in str(list(rows_of(tmp_path / "log.db")))


def test_what_belongs_to_a_user_is_found_in_one_look_or_in_two(tmp_path: Path) -> None:
    """Wherever the first look ends, and whatever is archived between them."""
    chance = Random(3)
    with closing(opened(tmp_path / "log.db")) as log:
        journal = Journal(log)
        looks = list[dict[int, Belongings]]()
        for _ in range(12):
            random_history(journal, 40, seed=chance.randrange(1000))
            if chance.random() < 0.6:
                archive(journal, log.head().position - chance.randrange(1, 20))
            looks.append({user: log.belongings(user) for user in range(4)})
        tasks = {user: {one.id for one in journal.states.values() if one.spec.user_id == user} for user in range(4)}
        for user in range(4):
            whole = looks[-1][user]
            assert whole.position == log.head().position
            assert (set(whole.tasks), whole.plain) == ((tasks[user], 0) if user else (set(), len(tasks[0])))
            assert all(log.belongings(user, look[user]) == whole for look in looks)


@pytest.mark.parametrize("users", [{7: 8, 8: 7}, {7: 9}], ids=["exchanged", "given to nobody we know"])
def test_a_key_that_the_file_has_under_another_user_is_neither_erased_nor_sound(
    tmp_path: Path, users: dict[int, int]
) -> None:
    """Otherwise an erasure of user 7 would destroy the data of user 8, or nothing, and say that it is done."""
    path, file = tmp_path / "log.db", tmp_path / "keys.db"
    with closing(opened(path)) as log:
        journal = Journal(log)
        one, other = journal.create(user_id=7), journal.create(user_id=8)
        assert (log.belongings(7).tasks, log.belongings(8).tasks) == ((one,), (other,))
        archive(journal, 1)
        with closing(sqlite3.connect(file)) as conn:
            stored = conn.execute("SELECT id, user_id FROM keys").fetchall()
            changed = [(users.get(user, user), name) for name, user in stored]
            conn.executemany("UPDATE keys SET user_id = ? WHERE id = ?", changed)
            conn.commit()
        for user in (7, 8):
            with pytest.raises(KeysUnreadable, match="under another user"):
                log.belongings(user)
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        told = [(one.position, one.code, one.message) for one in verify(reader, keys=keys).findings]
    places = [1, 2] if len(users) == 2 else [1]
    assert [(position, code) for position, code, _ in told] == [(place, "key") for place in places]
    assert all("under another user" in message for _, _, message in told)


@pytest.mark.parametrize("what", ["a schedule", "a source", "a source of nobody we know"])
def test_a_key_that_only_a_schedule_or_a_source_uses_is_compared_with_its_user(tmp_path: Path, what: str) -> None:
    path, file = tmp_path / "log.db", tmp_path / "keys.db"
    task = Created(type="noop", user_id=7)
    event: ScheduleAdded | SourceAdded = ScheduleAdded(schedule="nightly", task=task, every=60.0, starting_at=BEGIN)
    if what != "a schedule":
        event = SourceAdded(source="inbox", inputs=("/in",), to="{name}", task={"type": "noop", "user_id": 7})
    with closing(opened(path)) as log:
        journal = Journal(log)
        journal.create(user_id=8)
        at = journal.record(0, event)[-1].position
        archive(journal, 1)
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        assert not [one for one in verify(reader, keys=keys).findings if one.code == "key"]
    with closing(sqlite3.connect(file)) as conn, conn:
        conn.execute("UPDATE keys SET user_id = ? WHERE user_id = 7", (9 if "nobody" in what else 8,))
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        (found,) = (one for one in verify(reader, keys=keys).findings if one.code == "key")
        for user_id in (7, 8):
            with pytest.raises(KeysUnreadable, match="under another user"):
                reader.belongings(user_id)
    assert (found.position, "under another user" in found.message) == (at, True)


def test_a_key_that_no_record_uses_is_sound(tmp_path: Path) -> None:
    """A service that is killed between making a key and its first record leaves one."""
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        log.append([created(1)], expected=0)
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        before = verify(reader, keys=keys)
        keys.key_for(9)
        keys.commit()
        assert keys.of_user(9)
        assert verify(reader, keys=keys) == before
        assert not [one for one in before.findings if one.code == "key"]


def test_what_is_gone_between_two_looks_is_not_taken_for_there(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "log.db")) as log:
        journal = Journal(log)
        one, other = journal.create(user_id=7), journal.create(user_id=8)
        known = {user: log.belongings(user) for user in (7, 8)}
        log.destroy(known[7].keys)
        with pytest.raises(ChangedMeanwhile):
            log.belongings(7, known[7])
        assert log.belongings(8, known[8]).tasks == (other,)
        journal.record(one, Cancelled())
        journal.forget(one)
        with pytest.raises(ChangedMeanwhile):
            log.belongings(8, known[8])
        assert log.belongings(8).tasks == (other,)


@pytest.mark.parametrize("name", ["keys.db", "master-key"])
def test_keys_that_cannot_be_reached_are_not_taken_for_lost(tmp_path: Path, name: str) -> None:
    path, aside = tmp_path / "log.db", tmp_path / "aside"
    with closing(opened(path)) as log:
        log.append([created(1)], expected=0)
    (tmp_path / name).rename(aside)
    (tmp_path / name).mkdir()  # a folder, which not even root can read as a file
    with closing(Keys(path)) as keys, pytest.raises(KeysUnreadable) as refused:
        keys.check()
    with pytest.raises(KeysUnreadable) as not_started:
        opened(path)
    for error in (refused.value, not_started.value):
        assert "accept-lost-keys" not in error.advice
        assert "belong to the user of the service" in error.advice
    (tmp_path / name).rmdir()
    with pytest.raises(KeysUnreadable) as lost:
        opened(path)
    assert "accept-lost-keys" in lost.value.advice
    aside.rename(tmp_path / name)
    opened(path).close()


def test_an_older_copy_of_the_keys_is_of_no_use_once_one_was_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        log.append([created(1), created(2, user=8)], expected=0)
        copy = (tmp_path / "keys.db").read_bytes()
        log.destroy(log.belongings(7).keys)
        assert [record.event.user_id for record in log.read() if isinstance(record.event, Created)] == [0, 8]
    (tmp_path / "keys.db").write_bytes(copy)
    with closing(SqliteLogReader(path)) as reader, pytest.raises(KeysUnreadable, match="master key"):
        list(reader.read())


def test_a_reader_notices_that_a_key_was_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log, closing(SqliteLogReader(path)) as reader:
        log.append([created(1, label="seen")], expected=0)
        assert [record.event.label for record in reader.read() if isinstance(record.event, Created)] == ["seen"]
        log.destroy(log.belongings(7).keys)
        assert [record.event.label for record in reader.read() if isinstance(record.event, Created)] == [""]


def test_a_reader_goes_on_with_the_other_keys_when_one_is_destroyed_under_its_hands(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log, closing(SqliteLogReader(path)) as reader:
        log.append([created(1), created(2, user=8), created(3, user=9, label="seen")], expected=0)
        log.destroy(log.belongings(7).keys)
        records = reader.read()
        assert isinstance(event := next(records).event, Created)  # of a key that does not exist: only the file is open
        assert event.user_id == 0
        log.destroy(log.belongings(8).keys)
        users = [record.event.user_id for record in records if isinstance(record.event, Created)]
        assert users[-1] == 9


def test_whoever_reads_on_finds_the_key_of_a_new_user_though_another_was_destroyed_meanwhile(tmp_path: Path) -> None:
    """Otherwise that user's tasks were shown as erased."""
    path = tmp_path / "log.db"
    with closing(opened(path)) as log, closing(Keys(path)) as keys:
        log.append([created(1), created(2, user=8)], expected=0)
        assert keys.can_open(*log.belongings(8).keys)
        log.destroy(log.belongings(7).keys)
        log.append([created(3, user=9)], expected=2)
        assert keys.can_open(*log.belongings(9).keys)


def test_master_keys_that_are_overwritten_while_they_are_read_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file is in their place then. The old one is overwritten, because it may hold a key to be destroyed."""
    path, read = tmp_path / "log.db", list[bytes]()

    def late(file: Path) -> bytes:
        with file.open("rb") as old:
            monkeypatch.undo()
            _write_masters(file, _masters_in(file))
            read.append(old.read())
        return read[0]

    with closing(opened(path)) as log, closing(Keys(path)) as keys:
        log.append([created(1)], expected=0)
        monkeypatch.setattr("tasktrail.events.log.keys.read_small", late)
        assert keys.can_open(*log.belongings(7).keys)
    assert [any(content) for content in read] == [False]


NO_TEXT = "UPDATE sqlite_schema SET name = CAST(x'ff' AS TEXT), sql = 'CREATE x' WHERE name = 'keys'"


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM master",
        "DROP TABLE keys",
        "UPDATE keys SET wrapped = x'00'",
        f"PRAGMA writable_schema = ON; {NO_TEXT}",
    ],
)
def test_damaged_keys_are_told_and_a_check_of_the_log_counts_what_cannot_be_read(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        Journal(log).create(user_id=7)
    with closing(sqlite3.connect(tmp_path / "keys.db", isolation_level=None)) as conn:
        conn.executescript(damage)
    with closing(SqliteLogReader(path)) as reader:
        with pytest.raises(KeysUnreadable):
            list(reader.read())
        with closing(Keys(path)) as keys:
            assert (found := verify(reader, keys=keys)).ok
        assert (found.without_key, found.without_key_since) == (1, 1)


def test_only_views_that_know_more_than_the_log_are_no_views_to_be_built_anew(tmp_path: Path) -> None:
    path, views = tmp_path / "log.db", tmp_path / "views.db"
    with closing(opened(path)) as log:
        Journal(log).create(user_id=7)
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        rebuild_views(reader, views)
        (tmp_path / "keys.db").unlink()
        assert [finding.code for finding in verify(reader, views, keys=keys).findings] == ["key"]
        rebuild_views(reader, views)
        assert verify(reader, views, keys=keys).ok
        with closing(sqlite3.connect(views, isolation_level=None)) as conn:
            conn.create_function("row_sum", -1, lambda *_: 0)
            conn.execute("UPDATE counts SET number = 9")
        found = verify(reader, views, keys=keys)
        assert [(finding.code, finding.remedy) for finding in found.findings] == [("views", REMEDIES["views"])]
        assert found.without_key == 1


def test_a_key_that_is_only_asked_about_does_not_stay_in_memory(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "log.db")) as log, closing(Keys(tmp_path / "log.db")) as keys:
        log.append([created(1)], expected=0)
        assert [keys.can_open(name) for name in (*keys.of_user(7), KEY)] == [True, False]
        assert keys._ciphers == {}


def test_keys_that_were_destroyed_are_not_asked_for_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start, and each command without a service, asks for all that were ever destroyed."""
    fetch, asked = Keys._fetch, list[str]()

    def noted(self: Keys, conn: sqlite3.Connection, select: str, *values: Any) -> Any:
        asked.append(select)
        return fetch(self, conn, select, *values)

    with closing(opened(tmp_path / "log.db")) as log:
        log.append([created(1)], expected=0)
        (there,) = log.belongings(7).keys
        monkeypatch.setattr(Keys, "_fetch", noted)
        assert log.keys_there([there, *(f"{number:016x}" for number in range(100))]) == {there}
        assert len(asked) < 5
        (tmp_path / "keys.db").write_bytes(b"damaged" * 1000)
        assert log.keys_there([there]) == set()


def test_a_moved_master_key_is_replaced_so_that_earlier_copies_of_it_open_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    opened(path).close()
    before = _masters_in(tmp_path / "master-key")
    opened(path, master=tmp_path / "one").close()
    assert not before.keys() & _masters_in(tmp_path / "one").keys()


def test_the_master_key_is_moved_by_the_configuration_or_by_hand(tmp_path: Path) -> None:
    path, places = tmp_path / "log.db", [None, tmp_path / "one", tmp_path / "two", None]
    for number, place in enumerate(places):
        if number == 2:
            (tmp_path / "one").rename(tmp_path / "two")
        with closing(opened(path, master=place)) as log:
            log.append([created(number + 1, label="seen")], expected=number)
            labels = [record.event.label for record in log.read() if isinstance(record.event, Created)]
            assert labels == ["seen"] * (number + 1)
    assert {file.name for file in tmp_path.iterdir()} >= {"keys.db", "master-key"}
    assert not (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("has_keys", [False, True])
def test_another_folder_s_master_key_is_not_overwritten(tmp_path: Path, *, has_keys: bool) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    master = tmp_path / "master"
    opened(tmp_path / "one" / "log.db", master=master).close()
    before = master.read_bytes()
    if has_keys:
        opened(tmp_path / "two" / "log.db").close()
    with pytest.raises(KeysUnreadable, match="is there already"):
        opened(tmp_path / "two" / "log.db", master=master)
    assert master.read_bytes() == before
    if has_keys:
        opened(tmp_path / "two" / "log.db").close()


def test_a_move_of_the_master_key_goes_on_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    for number in count():
        folder = tmp_path / str(number)
        folder.mkdir()
        path, places = folder / "log.db", [folder / name for name in ("one", "two")]
        with closing(opened(path, master=places[0])) as log:
            log.append([created(1, label="seen")], expected=0)
        before = _masters_in(places[0]).keys()
        was_killed = killed_at(number, lambda: Keys(path).make(places[1]))  # noqa: B023 - called at once
        with closing(opened(path, master=places[1])) as log:
            assert [record.event.label for record in log.read() if isinstance(record.event, Created)] == ["seen"]
        assert not places[0].exists()
        assert len(_masters_in(places[1])) == 1
        assert not before & _masters_in(places[1]).keys()
        if not was_killed:
            assert number > 10
            return


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that ends at once after so many calls that make files durable or change their names."""
    pid = os.fork()
    if not pid:
        calls = count()
        for module, name in ((os, "fsync"), (os, "link"), (os, "replace"), (os, "rename"), (os, "unlink")):
            real = getattr(module, name)

            def call(*args: Any, real: Any = real, **more: Any) -> Any:
                if next(calls) == number:
                    os._exit(9)
                return real(*args, **more)

            setattr(module, name, call)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("name", [".master-key.new", ".master-key.old", "master-key"])
def test_master_keys_are_written_and_wiped_through_no_link(tmp_path: Path, name: str) -> None:
    """Root may work in the folder of a user, who can lay a link there to any file."""
    path, precious = tmp_path / "data" / "log.db", tmp_path / "precious"
    path.parent.mkdir()
    precious.write_text("kept")
    (path.parent / name).symlink_to(precious)
    with closing(opened(path)) as log:
        log.append([created(1)], expected=0)
        log.destroy(log.belongings(7).keys)
    assert precious.read_text() == "kept"
    assert [link.name for link in path.parent.iterdir() if link.is_symlink()] == []


def test_a_master_key_on_another_disk_behind_a_link_stays_there_and_the_old_one_is_wiped(tmp_path: Path) -> None:
    path, disk = tmp_path / "data" / "log.db", tmp_path / "disk"
    path.parent.mkdir()
    disk.mkdir()
    with closing(opened(path)) as log:
        log.append([created(1), created(2, user=8, label="seen")], expected=0)
    (path.parent / "master-key").rename(disk / "key")
    (path.parent / "master-key").symlink_to(disk / "key")
    before = (disk / "key").read_bytes()
    with closing(opened(path)) as log, (disk / "key").open("rb") as old:
        log.destroy(log.belongings(7).keys)
        assert old.read() == bytes(len(before))
        assert [record.event.label for record in log.read() if isinstance(record.event, Created)] == ["", "seen"]
    assert (path.parent / "master-key").is_symlink()
    assert [file.name for file in disk.iterdir()] == ["key"]


@pytest.mark.parametrize("table", ["keys", "master"])
def test_a_view_without_end_in_place_of_the_keys_holds_nobody_up(tmp_path: Path, table: str) -> None:
    path = tmp_path / "log.db"
    with closing(opened(path)) as log:
        Journal(log).create(user_id=7)
    put_endless_view(tmp_path / "keys.db", table)
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        assert verify(reader, keys=keys).without_key == 1
    with pytest.raises(KeysUnreadable, match=f"{table}, a view has its name"):
        opened(path)
