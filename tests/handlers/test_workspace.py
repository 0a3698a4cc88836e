"""Temp files by task, found again after a restart, swept by rules."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasktrail.handlers.workspace import TempFiles, create_temp_file

NOW = 1_800_000_000.0


@pytest.fixture
def protected() -> set[int]:
    return set()


@pytest.fixture
def make(tmp_path: Path, protected: set[int]) -> Callable[[], TempFiles]:
    def build() -> TempFiles:
        return TempFiles(
            tmp_path / "tmp", max_size=1000, cleanup_after=3600, protected=lambda: protected, clock=lambda: NOW
        )

    return build


@pytest.fixture
def files(make: Callable[[], TempFiles]) -> TempFiles:
    return make()


def fill(path: Path, size: int, age: float) -> Path:
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - age, NOW - age))
    return path


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


def test_sizes_are_found_again_after_a_restart(files: TempFiles, make: Callable[[], TempFiles]) -> None:
    fill(create_temp_file(files.folder(1), "a"), 30, age=10)
    fill(create_temp_file(files.folder(2), "b"), 12, age=0)

    again = make()

    assert again.total_size() == 42
    assert [(info.task_id, info.size, info.created_at) for info in again.files(1)] == [(1, 30, NOW - 10)]


def test_cleaning_up_removes_old_files_of_unprotected_tasks_only(files: TempFiles, protected: set[int]) -> None:
    old, young, kept = (create_temp_file(files.folder(task_id), "x") for task_id in (1, 2, 3))
    fill(old, 10, age=3601)
    fill(young, 10, age=3599)
    fill(kept, 10, age=999_999)
    protected.add(3)

    removed = files.clean_up()

    assert [info.path for info in removed] == [old]
    assert (files.folder(1).exists(), young.exists(), kept.exists()) == (False, True, True)


def test_beyond_the_quota_what_ended_tasks_left_goes_before_its_time_the_oldest_first(
    files: TempFiles, protected: set[int]
) -> None:
    oldest, older, young, kept = (create_temp_file(files.folder(task_id), "x") for task_id in (1, 2, 3, 4))
    for path, size, age in ((oldest, 300, 30), (older, 300, 20), (young, 300, 10), (kept, 400, 99)):
        fill(path, size, age)
    protected.add(4)

    removed = files.clean_up()

    assert [info.path for info in removed] == [oldest]
    assert files.total_size() == 1000
    assert (files.folder(1).exists(), older.exists(), young.exists(), kept.exists()) == (False, True, True, True)


def test_open_tasks_keep_their_files_also_beyond_the_quota(files: TempFiles, protected: set[int]) -> None:
    kept = fill(create_temp_file(files.folder(1), "x"), 2000, age=9999)
    protected.add(1)

    assert files.clean_up() == []
    assert kept.exists()


def test_folders_of_tasks_that_were_never_created_are_swept(files: TempFiles) -> None:
    for task_id in (1, 2, 3):
        create_temp_file(files.folder(task_id), "x")
    (files.folder(0).parent / "not-a-task").mkdir()

    assert files.sweep_orphans(last_task_id=2) == [3]

    assert files.tasks() == [1, 2]


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
