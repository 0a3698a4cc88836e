"""Streams the changing parts of pages as server-sent events.

All readers of the same content share a `LiveView`: it is rendered once, and each changed part is encoded once. It is
rendered again when the log has grown, at most about once a second, and less often the more views there are, so that
views cost the service a bounded share of a processor. Nothing is queued for a slow reader: when it is ready again, it
gets the newest state of the parts that it has not seen.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from contextlib import suppress

import msgspec

from ..actors.logger import get_logger
from ..errors import Busy
from ..http.backend import Backend
from ..http.connections import GuardedConnection
from ..http.streams import SILENCE, SLICE

PAUSE = 0.8
"""The least seconds between two renderings of a view."""
_IDLE = 5.0
"""Seconds after which a view is rendered again although the log has not grown: ages and the machine's load change."""
REST = 2.0
"""The pause after a rendering, as a multiple of its time: views get a third of a processor."""
MOST_VIEWS = 256
"""The most different views at once."""
_RETRY = b"retry: 1000\n\n"
_ALIVE = b": still here\n\n"

Render = Callable[[], dict[str, str]]
"""Part → HTML. Called in a thread."""

logger = get_logger("tasktrail.web")


class _Part(msgspec.Struct, frozen=True):
    """The newest state of a part, as it is sent."""

    turn: int
    html: str
    frame: bytes


class LiveView:
    """Content that is followed, and the number of its readers."""

    def __init__(self, render: Render, task_id: int | None) -> None:
        self.render = render
        self.task_id = task_id
        self.parts: dict[str, _Part] = {}
        self.turn = 0
        self.position = -1
        """A position that the log had at least reached when the parts were rendered."""
        self.awaited = 0
        """The position that the last reader to enter waits for."""
        self.readers = 0
        self.stale = asyncio.Event()
        self.changed = asyncio.Event()
        self.worker: asyncio.Task[None] | None = None

    def take(self, rendered: dict[str, str], position: int) -> None:
        """Keep the parts that have changed, and wake all readers."""
        awaited = self.position < self.awaited <= position
        self.position = position
        differing = {name: html for name, html in rendered.items() if html != self._html(name)}
        if differing:
            self.turn += 1
            for name, html in differing.items():
                data = msgspec.json.encode({"id": name, "html": html})
                self.parts[name] = _Part(self.turn, html, b"event: part\ndata: %s\n\n" % data)
        if differing or awaited:
            self.wake()

    def _html(self, name: str) -> str | None:
        part = self.parts.get(name)
        return part.html if part else None

    def wake(self) -> None:
        """Wake all readers."""
        self.changed.set()
        self.changed = asyncio.Event()


class Hub:
    """All views with readers. Belongs to the event loop."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._views: dict[Hashable, LiveView] = {}
        self._turn = asyncio.Lock()
        """Held while a view is rendered: one at a time."""
        self._listener: asyncio.Task[None] | None = None

    @property
    def views(self) -> int:
        """The number of different views."""
        return len(self._views)

    def refuse_too_many(self, key: Hashable, connection: GuardedConnection) -> None:
        """Raise `Busy` if there is no place for another reader, or for another view."""
        connection.room.refuse_stream(connection.who)
        if key not in self._views and self.views >= MOST_VIEWS:
            raise Busy(f"{MOST_VIEWS} different views are followed, which is the most")

    async def follow(
        self, key: Hashable, render: Render, connection: GuardedConnection, task_id: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the parts of a view from now on, first all of them, none older than the reader's page.

        Args:
            key: equal for equal content.
            render: makes the parts.
            connection: of the reader; it counts as a stream there.
            task_id: render again only when something is recorded about this task, or by the service.
        """
        with connection.streaming():
            position = self._backend.service.watermark.position
            view = self._enter(key, render, task_id, position)
            try:
                yield _RETRY
                async for frame in self._frames(view, position):
                    with self._backend.held.holding(len(frame), connection):
                        for start in range(0, len(frame), SLICE):
                            yield frame[start : start + SLICE]
            finally:
                self._leave(key, view)

    async def _frames(self, view: LiveView, position: int) -> AsyncIterator[bytes]:
        seen = 0
        while not self._backend.feed.closed:
            changed, unseen = view.changed, list[str]()
            if view.position >= position:
                unseen = [name for name, part in view.parts.items() if part.turn > seen]
                seen = view.turn
            for name in unseen:
                yield view.parts[name].frame
            if not unseen:
                try:
                    await asyncio.wait_for(changed.wait(), SILENCE)
                except TimeoutError:
                    yield _ALIVE

    def _enter(self, key: Hashable, render: Render, task_id: int | None, position: int) -> LiveView:
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = LiveView(render, task_id)
            view.worker = asyncio.create_task(self._keep(view))
        elif view.position < position:
            view.stale.set()
        view.awaited = position
        view.readers += 1
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        return view

    def _leave(self, key: Hashable, view: LiveView) -> None:
        view.readers -= 1
        if view.readers:
            return
        del self._views[key]
        if view.worker is not None:
            view.worker.cancel()
        if not self._views and self._listener is not None:
            self._listener.cancel()
            self._listener = None

    async def _keep(self, view: LiveView) -> None:
        """Render the view repeatedly, as long as it has readers."""
        loop = asyncio.get_running_loop()
        while not self._backend.feed.closed:
            view.stale.clear()
            async with self._turn:
                began, position = loop.time(), self._backend.service.watermark.position
                try:
                    view.take(await self._backend.ask(view.render), position)
                except Exception:  # a view must outlive one bad question: the service may be repairing its views
                    logger.exception("a view could not be rendered")
                await asyncio.sleep(REST * (loop.time() - began))
            await asyncio.sleep(PAUSE)
            with suppress(TimeoutError):
                await asyncio.wait_for(view.stale.wait(), _IDLE)

    async def _listen(self) -> None:
        """Mark the views affected by new records as stale."""
        feed, position = self._backend.feed, self._backend.service.watermark.position
        with feed.following():
            while not feed.closed:
                if not await feed.wait(position, SILENCE):
                    continue
                records = feed.after(position)
                if records is None:
                    position, about = self._backend.service.watermark.position, None
                else:
                    position = records[-1].position if records else position
                    about = {record.task_id for record in records}
                for view in self._views.values():
                    if about is None or view.task_id is None or 0 in about or view.task_id in about:
                        view.stale.set()
        for view in self._views.values():
            view.wake()
