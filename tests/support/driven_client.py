"""An `AsyncClient` for tests that block: the suite of `Client` runs on it, each call in the event loop of a thread."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Self, cast

from tasktrail import AsyncClient, Client


class Driven:
    """Has the methods of `Client`. Closing ends the loop, in which nothing may be left over."""

    def __init__(self, connect: Callable[[], AsyncClient]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="driven", daemon=True)
        self._thread.start()
        try:
            self.client: AsyncClient = self.run(_made(connect))
        except BaseException:
            self._end()
            raise

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = getattr(self.client, name)(*args, **kwargs)
            return self._stream(answer) if isinstance(answer, AsyncGenerator) else self.run(answer)

        return call

    def _stream(self, stream: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
        try:
            while True:
                try:
                    one = self.run(_next(stream))
                except StopAsyncIteration:
                    return
                yield one
        finally:
            self.run(stream.aclose())

    def close(self) -> None:
        self.run(self.client.close())
        left = self.run(_left_over())
        self._end()
        assert left == set()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _made(connect: Callable[[], AsyncClient]) -> AsyncClient:
    return connect()


async def _next(stream: AsyncGenerator[Any, None]) -> Any:
    return await anext(stream)


async def _left_over() -> set[asyncio.Task[Any]]:
    gc.collect()  # the loop closes generators that are no longer referenced, in tasks of their own
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if not left:
        return set()
    _done, waiting = await asyncio.wait(left, timeout=10)  # cancelled tasks end, and so does a generator's close
    return waiting


def driven(connect: Callable[[], AsyncClient]) -> Client:
    """The same, as the type checker should see it."""
    return cast("Client", Driven(connect))
