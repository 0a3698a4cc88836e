"""What lies in a data folder is its owner's alone: files 0600, folders 0700, whatever was there before.

Only what tasktrail makes is looked at. A folder in which other things lie as well (a home, `/tmp`, `/`) stays as it
is, and so does what is no plain file, belongs to somebody else, or is a link.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from .events.log.files import PRIVATE_FILE, PRIVATE_FOLDER
from .paths import DataPaths

_OTHERS = 0o077
_FILES = re.compile(
    r"\.?(log|views)\.db.*|lock|workers\.lock|\.?tasktrail\.sock.*|\.?http-token.*|tasktrail\.toml|accepted-loss\.json.*"
)
_FOLDERS = re.compile(r"snapshots|output|tmp|seals|replaced-\d{8}T\d+Z")
_TASKS_OWN = re.compile(r"\d+")


def loose(paths: DataPaths) -> Iterator[Path]:
    """What other users may reach although it is the data folder's; that folder first, if it is to be closed."""
    for folder in dict.fromkeys((paths.data, paths.temp)):
        if _is_loose(folder) and not _holds_other_things(folder, paths):
            yield folder
    for path in _own(paths):
        if _is_loose(path):
            yield path


def close_to_others(paths: DataPaths) -> None:
    """Give files and folders the modes that they should have. What cannot be changed stays; `doctor` tells of it."""
    for path in loose(paths):
        try:
            os.chmod(path, PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)  # noqa: PTH101 - no link, as was seen
        except OSError:
            continue


def is_shared(paths: DataPaths) -> bool:
    """Whether others may look into the data folder, and it stays so because other things lie there."""
    return _is_loose(paths.data) and _holds_other_things(paths.data, paths)


def _is_loose(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISSOCK(status.st_mode)
    return plain and status.st_uid == os.geteuid() and bool(status.st_mode & _OTHERS)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_own(path: Path) -> bool:
    return bool((_FOLDERS if path.is_dir() and not path.is_symlink() else _FILES).fullmatch(path.name))


def _holds_other_things(folder: Path, paths: DataPaths) -> bool:
    if folder == paths.data:
        return any(not _is_own(path) and path != paths.temp for path in _entries(folder))
    return any(not _TASKS_OWN.fullmatch(path.name) for path in _entries(folder))


def _own(paths: DataPaths) -> Iterator[Path]:
    """Files and folders below the two. A task's work folder is closed as a whole: what is in it is the handler's.

    Among other things a folder with as plain a name as `output` is perhaps somebody else's.
    """
    shared = _holds_other_things(paths.data, paths)
    for path in _entries(paths.data):
        if not _is_own(path) or path in (paths.temp, paths.data / "tmp"):
            continue
        if not path.is_dir():
            yield path
        elif not shared:
            yield path
            yield from _below(path)
    yield from (path for path in _entries(paths.temp) if path.is_dir() and _TASKS_OWN.fullmatch(path.name))


def _below(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
