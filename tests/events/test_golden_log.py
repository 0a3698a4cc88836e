"""Logs that earlier versions wrote: their rows, their chain and the resulting states stay what they were."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from golden_logs import ARCHIVES, FOLDER, LOGS, Golden, hash_of, unpack, write_archived_log, write_log

from tasktrail.api.reader import Reader
from tasktrail.events import Recorded
from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.faults import Damage
from tasktrail.events.log.rows import from_row, to_row
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.system_events import SegmentArchived
from tasktrail.events.task_events import TAGS
from tasktrail.projections import TaskFilters, rebuild_views
from tasktrail.projections.legal_transitions import Lawbook
from tasktrail.projections.verification import verify
from tasktrail.projections.views.fold import Tally, fold_batch

HEADS = {"0.1": "69544f8a315481c085a1726e89ee2a9c6983e566853e6ac8598da862e6c4eb3f"}

SYSTEM = {"service_started", "service_stopped", "adjusted", "worker_exited", "delivery_attempted"}
TAGS_OF = {"0.1": set(TAGS.values()) | SYSTEM}

each_release = pytest.mark.parametrize("release", HEADS)


def rows(release: str) -> list[list[Any]]:
    lines = (FOLDER / f"log-{release}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def records(release: str) -> Sequence[Recorded]:
    return [from_row(tuple(row[:14]), bytes.fromhex(row[14])) for row in rows(release)]


@each_release
def test_the_chain_of_an_old_log_still_verifies(release: str) -> None:
    digest = GENESIS
    for row in rows(release):
        digest = link(digest, row[:14])
        assert digest.hex() == row[14], f"position {row[0]}"
    assert digest.hex() == HEADS[release]


@each_release
def test_an_old_log_still_folds_to_the_states_it_led_to(release: str) -> None:
    expected = json.loads((FOLDER / f"states-{release}.json").read_text(encoding="utf-8"))
    states = fold_batch(records(release), {}, Tally())
    assert len(states) == len(expected)
    for state in expected:
        folded = json.loads(msgspec.json.encode(msgspec.structs.asdict(states[state["id"]])))
        assert {field: folded[field] for field in state} == state


@each_release
def test_an_old_log_still_keeps_the_rules(release: str) -> None:
    book = Lawbook()
    assert [fault for record in records(release) for fault in book.judge(record)] == []


@each_release
def test_every_event_of_the_release_is_in_its_log(release: str) -> None:
    assert {row[3] for row in rows(release)} == TAGS_OF[release]


@each_release
def test_what_is_read_is_written_again_byte_for_byte(release: str) -> None:
    """True as long as no form has changed; with the first upcast this test ends for the earlier releases."""
    for row, record in zip(rows(release), records(release), strict=True):
        assert list(to_row(record, record.position)) == row[:14]


GOLDEN_LOGS = msgspec.json.decode(LOGS.read_bytes(), type=dict[str, Golden])
SHORTER = {"0.1.0-9f864811": {"schedule_added"}}
"""Events of a log whose fields with their defaults were left out then, and are written since."""
each_log = pytest.mark.parametrize("name", GOLDEN_LOGS)


@pytest.fixture
def old(tmp_path: Path, name: str) -> Path:
    """A data folder with only the log of an earlier version."""
    unpack(name, tmp_path)
    return tmp_path


@each_log
def test_an_old_file_opens_verifies_and_folds_to_the_states_it_led_to(old: Path, name: str) -> None:
    with closing(SqliteEventLog(old / "log.db", now=datetime.now(UTC))) as log:
        assert log.head().hash.hex() == GOLDEN_LOGS[name].head
    with closing(SqliteLogReader(old / "log.db")) as log:
        folded = fold_batch(log.read(), {}, Tally())
        assert hash_of(folded[task_id] for task_id in sorted(folded)) == GOLDEN_LOGS[name].states
        rebuild_views(log, old / "views.db")
        found = verify(log, old / "views.db")
        assert (found.ok, found.findings, found.views_position) == (True, (), log.head().position)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return log and archives."""
    return {path.name: path.read_bytes() for path in (folder / "log.db", *folder.glob("archive/*"))}


@each_log
def test_an_old_file_answers_questions_without_being_opened_for_writing(old: Path, name: str) -> None:
    """As an auditor does with a copy: the log is read, and not brought up to date first."""
    before = files_of(old)
    with closing(Reader(old)) as reader:
        tasks, total = reader.list_tasks(TaskFilters(limit=500))
        counts = {status: number for status, number in reader.stats().counts.items() if number}
        kinds = {record.name for record in reader.log()}
        histories = [list(reader.events(task.id)) for task in tasks]
    assert Counter(task.status for task in tasks) == GOLDEN_LOGS[name].statuses == counts
    assert total == len(tasks) == len(list(filter(None, histories)))
    assert kinds == {*GOLDEN_LOGS[name].events}
    assert files_of(old) == before


@each_log
def test_a_record_of_an_old_file_is_written_again_byte_for_byte(old: Path, name: str) -> None:
    """So it has the same hash: a field that came later has a default, and is left out."""
    with closing(SqliteLogReader(old / "log.db")) as log:
        for row in log.raw_rows():
            assert not isinstance(row, Damage)
            if row[3] in SHORTER.get(name, ()):
                continue
            assert list(to_row(from_row(row[:14], row[14]), row[0])) == list(row[:14])


def test_the_golden_logs_have_every_event_of_a_task_and_stay_small() -> None:
    """Each except one: the log of a service with workers has the service's own events."""
    whole = [golden for name, golden in GOLDEN_LOGS.items() if not name.endswith(ARCHIVES)]
    lacking = [golden for golden in whole if not {*golden.events} >= {*TAGS.values()}]
    assert len(whole) > len(lacking) + 5
    assert sum(path.stat().st_size for path in FOLDER.glob("*.gz")) < 300_000


def test_a_golden_log_has_archives_of_which_one_was_written_again(tmp_path: Path) -> None:
    names = [name for name in GOLDEN_LOGS if name.endswith(ARCHIVES)]
    assert names
    unpack(names[-1], tmp_path)
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        archived = [record.event for record in log.read() if isinstance(record.event, SegmentArchived)]
        assert len(log.segments()) == 3
        assert any(event.replaces for event in archived)
        assert verify(log).stubs


@pytest.mark.parametrize("write", [write_log, write_archived_log])
def test_the_log_that_is_made_for_this_version_is_sound(tmp_path: Path, write: Callable[[Path], Golden]) -> None:
    golden = write(tmp_path / "log.db")
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        assert verify(log).findings == ()
        assert log.head().hash.hex() == golden.head


def test_the_logs_that_are_made_for_this_version_have_every_event(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    both = write_log(tmp_path / "log.db"), write_archived_log(tmp_path / "other" / "log.db")
    assert {name for golden in both for name in golden.events} == {*EVENT_TAGS.values()}
