"""`Client` and `AsyncClient`: the methods of `TaskService`, answered by a service that runs in another process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from ..events import Task, TasktrailError
from ..events.state import FINISHED
from .connection import REPLY_WITHIN
from .either_way import Awaited, Blocking
from .remote import LOOK_AGAIN, Remote
from .wire import AwaitedWire, BlockingWire

_ONE_WATCH = 60.0
"""Seconds after which the service is asked about a task although the shared stream has reported no end."""


class Client(Remote, Blocking):
    """The commands and questions, over HTTP to a running service. May be used from many threads.

    A command whose answer is lost is sent again under the same id, so it still has one effect.

    ```python
    with Client.connect("data") as tasks:
        task_id = tasks.create_task(type="image_thumbnail", input_file="in.jpg", output_file="out.jpg")
        print(tasks.wait(task_id, timeout=60).status)
    ```
    """

    _wire = BlockingWire

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Remote, Awaited):
    """The methods of `Client` as coroutines, for a program with an event loop: they never block it.

    May be used from many tasks of the loop. A call that is cancelled closes its connection. All calls that wait for
    tasks share one stream.

    ```python
    async with AsyncClient.connect("data") as tasks:
        task_id = await tasks.create_task(type="image_thumbnail", input_file="in.jpg", output_file="out.jpg")
        print((await tasks.wait(task_id, timeout=60)).status)
    ```
    """

    _wire = AwaitedWire

    def __init__(
        self, url: str, *, token: str = "", socket: Path | None = None, answer_within: float = REPLY_WITHIN
    ) -> None:
        """A client of the service at `url`, or behind a Unix socket. The arguments are those of `Client`."""
        super().__init__(url, token=token, socket=socket, answer_within=answer_within)
        self._watch = _Watch(self._ended)
        self._polling = False
        """Whether a request waits for a task."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _close(self) -> None:
        await super()._close()
        await self._watch.end()

    async def _ending(self, task_id: int, within: float) -> Task:
        """Wait for a task: the first caller by a request, all others by one shared stream of ends."""
        if not self._polling:
            self._polling = True
            try:
                return await super()._ending(task_id, within)
            finally:
                self._polling = False
        task = await self._task(task_id, again=False)
        if within and task.status not in FINISHED:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(within, _ONE_WATCH)), self._watch.expecting(task_id) as ended:
                    task = await self._task(task_id, again=False)
                    if task.status in FINISHED:
                        return task
                    await ended.wait()
            if self._watch.failed:
                await asyncio.sleep(min(within, LOOK_AGAIN))
            task = await self._task(task_id, again=False)
        return task

    async def _ended(self) -> AsyncGenerator[int, None]:
        """Yield 0 once no end can be missed any more, and then the id of each task that ends."""
        position = await self._position()
        yield 0
        async for record in self._followed(position, FINISHED):
            if record.ends_life:
                yield record.task_id


class _Watch:
    """One stream that all waiting callers share. It is open only while a caller waits."""

    def __init__(self, ended: Callable[[], AsyncGenerator[int, None]]) -> None:
        self._ended = ended
        self._waiting: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        self._begun = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        """Cancelled streams that have not given their connection back yet."""
        self.failed = False
        """Whether the latest stream has failed."""

    @asynccontextmanager
    async def expecting(self, task_id: int) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set when the task or the stream ends. The caller then looks which of them it was."""
        event = asyncio.Event()
        self._waiting[task_id].add(event)
        if self._stream() is None:
            self._begun = asyncio.Event()
            self._watching = asyncio.create_task(self._run(self._begun))
        try:
            await self._begun.wait()
            yield event
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]
            if not self._waiting:
                self.close()

    async def _run(self, begun: asyncio.Event) -> None:
        try:
            async for task_id in self._ended():
                self.failed = False
                begun.set()
                for event in self._waiting.get(task_id, ()):
                    event.set()
        except TasktrailError:  # the waiting callers ask the service, and get its error
            self.failed = True
        finally:
            begun.set()
            for events in self._waiting.values():
                for event in events:
                    event.set()

    def _stream(self) -> asyncio.Task[None] | None:
        """Return the loop's task that reads the stream. None without one, or if its loop has ended."""
        reading = self._watching
        if reading is None or reading.done() or reading.get_loop() is not asyncio.get_running_loop():
            return None
        return reading

    def close(self) -> None:
        """Cancel the stream."""
        reading, self._watching = self._stream(), None
        if reading is not None:
            self._ending.add(reading)
            reading.add_done_callback(self._ending.discard)
            reading.cancel()

    async def end(self) -> None:
        """End the stream, and wait until every connection is given back."""
        self.close()
        loop = asyncio.get_running_loop()
        if ending := [reading for reading in self._ending if reading.get_loop() is loop]:
            await asyncio.wait(ending)
