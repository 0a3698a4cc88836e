"""The texts of msgspec that `intake/refusals.py` reads. A release with other texts fails here, and shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Outer(msgspec.Struct, forbid_unknown_fields=True, tag_field="command", tag="outer"):
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    numbers: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    keyed: dict[Annotated[str, msgspec.Meta(min_length=1)], int] = {}
    short: Annotated[str, msgspec.Meta(max_length=2)] = ""
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]$")] = "a"
    share: Annotated[float, msgspec.Meta(gt=0)] = 1
    word: Literal["yes", "no"] = "yes"
    flag: bool | None = None
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"inner": {}}, "Object missing required field `number` - at `$.inner`"),
        ({"inner": {"number": 1, "x": 1}}, "Object contains unknown field `x` - at `$.inner`"),
        ({"many": [{"number": "1"}]}, "Expected `int`, got `str` - at `$.many[0].number`"),
        ({"numbers": {"a": 0}}, "Expected `int` >= 1 - at `$.numbers[...]`"),
        ({"keyed": {"": 1}}, "Expected `str` of length >= 1 - at `key` in `$.keyed`"),
        ({"short": "long"}, "Expected `str` of length <= 2 - at `$.short`"),
        ({"name": "1"}, "Expected `str` matching regex '^[a-z]$' - at `$.name`"),
        ({"share": 0}, "Expected `float` > 0.0 - at `$.share`"),
        ({"word": "maybe"}, "Invalid enum value 'maybe' - at `$.word`"),
        ({"flag": 1.5}, "Expected `bool | null`, got `float` - at `$.flag`"),
        ({"many": {}}, "Expected `array`, got `object` - at `$.many`"),
        ({"at": "soon"}, "Invalid RFC3339 encoded datetime - at `$.at`"),
        ({"at": "2026-01-01T00:00:00"}, "Expected `datetime` with a timezone component - at `$.at`"),
        ({"command": "other"}, "Invalid value 'other' - at `$.command`"),
    ],
)
def test_msgspec_says_what_our_refusals_read(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"command": "outer", **fields}, Outer)
    assert str(caught.value) == text


def test_a_number_beyond_all_bounds_has_a_text_of_its_own() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b"1e999", type=float)
    assert str(caught.value) == "Number out of range"
