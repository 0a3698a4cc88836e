"""Turns the estimate of a type into one that can be recorded. A record that cannot be read again would end a log.

The numbers come from foreign code, and a Struct does not check them when it is made: `Estimate(memory=1.5 * size)`.
"""

from math import ceil, inf, nan
from numbers import Real

from ..events.task_events import Estimated
from ..events.values import MAX_INTEGER
from .contract import Estimate
from .errors import BadAnswer

_LONGEST = 10 * 365 * 86400.0
"""The longest run time that is recorded, in seconds: no task takes that long."""
_REMEDY = "Repair the handler: it has to answer an Estimate of numbers."


def as_recorded(found: object, what: str) -> Estimated:
    """The estimate without its basis. Bytes are rounded up, and cut to the largest number that a record can hold.

    A negative number, or a time that is NaN, counts as unknown. Raises `BadAnswer`, whose text begins with `what`, for
    anything that is not an estimate.
    """
    if not isinstance(found, Estimate):
        raise BadAnswer(f"{what} has to be an Estimate, not {found!r:.200}", remedy=_REMEDY)
    return Estimated(
        memory=_bytes(found.memory, f"{what}: memory"),
        temp=_bytes(found.temp, f"{what}: temp"),
        seconds=_seconds(found.seconds, f"{what}: seconds"),
    )


def _bytes(value: object, what: str) -> int:
    number = _number(value)
    if number != number:  # noqa: PLR0124 - NaN; `isnan` refuses huge integers
        raise BadAnswer(f"{what} has to be a number of bytes, not {value!r:.200}", remedy=_REMEDY)
    return ceil(min(max(number, 0), MAX_INTEGER))


def _seconds(value: object, what: str) -> float:
    if not isinstance(value, Real):
        raise BadAnswer(f"{what} has to be a number, not {value!r:.200}", remedy=_REMEDY)
    number = _number(value)
    return float(min(number, _LONGEST)) if number > 0 else 0.0  # NaN is not > 0, either


def _number(value: object) -> float:
    """A Python number for any real number, such as numpy's; NaN for anything else."""
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, Real) else nan
    except OverflowError:  # a huge fraction
        return inf
