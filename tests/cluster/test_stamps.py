"""Two attempts of one task that live at the same instant are found, by their stamps and by their locks."""

import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from stamps import overlaps, read_stamps

PROGRAM = Path(__file__).parent.parent / "support" / "stamping.py"


def begin(folder: Path, attempt: int, seconds: float, shape: str = "plain") -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-S", "-I", PROGRAM, folder, "1", str(attempt), str(seconds), shape])


def begun(folder: Path, attempt: int) -> "subprocess.Popen[bytes]":
    process = begin(folder, attempt, 60.0)
    while not any("start" in path.read_text() for path in folder.glob(f"1-{attempt}-*.stamps")):
        assert process.poll() is None
        Event().wait(0.01)
    return process


def test_attempts_one_after_another_are_no_overlap(tmp_path: Path) -> None:
    for attempt, shape in ((1, "plain"), (2, "family")):
        assert begin(tmp_path, attempt, 0.1, shape).wait(20) == 0

    stamps = read_stamps(tmp_path)
    assert [life.attempt for life in stamps[1]] == [1, 2, 2]
    assert all(life.is_done for life in stamps[1])
    assert overlaps(stamps) == []


def test_an_attempt_that_begins_while_another_lives_says_so(tmp_path: Path) -> None:
    first = begun(tmp_path, 1)
    assert begin(tmp_path, 2, 0.1).wait(20) == 0
    first.kill()
    first.wait()

    found = overlaps(read_stamps(tmp_path))
    assert "task 1: attempt 1 was alive when attempt 2 began" in found
    assert len(found) == 2  # its stamps show it, too


def test_the_killed_are_known_by_their_last_stamp(tmp_path: Path) -> None:
    first = begun(tmp_path, 1)
    first.kill()
    first.wait()
    assert begin(tmp_path, 2, 0.1).wait(20) == 0

    stamps = read_stamps(tmp_path)
    assert [life.is_done for life in stamps[1]] == [False, True]
    assert overlaps(stamps) == []


@pytest.mark.parametrize(("start", "found"), [(1.5, 1), (2.5, 0)])
def test_stamps_alone_tell_an_overlap(tmp_path: Path, start: float, found: int) -> None:
    (tmp_path / "1-1-10.stamps").write_text("start 1.0 one\nbeat 2.0 \nbe")  # the last one was cut short
    (tmp_path / "1-2-11.stamps").write_text(f"start {start} two\nstop 3.0 \n")
    assert len(overlaps(read_stamps(tmp_path))) == found
