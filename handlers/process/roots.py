"""Input and output once more, now that they are about to be used: since the command came, links may have been turned.

A link turned between this look and the opening is not seen. Whoever can write into the roots should not be able to do
what the service can; see docs/explanation/untrusted-input.md.
"""

import os
import re
import stat
from collections.abc import Iterable

from ...events.errors import InvalidPath
from ...events.reports import Run
from .sandbox import Sandbox

_HIDDEN = re.compile(r"\.(tasktrail-\d+\.d|.+\.tasktrail-\d+(\.[^.]*)?)")
"""A folder or file that holds what an attempt has not published yet; see `handlers.publish`."""


def check_apart(path: str, protected: Iterable[str], field: str, *, followed: bool) -> None:
    """Refuse what lies among the service's own files, whatever links lead there. Raises InvalidPath.

    Args:
        path: absolute.
        protected: real paths of the folders that are the service's own.
        field: the command's field.
        followed: whether a link at the path itself is followed; publishing replaces it.
    """
    folder, name = os.path.split(path)
    real = os.path.realpath(path) if followed else os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
    hidden = next((part for part in real.split("/") if _HIDDEN.fullmatch(part)), "")
    if hidden:
        raise InvalidPath(
            f"{path!r} is not possible: {hidden} is a hidden name that tasktrail gives to unfinished outputs",
            field=field,
            remedy="Choose another name.",
        )
    own = {_identity(folder): folder for folder in protected}
    own.pop(None, None)
    while real != "/":
        # By what the folder is, not by its name: it may be mounted twice, or its disk not tell A from a.
        if inside := own.get(_identity(real)):
            raise InvalidPath(
                f"{path!r} lies in {inside}, among tasktrail's own files",
                field=field,
                remedy="Use a file outside of the data folder and of temp_dir.",
            )
        real = os.path.dirname(real)  # noqa: PTH120 - texts throughout


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - on the way of every command
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def check_input(run: Run, sandbox: Sandbox) -> None:
    """Refuse what is no regular file, the service's own, or outside of the roots by now.

    Raises InvalidPath or FileNotFoundError.
    """
    if not run.input_file:
        return
    if not stat.S_ISREG(os.stat(run.input_file).st_mode):  # noqa: PTH116 - before every attempt
        raise InvalidPath(f"{run.input_file!r} is no longer a regular file", field="input_file")
    check_apart(run.input_file, sandbox.protected, "input_file", followed=True)
    _check(run.input_file, sandbox.input_roots, "input_file", "input_roots")


def check_output(run: Run, sandbox: Sandbox) -> None:
    """Refuse an output whose folder is the service's own, or outside of the roots by now. Raises InvalidPath."""
    if run.output_file:
        check_apart(run.output_file, sandbox.protected, "output_file", followed=False)
        _check(os.path.dirname(run.output_file), sandbox.output_roots, "output_file", "output_roots")  # noqa: PTH120


def _check(path: str, roots: tuple[str, ...], field: str, key: str) -> None:
    if not roots:
        return
    real = os.path.realpath(path)
    if not any(os.path.commonpath((real, root)) == root for root in roots):
        raise InvalidPath(
            f"{path!r} leads outside of {key} by now",
            field=field,
            remedy=f"Use a file below {' or '.join(roots)}, or have the operator add its folder to `{key}`.",
        )
