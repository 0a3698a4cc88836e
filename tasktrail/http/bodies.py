"""Bodies of requests: how much of them may be in memory at once, and how long the rest may take to arrive.

Small ones are bounded by the number of connections. A larger one needs room for all of it before any of it is read, so
that none waits half read for another; until there is room it waits in the kernel, at the client's cost.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar.types import Receive

from ..errors import Busy, RequestTimeout
from .decode import MAX_BODY

SMALL = 16 * 1024
"""Bytes of a body that needs no room."""
WAIT = 15.0
"""Seconds that a body may wait for room."""
STALL = 10.0
"""Seconds within which some more of a body has to arrive."""
PRESSED = 2.0
"""The same while others wait for room."""


class Bodies:
    """The room for bodies; lives in one event loop."""

    def __init__(self, room: int) -> None:
        """`room`: bytes."""
        self.free = room
        self.waiting = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def reading(self, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[Receive]:
        """While it lasts, a request may read its body through what this gives."""
        body = _Body(self, _announced(headers), receive)
        try:
            yield body.receive
        finally:
            if body.room:
                async with self._freed:
                    self.free += body.room
                    self._freed.notify_all()

    async def reserve(self, size: int) -> None:
        """Take room. Raises `Busy` when there is none in time."""
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT), self._freed:
                await self._freed.wait_for(lambda: self.free >= size)
                self.free -= size
        except TimeoutError:
            raise Busy(
                f"No room for {size:,} bytes within {WAIT:g} s: too many large requests are under way",
                remedy="Repeat the request later; send less at a time.",
            ) from None
        finally:
            self.waiting -= 1


class _Body:
    """The body of one request."""

    def __init__(self, bodies: Bodies, size: int, receive: Receive) -> None:
        self._bodies = bodies
        self._size = size
        self._receive = receive
        self._under_way = size > 0
        self.room = 0

    async def receive(self) -> Any:
        """The next message of the request. Raises `Busy` and `RequestTimeout`."""
        if not self._under_way:
            return await self._receive()
        if self._size > SMALL and not self.room:
            await self._bodies.reserve(self._size)
            self.room = self._size
        message: Any = await self._next()
        self._under_way = bool(message.get("more_body"))
        return message

    async def _next(self) -> Any:
        waited = 0.0
        while True:
            try:
                return await asyncio.wait_for(self._receive(), PRESSED)
            except TimeoutError:
                waited += PRESSED
                if waited >= STALL or (self.room and self._bodies.waiting):
                    raise RequestTimeout(f"Nothing more of the body has arrived for {waited:g} s") from None


def _announced(headers: dict[bytes, bytes]) -> int:
    """Bytes that may come; 0 for none, and for more than any route takes, which is refused unread."""
    if b"transfer-encoding" in headers:
        return MAX_BODY
    length = headers.get(b"content-length", b"")
    size = int(length) if length.isdigit() else 0
    return size if size <= MAX_BODY else 0
