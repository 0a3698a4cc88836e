"""The page Batches: the newest batches and their progress."""

from collections.abc import Sequence

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Stream

from ..api.reader_process import BatchesAnswer, BatchesQuestion
from ..http.permissions import SEE
from ..projections import Batch
from .now import THEN_WITHIN
from .page import Page

_SHOWN = 50
_SHOWN_THEN = 10
"""Fewer as of an earlier moment, because each of their tasks is looked at."""


@get("/batches", include_in_schema=False, needs=SEE)
async def batches(page: NamedDependency[Page]) -> Response[str]:
    """Show the progress of the batches, now or at the moment asked for."""
    found = await (_batches_as_of(page) if page.past else page.ask(_batches_now, page))
    return page.answer("batches.html", batches=found, most=_SHOWN_THEN if page.past else _SHOWN)


@get("/live/batches", include_in_schema=False, needs=SEE)
async def live_batches(page: NamedDependency[Page]) -> Stream:
    """Stream the part of the page that changes."""
    page.present()
    return page.follow(
        lambda shared: shared.parts("batches.html", ("batches",), batches=_batches_now(shared), most=_SHOWN)
    )


def _batches_now(page: Page) -> Sequence[Batch]:
    return page.service.batches(_SHOWN)


async def _batches_as_of(page: Page) -> Sequence[Batch]:
    assert page.past is not None
    question = BatchesQuestion(page.past.position, most=_SHOWN_THEN, user_id=page.user_id)
    return (await page.backend.past(question, BatchesAnswer, THEN_WITHIN, page.who)).batches


ROUTES = (batches, live_batches)
