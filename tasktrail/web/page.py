"""The common part of all pages: the moment shown, addresses, the frame, and what the caller may do.

A module for one page has route handlers that take `page` as a dependency and end with `page.answer("NAME.html", …)`:

    @get("/limits", needs=SEE)
    async def limits(page: NamedDependency[Page]) -> Response[str]:
        return page.answer("limits.html", board=await page.ask(page.service.limits))

Its name goes into `PAGES` in `routes.py`. A form posts to a route of the same module, which ends with
`page.redirect("/limits", flash="…")`; it begins with `page.present()`, since the past cannot be acted on.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, TypeVarTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import PathParameter
from litestar.response import Stream
from litestar.status_codes import HTTP_404_NOT_FOUND, HTTP_405_METHOD_NOT_ALLOWED
from litestar.types import ExceptionHandlersMap

from .. import __version__
from ..actors.logger import get_logger
from ..api.one_user import NOBODY, OneUser
from ..api.served import Served
from ..errors import Forbidden, UnknownRoute, WrongMethod
from ..events import Task, TasktrailError
from ..events.errors import InvalidValue
from ..http.backend import Backend
from ..http.permissions import CHANGES, SEE, SEE_ALL, SUBMIT, Need, allows
from ..http.problems import PROBLEM_HANDLERS, headers_of, refusal_of, unexpected
from ..http.requests import AsOfQuery
from ..http.streams import EVENT_STREAM
from ..projections.queries.as_of import Point
from .assets import asset
from .formats import FILTERS, visible, zone
from .moments import QUICK, ShownMoment, canonical, moment_of

if TYPE_CHECKING:
    from ..http.identity import Identity
    from .live import Hub

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
TypePath = Annotated[str, PathParameter(description="A task type")]

HEADERS = {"referrer-policy": "same-origin"}
"""Headers of every page, besides those of every answer: without this one a browser would not name a form's origin."""
NAVIGATION: Sequence[tuple[str, str, Need]] = (
    ("/", "Now", SEE),
    ("/tasks", "Tasks", SEE),
    ("/batches", "Batches", SEE),
    ("/submit", "Submit", SUBMIT),
    ("/schedules", "Schedules", SEE_ALL),
    ("/limits", "Limits", SEE_ALL),
    ("/log", "Log", SEE_ALL),
)
"""Address, name, and the permission needed to see it."""
_PAST = "tasktrail-past"
_FLASH = "tasktrail-said"
_FLASH_KEPT = 60
_LONGEST_FLASH = 1000
"""Bytes; up to three times as many once escaped. Browsers drop cookies of more than 4096."""

logger = get_logger("tasktrail.web")

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=visible,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
templates.filters |= FILTERS
templates.globals.update(asset=asset, navigation=NAVIGATION, quick=QUICK, tasktrail_version=__version__)


class Page:
    """One request for a page: the question, the moment it is about, and the answer."""

    def __init__(self, request: Request[Any, Any, Any], backend: Backend, as_of: str, past: ShownMoment | None) -> None:
        self.request = request
        self.backend = backend
        self.who: Identity | None = request.scope["state"]["who"]
        """The caller; None on public pages."""
        self.service = backend.seen_by(self.who) if self.who else OneUser(backend.service, NOBODY)
        """Answers the caller's questions; for a caller bound to a user, only about that user's tasks."""
        self.csrf = self.who.csrf if self.who else ""
        """The token that forms have to carry: `parts.csrf()` writes it."""
        self.as_of = as_of
        """The moment as it stands in addresses; empty for now."""
        self.past = past
        """The moment that is shown; None for now."""
        self.now = past.at if past else backend.service.source.clock.now()
        """The time from which ages are counted."""
        self.path = f"/{request.url.path.lstrip('/')}"
        """With a single slash at its beginning: two would make it an address on another host."""

    @property
    def point(self) -> Point | None:
        """The moment, for questions that take `as_of`."""
        return self.past.position if self.past else None

    @property
    def whole(self) -> Served:
        """The service, for pages about all tasks. Raises `Forbidden` for a caller bound to one user."""
        if self.who is None or self.who.user_id is not None:
            raise Forbidden("This is about the tasks of all users")
        return self.backend.service

    async def ask(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Ask the service a question that is answered at once, with everything that is durable."""
        return await self.backend.ask(function, *args)

    def url(self, path: str, **query: object) -> str:
        """An address in the moment that this page shows. Parameters that are None or empty are left out."""
        return _with(path, {**query, "as_of": self.as_of})

    def here(self, **changes: object) -> str:
        """This page's own address with other parameters: `page.here(attempt=2)`. `as_of=None` leads to now."""
        return _with(self.path, self.parameters() | changes)

    def parameters(self) -> dict[str, object]:
        """The parameters of this page's address; lists for those that are repeated."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.request.url.query):
            found.setdefault(name, []).append(value)
        return {name: values if values[1:] else values[0] for name, values in found.items()}

    def may(self, need: Need) -> bool:
        """Whether the caller may do what needs this. Pages do not show actions that would be refused."""
        return allows(self.who, need) and (self.reader is None or need not in CHANGES)

    @property
    def reader(self) -> TasktrailError | None:
        """The error with which a reader refuses changes; None for a service."""
        return self.backend.service.refusal

    def present(self) -> None:
        """Raise `InvalidValue` when the past is shown, which cannot be acted on."""
        if self.past:
            raise InvalidValue("as_of: you can look at the past, but not change it", field="as_of")

    @property
    def user_id(self) -> int | None:
        """The only user whose tasks may be shown; None: all tasks."""
        return self.who.user_id if self.who else None

    async def own_task(self, task_id: int) -> Task:
        """Return a task that may be seen and acted on. Raises `UnknownTask`."""
        return await self.ask(self.service.get_task, task_id)

    # --- live parts -----------------------------------------------------------------------------------------------

    def live(self) -> str:
        """Return the address of this page's live parts: its own address after `/live`."""
        return _with(f"/live{self.path.rstrip('/')}", self.parameters())

    def parts(self, template: str, names: Iterable[str], **values: Any) -> dict[str, str]:
        """Render the blocks of a template that stand in `<section id=… data-part>` of the same name."""
        found = templates.get_template(template)
        context = found.new_context({"page": self, "now": self.now, **values})
        return {name: "".join(found.blocks[name](context)) for name in names}

    def follow(
        self, render: Callable[["Page"], dict[str, str]], *, task_id: int | None = None, of: Hashable = None
    ) -> Stream:
        """Stream the parts of a page when they change, shared by all who look at the same page.

        Args:
            render: makes the parts of the page that it is given, which has no session. Called in a thread.
            task_id: render again only when something is recorded about this task, or by the service.
            of: what the page shows, if its address and the reader's rights do not say that.
        """
        shared = copy(self)
        shared.csrf = ""
        shared.path = self.path.removeprefix("/live") or "/"
        hub: Hub = self.request.app.state.hub
        connection = self.request.scope["state"]["connection"]
        key = (shared.path, self.request.url.query, self.user_id, self.who and self.who.role, of)
        hub.refuse_too_many(key, connection)

        def parts() -> dict[str, str]:
            shared.now = self.backend.service.source.clock.now()
            return render(shared)

        return Stream(hub.follow(key, parts, connection, task_id), media_type=EVENT_STREAM)

    # --- answers --------------------------------------------------------------------------------------------------

    def render(self, template: str, **values: Any) -> str:
        """The text of a template."""
        return templates.get_template(template).render(page=self, now=self.now, **values)

    def answer(self, template: str, *, status: int = 200, **values: Any) -> Response[str]:
        """Return the whole page."""
        head = self.backend.service.watermark.position
        flash, kind = _flash(self.request)
        text = self.render(template, flash=flash, flash_kind=kind, head=head, zone=zone(), **values)
        answer = Response(text, status_code=status, media_type="text/html", headers=HEADERS)
        if flash:
            answer.delete_cookie(_FLASH)
        return answer

    def redirect(self, to: str, *, flash: str = "", kind: str = "good") -> Response[None]:
        """Redirect to another page (303), which shows `flash` once. `kind`: good, or bad for a refusal."""
        answer: Response[None] = Response(None, status_code=303, headers={**HEADERS, "location": to})
        if flash:
            text = flash.encode("utf-8", "replace")[:_LONGEST_FLASH].decode("utf-8", "ignore")
            answer.set_cookie(
                Cookie(
                    key=_FLASH,
                    value=quote(f"{kind}:{text}"),
                    max_age=_FLASH_KEPT,
                    httponly=True,
                    samesite="strict",
                )
            )
        return answer


def _with(path: str, query: dict[str, object]) -> str:
    kept = {name: value for name, value in query.items() if value not in (None, "", [])}
    return f"{quote(path)}?{urlencode(kept, doseq=True)}" if kept else quote(path)


def _flash(request: Request[Any, Any, Any]) -> tuple[str, str]:
    kind, _, flash = unquote(request.cookies.get(_FLASH, "")).partition(":")
    return (flash, kind) if kind in ("good", "bad") else ("", "")


class RedirectTo(Exception):
    """The request is answered at another address."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


async def open_page(
    request: Request[Any, Any, Any], backend: NamedDependency[Backend], as_of: AsOfQuery = None
) -> Page:
    """The dependency `page`. If the moment is given in words, redirect to the address of the moment that it means."""
    wanted = (as_of or "").strip()
    if not wanted:
        return Page(request, backend, "", None)
    plain = Page(request, backend, "", None)
    exactly = await backend.ask(canonical, plain.service, wanted, plain.now)
    if exactly != wanted and request.method == "GET":
        raise RedirectTo(plain.here(as_of=exactly))
    page = Page(request, backend, exactly, await backend.ask(moment_of, backend.service, exactly))
    request.scope["state"][_PAST] = page
    return page


def _error_page(request: Request[Any, Any, Any]) -> Page:
    """Return the page on which an error is shown: that of the past, if the past was asked for."""
    kept: Page | None = request.scope["state"].get(_PAST)
    return kept or Page(request, request.app.state.backend, "", None)


def refused(request: Request[Any, Any, Any], error: TasktrailError) -> Response[str]:
    """Return a page that says what was wrong and what to do."""
    answer = _error_page(request).answer("error.html", status=error.status, error=error)
    answer.headers |= headers_of(error)
    return answer


def _framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[str]:
    refusal = refusal_of(request, error)
    if isinstance(refusal, UnknownRoute):
        refusal = UnknownRoute(f"There is no page at {request.url.path}")
    if isinstance(refusal, WrongMethod):
        message = f"There is no page at {request.url.path}: it takes what a form sends"
        refusal = UnknownRoute(message, remedy="Go back to the form. The pages are named at the top.")
    return refused(request, refusal) if refusal else _fault(request, error)


def refused_anywhere(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer requests for unknown addresses: people get a page, programs the problem.

    A browser asks for a form's POST-only address when a person opens the address left by a refused form.
    """
    of_form = error.status_code == HTTP_405_METHOD_NOT_ALLOWED and not request.url.path.startswith("/v1/")
    if (of_form or error.status_code == HTTP_404_NOT_FOUND) and "text/html" in request.headers.get("accept", ""):
        answer = _framework(request, error)
        answer.status_code = error.status_code
        answer.headers |= error.headers or {}
        return answer
    return PROBLEM_HANDLERS[HTTPException](request, error)


def _fault(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    logger.error("a page failed", method=request.method, path=request.url.path, exc_info=error)
    return refused(request, unexpected())


def _redirected(_request: Request[Any, Any, Any], error: RedirectTo) -> Response[None]:
    return Response(None, status_code=303, headers={**HEADERS, "location": error.location})


PAGE_HANDLERS: ExceptionHandlersMap = {
    RedirectTo: _redirected,
    TasktrailError: refused,
    HTTPException: _framework,
    Exception: _fault,
}
