"""Temp files by task, found again after a restart, swept by rules."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from tasktrail.handlers.workspace import TempFiles, create_temp_file

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
    """The file was written, and its folder touched, that many seconds ago."""
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
    """A file that is moved into place keeps its old time; only the folder tells that it is new."""
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
    """Removing one may take long: the answer that was good for the first is old for the last."""

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
        create_temp_file(files.folder(7), "x")  # the Scheduler has said 6, and goes on
        return 6

    assert files.sweep_orphans(last_task_id) == []
    assert files.tasks() == [7]


def test_an_orphan_whose_number_is_given_to_a_task_meanwhile_stays(files: TempFiles) -> None:
    """As with a log that was put back to an earlier state: the folders have higher numbers than its tasks."""
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
