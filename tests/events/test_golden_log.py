"""A log that an earlier version wrote: its rows, its chain and the states that it led to must stay what they were."""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from typing import Any

import msgspec
import pytest

from tasktrail.events import Recorded, TaskState
from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.rows import from_row, to_row
from tasktrail.events.log.sqlite import LogReader, SqliteEventLog
from tasktrail.events.task_events import TAGS
from tasktrail.projections.legal_transitions import Lawbook
from tasktrail.projections.verification import verify
from tasktrail.projections.views.fold import Tally, fold_batch

GOLDEN = Path(__file__).parent.parent / "golden"
HEADS = {"0.1": "69544f8a315481c085a1726e89ee2a9c6983e566853e6ac8598da862e6c4eb3f"}

SYSTEM = {"service_started", "service_stopped", "adjusted", "worker_exited", "delivery_attempted"}
TAGS_OF = {"0.1": set(TAGS.values()) | SYSTEM}

each_release = pytest.mark.parametrize("release", HEADS)


def rows(release: str) -> list[list[Any]]:
    lines = (GOLDEN / f"log-{release}.jsonl").read_text(encoding="utf-8").splitlines()
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
    expected = json.loads((GOLDEN / f"states-{release}.json").read_text(encoding="utf-8"))
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
    """True as long as no shape has changed; with the first upcast this test ends for the releases before."""
    for row, record in zip(rows(release), records(release), strict=True):
        assert list(to_row(record, record.position)) == row[:14]


@pytest.mark.parametrize(
    ("name", "states"),
    [
        # What a service with workers wrote: tasks that end in each way, a schedule, a graph, limits, a stop, a start.
        ("service-0.1", "013df27f8e4c77d106910e96dd19830036c5e4eb6440f7cf008c7438d2d8a575"),
        # Random steps that the rules allowed, and every event that there was.
        ("history-0.1", "de0b561263f5b6c3b1663bbce016437f2fd32adff7078e4138c773b4e697b399"),
    ],
)
def test_an_old_file_opens_verifies_and_folds_to_the_same_states(tmp_path: Path, name: str, states: str) -> None:
    path = tmp_path / "log.db"
    copyfile(GOLDEN / f"{name}.db", path)
    with closing(SqliteEventLog(path, now=datetime.now(UTC))):
        pass
    with closing(LogReader(path)) as log:
        found = verify(log)
        assert (found.ok, found.findings) == (True, ())
        folded = fold_batch(log.read(), {}, Tally())
    assert hash_of(folded[task_id] for task_id in sorted(folded)) == states


def hash_of(states: Iterable[TaskState]) -> str:
    """The same for equal states, whichever fields with defaults a task has beside."""
    return sha256(b"\n".join(msgspec.json.encode(_told(state), order="deterministic") for state in states)).hexdigest()


def _told(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        given = {field.name: (getattr(value, field.name), field.default) for field in msgspec.structs.fields(value)}
        return {name: _told(found) for name, (found, default) in given.items() if found not in (default, {}, None)}
    return value
