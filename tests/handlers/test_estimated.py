"""Whatever a type estimates, the record of it can be read again."""

from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import msgspec
import numpy as np
import pytest

from tasktrail.events.estimates import Correction, recorded
from tasktrail.events.task_events import Created, Estimated
from tasktrail.events.values import MAX_INTEGER
from tasktrail.handlers.contract import Estimate
from tasktrail.handlers.errors import BadAnswer
from tasktrail.handlers.estimated import as_recorded
from tasktrail.handlers.process.attempt import _checked_estimate

NUMBERS: list[tuple[Any, int]] = [
    *[(0, 0), (7, 7), (100.5, 101), (1.3 * 1_000_001, 1_300_002), (True, 1), (-5, 0), (-0.5, 0), (-inf, 0)],
    *[(np.int64(7), 7), (np.float64(6.5), 7), (np.float32(6.5), 7), (np.uint8(255), 255), (Fraction(13, 2), 7)],
    *[
        (inf, MAX_INTEGER),
        (10**400, MAX_INTEGER),
        (2.0**63, MAX_INTEGER),
        (Fraction(10**400), MAX_INTEGER),
        (MAX_INTEGER, MAX_INTEGER),
    ],
]
NONE: list[Any] = [None, "100", b"1", nan, np.float64("nan"), [1], {}, Decimal(1), 1j]


@pytest.mark.parametrize(("given", "kept"), NUMBERS)
@pytest.mark.parametrize("factor", [None, 0.5, 1.0, 1.7])
def test_numbers_of_any_kind_are_recorded_as_whole_bytes(given: Any, kept: int, factor: float | None) -> None:
    found = as_recorded(Estimate(memory=given, temp=given), "It")
    assert (found.memory, found.temp) == (kept, kept)
    correction = None if factor is None else Correction(factor, factor, factor)
    spec = Created(type="t", **recorded(found, correction))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=Created) == spec
    assert msgspec.json.decode(msgspec.json.encode(found), type=Estimated) == found


@pytest.mark.parametrize("given", NONE)
@pytest.mark.parametrize("field", ["memory", "temp"])
def test_what_is_no_number_of_bytes_is_refused_by_its_field(field: str, given: Any) -> None:
    with pytest.raises(BadAnswer, match=f"It: {field} has to be a number of bytes") as refused:
        as_recorded(Estimate(**{field: given}), "It")
    assert "Estimate" in refused.value.advice


@pytest.mark.parametrize(
    ("given", "kept"), [(2, 2.0), (np.float32(0.5), 0.5), (nan, 0.0), (-1, 0.0), (inf, 10 * 365 * 86400.0)]
)
def test_a_time_that_is_no_use_is_unknown(given: Any, kept: float) -> None:
    found = as_recorded(Estimate(seconds=given), "It")
    assert (type(found.seconds), found.seconds) == (float, kept)


@pytest.mark.parametrize("given", ["1", None, [1.0]])
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(BadAnswer, match="It: seconds has to be a number"):
        as_recorded(Estimate(seconds=given), "It")


@pytest.mark.parametrize("given", [None, 5, {"memory": 5}, Estimated()])
def test_what_is_no_estimate_is_refused(given: Any) -> None:
    with pytest.raises(BadAnswer, match="It has to be an Estimate"):
        as_recorded(given, "It")


@pytest.mark.parametrize(
    "given", [None, {"memory": "x"}, {"memory": -1}, {"seconds": inf}, {"basis": "x"}, {"basis": {2}}]
)
def test_an_odd_answer_of_a_probe_fails_the_attempt_and_not_the_worker(given: dict[str, Any] | None) -> None:
    odd: dict[str, Any] = {"memory": np.int64(7), "seconds": 1}
    with pytest.raises(BadAnswer):
        _checked_estimate(None if given is None else Estimate(**given))
    assert _checked_estimate(Estimate(**odd)) == Estimated(memory=7, seconds=1.0)
