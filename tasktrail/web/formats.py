"""How pages write times, durations, bytes and percentages: filters for their templates."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec
from markupsafe import Markup, escape

from ..errors import UnknownRoute
from ..events.counted import plural
from ..events.errors import (
    CannotStartNow,
    IllegalTransition,
    InvalidValue,
    OutputExists,
    OutputTaken,
    RetriesExhausted,
    TaskForgotten,
    TasktrailError,
    UnknownTask,
    UnknownType,
)
from ..projections.errors import BeyondTheLog
from ..projections.queries.filters import in_a_list
from ..words import about, ago, duration, of_input, percent, rate, size, sum_of

_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Characters that are invisible or reverse their neighbours, so that a name could look like another one. The joiners
that scripts and emoji need are not among them."""


def visible(value: object) -> object:
    """Escape invisible characters of a text. Every `{{ … }}` of a template passes through this."""
    return _made_visible(value) if type(value) is str else value


def _made_visible(text: str) -> str:
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def exactly(value: object) -> Markup:
    """Write text unchanged, for the `value` of a field: the form has to send back what it was given."""
    return escape(value)


_ON_THE_PAGE: Mapping[type[TasktrailError], str] = {
    UnknownRoute: "The pages are named at the top.",
    InvalidValue: "Correct it and try again.",
    BeyondTheLog: "The foot of the page says where the log ends.",
    UnknownTask: "The list of tasks shows all of them.",
    TaskForgotten: "Its history is gone for good; an earlier backup may have it. The page Log shows who forgot it.",
    UnknownType: "The page Submit lists all types.",
    OutputExists: "Choose another output, remove the file, or tick Overwrite.",
    OutputTaken: "Wait for that task or cancel it, choose another output, or tick Overwrite.",
    IllegalTransition: "Its story tells how it came to this state.",
    RetriesExhausted: "Tick the box of the form that forces the retry. Who forced it is recorded.",
    CannotStartNow: "When the reasons are gone it starts by itself.",
}
"""What to do, for people who look at a page, in place of a command line or a route."""


def advice(error: TasktrailError) -> str:
    """Return what to do about a refusal."""
    usual = error.advice == type(error).remedy or error.advice.startswith("`tasktrail ")
    return _ON_THE_PAGE.get(type(error), error.advice) if usual else error.advice


def zone() -> tzinfo:
    """The time zone of the service's machine, in which times are shown."""
    found = datetime.now(UTC).astimezone().tzinfo
    assert found is not None
    return found


def exact(at: datetime) -> str:
    """A time to the second, with its zone: 2026-01-31 13:00:00 CET."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def when(at: datetime | None, now: datetime) -> Markup:
    """A time as its distance from `now`, and exactly in its title; a script keeps the distance up to date."""
    return _time(at, ago(at, now), exact(at), "relative") if at else Markup("")


def at_time(at: datetime | None) -> Markup:
    """A time to the second, for places where times are compared."""
    return _time(at, exact(at), at.astimezone(UTC).isoformat(), "") if at else Markup("")


def _time(at: datetime, shown: str, title: str, kind: str) -> Markup:
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    mark = Markup(" data-{}").format(kind) if kind else Markup("")
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(stamp, title, mark, shown)


def next_try(at: datetime, now: datetime) -> Markup:
    """When something is tried next. While a receiver rests, the time of its notices may pass without a try."""
    return Markup("the next at {}").format(at_time(at)) if at > now else Markup("the next is due")


def number(value: float) -> str:
    """A number with groups of three: 1,234,567."""
    return f"{value:,}"


def compact(value: Any) -> str:
    """A value as JSON on one line, in the order of its keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def wrapping(text: str) -> Markup:
    """A long path or name that may break after each of its separators."""
    broken = str(escape(_made_visible(text)))
    for separator in ("/", "_", "-", "."):
        broken = broken.replace(separator, f"{separator}<wbr>")
    return Markup(broken)  # noqa: S704 - escaped above


def clip(value: object, most: int) -> str:
    """Text of at most `most` characters; anyone may have written it, at any length."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def basename(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def pretty(value: Any) -> str:
    """A value as JSON on several lines."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def plainly(value: Any) -> str:
    """A field of a task on one line."""
    match value:
        case None | "" | () | {}:
            return "-"
        case datetime():
            return exact(value)
        case str():
            return value
        case msgspec.Struct():
            return compact(msgspec.to_builtins(value))
        case _:
            return compact(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "about": about,
    "advice": advice,
    "at_time": at_time,
    "basename": basename,
    "bytes": size,
    "clip": clip,
    "compact": compact,
    "duration": duration,
    "exact": exact,
    "exactly": exactly,
    "in_a_list": in_a_list,
    "next_try": next_try,
    "number": number,
    "of_input": of_input,
    "percent": percent,
    "plainly": plainly,
    "pretty": pretty,
    "rate": rate,
    "sum_of": sum_of,
    "plural": plural,
    "when": when,
    "wrapping": wrapping,
}
"""Filter → function. `{{ task.updated_at | when(now) }}`, `{{ task.progress | percent }}`."""
