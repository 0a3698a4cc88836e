"""Handlers written with `async def`: run to their end in an event loop of their own, and cancelled to stop them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .contract import Stopped

LOOK_EVERY = 0.05
"""Seconds between two looks at whether somebody wants it to stop."""


def run_coroutine(coroutine: Coroutine[Any, Any, Any], stop_wanted: Callable[[], bool]) -> Any:
    """What the coroutine answers.

    Once somebody wants it to stop it is cancelled, one time: `asyncio.CancelledError` is raised where it awaits. It may
    tidy up, save a checkpoint, and even go on to an answer. If the error leaves it, the answer is `Stopped`.
    Raises what it raises.
    """
    return asyncio.run(_watched(coroutine, stop_wanted))


async def _watched(coroutine: Coroutine[Any, Any, Any], stop_wanted: Callable[[], bool]) -> Any:
    work = asyncio.ensure_future(coroutine)
    watch = asyncio.ensure_future(_cancel(work, stop_wanted))
    try:
        return await work
    except asyncio.CancelledError:
        if watch.done():
            return Stopped()
        raise
    finally:
        watch.cancel()


async def _cancel(work: "asyncio.Future[Any]", stop_wanted: Callable[[], bool]) -> None:
    while not stop_wanted():  # noqa: ASYNC110 - the wish comes from another process
        await asyncio.sleep(LOOK_EVERY)
    work.cancel()
