"""Temp files by task, found again after a restart, swept by rules."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasktrail.handlers.errors import TempSpaceFull
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
    first, second = files.create(7, "frame-", ".png"), files.create(7, "frame-", ".png")

    assert first != second
    assert first.parent == files.folder(7)
    assert (first.name[:6], first.suffix) == ("frame-", ".png")
    assert (first.stat().st_size, first.stat().st_mode & 0o777) == (0, 0o600)


@pytest.mark.parametrize("name", ["../escape", "a/b", "nul\0"])
def test_a_prefix_cannot_lead_out_of_the_folder(files: TempFiles, name: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        files.create(7, name)
    with pytest.raises(ValueError, match="suffix"):
        create_temp_file(files.folder(7), "x", name)


def test_sizes_are_found_again_after_a_restart(files: TempFiles, make: Callable[[], TempFiles]) -> None:
    fill(files.create(1, "a"), 30, age=10)
    fill(files.create(2, "b"), 12, age=0)

    again = make()

    assert again.total_size() == 42
    assert [(info.task_id, info.size, info.created_at) for info in again.files(1)] == [(1, 30, NOW - 10)]


def test_cleaning_up_removes_old_files_of_unprotected_tasks_only(files: TempFiles, protected: set[int]) -> None:
    old, young, kept = (files.create(task_id, "x") for task_id in (1, 2, 3))
    fill(old, 10, age=3601)
    fill(young, 10, age=3599)
    fill(kept, 10, age=999_999)
    protected.add(3)

    removed = files.clean_up()

    assert [info.path for info in removed] == [old]
    assert (files.folder(1).exists(), young.exists(), kept.exists()) == (False, True, True)


def test_a_full_folder_is_cleaned_up_before_a_new_file_is_made(files: TempFiles) -> None:
    old = fill(files.create(1, "x"), 1000, age=9999)

    files.create(2, "y")

    assert not old.exists()


def test_a_folder_full_of_protected_files_refuses_new_ones(files: TempFiles, protected: set[int]) -> None:
    kept = fill(files.create(1, "x"), 1000, age=9999)
    protected.add(1)

    with pytest.raises(TempSpaceFull, match="1000 of 1000 bytes"):
        files.create(2, "y")

    assert kept.exists()


def test_folders_of_tasks_that_nobody_knows_are_swept(files: TempFiles, protected: set[int]) -> None:
    for task_id in (1, 2, 3):
        files.create(task_id, "x")
    (files.folder(0).parent / "not-a-task").mkdir()
    protected.add(3)

    assert files.sweep_orphans({1}) == [2]

    assert files.tasks() == [1, 3]


def test_links_are_counted_as_links_and_never_followed(files: TempFiles, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x" * 500)
    files.create(1, "x")
    (files.folder(1) / "link").symlink_to(precious)

    assert files.total_size() < 500
    files.remove(1)

    assert (precious / "file").exists()
    assert files.tasks() == []


def test_a_tasks_folder_is_the_services_alone(tmp_path: Path) -> None:
    create_temp_file(tmp_path / "7", "part-")
    assert (tmp_path / "7").stat().st_mode & 0o777 == 0o700
