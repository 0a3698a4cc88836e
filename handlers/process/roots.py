"""Input and output once more, now that they are about to be used: since the command came, links may have been turned.

A link turned between this look and the opening is not seen. Whoever can write into the roots should not be able to do
what the service can; see docs/explanation/untrusted-input.md.
"""

import os
import stat

from ...events.errors import InvalidPath
from .frames import Run
from .sandbox import Sandbox


def check_input(run: Run, sandbox: Sandbox) -> None:
    """Refuse what is no regular file, or lies outside of the roots by now. Raises InvalidPath or FileNotFoundError."""
    if not run.input_file:
        return
    if not stat.S_ISREG(os.stat(run.input_file).st_mode):  # noqa: PTH116 - before every attempt
        raise InvalidPath(f"{run.input_file!r} is no longer a regular file", field="input_file")
    _check(run.input_file, sandbox.input_roots, "input_file", "input_roots")


def check_output(run: Run, sandbox: Sandbox) -> None:
    """Refuse an output whose folder lies outside of the roots by now. Raises InvalidPath."""
    if run.output_file:
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
