"""The number of pixels of a page, and the layout of pages on a contact sheet. Lengths of pages are in points."""

import math
from pathlib import Path
from typing import NamedTuple

from ...media.formats import MAX_SIDES, format_of
from ..pages import POINTS_AN_INCH
from .options import DocumentPreviewOptions, layout_of

MAX_PAGE_PIXELS = 25_000_000
MAX_PAGE_SIDE = 20_000
"""A page that would get more pixels is drawn smaller: the document states its own size, which may be absurd."""
PAGE_BOX = 1024
TILE_BOX = 320
"""The boxes if neither `dpi` nor a box is given: for a single page, and for a page on a contact sheet."""
_JUST_BELOW = 1 - 1e-9
"""Sides are rounded up to whole pixels, and a rounding error must not add one."""


class Scale(NamedTuple):
    """The scale at which a page is drawn."""

    factor: float
    """Pixels per point."""
    reduced: bool
    """Whether the limits made the page smaller than requested."""


def choose_scale(
    width: float,
    height: float,
    options: DocumentPreviewOptions,
    box: int,
    most: float = math.inf,
    side: int = MAX_PAGE_SIDE,
) -> Scale:
    """The scale for a page of this size in points: at most `most`, with no side of more than `side` pixels."""
    width, height = max(width, 1e-3), max(height, 1e-3)
    wanted = min(most, _wanted(width, height, options, box))
    allowed = min(side / width, side / height, math.sqrt(MAX_PAGE_PIXELS / (width * height)))
    if width * allowed < 1 or height * allowed < 1:  # an extremely narrow page: its short side gets one pixel anyway
        allowed = min(side / width, side / height)
    return Scale(min(wanted, allowed) * _JUST_BELOW, reduced=wanted > allowed)


def _wanted(width: float, height: float, options: DocumentPreviewOptions, box: int) -> float:
    if options.dpi is not None:
        return options.dpi / POINTS_AN_INCH
    across, down = options.width, options.height
    if across is None and down is None:
        across = down = box
    return min((across or math.inf) / width, (down or math.inf) / height)


def default_box(layout: str, pages: int) -> int:
    """The box for pages of this output, if none is given."""
    return TILE_BOX if layout == "picture" and pages > 1 else PAGE_BOX


def most_side(output_file: Path, options: DocumentPreviewOptions) -> int:
    """The highest number of pixels that a side of a page may have in this output."""
    match layout_of(output_file):
        case "picture":
            kind = format_of(output_file)
        case "zip" | "folder":
            kind = options.page_format.upper()
        case _:
            return MAX_PAGE_SIDE
    return min(MAX_PAGE_SIDE, MAX_SIDES.get(kind, MAX_PAGE_SIDE))


def sheet_grid(pages: int, cell: tuple[float, float], columns: int | None) -> tuple[int, int]:
    """Columns and rows of a contact sheet, which is about square unless `columns` is given."""
    across = min(columns or math.ceil(math.sqrt(pages * cell[1] / max(cell[0], 1e-3))), pages)
    return across, math.ceil(pages / across)
