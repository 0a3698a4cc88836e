"""The gateway: the process that holds the client of the engine, Ray. It hands calls to hosts, and answers back.

Ray's client ends the process that it lives in when the head of the cluster is away for long. So it has one of its own,
which knows nothing that matters: it may die at any moment, and the executor starts the next one.

Run as `python -m tasktrail.actors.cluster.gateway ADDRESS PID`: orders come by standard input, reports go out by
standard output. Ray is told all that it would otherwise guess: which cluster, that nothing is reported to anyone, that
it never starts anything again.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any

from ...handlers.process.channel import FrameBuffer, encode_frame
from ...handlers.process.sandbox import die_with
from .wire import (
    LAST_WORDS,
    Answer,
    Broken,
    Call,
    Create,
    Find,
    Found,
    GatewayReport,
    Gone,
    Kill,
    Node,
    Pulse,
    gateway_order_decoder,
)

NAMESPACE = "tasktrail"
"""Ray's, in which the hosts have their names."""
_PULSE_EVERY = 1.0
_CHUNK = 1 << 20
_CALLS_AT_ONCE = 32
"""Calls that one host works at. A service has three at most; those of one that died may still wait."""
_ANSWERS_WITHIN = 5.0
"""Seconds in which the head of the cluster has to take a connection."""
_ORDER_WITHIN = 5.0
"""Seconds that one order may take. While it lasts, no lease is renewed."""
_LOOK_WITHIN = 90.0
"""Seconds without a look at the nodes after which Ray's client counts as stuck, if the head can be reached."""


class Gateway:
    """Carries out the executor's orders on a connected cluster.

    Args:
        engine: the module `ray`, connected.
        tell: sends a report; from any thread.
    """

    def __init__(self, engine: Any, tell: Callable[[GatewayReport], None]) -> None:
        self._ray = engine
        self._tell = tell
        self._hosts: dict[str, Any] = {}
        """Name → Ray's handle."""
        self._sought: dict[str, list[Call]] = {}
        """Host that is being made, or looked up → the calls that wait for it. Guarded by the lock."""
        self._lock = threading.Lock()
        self._killed: set[str] = set()
        """Hosts that are about to be."""
        self._slow = ThreadPoolExecutor(4, thread_name_prefix="gateway")
        """For what asks the head of the cluster: calls to hosts must not wait for it."""
        self._nodes: tuple[Node, ...] = ()
        self._seen = time.monotonic()
        self._busy_since: float | None = None

    def do(self, order: Any) -> None:
        """Carry out an order. Never waits, as long as Ray's client does not."""
        self._busy_since = time.monotonic()
        try:
            self._do(order)
        finally:
            self._busy_since = None

    def _do(self, order: Any) -> None:
        match order:
            case Call():
                if (host := self._hosts.get(order.host)) is not None:
                    self._call(host, order)
                else:
                    self._seek(order)
            case Find():
                self._slow.submit(self._find, order)
            case Create():
                with self._lock:
                    self._sought[order.name] = []
                self._slow.submit(self._create, order)
            case Kill() if order.host not in self._killed:
                self._killed.add(order.host)
                self._slow.submit(self._kill, order)

    def _seek(self, call: Call) -> None:
        with self._lock:
            is_sought = call.host in self._sought
            self._sought.setdefault(call.host, []).append(call)
        if not is_sought:
            self._slow.submit(self._look_up, call.host)

    def _call(self, host: Any, call: Call) -> None:
        try:
            answer = getattr(host, call.method).remote(call.payload)
            answer.future().add_done_callback(lambda future: self._answered(call, future))
        except Exception as error:  # noqa: BLE001 - whatever Ray raises, the executor hears of it
            self._tell(self._broken(call.number, call.host, error))

    def _answered(self, call: Call, future: "Future[bytes]") -> None:
        error = future.exception()
        if error is None:
            self._tell(Answer(call.number, future.result()))
        else:
            self._tell(self._broken(call.number, call.host, error))

    def _look_up(self, name: str) -> None:
        try:
            host = self._ray.get_actor(name, namespace=NAMESPACE)
        except Exception as error:  # noqa: BLE001 - as above
            unknown = isinstance(error, ValueError) and self._is_forgotten(name)
            for call in self._waiting_for(name):
                self._tell(self._broken(call.number, name, error, is_dead=unknown))
        else:
            self._have(name, host)

    def _have(self, name: str, host: Any) -> None:
        self._hosts[name] = host
        for call in self._waiting_for(name):
            self._call(host, call)

    def _waiting_for(self, name: str) -> list[Call]:
        with self._lock:
            return self._sought.pop(name, [])

    def _find(self, order: Find) -> None:
        try:
            names = tuple(name for name in self._ray.util.list_named_actors() if name.startswith(order.prefix))
        except Exception as error:  # noqa: BLE001 - as above
            _say(f"the hosts could not be listed: {error}")
        else:
            self._tell(Found(names))

    def _create(self, order: Create) -> None:
        """The node is ours to choose, so Ray has nothing to queue: what does not fit there now is never made."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        from .host import Host  # noqa: PLC0415 - whoever finds hosts that are there does not wait for it

        try:
            options = self._ray.remote(Host).options(
                name=order.name,
                namespace=NAMESPACE,
                lifetime="detached",
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=_CALLS_AT_ONCE,
                num_cpus=order.cpus,
                memory=order.memory or None,
                num_gpus=order.resources.get("GPU", 0),  # Ray has a word of its own for these
                resources={name: number for name, number in order.resources.items() if name != "GPU"},
                scheduling_strategy=NodeAffinitySchedulingStrategy(order.node, soft=False),
            )
            host = options.remote(order.name, order.settings, order.node)
        except Exception as error:  # noqa: BLE001 - as above
            self._waiting_for(order.name)
            self._tell(self._broken(0, order.name, error))
        else:
            self._have(order.name, host)

    def _is_forgotten(self, name: str) -> bool:
        """Whether there is surely no actor of that name. Ray says so as well when it could not ask."""
        try:
            return name not in self._ray.util.list_named_actors()
        except Exception:  # noqa: BLE001 - as above
            return False

    def _kill(self, order: Kill) -> None:
        """Ray forgets the name of one that it has killed. Whoever is not gone yet is asked for again."""
        self._killed.discard(order.host)
        with self._lock:
            if order.host in self._sought:  # it may just be made
                return
        self._hosts.pop(order.host, None)
        try:
            for _ in range(2):
                self._ray.kill(self._ray.get_actor(order.host, namespace=NAMESPACE), no_restart=True)
        except ValueError:
            if self._is_forgotten(order.host):
                self._tell(Gone(order.host))
        except Exception as error:  # noqa: BLE001 - as above
            _say(f"host {order.host} could not be killed: {error}")

    def finish(self) -> None:
        """Carry out what is still to be done."""
        self._slow.shutdown(wait=True)

    def _broken(self, number: int, host: str, error: BaseException, *, is_dead: bool = False) -> Broken:
        """Unavailable is undecided: the host may live and may have heard. Only a death is a death."""
        exceptions = self._ray.exceptions
        is_dead = is_dead or isinstance(error, exceptions.ActorDiedError | exceptions.ActorUnschedulableError)
        if is_dead:
            self._hosts.pop(host, None)
        return Broken(number, host, is_dead, f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000])

    # --- in threads of their own -----------------------------------------------------------------------------------

    def keep_looking(self) -> None:
        """Look at the nodes, again and again."""
        while True:
            try:
                self._nodes, self._seen = self._look(), time.monotonic()
            except Exception as error:  # noqa: BLE001 - as above
                _say(f"the nodes could not be looked at: {error}")
            time.sleep(_PULSE_EVERY)

    def _look(self) -> tuple[Node, ...]:
        free = import_module("ray._private.state").available_resources_per_node()  # there is no public way
        return tuple(
            Node(
                node["NodeID"],
                _name_of(node),
                node["NodeManagerAddress"],
                _plain(node["Resources"]),
                _plain(free.get(node["NodeID"], {})),
                node.get("Labels") or {},
            )
            for node in self._ray.nodes()
            if node["Alive"]
        )

    def why_stuck(self, address: str) -> str:
        """Why this process is of no use any more; empty: it is of use."""
        now, busy_since = time.monotonic(), self._busy_since
        if busy_since is not None and now - busy_since > _ORDER_WITHIN:
            return f"Ray's client has not taken a call for {now - busy_since:.0f} s"
        if now - self._seen > _LOOK_WITHIN and _answers(address):
            return f"Ray's client has not told the nodes for {now - self._seen:.0f} s, though the head can be reached"
        return ""

    def keep_beating(self, address: str) -> None:
        """Say that this process lives, whatever the head of the cluster does. When Ray's client is stuck, end it."""
        while True:
            if why := self.why_stuck(address):
                _say(why)
                os._exit(1)
            self._tell(Pulse(self._nodes, time.monotonic() - self._seen))
            time.sleep(_PULSE_EVERY)

    def first_look(self) -> None:
        """Before anything is said."""
        self._nodes, self._seen = self._look(), time.monotonic()


def _name_of(node: dict[str, Any]) -> str:
    """As `ray start --node-name` has it. Where that is only the address, the host's name says more."""
    name = node.get("NodeName") or ""
    return str(name if name and name != node["NodeManagerAddress"] else node["NodeManagerHostname"])


def _say(text: str) -> None:
    """For the service, which shows the last line when this process has ended."""
    sys.stderr.write(f"{LAST_WORDS}{text}\n")


def _plain(resources: dict[str, float]) -> dict[str, float]:
    """Without what Ray itself notes there: a name for each node."""
    return {name: float(number) for name, number in resources.items() if not name.startswith("node:")}


def _knock(address: str, seconds: float) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), seconds).close()


def _answers(address: str) -> bool:
    try:
        _knock(address, _PULSE_EVERY / 2)  # the beat waits for it
    except OSError:
        return False
    return True


def connect(address: str) -> Any:
    """Ray, connected. Raises OSError if the head is not there, and what Ray raises.

    Ray's client would wait for a head that is away, for minutes, and does not always notice when it is back.
    """
    try:
        _knock(address, _ANSWERS_WITHIN)
    except OSError as error:
        raise ConnectionError(f"Nothing answers at {address}: {error}") from error
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray  # noqa: PLC0415 - nobody else may pay for it

    ray.init(
        address=address,
        namespace=NAMESPACE,
        log_to_driver=False,
        configure_logging=False,
    )
    return ray


def main() -> int:
    """Connect, and carry out orders until the service is gone."""
    address, parent = sys.argv[1:]
    if not die_with(parent):
        return 1
    out, lock = os.dup(1), threading.Lock()
    os.dup2(2, 1)  # whatever prints must not be taken for a report

    def tell(report: GatewayReport) -> None:
        data = encode_frame(report)
        with lock:
            while data:
                data = data[os.write(out, data) :]

    try:
        gateway = Gateway(connect(address), tell)
        gateway.first_look()
    except Exception as error:  # noqa: BLE001 - the executor shows the last line
        _say(f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000])
        return 1
    threading.Thread(target=gateway.keep_looking, daemon=True).start()
    threading.Thread(target=gateway.keep_beating, args=(address,), daemon=True).start()
    orders = FrameBuffer(gateway_order_decoder)
    try:
        while data := os.read(0, _CHUNK):
            for order in orders.feed(data):
                gateway.do(order)
        gateway.finish()
    except Exception as error:  # noqa: BLE001 - a gateway that hears no orders must not go on beating: it is replaced
        _say(f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000])
        os._exit(1)
    os._exit(0)  # at once: Ray's own goodbye may take seconds


if __name__ == "__main__":
    sys.exit(main())
