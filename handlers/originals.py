"""Makes files give way to a result: the original, if that is requested, and files made for the result alone.

An original gives way only to a result that has been checked and is smaller. The order is: note how the attempt will
end, publish the result, then move or remove the others. A crash can fall between any two of these steps. The next
attempt finds the note, does the remaining steps, and ends as noted: the others are gone, so it cannot do the work
again.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ..events.errors import InvalidPath, OutputExists
from ..events.existence import exists
from ..events.reports import AttemptEnded, Run
from .inputs import Input
from .publish import ACCESS_LIST, NO_HARD_LINKS, identity_of, note_path, part_path, publish, sync_folder, write_note

ORIGINAL_NOTE = ".original"
ORIGINAL_FIELD = "original"
"""The field of the result that says what happened to the original."""


class Note(msgspec.Struct, frozen=True):
    """The steps that are about to be done."""

    made: str
    """The identity of the result."""
    read: str
    """The identity of the original; empty: it stays."""
    moved_to: str
    """Empty: it is removed."""
    ended: AttemptEnded


def use_up(run: Run, ended: AttemptEnded, used: Sequence[Path]) -> AttemptEnded:
    """Publish the settled result, remove the files that it was made from, and return the end.

    Raises OutputExists: the name of the result is taken; nothing is removed.
    """
    made = identity_of(part_path(Path(run.output_file), run.task_id))
    note = Note(made, "", "", ended)
    write_note(note_path(Path(run.work_dir), ORIGINAL_NOTE), msgspec.json.encode(note))
    _carry_out(run, note, used)
    return ended


def remove_used(used: Sequence[Path]) -> None:
    """Remove files that were made for a result alone, once it is there or no longer wanted."""
    for path in used:
        with contextlib.suppress(OSError):  # a file that is left is useless, but does no harm
            path.unlink(missing_ok=True)


def kept(ended: AttemptEnded, why: str, longest: int) -> AttemptEnded:
    """The end, with the reason why the original stays; no result is published. `longest`: characters of a message."""
    result = ended.result | {ORIGINAL_FIELD: {"kept": why}}
    return msgspec.structs.replace(ended, result=result, message=f"the original stays: {why}"[:longest])


def why_kept(run: Run, source: Input, ended: AttemptEnded) -> str:
    """Why the original stays, by the result check and by the size; empty if it gives way."""
    original = ended.result.get(ORIGINAL_FIELD)
    if isinstance(original, dict) and original.get("kept"):
        return str(original["kept"])
    found = part_path(Path(run.output_file), run.task_id).stat()
    if stat.S_ISDIR(found.st_mode):
        return "the result is a folder, which cannot replace a file"
    made = found.st_size
    if made >= source.state.size:
        return f"the result is not smaller: {made:,} bytes instead of {source.state.size:,}"
    return ""


def exchange(run: Run, source: Input, ended: AttemptEnded, used: Sequence[Path] = ()) -> AttemptEnded:
    """Publish the settled result, let the original give way, and record that in the end.

    Raises:
        InputChanged: the original has become another file; it stays, and nothing is published.
        InvalidPath: the original is a link, both names for it in the folder are taken, or it can get no second name.
        OutputExists: the name of the result is taken by another file than the original.
        OSError: the folder for originals cannot be made, or is on another disk.
    """
    part, original = part_path(Path(run.output_file), run.task_id), Path(run.input_file)
    if original.is_symlink():
        raise InvalidPath(
            f"{run.input_file!r} is a link, and cannot be replaced by a file",
            field="input_file",
            remedy="Name the file that it leads to.",
        )
    _copy_access(part, original)
    for place in _places(run) if run.original == "move" else [None]:
        fate = {"moved_to": str(place)} if place else {"replaced": run.input_file}
        ending = msgspec.structs.replace(ended, result=ended.result | {ORIGINAL_FIELD: fate})
        note = Note(identity_of(part), identity_of(original), str(place or ""), ending)
        write_note(note_path(Path(run.work_dir), ORIGINAL_NOTE), msgspec.json.encode(note))
        source.compare()
        if place is None:
            break
        if _link(original, place):
            source.accept_name()
            break
    else:
        raise InvalidPath(
            f"{str(place)!r} is there already",
            field="original_folder",
            remedy="Move it away, or choose another folder.",
        )
    try:
        _carry_out(run, note, used)
    except OutputExists:
        if place is not None:
            place.unlink()
            source.accept_name()
        raise
    return ending


def published_note(run: Run) -> Note | None:
    """The note of an earlier attempt, if its result is published."""
    try:
        note = msgspec.json.decode(note_path(Path(run.work_dir), ORIGINAL_NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return None
    return note if note.made and identity_of(Path(run.output_file)) == note.made else None


def finish(run: Run, note: Note, used: Sequence[Path] = ()) -> AttemptEnded:
    """Do the remaining steps, and return the noted end."""
    _carry_out(run, note, used)
    return msgspec.structs.replace(note.ended, attempt=run.attempt)


def _carry_out(run: Run, note: Note, used: Sequence[Path]) -> None:
    """Do each step that has not been done yet."""
    part, output, original = part_path(Path(run.output_file), run.task_id), Path(run.output_file), Path(run.input_file)
    in_place = _is_same(output, original)
    if identity_of(output) != note.made:
        publish(part, output, overwrite=run.overwrite or in_place, work_dir=Path(run.work_dir))
    remove_used(used)
    if not note.read:
        return
    if in_place or identity_of(original) != note.read:  # in place: replaced; else: gone, or another file
        return
    if note.moved_to and not _link(original, Path(note.moved_to)):
        return  # another file has taken the name since: better two copies than none
    original.unlink()
    sync_folder(original.parent)


def _link(original: Path, place: Path) -> bool:
    """Give the original a second name, durably. It keeps its first one until the result is published.

    False if another file has that name: another task may have been faster.
    """
    try:
        os.link(original, place, follow_symlinks=False)
    except FileExistsError:
        if identity_of(place) != identity_of(original):
            return False
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        raise InvalidPath(
            f"{str(original)!r} cannot have a second name on its disk, or not by this user ({error.strerror})",
            field="original_folder",
            remedy="Take original replace or keep.",
        ) from error
    sync_folder(place.parent)
    return True


def _places(run: Run) -> Iterator[Path]:
    """The names that the original may get in its folder, the better one first. Makes the folder."""
    original, folder = Path(run.input_file), Path(run.original_folder)
    _make_folder(folder)
    for name in (original.name, f"{original.stem}.task-{run.task_id}{original.suffix}"):
        if not _is_same(Path(run.output_file), folder / name):  # the result will be there
            yield folder / name


def _make_folder(folder: Path) -> None:
    """Make the folder with all above it, durably: otherwise a power failure could lose it with the name in it."""
    missing = [folder, *folder.parents]
    for one in reversed([path for path in missing if not exists(path)]):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def _copy_access(part: Path, original: Path) -> None:
    """Give the result the owner, mode and access list of the original, so that the same people may read it.

    Whoever may write to the folder may meanwhile have put a link in the place of either. None is followed: as root we
    would give away the file that it leads to.
    """
    found = original.lstat()
    fd = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, found.st_uid, found.st_gid)
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, found.st_mode & 0o777)  # without set-id bits: they were given to other bytes
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # no list, or a filesystem without lists
                os.setxattr(fd, ACCESS_LIST, os.getxattr(original, ACCESS_LIST, follow_symlinks=False))
    finally:
        os.close(fd)


def _is_same(output: Path, original: Path) -> bool:
    """Whether the result takes the exact place of the original."""
    here = os.path.realpath(output.parent) == os.path.realpath(original.parent)
    return here and output.name == original.name


__all__ = [
    "ORIGINAL_FIELD",
    "Note",
    "exchange",
    "finish",
    "kept",
    "published_note",
    "remove_used",
    "use_up",
    "why_kept",
]
