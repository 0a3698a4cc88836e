"""All pages: the list where a new one is entered, and what they have in common."""

from litestar import Router
from litestar.di import Provide

from ..http.requests import MAX_FORM
from . import batches, diff, limits, log, login, now, schedules, submit, task, tasks
from .assets import get_asset
from .bulk import BulkChanges
from .page import PAGE_HANDLERS, open_page
from .task import Stories

PAGES = (
    *now.ROUTES,
    *tasks.ROUTES,
    *task.ROUTES,
    *batches.ROUTES,
    *submit.ROUTES,
    *schedules.ROUTES,
    *limits.ROUTES,
    *diff.ROUTES,
    *log.ROUTES,
    *login.ROUTES,
)
"""The handlers of all pages. A page of its own module is entered here, and in `NAVIGATION` in `page.py`."""


def page_router() -> Router:
    """Return the router of all pages."""
    bulk_changes, stories = BulkChanges(), Stories()
    return Router(
        path="/",
        route_handlers=[get_asset, *PAGES],
        dependencies={
            "page": Provide(open_page),
            "bulk_changes": Provide(lambda: bulk_changes, sync_to_thread=False),
            "wanted": Provide(tasks.wanted_filters, sync_to_thread=False),
            "stories": Provide(lambda: stories, sync_to_thread=False),
        },
        exception_handlers=PAGE_HANDLERS,
        request_max_body_size=MAX_FORM,
        include_in_schema=False,
    )
