"""The forms of events only grow, and an older version that opens a newer log says what it lacks.

`tests/golden/forms.json` pins the forms. `make golden` writes it anew, where they have only grown.
"""

import sqlite3
from contextlib import closing
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from golden_logs import FORMS, unfit

from tasktrail.events import Created, Fact
from tasktrail.events.errors import LogTooNew
from tasktrail.events.forms import Forms, forms_fingerprint, known_forms, lacking
from tasktrail.events.log.schema import NAMES, SET
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.log.writers import added_forms, writer_of
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.system_events import ServiceStarted
from tasktrail.projections.verification import verify

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_the_forms_are_pinned_and_have_only_grown() -> None:
    pinned = msgspec.json.decode(FORMS.read_bytes(), type=Forms)
    assert unfit(pinned, known_forms()) == ""
    assert pinned == known_forms(), "The events have another form than is pinned: see what is new, and `make golden`"


def test_every_version_knows_the_forms_that_are_not_recorded() -> None:
    """Forms that `ServiceStarted` leaves out are known to all versions: the file of the first forms never changes."""
    first = Path(__file__).parents[2] / "events" / "log" / "first_forms.json"
    assert lacking(msgspec.json.decode(first.read_bytes(), type=Forms), known_forms()) == []


def changed(tag: str, path: str, form: str | None) -> Forms:
    forms = deepcopy(known_forms())
    if form is None:
        del forms[tag][path]
    else:
        forms.setdefault(tag, {})[path] = form
    return forms


@pytest.mark.parametrize(
    ("tag", "path", "form", "told"),
    [
        ("completed", "message", None, "`completed.message` cannot be read any more"),
        ("completed", "message", 'int = ""', "`completed.message` as str cannot be read any more"),
        ("failed", "outcome", '"failed"', '`failed.outcome` as "interrupted" cannot be read any more'),
        ("completed", "message", 'str = "done"', '`completed.message` left out for "" cannot be read any more'),
        ("completed", "message", "str", "`completed.message` left out cannot be read any more"),
        ("completed", "colour", "str", "`completed.colour` is new and has no default"),
        ("checkpointed", "checkpoint.colour", "str", "`checkpointed.checkpoint.colour` is new and has no default"),
    ],
)
def test_a_change_that_makes_old_records_unreadable_is_refused_and_says_what_to_do(
    tag: str, path: str, form: str | None, told: str
) -> None:
    found = unfit(known_forms(), changed(tag, path, form))
    assert told in found
    assert "CONTRIBUTING.md" in found


@pytest.mark.parametrize(
    ("tag", "path", "form"),
    [
        ("completed", "colour", 'str = ""'),
        ("completed", "message", 'none|str = ""'),
        ("created", "type", 'str = "noop"'),
        ("melted", "degrees", "int"),
        ("checkpointed", "checkpoint.colour", "str|none = null"),
    ],
)
def test_what_old_records_do_not_miss_may_be_added(tag: str, path: str, form: str) -> None:
    assert unfit(known_forms(), changed(tag, path, form)) == ""


@pytest.mark.parametrize(
    ("tag", "path", "form", "told"),
    [
        ("melted", "degrees", "int", ["the event `melted`"]),
        ("completed", "colour", 'str = ""', ["`completed.colour`"]),
        ("completed", "message", 'int|str = ""', ["`completed.message` as int"]),
        ("created", "type", 'str = "noop"', ["`created.type` left out"]),
        ("created", "priority", "int = 5", ["`created.priority` left out for 5"]),
        ("completed", "message", 'str = ""', []),
    ],
)
def test_what_a_version_lacks_is_told_in_words(tag: str, path: str, form: str, told: list[str]) -> None:
    assert lacking({tag: {path: form}}, known_forms()) == told


def test_a_version_lacks_nothing_of_its_own_or_of_earlier_forms() -> None:
    assert lacking(known_forms(), known_forms()) == []
    assert lacking(known_forms(), changed("completed", "colour", 'str = ""')) == []


def test_the_fingerprint_is_that_of_the_forms_and_nothing_else() -> None:
    known_forms.cache_clear()
    before = forms_fingerprint()
    forms_fingerprint.cache_clear()
    assert (forms_fingerprint(), len(before)) == (before, 16)


def test_a_service_records_the_forms_that_the_first_version_did_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = added_forms()
    forms = changed("completed", "colour", 'str = ""')
    forms["melted"] = {}
    monkeypatch.setattr("tasktrail.events.log.writers.known_forms", lambda: forms)
    added = added_forms()
    assert added == {**usual, "completed": {**usual["completed"], "colour": 'str = ""'}, "melted": {}}
    assert "progressed" not in added


# --- a log that a newer version has written ---


def log_of(path: Path, *starts: ServiceStarted) -> None:
    for _ in starts[1:]:
        SqliteEventLog(path, now=NOW).close()  # takes an epoch
    with closing(SqliteEventLog(path, now=NOW)) as log:
        facts = [Fact(0, version, start, NOW) for version, start in enumerate(starts, 1)]
        log.append([*facts, Fact(1, 1, Created(type="noop"), NOW, life=1)], expected=0)


def started(forms: Forms, version: str = "9.1", epoch: int = 1) -> ServiceStarted:
    return ServiceStarted(version=version, epoch=epoch, pid=1, host="here", schema="f" * 16, forms=forms)


NEWER = {"melted": {"degrees": "int"}, "completed": {"colour": 'str = ""'}}
OWN = {"completed": {"message": 'str = ""'}}


def content_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as conn:
        return list(conn.iterdump())


def test_a_log_of_a_version_that_knew_more_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log_of(path, started({}), started(NEWER, epoch=2))
    before = content_of(path)
    with pytest.raises(LogTooNew, match=r"position 2: tasktrail 9\.1 .*`completed.colour`, the event `melted`") as told:
        SqliteEventLog(path, now=NOW)
    assert "tasktrail restore" in told.value.advice
    assert content_of(path) == before


@pytest.mark.parametrize("forms", [{}, OWN, known_forms()])
def test_a_log_of_the_same_or_an_earlier_version_is_opened(tmp_path: Path, forms: Forms) -> None:
    log_of(tmp_path / "log.db", started(forms))
    SqliteEventLog(tmp_path / "log.db", now=NOW).close()


def test_only_the_service_that_started_last_decides(tmp_path: Path) -> None:
    """An older version has continued the log since, which it could only do where nothing stood in its way."""
    log_of(tmp_path / "log.db", started(NEWER), started({}, version="0.1", epoch=2))
    SqliteEventLog(tmp_path / "log.db", now=NOW).close()


def by_hand(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for statement in statements:
            conn.execute(statement)


@pytest.mark.parametrize(("column", "value"), [("event", "'melted'"), ("data", """'{"type":"noop","colour":"red"}'""")])
def test_a_record_of_a_later_version_is_not_called_damage_when_a_log_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, value: str
) -> None:
    log_of(tmp_path / "log.db", started({}))
    by_hand(
        tmp_path / "log.db",
        "DROP TRIGGER events_are_not_changed",
        f"UPDATE events SET {column} = {value} WHERE position = 2",
    )
    monkeypatch.setattr("tasktrail.events.log.integrity.link", lambda _before, row: digest_of(tmp_path, row[0]))
    monkeypatch.setattr("tasktrail.events.log.sqlite.schema_faults", lambda _conn: iter(()))
    with pytest.raises(LogTooNew, match="osition 2"):
        SqliteEventLog(tmp_path / "log.db", now=NOW)


def digest_of(folder: Path, position: int) -> bytes:
    """Return the stored hash, in place of a chain that a later version has made."""
    with closing(sqlite3.connect(folder / "log.db")) as conn:
        return bytes(conn.execute("SELECT hash FROM events WHERE position = ?", (position,)).fetchone()[0])


def test_tables_of_a_later_version_are_not_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log_of(path, started({}))
    later = (len(NAMES) + 1, SET, "keep_more", "2027-01-01T00:00:00Z")
    by_hand(path, f'INSERT INTO "_sqlite_migrations" VALUES {later}')
    with pytest.raises(LogTooNew, match="keep_more"):
        SqliteEventLog(path, now=NOW)


def test_verify_tells_what_is_newer_from_what_is_damaged_and_who_wrote(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log_of(path, started({}, version="0.1"), started({}, version="0.1", epoch=2), started(NEWER, epoch=3))
    with closing(SqliteLogReader(path)) as log:
        found = verify(log)
    assert [(one.position, one.code) for one in found.findings] == [(3, "newer")]
    assert "Install" in found.findings[0].remedy
    assert [(one.version, one.since) for one in found.written_by] == [("0.1", 1), ("9.1", 3)]


def test_verify_takes_nothing_that_a_newer_version_wrote_for_damage(tmp_path: Path) -> None:
    """The field is known; its value is not. Only the recorded forms of the writer distinguish that from damage."""
    forms = {"failed": {"outcome": '"evaporated"|"failed"'}}
    path = tmp_path / "log.db"
    log_of(path, started(forms))
    by_hand(path, "DROP TRIGGER events_are_not_changed", """UPDATE events SET data = '{"type":7}' WHERE position = 2""")
    with closing(SqliteLogReader(path)) as log:
        codes = {(one.position, one.code) for one in verify(log).findings if one.code in ("newer", "unreadable")}
    assert codes == {(1, "newer"), (2, "newer")}


@pytest.mark.parametrize("data", ["", "{", "[]", '{"forms":7}', '{"version":1}', "[" * 100_000])
def test_a_start_that_cannot_be_read_says_nothing_of_who_wrote(data: str) -> None:
    assert writer_of(1, data) is None


def test_a_part_that_may_be_missing_may_have_fields_that_may_not() -> None:
    forms = changed("completed", "extra", "none|object = null")
    forms["completed"]["extra.size"] = "int"
    assert unfit(known_forms(), forms) == ""


def test_every_event_is_among_the_forms() -> None:
    assert set(known_forms()) == set(EVENT_TAGS.values())
