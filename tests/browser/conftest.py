"""A real browser on real services. Every fault of a page fails the test that shows it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import CHROMIUM, WITHIN, Role, Service, Visit, furnish, start_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

collect_ignore_glob = [] if find_spec("playwright") and find_spec("axe_playwright_python") else ["test_*.py"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the browser out of a run of other tests: none of them could run an event loop beside its driver's."""
    ours = [item for item in items if item.get_closest_marker("browser")]
    if len(ours) < len(items):
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Start Chromium, which can reach only this machine."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"there is no {CHROMIUM}; the environment variable CHROMIUM may name another browser")
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415 - only where it is installed

    with sync_playwright() as playwright:
        expect.set_options(timeout=WITHIN * 1000)
        found = start_browser(playwright.chromium, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        yield found
        found.close()


@pytest.fixture
def service_of(
    browser: "Browser",  # noqa: ARG001 - without a browser none is needed
    tmp_path: Path,
) -> Iterator[Callable[[Callable[[Path], None]], Service]]:
    """Start a service on a prepared data folder."""
    with ExitStack() as stack:

        def make(write: Callable[[Path], None]) -> Service:
            found = Service(tmp_path, before=write)
            stack.callback(found.stop)
            return found

        yield make


@pytest.fixture
def service(service_of: Callable[[Callable[[Path], None]], Service]) -> Service:
    """A service for one test."""
    return service_of(lambda _data: None)


@pytest.fixture(scope="session")
def house(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:  # noqa: ARG001 - as above
    """A service with an example of everything, for reading only."""
    found = Service(tmp_path_factory.mktemp("house"))
    furnish(found)
    yield found
    found.stop()


def _leave(context: "BrowserContext") -> None:
    """Close the pages. Closing a page that still loads has hung in the driver."""
    for page in context.pages:
        page.goto("about:blank")
    context.close()


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """Log in to a service. No session may have a fault at the end of the test."""
    visits: list[Visit] = []
    with ExitStack() as stack:

        def come(
            service: Service,
            role: Role = "owner",
            *,
            user: int | None = None,
            width: int = 1280,
            dark: bool = False,
            script: bool = True,
        ) -> Visit:
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme="dark" if dark else "light",
                java_script_enabled=script,
                reduced_motion="reduce",
            )
            stack.callback(_leave, context)
            context.set_default_timeout(WITHIN * 1000)
            visits.append(Visit(context, service))
            visits[-1].log_in(role, user)
            return visits[-1]

        yield come
    assert [fault for one in visits for fault in one.faults()] == []
