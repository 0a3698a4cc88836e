"""Rules on where the input and the output of a task may be. Each raises an error that names the field."""

import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from ..events import CreateTask, GraphTask
from ..events.commands import PATH_FIELDS, TaskFields
from ..events.errors import CONFLICT, CONTRADICTION, InvalidPath, OutputExists
from ..handlers.contract import TaskType
from ..handlers.kinds import kind_by_name, kind_of
from ..handlers.process.sandbox import check_apart
from ..handlers.urls import check_only_read, check_url, is_url, plain_path

T = TypeVar("T", bound=TaskFields)
_USUAL_NAME_MAX = 255


def with_plain_paths(task: T) -> T:
    """Replace `file://` addresses by the paths that they mean, which are recorded."""
    changes = {}
    for field in PATH_FIELDS:
        if (path := getattr(task, field)).startswith("file://"):
            try:
                changes[field] = plain_path(path)
            except InvalidPath as error:
                error.field = field
                raise
    return replace(task, **changes) if changes else task


class PathRules:
    """Checks the paths of a new task on the disk.

    Args:
        input_roots: inputs have to be below one of these, if there are any. An address is accepted only below a root
            that is an address.
        output_roots: the same for outputs.
        protected: real paths of folders and files that no task may use.
    """

    def __init__(
        self,
        input_roots: Sequence[Path | str] = (),
        output_roots: Sequence[Path | str] = (),
        protected: Sequence[str] = (),
    ) -> None:
        self._input_roots = _resolved_roots(input_roots)
        self._output_roots = _resolved_roots(output_roots)
        self.protected = protected

    def check_input(self, command: CreateTask | GraphTask, task_type: TaskType) -> int:
        """Check the input. Returns its bytes; 0 for a file elsewhere, which is looked at when the attempt begins."""
        path = command.input_file
        if not path:
            if task_type.needs_input:
                raise InvalidPath(
                    f"{command.type} needs an input file",
                    field="input_file",
                    remedy="Name one; on the command line it comes right after the type.",
                )
            return 0
        if not task_type.takes_input:
            raise _in_vain(task_type, "reads no file", path, "input_file", "InputFile")
        if is_url(path):
            self._check_input_elsewhere(path, task_type)
            return 0
        _check_form(path, "input_file")
        _check_root(path, self._input_roots, "input_file", "input_roots")
        try:
            status = os.stat(path)  # noqa: PTH116 - on the way of every command
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidPath(
                f"{path!r} cannot be read: {reason}",
                field="input_file",
                remedy=_to_be_read(path, error, task_type),
                status=CONFLICT,
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise InvalidPath(
                f"{path!r} is not a regular file",
                field="input_file",
                remedy="Name a file; for all files of a folder there is `tasktrail batch`.",
                status=CONFLICT,
            )
        if not os.access(path, os.R_OK):
            raise InvalidPath(
                f"The service may not read {path!r}",
                field="input_file",
                remedy="Check its permissions.",
                status=CONFLICT,
            )
        check_apart(path, self.protected, "input_file", followed=True)
        return status.st_size

    def _check_input_elsewhere(self, path: str, task_type: TaskType) -> None:
        check_url(path, self._input_roots, "input_file", "input_roots")
        check_only_read(task_type.name, steady_input=task_type.steady_input)

    def check_looked_at(self, path: str) -> None:
        """Raise `InvalidPath` unless a caller may learn what is at a path: below a root, and not in our own folders."""
        _check_form(path, "inputs")
        _check_root(path, self._input_roots, "inputs", "input_roots")
        check_apart(path, self.protected, "inputs", followed=True)

    def check_written_below(self, folder: str) -> None:
        """Raise `InvalidPath` unless outputs may be anywhere below a folder, as far as is known beforehand."""
        _check_form(folder, "to")
        _check_root(folder, self._output_roots, "to", "output_roots")
        check_apart(folder, self.protected, "to", followed=True)

    def check_output(self, command: CreateTask | GraphTask, task_type: TaskType, *, new_folders: bool = False) -> None:
        """Raise an error if the output cannot be written, or if something is there that must not be replaced.

        `new_folders`: its folder may be missing, because it will be made. Whether it can be made is not checked here.
        """
        path = command.output_file
        if not path:
            if task_type.needs_output:
                raise InvalidPath(
                    f"{command.type} needs an output file",
                    field="output_file",
                    remedy="Name one; on the command line it comes after the input.",
                )
            return
        if not task_type.takes_output:
            raise _in_vain(task_type, "writes no file", path, "output_file", "OutputFile")
        if is_url(path):
            check_url(path, self._output_roots, "output_file", "output_roots", written=True)
            if path == command.input_file:
                raise InvalidPath(
                    "Input and output are the same file",
                    field="output_file",
                    remedy="Choose another output: a file elsewhere cannot be replaced by its result.",
                    status=CONFLICT,
                )
            if task_type.used_up(path, command.options):
                raise InvalidPath(
                    "A film that is joined from parts cannot be stored elsewhere: its parts lie beside it",
                    field="output_file",
                    remedy="Choose a path, or convert it in one task.",
                    status=CONTRADICTION,
                )
            return
        _check_form(path, "output_file")
        _check_root(path, self._output_roots, "output_file", "output_roots")
        folder, name = os.path.split(path)
        if not name or name in (".", ".."):
            raise InvalidPath(f"{path!r} names no file", field="output_file")
        if new_folders and not os.path.lexists(folder):
            check_apart(path, self.protected, "output_file", followed=False)
            _check_name(folder, name)
            return
        if not os.path.isdir(folder):  # noqa: PTH112 - on the way of every command
            raise InvalidPath(
                f"The folder {folder!r} does not exist",
                field="output_file",
                remedy="Create it first; `run` and `submit` do so with -p.",
                status=CONFLICT,
            )
        check_apart(path, self.protected, "output_file", followed=False)
        _check_name(folder, name)
        in_place = bool(command.input_file) and os.path.realpath(path) == os.path.realpath(command.input_file)
        if in_place and command.original == "keep":
            raise InvalidPath(
                "Input and output are the same file",
                field="output_file",
                remedy="Choose another output, or let the result take its place with `original` replace or move.",
                status=CONFLICT,
            )
        _check_place(path)
        if not command.overwrite and not in_place and os.path.lexists(path):
            raise OutputExists(f"{path!r} is already there", field="output_file")
        if not new_folders:  # the caller that makes folders checks all of them
            check_writable(folder, "output_file")

    def check_original(self, command: CreateTask | GraphTask, task_type: TaskType) -> None:
        """Raise an error unless the input may be removed, or moved as the command says, once the result is there."""
        folder = command.original_folder
        self.check_original_wanted(command, task_type)
        if command.original == "keep":
            return
        path = command.input_file
        if not path or not command.output_file:
            raise _no_stand_in(command.type)
        if is_url(path) or is_url(command.output_file):
            raise InvalidPath(
                "A file elsewhere cannot be replaced by its result",
                field="original",
                remedy="Leave original at keep, and remove the file when the task has completed.",
                status=CONTRADICTION,
            )
        there = os.path.lexists(path)  # another task of the graph may have to make it first
        kind, kind_to_be = kind_of(Path(path)) if there else None, kind_by_name(Path(command.output_file))
        if kind is not None and kind_to_be is not None and kind != kind_to_be:
            raise InvalidPath(
                f"A file of kind {kind_to_be} cannot replace one of kind {kind}",
                field="original",
                remedy="Leave original at keep, or choose an output of the same kind.",
                status=CONFLICT,
            )
        _check_root(path, self._output_roots, "input_file", "output_roots")
        if os.path.islink(path):  # noqa: PTH114 - on the way of every command
            raise InvalidPath(
                f"{path!r} is a link, and cannot be replaced by a file",
                field="input_file",
                remedy=f"Name the file that it leads to: {os.path.realpath(path)}",
                status=CONFLICT,
            )
        check_writable(os.path.dirname(path), "input_file")  # noqa: PTH120
        if folder:
            self._check_original_folder(folder, path, command.output_file)

    def check_original_wanted(self, task: TaskFields, task_type: TaskType | None) -> None:
        """Raise an error if the wish about the original is wrong for any file."""
        if bool(task.original_folder) != (task.original == "move"):
            raise InvalidPath(
                "original move needs an original_folder, and only move takes one",
                field="original_folder",
                remedy="Give both or none.",
                status=CONTRADICTION,
            )
        if task.original != "keep" and task_type is not None and task_type.check_result is None:
            raise _no_stand_in(task_type.name)
        if task.original_folder:
            _check_form(task.original_folder, "original_folder")
            _check_root(task.original_folder, self._output_roots, "original_folder", "output_roots")
            check_apart(task.original_folder, self.protected, "original_folder", followed=True)

    def _check_original_folder(self, folder: str, path: str, output: str) -> None:
        if os.path.realpath(folder) == os.path.realpath(os.path.dirname(path)):  # noqa: PTH120
            raise InvalidPath(
                f"{path!r} is in {folder!r} already", field="original_folder", remedy="Choose another folder."
            )
        place = os.path.join(os.path.realpath(folder), os.path.basename(path))  # noqa: PTH118, PTH119
        if place == (resolved(output) or output):
            raise InvalidPath(
                f"{place!r} would be the name of the result and of the original",
                field="original_folder",
                remedy="Choose another folder for the originals than that of the outputs.",
                status=CONFLICT,
            )
        existing = nearest(folder)
        if not os.path.isdir(existing):  # noqa: PTH112
            raise InvalidPath(f"{existing!r} is no folder", field="original_folder", status=CONFLICT)
        check_writable(existing, "original_folder")
        if os.stat(existing).st_dev != os.stat(os.path.dirname(path)).st_dev:  # noqa: PTH116, PTH120
            raise InvalidPath(
                f"{folder!r} is on another disk than {path!r}, so the file would have to be copied",
                field="original_folder",
                remedy="Choose a folder on the same disk.",
                status=CONFLICT,
            )


def _resolved_roots(roots: Sequence[Path | str]) -> list[str]:
    return [str(root) if is_url(str(root)) else os.path.realpath(root) for root in roots]


def _no_stand_in(name: str) -> InvalidPath:
    return InvalidPath(
        f"The result of {name} cannot replace its input",
        field="original",
        remedy="Leave original at keep: the other values are for types that convert a file.",
        status=CONTRADICTION,
    )


def check_writable(folder: str, field: str) -> None:
    """Refuse a folder in which nothing can be written."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidPath(
            f"Nothing can be written in the folder {folder!r}, nor removed from it",
            field=field,
            remedy="Check its permissions, and whether it is mounted read-only; or choose another folder.",
            status=CONFLICT,
        )


def nearest(folder: str) -> str:
    """Return the folder, given as an absolute path, or the first one above it that exists."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)  # noqa: PTH120 - on the way of every command
    return folder


def _to_be_read(path: str, error: OSError | ValueError, task_type: TaskType) -> str:
    """What to do about an input that cannot be looked at: an option, what a shell would have done, or permissions."""
    if isinstance(error, PermissionError):
        return "Check the permissions of the folders it lies in: the user of the service has to be able to enter them."
    if isinstance(error, FileNotFoundError) and (option := _option_in(path, task_type)):
        return f"Check its spelling; a value is given as an option (CLI: -o {option})."
    if "/~" in path:
        return "Check its spelling; a `~` is not read as a home folder here, so write the whole path."
    if not {"*", "?"}.isdisjoint(path):
        return "Name one file; for all files that fit a pattern there is `tasktrail batch`."
    return "Check its spelling."


def _in_vain(task_type: TaskType, fault: str, path: str, field: str, role: str) -> InvalidPath:
    option = _option_in(path, task_type) or "KEY=VALUE"
    return InvalidPath(
        f"{task_type.name} {fault}",
        field=field,
        remedy=f"Give values as options (CLI: -o {option}). A file is for a parameter annotated with {role}.",
        status=CONTRADICTION,
    )


def _option_in(path: str, task_type: TaskType) -> str:
    """The `KEY=VALUE` that a path ends with, as a shell takes it, if the type has such an option; else empty."""
    key, equals, value = path.partition("=")
    key = key.rpartition("/")[2]
    if not equals or key not in task_type.options.__struct_encode_fields__:
        return ""
    # A value with slashes may be another one by now: `//` and `..` are taken out of a path.
    return shlex.quote(f"{key}={'VALUE' if '/' in value else value}")


def _check_form(path: str, field: str) -> None:
    """Refuse a path that is not absolute, that climbs, or that no file can have."""
    if "\0" in path:
        raise InvalidPath(f"{path!r} holds a NUL, which no file name can", field=field)
    if is_url(path):
        raise InvalidPath(
            f"{path!r} is elsewhere, and this takes only folders and files of this machine",
            field=field,
            remedy="Name a path, or create a task for each file.",
        )
    if not path.startswith("/"):
        raise InvalidPath(f"{path!r} is not an absolute path", field=field)
    if ".." in path.split("/"):
        raise InvalidPath(f"{path!r} contains `..`", field=field, remedy="Write the path out.")


def _check_place(path: str) -> None:
    """Refuse an output if its place holds something other than a file: `overwrite` applies only to files."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - on the way of every command
    except OSError:  # nothing is there, or a link that leads nowhere
        return
    if stat.S_ISDIR(mode):
        raise InvalidPath(f"{path!r} is a folder", field="output_file", remedy="Name a file in it.", status=CONFLICT)
    if not stat.S_ISREG(mode):
        raise InvalidPath(
            f"{path!r} is not a regular file, but a device, pipe or socket",
            field="output_file",
            remedy="Choose another output: a result replaces what has its name, and is never written into it.",
            status=CONFLICT,
        )


def _check_name(folder: str, name: str) -> None:
    """Refuse a name that is too long. The handler writes under a shorter one, so this would only show at the end."""
    size = len(os.fsencode(name))
    try:
        limit = os.pathconf(nearest(folder), "PC_NAME_MAX")
    except OSError:
        limit = _USUAL_NAME_MAX
    if size > limit:
        raise InvalidPath(
            f"The output's name takes {size} bytes, at most {limit} are possible in {folder!r}",
            field="output_file",
            remedy="Give it a shorter name.",
            status=CONFLICT,
        )


def resolved(path: str) -> str:
    """Return the path with its folder's links resolved; empty if that is the same path, or cannot be recorded.

    A link at the path itself is not followed: publishing replaces it.
    """
    if not path or is_url(path):
        return ""
    real = place_of(path)
    return real if real != path and real.isprintable() else ""


def place_of(path: str) -> str:
    """Return the path with its folder's links resolved: the one place to which all paths to it lead."""
    if is_url(path):
        return path
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - on the way of every command


def _check_root(path: str, roots: list[str], field: str, key: str) -> None:
    """Refuse a path outside of all roots, if there are any. This comes first: no caller may learn what is there."""
    if not roots:
        return
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(root) for root in roots if not is_url(root)):
        raise InvalidPath(
            f"{path!r} is outside of {key}",
            field=field,
            remedy=f"Use a file below {' or '.join(roots)}, or have the operator add its folder to `{key}`.",
            status=CONFLICT,
        )
