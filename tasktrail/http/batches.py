"""Routes of batches: make one of many files, and see their progress."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from ..api.protocol import BATCHES_SHOWN
from ..api.reader import batch_named
from ..api.reader_process import LIST_WITHIN, BatchesAnswer, BatchesQuestion
from ..batches.files import HungUp, Patience
from ..batches.request import MadeBatch
from ..errors import BadRequest
from ..projections import Batch
from ..projections.queries.filters import MAX_LIMIT
from .access import Access
from .backend import Backend
from .commands import SLACK, Json, json_body, request_trace
from .identity import Identity
from .long_poll import hung_up
from .permissions import SEE, SUBMIT
from .requests import MAX_BODY, AsOfQuery, MinPositionQuery, decode_batch, moment_text, point

SEARCH_WITHIN = 5.0
"""Seconds in which the files of a batch have to be found; unbounded for the owner of the data folder."""

BatchPath = Annotated[str, PathParameter(description="The batch's name")]
BatchLimitQuery = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="At most so many")]


@post("/v1/batches", needs=SUBMIT, status_code=202, request_max_body_size=MAX_BODY + SLACK)
async def create_batch(
    request: Json, backend: NamedDependency[Backend], access: NamedDependency[Access], who: NamedDependency[Identity]
) -> MadeBatch:
    """Create a task for each of many files, all together. The paths are on the service's machine.

    If the client hangs up before it is known which tasks there would be, nothing is created.
    """
    body, trace = await json_body(request), request_trace(request)
    leaving = asyncio.ensure_future(hung_up(request.receive))
    commands = backend.commands_of(who, access, Patience(None if who.owner else SEARCH_WITHIN, leaving.done))
    try:
        return await backend.change(who, lambda: commands.make_batch(decode_batch(body, trace)))
    except HungUp:
        raise BadRequest("The client hung up before the files of the batch were known") from None
    finally:
        leaving.cancel()


@get("/v1/batches", needs=SEE)
async def get_batches(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    limit: BatchLimitQuery = BATCHES_SHOWN,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> Sequence[Batch]:
    """The newest batches and their progress, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        await backend.reach(min_position, "min_position")
        asked = BatchesQuestion(moment_text(moment), most=limit, user_id=who.user_id)
        return (await backend.past(asked, BatchesAnswer, LIST_WITHIN, who)).batches
    return await backend.read(min_position, backend.seen_by(who).batches, limit)


@get("/v1/batches/{batch_name:str}", needs=SEE)
async def get_batch(
    backend: NamedDependency[Backend],
    who: NamedDependency[Identity],
    batch_name: BatchPath,
    as_of: AsOfQuery = None,
    min_position: MinPositionQuery = 0,
) -> Batch:
    """One batch and its progress, now or as of an earlier moment."""
    if (moment := point(as_of)) is not None:
        await backend.reach(min_position, "min_position")
        asked = BatchesQuestion(moment_text(moment), batch_name, user_id=who.user_id)
        found = (await backend.past(asked, BatchesAnswer, LIST_WITHIN, who)).batches
        return batch_named(batch_name, found[0] if found else None, then=True)
    return await backend.read(min_position, backend.seen_by(who).batch, batch_name)


BATCH_ROUTES: Sequence[HTTPRouteHandler] = (create_batch, get_batches, get_batch)
