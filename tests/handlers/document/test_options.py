from typing import Any

import msgspec
import pytest

from tasktrail.handlers import Unusable
from tasktrail.handlers.document.page_list import choose_pages, most_pages
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("1", [1]),
        ("all", [1, 2, 3, 4, 5]),
        (" 2 - 3 , 5 ", [2, 3, 5]),
        ("4-", [4, 5]),
        ("3-100", [3, 4, 5]),
        ("5,1,5,1-2", [5, 1, 2]),
    ],
)
def test_pages_are_taken_in_the_order_written_each_once(text: str, chosen: list[int]) -> None:
    assert choose_pages(text, 5, 10) == chosen


def test_a_page_behind_the_last_is_refused_with_the_number_there_are() -> None:
    with pytest.raises(Unusable, match=r"no page 7: the document has 5"):
        choose_pages("1,7", 5, 10)


def test_more_pages_than_allowed_are_refused_and_not_left_out() -> None:
    assert len(choose_pages("all", 10, 10)) == 10
    with pytest.raises(Unusable, match="more than 10 of 11"):
        choose_pages("all", 11, 10)


def test_a_range_of_millions_in_a_document_of_millions_costs_nothing() -> None:
    with pytest.raises(Unusable, match="more than 500"):
        choose_pages("1-9999999", 9_999_999, 500)


@pytest.mark.parametrize(("text", "most"), [("1", 1), ("all", 500), ("2-4,9", 4), ("7-", 500), ("1-9999999", 500)])
def test_how_many_pages_can_be_meant_is_known_beforehand(text: str, most: int) -> None:
    assert most_pages(text, 500) == most


@pytest.mark.parametrize(
    "options",
    [
        *({"pages": text} for text in ("", "0", "3-1", "1;2", "-3", "1--2", "one", "1,", "99999999")),
        {"dpi": 100, "width": 10},
        {"dpi": 0},
        {"width": 0},
        {"height": 20_001},
        {"quality": 0},
        {"background": "white"},
        {"max_pages": 10_001},
        {"page_format": "gif"},
        {"office": "word"},
        {"password": "secret"},
    ],
)
def test_wrong_options_are_refused_when_the_command_arrives(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, DocumentPreviewOptions)
