"""Checks pages by the rules of axe: WCAG 2.2 A and AA, and good practice."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

_OPTIONS = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


def violations(page: "Page") -> list[str]:
    """Return the page's violations, a line for each rule and element."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - only where it is installed

    found: list[dict[str, Any]] = Axe().run(page, options=_OPTIONS).response["violations"]
    return [
        f"{page.url}: {rule['id']} ({rule['impact']}): {rule['help']}: {node['html'][:200]} {_why(node)}"
        for rule in found
        for node in rule["nodes"]
    ]


def _why(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])[:300]
