"""The original is replaced by a result that exists, whatever is killed in between."""

import errno
import os
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail.events.errors import InvalidPath, OutputExists
from tasktrail.events.reports import AttemptEnded, Run
from tasktrail.handlers import originals, publish
from tasktrail.handlers.errors import InputChanged
from tasktrail.handlers.inputs import Input
from tasktrail.handlers.originals import Note, exchange, finish, published_note, use_up
from tasktrail.handlers.publish import identity_of, part_path, remove_part

WAYS = [("replace", "film.avi"), ("replace", "film.mp4"), ("move", "film.avi"), ("move", "film.mp4")]
STEPS = ("write_note", "publish", "_link", "sync_folder", "unlink")


class Killed(BaseException):
    """Acts like a kill on the running code."""


def run_for(folder: Path, way: str, output: str, attempt: int = 1) -> Run:
    return Run(
        7,
        attempt,
        "squeeze",
        str(folder / "film.avi"),
        str(folder / output),
        {},
        None,
        str(folder / "work"),
        original=way,  # type: ignore[arg-type]
        original_folder=str(folder / "aside") if way == "move" else "",
    )


def attempt(run: Run) -> AttemptEnded:
    """Do a worker's part of the run; its handler makes a small file from a large one."""
    note = published_note(run)
    if note is not None:
        return finish(run, note)
    source = Input(run.input_file)
    try:
        part_path(Path(run.output_file), run.task_id).write_text("small")
        return exchange(run, source, AttemptEnded(run.task_id, run.attempt, "completed", {"size": 5}))
    finally:
        source.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "film.avi").write_text("large " * 9)
    (tmp_path / "film.avi").chmod(0o640)
    return tmp_path


def originals_there(folder: Path) -> int:
    """Return how many names the original has."""
    found = [folder / "film.avi", *(folder / "aside").glob("*")]
    return sum(path.exists() and path.read_text().startswith("large") for path in found)


def test_what_takes_the_place_of_an_original_has_its_mode_but_no_set_id_bit(folder: Path) -> None:
    (folder / "film.avi").chmod(0o6750)

    attempt(run_for(folder, "replace", "film.mp4"))

    assert stat.S_IMODE((folder / "film.mp4").stat().st_mode) == 0o750


def test_a_link_in_the_place_of_the_result_gives_nobody_the_file_that_it_leads_to(folder: Path) -> None:
    """Whoever may write to the folder could have had root give them any file, with the owner and mode of their film."""
    (folder / "film.avi").chmod(0o666)
    (folder / "secret").touch(mode=0o600)
    run = run_for(folder, "replace", "film.mp4")
    source = Input(run.input_file)
    part_path(Path(run.output_file), run.task_id).symlink_to(folder / "secret")

    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        exchange(run, source, AttemptEnded(run.task_id, run.attempt, "completed", {"size": 5}))
    source.close()
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert originals_there(folder) == 1


@pytest.mark.parametrize(("way", "output"), WAYS)
def test_the_result_is_there_and_the_original_where_it_was_asked_to_be(folder: Path, way: str, output: str) -> None:
    ended = attempt(run_for(folder, way, output))

    assert (folder / output).read_text() == "small"
    assert (folder / output).stat().st_mode & 0o777 == 0o640, "who may read it stays the same"
    assert originals_there(folder) == (way == "move")
    assert (folder / "film.avi").exists() == (output == "film.avi")
    told = {"moved_to": str(folder / "aside" / "film.avi")} if way == "move" else {"replaced": str(folder / "film.avi")}
    assert ended.result == {"size": 5, "original": told}


@pytest.mark.skipif(sys.platform != "linux", reason="access lists are read in Linux's way")
def test_a_list_of_who_may_read_the_original_holds_for_the_result(folder: Path) -> None:
    everybody, user = 0xFFFFFFFF, 1234
    entries = ((1, 6, everybody), (2, 4, user), (4, 4, everybody), (16, 4, everybody), (32, 0, everybody))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(folder / "film.avi", "system.posix_acl_access", listed)
    except OSError:
        pytest.skip("this disk knows no access lists")

    attempt(run_for(folder, "replace", "film.avi"))

    assert (folder / "film.avi").read_text() == "small"
    assert os.getxattr(folder / "film.avi", "system.posix_acl_access") == listed


@pytest.mark.parametrize(("way", "output"), WAYS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_kill_at_any_step_loses_neither_and_the_next_attempt_ends_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, way: str, output: str, step: str, when: str, time: int
) -> None:
    left = [time]

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and when == "before":
                raise Killed
            answer = real(*args, **more)
            if left[0] == 0:
                raise Killed
            return answer

        return call

    with monkeypatch.context() as patched:
        if step == "unlink":
            patched.setattr(Path, "unlink", killing(Path.unlink))
        else:
            patched.setattr(originals, step, killing(getattr(originals, step)))
        try:
            attempt(run_for(folder, way, output))
        except Killed:
            made = (folder / output).exists() and (folder / output).read_text() == "small"
            assert made or originals_there(folder)
            assert way == "replace" or originals_there(folder), "one that is moved always has a name"
    if published_note(run_for(folder, way, output)) is None:
        remove_part(folder / output, 7)  # as the service does when a worker is gone

    ended = attempt(run_for(folder, way, output, 2))

    assert (folder / output).read_text() == "small"
    assert originals_there(folder) == (way == "move")
    assert (folder / "film.avi").exists() == (output == "film.avi")
    assert (ended.attempt, ended.outcome) == (2, "completed")
    assert [path.name for path in (folder / "aside").glob("*")] == ["film.avi"] * (way == "move")


def test_an_original_that_has_changed_meanwhile_stays(folder: Path) -> None:
    run = run_for(folder, "replace", "film.mp4")
    source = Input(run.input_file)
    part_path(Path(run.output_file), 7).write_text("small")
    (folder / "film.avi").write_text("large and new")

    with pytest.raises(InputChanged):
        exchange(run, source, AttemptEnded(7, 1, "completed"))
    source.close()

    assert (folder / "film.avi").read_text() == "large and new"
    assert not (folder / "film.mp4").exists()


def test_one_that_is_replaced_by_another_file_after_the_kill_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_args: object, **_more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            attempt(run_for(folder, "replace", "film.mp4"))
    (folder / "new").write_text("large and new, and long")
    os.replace(folder / "new", folder / "film.avi")  # noqa: PTH105

    attempt(run_for(folder, "replace", "film.mp4", 2))

    assert (folder / "film.avi").read_text() == "large and new, and long"
    assert (folder / "film.mp4").read_text() == "small"


def test_a_name_that_is_taken_gets_the_number_of_the_task(folder: Path) -> None:
    (folder / "aside").mkdir()
    (folder / "aside" / "film.avi").write_text("another")

    ended = attempt(run_for(folder, "move", "film.mp4"))

    assert ended.result["original"] == {"moved_to": str(folder / "aside" / "film.task-7.avi")}
    assert (folder / "aside" / "film.avi").read_text() == "another"
    assert (folder / "aside" / "film.task-7.avi").read_text().startswith("large")


@pytest.mark.parametrize("output", ["film.avi", "film.mp4"])
def test_a_name_that_another_task_takes_at_the_last_moment_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    link = os.link

    def late(source: Path, place: Path, **more: Any) -> None:
        if place == folder / "aside" / "film.avi":
            place.write_text("another")
        link(source, place, **more)

    monkeypatch.setattr(os, "link", late)
    ended = attempt(run_for(folder, "move", output))

    assert (folder / "aside" / "film.avi").read_text() == "another"
    assert (folder / "aside" / "film.task-7.avi").read_text().startswith("large")
    assert ended.result["original"] == {"moved_to": str(folder / "aside" / "film.task-7.avi")}
    assert (folder / output).read_text() == "small"


def test_where_the_name_of_the_result_is_taken_the_original_gets_no_second_name(folder: Path) -> None:
    (folder / "film.mp4").write_text("another")

    with pytest.raises(OutputExists):
        attempt(run_for(folder, "move", "film.mp4"))

    assert (folder / "film.avi").exists()
    assert list((folder / "aside").iterdir()) == []


def test_a_second_name_that_we_give_and_take_is_no_change_of_the_original(folder: Path) -> None:
    run = run_for(folder, "move", "film.mp4")
    (folder / "film.mp4").write_text("another")
    source = Input(run.input_file)
    part_path(Path(run.output_file), 7).write_text("small")

    with pytest.raises(OutputExists):
        exchange(run, source, AttemptEnded(7, 1, "completed"))

    assert source.change() == ""
    (folder / "film.avi").write_text("small ")
    assert source.change() != "", "what others do is"
    source.close()


def test_the_original_never_gets_the_name_of_the_result(folder: Path) -> None:
    (folder / "aside").mkdir()
    run = run_for(folder, "move", "aside/film.avi")

    ended = attempt(run)

    assert (folder / "aside" / "film.avi").read_text() == "small"
    assert ended.result["original"] == {"moved_to": str(folder / "aside" / "film.task-7.avi")}
    assert originals_there(folder) == 1


def test_a_note_of_the_handler_is_not_believed(folder: Path) -> None:
    """Its folder is the one place where a sandboxed handler may write anything."""
    run = run_for(folder, "move", "film.mp4")
    (folder / "film.mp4").write_text("another")
    forged = Note(
        identity_of(folder / "film.mp4"), identity_of(folder / "film.avi"), "", AttemptEnded(8, 1, "completed")
    )
    Path(run.work_dir).mkdir()
    (Path(run.work_dir) / originals.ORIGINAL_NOTE).write_bytes(msgspec.json.encode(forged))

    assert published_note(run) is None


@pytest.mark.parametrize("note", [originals.ORIGINAL_NOTE, publish.PUBLISHED_NOTE])
def test_a_link_that_the_handler_leaves_leads_no_note_elsewhere(folder: Path, note: str) -> None:
    run = run_for(folder, "replace", "film.mp4")
    (folder / "precious").write_text("precious")
    Path(run.work_dir).mkdir()
    (Path(run.work_dir) / note).symlink_to(folder / "precious")

    attempt(run)

    assert (folder / "precious").read_text() == "precious"


def test_a_link_does_not_give_way(folder: Path) -> None:
    (folder / "film.avi").rename(folder / "real.avi")
    (folder / "film.avi").symlink_to(folder / "real.avi")

    with pytest.raises(InvalidPath, match="is a link"):
        attempt(run_for(folder, "replace", "film.mp4"))

    assert (folder / "real.avi").exists()


def test_a_disk_without_hard_links_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(InvalidPath, match="cannot have a second name"):
        attempt(run_for(folder, "move", "film.mp4"))
    assert (folder / "film.avi").exists()


# --- files that were made for a result alone ------------------------------------------------------------------------


def join(run: Run, parts: list[Path]) -> AttemptEnded:
    """Do a worker's part of a run that joins parts."""
    note = published_note(run)
    if note is not None:
        return finish(run, note, parts)
    part_path(Path(run.output_file), run.task_id).write_text("".join(part.read_text() for part in parts))
    return use_up(run, AttemptEnded(run.task_id, run.attempt, "completed", {"parts": len(parts)}), parts)


@pytest.mark.parametrize("step", ["write_note", "publish", "unlink"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_kill_while_parts_are_used_up_neither_leaves_them_nor_costs_the_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str, time: int
) -> None:
    parts = [folder / "film.mp4.1", folder / "film.mp4.2"]
    for part in parts:
        part.write_text(part.suffix)
    left = [time]

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and when == "before":
                raise Killed
            answer = real(*args, **more)
            if left[0] == 0:
                raise Killed
            return answer

        return call

    with monkeypatch.context() as patched:
        if step == "unlink":
            patched.setattr(Path, "unlink", killing(Path.unlink))
        else:
            patched.setattr(originals, step, killing(getattr(originals, step)))
        with suppress(Killed):
            join(run_for(folder, "keep", "film.mp4"), parts)
    if published_note(run_for(folder, "keep", "film.mp4")) is None:
        remove_part(folder / "film.mp4", 7)  # as the service does when a worker is gone

    ended = join(run_for(folder, "keep", "film.mp4", 2), parts)

    assert (folder / "film.mp4").read_text() == ".1.2"
    assert [part for part in parts if part.exists()] == []
    assert (folder / "film.avi").exists(), "the original stays"
    assert (ended.attempt, ended.outcome, ended.result) == (2, "completed", {"parts": 2})


def test_where_the_name_of_the_result_is_taken_nothing_is_used_up(folder: Path) -> None:
    (folder / "film.mp4").write_text("another")
    (folder / "film.mp4.1").write_text("1")
    with pytest.raises(OutputExists):
        join(run_for(folder, "keep", "film.mp4"), [folder / "film.mp4.1"])
    assert (folder / "film.mp4.1").exists()
