"""A cluster without an engine: its hosts are objects of this process, and every connection to them can be cut."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tasktrail.actors.cluster.host import Host
from tasktrail.actors.cluster.wire import (
    Call,
    CallFailed,
    Create,
    Find,
    HostAnswer,
    HostGone,
    HostsFound,
    Kill,
    Node,
    Pulse,
)
from tasktrail.events.clock import boot_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasktrail.actors.cluster.wire import GatewayOrder, GatewayReport
    from tasktrail.actors.workers.reactor import Reactor

_BEAT = 0.1
NODE = Node("n1", "one", "127.0.0.1", {"CPU": 4.0, "memory": 4e9}, {"CPU": 4.0, "memory": 4e9})


class InProcessCluster:
    """Hosts by name. They outlive the links to them, as those of an engine outlive its clients."""

    def __init__(self, nodes: tuple[Node, ...] = (NODE,), clock: Callable[[], float] = boot_seconds) -> None:
        self.nodes = nodes
        self.clock = clock
        self.hosts: dict[str, Host] = {}
        self.made: list[Create] = []
        self.is_up = True
        """Whether a gateway can connect, and receives messages."""
        self.out_of_memory = False
        """Whether hosts that are gone were killed for lack of memory."""
        self.cut = threading.Event()
        """When set, no message reaches a gateway."""
        self.cut_off: set[str] = set()
        """Nodes that no message reaches, though they are still listed."""
        self.swallowed: set[str] = set()
        """Methods whose next answer is lost: the host has received the call."""
        self.links: list[InProcessLink] = []
        self._pool = ThreadPoolExecutor(128)

    def link(self, reactor: Reactor, lock: threading.RLock) -> InProcessLink:
        """Make a link to the hosts, as an executor does."""
        link = InProcessLink(self, reactor, lock)
        self.links.append(link)
        return link

    def work(self, job: Callable[[], None]) -> None:
        """Do something in another thread."""
        self._pool.submit(job)

    def lose(self, name: str) -> None:
        """Kill the host's process, and everything that it runs."""
        self.hosts.pop(name).close()

    def close(self) -> None:
        """Close all hosts."""
        for host in list(self.hosts.values()):
            host.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class InProcessLink:
    """Implements `GatewayLink`."""

    def __init__(self, cluster: InProcessCluster, reactor: Reactor, lock: threading.RLock) -> None:
        self._cluster = cluster
        self._reactor = reactor
        self._lock = lock
        self.cut_off: set[str] = set()
        """Nodes that no message reaches through this link."""
        self.is_head_heard = True
        self._heard_at = time.monotonic()
        self._generation = 0
        self._is_there = False
        self._on_report: Callable[[GatewayReport], None] = lambda _: None
        self._on_gone: Callable[[str], None] = lambda _: None

    def start(self, on_report: Callable[[GatewayReport], None], on_gone: Callable[[str], None]) -> None:
        self._on_report, self._on_gone = on_report, on_gone
        self._generation += 1
        self._is_there = True
        if self._cluster.is_up:
            self._beat(self._generation)
        else:
            self._reactor.post(lambda: self._gone(self._generation, "nobody is there"))

    def _beat(self, generation: int) -> None:
        """Send a heartbeat, as the gateway does every second."""
        if generation == self._generation:
            now = time.monotonic()
            self._heard_at = now if self.is_head_heard else self._heard_at
            self._tell(Pulse(self._cluster.nodes, now - self._heard_at))
            self._reactor.at(_BEAT, lambda: self._beat(generation))

    def send(self, order: GatewayOrder) -> None:
        """Send a message. As with the real gateway, it is lost if there is no receiver or the way is cut."""
        generation = self._generation
        if not self._is_there or not self._cluster.is_up:
            return
        if isinstance(order, Create):
            self._cluster.made.append(order)
        self._cluster.work(lambda: self._carry_out(order, generation))

    def kill(self) -> None:
        """Kill the gateway, with all messages on their way. Tests call this, too."""
        generation = self._generation
        self._reactor.post(lambda: self._gone(generation, "it was killed"))

    def close(self) -> None:
        self._generation += 1

    def _gone(self, generation: int, why: str) -> None:
        with self._lock:
            if generation == self._generation:
                self._generation += 1
                self._is_there = False
                self._on_gone(why)

    def _tell(self, report: GatewayReport) -> None:
        generation = self._generation

        def told() -> None:
            with self._lock:
                if generation == self._generation:
                    self._on_report(report)

        self._reactor.post(told)

    def _carry_out(self, order: GatewayOrder, generation: int) -> None:
        cluster = self._cluster
        answer: Any = None
        match order:
            case Create() if cluster.cut.is_set():
                answer = CallFailed(0, order.name, is_dead=False, why="the cable is cut")
            case Find() | Kill() if cluster.cut.is_set():
                pass
            case Find() if "find" in cluster.swallowed:
                cluster.swallowed.discard("find")
            case Find():
                answer = HostsFound(tuple(name for name in cluster.hosts if name.startswith(order.prefix)))
            case Create() if order.node in cluster.cut_off | self.cut_off:
                pass
            case Create():
                try:
                    host = Host(order.name, order.settings, order.node, cluster.clock, lambda _: None)
                except Exception as error:  # noqa: BLE001 - as an engine tells it
                    answer = CallFailed(0, order.name, is_dead=True, why=repr(error))
                else:
                    cluster.hosts[order.name] = host
            case Call():
                answer = self._call(order)
            case Kill() if not self.is_head_heard or self._on(order.host) in cluster.cut_off:
                pass  # the head carries it out
            case Kill():
                if order.host in cluster.hosts:
                    cluster.lose(order.host)
                answer = HostGone(order.host)
        if answer is not None and generation == self._generation:
            self._tell(answer)

    def _on(self, host: str) -> str:
        """Return the node on which it was made."""
        return next((one.node for one in self._cluster.made if one.name == host), "")

    def _dead(self, call: Call, why: str) -> CallFailed:
        no_memory = self._cluster.out_of_memory
        return CallFailed(call.number, call.host, is_dead=True, why=why, out_of_memory=no_memory)

    def _call(self, call: Call) -> GatewayReport | None:
        cluster = self._cluster
        on = self._on(call.host)
        if cluster.cut.is_set() or on in cluster.cut_off | self.cut_off:
            return None
        for _ in range(2000):  # a call waits for its host, which may still be starting
            if call.host in cluster.hosts or call.host not in [one.name for one in cluster.made]:
                break
            threading.Event().wait(0.01)
        host = cluster.hosts.get(call.host)
        if host is None:
            return self._dead(call, "there is none")
        payload = getattr(host, call.method)(call.payload)
        if cluster.cut.is_set() or on in cluster.cut_off | self.cut_off:
            return None
        if cluster.hosts.get(call.host) is not host:  # a killed process sends nothing more
            return self._dead(call, "it died")
        if call.method in cluster.swallowed:
            cluster.swallowed.discard(call.method)
            return CallFailed(call.number, call.host, is_dead=False, why="the answer was lost")
        return HostAnswer(call.number, payload)
