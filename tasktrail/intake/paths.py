"""Rules for the paths of a command. Each raises `InvalidPath`, naming the field."""

import os
from pathlib import Path

from ..events.errors import InvalidPath

_USUAL_NAME_MAX = 255


def check_form(path: str, field: str) -> None:
    """Refuse what is not absolute, or climbs."""
    if not path.startswith("/"):
        raise InvalidPath(f"{path!r} is not an absolute path", field=field)
    if ".." in path.split("/"):
        raise InvalidPath(f"{path!r} climbs with `..`", field=field, remedy="Write the path out.")


def check_name(folder: str, name: str) -> None:
    """The hidden name that a handler writes to is shortened, so a final name that is too long would show at the end."""
    size = len(os.fsencode(name))
    try:
        limit = os.pathconf(folder, "PC_NAME_MAX")
    except OSError:
        limit = _USUAL_NAME_MAX
    if size > limit:
        raise InvalidPath(
            f"The output's name takes {size} bytes, at most {limit} are possible in {folder!r}",
            field="output_file",
            remedy="Give it a shorter name.",
        )


def resolved(path: str) -> str:
    """The path with the links of its folder resolved, where that is another one that can be recorded; else empty.

    A link at the path itself is not followed: publishing replaces it.
    """
    if not path:
        return ""
    folder, name = os.path.split(path)
    real = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118 - on the way of every command
    return real if real != path and real.isprintable() else ""


def check_root(path: str, roots: list[Path], field: str, key: str) -> None:
    """Refuse what leads outside of all roots, if there are any."""
    if not roots:
        return
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(root) for root in roots):
        raise InvalidPath(
            f"{path!r} is outside of {key}",
            field=field,
            remedy=f"Use a file below {' or '.join(map(str, roots))}, or have the operator add its folder to `{key}`.",
        )
