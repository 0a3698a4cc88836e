"""Gives an output its final name: whole or not at all, and never over a file that is not ours.

The order is: make the part file durable, note which file it is, give it the final name, make the folder durable. A
crash can fall between the new name and the recorded end of the task. The next attempt then finds the name taken. The
note says that the file is the task's own earlier output, so the attempt may replace it.

An output may be a folder of plain files. It gets its name as a whole, and never replaces another folder.
"""

import contextlib
import errno
import filecmp
import os
import stat
import sys
from pathlib import Path
from zlib import crc32

from ..events.errors import OutputExists
from ..events.existence import is_file
from .errors import OutputMissing
from .workspace import make_private_folder, remove_folder, space_taken

PUBLISHED_NOTE = ".published"
_NAME_MAX = 255
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Does not wait for a writer if the path is a pipe."""
ACCESS_LIST = "system.posix_acl_access"
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def _current_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _current_umask()
"""The umask at the start: a handler that runs in this process may set another."""


def part_path(output_file: Path, task_id: int) -> Path:
    """The path that the task writes to before it publishes: hidden, in the same folder, with the same suffix.

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
    """The path that such a handler writes to: in that folder, under the name of the part file."""
    return staging_folder(output_file, task_id) / part_path(output_file, task_id).name


def stage(output_file: Path, task_id: int) -> Path:
    """Make the staging folder, empty, and return its path."""
    folder = staging_folder(output_file, task_id)
    remove_folder(folder)
    folder.mkdir(mode=0o700)
    return folder


def space_before_publishing(work_dir: Path, output_file: Path, task_id: int) -> int:
    """Bytes of disk that a task takes: its work folder, and what it has written for its output, if it has one.

    Raises as `space_taken`.
    """
    unpublished = [part_path(output_file, task_id), staging_folder(output_file, task_id)] if output_file.name else []
    return space_taken(work_dir, *unpublished)


def unstage(output_file: Path, task_id: int) -> None:
    """Make the staged file the part file. Raises OutputMissing if there is none, or it cannot be published."""
    staged = staged_path(output_file, task_id)
    try:
        mode = staged.lstat().st_mode
    except FileNotFoundError:
        raise OutputMissing(f"The handler ended without writing its output {staged.name}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OutputMissing(f"The handler left {staged.name}, which is no regular file, as its output")
    staged.replace(part_path(output_file, task_id))
    with contextlib.suppress(OSError):  # the folder is removed, and reported, again later
        remove_folder(staged.parent)


def remove_part(output_file: Path, task_id: int) -> bool:
    """Remove what an attempt left under the hidden names. False when there was no part file."""
    with contextlib.suppress(NotADirectoryError):
        remove_folder(staging_folder(output_file, task_id))
    part = part_path(output_file, task_id)
    if _is_folder(part):
        remove_folder(part)
        return True
    try:
        part.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def settle(part: Path) -> None:
    """Make the part file durable, with a mode that is safe to publish, when nothing of the attempt runs.

    This is the slow half of publishing; it is done before the grant is requested. The handler may have set any mode.
    The file keeps the bits that the umask at the start allows, or that its folder's access list grants, as any new file
    there would. It never keeps a set-id bit, and a plain file loses the right to be run.

    Raises OutputMissing if it is missing, is neither file nor folder, or is a folder that holds anything but files.
    """
    try:
        fd = os.open(part, _READ)
    except FileNotFoundError:
        raise OutputMissing(f"The handler ended without writing its output {part.name}") from None
    except OSError as error:
        kind = {errno.ELOOP: "a link", errno.ENXIO: "no regular file"}.get(error.errno or 0)  # ENXIO: a socket
        if kind is None:
            raise
        raise OutputMissing(f"The handler left {part.name}, which is {kind}, as its output") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OutputMissing(f"The handler left {part.name}, which is no regular file, as its output")
        if stat.S_ISDIR(mode):
            for name in os.listdir(fd):  # noqa: PTH208 - by the descriptor
                _settle_file_in(fd, name)
        _set_mode(fd)
    finally:
        os.close(fd)


def _settle_file_in(folder: int, name: str) -> None:
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise OutputMissing(f"The handler left a folder as its output, in which {name!r} is no plain file")
    fd = os.open(name, _READ, dir_fd=folder)
    try:
        _set_mode(fd)
    finally:
        os.close(fd)


def _set_mode(fd: int) -> None:
    found = os.fstat(fd).st_mode
    mode = stat.S_IMODE(found)
    # With an access list, the group bits limit everyone whom the list names, and the umask does not apply to them.
    umask = _UMASK & ~stat.S_IRWXG if mode & _UMASK & stat.S_IRWXG and _has_access_list(fd) else _UMASK
    allowed = mode & ~umask & (0o777 if stat.S_ISDIR(found) else 0o666)
    if mode != allowed:
        try:
            os.fchmod(fd, allowed)
        except OSError:
            if mode & (stat.S_ISUID | stat.S_ISGID):
                raise
            # a filesystem without modes, such as FAT, shows those that it was mounted with
    os.fsync(fd)


def _has_access_list(fd: int) -> bool:
    """Whether it has an access list (Linux). In the sandbox no attempt can set one: it comes from the folder."""
    if sys.platform != "linux":
        return False
    try:
        return bool(os.getxattr(fd, ACCESS_LIST))
    except OSError:  # no list, or a filesystem without lists
        return False


def publish(part: Path, output_file: Path, *, overwrite: bool, work_dir: Path | None = None) -> None:
    """Give the settled part file, or folder, its final name.

    Args:
        part: from `part_path`.
        output_file: the final name, in the same folder.
        overwrite: replace the file or link that stands there. A folder replaces only the task's own earlier output.
        work_dir: the task's own folder, beside which the note is kept. Without it, only a file with equal bytes counts
            as the task's own.

    Raises:
        OutputExists: the name is taken by a foreign file, or by a device, pipe or socket; the part file is left alone.
    """
    note = None if work_dir is None else note_path(work_dir, PUBLISHED_NOTE)
    if _is_folder(part):
        _publish_folder(part, output_file, note)
    elif overwrite:
        _check_replaceable(output_file)
        part.replace(output_file)
    else:
        _publish_new(part, output_file, note)
    sync_folder(output_file.parent)


def _check_replaceable(output_file: Path) -> None:
    """Refuse devices, pipes and sockets: a rename would replace /dev/null by a plain file, and root may do that."""
    try:
        mode = output_file.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):  # the rename itself refuses a folder
        raise OutputExists(f"{output_file} is no regular file, so it is not replaced", remedy="Choose another output.")


def _publish_new(part: Path, output_file: Path, note: Path | None) -> None:
    ours = identity_of(output_file)
    if ours and (_noted(note) == ours or _equal(part, output_file)):
        part.replace(output_file)
        part.unlink(missing_ok=True)  # renaming a file onto itself changes nothing
        return
    if note:
        write_note(note, identity_of(part).encode())
    try:
        os.link(part, output_file, follow_symlinks=False)
    except FileExistsError:
        raise OutputExists(f"There is already a file {output_file}") from None
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        _rename_new(part, output_file)
    else:
        part.unlink()


def _publish_folder(part: Path, output_file: Path, note: Path | None) -> None:
    """Rename the folder. This fails if the name is taken by a file, or by a folder that is not empty."""
    ours = identity_of(output_file)
    if ours and _same_files(part, output_file):
        remove_folder(part)
        return
    if ours and _noted(note) == ours:
        remove_folder(output_file)  # it was never reported, and its bytes differ because the work is not deterministic
    if note:
        write_note(note, identity_of(part).encode())
    try:
        part.rename(output_file)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise OutputExists(
            f"There is already something at {output_file}, and a folder of files replaces nothing",
            remedy="Move it away, or choose another name.",
        ) from None


def _same_files(part: Path, output_file: Path) -> bool:
    """Whether both are folders of the same files, byte for byte."""
    if not _is_folder(output_file):
        return False
    names = sorted(os.listdir(part))  # noqa: PTH208 - names are all that is wanted
    if names != sorted(os.listdir(output_file)):  # noqa: PTH208
        return False
    return all(_equal(part / name, output_file / name) for name in names)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _rename_new(part: Path, output_file: Path) -> None:
    """Rename, for filesystems without hard links. Another program could take the name between check and rename."""
    if os.path.lexists(output_file):
        raise OutputExists(f"There is already a file {output_file}")
    part.rename(output_file)


def identity_of(path: Path) -> str:
    """An identity that a file keeps when linked or renamed, and no later file has. Empty when there is no file."""
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


def note_path(work_dir: Path, kind: str) -> Path:
    """The path of a task's note: beside its folder, since a handler may write anything inside."""
    return work_dir.with_name(work_dir.name + kind)


def write_note(note: Path, data: bytes) -> None:
    """Write a note durably. Its folder is made if it is missing."""
    make_private_folder(note.parent)
    with note.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(note.parent)


def _equal(part: Path, output_file: Path) -> bool:
    return is_file(output_file) and not output_file.is_symlink() and filecmp.cmp(part, output_file, shallow=False)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
