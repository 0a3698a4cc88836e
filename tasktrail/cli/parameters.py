"""The kinds of values of options and arguments: times, ids, sizes, `key=value`; and their completions in the shell."""

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..times import FORMS, PAST_FORMS, read_time
from ..words import moment
from .completion import (
    WORDS,
    SuggestedParam,
    completion_items,
    listed_items,
    option_pairs,
    preset_names,
    suggestions,
    task_ids,
    type_names,
    zone_names,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_BARE = re.compile(r"[+-]\d{1,9}")


def _now(ctx: click.Context | None) -> datetime:
    environment = ctx.find_root().obj if ctx else None
    now: datetime = environment.now() if environment is not None else datetime.now(UTC)
    return now


class TimeParam(click.ParamType[datetime]):
    """A time; see `read_time`."""

    name = "time"
    forms = FORMS
    earlier = False

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the time."""
        if isinstance(value, datetime):
            return value
        try:
            return read_time(value, _now(ctx), earlier=self.earlier).astimezone(UTC)
        except (ValueError, OverflowError):
            bare = _BARE.fullmatch(value.strip())
            why = f"lacks its unit, as in {value.strip()}m or {value.strip()}h" if bare else "is not a time"
            self.fail(f"{value!r} {why}. Write {self.forms}.", param, ctx)


_MOST_PARTS = 100
_LONGEST = 20
"""Digits of a position that a log could have; Python reads no number of more than 4,300."""


class _PastTimeParam(TimeParam):
    forms = f"a position, {PAST_FORMS}"
    earlier = True


class PointParam(click.ParamType[int | datetime]):
    """A position of the log, or a time."""

    name = "position|time"

    def convert(
        self, value: str | int | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | datetime:
        """Read digits as a position, anything else as a time."""
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST:
            return int(value)
        return _PastTimeParam().convert(value, param, ctx)


as_of_option = click.option(
    "--as-of", type=PointParam(), help="Show the state at a position of the log, or at a time, e.g. -2h."
)


def as_of_note(as_of: int | datetime) -> str:
    """Return the sentence below the output of an earlier moment."""
    at = moment(as_of) if isinstance(as_of, datetime) else f"position {as_of}"
    return f"This is the state as of {at}."


class IdsParam(click.ParamType[tuple[int, ...]]):
    """One or several task ids, separated by commas."""

    name = "ID,ID"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Split at the commas and read the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(word) for word in value.split(",") if word.strip())
        except ValueError:
            self.fail(f"{value!r} is not a list of task ids like 3 or 3,7.", param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> "list[CompletionItem[Any]]":
        """Return the task ids that begin with the incomplete one, without those that are in the list."""
        return listed_items(ctx, lambda session, begun: task_ids(session, begun, ()), incomplete)


class PartsParam(click.ParamType[int]):
    """The number of parts of a film; 0 stands for `auto`."""

    name = "parts"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        if isinstance(value, int):
            return value
        if value == "auto":
            return 0
        if not (value.isascii() and value.isdigit() and 1 <= int(value[:_LONGEST]) <= _MOST_PARTS):
            self.fail(f"{value!r} is not a number of parts: give 1 to {_MOST_PARTS}, or auto.", param, ctx)
        return int(value)


class PoliciesParam(click.ParamType[str | tuple[str, ...]]):
    """One policy for all dependencies, or one for each, separated by commas."""

    name = "POLICY,POLICY"

    def __init__(self, policies: tuple[str, ...]) -> None:
        self._policies = policies

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[str, ...]:
        """Split at the commas; a single one stays a text."""
        words = value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(","))
        for word in words:
            if word not in self._policies:
                self.fail(f"{word!r} is not one of {', '.join(self._policies)}.", param, ctx)
        return words if len(words) > 1 else words[0]

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> "list[CompletionItem[Any]]":
        """Return the policies. After a comma, each may come again: it is for another dependency."""
        before, comma, _word = incomplete.rpartition(",")
        return completion_items(((before + comma + policy, "") for policy in self._policies), incomplete)


class WordsParam(click.ParamType[tuple[str, ...]]):
    """One or several words, separated by commas."""

    name = "word,word"

    def __init__(self, *known: str) -> None:
        """`known`: the words that the shell offers."""
        self._known = known

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Split at the commas. The command checks whether the words are known."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> "list[CompletionItem[Any]]":
        """Return the known words that are not yet in the list."""
        return listed_items(ctx, lambda _session, _begun: ((word, "") for word in self._known), incomplete)


class WholeParam(click.IntRange):
    """A whole number. click would call a wrong value "not a valid integer range"."""

    name = "integer"


class NumberParam(click.FloatRange):
    """A number, with or without a fraction."""

    name = "number"


class SecondsParam(NumberParam):
    """Seconds, or a text such as `10m`."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the duration, and check it against the limits."""
        from ..config.settings import parse_seconds

        try:
            seconds = parse_seconds(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a duration: take seconds, or a unit as in 10m, 2h or 1d.", param, ctx)
        return float(super().convert(seconds, param, ctx))

    def _describe_range(self) -> str:
        """Describe the range for the help text; click would write `x<=None` if the command itself knows the limits."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class TaskIdParam(WholeParam):
    """The number of a task. The shell offers the newest; with `statuses`, only those that the command accepts."""

    name = "task id"

    def __init__(self, *statuses: str) -> None:
        super().__init__(min=1, max=2**53)
        self._statuses = statuses

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number. What is none, such as `all`, is told where the numbers are."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not the number of a task. `tasktrail list` shows the numbers.", param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> "list[CompletionItem[Any]]":
        """Return the task ids that begin with the incomplete word."""
        return completion_items(
            suggestions(ctx, lambda session: task_ids(session, incomplete, self._statuses)), incomplete
        )


TASK_ID = TaskIdParam()

OPEN = ("pending", "running", "retrying")
"""The statuses of tasks that have not ended."""
OPEN_ID = TaskIdParam(*OPEN)

WAITING_ID = TaskIdParam("pending", "retrying")

TYPE = SuggestedParam("type", type_names)

PRESET = SuggestedParam("preset", preset_names)

ZONE = SuggestedParam("zone", zone_names)

FILE = click.Path()


def absolute_path(path: str) -> str:
    """Return the path from the root. Links in it stay, except before a `..`, which climbs from where they lead."""
    parts = Path(path).parts
    if ".." in parts:
        last = len(parts) - parts[::-1].index("..")
        with suppress(ValueError):  # what no file can be called is refused later
            path = os.path.join(os.path.realpath(os.path.join(*parts[:last])), *parts[last:])  # noqa: PTH118
    return os.path.abspath(path)  # noqa: PTH100


class GivenPathParam(click.Path):
    """A path that may be missing, but not empty: a variable that is unset must not name the current folder."""

    def __init__(self, *, path_type: type[Path | str] = Path, **how: Any) -> None:
        """Answer with a `Path`, unless `path_type` is another. `how`: what click takes."""
        super().__init__(path_type=path_type, **how)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty text."""
        if value == "":
            self.fail("The path is empty. Was a variable of the shell not set?", param, ctx)
        return super().convert(value, param, ctx)


class GivenTextParam(click.ParamType[str]):
    """A text that is read as a path if it is nothing else, so it may not be empty for the same reason."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse an empty text."""
        if value == "":
            self.fail("It is empty. Was a variable of the shell not set?", param, ctx)
        return str(value)


class TaskOrPathParam(click.ParamType[int | Path]):
    """The number of a task, or the path of what it has made. A file whose name is a number needs its `./`."""

    name = "task id|path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Path:
        """Read digits as a number, anything else as a path."""
        text = GivenTextParam().convert(value, param, ctx)
        return TASK_ID.convert(text, param, ctx) if text.isascii() and text.isdecimal() else Path(text)


class FolderParam(GivenPathParam):
    """A folder, as the service will understand it."""

    def __init__(self) -> None:
        """Accept folders that do not exist, too."""
        super().__init__(file_okay=False, path_type=str)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Make it absolute."""
        return absolute_path(os.fsdecode(super().convert(value, param, ctx)))


class TargetParam(GivenPathParam):
    """A file to make. A name with a `/` at its end is that of a folder, which must exist: a `Path` has no such `/`.

    `-` stays as it is, for standard output. `./-` is the file of that name: a `Path` has no such `./` either.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a folder that does not exist, which would become a file of that name."""
        from ..events.existence import is_dir

        text = os.fsdecode(value)
        if text != "-" and Path(text) == Path("-"):
            value = Path.cwd() / "-"
        if text.endswith(("/", "/.")) and not is_dir(Path(text)):
            self.fail(f"There is no folder {text!r}.", param, ctx)
        return super().convert(value, param, ctx)


class PairParam(click.ParamType[tuple[str, Any]]):
    """`key=value`; the value is read as JSON if it is JSON (12, true, [1,2], "text"), else as text."""

    name = "key=value"

    def convert(
        self, value: str | tuple[str, Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first `=`."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            is_file = ctx is not None and f"-o{value}" in ctx.meta.get(WORDS, ())
            hint = f" Did you mean the file `./-o{value}`?" if is_file else ""
            self.fail(f"{value!r} is not key=value.{hint}", param, ctx)
        try:
            return key, msgspec.json.decode(text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return key, text

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> "list[CompletionItem[Any]]":
        """Return the options of the type on the command line, and their values."""
        return completion_items(
            suggestions(ctx, lambda session: option_pairs(session, ctx.meta.get(WORDS, ()), incomplete)), incomplete
        )


class SizeParam(click.ParamType[int]):
    """Bytes, or a text such as `4GiB`."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the size."""
        from ..config.settings import parse_size

        try:
            return value if isinstance(value, int) else parse_size(value)
        except ValueError:
            self.fail(f"{value!r} is not a size like 4GiB.", param, ctx)


class AgeParam(click.ParamType[float]):
    """An age such as `90d`, in seconds."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the duration."""
        from ..config.settings import parse_age

        try:
            return value if isinstance(value, float) else parse_age(value)
        except ValueError:
            self.fail(f"{value!r} is not a duration with its unit, like 90d or 12h.", param, ctx)


class LabelParam(click.ParamType[tuple[str, str]]):
    """`key=value`; both are text."""

    name = "key=value"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first `=`."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not key=value.", param, ctx)
        return key, text


class RateParam(click.ParamType[tuple[str, str | None]]):
    """`name=rate`, or `name=none` to remove the rate. The command's Struct checks the name and the rate."""

    name = "name=rate"

    def convert(
        self, value: str | tuple[str, str | None], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        """Split at the last `=`."""
        if isinstance(value, tuple):
            return value
        name, equals, rate = value.rpartition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not name=rate or name=none.", param, ctx)
        return name, None if rate == "none" else rate


class QuotaParam(click.ParamType[tuple[str, int | None]]):
    """`name=number`, or `name=none` to remove the number."""

    name = "name=number"

    def __init__(self, *, numbered: bool = False) -> None:
        self._numbered = numbered

    def convert(
        self, value: str | tuple[str, int | None], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        """Split at the last `=`."""
        if isinstance(value, tuple):
            return value
        name, equals, number = value.rpartition("=")
        if not equals or not name or not (number == "none" or number.isdecimal()):
            self.fail(f"{value!r} is not name=number or name=none.", param, ctx)
        if self._numbered and not name.isdecimal():
            self.fail(f"{name!r} is not a user: users have numbers, e.g. 7=3.", param, ctx)
        return name, None if number == "none" else int(number)
