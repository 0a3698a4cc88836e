"""An input that changes while it is read ends the attempt by name, and nothing is published."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, TypeAlias

import pytest
from msgspec.structs import replace as replaced

from tasktrail.events import Checkpoint
from tasktrail.events.errors import InvalidPath
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, PublishWanted, Run
from tasktrail.handlers import Rejected, TaskContext, Unusable, handler, inputs
from tasktrail.handlers.errors import InputChanged
from tasktrail.handlers.inputs import Input
from tasktrail.handlers.pieces import Pieces
from tasktrail.handlers.process.attempt import deliver, perform
from tasktrail.handlers.process.sandbox import Sandbox
from tasktrail.handlers.publish import stage, staged_path
from tasktrail.testing import task_type_of

WHOLE = b"0123456789" * 1000
Change: TypeAlias = Callable[[Path], None]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the clock that stamps files can be asked on Linux only")


class Line:
    """Agrees to everything, and may do something before it grants."""

    def __init__(self, before_grant: Callable[[], None] = lambda: None) -> None:
        self.sent: list[Any] = []
        self._before_grant = before_grant

    def send(self, report: Any) -> None:
        self.sent.append(report)

    def stop_wanted(self) -> bool:
        return False

    def cores(self) -> int:
        return 0

    def saved(self) -> bool:
        return True

    def granted(self) -> bool:
        self._before_grant()
        return True

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        del seconds, call

    def checkpoints(self) -> list[Checkpoint]:
        return [report.checkpoint for report in self.sent if isinstance(report, AttemptCheckpointed)]


@contextmanager
def times_kept(path: Path) -> Iterator[None]:
    before = path.stat()
    yield
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    """Overwrite in place, with as many bytes."""
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"other")


def overwrite_and_set_back(path: Path) -> None:
    with times_kept(path):
        overwrite(path)


def cut_and_restore(path: Path) -> None:
    """Cut the file and restore the same bytes and times: bytes read in between are gone."""
    with times_kept(path):
        path.write_bytes(WHOLE)


def replace(path: Path) -> None:
    with times_kept(path):
        other = path.with_name("other")
        other.write_bytes(WHOLE[::-1])
        other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[Change, str] = {
    cut: "cut from 10,000 to 5,000 bytes",
    empty: "cut from 10,000 to 0 bytes",
    grow: "grew from 10,000 to 10,004 bytes",
    overwrite: "written to",
    overwrite_and_set_back: "its time set back",
    cut_and_restore: "its time set back",
    replace: "replaced by another file",
    remove: "removed or renamed",
    rename: "removed or renamed",
    become_a_folder: "replaced by something that is no file",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_bytes(WHOLE)
    return path


@pytest.fixture
def run(source: Path, tmp_path: Path) -> Run:
    return Run(1, 1, "copy", str(source), str(tmp_path / "out.txt"), {}, None, str(tmp_path / "tmp" / "1"))


def copying(between: Callable[[TaskContext[Any]], object]) -> Any:
    """Make a type that reads the first half, does something, and reads the second half."""

    @handler("copy", needs_input=True, needs_output=True)
    def copy(context: TaskContext[Any]) -> None:
        with context.input_file.open("rb") as file:
            first = file.read(5000)
            between(context)
            context.output_part.write_bytes(first + file.read())

    return task_type_of(copy)


def left(run: Run) -> list[str]:
    """Return the content of the output's folder, beside the input."""
    folder = Path(run.output_file).parent
    return sorted(path.name for path in folder.iterdir() if "out" in path.name)


def assert_told(ending: AttemptEnded, words: str) -> None:
    assert (ending.outcome, ending.error_type) == ("failed", "InputChanged")
    assert words in ending.error
    assert "in.txt" in ending.error
    assert "retry" in ending.error, "it says what to do"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_while_it_is_read_is_told_and_nothing_appears(change: Change, source: Path, run: Run) -> None:
    assert_told(perform(run, copying(lambda _: change(source)), Line()), CHANGES[change])
    assert left(run) == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_up_to_the_grant_is_told(change: Change, source: Path, run: Run) -> None:
    line = Line(before_grant=lambda: change(source))

    assert_told(perform(run, copying(lambda _: None), line), CHANGES[change])
    assert left(run) == []


def test_an_input_that_is_only_read_is_published(run: Run, source: Path) -> None:
    line = Line()

    assert perform(run, copying(lambda context: context.input_file.read_bytes()), line).outcome == "completed"
    assert Path(run.output_file).read_bytes() == WHOLE == source.read_bytes()
    assert any(isinstance(report, PublishWanted) for report in line.sent)


def test_what_a_library_calls_damaged_because_it_changed_is_told_as_changed(source: Path, run: Run) -> None:
    """A rejection would be final, although the file is whole a little later."""

    def damaged(context: TaskContext[Any]) -> NoReturn:
        cut(source)
        raise Unusable(f"{context.input_file.name} ends too early")

    ending = perform(run, copying(damaged), Line())
    assert_told(ending, "cut from")
    assert "ends too early" in ending.error

    @handler("copy", needs_input=True, needs_output=True)
    def refuse(_context: TaskContext[Any]) -> Rejected:
        grow(source)
        return Rejected(reason="no picture")

    assert_told(perform(run, task_type_of(refuse), Line()), "grew from 5,000")


def test_what_is_really_damaged_is_still_refused(run: Run) -> None:
    def damaged(_context: TaskContext[Any]) -> NoReturn:
        raise Unusable("no picture")

    assert perform(run, copying(damaged), Line()).outcome == "rejected"


def test_a_refused_file_of_another_kind_is_told_with_the_types_that_read_it(source: Path, run: Run) -> None:
    def damaged(_context: TaskContext[Any]) -> NoReturn:
        raise Unusable("no film")

    source.write_bytes(b"%PDF-1.7" + bytes(10_000))
    reading = replaced(copying(damaged), accepts=("video",))
    error = perform(run, reading, Line()).error
    assert error == "no film; it is a document, which document_preview and document_convert read"
    assert perform(run, copying(damaged), Line()).error == "no film"


def test_a_change_ends_the_attempt_at_its_next_checkpoint(source: Path, run: Run) -> None:
    reached = []

    def save(context: TaskContext[Any]) -> None:
        context.save_checkpoint(Checkpoint(processed_frames=1))
        cut(source)
        context.save_checkpoint(Checkpoint(processed_frames=2))
        reached.append("the end")

    line = Line()
    assert_told(perform(run, copying(save), line), "cut from")
    assert [checkpoint.processed_frames for checkpoint in line.checkpoints()] == [1]
    assert reached == []


@pytest.mark.parametrize("url", ["", "s3://bucket/in.txt"])
def test_pieces_of_a_fetched_copy_that_changed_are_not_believed_the_next_time(source: Path, run: Run, url: str) -> None:
    """They belong to another copy of the same version. A changed file at a path has other times."""
    fetched = replaced(run, input_url=url, input_version="v1" if url else "")

    def keep(context: TaskContext[Any]) -> None:
        pieces = Pieces(context, "of this version")
        overwrite(source)
        pieces.part(0).write_bytes(b"made of what was altered")
        pieces.keep(0, 1.0, "one")

    ending = perform(fetched, copying(keep), Line())
    assert_told(ending, "written to")
    assert "The handler said" not in ending.error
    assert bool(list(Path(run.work_dir).glob("*.index"))) == (not url)


def test_a_type_without_an_output_is_held_to_it_too(source: Path, run: Run) -> None:
    @handler("count", needs_output=False, needs_input=True)
    def count(_context: TaskContext[Any]) -> dict[str, int]:
        cut(source)
        return {"bytes": 10_000}

    assert_told(perform(run, task_type_of(count), Line()), "cut from")


def test_a_type_may_work_on_its_input(source: Path, run: Run) -> None:
    @handler("consume", needs_output=False, steady_input=False, needs_input=True)
    def consume(context: TaskContext[Any]) -> None:
        context.input_file.unlink()

    assert perform(run, task_type_of(consume), Line()).outcome == "completed"
    assert not source.exists()


def resumed(run: Run, checkpoint: Checkpoint) -> Run:
    return Run(1, 2, run.type, run.input_file, run.output_file, {}, checkpoint, run.work_dir)


def seen_by(run: Run) -> Checkpoint | None:
    """Return the checkpoint that the handler is given."""
    seen = []
    assert perform(run, copying(lambda context: seen.append(context.checkpoint)), Line()).outcome == "completed"
    Path(run.output_file).unlink()
    return seen[0]


@pytest.mark.parametrize("change", [cut, grow, overwrite, overwrite_and_set_back, replace], ids=lambda c: c.__name__)
def test_a_checkpoint_made_from_another_content_is_not_used(change: Change, source: Path, run: Run) -> None:
    line = Line()
    perform(run, copying(lambda context: context.save_checkpoint(Checkpoint(processed_frames=7))), line)
    Path(run.output_file).unlink()
    (saved,) = line.checkpoints()
    assert saved.input_state

    assert seen_by(resumed(run, saved)) == saved, "nothing has changed"
    change(source)
    assert seen_by(resumed(run, saved)) is None


def test_a_checkpoint_of_somebody_who_knows_no_input_is_used(run: Run) -> None:
    by_command = Checkpoint(processed_frames=7)
    assert seen_by(resumed(run, by_command)) == by_command


def test_a_write_in_the_very_tick_of_the_opening_shows(tmp_path: Path) -> None:
    """The clock that stamps files stands still for milliseconds, so fresh writes are looked at again."""
    path = tmp_path / "fresh"
    for number in range(50):
        path.write_bytes(b"a%d" % (number % 10))
        opened = Input(str(path))
        path.write_bytes(b"b%d" % (number % 10))
        assert opened.change(), number
        opened.close()


def give_time(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Let time pass faster for inputs alone: services of other tests run in this process, too."""
    monkeypatch.setattr(inputs, "time", SimpleNamespace(**{**vars(time), **functions}))


@linux
def test_a_file_of_the_clocks_own_tick_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fresh"
    path.write_bytes(b"first")
    ticks, slept = iter([path.stat().st_ctime_ns, time.time_ns() + 10**9]), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        grow(path)

    give_time(monkeypatch, sleep=sleep, clock_gettime_ns=lambda _: next(ticks))
    opened = Input(str(path))

    assert (len(slept), opened.state.size) == (1, len(b"firstmore"))
    opened.close()


@linux
def test_a_file_that_is_written_all_the_time_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.touch()
    give_time(monkeypatch, sleep=lambda _: grow(path), clock_gettime_ns=lambda _: path.stat().st_ctime_ns)

    with pytest.raises(InputChanged, match="being written at this moment"):
        Input(str(path))


def test_a_time_that_no_record_can_hold_is_told_as_the_nearest_that_one_can(source: Path) -> None:
    """Files may be of the year 1 or 2400, by a broken clock; the worker's report was taken for garbage."""
    opened = Input(str(source))
    for told, recorded in ((2**63 + 10**9, 2**63 - 1), (-(2**63) - 10**9, -(2**63))):
        opened.state = opened.state._replace(modified=told)
        assert opened.facts(hashed=False).modified == recorded
    opened.close()


def test_a_pipe_does_not_hold_the_opening_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidPath, match="no longer a regular file"):
        Input(str(pipe))


def test_what_may_not_be_opened_any_more_is_told_from_outside(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sandbox, the file that now has the input's name may be unreadable."""
    opened = Input(str(source))
    replace(source)

    def refuse(path: str) -> NoReturn:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(inputs, "_open", refuse)
    assert "replaced by another file" in opened.change()
    source.unlink()
    assert "can no longer be opened" in opened.change()
    opened.close()


def test_a_failure_in_a_sandbox_is_told_as_the_change_that_it_came_from(source: Path, run: Run) -> None:
    """The walls were put up for the earlier file."""
    opened = Input(str(source))
    replace(source)
    failed = AttemptEnded(1, 1, "failed", error="Permission denied", error_type="PermissionError")

    ending = deliver(run, copying(lambda _: None), Line(), Sandbox(), opened, failed)

    assert_told(ending, "replaced by another file")
    assert "Permission denied" in ending.error
    opened.close()


def test_an_input_is_hashed_up_to_a_size_and_in_a_batch_always(source: Path, run: Run) -> None:
    expected, size = sha256(source.read_bytes()).hexdigest(), source.stat().st_size
    reads_all = copying(lambda _: None)
    reads_little = replaced(reads_all, hashes_input=False)
    in_a_batch = replaced(run, hash_input=True)
    found = []
    for one, task_type, up_to in (
        (run, reads_all, size),
        (run, reads_all, size - 1),
        (run, reads_all, 0),
        (run, reads_little, size),
        (in_a_batch, reads_little, 0),
    ):
        ending = perform(one, task_type, Line(), hash_up_to=up_to)
        assert ending.input_read is not None
        found.append(ending.input_read.sha256)
        Path(run.output_file).unlink()
    assert found == [expected, "", "", "", expected]


def test_an_output_that_the_result_does_not_tell_of_is_hashed_up_to_a_size(run: Run) -> None:
    def of(result: dict[str, Any], up_to: int) -> str:
        def write(context: TaskContext[Any]) -> dict[str, Any]:
            context.output_part.write_bytes(b"made")
            return result

        ending = perform(run, replaced(copying(lambda _: None), run=write), Line(), hash_up_to=up_to)
        Path(run.output_file).unlink()
        return ending.output_sha256

    made = sha256(b"made").hexdigest()
    assert [of({}, 4), of({"width": 1}, 3), of({"sha256": made}, 4)] == [made, "", ""]
    assert [of({"sha256": told}, 4) for told in ("told", made.upper(), None, [made])] == [made] * 4
    # A user's type may mean something else by it, and one in a sandbox may send anything.
    assert [of({"sha256": "f" * 64}, up_to) for up_to in (4, 3)] == [made, ""]


def test_an_output_is_brought_to_the_disk_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be large, and the disk slow."""
    synced, sync = list[int](), os.fsync

    def noted(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        sync(fd)

    monkeypatch.setattr("os.fsync", noted)
    perform(run, copying(lambda _: None), Line(), hash_up_to=10**6)
    assert synced.count(Path(run.output_file).stat().st_ino) == 1


def test_the_hash_of_an_output_is_not_taken_from_the_attempt(source: Path, run: Run) -> None:
    """An attempt in a sandbox may send anything."""
    staged = staged_path(Path(run.output_file), run.task_id)
    stage(Path(run.output_file), run.task_id)
    staged.write_bytes(b"made")
    said = AttemptEnded(1, 1, "completed", output_sha256="f" * 64)
    opened = Input(str(source))
    ending = deliver(run, copying(lambda _: None), Line(), Sandbox(), opened, said, 100)
    opened.close()
    assert ending.output_sha256 == sha256(b"made").hexdigest()


def test_no_descriptor_is_left_behind(source: Path, run: Run) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - of the names, only the number counts
    perform(run, copying(lambda _: cut(source)), Line())
    perform(run, copying(lambda _: None), Line())
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 - the same
