"""Routes about the service: numbers, types, checks, and whether it is there."""

from collections.abc import Sequence

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from ..api.apart import VerifyQuestion
from ..api.protocol import TypeInfo
from ..events.errors import NotReady
from ..projections import Stats, Verification
from .desk import Desk
from .parameters import MinPosition

_UNAVAILABLE = 503


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class Readiness(msgspec.Struct, frozen=True):
    """Commands are accepted; the log ends at `position`."""

    ready: bool
    position: int
    degraded: list[str] = []
    """What does not stand against commands, and is not as it should be: views that cannot be written."""


@get("/v1/stats")
async def get_stats(desk: NamedDependency[Desk], min_position: MinPosition = 0) -> Stats:
    """Numbers over all tasks."""
    return await desk.read(min_position, desk.service.stats)


@get("/v1/types")
async def get_types(desk: NamedDependency[Desk]) -> list[TypeInfo]:
    """The task types there are handlers for, with the JSON schema of their options."""
    return await desk.ask(desk.service.types)


@get("/v1/verify")
async def verify(desk: NamedDependency[Desk]) -> Verification:
    """Check the chain, the rules and the views. Reads the whole log, so only one check runs at a time."""
    if not desk.verifying.acquire(blocking=False):
        raise NotReady("Another check is running", remedy="Wait until it is done.")
    try:
        await desk.read(0, desk.service.source.settle)
        return msgspec.json.decode(await desk.apart(VerifyQuestion()), type=Verification)
    finally:
        desk.verifying.release()


@get("/healthz")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health()


@get("/readyz")
async def readyz(desk: NamedDependency[Desk]) -> Readiness:
    """Whether commands are accepted; if not, 503 and the reason."""
    obstacle = desk.service.obstacle
    if obstacle is not None:
        raise obstacle if obstacle.status == _UNAVAILABLE else NotReady(obstacle.message, remedy=obstacle.advice)
    return Readiness(ready=True, position=desk.service.watermark.position, degraded=desk.service.degraded)


ROUTES: Sequence[HTTPRouteHandler] = (get_stats, get_types, verify, healthz, readyz)
