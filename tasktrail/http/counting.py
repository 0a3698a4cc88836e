"""Counts requests by method, route and class of status, and measures the time until their answers begin.

A route is named by its template, never by the address. Requests without a route, and unknown methods, are `other`.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..telemetry.exposition import counter, histogram
from ..telemetry.numbers import ANSWERS, OTHER, Distribution

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CUT_OFF = "cut_off"
"""Counted in place of a class of status if the connection ended before the answer began."""


class RequestCounts(Collector):
    """Counts the requests of one server. Belongs to the thread of its event loop, but may be asked from any."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._seconds: dict[tuple[str, ...], Distribution] = {}

    def describe(self) -> Iterable[Metric]:
        """Describe nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. The counts are copied first, since the event loop goes on."""
        requests, seconds = self._requests.copy(), self._seconds.copy()
        yield counter(
            "http_requests", "Requests, by the class of their status.", ("method", "route", "status"), requests
        )
        yield histogram(
            "http_request", "Time until the answer began, so that streams can be told.", ("method", "route"), seconds
        )

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `status` 0: its answer never began."""
        method = method if method in _METHODS else OTHER
        self._requests[method, route, f"{status // 100}xx" if status else _CUT_OFF] += 1
        self._seconds.setdefault((method, route), Distribution(ANSWERS)).add(seconds)


class CountingMiddleware:
    """The outermost ASGI middleware, so that requests refused by inner ones are counted, too."""

    def __init__(self, app: ASGIApp, counts: RequestCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it when it is over."""
        asked: str = scope["type"]
        if asked == "http":
            await self._count(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _count(self, scope: Any, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status, seconds = 0, 0.0

        async def sending(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = scope.get("path_template") or OTHER
            self._counts.add(str(scope["method"]), str(route), status, seconds or time.perf_counter() - began)
