"""Whatever a crash leaves, the next attempt writes the file of an undisturbed run, and draws no complete page again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail.handlers import Finished, Stopped, pieces
from tasktrail.handlers.document.pdf import PdfPages
from tasktrail.testing import SimulatedCrash

Document = Callable[..., Path]
Prepare = Callable[..., Any]
Draw = Callable[[Any], Any]

PAGES = 8
OUTPUTS = [
    ("out.zip", {"page_format": "png"}),
    ("out.zip", {"page_format": "jpeg"}),
    ("out.tiff", {}),
    ("out.webp", {}),
    ("out", {"page_name": "{stem} {page}"}),
]


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Save a checkpoint for each page, and return a list of the pages that are drawn."""
    numbers: list[int] = []
    real = PdfPages.draw

    def draw(self: PdfPages, number: int, factor: float, background: str) -> Any:
        numbers.append(number)
        return real(self, number, factor, background)

    monkeypatch.setattr(pieces, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(PdfPages, "draw", draw)
    return numbers


def content(output: Path) -> Any:
    """Return its bytes; of a folder, those of each file."""
    if output.is_dir():
        return {path.name: path.read_bytes() for path in output.iterdir()}
    return output.read_bytes()


def crashed(draw: Draw, context: Any) -> Any:
    with pytest.raises(SimulatedCrash):
        draw(context)
    return context


@pytest.mark.parametrize(("output", "options"), OUTPUTS)
@pytest.mark.parametrize("after", range(1, PAGES + 1))
def test_resuming_from_any_checkpoint_gives_the_same_bytes(
    output: str, options: dict[str, Any], after: int, document: Document, prepare: Prepare, draw: Draw, drawn: list[int]
) -> None:
    source = document(PAGES)
    whole = prepare(source, f"whole-{output}", pages="all", width=60, **options)
    assert isinstance(draw(whole), Finished)
    context = crashed(draw, prepare(source, output, pages="all", width=60, crash_after=after, **options))
    drawn.clear()
    assert isinstance(draw(context.resumed()), Finished)
    assert content(context.output_file) == content(whole.output_file)
    assert drawn == list(range(after + 1, PAGES + 1))


def test_a_resume_says_where_it_goes_on(document: Document, prepare: Prepare, draw: Draw) -> None:
    context = crashed(draw, prepare(document(PAGES), "out.zip", pages="all", width=60, crash_after=5)).resumed()
    draw(context)
    assert context.reports[0] == (67.5, "page 6 of 8")


@pytest.mark.parametrize("harm", ["removed", "cut", "changed", "empty"])
def test_a_damaged_page_is_drawn_again_and_no_other(
    harm: str, document: Document, prepare: Prepare, draw: Draw, drawn: list[int]
) -> None:
    source = document(PAGES)
    whole = prepare(source, "whole.zip", pages="all", width=60)
    draw(whole)
    context = crashed(draw, prepare(source, "out.zip", pages="all", width=60, crash_after=6))
    victim = sorted(context.work_dir.glob("page-*.piece"))[2]
    content = victim.read_bytes()
    match harm:
        case "removed":
            victim.unlink()
        case "cut":
            victim.write_bytes(content[:-3])
        case "changed":
            victim.write_bytes(content[:-20] + bytes(20))
        case _:
            victim.write_bytes(b"")
    drawn.clear()
    draw(context.resumed())
    assert drawn == [3, 7, 8]
    assert context.output_file.read_bytes() == whole.output_file.read_bytes()


def test_another_input_or_other_options_use_nothing_of_the_old(
    document: Document, prepare: Prepare, draw: Draw, drawn: list[int]
) -> None:
    context = crashed(draw, prepare(document(PAGES), "out.zip", pages="all", width=60, crash_after=6))
    document(PAGES + 1)
    drawn.clear()
    draw(context.resumed())
    assert drawn == list(range(1, PAGES + 2))


def test_a_stop_between_pages_loses_none(document: Document, prepare: Prepare, draw: Draw, drawn: list[int]) -> None:
    context = prepare(document(PAGES), "out.zip", pages="all", width=60, stop_after=4)
    assert isinstance(draw(context), Stopped)
    drawn.clear()
    assert isinstance(draw(context.resumed()), Finished)
    assert drawn == [5, 6, 7, 8]


def test_a_crash_while_putting_together_draws_nothing_again(
    document: Document, prepare: Prepare, draw: Draw, drawn: list[int]
) -> None:
    context = prepare(document(PAGES), "out.zip", pages="all", width=60, stop_after=PAGES + 3)
    assert isinstance(draw(context), Stopped)
    drawn.clear()
    assert isinstance(draw(context.resumed()), Finished)
    assert drawn == []


def test_finishing_twice_gives_the_same_file(document: Document, prepare: Prepare, draw: Draw) -> None:
    context = prepare(document(3), "out.zip", pages="all", width=60)
    draw(context)
    first = context.output_file.read_bytes()
    draw(context.resumed())
    assert context.output_file.read_bytes() == first
