"""Now: what runs, what waits and why, what has failed, and what of the machine is in use."""

from litestar import Response, get
from litestar.di import NamedDependency

from ..http.permissions import SEE
from .page import Page


@get("/", include_in_schema=False, needs=SEE)
async def now(page: NamedDependency[Page]) -> Response[str]:
    """What stands where."""
    stats = None if page.past else await page.ask(page.service.stats)
    board = None if page.past else await page.ask(page.service.queue, 10)
    return page.answer("now.html", stats=stats, board=board)
