"""Temp files by task, found again after a restart, swept by rules."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from deep_folders import dig, few_descriptors

from tasktrail.handlers.workspace import MAX_DEPTH, TempFiles, Unlistable, create_temp_file, remove_folder, space_taken

NOW = 1_800_000_000.0


@pytest.fixture
def protected() -> set[int]:
    return set()


@pytest.fixture
def make(tmp_path: Path, protected: set[int]) -> Callable[..., TempFiles]:
    def build(ask: Callable[[], Collection[int]] = lambda: protected) -> TempFiles:
        return TempFiles(tmp_path / "tmp", max_size=1000, cleanup_after=3600, protected=ask, clock=lambda: NOW)

    return build


@pytest.fixture
def files(make: Callable[..., TempFiles]) -> TempFiles:
    return make()


def fill(path: Path, size: int, age: float) -> Path:
    """Write the file, and touch its folder, as of that many seconds ago."""
    path.write_bytes(b"x" * size)
    for touched in (path, path.parent):
        os.utime(touched, (NOW - age, NOW - age))
    return path


def fill_task(files: TempFiles, task_id: int, size: int, age: float) -> Path:
    return fill(create_temp_file(files.folder(task_id), "x"), size, age)


def test_a_temp_file_is_new_empty_private_and_in_its_tasks_folder(files: TempFiles) -> None:
    first, second = (
        create_temp_file(files.folder(7), "frame-", ".png"),
        create_temp_file(files.folder(7), "frame-", ".png"),
    )

    assert first != second
    assert first.parent == files.folder(7)
    assert (first.name[:6], first.suffix) == ("frame-", ".png")
    assert (first.stat().st_size, first.stat().st_mode & 0o777) == (0, 0o600)


@pytest.mark.parametrize("name", ["../escape", "a/b", "nul\0"])
def test_a_prefix_cannot_lead_out_of_the_folder(files: TempFiles, name: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        create_temp_file(files.folder(7), name)
    with pytest.raises(ValueError, match="suffix"):
        create_temp_file(files.folder(7), "x", name)


def test_sizes_are_found_again_after_a_restart(files: TempFiles, make: Callable[..., TempFiles]) -> None:
    fill(create_temp_file(files.folder(1), "a"), 30, age=10)
    fill(create_temp_file(files.folder(2), "b"), 12, age=0)

    again = make()

    assert again.total_size() == 42
    assert [(info.task_id, info.size, info.created_at) for info in again.files(1)] == [(1, 30, NOW - 10)]


def test_cleaning_up_removes_old_folders_of_unprotected_tasks_only(files: TempFiles, protected: set[int]) -> None:
    for task_id, age in ((1, 3601), (2, 3599), (3, 999_999)):
        fill_task(files, task_id, 10, age)
    protected.add(3)

    removed = files.clean_up()

    assert [(info.task_id, info.path, info.size, info.written_at) for info in removed] == [
        (1, files.folder(1), 10, NOW - 3601)
    ]
    assert files.tasks() == [2, 3]


def test_a_folder_is_as_old_as_the_newest_write_below_it_and_stays_or_goes_whole(files: TempFiles) -> None:
    for task_id, newest in ((1, 3599), (2, 3601)):
        for age in (100_000, 50_000, newest):
            fill_task(files, task_id, 10, age)

    assert [info.task_id for info in files.clean_up()] == [2]

    assert len(list(files.files(1))) == 3
    assert files.tasks() == [1]


@pytest.mark.parametrize("touched", ["deep/piece", "deep", "."])
def test_a_write_counts_at_any_depth_and_so_does_a_change_of_a_folder(files: TempFiles, touched: str) -> None:
    """A file that is moved into place keeps its old time; only the folder shows that it is new."""
    folder = files.folder(1)
    (folder / "deep").mkdir(parents=True)
    fill(folder / "deep" / "piece", 10, age=9999)
    os.utime(folder, (NOW - 9999, NOW - 9999))
    os.utime(folder / touched, (NOW - 5, NOW - 5))
    assert files.clean_up() == []

    os.utime(folder / touched, (NOW - 9999, NOW - 9999))
    assert [info.task_id for info in files.clean_up()] == [1]


def test_an_empty_folder_has_an_age_too(files: TempFiles) -> None:
    for task_id, age in ((1, 3599), (2, 3601)):
        files.folder(task_id).mkdir()
        os.utime(files.folder(task_id), (NOW - age, NOW - age))

    assert [info.task_id for info in files.clean_up()] == [2]
    assert files.tasks() == [1]


def test_beyond_the_quota_what_ended_tasks_left_goes_before_its_time_the_oldest_first(
    files: TempFiles, protected: set[int]
) -> None:
    for task_id, size, age in ((1, 300, 30), (2, 300, 20), (3, 300, 10), (4, 400, 99)):
        fill_task(files, task_id, size, age)
    protected.add(4)

    assert [info.task_id for info in files.clean_up()] == [1]

    assert files.total_size() == 1000
    assert files.tasks() == [2, 3, 4]


def test_the_quota_costs_one_checkpoint_and_breaks_none(files: TempFiles) -> None:
    for task_id, ages in ((1, (90, 80, 10)), (2, (40, 30, 20))):
        for age in ages:
            fill_task(files, task_id, 200, age)

    assert [(info.task_id, info.size) for info in files.clean_up()] == [(2, 600)]

    assert len(list(files.files(1))) == 3


def test_open_tasks_keep_their_files_also_beyond_the_quota(files: TempFiles, protected: set[int]) -> None:
    kept = fill_task(files, 1, 2000, age=9999)
    protected.add(1)

    assert files.clean_up() == []
    assert kept.exists()


def test_a_folder_that_is_made_while_it_is_asked_who_is_open_is_not_touched(make: Callable[..., TempFiles]) -> None:
    def ask() -> set[int]:
        all_files.folder(6).mkdir(exist_ok=True)
        fill_task(all_files, 7, 2000, age=9999)
        return set()

    all_files = make(ask)

    assert all_files.clean_up() == []
    assert all_files.tasks() == [6, 7]


def test_a_task_that_is_retried_meanwhile_keeps_its_folder_and_the_next_goes_instead(
    make: Callable[..., TempFiles],
) -> None:
    answers = iter([{1}, {1, 5}, {1, 5}])
    all_files = make(lambda: next(answers))
    for task_id, size, age in ((1, 700, 99), (5, 200, 30), (6, 200, 20), (7, 50, 10)):
        fill_task(all_files, task_id, size, age)

    assert [info.task_id for info in all_files.clean_up()] == [6]
    assert all_files.tasks() == [1, 5, 7]


def test_every_folder_is_asked_for_right_before_it_goes(make: Callable[..., TempFiles]) -> None:
    """Removing one may take long, so an answer for the first may be outdated for the last."""

    def ask() -> set[int]:
        return set() if all_files.folder(1).exists() else {2}

    all_files = make(ask)
    for task_id in (1, 2):
        fill_task(all_files, task_id, 10, age=9999 - task_id)

    assert [info.task_id for info in all_files.clean_up()] == [1]
    assert all_files.tasks() == [2]


def test_a_task_that_has_run_and_ended_meanwhile_keeps_what_it_wrote(make: Callable[..., TempFiles]) -> None:
    def ask() -> set[int]:
        fill_task(all_files, 1, 10, age=0)
        return set()

    all_files = make(ask)
    fill_task(all_files, 1, 10, age=9999)

    assert all_files.clean_up() == []
    assert all_files.tasks() == [1]


def test_folders_of_tasks_that_were_never_created_are_swept(files: TempFiles) -> None:
    for task_id in (1, 2, 3):
        create_temp_file(files.folder(task_id), "x")
    (files.folder(0).parent / "not-a-task").mkdir()

    assert files.sweep_orphans(lambda: 2) == [3]

    assert files.tasks() == [1, 2]


def test_a_task_that_is_created_while_orphans_are_swept_keeps_its_folder(files: TempFiles) -> None:
    def last_task_id() -> int:
        create_temp_file(files.folder(7), "x")  # the Scheduler has reported 6, and continues
        return 6

    assert files.sweep_orphans(last_task_id) == []
    assert files.tasks() == [7]


def test_an_orphan_whose_number_is_given_to_a_task_meanwhile_stays(files: TempFiles) -> None:
    """As with a log that was restored to an earlier state: the folders have higher numbers than its tasks."""
    for task_id in (6, 7, 8):
        create_temp_file(files.folder(task_id), "x")
    answers = iter([5, 6, 7, 7])

    assert files.sweep_orphans(lambda: next(answers)) == [8]
    assert files.tasks() == [6, 7]


def test_links_are_counted_as_links_and_never_followed(files: TempFiles, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x" * 500)
    create_temp_file(files.folder(1), "x")
    (files.folder(1) / "link").symlink_to(precious)

    assert files.total_size() < 500
    files.remove(1)

    assert (precious / "file").exists()
    assert files.tasks() == []


def test_a_tasks_folder_is_the_services_alone(tmp_path: Path) -> None:
    create_temp_file(tmp_path / "7", "part-")
    assert (tmp_path / "7").stat().st_mode & 0o777 == 0o700


# --- folders that are made to be neither counted nor removed ---------------------------------------------------------


def dig_deep(folder: Path) -> None:
    dig(folder, 1100)


def dig_to_the_longest_path(folder: Path) -> None:
    name = "d" * 200
    dig(folder, (4085 - len(str(folder))) // (len(name) + 1), name)


def hide(folder: Path) -> None:
    (folder / "hide").mkdir(parents=True)
    (folder / "hide" / "payload").write_bytes(b"x" * 500)
    (folder / "hide").chmod(0o300)


def hide_below(folder: Path) -> None:
    """Make a folder that `ls` may list, but whose content cannot be inspected or removed."""
    hide(folder / "some" / "where")
    (folder / "some").chmod(0o400)


TREES = pytest.mark.parametrize("make_tree", [dig_deep, dig_to_the_longest_path, hide, hide_below])


@pytest.fixture(params=["as we are", "as a plain user"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Make a folder of our own. Root may list everything; only other users can be kept out."""
    folder, changes = Path(tempfile.mkdtemp()), request.param == "as a plain user" and not os.geteuid()
    if changes:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    yield folder
    if changes:
        os.seteuid(0)
    remove_folder(folder)


@pytest.fixture
def _few_descriptors() -> Iterator[None]:
    with few_descriptors():
        yield


@pytest.mark.usefixtures("_few_descriptors")
@TREES
def test_any_tree_is_removed_whole(place: Path, make_tree: Callable[[Path], None]) -> None:
    make_tree(place / "top")

    remove_folder(place / "top")

    assert not list(place.iterdir())


def test_all_else_is_removed_when_something_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "stays", "z"):
        create_temp_file(tmp_path / "top" / name, "x")
        (tmp_path / "top" / name / name).touch()
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "stays":
            raise PermissionError(path)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="stays"):
        remove_folder(tmp_path / "top")
    monkeypatch.undo()

    assert [path.name for path in (tmp_path / "top").rglob("*")] == ["stays", "stays"]


def test_what_somebody_else_removes_meanwhile_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "7"
    (folder / "below" / "deeper").mkdir(parents=True)
    (folder / "file").touch()
    scandir = os.scandir

    def late(place: int) -> AbstractContextManager[list[os.DirEntry[str]]]:
        with scandir(place) as found:
            entries = list(found)
        monkeypatch.undo()
        shutil.rmtree(folder)
        return nullcontext(entries)

    monkeypatch.setattr(os, "scandir", late)
    remove_folder(folder)
    assert not folder.exists()


def test_what_somebody_else_who_removes_moves_up_meanwhile_is_removed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "7"
    (folder / "below" / "deeper").mkdir(parents=True)
    scandir = os.scandir

    def late(place: int) -> AbstractContextManager[list[os.DirEntry[str]]]:
        with scandir(place) as found:
            entries = list(found)
        monkeypatch.undo()
        (folder / "below" / "deeper").rename(folder / "deeper")
        return nullcontext(entries)

    monkeypatch.setattr(os, "scandir", late)
    remove_folder(folder)
    assert not folder.exists()


def test_what_cannot_be_moved_is_removed_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as files in a lower layer of a container's disk: no attempt has made them, so they are not deep."""
    (tmp_path / "top" / "a" / "lower" / "b").mkdir(parents=True)
    (tmp_path / "top" / "a" / "lower" / "b" / "file").touch()
    (tmp_path / "top" / "a" / "upper" / "c").mkdir(parents=True)
    rename = os.rename

    def refuse(name: str, *args: Any, **folders: Any) -> None:
        if name == "lower":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(name, *args, **folders)

    monkeypatch.setattr(os, "rename", refuse)

    remove_folder(tmp_path / "top")

    assert not list(tmp_path.iterdir())


def test_links_to_folders_are_removed_and_not_followed(tmp_path: Path) -> None:
    create_temp_file(tmp_path / "precious", "x")
    (tmp_path / "top" / "deep").mkdir(parents=True)
    (tmp_path / "top" / "deep" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")

    remove_folder(tmp_path / "top")
    with pytest.raises(NotADirectoryError):
        remove_folder(tmp_path / "link")

    assert len(list((tmp_path / "precious").iterdir())) == 1


def test_what_is_too_deep_is_not_counted_as_nothing(tmp_path: Path) -> None:
    dig(tmp_path / "fits", MAX_DEPTH)
    dig(tmp_path / "deeper", MAX_DEPTH + 1)

    assert space_taken(tmp_path / "fits") == 0
    with pytest.raises(Unlistable, match="levels deep"):
        space_taken(tmp_path / "deeper")


def test_a_path_may_be_longer_than_the_system_takes(tmp_path: Path) -> None:
    dig_to_the_longest_path(tmp_path / "top")
    assert space_taken(tmp_path / "top") == 0


@pytest.mark.parametrize("make_tree", [hide, hide_below])
def test_what_is_hidden_is_counted_or_said_to_be_uncounted(place: Path, make_tree: Callable[[Path], None]) -> None:
    make_tree(place / "top")
    if os.geteuid() == 0:
        assert space_taken(place / "top") == 500
    else:
        with pytest.raises(Unlistable):
            space_taken(place / "top")


@TREES
def test_a_task_with_such_a_tree_keeps_no_other_from_being_cleaned_up(
    place: Path, make_tree: Callable[[Path], None]
) -> None:
    files = TempFiles(place, max_size=1000, cleanup_after=3600, protected=set, clock=lambda: NOW)
    make_tree(files.folder(1))
    fill_task(files, 2, 10, age=9999)
    fill_task(files, 3, 10, age=10)

    assert 2 in [info.task_id for info in files.clean_up()]

    assert 3 in files.tasks()
    files.remove(1)
    assert files.tasks() == [3]


def test_a_folder_that_cannot_be_looked_at_is_told_and_the_others_are_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    files = TempFiles(
        tmp_path,
        max_size=1000,
        cleanup_after=3600,
        protected=set,
        clock=lambda: NOW,
        on_trouble=lambda task_id, _: told.append(task_id),
    )
    for task_id in (1, 2):
        fill_task(files, task_id, 10, age=9999)
    open_file = os.open

    def broken(path: Path, *args: int, **kwargs: int) -> int:
        if path == files.folder(1):
            raise OSError(5, "Input/output error")
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", broken)

    assert [info.task_id for info in files.clean_up()] == [2]
    assert told == [1]
