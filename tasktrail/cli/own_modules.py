"""Modules with task types that are named on the command line: a file, or a module below the current folder."""

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..events.existence import exists, is_dir, is_file

if TYPE_CHECKING:
    from collections.abc import Sequence


_OF_PYTHON = sys.stdlib_module_names - {"test", "this", "antigravity"}
"""Python's own modules; nothing imports the last three."""


def importable(words: "Sequence[str]") -> tuple[str, ...]:
    """Return the names of the modules, and make them importable for this process and its workers.

    Raises `click.UsageError` if a module does not exist, or another module has its name.
    """
    return tuple(_from_file(Path(word)) if word.endswith(".py") else _from_here(word) for word in words)


def hiding_python() -> list[Path]:
    """Return the files and packages in the folders put first that have the name of a module of Python's own.

    A worker that imports `types` gets `types.py` of such a folder, and mostly ends with an error about something else.
    """
    found = []
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        with suppress(OSError):  # it is gone, or an archive
            paths = sorted(Path(folder).iterdir())
            found += [path for path in paths if path.stem in _OF_PYTHON and (path.suffix == ".py" or _is_package(path))]
    return found


def _is_package(path: Path) -> bool:
    return not path.suffix and exists(path / "__init__.py")


def _from_file(file: Path) -> str:
    path = file.resolve()
    if not is_file(path):
        raise click.UsageError(f"There is no file {file}.")
    folder, parts = path.parent, [path.stem]
    while exists(folder / "__init__.py"):
        folder, parts = folder.parent, [folder.name, *parts]
    _add(folder)
    name = ".".join(parts)
    found = find_spec(name)
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        raise click.UsageError(
            f"{file} cannot be imported, because {name!r} is the name of another module. Rename the file."
        )
    return name


def _from_here(name: str) -> str:
    _add(Path.cwd())
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        found = None
    if is_file(Path(name)):
        raise click.UsageError(f"{name} is no file of Python: its name does not end in .py.")
    if found is None and is_dir(Path(name)):
        raise click.UsageError(f"{name} is a folder, and no module. Name a file, as in {Path(name) / 'app.py'}.")
    if found is None:
        file = f" Did you mean the file {name}.py?" if is_file(Path(f"{name}.py")) else ""
        raise click.UsageError(f"There is no module {name!r}, neither installed nor in this folder.{file}")
    if found.origin is None:
        raise click.UsageError(f"{name} is a folder without a module of its own. Name a file, as in {name}/app.py.")
    return name


def _add(folder: Path) -> None:
    """Put a folder first on the import path, here and in the environment, from which workers take theirs."""
    inherited = os.environ.get("PYTHONPATH", "")
    if str(folder) not in inherited.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), inherited)))
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
