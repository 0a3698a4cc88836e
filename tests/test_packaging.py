"""The package list, the folders on disk and the links for type checkers agree, so nothing is left out of the wheel."""

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

from tasktrail.handlers.contract import MEDIA
from tasktrail.handlers.registry import Registry

ROOT = Path(__file__).parent.parent


def setuptools_table(root: Path) -> dict[str, Any]:
    with (root / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["tool"]["setuptools"]
    return table


def folder_of(package: str, table: dict[str, Any]) -> str:
    """Map `tasktrail.handlers.video.convert` to handlers/video/convert, by the longest mapped prefix."""
    head, tail = package, ""
    while head not in table["package-dir"] and "." in head:
        head, _, last = head.rpartition(".")
        tail = f"/{last}{tail}"
    mapped: str = table["package-dir"].get(head, head)
    return mapped + tail


def files(root: Path, folder: str) -> Iterator[Path]:
    for where, _, names in os.walk(root / folder):
        yield from (Path(where, name) for name in names if "__pycache__" not in where)


def disagreements(root: Path) -> list[str]:
    """Return source files in no listed package, listed packages without a folder, and rooms without their link."""
    table = setuptools_table(root)
    listed = {folder_of(package, table): package for package in table["packages"]}
    data = [
        package for package in table.get("package-data", {}) if not any(root.glob(f"{folder_of(package, table)}/*.py"))
    ]
    found = [
        f"{package} has no {folder}/__init__.py"
        for folder, package in listed.items()
        if not (root / folder / "__init__.py").is_file() and package not in data
    ]
    for folder in {path.split("/")[0] for path in listed}:
        for path in files(root, folder):
            if path.suffix != ".py":
                if path.name != "py.typed" and not ships(path, root, table, listed):
                    found.append(f"{path.relative_to(root)} is data that no package-data entry takes along")
            elif path.parent.relative_to(root).as_posix() not in listed:
                found.append(f"{path.relative_to(root)} is in no listed package")
    for room in table["package-dir"].values():
        link = root / "tasktrail" / room
        if not link.is_symlink() or link.readlink() != Path("..", room):
            found.append(f"tasktrail/{room} is not a link to ../{room}")
    return sorted(found)


def ships(path: Path, root: Path, table: dict[str, Any], listed: dict[str, str]) -> bool:
    """Return whether the package in or above the file's folder contains it."""
    folder = next((folder for folder in path.parents if folder.relative_to(root).as_posix() in listed), root)
    package = listed.get(folder.relative_to(root).as_posix(), "")
    patterns = table.get("package-data", {}).get(package, [])
    return any(fnmatchcase(path.relative_to(folder).as_posix(), pattern) for pattern in patterns)


def test_every_source_file_is_packaged_and_every_room_is_linked() -> None:
    assert disagreements(ROOT) == []


def test_nothing_makes_the_tests_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def loaded_by(folder: str) -> Iterator[tuple[str, str]]:
    """Return modules of other packages that a folder's files import at their own import: file, top-level name."""
    for path in files(ROOT, folder):
        for node in ast.parse(path.read_bytes()).body if path.suffix == ".py" else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            yield from ((path.relative_to(ROOT).as_posix(), name.partition(".")[0]) for name in names)


def installed_with(requirements: list[str]) -> set[str]:
    """Return the names of all distributions that these bring, in lower case."""
    found: set[str] = set()
    wanted = [line for line in requirements if "extra ==" not in line]
    while wanted:
        name = re.split(r"[^\w.-]", wanted.pop())[0].lower().replace("_", "-")
        if name not in found and name in INSTALLED:
            found.add(name)
            wanted += [line for line in requires(name) or () if "extra ==" not in line]
    return found


INSTALLED = {name.lower().replace("_", "-") for names in packages_distributions().values() for name in names}
MEDIA_ROOMS = (
    "handlers/audio",
    "handlers/document",
    "handlers/image",
    "handlers/media",
    "handlers/model",
    "handlers/video",
    "tasktrail/demo",
)
ON_POSTGRESQL = "events/log/postgresql/"
AFTER_A_LOOK = {"actors/delivery/apprise_process.py", "projections/proof/stamps.py"}
"""Loaded only where the package is installed."""


@pytest.mark.slow
def test_the_plain_install_has_all_that_is_loaded_outside_of_the_media_types() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        plain = installed_with(tomllib.load(file)["project"]["dependencies"])
    homes = packages_distributions()
    lacking = {
        (path, name)
        for folder in ("actors", "events", "handlers", "projections", "tasktrail")
        for path, name in loaded_by(folder)
        if not path.startswith((*MEDIA_ROOMS, ON_POSTGRESQL))
        if path not in AFTER_A_LOOK and name not in sys.stdlib_module_names
        if not any(home.lower().replace("_", "-") in plain for home in homes.get(name, ()))
    }
    assert "click" in plain
    assert lacking == set()


def test_no_pyav_comes_with_the_media_types_that_nothing_here_has_run_with() -> None:
    """Each major release reports other facts about a film, and an install without our constraints gets the newest."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        media = tomllib.load(file)["project"]["optional-dependencies"]["media"]
    (wanted,) = (line for line in media if re.match(r"av\b", line))
    tested = [int(major) for major in re.findall(r"(?m)^av==(\d+)\.", (ROOT / "constraints.txt").read_text())]
    assert wanted == f"av>={min(tested)},<{max(tested) + 1}", f"{tested} are what is tested"


def test_the_media_types_name_what_they_import() -> None:
    registry = Registry.load()
    named = {package for task_type in registry for package in task_type.packages.modules}
    optional = {"embreex", "pillow_heif"}
    imported = {name for folder in MEDIA_ROOMS for _, name in loaded_by(folder)} - set(sys.stdlib_module_names)
    assert imported - {"msgspec", "psutil", "rich"} - optional == named
    assert {task_type.packages.install for task_type in registry if task_type.packages.modules} == {MEDIA}


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.setuptools]\npackages = ["tasktrail", "tasktrail.events", "tasktrail.events.log"]\n'
        '[tool.setuptools.package-dir]\n"tasktrail.events" = "events"\n'
    )
    for folder in ("tasktrail", "events", "events/log"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "tasktrail" / "events").symlink_to("../events")
    return tmp_path


def test_a_tree_in_step_has_no_disagreements(small_tree: Path) -> None:
    assert disagreements(small_tree) == []


def test_a_nested_package_that_is_not_listed_is_found(small_tree: Path) -> None:
    (small_tree / "events" / "more").mkdir()
    (small_tree / "events" / "more" / "__init__.py").touch()
    assert disagreements(small_tree) == ["events/more/__init__.py is in no listed package"]


def test_a_listed_package_without_a_folder_is_found(small_tree: Path) -> None:
    (small_tree / "events" / "log" / "__init__.py").unlink()
    assert disagreements(small_tree) == ["tasktrail.events.log has no events/log/__init__.py"]


def test_data_that_no_package_takes_along_is_found(small_tree: Path) -> None:
    (small_tree / "events" / "schema.sql").touch()
    assert disagreements(small_tree) == ["events/schema.sql is data that no package-data entry takes along"]


def test_data_in_a_folder_of_its_own_is_found_unless_an_entry_of_the_package_above_takes_it(small_tree: Path) -> None:
    (small_tree / "events" / "sounds").mkdir()
    (small_tree / "events" / "sounds" / "bell.wav").touch()
    assert disagreements(small_tree) == ["events/sounds/bell.wav is data that no package-data entry takes along"]
    with (small_tree / "pyproject.toml").open("a") as file:
        file.write('[tool.setuptools.package-data]\n"tasktrail.events" = ["sounds/*"]\n')
    assert disagreements(small_tree) == []


def test_a_missing_or_wrong_link_is_found(small_tree: Path) -> None:
    (small_tree / "tasktrail" / "events").unlink()
    assert disagreements(small_tree) == ["tasktrail/events is not a link to ../events"]
    (small_tree / "tasktrail" / "events").symlink_to("../tasktrail")
    assert disagreements(small_tree) == ["tasktrail/events is not a link to ../events"]
