"""Snapshots on the disk: whatever is wrong with one, the whole log is folded instead, with the same result."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from histories import BEGIN, Journal, random_history

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import Durable, SchedulerState
from tasktrail.actors.core.tasks import AsCreated
from tasktrail.actors.delivery.dispatcher import Dispatcher
from tasktrail.actors.messages import PING, WAKE, DeleteSnapshots
from tasktrail.actors.snapshot_file import PART, SnapshotHeader, SnapshotUnusable, header_of, reading, write
from tasktrail.actors.snapshots import (
    OUTBOX_SNAPSHOT,
    SCHEDULER_SNAPSHOT,
    delete_snapshots,
    folded_outbox,
    folded_state,
    take_snapshots,
    with_snapshots,
)
from tasktrail.actors.snapshotter import SnapshotPace, Snapshotter
from tasktrail.events import Fact, Recorded, TaskState
from tasktrail.events.commands import CancelTask
from tasktrail.events.errors import NotReady, TaskForgotten
from tasktrail.events.log.event_log import Head
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import ErasureFinished, UserErased
from tasktrail.projections.history import recall_from
from tasktrail.projections.outbox import Outbox
from tasktrail.projections.verification import verify

WITHIN = 30


def new_state() -> SchedulerState:
    return SchedulerState(Limits(), grace={})


@pytest.fixture
def log() -> MemoryEventLog:
    log = MemoryEventLog()
    random_history(Journal(log), 200, seed=5)
    return log


@pytest.fixture
def snapshots(log: MemoryEventLog, tmp_path: Path) -> Path:
    """Make a folder with good snapshots of the first half of the log."""
    half = log.head().position // 2
    (record,) = log.read(after=half - 1, limit=1)
    SCHEDULER_SNAPSHOT.take(log, tmp_path / "scheduler", Head(half, record.hash))
    OUTBOX_SNAPSHOT.take(log, tmp_path / "outbox", Head(half, record.hash))
    return tmp_path


# --- what is wrong with a file ----------------------------------------------------------------------------------


def flip(at: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(at * (len(data) - 1))] ^= 0x04
        path.write_bytes(data)

    return damage


def cut(to: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(to * path.stat().st_size)])  # type: ignore[return-value]  # the number of bytes


def with_header(**fields: Any) -> Callable[[Path], None]:
    """Return the same lines under another header, with a hash that fits."""

    def rewrite(path: Path) -> None:
        lines = path.read_bytes().splitlines()
        write(path, msgspec.structs.replace(header_of(path), **fields), lines[1:-1])

    return rewrite


def bad_lines(path: Path) -> None:
    write(path, header_of(path), [b'{"position":"none"}', b"\xff"])


def of_earlier_form(path: Path) -> None:
    """Return it in the form used before the first line held the durable half of the memory as it is."""
    book = b'{"position":1,"last_task_id":0,"system_version":1,"last_at":null,"limit_changes":{},"limit_positions":[]}'
    write(path, msgspec.structs.replace(header_of(path), code="54e29966b07b1685"), [book, b"[]"])


def no_lines(path: Path) -> None:
    write(path, header_of(path), [])


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS = {
    "absent": Path.unlink,
    "empty": cut(0),
    "cut in the header": cut(0.01),
    "cut in the middle": cut(0.5),
    "cut at the end": cut(0.9999),
    "a bit flipped in the header": flip(0),
    "a bit flipped in the middle": flip(0.5),
    "a bit flipped near the end": flip(0.98),
    "a bit flipped in the hash": flip(1),
    "of another log": with_header(hash="00" * 32),
    "of a longer log": with_header(position=10**6),
    "of no position": with_header(position=0),
    "of later code": with_header(code="ffffffffffffffff"),
    "of earlier code, in its form": of_earlier_form,
    "of another kind": with_header(kind="views"),
    "lines that are none": bad_lines,
    "no lines": no_lines,
    "not a file": unreadable,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_snapshot_leads_to_the_fold_of_the_whole_log(fault: str, log: MemoryEventLog, snapshots: Path) -> None:
    FAULTS[fault](snapshots / "scheduler")
    FAULTS[fault](snapshots / "outbox")
    assert SCHEDULER_SNAPSHOT.recalled(log, snapshots / "scheduler", new_state) is None
    assert OUTBOX_SNAPSHOT.recalled(log, snapshots / "outbox") is None
    state = folded_state(log, new_state, snapshots / "scheduler")
    assert state.durable == folded_state(log, new_state).durable
    assert state.tasks == folded_state(log, new_state).tasks
    assert folded_outbox(log, snapshots / "outbox").kept() == folded_outbox(log).kept()


def test_a_good_snapshot_is_used(log: MemoryEventLog, snapshots: Path) -> None:
    state = SCHEDULER_SNAPSHOT.recalled(log, snapshots / "scheduler", new_state)
    assert state is not None
    assert state.position == log.head().position // 2
    assert OUTBOX_SNAPSHOT.recalled(log, snapshots / "outbox") is not None


class ReadFrom(MemoryEventLog):
    """Notes the position from which it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        self.reads.append(after)
        return super().read(after, limit)


def test_what_a_snapshot_without_any_notice_holds_is_not_read_again(tmp_path: Path) -> None:
    log = ReadFrom()
    journal = Journal(log)
    journal.create()
    journal.create()
    take_snapshots(log, tmp_path)
    assert len(folded_outbox(log)) == 0, "nobody is to be told"
    log.reads.clear()
    folded_outbox(log, tmp_path / "outbox")
    take_snapshots(log, tmp_path)
    assert 0 not in log.reads


@pytest.mark.parametrize("seed", range(3))
def test_an_outbox_is_the_same_whether_it_saw_all_records_or_those_that_concern_notices(
    tmp_path: Path, seed: int
) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        random_history(Journal(log), 80, seed=seed)
        whole = Dispatcher(Outbox(recall_from(log)))
        whole.apply(log.read())
        assert len(whole) > 0
        assert folded_outbox(log).kept() == whole.kept()


@pytest.mark.slow
def test_any_flipped_bit_is_noticed(log: MemoryEventLog, snapshots: Path) -> None:
    path = snapshots / "outbox"
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 300)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert OUTBOX_SNAPSHOT.recalled(log, path) is None, f"byte {place}"


def test_a_reader_that_takes_all_lines_has_read_a_whole_file(log: MemoryEventLog, snapshots: Path) -> None:
    path = snapshots / "scheduler"
    flip(1)(path)
    with (
        pytest.raises(SnapshotUnusable, match="damaged"),
        reading(path, "scheduler", SCHEDULER_SNAPSHOT.code(), log) as (_, lines),
    ):
        list(lines)


def test_another_fold_makes_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SCHEDULER_SNAPSHOT.code()
    assert SCHEDULER_SNAPSHOT.code() == before
    monkeypatch.setattr("tasktrail.actors.snapshots.FOLD", 10**6)
    assert SCHEDULER_SNAPSHOT.code() != before


@pytest.mark.parametrize("written", [Durable, TaskState, AsCreated])
def test_other_fields_make_other_code(monkeypatch: pytest.MonkeyPatch, written: type[msgspec.Struct]) -> None:
    before = SCHEDULER_SNAPSHOT.code()
    other = msgspec.defstruct(written.__name__, [("new", int, 0)], bases=(written,))
    shapes = [other if one is written else one for one in SCHEDULER_SNAPSHOT.shapes]
    monkeypatch.setattr(SCHEDULER_SNAPSHOT, "shapes", tuple(shapes))
    assert SCHEDULER_SNAPSHOT.code() != before


@pytest.mark.parametrize("written", [Durable, TaskState, AsCreated])
def test_other_docstrings_make_no_other_code(monkeypatch: pytest.MonkeyPatch, written: type[msgspec.Struct]) -> None:
    """Changed docstrings alone once made every data folder fold its whole log."""
    codes = []
    for words in ("Some words.", "Better words."):
        other = msgspec.defstruct(written.__name__, [], bases=(written,), namespace={"__doc__": words})
        shapes = [other if one is written else one for one in SCHEDULER_SNAPSHOT.shapes]
        monkeypatch.setattr(SCHEDULER_SNAPSHOT, "shapes", tuple(shapes))
        codes.append(SCHEDULER_SNAPSHOT.code())
        monkeypatch.undo()
    assert codes[0] == codes[1]


# --- writing ----------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_older_snapshot_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scheduler"
    head = SnapshotHeader(kind="scheduler", code="x", position=1, hash="00")
    write(path, head, [b"1"])
    before = path.read_bytes()

    def lines() -> Any:
        yield b"2"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        write(path, head, lines())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_owner_may_read_a_snapshot(snapshots: Path) -> None:
    assert (snapshots / "scheduler").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a data folder with a log on the disk."""
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    random_history(Journal(log), 300, seed=6)
    log.close()
    return tmp_path


def test_a_log_on_the_disk_folds_as_one_in_memory_does(data: Path) -> None:
    whole = MemoryEventLog()
    random_history(Journal(whole), 300, seed=6)
    log = SqliteLogReader(data / "log.db")
    ours, theirs = folded_state(log, new_state), folded_state(whole, new_state)
    log.close()
    assert (ours.tasks, ours.durable) == (theirs.tasks, theirs.durable)


_SLOW_WRITER = """
import sys, os
from pathlib import Path
from tasktrail.actors import snapshotter
plain = os.fsync
def fsync(fd):
    print("writing", flush=True)
    sys.stdin.read()
    plain(fd)
os.fsync = fsync
snapshotter.main(sys.argv[1], sys.argv[2], str(os.getppid()))
"""


@pytest.mark.crash
def test_a_writer_that_is_killed_leaves_the_older_snapshot(data: Path) -> None:
    reader = SqliteLogReader(data / "log.db")
    folder = data / "snapshots"
    take_snapshots(reader, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = [sys.executable, "-c", _SLOW_WRITER, str(data / "log.db"), str(folder)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate(timeout=WITHIN)
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [name for name in left if name.endswith(PART)], "it was killed before the end"
    assert {name: content for name, content in left.items() if not name.endswith(PART)} == before
    take_snapshots(reader, folder)
    assert {path.name for path in folder.iterdir()} == {"scheduler", "outbox"}
    reader.close()


def test_an_empty_log_gives_no_snapshot(tmp_path: Path) -> None:
    assert take_snapshots(MemoryEventLog(), tmp_path) == (0, 0)
    assert list(tmp_path.iterdir()) == []


# --- when -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_due_after_so_many_records_and_once() -> None:
    pace = SnapshotPace(100)
    assert not pace.is_due(10**9), "nobody has looked yet what there is"
    pace.count_from(50)
    assert [pace.is_due(position) for position in (149, 150, 151)] == [False, True, False]


def test_a_snapshot_of_many_tasks_waits_for_half_as_many_records() -> None:
    pace = SnapshotPace(100)
    pace.taken(0, tasks=1000)
    assert [pace.is_due(position) for position in (499, 500)] == [False, True]


def test_after_a_failure_the_next_try_waits() -> None:
    pace = SnapshotPace(100)
    pace.failed(1000)
    assert [pace.is_due(position) for position in (1399, 1400)] == [False, True]


def test_no_snapshot_is_ever_due_when_none_are_wanted() -> None:
    pace = SnapshotPace(0)
    pace.count_from(0)
    pace.taken(0, tasks=0)
    assert not pace.is_due(10**9)


class _Pace(SnapshotPace):
    """Records when it was called."""

    def __init__(self) -> None:
        super().__init__(1)
        self.told = Event()
        self.said: list[tuple[str, int]] = []

    def count_from(self, position: int) -> None:
        self.said.append(("counts from", position))
        self.told.set()
        super().count_from(position)

    def taken(self, position: int, tasks: int) -> None:
        self.said.append(("taken", position))
        self.told.set()
        super().taken(position, tasks)

    def failed(self, position: int) -> None:
        self.said.append(("failed", position))
        self.told.set()

    def called_off(self) -> None:
        super().called_off()
        self.said.append(("called off", 0))
        self.told.set()


def _snapshotter(data: Path, folder: Path, pace: SnapshotPace, position: int) -> Any:
    ref = Snapshotter.start(log_path=data / "log.db", folder=folder, pace=pace, position=lambda: position)
    ref.ask(PING, timeout=WITHIN)
    return ref


def test_the_snapshotter_has_both_taken_by_another_process(data: Path) -> None:
    reader = SqliteLogReader(data / "log.db")
    head = reader.head().position
    pace = _Pace()
    ref = _snapshotter(data, data / "snapshots", pace, head)
    assert pace.said == [("counts from", 0)], "at the start there is none"
    pace.told.clear()
    assert pace.told.wait(WITHIN)
    assert pace.said[1:] == [("taken", head)]
    assert SCHEDULER_SNAPSHOT.recalled(reader, data / "snapshots" / "scheduler", new_state) is not None
    assert OUTBOX_SNAPSHOT.recalled(reader, data / "snapshots" / "outbox") is not None
    ref.stop(timeout=WITHIN)
    again = _Pace()
    _snapshotter(data, data / "snapshots", again, head).stop(timeout=WITHIN)
    assert again.said == [("counts from", head)], "the next one goes on from there"
    reader.close()


def test_a_snapshot_that_cannot_be_taken_is_no_trouble(data: Path) -> None:
    (data / "snapshots").write_text("in the way")
    pace = _Pace()
    ref = _snapshotter(data, data / "snapshots", pace, 300)
    pace.told.clear()
    assert pace.told.wait(WITHIN)
    assert pace.said[-1] == ("failed", 300)
    ref.ask(PING, timeout=WITHIN)
    ref.stop(timeout=WITHIN)


def test_while_an_erasure_goes_on_a_snapshot_is_put_off(data: Path) -> None:
    with (
        closing(SqliteEventLog(data / "log.db", now=BEGIN)) as log,
        closing(SqliteLogReader(data / "log.db")) as reader,
    ):
        head = reader.head().position
        erased = UserErased(keys=(), tasks=(1,))
        log.append([Fact(0, reader.version_at(0, head) + 1, erased, BEGIN, "ops")], expected=head)
    pace = _Pace()
    ref = _snapshotter(data, data / "snapshots", pace, head + 1)
    pace.told.clear()
    assert pace.told.wait(WITHIN)
    ref.stop(timeout=WITHIN)
    assert pace.said == [("counts from", 0), ("counts from", head + 1)]
    assert not (data / "snapshots" / "scheduler").exists()


def test_all_snapshots_are_deleted_whatever_is_in_their_place(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "one").touch()
    (folder / "outbox").symlink_to("outbox")
    (folder / "scheduler.7.part").touch()
    (folder / "another").touch()
    delete_snapshots(folder)
    assert [path.name for path in folder.iterdir()] == ["another"]
    (tmp_path / "file").touch()
    delete_snapshots(tmp_path / "file")
    delete_snapshots(tmp_path / "nothing")


def test_a_snapshot_that_is_deleted_while_it_is_taken_is_due_again_and_waits_for_somebody_to_ask(data: Path) -> None:
    pace = _Pace()
    ref = _snapshotter(data, data / "snapshots", pace, 300)
    pace.told.clear()
    ref.ask(DeleteSnapshots(), timeout=WITHIN)
    assert pace.told.wait(WITHIN)
    assert [what for what, _ in pace.said] == ["counts from", "called off"]
    ref.ask(PING, timeout=WITHIN)
    assert not _children_that_write(data), "a standby still has the keys of whom it erases"
    pace.told.clear()
    assert pace.is_due(300)
    ref.tell(WAKE)
    assert pace.told.wait(WITHIN)
    assert pace.said[-1][0] == "taken"
    ref.stop(timeout=WITHIN)
    assert (data / "snapshots" / "scheduler").exists()


def test_a_snapshotter_that_stops_ends_its_process(data: Path) -> None:
    ref = _snapshotter(data, data / "snapshots", SnapshotPace(1), 0)
    ref.tell(WAKE)
    ref.stop(timeout=WITHIN)
    assert not ref.is_alive()
    assert not _children_that_write(data)


def _children_that_write(data: Path) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[1-9]*")
        if str(data / "snapshots").encode() in _command_of(entry)
    ]


def _command_of(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


# --- verify -----------------------------------------------------------------------------------------------------


def test_verify_finds_nothing_wrong_with_a_good_snapshot(data: Path) -> None:
    reader = SqliteLogReader(data / "log.db")
    take_snapshots(reader, data / "snapshots")
    assert with_snapshots(verify(reader), reader, data / "snapshots").ok
    reader.close()


def test_what_an_erasure_takes_is_in_no_snapshot_that_is_used_or_taken(tmp_path: Path) -> None:
    log = MemoryEventLog()
    journal = Journal(log)
    journal.create(user_id=7)
    take_snapshots(log, tmp_path)
    path = tmp_path / "scheduler"
    assert SCHEDULER_SNAPSHOT.recalled(log, path) is not None
    (erased,) = journal.record(0, UserErased(keys=("k",), tasks=(1,)))
    assert SCHEDULER_SNAPSHOT.recalled(log, path) is None
    before = path.read_bytes()
    with pytest.raises(NotReady, match="erasure is not finished"):
        take_snapshots(log, tmp_path)
    assert path.read_bytes() == before
    journal.record(0, ErasureFinished(erasure=erased.position))
    take_snapshots(log, tmp_path)
    assert SCHEDULER_SNAPSHOT.recalled(log, path) is not None


def test_a_snapshot_that_was_taken_without_keys_is_used_only_while_these_are_missing(tmp_path: Path) -> None:
    """Not even for what is over: the notice that task 1 was cancelled is still to be sent."""
    place, keys, kept = tmp_path / "log.db", tmp_path / "keys.db", tmp_path / "kept"
    with closing(SqliteEventLog(place, now=BEGIN, encrypted=True)) as log:
        journal = Journal(log)
        journal.create("noop", user_id=7, callback_url="https://there.test/")
        journal.send(CancelTask(task_id=1))
        journal.create("noop", user_id=7, input_file="/in/one.mov")
        keys.rename(kept)
        with closing(SqliteLogReader(place)) as reader:
            take_snapshots(reader, tmp_path / "snapshots")
        journal.create("noop")
        with closing(SqliteLogReader(place)) as reader:  # continues the other one, and reads nothing that needs a key
            take_snapshots(reader, tmp_path / "snapshots")
            for kind in (SCHEDULER_SNAPSHOT, OUTBOX_SNAPSHOT):
                assert kind.recalled(reader, tmp_path / "snapshots" / kind.name) is not None
            kept.rename(keys)
            state = folded_state(reader, new_state, tmp_path / "snapshots" / "scheduler")
            assert state.tasks[2].spec.input_file == "/in/one.mov"
            assert len(folded_outbox(reader, tmp_path / "snapshots" / "outbox")) == 1
            assert with_snapshots(verify(reader), reader, tmp_path / "snapshots").ok, "they are only out of date"
            take_snapshots(reader, tmp_path / "snapshots")
            for kind in (SCHEDULER_SNAPSHOT, OUTBOX_SNAPSHOT):
                assert header_of(tmp_path / "snapshots" / kind.name).missing_keys == []
                assert kind.recalled(reader, tmp_path / "snapshots" / kind.name) is not None


def test_verify_finds_an_altered_snapshot_beside_an_erasure_that_is_over(data: Path) -> None:
    with (
        closing(SqliteEventLog(data / "log.db", now=BEGIN)) as log,
        closing(SqliteLogReader(data / "log.db")) as reader,
    ):
        at, version = reader.head().position, reader.version_at(0, reader.head().position)
        facts = [
            Fact(0, version + 1, UserErased(keys=(), tasks=(1,)), BEGIN, "ops"),
            Fact(0, version + 2, ErasureFinished(erasure=at + 1), BEGIN, "ops"),
        ]
        log.append(facts, expected=at)
        take_snapshots(reader, data / "snapshots")
        drift(data / "snapshots" / "scheduler")
        assert list(SCHEDULER_SNAPSHOT.findings(reader, data / "snapshots" / "scheduler"))


@pytest.mark.parametrize("kind", ["scheduler", "outbox"])
def test_verify_finds_a_snapshot_that_is_not_the_fold(data: Path, kind: str) -> None:
    """Its hash fits, but a task in it has another state than in the log."""
    reader = SqliteLogReader(data / "log.db")
    take_snapshots(reader, data / "snapshots")
    drift(data / "snapshots" / kind)
    found = with_snapshots(verify(reader), reader, data / "snapshots")
    assert [(one.code, one.position) for one in found.findings] == [("snapshot", reader.head().position)]
    assert not found.ok
    reader.close()


def drift(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    changed = [line.replace(b'"priority":4', b'"priority":5') for line in lines[1:-1]]
    assert changed != lines[1:-1]
    write(path, header_of(path), changed)


def test_a_snapshot_is_not_held_against_a_log_in_which_tasks_are_forgotten_meanwhile(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> Iterator[Recorded]:
        raise TaskForgotten("Task 1 was forgotten at position 400")

    with closing(SqliteLogReader(data / "log.db")) as reader:
        take_snapshots(reader, data / "snapshots")
        sound = verify(reader)
        drift(data / "snapshots" / "scheduler")
        drops = iter([[], [SimpleNamespace(position=400)], []])  # of the one none, and then one; of the other none
        monkeypatch.setattr(reader, "drops", lambda _after: next(drops))
        assert with_snapshots(sound, reader, data / "snapshots").ok
        monkeypatch.undo()
        monkeypatch.setattr(reader, "read_to_fold", gone)
        assert with_snapshots(sound, reader, data / "snapshots").ok


def test_verify_says_when_a_snapshot_is_damaged_and_is_silent_about_one_of_other_code(data: Path) -> None:
    reader = SqliteLogReader(data / "log.db")
    take_snapshots(reader, data / "snapshots")
    flip(0.5)(data / "snapshots" / "scheduler")
    with_header(code="0")(data / "snapshots" / "outbox")
    found = with_snapshots(verify(reader), reader, data / "snapshots")
    assert [finding.code for finding in found.findings] == ["snapshot"]
    reader.close()
