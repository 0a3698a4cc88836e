"""The gateway: the process that holds the client of the engine, Ray. It passes calls to hosts, and answers back.

Ray's client ends its process if the head of the cluster is away for long. So it has a process of its own, which holds
nothing that matters: it may die at any time, and the executor starts the next one.

Run as `python -m tasktrail.actors.cluster.gateway ADDRESS PID`: orders come by standard input, reports go out by
standard output. Ray gets explicit settings for all that it would otherwise guess: the cluster, no usage reports, no
restarts.
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
    Call,
    CallFailed,
    Create,
    Find,
    GatewayReport,
    HostAnswer,
    HostGone,
    HostsFound,
    Kill,
    Node,
    Pulse,
    gateway_order_decoder,
)

NAMESPACE = "tasktrail"
"""Ray's namespace for the names of the hosts."""
_PULSE_EVERY = 1.0
_CHUNK = 1 << 20
_CALLS_AT_ONCE = 32
"""Calls that one host handles at once. A service has three at most; those of a dead one may still wait."""
_ANSWERS_WITHIN = 5.0
"""Seconds within which the head of the cluster must accept a connection."""
_ORDER_WITHIN = 5.0
"""Seconds that one order may take. Until it is done, no lease is renewed."""
_LOOK_WITHIN = 90.0
"""Seconds without a list of the nodes after which Ray's client counts as stuck, if the head can be reached."""


class Gateway:
    """Carries out the executor's orders on a connected cluster.

    Args:
        engine: the module `ray`, connected.
        tell: sends a report; any thread may call it.
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
        """Hosts that are about to be killed."""
        self._slow = ThreadPoolExecutor(4, thread_name_prefix="gateway")
        """Threads for requests to the head of the cluster: calls to hosts must not wait for these."""
        self._nodes: tuple[Node, ...] = ()
        self._seen = time.monotonic()
        self._busy_since: float | None = None

    def do(self, order: Any) -> None:
        """Carry out an order. It never waits, unless Ray's client does."""
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
            self._tell(HostAnswer(call.number, future.result()))
        else:
            self._tell(self._broken(call.number, call.host, error))

    def _look_up(self, name: str) -> None:
        try:
            host = self._ray.get_actor(name, namespace=NAMESPACE)
        except Exception as error:  # noqa: BLE001 - as above
            unknown = isinstance(error, ValueError) and self._is_forgotten(name)
            killed = unknown and self._was_killed_for_memory(name)
            for call in self._waiting_for(name):
                self._tell(self._broken(call.number, name, error, is_dead=unknown, out_of_memory=killed))
        else:
            self._set_host(name, host)

    def _set_host(self, name: str, host: Any) -> None:
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
            _write_last_words(f"the hosts could not be listed: {error}")
        else:
            self._tell(HostsFound(names))

    def _create(self, order: Create) -> None:
        """Make a host. We choose the node, so Ray queues nothing: a host that does not fit there is never made."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        from .host import Host  # noqa: PLC0415 - finding hosts that are there must not wait for it

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
                num_gpus=order.resources.get("GPU", 0),  # Ray has an option of its own for GPUs
                resources={name: number for name, number in order.resources.items() if name != "GPU"},
                scheduling_strategy=NodeAffinitySchedulingStrategy(order.node, soft=False),
            )
            host = options.remote(order.name, order.settings, order.node)
        except Exception as error:  # noqa: BLE001 - as above
            self._waiting_for(order.name)
            self._tell(self._broken(0, order.name, error))
        else:
            self._set_host(order.name, host)

    def _is_forgotten(self, name: str) -> bool:
        """Whether there is surely no actor of that name. Ray's error says so, too, if it could not ask."""
        try:
            return name not in self._ray.util.list_named_actors()
        except Exception:  # noqa: BLE001 - as above
            return False

    def _was_killed_for_memory(self, name: str) -> bool:
        """Whether Ray says so of a dead host. The gateway that was there then may not have heard of it."""
        try:
            dead = import_module("ray._private.state").actors(actor_state_name="DEAD")  # there is no public way
            return any(one["Name"] == name and one["DeathCause"].HasField("oom_context") for one in dead.values())
        except Exception as error:  # noqa: BLE001 - as above
            _write_last_words(f"why host {name} has died could not be found out: {error}")
            return False

    def _kill(self, order: Kill) -> None:
        """Kill a host. Ray forgets the name of an actor that it has killed; a host that is not gone is killed again."""
        self._killed.discard(order.host)
        with self._lock:
            if order.host in self._sought:  # it may be in the making
                return
        self._hosts.pop(order.host, None)
        try:
            for _ in range(2):
                self._ray.kill(self._ray.get_actor(order.host, namespace=NAMESPACE), no_restart=True)
        except ValueError:
            if self._is_forgotten(order.host):
                self._tell(HostGone(order.host))
        except Exception as error:  # noqa: BLE001 - as above
            _write_last_words(f"host {order.host} could not be killed: {error}")

    def finish(self) -> None:
        """Finish the orders that are still under way."""
        self._slow.shutdown(wait=True)

    def _broken(
        self, number: int, host: str, error: BaseException, *, is_dead: bool = False, out_of_memory: bool = False
    ) -> CallFailed:
        """The report of a failed call. An unavailable host may be alive and may have heard; only a death is certain."""
        exceptions = self._ray.exceptions
        out_of_memory |= isinstance(error, exceptions.OutOfMemoryError)
        is_dead |= out_of_memory or isinstance(error, exceptions.ActorDiedError | exceptions.ActorUnschedulableError)
        if is_dead:
            self._hosts.pop(host, None)
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]
        return CallFailed(number, host, is_dead, why, out_of_memory)

    # --- in threads of their own -----------------------------------------------------------------------------------

    def keep_looking(self) -> None:
        """List the nodes, again and again."""
        while True:
            try:
                self._nodes, self._seen = self._look(), time.monotonic()
            except Exception as error:  # noqa: BLE001 - as above
                _write_last_words(f"the nodes could not be looked at: {error}")
            time.sleep(_PULSE_EVERY)

    def _look(self) -> tuple[Node, ...]:
        free = import_module("ray._private.state").available_resources_per_node()  # there is no public way
        return tuple(
            Node(
                node["NodeID"],
                _name_of(node),
                node["NodeManagerAddress"],
                _without_node_entries(node["Resources"]),
                _without_node_entries(free.get(node["NodeID"], {})),
                node.get("Labels") or {},
            )
            for node in self._ray.nodes()
            if node["Alive"]
        )

    def why_stuck(self, address: str) -> str:
        """Why this process is of no use any more; empty if it is of use."""
        now, busy_since = time.monotonic(), self._busy_since
        if busy_since is not None and now - busy_since > _ORDER_WITHIN:
            return f"Ray's client has not taken a call for {now - busy_since:.0f} s"
        if now - self._seen > _LOOK_WITHIN and _is_reachable(address):
            return f"Ray's client has not listed the nodes for {now - self._seen:.0f} s, though the head can be reached"
        return ""

    def keep_beating(self, address: str) -> None:
        """Report that this process is alive, whatever the cluster's head does. If Ray's client is stuck, end it."""
        while True:
            if why := self.why_stuck(address):
                _write_last_words(why)
                os._exit(1)
            self._tell(Pulse(self._nodes, time.monotonic() - self._seen))
            time.sleep(_PULSE_EVERY)

    def first_look(self) -> None:
        """List the nodes once, before anything is reported."""
        self._nodes, self._seen = self._look(), time.monotonic()


def _name_of(node: dict[str, Any]) -> str:
    """The name from `ray start --node-name`. If that is only the address, use the host's name, which says more."""
    name = node.get("NodeName") or ""
    return str(name if name and name != node["NodeManagerAddress"] else node["NodeManagerHostname"])


def _write_last_words(text: str) -> None:
    """Write a line for the service, which shows the last one when this process has ended."""
    sys.stderr.write(f"{LAST_WORDS}{text}\n")


def _without_node_entries(resources: dict[str, float]) -> dict[str, float]:
    """The resources without Ray's own entries, one named after each node."""
    return {name: float(number) for name, number in resources.items() if not name.startswith("node:")}


def _try_connection(address: str, seconds: float) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), seconds).close()


def _is_reachable(address: str) -> bool:
    try:
        _try_connection(address, _PULSE_EVERY / 2)  # the beat waits for it
    except OSError:
        return False
    return True


def connect(address: str) -> Any:
    """Connect Ray, and return it. Raises OSError if the head is not there, and Ray's own errors.

    Ray's client would wait minutes for a head that is away, and does not always notice when it is back.
    """
    try:
        _try_connection(address, _ANSWERS_WITHIN)
    except OSError as error:
        raise ConnectionError(f"Nothing answers at {address}: {error}") from error
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray  # noqa: PLC0415 - slow to load, and only this process needs it

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
    os.dup2(2, 1)  # printed text must not be taken for a report

    def tell(report: GatewayReport) -> None:
        data = encode_frame(report)
        with lock:
            while data:
                data = data[os.write(out, data) :]

    try:
        gateway = Gateway(connect(address), tell)
        gateway.first_look()
    except Exception as error:  # noqa: BLE001 - the executor shows the last line
        _write_last_words(f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000])
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
        _write_last_words(f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000])
        os._exit(1)
    os._exit(0)  # at once, because Ray's own shutdown may take seconds


if __name__ == "__main__":
    sys.exit(main())
