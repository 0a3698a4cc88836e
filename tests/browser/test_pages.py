"""Every page, at three widths, light and dark, for eyes, keyboards and screen readers."""

import re
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from accessibility import violations
from browsing import Service, Visit, start_browser
from playwright.sync_api import Page, expect

from tasktrail.web.routes import PAGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]
Come = Callable[..., Visit]
ADDRESSES = {
    "/": ["/"],
    "/login": ["/login"],
    "/tasks": ["/tasks", "/tasks?status=failed", "/tasks?search=nothing-like-it"],
    "/tasks/confirm": ["/tasks/confirm?action=retry&of=all&status=failed"],
    "/tasks/{task_id:int}": [f"/tasks/{number}" for number in range(1, 8)],
    "/batches": ["/batches"],
    "/submit": ["/submit"],
    "/submit/{task_type:str}": ["/submit/print", "/submit/model_preview", "/submit/image_thumbnail?like=1"],
    "/schedules": ["/schedules"],
    "/schedules/add/{task_type:str}": ["/schedules/add/print"],
    "/limits": ["/limits"],
    "/log": ["/log", "/log?task=1"],
    "/diff": ["/diff", "/diff?from=0", "/diff?from=9&to=20"],
}
"""The pages of each route. Those of one task show a task in each state."""
NO_PAGES = {"/static/{version:str}/{name:str}", "/tasks/{task_id:int}/picture/{side:str}"}
IN_ACTIONS = {"/tasks/bulk/{bulk_id:str}"}
"""Pages that only an action leads to; its test checks them."""
LOOKS = [address for addresses in ADDRESSES.values() for address in addresses]
WIDTHS = (360, 1280, 2560)
LARGER_PHONE = 390
"""The width of most phones. Too little for the largest letters that a reader may choose."""
BETWEEN = (430, 600, 700, 768, 800, 900, 1024, 1100)
"""The largest phones, a tablet, half a screen, or a magnified page."""
PAPER = 718
"""Pixels of a sheet of A4 within the margins that browsers leave."""


def test_no_page_is_forgotten() -> None:
    routes = {path for handler in PAGES for path in handler.paths if "GET" in handler.http_methods}
    live = {path for path in routes if path.startswith("/live")}
    assert routes - live - NO_PAGES - IN_ACTIONS == set(ADDRESSES)


def unfold(page: Page) -> None:
    """Open the folded parts of the page."""
    page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")


def overflowing(page: Page) -> list[str]:
    """If the page is wider than the window, return the elements whose box or text exceeds it."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            ['the page', ...[...document.querySelectorAll('body *')].filter((one) =>
                Math.max(0, one.scrollWidth - one.clientWidth) + one.getBoundingClientRect().right > innerWidth)
            .map((one) => one.outerHTML.slice(0, 150))]"""
    )
    return found


def cut_off(page: Page) -> list[str]:
    """Return elements that do not fit into their card, or are in a region that would have to be scrolled."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('.card, .scroll')]
            .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.outerHTML.slice(0, 150))"""
    )
    return found


CHECKED = {("light", WIDTHS[0]), ("dark", WIDTHS[1])}
"""The places of the check: each colour scheme once, and each arrangement once."""


@pytest.mark.parametrize("address", LOOKS)
def test_a_page_fits_every_width_and_passes_the_checker_in_light_and_dark(
    house: Service, visit: Come, address: str
) -> None:
    one = visit(house)
    wrong: list[str] = []
    page = one.go(address)
    for folded in (True, False):
        if not folded:
            unfold(page)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                told = [f"{address} at {width} px: {element}" for element in overflowing(page)]
                found = violations(page) if (scheme, width) in CHECKED else []
                wrong += [f"{scheme}: {line}" for line in told + found]
        for width in (LARGER_PHONE, *BETWEEN):
            page.set_viewport_size({"width": width, "height": 900})
            wrong += [f"{address} at {width} px: {element}" for element in overflowing(page)]
    assert wrong == []


def test_a_drawing_of_two_tasks_beside_each_other_is_seen_whole_at_every_width(house: Service, visit: Come) -> None:
    page = visit(house).go("/tasks/1")
    seen = 0
    for address in ADDRESSES["/tasks/{task_id:int}"]:
        page.goto(house.address + address)
        graph = page.locator("svg.graph.is-narrow")
        for width in (*WIDTHS, *BETWEEN, 1200):
            page.set_viewport_size({"width": width, "height": 900})
            seen += graph.count()
            cut = "all => all.map((one) => one.parentNode).filter((one) => one.scrollWidth > one.clientWidth).length"
            assert graph.evaluate_all(cut) == 0, (address, width)
    assert seen


def test_a_name_in_a_list_has_room_at_every_width(house: Service, visit: Come) -> None:
    page = visit(house).go("/tasks")
    for address in ("/tasks", "/diff?from=0"):
        page.goto(house.address + address)
        for width in (*WIDTHS, *BETWEEN):
            page.set_viewport_size({"width": width, "height": 900})
            cells = page.locator("td.name:not(:empty)")
            assert min(cells.evaluate_all("all => all.map((one) => one.clientWidth)")) > 130, (address, width)


@pytest.mark.parametrize(("size", "narrow"), [(24, [WIDTHS[0], LARGER_PHONE]), (32, [])])
def test_a_page_fits_with_the_large_letters_that_a_reader_has_chosen(
    house: Service, browser: "Browser", size: int, narrow: list[int]
) -> None:
    with closing(start_browser(browser.browser_type, f"--blink-settings=defaultFontSize={size}")) as large:
        one = Visit(large.new_context(reduced_motion="reduce"), house)
        one.log_in("owner", None)
        wrong: list[str] = []
        for address in LOOKS:
            page = one.go(address)
            unfold(page)
            assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") == 15 / 16 * size
            for width in (*narrow, *BETWEEN, WIDTHS[1]):
                page.set_viewport_size({"width": width, "height": 900})
                wrong += [f"{address} at {width} px: {element}" for element in overflowing(page)]
        assert wrong + one.faults() == []


@pytest.mark.parametrize("width", [WIDTHS[0], *BETWEEN])
def test_a_list_is_put_into_another_order_at_every_width(house: Service, visit: Come, width: int) -> None:
    page = visit(house, width=width).go("/tasks")
    page.get_by_role("link", name="Changed").click()
    expect(page).to_have_url(re.compile("sort=-updated_at"))


@pytest.mark.parametrize("address", ["/", "/submit", "/log?as_of=3"])
def test_the_choice_of_a_moment_is_within_the_window_at_every_width(house: Service, visit: Come, address: str) -> None:
    page = visit(house).go(address)
    page.locator("details.moment > summary").click()
    for width in (320, *WIDTHS, 390, 480, 600, *BETWEEN):
        page.set_viewport_size({"width": width, "height": 900})
        box = page.locator("form.moment-form").bounding_box()
        assert box is not None
        assert (box["x"] >= 0, box["x"] + box["width"] <= width) == (True, True), (width, box)
        assert box["y"] + box["height"] <= 900, (width, box)


@pytest.mark.parametrize(
    "address", ["/", "/tasks", "/tasks/1", "/tasks/2", "/batches", "/schedules", "/limits", "/log"]
)
def test_a_sheet_of_paper_shows_all_of_a_page(house: Service, visit: Come, address: str) -> None:
    page = visit(house).go(address)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER, "height": 900})
    assert overflowing(page) + cut_off(page) == []
    expect(page.locator("main :is(button, a.button, input, select)").filter(visible=True)).to_have_count(0)


@pytest.mark.parametrize(
    "address", [address for address in LOOKS if not address.startswith(("/login", "/tasks/confirm"))]
)
def test_the_past_of_a_page_passes_too(house: Service, visit: Come, address: str) -> None:
    with house.client() as tasks:
        head = [record.position for record in tasks.log()][-1]
    one = visit(house)
    page = one.go(f"{address}{'&' if '?' in address else '?'}as_of={head - 1}")
    expect(page.get_by_text("This is the past:")).to_be_visible()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert overflowing(page) == []
    assert violations(page) == []
    assert page.locator("main form[method=post]").count() == 0
    links = page.locator("main a").filter(has_not_text="Back to now")
    addresses = links.evaluate_all("(all) => all.map((one) => one.getAttribute('href'))")
    assert [link for link in addresses if link.startswith("/") and "as_of=" not in link] == []


def test_an_error_is_a_page_that_passes_too(house: Service, visit: Come) -> None:
    one = visit(house)
    one.expect("status of 40[04]")
    for address, text in (
        ("/tasks/999", "does not exist"),
        ("/?as_of=sometime", "not a position or a time"),
        ("/nowhere", "no page"),
    ):
        page = one.go(address)
        expect(page.get_by_role("main")).to_contain_text(text)
        assert violations(page) == []


def test_bars_and_keys_keep_their_colours_where_a_reader_forces_others(house: Service, visit: Come) -> None:
    page = visit(house).go("/")
    page.emulate_media(forced_colors="active")
    fills = page.evaluate(
        """() => ["completed", "failed"].map((kind) =>
            getComputedStyle(document.querySelector(`.key.is-${kind}`), "::before").backgroundColor)"""
    )
    assert fills[0] != fills[1]
    bars = page.locator("progress").evaluate_all("all => all.map((one) => getComputedStyle(one).forcedColorAdjust)")
    assert set(bars) == {"none"}


def test_a_time_reads_the_same_beside_a_reason_that_is_written_from_right_to_left(
    service: Service, visit: Come
) -> None:
    with service.client() as tasks:
        tasks.create_task("print", options={"title": "Card"}, held=True, reason="العميل ينتظر")
    page = visit(service).go("/tasks/1")
    turned = page.locator("time:not([data-relative])").evaluate_all(
        """all => all.map((one) => [[0, 4], [11, 13]].map(([from, to]) => {
            const range = document.createRange();
            range.setStart(one.firstChild, from);
            range.setEnd(one.firstChild, to);
            return range.getBoundingClientRect().left;
        })).filter(([year, hour]) => year > hour).length"""
    )
    assert page.get_by_role("region", name="Causes").locator("time").count() == 1
    assert turned == 0


def test_only_what_cannot_be_undone_is_framed_in_its_colour(house: Service, visit: Come) -> None:
    page = visit(house).go("/tasks/4")
    edges = page.locator(".confirm-form").evaluate_all(
        "all => all.map((one) => [one.previousElementSibling.className, getComputedStyle(one).borderColor])"
    )
    dangers = {colour for kind, colour in edges if "danger" in kind}
    others = {colour for kind, colour in edges if "danger" not in kind}
    assert others
    assert not dangers & others


def test_the_checker_finds_what_is_wrong(house: Service, visit: Come) -> None:
    page = visit(house).go("/limits")
    page.evaluate(
        "document.querySelector('main').append(document.createElement('img'), document.createElement('input'))"
    )
    assert {re.split(": | \\(", line.partition(" ")[2])[0] for line in violations(page)} >= {"image-alt", "label"}


@pytest.mark.parametrize("address", [address for address in LOOKS if address != "/login"])
def test_a_page_says_as_much_without_scripts(house: Service, visit: Come, address: str) -> None:
    with_scripts, without = visit(house).go(address), visit(house, script=False).go(address)
    for page in (with_scripts, without):
        expect(page.get_by_role("heading", level=1)).to_be_visible()

    def words(page: Page) -> list[str]:
        """Return the words without numbers and durations, which change while somebody looks."""
        text = page.get_by_role("main").inner_text()
        return re.sub(r"(?:[\d.,:]+(?:\s?(?:ms|s|min|m|h|d)\b)?\s?)+", "0 ", text).split()

    assert words(without) == words(with_scripts)
