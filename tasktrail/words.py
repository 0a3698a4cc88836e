"""Numbers and times in words, as the command line and the page show them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .events.recorded import to_the_second

if TYPE_CHECKING:
    from .events.task_events import PriorityTerms


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return to_the_second(at) if at else ""


def ago(at: datetime | None, now: datetime) -> str:
    """A time as its distance from `now`, in one unit: 3 m ago, in 5 h, 12 d ago. From 100 days on, the date."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    for unit, length, most in (("s", 1, 90), ("m", 60, 90), ("h", 3600, 48), ("d", 86400, 100)):
        number = round(abs(seconds) / length)
        if number < most:
            return f"{number} {unit} ago" if seconds >= 0 else f"in {number} {unit}"
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def duration(seconds: float) -> str:
    """A duration as a person would say it: 0.42 s, 12.3 s, 4m 05s, 3h 20m, 2d 4h."""
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


def unlimited(name: str) -> str:
    """The meaning of 0 for the limit of this name."""
    return "three times the estimate, at least 1 GiB" if name == "max_task_temp" else "no limit"


def rate(per_minute: float) -> str:
    """A rate, in a unit that gives a number of at least 1 where possible: 18 a minute, 1.5 an hour, 3 a day."""
    if per_minute >= 1 or not per_minute:
        return f"{round(per_minute, 1):g} a minute"
    if per_minute * 60 >= 1:
        return f"{round(per_minute * 60, 1):g} an hour"
    return f"{round(per_minute * 1440, 1):g} a day"


def percent(progress: float) -> str:
    """A percentage with one digit, rounded down so that 100 % means all of it."""
    return f"{int(progress * 10) / 10:.1f} %" if progress < 100 else "100 %"  # noqa: PLR2004 - all of it


def sum_of(terms: "PriorityTerms") -> str:
    """The terms of a priority as a sum: `5 base + 10 user + 1.5 wait - 20 long`."""
    parts = [f"{terms.base} base"]
    if terms.user:
        parts.append(f"+ {terms.user} user")
    parts.append(f"+ {terms.wait:.1f} wait")
    if terms.duration:
        parts.append(f"- {-terms.duration} long")
    return " ".join(parts)


def of_input(output: int, whole: int) -> str:
    """An output's size beside that of its input (not 0): 0.213 % of the input, 105 % of the input, 3.5 times the input.

    A text of one line becomes a PDF of many times its size, which nobody thinks of in percent.
    """
    times = output / whole
    if 0 < times < 0.000_01:  # noqa: PLR2004 - `g` would write it with an exponent
        return "less than 0.001 % of the input"
    if times < 2:  # noqa: PLR2004 - from twice on one says so
        return f"{100 * times:.0f} % of the input" if times >= 1 else f"{100 * times:.3g} % of the input"
    return f"{times:,.0f} times the input" if times >= 10 else f"{times:.2g} times the input"  # noqa: PLR2004 - digits
