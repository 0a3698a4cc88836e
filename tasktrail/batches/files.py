"""The files of a batch: of those that were named, of folders, and of patterns."""

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from ..events.commands import MAX_GRAPH
from ..events.errors import CONFLICT, TOO_MUCH, InvalidPath, InvalidValue, TasktrailError

_PATTERN = frozenset("*?[")
_MATCHES = 200_000
"""Files and folders that one pattern may find: more would fill the memory before they are refused."""


class Found(msgspec.Struct, frozen=True):
    """A file, or the reason why there is none."""

    path: str
    folder: str = ""
    """Where it stands below the folder or pattern that it was found by."""
    error: TasktrailError | None = None


def find(
    inputs: Sequence[str],
    check: Callable[[str], None],
    *,
    avoid: str = "",
    protected: Sequence[str] = (),
    most: int | None = MAX_GRAPH,
) -> list[Found]:
    """All files, each once, in the order of the inputs and of names. What is hidden is found only if it is named.

    Args:
        inputs: absolute paths, or patterns.
        check: raises the refusal of a path that may not be looked at.
        avoid: a folder that holds outputs; inside a folder that was named nothing in it is found.
        protected: real paths of folders that no task may use.
        most: more files than this are refused.

    Raises:
        InvalidValue: there are more files than one batch may have.
    """
    found: dict[str, Found] = {}
    for text in inputs:
        for one in _found(text, check, avoid, protected, most):
            found.setdefault(one.path, _checked(one, check))
            if most is not None and len(found) > most:
                raise InvalidValue(
                    f"There are more than {most:,} files",
                    field="inputs",
                    remedy="Make several batches of them, such as one for each folder.",
                    status=TOO_MUCH,
                )
    return list(found.values())


def _found(
    text: str, check: Callable[[str], None], avoid: str, protected: Sequence[str], most: int | None
) -> Iterator[Found]:
    try:
        check(text)
        mode = os.stat(text).st_mode  # noqa: PTH116 - it is a text
    except TasktrailError as error:
        yield Found(text, error=error)
        return
    except (OSError, ValueError) as error:
        if _PATTERN.isdisjoint(text):
            yield Found(text, error=_unreadable(text, error))
            return
        yield from _matching(text, avoid, protected, None if most is None else _MATCHES)
        return
    if stat.S_ISDIR(mode):
        yield from _below(text, text, avoid, protected)
    else:
        yield Found(text)


def _checked(one: Found, check: Callable[[str], None]) -> Found:
    """A link in a folder may lead to where nobody may look, and a name may be one that no answer can hold."""
    error = one.error
    if error is None:
        try:
            check(one.path)
        except TasktrailError as refusal:
            error = refusal
    shown = os.fsencode(one.path).decode("utf-8", "backslashreplace")
    if shown != one.path and error is None:
        error = InvalidPath(
            f"'{shown}' has a name that is not UTF-8",
            field="inputs",
            remedy="Rename it, e.g. with `convmv`.",
            status=CONFLICT,
        )
    return one if error is None else Found(shown, error=error)


def _matching(pattern: str, avoid: str, protected: Sequence[str], most: int | None) -> Iterator[Found]:
    top = pattern
    while not _PATTERN.isdisjoint(top):
        top = os.path.dirname(top)  # noqa: PTH120 - it is a text
    number = 0
    for path in sorted(islice(glob.iglob(pattern, recursive=True), most)):  # noqa: PTH207 - it is a text
        if os.path.isdir(path):  # noqa: PTH112
            continue  # the files in it are matched by `**`, and by nothing else
        number += 1
        if not _is_avoided(path, top, avoid, protected):
            yield Found(path, os.path.relpath(os.path.dirname(path), top).removeprefix("."))  # noqa: PTH120
    if not number:
        yield Found(
            pattern,
            error=InvalidPath(
                f"No file fits the pattern {pattern!r}", field="inputs", remedy="Check its spelling.", status=CONFLICT
            ),
        )


def _below(top: str, base: str, avoid: str, protected: Sequence[str]) -> Iterator[Found]:
    failed: list[OSError] = []
    for folder, folders, files in os.walk(top, onerror=failed.append):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_avoided(os.path.join(folder, name, ""), base, avoid, protected)  # noqa: PTH118
        )
        inside = os.path.relpath(folder, base)
        for name in sorted(files):
            if not name.startswith("."):
                yield Found(os.path.join(folder, name), "" if inside == "." else inside)  # noqa: PTH118
    for error in failed:
        yield Found(str(error.filename or top), error=_unreadable(str(error.filename or top), error))


def _is_avoided(path: str, top: str, avoid: str, protected: Sequence[str]) -> bool:
    """Whether it is in the folder of the outputs, where that is inside the one that was named, or may not be used."""
    if avoid and Path(avoid) != Path(top) and Path(avoid).is_relative_to(top) and Path(path).is_relative_to(avoid):
        return True
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(one) for one in protected)


def _unreadable(path: str, error: Exception) -> InvalidPath:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InvalidPath(
        f"{path!r} cannot be read: {reason}", field="inputs", remedy="Check its spelling.", status=CONFLICT
    )
