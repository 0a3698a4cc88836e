"""D, E, H. Append, replay, disk and memory of a task, restart with many unfinished tasks."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import month
import msgspec
from archiving import ArchivingEventLog
from floors import in_batches, one_by_one, raw_log
from harness import SUPPORT, Goal, Table, scratch, seconds
from msgspec.structs import replace

from tasktrail import Config, TaskService
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.snapshots import folded_state
from tasktrail.events import Answer, Checkpoint, Checkpointed, Completed, Created, Event, Fact, Progressed, Started
from tasktrail.events.log.archive_file import RANGE
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.exports.tiles import write_tiles
from tasktrail.handlers.inputs import Input
from tasktrail.handlers.video.convert.checkpoint import (
    AudioTrack,
    FinishedPart,
    SavedConversion,
    Segment,
    SegmentPlan,
    choose_cuts,
    step_for,
)
from tasktrail.handlers.video.convert.journal import Journal
from tasktrail.projections.proof.seals import make_seal
from tasktrail.testing import RecordingContext

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SMALL = 1024
"""Records in each of many archives."""


def tables(*, quick: bool) -> list[Table]:
    """Compare the log with raw SQLite, and measure the whole service for the rest."""
    number = 500 if quick else 5000
    append = []
    for size in (1, 10, 100):
        count = min(number, 1000) if size == 1 else number
        table = Table("D1", f"Append, {size} a commit", "events/s", yardstick="raw SQLite, WAL FULL")
        table.add("raw SQLite, WAL FULL", partial(_raw_append, count, size))
        table.add("tasktrail's log", partial(_append, count, size))
        append.append(table)
    events = 3_000 if quick else 120_000
    replay = Table("D2", "Replay to all states", "events/s")
    replay.add("tasktrail", lambda: _replay(events), Goal(at_least=500_000))
    open_tasks = 2_000 if quick else 100_000
    restart = Table("E", f"Process start until ready, {open_tasks:,} unfinished tasks", "s")
    restart.add("tasktrail", lambda: _restart(open_tasks)[0], Goal(at_most=0.8))
    memory = Table("H", "Resident memory of an unfinished task in the service", "bytes")
    memory.add("tasktrail", lambda: _restart(open_tasks)[1], Goal(at_most=700))
    ended = 1_000 if quick else 20_000
    disk = Table(
        "D3", "Disk of a completed task: paths of 40 characters, two options, a result of eight fields", "bytes"
    )
    disk.add("log.db, of three records", lambda: _disk(ended, records=3)[0])
    disk.add("log.db, of each further record", lambda: (_disk(ended, records=13)[0] - _disk(ended, records=3)[0]) / 10)
    disk.add("views.db", lambda: _disk(ended, records=3)[1])
    disk.add("log.db, in use once it was forgotten", lambda: _forgotten(ended)[0])
    film = Table("D4", "Disk of the checkpoints of a film: two hours, 240 segments, two tracks of sound", "bytes")
    film.add("log.db", lambda: _checkpoints(whole=False), Goal(at_most=500_000))
    film.add("log.db, if each held all that is finished", lambda: _checkpoints(whole=True))
    size = 10**7 if quick else 10**9
    hashing = Table("D5", f"SHA-256 of an input of {size // 10**6:,} MB that was read just before", "CPU s")
    hashing.add("once more, when its task completes", lambda: _hashed(size))
    forget = Table("D9", f"Forget {ended:,} such tasks as in D3, until nothing is left of them", "tasks/s")
    forget.add("tasktrail", lambda: _forgotten(ended)[1])
    lives = 100 if quick else 5_000
    title = "of lives of four records, of 100 users, 100 lives a commit"
    kept = Table("D6", f"Append {title}", "events/s", yardstick="in plain text")
    read = Table("D7", f"Read {title}", "events/s", yardstick="in plain text")
    bytes_of = Table("D8", f"Disk of a life, {title}", "bytes", yardstick="in plain text")
    for name, encrypted in (("in plain text", False), ("personal data encrypted", True)):
        kept.add(name, partial(_append_lives, lives, encrypted=encrypted))
        read.add(name, partial(_read_lives, lives, encrypted=encrypted))
        bytes_of.add(name, partial(_disk_of_lives, lives, encrypted=encrypted))
    month_of = _tables_of_a_month(*((6_000, 2_048) if quick else (200_000, RANGE)))
    return [*append, replay, disk, film, hashing, kept, read, bytes_of, forget, *month_of, restart, memory]


def _tables_of_a_month(records: int, size: int) -> list[Table]:
    """Make tables of the cost of a history of that many records, and of the gain from archives of this size."""
    disk = Table("D10", f"Disk of a record of a busy month, of {records:,} (`tests/bench/month.py`)", "bytes")
    disk.add("log.db, before it is archived", lambda: _month(records, size)["log.db"])
    disk.add("archive", lambda: _month(records, size)["archive"], Goal(at_most=60))
    disk.add("log.db, that stays in use of an archived one", lambda: _month(records, size)["left"])
    disk.add("tiles, where they are exported", lambda: _month(records, size)["tiles"], Goal(at_most=33.2))
    moved = Table("D11", "The same month", "ms")
    moved.add("archive 65,536 records", lambda: _month(records, size)["move"])
    moved.add("history of a task, from log.db", lambda: _month(records, size)["task before"])
    moved.add("history of the same task, from an archive", lambda: _month(records, size)["task after"])
    many = records // _SMALL
    moved.add(f"history of a task, from one of {many} archives", lambda: _of_many(records), Goal(at_most=10))
    moved.add("seal 65,536 records, from log.db", lambda: _month(records, size)["seal before"])
    moved.add("seal 65,536 records, from an archive", lambda: _month(records, size)["seal after"])
    file = Table("D12", "The file log.db of the same month, for each of its records", "bytes")
    file.add("before it is archived", lambda: _month(records, size)["file"])
    file.add("when it is archived: the room is used again", lambda: _month(records, size)["file archived"])
    file.add("when each range is archived as it is full", lambda: _archived_at_once(records, size))
    file.add("after the next start: the room is given back", lambda: _month(records, size)["file started"])
    return [disk, moved, file]


def _append_lives(number: int, *, encrypted: bool) -> float:
    with scratch() as folder:
        log = SqliteEventLog(folder / "log.db", now=NOW, encrypted=encrypted)
        rate = 4 * number / seconds(lambda: _live(log, number))
        log.close()
        return rate


def _read_lives(number: int, *, encrypted: bool) -> float:
    with scratch() as folder:
        log = SqliteEventLog(folder / "log.db", now=NOW, encrypted=encrypted)
        _live(log, number)
        rate = 4 * number / seconds(lambda: sum(1 for _ in log.read()))
        log.close()
        return rate


def _disk_of_lives(number: int, *, encrypted: bool) -> float:
    with scratch() as folder:
        log = SqliteEventLog(folder / "log.db", now=NOW, encrypted=encrypted)
        _live(log, number)
        log.close()
        return (folder / "log.db").stat().st_size / number


def _live(log: SqliteEventLog, number: int) -> None:
    for start in range(0, number, 100):
        facts = [fact for task_id in range(start + 1, start + 101) for fact in _life(task_id, 4)]
        log.append([_of_user(fact) for fact in facts], expected=4 * start)


def _of_user(fact: Fact) -> Fact:
    if not isinstance(fact.event, Created):
        return fact
    return replace(fact, event=replace(fact.event, user_id=fact.task_id % 100 + 1))


_RESULT: dict[str, Any] = {
    "output": "x" * 40,
    "sha256": "0" * 64,
    "size": 1234567,
    "codec": "h264",
    "width": 1280,
    "height": 720,
}


@cache
def _disk(number: int, *, records: int) -> tuple[float, float]:
    """Return bytes of log and views for each of a number of completed tasks with a number of records."""
    with scratch() as folder:
        _completed(folder / "log.db", number, records)
        started(folder)
        return (folder / "log.db").stat().st_size / number, (folder / "views.db").stat().st_size / number


@cache
def _forgotten(number: int) -> tuple[float, float]:
    """Return the used bytes of the log for each of a number of forgotten tasks, and the rate of forgetting."""
    with scratch() as folder:
        _completed(folder / "log.db", number, 3)
        with TaskService.open(folder, config=Config(workers=1), own_only=True) as service:
            took = seconds(lambda: service.forget(0))
        return _in_use(folder / "log.db") / number, number / took


@cache
def _month(number: int, size: int) -> dict[str, float]:
    """Return the bytes of a record in a month, and the milliseconds to move and to read records."""
    with scratch() as folder:
        path = folder / "log.db"
        month.write_log(path, number)
        before, whole = _in_use(path), path.stat().st_size
        found = {
            "log.db": before / number,
            "file": whole / number,
            "task before": _history(path),
            "seal before": _sealed(path, folder / "a"),
        }
        with TaskService.open(folder, config=Config(workers=1), own_only=True) as service:
            service.stats()  # the views exist by then
            service._system.archiver.size = size
            began = time.perf_counter()
            done = service.archive()
            found["move"] = 1000 * (time.perf_counter() - began) * RANGE / done.records
        found["file archived"] = path.stat().st_size / number
        SqliteEventLog(path, now=datetime.now(UTC)).close()
        found["file started"] = path.stat().st_size / number
        hot = before / number * (number - done.records)
        found["archive"] = sum(file.stat().st_size for file in (folder / "archive").iterdir()) / done.records
        found["left"] = (_in_use(path) - hot) / done.records
        found["task after"], found["seal after"] = _history(path), _sealed(path, folder / "b")
        with closing(SqliteLogReader(path)) as log:
            out = folder / "tiles"
            write_tiles(log, folder / "b" / "seals", out, lambda _done, _all: None)
            tiles = [file for file in (out / "tile").glob("[0-9]*/**/*") if file.is_file()]
            found["tiles"] = sum(file.stat().st_size for file in tiles) / number
        return found


def _archived_at_once(number: int, in_archive: int) -> float:
    """Return bytes of log.db for each record where it holds no more than one archive takes."""

    class Archiving(ArchivingEventLog):
        size = in_archive

    with scratch() as folder:
        month.write_log(folder / "log.db", number, Archiving)
        return (folder / "log.db").stat().st_size / number


def _of_many(number: int) -> float:
    """Return milliseconds for a history where the month is in many archives, each with fewer records than usual."""
    with scratch() as folder:
        month.write_log(folder / "log.db", number)
        with TaskService.open(folder, config=Config(workers=1), own_only=True) as service:
            service._system.archiver.size = _SMALL
            service.archive()
        return _history(folder / "log.db")


def _history(path: Path) -> float:
    with closing(SqliteLogReader(path)) as log:
        tasks = range(1000, 5000, 40)
        return 1000 * seconds(lambda: [log.read_task(task_id) for task_id in tasks]) / len(tasks)


def _sealed(path: Path, folder: Path) -> float:
    folder.mkdir()
    with closing(SqliteLogReader(path)) as log:
        took = seconds(lambda: make_seal(log, folder / "seals", folder / "key", datetime.now(UTC)))
        return 1000 * took * RANGE / log.head().position


def _in_use(path: Path) -> float:
    """Return the bytes of its pages that are not free."""
    with closing(sqlite3.connect(path)) as conn:
        pages, free, size = (
            conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return float((pages - free) * size)


def _completed(path: Path, number: int, records: int) -> None:
    log = SqliteEventLog(path, now=NOW)
    for start in range(0, number, 100):
        facts = [fact for task_id in range(start + 1, start + 101) for fact in _life(task_id, records)]
        answers = [
            Answer(fact.command_id, b"", fact.task_id, position)
            for position, fact in enumerate(facts, start * records + 1)
            if fact.version == 1
        ]
        log.append(facts, answers, expected=start * records)
    log.close()


def _life(task_id: int, records: int) -> Iterator[Fact]:
    """Make Created, Started, progress and Completed of a task."""
    place = f"/srv/media/films/{task_id:08d}"
    events: list[Event] = [
        Created(
            type="video_convert",
            input_file=f"{place}/input-0123.mp4",
            output_file=f"{place}/output-123.mp4",
            options={"height": 720, "codec": "h264"},
        ),
        Started(effective_priority=5.0),
        *(Progressed(progress=float(step), message=f"frame {step}00 of 1000") for step in range(records - 3)),
        Completed(result={**_RESULT, "notes": [], "frames": 1000}),
    ]
    for version, event in enumerate(events, 1):
        attempt = int(version > 1)
        yield Fact(task_id, version, event, NOW, "bench", "", f"{task_id:032x}", attempt=attempt, life=1)


def _checkpoints(*, whole: bool) -> float:
    """Return the growth of the log in bytes when a long film is converted."""
    with scratch() as folder:
        log = SqliteEventLog(folder / "log.db", now=NOW)
        first = created(1)
        log.append([first], [Answer(first.command_id, b"", 1, 1)], expected=0)
        log.close()
        before = (folder / "log.db").stat().st_size
        log = SqliteEventLog(folder / "log.db", now=NOW)
        for position, checkpoint in enumerate(film_checkpoints(folder, whole=whole), 1):
            event = Checkpointed(checkpoint=checkpoint, progress=position / 3, message="encoding segment 7 of 240")
            log.append([Fact(1, position + 1, event, NOW, attempt=1, life=1)], expected=position)
        log.close()
        return (folder / "log.db").stat().st_size - before


def film_checkpoints(folder: Path, *, whole: bool = False) -> list[Checkpoint]:
    """Make `video_convert`'s checkpoints of a film of two hours that is never read: plan and pieces are made up."""
    unit, seconds = Fraction(1, 90_000), 7200
    end = int(seconds / unit)
    keyframes = range(0, end, int(2 / unit))
    step = step_for(0, end, int(10 / unit))
    plan = SegmentPlan(clock="pts", start=0, end=end, step=step, cuts=choose_cuts(0, end, step, keyframes))
    digest = "0123456789abcdef" * 4
    changes = [
        FinishedPart(
            sound=AudioTrack(stream=n, name=f"sound-{n}.mp4", start=0.0, samples=345_600_000, size=n, sha256=digest)
        )
        for n in (1, 2)
    ]
    for number in range(plan.count):
        first, last = plan.edges(number)
        changes.append(FinishedPart(segment=Segment(number, first, last - 1, 750, 7_654_321, digest)))
    context = RecordingContext(None, work_dir=folder / "work")
    journal, saved = Journal(context, unit), SavedConversion(fingerprint=digest, plan=plan)
    for change in changes:
        saved = saved.after(change)
        journal.save(saved, change, 50.0, "")
        if whole:
            everything = msgspec.to_builtins(saved)
            context.checkpoints[-1] = msgspec.structs.replace(
                context.checkpoints[-1], temp_files=tuple(saved.files), data=everything
            )
    return context.checkpoints


def _hashed(size: int) -> float:
    """Return the CPU seconds of what an attempt does with its input at the end."""
    with scratch() as folder:
        path = folder / "input"
        with path.open("wb") as file:
            for _ in range(size // 10**6):
                file.write(os.urandom(10**6))
        source = Input(str(path))
        begun = time.process_time()
        source.facts(hashed=True)
        took = time.process_time() - begun
        source.close()
        return took


def _raw_append(number: int, size: int) -> float:
    with scratch() as folder:
        conn = raw_log(folder)
        rate = number / seconds(lambda: one_by_one(conn, number) if size == 1 else in_batches(conn, number, size))
        conn.close()
        return rate


def _append(number: int, size: int) -> float:
    with scratch() as folder:
        log = SqliteEventLog(folder / "log.db", now=NOW)

        def work() -> None:
            for start in range(0, number, size):
                log.append([created(start + index + 1) for index in range(size)], expected=start)

        rate = number / seconds(work)
        log.close()
        return rate


def created(task_id: int) -> Fact:
    """Make a waiting task."""
    event = Created(type="noop", options={"number": task_id}, priority=5)
    return Fact(task_id, 1, event, NOW, "bench", "", f"{task_id:032x}", life=1)


def fill(path: Path, tasks: int, *, ended: bool) -> int:
    """Write a log of that many tasks, completed or waiting; return its last position."""
    log = SqliteEventLog(path, now=NOW)
    position = 0
    for start in range(0, tasks, 1000):
        facts = [created(task_id) for task_id in range(start + 1, min(start + 1000, tasks) + 1)]
        answers = [
            Answer(fact.command_id, b"", fact.task_id, position) for position, fact in enumerate(facts, position + 1)
        ]
        if ended:
            ids = [fact.task_id for fact in facts]
            facts += [Fact(task_id, 2, Started(effective_priority=5.0), NOW, attempt=1, life=1) for task_id in ids]
            facts += [Fact(task_id, 3, Completed(result={"n": 1}), NOW, attempt=1, life=1) for task_id in ids]
        log.append(facts, answers, expected=position)
        position += len(facts)
    log.close()
    return position


def _replay(events: int) -> float:
    """Return events in a second, from the file to the state of every task, as a start without a snapshot folds them."""
    with scratch() as folder:
        number = fill(folder / "log.db", events // 3, ended=True)
        log = SqliteEventLog(folder / "log.db", now=NOW)
        rate = number / seconds(lambda: folded_state(log, lambda: SchedulerState(Limits(), grace={"noop": 0.5})))
        log.close()
        return rate


_START = """
import sys, time
from pathlib import Path
from tasktrail.config.settings import Config
from tasktrail.api.service import TaskService
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
config = Config(workers=1, max_cpu=1, handlers=("bench_types",), snapshot_every=int(sys.argv[2]))
with TaskService.open(sys.argv[1], config=config) as tasks:
    print(time.clock_gettime(time.CLOCK_MONOTONIC), resident(), flush=True)
"""


def _restart(number: int) -> tuple[float, float]:
    """Return seconds from exec to ready, and the growth of resident memory over an idle service, per task."""
    with scratch() as folder:
        for name, tasks in (("empty", 1), ("full", number)):
            (folder / name).mkdir()
            fill(folder / name / "log.db", tasks, ended=False)
            started(
                folder / name
            )  # the views are brought up once: a service that was killed lags by little, not by everything
        _seconds, empty = started(folder / "empty")
        took, full = started(folder / "full")
        return took, (full - empty) / number


def started(data: Path, *, snapshot_every: int = 0) -> tuple[float, int]:
    """Return seconds from exec to ready, and resident bytes then."""
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    done = subprocess.run(
        [sys.executable, "-c", _START, str(data), str(snapshot_every)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SUPPORT), "PATH": ""},
    )
    ready, resident = done.stdout.splitlines()[-1].split()
    return float(ready) - begun, int(resident)
