"""The page Log: its newest records or those up to a position, and the state of the check."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Stream

from ..actors.logger import get_logger
from ..events import Recorded, TasktrailError
from ..events.errors import InvalidValue
from ..events.recorded import EVENT_TAGS
from ..http.identity import Identity
from ..http.permissions import AUDIT, SEE_ALL
from ..http.requests import LARGEST, task_number
from ..projections.describe import describe
from .page import Page

_SHOWN = 50
_LOOKED_THROUGH = 50_000
"""The most records that are searched for those of a kind: the log has no index of kinds."""
OF_A_TASK = 1000
"""The same for the records of one task, which are all read."""
EVENT_KINDS = tuple(EVENT_TAGS.values())

TaskQuery = Annotated[str, QueryParameter(description="Only records of this task")]
KindQuery = Annotated[str, QueryParameter(description="Only records of this kind, such as `failed`")]
UpToQuery = Annotated[int | None, QueryParameter(ge=0, le=LARGEST, description="The newest record to show")]

logger = get_logger("tasktrail.web")


class LogLine(msgspec.Struct, frozen=True):
    """A record as it is shown."""

    record: Recorded
    kind: str
    words: str


class Excerpt(msgspec.Struct, frozen=True):
    """Records, the newest first."""

    lines: list[LogLine]
    earlier: int
    """The position from which to go on; 0: nothing is before."""


@get("/log", include_in_schema=False, needs=SEE_ALL)
async def log(
    page: NamedDependency[Page], task: TaskQuery = "", kind: KindQuery = "", up_to: UpToQuery = None
) -> Response[str]:
    """Show the records, and the state of the check."""
    return page.answer("log.html", **await page.ask(_shown, page, task, kind, up_to))


@get("/live/log", include_in_schema=False, needs=SEE_ALL)
async def live_log(
    page: NamedDependency[Page], task: TaskQuery = "", kind: KindQuery = "", up_to: UpToQuery = None
) -> Stream:
    """Stream the parts of the page that change."""
    return page.follow(
        lambda shared: shared.parts("log.html", ("verification", "records"), **_shown(shared, task, kind, up_to))
    )


@post("/verify", include_in_schema=False, needs=AUDIT)
async def begin_check(page: NamedDependency[Page], who: NamedDependency[Identity]) -> Response[None]:
    """Begin to check everything; the page shows the progress."""
    page.present()
    if page.backend.check.runs:
        return page.redirect("/log", flash="A check is running already.", kind="bad")
    checks: set[asyncio.Task[None]] = page.request.app.state.checks
    checking = asyncio.create_task(_check(page, who.name))
    checks.add(checking)
    checking.add_done_callback(checks.discard)
    return page.redirect("/log", flash="The check has begun.")


async def _check(page: Page, by: str) -> None:
    try:
        await page.backend.verify(by)
    except TasktrailError as error:
        logger.warning("a check could not be done", error=error.message)


def _shown(page: Page, task: str, kind: str, up_to: int | None) -> dict[str, Any]:
    if kind and kind not in EVENT_KINDS:
        raise InvalidValue(f"kind: there are no records called {kind[:40]!r}", field="kind")
    last = page.past.position if page.past else page.whole.watermark.position
    last = last if up_to is None else min(last, up_to)
    found = excerpt(page, task_number(task, "task"), kind, last) if task else newest(page, kind, last)
    check = page.backend.check
    return {
        "excerpt": found,
        "kinds": EVENT_KINDS,
        "task": task,
        "kind": kind,
        "up_to": up_to,
        "check": check,
        "may_verify": page.may(AUDIT) and not page.past,
    }


def excerpt(page: Page, task_id: int, kind: str, last: int) -> Excerpt:
    """Return the newest records of a task, up to a position. Those of a kind are searched for within `OF_A_TASK`."""
    version = page.whole.version_at(task_id, last)
    least = max(0, version - (OF_A_TASK if kind else _SHOWN))
    records = page.whole.events_after(task_id, least, version - least)
    return _excerpt(reversed(records), kind, records[0].position - 1 if least and records else 0)


def newest(page: Page, kind: str, last: int) -> Excerpt:
    """Return the newest records, up to a position. Those of a kind are searched for within `_LOOKED_THROUGH`."""
    least = max(0, last - (_LOOKED_THROUGH if kind else _SHOWN))
    if not kind:
        return _excerpt(reversed(list(page.whole.log(least, last - least))), "", least)
    found = page.whole.source.log().newest_of(kind, least, last, _SHOWN)
    return _excerpt((record for position in found for record in page.whole.log(position - 1, 1)), kind, least)


def _excerpt(newest_first: Iterator[Recorded], kind: str, looked_to: int) -> Excerpt:
    """Return the first records, and where to go on: before the last of them, or where the search has ended."""
    lines = list(islice(_lines(newest_first, kind), _SHOWN))
    return Excerpt(lines, lines[-1].record.position - 1 if len(lines) == _SHOWN else looked_to)


def _lines(records: Iterator[Recorded], kind: str) -> Iterator[LogLine]:
    for record in records:
        tag = EVENT_TAGS[type(record.event)]
        if kind in ("", tag):
            yield LogLine(record, tag, describe(record.event))


ROUTES = (log, live_log, begin_check)
