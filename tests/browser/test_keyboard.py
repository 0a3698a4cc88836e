"""Everything can be reached and done without a mouse, and the focus is visible."""

from collections.abc import Callable

import pytest
from browsing import Service, Visit
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.browser]
Come = Callable[..., Visit]
_FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return {
        name: one.getAttribute("aria-label") || one.innerText || one.name || one.tagName,
        shown: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
        inside: one !== document.body,
    };
}"""

_MOVES = """() => {
    const list = document.querySelector("main").appendChild(document.createElement("div"));
    const without = (numbers, one) => numbers.filter((other) => other !== one);
    const orders = (left) => [[], ...left.flatMap((one) => orders(without(left, one)).map((rest) => [one, ...rest]))];
    const row = (one) => `\\n<tr id="row-${one}"><td><button>Task ${one}</button></td></tr>`;
    const table = (rows) => `<table id="rows"><tbody>${rows.map(row).join("")}\\n</tbody></table>`;
    const part = (rows, noted) => `<header>Head</header>${noted ? "<p>A note</p>" : ""}${table(rows)}`;
    const wrong = [];
    for (const before of [[1, 2, 3, 4], [2, 4, 1, 3]]) {
        for (const after of orders([1, 2, 3, 4, 5])) {
            for (const focused of before.filter((one) => after.includes(one))) {
                for (const noted of [true, false]) {
                    const wanted = document.createElement("div");
                    list.innerHTML = part(before, !noted);
                    wanted.innerHTML = part(after, noted);
                    const button = list.querySelector(`#row-${focused} button`);
                    button.focus();
                    morphInside(list, wanted);
                    if (document.activeElement !== button) wrong.push(`focus on ${focused}: ${before} to ${after}`);
                    if (list.innerHTML !== wanted.innerHTML) wrong.push(`${before} to ${after}: ${list.innerText}`);
                }
            }
        }
    }
    list.remove();
    return wrong;
}"""
"""Replaces a part of a page by another, in every order of its rows. The focused element keeps the focus."""


_COVERED = """() => {
    const one = document.activeElement, head = document.querySelector(".top").getBoundingClientRect();
    if (!one.closest("main")) return null;
    return one.getBoundingClientRect().top < head.bottom ? one.outerHTML.slice(0, 150) : "";
}"""
"""What has the focus, if the head of the page covers some of it; null outside the content."""


def walk(page: Page, most: int = 400) -> list[str]:
    """Return the names of all that Tab reaches, in order. Each shows that it has the focus."""
    names: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(_FOCUSED)
        if not found["inside"]:
            return names
        assert found["shown"], f"one does not see the focus on {found['name']!r}"
        names.append(" ".join(found["name"].split()))
    raise AssertionError(f"there is no end: {names[-5:]}")


def reach(page: Page, name: str) -> None:
    """Press Tab until the element with that name has the focus."""
    for _ in range(400):
        page.keyboard.press("Tab")
        if page.evaluate(_FOCUSED)["name"].strip().startswith(name):
            return
    raise AssertionError(f"Tab does not reach {name!r}")


@pytest.mark.parametrize(
    "address", ["/", "/tasks", "/tasks/3", "/batches", "/submit", "/submit/print", "/schedules", "/limits"]
)
def test_all_of_a_page_is_reached_by_tab_and_shows_its_focus(house: Service, visit: Come, address: str) -> None:
    page = visit(house).go(address)
    names = walk(page)
    assert names[0] == "Skip to the content"
    links = [one.inner_text() for one in page.locator(":not(svg) > a[href]:visible").all()]
    assert [text for text in (" ".join(link.split()) for link in links) if text not in names] == []
    for button in page.get_by_role("button").all():
        if button.is_visible():
            assert (button.get_attribute("aria-label") or " ".join(button.inner_text().split())) in names


@pytest.mark.parametrize(("width", "height"), [(320, 256), (360, 780), (800, 360), (1024, 700)])
def test_the_head_of_a_page_covers_nothing_that_has_the_focus(
    house: Service, visit: Come, width: int, height: int
) -> None:
    page = visit(house).go("/submit/print")
    page.set_viewport_size({"width": width, "height": height})
    page.get_by_role("button", name="Submit").focus()
    seen = 0
    while (covered := page.evaluate(_COVERED)) is not None:
        assert covered == ""
        seen += 1
        page.keyboard.press("Shift+Tab")
    assert seen > 10


def test_what_has_the_focus_keeps_it_wherever_its_row_goes(house: Service, visit: Come) -> None:
    wrong = visit(house).go("/").evaluate(_MOVES)
    assert wrong == []


def test_the_skip_link_leads_to_the_content(house: Service, visit: Come) -> None:
    page = visit(house).go("/submit")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("main").get_by_role("link").first).to_be_focused()


def test_an_earlier_moment_is_chosen_and_left_with_keys_alone(house: Service, visit: Come) -> None:
    page = visit(house).go("/")
    reach(page, "As of now")
    page.keyboard.press("Enter")
    box = page.get_by_label("Show everything as it was")
    expect(box).to_be_visible()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This is the past:")).to_be_visible()
    reach(page, "Back to now")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This is the past:")).to_be_hidden()


def test_a_task_is_submitted_cancelled_and_retried_with_keys_alone(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        tasks.pause()
    page = visit(service).go("/submit/print")
    reach(page, "options.title")
    page.keyboard.type("A poster")
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("Task 1 pending")
    for action, done in (("Cancel", "cancelled"), ("Retry", "retrying")):
        reach(page, action)
        page.keyboard.press("Enter")
        reach(page, "reason")
        page.keyboard.type("because")
        page.keyboard.press("Enter")
        expect(heading).to_contain_text(f"Task 1 {done}")
    with service.client() as tasks:
        assert [record.reason for record in tasks.events(1)] == ["", "because", "because"]
