"""Which ends the janitor cleans up after, and which files it leaves alone."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasktrail.actors.core.messages import Tick
from tasktrail.actors.feed import Feed
from tasktrail.actors.janitor import Janitor
from tasktrail.actors.messages import PING, WAKE
from tasktrail.events import Cancelled, Completed, Event, Failed, Recorded, Retried
from tasktrail.events.clock import SystemClock
from tasktrail.handlers.workspace import TempFiles, create_temp_file

SIZE = 100


@pytest.fixture
def files(tmp_path: Path) -> TempFiles:
    return TempFiles(tmp_path / "tmp", max_size=3 * SIZE, cleanup_after=3600, protected=lambda: {9})


@pytest.fixture
def told(files: TempFiles) -> Iterator[Callable[..., None]]:
    """Send a new janitor these events of tasks, and wait until it is done."""
    for task_id in (1, 2, 9, 50):
        create_temp_file(files.folder(task_id), "x").write_bytes(b"x" * SIZE)
    clock = SystemClock()
    feed: Feed[Recorded] = Feed(lambda: janitor.tell(WAKE), clock, "janitor")
    janitor = Janitor.start(feed=feed, files=files, clock=clock, last_task_id=lambda: 10)
    janitor.ask(PING)  # its own first message is in its inbox now …
    janitor.ask(PING)  # … and handled

    def tell(**events: Event) -> None:
        feed.put([_record(int(name.removeprefix("task_")), event) for name, event in events.items()])
        janitor.tell(WAKE)
        janitor.ask(PING)

    yield tell
    feed.close()
    janitor.stop()


def _record(task_id: int, event: Event) -> Recorded:
    return Recorded(position=1, task_id=task_id, version=2, event=event, recorded_at=SystemClock().now())


def test_a_folder_that_cannot_be_read_is_told_and_looked_at_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, clock = tmp_path / "tmp", SystemClock()
    files = TempFiles(root, max_size=3 * SIZE, cleanup_after=3600, protected=set)
    root.rmdir()
    root.write_text("no folder")
    feed: Feed[Recorded] = Feed(lambda: janitor.tell(WAKE), clock, "janitor")
    janitor = Janitor.start(feed=feed, files=files, clock=clock, last_task_id=lambda: 10)
    for _ in range(2):
        janitor.ask(PING)
    assert "old temp files could not be looked at or removed" in caplog.text
    assert "Traceback" not in caplog.text
    root.unlink()
    root.mkdir()
    create_temp_file(files.folder(50), "x")
    janitor.tell(Tick())
    janitor.ask(PING)
    assert files.tasks() == []
    feed.close()
    janitor.stop()


def test_the_folder_of_a_completed_task_goes_at_once(told: Callable[..., None], files: TempFiles) -> None:
    told(task_1=Completed())
    assert files.tasks() == [2, 9]


def test_what_a_failed_or_cancelled_task_left_may_serve_a_retry(told: Callable[..., None], files: TempFiles) -> None:
    told(task_1=Failed(outcome="failed", error="x", final=True), task_2=Cancelled())
    assert files.tasks() == [1, 2, 9]


def test_a_task_that_ran_for_long_keeps_the_first_pieces_of_its_checkpoint(
    told: Callable[..., None], files: TempFiles
) -> None:
    for task_id in (1, 2):
        piece = create_temp_file(files.folder(task_id), "piece-")
        os.utime(piece, (time.time() - 7200,) * 2)
    told(task_1=Failed(outcome="failed", error="x", final=True), task_2=Cancelled())
    assert [len(list(files.files(task_id))) for task_id in (1, 2)] == [2, 2]


def test_a_task_that_stood_still_for_long_before_its_end_may_be_retried_as_well(
    told: Callable[..., None], files: TempFiles
) -> None:
    for path in (*files.folder(1).iterdir(), files.folder(1)):
        os.utime(path, (time.time() - 7200,) * 2)
    told(task_1=Failed(outcome="timed_out", error="timeout", final=True))
    assert 1 in files.tasks()


def test_at_the_quota_it_goes_for_the_next_end(told: Callable[..., None], files: TempFiles) -> None:
    create_temp_file(files.folder(9), "y").write_bytes(b"y" * 2 * SIZE)
    told(task_2=Cancelled())
    assert 9 in files.tasks()
    assert files.total_size() <= 3 * SIZE


def test_a_retry_is_no_end(told: Callable[..., None], files: TempFiles) -> None:
    create_temp_file(files.folder(9), "y").write_bytes(b"y" * 2 * SIZE)
    told(task_2=Retried(cause="rule"), task_1=Failed(outcome="failed", error="x", final=False))
    assert files.tasks() == [1, 2, 9]


def test_folders_of_tasks_that_were_never_created_go_at_the_start(told: Callable[..., None], files: TempFiles) -> None:
    told()
    assert 50 not in files.tasks()
