"""HEAD: what GET would answer, without the body. A stream is not even begun."""

import asyncio
from contextlib import suppress
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the GET of the same address until its answer begins, and go no further."""
    begun = asyncio.Event()

    async def begin(message: Any) -> None:
        if message["type"] == "http.response.start" and not begun.is_set():
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            begun.set()

    asked: Any = {**scope, "method": "GET"}
    getting = asyncio.ensure_future(app(asked, receive, begin))
    waiting = asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait((getting, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        getting.cancel()
    with suppress(asyncio.CancelledError):
        await getting
