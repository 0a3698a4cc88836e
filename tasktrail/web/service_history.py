"""What operators had ordered at a moment: limits, pauses and schedules, folded from the service's own records."""

from collections.abc import Iterator

import msgspec

from ..actors.core.limits import LimitChanges, Pauses
from ..actors.core.schedules import Schedules
from ..events import Recorded
from ..events.log.log_reader import LogReader
from ..events.system_events import LimitsChanged

_PAGE = 1000


class ServiceOrders(msgspec.Struct):
    """The folds up to one position."""

    limits: LimitChanges
    pauses: Pauses
    schedules: Schedules


def orders_at(log: LogReader, position: int) -> ServiceOrders:
    """What the records up to a position come to. How often schedules ran is not among them."""
    orders = ServiceOrders(LimitChanges(), Pauses(), Schedules())
    for record in _records(log, position):
        if isinstance(record.event, LimitsChanged):
            orders.limits.apply(record.event, record.position)
        orders.pauses.apply(record, record.position)
        orders.schedules.apply(record, record.position)
    return orders


def _records(log: LogReader, position: int) -> Iterator[Recorded]:
    last, version = log.version_at(0, position), 0
    while version < last:
        for record in log.read_task_after(0, version, min(_PAGE, last - version)):
            version = record.version
            yield record
