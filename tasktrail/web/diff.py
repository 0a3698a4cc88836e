"""The page of changes: the tasks that changed between two moments, each before and after."""

from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency

from ..api.reader_process import DiffQuestion
from ..events.errors import InvalidValue, TasktrailError
from ..http.permissions import SEE
from ..http.queries import OffsetQuery, changes_between
from ..http.requests import FromQuery, ToQuery
from ..projections.errors import BeyondTheLog
from .moments import QUICK, ShownMoment, canonical, moment_of
from .now import THEN_WITHIN
from .page import Page, RedirectTo

PER_PAGE = 50


@get("/diff", include_in_schema=False, needs=SEE)
async def diff(
    page: NamedDependency[Page], begin: FromQuery = "", end: ToQuery = None, offset: OffsetQuery = 0
) -> Response[str]:
    """Show the changes between two moments; without the first one, the form that asks for it."""
    try:
        since, until = await _moment(page, "from", begin), await _moment(page, "to", end or "")
        shown = await _shown(page, since, until, offset)
    except (InvalidValue, BeyondTheLog) as error:
        return page.answer("diff.html", status=error.status, **_form(page, error))
    return page.answer("diff.html", **shown)


async def _moment(page: Page, field: str, words: str) -> ShownMoment | None:
    """Return the moment that a parameter names, if any. Words redirect to the address of the moment that they mean."""
    if not words.strip():
        return None
    exactly = await page.ask(canonical, page.service, words, page.backend.service.source.clock.now(), field)
    if exactly != words:
        raise RedirectTo(page.here(**{field: exactly}))
    found = await page.ask(moment_of, page.backend.service, exactly, field)
    if page.past and found.position > page.past.position:
        raise InvalidValue(
            f"{field}: position {found.position} comes after the moment that is shown",
            field=field,
            remedy="Choose an earlier one, or go back to now.",
        )
    return found


def _form(page: Page, problem: TasktrailError | None = None) -> dict[str, Any]:
    # The choices count from now, so in the past they may name moments after the one that is shown.
    near = () if page.past else QUICK
    quick = {words: page.here(**{"from": words, "to": None, "offset": None}) for words in near}
    return {"quick_from": quick, "found": None, "given": page.parameters(), "problem": problem}


async def _shown(page: Page, since: ShownMoment | None, until: ShownMoment | None, offset: int) -> dict[str, Any]:
    form = _form(page)
    if since is None:
        return form
    last = until or page.past
    question = DiffQuestion(since.position, None if last is None else last.position, PER_PAGE, offset, page.user_id)
    changes = await changes_between(page.backend, question, THEN_WITHIN, page.who)
    behind, same_end = (
        offset + len(changes.changes),
        {"to": changes.to_position},
    )  # all pages are of the same two moments
    return {
        **form,
        "since": since,
        "until": until,
        "found": changes,
        "first": offset + 1,
        "last": behind,
        "before": page.here(**same_end, offset=max(0, offset - PER_PAGE) or None) if offset else "",
        "after": page.here(**same_end, offset=behind) if behind < changes.total else "",
        "at": page.as_of if until is None else until.position,
    }


ROUTES = (diff,)
