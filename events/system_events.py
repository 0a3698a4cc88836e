"""The second family of facts: what happened to the service itself. Same log, same chain, under task id 0.

A task's status never depends on them; only `Adjusted` overlays priority, time and hold of a waiting task.
"""

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec


class _SystemEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Frozen, defaults left out of the stored form."""


class ServiceStarted(_SystemEvent, frozen=True, kw_only=True):
    """A service took the log. Recorded before it accepts the first command."""

    version: str
    epoch: int
    pid: int
    host: str


class ServiceStopped(_SystemEvent, frozen=True, kw_only=True):
    """A service let go of the log in good order. Missing before the next start: it was killed."""


class Adjusted(_SystemEvent, frozen=True, kw_only=True):
    """A waiting task was changed: released from hold, freed from a dependency, or given another priority or time."""

    task_id: int
    held: bool | None = None
    priority: int | None = None
    scheduled_for: datetime | None = None
    ignored_dependency: int | None = None
    """The task waits no longer for this one, which has ended: the edge's policy is `ignore`."""


class WorkerExited(_SystemEvent, frozen=True, kw_only=True):
    """A worker process ended otherwise than by being asked to."""

    pid: int
    exit_code: int
    why: str


class DeliveryAttempted(_SystemEvent, frozen=True, kw_only=True):
    """The Notifier tried to deliver a notice. `notice_id` is the same over all tries and restarts."""

    notice_id: str
    task_id: int
    channel: str
    """email, webhook or callback."""
    target: str
    ok: bool
    final: bool = False
    """No further try will follow."""
    detail: str = ""
    next_at: datetime | None = None
    disabled: bool = False
    """The receiver said that it is gone for good: nothing more goes to `target` until somebody enables it."""
    rest_until: datetime | None = None
    """The receiver asked to be left alone so long; that holds for every notice to `target`."""


class RedeliveryRequested(_SystemEvent, frozen=True, kw_only=True):
    """Somebody wants a notice sent once more, under its old id. The retry schedule begins anew."""

    notice_id: str
    task_id: int
    channel: Literal["webhook", "callback", "email"]
    target: str
    told: int
    """Position of the event that the notice tells of."""


class EndpointEnabled(_SystemEvent, frozen=True, kw_only=True):
    """Somebody says that an endpoint is there again. What was not sent meanwhile is sent only when asked for."""

    target: str


SystemEvent: TypeAlias = (
    ServiceStarted
    | ServiceStopped
    | Adjusted
    | WorkerExited
    | DeliveryAttempted
    | RedeliveryRequested
    | EndpointEnabled
)

SYSTEM_TAGS: dict[type[SystemEvent], str] = {
    ServiceStarted: "service_started",
    ServiceStopped: "service_stopped",
    Adjusted: "adjusted",
    WorkerExited: "worker_exited",
    DeliveryAttempted: "delivery_attempted",
    RedeliveryRequested: "redelivery_requested",
    EndpointEnabled: "endpoint_enabled",
}
