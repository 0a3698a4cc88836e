"""Finds the files of a batch: named files, those in folders, and those that match patterns.

Links to folders are not followed.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate

import msgspec

from ..events.commands import MAX_GRAPH
from ..events.errors import CONFLICT, TOO_MUCH, InvalidPath, InvalidValue, TasktrailError, TooCostly

_PATTERN = frozenset("*?[")
_ANY_DEPTH = "**"
_OF_SYSTEMS = frozenset(("thumbs.db", "desktop.ini", "@eadir"))
_OF_EDITORS = "~$"
"""The beginning of a name that Office gives to a file that says who is editing another one."""
_DEEP = 2
"""The most `**` in one pattern: with more of them each folder would be looked at very often."""
_LONGEST_PART = 255
"""The most bytes between two slashes of a pattern: no file has a longer name."""
_WILDCARDS = 20
"""The most `*`, `?` and `[` between two slashes of a pattern."""
_PATTERNS = 100
"""The most patterns in one search. The exact name of a file or folder is not a pattern, whatever characters it has."""
MOST_LOOKED_AT = 1_000_000
"""The most files and folders that are looked at in one search."""


_LOOK_EVERY = 256
"""Entries of one folder between two checks whether to go on."""


class HungUp(Exception):
    """The caller no longer waits for the answer."""


class Patience:
    """How long a caller waits for the plan of a batch.

    Args:
        within: seconds that the search for its files may take; None: as many as it needs.
        hung_up: returns whether the caller has gone.
        clock: a monotonic clock.
    """

    def __init__(
        self,
        within: float | None = None,
        hung_up: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._within = within
        self._hung_up = hung_up
        self._clock = clock

    def begin(self) -> Callable[[], bool]:
        """Begin to search now. Returns the search's `stopped`: it is false, or raises `TooCostly` or `HungUp`."""
        until = None if self._within is None else self._clock() + self._within

        def stopped() -> bool:
            self.look()
            if until is not None and self._clock() > until:
                raise TooCostly(
                    f"The files were not found within {self._within:g} s",
                    field="inputs",
                    remedy="Narrow the pattern or name a smaller folder; or use `tasktrail batch` on the service's "
                    "machine as the owner of its data folder, for whom there is no such bound.",
                )
            return False

        return stopped

    def look(self) -> None:
        """Raise `HungUp` if the caller has gone."""
        if self._hung_up():
            raise HungUp


class FoundFile(msgspec.Struct, frozen=True):
    """A file, or the reason why there is none."""

    path: str
    folder: str = ""
    """Its folder, relative to the folder or pattern by which it was found."""
    error: TasktrailError | None = None


class Search:
    """One search for files.

    Args:
        check: raises an error for a path that may not be looked at.
        avoid: folders of outputs or originals; if they lie in a named folder, nothing in them is found.
        protected: real paths of folders that no task may use.
        most: more files than this are refused.
        stopped: returns whether to end the search with the files found so far. It may raise.
    """

    def __init__(
        self,
        check: Callable[[str], None],
        *,
        avoid: Sequence[str] = (),
        protected: Sequence[str] = (),
        most: int | None = MAX_GRAPH,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._check = check
        self._avoid = [os.path.realpath(folder) for folder in avoid if folder]
        self._protected = frozenset(protected)
        self._most = most
        self._stopped = stopped
        self._left = MOST_LOOKED_AT
        self._patterns = 0

    def find(self, inputs: Sequence[str]) -> list[FoundFile]:
        """Return all files, each once, in the order of the inputs and of names.

        Hidden files, and files that systems keep for themselves, are found only if they are named.

        Raises:
            InvalidValue: there are more files than one batch may have, or than can be looked at; or there are too many
                patterns, or one is too long.
        """
        files: dict[str, FoundFile] = {}
        for text in inputs:
            if self._stopped():
                break
            for one in self._found(text):
                files.setdefault(one.path, one if one.error is None else FoundFile(_shown(one.path), error=one.error))
                if self._most is not None and len(files) > self._most:
                    raise _too_many(f"There are more than {self._most:,} files")
        return list(files.values())

    def _found(self, text: str) -> Iterator[FoundFile]:
        try:
            self._check(text)
        except TasktrailError as error:
            yield FoundFile(text, error=error)
            return
        try:
            mode = os.stat(text).st_mode  # noqa: PTH116 - it is a text
        except OSError as error:
            if _PATTERN.isdisjoint(text):
                yield FoundFile(text, error=_unreadable(text, error))
            else:
                yield from self._matching(text)
            return
        if stat.S_ISDIR(mode):
            yield from self._walk(text, (_ANY_DEPTH, "*"))
        else:
            yield self._file(text, "", is_link=False)

    def _file(self, path: str, inside: str, *, is_link: bool) -> FoundFile:
        """Return the file, or its error: a link may lead to a forbidden place, and an answer can hold only UTF-8."""
        if is_link:
            try:
                self._check(path)
            except TasktrailError as error:
                return FoundFile(path, error=error)
        shown = _shown(path)
        if shown == path:
            return FoundFile(path, inside)
        refusal = InvalidPath(
            f"'{shown}' has a name that is not UTF-8",
            field="inputs",
            remedy="Rename it, e.g. with `convmv`.",
            status=CONFLICT,
        )
        return FoundFile(path, error=refusal)

    def _matching(self, pattern: str) -> Iterator[FoundFile]:
        self._patterns += 1
        if self._patterns > _PATTERNS:
            raise _too_many(f"There are more than {_PATTERNS} patterns")
        _refuse_long(pattern)
        top = top_of(pattern)
        parts: list[str] = []
        for part in os.path.relpath(pattern, top).split("/"):
            if part != _ANY_DEPTH or parts[-1:] != [_ANY_DEPTH]:
                parts.append(part)
        if parts.count(_ANY_DEPTH) > _DEEP:
            raise InvalidValue(f"{pattern!r} has more than {_DEEP} `**`", field="inputs", remedy="Leave some out.")
        if parts[-1] == _ANY_DEPTH:
            parts.append("*")
        number = 0
        for one in self._walk(top, tuple(parts)):
            number += one.error is None
            yield one
        if not number:
            yield FoundFile(
                pattern,
                error=InvalidPath(
                    f"No file fits the pattern {pattern!r}",
                    field="inputs",
                    remedy="Check its spelling.",
                    status=CONFLICT,
                ),
            )

    def _walk(self, top: str, parts: tuple[str, ...]) -> Iterator[FoundFile]:
        """Yield the files below `top` whose path fits the parts. The part `**` fits any number of folders."""
        inside_top = f"{os.path.realpath(top).rstrip('/')}/"
        avoid = {folder for folder in self._avoid if folder.startswith(inside_top)}
        # Not by `fnmatch`: it caches what it compiles, so strangers' patterns would stay as long as the process runs.
        fits = {part: re.compile(translate(part)).match for part in parts if part != _ANY_DEPTH}
        waiting: list[tuple[str, str, tuple[str, ...]]] = [(top, "", parts)]
        while waiting and not self._stopped():
            folder, inside, (first, *rest) = waiting.pop()
            real = os.path.realpath(folder)
            if real in self._protected or real in avoid:
                continue
            if first == _ANY_DEPTH:
                waiting.append((folder, inside, tuple(rest)))
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if first != _ANY_DEPTH:  # else the part after `**` looks at the folder once more
                    yield FoundFile(folder, error=_unreadable(folder, error))
                continue
            self._left -= len(listed)
            if self._left < 0:
                raise _too_many(f"There are more than {MOST_LOOKED_AT:,} files and folders to look at")
            below: list[tuple[str, str, tuple[str, ...]]] = []
            for number, entry in enumerate(listed, 1):
                if not number % _LOOK_EVERY and self._stopped():
                    return
                if any(aside(entry.name) and not aside(first) for aside in (_is_hidden, _is_of_a_system)):
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                if first == _ANY_DEPTH:
                    if is_folder:
                        below.append((entry.path, _join(inside, entry.name), (first, *rest)))
                elif entry.name == first or fits[first](entry.name):
                    if rest and is_folder:
                        below.append((entry.path, _join(inside, entry.name), tuple(rest)))
                    elif not rest and not _leads_to_folder(entry):
                        yield self._file(entry.path, inside, is_link=entry.is_symlink())
            # Files of a folder come before those of the folders in it.
            if first == _ANY_DEPTH:
                waiting[-1:-1] = reversed(below)
            else:
                waiting += reversed(below)


def _refuse_long(pattern: str) -> None:
    """Raise `InvalidValue` for a pattern that would take long to compile, or to compare with each name."""
    for part in pattern.split("/"):
        if len(os.fsencode(part)) > _LONGEST_PART:
            fault = f"has more than {_LONGEST_PART} bytes between two slashes; no file name is that long"
        elif sum(map(part.count, _PATTERN)) > _WILDCARDS:
            fault = f"has more than {_WILDCARDS} of * ? [ between two slashes"
        else:
            continue
        raise InvalidValue(f"A pattern {fault}: {pattern!r}", field="inputs", remedy="Shorten it.", status=TOO_MUCH)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _is_of_a_system(name: str) -> bool:
    """Whether some system or program keeps notes of its own under such a name."""
    return name.startswith(_OF_EDITORS) or name.casefold() in _OF_SYSTEMS


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether the entry is a folder or a link to one. A link to a closed place counts as an unreadable file."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def top_of(pattern: str) -> str:
    """Return the folder in which a pattern begins. A folder with this very name is meant even if it has wildcards."""
    while not (_PATTERN.isdisjoint(pattern) or os.path.isdir(pattern)):  # noqa: PTH112 - it is a text
        pattern = os.path.dirname(pattern)  # noqa: PTH120 - it is a text
    return pattern


def _shown(path: str) -> str:
    """Return the path as an answer can hold it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _too_many(message: str) -> InvalidValue:
    return InvalidValue(
        message,
        field="inputs",
        remedy="Make several batches of them, such as one for each folder.",
        status=TOO_MUCH,
    )


def _unreadable(path: str, error: Exception) -> InvalidPath:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InvalidPath(
        f"{path!r} cannot be read: {reason}", field="inputs", remedy="Check its spelling.", status=CONFLICT
    )
