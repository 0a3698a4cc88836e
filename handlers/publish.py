"""How an output gets its final name: whole or not at all, and never over a file that is not ours.

The order is: make the part file durable, write down which file it is, give it the final name, make the folder durable.
A crash can fall between the new name and the recorded end of the task. The next attempt then finds the name taken and
knows by the note that the file is the task's own earlier output, so it may replace it.
"""

import errno
import filecmp
import os
import shutil
import stat
from pathlib import Path
from zlib import crc32

from ..events.errors import OutputExists
from .errors import OutputMissing
from .workspace import make_private_folder

NOTE = ".published"
_NAME_MAX = 255
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def part_path(output_file: Path, task_id: int) -> Path:
    """Where the task writes before it publishes: hidden, in the same folder, with the same suffix.

    Raises OutputMissing for the empty path of a task that was given no output.
    """
    if not output_file.name:
        raise OutputMissing(
            "The task was given no output_file, so there is no output_part",
            remedy="Give it an output_file, or do not use context.output_part without one.",
        )
    tail = f".tasktrail-{task_id}{output_file.suffix}"
    stem = output_file.stem
    if len(os.fsencode(f".{stem}{tail}")) > _NAME_MAX:
        stem = f"{crc32(os.fsencode(stem)):08x}"
    return output_file.with_name(f".{stem}{tail}")


def staging_folder(output_file: Path, task_id: int) -> Path:
    """A hidden folder beside the output, for a handler that may write nowhere else there."""
    return output_file.with_name(f".tasktrail-{task_id}.d")


def staged_path(output_file: Path, task_id: int) -> Path:
    """Where such a handler writes: in that folder, under the name of the part file."""
    return staging_folder(output_file, task_id) / part_path(output_file, task_id).name


def stage(output_file: Path, task_id: int) -> Path:
    """Make the folder, empty; its path."""
    folder = staging_folder(output_file, task_id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def unstage(output_file: Path, task_id: int) -> None:
    """Make the staged file the part file. Raises OutputMissing when there is none, or it is no file of its own."""
    staged = staged_path(output_file, task_id)
    try:
        is_file = stat.S_ISREG(staged.lstat().st_mode)
    except FileNotFoundError:
        raise OutputMissing(f"The handler ended without writing its output {staged.name}") from None
    if not is_file:
        raise OutputMissing(f"The handler left {staged.name}, which is no regular file, for its output")
    staged.replace(part_path(output_file, task_id))
    shutil.rmtree(staged.parent, ignore_errors=True)


def remove_part(output_file: Path, task_id: int) -> bool:
    """Remove what an attempt left under the hidden names. False when there was no part file."""
    shutil.rmtree(staging_folder(output_file, task_id), ignore_errors=True)
    try:
        part_path(output_file, task_id).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def settle(part: Path) -> None:
    """Make the part file durable. The slow half of publishing; done before the grant is asked for."""
    try:
        fd = os.open(part, os.O_RDONLY)
    except FileNotFoundError:
        raise OutputMissing(f"The handler ended without writing its output {part.name}") from None
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(part: Path, output_file: Path, *, overwrite: bool, work_dir: Path | None = None) -> None:
    """Give the settled part file its final name.

    Args:
        part: from `part_path`.
        output_file: the final name, in the same folder.
        overwrite: replace whatever stands there.
        work_dir: the task's own folder, where the note is kept; without it only a file with equal bytes is taken for
            the task's own.

    Raises:
        OutputExists: the name is taken by a foreign file; the part file is left alone.
    """
    if overwrite:
        part.replace(output_file)
    else:
        note = None if work_dir is None else work_dir / NOTE
        _publish_new(part, output_file, note)
    sync_folder(output_file.parent)


def _publish_new(part: Path, output_file: Path, note: Path | None) -> None:
    ours = identity_of(output_file)
    if ours and (_noted(note) == ours or _equal(part, output_file)):
        part.replace(output_file)
        part.unlink(missing_ok=True)  # renaming a file onto itself changes nothing
        return
    if note:
        write_durably(note, identity_of(part).encode())
    try:
        os.link(part, output_file, follow_symlinks=False)
    except FileExistsError:
        raise OutputExists(f"There is already a file {output_file}") from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _rename_new(part, output_file)
    else:
        part.unlink()


def _rename_new(part: Path, output_file: Path) -> None:
    """For filesystems without hard links. Between the look and the rename another program could take the name."""
    if os.path.lexists(output_file):
        raise OutputExists(f"There is already a file {output_file}")
    part.rename(output_file)


def identity_of(path: Path) -> str:
    """What a file keeps when it is linked or renamed and no later file will have. Empty when there is no file."""
    try:
        stat = path.lstat()
    except OSError:
        return ""
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def _noted(note: Path | None) -> str:
    if note is None:
        return ""
    try:
        return note.read_text()
    except OSError:
        return ""


def write_durably(note: Path, data: bytes) -> None:
    """Write a note in a folder of the task's own, which is made if need be."""
    make_private_folder(note.parent)
    with note.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(note.parent)


def _equal(part: Path, output_file: Path) -> bool:
    return output_file.is_file() and not output_file.is_symlink() and filecmp.cmp(part, output_file, shallow=False)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
