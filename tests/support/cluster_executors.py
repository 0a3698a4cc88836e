"""Executors of a cluster, for tests, with the sample handlers."""

from __future__ import annotations

import secrets
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tasktrail import __version__
from tasktrail.actors.cluster.cluster_executor import ClusterExecutor
from tasktrail.actors.cluster.gateway_process import GatewayProcess
from tasktrail.actors.cluster.wire import Call, CallFailed, Find, HostAnswer, HostSettings, HostsFound, Pulse
from tasktrail.actors.workers.reactor import Reactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasktrail.actors.cluster.wire import GatewayOrder, GatewayReport
    from tasktrail.handlers.registry import Registry

SUPPORT = Path(__file__).parent


def host_settings(registry: Registry, *, cluster: str = "", lease: float = 10.0) -> HostSettings:
    """Return the settings of hosts that run the handlers of this folder."""
    return HostSettings(
        version=__version__,
        cluster=cluster or secrets.token_hex(8),
        lease=lease,
        homes=registry.homes(),
        pythonpath=(str(SUPPORT),),
    )


def on_cluster(link: Any, registry: Registry, *, slots: int = 1, epoch: int = 1, **options: Any) -> ClusterExecutor:
    """Make an executor on the cluster that the link leads to."""
    named = {name: options.pop(name) for name in ("cluster", "lease") if name in options}
    return ClusterExecutor(link, slots=slots, settings=host_settings(registry, **named), epoch=lambda: epoch, **options)


def on_ray(address: str, registry: Registry, **options: Any) -> ClusterExecutor:
    """Make an executor on Ray."""
    return on_cluster(lambda *thread: GatewayProcess(address, None, *thread), registry, **options)


class SharedGateway:
    """One gateway process for the executors of many tests, because starting one takes longer than most of them."""

    def __init__(self, address: str) -> None:
        self._lock = threading.RLock()
        self._reactor = Reactor(lambda: None)
        self._process = GatewayProcess(address, None, self._reactor, self._lock)
        self._links: list[_Share] = []
        self._finds: list[_Share] = []
        self._calls: dict[int, tuple[_Share, int]] = {}
        self._numbers = count(1)
        self._pulse: Pulse | None = None
        self._reactor.post(lambda: self._process.start(self._on_report, lambda _: None))
        self._thread = threading.Thread(target=self._reactor.run, daemon=True)
        self._thread.start()

    def link(self, reactor: Reactor, lock: threading.RLock) -> _Share:
        """Return a link for one executor."""
        return _Share(self, reactor, lock)

    def close(self) -> None:
        """End the process."""

        def end() -> None:
            with self._lock:
                self._process.close()
            self._reactor.finish()

        self._reactor.post(end)
        self._thread.join()

    def add(self, share: _Share) -> None:
        with self._lock:
            self._links.append(share)
            if self._pulse is not None:
                share.hear(self._pulse)

    def remove(self, share: _Share) -> None:
        with self._lock:
            self._links = [other for other in self._links if other is not share]

    def pass_order(self, share: _Share, order: GatewayOrder) -> None:
        with self._lock:
            if isinstance(order, Call):
                number = next(self._numbers)
                self._calls[number] = (share, order.number)
                order = msgspec.structs.replace(order, number=number)
            elif isinstance(order, Find):
                self._finds.append(share)
            self._process.send(order)

    def _on_report(self, report: GatewayReport) -> None:
        match report:
            case HostsFound():
                self._finds.pop(0).hear(report)
            case HostAnswer() | CallFailed() if report.number:
                share, number = self._calls.pop(report.number)
                share.hear(msgspec.structs.replace(report, number=number))
            case _:
                self._pulse = report if isinstance(report, Pulse) else self._pulse
                for share in self._links:
                    share.hear(report)


class _Share:
    """Implements `GatewayLink`."""

    def __init__(self, shared: SharedGateway, reactor: Reactor, lock: threading.RLock) -> None:
        self._shared = shared
        self._reactor = reactor
        self._lock = lock
        self._on_report: Callable[[GatewayReport], None] = lambda _: None

    def start(self, on_report: Callable[[GatewayReport], None], on_gone: Callable[[str], None]) -> None:
        self._on_report, self._on_gone = on_report, on_gone
        self._reactor.post(lambda: self._shared.add(self))

    def send(self, order: GatewayOrder) -> None:
        self._shared.pass_order(self, order)

    def kill(self) -> None:
        raise NotImplementedError("it is not this test's alone")

    def close(self) -> None:
        self._shared.remove(self)

    def hear(self, report: GatewayReport) -> None:
        def heard() -> None:
            with self._lock:
                self._on_report(report)

        self._reactor.post(heard)
