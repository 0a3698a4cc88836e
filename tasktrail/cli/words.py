"""Values in words: times, durations, sizes, percents, and text that cannot upset a terminal."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def plain(text: str) -> str:
    """The text with control characters made visible: what handlers and users wrote must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def localized(text: str) -> str:
    """The text, with the seed's messages as the seed has them where the locale is Chinese."""
    if not text or not _is_chinese():
        return text
    from ..events.state import RECOVERING, RESUMING

    for english, chinese in ((RECOVERING, "任务恢复中..."), (RESUMING, "从断点恢复...")):
        if text.startswith(english):
            return chinese + text.removeprefix(english).replace(" at ", " ", 1)
    return text


def _is_chinese() -> bool:
    """By the variables of POSIX, in their order."""
    told = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next(filter(None, told), "").lower().startswith("zh")


def moment(at: datetime | None) -> str:
    """UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def ago(at: datetime | None, now: datetime) -> str:
    """A time as its distance, in one unit: 3 m ago, in 5 h, 12 d ago; with no unit that suits, the date."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    for unit, length, most in (("s", 1, 90), ("m", 60, 90), ("h", 3600, 48), ("d", 86400, 100)):
        number = round(abs(seconds) / length)
        if number < most:
            return f"{number} {unit} ago" if seconds >= 0 else f"in {number} {unit}"
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def duration(seconds: float) -> str:
    """As a person would say it: 0.42 s, 12.3 s, 4m 05s, 3h 20m, 2d 4h."""
    if seconds < 10:  # noqa: PLR2004 - the second digit says nothing beyond
        return f"{seconds:.2f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004 - a day
        return f"{hours}h {minutes:02}m"
    return f"{hours // 24}d {hours % 24}h"


def about(seconds: float) -> str:
    """A duration that is only guessed, in one unit: about 45 s, about 12 min, about 3 h."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if (number := max(1, round(seconds / length))) < most:
            return f"about {number} {unit}"
    return f"about {round(seconds / 86400)} d"


def size(count: float) -> str:
    """Bytes in a unit that suits: 512 B, 64.0 MiB."""
    if count < 1024:  # noqa: PLR2004 - a KiB
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:  # noqa: PLR2004 - of the next unit
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def rate(per_minute: float) -> str:
    """How often, in a unit in which the number is not tiny: 18 a minute, 1.5 an hour, 3 a day."""
    if per_minute >= 1 or not per_minute:
        return f"{round(per_minute, 1):g} a minute"
    if per_minute * 60 >= 1:
        return f"{round(per_minute * 60, 1):g} an hour"
    return f"{round(per_minute * 1440, 1):g} a day"


def percent(progress: float) -> str:
    """With one digit, rounded down so that 100 % means all of it."""
    return f"{int(progress * 10) / 10:.1f} %" if progress < 100 else "100 %"  # noqa: PLR2004 - all of it


class Ids(click.ParamType[tuple[int, ...]]):
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


class Policies(click.ParamType[str | tuple[str, ...]]):
    """One policy for all dependencies, or one for each, separated by commas."""

    name = "POLICY,POLICY"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[str, ...]:
        """Split at the commas; a single one stays a text."""
        words = value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(","))
        for word in words:
            if word not in ("wait", "cancel", "fail", "ignore"):
                self.fail(f"{word!r} is not one of wait, cancel, fail, ignore.", param, ctx)
        return words if len(words) > 1 else words[0]


class Words(click.ParamType[tuple[str, ...]]):
    """One or several words, separated by commas."""

    name = "word,word"

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Split at the commas; whether the words are known is for whoever gets them to say."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())


class Whole(click.IntRange):
    """A whole number; click would call what is none "not a valid integer range"."""

    name = "integer"


class Number(click.FloatRange):
    """A number, with or without a fraction."""

    name = "number"


class TaskId(Whole):
    """The number of a task; the shell offers the newest, of some statuses only where a command takes no others."""

    name = "task id"

    def __init__(self, *statuses: str) -> None:
        super().__init__(min=1, max=2**53)
        self._statuses = statuses

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click\'s signature
        incomplete: str,
    ) -> "list[CompletionItem[Any]]":
        """Those that begin so."""
        from .known import asked, offered, task_ids

        return offered(asked(ctx, lambda session: task_ids(session, incomplete, self._statuses)), incomplete)


TASK_ID = TaskId()
OPEN_ID = TaskId("pending", "running", "retrying")
WAITING_ID = TaskId("pending", "retrying")
