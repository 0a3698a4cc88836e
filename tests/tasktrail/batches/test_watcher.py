"""A watcher on real files, with a clock that only the test moves."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from queue import Empty, Queue

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from tasktrail.actors.core.sources import WatchedFolder
from tasktrail.batches import watcher as watcher_module
from tasktrail.batches.files import FoundFile
from tasktrail.batches.request import LeftOut, MadeBatch, NewBatch, Refused, Skipped
from tasktrail.batches.watcher import Watcher, _changes, _is_written
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import InvalidPath, NotReady
from tasktrail.intake.paths import PathRules


class Hands:
    """A clock, a folder, and the files that a watcher has handed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = 100.0
        self.sources: list[WatchedFolder] = [
            WatchedFolder(
                source="inbox",
                inputs=(str(folder),),
                to=f"{folder.parent}/out/{{stem}}.loud",
                task={"type": "shout"},
                settle=5.0,
                poll=60.0,
                added_at=datetime(2026, 1, 1, tzinfo=UTC),
                actor="ops",
                reason="",
                position=1,
            )
        ]
        self.taken: list[str] = []
        self.wanted: list[NewBatch] = []
        self.trouble: Exception | None = None
        self.skipped: tuple[Skipped, ...] = ()
        self.refused: tuple[Refused, ...] = ()
        self.left_out: tuple[LeftOut, ...] = ()
        self.told = threading.Semaphore(0)
        """A change that the system reports."""
        self.heard = threading.Semaphore(0)
        self.noted: list[str] = []
        self.watcher = Watcher(
            lambda: self.sources,
            self._take,
            PathRules,
            self,  # type: ignore[arg-type]  # of a clock, what is needed
            self._changes,
            lambda problem: self.noted.append(problem["code"]),
        )

    def monotonic(self) -> float:
        return self.time

    def _take(self, wanted: NewBatch, found: Sequence[FoundFile]) -> MadeBatch:
        if self.trouble is not None:
            raise self.trouble
        self.wanted.append(wanted)
        self.taken += [f"{one.folder}/{Path(one.path).name}".lstrip("/") for one in found]
        return MadeBatch(
            batch="inbox",
            position=0,
            created=(),
            skipped=self.skipped,
            left_out=self.left_out,
            refused=self.refused,
        )

    def _changes(self, _folders: Sequence[str], ended: threading.Event) -> Iterator[object]:
        while not ended.is_set():
            self.told.acquire()
            yield None
            self.heard.release()

    def after(self, seconds: float) -> list[str]:
        """Return what is handed over after that many seconds."""
        self.taken = []
        self.time += seconds
        self.watcher.look()
        return self.taken

    def tell(self) -> None:
        """Report a change as the system does, and wait until the watcher has received it."""
        self.told.release(2)
        self.heard.acquire()

    def write(self, name: str, text: str = "text") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    (tmp_path / "in").mkdir()
    hands = Hands(tmp_path / "in")
    yield hands
    hands.watcher.stop()
    hands.told.release(100)


def test_a_file_is_taken_once_when_it_has_settled(hands: Hands) -> None:
    hands.write("a.txt")
    hands.write("sub/b.txt")
    assert hands.after(0) == []
    assert hands.after(4) == []
    assert sorted(hands.after(1)) == ["a.txt", "sub/b.txt"]
    assert hands.after(600) == hands.after(600) == []
    (wanted,) = hands.wanted
    assert (wanted.batch, wanted.type, wanted.actor, wanted.reason) == ("inbox", "shout", "source", "source inbox")


def test_it_sleeps_until_something_is_due(hands: Hands) -> None:
    """It wakes when a file may have settled, when a reported change is due, and for its regular look at everything."""
    hands.after(0)
    (source,) = hands.sources
    assert hands.watcher.look() == source.poll
    hands.time += 2
    assert hands.watcher.look() == source.poll - 2
    hands.write("a.txt")
    hands.tell()
    assert hands.watcher.look() == source.settle, "the change is seen, and the file has to settle"
    hands.time += source.settle
    assert hands.watcher.look() == pytest.approx(source.poll - source.settle)
    assert hands.taken == ["a.txt"]
    hands.sources = []
    assert hands.watcher.look() is None


def test_it_looks_again_when_there_are_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "_LOOK_EVERY", 0.01)
    looked = threading.Semaphore(0)

    def sources() -> list[WatchedFolder]:
        looked.release()
        return []

    watcher = Watcher(sources, lambda *_: pytest.fail(f"nothing is in {tmp_path}"), PathRules, SystemClock())
    watcher.start()
    assert looked.acquire(timeout=10)
    watcher.wake()
    assert looked.acquire(timeout=10)
    watcher.stop()


def test_a_stop_between_two_looks_is_not_lost(tmp_path: Path) -> None:
    class StoppedNow(threading.Event):
        """Acts like a `stop` at the most awkward time, just before `clear`."""

        def clear(self) -> None:
            watcher._ended.set()
            super().clear()

    watcher = Watcher(tuple, lambda *_: pytest.fail(f"nothing is in {tmp_path}"), PathRules, SystemClock())
    watcher._news = StoppedNow()
    watcher.start()

    watcher._thread.join(timeout=10)

    assert not watcher._thread.is_alive()


def test_one_that_is_still_being_written_waits(hands: Hands) -> None:
    path = hands.write("a.txt")
    hands.after(0)
    for _ in range(5):
        with path.open("a") as file:
            file.write("more")
        assert hands.after(4) == [], "it grows"
    with path.open("a"):
        assert hands.after(6) == [], "a program has it open for writing"
    assert hands.after(6) == ["a.txt"]


def test_what_is_new_is_seen_when_the_system_tells_it_and_otherwise_after_the_poll(hands: Hands) -> None:
    hands.after(0)
    hands.write("a.txt")
    assert hands.after(10) == hands.after(10) == []
    hands.tell()
    hands.after(0)
    assert hands.after(5) == ["a.txt"]
    hands.write("b.txt")
    hands.after(60)
    assert hands.after(5) == ["b.txt"]


def test_a_changed_file_is_taken_again_and_a_renamed_one_is_another(hands: Hands) -> None:
    path = hands.write("a.txt")
    hands.after(0)
    assert hands.after(5) == ["a.txt"]
    path.write_text("changed")
    hands.after(60)
    assert hands.after(5) == ["a.txt"]
    path.rename(hands.folder / "b.txt")
    hands.after(60)
    assert hands.after(5) == ["b.txt"]


def test_what_vanishes_before_it_has_settled_is_forgotten(hands: Hands) -> None:
    path = hands.write("a.txt")
    hands.after(0)
    path.unlink()
    assert hands.after(5) == hands.after(60) == []


def test_unfinished_and_hidden_files_are_left_alone_until_they_get_their_name(hands: Hands) -> None:
    part = hands.write("film.mp4.part")
    hands.write(".film.mp4")
    for name in ("film.crdownload", "film.PART", "film.mkv.!ut", "film.mkv.!qB", "film.aria2", "film.opdownload"):
        hands.write(name)
    hands.after(0)
    assert hands.after(60) == []
    part.rename(hands.folder / "film.mp4")
    hands.after(60)
    assert hands.after(5) == ["film.mp4"]


def test_outputs_in_the_folder_itself_are_no_inputs(hands: Hands) -> None:
    hands.sources = [replace(hands.sources[0], to=f"{hands.folder}/out/{{stem}}.loud")]
    hands.write("a.txt")
    hands.write("out/a.loud")
    hands.after(0)
    assert hands.after(5) == ["a.txt"]


def test_a_paused_source_takes_nothing_and_later_all_that_came(hands: Hands) -> None:
    hands.write("a.txt")
    hands.sources = [replace(hands.sources[0], paused=True)]
    hands.after(0)
    assert hands.after(60) == []
    hands.sources = [replace(hands.sources[0], paused=False)]
    hands.after(0)
    assert hands.after(5) == ["a.txt"]
    hands.sources = []
    hands.write("b.txt")
    assert hands.after(60) == hands.after(60) == []


def test_a_service_that_is_not_ready_loses_nothing(hands: Hands) -> None:
    hands.write("a.txt")
    hands.after(0)
    hands.trouble = NotReady("The log cannot be written")
    assert hands.after(5) == []
    hands.trouble = None
    assert hands.after(1) == [], "it rests for a moment"
    assert hands.after(10) == ["a.txt"]


def test_a_folder_that_is_not_there_yet_is_no_fault(hands: Hands) -> None:
    os.rmdir(hands.folder)  # noqa: PTH106
    assert hands.after(0) == hands.after(60) == []
    hands.write("a.txt")
    hands.after(60)
    assert hands.after(5) == ["a.txt"]


def test_what_cannot_be_done_now_is_tried_again_after_a_while(hands: Hands) -> None:
    path = hands.write("a.txt")
    hands.skipped = (Skipped(task_id=1, input_file=str(path), output_file="/out/a", why="task 1 does it", open=True),)
    hands.after(0)
    assert hands.after(5) == ["a.txt"]
    assert hands.after(30) == []
    hands.skipped = ()
    assert hands.after(40) == ["a.txt"], "that task may have failed on another content"
    hands.refused = (Refused(input_file=str(path), problem={"detail": "the disk is full", "code": "full"}),)
    path.write_text("more")
    hands.after(60)
    assert hands.after(5) == ["a.txt"]
    hands.refused = ()
    assert hands.after(70) == ["a.txt"]
    assert hands.after(600) == []


def test_a_refusal_is_noted_once_for_each_file_and_reason(hands: Hands) -> None:
    path = hands.write("a.txt")
    hands.refused = (Refused(input_file=str(path), problem={"detail": "it is there", "code": "output_exists"}),)
    hands.after(0)
    for _ in range(3):
        assert hands.after(65) == ["a.txt"]
    assert hands.noted == ["output_exists"]
    hands.refused = ()
    hands.trouble = InvalidPath("no folder")
    for _ in range(3):
        hands.after(65)
    assert hands.noted == ["output_exists", "invalid_path"]


def test_a_writer_who_comes_during_the_look_ends_no_service(hands: Hands) -> None:
    path = hands.write("a.txt")
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            with path.open("a"):
                pass

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(300):
        _is_written(str(path))
    ended.set()
    writer.join()


def test_what_makes_no_task_is_logged_once(hands: Hands) -> None:
    odd = hands.folder / os.fsdecode(b"\xff.txt")
    odd.touch()
    missing = hands.folder / "missing"
    patterns = (f"{hands.folder}/*.mov", f"{missing}/*.mov")
    hands.sources = [replace(hands.sources[0], inputs=(str(hands.folder), str(missing), *patterns))]
    text, made = str(hands.write("a.txt")), str(hands.write("b.txt"))
    hands.left_out = (
        LeftOut(input_file=text, why="of no kind that is known"),
        LeftOut(input_file=made, why="the output of task 1", task_id=1),
    )
    with capture_logs() as lines:
        for seconds in (0, 5, 60, 60):
            hands.after(seconds)
        told = [(Path(line["file"]).name, line["why"].rpartition(": ")[2]) for line in lines]
        assert told == [
            ("\\xff.txt", f"'{hands.folder}/\\xff.txt' has a name that is not UTF-8"),
            ("missing", "No such file or directory"),
            ("a.txt", "of no kind that is known"),
        ]
        missing.mkdir()
        hands.after(60)
        missing.rmdir()
        hands.after(60)
        assert len(lines) == 4, "it has gone again"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is UTF-8")
def test_changes_are_told_also_after_a_name_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "_REST", 0.0)
    ended, changes = threading.Event(), Queue[object]()

    def listen() -> None:
        for change in _changes([str(tmp_path)], ended):
            changes.put(change)

    numbers = count()

    def is_told(suffix: bytes, words: str) -> bool:
        """Whether a change with these words comes for a new file; files are written until the system listens."""
        for number in islice(numbers, 60):
            (tmp_path / os.fsdecode(b"%d" % number + suffix)).touch()
            with suppress(Empty):
                while words not in str(changes.get(timeout=0.5)):
                    pass
                return True
        return False

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        assert is_told(b".txt", ".txt")
        for kind in ("jpg", "png", "gif"):
            assert is_told(b"\xff.txt", "Unable to decode path")
            assert is_told(f".{kind}".encode(), f".{kind}")
        assert thread.is_alive()
    finally:
        ended.set()
        thread.join()


def test_very_many_are_handed_over_in_parts(hands: Hands) -> None:
    for number in range(2_500):
        (hands.folder / f"{number}.txt").touch()
    hands.after(0)
    assert len(set(hands.after(5))) == 2_500
    assert len(hands.wanted) == 3
