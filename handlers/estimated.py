"""What a type estimates, as it can be recorded. One record that cannot be read again would be the end of a log.

The numbers come from code of others, and a Struct does not look at them when it is made: `Estimate(memory=1.5 * size)`.
"""

from math import ceil, inf, nan
from numbers import Real

from ..events.task_events import Estimated
from ..events.values import MAX_INTEGER
from .contract import Estimate
from .errors import BadAnswer

_LONGEST = 10 * 365 * 86400.0
"""Seconds that an estimate may say: more than any task takes."""
_REMEDY = "Repair the handler: it has to answer an Estimate of numbers."


def as_recorded(found: object, what: str) -> Estimated:
    """The estimate without its basis. A part of a byte is a whole one, and more than a record holds is cut.

    What is less than nothing, or a time that is no number, counts as unknown. Raises `BadAnswer`, whose text begins
    with `what`, for what is no estimate.
    """
    if not isinstance(found, Estimate):
        raise BadAnswer(f"{what} is no Estimate, but {found!r:.200}", remedy=_REMEDY)
    return Estimated(
        memory=_bytes(found.memory, f"{what}: memory"),
        temp=_bytes(found.temp, f"{what}: temp"),
        seconds=_seconds(found.seconds, f"{what}: seconds"),
    )


def _bytes(value: object, what: str) -> int:
    number = _number(value)
    if number != number:  # noqa: PLR0124 - NaN; `isnan` takes no number of any size
        raise BadAnswer(f"{what} has to be a number of bytes, not {value!r:.200}", remedy=_REMEDY)
    return ceil(min(max(number, 0), MAX_INTEGER))


def _seconds(value: object, what: str) -> float:
    if not isinstance(value, Real):
        raise BadAnswer(f"{what} has to be a number, not {value!r:.200}", remedy=_REMEDY)
    number = _number(value)
    return float(min(number, _LONGEST)) if number > 0 else 0.0  # NaN is not, either


def _number(value: object) -> float:
    """A number of Python for one of any kind, such as numpy's; NaN for what is none."""
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, Real) else nan
    except OverflowError:  # a fraction
        return inf
